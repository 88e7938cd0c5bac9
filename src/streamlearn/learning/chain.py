"""Tables of recommenders as chains of pieces in the store: a base, then what changed, each piece put once.

A publication and a checkpoint hold a recommender without its tables (the *shell*, `pickling.dumps_apart`) and the links of its
chain: the SHA-256 of every piece, by which pieces are named, in a header that is signed. So what is captured on the loop's
thread are the rows that changed since the last capture, and the tables may be as large as they like. A new base is made when
the deltas have grown to a share of it: by a child process that has the tables as they were, piece by piece, and while that
takes the old chain goes on.

    serial    1      2      3      4      5      6            every delta has the next serial
    old       base ─ δ1 ─── δ2 ─── δ3 ─── δ4 ─── δ5
    new                      └ base (covers 2) ── δ3 ─ …      a reader that has applied 2 and more needs none of the base

Whoever reads applies pieces to tables of its own; the same pieces in order give the same tables. A fitted version has a base
alone, whose pieces are kept and dropped with it (`put_model`).
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

from ..errors import Corrupt
from ..recommend import pieces
from ..recommend.tables import Table
from ..store.codec import Sealed
from ..store.links import Fetch, Links, Put, links_of
from . import pickling
from .capture import CAN_FORK, ChildFailed, streamed

logger = logging.getLogger("streamlearn.learn")

READER: Final = "chain"
LONGEST: Final = 0.5  # of the base's bytes, in deltas, before a new base is made
LEAST_BYTES: Final = 4 << 20  # deltas below this are never worth a new base
MOST_LINKS: Final = 300  # deltas of a chain: who begins has to fetch each
TURN_BYTES: Final = 32 << 20  # of a base that are put in one go, so that statuses and publications are not kept waiting
IN_PLACE_BYTES: Final = 4 << 20  # tables up to this size need no child
WHOLE_BYTES: Final = 4 << 20  # a version with tables up to this size is one blob
PIECE_BYTES: Final = 8 << 20  # of a version's tables


class Chain:
    """The chain of one recommender's tables. `take` is called on the loop's thread, `settle` on the writer's."""

    def __init__(self, uid: str, tables: Mapping[str, Table], can_fork: bool) -> None:
        self.uid, self._tables, self._can_fork = uid, tables, can_fork
        self._serial = 0
        self._unwritten: deque[tuple[int, bytes]] = deque()
        self._links: Links | None = None
        self._base_bytes = self._delta_bytes = 0
        self._next: _Base | None = None

    def take(self, here: bool = False) -> None:
        """Note what has changed since the last time; the first time, and when deltas have grown long, all of it.

        With `here` no child process is trusted with it, and all of it is noted only when it never was.
        """
        rows = {name: table.changed(READER) for name, table in self._tables.items()}
        begun = self._links is not None or self._next is not None
        if begun and any(map(len, rows.values())):  # else a base is about to hold them
            self._serial += 1
            self._unwritten.append((self._serial, pieces.delta(self._tables, rows)))
        if self._next is None and (self._links is None if here else self._wants_base()):
            self._next = _Base(self._serial, self._stream(here))

    def settle(self, put: Put) -> Links | None:
        """Put what was taken and is not in the store yet, a part of a base that is under way included; the chain as it is then.

        None while there is no base. Raises what `put` raises: what was not put is put the next time.
        """
        while self._unwritten:
            serial, piece = self._unwritten[0]
            name = name_of(piece)
            put(name, piece)
            self._unwritten.popleft()
            self._delta_bytes += len(piece)
            for links in (self._links, self._next):
                if links is not None and serial > links.covers:
                    links.deltas.append((serial, name))
        if self._next is not None:
            self._settle_base(self._next, put)
        return self._links

    def _settle_base(self, base: _Base, put: Put) -> None:
        try:
            done = base.put_some(put, None if self._links is None else TURN_BYTES)
        except ChildFailed:
            logger.error("a child process could not take the tables; they are taken in place from now on")
            self._next, self._can_fork = None, False
            return
        if done:
            self._links = Links(self.uid, base.covers, base.names, base.deltas)
            self._base_bytes, self._delta_bytes, self._next = base.bytes, 0, None

    def _wants_base(self) -> bool:
        links = self._links
        if links is None:
            return True
        return len(links.deltas) >= MOST_LINKS or self._delta_bytes > max(LEAST_BYTES, LONGEST * self._base_bytes)

    @property
    def links(self) -> Links | None:
        """The chain as it was settled last."""
        return self._links

    def _stream(self, here: bool) -> Iterator[bytes]:
        if _size(self._tables) <= IN_PLACE_BYTES or here or not self._can_fork:
            return iter(list(pieces.base(self._tables)))
        return streamed(lambda: pieces.base(self._tables))


class _Base:
    """A base that is being put, and the deltas that came after it."""

    def __init__(self, covers: int, stream: Iterator[bytes]) -> None:
        self.covers, self._stream = covers, stream
        self.names: list[str] = []
        self.deltas: list[tuple[int, str]] = []
        self.bytes = 0
        self._waiting: bytes | None = None

    def put_some(self, put: Put, most: int | None) -> bool:
        """Put pieces until about `most` bytes, or all; whether the base is whole."""
        began = self.bytes
        while most is None or self.bytes - began < most:
            if self._waiting is None:
                self._waiting = next(self._stream, None)
            if self._waiting is None:
                return True
            name = name_of(self._waiting)
            put(name, self._waiting)
            self.names.append(name)
            self.bytes += len(self._waiting)
            self._waiting = None
        return False


class Chains:
    """The chains of a shard's recommenders, by the recommender; those of models that were let go end with them.

    `uid` begins their lineages' names, which must be of this writer alone.
    """

    def __init__(self, uid: str, can_fork: bool = CAN_FORK) -> None:
        self.uid, self._can_fork, self._made = uid, can_fork, 0
        self._chains: WeakKeyDictionary[Any, Chain] = WeakKeyDictionary()

    @property
    def all(self) -> list[Links]:
        """The chains that go on, as they were settled last."""
        return [chain.links for chain in list(self._chains.values()) if chain.links is not None]

    def take(self, models: Mapping[str, Any], here: bool = False) -> dict[str, Chain]:
        """Note what has changed of each recommender among `models`, by their names; others have no chain. See `Chain.take`."""
        taken: dict[str, Chain] = {}
        for name, model in models.items():
            recommender = apart(model)
            if recommender is None:
                continue
            chain = self._chains.get(recommender)
            if chain is None:
                self._made += 1
                chain = Chain(f"{self.uid}.{self._made}", recommender.state.tables, self._can_fork)
                self._chains[recommender] = chain
            chain.take(here)
            taken[name] = chain
        return taken


def settle(taken: Mapping[str, Chain], put: Put) -> dict[str, Links] | None:
    """Put what was taken; the links by name, None while one of the chains has no base yet. Raises what `put` raises."""
    found = {name: chain.settle(put) for name, chain in taken.items()}
    return {name: links for name, links in found.items() if links is not None} if all(found.values()) else None


def apart(model: Any) -> Any:
    """The recommender in a model, whose tables go apart; None in one of another task."""
    return model.estimator if getattr(model, "task", "") == "recommend" else None


def shell(model: Any) -> bytes:
    """The model as a pickle, without the tables of a recommender."""
    recommender = apart(model)
    return pickling.dumps(model) if recommender is None else pickling.dumps_apart(model, recommender.state.tables)


def put_model(model: Any, uid: str, put: Put | None) -> tuple[bytes, dict[str, Any]]:
    """The part "model" of a version, and what its header is to say of it. Large tables are left out, and `put` in pieces;
    without `put` all is in the part. Raises what `put` raises."""
    recommender = apart(model)
    if put is None or recommender is None or _size(recommender.state.tables) <= WHOLE_BYTES:
        return pickling.dumps(model), {}
    names, size = list[str](), 0
    for piece in pieces.base(recommender.state.tables, PIECE_BYTES):
        names.append(name_of(piece))
        put(names[-1], piece)
        size += len(piece)
    links = Links(uid, 0, names, [])
    return shell(model), {"chains": {"model": msgspec.to_builtins(links)}, "apart_bytes": size}


def opened(sealed: Sealed, part: str, fetch: Fetch) -> Any:
    """The model that is this part of a verified blob. Raises CodecError, also for pieces that are gone, and whatever unpickling
    raises."""
    return load(sealed.part(part), links_of(sealed.header.extra).get(part), fetch)


def name_of(piece: bytes) -> str:
    """What a piece is named by: the SHA-256 of its bytes."""
    return hashlib.sha256(piece).hexdigest()


class Reader:
    """Tables that follow a chain. What is in `tables` changes under whoever uses them: see `follow`."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self._uid = ""
        self._serial = 0

    def goes_on(self, links: Links) -> bool:
        """Whether the tables only have to take what is new; else they begin afresh, and the old ones stay as they are."""
        return self._uid == links.uid and self._serial >= links.covers

    def follow(self, links: Links, fetch: Fetch) -> Iterator[bytes]:
        """The pieces to be applied next, in order, each verified. Whoever iterates applies each to `tables` (`pieces.apply`)
        before it asks for the next. Raises Corrupt for a piece that is gone or is not what it was."""
        if not self.goes_on(links):
            self.tables, self._uid, self._serial = {}, "", 0
            for name in links.base:
                yield _fetched(name, fetch)
            self._uid, self._serial = links.uid, links.covers
        for serial, name in links.deltas:
            if serial > self._serial:
                yield _fetched(name, fetch)
                self._serial = serial


def load(shell: bytes, links: Links | None, fetch: Fetch) -> Any:
    """The model whose `shell` and links were kept; without links, a model of another task. Both come from a verified blob.

    Raises Corrupt, and whatever unpickling raises.
    """
    reader = Reader()
    for piece in () if links is None else reader.follow(links, fetch):
        apply(reader.tables, piece)
    return pickling.loads_apart(shell, reader.tables)


def apply(tables: dict[str, Table], piece: bytes) -> None:
    """Write a piece into `tables`. Raises Corrupt when it does not fit them."""
    try:
        pieces.apply(tables, piece)
    except (KeyError, ValueError) as error:
        raise Corrupt(f"a piece of its tables cannot be used: {error}") from error


def _size(tables: Mapping[str, Table]) -> int:
    """Bytes, without what is ragged."""
    return sum(array.nbytes for table in tables.values() for array in table.raw.values())


def _fetched(name: str, fetch: Fetch) -> bytes:
    piece = fetch(name)
    if piece is None:
        raise Corrupt(f"the piece {name[:12]}… of its tables is not in the store")
    if name_of(piece) != name:
        raise Corrupt(f"the piece {name[:12]}… of its tables is damaged")
    return piece
