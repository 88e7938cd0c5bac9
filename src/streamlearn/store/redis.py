"""The store in Redis, for services that span machines: everything under named, versioned keys that begin with a prefix.

    {PREFIX:MODEL/SHARD}:v1:shard       a hash: the generation, the pointers to checkpoints and publication, the status
    {PREFIX:MODEL/SHARD}:v1:versions    a hash: the pointers to fitted versions
    {PREFIX:MODEL/SHARD}:v1:tables      a hash: the pointers to pieces of fitted versions' large tables, as VERSION/NAME
    {PREFIX:MODEL/SHARD}:v1:pieces      a hash: the pointers to pieces of large tables
    {PREFIX:MODEL/SHARD}:v1:part:…      the blobs, in parts (see `redis_parts`)
    {PREFIX:MODEL}:v1:history:STEP      a sorted set: rows of history, each its time in 8 bytes and what was put, by that time
    {PREFIX}:v1:…                       which shards and series there are, the counter of ids, the views, the channel
                                        `publications`

The braces make a Cluster keep a shard on one node, so that a script may move its pointers in one step. It must never let an
older generation write over a newer one, whatever was lost in between: the fence and the pointers are one key.

A server that was emptied, or failed over to a replica that lagged, has forgotten claims. Then a zombie may write until its
successor's next write of any kind, which carries the newer generation and fences it again. What the zombie wrote meanwhile
never wins over what the successor writes: the publication and the status are replaced, and checkpoints are ordered by
generation before age. No id is given twice, since ids follow the clock, and no tag, since the first is random.

The server should not evict (`maxmemory-policy noeviction`). A blob that lost a part is told as what it is: a checkpoint as
Corrupt, so that the one before it is used, a version as not there, a publication as an error.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

import msgspec

from streamlearn.errors import ConfigError, Corrupt, Fenced, StoreError, StoreUnavailable

from . import CheckpointInfo, Publication, Retention
from . import redis_scripts as scripts
from .redis_address import parse
from .redis_keys import Keys, Place
from .redis_link import Link
from .redis_parts import PART_BYTES, Pointer, decode, drop, fetch, parts_of, upload
from .redis_scripts import Script
from .retention import kept_by_build

TRIES: Final = 5
GRACE_S: Final = 60  # what was replaced stays as long for readers that have begun
PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


class RedisStore(Keys):
    """The store at `url` (see `redis_address`), under keys that begin with `prefix`. `clock` gives Unix seconds.

    A `password` goes before the one in the URL; a function is asked anew for each connection. Connects when it is first used.
    No wait for the server is longer than `timeout_s`, none for a connection longer than `connect_timeout_s`. Raises ConfigError
    for a wrong url or prefix.
    """

    def __init__(
        self, url: str, *, prefix: str = "streamlearn", password: str | Callable[[], str] | None = None, timeout_s: float = 3.0,
        connect_timeout_s: float = 2.0, part_bytes: int = PART_BYTES, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        if not PREFIX.fullmatch(prefix):
            raise ConfigError("store.redis.prefix", f"is {prefix!r}", "Use letters, digits and . _ -, 100 characters at most")
        asked, text = (password, None) if callable(password) else (None, password)
        self._link = Link(parse(url, text), timeout_s=timeout_s, connect_timeout_s=connect_timeout_s, password=asked)
        super().__init__(prefix)
        self._part_bytes, self._clock = part_bytes, clock
        self._listed: dict[Place, frozenset[int]] = {}

    # -- shards and their checkpoints

    def claim(self, model: str, shard: int, generation: int) -> None:
        self._fenced(scripts.CLAIM, (model, shard), generation)

    def put_checkpoint(
        self, model: str, shard: int, generation: int, blob: bytes, keep: Retention, build: str = ""
    ) -> int:
        pointer = Pointer(len(blob), (), generation, self._clock(), build=build)
        return self._add_checkpoint(scripts.PUT_CHECKPOINT, (model, shard), pointer, blob, keep)

    def restore_checkpoint(self, model: str, shard: int, info: CheckpointInfo, blob: bytes) -> int:
        pointer = Pointer(len(blob), (), info.generation, info.created, info.set_aside, info.build)
        return self._add_checkpoint(scripts.RESTORE_CHECKPOINT, (model, shard), pointer, blob, None)

    def _add_checkpoint(self, script: Script, place: Place, pointer: Pointer, blob: bytes, keep: Retention | None) -> int:
        for _ in range(TRIES):
            there = self._pointers(place)
            parts = upload(self._link, self._tag(place), blob, self._part_bytes)
            new = msgspec.structs.replace(pointer, parts=parts)
            id = self._link.run(scripts.NEXT_ID, [f"{self._root}:ids"], [max([int(self._clock() * 1000), *there])])
            dropped = {} if keep is None else _dropped(there, id, new, keep)
            olds = [part for data in dropped.values() for part in parts_of(data)]
            values = [id, new.encoded(), len(parts)]
            for old, data in dropped.items():
                values += [old, data, len(parts_of(data))]
            if self._fenced(script, place, new.generation, values, parts, olds)[0] == b"ok":
                return int(id)
        self._gave_up("a checkpoint", place)

    def checkpoints(self, model: str, shard: int) -> list[CheckpointInfo]:
        found = [(id, decode(data)) for id, data in self._pointers((model, shard)).items()]
        infos = [CheckpointInfo(id, one.generation, one.created, one.size, one.set_aside, one.build) for id, one in found]
        return sorted(infos, key=lambda info: (info.generation, info.id), reverse=True)

    def checkpoint(self, id: int) -> bytes:
        place, data = self._find(id)
        blob = fetch(self._link, decode(data))
        if blob is None:
            self._find(id)  # raises when it was dropped meanwhile
            raise Corrupt(f"checkpoint {id} of {place[0]}/{place[1]} has lost a part of it: {self._evicts}")
        return blob

    def set_aside(self, id: int, reason: str) -> None:
        for _ in range(TRIES):
            place, data = self._find(id)
            one = decode(data)
            new = msgspec.structs.replace(one, set_aside=reason)
            if self._link.run(scripts.SET_ASIDE, [self._shard(place)], [id, data, new.encoded()])[0] == b"ok":
                return
        self._gave_up(f"the mark of checkpoint {id}", place)

    # -- publications and versions

    def put_publication(self, model: str, shard: int, generation: int, blob: bytes) -> int:
        place = (model, shard)
        for _ in range(TRIES):
            pointers = self._link.command("HMGET", self._shard(place), "publication", "previous")
            current, previous = (data or b"" for data in pointers)
            parts = upload(self._link, self._tag(place), blob, self._part_bytes)
            new = Pointer(len(blob), parts, generation, self._clock()).encoded()
            olds = [*parts_of(current), *parts_of(previous)]
            counts = [len(parts), len(parts_of(current)), len(parts_of(previous))]
            values = [secrets.randbits(52), new, current, previous, *counts, GRACE_S, self._channel, f"{model}/{shard}"]
            answer = self._fenced(scripts.PUT_PUBLICATION, place, generation, values, parts, olds)
            if answer[0] == b"ok":
                return int(answer[1])
        self._gave_up("a publication", place)

    def publication(self, model: str, shard: int, after: int | None = None) -> Publication | None:
        for _ in range(TRIES):
            asked = "" if after is None else after
            found = self._link.run(scripts.GET_PUBLICATION, [self._shard((model, shard))], [asked])
            if found is None:
                return None
            blob = fetch(self._link, decode(found[1]))
            if blob is not None:
                return Publication(int(found[0]), blob)
        raise StoreError(f"the publication of {model}/{shard} has lost a part of it: {self._evicts}")

    def put_piece(self, model: str, shard: int, generation: int, name: str, data: bytes) -> None:
        place = (model, shard)
        for _ in range(TRIES):
            old = self._link.command("HGET", self._pieces(place), name) or b""
            parts, replaced = upload(self._link, self._tag(place), data, self._part_bytes), parts_of(old)
            new = Pointer(len(data), parts, generation, self._clock()).encoded()
            keys, values = [self._pieces(place), *parts, *replaced], [name, new, old, len(parts), len(replaced)]
            if self._fenced(scripts.PUT_PIECE, place, generation, values, olds=keys)[0] == b"ok":
                return
            drop(self._link, parts)
        self._gave_up(f"the piece {name}", place)

    def piece(self, model: str, shard: int, name: str) -> bytes | None:
        data = self._link.command("HGET", self._pieces((model, shard)), name)
        return None if data is None else fetch(self._link, decode(data))

    def pieces(self, model: str, shard: int) -> dict[str, int]:
        found: Mapping[bytes, bytes] = self._link.command("HGETALL", self._pieces((model, shard)))
        return {name.decode(): decode(data).size for name, data in sorted(found.items())}

    def drop_pieces(self, model: str, shard: int, generation: int, names: Sequence[str]) -> None:
        place = (model, shard)
        for name in names:
            data = self._link.command("HGET", self._pieces(place), name)
            if data is not None:
                keys = [self._pieces(place), *parts_of(data)]
                self._fenced(scripts.DROP_PIECE, place, generation, [name, data], olds=keys)

    def put_version(self, model: str, version: int, shard: int, blob: bytes, pieces: Collection[str] = ()) -> None:
        place = (model, shard)
        self._put_free(place, self._versions(place), str(version), blob)
        for name in self.version_pieces(model, version, shard).keys() - set(pieces):
            self._drop_free(place, self._tables(place), f"{version}/{name}")

    def version(self, model: str, version: int, shard: int) -> bytes | None:
        data = self._link.command("HGET", self._versions((model, shard)), version)
        return None if data is None else fetch(self._link, decode(data))

    def versions(self) -> list[tuple[str, int, int]]:
        places = self.shards()
        found = self._link.commands([("HKEYS", self._versions(place)) for place in places])
        rows = zip(places, found, strict=True)
        return sorted((model, int(version), shard) for (model, shard), numbers in rows for version in numbers)

    def drop_version(self, model: str, version: int) -> None:
        for place in self.shards():
            if place[0] == model:
                for name in self.version_pieces(model, version, place[1]):
                    self._drop_free(place, self._tables(place), f"{version}/{name}")
                self._drop_free(place, self._versions(place), str(version))  # last: while it is listed it can be dropped again

    def put_version_piece(self, model: str, version: int, shard: int, name: str, data: bytes) -> None:
        place = (model, shard)
        self._put_free(place, self._tables(place), f"{version}/{name}", data)

    def version_piece(self, model: str, version: int, shard: int, name: str) -> bytes | None:
        data = self._link.command("HGET", self._tables((model, shard)), f"{version}/{name}")
        return None if data is None else fetch(self._link, decode(data))

    def version_pieces(self, model: str, version: int, shard: int) -> dict[str, int]:
        found: Mapping[bytes, bytes] = self._link.command("HGETALL", self._tables((model, shard)))
        fields = [(field.decode().partition("/"), data) for field, data in sorted(found.items())]
        return {name: decode(data).size for (number, _, name), data in fields if number == str(version)}

    def _put_free(self, place: Place, key: str, field: str, blob: bytes) -> None:
        """Put what no generation fences."""
        self._register(place)
        for _ in range(TRIES):
            old = self._link.command("HGET", key, field) or b""
            parts, replaced = upload(self._link, self._tag(place), blob, self._part_bytes), parts_of(old)
            new = Pointer(len(blob), parts, created=self._clock()).encoded()
            values = [field, new, old, len(parts), len(replaced), GRACE_S]
            if self._link.run(scripts.PUT_VERSION, [key, *parts, *replaced], values)[0] == b"ok":
                return
            drop(self._link, parts)
        self._gave_up(f"version {field}", place)

    def _drop_free(self, place: Place, key: str, field: str) -> None:
        while (data := self._link.command("HGET", key, field)) is not None:
            self._link.run(scripts.DROP_VERSION, [key, *parts_of(data)], [field, data])

    # -- statuses and views

    def put_status(self, model: str, shard: int, generation: int, doc: bytes) -> int | None:
        tag = self._fenced(scripts.PUT_STATUS, (model, shard), generation, [doc])[1]
        return None if tag is None else int(tag)

    def statuses(self) -> dict[tuple[str, int], bytes]:
        places = self.shards()
        found = self._link.commands([("HGET", self._shard(place), "status") for place in places])
        return {place: doc for place, doc in zip(places, found, strict=True) if doc is not None}

    def put_views(self, docs: Mapping[tuple[str, str], bytes], offset: int) -> None:
        kinds = {kind: n for n, kind in enumerate(dict.fromkeys(kind for kind, _ in docs))}
        values: list[Any] = [offset, len(kinds), *kinds]
        for (kind, id), doc in docs.items():
            values += [kinds[kind], id, doc]
        self._link.run(scripts.PUT_VIEWS, self._view_keys(kinds), values)

    def views(self, kind: str, ids: Sequence[str] | None = None) -> dict[str, bytes]:
        keys = self._view_keys([kind])[3:]
        if ids is not None:
            scores, docs = self._link.run(scripts.SOME_VIEWS, keys, ids)
            rows = sorted((int(score), id, doc) for score, id, doc in zip(scores, ids, docs, strict=True) if doc is not None)
            return {id: doc for _, id, doc in rows}
        order, flat = self._link.run(scripts.GET_VIEWS, keys, [])
        by_id = dict(zip(flat[::2], flat[1::2], strict=True))
        return {id.decode(): by_id[id] for id in order}

    def view_kinds(self) -> list[str]:
        return sorted(kind.decode() for kind in self._link.command("SMEMBERS", f"{self._root}:kinds"))

    def view_offset(self) -> int:
        return int(self._link.command("GET", f"{self._root}:viewed") or 0)

    def clear_views(self) -> None:
        while self._link.run(scripts.CLEAR_VIEWS, self._view_keys(self.view_kinds()), [])[0] != b"ok":
            pass  # another kind came meanwhile

    # -- history

    def put_history(self, model: str, step: int, at: int, row: bytes, was: bytes | None) -> bool:
        if was is None:  # also the first one after the server was emptied
            self._link.command("SADD", f"{self._root}:histories", f"{model}/{step}")
        mark = at.to_bytes(8, "big", signed=True)  # two times may have the same row
        there = "" if was is None else hashlib.sha1(mark + was).hexdigest()
        answer = self._link.run(scripts.PUT_HISTORY, [self._series(model, step)], [at, mark + row, there])
        return bool(answer[0] == b"ok")

    def history(self, model: str, step: int, since: int, until: int) -> list[tuple[int, bytes]]:
        rows = self._link.command("ZRANGEBYSCORE", self._series(model, step), since, f"({until}")
        return [(int.from_bytes(row[:8], "big", signed=True), row[8:]) for row in rows]

    def drop_history(self, model: str, step: int, before: int) -> None:
        self._link.command("ZREMRANGEBYSCORE", self._series(model, step), "-inf", f"({before}")

    def histories(self) -> list[tuple[str, int]]:
        names = [name.decode().rpartition("/") for name in self._link.command("SMEMBERS", f"{self._root}:histories")]
        series = sorted((model, int(step)) for model, _, step in names)
        there = self._link.commands([("EXISTS", self._series(*one)) for one in series])
        return [one for one, found in zip(series, there, strict=True) if found]

    # -- all of it

    def shards(self) -> list[tuple[str, int]]:
        names = (name.decode().rpartition("/") for name in self._link.command("SMEMBERS", f"{self._root}:shards"))
        return sorted((model, int(shard)) for model, _, shard in names)

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        return self._link.listen(self._channel, wake)

    def memory(self) -> dict[str, int]:
        """The bytes of the server's memory that each model takes, everything in it; under "_views", what the views take."""
        places = self.shards()
        hashes = [self._hashes(place) for place in places]
        contents = self._link.commands([("HVALS", key) for keys in hashes for key in keys])
        owned: list[tuple[str, str]] = []
        for n, ((model, _), keys) in enumerate(zip(places, hashes, strict=True)):
            found = contents[n * len(keys) : (n + 1) * len(keys)]
            parts = (part for values in found for data in values if data[:8] == b'{"size":' for part in parts_of(data))
            owned += [(model, key) for key in (*keys, *parts)]
        owned += [(model, self._series(model, step)) for model, step in self.histories()]
        owned += [("_views", key) for key in self._view_keys(self.view_kinds())]
        sizes = self._link.commands([("MEMORY USAGE", key) for _, key in owned])
        total = {model: 0 for model, _ in owned}
        for (model, _), size in zip(owned, sizes, strict=True):
            total[model] += size or 0
        return total

    def describe(self) -> list[str]:
        try:
            about = self._link.command("INFO", "memory")
        except StoreUnavailable:
            raise
        except StoreError:  # its ACL user may not ask: an administrator knows
            return []
        policy = about.get("maxmemory_policy", "noeviction") if isinstance(about, dict) else "noeviction"
        if policy == "noeviction":
            return []
        return [
            f"maxmemory-policy is {policy}: under memory pressure checkpoints would vanish in silence. Run: "
            "redis-cli CONFIG SET maxmemory-policy noeviction, and write it into redis.conf"
        ]

    def close(self) -> None:
        self._link.close()

    # -- what several of the above do

    @property
    def _evicts(self) -> str:
        return f"let {self._link.where} not evict (maxmemory-policy noeviction)"

    def _register(self, place: Place) -> None:
        """Before each write, so that a shard is known again soon after the server was emptied."""
        self._link.command("SADD", f"{self._root}:shards", f"{place[0]}/{place[1]}")

    def _fenced(
        self, script: Script, place: Place, generation: int, values: Sequence[Any] = (),
        parts: Sequence[str] = (), olds: Sequence[str] = (),
    ) -> list[Any]:  # fmt: skip
        """The answer of a script that checks the generation first; the new `parts` are freed when it refuses. Raises Fenced."""
        self._register(place)
        answer: list[Any] = self._link.run(script, [self._shard(place), *parts, *olds], [generation, *values])
        if answer[0] != b"ok":
            drop(self._link, parts)
        if answer[0] == b"fenced":
            raise Fenced(*place, generation, int(answer[1]))
        return answer

    def _pointers(self, place: Place) -> dict[int, bytes]:
        """A shard's checkpoints as they are stored, by id."""
        fields: Mapping[bytes, bytes] = self._link.command("HGETALL", self._shard(place))
        found = {int(name[2:]): data for name, data in fields.items() if name[:2] == b"c:"}
        self._listed[place] = frozenset(found)
        return found

    def _find(self, id: int) -> tuple[Place, bytes]:
        """Whose checkpoint it is, and its pointer: asked first where it was last listed. Raises StoreError."""
        for place in self._likely(id):
            data = self._link.command("HGET", self._shard(place), f"c:{id}")
            if data is not None:
                return place, data
        raise StoreError(f"no checkpoint {id} in {self._link.where}; it may have been dropped by its retention")

    def _likely(self, id: int) -> Iterator[Place]:
        first = [place for place, ids in list(self._listed.items()) if id in ids]
        yield from first
        yield from (place for place in self.shards() if place not in first)

    def _gave_up(self, what: str, place: Place) -> NoReturn:
        raise StoreUnavailable(
            f"{what} of {place[0]}/{place[1]} could not be put into {self._link.where}: others wrote at the same time, or its "
            f"parts were lost {TRIES} times"
        )


def _dropped(there: Mapping[int, bytes], id: int, new: Pointer, keep: Retention) -> dict[int, bytes]:
    """Those checkpoints that `keep` does not cover once the new one is there; never one that was set aside."""
    found = {old: decode(data) for old, data in there.items()} | {id: new}
    good = [((one.generation, old), one.created, one.build) for old, one in found.items() if one.set_aside is None]
    stay = {old for _, old in kept_by_build(good, keep, new.build)}
    return {old: there[old] for (_, old), _, _ in good if old not in stay and old != id}
