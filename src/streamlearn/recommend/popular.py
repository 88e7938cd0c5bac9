"""What is popular: counts that fade by several half-lives, the items that lead by each of them, and the leaders of segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..config_recommend import RecommendSettings
from .ids import COLUMNS as ID_COLUMNS
from .ids import Hashes, Ids, hash_of
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
    return {"heat": Column("f8", len(half_lives(settings))), "heat_ts": Column("f8")}


class Popular:
    """A weight w given at t0 counts as w 2^-((t - t0) / h) at t, for each half-life h.

    Between two items the order by one half-life changes only when one of them is given a weight, so the leaders are kept as
    they come: of each half-life, the exact first of the items that are offered, as many as are named and a history is long.
    """

    def __init__(self, items: Table, settings: RecommendSettings) -> None:
        self._items = items
        self._half_lives = np.array(half_lives(settings))
        size = settings.history + max(settings.quotas.values())
        self._leaders = [_Leaders(size) for _ in self._half_lives]

    def add(self, row: int, weight: float, ts: float, offered: bool) -> None:
        """Gives the item a weight above 0 at `ts`; `offered`: whether it may lead."""
        heat, since = self._items.raw["heat"][row], self._items.cells["heat_ts"]
        passed = ts - since[row]
        if passed >= 0:
            heat *= np.exp2(passed / -self._half_lives)
            heat += weight
            since[row] = ts
        else:  # a late one
            heat += weight * np.exp2(passed / self._half_lives)
        if offered:
            self.offer(row)

    def offer(self, row: int) -> None:
        """The item may lead from now on."""
        keys = self._keys(row).tolist()
        for j, (leaders, key) in enumerate(zip(self._leaders, keys, strict=True)):
            if key > leaders.below and row not in leaders.slots:
                if leaders.room:
                    leaders.put(row)
                else:
                    self._displace(leaders, j, row, key)

    def withdraw(self, row: int, offered: NDArray[np.bool_]) -> None:
        """The item may lead no more; `offered` (items,) says which others may."""
        for j, leaders in enumerate(self._leaders):
            if row in leaders.slots:
                leaders.drop(row)
                if leaders.below > NEVER and 2 * leaders.n < len(leaders.rows):
                    self._gather(leaders, j, offered)

    def leaders(self, which: int, ts: float, hidden: NDArray[np.bool_], limit: int) -> Rows:
        """The first items by the half-life of this number, at most `limit`, without the hidden (items,)."""
        rows = self._leaders[which].rows[: self._leaders[which].n]
        rows = rows[~hidden[rows]]
        keys = self._keys(rows)[:, which]
        if len(rows) > limit:
            first = np.argpartition(keys, len(rows) - limit)[-limit:]
            rows, keys = rows[first], keys[first]
        return rows[np.argsort(-keys, kind="stable")]

    def heats(self, rows: Rows, ts: float) -> Floats:
        """(n, half-lives): what the items' weights count at `ts`."""
        passed = np.maximum(ts - self._items.raw["heat_ts"][rows], 0.0)
        return self._items.raw["heat"][rows] * np.exp2(passed[:, None] / -self._half_lives)  # type: ignore[no-any-return]

    def hottest(self, limit: int) -> Rows:
        """The `limit` items that count most by `half_life_s`, offered or not, in the order of their rows."""
        keys = self._keys(np.arange(len(self._items), dtype=np.int32))[:, MAIN]
        return np.sort(np.argpartition(keys, len(keys) - limit)[-limit:]).astype(np.int32)

    def _keys(self, rows: int | Rows) -> Floats:
        """Two items compare by these as by what they count, at any time: log2 of the count plus the time in half-lives."""
        since = np.asarray(self._items.raw["heat_ts"][rows])
        with np.errstate(divide="ignore"):
            return np.log2(self._items.raw["heat"][rows]) + since[..., None] / self._half_lives  # type: ignore[no-any-return]

    def _displace(self, leaders: _Leaders, which: int, row: int, key: float) -> None:
        keys = self._keys(leaders.rows)[:, which]
        last = int(keys.argmin())
        leaders.below = float(keys[last])
        if key > leaders.below:
            leaders.drop(int(leaders.rows[last]))
            leaders.put(row)

    def _gather(self, leaders: _Leaders, which: int, offered: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(offered & (self._items["heat"][:, which] > 0)).astype(np.int32)
        keys = self._keys(rows)[:, which]
        size = len(leaders.rows)
        order = np.argsort(keys, kind="stable")[::-1]
        leaders.clear()
        for row in rows[order[:size]].tolist():
            leaders.put(row)
        leaders.below = float(keys[order[size]]) if len(rows) > size else NEVER


class _Leaders:
    """Rows that lead. None of the others has a key above `below`."""

    def __init__(self, size: int) -> None:
        self.rows: Rows = np.zeros(size, np.int32)
        self.clear()

    @property
    def room(self) -> bool:
        return self.n < len(self.rows)

    def put(self, row: int) -> None:
        self.rows[self.n] = row
        self.slots[row] = self.n
        self.n += 1

    def drop(self, row: int) -> None:
        slot = self.slots.pop(row)
        self.n -= 1
        if slot < self.n:
            last = int(self.rows[self.n])
            self.rows[slot] = last
            self.slots[last] = slot

    def clear(self) -> None:
        self.n, self.below = 0, NEVER
        self.slots: dict[int, int] = {}


class Segments:
    """The leaders of each segment of users: up to SIZE items each, with weights that fade by LIFE times `half_life_s`.

    When a segment has no room, a new item takes the place and the weight of the least (Metwally et al. 2005, Space-Saving).
    """

    SIZE: Final = 256
    LIFE: Final = 8
    MOST: Final = 4096

    def __init__(self, settings: RecommendSettings) -> None:
        self.table = Table(
            {**ID_COLUMNS, "item": Column("u8", self.SIZE), "weight": Column("f4", self.SIZE), "since": Column("f8")}, ("id",)
        )
        self._ids = Ids(self.table, self.MOST, 0)
        self._half_life = self.LIFE * settings.half_life_s

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, segments: Sequence[str], item: int, weight: float, ts: float) -> None:
        """Gives the item of this hash a weight above 0 in each of the segments."""
        for segment in segments:
            hashed = hash_of(segment)
            row = self._ids.row_of_hash(hashed)
            if row < 0:
                if self._ids.full:
                    self._ids.remove(self._ids.oldest())
                row = self._ids.add(segment, hashed, ts)
            else:
                self._ids.use(row, ts)
            weights, since = self.table.raw["weight"][row], self.table.cells["since"]
            passed = ts - since[row]
            if passed >= 0:
                weights *= 2.0 ** max(passed / -self._half_life, -149.0)
                since[row] = ts
            items = self.table.raw["item"][row]
            found = items == item
            slot = int(found.argmax())
            if not found[slot]:
                slot = int(weights.argmin())
                items[slot] = item
            weights[slot] += weight * 2.0 ** max(min(passed, 0.0) / self._half_life, -149.0)

    def scores(self, segments: Sequence[str]) -> tuple[Hashes, Floats]:
        """The hashes of the segments' items, each once, and the sum of their shares of each segment's weight."""
        rows = [row for segment in segments if (row := self._ids.row_of(segment)) >= 0]
        if not rows:
            return np.zeros(0, np.uint64), np.zeros(0)
        weights = self.table.raw["weight"][rows].astype(np.float64)
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-30)
        items = self.table.raw["item"][rows].ravel()
        if len(rows) == 1:
            taken = items != 0
            return items[taken], weights.ravel()[taken]
        hashes, place = np.unique(items, return_inverse=True)
        sums = np.bincount(place, weights.ravel(), len(hashes))
        return hashes[hashes != 0], sums[hashes != 0]


def segments_of(names: Sequence[str], fields: Mapping[str, Any], context: Mapping[str, Any], events: float) -> list[str]:
    """The segments of a user of so many events: how active they are, and each name's value in the context or their fields."""
    found = [f"#{min(int(events + 1).bit_length() - 1, 7)}"]
    for name in names:
        value = context.get(name, fields.get(name))
        if value is not None:
            found.append(f"{name}={value}")
    return found
