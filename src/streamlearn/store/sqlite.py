"""The embedded store: one SQLite file of its own, so that neither it nor the log waits for the other's lock.

All in it but the history can be made again from the log, so a running process that finds the file gone starts an empty one. It
must never let an older generation write over a newer one. Publications, statuses, views and history are committed without a
flush: a power cut may lose the newest, which are soon put again; claims, checkpoints, versions and pieces are on the disk when
a call returns.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from streamlearn.errors import Fenced, StoreError, StoreFull, StoreUnavailable
from streamlearn.sqlitefile import Errors, Layout, SqliteFile

from . import CheckpointInfo, Publication, Retention
from .retention import kept_by_build

WAL_BYTES: Final = 64 << 20
IDS_A_QUERY: Final = 500
CHECKPOINTS: Final = "checkpoints LEFT JOIN builds ON builds.checkpoint = checkpoints.id"
BUILD: Final = "COALESCE(build, '')"

# The blobs come last in their tables: SQLite reads a row only as far as the columns it is asked for.
LAYOUT: Final = Layout(
    what="store",
    application_id=0x736C5331,
    version=1,
    tables=(
        "CREATE TABLE shards (model TEXT NOT NULL, shard INTEGER NOT NULL, generation INTEGER NOT NULL, "
        "PRIMARY KEY (model, shard)) WITHOUT ROWID",
        "CREATE TABLE checkpoints (id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, shard INTEGER NOT NULL, "
        "generation INTEGER NOT NULL, created REAL NOT NULL, size INTEGER NOT NULL, set_aside TEXT, blob BLOB NOT NULL)",
        "CREATE INDEX checkpoints_of_shard ON checkpoints (model, shard)",
        "CREATE TABLE publications (model TEXT NOT NULL, shard INTEGER NOT NULL, tag INTEGER NOT NULL, blob BLOB NOT NULL, "
        "PRIMARY KEY (model, shard))",
        "CREATE TABLE versions (model TEXT NOT NULL, version INTEGER NOT NULL, shard INTEGER NOT NULL, blob BLOB NOT NULL, "
        "PRIMARY KEY (model, version, shard))",
        "CREATE TABLE statuses (model TEXT NOT NULL, shard INTEGER NOT NULL, doc BLOB NOT NULL, "
        "PRIMARY KEY (model, shard)) WITHOUT ROWID",
        "CREATE TABLE views (place INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, doc BLOB NOT NULL, "
        "UNIQUE (kind, id))",
        "CREATE INDEX views_of_kind ON views (kind)",
        'CREATE TABLE viewed (only INTEGER PRIMARY KEY CHECK (only = 0), "offset" INTEGER NOT NULL)',
    ),
    additions=(
        "CREATE TABLE IF NOT EXISTS builds (checkpoint INTEGER PRIMARY KEY, build TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS history (model TEXT NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL, "
        "row BLOB NOT NULL, PRIMARY KEY (model, step, at))",
        "CREATE TABLE IF NOT EXISTS pieces (model TEXT NOT NULL, shard INTEGER NOT NULL, name TEXT NOT NULL, "
        "size INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (model, shard, name))",
        "CREATE TABLE IF NOT EXISTS version_pieces (model TEXT NOT NULL, version INTEGER NOT NULL, shard INTEGER NOT NULL, "
        "name TEXT NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (model, version, shard, name))",
    ),
)
ERRORS: Final = Errors(refused=StoreError, unavailable=StoreUnavailable, full=StoreFull)

T = TypeVar("T")


class SqliteStore:
    """The store in the file at `path`. `clock` gives Unix seconds.

    Raises StoreError for a file that is damaged or not a store, StoreUnavailable for one that cannot be opened.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = SqliteFile(path, LAYOUT, ERRORS, if_replaced="reopen")

    # -- shards and their checkpoints

    def claim(self, model: str, shard: int, generation: int) -> None:
        with self._file.writing() as connection:
            _fence(connection, model, shard, generation)

    def put_checkpoint(
        self, model: str, shard: int, generation: int, blob: bytes, keep: Retention, build: str = ""
    ) -> int:
        with self._file.writing() as connection:
            _fence(connection, model, shard, generation)
            id = connection.execute(
                "INSERT INTO checkpoints (model, shard, generation, created, size, blob) VALUES (?, ?, ?, ?, ?, ?)",
                (model, shard, generation, self._clock(), len(blob), blob),
            ).lastrowid
            connection.execute("INSERT INTO builds VALUES (?, ?)", (id, build))
            good = connection.execute(
                f"SELECT generation, id, created, {BUILD} FROM {CHECKPOINTS} "
                "WHERE model=? AND shard=? AND set_aside IS NULL",
                (model, shard),
            ).fetchall()
            stay = kept_by_build([((by, number), created, made) for by, number, created, made in good], keep, build)
            dropped = [(number,) for by, number, _, _ in good if (by, number) not in stay]
            connection.executemany("DELETE FROM checkpoints WHERE id=?", dropped)
            connection.executemany("DELETE FROM builds WHERE checkpoint=?", dropped)
        self._file.bound_wal(WAL_BYTES)
        return int(id or 0)

    def restore_checkpoint(self, model: str, shard: int, info: CheckpointInfo, blob: bytes) -> int:
        with self._file.writing() as connection:
            with suppress(Fenced):
                _fence(connection, model, shard, info.generation)
            id = connection.execute(
                "INSERT INTO checkpoints (model, shard, generation, created, size, set_aside, blob) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (model, shard, info.generation, info.created, len(blob), info.set_aside, blob),
            ).lastrowid
            connection.execute("INSERT INTO builds VALUES (?, ?)", (id, info.build))
        self._file.bound_wal(WAL_BYTES)
        return int(id or 0)

    def checkpoints(self, model: str, shard: int) -> list[CheckpointInfo]:
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT id, generation, created, size, set_aside, {BUILD} FROM {CHECKPOINTS} WHERE model=? AND shard=? "
                "ORDER BY generation DESC, id DESC",
                (model, shard),
            )
            return list(map(CheckpointInfo._make, rows))

    def checkpoint(self, id: int) -> bytes:
        with self._file.reading() as connection:
            row = connection.execute("SELECT blob FROM checkpoints WHERE id=?", (id,)).fetchone()
        if row is None:
            raise StoreError(f"no checkpoint {id} in the store {self._file.path}; it may have been dropped by its retention")
        return bytes(row[0])

    def set_aside(self, id: int, reason: str) -> None:
        with self._file.writing() as connection:
            changed = connection.execute("UPDATE checkpoints SET set_aside=? WHERE id=?", (reason, id)).rowcount
        if not changed:
            raise StoreError(f"no checkpoint {id} in the store {self._file.path}; it may have been dropped by its retention")

    # -- publications and versions

    def put_publication(self, model: str, shard: int, generation: int, blob: bytes) -> int:
        with self._file.writing("NORMAL") as connection:
            _fence(connection, model, shard, generation)
            row = connection.execute("SELECT tag FROM publications WHERE model=? AND shard=?", (model, shard)).fetchone()
            # A store that was emptied must not give the tag that a reader saw last: the first one is random.
            tag: int = row[0] + 1 if row else secrets.randbits(52)
            connection.execute("REPLACE INTO publications VALUES (?, ?, ?, ?)", (model, shard, tag, blob))
        self._file.bound_wal(WAL_BYTES)
        return tag

    def publication(self, model: str, shard: int, after: int | None = None) -> Publication | None:
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT tag, blob FROM publications WHERE model=? AND shard=? AND tag IS NOT ?", (model, shard, after)
            ).fetchone()
        return Publication._make(row) if row else None

    def put_piece(self, model: str, shard: int, generation: int, name: str, data: bytes) -> None:
        with self._file.writing() as connection:
            _fence(connection, model, shard, generation)
            connection.execute("REPLACE INTO pieces VALUES (?, ?, ?, ?, ?)", (model, shard, name, len(data), data))
        self._file.bound_wal(WAL_BYTES)

    def piece(self, model: str, shard: int, name: str) -> bytes | None:
        with self._file.reading() as connection:
            asked = "SELECT data FROM pieces WHERE model=? AND shard=? AND name=?"
            row = connection.execute(asked, (model, shard, name)).fetchone()
        return bytes(row[0]) if row else None

    def pieces(self, model: str, shard: int) -> dict[str, int]:
        with self._file.reading() as connection:
            asked = "SELECT name, size FROM pieces WHERE model=? AND shard=? ORDER BY name"
            return dict(connection.execute(asked, (model, shard)))

    def drop_pieces(self, model: str, shard: int, generation: int, names: Sequence[str]) -> None:
        with self._file.writing() as connection:
            _fence(connection, model, shard, generation)
            gone = [(model, shard, name) for name in names]
            connection.executemany("DELETE FROM pieces WHERE model=? AND shard=? AND name=?", gone)

    def put_version(self, model: str, version: int, shard: int, blob: bytes, pieces: Collection[str] = ()) -> None:
        with self._file.writing() as connection:
            connection.execute("REPLACE INTO versions VALUES (?, ?, ?, ?)", (model, version, shard, blob))
            gone = [(model, version, shard, name) for name in _named(connection, model, version, shard) if name not in pieces]
            connection.executemany("DELETE FROM version_pieces WHERE model=? AND version=? AND shard=? AND name=?", gone)
        self._file.bound_wal(WAL_BYTES)

    def version(self, model: str, version: int, shard: int) -> bytes | None:
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT blob FROM versions WHERE model=? AND version=? AND shard=?", (model, version, shard)
            ).fetchone()
        return bytes(row[0]) if row else None

    def versions(self) -> list[tuple[str, int, int]]:
        with self._file.reading() as connection:
            return connection.execute("SELECT model, version, shard FROM versions ORDER BY model, version, shard").fetchall()

    def drop_version(self, model: str, version: int) -> None:
        with self._file.writing() as connection:
            for table in ("versions", "version_pieces"):
                connection.execute(f"DELETE FROM {table} WHERE model=? AND version=?", (model, version))

    def put_version_piece(self, model: str, version: int, shard: int, name: str, data: bytes) -> None:
        with self._file.writing() as connection:
            row = (model, version, shard, name, len(data), data)
            connection.execute("REPLACE INTO version_pieces VALUES (?, ?, ?, ?, ?, ?)", row)
        self._file.bound_wal(WAL_BYTES)

    def version_piece(self, model: str, version: int, shard: int, name: str) -> bytes | None:
        with self._file.reading() as connection:
            asked = "SELECT data FROM version_pieces WHERE model=? AND version=? AND shard=? AND name=?"
            row = connection.execute(asked, (model, version, shard, name)).fetchone()
        return bytes(row[0]) if row else None

    def version_pieces(self, model: str, version: int, shard: int) -> dict[str, int]:
        with self._file.reading() as connection:
            return _named(connection, model, version, shard)

    # -- statuses and views

    def put_status(self, model: str, shard: int, generation: int, doc: bytes) -> int | None:
        with self._file.writing("NORMAL") as connection:
            _fence(connection, model, shard, generation)
            connection.execute("REPLACE INTO statuses VALUES (?, ?, ?)", (model, shard, doc))
            row = connection.execute("SELECT tag FROM publications WHERE model=? AND shard=?", (model, shard)).fetchone()
        return row[0] if row else None

    def statuses(self) -> dict[tuple[str, int], bytes]:
        with self._file.reading() as connection:
            rows = connection.execute("SELECT model, shard, doc FROM statuses")
            return {(model, shard): doc for model, shard, doc in rows}

    def put_views(self, docs: Mapping[tuple[str, str], bytes], offset: int) -> None:
        with self._file.writing("NORMAL") as connection:
            connection.executemany(
                "INSERT INTO views (kind, id, doc) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET doc=excluded.doc",
                [(kind, id, doc) for (kind, id), doc in docs.items()],
            )
            connection.execute("REPLACE INTO viewed VALUES (0, ?)", (offset,))

    def views(self, kind: str, ids: Sequence[str] | None = None) -> dict[str, bytes]:
        with self._file.reading() as connection:
            if ids is None:
                return dict(connection.execute("SELECT id, doc FROM views WHERE kind=? ORDER BY place", (kind,)))
            rows: list[tuple[int, str, bytes]] = []
            for some in _batches(list(ids), IDS_A_QUERY):
                marks = ", ".join("?" * len(some))
                rows += connection.execute(f"SELECT place, id, doc FROM views WHERE kind=? AND id IN ({marks})", (kind, *some))
        return {id: doc for _, id, doc in sorted(rows)}

    def view_kinds(self) -> list[str]:
        with self._file.reading() as connection:
            return [kind for (kind,) in connection.execute("SELECT DISTINCT kind FROM views ORDER BY kind")]

    def view_offset(self) -> int:
        with self._file.reading() as connection:
            row = connection.execute('SELECT "offset" FROM viewed').fetchone()
        return int(row[0]) if row else 0

    def clear_views(self) -> None:
        with self._file.writing("NORMAL") as connection:
            connection.execute("DELETE FROM views")
            connection.execute("DELETE FROM viewed")

    # -- history

    def put_history(self, model: str, step: int, at: int, row: bytes, was: bytes | None) -> bool:
        with self._file.writing("NORMAL") as connection:
            place = (model, step, at)
            found = connection.execute("SELECT row FROM history WHERE model=? AND step=? AND at=?", place).fetchone()
            if (found and found[0]) != was:
                return False
            connection.execute("REPLACE INTO history VALUES (?, ?, ?, ?)", (*place, row))
        self._file.bound_wal(WAL_BYTES)
        return True

    def history(self, model: str, step: int, since: int, until: int) -> list[tuple[int, bytes]]:
        with self._file.reading() as connection:
            asked = "SELECT at, row FROM history WHERE model=? AND step=? AND at>=? AND at<? ORDER BY at"
            return connection.execute(asked, (model, step, since, until)).fetchall()

    def drop_history(self, model: str, step: int, before: int) -> None:
        with self._file.writing("NORMAL") as connection:
            connection.execute("DELETE FROM history WHERE model=? AND step=? AND at<?", (model, step, before))

    def histories(self) -> list[tuple[str, int]]:
        with self._file.reading() as connection:
            return connection.execute("SELECT DISTINCT model, step FROM history ORDER BY model, step").fetchall()

    # -- all of it

    def shards(self) -> list[tuple[str, int]]:
        with self._file.reading() as connection:
            rows = connection.execute("SELECT model, shard FROM shards UNION SELECT model, shard FROM versions ORDER BY 1, 2")
            return rows.fetchall()

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        return lambda: None  # a file tells nobody

    def describe(self) -> list[str]:
        return []

    def memory(self) -> dict[str, int]:
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT model, SUM(size) FROM (SELECT model, size FROM checkpoints UNION ALL "
                "SELECT model, LENGTH(blob) FROM publications UNION ALL SELECT model, LENGTH(blob) FROM versions UNION ALL "
                "SELECT model, LENGTH(row) FROM history UNION ALL SELECT model, size FROM pieces UNION ALL "
                "SELECT model, size FROM version_pieces) "
                "GROUP BY model "
                "UNION ALL SELECT '_views', COALESCE(SUM(LENGTH(doc)), 0) FROM views"
            )
            return dict(rows)

    def close(self) -> None:
        self._file.close()


def _fence(connection: sqlite3.Connection, model: str, shard: int, generation: int) -> None:
    """Inside a transaction: let no generation write after a newer one. Raises Fenced."""
    row = connection.execute("SELECT generation FROM shards WHERE model=? AND shard=?", (model, shard)).fetchone()
    if row is None or row[0] < generation:
        connection.execute("REPLACE INTO shards VALUES (?, ?, ?)", (model, shard, generation))
    elif row[0] > generation:
        raise Fenced(model, shard, generation, row[0])


def _named(connection: sqlite3.Connection, model: str, version: int, shard: int) -> dict[str, int]:
    """The size of every piece of a version, by name."""
    asked = "SELECT name, size FROM version_pieces WHERE model=? AND version=? AND shard=? ORDER BY name"
    return dict(connection.execute(asked, (model, version, shard)))


def _batches(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
