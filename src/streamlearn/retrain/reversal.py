"""The trial's bet with the roles swapped: was the version that gives way the better one after all?

Unlike the trial, it begins to bet at once, on blocks as long as the trial found losses to correlate over: measured anew, the
very change that it is to find would pass for correlation, and be waited for.
"""

from __future__ import annotations

import math
from typing import Any

from .betting import OddEven


class Reversal:
    """Evidence against H0: the new version's loss is no higher than the old one's, at the level of a first trial, 6·alpha/π².

    A block of the test is `length` of the blocks that `add_block` takes. `e`, `peak`, `threshold`, `crossed`, `blocks`,
    `events` and `mean_difference` are those of a `Trial`; above 0, the old version is better.
    """

    def __init__(self, alpha: float, length: int) -> None:
        self.alpha_k = 6.0 * alpha / math.pi**2
        self.threshold = 1.0 / self.alpha_k
        self.e = self.peak = 1.0
        self.blocks = self.events = 0
        self.length = length
        self._evidence = OddEven(0.0)
        self._open: list[tuple[int, float]] = []
        self._difference = 0.0

    @property
    def crossed(self) -> bool:
        """Whether the evidence was ever enough."""
        return self.peak >= self.threshold

    @property
    def mean_difference(self) -> float:
        """The new version's mean loss less the old one's, over all events."""
        return self._difference / self.events if self.events else 0.0

    def add_block(self, n: int, new: float, old: float) -> None:
        """Take the next block: `n` events and each version's sum of losses. Raises ValueError for what cannot be."""
        if n < 1 or not (-1e-9 <= new <= n + 1e-9 and -1e-9 <= old <= n + 1e-9):
            raise ValueError(f"a block of {n} events cannot have loss sums of {new} and {old}")
        self.events += n
        self._difference += new - old
        self._open.append((n, new - old))
        if len(self._open) < self.length:
            return
        x = math.fsum(part[1] for part in self._open) / sum(part[0] for part in self._open)
        self._open.clear()
        self._evidence.bet(self.blocks, min(max(x, -1.0), 1.0))
        self.blocks += 1
        self.e = self._evidence.e
        self.peak = max(self.peak, self.e)

    def numbers(self) -> dict[str, Any]:
        """What the audit keeps: JSON-able."""
        return {
            "e": self.e, "peak": self.peak, "threshold": self.threshold, "alpha_k": self.alpha_k, "blocks": self.blocks,
            "length": self.length, "events": self.events, "mean_difference": self.mean_difference,
        }  # fmt: skip
