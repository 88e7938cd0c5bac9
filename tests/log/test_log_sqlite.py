"""What the SQLite log does beyond the contract: durability, full disks, locks, damage, bounded memory and WAL."""

from __future__ import annotations

import functools
import os
import pickle
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from streamlearn.errors import LogError, LogFull, LogUnavailable, Overloaded
from streamlearn.log import Entry
from streamlearn.log import sqlite as module
from streamlearn.log.sqlite import SqliteLog
from streamlearn.testing import FakeClock

WAIT = 20.0


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "log.sqlite")
    log.create({"s": 1, "m": 3})
    yield log
    log.close()


def put(log: SqliteLog, *values: bytes) -> list[tuple[int, int]]:
    return log.append("s", [Entry(b"k", value) for value in values]).result(WAIT)


def hold_lock(path: Path) -> sqlite3.Connection:
    """Another program in the middle of a write."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


def successes(call: Callable[[], object], until: type[Exception]) -> int:
    """How often `call` succeeds before it raises `until`."""
    for count in range(1000):
        try:
            call()
        except until:
            return count
    raise AssertionError(f"it never raised {until.__name__}")


def quickly_busy(log: SqliteLog) -> None:
    log._file._writer.execute("PRAGMA busy_timeout=50")  # type: ignore[union-attr]  # it is open


# -- group commit


def test_calls_that_wait_are_committed_together(log: SqliteLog, tmp_path: Path) -> None:
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    log._file._writer.set_trace_callback(count)  # type: ignore[union-attr]  # it is open
    other = hold_lock(tmp_path / "log.sqlite")
    futures = [log.append("s", [Entry(b"", b"first")])]
    while log._waiting:
        time.sleep(0.001)
    futures += [log.append("s", [Entry(b"", b"%d" % n)]) for n in range(200)]
    assert not any(future.done() for future in futures)
    other.execute("ROLLBACK")
    other.close()
    assert [future.result(WAIT) for future in futures] == [[(0, n)] for n in range(201)]
    assert commits == 2


def test_the_log_is_flushed_at_every_commit(log: SqliteLog) -> None:
    put(log, b"a")
    writer: Any = log._file._writer
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_readers_cannot_write(log: SqliteLog) -> None:
    with pytest.raises(LogError), log._file.reading() as connection:
        connection.execute("DELETE FROM streams")
    assert "s" in log.streams()


def test_no_thread_without_an_append(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    log.create({"s": 1})
    log.read("s", 0, 0, 1)
    assert log._thread is None
    log.close()


# -- append time


def test_the_append_time_never_goes_back(tmp_path: Path) -> None:
    """The clock may: a partition then repeats its newest time, whoever appends to it."""
    clock = FakeClock(1000.0)
    log, other = (SqliteLog(tmp_path / "log.sqlite", clock=clock) for _ in range(2))
    log.create({"one": 1, "four": 4})
    for step, handle in ((0.0, log), (5.5, log), (-100.0, log), (0.0, other)):
        clock.advance(step)
        handle.append("one", [Entry(b"", b"x")]).result(WAIT)
    log.append("four", [Entry(b"", b"x", 0, 2)]).result(WAIT)
    assert [record.ts for record in log.read("one", 0, 0, 9)] == [1000.0, 1005.5, 1005.5, 1005.5]
    assert [record.ts for record in log.read("four", 2, 0, 9)] == [905.5]
    for handle in (log, other):
        handle.close()


# -- bounded memory


def test_overloaded_while_too_much_waits_and_not_after(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", max_waiting_bytes=10_000)
    log.create({"s": 1})
    other = hold_lock(tmp_path / "log.sqlite")
    taken = [log.append("s", [Entry(b"", b"x" * 4000)]) for _ in range(2)]
    with pytest.raises(Overloaded, match="wait to be written") as caught:
        log.append("s", [Entry(b"", b"x" * 4000)])
    assert caught.value.retry_after > 0
    other.execute("ROLLBACK")
    other.close()
    assert [future.result(WAIT) for future in taken] == [[(0, 0)], [(0, 1)]]
    assert put(log, b"x" * 9000) == [(0, 2)]
    log.close()


def test_empty_entries_are_bounded_too(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", max_waiting_bytes=1000)
    log.create({"s": 1})
    other = hold_lock(tmp_path / "log.sqlite")
    assert 10 < successes(lambda: log.append("s", [Entry(b"", b"")]), Overloaded) < 40
    other.close()
    log.close()


def test_one_call_larger_than_the_bound_still_goes_in(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", max_waiting_bytes=100)
    log.create({"s": 1})
    assert put(log, b"x" * 1000) == [(0, 0)]
    assert put(log, b"x" * 1000) == [(0, 1)]
    log.close()


# -- a full disk


def test_full_then_space_again(log: SqliteLog) -> None:
    """SQLite's own page limit stands in for the disk: the same error code as ENOSPC."""
    put(log, b"kept")
    writer: Any = log._file._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count={pages}")
    futures = [log.append("s", [Entry(b"", b"x" * 50_000)]) for _ in range(5)]
    for future in futures:
        with pytest.raises(LogFull, match="free some space"):
            future.result(WAIT)
    assert log.bounds("s", 0) == (0, 1)
    assert [record.value for record in log.read("s", 0, 0, 9)] == [b"kept"]
    writer.execute(f"PRAGMA max_page_count={2**30}")
    assert put(log, b"x" * 50_000) == [(0, 1)]


def test_a_really_full_disk_then_space_again(small_disk: Callable[[Path, int], Path], tmp_path: Path) -> None:
    disk = small_disk(tmp_path / "disk", 2)
    log = SqliteLog(disk / "log.sqlite")
    log.create({"s": 1})
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * 1_200_000)
    acknowledged = successes(lambda: put(log, b"y" * 20_000), LogFull)
    assert 0 < acknowledged < 100
    assert log.bounds("s", 0) == (0, acknowledged)
    assert len(log.read("s", 0, 0, 1000)) == acknowledged
    with pytest.raises(LogFull):
        put(log, b"y" * 20_000)
    ballast.unlink()
    assert put(log, b"y" * 20_000) == [(0, acknowledged)]
    log.close()
    again = SqliteLog(disk / "log.sqlite")
    assert [record.offset for record in again.read("s", 0, 0, 1000)] == list(range(acknowledged + 1))
    again.close()


def test_no_space_for_a_new_log(small_disk: Callable[[Path, int], Path], tmp_path: Path) -> None:
    disk = small_disk(tmp_path / "disk", 2)
    (disk / "ballast").write_bytes(b"\0" * (2 << 20))
    with pytest.raises((LogFull, LogUnavailable)):
        SqliteLog(disk / "log.sqlite")


# -- locks and lost files


def test_locked_out_then_let_in(log: SqliteLog, tmp_path: Path) -> None:
    put(log, b"a")
    quickly_busy(log)
    other = hold_lock(tmp_path / "log.sqlite")
    futures = [log.append("s", [Entry(b"", b"b")]) for _ in range(3)]
    for future in futures:
        with pytest.raises(LogUnavailable, match="locked"):
            future.result(WAIT)
    assert [record.value for record in log.read("s", 0, 0, 9)] == [b"a"]
    with pytest.raises(LogUnavailable):
        log.trim("s", 0, 1)
    other.close()
    assert put(log, b"c") == [(0, 1)]


def test_a_removed_file_is_said_not_written_to(log: SqliteLog, tmp_path: Path) -> None:
    put(log, b"a")
    identity = log.identity("_control")
    for name in ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    for call in (lambda: put(log, b"b"), lambda: log.read("s", 0, 0, 9)):
        with pytest.raises(LogUnavailable, match="removed or replaced"):
            call()
    fresh = SqliteLog(tmp_path / "log.sqlite")
    assert fresh.identity("_control") != identity
    with pytest.raises(LogUnavailable, match="removed or replaced"):
        put(log, b"b")
    fresh.close()


def test_a_moved_file_that_comes_back(log: SqliteLog, tmp_path: Path) -> None:
    put(log, b"a")
    (tmp_path / "log.sqlite").rename(tmp_path / "away")
    with pytest.raises(LogUnavailable):
        put(log, b"b")
    (tmp_path / "away").rename(tmp_path / "log.sqlite")
    assert put(log, b"b") == [(0, 1)]


# -- the writer thread outlives everything


def test_one_unwritable_call_does_not_harm_the_others(log: SqliteLog, tmp_path: Path) -> None:
    other = hold_lock(tmp_path / "log.sqlite")
    good = [log.append("s", [Entry(b"", b"good")])]
    bad = [
        log.append("s", [Entry(b"", b"", 2**70)]),
        log.append("s", [Entry(b"", b""), Entry(b"", range(3))]),  # type: ignore[arg-type]  # what no caller should send
    ]
    good += [log.append("s", [Entry(b"", b"good")]) for _ in range(3)]
    other.close()
    assert [future.result(WAIT) for future in good] == [[(0, n)] for n in range(4)]
    for future in bad:
        with pytest.raises(LogError):
            future.result(WAIT)
    assert [record.value for record in log.read("s", 0, 0, 9)] == [b"good"] * 4


def test_a_cancelled_call_is_not_written(log: SqliteLog, tmp_path: Path) -> None:
    other = hold_lock(tmp_path / "log.sqlite")
    first = log.append("s", [Entry(b"", b"first")])
    while log._waiting:
        time.sleep(0.001)
    cancelled = log.append("s", [Entry(b"", b"cancelled")])
    last = log.append("s", [Entry(b"", b"last")])
    assert cancelled.cancel()
    other.close()
    assert (first.result(WAIT), last.result(WAIT)) == ([(0, 0)], [(0, 1)])
    assert [record.value for record in log.read("s", 0, 0, 9)] == [b"first", b"last"]


def test_an_unforeseen_error_is_told_and_survived(tmp_path: Path) -> None:
    moments: Iterator[Callable[[], float]] = iter([lambda: 1.0, lambda: 1 / 0, lambda: 2.0])

    def clock() -> float:
        return next(moments)()

    log = SqliteLog(tmp_path / "log.sqlite", clock=clock)
    log.create({"s": 1})
    assert put(log, b"a") == [(0, 0)]
    with pytest.raises(LogError, match="ZeroDivisionError"):
        put(log, b"b")
    assert put(log, b"c") == [(0, 1)]
    log.close()


def test_a_broken_connection_is_replaced(log: SqliteLog) -> None:
    put(log, b"a")
    log._file._writer.close()  # type: ignore[union-attr]  # it is open
    with pytest.raises(LogError):
        put(log, b"b")
    assert put(log, b"c") == [(0, 1)]


# -- files that are not a log


def test_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_text("not a database, " * 1000)
    with pytest.raises(LogError, match=r"log\.sqlite: file is not a database; the file is damaged or not ours"):
        SqliteLog(path)
    assert path.read_text() == "not a database, " * 1000


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(LogError, match="not a streamlearn log"):
        SqliteLog(path)
    assert path.read_bytes() == before


def test_a_log_of_another_version(log: SqliteLog, tmp_path: Path) -> None:
    log.close()
    other = sqlite3.connect(tmp_path / "log.sqlite")
    other.execute("PRAGMA user_version=99")
    other.close()
    with pytest.raises(LogError, match="version 99, this streamlearn reads version 1"):
        SqliteLog(tmp_path / "log.sqlite")


def test_a_damaged_log_says_so(log: SqliteLog, tmp_path: Path) -> None:
    put(log, *[b"x" * 3000] * 200)
    log.close()
    path = tmp_path / "log.sqlite"
    data = bytearray(path.read_bytes())
    for start in range(8192, len(data), 8192):
        data[start : start + 100] = os.urandom(100)
    path.write_bytes(data)
    with pytest.raises(LogError, match="damaged"):  # noqa: PT012  # it may be seen when opening or when reading
        damaged = SqliteLog(path)
        try:
            damaged.read("s", 0, 0, 500)
        finally:
            damaged.close()


def test_a_cut_log_says_so(log: SqliteLog, tmp_path: Path) -> None:
    put(log, *[b"x" * 3000] * 200)
    log.close()
    path = tmp_path / "log.sqlite"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(LogError):  # noqa: PT012  # as above
        damaged = SqliteLog(path)
        try:
            damaged.read("s", 0, 0, 500)
        finally:
            damaged.close()


def test_a_hole_is_an_error_not_an_end(log: SqliteLog, tmp_path: Path) -> None:
    put(log, b"a", b"b", b"c")
    with log._file.writing() as connection:
        connection.execute('DELETE FROM records WHERE "offset"=1')
    with pytest.raises(LogError, match="hole at offset 1"):
        log.read("s", 0, 1, 9)


def test_an_empty_file_becomes_a_log(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").touch()
    log = SqliteLog(tmp_path / "log.sqlite")
    log.create({"s": 1})
    assert put(log, b"a") == [(0, 0)]
    log.close()


def test_a_place_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogUnavailable, match="file"):
        SqliteLog(tmp_path / "file" / "log.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(LogUnavailable, match="unable to open"):
        SqliteLog(tmp_path / "folder")


def test_a_path_with_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "50% of #1?" / "log & co.sqlite"
    log = SqliteLog(path)
    log.create({"s": 1})
    assert put(log, b"a") == [(0, 0)]
    log.close()
    assert path.exists()


def test_a_relative_path_holds_when_the_working_directory_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = SqliteLog(Path("log.sqlite"))
    log.create({"s": 1})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert put(log, b"a") == [(0, 0)]
    assert len(log.read("s", 0, 0, 9)) == 1
    log.close()


# -- the WAL and the connections


def test_the_wal_stays_bounded_and_goes_at_the_end(log: SqliteLog, tmp_path: Path) -> None:
    for _ in range(60):
        put(log, *[b"x" * 10_000] * 50)
        log.read("s", 0, 0, 10)
    assert (tmp_path / "log.sqlite-wal").stat().st_size < 24 << 20
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.sqlite"]


def test_the_wal_shrinks_once_a_slow_reader_is_gone(
    log: SqliteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAL_BYTES", 1 << 20)
    put(log, b"a")
    reader = sqlite3.connect(tmp_path / "log.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM records").fetchall()
    for _ in range(40):
        put(log, *[b"x" * 10_000] * 50)
    wal = tmp_path / "log.sqlite-wal"
    assert wal.stat().st_size > 16 << 20
    reader.execute("COMMIT")
    reader.close()
    for _ in range(40):
        put(log, *[b"x" * 10_000] * 50)
    put(log, b"x")
    assert wal.stat().st_size <= 9 << 20


def test_many_threads_share_few_connections(log: SqliteLog) -> None:
    put(log, *[b"x"] * 100)
    start = threading.Barrier(30)
    results: list[int] = []

    def read() -> None:
        start.wait(WAIT)
        for _ in range(20):
            results.append(len(log.read("s", 0, 0, 100)))

    threads = [threading.Thread(target=read) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert results == [100] * 600
    assert len(log._file._readers) <= 16


def test_trim_in_several_transactions(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIM_ROWS", 7)
    put(log, *[b"x"] * 100)
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    log._file._writer.set_trace_callback(count)  # type: ignore[union-attr]  # it is open
    assert log.trim("s", 0, 50) == 50
    assert commits == 9  # seven of 7, one of 1, one that finds nothing left
    assert [record.offset for record in log.read("s", 0, 50, 3)] == [50, 51, 52]


def test_trimmed_space_is_used_again(log: SqliteLog, tmp_path: Path) -> None:
    for _ in range(12):  # 36 MB in all
        last = put(log, *[b"x" * 10_000] * 300)[-1][1]
        log.trim("s", 0, last + 1)
    log.close()
    assert (tmp_path / "log.sqlite").stat().st_size < 8_000_000


# -- other processes


def test_the_opener_is_picklable(log: SqliteLog, tmp_path: Path) -> None:
    put(log, b"a")
    opener = pickle.loads(pickle.dumps(functools.partial(SqliteLog, tmp_path / "log.sqlite")))
    other = opener()
    assert other.identity("_control") == log.identity("_control")
    assert [record.value for record in other.read("s", 0, 0, 9)] == [b"a"]
    other.close()


@pytest.mark.parametrize("attempt", range(5))
def test_two_handles_made_at_the_same_moment_agree(tmp_path: Path, attempt: int) -> None:
    start = threading.Barrier(4)
    made: list[SqliteLog] = []
    failures: list[BaseException] = []

    def make() -> None:
        start.wait(WAIT)
        try:
            one = SqliteLog(tmp_path / "log.sqlite")
            made.append(one)
            one.create({"s": 2})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not failures
    assert len({one.identity("_control") for one in made}) == 1
    futures: list[Future[list[tuple[int, int]]]] = [one.append("s", [Entry(b"", b"x", 0, 1)]) for one in made]
    assert sorted(future.result(WAIT)[0][1] for future in futures) == [0, 1, 2, 3]
    for one in made:
        one.close()
