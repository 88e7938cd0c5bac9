"""How good lists of recommendations are, measured event by event: each is ranked first, then measured, then learned.

With one item that the user really took, at place `rank` (from 1) of the ranking, or in none:

- HR@k is 1 where rank ≤ k, NDCG@k is 1 / log2(1 + rank) there, MRR@k is 1 / rank there, and all are 0 elsewhere; the full MRR
  is 1 / rank at any place. An item that was not ranked counts as a miss in all four.
- Coverage: distinct items shown over the items that are available, ever and in the last days.
- Novelty: the mean of −log2 of the shown items' shares of all interactions at that time (Zhou et al., PNAS 2010). Items that
  nobody has touched have no share; they are left out of it and counted as `untouched`.
- Diversity: the mean over pairs of a list of 1 − Jaccard of the items' tokens, or of 1 − cosine of their vectors (Ziegler et
  al., WWW 2005). Pairs without any token, and vectors of zeros, are left out.
- Cold start: events whose user or item was unknown when they were ranked; all measures are split by it.

Means are over events (lists). The state is sums by day (UTC) and by cold start, and for each item shown the last day: it can be
written, read, and merged with that of other shards, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

DAY: Final = 86_400.0
WINDOW: Final = 7  # days
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST: Final = datetime(1, 1, 1, tzinfo=UTC).timestamp()  # days have names up to the year 9999
LAST: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
CELLS: Final[dict[str, tuple[int, ...]]] = {"warm": (0,), "cold": (1, 2, 3), "new_user": (1, 3), "new_item": (2, 3)}

Tokens: TypeAlias = Sequence[AbstractSet[str]] | NDArray[Any]


class Sums(msgspec.Struct, array_like=True):
    """Counts and sums over events: of those with a rank, of the four measures of it, and of the lists that have the others."""

    events: int = 0
    ranked: int = 0
    hits: int = 0
    ndcg: float = 0.0
    mrr: float = 0.0
    mrr_full: float = 0.0
    slots: int = 0
    untouched: int = 0
    rated: int = 0
    novelty: float = 0.0
    paired: int = 0
    diversity: float = 0.0

    def add(self, other: Sums) -> None:
        """Add the other's."""
        self.events += other.events
        self.ranked += other.ranked
        self.hits += other.hits
        self.ndcg += other.ndcg
        self.mrr += other.mrr
        self.mrr_full += other.mrr_full
        self.slots += other.slots
        self.untouched += other.untouched
        self.rated += other.rated
        self.novelty += other.novelty
        self.paired += other.paired
        self.diversity += other.diversity

    def means(self) -> dict[str, Any]:
        """As people read them; None where there is nothing to take the mean of."""
        return {
            "events": self.events,
            "hr": _mean(self.hits, self.events),
            "ndcg": _mean(self.ndcg, self.events),
            "mrr": _mean(self.mrr, self.events),
            "mrr_full": _mean(self.mrr_full, self.events),
            "ranked": _mean(self.ranked, self.events),
            "novelty": _mean(self.novelty, self.rated),
            "untouched": _mean(self.untouched, self.slots),
            "diversity": _mean(self.diversity, self.paired),
        }


class State(msgspec.Struct, array_like=True, tag=1):
    """All that `Measures` knows; the tag is the layout's number."""

    k: int
    window: int
    days: dict[int, Sums]
    cells: list[Sums]
    shown: dict[str, int]  # the last day of each item
    available: int | None = None
    counted: float = -math.inf  # when `available` was said


class Measures:
    """The measures at `k` over a stream of events; `window` days are the last ones of the coverage. Raises ValueError."""

    def __init__(self, k: int, window: int = WINDOW) -> None:
        if k < 1 or window < 1:
            raise ValueError(f"k {k} and window {window} must be 1 or more")
        self._state = State(k, window, {}, [Sums() for _ in range(4)], {})
        self._gains = [1 / math.log2(1 + rank) for rank in range(1, k + 1)]

    @property
    def k(self) -> int:
        """How many items of a list count."""
        return self._state.k

    def add(
        self,
        rank: int | None,
        shown: Sequence[str],
        popularity: Sequence[float] | None,
        tokens: Tokens | None,
        new_user: bool,
        new_item: bool,
        ts: float,
        *,
        available: int | None = None,
    ) -> None:
        """Take one event, at `ts` in seconds since 1970. Raises ValueError, and takes nothing of it then.

        `rank` is the place of the item that was taken, from 1; None where it was not ranked. `shown` is the list, of which k
        count; `popularity` each of its items' share of all interactions before the event, in [0, 1]; `tokens` a set for each of
        them, or vectors (n, d). Where either is None its measure is not made. `available` is how many items could be shown.
        """
        state, k = self._state, self._state.k
        if rank is not None and rank < 1:
            raise ValueError(f"rank: {rank} is not 1 or more")
        if not FIRST <= ts < LAST:
            raise ValueError(f"ts: {ts} is no time")
        if available is not None and available < 1:
            raise ValueError(f"available: {available} is not 1 or more")
        for name, values in (("popularity", popularity), ("tokens", tokens)):
            if values is not None and len(values) != len(shown):
                raise ValueError(f"{name}: has {len(values)} entries for {len(shown)} items")
        one = Sums(events=1, slots=min(k, len(shown)) if popularity is not None else 0)
        if rank is not None:
            one.ranked, one.mrr_full = 1, 1 / rank
            if rank <= k:
                one.hits, one.ndcg, one.mrr = 1, self._gains[rank - 1], 1 / rank
        if popularity is not None:
            self._rate(one, popularity[:k])
        if tokens is not None:
            distance = diversity(tokens[:k])
            if distance is not None:
                one.paired, one.diversity = 1, distance
        day = math.floor(ts / DAY)
        state.days.setdefault(day, Sums()).add(one)
        state.cells[new_user + 2 * new_item].add(one)
        last = state.shown
        for item in shown[:k]:
            if last.get(item, day) <= day:
                last[item] = day
        if available is not None and ts >= state.counted:
            state.available, state.counted = available, ts

    @staticmethod
    def _rate(one: Sums, popularity: Sequence[float]) -> None:
        bits, rated = 0.0, 0
        for share in popularity:
            if share > 0:
                if share > 1:
                    raise ValueError(f"popularity: {share} lies outside [0, 1]")
                bits -= math.log2(share)
                rated += 1
            elif share != 0:
                raise ValueError(f"popularity: {share} lies outside [0, 1]")
        one.untouched = len(popularity) - rated
        if rated:
            one.rated, one.novelty = 1, bits / rated

    def merge(self, other: Measures) -> None:
        """Take in what another shard measured; which of the two takes the other in changes nothing. Raises ValueError."""
        ours, theirs = self._state, other._state
        if (ours.k, ours.window) != (theirs.k, theirs.window):
            raise ValueError(f"k {theirs.k} and window {theirs.window} are not {ours.k} and {ours.window}")
        for day, sums in theirs.days.items():
            ours.days.setdefault(day, Sums()).add(sums)
        for mine, cell in zip(ours.cells, theirs.cells, strict=True):
            mine.add(cell)
        for item, day in theirs.shown.items():
            ours.shown[item] = max(day, ours.shown.get(item, day))
        if theirs.available is not None:
            said = (theirs.counted, theirs.available)
            ours.counted, ours.available = max(said, (ours.counted, ours.available or 0))

    def dump(self) -> bytes:
        """The state, for `load`."""
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def load(cls, data: bytes) -> Measures:
        """Measures that go on from a state. Raises ValueError for bytes that hold none."""
        try:
            state = msgspec.msgpack.decode(data, type=State)
        except msgspec.DecodeError as error:
            raise ValueError(f"no state of measures: {error}") from None
        made = cls(state.k, state.window)
        if len(state.cells) != len(made._state.cells):
            raise ValueError(f"no state of measures: it has {len(state.cells)} cells")
        made._state = state
        return made

    def view(self) -> dict[str, Any]:
        """All measures, as JSON holds them: over all events, by cold start, and by day (those with events, in order).

        Items that were shown and are no longer available stay among the shown ones, so that a share of 1 is the most.
        """
        state = self._state
        total = _sum(state.cells)
        since = max(state.days, default=0) - state.window
        lately = sum(day > since for day in state.shown.values())
        cold = {name: _sum([state.cells[cell] for cell in cells]) for name, cells in CELLS.items()}
        return {
            "k": state.k,
            **total.means(),
            "coverage": {
                "shown": len(state.shown),
                "available": state.available,
                "share": _share(len(state.shown), state.available),
                "window_days": state.window,
                "window_shown": lately,
                "window_share": _share(lately, state.available),
            },
            "cold_start": {name: _mean(cold[name].events, total.events) for name in ("cold", "new_user", "new_item")},
            "split": {name: sums.means() for name, sums in cold.items()},
            "days": [{"day": _date(day), **sums.means()} for day, sums in sorted(state.days.items())],
        }


def diversity(tokens: Tokens) -> float | None:
    """The mean over pairs of 1 − Jaccard of sets, or of 1 − cosine of vectors (n, d); None without a pair to compare."""
    if isinstance(tokens, np.ndarray):
        return _spread(tokens)
    total, pairs = 0.0, 0
    sizes = [len(one) for one in tokens]
    for place, one in enumerate(tokens):
        size = sizes[place]
        for further in range(place + 1, len(sizes)):
            both = size + sizes[further]
            if both:
                common = len(one & tokens[further])
                total += 1 - common / (both - common)
                pairs += 1
    return total / pairs if pairs else None


def _spread(vectors: NDArray[Any]) -> float | None:
    """Of unit vectors u the pairs' cosines sum to (‖Σ u‖² − n) / 2. Raises ValueError for another shape than (n, d)."""
    if vectors.ndim != 2:
        raise ValueError(f"tokens: vectors have the shape {vectors.shape}, which is not (n, d)")
    made = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", made, made))
    if not np.isfinite(lengths).all():
        raise ValueError("tokens: a vector is not finite")
    units = made[lengths > 0] / lengths[lengths > 0, None]
    n = len(units)
    if n < 2:
        return None
    middle = units.sum(axis=0)
    return 1 - (float(middle @ middle) - n) / (n * (n - 1))


def _date(day: int) -> str:
    return (EPOCH + timedelta(days=day)).date().isoformat()


def _sum(several: Sequence[Sums]) -> Sums:
    total = Sums()
    for one in several:
        total.add(one)
    return total


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None


def _share(shown: int, available: int | None) -> float | None:
    return None if available is None else min(1.0, shown / available)
