"""Factors: incremental matrix factorisation for positive feedback, and the search for the items nearest to a user.

ISGD (Vinagre, Jorge & Gama 2014, "Fast incremental matrix factorization for recommendation with positive-only feedback"): each
positive interaction is a step of gradient descent towards 1 for the user's and the item's factors.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..config_recommend import RecommendSettings
from .ids import Hashes
from .tables import Column, Rows, Table

Vectors = NDArray[np.float32]
SPREAD: Final = 0.1  # the standard deviation of new factors
LONGEST: Final = 10.0  # no vector grows beyond this length
BATCH: Final = 4096  # rows that are begun at a time
FURTHEST: Final = 5.0  # an error beyond this counts as this
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def columns(settings: RecommendSettings) -> dict[str, Column]:
    """What Factors keeps of each item, and of each user."""
    return {"factors": Column("f4", settings.factors)}


def beginnings(hashes: Hashes, width: int, seed: int) -> Vectors:
    """(n, width): the factors that an id of each hash begins with, wherever it begins: uniform, mean 0, deviation SPREAD.

    SplitMix64 (Steele, Lea & Flood 2014) of hash, seed and place.
    """
    with np.errstate(over="ignore"):
        z = hashes[:, None] + (np.arange(1, width + 1, dtype=np.uint64) + np.uint64(seed % 2**32) * np.uint64(width)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX[0]
        z = (z ^ (z >> np.uint64(27))) * _MIX[1]
        z = z ^ (z >> np.uint64(31))
    unit = (z >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    vectors: Vectors = (unit - np.float32(0.5)) * np.float32(SPREAD * 12.0**0.5)
    return vectors


class Factors:
    """The factors of users and of items, in their tables."""

    def __init__(self, users: Table, items: Table, settings: RecommendSettings, seed: int) -> None:
        self._users, self._items, self._seed = users, items, seed
        self._width = settings.factors
        self._rate, self._shrink = settings.learning_rate, settings.regularization
        self.clipped = 0

    def begin(self, table: Table, row: int) -> None:
        """Gives a new row of users or items its factors."""
        table.raw["factors"][row] = beginnings(table.raw["hash"][row : row + 1], self._width, self._seed)[0]

    def begin_all(self, table: Table, rows: Rows) -> None:
        """As `begin`, for each of these rows."""
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            table.raw["factors"][some] = beginnings(table.raw["hash"][some], self._width, self._seed)

    def learn(self, user: int, item: int, weight: float) -> None:
        """One step for the two rows, `weight` in (0, 1] times the rate. What would overshoot is clipped and counted."""
        p, q = self._users.raw["factors"][user], self._items.raw["factors"][item]
        error = 1.0 - float(p @ q)
        if not -FURTHEST < error < FURTHEST:
            self.clipped += 1
            error = max(-FURTHEST, min(error, FURTHEST))
        rate = min(self._rate * weight, 1.0)
        keep, step = np.float32(1.0 - min(rate * self._shrink, 1.0)), np.float32(rate * error)
        move = step * p
        p *= keep
        p += step * q
        q *= keep
        q += move
        for vector in (p, q):
            length = float(vector @ vector)
            if not length <= LONGEST**2:
                self.clipped += 1
                np.nan_to_num(vector, copy=False, nan=0.0, posinf=LONGEST, neginf=-LONGEST)
                vector *= np.float32(LONGEST / max(float(np.sqrt(vector @ vector)), LONGEST))

    def vector(self, user: int) -> Vectors:
        """(width,): the user's factors, a view."""
        vector: Vectors = self._users.raw["factors"][user]
        return vector

    def scores(self, vector: Vectors, rows: Rows | None = None) -> Vectors:
        """The products of the vector with the items of these rows, or with all."""
        items = self._items["factors"]
        return (items if rows is None else items[rows]) @ vector
