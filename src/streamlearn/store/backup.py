"""Backups of a store: copies of its blobs and views in a folder or an object store, and a manifest of them, written last.

    URL/NAME/checkpoint/MODEL/SHARD/ID     publication/MODEL/SHARD     version/MODEL/VERSION/SHARD     views/KIND
    URL/NAME/piece/MODEL/SHARD/NAME and table/MODEL/VERSION/SHARD/NAME      of large tables, for what has links to them
    URL/NAME/history/MODEL/STEP            a model's series, all rows of one step
    URL/NAME/manifest.json                 what there is, with sizes and SHA-256: a folder without one is no backup

The URL is fsspec's: a path, file://, s3://, gs://, memory:// and others, as far as their packages are installed. A backup holds
what the log could bring back only slowly, or no longer: the log itself and the signing keys are not in it. What is put back
never goes over what a store has that is newer. This module must never put back bytes that are not those of the manifest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, NamedTuple

import fsspec
import msgspec

from streamlearn.errors import CodecError, ConfigError, Corrupt, Fenced, StoreError, StoreUnavailable

from . import CheckpointInfo, Store

SCHEMA: Final = 1
MANIFEST: Final = "manifest.json"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
TRIES: Final = 3
ALL: Final = 1 << 48  # beyond every time

Check = Callable[[str, str, int, bytes], None]
Progress = Callable[[int, int], None]


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object. `kind` is checkpoint, publication, piece, version, table (of a version: a piece), views or history; `path` is
    in the backup, and ends with a piece's name; `id` is a checkpoint's, in the store that it came from; `generation` is its
    writer's, for a publication and a piece that of the shard's newest checkpoint; `step` is a history's, in seconds."""

    kind: str
    path: str
    size: int
    sha256: str
    model: str = ""
    shard: int = 0
    version: int = 0
    id: int = 0
    generation: int = 0
    created: float = 0.0
    views: str = ""
    build: str = ""
    step: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """A whole backup. `created` is Unix seconds; the views hold the control log below `view_offset`; `notes` tell what is not
    in it though it was to be."""

    schema: int
    name: str
    created: float
    view_offset: int
    objects: list[Item]
    notes: list[str] = []

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(item.size for item in self.objects)


class Restored(NamedTuple):
    """What was put back, by kind; how many objects the store had already, or newer; and which are damaged, one line each."""

    put: dict[str, int]
    there: int
    damaged: list[str]


class Vault:
    """Where backups lie. Raises ConfigError for an address that no installed package understands."""

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            problem = f"{shown(url)} cannot be used: {error}"
            raise ConfigError("URL", problem, "Write a folder, or install the package for it") from None
        self.where = shown(url)

    def names(self) -> list[str]:
        """Every whole backup, the newest name first."""
        with self._told("listed"):
            folders = self._files.ls(self._root, detail=False) if self._files.exists(self._root) else []
            names = [str(path).rstrip("/").rpartition("/")[2] for path in folders]
            return sorted((name for name in names if self._files.exists(self._path(name, MANIFEST))), reverse=True)

    def exists(self, name: str) -> bool:
        """Whether anything is there under that name, whole or not."""
        with self._told("looked at"):
            return bool(self._files.exists(f"{self._root}/{name}"))

    def put(self, name: str, path: str, data: bytes) -> None:
        """Write an object."""
        with self._told("written"):
            final = self._path(name, path)
            self._files.makedirs(final.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(final, data)

    def finish(self, name: str, manifest: bytes) -> None:
        """Write the manifest: it is there whole or not at all."""
        self.put(name, f"{MANIFEST}.part", manifest)
        with self._told("written"):
            self._files.mv(self._path(name, f"{MANIFEST}.part"), self._path(name, MANIFEST))

    def get(self, name: str, path: str) -> bytes | None:
        """The bytes of an object, None when it is not there."""
        with self._told("read"):
            final = self._path(name, path)
            return bytes(self._files.cat_file(final)) if self._files.exists(final) else None

    def _path(self, name: str, path: str) -> str:
        return f"{self._root}/{name}/{path}"

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each kind of file system has its own errors, not all of them OSError
            raise StoreUnavailable(f"the backups at {self.where} cannot be {done}: {error or type(error).__name__}") from error


def shown(url: str) -> str:
    """The URL without a user and password."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if mark else url


def name_of(now: float) -> str:
    """A backup's name for its time (Unix seconds), so that later ones sort after earlier ones."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")


def backup(
    store: Store, vault: Vault, name: str, now: float, *, check: Check, checkpoints: int, progress: Progress
) -> Manifest:
    """Copy the `checkpoints` newest sound checkpoints of each shard, the publications, the versions, the views, the history.

    `check(kind, model, shard, blob)` raises CodecError for a blob that is not sound: it is left out, and noted. `progress` is
    called with the number of steps done and of all. Raises ConfigError for a name that is taken, StoreError.
    """
    if not NAME.fullmatch(name):
        raise ConfigError("--name", f"is {name!r}", "Use letters, digits and . _ -, 100 characters at most")
    if vault.exists(name):
        raise ConfigError("--name", f"there is a {name!r} at {vault.where} already", "Write another name")
    items: list[Item] = []
    notes: list[str] = []
    view_offset = store.view_offset()
    shards, versions, kinds, series = store.shards(), store.versions(), store.view_kinds(), store.histories()
    steps = _Steps(progress, len(shards) + len(versions) + len(kinds) + len(series) + 1)

    def keep(kind: str, path: str, blob: bytes, **said: Any) -> None:
        vault.put(name, path, blob)
        items.append(Item(kind, path, len(blob), hashlib.sha256(blob).hexdigest(), **said))

    def sound(kind: str, model: str, shard: int, blob: bytes, what: str) -> bool:
        try:
            check(kind, model, shard, blob)
        except CodecError as error:
            notes.append(f"{what} is not sound: {error}")
            return False
        return True

    for model, shard in shards:
        generation = 0

        def checked(info: CheckpointInfo, blob: bytes, model: str = model, shard: int = shard) -> bool:
            return sound("checkpoint", model, shard, blob, f"checkpoint {info.id} of {model}/{shard}")

        for info, blob in islice(_newest(store, model, shard, checked, notes), checkpoints):
            generation = max(generation, info.generation)
            path = f"checkpoint/{model}/{shard}/{info.id}"
            said = {"id": info.id, "generation": info.generation, "created": info.created, "build": info.build}
            keep("checkpoint", path, blob, model=model, shard=shard, **said)
        found = store.publication(model, shard)
        if found is not None and sound("publication", model, shard, found.blob, f"the publication of {model}/{shard}"):
            keep("publication", f"publication/{model}/{shard}", found.blob, model=model, shard=shard, generation=generation)
        for named in store.pieces(model, shard):  # after what has links to them: none of those is missing
            if (piece := store.piece(model, shard, named)) is not None:  # else it was dropped, and nothing kept here needs it
                keep("piece", f"piece/{model}/{shard}/{named}", piece, model=model, shard=shard, generation=generation)
        steps.done()
    for model, version, shard in versions:
        whole = store.version(model, version, shard)
        if whole is not None and sound("version", model, shard, whole, f"version {version} of {model}/{shard}"):
            said = {"model": model, "version": version, "shard": shard}
            keep("version", f"version/{model}/{version}/{shard}", whole, **said)
            for named in store.version_pieces(model, version, shard):
                if (piece := store.version_piece(model, version, shard, named)) is not None:  # else it went with the version
                    keep("table", f"table/{model}/{version}/{shard}/{named}", piece, **said)
        steps.done()
    for kind in kinds:
        keep("views", f"views/{kind}", msgspec.msgpack.encode(list(store.views(kind).items())), views=kind)
        steps.done()
    for model, step in series:
        rows = store.history(model, step, 0, ALL)
        keep("history", f"history/{model}/{step}", msgspec.msgpack.encode(rows), model=model, step=step)
        steps.done()
    manifest = Manifest(SCHEMA, name, now, view_offset, items, list(dict.fromkeys(notes)))
    vault.finish(name, msgspec.json.format(msgspec.json.encode(manifest)))
    steps.done()
    return manifest


def _newest(
    store: Store, model: str, shard: int, sound: Callable[[CheckpointInfo, bytes], bool], notes: list[str]
) -> Iterator[tuple[CheckpointInfo, bytes]]:
    """The sound checkpoints of a shard with their blobs, newest first. Retention may drop all that were listed: then again."""
    some, infos = False, list[CheckpointInfo]()
    for _ in range(TRIES):
        gone, infos = False, store.checkpoints(model, shard)
        for info in infos:
            if info.set_aside is not None:
                continue
            try:
                blob = store.checkpoint(info.id)
            except StoreUnavailable:
                raise
            except StoreError:
                gone = True
                continue
            except CodecError as error:
                notes.append(str(error))
                continue
            if sound(info, blob):
                some = True
                yield info, blob
        if some or not gone:
            break
    if infos and not some:
        notes.append(f"{model}/{shard} has no sound checkpoint")


def read(vault: Vault, name: str | None) -> Manifest:
    """The manifest of a backup, of the newest one without a name. Raises ConfigError for none, Corrupt, StoreError."""
    if name is None:
        names = vault.names()
        if not names:
            raise ConfigError("URL", f"there is no whole backup at {vault.where}", "Make one with: streamlearn backup")
        name = names[0]
    data = vault.get(name, MANIFEST)
    if data is None:
        raise ConfigError("--name", f"there is no whole backup {name!r} at {vault.where}", f"Write one of {vault.names()}")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"the manifest of the backup {name!r} at {vault.where} cannot be read: {error}") from None
    if manifest.schema != SCHEMA:
        raise Corrupt(f"the backup {name!r} is of schema {manifest.schema}; this streamlearn reads schema {SCHEMA}")
    return manifest


def verify(vault: Vault, manifest: Manifest, progress: Progress) -> list[str]:
    """Read every object; which ones are not what the manifest says, one line each. Raises StoreError."""
    steps = _Steps(progress, len(manifest.objects))
    damaged = []
    for item in manifest.objects:
        try:
            _object(vault, manifest, item)
        except Corrupt as error:
            damaged.append(str(error))
        steps.done()
    return damaged


def restore(store: Store, vault: Vault, manifest: Manifest, progress: Progress) -> Restored:
    """Put back what the store does not have: a checkpoint, publication or version that is there already stays.

    A checkpoint comes back with its generation and time, so that it never goes before one of a newer writer; views only into
    a store that has none; of a model's history what is older than what the store has of it. A damaged object is left out.
    Raises StoreError.
    """
    steps = _Steps(progress, len(manifest.objects))
    put: dict[str, int] = {}
    there, damaged = 0, []
    views: list[tuple[Item, bytes]] = []
    for item in sorted(manifest.objects, key=lambda item: (item.kind, item.generation, item.created, item.id)):
        try:
            blob = _object(vault, manifest, item)
        except Corrupt as error:
            damaged.append(str(error))
        else:
            if item.kind == "views":
                views.append((item, blob))
            elif _PUT[item.kind](store, item, blob):
                put[item.kind] = put.get(item.kind, 0) + 1
            else:
                there += 1
        steps.done()
    if views and store.view_offset() == 0 and not store.view_kinds():
        docs = {(item.views, id): doc for item, blob in views for id, doc in _documents(blob)}
        store.put_views(docs, manifest.view_offset)
        put["view"] = len(docs)
    else:
        there += len(views)
    return Restored(put, there, damaged)


def _put_checkpoint(store: Store, item: Item, blob: bytes) -> bool:
    was = (item.generation, item.created, item.size)
    for info in store.checkpoints(item.model, item.shard):
        with suppress(CodecError):  # it lost a part there, so it is not this one
            if (info.generation, info.created, info.size) == was and store.checkpoint(info.id) == blob:
                return False
    info = CheckpointInfo(item.id, item.generation, item.created, item.size, None, item.build)
    store.restore_checkpoint(item.model, item.shard, info, blob)
    return True


def _put_publication(store: Store, item: Item, blob: bytes) -> bool:
    if store.publication(item.model, item.shard) is not None:
        return False
    try:
        store.put_publication(item.model, item.shard, item.generation, blob)
    except Fenced:  # its learner is at work again, and will publish
        return False
    return True


def _put_piece(store: Store, item: Item, blob: bytes) -> bool:
    name = item.path.rpartition("/")[2]
    if name in store.pieces(item.model, item.shard):
        return False
    try:
        store.put_piece(item.model, item.shard, item.generation, name, blob)
    except Fenced:  # its learner is at work again, with a chain of its own
        return False
    return True


def _put_version(store: Store, item: Item, blob: bytes) -> bool:
    place = item.model, item.version, item.shard
    if store.version(*place) is not None:
        return False
    store.put_version(*place, blob, store.version_pieces(*place))  # "table" goes before "version"
    return True


def _put_table(store: Store, item: Item, blob: bytes) -> bool:
    place, name = (item.model, item.version, item.shard), item.path.rpartition("/")[2]
    if name in store.version_pieces(*place):
        return False
    store.put_version_piece(*place, name, blob)
    return True


def _put_history(store: Store, item: Item, blob: bytes) -> bool:
    there = store.history(item.model, item.step, 0, ALL)
    oldest = there[0][0] if there else ALL
    rows = msgspec.msgpack.decode(blob, type=list[tuple[int, bytes]])
    older = [(at, row) for at, row in rows if at < oldest]
    for at, row in older:
        store.put_history(item.model, item.step, at, row, None)
    return bool(older)


_PUT: Final = {
    "checkpoint": _put_checkpoint, "publication": _put_publication, "version": _put_version, "history": _put_history,
    "piece": _put_piece, "table": _put_table,
}  # fmt: skip


def _documents(blob: bytes) -> Sequence[tuple[str, bytes]]:
    return msgspec.msgpack.decode(blob, type=list[tuple[str, bytes]])


def _object(vault: Vault, manifest: Manifest, item: Item) -> bytes:
    """The bytes of an object, known to be those of the manifest. Raises Corrupt."""
    blob = vault.get(manifest.name, item.path)
    if blob is None:
        raise Corrupt(f"{item.path} is missing from the backup {manifest.name!r}")
    if len(blob) != item.size or hashlib.sha256(blob).hexdigest() != item.sha256:
        raise Corrupt(f"{item.path} of the backup {manifest.name!r} is not what its manifest says ({len(blob)} bytes)")
    return blob


class _Steps:
    """Counts what is done, and tells it."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total
        progress(0, total)

    def done(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)
