"""Leanings: what the items that a user likes are like, as moving means of the features by which they were ranked."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .linear import CLIP
from .tables import Column, Table

Values = NDArray[np.float64]
LEAST_PACE: Final = 0.2  # a leaning follows what is liked by this share at least


def columns(count: int) -> dict[str, Column]:
    """What Leanings keeps of each user, two bytes for each of `count` features, two or more, or nothing for 0."""
    return {"leans": Column("f2", count)} if count else {}


class Leanings:
    """The leanings of users, in their table, where there are any."""

    def __init__(self, users: Table) -> None:
        self._users = users

    def of(self, user: int) -> Values:
        """(count,): the leanings of the user of this row; 0, which is what is usual, for -1."""
        leans = self._users.raw["leans"]
        return leans[user].astype(np.float64) if user >= 0 else np.zeros(leans.shape[1])

    def learn(self, user: int, scaled: Values, weight: float) -> None:
        """The user of this row likes an item with these features (count,), in deviations from their means; weight in (0, 1].

        The mean begins at 0 and follows by 1 / (liked + 1), LEAST_PACE at least, times the weight.
        """
        pace = weight * max(LEAST_PACE, 1.0 / (self._users.cells["liked"][user] + 1.0))
        leans = self._users.raw["leans"]
        leans[user] += (min(pace, 1.0) * (np.clip(scaled, -CLIP, CLIP) - leans[user])).astype(np.float16)
        self._users.touch(user)
