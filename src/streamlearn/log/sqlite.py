"""The embedded log: one SQLite file, several processes appending and reading at once, every append durable before it is told.

Callers queue their entries; one daemon thread commits all that wait in one transaction (group commit), so that the cost of
the disk's flush is shared. The thread outlives every failure: a full disk or a lock fails the calls that wait, and the next
ones are tried afresh. It must never acknowledge what is not on the disk, nor leave a gap between offsets.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from streamlearn.errors import LogError, LogFull, LogUnavailable, Overloaded, PositionExpired, StreamlearnError, UnknownStream
from streamlearn.events import partition_of
from streamlearn.sqlitefile import Errors, Layout, SqliteFile

from . import INTERNAL, Entry, Place, Record, missing_streams
from .alone import Alone

MIB: Final = 1 << 20
ENTRY_OVERHEAD_BYTES: Final = 64
TRIM_ROWS: Final = 5000
WAL_BYTES: Final = 64 * MIB
RETRY_S: Final = 1.0

# `ends` holds, per partition, the first retained offset, the next one to write, and the newest append time.
LAYOUT: Final = Layout(
    what="log",
    application_id=0x736C4C31,
    version=1,
    tables=(
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL)",
        "CREATE TABLE ends (stream INTEGER NOT NULL, partition INTEGER NOT NULL, first INTEGER NOT NULL, "
        'next INTEGER NOT NULL, ts REAL NOT NULL, PRIMARY KEY (stream, partition)) WITHOUT ROWID',
        'CREATE TABLE records (stream INTEGER NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, '
        "ts REAL NOT NULL, kind INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, "
        'PRIMARY KEY (stream, partition, "offset")) WITHOUT ROWID',
    ),
)
ERRORS: Final = Errors(refused=LogError, unavailable=LogUnavailable, full=LogFull)


_Future = Future[list[tuple[int, int]]]


# Record._make without its Python frame: a quarter of the time that a read row costs.
_record: Final = cast(Callable[[Iterable[Any]], Record], partial(tuple.__new__, Record))


class _Stream(NamedTuple):
    id: int
    partitions: int


class _Call(NamedTuple):
    """One append that waits: its entries in order, each with its partition."""

    future: _Future
    stream: int
    entries: list[tuple[int, Entry]]
    size: int


class _Batch:
    """What one partition gets in one transaction: kind, key, value, kind, key, value, … in order."""

    __slots__ = ("count", "values")

    def __init__(self) -> None:
        self.count = 0
        self.values: list[int | bytes] = []


class SqliteLog:
    """The log in the file at `path`. `clock` gives Unix seconds; `max_waiting_bytes` bounds what waits to be committed.

    Raises LogError for a file that is damaged or not a log, LogUnavailable for one that cannot be opened.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time, max_waiting_bytes: int = 64 * MIB) -> None:
        self._clock, self._max_waiting_bytes = clock, max_waiting_bytes
        self._streams: dict[str, _Stream] = {}
        self._waiting: list[_Call] = []
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._file = SqliteFile(path, LAYOUT, ERRORS, if_replaced="refuse")
        try:
            self._identity = self._read_or_make_identity()
            self._reload_streams()
        except BaseException:
            self._file.close()
            raise

    def identity(self, stream: str) -> str:
        return self._identity

    def create(self, streams: Mapping[str, int]) -> None:
        with self._file.writing() as connection:
            existing = dict(connection.execute("SELECT name, partitions FROM streams"))
            missing = missing_streams(existing, {**INTERNAL, **streams}, f"the log {self._file.path}")
            for name, partitions in missing.items():
                id = connection.execute("INSERT INTO streams (name, partitions) VALUES (?, ?)", (name, partitions)).lastrowid
                connection.executemany("INSERT INTO ends VALUES (?, ?, 0, 0, 0.0)", [(id, n) for n in range(partitions)])
        self._reload_streams()

    def streams(self) -> dict[str, int]:
        self._reload_streams()
        return {name: stream.partitions for name, stream in self._streams.items()}

    def append(self, stream: str, entries: Sequence[Entry]) -> _Future:
        future: _Future = Future()
        try:
            call = self._route(future, stream, entries)
        except LogError as error:
            future.set_exception(error)
            return future
        with self._changed:
            if self._closing:
                future.set_exception(LogUnavailable(f"log {self._file.path} is closed"))
                return future
            if self._waiting_bytes and self._waiting_bytes + call.size > self._max_waiting_bytes:
                raise Overloaded(f"{self._waiting_bytes / MIB:.1f} MiB wait to be written to the log", RETRY_S)
            self._waiting.append(call)
            self._waiting_bytes += call.size
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_forever, name="log-writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return future

    def read(self, stream: str, partition: int, offset: int, limit: int) -> list[Record]:
        found = self._stream(stream, partition)
        records: list[Record] = []
        if offset >= 0:
            with self._file.reading() as connection:
                rows = connection.execute(
                    'SELECT "offset", ts, kind, key, value FROM records '
                    'WHERE stream=? AND partition=? AND "offset">=? ORDER BY "offset" LIMIT ?',
                    (found.id, partition, offset, max(limit, 0)),
                )
                records = list(map(_record, rows.fetchall()))
            if records and records[0].offset == offset:
                return records
        first, end = self.bounds(stream, partition)
        if not first <= offset <= end:
            raise PositionExpired(stream, partition, offset, first, end)
        if records:
            raise LogError(f"log {self._file.path}: {stream}/{partition} has a hole at offset {offset}; restore a backup")
        return []

    def bounds(self, stream: str, partition: int) -> tuple[int, int]:
        found = self._stream(stream, partition)
        with self._file.reading() as connection:
            first, end = connection.execute(
                "SELECT first, next FROM ends WHERE stream=? AND partition=?", (found.id, partition)
            ).fetchone()
        return first, end

    def trim(self, stream: str, partition: int, before: int) -> int:
        lane = (self._stream(stream, partition).id, partition)
        while True:
            with self._file.writing() as connection:
                first, end = connection.execute("SELECT first, next FROM ends WHERE stream=? AND partition=?", lane).fetchone()
                goal = min(before, end)
                if first >= goal:
                    return int(first)
                upto = min(goal, first + TRIM_ROWS)
                connection.execute('DELETE FROM records WHERE stream=? AND partition=? AND "offset"<?', (*lane, upto))
                connection.execute("UPDATE ends SET first=? WHERE stream=? AND partition=?", (upto, *lane))

    def describe(self, streams: Mapping[str, int], keep_ms: Mapping[str, int]) -> list[str]:
        return []  # all of it is our own making, and `create` checks the rest

    def join(self, group: str, streams: Collection[str]) -> Alone:
        def places() -> list[Place]:
            return [(name, partition) for name in streams for partition in range(self._stream(name, None).partitions)]

        return Alone(self._file.path.with_name(f"{self._file.path.name}.{group}.lock"), places)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._file.close()

    # -- streams and identity

    def _read_or_make_identity(self) -> str:
        with self._file.reading() as connection:
            row = connection.execute("SELECT value FROM meta WHERE name='identity'").fetchone()
        if row is None:
            with self._file.writing() as connection:
                connection.execute("INSERT OR IGNORE INTO meta VALUES ('identity', ?)", (uuid.uuid4().hex,))
                row = connection.execute("SELECT value FROM meta WHERE name='identity'").fetchone()
        return str(row[0])

    def _reload_streams(self) -> None:
        with self._file.reading() as connection:
            rows = connection.execute("SELECT name, id, partitions FROM streams ORDER BY id").fetchall()
        self._streams = {name: _Stream(id, partitions) for name, id, partitions in rows}

    def _stream(self, name: str, partition: int | None) -> _Stream:
        """A stream is never dropped, so what was seen once still holds. Raises UnknownStream."""
        found = self._streams.get(name)
        if found is None:
            self._reload_streams()
            found = self._streams.get(name)
            if found is None:
                raise UnknownStream(f"no stream {name!r} in the log {self._file.path}; it has {sorted(self._streams)}")
        if partition is not None and not 0 <= partition < found.partitions:
            raise UnknownStream(f"no partition {partition} in stream {name!r}; it has {found.partitions}, numbered from 0")
        return found

    def _route(self, future: _Future, name: str, entries: Sequence[Entry]) -> _Call:
        stream = self._stream(name, None)
        routed: list[tuple[int, Entry]] = []
        size = 0
        for entry in entries:
            partition = entry.partition
            if partition is None:
                partition = partition_of(entry.key, stream.partitions)
            elif not 0 <= partition < stream.partitions:
                self._stream(name, partition)
            routed.append((partition, entry))
            size += len(entry.key) + len(entry.value) + ENTRY_OVERHEAD_BYTES
        return _Call(future, stream.id, routed, size)

    # -- the writer thread

    def _write_forever(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                calls, self._waiting = self._waiting, []
            outcomes = self._outcomes([call for call in calls if call.future.set_running_or_notify_cancel()])
            with self._changed:
                self._waiting_bytes -= sum(call.size for call in calls)
            for future, outcome in outcomes:
                if isinstance(outcome, StreamlearnError):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
            self._file.bound_wal(WAL_BYTES)

    def _outcomes(self, calls: list[_Call]) -> list[tuple[_Future, list[tuple[int, int]] | StreamlearnError]]:
        """What each call is to be told, after the attempt to write them together."""
        try:
            places = self._commit(calls)
        except BaseException as error:  # whatever it is, the thread goes on, and every caller is told
            if len(calls) > 1 and not isinstance(error, (LogUnavailable, LogFull)):
                # One of them cannot be written: the others shall not suffer for it.
                return [outcome for call in calls for outcome in self._outcomes([call])]
            known = error if isinstance(error, StreamlearnError) else LogError(f"log {self._file.path}: {error!r}")
            return [(call.future, known) for call in calls]
        return [(call.future, place) for call, place in zip(calls, places, strict=True)]

    def _commit(self, calls: list[_Call]) -> list[list[tuple[int, int]]]:
        """Write every call in one transaction; returns each entry's (partition, offset), call by call."""
        batches: dict[tuple[int, int], _Batch] = {}
        places: list[list[tuple[int, int]]] = []
        for call in calls:
            place = []
            for partition, entry in call.entries:
                batch = batches.get((call.stream, partition))
                if batch is None:
                    batch = batches[call.stream, partition] = _Batch()
                place.append((partition, batch.count))
                batch.values += (int(entry.kind), entry.key, entry.value)
                batch.count += 1
            places.append(place)
        starts: dict[tuple[int, int], int] = {}
        if batches:
            with self._file.writing() as connection:
                now = self._clock()
                for lane, batch in batches.items():
                    starts[lane] = self._write(connection, lane, batch, now)
        return [
            [(partition, starts[call.stream, partition] + n) for partition, n in place]
            for call, place in zip(calls, places, strict=True)
        ]

    def _write(self, connection: sqlite3.Connection, lane: tuple[int, int], batch: _Batch, now: float) -> int:
        start, newest = connection.execute("SELECT next, ts FROM ends WHERE stream=? AND partition=?", lane).fetchone()
        ts = max(newest, now)
        done = 0
        for rows in _chunks(batch.count):
            values = batch.values[3 * done : 3 * (done + rows)]
            connection.execute(_INSERTS[rows], (*lane, start + done, ts, *values))
            done += rows
        connection.execute("UPDATE ends SET next=?, ts=? WHERE stream=? AND partition=?", (start + done, ts, *lane))
        return int(start)


def _insert(rows: int) -> str:
    """One statement for many rows: the interpreter lock is let go once a statement, and a busy thread may keep it for 5 ms."""
    values = (f"(?1, ?2, ?3 + {n}, ?4, ?{5 + 3 * n}, ?{6 + 3 * n}, ?{7 + 3 * n})" for n in range(rows))
    return f"INSERT INTO records VALUES {', '.join(values)}"


# 256 rows have 772 parameters, within the 999 that every SQLite allows.
_INSERTS: Final[Mapping[int, str]] = {rows: _insert(rows) for rows in (256, 32, 4, 1)}


def _chunks(count: int) -> Iterator[int]:
    """The sizes of the statements that together insert `count` rows."""
    for rows in _INSERTS:
        yield from repeat(rows, count // rows)
        count %= rows
