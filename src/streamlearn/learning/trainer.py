"""Teach a model by replaying records: the learner's own rules of acceptance and joining, nothing predicted or scored.

A retrain fits with it, and a learner that is told to try a version brings it up to the command's position with it, so both
see the very same pairs in the same order. It opens nothing: records are handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self

import msgspec

from ..config import ModelSettings, StreamSettings
from ..errors import RetrainError
from ..events import Features, Kind, Limits
from ..log import Record
from ..log.ranges import merged, within
from .batch import Batch
from .interactions import make_join
from .recommending import AnyModel, make_model, recommender
from .sampling import Decay, EvenSample
from .waiting import Entry

REHEARSED: Final = 500  # labelled events whose predictions are kept
REHEARSED_RECORDS: Final = 4 * REHEARSED  # before the end, in which these are looked for: features and labels may come apart
_COMMAND: Final = int(Kind.COMMAND)


class Trainer:
    """A model and the join that feeds it. `learned` counts labelled events, `skipped` those that raised, `thinned` those that a
    `decay` left out. Memory that runs out ends it: MemoryError passes through `feed` and `repeat`.

    Of features at `rehearse_from` and later it also predicts, when the question is asked, as a learner would. `rehearsed` keeps
    the last of these with their labels: (offset of the features, label, prediction). That is what a trial of this model knows
    before its first event.

    What the live learner's pipeline could not predict or learn is learned here when this model can: it is another model.
    """

    def __init__(
        self,
        name: str,
        model: ModelSettings,
        stream: StreamSettings,
        limits: Limits,
        stream_name: str,
        partition: int,
        start: int,
        fitted: AnyModel,
    ) -> None:
        self.name = name
        self.model = fitted
        self.learned = 0
        self.skipped = 0
        self.thinned = 0
        self.decay: Decay | None = None
        self.check, self.label, self.accept = fitted.check, fitted.label, fitted.accept
        self._join = make_join(self, model, stream, limits, (stream_name, partition), start)
        self.rehearse_from: int | None = None
        self.rehearsed: deque[tuple[int, Any, Any]] = deque(maxlen=REHEARSED)
        self._min_events = model.retrain.min_events
        self._passed_over: list[tuple[int, int]] = []
        most = model.retrain.strategy.max_events
        self._pairs: EvenSample[tuple[Features, Any]] | None = EvenSample(most) if model.retrain.epochs > 1 else None

    @classmethod
    def new(
        cls,
        name: str,
        model: ModelSettings,
        stream: StreamSettings,
        limits: Limits,
        stream_name: str,
        partition: int,
        start: int,
    ) -> Self:
        """A trainer of a model that has seen nothing, reading from offset `start`. Raises ModelError."""
        trainer = cls(name, model, stream, limits, stream_name, partition, start, make_model(model, limits, live=False))
        estimator = trainer.model.estimator
        if isinstance(estimator, Batch):
            estimator.gather_at_most(model.retrain.strategy.max_events)
            trainer._pairs = None  # it takes all of the window at once, as often as it likes
        return trainer

    @classmethod
    def restore(
        cls,
        name: str,
        model: ModelSettings,
        stream: StreamSettings,
        limits: Limits,
        stream_name: str,
        partition: int,
        fitted: AnyModel,
        parts: Mapping[str, bytes],
    ) -> Self:
        """The trainer whose model and `parts()` were given."""
        trainer = cls(name, model, stream, limits, stream_name, partition, 0, fitted)
        trainer.model.bound(limits, model)
        trainer._join.load(parts["join"])
        if "rehearsed" in parts:
            trainer.rehearsed.extend(msgspec.msgpack.decode(parts["rehearsed"], type=list[tuple[int, Any, Any]]))
        trainer._pairs = None
        return trainer

    @classmethod
    def warm(
        cls,
        name: str,
        model: ModelSettings,
        stream: StreamSettings,
        limits: Limits,
        stream_name: str,
        partition: int,
        start: int,
        fitted: AnyModel,
    ) -> Self:
        """A trainer of a model that has learned already, with a join of its own from `start` on."""
        trainer = cls(name, model, stream, limits, stream_name, partition, start, fitted)
        trainer.model.bound(limits, model)
        return trainer

    @property
    def position(self) -> int:
        """The next offset to feed."""
        return self._join.position

    def pass_over(self, ranges: Iterable[Sequence[int]]) -> None:
        """Records at the offsets in these ranges [from, to) move the position on, and are neither joined nor learned.

        Features before such a range whose label lies in it are let go. A label after it whose features lie in it joins nothing:
        it is an orphan here, and not learned either. So an event is learned only if both its halves lie outside.
        """
        self._passed_over = merged([*self._passed_over, *ranges])

    def feed(self, records: Sequence[Record]) -> int:
        """Take records in order; returns how many labelled events were learned from them."""
        before = self.learned
        for record in records:
            if record.kind == _COMMAND:
                self._join.position = record.offset + 1
            elif self._passed_over and within(self._passed_over, record.offset):
                self._join.pass_over(record)
            else:
                self._join.push(record)
        return self.learned - before

    @property
    def place(self) -> tuple[str, int]:
        """The stream and the partition that it is fed from."""
        return self._join.stream, self._join.partition

    @property
    def repeated(self) -> tuple[int, int]:
        """How many pairs `repeat` passes over, and of how many learned: of more than `retrain.strategy.max_events` an even
        sample is kept."""
        return (0, 0) if self._pairs is None else (len(self._pairs.kept), self._pairs.seen)

    def repeat(self) -> None:
        """One more pass over the pairs learned so far; only kept when the model's `retrain.epochs` is above 1."""
        for x, y in () if self._pairs is None else self._pairs.kept:
            try:
                self.model.learn(self._own(x), y)
            except MemoryError:
                raise
            except Exception:
                self.skipped += 1

    def forget_pairs(self) -> None:
        """The window is over, and no more passes will come: what follows is learned once, as it arrives.

        A batch estimator is fitted here. Raises ModelError when it cannot be, RetrainError "empty" for too few labelled events.
        """
        self._pairs = None
        estimator = self.model.estimator
        if isinstance(estimator, Batch) and estimator.gathering:
            if self.learned < self._min_events:
                raise RetrainError(
                    "empty", f"{self.learned} labelled events in the window; retrain.min_events asks for {self._min_events}"
                )
            estimator.fit_gathered()

    def parts(self) -> dict[str, bytes]:
        """The parts of a version's blob beside its "model": "join" and "rehearsed" (MessagePack)."""
        return {"join": self._join.state(), "rehearsed": msgspec.msgpack.encode(list(self.rehearsed))}

    # What the join drives.

    def question(self, entry: Entry) -> None:
        """Predict only what is rehearsed. What cannot be predicted is not."""
        if self.rehearse_from is not None and entry.offset >= self.rehearse_from:
            try:
                entry.y, entry.p = self.model.predict(self._own(entry.x))
            except MemoryError:
                raise
            except Exception:
                entry.y = None

    def answer(self, entry: Entry, y: Any) -> bool:
        """Learn; an event that the pipeline cannot take is skipped and counted, as the learner dead-letters it."""
        if entry.y is not None and self.rehearse_from is not None:
            self.rehearsed.append((entry.offset, y, entry.y))
        if self.decay is not None and not self.decay.passes(entry.offset):
            self.thinned += 1
            return True
        try:
            self.model.learn(self._own(entry.x), y)
        except MemoryError:
            raise
        except Exception:
            self.skipped += 1
            return False
        self.learned += 1
        if self._pairs is not None:
            self._pairs.add((entry.x, y))
        return True

    def _own(self, x: Features) -> Features:
        return self.model.own(x) if self.model.lenient else x

    def unanswered(self, entry: Entry) -> None:
        """Nothing to learn."""

    def teach(self, kind: str, given: Any) -> None:
        """What teaches a recommender and is no question; what it cannot take is skipped and counted."""
        try:
            recommender(self.model).teach(kind, given)
        except MemoryError:
            raise
        except Exception:
            self.skipped += 1

    def refuse(self, record: Record, reason: str, detail: str) -> None:
        """The live learner has told of it already."""
