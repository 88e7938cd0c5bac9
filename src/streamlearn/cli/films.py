"""Real films and who liked them when: MovieTweetings, which ships with the package (see data/NOTICE).

A rating of `GOOD` or more is an interaction, "like"; the others teach nothing here. Nothing in this module knows the service.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from importlib.resources import files
from typing import Final, NamedTuple

FILMS: Final = "movietweetings_movies.csv.gz"
RATINGS: Final = "movietweetings_ratings.csv.gz"
GOOD: Final = 7  # of 10


class Film(NamedTuple):
    """A film: title with its year, genres as the file has them, separated by "|"."""

    id: str
    title: str
    genres: str


class Rating(NamedTuple):
    """Somebody's rating of a film, 0 to 10, at `ts` (Unix seconds)."""

    user: str
    item: str
    rating: int
    ts: float


def films() -> list[Film]:
    """All films, in the order of the file."""
    return [Film(row["item_id"].lstrip("0"), row["title"], row["genres"]) for row in _rows(FILMS)]


def ratings() -> list[Rating]:
    """All ratings, in the order of their time."""
    return [
        Rating(row["user_id"], row["item_id"], int(row["rating"]), float(row["timestamp"])) for row in _rows(RATINGS)
    ]


def _rows(name: str) -> Iterator[dict[str, str]]:
    packed = files(__package__).joinpath("data").joinpath(name).read_bytes()
    with gzip.open(io.BytesIO(packed), "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
