"""The loss of one prediction, in [0, 1]: what detectors watch and trials compare.

Classes: 0 or 1 for right or wrong. Numbers: the absolute error over a scale, cut at 1; the scale is the configured
`loss_scale`, else four standard deviations of the first labels, frozen then so that a loss means the same ever after.
Recommendations: what the rank of the wanted item lacks of a full gain.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from ..config import ModelSettings

SCALE_LABELS: Final = 200
SCALE_DEVIATIONS: Final = 4.0


class ZeroOne(msgspec.Struct, array_like=True):
    """1 for a wrong class, 0 for the right one."""

    @property
    def kind(self) -> str:
        return "binary"

    def __call__(self, y: Any, predicted: Any) -> float | None:
        return 0.0 if predicted == y else 1.0


class Scaled(msgspec.Struct, array_like=True):
    """min(1, |y − ŷ| / scale); None until the scale is known. Mean and squares by Welford's recurrence."""

    scale: float | None = None
    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def kind(self) -> str:
        return "bounded"

    def __call__(self, y: Any, predicted: Any) -> float | None:
        if self.scale is None:
            return None
        return min(1.0, float(abs(y - predicted)) / self.scale)

    def learn(self, y: Any) -> None:
        """Take a label into the scale, while it is not frozen."""
        if self.scale is not None:
            return
        step = y - self.mean
        mean = self.mean + step / (self.n + 1)
        squares = self.squares + step * (y - mean)
        if not math.isfinite(squares):  # a label near the largest float would make the scale infinite
            return
        self.n, self.mean, self.squares = self.n + 1, mean, squares
        if self.n >= SCALE_LABELS and self.squares > 0:
            self.scale = SCALE_DEVIATIONS * math.sqrt(self.squares / self.n)


class RankLoss(msgspec.Struct, array_like=True):
    """1 − 1 / log2(1 + rank) for a rank from 1 to k, else 1: what NDCG lacks of 1. None where nothing was ranked."""

    k: int

    @property
    def kind(self) -> str:
        return "bounded"

    def __call__(self, y: Any, predicted: Any) -> float | None:
        if predicted is None:
            return None
        return 1.0 - 1.0 / math.log2(1.0 + predicted) if 1 <= predicted <= self.k else 1.0


Loss = ZeroOne | Scaled | RankLoss


def make_loss(model: ModelSettings) -> Loss:
    """The loss of a model's task."""
    if model.task == "recommend":
        return RankLoss(model.recommend.k)
    return Scaled(model.loss_scale) if model.task == "regression" else ZeroOne()
