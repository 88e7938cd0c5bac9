"""The label join: which records are accepted, which features wait for a label, which label belongs to which features.

The same rules teach a live learner and a retrain that replays the log, so they live here once and drive a `Handler`.
Nothing here predicts, scores or learns, and the only clock is event time (the largest accepted `ts` less the allowed
lateness). Every rule has a counter; what cannot be used is refused with a reason of `events.REASONS`.

    features (x)          first of its id: asked, then waits; a repeat is dropped (`duplicate_features`)
    label (y)             joins the waiting features; before them: kept for as long (`early_labels`); the same again is
                          dropped (`duplicate_labels`); another one is refused (`correction`); after the wait: `late`;
                          never joined: `orphan`
    both                  asked and answered at once
    wait over             the default label is learned (`defaulted`), or the features are let go (`expired`)
    too many waiting      the oldest is treated as if its wait were over (`pushed_out`)
    logged prediction     its features count as x when none came before; it is kept for the outcome
    late event            learned all the same, counted (`late_events`); it does not move the clock
    heartbeat             an idle partition's clock advances by the append time that passed
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Protocol

import msgspec

from ..config import ModelSettings, StreamSettings
from ..errors import EventError
from ..events import Event, Features, Kind, Limits, decode_event, decode_prediction, parse_time, partition_of
from ..log import Record

WAITING: Final = b"waiting"  # bytes, which JSON does not have, so no label can be mistaken for them
EXPIRED: Final = b"expired"


class Entry(msgspec.Struct, array_like=True):
    """Features on their way to a label. `seq` counts the shard's questions; the rest is what was predicted at the time."""

    id: str
    x: Any
    offset: int
    ts: float
    deadline: float
    seq: int = 0
    version: int = 0
    y: Any = None
    p: Any = None
    last: Any = None
    majority: Any = None
    shadow_y: Any = None
    shadow_p: Any = None
    trial: int = -1
    block: int = -1
    served: Any = None
    done: bool = False


class Early(msgspec.Struct, array_like=True):
    """A label that came before its features."""

    id: str
    y: Any
    deadline: float
    offset: int
    ts: float
    key: bytes
    raw: bytes


class JoinState(msgspec.Struct, array_like=True):
    """All that a join remembers, as a checkpoint keeps it."""

    position: int
    newest: float | None
    last_append: float
    seq: int
    order: list[Entry]
    early: list[Early]
    young: tuple[list[str], list[Any]]
    old: tuple[list[str], list[Any]]
    counters: dict[str, int]


class Handler(Protocol):
    """What a join drives. `clean`, `label` and `question` may raise EventError; `answer` and `unanswered` never do,
    since they are also called for other events than the one at hand."""

    def clean(self, x: Features) -> Features: ...
    def label(self, y: Any) -> Any: ...
    def question(self, entry: Entry) -> None:
        """Features were accepted: predict."""

    def answer(self, entry: Entry, y: Any) -> None:
        """Their label is known: score, detect, learn."""

    def unanswered(self, entry: Entry) -> None:
        """Their label never came, and there is no default."""

    def refuse(self, record: Record, reason: str, detail: str) -> None:
        """A record, or the part of it that cannot be used, goes to the dead letters."""


class Join:
    """The join of one shard; see the module's table for its rules."""

    def __init__(
        self, handler: Handler, model: ModelSettings, stream: StreamSettings, limits: Limits, place: tuple[str, int], start: int
    ) -> None:
        self.position = start
        self.stream, self.partition = place
        self.partitions = stream.partitions
        self.newest: float | None = None
        self.seq = 0
        self.counters: dict[str, int] = {}
        self.pending: dict[str, Entry] = {}
        self.early: dict[str, Early] = {}
        self._handler = handler
        self._order: deque[Entry] = deque()
        self._early_order: deque[Early] = deque()
        self._young: dict[str, Any] = {}
        self._old: dict[str, Any] = {}
        self._last_append = 0.0
        self._lateness = stream.allowed_lateness_s
        self._wait = model.label_wait_s
        self._max_pending = model.max_pending
        self._max_ids = model.dedupe_ids
        self._max_string = limits.max_string
        self._max_bytes = limits.max_event_bytes
        self._max_ahead = limits.max_ahead_s
        self._default = model.default_label

    @property
    def clock(self) -> float | None:
        """Event time, Unix seconds, below which nothing is waited for; None before the first event."""
        return None if self.newest is None else self.newest - self._lateness

    def push(self, record: Record) -> None:
        """Take the next record of the partition. Never raises for what a record holds."""
        self.position = record.offset + 1
        try:
            if record.kind == Kind.EVENT:
                self._event(record)
            elif record.kind == Kind.PREDICTION:
                self._prediction(record)
            elif record.kind == Kind.HEARTBEAT:
                self._heartbeat(record.ts)
        except EventError as error:
            self._handler.refuse(record, error.reason, f"{error.field}: {error.detail}")

    def _event(self, record: Record) -> None:
        if len(record.value) > self._max_bytes:
            raise EventError("too_large", "$", f"has {len(record.value)} bytes, more than {self._max_bytes}")
        event = decode_event(record.value)
        ts = self._check(event, record)
        x, y = event.x, event.y
        if x is not None:
            x = self._handler.clean(x)
        if y is not None:
            y = self._handler.label(y)
        elif x is None:
            self._count("ignored")
            return
        id = event.id or f"{self.partition}-{record.offset}"
        self._advance(ts, record.ts)
        known = self._young.get(id)
        if known is None:
            known = self._old.get(id)
        if x is None:
            self._label(id, y, known, ts, record)
        elif known is not None:
            self._count("duplicate_features")
            if y is not None:
                self._label(id, y, known, ts, record)
        else:
            self._features(id, x, y, ts, record.offset)

    def _check(self, event: Event, record: Record) -> float:
        """The event's time. Raises EventError for what needs neither model nor state to be seen wrong."""
        if event.stream != self.stream:
            raise EventError("unknown_stream", "stream", f"is {event.stream!r} on the log of {self.stream!r}")
        for name, value in (("id", event.id), ("key", event.key)):
            if value is not None and len(value) > self._max_string:
                raise EventError("too_long", name, f"has {len(value)} characters, more than {self._max_string}")
        if self.partitions > 1 and partition_of(record.key, self.partitions) != self.partition:
            owner = partition_of(record.key, self.partitions)
            raise EventError("misrouted", "key", f"belongs to partition {owner}; partition by murmur2 of the key")
        if event.id is None and event.x is None and event.y is not None:
            raise EventError("shape", "id", "a label alone needs the id of its features")
        if event.ts is None:
            return record.ts
        ts = parse_time(event.ts)
        if ts > record.ts + self._max_ahead:
            raise EventError("future", "ts", f"lies {ts - record.ts:.0f} s ahead of its append time")
        return ts

    def _features(self, id: str, x: Features, y: Any, ts: float, offset: int) -> None:
        newest = self.newest if self.newest is not None else ts
        entry = Entry(id, x, offset, ts, newest + self._wait, self.seq + 1)
        self._handler.question(entry)
        self.seq += 1
        early = self.early.pop(id, None) if self.early else None
        if early is not None and y is None:
            y = early.y
            self._count("early_labels")
        if y is not None:
            self._remember(id, y)
            entry.done = True
            self._handler.answer(entry, y)
            return
        self._remember(id, WAITING)
        self.pending[id] = entry
        self._order.append(entry)
        if len(self.pending) > self._max_pending:
            self._let_go_of_oldest()

    def _label(self, id: str, y: Any, known: Any, ts: float, record: Record) -> None:
        entry = self.pending.pop(id, None)
        if entry is not None:
            entry.done = True
            self._remember(id, y)
            self._handler.answer(entry, y)
            if self._order[0].done:
                self._order.popleft()
        elif known is None:
            self._keep_early(id, y, ts, record)
        elif known == EXPIRED:
            raise EventError("late", "y", f"the wait for it was over ({self._wait:g} s of event time, or too many waiting)")
        elif known == y and type(known) is type(y):
            self._count("duplicate_labels")
        else:
            raise EventError("correction", "y", f"{y!r} contradicts {known!r}, which was learned for this id")

    def _keep_early(self, id: str, y: Any, ts: float, record: Record) -> None:
        known = self.early.get(id)
        if known is not None:
            if known.y != y:
                raise EventError("correction", "y", f"{y!r} contradicts {known.y!r}, which waits for its features")
            self._count("duplicate_labels")
            return
        newest = self.newest if self.newest is not None else ts
        early = Early(id, y, newest + self._wait, record.offset, record.ts, record.key, record.value)
        self.early[id] = early
        self._early_order.append(early)
        if len(self.early) > self._max_pending:
            self._orphan(next(iter(self.early.values())))

    def _prediction(self, record: Record) -> None:
        prediction = decode_prediction(record.value)
        id = prediction.id
        known = self._young.get(id)
        if known is None:
            known = self._old.get(id)
        if known is None and prediction.x is not None:
            x = self._handler.clean(prediction.x)
            ts = prediction.ts if prediction.ts is not None else self.newest
            if prediction.ts is not None and prediction.ts <= record.ts + self._max_ahead:
                self._advance(prediction.ts, record.ts)
            self._features(id, x, None, ts if ts is not None else record.ts, record.offset)
        entry = self.pending.get(id)
        if entry is None:
            self._count("unattributed_predictions")
        elif entry.served is None:
            entry.served = [prediction.model, prediction.version, prediction.y]
        else:
            self._count("repeated_predictions")

    def _heartbeat(self, appended: float) -> None:
        if self.newest is not None and appended > self._last_append:
            self._advance(self.newest + appended - self._last_append, appended)

    def _advance(self, ts: float, appended: float) -> None:
        self._last_append = appended
        newest = self.newest
        if newest is None or ts > newest:
            self.newest = newest = ts
            self._expire(newest - self._lateness)
        elif ts < newest - self._lateness:
            self._count("late_events")

    def _expire(self, clock: float) -> None:
        order = self._order
        while order and (order[0].done or order[0].deadline < clock):
            entry = order.popleft()
            if not entry.done:
                self._give_up(entry, "expired")
        early = self._early_order
        while early and (early[0].deadline < clock or early[0].id not in self.early):
            label = early.popleft()
            if self.early.get(label.id) is label:
                self._orphan(label)

    def _let_go_of_oldest(self) -> None:
        while True:
            entry = self._order.popleft()
            if not entry.done:
                self._give_up(entry, "pushed_out")
                return

    def _give_up(self, entry: Entry, why: str) -> None:
        del self.pending[entry.id]
        entry.done = True
        self._count(why)
        if self._default is None:
            self._remember(entry.id, EXPIRED)
            self._handler.unanswered(entry)
        else:
            y = self._handler.label(self._default)
            self._count("defaulted")
            self._remember(entry.id, y)
            self._handler.answer(entry, y)

    def _orphan(self, early: Early) -> None:
        del self.early[early.id]
        key = early.key.decode(errors="replace")
        self._handler.refuse(
            Record(early.offset, early.ts, Kind.EVENT, early.key, early.raw),
            "orphan",
            f"y: no features with id {early.id!r} came on this partition; they were never sent, came too early, "
            f"or carried another key than {key!r}",
        )

    def _remember(self, id: str, value: Any) -> None:
        young = self._young
        young[id] = value
        if len(young) > self._max_ids:
            self._old = young
            self._young = {}

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    @staticmethod
    def labels_of(state: JoinState) -> dict[str, Any]:
        """Every id that a kept state remembers with its label, None while it waits or after its wait ran out."""
        table = dict(zip(*state.old, strict=True)) | dict(zip(*state.young, strict=True))
        return {id: None if y in (WAITING, EXPIRED) else y for id, y in table.items()}

    def state(self) -> bytes:
        """Everything, as MessagePack: what a checkpoint or a version's part "join" holds."""
        order = [entry for entry in self._order if not entry.done]
        early = [label for label in self._early_order if self.early.get(label.id) is label]
        tables = [(list(table), list(table.values())) for table in (self._young, self._old)]
        return msgspec.msgpack.encode(
            JoinState(
                self.position, self.newest, self._last_append, self.seq, order, early, tables[0], tables[1], self.counters
            )
        )

    def load(self, state: bytes) -> None:
        """Become the join whose `state()` was given. Raises msgspec.DecodeError."""
        kept = _decoder.decode(state)
        self.position, self.newest, self._last_append = kept.position, kept.newest, kept.last_append
        self.seq, self.counters = kept.seq, kept.counters
        self._order, self.pending = deque(kept.order), {entry.id: entry for entry in kept.order}
        self._early_order, self.early = deque(kept.early), {label.id: label for label in kept.early}
        self._young = dict(zip(*kept.young, strict=True))
        self._old = dict(zip(*kept.old, strict=True))


_decoder: Final = msgspec.msgpack.Decoder(JoinState)
