"""The label join: which records are accepted, which features wait for a label, which label belongs to which features.

The same rules teach a live learner and a retrain that replays the log, so they live here once and drive a `Handler`.
Nothing here predicts, scores or learns, and the only clock is event time (the largest sound `ts` less the allowed
lateness). Every rule has a counter; what cannot be used is refused with a reason of `events.REASONS`.

    features (x)          first of its id: asked, then waits; a repeat is dropped (`duplicate_features`)
    label (y)             joins the waiting features; before them: kept for as long (`early_labels`); the same again is
                          dropped (`duplicate_labels`); another one is refused (`correction`); after the wait: `late`;
                          never joined: `orphan`
    both                  asked and answered at once
    wait over             the default label is learned (`defaulted`), or the features are let go (`expired`)
    too many waiting      the oldest is treated as if its wait were over (`pushed_out`)
    logged prediction     its features count as x when none came before; it is kept for the outcome, or counted
                          (`repeated_predictions`, `unattributed_predictions`, `other_predictions` of another model)
    interaction alone     nothing to learn here (`ignored`)
    held range            features and labels of a range that was skipped wait no longer; the other half, when it comes, is
                          dropped (`skipped_labels`, `duplicate_features`)
    late event            learned all the same, counted (`late_events`); it does not move the clock
    heartbeat             an idle partition's clock advances by the append time that passed

A record whose shape, time and values are sound moves the clock, also when it is then refused for what is known of its id.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Any, Final

import msgspec

from ..config import ModelSettings, StreamSettings
from ..errors import EventError
from ..events import Event, Kind, Limits, Prediction, decode_event, decode_prediction, parse_time, partition_of
from ..log import Record
from .waiting import EXPIRED, SKIPPED, WAITING, Early, Entry, Handler, JoinState

_EVENT: Final = int(Kind.EVENT)
_PREDICTION: Final = int(Kind.PREDICTION)
_HEARTBEAT: Final = int(Kind.HEARTBEAT)
_SHARED: Final = int(Kind.SHARED)


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
        # Both in the order in which they came, which is that of their deadlines.
        self.pending: OrderedDict[str, Entry] = OrderedDict()
        self.early: OrderedDict[str, Early] = OrderedDict()
        self._handler = handler
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
        """Take the next record of the partition. Never raises for what a record holds, but lets MemoryError pass."""
        self.position = record.offset + 1
        try:
            kind = record.kind
            if kind == _EVENT:
                self._event(record)
            elif kind == _PREDICTION:
                self._prediction(record)
            elif kind == _HEARTBEAT:
                self._heartbeat(record.ts)
            elif kind == _SHARED:
                self._shared(record)
            else:
                raise EventError("shape", "kind", f"is {kind}, which no learner knows")
        except EventError as error:
            self._handler.refuse(record, error.reason, f"{error.field}: {error.detail}")
        except MemoryError:  # no fault of the record: a fit ends by it, a process stops and recovers
            raise
        except Exception as error:  # met again at every restart, it would be a crash loop
            self._handler.refuse(record, "unlearnable", f"raised {error!r}")

    def _event(self, record: Record) -> None:
        if len(record.value) > self._max_bytes:
            raise too_large(record, self._max_bytes)
        event = decode_event(record.value)
        if event.action is not None and event.action[:1] == "$":  # a record of an item or a user is for models that recommend
            self._count("ignored")
            return
        ts = self._check(event, record)
        x, y, id = event.x, event.y, event.id
        label = None if y is None else self._handler.label(y)
        if x is not None:
            x, types = self._handler.check(x)
        elif y is None:
            if event.item is None and event.items is None and event.action is None:
                raise EventError("empty", "x", "the event has neither x, y nor an interaction")
            self._count("ignored")
            return
        elif id is None:
            raise EventError("shape", "id", "a label alone needs the id of its features")
        if id is None:
            id = f"@{self.partition}/{record.offset}"
        self._advance(ts, record.ts)
        if x is None:
            self._label(id, y, label, record)
        elif id in self._young or id in self._old or id in self.pending:
            self._count("duplicate_features")
            if label is not None:
                self._label(id, y, label, record)
        else:
            self._features(Entry(id, x, record.offset, ts, 0.0, 0, event.key), types, label)

    def _check(self, event: Event | Prediction, record: Record) -> float:
        """The event's time. Raises EventError for what needs neither model nor state to be seen wrong."""
        if event.stream != self.stream:
            raise EventError("unknown_stream", "stream", f"is {event.stream!r} on the log of {self.stream!r}")
        id, key = event.id, event.key
        if id is not None and not 0 < len(id) <= self._max_string:
            raise self._wrong_name("id", id)
        if key is not None and not 0 < len(key) <= self._max_string:
            raise self._wrong_name("key", key)
        if self.partitions > 1:
            self._check_owner(event, record)
        ts = event.ts
        if ts is None:
            return record.ts
        if type(ts) is not float:
            ts = parse_time(ts)
        if ts > record.ts + self._max_ahead:
            raise EventError("future", "ts", f"lies {ts - record.ts:.0f} s ahead of its append time")
        return ts

    def _check_owner(self, event: Event | Prediction, record: Record) -> None:
        if (owner := partition_of(record.key, self.partitions)) != self.partition:
            raise EventError("misrouted", "key", f"belongs to partition {owner}; partition by murmur2 of the key")

    def _wrong_name(self, field: str, value: str) -> EventError:
        if not value:
            return EventError("shape", field, "is an empty string; leave it out instead")
        return EventError("too_long", field, f"has {len(value)} characters, more than {self._max_string}")

    def _features(self, entry: Entry, types: dict[str, str], label: Any) -> None:
        newest = self.newest
        entry.deadline = (entry.ts if newest is None else newest) + self._wait
        entry.seq = self.seq + 1
        self._handler.question(entry)
        self.seq = entry.seq
        if types:
            self._handler.accept(types)
        if self.early:
            label = self._meet_early(entry.id, label)
        if label is not None:
            self._answer(entry, label)
            return
        self._remember(entry.id, WAITING)
        self.pending[entry.id] = entry
        if len(self.pending) > self._max_pending:
            self._give_up(self.pending.popitem(last=False)[1], "pushed_out")

    def _meet_early(self, id: str, label: Any) -> Any:
        """The label of features that have just come: their own, else the one that waited for them."""
        early = self.early.pop(id, None)
        if early is None:
            return label
        try:
            waited = self._handler.label(early.y)
            if label is None:
                self._count("early_labels")
                return waited
            if waited != label:
                raise EventError("correction", "y", f"{early.y!r}, which came before its features, contradicts {label!r}")
            self._count("duplicate_labels")
        except EventError as error:
            self._refuse_early(early, error.reason, f"{error.field}: {error.detail}")
        return label

    def _label(self, id: str, y: Any, label: Any, record: Record) -> None:
        entry = self.pending.pop(id, None)
        if entry is not None:
            self._answer(entry, label)
            return
        known = self._young.get(id)
        if known is None:
            known = self._old.get(id)
        if known is None:
            self._keep_early(id, y, record)
        elif known == EXPIRED:
            raise EventError("late", "y", f"the wait for it was over ({self._wait:g} s of event time, or too many waiting)")
        elif known == SKIPPED:
            self._count("skipped_labels")
        elif known == label and type(known) is type(label):
            self._count("duplicate_labels")
        else:
            raise EventError("correction", "y", f"{label!r} contradicts {known!r}, which was learned for this id")

    def _answer(self, entry: Entry, label: Any) -> None:
        if self._handler.answer(entry, label):
            young = self._young
            young[entry.id] = label
            if len(young) > self._max_ids:
                self._old, self._young = young, {}
        else:  # so that it can be sent again, once whatever refused it is mended
            self._young.pop(entry.id, None)
            self._old.pop(entry.id, None)

    def _keep_early(self, id: str, y: Any, record: Record) -> None:
        known = self.early.get(id)
        if known is not None:
            if known.y != y:
                raise EventError("correction", "y", f"{y!r} contradicts {known.y!r}, which waits for its features")
            self._count("duplicate_labels")
            return
        deadline = (self.newest or 0.0) + self._wait
        self.early[id] = Early(id, y, deadline, record.offset, record.ts, record.key, record.value)
        if len(self.early) > self._max_pending:
            self._orphan(self.early.popitem(last=False)[1])

    def _prediction(self, record: Record) -> None:
        if len(record.value) > self._max_bytes:
            raise too_large(record, self._max_bytes)
        prediction = decode_prediction(record.value)
        ts = self._check(prediction, record)
        if prediction.items is not None:  # a slate, which a model that recommends has served
            self._count("ignored")
            return
        id = prediction.id
        x, types = (None, {}) if prediction.x is None else self._handler.check(prediction.x)
        if prediction.ts is not None:
            self._advance(ts, record.ts)
        elif self.newest is not None:  # asked at another time than that of the events: it says nothing of their clock
            ts = self.newest
        served = [prediction.version, prediction.y] if prediction.model == self._handler.name else None
        if served is None:
            self._count("other_predictions")
        if x is not None and not (id in self._young or id in self._old or id in self.pending):
            self._features(Entry(id, x, record.offset, ts, 0.0, 0, prediction.key, served=served), types, None)
            return
        entry = self.pending.get(id)
        if served is None:
            return
        if entry is None:
            self._count("unattributed_predictions")
        elif entry.served is not None:
            self._count("repeated_predictions")
        else:
            entry.served = served

    def _heartbeat(self, appended: float) -> None:
        if self.newest is not None and appended > self._last_append:
            self._advance(self.newest + appended - self._last_append, appended)

    def _shared(self, record: Record) -> None:
        """What shards of a recommender tell each other is none of this model's business."""

    def _advance(self, ts: float, appended: float) -> None:
        self._last_append = appended
        newest = self.newest
        if newest is None or ts > newest:
            self.newest = ts
            if self.pending or self.early:
                self._expire(ts - self._lateness)
        elif ts < newest - self._lateness:
            self._count("late_events")

    def _expire(self, clock: float) -> None:
        pending, early = self.pending, self.early
        while pending and next(iter(pending.values())).deadline < clock:
            self._give_up(pending.popitem(last=False)[1], "expired")
        while early and next(iter(early.values())).deadline < clock:
            self._orphan(early.popitem(last=False)[1])

    def _give_up(self, entry: Entry, why: str) -> None:
        """`entry` is out of `pending`, and no label will come."""
        self._count(why)
        if self._default is not None:
            try:
                label = self._handler.label(self._default)
            except EventError:  # the labels turned out to be of another type than the default
                self._count("default_unusable")
            else:
                self._count("defaulted")
                self._answer(entry, label)
                return
        self._remember(entry.id, EXPIRED)
        self._handler.unanswered(entry)

    def _orphan(self, early: Early) -> None:
        """`early` is out of `self.early`, and no features will come."""
        self._refuse_early(
            early,
            "orphan",
            f"y: no features with id {early.id!r} came on this partition; they were never sent, came too early, "
            f"or carried another key than {early.key.decode(errors='replace')!r}",
        )

    def _refuse_early(self, early: Early, reason: str, detail: str) -> None:
        self._handler.refuse(Record(early.offset, early.ts, Kind.EVENT, early.key, early.raw), reason, detail)

    def pass_over(self, record: Record) -> None:
        """Move past a record as if it had never come, but for one thing: features whose label it is wait no longer."""
        self.position = record.offset + 1
        if record.kind == _EVENT and self.pending:
            with suppress(EventError):
                event = decode_event(record.value)
                if event.y is not None and event.id is not None and event.id in self.pending:
                    self.forget(event.id)

    def forget(self, id: str) -> None:
        """Know nothing of the id any more: the same event, sent again, is a new one."""
        for table in (self._young, self._old, self.early):
            table.pop(id, None)
        entry = self.pending.pop(id, None)
        if entry is not None:
            self._handler.unanswered(entry)

    def skip_waiting(self, start: int) -> None:
        """Nothing that came from offset `start` on and still waits for its other half is to be learned."""
        waiting: list[Entry | Early] = [*self.pending.values(), *self.early.values()]
        for id in [one.id for one in waiting if one.offset >= start]:
            self.forget(id)
            self._remember(id, SKIPPED)

    def _remember(self, id: str, value: Any) -> None:
        young = self._young
        young[id] = value
        if len(young) > self._max_ids:
            self._old, self._young = young, {}

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    @staticmethod
    def labels_of(state: JoinState) -> dict[str, Any]:
        """Every id that a kept state remembers with its label, None while it waits or after its wait ran out."""
        table = dict(zip(*state.old, strict=True)) | dict(zip(*state.young, strict=True))
        return {id: None if y in (WAITING, EXPIRED, SKIPPED) else y for id, y in table.items()}

    def state(self) -> bytes:
        """Everything, as MessagePack: what a checkpoint or a version's part "join" holds."""
        young, old = ((list(table), list(table.values())) for table in (self._young, self._old))
        pending, early = list(self.pending.values()), list(self.early.values())
        return msgspec.msgpack.encode(
            JoinState(self.position, self.newest, self._last_append, self.seq, pending, early, young, old, self.counters)
        )

    def load(self, state: bytes) -> None:
        """Become the join whose `state()` was given. Raises msgspec.DecodeError."""
        kept = _decoder.decode(state)
        self.position, self.newest, self._last_append = kept.position, kept.newest, kept.last_append
        self.seq, self.counters = kept.seq, kept.counters
        self.pending = OrderedDict((entry.id, entry) for entry in kept.pending)
        self.early = OrderedDict((label.id, label) for label in kept.early)
        self._young = dict(zip(*kept.young, strict=True))
        self._old = dict(zip(*kept.old, strict=True))


def too_large(record: Record, most: int) -> EventError:
    return EventError("too_large", "$", f"has {len(record.value)} bytes, more than {most}")


_decoder: Final = msgspec.msgpack.Decoder(JoinState)
