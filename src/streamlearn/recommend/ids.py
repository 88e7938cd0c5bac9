"""Ids: which row of a table is whose, who was used longest ago, and so who is let go.

Others refer to a row by the hash of its id, or by half of it and the row, never by the row alone: a row that was let go is used
again for another id, and a reference to the former finds nothing. Two ids of one hash are taken for one (chance 3e-8 among a
million ids).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .slots import Hashes as Hashes
from .slots import Slots
from .tables import Column, Rows, Table

FEW: Final = 48  # hashes that are looked up faster one by one
BATCH: Final = 4096  # rows that are put in order at a time
KEPT: Final = 1 << 62
LOWER: Final = (1 << 32) - 1
UPPER: Final = LOWER << 32
COLUMNS: Final[Mapping[str, Column]] = {  # what Ids keeps in its table; and "id", ragged
    "hash": Column("u8"),
    "used": Column("u8"),  # the number of its last use, and KEPT if it is kept
    "last": Column("f8"),  # of a row that is free: 1 + the row that was freed before it
}


def hash_of(name: str) -> int:
    """The first 8 bytes of BLAKE2b of the UTF-8 text, little endian; never 0, which stands for nobody."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1


def summed(rows: Rows, *values: NDArray[np.floating[Any]]) -> tuple[Any, ...]:
    """The rows that are not -1, in order and each once, and of each of the `values` their sums (float64)."""
    known = (rows >= 0).nonzero()[0]
    keys = rows[known].astype(np.uint64) << np.uint64(32) | known.astype(np.uint64)
    keys.sort()  # by row, then by place: the sums are the same on every machine
    order, ordered = (keys & np.uint64(LOWER)).astype(np.int64), (keys >> np.uint64(32)).astype(np.int32)
    if not len(ordered):
        return ordered, *(np.zeros(0) for _ in values)
    first = np.empty(len(ordered), np.bool_)
    first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    starts = first.nonzero()[0]
    return ordered[starts], *(np.add.reduceat(value[order].astype(np.float64), starts) for value in values)


class Ids:
    """The ids of a table's rows: at most `most`; those not used for `ttl_s` seconds are stale (0: never).

    A row that is kept never is stale, and is removed only when all are kept. A removed row is reset and used again, the newest
    of them first.
    """

    _earliest: float

    def __init__(self, table: Table, most: int, ttl_s: float) -> None:
        self._table, self._most, self._ttl_s = table, most, ttl_s
        self._uses = self._n = self._kept = 0
        self._free = -1  # the row that was freed last
        self.evicted_lru = self.evicted_ttl = 0
        self._begin()

    def __len__(self) -> int:
        return self._n

    @property
    def full(self) -> bool:
        """Whether one must be removed before another is added."""
        return self._n >= self._most

    @property
    def room(self) -> int:
        """How many may still be added."""
        return max(0, self._most - self._n)

    def row_of(self, name: str) -> int:
        """The id's row, -1 when it is not known."""
        return self.row_of_hash(hash_of(name))

    def row_of_hash(self, hashed: int) -> int:
        """The row of the id with this hash, -1 when there is none."""
        slots = self._slots
        taken, mask = slots.taken, slots.mask
        slot = hashed & mask
        while (found := taken[slot]) != hashed:
            if not found:
                return -1
            slot = (slot + 1) & mask
        return int(slots.rows[slot])  # -1 for 0, the hash of nobody

    def rows(self, hashes: Hashes) -> Rows:
        """The row of each hash, -1 where there is none."""
        if len(hashes) <= FEW:
            return np.array([self.row_of_hash(hashed) for hashed in hashes.tolist()], np.int32)
        rows = np.full(len(hashes), -1, np.int32)
        mask, left = np.uint64(self._slots.mask), np.arange(len(hashes))
        slots = hashes & mask
        while len(left):
            found = self._slots.hashes[slots]
            hit = found == hashes
            rows[left[hit]] = self._slots.numbers[slots[hit]]
            going = ~hit & (found != 0)
            left, hashes, slots = left[going], hashes[going], slots[going] + np.uint64(1) & mask
        return rows

    def ref(self, row: int) -> int:
        """A reference: the upper half of the hash and the row. It finds nothing once the row is another's."""
        return self._table.cells["hash"][row] & UPPER | row  # type: ignore[no-any-return]  # of a memoryview of uint64

    def refs(self, rows: Rows) -> Hashes:
        """A reference to each of the rows."""
        return self._table.raw["hash"][rows] & np.uint64(UPPER) | rows.astype(np.uint64)

    def deref(self, refs: Hashes) -> Rows:
        """The row of each reference, -1 where it is another's by now, or the reference is 0."""
        rows = (refs & np.uint64(LOWER)).astype(np.int32)
        same = (self._table.raw["hash"][rows] ^ refs) <= np.uint64(LOWER)
        rows[~(same & (refs != 0))] = -1
        return rows

    def id_of(self, row: int) -> str:
        """Whose row it is; empty for a row that is nobody's."""
        return self._table.get("id", row).decode("utf-8", "surrogatepass")

    def met(self, name: str, ts: float) -> int:
        """The row of the id, now the newest in use. One that is not known gets a row; when all are taken that of the oldest, of
        which nobody is told."""
        hashed = hash_of(name)
        row = self.row_of_hash(hashed)
        if row >= 0:
            self.use(row, ts)
            return row
        if self.full:
            self.remove(self.oldest())
        return self.add(name, hashed, ts)

    def add(self, name: str, hashed: int, ts: float) -> int:
        """The row of a new id with this hash, the newest in use.

        Raises ValueError when full: the caller removes `oldest()` first, and tells whoever knows that row.
        """
        if self.full:
            raise ValueError(f"all {self._most} rows are taken; remove the oldest before another is added")
        table = self._table
        row = self._free
        if row >= 0:
            self._free = int(table.cells["last"][row]) - 1
        else:
            row = table.append()
        table.cells["hash"][row] = hashed
        table.cells["last"][row] = ts
        table.put("id", row, name.encode("utf-8", "surrogatepass"))
        self._slots.put(hashed, row)
        self._n += 1
        self._earliest = min(self._earliest, ts)
        self._number(row, 0)
        return row

    def add_older(self, names: Sequence[bytes], hashes: Hashes, last: NDArray[np.float64]) -> Rows:
        """The rows of new ids (UTF-8) with these hashes, in the order of their use, and all used before those that are there.

        Raises ValueError when there is no room for all.
        """
        n, table = len(names), self._table
        if n > self.room:
            raise ValueError(f"of {self._most} rows {self._n} are taken: there is no room for {n} more")
        if not n:
            return np.zeros(0, np.int32)
        rows, freed = np.empty(n, np.int32), min(n, len(table) - self._n)
        for at in range(freed):
            rows[at] = self._free
            self._free = int(table.cells["last"][self._free]) - 1
        rows[freed:] = table.extend(n - freed)
        there = np.flatnonzero(table["used"]).astype(np.int32)
        table["used"][there] += np.uint64(n)
        table.raw["used"][rows] = np.arange(1, n + 1)
        table.raw["hash"][rows], table.raw["last"][rows] = hashes, last
        for row, name in zip(rows.tolist(), names, strict=True):
            table.put("id", row, name)
        table.touch(there)
        table.touch(rows)
        self._slots.put_all(hashes, rows)
        self._n, self._uses = self._n + n, self._uses + n
        self._order.clear()
        self._earliest = min(self._earliest, float(last.min()))
        return rows

    def use(self, row: int, ts: float) -> None:
        """The row becomes the newest in use; `ts` in seconds, of which it keeps the latest."""
        cells = self._table.cells
        if ts > cells["last"][row]:
            cells["last"][row] = ts
        self._number(row, cells["used"][row] & KEPT)

    def keep(self, row: int, kept: bool) -> None:
        """Puts the row among those that are kept, or takes it out of them; it becomes the newest there."""
        cells = self._table.cells
        self._kept += kept - bool(cells["used"][row] & KEPT)
        self._earliest = min(self._earliest, cells["last"][row])
        self._number(row, KEPT * kept)

    def keep_all(self, rows: Rows) -> None:
        """Puts the rows among those that are kept, in the order in which they were used."""
        used = self._table.raw["used"]
        fresh = rows[used[rows] < KEPT]
        used[fresh] |= np.uint64(KEPT)
        self._kept += len(fresh)
        self._order.clear()
        self._table.touch(fresh)

    def oldest(self) -> int:
        """The row to be removed next when all are taken: the one used longest ago, a kept one only if all are; -1 of none."""
        used = self._table.cells["used"]
        while True:
            while self._order:
                row, number = self._order[-1]
                if used[row] == number and (number < KEPT or self._kept == self._n):
                    return row
                self._order.pop()
            if not self._n:
                return -1
            self._sort()

    def stale(self, ts: float) -> int:
        """The row used longest ago if that was more than the TTL before `ts` and it is not kept, else -1."""
        if not self._ttl_s or self._kept == self._n or ts - self._earliest <= self._ttl_s:
            return -1
        row = self.oldest()
        return row if ts - self._table.cells["last"][row] > self._ttl_s else -1

    def newest(self, limit: int) -> Rows:
        """At most `limit` rows, those used last first."""
        used = self._table["used"] & np.uint64(KEPT - 1)
        rows = np.argsort(used)[::-1][:limit] if limit >= len(used) else np.argpartition(used, -limit)[-limit:]
        rows = rows[np.argsort(used[rows])[::-1]]
        named: Rows = rows[self._table["hash"][rows] != 0].astype(np.int32)
        return named

    def remove(self, row: int) -> None:
        """Forgets whose row it is, and resets it."""
        cells = self._table.cells
        self._kept -= bool(cells["used"][row] & KEPT)
        self._slots.remove(cells["hash"][row])
        self._table.reset(row)
        cells["last"][row] = self._free + 1
        self._free = row
        self._n -= 1

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        """What follows from the table. Its slots stay beside it, for all that have its ids one after the other."""
        self._table.expect(self._most)
        self._slots = self._table.slots = self._table.slots or Slots(self._table["hash"])
        self._order: list[tuple[int, int]] = []
        self._earliest = -np.inf  # no row that may be stale was used last before this

    def _number(self, row: int, kept: int) -> None:
        self._uses += 1
        self._table.cells["used"][row] = self._uses | kept
        self._table.touch(row)

    def _sort(self) -> None:
        """Puts the rows used longest ago in order, the oldest last. All others were used later, so the order stays true."""
        used = self._table["used"]
        rows = np.flatnonzero((used != 0) & ((used < KEPT) | (self._kept == self._n)))
        self._earliest = float(self._table["last"][rows].min(initial=np.inf))
        if len(rows) > BATCH:
            rows = rows[np.argpartition(used[rows], BATCH)[:BATCH]]
        rows = rows[np.argsort(used[rows])[::-1]]
        self._order = list(zip(rows.tolist(), used[rows].tolist(), strict=True))


_DERIVED: Final = frozenset({"_order", "_slots", "_earliest"})
