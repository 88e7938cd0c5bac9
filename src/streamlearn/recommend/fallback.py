"""What a slate is filled up with when its candidates are too few: what is popular, then what is recent, then any item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .popular import MAIN
from .state import State
from .tables import Rows

FEW: Final = 1000  # items of each kind that are looked at to fill a slate; to have one at all, as many as there are

Bools = NDArray[np.bool_]


def fill(state: State, hidden: Bools, fits: Callable[[int], bool], wanted: int, empty: bool) -> list[tuple[int, str]]:
    """At most `wanted` rows of items that are not `hidden` (items,) and that `fits` lets by, each with the name of its kind.

    Ends after FEW of each kind, unless the slate would be `empty`.
    """
    found: dict[int, str] = {}
    for row, kind in _kinds(state, hidden, len(state.items) if empty else FEW):
        if len(found) >= wanted:
            break
        if row not in found and fits(row):
            found[row] = kind
    return list(found.items())


def _kinds(state: State, hidden: Bools, limit: int) -> Iterator[tuple[int, str]]:
    for row in state.popular.leaders(MAIN, hidden, FEW).tolist():
        yield row, "popular"
    left = np.flatnonzero(~hidden).astype(np.int32)
    yield from ((row, "recent") for row in _latest(state, left[state.items.raw["liked"][left] > 0], limit).tolist())
    yield from ((row, "available") for row in _latest(state, left[state.items.raw["liked"][left] <= 0], limit).tolist())


def _latest(state: State, rows: Rows, limit: int) -> Rows:
    last = state.items.raw["last"][rows]
    if len(rows) > limit:
        some = np.argpartition(-last, limit)[:limit]
        rows, last = rows[some], last[some]
    latest: Rows = rows[np.lexsort((rows, -last))]
    return latest
