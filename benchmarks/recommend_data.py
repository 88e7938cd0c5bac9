"""Ratings in time order as interactions: MovieTweetings, which ships with the project, MovieLens 100k of `STREAMLEARN_DATA`.

A rating of 7 of 10, or of 4 of 5, and above is a good one: an interaction, "like". The others teach BiasedMF alone.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from streamlearn.cli import films


class Rated(NamedTuple):
    """Somebody's rating of an item at `ts`, Unix seconds."""

    user: str
    item: str
    rating: float
    ts: float
    good: bool


class Data(NamedTuple):
    """A data set: its name, its ratings in time order, and of its items the genres, separated by "|", and titles with their
    years."""

    name: str
    ratings: list[Rated]
    genres: dict[str, str]
    titles: dict[str, str]


def data_sets() -> Iterator[Data]:
    """Those that are there."""
    rated = [Rated(one.user, one.item, one.rating, one.ts, one.rating >= films.GOOD) for one in films.ratings()]
    all = films.films()
    yield Data("movietweetings", rated, {film.id: film.genres for film in all}, {film.id: film.title for film in all})
    folder = Path(os.environ.get("STREAMLEARN_DATA", "")) / "movielens_100k"
    if os.environ.get("STREAMLEARN_DATA") and folder.exists():
        rows = [
            Rated(row["user_id"], row["item_id"], float(row["rating"]), float(row["timestamp"]), float(row["rating"]) >= 4)
            for row in _rows(folder / "ratings.csv.gz")
        ]
        items = list(_rows(folder / "items.csv.gz"))
        genres = {row["item_id"]: "|".join(row["class"].split()) for row in items}
        titles = {row["item_id"]: f"{row['movie_title']} ({row['release_year']})" for row in items}
        yield Data("movielens_100k", sorted(rows, key=lambda row: row.ts), genres, titles)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
