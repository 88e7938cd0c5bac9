"""The models that are served: polled from the store, verified, loaded and swapped by a thread of its own.

A request only ever reads what is here; it never waits for the store. A publication that fails its checks is refused
aloud, and the last good one stays. When the store or a learner falls silent, the last good model goes on answering, and
`degraded` says so. A store that tells of a publication is looked at sooner, but the poll is what is relied upon. How long ago
something was heard is measured by a timer: clocks of several machines differ, and may be set anew.
This module must never unpickle bytes that the codec has not verified.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec

from ..config import Settings
from ..errors import CodecError, LogError, StoreError, StoreUnavailable, StreamlearnError
from ..events import partition_of
from ..keys import KeyRing
from ..lineage import told
from ..logs import named
from ..records import Status
from ..store import Store, codec
from ..store.links import Links, links_of
from ..telemetry import Metrics
from .following import Follower
from .problems import ProblemError
from .served import Challenger as Challenger
from .served import Indexed
from .served import Served as Served

SLOW_POLL_S: Final = 0.2
CAUSES: Final = ("drift", "store", "publication", "learner_silent", "held", "log", "catching_up")
WEIGH_S: Final = 30.0
HELD: Final = "learning is held: "  # how that reason begins
MAX_BACKOFF_S: Final = 2.0
SHORTEST_PAUSE_S: Final = 0.005  # between two polls, however many publications are told of
_log = logging.getLogger(__name__)


class Slot:
    """What is known of one shard. The poller alone writes; each field is replaced whole, so that readers need no lock.

    `heard`: when the status was made, by the timer. `causes`: of `CAUSES`, those that `degraded` tells of in words. `index`,
    of a large recommender, is written by the thread that keeps it.
    """

    __slots__ = ("causes", "degraded", "heard", "index", "model", "refused", "served", "shard", "status", "stream", "tag")

    def __init__(self, model: str, shard: int, stream: str) -> None:
        self.model, self.shard, self.stream = model, shard, stream
        self.served: Served | None = None
        self.status: Status | None = None
        self.heard = 0.0
        self.index: Indexed | None = None
        self.degraded: list[str] | None = None
        self.causes: frozenset[str] = frozenset()
        self.refused: str | None = None
        self.tag: int | None = None

    @property
    def who(self) -> dict[str, object]:
        """How lines of the log name it, and what it serves."""
        return named(self.model, self.shard, self.stream, None if self.served is None else self.served.version)


class Holder:
    """Every model's shards by model name, `slots[model][shard]`, and control's view of each model, `control[model]`."""

    def __init__(
        self, settings: Settings, store: Store, keys: KeyRing, identity: Callable[[str], str], renewed: Callable[[str], str],
        metrics: Metrics, clock: Callable[[], float], timer: Callable[[], float],
    ) -> None:
        self.slots: dict[str, list[Slot]] = {
            name: [Slot(name, shard, model.stream) for shard in range(settings.streams[model.stream].partitions)]
            for name, model in settings.models.items()
        }
        self.control: dict[str, dict[str, Any]] = {name: {} for name in settings.models}
        self.store_down_since: float | None = None  # by the timer
        self.alive: dict[str, Any] = {}  # what control last said of itself
        self.control_heard = timer()  # when control last said that it is there; until it did, the start
        self._store, self._keys, self._identity, self._metrics = store, keys, identity, metrics
        self._renewed = renewed
        self._logs: dict[str, str] = {}  # the identities of streams that were made again since the start
        self._clock, self._timer = clock, timer
        self._poll_s, self._stale_s = settings.serve.poll_ms / 1000, settings.serve.stale_after_s
        self.memory: dict[str, int] = {}
        self._weighed_at = -WEIGH_S
        self._views: dict[str, bytes] = {}
        self._followers: dict[tuple[str, int, str], Follower] = {}
        self._words: dict[tuple[str, int] | str, bytes] = {}
        self._stop, self._woken = threading.Event(), threading.Event()
        self._unlisten: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="holder", daemon=True)

    def start(self) -> None:
        """Poll once, then go on in the background: every poll_ms, and sooner when the store tells of a publication."""
        self._unlisten = self._store.listen(self._woken.set)
        self.poll(slowly=0.0)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._woken.set()
        self._unlisten()
        if self._thread.is_alive():
            self._thread.join()

    def shards(self, model: str) -> list[Slot]:
        """The shards of `model`. Raises ProblemError when there is no such model."""
        slots = self.slots.get(model)
        if slots is None:
            raise ProblemError("not-found", f"there is no model {model!r}; there are {sorted(self.slots)}")
        return slots

    def slot(self, model: str, key: str | None) -> Slot:
        """The shard that answers for `key`. Raises ProblemError: no such model, or a key is needed to choose."""
        slots = self.shards(model)
        if len(slots) == 1:
            return slots[0]
        if key is None:
            detail = f"model {model!r} has {len(slots)} shards: send the key (or the id) by which its events are partitioned"
            raise ProblemError("rejected", detail, {"field": "key", "reason": "shape"})
        return slots[partition_of(key.encode(), len(slots))]

    def ready(self) -> list[str]:
        """What keeps the service from answering for every model: one line each."""
        return [
            f"model {name!r}, shard {slot.shard}: " + "; ".join([slot.refused or "nothing published yet", *catching_up(slot)])
            for name, slots in self.slots.items() for slot in slots if slot.served is None
        ]

    def missing(self) -> list[str]:
        """The models that cannot answer for every key yet, by name."""
        return sorted(name for name, slots in self.slots.items() if any(slot.served is None for slot in slots))

    def control_silent(self, now: float) -> float | None:
        """Seconds without a word from control, once it should have said one: drift would go unjudged, requests unheard."""
        silent = now - self.control_heard
        return silent if silent > self._stale_s and self.store_down_since is None else None

    def poll(self, slowly: float) -> float:
        """Look once at the store; at statuses and views only when the timer has passed `slowly`. Returns when to do so next.

        Public for tests and for `start`; otherwise only the background thread calls it.
        """
        now = self._timer()
        due = now >= slowly
        try:
            for slots in self.slots.values():
                for slot in slots:
                    self._poll_publication(slot)
            if due:
                self._poll_statuses()
                self._poll_views()
                if now - self._weighed_at >= WEIGH_S:
                    self.memory, self._weighed_at = self._store.memory(), now
        except (StoreError, LogError) as error:
            self._metrics.store_errors.inc()
            if self.store_down_since is None:
                self.store_down_since = now
                _log.error("the store cannot be reached; serving goes on with what is loaded", extra={"error": str(error)})
        else:
            if self.store_down_since is not None:
                _log.info("the store is back after %.1f s", now - self.store_down_since)
                self.store_down_since = None
        self._judge(now)
        return now + SLOW_POLL_S if due else slowly

    def _run(self) -> None:
        slowly, pause = 0.0, self._poll_s
        while not self._stop.wait(min(pause, SHORTEST_PAUSE_S)):
            self._woken.wait(max(0.0, pause - SHORTEST_PAUSE_S))
            self._woken.clear()
            if self._stop.is_set():
                return
            try:
                slowly = self.poll(slowly)
            except Exception:  # the thread must outlive a fault: it is what notices that things are well again
                _log.exception("polling the store failed")
                pause = MAX_BACKOFF_S
                continue
            pause = min(MAX_BACKOFF_S, pause * 2) if self.store_down_since is not None else self._poll_s

    def _poll_publication(self, slot: Slot) -> None:
        publication = self._store.publication(slot.model, slot.shard, slot.tag)
        if publication is None:
            return
        identity, before = self._log_of(slot, publication.blob), slot.tag
        slot.tag = publication.tag  # also when it is refused: the same bytes do not get better by another look
        began = time.perf_counter()
        try:
            served = self._load(slot, publication.tag, publication.blob, identity)
        except StoreUnavailable:
            slot.tag = before
            raise
        except StreamlearnError as error:
            slot.refused = f"publication {publication.tag} was refused: {error}"
            self._metrics.publications.labels(slot.model, "refused").inc()
            _log.error("%s; the last good one stays", slot.refused, extra=slot.who)
            return
        old, slot.served, slot.refused = slot.served, served, None
        del old  # a large model is taken apart here, not in a request
        self._metrics.publications.labels(slot.model, "loaded").inc()
        self._metrics.swap.observe(time.perf_counter() - began)

    def _log_of(self, slot: Slot, blob: bytes) -> str:
        """The identity of the slot's log. A sound publication from another one makes us ask afresh: a person may have started
        the model over, since the stream was made again. Raises LogError."""
        known = self._logs.get(slot.stream) or self._identity(slot.stream)
        try:
            header = codec.open_blob(blob, self._keys, kind="publication", model=slot.model, shard=slot.shard).header
        except CodecError:
            return known  # for which it will be refused
        if all(position.log == known for position in header.positions):
            return known
        now = self._renewed(slot.stream)
        if now != known:
            what = "the stream was made again: what is learned from it is %s from now on"
            _log.warning(what, now, extra={"stream": slot.stream})
            self._logs[slot.stream] = now
        return now

    def _load(self, slot: Slot, tag: int, blob: bytes, identity: str) -> Served:
        sealed = codec.open_blob(blob, self._keys, kind="publication", model=slot.model, shard=slot.shard, log=identity)
        header = sealed.header
        try:
            links = links_of(sealed.header.extra)
            model, lock = self._followed(slot, "model", sealed, links)
            answer, position = model.answer, header.positions[0]
        except (CodecError, StoreUnavailable):
            raise
        except Exception as error:  # signed by us, yet it does not load: a code or library version that differs
            raise CodecError(f"its model does not load: {type(error).__name__}: {error}") from error
        n = int(header.extra.get("n", 0))
        made, challenger = self._made(header.created), self._challenger(slot, sealed, links)
        return Served(answer, header.version, position, n, header.created, made, tag, len(blob), challenger, model, lock)

    def _followed(
        self, slot: Slot, part: str, sealed: codec.Sealed, links: Mapping[str, Links]
    ) -> tuple[Any, AbstractContextManager[Any]]:
        """The model of a part, and the lock under which it is asked."""
        follower = self._followers.setdefault((slot.model, slot.shard, part), Follower())
        found = follower.load(
            sealed.part(part), links.get(part), lambda name: self._store.piece(slot.model, slot.shard, name)
        )
        return found, follower.lock

    def _challenger(self, slot: Slot, sealed: codec.Sealed, links: Mapping[str, Links]) -> Challenger | None:
        """The other model of a publication while a canary is on. One that does not load leaves everything to the champion."""
        canary = sealed.header.extra.get("canary")
        if canary is None:
            self._followers.pop((slot.model, slot.shard, "challenger"), None)
            return None
        sealed.part("challenger")  # without it, it is no publication at all: raises
        try:
            model, lock = self._followed(slot, "challenger", sealed, links)
            return Challenger(model.answer, int(canary["version"]), float(canary["share"]), str(canary["salt"]), model, lock)
        except StoreUnavailable:
            raise
        except Exception as error:
            self._metrics.publications.labels(slot.model, "no challenger").inc()
            why = "the challenger of the canary does not load, and the champion answers for all"
            _log.error(why, extra=slot.who | {"error": repr(error)})
            return None

    def _poll_statuses(self) -> None:
        for (model, shard), doc in self._store.statuses().items():
            slots = self.slots.get(model, [])
            if shard < len(slots):
                try:
                    status = msgspec.json.decode(doc, type=Status)
                except msgspec.DecodeError as error:
                    _log.error("its status cannot be read", extra=slots[shard].who | {"error": str(error)})
                else:
                    slots[shard].heard = self._heard((model, shard), doc, status.at, slots[shard].heard)
                    slots[shard].status = status

    def _poll_views(self) -> None:
        for model, doc in self._store.views("model").items():
            if model in self.control and self._views.get(model) != doc:
                self._views[model] = doc
                self.control[model] = msgspec.json.decode(doc, type=dict[str, Any])
        alive = self._store.views("role").get("control")
        if alive is not None:
            self.alive = msgspec.json.decode(alive, type=dict[str, Any])
            self.control_heard = max(self.control_heard, self._heard("control", alive, self.alive["at"], self.control_heard))

    def _heard(self, who: tuple[str, int] | str, doc: bytes, at: float, before: float) -> float:
        """When `doc` was made, by the timer; `before` when it is the one that was there before."""
        known = self._words.get(who)
        if known == doc:
            return before
        self._words[who] = doc
        return self._made(at) if known is None else self._timer()

    def _made(self, at: float) -> float:
        """A time of the clock, by the timer: all that there is to go by for what was there already when it was first seen."""
        return self._timer() - max(0.0, self._clock() - at)

    def _judge(self, now: float) -> None:
        for name, slots in self.slots.items():
            drift = self.control[name].get("degraded") or None
            for slot in slots:
                served, status = slot.served, slot.status
                if served is not None and status is not None and _is_current(served, status):
                    slot.served = served._replace(current_at=max(served.current_at, slot.heard))
                reasons = list(self._reasons(slot, now))
                if drift:
                    reasons.insert(0, ("drift", str(drift)))
                slot.degraded = [text for _, text in reasons] or None
                slot.causes = frozenset(cause for cause, _ in reasons)

    def _reasons(self, slot: Slot, now: float) -> Iterator[tuple[str, str]]:
        """(cause, what people read)."""
        if self.store_down_since is not None:
            yield "store", f"the store has been unreachable for {now - self.store_down_since:.0f} s"
        if slot.refused is not None:
            yield "publication", slot.refused
        status = slot.status
        if status is None:
            if slot.served is not None and now - slot.served.current_at > self._stale_s:
                yield "learner_silent", "the learner has not reported"
            return
        silent = now - slot.heard
        if silent > self._stale_s:
            yield "learner_silent", f"the learner has not reported for {silent:.0f} s"
        if status.held is not None:
            yield "held", f"{HELD}{status.held}"
        if status.log_lost_s is not None:
            yield "log", f"the learner has not been able to read the log for {status.log_lost_s + silent:.0f} s"
        for text in catching_up(slot):
            yield "catching_up", text


def catching_up(slot: Slot) -> list[str]:
    """How far the learner is with what was there when it began, while it has not read that."""
    past = None if slot.status is None or slot.status.backfill is None else told([slot.status.backfill])
    return [] if past is None else [past]


def _is_current(served: Served, status: Status) -> bool:
    """Nothing waits in the log, as far as it can be read, and nothing was learned since the publication."""
    if status.log_lost_s is not None:
        return False  # its end is as it was known last
    same = status.position == served.position.offset or (status.n == served.n and status.version == served.version)
    return status.position == status.end and status.log == served.position.log and same


def lag(slots: list[Slot]) -> int:
    """Records that the learners of `slots` had still to read when they last reported."""
    return sum(max(0, slot.status.end - slot.status.position) for slot in slots if slot.status is not None)


def degraded(slots: list[Slot]) -> list[str] | None:
    """The reasons of all shards, each once."""
    return list(dict.fromkeys(reason for slot in slots for reason in slot.degraded or ())) or None


def counters(slots: list[Slot]) -> Mapping[str, int]:
    """The learners' counters, summed over the shards."""
    total: dict[str, int] = {}
    for slot in slots:
        for name, value in (slot.status.counters if slot.status else {}).items():
            total[name] = total.get(name, 0) + value
    return total
