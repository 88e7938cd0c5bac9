"""A trainer that teaches nothing, and keeps what it would have taught: the labelled events of a window, in order."""

from __future__ import annotations

from typing import Any

from ..config import ModelSettings, StreamSettings
from ..events import Features, Limits
from .model import Model
from .sampling import EvenSample
from .trainer import Trainer
from .waiting import Entry


class Sampler(Trainer):
    """`sample`: (features, label as the estimator takes it), an even sample of at most `retrain.strategy.max_events`."""

    def __init__(
        self,
        name: str,
        model: ModelSettings,
        stream: StreamSettings,
        limits: Limits,
        stream_name: str,
        partition: int,
        start: int,
        fitted: Model,
    ) -> None:
        super().__init__(name, model, stream, limits, stream_name, partition, start, fitted)
        self.sample: EvenSample[tuple[Features, Any]] = EvenSample(model.retrain.strategy.max_events)

    def answer(self, entry: Entry, y: Any) -> bool:
        """Keep it, or not, as the sample goes."""
        self.sample.add((self._own(entry.x), y))
        self.learned += 1
        return True
