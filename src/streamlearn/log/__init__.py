"""The log: durable, partitioned, replayable. The only truth; everything else can be rebuilt from it.

A stream has a fixed number of partitions; in each, records have consecutive offsets from 0. Internal streams begin with
an underscore and have one partition: `_control` (decisions, kept for ever), `_signals` (learners to control) and
`_dead` (dead letters). This module must never know which adapter is behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple, Protocol

from streamlearn.errors import ConfigError

CONTROL: Final = "_control"
SIGNALS: Final = "_signals"
DEAD: Final = "_dead"
INTERNAL: Final[Mapping[str, int]] = {CONTROL: 1, SIGNALS: 1, DEAD: 1}


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

    @property
    def identity(self) -> str:
        """A name made when the log was created; a re-created log has another one."""

    def create(self, streams: Mapping[str, int]) -> None:
        """Make each stream with its number of partitions, or check it. Raises ConfigError when the number differs."""

    def streams(self) -> dict[str, int]:
        """Every stream with its number of partitions."""

    def append(self, stream: str, entries: Sequence[Entry]) -> Future[list[tuple[int, int]]]:
        """Append in order; the future gives each entry's (partition, offset) once all are durable, else none is there.

        Concurrent calls are committed together. The future raises UnknownStream, LogUnavailable or LogFull; the call
        itself raises Overloaded when too many bytes are already waiting.
        """

    def read(self, stream: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Up to `limit` records from `offset` on, at once; an empty list at the end.

        Raises UnknownStream, LogUnavailable, and PositionExpired for an offset below the first or above the end.
        """

    def bounds(self, stream: str, partition: int) -> tuple[int, int]:
        """(first retained offset, end: the next offset to be written). Raises UnknownStream, LogUnavailable."""

    def trim(self, stream: str, partition: int, before: int) -> int:
        """Forget the records below `before` (never beyond the end); returns the first retained offset."""

    def close(self) -> None:
        """Finish what was appended, then let go. Closing twice is allowed."""


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
