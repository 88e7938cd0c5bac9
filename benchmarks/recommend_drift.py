"""Tastes that turn: from the middle of a stream on, half of the users like other genres, and the loop has to notice.

Genres (the first of each film) are paired by how much they are liked; within a pair the films stand against each other by their
ranks of popularity, and what a swapped user would like is replaced by its counterpart. So their stream is as regular as it was,
and all that was learned of them is wrong.

The loop is the service's own (`closed_loop`) at the settings' defaults, on the clock of the ratings. Before each like the user
is shown a slate, by the champion or, in a trial, by the version of their arm. When it holds what they like, they click on it
there; else they act on it directly.
"""

from __future__ import annotations

import math
import random
import sys
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from streamlearn.cli.recommend_report import draw
from streamlearn.config import Settings, parse
from streamlearn.events import Event, Kind, Prediction, ShownItem, encode, unit_of
from streamlearn.learning.waiting import Entry as Question
from streamlearn.log import Entry
from streamlearn.recommend.measures import Measures
from streamlearn.recommend.state import Ask

from .closed_loop import MODEL, STREAM, Loop
from .harness import Rows, quiet
from .recommend_data import Data, Rated

RATINGS: Final = 40_000  # the first ones; half an hour's work would be all
QUICK: Final = 1500
PAGE: Final = 10  # events between two looks of control
SWAPPED: Final = 0.5  # of the users
ROLL: Final = 1500  # events of each side in a rolling mean
NEAR: Final = 0.95
SIDES: Final = ("users who swapped", "the others")
TOLD: Final = {
    "case_opened": "alarm", "confirmed": "confirmed", "rejected": "rejected", "expired": "expired", "retrain_kept": "kept",
    "retrain_started": "retrain", "retrain_failed": "retrain failed", "trial_started": "trial", "trial_lost": "kept",
    "promoted": "promoted", "rolled_back": "rolled back",
}  # fmt: skip


class Seen(NamedTuple):
    """A like that was ranked before it was learned: how many were labelled before, whose, when, and the gain of its rank."""

    n: int
    swapped: bool
    ts: float
    rank: int


class Told(NamedTuple):
    """What control decided: its word, of which case, after how many labelled events, when, and the numbers."""

    what: str
    case: str
    n: int
    ts: float
    numbers: dict[str, Any]


class Ran(NamedTuple):
    """One run: what was ranked, what was decided, and where the change was (labelled events, time)."""

    seen: list[Seen]
    told: list[Told]
    change: int
    ts: float
    shown: int
    clicked: int
    fit_s: float


def counterparts(data: Data) -> dict[str, str]:
    """By item what stands against it: an involution; items of the odd genre, and the least popular of a larger one, stand for
    themselves."""
    liked = Counter(row.item for row in data.ratings if row.good)
    genres: dict[str, list[str]] = {}
    for item, _ in sorted(liked.items(), key=lambda one: (-one[1], one[0])):
        genres.setdefault(data.genres.get(item, "").split("|")[0], []).append(item)
    genres.pop("", None)
    ordered = sorted(genres, key=lambda genre: (-sum(liked[item] for item in genres[genre]), genre))
    pairs = zip(ordered[::2], ordered[1::2], strict=False)
    found: dict[str, str] = {}
    for one, other in pairs:
        for mine, theirs in zip(genres[one], genres[other], strict=False):
            found[mine], found[theirs] = theirs, mine
    return found


def swaps(user: str) -> bool:
    """Whether the user is of those whose taste turns."""
    return unit_of("taste", user) < SWAPPED


class Shop(Loop):
    """The loop with users who are shown slates. `seen`: what was ranked."""

    def __init__(self, settings: Settings, items: dict[str, str], begin: float) -> None:
        super().__init__(settings)
        self.clock.now = begin
        self.seen: list[Seen] = []
        self.shown = self.clicked = 0
        records = [
            Entry(item.encode(), encode(Event(STREAM, ts=begin, item=item, action="$set", x={"genres": genres})))
            for item, genres in items.items()
        ]
        self.log.append(STREAM, records).result()
        self.read()

    def answered(self, entry: Question, y: Any) -> bool:
        """An item that is not to be shown again was not ranked."""
        if entry.y is not None:
            self.seen.append(Seen(self.learner.n, swaps(entry.x["user"]), entry.ts, entry.y))
        return self.taught(entry, y)

    def live(self, rows: Sequence[Rated]) -> None:
        """A page: slates by the versions that are there, then what users do. Raises AssertionError for a dead letter."""
        for row in rows:
            self.clock.now = max(self.clock.now, row.ts)
            slate = self._slate(row)
            found = any(one.item == row.item for one in slate.items or ())
            event = Event(STREAM, ts=row.ts, user=row.user, item=row.item, action="like", id=slate.id if found else None)
            key = row.user.encode()
            entries = [Entry(key, encode(slate), Kind.PREDICTION), Entry(key, encode(event))]
            self.log.append(STREAM, entries).result()
            self.count += 1
            self.shown += 1
            self.clicked += found
        self.turn()
        assert not self.learner.dead, self.learner.dead[:1]

    def _slate(self, row: Rated) -> Prediction:
        learner, canary = self.learner, self.learner.canary
        model, version = learner.champion, learner.version
        if canary is not None and learner.shadow is not None and unit_of(canary.salt, row.user) < canary.share:
            model, version = learner.shadow, canary.version
        id = f"s{self.count}"
        asked = Ask(row.user, row.ts, k=self.settings.models[MODEL].recommend.k)
        items = model.estimator.recommend(asked, random.Random(id)).items
        shown = [ShownItem(one.item, one.position, one.propensity, one.score, one.source, one.f) for one in items]
        return Prediction(STREAM, id, MODEL, version, ts=row.ts, key=row.user, user=row.user, items=shown)


def settings_of(quick: bool) -> Settings:
    """The defaults; of a quick run windows that it has room for."""
    model: dict[str, Any] = {"stream": STREAM, "task": "recommend", "pipeline": "logistic"}
    model["recommend"] = {"actions": {"like": 1.0}, "item_fields": ["genres"]}
    if quick:
        model["drift"] = {"window": 100, "gap": 50, "min_reference": 200, "within": 200}
        model["retrain"] = {"min_events": 50}
    return parse({"streams": {STREAM: {}}, "models": {MODEL: model}}, {})


def run(data: Data, settings: Settings, tell: Callable[[int], None] = lambda events: None) -> Ran:
    """All good ratings of the data, the tastes turning in the middle."""
    rows = [row for row in data.ratings if row.good]
    other, middle = counterparts(data), len(rows) // 2
    known = {row.item for row in rows}
    shop = Shop(settings, {item: genres for item, genres in data.genres.items() if item in known}, rows[0].ts)
    change = 0
    for first in [*range(0, middle, PAGE), *range(middle, len(rows), PAGE)]:
        turned = first >= middle
        page = rows[first : min(first + PAGE, len(rows) if turned else middle)]
        if first == middle:
            change = shop.learner.n
        shop.live([row._replace(item=other.get(row.item, row.item)) if turned and swaps(row.user) else row for row in page])
        tell(len(page))
    told = [Told(TOLD[one.kind], one.case, one.n, one.at, one.numbers) for one in shop.decisions() if one.kind in TOLD]
    return Ran(shop.seen, told, change, rows[middle].ts, shop.shown, shop.clicked, shop.fit_s)


def gain(rank: int, k: int = 10) -> float:
    """NDCG@k of one wanted item at this rank; 0 is a miss."""
    return 1 / math.log2(1 + rank) if 1 <= rank <= k else 0.0


class Course(NamedTuple):
    """The swapped users' rolling mean of NDCG@10 over the others', as a multiple of what it was before the change.

    `before`: both sides' means over the last events before it. `lowest`: where the course was lowest; `back`: the labelled
    events from the change until the course was at `NEAR` again, after it had been below; None: never. `fell`: whether it was.
    """

    before: tuple[float, float]
    lowest: float
    fell: int | None
    back: int | None
    end: float


def course(ran: Ran, roll: int = ROLL) -> Course:
    """Both sides' last `roll` events at each event after the change; what came before it does not count after it, once a side
    has a third of `roll`."""
    at = bisect_left(ran.seen, ran.change, key=lambda one: one.n)
    sides = [[gain(one.rank) for one in ran.seen[:at] if one.swapped is swapped][-roll:] for swapped in (True, False)]
    before = (_mean(sides[0]), _mean(sides[1]))
    usual = before[0] / before[1] if before[1] else math.nan
    last: tuple[deque[float], deque[float]] = (deque(maxlen=roll), deque(maxlen=roll))
    lowest, end, fell, back = math.inf, math.nan, None, None
    for one in ran.seen[at:]:
        last[not one.swapped].append(gain(one.rank))
        if min(map(len, last)) < roll / 3:
            continue
        there = _mean(last[1])
        end = _mean(last[0]) / there / usual if there and usual else math.nan
        lowest = min(lowest, end)
        if end < NEAR and fell is None:
            fell = one.n - ran.change
        if end >= NEAR and fell is not None and back is None:
            back = one.n - ran.change
    return Course(before, lowest, fell, back, end)


def _mean(some: Sequence[float] | deque[float]) -> float:
    return sum(some) / len(some) if some else 0.0


def measure(rows: Rows, data: Data, quick: bool, plot: Path | None) -> None:
    """The drift, what was decided of it, and how both sides fared."""
    data = data._replace(ratings=data.ratings[: QUICK if quick else RATINGS])
    events = sum(row.good for row in data.ratings)
    print(f"{data.name}: {events:,} likes, tastes turn after half of them", file=sys.stderr)
    with quiet():
        ran = run(data, settings_of(quick), _teller(events))
    report(rows, data.name, ran, ROLL // 5 if quick else ROLL)
    if plot is not None:
        picture(ran, plot)
        print(f"wrote {plot}", file=sys.stderr)


def _teller(events: int) -> Callable[[int], None]:
    done = [0]

    def tell(more: int) -> None:
        before, done[0] = done[0], done[0] + more
        if before * 20 // events != done[0] * 20 // events:
            print(f"  {done[0]:,} of {events:,}", file=sys.stderr, flush=True)

    return tell


def report(rows: Rows, name: str, ran: Ran, roll: int) -> None:
    """The rows, and the table of what happened when."""
    went = course(ran, roll)
    after = [one for one in ran.told if one.n > ran.change]
    false = sum(one.what == "confirmed" and one.n <= ran.change for one in ran.told)
    for what in ("alarm", "confirmed", "promoted"):
        found = next((one for one in after if one.what == what), None)
        goal = ">= 1" if what == "confirmed" else None
        rows.add(f"{name}, drift: {what}, cases after the change", sum(one.what == what for one in after), "cases", goal)
        if found is not None:
            rows.add(f"{name}, drift: {what}, after", found.n - ran.change, "events", None, _day(found.ts - ran.ts))
    rows.add(f"{name}, drift: confirmed before the change", false, "cases", None, f"in {ran.change:,} events, the data's own")
    told = f"NDCG@10 over the others', last {roll:,} of each, as a multiple of before"
    rows.add(f"{name}, drift: swapped users at the lowest", went.lowest, "×", None, told)
    if went.fell is not None:
        rows.add(f"{name}, drift: fell below {NEAR}, after", went.fell, "events")
    if went.back is not None:
        rows.add(f"{name}, drift: back at {NEAR}, after", went.back, "events")
    rows.add(f"{name}, drift: swapped users at the end", went.end, "×", f">= {NEAR}", told)
    rows.add(f"{name}, drift: slates with what was taken", ran.clicked / max(1, ran.shown), "share")
    rows.add(f"{name}, drift: retrains", ran.fit_s, "s", None, "CPU in all")
    table = Table(title=f"{name}: what happened when, {ran.change:,} events before the change", title_justify="left", box=None)
    for column in ("event", "after the change", "day", "what", "numbers"):
        table.add_column(column, justify="right" if column in ("event", "after the change") else "left")
    for one in ran.told:
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in one.numbers.items() if isinstance(value, float))
        table.add_row(f"{one.n:,}", f"{one.n - ran.change:+,}", _date(one.ts), one.what, numbers)
    Console(width=170).print(table)


def picture(ran: Ran, path: Path) -> None:
    """NDCG@10 by day of both sides, with what happened when in the cases that were confirmed."""
    measures = {side: Measures(10) for side in SIDES}
    for one in ran.seen:
        measures[SIDES[not one.swapped]].add(one.rank or None, [], None, None, False, False, one.ts)
    marks: dict[str, str] = {_date(ran.ts): "tastes turn"}
    confirmed = {one.case for one in ran.told if one.what == "confirmed"}
    for one in (one for one in ran.told if one.case in confirmed):
        day = _date(one.ts)
        marks[day] = f"{marks[day]}, {one.what}" if day in marks else one.what
    for place, day in enumerate(sorted(marks)):
        marks[day] = "\n" * (place % 6) + marks[day]
    draw({side: one.view() for side, one in measures.items()}, path, title="Half of the users swap their genres", marks=marks)


def _date(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).date().isoformat()


def _day(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days"
