"""One shard at work: read a batch, step through it, carry its words to the log, publish, checkpoint, report.

The order of a commit, which a crash may cut at any place:

    1  signals and dead letters are durable in the log. A crash after this repeats them; control drops a signal whose `seq`
       it has seen, and readers of dead letters drop a repeated (model, shard, offset, reason)
    2  the checkpoint is durable in the store: the whole state, with the position it has read to
    3  offsets committed to a broker, for lag dashboards only (the embedded log has none)

Recovery loads the newest sound checkpoint, seeks to its position and goes on. Publications have their own cadence and carry
no promise: a crash loses nothing with them. State is captured on the loop's thread and written on another. A log or a store
that cannot be reached is waited for, each by itself: without the store the shard goes on learning, and writes later.
"""

from __future__ import annotations

import logging
import pickle
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ..config import Settings
from ..errors import CodecError, Corrupt, ForeignLog, LogError, LogUnavailable, Overloaded, PositionExpired, StoreUnavailable
from ..events import Position, encode
from ..keys import KeyRing
from ..log import CONTROL, Entry, Log
from ..records import Claim, Status
from ..store import CheckpointInfo, Retention, Store, codec
from .carrier import Carrier
from .checkpoint import load, parts
from .chores import Chore, Patience
from .learner import Learner
from .protocols import ResolveVersion, WatchMaker
from .replay import advance, new_learner
from .report import Pace, status

logger = logging.getLogger("streamlearn.learn")
TURN_S: Final = 0.05


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


class Shard:
    """A model's share of one partition. Raises Fenced, ForeignLog, ModelError, and whatever the log or store raises."""

    def __init__(self, deps: Deps, model: str, shard: int) -> None:
        self.deps, self.model, self.shard = deps, model, shard
        self.settings = deps.settings.models[model]
        self.stream = self.settings.stream
        self.stopped: str | None = None
        self.generation = self._claim()
        self.checkpoint_at: float | None = None
        self.learner = self._recovered() or self._new()
        now, publish, checkpoint = deps.timer(), self.settings.publish, self.settings.checkpoint
        self._publishing = Chore("the store, to take a publication", publish.min_interval_s, publish.budget, now)
        self._checkpointing = Chore(
            "the store, to take a checkpoint", checkpoint.interval_s, checkpoint.budget, now + checkpoint.interval_s
        )
        self._reporting = Chore("the store, to take a status", 1.0, 0.05, now)
        self._patience = Patience("the log, to be read")
        self._carrier = Carrier(deps.log, self.learner, deps.timer)
        self._batch = deps.settings.learn.batch
        self._published: tuple[int, int] | None = None
        self._kept_position = -1 if self.checkpoint_at is None else self.learner.position
        self._ages: deque[float] = deque(maxlen=500)
        self._pace = Pace(now, self.learner.n)
        self._end = self.learner.position

    def _claim(self) -> int:
        claim = Claim(self.model, self.shard, self.deps.holder, self.deps.clock())
        [(_, generation)] = self.deps.log.append(CONTROL, [Entry(self.model.encode(), encode(claim))]).result()
        self.deps.store.claim(self.model, self.shard, generation)
        return generation

    def _new(self) -> Learner:
        start = self.deps.log.bounds(self.stream, self.shard)[0]
        return new_learner(self.deps.settings, self.model, self.shard, start, self.deps.watches)

    def _recovered(self) -> Learner | None:
        """The learner of the newest sound checkpoint; None when there is none."""
        infos = self.deps.store.checkpoints(self.model, self.shard)
        for info in infos:
            if info.set_aside is not None:
                continue
            try:
                learner = self._opened(info)
            except Corrupt as error:
                self._set_aside(info, error)
                continue
            if learner is not None:
                self.checkpoint_at = info.created
                logger.info("recovered", extra={**self._who, "position": learner.position, "n": learner.n})
                return learner
        first = self.deps.log.bounds(self.stream, self.shard)[0]
        say = logger.warning if first or infos else logger.info
        say("starts from the first retained record", extra={**self._who, "position": first, "set_aside": len(infos)})
        return None

    def _opened(self, info: CheckpointInfo) -> Learner | None:
        """The learner in a checkpoint; None when it had to be set aside. Raises Corrupt, ForeignLog, and Unexpected for a
        model whose task, stream or labels changed: that is for the operator to decide."""
        identity, store = self.deps.log.identity, self.deps.store
        try:
            sealed = codec.open_blob(
                store.checkpoint(info.id), self.deps.keys, kind="checkpoint", model=self.model, shard=self.shard
            )
            kept = {name: sealed.part(name) for name in sealed.header.parts}
        except CodecError as error:
            self._set_aside(info, error)
            return None
        for position in sealed.header.positions:
            if position.log != identity:
                raise ForeignLog(
                    f"{self.model}/{self.shard}: the checkpoint was taken on log {position.log}, this one is {identity}; "
                    f"restore that log, or start over with: streamlearn learn CONFIG --reset {self.model}"
                )
        learner = self._new()
        load(learner, kept, self.deps.watches)
        return learner

    def _set_aside(self, info: CheckpointInfo, error: CodecError) -> None:
        self.deps.store.set_aside(info.id, str(error))
        logger.error("checkpoint set aside", extra={**self._who, "id": info.id, "why": str(error)})

    @property
    def _who(self) -> dict[str, object]:
        return {"model": self.model, "shard": self.shard}

    def turn(self) -> bool:
        """Read and learn one batch, then do what is due; whether there was anything to read."""
        busy = self.stopped is None and not self._carrier.crowded and self._learn_batch()
        self._carrier.carry()
        now = self.deps.timer()
        if self.stopped is None:
            if self._publishing.due(now) and (self._publishing.failing or self._published != self._serves()):
                self._publish()
            if self._checkpointing.due(now):
                self.checkpoint()
        if self._reporting.due(now):
            self._report()
        return busy

    def _learn_batch(self) -> bool:
        deps, learner = self.deps, self.learner
        if deps.timer() < self._patience.until:
            return False
        try:
            records = deps.log.read(self.stream, self.shard, learner.position, self._batch)
        except PositionExpired as error:
            self.stopped = f"{error} (streamlearn learn CONFIG --reset {self.model} starts over from the earliest)"
            logger.error("shard stopped", extra={**self._who, "why": self.stopped})
            return False
        except LogUnavailable as error:
            self._patience.failed(error, deps.timer())
            return False
        if not records:
            return False
        started = deps.timer()
        try:
            advance(learner, records, deps.settings, deps.log, deps.keys, deps.resolve)
        except (LogUnavailable, StoreUnavailable) as error:  # a version to try cannot be fetched yet
            self._patience.failed(error, deps.timer())
            return False
        self._patience.worked()
        self._fit_batch(len(records), deps.timer() - started)
        now = deps.clock()
        self._ages.append(now - records[0].ts)
        self._ages.append(now - records[-1].ts)
        return True

    def _fit_batch(self, taken: int, spent: float) -> None:
        """Read next what takes about TURN_S, `learn.batch` at the most: with a slow model, publications must not wait long."""
        most = self.deps.settings.learn.batch
        self._batch = most if spent <= 0 else max(1, min(most, int(taken * TURN_S / spent)))

    def _serves(self) -> tuple[int, int]:
        return self.learner.n, self.learner.version

    def _publish(self) -> None:
        learner, started = self.learner, self.deps.timer()
        if learner.held is not None and self._published is not None:
            return
        self._published = self._serves()
        blob, position = pickle.dumps(learner.champion, protocol=5), self._position()
        self._publishing.done(started, self.deps.timer())
        version, n = learner.version, learner.n

        def write() -> None:
            sealed = self._seal("publication", version, position, {"model": blob}, n)
            self.deps.store.put_publication(self.model, self.shard, self.generation, sealed)

        self._publishing.write(self.deps.writer, write)

    def checkpoint(self) -> None:
        """Steps 1 and 2 of a commit, unless nothing was read since the last one; put off when the log does not take step 1."""
        learner, started = self.learner, self.deps.timer()
        if learner.position == self._kept_position:
            self._checkpointing.done(started, started)
            return
        try:
            self._carrier.carry_all()
        except (LogError, Overloaded):
            self._checkpointing.done(started, self.deps.timer())
            return
        kept, position, version, n = parts(learner), self._position(), learner.version, learner.n
        self._checkpointing.done(started, self.deps.timer())
        cadence = self.settings.checkpoint
        keep = Retention(cadence.keep_last, cadence.keep_hourly, cadence.keep_daily)

        def write() -> None:
            sealed = self._seal("checkpoint", version, position, kept, n)
            self.deps.store.put_checkpoint(self.model, self.shard, self.generation, sealed, keep)
            self.checkpoint_at = self.deps.clock()
            self._kept_position = position.offset

        self._checkpointing.write(self.deps.writer, write)

    def _report(self) -> None:
        started = self.deps.timer()
        document = encode(self.status(started))
        self._reporting.done(started, self.deps.timer())
        self._reporting.write(
            self.deps.writer, lambda: self.deps.store.put_status(self.model, self.shard, self.generation, document)
        )

    def status(self, now: float) -> Status:
        """What the shard says of itself; `now` by the timer."""
        with suppress(LogError):  # then it is the end as it was known last
            self._end = self.deps.log.bounds(self.stream, self.shard)[1]
        return status(
            self.learner,
            generation=self.generation,
            log=self.deps.log.identity,
            end=self._end,
            at=self.deps.clock(),
            stopped=self.stopped,
            rate=self._pace.rate(now, self.learner.n),
            ages=self._ages,
            pauses={"publication": self._publishing.pause, "checkpoint": self._checkpointing.pause},
            checkpoint_at=self.checkpoint_at,
        )

    def close(self) -> None:
        """Drain: carry what waits, write the last checkpoint, publication and status, and wait for them.

        What the log or the store does not take then is said aloud; the next start reads it again from the log.
        """
        chores = (self._publishing, self._checkpointing, self._reporting)
        for chore in chores:
            chore.settle(self.deps.timer())
        if self.stopped is None:
            self.checkpoint()
            self._publish()
        self._report()
        for chore in chores:
            chore.settle(self.deps.timer())

    def _position(self) -> Position:
        return Position(self.deps.log.identity, self.stream, self.shard, self.learner.position)

    def _seal(self, kind: str, version: int, position: Position, named: Mapping[str, bytes], n: int) -> bytes:
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
