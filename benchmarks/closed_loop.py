"""The loop in one process and on a clock of its own: the service's learner, watch, control, fit and trial, nothing imitated.

Events come by the page at a stated rate, and control looks after each page; live it polls twice as often. A fit takes a stated
number of events, so that a retrain costs what arrives meanwhile; then it is made at once. Labels come with their events. What
is scored is what would have been answered: in a canary the challenger's predictions for its share of the keys.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from streamlearn.config import Settings
from streamlearn.control.loop import Control
from streamlearn.drift.offline import Recorder
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import RetrainError
from streamlearn.events import Event, Features, encode, unit_of
from streamlearn.keys import KeyRing
from streamlearn.learning.protocols import WatchMaker
from streamlearn.learning.replay import advance, new_learner
from streamlearn.learning.scores import Scores
from streamlearn.learning.waiting import Entry as Question
from streamlearn.log import CONTROL, SIGNALS, Entry
from streamlearn.records import Command, Decision, Status, decode_control
from streamlearn.retrain.job import FitSpec, fit
from streamlearn.retrain.scoring import ScoreSpec, score
from streamlearn.store.links import kept_version
from streamlearn.testing import DoneJob, FakeClock, MemoryLog, MemoryStore

KEYS: Final = KeyRing({"bench": b"0123456789abcdef"})
MODEL: Final = "m"
STREAM: Final = "s"
PAGE: Final = 20
RATE: Final = 100.0  # events a second, by the loop's own clock
FIT_EVENTS: Final = 100  # that arrive while a fit runs: at this rate a second, in which some thousand records are learned

Pair = tuple[Features, Any]


class Kept(Scores):
    """Scores that also keep whether each answer was right, so that two models can be compared event by event.

    `instead`: the prediction and its probabilities that were answered to the next event, where not the champion's.
    """

    def __init__(self, task: str, window: int, fading: float) -> None:
        super().__init__(task, window, fading)
        self.right: list[bool] = []
        self.instead: tuple[Any, Any] | None = None

    def add(self, y: Any, y_pred: Any, p: Any, last: Any, majority: Any) -> None:
        """See `Scores.add`."""
        if self.instead is not None:
            y_pred, p = self.instead
            self.instead = None
        super().add(y, y_pred, p, last, majority)
        self.right.append(y_pred == y)


class Alone:
    """The learner of the service on its log, without control: the recipe as it is. Its watch notices nothing."""

    watches: WatchMaker = Recorder()

    def __init__(self, settings: Settings) -> None:
        self.settings, self.clock = settings, FakeClock()
        self.log, self.store = MemoryLog(clock=self.clock), MemoryStore(clock=self.clock)
        self.log.create({STREAM: 1})
        self.learner = new_learner(settings, MODEL, 0, 0, self.watches)
        model = settings.models[MODEL]
        self.kept = Kept(model.task, model.score_window, model.score_fading)
        self.learner.scores = self.kept
        self.learner.bind()
        self.taught = self.learner.answer
        self.learner.answer = self.answered
        self.count = 0
        self.learn_s = 0.0  # CPU seconds of the learner, what it replays into a version to be tried included

    def answered(self, entry: Question, y: Any) -> bool:
        """A label comes: note whose prediction was answered, then score and learn."""
        canary, blocks = self.learner.canary, self.learner.blocks
        tried = canary is not None and blocks is not None and entry.trial == blocks.trial
        if canary is not None and tried and unit_of(canary.salt, entry.key or entry.id) < canary.share:
            self.kept.instead = entry.shadow_y, entry.shadow_p
        return self.taught(entry, y)

    def feed(self, pairs: Sequence[Pair]) -> None:
        """Append a page, learn it, and let time pass. Raises AssertionError when an event could not be learned."""
        entries = []
        for x, y in pairs:
            event = Event(STREAM, id=str(self.count), x=x, y=y)
            entries.append(Entry(str(self.count).encode(), encode(event)))
            self.count += 1
        self.log.append(STREAM, entries).result()
        self.clock.advance(len(entries) / RATE)
        self.turn()
        assert self.learner.n == self.count, self.learner.dead[:1]

    def turn(self) -> None:
        """Read what is new."""
        self.read()

    def read(self) -> None:
        """Take the log to its end."""
        learner = self.learner
        records = self.log.read(STREAM, 0, learner.position, 10_000)
        started = time.process_time()
        advance(learner, records, self.settings, self.log, KEYS, self.resolve)
        self.learn_s += time.process_time() - started

    def resolve(self, command: Command, shard: int) -> Kept:
        """The version that a command names."""
        kept = kept_version(self.store, MODEL, command.version or 0, shard)
        assert kept is not None
        return kept


class Loop(Alone):
    """The same with its watch and control. CPU seconds: `fit_s` of fits, `control_s` of control, which live elsewhere."""

    watches: WatchMaker = DriftWatch

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.fit_s = self.control_s = 0.0
        handles = self.log.reopen(), self.store.reopen()
        self.control = Control(settings, *handles, KEYS, self, self.clock, timer=self.clock)

    def turn(self) -> None:
        """The learner reads, control looks and sends, the learner obeys."""
        self.read()
        self._tell()
        fitted, started = self.fit_s, time.process_time()
        self.control.tick()
        self.control_s += time.process_time() - started - (self.fit_s - fitted)
        self.read()
        self._tell()

    def _tell(self) -> None:
        learner, log = self.learner, self.log
        told = [Entry(MODEL.encode(), msgspec.json.encode(signal), partition=0) for signal in learner.signals]
        learner.signals.clear()
        if told:
            log.append(SIGNALS, told).result()
        status = Status(
            MODEL, 0, 0, learner.version, learner.shadow_version, learner.position, learner.position, log.identity(STREAM),
            self.clock(), learner.n, None, learner.held, {}, 0, 0, {},
        )  # fmt: skip
        self.store.put_status(MODEL, 0, 0, msgspec.json.encode(status))

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> Fit:
        """Begin a fit: this is control's `Jobs`."""
        return Fit(self, spec)

    def score(self, spec: ScoreSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
        """Score a candidate of a search, at once. Its CPU counts as a fit's."""
        started = time.process_time()
        try:
            return DoneJob(score(spec, self.log.reopen, lambda done, total: None))
        except RetrainError as error:
            return DoneJob(error)
        finally:
            self.fit_s += time.process_time() - started

    def decisions(self) -> list[Decision]:
        """All that control decided, in order."""
        records = [decode_control(record.value) for record in self.log.read(CONTROL, 0, 0, self.log.bounds(CONTROL, 0)[1])]
        return [record for record in records if isinstance(record, Decision)]


class Fit:
    """A fit, made when FIT_EVENTS have come since it was asked for."""

    def __init__(self, loop: Loop, spec: FitSpec) -> None:
        self._loop, self._spec, self._due = loop, spec, loop.count + FIT_EVENTS

    def progress(self) -> tuple[int, int]:
        """Events since it began, and until it ends."""
        return FIT_EVENTS - max(0, self._due - self._loop.count), FIT_EVENTS

    def cancel(self) -> None:
        """Nothing runs."""

    def done(self) -> bool:
        """Whether its time is over."""
        return self._loop.count >= self._due

    def result(self) -> bytes:
        """Make it. Raises RetrainError."""
        started = time.process_time()
        try:
            return fit(self._spec, self._loop.log.reopen, KEYS, lambda done, total: None)
        finally:
            self._loop.fit_s += time.process_time() - started
