"""One shard at work: read a batch, step through it, carry its words to the log, publish, checkpoint, report.

The order of a commit, which a crash may cut at any place:

    1  signals and dead letters are durable in the log. A crash after this repeats them; control drops a signal whose `seq`
       it has seen, and readers of dead letters drop a repeated (model, shard, offset, reason)
    2  the checkpoint is durable in the store: the whole state, with the position it has read to
    3  offsets committed to a broker, for lag dashboards only (the embedded log has none)

Recovery loads the newest sound checkpoint, seeks to its position and goes on. Publications have their own cadence and carry
no promise: a crash loses nothing with them. State is captured on the loop's thread and written on another.
"""

from __future__ import annotations

import logging
import pickle
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from ..config import Settings
from ..errors import CodecError, ForeignLog, LogError, PositionExpired
from ..events import Position, encode
from ..keys import KeyRing
from ..log import CONTROL, DEAD, SIGNALS, Entry, Log
from ..records import Claim, Status
from ..store import Retention, Store, codec
from .checkpoint import load, parts
from .paired import PairedBlocks
from .protocols import ResolveVersion, WatchMaker
from .replay import advance, new_learner

logger = logging.getLogger("streamlearn.learn")


@dataclass(frozen=True)
class Deps:
    """What a shard works with. `clock` is Unix seconds, `timer` monotonic seconds; `writer` runs the store's writes."""

    settings: Settings
    log: Log
    store: Store
    keys: KeyRing
    watches: WatchMaker
    resolve: ResolveVersion
    clock: Callable[[], float]
    timer: Callable[[], float]
    writer: Executor
    holder: str


class Cadence:
    """When something is due: every `interval` seconds, and less often when its pause would exceed `budget` of the time."""

    def __init__(self, interval: float, budget: float, now: float) -> None:
        self.interval, self.budget, self.next, self.pause = interval, budget, now, 0.0

    def due(self, now: float) -> bool:
        return now >= self.next

    def done(self, started: float, ended: float) -> None:
        self.pause = ended - started
        self.next = ended + max(self.interval, self.pause / self.budget)


class Shard:
    """A model's share of one partition. Raises Fenced, ForeignLog, ModelError, and whatever the log or store raises."""

    def __init__(self, deps: Deps, model: str, shard: int) -> None:
        self.deps, self.model, self.shard = deps, model, shard
        self.settings = deps.settings.models[model]
        self.stream = self.settings.stream
        self.stopped: str | None = None
        self.generation = self._claim()
        self.learner = new_learner(deps.settings, model, shard, deps.log.bounds(self.stream, shard)[0], deps.watches)
        self.checkpoint_at: float | None = None
        self._recover()
        now = deps.timer()
        self._publishing = Cadence(self.settings.publish.min_interval_s, self.settings.publish.budget, now)
        self._checkpointing = Cadence(self.settings.checkpoint.interval_s, self.settings.checkpoint.budget, now)
        self._checkpointing.next = now + self.settings.checkpoint.interval_s
        self._reporting = Cadence(1.0, 0.05, now)
        self._published: tuple[int, int] | None = None
        self._kept_position = self.learner.position
        self._writes: dict[str, Future[object]] = {}
        self._sending: Future[object] | None = None
        self._sent = (0, 0)
        self._ages: deque[float] = deque(maxlen=500)
        self._rate_from = (now, self.learner.n)

    def _claim(self) -> int:
        claim = Claim(self.model, self.shard, self.deps.holder, self.deps.clock())
        [(_, generation)] = self.deps.log.append(CONTROL, [Entry(self.model.encode(), encode(claim))]).result()
        self.deps.store.claim(self.model, self.shard, generation)
        return generation

    def _recover(self) -> None:
        store, identity = self.deps.store, self.deps.log.identity
        for info in store.checkpoints(self.model, self.shard):
            if info.set_aside is not None:
                continue
            try:
                sealed = codec.open_blob(
                    store.checkpoint(info.id), self.deps.keys, kind="checkpoint", model=self.model, shard=self.shard
                )
                kept = {name: sealed.part(name) for name in sealed.header.parts}
                position = sealed.header.positions[0]
            except CodecError as error:
                store.set_aside(info.id, str(error))
                logger.error("checkpoint set aside", extra={"model": self.model, "shard": self.shard, "why": str(error)})
                continue
            if position.log != identity:
                raise ForeignLog(
                    f"{self.model}/{self.shard}: the checkpoint was taken on log {position.log}, this one is {identity}; "
                    "restore that log, or start over with: streamlearn learn CONFIG --reset " + self.model
                )
            load(self.learner, kept, self.deps.watches)
            self.checkpoint_at = info.created
            logger.info(
                "recovered", extra={"model": self.model, "shard": self.shard, "position": position.offset, "n": self.learner.n}
            )
            return
        logger.info("starts from the first retained record", extra={"model": self.model, "shard": self.shard})

    def turn(self) -> bool:
        """Read and learn one batch, then do what is due; whether there was anything to read."""
        if self.stopped is not None:
            return False
        deps, learner = self.deps, self.learner
        try:
            records = deps.log.read(self.stream, self.shard, learner.position, deps.settings.learn.batch)
        except PositionExpired as error:
            self.stopped = f"{error} (streamlearn learn CONFIG --reset {self.model} starts over from the earliest)"
            logger.error("shard stopped", extra={"model": self.model, "shard": self.shard, "why": self.stopped})
            self._report(deps.timer())
            return False
        if records:
            advance(learner, records, deps.settings, deps.log, deps.keys, deps.resolve)
            now = deps.clock()
            self._ages.append(now - records[0].ts)
            self._ages.append(now - records[-1].ts)
        self._carry()
        self._do_what_is_due()
        return bool(records)

    def _carry(self) -> None:
        """Step 1 of a commit: send what waits, one append at a time, so that signals stay in order."""
        learner = self.learner
        if self._sending is not None:
            if not self._sending.done():
                return
            future, (signals, dead) = self._sending, self._sent
            self._sending = None
            try:
                future.result()
            except LogError as error:
                logger.warning("signals wait for the log", extra={"model": self.model, "why": str(error)})
            else:
                del learner.signals[:signals]
                del learner.dead[:dead]
        log, key = self.deps.log, self.model.encode()
        if learner.dead:
            self._sent = (0, len(learner.dead))
            self._sending = _untyped(log.append(DEAD, [Entry(key, encode(letter)) for letter in learner.dead]))
        elif learner.signals:
            self._sent = (len(learner.signals), 0)
            self._sending = _untyped(log.append(SIGNALS, [Entry(key, encode(signal)) for signal in learner.signals]))

    def _carry_all(self) -> None:
        while self.learner.signals or self.learner.dead or self._sending is not None:
            if self._sending is not None:
                self._sending.exception()
            self._carry()

    def _do_what_is_due(self) -> None:
        now = self.deps.timer()
        fresh = self._published != (self.learner.n, self.learner.version)
        if fresh and self._publishing.due(now) and self._free("publication"):
            self._publish(now)
        if self._checkpointing.due(now) and self._free("checkpoint"):
            self.checkpoint()
        if self._reporting.due(now) and self._free("status"):
            self._report(now)

    def _publish(self, started: float) -> None:
        learner = self.learner
        if learner.held is not None and self._published is not None:
            return
        self._published = (learner.n, learner.version)
        blob = pickle.dumps(learner.champion, protocol=5)
        position = self._position()
        self._publishing.done(started, self.deps.timer())
        version, n = learner.version, learner.n

        def write() -> None:
            sealed = self._seal("publication", version, position, {"model": blob}, n)
            self.deps.store.put_publication(self.model, self.shard, self.generation, sealed)

        self._write("publication", write)

    def checkpoint(self) -> None:
        """Steps 1 and 2 of a commit, unless nothing was read since the last one."""
        learner = self.learner
        if learner.position == self._kept_position and self.checkpoint_at is not None:
            self._checkpointing.done(self.deps.timer(), self.deps.timer())
            return
        self._carry_all()
        started = self.deps.timer()
        kept, position, version, n = parts(learner), self._position(), learner.version, learner.n
        self._checkpointing.done(started, self.deps.timer())
        cadence = self.settings.checkpoint
        keep = Retention(cadence.keep_last, cadence.keep_hourly, cadence.keep_daily)

        def write() -> None:
            sealed = self._seal("checkpoint", version, position, kept, n)
            self.deps.store.put_checkpoint(self.model, self.shard, self.generation, sealed, keep)
            self.checkpoint_at = self.deps.clock()
            self._kept_position = position.offset

        self._write("checkpoint", write)

    def _report(self, now: float) -> None:
        status = encode(self.status(now))
        self._reporting.done(now, self.deps.timer())
        self._write("status", lambda: self.deps.store.put_status(self.model, self.shard, self.generation, status))

    def status(self, now: float) -> Status:
        """What the shard says of itself; `now` by the timer."""
        learner, join, (then, before) = self.learner, self.learner.join, self._rate_from
        rate = (learner.n - before) / (now - then) if now > then else 0.0
        self._rate_from = (now, learner.n)
        ages = sorted(self._ages)
        delays = sorted(learner.delays)
        return Status(
            model=self.model,
            shard=self.shard,
            generation=self.generation,
            version=learner.version,
            shadow=learner.shadow_version,
            position=learner.position,
            end=self.deps.log.bounds(self.stream, self.shard)[1],
            log=self.deps.log.identity,
            at=self.deps.clock(),
            n=learner.n,
            clock=join.clock,
            held=self.stopped or learner.held,
            counters=join.counters,
            pending=len(join.pending),
            early=len(join.early),
            scores=learner.scores.view(),
            shadow_scores={} if learner.blocks is None else _paired(learner.blocks),
            delay={"p50": _quantile(delays, 0.5), "p95": _quantile(delays, 0.95)},
            rate=rate,
            freshness_ms={"p50": 1000 * _quantile(ages, 0.5), "p99": 1000 * _quantile(ages, 0.99)},
            pause_ms={"publication": 1000 * self._publishing.pause, "checkpoint": 1000 * self._checkpointing.pause},
            checkpoint_at=self.checkpoint_at,
            outcomes={str(version): [row[0], row[1]] for version, row in learner.outcomes.items()},
        )

    def close(self) -> None:
        """Drain: carry what waits, write the last checkpoint, publication and status, and wait for them."""
        self._wait()
        if self.stopped is None:
            self.checkpoint()
            self._wait()
            self._publish(self.deps.timer())
        self._report(self.deps.timer())
        self._wait()

    def _position(self) -> Position:
        return Position(self.deps.log.identity, self.stream, self.shard, self.learner.position)

    def _seal(self, kind: str, version: int, position: Position, named: dict[str, bytes], n: int) -> bytes:
        return codec.encode(
            kind=kind,
            model=self.model,
            version=version,
            shard=self.shard,
            generation=self.generation,
            positions=[position],
            created=self.deps.clock(),
            parts=named,
            keys=self.deps.keys,
            extra={"n": n},
        )

    def _free(self, what: str) -> bool:
        """Whether the last write of that kind is over; raises what it raised."""
        future = self._writes.get(what)
        if future is None:
            return True
        if not future.done():
            return False
        del self._writes[what]
        future.result()
        return True

    def _write(self, what: str, write: Callable[[], object]) -> None:
        self._writes[what] = self.deps.writer.submit(write)

    def _wait(self) -> None:
        for what in list(self._writes):
            future = self._writes.pop(what)
            future.result()


def _untyped(future: Future[list[tuple[int, int]]]) -> Future[object]:
    return future  # type: ignore[return-value]  # a Future is read here only, so its result may be any object


def _paired(blocks: PairedBlocks) -> dict[str, float]:
    """Mean losses of champion and challenger on the same events."""
    n = max(1, blocks.n)
    return {"n": blocks.n, "champion": blocks.champion / n, "challenger": blocks.challenger / n}


def _quantile(ordered: list[float] | list[int], share: float) -> float:
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if ordered else 0.0
