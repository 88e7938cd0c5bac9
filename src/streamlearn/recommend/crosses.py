"""Crosses: how much more often what an item is like (its content tokens) is liked in a segment of users than anywhere.

A segment is a declared field of the user or name of the context with its value, "device=phone", or how active the user is.
Users of one device, age or country may like other genres than those of another; popularity by segment says it of the leaders
alone, this of every item.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..config_recommend import RecommendSettings
from .content import Content
from .ids import COLUMNS as ID_COLUMNS
from .ids import Ids
from .popular import Floats
from .tables import Column, Rows, Table

ALL: Final = ""  # the segment that everybody is in
PRIOR: Final = 10.0  # weight that is added to what was seen and to what was to be expected, so that little says little

Hashes = NDArray[np.uint64]


class Crosses:
    """Of each segment, and of all together, the tokens of what was liked: up to SIZE each, with weights that fade by LIFE times
    `half_life_s`. A new token takes the place of the lightest when there is no room.

    A token of weight w in a segment of weight W, and of the share p of all, has the lift log((w + a) / (W p + a)), a = PRIOR.
    """

    SIZE: Final = 256
    LIFE: Final = 16
    MOST: Final = 4096

    def __init__(self, content: Content, settings: RecommendSettings) -> None:
        self._content = content
        self.declared = bool(settings.segments)
        self.table = Table(
            {
                **ID_COLUMNS, "token": Column("u8", self.SIZE), "weight": Column("f4", self.SIZE), "total": Column("f8"),
                "since": Column("f8"),
            },
            ("id",),
        )  # fmt: skip
        self._ids = Ids(self.table, self.MOST, 0)
        self._half_life = self.LIFE * settings.half_life_s

    def add(self, segments: Sequence[str], item: int, weight: float, ts: float) -> None:
        """The item of this row was given a weight above 0 by a user of these segments."""
        if not self.declared or not segments:
            return
        tokens = self._content.refs(np.array([item], np.int32))[0]
        if not len(tokens):
            return
        for segment in (ALL, *segments):
            row = self._ids.met(segment, ts)
            known, weights, cells = self.table.raw["token"][row], self.table.raw["weight"][row], self.table.cells
            passed = ts - cells["since"][row]
            faded = 2.0 ** max(abs(passed) / -self._half_life, -149.0)
            mine = weight
            if passed >= 0:
                weights *= np.float32(faded)
                cells["total"][row] *= faded
                cells["since"][row] = ts
            else:
                mine *= faded
            cells["total"][row] += mine
            slots = _slots(known, tokens)
            weights[slots[slots >= 0]] += np.float32(mine)
            for token in tokens[slots < 0].tolist():
                lightest = int(weights.argmin())
                known[lightest], weights[lightest] = token, mine

    def lifts(self, segments: Sequence[str], items: Rows) -> Floats:
        """(n,): of each item the mean of its tokens' lifts, over the segments that are known; 0 where nothing is."""
        rows = [row for segment in segments if (row := self._ids.row_of(segment)) >= 0]
        everybody = self._ids.row_of(ALL)
        if not rows or everybody < 0:
            return np.zeros(len(items))
        known, total = self.table.raw["token"][everybody], self.table.cells["total"]
        share = self.table.raw["weight"][everybody] / total[everybody]
        lift = np.zeros(len(known) + 1)  # the last: of what is not known of all, of which slot -1 is
        for row in rows:
            slots = _slots(self.table.raw["token"][row], known)
            weights = np.where(slots >= 0, self.table.raw["weight"][row][slots], 0.0)
            lift[:-1] += np.log((weights + PRIOR) / (total[row] * share + PRIOR))
        tokens, of = self._content.refs(items)
        sums = np.bincount(of, lift[_slots(known, tokens)], len(items))
        return sums / np.maximum(np.bincount(of, minlength=len(items)) * len(rows), 1)


def _slots(known: Hashes, tokens: Hashes) -> NDArray[np.int64]:
    """Where each of the tokens stands among the known ones, -1 where it does not."""
    order = known.argsort(kind="stable")
    place = np.minimum(known[order].searchsorted(tokens), len(known) - 1)
    slots: NDArray[np.int64] = np.where(known[order][place] == tokens, order[place], -1)
    return slots
