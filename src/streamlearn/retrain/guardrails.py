"""The tolerance table of a trial: by how much the challenger may be worse than the champion in each metric.

A table, not a test: what is compared are the metrics as measured on the same events. A guardrail is broken when the
challenger's value is worse by more than max(absolute, relative · |champion's value|).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from .sums import METRIC, Sum, Sums

ROUNDING: Final = 1e-9  # sums of floats may differ by as much when what they sum does not


class Guardrail(NamedTuple):
    """One row of the table. `direction` is where better lies: "lower", "higher", or "both" when any change is for the worse.

    `absolute` is in units of the metric, `relative` a share of the champion's value; the larger of the two is allowed.
    """

    metric: str
    direction: str
    absolute: float
    relative: float

    def allowed(self, champion: float) -> float:
        """The worsening that is let pass beside a champion of this value."""
        return max(self.absolute, self.relative * abs(champion))

    def worsening(self, champion: float, challenger: float) -> float:
        """By how much the challenger is worse, below 0 when it is better."""
        if self.direction == "both":
            return abs(challenger - champion)
        return challenger - champion if self.direction == "lower" else champion - challenger

    def value(self, n: int, total: float) -> float:
        """The metric of `n` events from the sum over them (for accuracy that of the 0/1 losses)."""
        mean = total / n
        if self.metric == "accuracy":
            return 1.0 - mean
        return math.sqrt(mean) if self.metric == "rmse" else mean


class Watched:
    """A guardrail with the sums of its metric after each block, so that any recent stretch is one subtraction."""

    def __init__(self, guardrail: Guardrail) -> None:
        self.guardrail = guardrail
        self._after: list[Sum] = [(0, 0.0, 0.0)]

    def add(self, losses: Sum, sums: Sums) -> None:
        """Take the next block: `losses` over it, and its sums."""
        metric = self.guardrail.metric
        block = losses if metric == "accuracy" else sums.get((METRIC, metric), (0, 0.0, 0.0))
        last = self._after[-1]
        self._after.append((last[0] + block[0], last[1] + block[1], last[2] + block[2]))

    def values(self, start: int = 0) -> tuple[float, float] | None:
        """(champion's, challenger's) value over the blocks from number `start` on, None when no event of them has one."""
        (n, champion, challenger), first = self._after[-1], self._after[start]
        n -= first[0]
        if n <= 0:
            return None
        value = self.guardrail.value
        return value(n, max(0.0, champion - first[1])), value(n, max(0.0, challenger - first[2]))

    def broken(self, start: int = 0) -> str:
        """Why it is broken over the blocks from number `start` on, "" when it holds."""
        rail, values = self.guardrail, self.values(start)
        if values is None:
            return f"{rail.metric} was not measured"
        champion, challenger = values
        worsening, allowed = rail.worsening(champion, challenger), rail.allowed(champion)
        if worsening <= allowed + ROUNDING:
            return ""
        return f"{rail.metric} {champion:.4g} → {challenger:.4g}, {worsening:.4g} worse where {allowed:.4g} is allowed"

    def numbers(self, start: int) -> dict[str, Any]:
        """How it stands over all blocks and over those from number `start` on: JSON-able."""
        rail = self.guardrail
        stretches: Mapping[str, int] = {"all": 0, "recent": start}
        return {
            **rail._asdict(),
            **{name: list(self.values(first) or ()) for name, first in stretches.items()},
            "broken": any(self.broken(first) for first in stretches.values()),
        }
