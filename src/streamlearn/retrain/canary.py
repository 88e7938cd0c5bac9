"""The canary: a challenger that won its trial answers for a rising share of the keys before it answers for all.

Two tests stand guard. All the while, the trial's bet runs with the roles swapped (`Reversal`), on the paired losses since the
canary began: once it proves the champion better, the challenger is let go. At the end of each step, once, the outcomes of the
served answers are compared (`p_worse`). Nothing here reads a clock or draws a random number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from .reversal import Reversal

ENOUGH: Final = 30  # outcomes an arm, below which the served answers say nothing


class Arm:
    """Outcomes of one side's served answers, each a difference of two losses in [0, 1]: how many, their sum, their squares."""

    def __init__(self) -> None:
        self.n = 0
        self.sum = self.squares = 0.0

    def add(self, row: Sequence[float]) -> None:
        """Take (number, sum, sum of squares). Raises ValueError when no outcomes have those."""
        n, total, squares = row
        if n < 0 or not (abs(total) <= n + 1e-6 and -1e-6 <= squares <= n + 1e-6):
            raise ValueError(f"{n} outcomes cannot have a sum of {total} and squares of {squares}")
        self.n += int(n)
        self.sum += total
        self.squares += squares

    @property
    def mean(self) -> float:
        """0 without any outcome."""
        return self.sum / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """Of an outcome. One more, a whole loss off the mean, is counted in: a few that agree do not prove that all do."""
        return (max(0.0, self.squares - self.n * self.mean**2) + 1.0) / self.n if self.n else 1.0


def p_worse(champion: Arm, challenger: Arm, tolerance: float) -> float | None:
    """The p-value of H0: E[challenger's outcome] ≤ E[champion's] + tolerance; None when an arm has fewer than ENOUGH outcomes.

    Welch's statistic (Biometrika 34, 1947) for two samples of unequal size and variance, against the normal distribution.
    """
    if min(champion.n, challenger.n) < ENOUGH:
        return None
    spread = math.sqrt(champion.variance / champion.n + challenger.variance / challenger.n)
    return 0.5 * math.erfc((challenger.mean - champion.mean - tolerance) / spread / math.sqrt(2.0))


class Canary:
    """A canary of `shares`, rising; `alpha` and `tolerance` are the trial's. `at`: labelled events reported when it began.

    Each look at the served answers, one a step, is at level alpha / steps. `seq` names the command of the present step;
    `events` counts labelled events of the trial that were asked after it: those of the shard that has told of the fewest, for
    each of the `shards`, so that none is passed over. `length`: see `Reversal`.
    """

    def __init__(
        self, shares: Sequence[float], salt: str, alpha: float, tolerance: float, at: int, length: int = 1, shards: int = 1
    ) -> None:
        self.shares, self.salt, self.tolerance, self.at = tuple(shares), salt, tolerance, at
        self.level = alpha / len(shares)
        self.guard = Reversal(alpha, length)
        self.step, self.seq = 0, -1
        self._shards = shards
        self._begin()

    def _begin(self) -> None:
        self._told: dict[int, int] = {}
        self.champion, self.challenger = Arm(), Arm()

    def next(self, seq: int) -> None:
        """The next step begins, with the command `seq`."""
        self.step += 1
        self.seq = seq
        self._begin()

    @property
    def share(self) -> float:
        """Of the keys, that the challenger answers for."""
        return self.shares[self.step - 1]

    @property
    def last(self) -> bool:
        """Whether no larger share follows."""
        return self.step == len(self.shares)

    @property
    def events(self) -> int:
        """See above."""
        return self._shards * min(self._told.values()) if len(self._told) == self._shards else 0

    def add(self, shard: int, n: int, told: dict[str, Any]) -> None:
        """Take what a shard told with a closed block of `n` labelled events: step, and the (n, sum, squares) of both arms.

        Blocks of another step are left out. Raises KeyError, TypeError or ValueError when it cannot be read.
        """
        if told["step"] == self.seq:
            self.champion.add(told["champion"])
            self.challenger.add(told["challenger"])
            self._told[shard] = self._told.get(shard, 0) + n

    @property
    def p(self) -> float | None:
        """See `p_worse`."""
        return p_worse(self.champion, self.challenger, self.tolerance)

    def problem(self, recent: float) -> str:
        """At the end of a step: why the challenger must not answer for more, "" when it may.

        `recent` is the paired difference of the last events, champion's loss less the challenger's.
        """
        if recent < -self.tolerance:
            return f"of late the challenger's loss is higher by {-recent:.4f} on the same events, more than {self.tolerance:g}"
        if self.p is not None and self.p <= self.level:
            worse = self.challenger.mean - self.champion.mean
            return f"its served answers did worse by {worse:.4f} than the champion's: p {self.p:.2g}, level {self.level:.2g}"
        return ""

    def numbers(self) -> dict[str, Any]:
        """What the audit keeps: JSON-able."""
        return {
            "step": self.step, "steps": len(self.shares), "share": self.share, "salt": self.salt, "events": self.events,
            "served": {"champion": self.champion.n, "challenger": self.challenger.n},
            "outcome": {"champion": self.champion.mean, "challenger": self.challenger.mean}, "p": self.p, "level": self.level,
            "guard": {"e": self.guard.e, "threshold": self.guard.threshold},
        }  # fmt: skip
