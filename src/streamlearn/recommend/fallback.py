"""What a slate is filled up with when its candidates are too few: what is popular, then what is recent, then any item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .popular import MAIN
from .state import State
from .tables import Rows

FEW: Final = 1000  # items of a kind that are put in order at first; the others when none of these is left

Bools = NDArray[np.bool_]


def fill(state: State, hidden: Bools, fits: Callable[[int], bool], wanted: int) -> list[tuple[int, str]]:
    """At most `wanted` rows of items that are not `hidden` (items,) and that `fits` lets by, each with the name of its kind.

    Fewer only when there are no more. Each item that is not hidden may be looked at: hide what surely does not fit.
    """
    found: dict[int, str] = {}
    for row, kind in _kinds(state, hidden):
        if len(found) >= wanted:
            break
        if row not in found and fits(row):
            found[row] = kind
    return list(found.items())


def _kinds(state: State, hidden: Bools) -> Iterator[tuple[int, str]]:
    for row in state.popular.leaders(MAIN, hidden, FEW).tolist():
        yield row, "popular"
    left = np.flatnonzero(~hidden).astype(np.int32)
    liked = state.items.raw["liked"][left] > 0
    yield from ((row, "recent") for row in _latest(state, left[liked]))
    yield from ((row, "available") for row in _latest(state, left[~liked]))


def _latest(state: State, rows: Rows) -> Iterator[int]:
    """The rows, those used last first, put in order as far as they are asked for."""
    last = state.items.raw["last"][rows]
    first = np.argpartition(-last, FEW)[:FEW] if len(rows) > FEW else np.arange(len(rows))
    yield from _ordered(rows[first], last[first])
    if len(rows) > FEW:
        others = np.ones(len(rows), np.bool_)
        others[first] = False
        yield from _ordered(rows[others], last[others])


def _ordered(rows: Rows, last: NDArray[np.float64]) -> list[int]:
    ordered: list[int] = rows[np.lexsort((rows, -last))].tolist()
    return ordered
