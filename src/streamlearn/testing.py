"""Fakes that ship, so that what is built on streamlearn can be tested without a disk or a clock: log, store, clock, faults.

`MemoryLog` and `MemoryStore` pass the very contract suites that the real ones pass. `Faults` makes a chosen call of any of
them fail, or kills the run there, so that recovery is an ordinary test. Never for production: nothing here outlives a process.
"""

from __future__ import annotations

import functools
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from .errors import (
    LogUnavailable,
    Overloaded,
    PositionExpired,
    RetrainError,
    StreamlearnError,
    UnknownStream,
)
from .events import partition_of
from .log import INTERNAL, Entry, Place, Record, missing_streams
from .testing_group import Group, MemoryMembership
from .testing_store import MemoryStore as MemoryStore

T = TypeVar("T")
When = Literal["before", "after"]


class Abort(BaseException):
    """The process dies here, as far as the test is concerned: no `except Exception` of the code under test may catch it."""


@dataclass(frozen=True, slots=True)
class DoneJob:
    """A fit that was made, or failed, when it was asked for."""

    made: bytes | RetrainError

    def progress(self) -> tuple[int, int]:
        return (1, 1)

    def cancel(self) -> None:
        pass

    def done(self) -> bool:
        return True

    def result(self) -> bytes:
        if isinstance(self.made, RetrainError):
            raise self.made
        return self.made


class AtOnce(Executor):
    """Runs what it is given when it is given it, so that a fault falls where it was put. `Abort` goes through."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class FakeClock:
    """A clock, in Unix seconds, that stands still until it is told."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class _Fault:
    method: str
    error: BaseException
    after: int
    when: When
    times: int


class Faults:
    """Makes calls fail. `over(backend)` is the backend with these faults: a log, a store, or any other object.

    >>> faults = Faults()
    >>> log = faults.over(MemoryLog())
    >>> faults.fail("append", Abort(), after=2)                  # two calls pass, the third dies before it has an effect
    >>> faults.fail("read", LogUnavailable("down"), times=3)     # the next three calls fail
    """

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()

    def fail(self, method: str, error: BaseException, after: int = 0, when: When = "before", times: int = 1) -> None:
        """Let `after` calls of `method` pass from now on, and fail the next `times`: before or after their effect."""
        with self._lock:
            self._faults.append(_Fault(method, error, after, when, times))

    def heal(self) -> None:
        """No more faults."""
        with self._lock:
            self._faults.clear()

    def over(self, backend: T) -> T:
        """A stand-in for `backend` whose methods fail as told."""
        return cast(T, _Faulty(backend, self))

    def take(self, method: str) -> tuple[When, BaseException] | None:
        """Count one call of `method`; what is to befall it, if anything."""
        with self._lock:
            self.calls[method] = self.calls.get(method, 0) + 1
            due: _Fault | None = None
            for fault in self._faults:
                if fault.method != method:
                    continue
                if fault.after > 0:
                    fault.after -= 1
                elif due is None:
                    due = fault
            if due is None:
                return None
            due.times -= 1
            if due.times <= 0:
                self._faults.remove(due)
            return due.when, due.error


class _Faulty:
    def __init__(self, backend: object, faults: Faults) -> None:
        self._backend, self._faults = backend, faults

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._backend, name)
        if not callable(attribute):
            return attribute

        @functools.wraps(attribute)
        def call(*args: Any, **kwargs: Any) -> Any:
            fate = self._faults.take(name)
            if fate is None:
                return attribute(*args, **kwargs)
            when, error = fate
            result = attribute(*args, **kwargs) if when == "after" else None
            if isinstance(result, Future):
                result.exception(timeout=60)  # the effect is there before the fault
            if name == "append" and isinstance(error, StreamlearnError) and not isinstance(error, Overloaded):
                failed: Future[Any] = Future()
                failed.set_exception(error)
                return failed
            raise error

        return call


@dataclass
class _Lane:
    """One partition."""

    first: int = 0
    newest: float = 0.0
    records: list[Record] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.records)


@dataclass
class _LogData:
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    lock: threading.RLock = field(default_factory=threading.RLock)
    streams: dict[str, list[_Lane]] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)


class MemoryLog:
    """A log in memory. `reopen()` gives another handle on the same records, as a restarted process would have."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._data, self._closed = clock, _LogData(), False

    def reopen(self) -> MemoryLog:
        again = MemoryLog(clock=self._clock)
        again._data = self._data
        return again

    def identity(self, stream: str) -> str:
        return self._data.identity

    def describe(self, streams: Mapping[str, int], keep_ms: Mapping[str, int]) -> list[str]:
        return []

    def join(self, group: str, streams: Collection[str]) -> MemoryMembership:
        def places() -> list[Place]:
            return [(name, partition) for name in streams for partition in range(self.streams()[name])]

        return MemoryMembership(self._data.groups.setdefault(group, Group()), places)

    def create(self, streams: Mapping[str, int]) -> None:
        with self._open() as data:
            for name, partitions in missing_streams(self.streams(), {**INTERNAL, **streams}, "the log in memory").items():
                data.streams[name] = [_Lane() for _ in range(partitions)]

    def streams(self) -> dict[str, int]:
        with self._open() as data:
            return {name: len(lanes) for name, lanes in data.streams.items()}

    def append(self, stream: str, entries: Sequence[Entry]) -> Future[list[tuple[int, int]]]:
        future: Future[list[tuple[int, int]]] = Future()
        try:
            future.set_result(self._append(stream, entries))
        except StreamlearnError as error:
            future.set_exception(error)
        return future

    def _append(self, stream: str, entries: Sequence[Entry]) -> list[tuple[int, int]]:
        with self._open():
            self._lane(stream, 0)
            routed = []
            for entry in entries:
                partition = entry.partition
                if partition is None:
                    partition = partition_of(entry.key, len(self._data.streams[stream]))
                routed.append((partition, self._lane(stream, partition), entry))
            now = self._clock()
            places = []
            for partition, lane, entry in routed:
                lane.newest = max(lane.newest, now)
                places.append((partition, lane.end))
                lane.records.append(Record(lane.end, lane.newest, int(entry.kind), bytes(entry.key), bytes(entry.value)))
            return places

    def read(self, stream: str, partition: int, offset: int, limit: int) -> list[Record]:
        with self._open():
            lane = self._lane(stream, partition)
            if not lane.first <= offset <= lane.end:
                raise PositionExpired(stream, partition, offset, lane.first, lane.end)
            start = offset - lane.first
            return lane.records[start : start + max(limit, 0)]

    def bounds(self, stream: str, partition: int) -> tuple[int, int]:
        with self._open():
            lane = self._lane(stream, partition)
            return lane.first, lane.end

    def trim(self, stream: str, partition: int, before: int) -> int:
        with self._open():
            lane = self._lane(stream, partition)
            cut = max(0, min(before, lane.end) - lane.first)
            del lane.records[:cut]
            lane.first += cut
            return lane.first

    def close(self) -> None:
        self._closed = True

    def _lane(self, stream: str, partition: int) -> _Lane:
        lanes = self._data.streams.get(stream)
        if lanes is None:
            raise UnknownStream(f"no stream {stream!r} in the log in memory; it has {sorted(self._data.streams)}")
        if not 0 <= partition < len(lanes):
            raise UnknownStream(f"no partition {partition} in stream {stream!r}; it has {len(lanes)}, numbered from 0")
        return lanes[partition]

    @contextmanager
    def _open(self) -> Iterator[_LogData]:
        if self._closed:
            raise LogUnavailable("the log in memory is closed")
        with self._data.lock:
            yield self._data
