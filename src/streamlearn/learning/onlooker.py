"""Trainers that do not train, by the learner's own rules of joining: one predicts for features and keeps the losses, which a
model that learned nothing since some time would have had on the records since; one only keeps the labelled events. They open
nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..config import ModelSettings, StreamSettings
from ..events import Features, Limits
from ..log import Record
from .interactions import FACTS
from .recommending import AnyModel
from .trainer import Trainer
from .waiting import Entry


class Onlooker(Trainer):
    """`losses` are those of labels at the offsets [after, …), in their order, of features at `start` or later.

    `loss` is the learner's own. A prediction that raises makes no loss: the live learner has refused that event too.
    """

    def __init__(
        self,
        name: str,
        model: ModelSettings,
        stream: StreamSettings,
        limits: Limits,
        place: tuple[str, int],
        start: int,
        after: int,
        frozen: AnyModel,
        loss: Callable[[Any, Any], float | None],
    ) -> None:
        frozen.bound(limits, model)
        super().__init__(name, model, stream, limits, *place, start, frozen)
        self.losses: list[float] = []
        self._after, self._loss = after, loss
        self._fresh = False

    def feed(self, records: Sequence[Record]) -> int:
        """Take records in order; returns how many losses came of them."""
        before = len(self.losses)
        for record in records:
            self._fresh = record.offset >= self._after
            super().feed((record,))
        return len(self.losses) - before

    def question(self, entry: Entry) -> None:
        """Predict, as the model was."""
        entry.y, entry.p = self.model.predict(self._own(entry.x))

    def answer(self, entry: Entry, y: Any) -> bool:
        """Keep the loss, and learn nothing."""
        loss = self._loss(y, entry.y) if self._fresh else None
        if loss is not None:
            self.losses.append(loss)
        return True

    def teach(self, kind: str, given: Any) -> None:
        """Facts are no lesson: an item that is gone is gone for a model as it was, too."""
        if kind in FACTS:
            super().teach(kind, given)


class Gatherer(Trainer):
    """`pairs` are the last `most` labelled events, as `Model.learn` takes them. The model checks them, and is not changed."""

    def __init__(
        self,
        name: str,
        model: ModelSettings,
        stream: StreamSettings,
        limits: Limits,
        place: tuple[str, int],
        start: int,
        checking: AnyModel,
        most: int,
    ) -> None:
        super().__init__(name, model, stream, limits, *place, start, checking)
        self.accept = _forget
        self.pairs: deque[tuple[Features, Any]] = deque(maxlen=most)

    def question(self, entry: Entry) -> None:
        """Nothing is predicted."""

    def answer(self, entry: Entry, y: Any) -> bool:
        """Keep the pair, and learn nothing."""
        self.pairs.append((entry.x, y))
        return True

    def teach(self, kind: str, given: Any) -> None:
        """Nothing is learned."""


def _forget(types: Mapping[str, str]) -> None:
    """The types of new features are not remembered."""
