"""The pieces of one shard's tables in the store: put once, fetched, and dropped when nothing refers to them any more.

A piece is in use while a checkpoint or the publication has a link to it, or a chain that goes on. Who has just read an older
publication may still be fetching, so a piece is dropped only when the sweep before found it unused as well.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ..errors import CodecError, StoreError, StoreUnavailable
from ..keys import KeyRing
from ..store import Store
from ..store.codec import open_blob
from ..store.links import Links, names_of

logger = logging.getLogger("streamlearn.learn")


class Shelf:
    """Of one shard and one writer, by its `generation`. Methods raise what the store raises."""

    def __init__(self, store: Store, keys: KeyRing, model: str, shard: int, generation: int) -> None:
        self._store, self._keys, self._place, self._generation = store, keys, (model, shard), generation
        self._there: set[str] | None = None
        self._of: dict[int, frozenset[str]] = {}  # by checkpoint
        self._unused: set[str] = set()

    def put(self, name: str, piece: bytes) -> None:
        """Put a piece, unless it is there."""
        if self._there is None:
            self._there = set(self._store.pieces(*self._place))
        if name not in self._there:
            self._store.put_piece(*self._place, self._generation, name, piece)
            self._there.add(name)

    def fetch(self, name: str) -> bytes | None:
        """The piece, None when it is not there."""
        return self._store.piece(*self._place, name)

    def lost(self) -> None:
        """The store was emptied: what is there is asked anew."""
        self._there = None
        self._of.clear()

    def sweep(self, chains: Iterable[Links]) -> None:
        """Drop what neither a checkpoint, the publication nor one of these chains has a link to, nor had at the last sweep."""
        used = {name for links in chains for name in links.names}
        infos = self._store.checkpoints(*self._place)
        self._of = {info.id: self._of[info.id] if info.id in self._of else self._names(info.id) for info in infos}
        used = used.union(*self._of.values())
        publication = self._store.publication(*self._place)
        if publication is not None:
            used |= self._linked(publication.blob, "publication")
        unused = set(self._store.pieces(*self._place)) - used
        gone = sorted(unused & self._unused)
        if gone:
            self._store.drop_pieces(*self._place, self._generation, gone)
            if self._there is not None:
                self._there -= set(gone)
        self._unused = unused - set(gone)

    def _names(self, id: int) -> frozenset[str]:
        try:
            return self._linked(self._store.checkpoint(id), "checkpoint")
        except StoreUnavailable:
            raise
        except StoreError:  # dropped meanwhile
            return frozenset()

    def _linked(self, blob: bytes, kind: str) -> frozenset[str]:
        """What the blob has links to; nothing where it cannot be read, since nobody can then use it."""
        try:
            header = open_blob(blob, self._keys, kind=kind, model=self._place[0], shard=self._place[1]).header
            return names_of(header.extra)
        except CodecError as error:
            logger.warning("a %s cannot be read", kind, extra={"model": self._place[0], "error": str(error)})
            return frozenset()
