"""Co-visits: for each item, the items that the same users acted on, with weights that fade."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from ..config_recommend import RecommendSettings
from .ids import COLUMNS as ID_COLUMNS
from .ids import Hashes, Ids, summed
from .popular import Floats
from .tables import Array, Column, Rows, Table

LIFE: Final = 16  # of co-visits, in `half_life_s`
HIGH: Final = 60.0  # half-lives after which the growing weights are brought down
NEWEST: Final = -0.5  # the exponent of an item's place in the history, 1 the newest
MOST: Final = 150_000  # items that have neighbours at a time
AFTER: Final = 5  # items of a history after which one comes next
NEXT: Final = 32  # items that came next after one
_LATELY: Final = (1.0 / np.arange(AFTER, 0, -1.0)).astype(np.float32)
SMOOTHED: Final = 5.0  # co-visits that each item is taken to have had beside its own, in the cosine
COLUMNS: Final = {"near_at": Column("i4", fill=-1)}  # of each item: its row of neighbours


class Near(NamedTuple):
    """Items near to a history, by row, in order and each once, by share and by cosine; and those that come next."""

    rows: Rows
    shares: Floats
    cosines: Floats
    next_rows: Rows
    next_shares: Floats


class Covisits:
    """Each item's heaviest neighbours, `neighbours` of them: what users acted on within `last_items` of it.

    Weights grow by 2^(t / h) instead of fading, so that only what is met is written. A neighbour that an item has no room for
    takes the place of the lightest. Of MOST items with neighbours, the one acted on longest ago gives its row to a new one.
    """

    def __init__(self, items: Table, ids: Ids, settings: RecommendSettings) -> None:
        self._items, self._ids = items, ids
        self._width = settings.neighbours
        self._half_life = LIFE * settings.half_life_s
        self._start: float | None = None
        self.table = Table(
            {
                **ID_COLUMNS,
                "of": Column("u8"),
                "met": Column("f4"),
                "near": Column("u8", self._width),
                "weight": Column("f4", self._width),
                "next": Column("u8", NEXT),
                "next_weight": Column("f4", NEXT),
                "followed": Column("f4"),
            },
            ("id",),
        )
        self.owners = Ids(self.table, min(settings.max_items, MOST), 0)

    def learn(self, last: Rows, row: int, weight: float, ts: float) -> None:
        """A user acted on `row` after the items `last` (n,), each once, newest last, without `row`."""
        weight *= self._grown(ts)
        own = self._own(row, ts)
        if not len(last):
            return
        table = self.table
        near, weights = table.raw["near"], table.raw["weight"]
        item = self._ids.ref(row)
        at = self._items.raw["near_at"].take(last)
        at = at[at >= 0]
        table.cells["met"][own] += weight * len(last)
        table.raw["met"][at] += np.float32(weight)
        _meet(near, weights, at, item, np.float32(weight))
        soon = at[-AFTER:]
        after = _LATELY[AFTER - len(soon) :] * np.float32(weight)
        _meet(table.raw["next"], table.raw["next_weight"], soon, item, after)
        table.raw["followed"][soon] += after
        table.touch(at)
        _give(near[own], weights[own], self._ids.refs(last[-self._width :]), weight)

    def near(self, last: Rows, ts: float) -> Near:
        """What is near to the items `last` (newest last, p = 1) at `ts`.

        C[j, i] being the weight that j and i have in common, the shares are the sums over j of p^NEWEST C[j, i] / met[j], and
        the cosines of p^NEWEST C[j, i] / sqrt(met[j] (met[i] + SMOOTHED)). D[j, i] being the sum of 1 / p of the times when i
        was acted on with j among the AFTER items before, `next_shares` are the sums of (1 / p) D[j, i] / (1 + sum of D[j]).
        """
        table, power = self.table, self._power(ts)
        at = self._items.raw["near_at"][last]
        known = at >= 0
        at = at[known]
        met = np.maximum(table.raw["met"][at], 1e-30).astype(np.float64)
        place = np.arange(len(last), 0, -1.0)[known]
        lately = place**NEWEST
        weights = table.raw["weight"][at]
        shares, cosines = weights * (lately / met)[:, None], weights * (lately / np.sqrt(met))[:, None]
        rows, shares, cosines = summed(self._ids.deref(table.raw["near"][at].ravel()), shares.ravel(), cosines.ravel())
        own = self._items.raw["near_at"][rows]
        cosines /= np.sqrt(np.where(own < 0, 0.0, table.raw["met"][own]) + SMOOTHED * power)
        soon = place <= AFTER
        at = at[soon]
        shared = table.raw["next_weight"][at] / (place[soon] * (table.raw["followed"][at] + power))[:, None]
        return Near(rows, shares, cosines, *summed(self._ids.deref(table.raw["next"][at].ravel()), shared.ravel()))

    def similar(self, row: int, ts: float) -> tuple[Rows, Floats]:
        """The item's neighbours that are still known, by row, and the cosine of the two items' co-visits."""
        found = self.near(np.array([row], np.int32), ts)
        return found.rows, np.minimum(found.cosines, 1.0)

    def forget(self, row: int) -> None:
        """The item is let go: its neighbours go with it."""
        at = self._items.cells["near_at"][row]
        if at >= 0:
            self.owners.remove(at)

    def _own(self, row: int, ts: float) -> int:
        """The item's row of neighbours, made when it has none."""
        cells = self._items.cells
        at: int = cells["near_at"][row]
        if at >= 0:
            self.owners.use(at, ts)
            return at
        if self.owners.full:
            oldest = self.owners.oldest()
            owner = int(self._ids.deref(self.table.raw["of"][oldest : oldest + 1])[0])
            cells["near_at"][owner] = -1
            self._items.touch(owner)
            self.owners.remove(oldest)
        at = self.owners.add("", cells["hash"][row], ts)
        self.table.cells["of"][at] = self._ids.ref(row)
        cells["near_at"][row] = at
        return at

    def _power(self, ts: float) -> float:
        """What a weight of 1 that is given at `ts` counts."""
        age = 0.0 if self._start is None else (ts - self._start) / self._half_life
        return float(2.0 ** min(max(age, -HIGH), HIGH))

    def _grown(self, ts: float) -> float:
        """The same, after all that counts less was brought down, when `ts` is HIGH half-lives from the start."""
        if self._start is None:
            self._start = ts
        age = (ts - self._start) / self._half_life
        if age > HIGH:
            factor = np.float32(2.0 ** -min(age, 140.0))
            for name in ("weight", "met", "next_weight", "followed"):
                self.table[name][:] *= factor
            self.table.touch(np.arange(len(self.table), dtype=np.int32))
            self._start = ts
        return self._power(ts)


def _meet(near: Array, weights: Array, at: Rows, item: int, given: Array | np.float32) -> None:
    """Gives the item the weights `given` (n,) among the neighbours in the rows `at` (n,), each once."""
    many = weights.take(at, 0)
    np.copyto(many, np.float32(-1.0), where=near.take(at, 0) == item)
    slots = at * near.shape[1] + many.argmin(1)
    of, all_ = near.reshape(-1), weights.reshape(-1)
    new = all_[slots]
    new[of[slots] != item] = 0.0
    all_[slots], of[slots] = new + given, item


def _give(near: Array, weights: Array, items: Hashes, weight: float) -> None:
    """Gives each of the items (at most as many as there is room for) the weight among one item's neighbours (width,)."""
    slots = (near == items[:, None]).argmax(1)
    known = near[slots] == items
    met = slots[known]
    weights[met] += np.float32(weight)
    new = items[~known]
    if len(new):
        rest = weights.copy()
        rest[met] = np.inf
        lightest = rest.argsort(kind="stable")[: len(new)]
        near[lightest], weights[lightest] = new, weight
