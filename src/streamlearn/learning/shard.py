"""One shard at work: read a batch, step through it, carry its words to the log, publish, checkpoint, report.

The order of a commit, which a crash may cut at any place:

    1  signals and dead letters are durable in the log. A crash after this repeats them; control drops a signal whose `seq`
       it has seen, and readers of dead letters drop a repeated (model, shard, offset, reason)
    2  the checkpoint is durable in the store: the whole state, with the position it has read to
    3  offsets committed to a broker, for lag dashboards only, by the worker (the embedded log has none)

Recovery loads the newest sound checkpoint, seeks to its position and goes on. Publications have their own cadence and carry
no promise: a crash loses nothing with them. State is captured on the loop's thread and written on another. A log or a store
that cannot be reached is waited for, each by itself: without the store the shard goes on learning, and writes later.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ..config import Settings
from ..errors import LogError, LogUnavailable, Overloaded, StoreUnavailable
from ..events import Position, encode
from ..keys import KeyRing
from ..lineage import Backfill, recipe_of
from ..log import CONTROL, Entry, Log
from ..logs import named
from ..records import Claim, Status
from ..store import Retention, Store, codec
from . import publication
from .capture import Capture, Read
from .carrier import Carrier
from .catchup import CatchUp, foreign_publication
from .chain import Chain, Chains, settle
from .checkpoint import models, parts
from .chores import Chore, Patience
from .learner import Learner
from .measured import Measured
from .protocols import ResolveVersion, WatchMaker
from .recovery import GONE, begin
from .replay import advance
from .report import Pace, status
from .shelf import Shelf

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
    """A model's share of one partition. Raises Fenced, ModelError, and whatever the log or store raises, but for GONE."""

    def __init__(self, deps: Deps, model: str, shard: int) -> None:
        self.deps, self.model, self.shard = deps, model, shard
        self.settings = deps.settings.models[model]
        self.stream = self.settings.stream
        self.stopped: str | None = None
        self.generation = self._claim()
        self.checkpoint_at: float | None = None
        self.whole = Capture(deps.timer)
        # What a recommender is without its tables is small, however long a busy machine takes over it.
        self._champion = Capture(deps.timer, can_fork=False) if self.settings.task == "recommend" else Capture(deps.timer)
        self._chains = Chains(f"{model}.{shard}.{self.generation}")
        self._shelf = Shelf(deps.store, deps.keys, model, shard, self.generation)
        self._past: Backfill | None = None
        self.learner = self._begun()
        self._catch_up = self._to_catch_up()
        now, publish, checkpoint = deps.timer(), self.settings.publish, self.settings.checkpoint
        self._publishing = Chore("the store, to take a publication", publish.min_interval_s, publish.budget, now)
        self._checkpointing = Chore(
            "the store, to take a checkpoint", checkpoint.interval_s, checkpoint.budget, now + checkpoint.interval_s
        )
        self._reporting = Chore("the store, to take a status", 1.0, 0.05, now)
        self._patience = Patience("the log, to be read")
        self._carrier = Carrier(deps.log, self.learner, deps.timer)
        self._batch = deps.settings.learn.batch
        self._published: publication.Standing | None = None
        self._tag: int | None = None  # of the publication that the store took last
        self.kept_position: int | None = None if self.checkpoint_at is None else self.learner.position
        self._ages: deque[float] = deque(maxlen=500)
        self._pace = Pace(now, self.learner.n)
        self._measured = Measured(self.learner)
        self._end = self._nothing_below = self.learner.position  # the log's end when last asked; where it was read to
        self._log_lost: float | None = None  # since when, by the timer

    def _claim(self) -> int:
        first = 0
        with suppress(*GONE):  # said when it is to be read
            first = self.deps.log.bounds(self.stream, self.shard)[0]
        claim = Claim(self.model, self.shard, self.deps.holder, self.deps.clock(), recipe_of(self.settings), first)
        [(_, generation)] = self.deps.log.append(CONTROL, [Entry(self.model.encode(), encode(claim))]).result()
        self.deps.store.claim(self.model, self.shard, generation)
        return generation

    def _begun(self) -> Learner:
        """The learner to go on with. A shard that must not go on has a new one, and says why in `stopped`."""
        deps = self.deps
        begun = begin(deps.settings, self.model, self.shard, deps.log, deps.store, deps.keys, deps.watches)
        self.checkpoint_at, self._past = begun.kept_at, begun.past
        self._champion.expect(begun.champion_bytes)
        self.whole.expect(begun.whole_bytes)
        if begun.stopped is not None:
            self._stop(begun.stopped)
        return begun.learner

    def _to_catch_up(self) -> CatchUp:
        until = self._past.until if self._past is not None else self.learner.position
        withheld = foreign_publication(self.deps.store, self.deps.keys, self.model, self.shard)
        if withheld and self.stopped is None:
            until = self.deps.log.bounds(self.stream, self.shard)[1]
            what = "the publication in the store is left as it is until this learner has caught up"
            logger.warning(what, extra=self.who | {"why": withheld})
        near = self.settings.retrain.catch_up_records
        return CatchUp(self.learner, self._past, withheld, until, near, self.deps.timer(), self.who)

    def _stop(self, error: LogError) -> None:
        self.stopped = f"{error} (streamlearn learn CONFIG --reset {self.model} starts over from the earliest)"
        logger.error("shard stopped", extra=self.who | {"error": self.stopped})

    @property
    def who(self) -> dict[str, object]:
        """What its lines in the log begin with."""
        return named(self.model, self.shard, self.stream)

    def turn(self) -> bool:
        """Read and learn one batch, then do what is due; whether there was anything to read."""
        busy = self.stopped is None and not self._carrier.crowded and self._learn_batch()
        self._carrier.carry()
        now = self.deps.timer()
        if self.stopped is None:
            known = publication.standing(self.learner) == self._published
            if self._publishing.due(now) and (self._publishing.failing or not known):
                self._publish()
            if self._checkpointing.due(now):
                self.checkpoint()
        if self._reporting.due(now):
            self._report()
        return busy

    def _learn_batch(self) -> bool:
        deps, learner = self.deps, self.learner
        began = deps.timer()
        if began < self._patience.until:
            return False
        try:
            records = deps.log.read(self.stream, self.shard, learner.position, self._batch)
        except GONE as error:
            self._stop(error)
            return False
        except LogUnavailable as error:
            self._miss_log(began)
            self._patience.failed(error, deps.timer())
            return False
        if not records:
            self._nothing_below = self._end
            self._read_on()
            return False
        started, told = deps.timer(), len(learner.signals)
        try:
            advance(learner, records, deps.settings, deps.log, deps.keys, deps.resolve)
        except (LogUnavailable, StoreUnavailable) as error:  # a version to try cannot be fetched yet
            if isinstance(error, LogUnavailable):
                self._miss_log(began)
            self._patience.failed(error, deps.timer())
            return False
        except GONE as error:
            self._stop(error)
            return False
        self._read_on()
        self._catch_up.mute(told)
        spent = deps.timer() - started
        self._fit_batch(len(records), spent)
        now = deps.clock()
        self._measured.batch(records, spent, now, self._catch_up.past is not None)
        self._ages.append(max(0.0, now - records[0].ts))  # the log's clock is not this one
        self._ages.append(max(0.0, now - records[-1].ts))
        return True

    def _miss_log(self, began: float) -> None:
        """The log did not answer what it was asked at `began`, by the timer."""
        if self._log_lost is None:
            self._log_lost = began

    def _read_on(self) -> None:
        self._patience.worked()
        self._log_lost = None

    def _fit_batch(self, taken: int, spent: float) -> None:
        """Read next what takes about TURN_S, `learn.batch` at the most: with a slow model, publications must not wait long."""
        most = self.deps.settings.learn.batch
        self._batch = most if spent <= 0 else max(1, min(most, int(taken * TURN_S / spent)))

    def _publish(self, *, here: bool = False) -> None:
        learner, started = self.learner, self.deps.timer()
        if self._published is not None and publication.stands_still(learner, self._published):
            return
        if not self._catch_up.may_publish(self._end):
            return
        self._published = publication.standing(learner)
        read = self._champion.take(lambda: publication.parts(learner), here=here)
        tables = self._chains.take(publication.models(learner), here)

        def put(sealed: bytes | None, offset: int) -> None:
            if sealed is None:
                self._published = None  # due again, though nothing is learned meanwhile
            else:
                self._tag = self.deps.store.put_publication(self.model, self.shard, self.generation, sealed)

        self._write(self._publishing, started, "publication", read, tables, put)

    def checkpoint(self, *, here: bool = False) -> None:
        """Steps 1 and 2 of a commit, unless nothing was read since the last one; put off when the log does not take step 1.

        With `here`, no child process is trusted with it.
        """
        learner, started = self.learner, self.deps.timer()
        if learner.position == self.kept_position:
            self._checkpointing.done(started, started)
            return
        try:
            self._carrier.carry_all()
        except (LogError, Overloaded):
            started = self.deps.timer()
            self._checkpointing.done(started, started)
            return
        started = self.deps.timer()  # a log that is slow to take words must not make checkpoints rare
        read = self.whole.take(lambda: parts(learner, apart=True), here=here)
        tables = self._chains.take(models(learner), here)
        cadence = self.settings.checkpoint
        keep = Retention(cadence.keep_last, cadence.keep_hourly, cadence.keep_daily)

        def put(sealed: bytes | None, offset: int) -> None:
            if sealed is not None:
                self._measured.checkpoint_bytes = len(sealed)
                self.deps.store.put_checkpoint(self.model, self.shard, self.generation, sealed, keep, codec.build())
                self.checkpoint_at = self.deps.clock()
                self.kept_position = offset
                if tables:
                    self._shelf.sweep(self._chains.all)

        self._write(self._checkpointing, started, "checkpoint", read, tables, put)

    def _write(
        self, chore: Chore, started: float, kind: str, read: Read, tables: Mapping[str, Chain],
        put: Callable[[bytes | None, int], None],
    ) -> None:
        """Have the writer seal and `put` what was just captured, with the offset it has read to: None when a child failed, or
        the tables that belong to it are not all in the store yet."""
        version, position, extra = self.learner.version, self._position(), publication.extra(self.learner)
        chore.done(started, self.deps.timer())

        def write() -> float:
            began = self.deps.timer()
            named = read()
            spent = self.deps.timer() - began
            links = settle(tables, self._shelf.put)
            whole = named is not None and links is not None
            linked = {**extra, "chains": msgspec.to_builtins(links)} if links else extra
            put(self._seal(kind, version, position, named, linked) if whole and named else None, position.offset)
            return spent

        chore.write(self.deps.writer, write)

    def _report(self) -> None:
        if not self._patience.failing:
            self._look_at_end()
        started = self.deps.timer()  # a log that does not answer must not make reports rare
        document = encode(self.status(started))
        self._reporting.done(started, self.deps.timer())

        def write() -> None:
            tag = self.deps.store.put_status(self.model, self.shard, self.generation, document)
            if self._tag not in (None, tag):
                logger.warning("the store has lost what was put into it; it gets it again", extra=self.who)
                self._tag = self._published = self.kept_position = None
                self._shelf.lost()
                self._chains = Chains(f"{self._chains.uid}'")

        self._reporting.write(self.deps.writer, write)

    def _look_at_end(self) -> None:
        began = self.deps.timer()
        try:
            self._end = self.deps.log.bounds(self.stream, self.shard)[1]
        except LogError as error:  # then it is the end as it was known last
            if isinstance(error, LogUnavailable):
                self._miss_log(began)
        else:
            self._log_lost = None

    def status(self, now: float) -> Status:
        """What the shard says of itself; `now` by the timer."""
        log = ""
        with suppress(LogError):  # it may be gone
            log = self.deps.log.identity(self.stream)
        return status(
            self.learner,
            generation=self.generation,
            log=log,
            end=self._end if self._end > self._nothing_below else self.learner.position,
            at=self.deps.clock(),
            stopped=self.stopped,
            rate=self._pace.rate(now, self.learner.n),
            ages=self._ages,
            pauses={"publication": self._publishing.pause, "checkpoint": self._checkpointing.pause},
            pauses_s={"publication": self._publishing.pauses, "checkpoint": self._checkpointing.pauses},
            failures={
                "log": self._patience.failures + self._carrier.failures,
                "store": self._publishing.failures + self._checkpointing.failures + self._reporting.failures,
            },
            measured=self._measured,
            checkpoint_at=self.checkpoint_at,
            backfill=self._catch_up.status(now),
            withheld=self._catch_up.withheld,
            log_lost=None if self._log_lost is None else now - self._log_lost,
        )

    def close(self) -> None:
        """Drain: carry what waits, write the last checkpoint, publication and status, and wait for them.

        What the log or the store does not take then is said aloud; the next start reads it again from the log.
        """
        chores = (self._publishing, self._checkpointing, self._reporting)
        for chore in chores:
            chore.settle(self.deps.timer())
        if self.stopped is None:
            self.checkpoint(here=True)
            self._publish(here=True)
        self._report()
        for chore in chores:
            chore.settle(self.deps.timer())

    def _position(self) -> Position:
        return Position(self.deps.log.identity(self.stream), self.stream, self.shard, self.learner.position)

    def _seal(self, kind: str, version: int, position: Position, named: Mapping[str, bytes], extra: Mapping[str, Any]) -> bytes:
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
            extra={**extra, **self._catch_up.kept()},
        )
