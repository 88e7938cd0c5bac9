"""One shard of a model as a deterministic function of its partition: `step(record)`, `apply(command)`, nothing else.

No I/O, no wall clock, no logging, no randomness but the seeded estimator's. For a labelled event the order is predict,
score, detect, learn, and what was predicted at question time is never computed again. What the world must hear (signals,
dead letters) is left in `signals` and `dead` for the worker to carry away.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ..config import ModelSettings, StreamSettings
from ..errors import EventError
from ..events import Event, Features, Kind, Limits, encode
from ..log import Record
from ..recommend.hearing import Heard
from ..records import LEFT_OUT, DeadLetter, Signal
from .arms import Arms
from .baselines import Baselines
from .canary import Canary
from .course import Course
from .inorder import InOrder
from .interactions import make_join
from .loss import Scaled, make_loss
from .paired import PairedBlocks
from .protocols import Watch, WatchMaker
from .recommending import AnyModel, make_model
from .scores import Scores
from .waiting import Entry

DELAYS: Final = 1000
METRICS_EVERY: Final = 256  # labelled events from one look at the window's metrics to the next, where a detector watches one
BETTER: Final = frozenset({"accuracy", "kappa", "roc_auc", "r2", "hit_rate", "ndcg", "mrr"})  # metrics of which more is better
ODD_IN_A_ROW: Final = 10  # one odd event may have no finite prediction; this many in a row tell of a ruined model


def mark(record: Record) -> int:
    """A checksum of what a record holds (CRC-32 of key and value)."""
    return zlib.crc32(record.value, zlib.crc32(record.key))


class Learner:
    """A shard's whole state. `model` names it; `place` is (stream, partition); it starts at log offset `start`."""

    def __init__(
        self,
        name: str,
        model: ModelSettings,
        stream: StreamSettings,
        limits: Limits,
        watches: WatchMaker,
        place: tuple[str, int],
        start: int,
    ) -> None:
        self.name = name
        self.settings = model
        self.limits = limits
        self.join = make_join(self, model, stream, limits, place, start)
        self.champion: AnyModel = make_model(model, limits)
        self.shadow: AnyModel | None = None
        self.parked: AnyModel | None = None
        self.version = 1
        self.shadow_version: int | None = None
        self.parked_version: int | None = None
        self.shadow_was_champion = False
        self.blocks: PairedBlocks | None = None
        self.arms: Arms | None = None
        self.canary: Canary | None = None
        self.scores = Scores(
            model.task, model.score_window, model.score_fading, model.recommend.k if model.task == "recommend" else None
        )
        self.loss = make_loss(model)
        self.watch: Watch = watches.new(model.drift, self.loss.kind)
        self.baselines = Baselines(model.task)
        self.course = Course()
        self.in_order = InOrder(model.max_pending) if model.default_label is not None else None
        self.held: str | None = None
        self.held_from: int | None = None
        self.held_join: bytes | None = None  # the join as it stood when the hold began
        self.held_ranges: list[tuple[int, int]] = []
        self.n = 0
        self.taught = 0  # by what is no question: see `teach`
        # A learner that starts over on a trimmed log must number above all that was read of it before, or control would take
        # its signals for repeats; a record causes far fewer than two.
        self.signal_seq = 2 * start
        self.odd_in_a_row = 0
        self.last_command = -1
        self.outcomes: dict[int, list[float]] = {}
        self.delays: deque[int] = deque(maxlen=DELAYS)  # of the last labels, in questions
        self.waits: deque[float] = deque(maxlen=DELAYS)  # the same in seconds of event time
        self.signals: list[Signal] = []
        self.dead: list[DeadLetter] = []
        self.shares: list[bytes] = []  # what the other shards are to be told
        self.telling: list[Heard] = []  # the same before it is enough to be sent, see `sharing`
        self.read_before: tuple[int, int] | None = None  # `last_read` as a checkpoint has it
        self._record = self._none_yet = Record(start, 0.0, Kind.EVENT, b"", b"")
        self.bind()

    def bind(self) -> None:
        """Resolve what the hot path calls; to be called whenever a part was replaced."""
        self.check: Callable[[Features], tuple[Features, dict[str, str]]] = self.champion.check
        self.label: Callable[[Any], Any] = self.champion.label
        self.accept: Callable[[dict[str, str]], None] = self.champion.accept
        # Models that differ in the types of their features take each their own of an event.
        self._mixed = self.champion.lenient or (self.shadow is not None and self.shadow.lenient)
        self._predict = self._predict_own if self._mixed else self.champion.predict
        self._learn = self._learn_own if self._mixed else self.champion.learn
        self._score = self.scores.add
        self._update = self.watch.update
        self._loss = self.loss.__call__
        self._learn_scale = self.loss.learn if isinstance(self.loss, Scaled) else None
        self._learn_label = self.baselines.learn
        self._detail = self.blocks.detail if self.blocks is not None and self.blocks.breakdown is not None else None
        wants = self.watch.wants
        self._watch_scores, self._watch_labels = "score" in wants, "label_rate" in wants
        self._watch_metrics = sorted(wants - {"score", "label_rate"})
        retrain = self.settings.retrain
        self._batch = retrain.batch
        self._shown_every = max(1, retrain.batch // retrain.sample) if retrain.sample else 0

    @property
    def position(self) -> int:
        """The next offset to read."""
        return self.join.position

    @property
    def last_read(self) -> tuple[int, int] | None:
        """(offset, `mark`) of the newest record taken, by which a log that is no longer the one that was read is found out."""
        record = self._record
        return self.read_before if record is self._none_yet else (record.offset, mark(record))

    @property
    def counters(self) -> dict[str, int]:
        """How often each rule applied, dead letters by reason included."""
        return self.join.counters

    def step(self, record: Record) -> None:
        """Take one record that is not a command. Never raises for what it holds."""
        self._record = record
        self.join.push(record)

    def skip(self, record: Record) -> None:
        """Move past a command's record, so that what it causes is dated by it."""
        self._record = record
        self.join.position = record.offset + 1

    # What the join drives.

    def question(self, entry: Entry) -> None:
        """Predict for new features. Raises EventError, before anything was remembered, when the pipeline cannot."""
        try:
            entry.y, entry.p = self._predict(entry.x)
        except EventError as error:
            if error.reason == "not_finite_prediction":
                self._count_odd(error.detail)
            raise
        except Exception as error:
            raise EventError("unlearnable", "x", f"predicting raised {error!r}") from error
        if self.odd_in_a_row:
            self.odd_in_a_row = 0
        if self._watch_scores:
            self.watch.observe("score", _score_of(entry))
        entry.version = self.version
        entry.last, entry.majority = self.baselines.last, self.baselines.usual
        if self.shadow is not None and self.blocks is not None:
            try:
                x = self.shadow.meet(entry.x) if self._mixed else entry.x
                entry.shadow_y, entry.shadow_p = self.shadow.predict(x)
            except Exception as error:
                self.drop_shadow(f"predicting raised {error!r}")
                return
            entry.trial = self.blocks.trial
            entry.block = self.blocks.ask()

    def _predict_own(self, x: Features) -> tuple[Any, Any]:
        own = self.champion.own(x)
        if own is not x:
            self.counters[LEFT_OUT] = self.counters.get(LEFT_OUT, 0) + 1
        return self.champion.predict(own)

    def _learn_own(self, x: Features, y: Any) -> None:
        self.champion.learn(self.champion.own(x), y)

    def _count_odd(self, detail: str) -> None:
        self.odd_in_a_row += 1
        if self.odd_in_a_row == ODD_IN_A_ROW:
            self.hold(f"{ODD_IN_A_ROW} predictions in a row were not finite; of the last one, {detail}")

    def answer(self, entry: Entry, y: Any) -> bool:
        """Score, detect, learn. An exception of the pipeline makes a dead letter, never a crash loop."""
        self.n = n = self.n + 1
        join = self.join
        self.delays.append(join.seq - entry.seq)
        self.waits.append((join.newest or entry.ts) - entry.ts)
        self._score(y, entry.y, entry.p, entry.last, entry.majority)
        if self._watch_labels:
            self.watch.observe("label_rate", self._label_value(y))
        if self._watch_metrics and n % METRICS_EVERY == 0:
            self._observe_metrics()
        self._learn_label(y)
        loss = self._loss(y, entry.y) if entry.version == self.version else None
        if self._shown_every and loss is not None and n % self._shown_every == 0:
            self.course.show(loss, entry.x, self.settings.retrain.sample)
        if self.in_order is not None:
            self.in_order.settle(entry.seq, None if loss is None else (loss, entry.offset))
            self._release()
        elif loss is not None:
            note = self._update(loss, entry.offset, n)
            if note is not None:
                self.tell(note.kind, note.data)
            course = self.course
            course.loss += loss
            course.n += 1
            if course.n >= self._batch:
                self.tell("batch", course.end())
        if entry.served is not None:
            self._attribute(entry, y, loss)
        if entry.trial >= 0:
            self._settle(entry, y, loss)
        if self._learn_scale is not None:
            self._learn_scale(y)
        if self.held is not None:
            return True
        taught = True
        try:
            self._learn(entry.x, y)
        except Exception as error:
            taught = False
            self.refuse_entry(entry, y, f"learning raised {error!r}")
        if self.shadow is not None:
            try:
                self.shadow.learn(self.shadow.own(entry.x) if self._mixed else entry.x, y)
            except Exception as error:
                self.drop_shadow(f"learning raised {error!r}")
        return taught

    def _label_value(self, y: Any) -> float:
        """What a watch over labels sees: the label itself, of several classes whether it is other than the usual one."""
        return float(y != self.baselines.usual if self.settings.task == "multiclass" else y)

    def _observe_metrics(self) -> None:
        window = self.scores.view()["window"]
        for name in self._watch_metrics:
            value = window[name]
            if value is not None:
                self.watch.observe(name, 1 - value if name in BETTER else value)

    def unanswered(self, entry: Entry) -> None:
        """No label will come: the question's block must not wait for it."""
        if self.in_order is not None:
            self.in_order.settle(entry.seq, None)
            self._release()
        if entry.trial >= 0 and self.blocks is not None and entry.trial == self.blocks.trial:
            self.blocks.give_up(entry.block)
            self._emit_blocks()

    def teach(self, kind: str, given: Any) -> None:
        """Only a recommender is taught by what is no question: see `recommend_learner`."""

    def view(self) -> dict[str, Any]:
        """Its scores, as JSON-able values."""
        return self.scores.view()

    def refuse(self, record: Record, reason: str, detail: str) -> None:
        """A dead letter, and its counter."""
        self.counters[reason] = self.counters.get(reason, 0) + 1
        self.dead.append(
            DeadLetter(
                self.name,
                self.join.stream,
                self.join.partition,
                record.offset,
                record.ts,
                reason,
                detail[:1000],
                record.key.decode(errors="replace"),
                record.value,
            )
        )

    def refuse_entry(self, entry: Entry, y: Any, detail: str) -> None:
        """Features and label, when they came apart, make one event again: what a person can mend and send."""
        record = self._record
        if entry.offset != record.offset:
            event = Event(self.join.stream, entry.id, entry.ts, entry.key, entry.x, self.champion.unlabel(y))
            record = Record(entry.offset, record.ts, Kind.EVENT, (entry.key or entry.id).encode(), encode(event))
        self.refuse(record, "unlearnable", detail)

    def _attribute(self, entry: Entry, y: Any, champion: float | None) -> None:
        version, served = entry.served
        try:
            loss = self.loss(y, self.champion.label(served))
        except EventError:
            return
        if loss is not None:
            row = self.outcomes.setdefault(version, [0.0, 0.0])
            row[0] += 1
            row[1] += loss
        canary, blocks = self.canary, self.blocks
        if canary is None or blocks is None or loss is None or champion is None:
            return
        if entry.trial == blocks.trial and entry.block in blocks.open and version in (self.version, self.shadow_version):
            canary.outcome(entry.block, loss - champion, challenger=version == self.shadow_version)

    def _settle(self, entry: Entry, y: Any, champion: float | None) -> None:
        blocks = self.blocks
        if blocks is None or entry.trial != blocks.trial:
            return
        challenger = self._loss(y, entry.shadow_y)
        if champion is None or challenger is None:
            blocks.give_up(entry.block)
            self._emit_blocks()
            return
        if self._detail is not None:
            self._detail(entry.block, entry, y, champion, challenger)
        if blocks.answer(entry.block, champion, challenger):
            self._emit_blocks()

    def _emit_blocks(self) -> None:
        assert self.blocks is not None
        for data in self.blocks.take_closed():
            if self.canary is not None:
                data |= self.canary.close(data["block"])
            self.tell("block", data)

    def _release(self) -> None:
        assert self.in_order is not None
        course = self.course
        for loss, offset in self.in_order.released():
            note = self._update(loss, offset, self.n)
            if note is not None:
                self.tell(note.kind, note.data)
            course.loss += loss
            course.n += 1
            if course.n >= self._batch:
                self.tell("batch", course.end())

    # What commands and accidents change; see `commands.py`.

    def hold(self, reason: str) -> None:
        """Go on reading, predicting and scoring, but learn nothing until `resume`."""
        if self.held is None:
            self.held, self.held_from, self.held_join = reason, self.position, self.join.state()
            self.tell("held", {"reason": reason, "offset": self.position})

    def resume(self, skipped: bool = True) -> None:
        """Learn again. A held range that is `skipped` is recorded, and what of it waits for its other half is not learned."""
        if self.held_from is not None and skipped:
            self.held_ranges.append((self.held_from, self.position))
            self.join.skip_waiting(self.held_from)
        self.held = self.held_from = self.held_join = None

    def drop_shadow(self, reason: str) -> None:
        """The shadow failed: it is let go, and control hears of it."""
        version = self.shadow_version
        self.end_trial()
        self.tell("shadow_failed", {"version": version, "reason": reason})

    def end_trial(self) -> None:
        """The shadow is let go, with all that compares it with the champion."""
        self.shadow = self.shadow_version = self.blocks = self.arms = self.canary = None
        self.shadow_was_champion = False

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Leave a signal for control."""
        ts = self._record.ts
        self.signals.append(
            Signal(self.name, self.join.partition, self.signal_seq, kind, self.version, self.position, self.n, ts, data)
        )
        self.signal_seq += 1


def _score_of(entry: Entry) -> float:
    """The prediction as one number: P(positive), the highest probability of a class, or the number predicted."""
    if entry.p is None:
        return float(entry.y) if isinstance(entry.y, int | float) else 1.0
    return float(max(entry.p.values(), default=1.0) if isinstance(entry.p, dict) else entry.p)
