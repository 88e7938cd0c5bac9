"""One SQLite file in WAL mode, as the embedded log and store use it: opened, checked, shared by threads, its errors mapped.

Several threads and several processes may use one file at once; readers never wait for a writer. It must never touch a
file that it did not make, never let a `sqlite3` error through, and never go on writing to a file that was removed or
replaced under it. What the tables mean is for the log and the store to know.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

from .errors import StreamlearnError

PAGE_BYTES: Final = 8192
BUSY_S: Final = 5.0
IDLE_READERS: Final = 16
CHECKPOINT_PAGES: Final = 1000
NEARLY_FULL_BYTES: Final = 1 << 20
STILL_USABLE: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT})


class Layout(NamedTuple):
    """What marks a file as ours: its SQLite application id, the version of its tables, the statements that make them.

    `additions` make what came later, if it is not there yet; who does not know of it passes it over.
    """

    what: str
    application_id: int
    version: int
    tables: Sequence[str]
    additions: Sequence[str] = ()


class Errors(NamedTuple):
    """What the owner raises: for a damaged or foreign file, for one out of reach, for a full disk."""

    refused: type[StreamlearnError]
    unavailable: type[StreamlearnError]
    full: type[StreamlearnError]


class SqliteFile:
    """The file at `path`, made (with its folder) when missing. Raises `errors.refused` for a file that is not ours.

    `if_replaced`: what a running process does when the file was removed or replaced under it. "reopen" makes or takes
    the file now at `path`; "refuse" raises `errors.unavailable`, since acknowledged data went with the old file.
    """

    def __init__(
        self, path: Path, layout: Layout, errors: Errors, if_replaced: Literal["refuse", "reopen"], busy_s: float = BUSY_S
    ) -> None:
        self.path = path.absolute()
        self.wal_path = f"{self.path}-wal"
        self._layout, self._errors, self._if_replaced, self._busy_s = layout, errors, if_replaced, busy_s
        self._writing = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._readers: deque[tuple[int, sqlite3.Connection]] = deque()
        self._epoch = 0
        self._patience_bytes = 0
        self._closed = False
        with self._writing:
            self._open()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read-only connection for this thread alone, for the length of the block."""
        self._check_file()
        epoch, connection = self._take_reader()
        try:
            yield connection
        except BaseException as error:
            connection.close()  # it may hold an unfinished query, which would keep the WAL from being emptied
            if isinstance(error, (sqlite3.Error, OverflowError)):
                raise self.explain(error) from error
            raise
        if epoch != self._epoch or len(self._readers) >= IDLE_READERS:
            connection.close()
            return
        self._readers.append((epoch, connection))
        if self._closed:
            self._drop_readers()

    @contextmanager
    def writing(self, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end of the block, rolled back when the block raises.

        FULL: on the disk when the block ends. NORMAL: it outlives a crash of the process, perhaps not a power cut.
        """
        with self._writing:
            self._check_file()
            connection = self._writer
            try:
                if connection is None:
                    connection = self._writer = self._connect("rw")
                connection.execute(f"PRAGMA synchronous={synchronous}")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                self._undo(connection, error)
                if isinstance(error, (sqlite3.Error, OverflowError, OSError)):
                    raise self.explain(error) from error
                raise

    def bound_wal(self, most_bytes: int) -> None:
        """Empty the write-ahead log once it is larger than `most_bytes`: steady readers can keep the usual way from it.

        A reader that does not end is waited for 200 ms, then not again before the WAL has doubled.
        """
        with suppress(sqlite3.Error, OSError), self._writing:
            size = os.stat(self.wal_path).st_size
            if self._writer is None or size <= max(most_bytes, self._patience_bytes):
                return
            self._patience_bytes = 2 * size
            self._writer.execute("PRAGMA busy_timeout=200")
            try:
                ((busy, _, _),) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._writer.execute(f"PRAGMA busy_timeout={int(self._busy_s * 1000)}")
            if not busy:
                self._patience_bytes = 0

    def close(self) -> None:
        """Let go of every connection. Closing twice is allowed."""
        self._closed = True
        with self._writing:
            self._drop_connections()

    def explain(self, error: Exception) -> StreamlearnError:
        """The owner's error for what SQLite or the system raised."""
        primary = _primary(error)
        where = f"{self._layout.what} {self.path}: {error}"
        if primary == sqlite3.SQLITE_FULL or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
            return self._errors.full(f"{where}; free some space, and it goes on by itself")
        if primary == sqlite3.SQLITE_IOERR and self._disk_is_full():
            return self._errors.full(f"{where}, and the disk is full; free some space, and it goes on by itself")
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._errors.refused(f"{where}; the file is damaged or not ours: move it away or restore a backup")
        if self._closed:
            return self._errors.unavailable(f"{self._layout.what} {self.path} is closed")
        if isinstance(error, (sqlite3.OperationalError, OSError)) and primary != sqlite3.SQLITE_ERROR:
            return self._errors.unavailable(where)
        return self._errors.refused(where)

    def _disk_is_full(self) -> bool:
        with suppress(OSError):
            return shutil.disk_usage(self.path.parent).free < NEARLY_FULL_BYTES
        return False

    def _check_file(self) -> None:
        if self._closed:
            raise self._errors.unavailable(f"{self._layout.what} {self.path} is closed")
        if self._is_same_file():
            return
        if self._if_replaced == "refuse":
            raise self._errors.unavailable(
                f"{self._layout.what} {self.path} was removed or replaced while in use; put it back or restart this process"
            )
        with self._writing:
            if not self._is_same_file():
                self._drop_connections()
                self._open()

    def _is_same_file(self) -> bool:
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._file

    def _take_reader(self) -> tuple[int, sqlite3.Connection]:
        with suppress(IndexError):
            return self._readers.pop()
        try:
            return self._epoch, self._connect("ro")
        except (sqlite3.Error, OSError) as error:
            raise self.explain(error) from error

    def _connect(self, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=self._busy_s,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA secure_delete=OFF")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit={CHECKPOINT_PAGES * PAGE_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self) -> None:
        """Make or check the file, and keep one connection to it, so that its WAL stays while this process lives."""
        with ExitStack() as undo:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._clear_leftovers()
                connection = undo.enter_context(closing(self._connect("rwc")))
                self._make_or_check(connection)
                found = os.stat(self.path)
            except (sqlite3.Error, OSError) as error:
                raise self.explain(error) from error
            undo.pop_all()
        self._file = (found.st_dev, found.st_ino)
        self._writer = connection

    def _clear_leftovers(self) -> None:
        """When somebody removed the file but not its WAL and index, these must not be taken for those of the new file.

        SQLite sees to it for a WAL alone, not for an index that another process still holds.
        """
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if not self.path.exists():
                for name in (self.wal_path, f"{self.path}-shm"):
                    with suppress(FileNotFoundError):
                        os.unlink(name)
                self.path.touch()
        finally:
            os.close(folder)

    def _make_or_check(self, connection: sqlite3.Connection) -> None:
        if self._is_blank(connection):
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            self._use_wal(connection)
            connection.execute("BEGIN IMMEDIATE")
            if self._is_blank(connection):  # else another process made the tables meanwhile
                for statement in self._layout.tables:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={self._layout.application_id}")
                connection.execute(f"PRAGMA user_version={self._layout.version}")
            connection.execute("COMMIT")
        if _number(connection, "PRAGMA application_id") != self._layout.application_id:
            raise self._errors.refused(
                f"{self.path} is an SQLite file, but not a streamlearn {self._layout.what}; name another path"
            )
        version = _number(connection, "PRAGMA user_version")
        if version != self._layout.version:
            raise self._errors.refused(
                f"{self._layout.what} {self.path} has tables of version {version}, this streamlearn reads version "
                f"{self._layout.version}; use the streamlearn that made it, or start with another path"
            )
        self._use_wal(connection)
        for statement in self._layout.additions:
            connection.execute(statement)

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._busy_s
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            except sqlite3.OperationalError as error:
                # SQLite does not wait here by itself when two processes make the file at the same moment.
                if _primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise self._errors.unavailable(f"{self.path}: this file system does not carry SQLite's WAL; use a local disk")
            return

    @staticmethod
    def _is_blank(connection: sqlite3.Connection) -> bool:
        tables = _number(connection, "SELECT count(*) FROM sqlite_master")
        return tables == 0 and _number(connection, "PRAGMA application_id") == 0

    def _undo(self, connection: sqlite3.Connection | None, error: BaseException) -> None:
        """Roll back. A connection that may be broken is dropped, and the next writer opens a fresh one."""
        if connection is None:
            return
        usable = not isinstance(error, sqlite3.Error) or _primary(error) in STILL_USABLE
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if usable:
                return
        connection.close()
        self._writer = None

    def _drop_connections(self) -> None:
        self._epoch += 1
        self._drop_readers()
        if self._writer is not None:
            self._writer.close()  # last: only a writing connection may empty and remove the WAL
            self._writer = None

    def _drop_readers(self) -> None:
        with suppress(IndexError):
            while True:
                self._readers.pop()[1].close()


def _primary(error: BaseException) -> int | None:
    """The primary result code of what SQLite raised; None when it did not come from SQLite itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _number(connection: sqlite3.Connection, query: str) -> int:
    (value,) = connection.execute(query).fetchone()
    return int(value)
