"""The log in Apache Kafka: a stream is a topic, and an append is acknowledged by every in-sync copy of its partition.

Nothing is reached until it is used, so that a role starts and waits while its broker is down. It must never make a topic but
in `create`, never skip a record, and never wait longer than its time limits, whatever the brokers do.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

from streamlearn.errors import ConfigError

from . import Entry, Record
from .kafka_group import GroupMembership
from .kafka_link import Link, Options
from .kafka_reader import Reader
from .kafka_topics import DAY_MS, FOR_EVER, Rules, Topics
from .kafka_writer import MIB, Writer

__all__ = ["FOR_EVER", "KafkaLog"]

NOTHING: Final[Mapping[str, Any]] = types.MappingProxyType({})
COMPRESSIONS: Final = (None, "gzip", "snappy", "lz4", "zstd")
LONGEST_NAME: Final = 249


class KafkaLog:
    """The log in the cluster at `bootstrap` ("host:port", several with commas or as a sequence); topics are prefix + stream.

    `security` goes to kafka-python as it is: security_protocol, ssl_cafile, sasl_mechanism, … `timeout_s` bounds every call but
    an append, whose future is told after `delivery_s` at the latest. `session_s` is how long a dead member keeps its share,
    `silence_s` a live one that is not polled. `retention_ms` is given to new topics, by stream (else `default_retention_ms`).
    Raises ConfigError for settings that cannot be.
    """

    def __init__(
        self,
        *,
        bootstrap: str | Sequence[str],
        prefix: str = "",
        replication: int = 3,
        min_insync: int = 2,
        compression: str | None = "lz4",
        security: Mapping[str, Any] = NOTHING,
        client_id: str = "streamlearn",
        timeout_s: float = 5.0,
        delivery_s: float = 10.0,
        linger_ms: int = 0,
        session_s: float = 10.0,
        silence_s: float = 60.0,
        max_waiting_bytes: int = 64 * MIB,
        max_record_bytes: int = MIB,
        default_retention_ms: int = 30 * DAY_MS,
        retention_ms: Mapping[str, int] = NOTHING,
    ) -> None:
        addresses = bootstrap.split(",") if isinstance(bootstrap, str) else list(bootstrap)
        hosts = tuple(address.strip() for address in addresses if address.strip())
        if not hosts:
            raise ConfigError("log.kafka.bootstrap", "names no broker", "Write one or more as host:port")
        if compression not in COMPRESSIONS:
            names = ", ".join(filter(None, COMPRESSIONS))
            raise ConfigError("log.kafka.compression", f"is {compression!r}", f"Write one of {names}, or leave it out for none")
        if not 1 <= min_insync <= replication:
            raise ConfigError("log.kafka.min_insync", f"is {min_insync}", f"Write 1 to {replication}, the replication")
        if delivery_s < timeout_s:
            raise ConfigError("log.kafka.delivery_s", f"is {delivery_s:g}", f"Write at least timeout_s, {timeout_s:g}")
        self._prefix, self._session_s, self._silence_s = prefix, session_s, silence_s
        self._link = Link(Options(hosts, client_id, timeout_s, dict(security)), prefix)
        rules = Rules(replication, min_insync, default_retention_ms, dict(retention_ms), max_record_bytes)
        self._topics = Topics(self._link, prefix, rules)
        self._writer = Writer(
            self._link,
            compression=compression,
            linger_ms=linger_ms,
            delivery_s=delivery_s,
            max_waiting_bytes=max_waiting_bytes,
            max_record_bytes=max_record_bytes,
        )
        self._readers: dict[tuple[str, int], Reader] = {}
        self._members: list[GroupMembership] = []
        self._lock = threading.Lock()

    def identity(self, stream: str) -> str:
        topic = self._link.topic(stream)
        return f"{self._link.cluster_id}:{topic.id}"

    def create(self, streams: Mapping[str, int]) -> None:
        self._link.check_open()
        for name in streams:
            if len(self._prefix + name) > LONGEST_NAME:
                raise ConfigError(f"streams.{name}", "is too long a name for a topic", f"Kafka takes {LONGEST_NAME} characters")
        self._topics.create(streams)

    def streams(self) -> dict[str, int]:
        self._link.check_open()
        return self._topics.streams()

    def describe(self, streams: Mapping[str, int], keep_ms: Mapping[str, int] = NOTHING) -> list[str]:
        self._link.check_open()
        return self._topics.describe(streams, keep_ms)

    def append(self, stream: str, entries: Sequence[Entry]) -> Future[list[tuple[int, int]]]:
        return self._writer.append(stream, entries)

    def read(self, stream: str, partition: int, offset: int, limit: int) -> list[Record]:
        return self._reader(stream, partition).read(offset, limit)

    def bounds(self, stream: str, partition: int) -> tuple[int, int]:
        return self._reader(stream, partition).bounds()

    def trim(self, stream: str, partition: int, before: int) -> int:
        reader = self._reader(stream, partition)
        first, end = reader.bounds()
        goal = min(before, end)
        if goal <= first:
            return first
        try:
            return self._topics.trim(stream, partition, goal)
        finally:
            reader.forget()

    def join(self, group: str, streams: Collection[str]) -> GroupMembership:
        self._link.check_open()
        topics = {self._prefix + name: name for name in streams}
        member = GroupMembership(self._link, self._prefix + group, topics, session_s=self._session_s, silence_s=self._silence_s)
        self._members.append(member)
        return member

    def close(self) -> None:
        for member in self._members:
            member.close()
        self._writer.close()
        self._link.close()

    def _reader(self, stream: str, partition: int) -> Reader:
        reader = self._readers.get((stream, partition))
        if reader is None:
            topic = self._link.topic(stream, partition)
            with self._lock:
                reader = self._readers.setdefault((stream, partition), Reader(self._link, stream, topic, partition))
        self._link.check_open()
        return reader
