"""The join of a model that recommends: interactions, slates that were shown, and records of items and users.

As `pending` does, it drives a `Handler`, live or in a retrain, and has a counter for every rule. Its clock is event time.

    interaction           an action that the settings name. A weight above 0: asked and answered at once, so that the item is
                          ranked before it is learned. Any other: teaches. Other actions are counted (`other_actions`)
    it joins a slate      the one that its `id` names, else the newest of the user that showed the item, within `window_s`; the
                          weight is the slot's (`joined`). The named one's time is over: `late_clicks`; it did not show the
                          item: `unshown_clicks`. What joins none is learned as found without us (`organic`)
    before its slate      an interaction whose id no slate has had waits `allowed_lateness_s` for it; then the weight is the
                          slot's all the same (`early_clicks`)
    the same again        (id, item, action) are dropped (`duplicate_interactions`), slates by id (`duplicate_impressions`)
    slate                 served by a model that recommends, or sent by an application: waits for `window_s` (`expired` then),
                          and teaches with all that it earned. Too many waiting (`max_pending`): the oldest is treated so now
                          (`pushed_out`)
    item, user record     teaches at once, also while the model is held and in a range that is passed over: it is a fact, no
                          behaviour. An item's record is on every partition. It does not move the clock
    told by a shard       what its users did with items (`sharing`): teaches, each once (`heard`, `repeated_shares`)
    features, labels      nothing to learn here (`ignored`)
    held range            slates of a range that was skipped are let go (`skipped_impressions`)

What teaches goes to `Handler.teach`: "interaction" (as the x of an entry), "opened" (an `Impression` that is new), "shown" (one
whose time is over), "item" and "user" ({name, action, x, ts}); with labels = "at_once" also "clicked" ((`Impression`, slot,
weight)).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final, cast

import msgspec
import numpy as np

from ..config import ModelSettings, StreamSettings
from ..errors import EventError
from ..events import Event, Kind, Limits, Prediction, ShownItem, check_string, decode_event, decode_prediction, is_item_record
from ..items import check_action, shown_items
from ..log import Record
from .delays import DelayCurve
from .pending import Join, too_large
from .sharing import read
from .waiting import Early, Entry, Handler, Impression, JoinState, Slot

FACTS: Final = frozenset({"item", "user"})
LOOK_BACK: Final = 100  # waiting slates of a user, the newest, that an interaction without an id is looked for in
_SLATE: Final = ""  # the mark by which an id is known as a slate's; an interaction's holds its item and action


class _State(JoinState, array_like=True):
    """All that the join remembers; `early` holds [item, weight, ts] of each action, `young` and `old` the marks of each id."""

    open: list[Impression] = msgspec.field(default_factory=list)
    delays: DelayCurve | None = None
    heard: dict[int, int] = msgspec.field(default_factory=dict)  # by shard, the newest that it told


def make_join(
    handler: Handler, model: ModelSettings, stream: StreamSettings, limits: Limits, place: tuple[str, int], start: int
) -> Join:
    """The join of a model's task."""
    kind = Interactions if model.task == "recommend" else Join
    return kind(handler, model, stream, limits, place, start)


class Interactions(Join):
    """The join of one shard; see the module's table for its rules."""

    def __init__(
        self, handler: Handler, model: ModelSettings, stream: StreamSettings, limits: Limits, place: tuple[str, int], start: int
    ) -> None:
        super().__init__(handler, model, stream, limits, place, start)
        self.open: OrderedDict[str, Impression] = OrderedDict()
        self.pending = cast("Any", self.open)  # what waits
        self.delays = DelayCurve.of(model.recommend.window_s)
        self.heard: dict[int, int] = {}
        self._of_user: dict[str, list[str]] = {}
        self._actions: Mapping[str, float] = model.recommend.actions
        self._window = model.recommend.window_s
        self._at_once = model.recommend.labels == "at_once"
        self._limits = limits

    # What comes.

    def _event(self, record: Record) -> None:
        if len(record.value) > self._max_bytes:
            raise too_large(record, self._max_bytes)
        event = decode_event(record.value)
        ts = self._check(event, record)
        for field in ("user", "item", "action"):
            value = getattr(event, field)
            if value is not None:
                check_string(field, value, self._limits)
                if not value:
                    raise EventError("shape", field, "is an empty string; leave it out instead")
        if event.items is None and event.action is None:
            self._count("ignored")
            return
        if event.action is not None:
            check_action(event.action, event.item, event.user, event.x)
        context = {} if event.x is None else self._handler.check(event.x)[0]
        if event.items is not None:
            shown = shown_items(event.items, self._max_string)
            self._advance(ts, record.ts)
            self._slate(event.id, event.user, shown, context, ts, record.offset, None)
        elif event.action is not None and event.action[:1] == "$":
            self._fact(event, ts if event.ts is not None or self.newest is None else self.newest)
        else:
            self._advance(ts, record.ts)
            self._interaction(event, context, ts, record)

    def _prediction(self, record: Record) -> None:
        if len(record.value) > self._max_bytes:
            raise too_large(record, self._max_bytes)
        prediction = decode_prediction(record.value)
        ts = self._check(prediction, record)
        if not prediction.items:
            self._count("ignored")
            return
        context = {} if prediction.x is None else self._handler.check(prediction.x)[0]
        if prediction.ts is not None:
            self._advance(ts, record.ts)
        elif self.newest is not None:  # shown now: as long after the newest event as it was appended after it
            ts = self.newest + max(0.0, record.ts - self._last_append)
        own = prediction.model == self._handler.name
        if not own:
            self._count("other_predictions")
        version = prediction.version if own else None
        self._slate(prediction.id, prediction.user, prediction.items, context, ts, record.offset, version)

    def _shared(self, record: Record) -> None:
        shared = read(record.value)
        if shared.model != self._handler.name or shared.shard == self.partition:
            return
        if shared.seq <= self.heard.get(shared.shard, -1):
            self._count("repeated_shares")
            return
        self.heard[shared.shard] = shared.seq
        self.counters["heard"] = self.counters.get("heard", 0) + len(shared.heard)
        self._handler.teach("heard", shared.heard)

    def _check_owner(self, event: Event | Prediction, record: Record) -> None:
        if not (isinstance(event, Event) and is_item_record(event)):
            super()._check_owner(event, record)

    def _fact(self, event: Event, ts: float) -> None:
        kind, name = ("item", event.item) if event.item is not None else ("user", event.user)
        self._count(f"{kind}_records")
        self._handler.teach(kind, {"name": name, "action": event.action, "x": event.x or {}, "ts": ts})

    def _interaction(self, event: Event, context: dict[str, Any], ts: float, record: Record) -> None:
        item, action = cast("str", event.item), cast("str", event.action)
        weight = self._actions.get(action)
        if weight is None:
            self._count("other_actions")
            return
        mark = f"{item}\0{action}"
        id = event.id or f"@{self.partition}/{record.offset}"
        if event.id is not None and mark in self._known(id):
            self._count("duplicate_interactions")
            return
        impression, slot = self._showed(event.id, event.user, item, ts)
        x = {
            "user": event.user, "item": item, "action": action, "weight": weight, "ts": ts, "context": context,
            "organic": impression is None,
        }  # fmt: skip
        if weight > 0:
            entry = Entry(id, x, record.offset, ts, ts, self.seq + 1, event.key)
            self._handler.question(entry)
            self.seq += 1
            if not self._handler.answer(entry, 1):
                return  # so that it can be sent again, once whatever refused it is mended
        else:
            self._handler.teach("interaction", x)
        if event.id is not None:
            self._mark(id, mark)
        if impression is not None:
            self._count("joined")
            self._earn(impression, slot, weight, ts)
            return
        self._count("organic")
        if event.id is not None and self._lateness and _SLATE not in self._known(id):
            self._keep(id, [item, weight, ts], record)

    def _slate(
        self, id: str | None, user: str | None, shown: list[ShownItem], context: dict[str, Any], ts: float, offset: int,
        version: int | None,
    ) -> None:
        if id is None:
            id = f"@{self.partition}/{offset}"
        elif _SLATE in self._known(id):
            self._count("duplicate_impressions")
            return
        slots = [
            Slot(
                one.item, one.position or place, one.propensity, one.score,
                None if one.f is None or version is None else np.array(one.f, "<f4").tobytes(),
            )
            for place, one in enumerate(shown, 1)
        ]  # fmt: skip
        self._mark(id, _SLATE)
        impression = Impression(id, user, slots, context, ts, offset, version, [0.0] * len(slots))
        self.open[id] = impression
        if user is not None:
            self._of_user.setdefault(user, []).append(id)
        self._count("impressions")
        self._handler.teach("opened", impression)
        early = self.early.pop(id, None)
        for item, weight, when in () if early is None else early.y:
            slot = _slot_of(impression, item)
            if slot is None:
                self._count("unshown_clicks")
            elif self._in_time(impression, when):
                self._count("early_clicks")
                self._earn(impression, slot, weight, when)
        if len(self.open) > self._max_pending:
            self._close(next(iter(self.open)), "pushed_out")

    # What belongs to what.

    def _showed(self, id: str | None, user: str | None, item: str, ts: float) -> tuple[Impression | None, int]:
        """The slate in which an interaction found its item, and the slot; none counts why."""
        if id is not None and _SLATE in self._known(id):
            named = self.open.get(id)
            if named is None or not self._in_time(named, ts):
                self._count("late_clicks")
                return None, 0
            slot = _slot_of(named, item)
            if slot is None:
                self._count("unshown_clicks")
                return None, 0
            return named, slot
        for other in islice(reversed(self._of_user.get(user, ())), LOOK_BACK) if user is not None else ():
            impression = self.open[other]
            slot = _slot_of(impression, item)
            if slot is not None and self._in_time(impression, ts):
                return impression, slot
        return None, 0

    def _in_time(self, impression: Impression, ts: float) -> bool:
        return -self._lateness <= ts - impression.ts <= self._window

    def _earn(self, impression: Impression, slot: int, weight: float, ts: float) -> None:
        impression.earned[slot] += weight
        if weight > 0 and impression.delay is None:
            impression.delay = max(0.0, ts - impression.ts)
        if self._at_once:
            self._handler.teach("clicked", (impression, slot, weight))

    def _keep(self, id: str, action: list[Any], record: Record) -> None:
        early = self.early.get(id)
        if early is not None:
            early.y.append(action)
            return
        deadline = (self.newest or 0.0) + self._lateness
        self.early[id] = Early(id, [action], deadline, record.offset, record.ts, record.key, b"")
        if len(self.early) > self._max_pending:
            self.early.popitem(last=False)

    def _known(self, id: str) -> list[str]:
        known: list[str] = self._young.get(id) or self._old.get(id) or []
        return known

    def _mark(self, id: str, mark: str) -> None:
        self._remember(id, [*self._known(id), mark])

    # What ends.

    def _expire(self, clock: float) -> None:
        while self.open and (oldest := next(iter(self.open.values()))).ts + self._window < clock:
            self._close(oldest.id, "expired")
        early = self.early
        while early and next(iter(early.values())).deadline < clock:
            early.popitem(last=False)

    def _close(self, id: str, why: str) -> None:
        impression = self._let_go(id)
        self._count(why)
        self.delays.add(impression.delay, max(0.0, (self.newest or impression.ts) - impression.ts))
        self._handler.teach("shown", impression)

    def _let_go(self, id: str) -> Impression:
        impression = self.open.pop(id)
        if impression.user is not None:
            ids = self._of_user[impression.user]
            ids.remove(id)
            if not ids:
                del self._of_user[impression.user]
        return impression

    def pass_over(self, record: Record) -> None:
        """Move past a record as if it had never come, but for facts; and a slate that it says something of waits no longer."""
        self.position = record.offset + 1
        if record.kind != Kind.EVENT:
            return
        with suppress(EventError):
            event = decode_event(record.value)
            if event.action is None or (event.item is None and event.user is None):
                return
            if event.action[:1] == "$":
                self._event(record)
            elif event.item is not None:
                impression, _ = self._showed(event.id, event.user, event.item, self._check(event, record))
                if impression is not None:
                    self._let_go(impression.id)

    def forget(self, id: str) -> None:
        """Know nothing of the id any more: the same interaction or slate, sent again, is a new one."""
        for table in (self._young, self._old, self.early):
            table.pop(id, None)
        if id in self.open:
            self._let_go(id)

    def skip_waiting(self, start: int) -> None:
        """No slate that came from offset `start` on and still waits is to be learned."""
        for id in [one.id for one in self.open.values() if one.offset >= start]:
            self._let_go(id)
            self._count("skipped_impressions")

    # What is told and kept.

    def view(self) -> dict[str, Any]:
        """JSON-able: `delay` as `DelayCurve.view` has it, slates that still wait counted in; `join_miss_rate`, the share of the
        interactions with a slate's id that came too late or named an item which it did not show; None without any."""
        now = self.newest or 0.0
        waiting = ((one.delay, max(0.0, now - one.ts)) for one in self.open.values())
        joined = sum(self.counters.get(name, 0) for name in ("joined", "early_clicks"))
        missed = sum(self.counters.get(name, 0) for name in ("late_clicks", "unshown_clicks"))
        return {"delay": self.delays.view(waiting), "join_miss_rate": missed / (joined + missed) if joined + missed else None}

    def state(self) -> bytes:
        """Everything, as MessagePack: what a checkpoint or a version's part "join" holds."""
        young, old = ((list(table), list(table.values())) for table in (self._young, self._old))
        return msgspec.msgpack.encode(
            _State(
                self.position, self.newest, self._last_append, self.seq, [], list(self.early.values()), young, old,
                self.counters, list(self.open.values()), self.delays, self.heard,
            )
        )  # fmt: skip

    def load(self, state: bytes) -> None:
        """Become the join whose `state()` was given. Raises msgspec.DecodeError."""
        super().load(state)
        kept = _decoder.decode(state)
        self.open = OrderedDict((one.id, one) for one in kept.open)
        self.pending = cast("Any", self.open)
        self.heard, self._of_user = kept.heard, {}
        for one in kept.open:
            if one.user is not None:
                self._of_user.setdefault(one.user, []).append(one.id)
        if kept.delays is not None and kept.delays.window == self._window:
            self.delays = kept.delays


def _slot_of(impression: Impression, item: str) -> int | None:
    return next((place for place, slot in enumerate(impression.slots) if slot.item == item), None)


_decoder: Final = msgspec.msgpack.Decoder(_State)
