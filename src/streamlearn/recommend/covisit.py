"""Co-visits: for each item, the items that the same users acted on, with weights that fade."""

from __future__ import annotations

from typing import Final

import numpy as np

from ..config_recommend import RecommendSettings
from .ids import Ids
from .popular import Floats
from .tables import Column, Rows, Table

LIFE: Final = 16  # of co-visits, in `half_life_s`
HIGH: Final = 60.0  # half-lives after which the growing weights are brought down
NEWEST: Final = -0.5  # the exponent of an item's place in the history, 1 the newest


def columns(settings: RecommendSettings) -> dict[str, Column]:
    """What Covisits keeps of each item: its neighbours by hash, their weights, and the weight of all its co-visits."""
    return {
        "near": Column("u8", settings.neighbours),
        "near_w": Column("f4", settings.neighbours),
        "met": Column("f4"),
    }


class Covisits:
    """Each item's heaviest neighbours: the `neighbours` that users acted on within `last_items` of it.

    Weights grow by 2^(t / h) instead of fading, so that only what is met is written. An item that has no room gives a new
    neighbour the place and the weight of the least (Metwally et al. 2005, Space-Saving).
    """

    def __init__(self, items: Table, ids: Ids, settings: RecommendSettings) -> None:
        self._items, self._ids = items, ids
        self._width = settings.neighbours
        self._half_life = LIFE * settings.half_life_s
        self._start: float | None = None

    def learn(self, last: Rows, row: int, weight: float, ts: float) -> None:
        """A user acted on `row` after the items `last` (n,), each once, newest last, without `row`."""
        n = len(last)
        if not n:
            return
        weight *= self._grown(ts)
        table, width = self._items, self._width
        near, near_w, met = table.raw["near"], table.raw["near_w"], table.raw["met"]
        item = table.cells["hash"][row]
        rows_w = near_w[last]
        rows_w[near[last] == item] = -1.0
        slots = rows_w.argmin(1)
        near[last, slots] = item
        near_w[last, slots] += weight
        met[last] += weight
        self._learn_many(near[row], near_w[row], table.raw["hash"][last][-width:], weight)
        met[row] += weight * n
        table.touch(last)

    def scores(self, last: Rows) -> tuple[Rows, Floats]:
        """The neighbours of the items `last` (newest last), each once, and how near: the sum over those items of the share of
        their co-visits, times their place in the history to the power NEWEST."""
        if not len(last):
            return np.zeros(0, np.int32), np.zeros(0)
        table = self._items
        place = np.arange(len(last), 0, -1) ** NEWEST / np.maximum(table.raw["met"][last], 1e-30)
        hashes = table.raw["near"][last].ravel()
        shares = (table.raw["near_w"][last] * place[:, None]).ravel()
        hashes, of = np.unique(hashes, return_inverse=True)
        rows = self._ids.rows(hashes)
        known = rows >= 0
        return rows[known], np.bincount(of, shares, len(hashes)).astype(np.float64)[known]

    def near(self, row: int) -> tuple[Rows, Floats]:
        """The item's neighbours that are still known, and the cosine of the two items' co-visits."""
        table = self._items
        rows = self._ids.rows(table.raw["near"][row])
        known = rows >= 0
        rows = rows[known]
        weights = table.raw["near_w"][row][known].astype(np.float64)
        met = table.raw["met"]
        return rows, weights / np.maximum(np.sqrt(met[rows].astype(np.float64) * float(met[row])), 1e-30)

    @staticmethod
    def _learn_many(near: Rows, near_w: Floats, items: Rows, weight: float) -> None:
        """Gives each of the items (at most as many as there is room for) the weight in one item's neighbours."""
        found = near == items[:, None]
        slots = found.argmax(1)
        known = found[np.arange(len(items)), slots]
        near_w[slots[known]] += weight
        new = items[~known]
        if len(new):
            rest = near_w.copy()
            rest[slots[known]] = np.inf
            least = rest.argsort(kind="stable")[: len(new)]
            near[least] = new
            near_w[least] += weight

    def _grown(self, ts: float) -> float:
        if self._start is None:
            self._start = ts
        age = (ts - self._start) / self._half_life
        if age > HIGH:
            factor = np.float32(2.0 ** -min(age, 140.0))
            self._items["near_w"][:] *= factor
            self._items["met"][:] *= factor
            self._items.touch(np.arange(len(self._items), dtype=np.int32))
            self._start, age = ts, 0.0
        return float(2.0 ** max(age, -HIGH))
