"""The pool: where there are too many items to score each, the hottest of them, with their factors side by side."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .factors import Vectors
from .popular import Popular
from .tables import Rows, Table

RENEWED: Final = 8  # the pool is chosen anew after a part of its size was learned


class Pool:
    """At most `size` items that count most by `half_life_s`, chosen anew after size / RENEWED positive events.

    `rows` are in order and each once; it has none while there are not more items. It may hold such as are not offered.
    """

    def __init__(self, items: Table, popular: Popular, size: int) -> None:
        self._items, self._popular, self._size = items, popular, size
        self.rows: Rows = np.zeros(0, np.int32)
        self._learned = 0
        self._begin()

    @property
    def used(self) -> bool:
        """Whether there are more items than can be scored each time."""
        return len(self._items) > self._size

    def written(self, row: int) -> None:
        """The item's factors are others now."""
        if self._place is not None and row < len(self._place) and (at := self._place.item(row)) >= 0:
            self._vectors[at] = self._items.raw["factors"][row]

    def learned(self) -> None:
        """A positive event was learned."""
        self._learned += 1
        if self.used and self._learned * RENEWED >= self._size:
            self._choose()

    def scores(self, vector: Vectors) -> Vectors:
        """(rows,): the products of the vector with the factors of the pool's items."""
        if not len(self.rows):
            self._choose()
        if self._place is None:
            self._gather()
        scores: Vectors = self._vectors @ vector
        return scores

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._vectors: Vectors = np.zeros((0, 0), np.float32)
        self._place: Rows | None = None  # of each row of items: where it stands in the pool, or -1

    def _choose(self) -> None:
        self.rows, self._learned = self._popular.hottest(self._size), 0
        self._begin()

    def _gather(self) -> None:
        self._vectors = self._items.raw["factors"][self.rows]
        self._place = np.full(len(self._items), -1, np.int32)
        self._place[self.rows] = np.arange(len(self.rows), dtype=np.int32)


_DERIVED: Final = frozenset({"_vectors", "_place"})
