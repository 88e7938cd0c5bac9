"""Tastes that turn: from the middle of a stream on, half of the users like other genres, and the loop has to notice.

Genres (the first of each film) are paired by how much they are liked; within a pair the films stand against each other by their
ranks of popularity, and what a swapped user would like is replaced by its counterpart. So their stream is as regular as it was,
and all that was learned of them is wrong.

The loop is the service's own (`closed_loop`) at the settings' defaults, on the clock of the ratings. Before each like the user
is shown a slate, by the champion or, in a trial, by the version of their arm. When it holds what they like, they click on it
there; else they act on it directly.

Such data changes by itself, too, and when half of the users like something else there is less to agree on. So the same is run
twice more: where no taste turns, which says what the turn costs and what is noticed without one; and from the change on by a
service that knows nothing of before. Who has unlearned the old tastes is no worse than that one.
"""

from __future__ import annotations

import math
import random
import sys
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate
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

RATINGS: Final = {"movietweetings": 40_000, "movielens_100k": 60_000}  # the first ones, which take minutes
QUICK: Final = 4000
PAGE: Final = 10  # events between two looks of control
SWAPPED: Final = 0.5  # of the users
ROLL: Final = 1500  # events of each side in a rolling mean
NEAR: Final = 0.95
CURVES: Final = ("users who swapped", "the others", "had no taste turned: those users", "begun at the change: those users")
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

    def told(self) -> list[Told]:
        """What control decided."""
        decisions = [one for one in self.decisions() if one.kind in TOLD]
        return [Told(TOLD[one.kind], one.case, one.n, one.at, one.numbers) for one in decisions]

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
    model: dict[str, Any] = {"stream": STREAM, "task": "recommend", "pipeline": "mlp"}
    model["recommend"] = {"actions": {"like": 1.0}, "item_fields": ["genres"]}
    if quick:
        detectors = [{"name": "page_hinkley", "params": {"threshold": 20.0}}]
        model["drift"] = {"window": 100, "gap": 50, "min_reference": 200, "within": 200, "detectors": detectors}
        model["retrain"] = {"min_events": 50}
    return parse({"streams": {STREAM: {}}, "models": {MODEL: model}}, {})


def run(data: Data, settings: Settings, tell: Callable[[int], None] = lambda events: None, turns: bool = True) -> Ran:
    """All good ratings of the data, the tastes turning in the middle, unless they do not."""
    rows, other = [row for row in data.ratings if row.good], counterparts(data) if turns else {}
    middle = len(rows) // 2
    shop = Shop(settings, _items(data, rows), rows[0].ts)
    change = 0
    for first in [*range(0, middle, PAGE), *range(middle, len(rows), PAGE)]:
        page = rows[first : min(first + PAGE, len(rows) if first >= middle else middle)]
        if first == middle:
            change = shop.learner.n
        shop.live(turned(page, other) if first >= middle else page)
        tell(len(page))
    return Ran(shop.seen, shop.told(), change, rows[middle].ts, shop.shown, shop.clicked, shop.fit_s)


def begun(data: Data, settings: Settings, tell: Callable[[int], None] = lambda events: None) -> list[Seen]:
    """What a service ranked that began when the tastes had turned."""
    all_ = [row for row in data.ratings if row.good]
    rows = turned(all_[len(all_) // 2 :], counterparts(data))
    shop = Shop(settings, _items(data, all_), rows[0].ts)
    for first in range(0, len(rows), PAGE):
        page = rows[first : first + PAGE]
        shop.live(page)
        tell(len(page))
    return shop.seen


def turned(rows: Sequence[Rated], other: Mapping[str, str]) -> list[Rated]:
    """The rows with what the users who swap like now."""
    return [row._replace(item=other.get(row.item, row.item)) if swaps(row.user) else row for row in rows]


def _items(data: Data, rows: Sequence[Rated]) -> dict[str, str]:
    known = {row.item for row in rows}
    return {item: genres for item, genres in data.genres.items() if item in known}


def gain(rank: int, k: int = 10) -> float:
    """NDCG@k of one wanted item at this rank; 0 is a miss."""
    return 1 / math.log2(1 + rank) if 1 <= rank <= k else 0.0


class Course(NamedTuple):
    """NDCG@10 after the change, of one side or of all, over what it is in another run, each the mean of the last events.

    `first`, `end`: of the first events and of the last. `fell`, `back`: labelled events from the change until it was below
    `NEAR`, and until it was above for good; None: it never was.
    """

    first: float
    lowest: float
    fell: int | None
    back: int | None
    end: float


def course(ran: Ran, other: Sequence[Seen], side: bool | None, roll: int = ROLL) -> Course:
    """Of those who swapped (`side`), of the others, or of all (None), once `roll` events have come; `other`: what the other run
    ranked."""
    mine = [one for one in ran.seen if one.n > ran.change and side in (None, one.swapped)]
    theirs = [one for one in other if one.ts >= ran.ts and side in (None, one.swapped)]
    times, sums = [one.ts for one in theirs], list(accumulate((gain(one.rank) for one in theirs), initial=0.0))
    last: deque[float] = deque(maxlen=roll)
    points: list[tuple[int, float]] = []
    for one in mine:
        last.append(gain(one.rank))
        to = bisect_right(times, one.ts)
        if len(last) == roll and to >= roll:
            there = (sums[to] - sums[to - roll]) / roll
            points.append((one.n - ran.change, _mean(last) / there if there else math.nan))
    if not points:
        return Course(math.nan, math.nan, None, None, math.nan)
    below = [place for place, (_, ratio) in enumerate(points) if ratio < NEAR]
    fell = points[below[0]][0] if below else None
    back = points[below[-1] + 1][0] if below and below[-1] + 1 < len(points) else None
    return Course(points[0][1], min(ratio for _, ratio in points), fell, back, points[-1][1])


def _mean(some: Sequence[float] | deque[float]) -> float:
    return sum(some) / len(some) if some else 0.0


def measure(rows: Rows, data: Data, quick: bool, plot: Path | None) -> None:
    """The drift, what was decided of it, and how both sides fared."""
    data = data._replace(ratings=data.ratings[: QUICK if quick else RATINGS[data.name]])
    events = sum(row.good for row in data.ratings)
    print(f"{data.name}: {events:,} likes, tastes turn after half of them", file=sys.stderr)
    settings = settings_of(quick)
    tell = _teller(2 * events + (events + 1) // 2)
    with quiet():
        ran, still, since = run(data, settings, tell), run(data, settings, tell, False), begun(data, settings, tell)
    report(rows, data.name, ran, still, since, ROLL // 5 if quick else ROLL)
    if plot is not None:
        picture(ran, still.seen, since, plot)
        print(f"wrote {plot}", file=sys.stderr)


def _teller(events: int) -> Callable[[int], None]:
    done = [0]

    def tell(more: int) -> None:
        before, done[0] = done[0], done[0] + more
        if before * 20 // events != done[0] * 20 // events:
            print(f"  {done[0]:,} of {events:,}", file=sys.stderr, flush=True)

    return tell


def report(rows: Rows, name: str, ran: Ran, still: Ran, since: Sequence[Seen], roll: int) -> None:
    """The rows, and the table of what happened when."""
    after = [one for one in ran.told if one.n > ran.change]
    for what in ("alarm", "confirmed", "promoted"):
        found = next((one for one in after if one.what == what), None)
        goal = ">= 1" if what == "confirmed" else None
        rows.add(f"{name}, drift: {what}, cases after the change", sum(one.what == what for one in after), "cases", goal)
        if found is not None:
            rows.add(f"{name}, drift: {what}, after", found.n - ran.change, "events", None, _day(found.ts - ran.ts))
    own = [sum(one.what == "confirmed" and (one.n > still.change) is late for one in still.told) for late in (False, True)]
    where = "where no taste turns"
    rows.add(f"{name}, drift: confirmed before", own[0], "cases", None, f"in {still.change:,} events, the data's own")
    rows.add(f"{name}, drift: confirmed after, {where}", own[1], "cases", None, "likewise")
    for who, side in (("swapped users", True), ("the others", False)):
        went = course(ran, still.seen, side, roll)
        rows.add(f"{name}, drift: {who}, first {roll:,}", went.first, "×", None, f"NDCG@10 {where}")
        rows.add(f"{name}, drift: {who}, last {roll:,}", went.end, "×", None, f"NDCG@10 {where}")
    for who, side in (("swapped users", True), ("the others", False), ("all users", None)):
        went = course(ran, since, side, roll)
        told = f"NDCG@10 of a service begun at the change, last {roll:,}"
        rows.add(f"{name}, drift: {who}, at the lowest", went.lowest, "×", None, told)
        if went.fell is not None and went.back is not None:
            rows.add(f"{name}, drift: {who}, above {NEAR} for good, after", went.back, "events", None, told)
        rows.add(f"{name}, drift: {who}, at the end", went.end, "×", None if side is False else f">= {NEAR}", told)
    rows.add(f"{name}, drift: slates with what was taken", ran.clicked / max(1, ran.shown), "share")
    rows.add(f"{name}, drift: retrains", ran.fit_s, "s", None, "CPU in all")
    table = Table(title=f"{name}: what happened when, {ran.change:,} events before the change", title_justify="left", box=None)
    for column in ("event", "after the change", "day", "what", "numbers"):
        table.add_column(column, justify="right" if column in ("event", "after the change") else "left")
    for one in ran.told:
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in one.numbers.items() if isinstance(value, float))
        table.add_row(f"{one.n:,}", f"{one.n - ran.change:+,}", _date(one.ts), one.what, numbers)
    Console(width=170).print(table)


def picture(ran: Ran, still: Sequence[Seen], since: Sequence[Seen], path: Path) -> None:
    """NDCG@10 by day of both sides, and of those who swapped had they not, or where the service begins at the change.

    With what happened when in the cases that were confirmed.
    """
    swapped, others = ([one for one in ran.seen if one.swapped is side] for side in (True, False))
    beside = ([one for one in seen if one.swapped and one.ts >= ran.ts] for seen in (still, since))
    measures = {curve: Measures(10) for curve in CURVES}
    for measure, seen in zip(measures.values(), (swapped, others, *beside), strict=True):
        for one in seen:
            measure.add(one.rank or None, [], None, None, False, False, one.ts)
    marks: dict[str, str] = {_date(ran.ts): "tastes turn"}
    confirmed = {one.case for one in ran.told if one.what == "confirmed"}
    for one in (one for one in ran.told if one.case in confirmed):
        day = _date(one.ts)
        marks[day] = f"{marks[day]}, {one.what}" if day in marks else one.what
    for place, day in enumerate(sorted(marks)):
        marks[day] = "\n" * (place % 6) + marks[day]
    draw({curve: one.view() for curve, one in measures.items()}, path, title="Half of the users swap their genres", marks=marks)


def _date(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).date().isoformat()


def _day(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days"
