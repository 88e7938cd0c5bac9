"""Histories: what each user acted on, the newest last, as bytes in a ragged column."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from .ids import Hashes
from .tables import Array, Table

ENTRY: Final = np.dtype([("item", "<u8"), ("ts", "<u4"), ("weight", "<f4")])  # ts in whole seconds
_SIZE: Final = ENTRY.itemsize
_PACK: Final = struct.Struct("<QIf").pack
_LAST: Final = 2**32 - 1


class Histories:
    """The ragged column "history" of a table of users: at most `limit` items each, every item once."""

    def __init__(self, users: Table, limit: int) -> None:
        self._users, self._limit = users, limit

    def add(self, row: int, item: int, weight: float, ts: float) -> None:
        """The user acted on the item of this hash: it is the newest now, with this weight."""
        entry = _PACK(item, int(min(max(ts, 0.0), _LAST)), weight)
        known = self._users.get("history", row)
        at = known.find(entry[:8])
        while at >= 0 and at % _SIZE:
            at = known.find(entry[:8], at + 1)
        if at >= 0:
            known = known[:at] + known[at + _SIZE :]
        self._users.put("history", row, known[-(self._limit - 1) * _SIZE :] + entry if self._limit > 1 else entry)

    def of(self, row: int) -> Array:
        """(n,) of ENTRY: the newest last."""
        return np.frombuffer(self._users.get("history", row), ENTRY)

    def liked(self, row: int) -> Hashes:
        """The hashes of the items acted on with a positive weight, the newest last."""
        entries = self.of(row)
        return entries["item"][entries["weight"] > 0]

    def disliked(self, row: int) -> Hashes:
        """The hashes of the items acted on with a negative weight, the newest last."""
        entries = self.of(row)
        return entries["item"][entries["weight"] < 0]
