"""What the demo's shop is fed with: films as item records, what real people liked, and those people as its visitors.

The likes are moved in time, so that the last one of the replay happens now: how they fade, and who comes back when, stays as it
was. Nothing here knows how it is shown.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..client import Client
from ..errors import Refused
from ..items import SET
from ..wire import EventsAnswer
from .films import GOOD, Film, Rating

STREAM: Final = "shop"
MODEL: Final = "shop"
LIKE: Final = "like"
CLICK: Final = "click"
SHOWN: Final = 12  # films that a visitor looks at
PAUSE_S: Final = 0.25  # between two visitors
CHUNK: Final = 1000

Send = Callable[[Iterable[Mapping[str, Any]]], EventsAnswer]


def liked(ratings: Sequence[Rating]) -> list[Rating]:
    """The ratings that say that somebody liked a film."""
    return [one for one in ratings if one.rating >= GOOD]


def records(films: Iterable[Film], ts: float) -> Iterator[dict[str, Any]]:
    """An item record for each film, at `ts`: its title and year, and its genres where it has any."""
    for film in films:
        found = re.fullmatch(r"(.+) \((\d{4})\)", film.title)
        title, year = (found[1], int(found[2])) if found else (film.title, None)
        fields = {"title": title, "year": year, "genres": film.genres or None}
        x = {name: value for name, value in fields.items() if value is not None}
        yield {"stream": STREAM, "id": f"film-{film.id}", "item": film.id, "action": SET, "ts": ts, "x": x}


def interactions(likes: Sequence[Rating], now: float) -> Iterator[dict[str, Any]]:
    """The likes as events, moved in time so that the last one happens `now` (Unix seconds)."""
    later = now - likes[-1].ts if likes else 0.0
    for one in likes:
        id = f"like-{one.user}-{one.item}"
        yield {"stream": STREAM, "id": id, "user": one.user, "item": one.item, "action": LIKE, "ts": one.ts + later}


def familiar(likes: Sequence[Rating], count: int) -> list[str]:
    """The users with the most likes, the busiest first."""
    busy: dict[str, int] = {}
    for one in likes:
        busy[one.user] = busy.get(one.user, 0) + 1
    return sorted(busy, key=lambda user: (-busy[user], user))[:count]


class Replay:
    """Posts films and likes as fast as they are taken; `posted` of `total` are durable, up to the log offset `end`."""

    def __init__(self, send: Send, films: Sequence[Film], likes: Sequence[Rating], now: float) -> None:
        self._send, self._films, self._likes, self._now = send, films, likes, now
        self.total = len(films) + len(likes)
        self.posted = 0
        self.refused = 0
        self.end = 0

    def run(self, stop: threading.Event) -> None:
        """Post all of it, or until `stop` is set. Raises StreamlearnError when the service fails."""
        begun = self._now - (self._likes[-1].ts - self._likes[0].ts) if self._likes else self._now
        for events in (records(self._films, begun), interactions(self._likes, self._now)):
            for chunk in _chunks(events):
                if stop.is_set():
                    return
                answer = self._send(chunk)
                self.posted += answer.accepted
                self.refused += len(answer.rejected)
                self.end = max(self.end, answer.positions.get(STREAM, {}).get("0", 0))


class Visitors:
    """Real people who come one by one, each to find the film that they liked next.

    A visitor asks for a slate. When the film is in it, the visitor clicks it there (`clicked` counts that), else likes it
    without having been shown it.
    """

    def __init__(self, client: Client, likes: Iterable[Rating]) -> None:
        self._client, self._likes = client, likes
        self.came = 0
        self.clicked = 0
        self.refused = 0

    def run(self, wait: Callable[[float], bool]) -> None:
        """Let them come until nobody is left, or `wait`, called with the seconds to the next, says to stop.

        Raises StreamlearnError when the service fails; what it refuses is counted.
        """
        for one in self._likes:
            if wait(PAUSE_S):
                return
            try:
                self.visit(one.user, one.item)
            except Refused:
                self.refused += 1

    def visit(self, user: str, item: str) -> None:
        """One visit. Raises StreamlearnError."""
        slate = self._client.recommend(MODEL, user, k=SHOWN)
        shown = any(one.item == item for one in slate.items)
        if shown:
            self._client.interact(STREAM, user, item, CLICK, impression=slate.id)
        else:
            self._client.interact(STREAM, user, item, LIKE)
        self.came += 1
        self.clicked += shown


def _chunks(events: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for event in events:
        chunk.append(event)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
