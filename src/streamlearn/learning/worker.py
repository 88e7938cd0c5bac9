"""The learn role: claims its shards, recovers them, and turns them until told to stop.

A lost log or store is waited for with growing pauses (see `shard.py`), and nothing is lost meanwhile; a newer writer (`Fenced`)
or anything unforeseen ends the process loudly, and recovery is the ordinary start.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from ..config import Settings
from ..errors import StreamlearnError
from ..keys import KeyRing
from ..log import Log
from ..store import Store
from .protocols import ResolveVersion, WatchMaker
from .shard import Deps, Shard

logger = logging.getLogger("streamlearn.learn")


def calm_collector() -> None:
    """Let the garbage collector pass over what start-up made, and look at the young less often: for a process that only learns.

    At CPython's own thresholds a forest spends some 1.4 % of its time in the collector (measured with `gc.callbacks`), and a
    full collection stands still for all that the imports made.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class Worker:
    """Every shard of every model in `settings`. Raises what `Shard` raises; `reset` names models that start over."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        store: Store,
        keys: KeyRing,
        *,
        watches: WatchMaker,
        resolve: ResolveVersion,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        reset: Collection[str] = (),
    ) -> None:
        self._settings = settings
        self._writer = ThreadPoolExecutor(1, "writer")
        holder = f"{socket.gethostname()}:{os.getpid()}"
        deps = Deps(settings, log, store, keys, watches, resolve, clock, timer, self._writer, holder)
        shards = [
            (name, shard)
            for name, model in settings.models.items()
            for shard in range(settings.streams[model.stream].partitions)
        ]
        for name, shard in shards:
            if name in reset:
                for info in store.checkpoints(name, shard):
                    store.set_aside(info.id, "reset by hand")
        self.shards = [Shard(deps, name, shard) for name, shard in shards]

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
        busy = False
        for shard in self.shards:
            busy = shard.turn() or busy
        return busy

    def close(self) -> None:
        """Drain every shard. Raises the first of what went wrong, once all were asked."""
        errors = []
        for shard in self.shards:
            try:
                shard.close()
            except StreamlearnError as error:
                logger.error("not drained", extra={"model": shard.model, "shard": shard.shard, "why": str(error)})
                errors.append(error)
        if errors:
            raise errors[0]
