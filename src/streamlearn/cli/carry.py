"""`streamlearn models export` and `import`: a version of a model to a file, and from there into another service's registry.

Both open the store as `backup` does, and the file travels by hand: nothing that can run code is ever taken over HTTP. What is
imported was signed by a key that this service, or the person at the keyboard, has; it is sealed again with the service's own.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec
import typer

from ..errors import BadSignature, CodecError, ConfigError, StoreError
from ..events import Position, encode
from ..keys import KeyRing, load_keys
from ..log import CONTROL, Entry, Log
from ..records import ControlRecord, Decision, Request, decode_control
from .ask import Reason
from .console import console, say
from .remote import user
from .wiring import World, existing_log, has_store, open_store, read_settings, ring

if TYPE_CHECKING:
    from ..config import Settings
    from ..store import Store
    from ..store.bundle import Bundle, Manifest
    from ..store.codec import Sealed
    from ..store.links import Fetch, Kept

PAGE: Final = 1000
PAUSE_S: Final = 0.1
WAIT_S: Final = 30.0

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="STREAMLEARN_CONFIG", help="The configuration of the service.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what came of it as JSON.")]


def export(
    model: Annotated[str, typer.Argument(help="The model's name in the configuration.", show_default=False)],
    version: Annotated[int, typer.Argument(min=1, show_default=False)],
    file: Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.", show_default=False)],
    config: ConfigOption,
    live: Annotated[
        bool, typer.Option("--live", help="As it serves now, with all that it has learned since; else as it was fitted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write VERSION of MODEL into FILE: its signed models, and what the registry says of it.

    A version that was never fitted (the first one) is written as it serves. To read it, another service needs the key that
    signed it.
    """
    from ..store import bundle

    settings = read_settings(Path(config), os.environ)
    _model(settings, model)
    if not has_store(settings):
        raise ConfigError("data_dir", f"there is no store in {settings.data_dir} yet", "Name a service that ran")
    keys, store = ring(settings, os.environ), open_store(settings)
    try:
        manifest, blobs, pieces = pack(settings, store, keys, model, version, live=live, now=time.time())
        size = bundle.write(Path(file), manifest, blobs, keys, pieces)
    finally:
        store.close()
    if as_json:
        told = {"file": str(file), "bytes": size, "model": model, "version": version, "what": manifest.what}
        say(msgspec.json.encode(told).decode())
        return
    how = "as it was fitted" if manifest.what == "fitted" else "as it serves now"
    say(f"version {version} of {model}, {how}: {size:,} bytes in {file}, signed with key {keys.signer!r}")


def import_version(
    file: Annotated[Path, typer.Argument(help="A file that export wrote.", show_default=False)],
    config: ConfigOption,
    name: Annotated[
        str | None, typer.Option("--as", metavar="MODEL", help="The model to import it for; default: its own name.")
    ] = None,
    keys_file: Annotated[
        Path | None,
        typer.Option("--keys", metavar="FILE", help="The key file of the service that signed it, if that is another one."),
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Take the version in FILE into the registry, under a number of its own. It serves nobody until it is promoted.

    Control, which must be running, gives the number. Asking again with the same file imports nothing twice, unless what was
    imported before has been dropped since.
    """
    settings = read_settings(Path(config), os.environ)
    own = ring(settings, os.environ)
    read = _verified(Path(file), own if keys_file is None else _ring(keys_file), keys_file is None)
    wanted = name or read.manifest.model
    _model(settings, wanted)
    log, store = existing_log(settings), open_store(settings)
    try:
        found = bring(World(settings, log, store, own), read, wanted, reason, time.sleep, time.time)
    finally:
        store.close()
        log.close()
    if as_json:
        say(msgspec.json.encode(found._asdict()).decode())
        return
    said = f"version {read.manifest.version} of {read.manifest.model} is version {found.version} of {wanted} here"
    head = "it has read nothing of this log, and begins at its head"
    begin = head if found.rebased else "it goes on from where it had read to"
    say(f"{said}; {begin}" if found.new else f"{said}, and was before")
    say(f"To have it serve: streamlearn models promote {wanted} {found.version}")


class Brought(NamedTuple):
    """What came of an import: its number here; whether it begins at the log's head; whether anything was written."""

    model: str
    version: int
    rebased: bool
    trained_to: dict[str, int]
    new: bool


def pack(
    settings: Settings, store: Store, keys: KeyRing, model: str, version: int, *, live: bool, now: float
) -> tuple[Manifest, dict[int, bytes], dict[str, Fetch]]:
    """A version's manifest, by shard its blobs, and what fetches each of their pieces. Raises ConfigError when it is not to be
    had, CodecError, StoreError."""
    from ..control.facts import made_with
    from ..store.bundle import Manifest
    from ..store.codec import open_blob
    from ..store.links import kept_version, names_of

    document = _document(store, model, version)
    if document is None:
        fix = f"streamlearn models list {model} names those that there are"
        raise ConfigError("VERSION", f"{model} has no version {version}", fix)
    shards = range(settings.streams[settings.models[model].stream].partitions)
    kept = {shard: one for shard in shards if (one := kept_version(store, model, version, shard)) is not None}
    what = "serving" if live or len(kept) < len(shards) else "fitted"
    if what == "serving":
        kept = {shard: _as_it_serves(settings, store, keys, model, version, shard) for shard in shards}
    pieces: dict[str, Fetch] = {}
    for shard, one in kept.items():
        sealed = open_blob(one.blob, keys, kind="version", model=model, shard=shard, version=version)
        sealed.all_parts()
        pieces |= dict.fromkeys(names_of(sealed.header.extra), one.fetch)
    table = document.get("settings") or settings.models[model].model_dump(mode="json")
    made = document.get("made_with") or made_with(table)
    manifest = Manifest(model, version, what, now, made, table, document, {})
    return manifest, {shard: one.blob for shard, one in kept.items()}, pieces


def _as_it_serves(settings: Settings, store: Store, keys: KeyRing, model: str, version: int, shard: int) -> Kept:
    """The published model as a version's blob. Raises ConfigError when another one serves."""
    from ..learning.summary import summarize
    from ..store.codec import open_blob
    from ..store.links import Kept, links_of

    found = store.publication(model, shard)
    serves = None
    if found is not None:
        sealed = open_blob(found.blob, keys, kind="publication", model=model, shard=shard)
        serves = sealed.header.version
        if serves == version:
            opened = _opened(sealed, fetch := functools.partial(store.piece, model, shard))
            extra = {"learned": sealed.header.extra.get("n"), "summary": summarize(opened)}
            if links := links_of(sealed.header.extra).get("model"):
                size = sum(n for name, n in store.pieces(model, shard).items() if name in links.names)
                extra |= {"chains": {"model": msgspec.to_builtins(links)}, "apart_bytes": size}
            at = sealed.header.positions[0]
            return Kept(seal(settings, keys, sealed, model, version, at, extra, opened), fetch)
    now = f"shard {shard} serves version {serves}" if serves is not None else f"shard {shard} has published nothing yet"
    fix = "Export one that is kept, or that serves: streamlearn models list shows which"
    gone = "is not kept"
    if (dropped := _dropped(store, model, version)) is not None:
        keep = settings.models[model].retrain.keep_versions
        gone = f"was dropped at {datetime.fromtimestamp(dropped, UTC):%Y-%m-%d %H:%M:%SZ}"
        fix += f". models.{model}.retrain.keep_versions = {keep} says how many are kept: a higher number keeps more from now on"
    raise ConfigError("VERSION", f"version {version} of {model} {gone}, and {now}", fix)


def _dropped(store: Store, model: str, version: int) -> float | None:
    """When it was decided that the version's bytes go, None when it was not."""
    document = _document(store, model, version)
    return None if document is None else document.get("dropped")


def _document(store: Store, model: str, version: int) -> dict[str, Any] | None:
    """What the registry knows of a version, None when there is none."""
    from ..control.versions import version_id

    found = store.views("version", [version_id(model, version)])
    return msgspec.json.decode(next(iter(found.values())), type=dict[str, Any]) if found else None


def bring(
    world: World, read: Bundle, model: str, reason: str, sleep: Callable[[float], None], clock: Callable[[], float]
) -> Brought:
    """Import what was read for `model`, or go on with an import of it that was begun.

    Raises ConfigError, LogError, and StoreError also when control does not answer.
    """
    from ..control.imports import differences
    from ..store.links import names_of

    settings, manifest = world.settings, read.manifest
    table = settings.models[model]
    partitions = settings.streams[table.stream].partitions
    if len(read.sealed) != partitions:
        fix = "Only a stream of as many partitions can take it"
        raise ConfigError("FILE", f"it has {len(read.sealed)} shards, {model} has {partitions}", fix)
    if differs := differences(manifest.settings, table):
        fix = f"Import it for a model that is the same in this (--as), or change [models.{model}]"
        raise ConfigError("FILE", f"it is a version of another model: {'; '.join(differs)}", fix)
    for sealed in read.sealed.values():
        _opened(sealed, read.piece)
    offset, decision = _asked(world, read, model, reason, sleep, clock)
    if decision["kind"] == "request_refused":
        raise ConfigError("FILE", f"control refused it: {decision['why']}", "Mend that, and ask again")
    version, numbers = int(decision["version"]), decision["numbers"]
    kept = {shard for name, one, shard in world.store.versions() if (name, one) == (model, version)}
    missing = sorted(set(read.sealed) - kept)
    for shard in missing:
        at = Position(world.log.identity(table.stream), table.stream, shard, numbers["trained_to"][str(shard)])
        origin = {"imported": {"model": manifest.model, "version": manifest.version, "request": offset}}
        sealed = read.sealed[shard]
        begun = _opened(sealed, read.piece) if numbers["rebased"] else None
        blob = seal(settings, world.keys, sealed, model, version, at, {**sealed.header.extra, **origin}, begun)
        names = names_of(sealed.header.extra)
        for name in sorted(names):
            world.store.put_version_piece(model, version, shard, name, read.piece(name) or b"")
        world.store.put_version(model, version, shard, blob, names)
    return Brought(model, version, numbers["rebased"], numbers["trained_to"], bool(missing))


def seal(
    settings: Settings, keys: KeyRing, sealed: Sealed, model: str, version: int, at: Position, extra: Mapping[str, Any],
    begun: Any,
) -> bytes:
    """The model in a verified blob under another name, number and position. Given that model, `begun`, with a join of its own,
    in which nothing waits for a label.

    A join's events lie in the log that it read; where that is not this one, it begins empty.
    """
    from ..learning.replay import limits_of
    from ..learning.trainer import Trainer
    from ..store import codec

    shard, parts = sealed.header.shard, {"model": sealed.part("model")}
    if begun is not None:
        table, stream = settings.models[model], settings.streams[at.stream]
        trainer = Trainer(model, table, stream, limits_of(settings), at.stream, shard, at.offset, begun)
        parts["join"] = trainer.parts()["join"]
    else:
        parts["join"] = sealed.part("join")
    return codec.encode(
        kind="version", model=model, version=version, shard=shard, generation=0, positions=[at],
        created=sealed.header.created, parts=parts, keys=keys, extra=extra,
    )  # fmt: skip


def _opened(sealed: Sealed, fetch: Fetch) -> Any:
    """The model in a verified blob. Raises CodecError, StoreError, ConfigError when it cannot be brought back here."""
    from ..learning.chain import opened

    try:
        return opened(sealed, "model", fetch)
    except (CodecError, StoreError):
        raise
    except Exception as error:  # the class of a pipeline's step may be missing, or another one
        problem = f"its pipeline cannot be opened here: {error!r}"
        raise ConfigError("FILE", problem, "Install what it names, or put its folder beside the configuration") from None


def _asked(
    world: World, read: Bundle, model: str, reason: str, sleep: Callable[[float], None], clock: Callable[[], float]
) -> tuple[int, dict[str, Any]]:
    """(offset, decision) of the request for this file: of an earlier one unless that was refused, or its version was dropped
    since; else of a new one."""
    from ..control.facts import of_blob

    stream = world.settings.models[model].stream
    identity, manifest = world.log.identity(stream), read.manifest
    name, refused = f"import-{read.digest[:32]}-{model}", 0
    for offset, request in _imports(world.log, name):
        decision = _settled(world, offset, sleep)
        if decision["kind"] == "imported" and _dropped(world.store, model, decision["version"]) is None:
            return offset, decision
        refused = max(refused, int(request.id.rpartition("-")[2]) + 1)
    positions = {str(shard): sealed.header.positions[0] for shard, sealed in read.sealed.items()}
    ours = all((at.log, at.stream) == (identity, stream) for at in positions.values())
    origin = {
        "model": manifest.model, "version": manifest.version, "what": manifest.what, "exported_at": manifest.exported_at,
        "log": next(iter(positions.values())).log, "manifest_sha256": read.digest, "blobs": manifest.blobs,
        "trained_to": {shard: at.offset for shard, at in positions.items()},
        **{key: manifest.document.get(key) for key in ("window", "times", "reason", "created")},
    }  # fmt: skip
    offer = {
        "settings": manifest.settings, "made_with": manifest.made_with, "origin": origin,
        "trained_to": origin["trained_to"] if ours else {},
        "shards": {str(shard): of_model(of_blob(sealed.header, b"")) for shard, sealed in read.sealed.items()},
    }  # fmt: skip
    asked = Request(f"{name}-{refused}", model, "import", user() or "cli", clock(), reason, data=offer)
    [(_, offset)] = world.log.append(CONTROL, [Entry(model.encode(), encode(asked))]).result()
    return offset, _settled(world, offset, sleep)


def of_model(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts that still hold when the blob is sealed anew."""
    return {name: value for name, value in facts.items() if name not in ("bytes", "sha256")}


def _imports(log: Log, name: str) -> list[tuple[int, Request]]:
    """The requests to import this file that the control log holds."""
    return [
        (offset, entry)
        for offset, entry in _entries(log, log.bounds(CONTROL, 0)[0], name)
        if isinstance(entry, Request) and entry.id.startswith(f"{name}-")
    ]


def _entries(log: Log, start: int, text: str) -> Iterator[tuple[int, ControlRecord]]:
    """(offset, record) of the control log's records from `start` on that have the text in them."""
    while records := log.read(CONTROL, 0, start, PAGE):
        for record in records:
            start = record.offset + 1
            if text.encode() in record.value:
                yield record.offset, decode_control(record.value)


def _settled(world: World, offset: int, sleep: Callable[[float], None]) -> dict[str, Any]:
    """The decision that settled the request at `offset`, once control shows it. Raises StoreError when it does not."""
    from ..records import audit_id

    start, found = offset + 1, list[str]()
    with console(stderr=True).status("waiting for control"):
        for _ in range(int(WAIT_S / PAUSE_S)):
            for at, entry in _entries(world.log, start, f'"request":{offset}'):
                start = at + 1
                if isinstance(entry, Decision) and entry.numbers.get("request") == offset:
                    found.append(audit_id(at))
            for doc in map(msgspec.json.decode, world.store.views("audit", found).values() if found else ()):
                if doc["took_effect"]:
                    return dict(doc)
            sleep(PAUSE_S)
    raise StoreError(
        f"control has said nothing for {WAIT_S:.0f} s: is it running (streamlearn serve CONFIG, or control CONFIG)? The "
        "request is in its log; once it runs, give the same command again"
    )


def _verified(path: Path, keys: KeyRing, own: bool) -> Bundle:
    """The file's content. Raises BadSignature with what to do about a key that is missing."""
    from ..store import bundle

    try:
        return bundle.read(path, keys)
    except BadSignature as error:
        fix = (
            "if another service signed it, get that service's key file (data_dir/secret.key, or what STREAMLEARN_KEYS holds "
            "there) and name it with --keys; else the file was altered"
            if own
            else "name the key file of the service that exported it; if this is the one, the file was altered"
        )
        raise BadSignature(f"{path}: {error}; {fix}") from None


def _ring(path: Path) -> KeyRing:
    if not path.is_file():
        raise ConfigError("--keys", f"there is no file {path}", "Name a file that holds id:hex, one on a line")
    return load_keys({}, path)


def _model(settings: Settings, model: str) -> None:
    if model not in settings.models:
        raise ConfigError("MODEL", f"there is no model {model!r}", f"Write one of {sorted(settings.models)}")
