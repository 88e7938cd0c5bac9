"""The store in memory, for `testing`: what every store does, without a disk. Never for production: nothing in it lasts."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from .errors import Fenced, StoreError, StoreUnavailable
from .store import CheckpointInfo, Publication, Retention
from .store.retention import kept_by_build


class _Checkpoint(NamedTuple):
    model: str
    shard: int
    info: CheckpointInfo
    blob: bytes


@dataclass
class _StoreData:
    lock: threading.RLock = field(default_factory=threading.RLock)
    generations: dict[tuple[str, int], int] = field(default_factory=dict)
    checkpoints: dict[int, _Checkpoint] = field(default_factory=dict)
    publications: dict[tuple[str, int], Publication] = field(default_factory=dict)
    versions: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    version_pieces: dict[tuple[str, int, int], dict[str, bytes]] = field(default_factory=dict)
    pieces: dict[tuple[str, int], dict[str, bytes]] = field(default_factory=dict)
    statuses: dict[tuple[str, int], bytes] = field(default_factory=dict)
    views: dict[tuple[str, str], bytes] = field(default_factory=dict)
    view_offset: int = 0
    history: dict[tuple[str, int], dict[int, bytes]] = field(default_factory=dict)
    listeners: dict[int, Callable[[], None]] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: count(1))
    tags: Iterator[int] = field(default_factory=lambda: count(secrets.randbits(52)))


class MemoryStore:
    """A store in memory. `reopen()` gives another handle on the same content, `empty()` loses all of it."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._data, self._closed = clock, _StoreData(), False

    def reopen(self) -> MemoryStore:
        again = MemoryStore(clock=self._clock)
        again._data = self._data
        return again

    def empty(self) -> None:
        with self._open() as data:
            empty = _StoreData(lock=data.lock, listeners=data.listeners)
            vars(data).update(vars(empty))  # in place: every handle shares this object

    def claim(self, model: str, shard: int, generation: int) -> None:
        with self._writing(model, shard, generation):
            pass

    def put_checkpoint(
        self, model: str, shard: int, generation: int, blob: bytes, keep: Retention, build: str = ""
    ) -> int:
        with self._writing(model, shard, generation) as data:
            id = next(data.ids)
            info = CheckpointInfo(id, generation, self._clock(), len(blob), None, build)
            data.checkpoints[id] = _Checkpoint(model, shard, info, blob)
            infos = self.checkpoints(model, shard)
            good = [((one.generation, one.id), one.created, one.build) for one in infos if one.set_aside is None]
            for _, number in {place for place, _, _ in good} - kept_by_build(good, keep, build):
                del data.checkpoints[number]
            return id

    def restore_checkpoint(self, model: str, shard: int, info: CheckpointInfo, blob: bytes) -> int:
        with self._open() as data:
            data.generations[model, shard] = max(info.generation, data.generations.get((model, shard), 0))
            id = next(data.ids)
            data.checkpoints[id] = _Checkpoint(model, shard, info._replace(id=id, size=len(blob)), blob)
            return id

    def checkpoints(self, model: str, shard: int) -> list[CheckpointInfo]:
        with self._open() as data:
            infos = [one.info for one in data.checkpoints.values() if (one.model, one.shard) == (model, shard)]
        return sorted(infos, key=lambda info: (info.generation, info.id), reverse=True)

    def checkpoint(self, id: int) -> bytes:
        with self._open():
            return self._checkpoint(id).blob

    def set_aside(self, id: int, reason: str) -> None:
        with self._open() as data:
            found = self._checkpoint(id)
            data.checkpoints[id] = found._replace(info=found.info._replace(set_aside=reason))

    def put_publication(self, model: str, shard: int, generation: int, blob: bytes) -> int:
        with self._writing(model, shard, generation) as data:
            tag = next(data.tags)
            data.publications[model, shard] = Publication(tag, blob)
            listeners = list(data.listeners.values())
        for wake in listeners:
            wake()
        return tag

    def publication(self, model: str, shard: int, after: int | None = None) -> Publication | None:
        with self._open() as data:
            found = data.publications.get((model, shard))
            return None if found is None or found.tag == after else found

    def put_piece(self, model: str, shard: int, generation: int, name: str, data: bytes) -> None:
        with self._writing(model, shard, generation) as content:
            content.pieces.setdefault((model, shard), {})[name] = data

    def piece(self, model: str, shard: int, name: str) -> bytes | None:
        with self._open() as data:
            return data.pieces.get((model, shard), {}).get(name)

    def pieces(self, model: str, shard: int) -> dict[str, int]:
        with self._open() as data:
            return {name: len(piece) for name, piece in sorted(data.pieces.get((model, shard), {}).items())}

    def drop_pieces(self, model: str, shard: int, generation: int, names: Sequence[str]) -> None:
        with self._writing(model, shard, generation) as content:
            for name in names:
                content.pieces.get((model, shard), {}).pop(name, None)

    def put_version(self, model: str, version: int, shard: int, blob: bytes, pieces: Collection[str] = ()) -> None:
        with self._open() as data:
            data.versions[model, version, shard] = blob
            there = data.version_pieces.pop((model, version, shard), {})
            if kept := {name: piece for name, piece in there.items() if name in pieces}:
                data.version_pieces[model, version, shard] = kept

    def version(self, model: str, version: int, shard: int) -> bytes | None:
        with self._open() as data:
            return data.versions.get((model, version, shard))

    def versions(self) -> list[tuple[str, int, int]]:
        with self._open() as data:
            return sorted(data.versions)

    def drop_version(self, model: str, version: int) -> None:
        with self._open() as data:
            for kept in (data.versions, data.version_pieces):
                for key in [key for key in kept if key[:2] == (model, version)]:
                    del kept[key]

    def put_version_piece(self, model: str, version: int, shard: int, name: str, data: bytes) -> None:
        with self._open() as content:
            content.version_pieces.setdefault((model, version, shard), {})[name] = data

    def version_piece(self, model: str, version: int, shard: int, name: str) -> bytes | None:
        with self._open() as data:
            return data.version_pieces.get((model, version, shard), {}).get(name)

    def version_pieces(self, model: str, version: int, shard: int) -> dict[str, int]:
        with self._open() as data:
            return {name: len(piece) for name, piece in sorted(data.version_pieces.get((model, version, shard), {}).items())}

    def put_status(self, model: str, shard: int, generation: int, doc: bytes) -> int | None:
        with self._writing(model, shard, generation) as data:
            data.statuses[model, shard] = doc
            found = data.publications.get((model, shard))
            return None if found is None else found.tag

    def statuses(self) -> dict[tuple[str, int], bytes]:
        with self._open() as data:
            return dict(data.statuses)

    def put_views(self, docs: Mapping[tuple[str, str], bytes], offset: int) -> None:
        with self._open() as data:
            data.views.update(docs)
            data.view_offset = offset

    def views(self, kind: str, ids: Sequence[str] | None = None) -> dict[str, bytes]:
        with self._open() as data:
            wanted = None if ids is None else set(ids)
            return {id: doc for (k, id), doc in data.views.items() if k == kind and (wanted is None or id in wanted)}

    def view_kinds(self) -> list[str]:
        with self._open() as data:
            return sorted({kind for kind, _ in data.views})

    def view_offset(self) -> int:
        with self._open() as data:
            return data.view_offset

    def clear_views(self) -> None:
        with self._open() as data:
            data.views.clear()
            data.view_offset = 0

    def put_history(self, model: str, step: int, at: int, row: bytes, was: bytes | None) -> bool:
        with self._open() as data:
            rows = data.history.setdefault((model, step), {})
            if rows.get(at) != was:
                return False
            rows[at] = row
            return True

    def history(self, model: str, step: int, since: int, until: int) -> list[tuple[int, bytes]]:
        with self._open() as data:
            return sorted(row for row in data.history.get((model, step), {}).items() if since <= row[0] < until)

    def drop_history(self, model: str, step: int, before: int) -> None:
        with self._open() as data:
            for at in [at for at in data.history.get((model, step), {}) if at < before]:
                del data.history[model, step][at]

    def histories(self) -> list[tuple[str, int]]:
        with self._open() as data:
            return sorted(series for series, rows in data.history.items() if rows)

    def shards(self) -> list[tuple[str, int]]:
        with self._open() as data:
            return sorted({*data.generations, *((model, shard) for model, _, shard in data.versions)})

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        listener = secrets.randbits(64)
        with self._data.lock:
            self._data.listeners[listener] = wake

        def end() -> None:
            self._data.listeners.pop(listener, None)

        return end

    def describe(self) -> list[str]:
        return []

    def memory(self) -> dict[str, int]:
        with self._open() as data:
            total = {"_views": sum(map(len, data.views.values()))}
            sizes = [(one.model, len(one.blob)) for one in data.checkpoints.values()]
            sizes += [(model, len(one.blob)) for (model, _), one in data.publications.items()]
            sizes += [(model, len(blob)) for (model, _, _), blob in data.versions.items()]
            sizes += [(model, len(piece)) for (model, _), pieces in data.pieces.items() for piece in pieces.values()]
            sizes += [(model, len(one)) for (model, _, _), pieces in data.version_pieces.items() for one in pieces.values()]
            sizes += [(model, len(row)) for (model, _), rows in data.history.items() for row in rows.values()]
            for model, size in sizes:
                total[model] = total.get(model, 0) + size
            return total

    def close(self) -> None:
        self._closed = True

    def _checkpoint(self, id: int) -> _Checkpoint:
        found = self._data.checkpoints.get(id)
        if found is None:
            raise StoreError(f"no checkpoint {id} in the store in memory; it may have been dropped by its retention")
        return found

    @contextmanager
    def _open(self) -> Iterator[_StoreData]:
        if self._closed:
            raise StoreUnavailable("the store in memory is closed")
        with self._data.lock:
            yield self._data

    @contextmanager
    def _writing(self, model: str, shard: int, generation: int) -> Iterator[_StoreData]:
        with self._open() as data:
            current = data.generations.get((model, shard), generation)
            if current > generation:
                raise Fenced(model, shard, generation, current)
            data.generations[model, shard] = generation
            yield data
