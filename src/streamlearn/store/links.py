"""The links of a signed blob to the pieces of its large tables, and where in the store the pieces of what lie.

A piece is named by the SHA-256 of its bytes, and the names are in the header that is signed, so what was fetched is known to be
what was put. How pieces become tables is `learning.chain`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from ..errors import Corrupt
from . import Store

Put = Callable[[str, bytes], None]
Fetch = Callable[[str], bytes | None]


class Links(msgspec.Struct):
    """A chain as a header tells it: `base` are the names of its pieces, which hold what deltas up to the serial `covers` did;
    `deltas` are (serial, name) after that. `uid` is the lineage: with another one, a reader begins with tables of its own."""

    uid: str
    covers: int
    base: list[str]
    deltas: list[tuple[int, str]]

    @property
    def names(self) -> set[str]:
        """Every piece that it needs."""
        return {*self.base, *(name for _, name in self.deltas)}


def links_of(extra: Mapping[str, Any]) -> dict[str, Links]:
    """The links in the header of a blob, by the part that they belong to. Raises Corrupt."""
    try:
        return msgspec.convert(extra.get("chains", {}), dict[str, Links])
    except msgspec.ValidationError as error:
        raise Corrupt(f"the links to its tables cannot be read: {error}") from error


def names_of(extra: Mapping[str, Any]) -> frozenset[str]:
    """Every piece that the blob with this header needs. Raises Corrupt."""
    return frozenset(name for links in links_of(extra).values() for name in links.names)


def no_pieces(name: str) -> None:
    """What fetches the pieces of a blob that is whole."""


class Kept(NamedTuple):
    """A blob, and what fetches the pieces that it has links to."""

    blob: bytes
    fetch: Fetch = no_pieces


def kept_version(store: Store, model: str, version: int, shard: int) -> Kept | None:
    """A version as the store has it."""
    blob = store.version(model, version, shard)
    return None if blob is None else Kept(blob, lambda name: store.version_piece(model, version, shard, name))


def kept_checkpoint(store: Store, id: int, model: str, shard: int) -> Kept:
    """A checkpoint as the store has it. Raises StoreError when there is none."""
    return Kept(store.checkpoint(id), lambda name: store.piece(model, shard, name))


def lacking(store: Store, model: str, version: int, shard: int, extra: Mapping[str, Any]) -> str:
    """Which pieces of a version with this header the store has not, in words; "" for none. Raises Corrupt."""
    names = names_of(extra)
    gone = names - store.version_pieces(model, version, shard).keys() if names else names
    return f"{len(gone)} of the {len(names)} pieces of its tables are not in the store" if gone else ""
