"""A real Kafka broker and a real Redis server for a benchmark, what opens the log and the store on them, and their CPU."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil

from streamlearn.cli.dev_kafka import KafkaServer, cache_folder, find_kafka
from streamlearn.cli.dev_redis import RedisServer, find_redis
from streamlearn.log.kafka import KafkaLog
from streamlearn.store.redis import RedisStore


class Servers(NamedTuple):
    """Both servers, running. What is opened under another prefix shares nothing."""

    kafka: KafkaServer
    redis: RedisServer

    def log(self, prefix: str = "", make: type[KafkaLog] = KafkaLog) -> Callable[[], KafkaLog]:
        """Opens the log, here or in another process; one broker keeps one copy."""
        return partial(make, bootstrap=self.kafka.address, prefix=prefix, replication=1, min_insync=1)

    def store(self, prefix: str) -> Callable[[], RedisStore]:
        """Opens a store, here or in another process."""
        return partial(RedisStore, self.redis.url, prefix=prefix)

    def backends(self, prefix: str, session_s: float = 10.0) -> str:
        """The tables of a configuration that make a service use both."""
        kafka = f'prefix = "{prefix}"\nreplication = 1\nmin_insync = 1\nsession_timeout_s = {session_s:g}'
        return (
            f'[log]\nbackend = "kafka"\n[log.kafka]\nbootstrap = ["{self.kafka.address}"]\n{kafka}\n'
            f'[store]\nbackend = "redis"\n[store.redis]\nurl = "{self.redis.url}"\nprefix = "{prefix}"\n'
        )


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """Start both with their data in `folder`, and stop them. Raises ConfigError when one cannot be had."""
    kafka = find_kafka(cache_folder(os.environ), lambda text: print(text, file=sys.stderr))
    with KafkaServer(folder / "kafka", kafka) as broker, RedisServer(folder / "redis", find_redis()) as redis:
        yield Servers(broker, redis)


class Meter:
    """The CPU that a process used during chosen spans of time, as a share of one core."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._used = self._passed = 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Measure what is done inside."""
        used, began = self._seconds(), time.perf_counter()
        try:
            yield
        finally:
            self._used += self._seconds() - used
            self._passed += time.perf_counter() - began

    @property
    def share(self) -> float:
        """CPU seconds a second; 0 when nothing was measured."""
        return self._used / self._passed if self._passed else 0.0

    def _seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)
