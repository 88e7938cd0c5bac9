"""What the SQLite store does beyond the contract: flushes, full disks, locks, damage, and a file that goes away."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamlearn.errors import Fenced, StoreError, StoreFull, StoreUnavailable
from streamlearn.log.sqlite import SqliteLog
from streamlearn.store import Retention
from streamlearn.store.sqlite import SqliteStore

KEEP = Retention(last=3, hourly=0, daily=0)
WAIT = 20.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.sqlite")
    yield store
    store.close()


def writer(store: SqliteStore) -> Any:
    return store._file._writer


def flush_level(store: SqliteStore) -> int:
    (level,) = writer(store).execute("PRAGMA synchronous").fetchone()
    return int(level)


def test_what_recovery_needs_is_flushed_and_what_is_soon_put_again_is_not(store: SqliteStore) -> None:
    normal, full = 1, 2
    store.put_publication("m", 0, 1, b"p")
    assert flush_level(store) == normal
    store.put_checkpoint("m", 0, 1, b"c", KEEP)
    assert flush_level(store) == full
    store.put_status("m", 0, 1, b"s")
    assert flush_level(store) == normal
    store.put_version("m", 1, 0, b"v")
    assert flush_level(store) == full
    store.put_views({}, 1)
    assert flush_level(store) == normal
    store.claim("m", 0, 1)
    assert flush_level(store) == full


def test_a_poll_that_finds_nothing_new_does_not_touch_the_blob(store: SqliteStore, tmp_path: Path) -> None:
    """Shown by a blob whose pages are damaged: to read it fails, to poll for a newer one does not."""
    tag = store.put_publication("m", 0, 1, b"x" * 1_000_000)
    store.close()
    path = tmp_path / "store.sqlite"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size - size // 2))
    again = SqliteStore(path)
    assert again.publication("m", 0, after=tag) is None
    with pytest.raises(StoreError, match="damaged"):
        again.publication("m", 0)
    again.close()


def test_a_document_that_cannot_be_put_keeps_the_others_out(store: SqliteStore) -> None:
    store.put_views({("case", "a"): b"1"}, 5)
    with pytest.raises(StoreError):
        store.put_views({("case", "b"): b"2", ("case", "c"): object()}, 9)  # type: ignore[dict-item]  # as a mistake would
    assert list(store.views("case")) == ["a"]
    assert store.view_offset() == 5


def test_a_blob_beyond_what_sqlite_holds(store: SqliteStore) -> None:
    writer(store).setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
    with pytest.raises(StoreError, match="too big"):
        store.put_checkpoint("m", 0, 1, b"x" * 20_000, KEEP)
    store.put_checkpoint("m", 0, 1, b"x", KEEP)


# -- a full disk, a lock


def test_full_then_space_again(store: SqliteStore) -> None:
    kept = store.put_checkpoint("m", 0, 1, b"kept", KEEP)
    store.put_publication("m", 0, 1, b"kept")
    (pages,) = writer(store).execute("PRAGMA page_count").fetchone()
    writer(store).execute(f"PRAGMA max_page_count={pages}")
    blob = b"x" * 200_000
    for write in (
        lambda: store.put_checkpoint("m", 0, 1, blob, KEEP),
        lambda: store.put_publication("m", 0, 1, blob),
        lambda: store.put_version("m", 1, 0, blob),
        lambda: store.put_views({("a", "1"): b"small", ("a", "2"): blob}, 3),
    ):
        with pytest.raises(StoreFull, match="free some space"):
            write()
    assert [info.id for info in store.checkpoints("m", 0)] == [kept]
    assert store.publication("m", 0).blob == b"kept"  # type: ignore[union-attr]  # it is there
    assert (store.views("a"), store.view_offset()) == ({}, 0)
    writer(store).execute(f"PRAGMA max_page_count={2**30}")
    store.put_checkpoint("m", 0, 1, blob, KEEP)


def test_a_full_disk_takes_no_generation(store: SqliteStore) -> None:
    """A write that failed has fenced nobody: the older writer goes on."""
    store.claim("m", 0, 1)
    (pages,) = writer(store).execute("PRAGMA page_count").fetchone()
    writer(store).execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFull):
        store.put_checkpoint("m", 0, 2, b"x" * 200_000, KEEP)
    store.put_status("m", 0, 1, b"still mine")


def test_locked_out_then_let_in(store: SqliteStore, tmp_path: Path) -> None:
    store.put_status("m", 0, 1, b"a")
    writer(store).execute("PRAGMA busy_timeout=50")
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.put_status("m", 0, 1, b"b")
    assert store.statuses() == {("m", 0): b"a"}
    other.close()
    store.put_status("m", 0, 1, b"b")
    assert store.statuses() == {("m", 0): b"b"}


def test_the_lock_of_the_log_is_not_the_stores(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    store = SqliteStore(tmp_path / "store.sqlite")
    with log._file.writing():
        store.put_checkpoint("m", 0, 1, b"c", KEEP)
    log.close()
    store.close()


# -- files


def remove(tmp_path: Path) -> None:
    for name in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)


def test_a_fresh_process_after_the_file_was_deleted_starts_empty(store: SqliteStore, tmp_path: Path) -> None:
    store.put_checkpoint("m", 0, 5, b"c", KEEP)
    store.close()
    remove(tmp_path)
    fresh = SqliteStore(tmp_path / "store.sqlite")
    assert fresh.checkpoints("m", 0) == []
    fresh.claim("m", 0, 1)
    fresh.close()


def test_a_running_process_goes_on_with_an_empty_store(store: SqliteStore, tmp_path: Path) -> None:
    tag = store.put_publication("m", 0, 5, b"p")
    remove(tmp_path)
    assert store.publication("m", 0) is None
    newer = store.put_publication("m", 0, 5, b"again")
    assert newer != tag
    assert store.publication("m", 0, after=tag) == (newer, b"again")
    other = SqliteStore(tmp_path / "store.sqlite")
    assert other.publication("m", 0) == (newer, b"again")
    remove(tmp_path)
    other.claim("m", 0, 9)
    with pytest.raises(Fenced):
        store.put_status("m", 0, 5, b"zombie")
    other.close()


def test_threads_agree_on_the_new_file(store: SqliteStore, tmp_path: Path) -> None:
    store.claim("m", 0, 1)
    remove(tmp_path)
    start = threading.Barrier(8)
    failures: list[BaseException] = []

    def write(n: int) -> None:
        start.wait(WAIT)
        try:
            store.put_status("m", n, 1, b"%d" % n)
            store.statuses()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not failures
    assert len(store.statuses()) == 8


def test_a_damaged_store_says_so(store: SqliteStore, tmp_path: Path) -> None:
    for n in range(3):
        store.put_checkpoint("m", 0, 1, b"%d" % n * 50_000, KEEP)
    store.close()
    path = tmp_path / "store.sqlite"
    data = bytearray(path.read_bytes())
    for start in range(8192, len(data), 8192):
        data[start : start + 200] = os.urandom(200)
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):  # noqa: PT012  # it may be seen when opening or when reading
        damaged = SqliteStore(path)
        try:
            for info in damaged.checkpoints("m", 0):
                damaged.checkpoint(info.id)
        finally:
            damaged.close()


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.sqlite"):
        SqliteStore(path)
    assert path.read_bytes() == content


def test_a_log_is_not_a_store(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    log.close()
    with pytest.raises(StoreError, match="not a streamlearn store; name another path"):
        SqliteStore(tmp_path / "log.sqlite")


def test_large_publications_do_not_pile_up(store: SqliteStore, tmp_path: Path) -> None:
    for n in range(60):
        store.put_publication("m", 0, 1, bytes([n]) * 1_000_000)
    assert (tmp_path / "store.sqlite-wal").stat().st_size < 24 << 20
    store.close()
    assert (tmp_path / "store.sqlite").stat().st_size < 8 << 20


# -- other processes

PUBLISHER = """
import sys
from pathlib import Path
from streamlearn.store import Retention
from streamlearn.store.sqlite import SqliteStore

store = SqliteStore(Path(sys.argv[1]))
n = 0
while True:
    n += 1
    store.put_publication("m", 0, 1, n.to_bytes(8, "big") * 2000)
    store.put_checkpoint("m", 0, 1, n.to_bytes(8, "big") * 2000, Retention(2, 0, 0))
    if n == 20:
        print("going", flush=True)
"""


@pytest.mark.slow
def test_a_writer_killed_in_the_middle_leaves_whole_blobs(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    newest = 0
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", PUBLISHER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"going\n"
        process.kill()
        process.wait(WAIT)
        process.stdout.close()
        store = SqliteStore(path)
        found = store.publication("m", 0)
        assert found is not None
        assert found.blob == found.blob[:8] * 2000
        infos = store.checkpoints("m", 0)
        assert len(infos) == 2
        assert infos[0].id > newest
        newest = infos[0].id
        for info in infos:
            blob = store.checkpoint(info.id)
            assert blob == blob[:8] * 2000
        store.close()
