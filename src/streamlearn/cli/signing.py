"""Which signing keys what is kept was signed with, so that a person knows when an old one can go; and versions signed anew.

Checkpoints, publications and statuses are replaced as learners go on; versions are not, and commands as long as the
log keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..errors import BadSignature, CodecError
from ..events import Kind
from ..log import pages_below
from ..records import signer_of
from ..store import codec
from ..store.links import names_of
from .wiring import World

PAGE: Final = 5000
UNREADABLE: Final = "(unreadable)"


@dataclass
class Needed:
    """What one key signed: each shard's newest good checkpoint, versions and publications; older checkpoints; commands in the
    log, and when the last of them was appended (Unix seconds). `state` says what follows."""

    key: str
    state: str = ""
    checkpoints: int = 0
    versions: int = 0
    publications: int = 0
    older: int = 0
    commands: int = 0
    last: float | None = None


def needed(world: World) -> list[Needed]:
    """A row for each key of the ring, in its order, then for each that only what is kept names. Raises StoreError, LogError."""
    ids = world.keys.ids
    rows = {key: Needed(key) for key in ids}
    for what, key, at in [*_stored(world), *_commands(world)]:
        row = rows.setdefault(key, Needed(key))
        setattr(row, what, getattr(row, what) + 1)
        row.last = at if at is not None else row.last
    for row in rows.values():
        row.state = _state(row, ids)
    return list(rows.values())


def renew(world: World) -> int:
    """Sign the versions anew that another key of the ring signed; how many. One that cannot be verified is left as it is."""
    done = 0
    for model, version, shard in world.store.versions():
        blob = world.store.version(model, version, shard)
        if blob is None or _signer(blob) == world.keys.signer:
            continue
        try:
            fresh = codec.signed_anew(blob, world.keys)
        except CodecError:
            continue  # who needs it says so, and fits it again
        pieces = names_of(codec.header_of(fresh, world.keys).extra)
        world.store.put_version(model, version, shard, fresh, pieces)
        done += 1
    return done


def _stored(world: World) -> Iterator[tuple[str, str, float | None]]:
    store = world.store
    for model, shard in store.shards():
        good = [info for info in store.checkpoints(model, shard) if info.set_aside is None]
        for n, info in enumerate(good):
            yield "older" if n else "checkpoints", _signer(store.checkpoint(info.id)), None
        publication = store.publication(model, shard)
        if publication is not None:
            yield "publications", _signer(publication.blob), None
    for model, version, shard in store.versions():
        blob = store.version(model, version, shard)
        if blob is not None:
            yield "versions", _signer(blob), None


def _commands(world: World) -> Iterator[tuple[str, str, float | None]]:
    for name, stream in world.settings.streams.items():
        for partition in range(stream.partitions):
            first, end = world.log.bounds(name, partition)
            for page in pages_below(world.log, name, partition, first, end, PAGE):
                for record in page:
                    if record.kind == Kind.COMMAND:
                        yield "commands", _of_command(record.value), record.ts


def _signer(blob: bytes) -> str:
    try:
        return codec.signer_of(blob)
    except CodecError:
        return UNREADABLE


def _of_command(data: bytes) -> str:
    try:
        return signer_of(data)
    except BadSignature:
        return UNREADABLE


def _state(row: Needed, ids: tuple[str, ...]) -> str:
    now, back = row.checkpoints + row.versions + row.publications, row.older + row.commands
    if row.key not in ids:
        return "is not in the ring" + (", and is needed" if now else "")
    if row.key == ids[0]:
        return "signs"
    if now:
        return "is needed"
    return "is needed only for going back" if back else "can be taken out"
