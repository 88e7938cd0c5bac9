"""A trial as it grew: its evidence, mean and confidence interval after so many events, kept small, for people alone.

Folded from the learners' "block" signals, so that a new control process comes to the same curve; no clock enters it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ..retrain.trial import Trial

MOST: Final = 200  # points that are kept; beyond that every other one goes, and only every other block is taken from then on
DIGITS: Final = 6  # significant ones

Point = tuple[int, float, float, float, float]  # events, e, mean difference, and the interval of that: low, high


@dataclass(slots=True)
class Growth:
    """`points` after every `stride`-th block that a trial took, from the first on; `newest` stands where the trial stands."""

    points: list[Point] = field(default_factory=list)
    stride: int = 1
    taken: int = 0
    newest: Trial | None = None

    def take(self, trial: Trial) -> None:
        """`trial` has just taken a block."""
        self.newest = trial
        if self.taken % self.stride == 0:
            self.points.append(_point(trial))
            if len(self.points) > MOST:
                self.points, self.stride = self.points[::2], 2 * self.stride
        self.taken += 1

    def doc(self) -> dict[str, list[Any]] | None:
        """Columns of one length, {events, e, mean, low, high}; the last row is where the trial stands. None before a block."""
        if self.newest is None:
            return None
        last = _point(self.newest)
        rows = self.points if self.points[-1] == last else [*self.points, last]
        return dict(zip(("events", "e", "mean", "low", "high"), map(list, zip(*rows, strict=True)), strict=True))


def _point(trial: Trial) -> Point:
    low, high = trial.interval()
    return trial.events, _short(trial.e), _short(trial.mean_difference), _short(low), _short(high)


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
