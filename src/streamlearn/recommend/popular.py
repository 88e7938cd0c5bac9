"""What is popular: counts that fade by several half-lives, the items that lead by each of them, and the leaders of segments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..config_recommend import RecommendSettings
from .ids import COLUMNS as ID_COLUMNS
from .ids import Ids, summed
from .tables import Column, Rows, Table

Floats = NDArray[np.float64]
MULTIPLES: Final = (0.25, 1.0, 4.0, 16.0)  # of `half_life_s`; what is watched stays popular for days here and for months there
MAIN: Final = 2  # of the half-lives: `half_life_s` itself
NEVER: Final = -np.inf


def half_lives(settings: RecommendSettings) -> tuple[float, ...]:
    """Seconds: the recent one, then multiples of `half_life_s`."""
    return (settings.recent_half_life_s, *(settings.half_life_s * multiple for multiple in MULTIPLES))


def columns(settings: RecommendSettings) -> dict[str, Column]:
    """What Popular keeps of each item."""
    return {"heat": Column("f8", len(half_lives(settings))), "heat_ts": Column("f8", fill=NEVER)}


class Popular:
    """A weight w given at t0 counts as w 2^-((t - t0) / h) at t, for each half-life h.

    Between two items the order by one half-life changes only when one of them is given a weight, so the leaders are kept as
    they come: of each half-life, the exact first of the items that are offered, as many as are named and a history is long.
    """

    def __init__(self, items: Table, settings: RecommendSettings) -> None:
        self._items = items
        self._lives = half_lives(settings)
        self._half_lives = np.array(self._lives)
        size = settings.history + max(settings.quotas.values())
        self._leaders = [_Leaders(size) for _ in self._lives]

    def add(self, row: int, weight: float, ts: float, offered: bool) -> None:
        """Gives the item a weight above 0 at `ts`; `offered`: whether it may lead."""
        heat, since = self._items.raw["heat"][row], self._items.cells["heat_ts"]
        passed = ts - since[row]
        if passed >= 0:
            heat[:] = [h * 2.0 ** (passed / -life) + weight for h, life in zip(heat.tolist(), self._lives, strict=True)]
            since[row] = ts
        else:  # a late one
            heat[:] = [h + weight * 2.0 ** (passed / life) for h, life in zip(heat.tolist(), self._lives, strict=True)]
        self._items.touch(row)
        if offered:
            self.offer(row)

    def offer(self, row: int) -> None:
        """The item may lead from now on."""
        since = self._items.cells["heat_ts"][row]
        for leaders, heat, life in zip(self._leaders, self._items.raw["heat"][row].tolist(), self._lives, strict=True):
            if heat > 0:
                leaders.offer(row, math.log2(heat) + since / life)

    def withdraw(self, row: int, offered: NDArray[np.bool_]) -> None:
        """The item may lead no more; `offered` (items,) says which others may."""
        for which, leaders in enumerate(self._leaders):
            if leaders.drop(row) and leaders.short:
                rows = np.flatnonzero(offered & (self._items["heat"][:, which] > 0)).astype(np.int32)
                leaders.gather(rows, self._keys(rows, which))

    def leaders(self, which: int, hidden: NDArray[np.bool_], limit: int) -> Rows:
        """The first items by the half-life of this number, at most `limit`, without the hidden (items,), the best first."""
        return self._leaders[which].first(hidden, limit)

    def heats(self, rows: Rows, ts: float) -> Floats:
        """(n, half-lives): what the items' weights count at `ts`."""
        passed = np.maximum(ts - self._items.raw["heat_ts"][rows], 0.0)
        return self._items.raw["heat"][rows] * np.exp2(passed[:, None] / -self._half_lives)  # type: ignore[no-any-return]

    def touched(self, rows: Rows) -> NDArray[np.bool_]:
        """(n,): which of the items were ever given a weight."""
        touched: NDArray[np.bool_] = self._items.raw["heat_ts"][rows] != NEVER
        return touched

    def every_leader(self) -> Rows:
        """The items that lead by any half-life, in the order of their rows."""
        return np.unique(np.concatenate([leaders.rows[: len(leaders.slots)] for leaders in self._leaders]))

    def _keys(self, rows: Rows, which: int) -> Floats:
        """Two items compare by these as by what they count, at any time: log2 of the count plus the time in half-lives."""
        counts = np.maximum(self._items.raw["heat"][rows, which], 1e-300)
        return np.log2(counts) + self._items.raw["heat_ts"][rows] / self._lives[which]  # type: ignore[no-any-return]


class _Leaders:
    """Up to `size` rows that lead by their keys, in slots. None of those that do not has a key above `below`."""

    def __init__(self, size: int) -> None:
        self.rows: Rows = np.zeros(size, np.int32)
        self.keys: Floats = np.full(size, NEVER)
        self.slots: dict[int, int] = {}
        self.below = NEVER

    @property
    def short(self) -> bool:
        """Whether it should be gathered anew: half of it is gone, and there are others."""
        return self.below > NEVER and 2 * len(self.slots) < len(self.rows)

    def offer(self, row: int, key: float) -> None:
        slot = self.slots.get(row)
        if slot is not None:
            self.keys[slot] = key
        elif key > self.below:
            if len(self.slots) < len(self.rows):
                self._put(row, key)
            else:
                last = int(self.keys.argmin())
                self.below = float(self.keys[last])
                if key > self.below:
                    self.drop(int(self.rows[last]))
                    self._put(row, key)

    def drop(self, row: int) -> bool:
        """Whether it led."""
        slot = self.slots.pop(row, None)
        if slot is None:
            return False
        n = len(self.slots)
        if slot < n:
            self.rows[slot], self.keys[slot] = self.rows[n], self.keys[n]
            self.slots[int(self.rows[slot])] = slot
        return True

    def gather(self, rows: Rows, keys: Floats) -> None:
        """All that may lead, to choose anew from."""
        order = np.argsort(keys, kind="stable")[::-1]
        size = len(self.rows)
        self.slots.clear()
        for row, key in zip(rows[order[:size]].tolist(), keys[order[:size]].tolist(), strict=True):
            self._put(row, key)
        self.below = float(keys[order[size]]) if len(rows) > size else NEVER

    def first(self, hidden: NDArray[np.bool_], limit: int) -> Rows:
        rows, keys = self.rows[: len(self.slots)], self.keys[: len(self.slots)]
        shown = (~hidden[rows]).nonzero()[0]
        shown = shown[keys[shown].argsort(kind="stable")[: -limit - 1 : -1]]
        return rows[shown]

    def _put(self, row: int, key: float) -> None:
        slot = len(self.slots)
        self.rows[slot], self.keys[slot], self.slots[row] = row, key, slot


class Segments:
    """The leaders of each segment of users: up to SIZE items each, with weights that fade by LIFE times `half_life_s`.

    A new item takes the place of the lightest when a segment has no room.
    """

    SIZE: Final = 256
    LIFE: Final = 8
    MOST: Final = 4096

    def __init__(self, items: Ids, settings: RecommendSettings) -> None:
        self._items = items
        self.table = Table(
            {**ID_COLUMNS, "item": Column("u8", self.SIZE), "weight": Column("f4", self.SIZE), "since": Column("f8")}, ("id",)
        )
        self._ids = Ids(self.table, self.MOST, 0)
        self._half_life = self.LIFE * settings.half_life_s

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, segments: Sequence[str], row: int, weight: float, ts: float) -> None:
        """Gives the item of this row a weight above 0 in each of the segments."""
        item = self._items.ref(row)
        for segment in segments:
            at = self._ids.met(segment, ts)
            weights, since = self.table.raw["weight"][at], self.table.cells["since"]
            passed = ts - since[at]
            if passed >= 0:
                weights *= np.float32(2.0 ** max(passed / -self._half_life, -149.0))
                since[at] = ts
            items = self.table.raw["item"][at]
            found = items == item
            slot = int(found.argmax())
            if not found[slot]:
                slot = int(weights.argmin())
                items[slot], weights[slot] = item, 0.0
            weights[slot] += weight * 2.0 ** max(min(passed, 0.0) / self._half_life, -149.0)

    def scores(self, segments: Sequence[str]) -> tuple[Rows, Floats]:
        """The segments' items by row, in order and each once, and the sums of their shares of each segment's weight."""
        rows = [row for segment in segments if (row := self._ids.row_of(segment)) >= 0]
        weights = self.table.raw["weight"][rows]
        weights /= np.maximum(weights.sum(1, keepdims=True), np.float32(1e-30))
        return summed(self._items.deref(self.table.raw["item"][rows].ravel()), weights.ravel())


def segments_of(names: Sequence[str], fields: Mapping[str, Any], context: Mapping[str, Any], events: float) -> list[str]:
    """The segments of a user of so many events: how active they are, and each name's value in the context or their fields."""
    found = [f"#{min(int(events + 1).bit_length() - 1, 7)}"]
    for name in names:
        value = context.get(name, fields.get(name))
        if value is not None:
            found.append(f"{name}={value}")
    return found
