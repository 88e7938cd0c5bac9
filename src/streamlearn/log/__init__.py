"""The log: durable, partitioned, replayable. The only truth; everything else can be rebuilt from it.

A stream has a fixed number of partitions; in each, records have consecutive offsets from 0. Internal streams begin with
an underscore and have one partition: `_control` (decisions, kept for ever), `_signals` (learners to control) and
`_dead` (dead letters). This module must never know which adapter is behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple, Protocol

from streamlearn.errors import ConfigError

CONTROL: Final = "_control"
SIGNALS: Final = "_signals"
DEAD: Final = "_dead"
INTERNAL: Final[Mapping[str, int]] = {CONTROL: 1, SIGNALS: 1, DEAD: 1}

Place = tuple[str, int]


class Entry(NamedTuple):
    """What is appended. Without a `partition`, the key decides it (`events.partition_of`)."""

    key: bytes
    value: bytes
    kind: int = 0
    partition: int | None = None


class Record(NamedTuple):
    """What is read. `ts` is the append time in Unix seconds, never lower than that of the record before it."""

    offset: int
    ts: float
    kind: int
    key: bytes
    value: bytes


class Log(Protocol):
    """A durable partitioned log. Safe to use from several threads, and from several processes at once."""

    def identity(self, stream: str) -> str:
        """A name made when the stream was created; a re-created log or stream has another one.

        Raises UnknownStream, LogUnavailable when it cannot be learned and was not before.
        """

    def create(self, streams: Mapping[str, int]) -> None:
        """Make each stream with its number of partitions, or check it. Raises ConfigError when the number differs."""

    def streams(self) -> dict[str, int]:
        """Every stream with its number of partitions."""

    def append(self, stream: str, entries: Sequence[Entry]) -> Future[list[tuple[int, int]]]:
        """Append in order; the future gives each entry's (partition, offset) once all are durable.

        Else none is there; but in Kafka, which cannot take back what it took, some may be there, or come later. What is sent
        again is then a repeat: learners drop it by its id, readers of other streams by its number. Concurrent calls are
        committed together. The future raises UnknownStream, LogUnavailable or LogFull; the call itself raises Overloaded when
        too many bytes are already waiting.
        """

    def read(self, stream: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Up to `limit` records from `offset` on, at once; an empty list at the end.

        A broker's own marks leave holes between offsets. Raises UnknownStream, LogUnavailable, and PositionExpired for an
        offset below the first or above the end.
        """

    def bounds(self, stream: str, partition: int) -> tuple[int, int]:
        """(first retained offset, end: the next offset to be written). Raises UnknownStream, LogUnavailable."""

    def trim(self, stream: str, partition: int, before: int) -> int:
        """Forget the records below `before` (never beyond the end); returns the first retained offset."""

    def describe(self, streams: Mapping[str, int], keep_ms: Mapping[str, int]) -> list[str]:
        """What is not as it must be of `streams` (partitions by name) and the internal ones, each with its mending.

        `keep_ms` is the least retention that a stream needs. Raises LogUnavailable, LogError.
        """

    def join(self, group: str, streams: Collection[str]) -> Membership:
        """Become one of those who share out every partition of `streams` among themselves; others join from other processes."""

    def close(self) -> None:
        """Finish what was appended, then let go. Closing twice is allowed."""


class Membership(Protocol):
    """A place in a group. For one thread, which must poll it often: a member that is silent for too long loses its share."""

    def poll(self, let_go: Callable[[Collection[Place]], None]) -> frozenset[Place]:
        """The (stream, partition) that are this member's now; the first answer may be empty.

        Before one of them goes to another member, `let_go` is called with it; no one else has it until that returns, unless the
        member was silent for too long: then it was lost already, and whoever has it claims a newer generation. Raises
        LogUnavailable when the group cannot be reached: what was held is held on to.
        """

    def commit(self, positions: Mapping[Place, int]) -> None:
        """Tell the broker, for its lag dashboards only, how far each of one's own partitions was read. Never raises."""

    def close(self) -> None:
        """Leave, so that the others take over at once. Closing twice is allowed."""


def read_below(log: Log, stream: str, partition: int, offset: int, end: int, limit: int) -> list[Record]:
    """As `Log.read`, but nothing from `end` on: where offsets have holes, as many records may reach beyond it.

    An empty list says that there is none left below `end`, be it a broker's marks that fill the rest or the end of the log.
    """
    records = log.read(stream, partition, offset, min(limit, end - offset))
    while records and records[-1].offset >= end:
        records.pop()
    return records


def pages_below(log: Log, stream: str, partition: int, start: int, end: int, limit: int) -> Iterator[list[Record]]:
    """The records in [start, end), at most `limit` of them at a time; none where nothing is left, see `read_below`."""
    while start < end and (records := read_below(log, stream, partition, start, end, limit)):
        yield records
        start = records[-1].offset + 1


def missing_streams(existing: Mapping[str, int], wanted: Mapping[str, int], where: str) -> dict[str, int]:
    """Those of `wanted` that `existing` lacks. Raises ConfigError when a number of partitions differs.

    The number is fixed for good: another one would send a key's later events to another partition than its earlier ones.
    """
    for name, partitions in wanted.items():
        key = f"streams.{name}.partitions"
        if partitions < 1:
            raise ConfigError(key, f"is {partitions}", "Write a number of at least 1")
        if existing.get(name, partitions) != partitions:
            raise ConfigError(
                key,
                f"is {partitions}, but {where} was made with {existing[name]}",
                f"Write {existing[name]}, or start a new log",
            )
    return {name: partitions for name, partitions in wanted.items() if name not in existing}
