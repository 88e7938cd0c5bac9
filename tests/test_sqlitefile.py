"""The shared SQLite file: what its errors become, and whose connections are whose."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from streamlearn.errors import StoreError, StoreFull, StoreUnavailable, StreamlearnError
from streamlearn.sqlitefile import IDLE_READERS, Errors, Layout, SqliteFile

LAYOUT = Layout("thing", 0x1234, 3, ("CREATE TABLE t (x INTEGER PRIMARY KEY, y BLOB)",))
ERRORS = Errors(StoreError, StoreUnavailable, StoreFull)


def open_file(path: Path, if_replaced: Literal["refuse", "reopen"] = "refuse", busy_s: float = 0.05) -> SqliteFile:
    return SqliteFile(path, LAYOUT, ERRORS, if_replaced, busy_s)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteFile]:
    file = open_file(tmp_path / "f.sqlite")
    yield file
    file.close()


def rows(file: SqliteFile) -> list[int]:
    with file.reading() as connection:
        return [x for (x,) in connection.execute("SELECT x FROM t ORDER BY x")]


def from_sqlite(code: int, text: str = "what SQLite said") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (from_sqlite(sqlite3.SQLITE_FULL), StoreFull),
        (OSError(errno.ENOSPC, "no space"), StoreFull),
        (OSError(errno.EDQUOT, "quota"), StoreFull),
        (from_sqlite(sqlite3.SQLITE_BUSY), StoreUnavailable),
        (from_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT), StoreUnavailable),
        (from_sqlite(sqlite3.SQLITE_LOCKED), StoreUnavailable),
        (from_sqlite(sqlite3.SQLITE_IOERR_FSYNC), StoreUnavailable),
        (from_sqlite(sqlite3.SQLITE_CANTOPEN), StoreUnavailable),
        (from_sqlite(sqlite3.SQLITE_READONLY), StoreUnavailable),
        (PermissionError(errno.EACCES, "denied"), StoreUnavailable),
        (from_sqlite(sqlite3.SQLITE_CORRUPT), StoreError),
        (from_sqlite(sqlite3.SQLITE_NOTADB), StoreError),
        (from_sqlite(sqlite3.SQLITE_ERROR, "no such table: t"), StoreError),
        (sqlite3.ProgrammingError("unsupported type"), StoreError),
        (OverflowError("too large"), StoreError),
    ],
)
def test_foreign_errors_become_ours(file: SqliteFile, error: Exception, kind: type[StreamlearnError]) -> None:
    explained = file.explain(error)
    assert type(explained) is kind
    assert str(file.path) in str(explained)


def test_an_io_error_on_a_full_disk_is_a_full_disk(file: SqliteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite says "disk I/O error" when it cannot enlarge the file that its processes share."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 4096}))
    assert type(file.explain(from_sqlite(sqlite3.SQLITE_IOERR_SHMSIZE))) is StoreFull


def test_a_block_that_raises_is_rolled_back(file: SqliteFile) -> None:
    def block() -> None:
        with file.writing() as connection:
            connection.execute("INSERT INTO t VALUES (1, NULL)")
            raise KeyError("ours")

    with pytest.raises(KeyError):
        block()
    assert rows(file) == []
    with file.writing() as connection:
        connection.execute("INSERT INTO t VALUES (2, NULL)")
    assert rows(file) == [2]


def test_a_failed_statement_undoes_the_whole_block(file: SqliteFile) -> None:
    with pytest.raises(StoreError, match="UNIQUE"), file.writing() as connection:
        connection.executemany("INSERT INTO t VALUES (?, NULL)", [(1,), (2,), (1,)])
    assert rows(file) == []


def test_a_reader_keeps_its_view_while_a_writer_commits(file: SqliteFile) -> None:
    with file.reading() as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
        with file.writing() as connection:
            connection.execute("INSERT INTO t VALUES (1, NULL)")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
        reader.execute("COMMIT")
    assert rows(file) == [1]


def test_readers_are_used_again(file: SqliteFile) -> None:
    with file.reading() as first:
        pass
    with file.reading() as second:
        assert second is first
        with file.reading() as nested:
            assert nested is not first


def test_a_reader_that_failed_is_not_used_again(file: SqliteFile) -> None:
    with pytest.raises(StoreError, match="no such table"), file.reading() as broken:
        broken.execute("SELECT * FROM nowhere")
    with file.reading() as fresh:
        assert fresh is not broken
    with pytest.raises(sqlite3.ProgrammingError):
        broken.execute("SELECT 1")


def test_idle_readers_are_bounded(file: SqliteFile) -> None:
    start, end = threading.Barrier(IDLE_READERS + 9), threading.Barrier(IDLE_READERS + 9)

    def read() -> None:
        with file.reading():
            start.wait(20)
            end.wait(20)

    threads = [threading.Thread(target=read) for _ in range(IDLE_READERS + 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(file._readers) <= IDLE_READERS


def test_a_connection_that_outlives_close_is_closed_when_given_back(file: SqliteFile) -> None:
    with file.reading() as late:
        file.close()
    with pytest.raises(sqlite3.ProgrammingError):
        late.execute("SELECT 1")
    assert not file._readers


def test_several_failures_leave_a_working_file(file: SqliteFile, tmp_path: Path) -> None:
    """Busy, then an error of ours, then busy again: the same writer serves the next block."""
    for _ in range(3):
        other = sqlite3.connect(tmp_path / "f.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"), file.writing():
            pass
        other.close()
    with file.writing() as connection:
        connection.execute("INSERT INTO t VALUES (1, NULL)")
    assert rows(file) == [1]


@pytest.mark.parametrize("if_replaced", ["refuse", "reopen"])
def test_a_replaced_file(tmp_path: Path, if_replaced: Any) -> None:
    file = open_file(tmp_path / "f.sqlite", if_replaced)
    with file.writing() as connection:
        connection.execute("INSERT INTO t VALUES (1, NULL)")
    assert rows(file) == [1]
    file.path.unlink()
    if if_replaced == "refuse":
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            rows(file)
        assert not file.path.exists()
    else:
        assert rows(file) == []
        assert file.path.exists()
    file.close()


def remove(file: SqliteFile, *endings: str) -> None:
    for ending in endings:
        Path(f"{file.path}{ending}").unlink(missing_ok=True)


def test_reopening_refuses_a_stranger(tmp_path: Path) -> None:
    file = open_file(tmp_path / "f.sqlite", "reopen")
    remove(file, "", "-wal", "-shm")
    file.path.write_text("something else entirely, and longer than a header of SQLite would be: " * 20)
    for _ in range(2):
        with pytest.raises(StoreError, match="not a database"):
            rows(file)
    file.path.unlink()
    assert rows(file) == []
    file.close()


HOLDER = """
import sys
from pathlib import Path
from streamlearn.errors import StoreError, StoreFull, StoreUnavailable
from streamlearn.sqlitefile import Errors, Layout, SqliteFile

layout = Layout("thing", 0x1234, 3, ("CREATE TABLE t (x INTEGER PRIMARY KEY, y BLOB)",))
file = SqliteFile(Path(sys.argv[1]), layout, Errors(StoreError, StoreUnavailable, StoreFull), "reopen", 5.0)
for line in sys.stdin:
    if line.startswith("write"):
        with file.writing() as connection:
            connection.execute("INSERT INTO t VALUES (?, NULL)", (int(line.split()[1]),))
    with file.reading() as connection:
        print([x for (x,) in connection.execute("SELECT x FROM t ORDER BY x")], flush=True)
file.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("endings", [("",), ("", "-wal"), ("", "-shm"), ("", "-wal", "-shm")])
def test_a_file_removed_while_other_processes_hold_it(tmp_path: Path, endings: tuple[str, ...]) -> None:
    """Whatever of it was removed: they must not spoil the new one, whenever they notice, and whenever they close."""
    path = tmp_path / "f.sqlite"
    old = open_file(path, "reopen", 5.0)
    with old.writing() as connection:
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, b"old" * 500) for n in range(100, 400)])
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    def ask(which: int, what: str) -> list[int]:
        stdin, stdout = holders[which].stdin, holders[which].stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{what}\n")
        stdin.flush()
        found: list[int] = json.loads(stdout.readline())
        return found

    try:
        assert len(ask(0, "read")) == len(ask(1, "read")) == 300
        remove(old, *endings)
        fresh = open_file(path, busy_s=5.0)
        with fresh.writing() as connection:
            connection.execute("INSERT INTO t VALUES (7, NULL)")
        old.close()
        assert rows(fresh) == ask(0, "read") == [7]
        assert ask(0, "write 8") == [7, 8]
        for holder in reversed(holders):  # the second one never noticed
            holder.communicate(timeout=30)
        with fresh.writing() as connection:
            connection.execute("INSERT INTO t VALUES (9, NULL)")
        fresh.close()
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()
    again = open_file(path)
    assert rows(again) == [7, 8, 9]
    with again.reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again.close()


def test_another_layout_is_refused(tmp_path: Path) -> None:
    open_file(tmp_path / "f.sqlite").close()
    with pytest.raises(StoreError, match="not a streamlearn other"):
        SqliteFile(tmp_path / "f.sqlite", LAYOUT._replace(what="other", application_id=0x99), ERRORS, "refuse")
    with pytest.raises(StoreError, match="tables of version 3, this streamlearn reads version 4"):
        SqliteFile(tmp_path / "f.sqlite", LAYOUT._replace(version=4), ERRORS, "refuse")


def test_the_folder_is_made(tmp_path: Path) -> None:
    file = open_file(tmp_path / "a" / "b" / "f.sqlite")
    file.close()
    assert (tmp_path / "a" / "b" / "f.sqlite").exists()
