"""How long a partition is learned by nobody after `kill -9` of one of two learners that share a Kafka stream."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamlearn.events import Position
from streamlearn.keys import KeyRing, load_keys
from streamlearn.log import CONTROL
from streamlearn.log.kafka import KafkaLog
from streamlearn.records import Claim, decode_control
from streamlearn.store import codec
from streamlearn.store.redis import RedisStore

from .learn import Rowset, entries_of
from .servers import Servers
from .service import start, stop

STREAM = "power"
PARTITIONS = 2
LOOK_S = 0.01
PATIENCE_S = 60.0
EVENTS, PAUSE_S = 50, 0.1
CONFIG = """
data_dir = "data"
[streams.power]
partitions = {partitions}
[models.m]
stream = "power"
task = "binary"
pipeline = "benchmarks.learn:logistic"
"""


class Watcher:
    """What the store's publications say of who learns which shard, and how far."""

    def __init__(self, store: RedisStore, keys: KeyRing) -> None:
        self._store, self._keys = store, keys

    def seen(self, shard: int) -> tuple[int, int]:
        """(generation, the position read to) of a shard's publication; (-1, -1) while there is none."""
        publication = self._store.publication("m", shard)
        if publication is None:
            return -1, -1
        header = codec.open_blob(publication.blob, self._keys, kind="publication", model="m", shard=shard).header
        position: Position = header.positions[0]
        return header.generation, position.offset

    def await_beyond(self, shard: int, generation: int, offset: int) -> float:
        """Wait until a generation from `generation` on has read beyond `offset`; the monotonic time. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            holder, read_to = self.seen(shard)
            if holder >= generation and read_to > offset:
                return time.monotonic()
            if time.monotonic() > deadline:
                raise TimeoutError(f"shard {shard} was learned by nobody for {PATIENCE_S:g} s")
            time.sleep(LOOK_S)


@contextmanager
def learning(config: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A learner as a process of its own."""
    process = start([sys.executable, "-m", "streamlearn", "learn", str(config)], output)
    try:
        yield process
    finally:
        stop(process)


@contextmanager
def feeding(log: KafkaLog, data: Rowset) -> Iterator[None]:
    """Append events beside what is done meanwhile, some hundreds a second."""
    done = threading.Event()

    def feed() -> None:
        first = 0
        while not done.wait(PAUSE_S):
            log.append(STREAM, entries_of(data[first : first + EVENTS], first)).result()
            first = (first + EVENTS) % (len(data) - EVENTS)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def shared(log: KafkaLog, pids: set[int]) -> dict[int, tuple[int, int]]:
    """Wait until the processes have a shard each: (shard, generation) by process. Raises TimeoutError."""
    latest: dict[int, tuple[int, int]] = {}
    at, deadline = 0, time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for record in log.read(CONTROL, 0, at, 1000):
            at, claim = record.offset + 1, decode_control(record.value)
            if isinstance(claim, Claim):
                latest[claim.shard] = int(claim.holder.rpartition(":")[2]), record.offset
        found = {pid: (shard, generation) for shard, (pid, generation) in latest.items()}
        if set(found) == pids:
            return found
        time.sleep(10 * LOOK_S)
    raise TimeoutError(f"two learners did not share {PARTITIONS} partitions within {PATIENCE_S:g} s")


def failover(servers: Servers, folder: Path, data: Rowset, session_s: float) -> float:
    """Seconds from `kill -9` until the other learner has published what it learned from an event that came after it."""
    prefix = f"{folder.name}-"  # nothing of a run before, whose keys were others
    (folder / "data").mkdir(parents=True)
    config, keys = folder / "config.toml", load_keys({}, folder / "data" / "secret.key")
    config.write_text(CONFIG.format(partitions=PARTITIONS) + servers.backends(prefix, session_s))
    log, store = servers.log(prefix)(), servers.store(prefix)()
    try:
        log.create({STREAM: PARTITIONS})
        with feeding(log, data), learning(config, folder / "a.log") as first, learning(config, folder / "b.log") as second:
            watcher = Watcher(store, keys)
            shares = shared(log, {first.pid, second.pid})
            for shard, generation in shares.values():
                watcher.await_beyond(shard, generation, log.bounds(STREAM, shard)[1])
            shard, generation = shares[first.pid]
            first.kill()
            killed, end = time.monotonic(), log.bounds(STREAM, shard)[1]
            return watcher.await_beyond(shard, generation + 1, end) - killed
    finally:
        store.close()
        log.close()
