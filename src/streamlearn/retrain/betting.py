"""Bets on the sign of a mean: a capital that grows when the null hypothesis is wrong, and that may be looked at any time."""

from __future__ import annotations

from typing import Final

MOST_STAKE: Final = 0.9  # of the capital, at the worst x; on blocks, whose means vary little, this is what bounds the growth


class BettingProcess:
    """A capital that grows by bets that the mean of x in [−1, 1] lies above `m` (Waudby-Smith & Ramdas, JRSS B 2024, §4).

    H0: E[x_t | past] ≤ m. Under it the capital is a supermartingale that starts at 1. With g = μ̂_{t−1} − m,
    λ_t = clip(g / (v̂_{t−1} + g²), 0, 0.9 / (1 + m)); μ̂_0 = 0 and v̂_0 = 1/4 count as one observation.
    """

    def __init__(self, m: float) -> None:
        self.capital = 1.0
        self._m = m
        self._most = MOST_STAKE / (1.0 + m)
        self._count = 1
        self._sum = 0.0
        self._squares = 0.25

    def bet(self, x: float) -> None:
        """Stake on `x` what the past advises, take the outcome, then learn from it."""
        gain = self._sum / self._count - self._m
        stake = min(max(gain / (self._squares / self._count + gain * gain), 0.0), self._most)
        self.capital *= 1.0 + stake * (x - self._m)
        self.learn(x)

    def learn(self, x: float) -> None:
        """Take `x` as experience alone: nothing was staked on it."""
        self._count += 1
        self._sum += x
        self._squares += (x - self._sum / self._count) ** 2


class OddEven:
    """Two processes, for the odd and the even blocks of one sequence; `e` is the average of their capitals.

    Each bet then rests on what was over a whole block before its own began, so that neighbours may share a shock.
    """

    def __init__(self, m: float) -> None:
        self.e = 1.0
        self._both = (BettingProcess(m), BettingProcess(m))

    def bet(self, number: int, x: float) -> None:
        """Bet on `x` of block `number`, by the blocks of the same parity before it."""
        self._both[number % 2].bet(x)
        self.e = (self._both[0].capital + self._both[1].capital) / 2

    def learn(self, number: int, x: float) -> None:
        """Take `x` of block `number` as experience alone."""
        self._both[number % 2].learn(x)
