"""The learn role: takes its share of the partitions, claims and recovers their shards, and turns them until told to stop.

A partition that goes to another member is drained first: its last checkpoint holds all that was read, and the next holder
begins there. One that was lost, since this process was silent for too long, is dropped as it is: whoever has it has claimed a
newer generation. A lost log or store is waited for with growing pauses (see `shard.py`), and nothing is lost meanwhile; a newer
writer (`Fenced`) or anything unforeseen ends the process loudly, and recovery is the ordinary start.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ..config import Settings
from ..errors import LogFull, LogUnavailable, Overloaded, StoreFull, StoreUnavailable, StreamlearnError
from ..keys import KeyRing
from ..log import Log, Membership, Place
from ..store import Store
from .chores import Patience
from .protocols import ResolveVersion, WatchMaker
from .shard import Deps, Shard

logger = logging.getLogger("streamlearn.learn")
COMMIT_S: Final = 5.0
AWAY: Final = (LogUnavailable, LogFull, Overloaded, StoreUnavailable, StoreFull)


def calm_collector() -> None:
    """Let the garbage collector pass over what start-up made, and look at the young less often: for a process that only learns.

    At CPython's own thresholds a forest spends some 1.4 % of its time in the collector (measured with `gc.callbacks`), and a
    full collection stands still for all that the imports made.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class Worker:
    """The shards of this process's partitions. Raises what `Shard` raises.

    `reset` names models that start over: what is there of them when this process begins is not used by it. Other learners that
    live go on as they are, and what they write from then on counts. `membership` says which partitions those are; without one
    they are all. Then every shard is there from the start.
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        store: Store,
        keys: KeyRing,
        *,
        watches: WatchMaker,
        resolve: ResolveVersion,
        membership: Membership | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        reset: Collection[str] = (),
    ) -> None:
        self._settings, self._membership, self._timer = settings, membership, timer
        self._writer = ThreadPoolExecutor(1, "writer")
        holder = f"{socket.gethostname()}:{os.getpid()}"
        self._deps = Deps(settings, log, store, keys, watches, resolve, clock, timer, self._writer, holder)
        self._reset = set(reset)
        self._not_used: set[int] | None = None  # checkpoints of the models in `reset`, once they were looked at
        self._opened: frozenset[Place] | None = None  # every shard of these is open, and no other; None: that is to be seen
        self._waits = Patience("the log or the store, to open a shard")
        self._commit_at = 0.0
        self.shards: list[Shard] = []
        if membership is None:
            self._open(
                frozenset(
                    (model.stream, shard)
                    for model in settings.models.values()
                    for shard in range(settings.streams[model.stream].partitions)
                )
            )

    def run(self, stop: threading.Event) -> None:
        """Learn until `stop` is set, then drain: the last checkpoint holds all that was read."""
        try:
            while not stop.is_set():
                if not self.turn():
                    stop.wait(self._settings.learn.poll_ms / 1000)
            self.close()
        finally:
            self._writer.shutdown(wait=True)

    def turn(self) -> bool:
        """One batch for each shard; whether any had something to read."""
        if self._membership is not None:
            self._share(self._membership)
        busy = False
        for shard in self.shards:
            busy = shard.turn() or busy
        return busy

    def _share(self, membership: Membership) -> None:
        """Take what is ours now, drop what is not, and tell the broker how far the rest was read."""
        now = self._timer()
        if now < self._waits.until:
            return
        try:
            places = membership.poll(self._let_go)
            if places != self._opened:
                lost = {(shard.stream, shard.shard) for shard in self.shards} - places
                if lost:
                    logger.warning("partitions lost to another learner", extra={"places": sorted(lost)})
                    self._drop(lost)
                self._open(places)
        except AWAY as error:
            self._waits.failed(error, now)
            return
        self._waits.worked()
        if now >= self._commit_at:
            self._commit_at = now + COMMIT_S
            membership.commit(self._kept())

    def _open(self, places: frozenset[Place]) -> None:
        """Open the shards of `places` that are not open yet, in the order of the models and their partitions."""
        self._opened = None
        if self._not_used is None:
            self._not_used = {
                info.id
                for name in self._reset
                for shard in range(self._settings.streams[self._settings.models[name].stream].partitions)
                for info in self._deps.store.checkpoints(name, shard)
            }
        there = {(shard.model, shard.shard) for shard in self.shards}
        fresh = [
            (name, shard)
            for name, model in self._settings.models.items()
            for shard in sorted(partition for stream, partition in places if stream == model.stream)
            if (name, shard) not in there
        ]
        for name, number in fresh:
            if name in self._reset:
                for info in self._deps.store.checkpoints(name, number):
                    if info.id in self._not_used:
                        self._deps.store.set_aside(info.id, "reset by hand")
            self.shards.append(Shard(self._deps, name, number))
        self._opened = places

    def _drop(self, places: Collection[Place]) -> list[Shard]:
        gone = [shard for shard in self.shards if (shard.stream, shard.shard) in places]
        self.shards = [shard for shard in self.shards if shard not in gone]
        self._opened = None
        return gone

    def _let_go(self, places: Collection[Place]) -> None:
        """Drain the shards of `places`. What cannot be written now, the next holder reads again from the log."""
        logger.info("partitions go to another learner", extra={"places": sorted(places)})
        _drain(self._drop(places))

    def _kept(self) -> dict[Place, int]:
        """How far each partition was read by the checkpoints of every model on it."""
        kept: dict[Place, int] = {}
        for shard in self.shards:
            place = shard.stream, shard.shard
            if shard.kept_position is not None:
                kept[place] = min(kept.get(place, shard.kept_position), shard.kept_position)
        return kept

    def close(self) -> None:
        """Drain every shard, and leave the group. Raises the first of what went wrong, once all were asked."""
        errors = _drain(self.shards)
        if self._membership is not None:
            self._membership.commit(self._kept())
            self._membership.close()
        if errors:
            raise errors[0]


def _drain(shards: Iterable[Shard]) -> list[StreamlearnError]:
    """Close every shard; what went wrong, said aloud."""
    errors = []
    for shard in shards:
        try:
            shard.close()
        except StreamlearnError as error:
            logger.error("not drained", extra=shard.who | {"error": str(error)})
            errors.append(error)
    return errors
