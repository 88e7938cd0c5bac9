"""A trial by user: champion and challenger each answer for an arm of the users, and what each user earned is compared.

A user lies in the challenger's arm when `events.unit_of(salt, user)` is below the share, so the arms are drawn at random. Of a
user only slates count that the arm's own version made after the trial had begun; a user counts once, by the mean reward of the
first ones. So units are independent draws, and a block of as many units of either arm gives one honest difference of two means.
What is judged by it is judged elsewhere (`retrain.trial`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..config import ModelSettings
from ..events import unit_of
from ..records import Command
from .canary import Canary
from .refusal import Refusal


class Unit(msgspec.Struct, array_like=True):
    """A user whose slates are being counted: how many, the sum of their rewards, and until when (event time)."""

    deadline: float
    challenger: bool
    n: int = 0
    sum: float = 0.0


class Side(msgspec.Struct, array_like=True):
    """The users of one arm who are counted and in no block yet, and the sum of their rewards."""

    n: int = 0
    sum: float = 0.0


class Arms(msgspec.Struct, array_like=True):
    """The arms of one trial. `trial` is the seq of the command that began it, `size` the users of either arm in a block.

    Slates of offset `since` and later count, `impressions` of them for each user, or as many as closed within `patience`
    seconds after the first. `n`, `champion` and `challenger`: pairs of users in closed blocks and their losses, 1 − reward.
    """

    trial: int
    size: int
    share: float
    salt: str
    versions: tuple[int, int]  # the champion's, the challenger's
    since: int
    impressions: int
    patience: float
    closed: int = 0
    n: int = 0
    champion: float = 0.0
    challenger: float = 0.0
    open: dict[str, Unit] = {}
    done: dict[str, bool] = {}
    sides: tuple[Side, Side] = msgspec.field(default_factory=lambda: (Side(), Side()))

    @staticmethod
    def of(
        command: Command, model: ModelSettings, versions: tuple[int, int], size: int, since: int
    ) -> tuple[Arms, Canary] | None:
        """The arms that a command makes and the canary by which the challenger answers; None when it has no share.

        Raises Refusal for a share outside (0, 1).
        """
        if not command.share:
            return None
        if not 0.0 < command.share < 1.0:
            raise Refusal("bad_share", f"the challenger cannot answer for a share of {command.share:g}; it lies in (0, 1)")
        settings = model.recommend
        of_users = settings.unit_impressions, 2.0 * settings.window_s
        arms = Arms(command.seq, size, command.share, command.salt, versions, since, *of_users)
        return arms, Canary(versions[1], command.share, command.salt, command.seq, 0)

    def take(self, user: str, version: int, reward: float, offset: int, clock: float) -> list[dict[str, Any]]:
        """A slate that `version` showed to `user` has its reward, in [0, 1]; `clock` is event time. The data of "block" signals
        of the blocks that are full now."""
        self._expire(clock)
        if offset >= self.since and user not in self.done:
            challenger = unit_of(self.salt, user) < self.share
            if version == self.versions[challenger]:
                unit = self.open.get(user)
                if unit is None:
                    unit = self.open[user] = Unit(clock + self.patience, challenger)
                unit.n += 1
                unit.sum += reward
                if unit.n >= self.impressions:
                    self._count(user, self.open.pop(user))
        return self._full()

    def _expire(self, clock: float) -> None:
        while self.open:
            user, unit = next(iter(self.open.items()))
            if unit.deadline >= clock:
                return
            del self.open[user]
            self._count(user, unit)

    def _count(self, user: str, unit: Unit) -> None:
        self.done[user] = unit.challenger
        side = self.sides[unit.challenger]
        side.n += 1
        side.sum += unit.sum / unit.n

    def _full(self) -> list[dict[str, Any]]:
        """A block closes when either arm has `size` users; all of the larger arm's count for its mean, and for as many."""
        champion, challenger = self.sides
        n = min(champion.n, challenger.n)
        if n < self.size:
            return []
        losses = [n * (1.0 - side.sum / side.n) for side in self.sides]
        data = {"trial": self.trial, "block": self.closed, "n": n, "champion": losses[0], "challenger": losses[1]}
        self.closed += 1
        self.n += n
        self.champion += losses[0]
        self.challenger += losses[1]
        self.sides = Side(), Side()
        return [data]
