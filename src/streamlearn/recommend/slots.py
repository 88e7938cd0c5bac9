"""Slots: an open-addressing hash table from hashes to rows, in arrays, at most half of it taken."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
FEWEST: Final = 128


class Slots:
    """Which row each hash has; 0 is no hash. It is found by `taken` (hashes by slot, 0: free), `rows` and `mask`.

    It can be made anew from a table's hashes at any time, so it is never stored; but that takes 0.1 s for a million rows, so
    it stays beside its table, which keeps it right when it is patched.
    """

    __slots__ = ("_n", "hashes", "mask", "numbers", "rows", "taken")

    def __init__(self, hashes: Hashes) -> None:
        """Of a table with these hashes, by row; rows of hash 0 are nobody's."""
        known = np.flatnonzero(hashes).astype(np.int32)
        self._fill(hashes[known], known)

    def put(self, hashed: int, row: int) -> None:
        """A hash that is not known has this row."""
        if 2 * (self._n + 1) > self.mask:
            used = np.flatnonzero(self.hashes)
            self._fill(self.hashes[used], self.numbers[used])
        taken, mask = self.taken, self.mask
        slot = hashed & mask
        while taken[slot]:
            slot = (slot + 1) & mask
        taken[slot], self.rows[slot] = hashed, row
        self._n += 1

    def put_all(self, hashes: Hashes, rows: NDArray[np.int32]) -> None:
        """Hashes that are not known have these rows: made anew with them, which is quicker than one by one for many."""
        used = np.flatnonzero(self.hashes)
        self._fill(np.concatenate([self.hashes[used], hashes]), np.concatenate([self.numbers[used], rows]))

    def remove(self, hashed: int) -> None:
        """Empties a known hash's slot, and moves back those after it that would not be found beyond a gap (Knuth, volume 3,
        6.4 R)."""
        taken, rows, mask = self.taken, self.rows, self.mask
        slot = hashed & mask
        while taken[slot] != hashed:
            slot = (slot + 1) & mask
        gap = slot
        while True:
            slot = (slot + 1) & mask
            found = taken[slot]
            if not found:
                break
            home = found & mask
            if (slot - home) & mask >= (slot - gap) & mask:
                taken[gap], rows[gap] = found, rows[slot]
                gap = slot
        taken[gap], rows[gap] = 0, -1
        self._n -= 1

    def change(self, rows: NDArray[np.int32], before: Hashes, after: Hashes) -> None:
        """The hashes of these rows were `before` and are `after`."""
        differing = np.flatnonzero(before != after)
        for hashed in before[differing].tolist():
            if hashed:
                self.remove(hashed)
        for hashed, row in zip(after[differing].tolist(), rows[differing].tolist(), strict=True):
            if hashed:
                self.put(hashed, row)

    def _fill(self, hashes: Hashes, numbers: NDArray[np.int32]) -> None:
        """Makes the slots for these, with room for as many again."""
        size = max(FEWEST, 1 << (4 * len(hashes)).bit_length())
        self.mask, self._n = size - 1, len(hashes)
        self.hashes, self.numbers = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        self.taken, self.rows = self.hashes.data, self.numbers.data
        slots = hashes & np.uint64(self.mask)
        while len(numbers):  # each round, the rows whose slot is free try for it, and those that lose go on to the next one
            free = self.hashes[slots] == 0
            self.numbers[slots[free]] = numbers[free]
            won = free & (self.numbers[slots] == numbers)
            self.hashes[slots[won]] = hashes[won]
            numbers, hashes = numbers[~won], hashes[~won]
            slots = slots[~won] + np.uint64(1) & np.uint64(self.mask)
