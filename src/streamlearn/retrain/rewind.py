"""What a rewind would do: places in the log as people name them, the checkpoint to begin with, the records to pass over.

    place      OFFSET | PARTITION/OFFSET | TIME      TIME is RFC 3339, and means the first record appended then or later
    range      FROM:TO                               both are places; TO itself is not in it

A plain offset names the only partition. An offset of one partition stands, in those that nobody named, for the time of its
record. Nothing here changes anything: control makes a case of a plan, and the API shows one beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from streamlearn.errors import CodecError, EventError
from streamlearn.events import parse_time
from streamlearn.keys import KeyRing
from streamlearn.log import Log
from streamlearn.log.ranges import Range, covered, merged
from streamlearn.log.seek import offset_at, time_at
from streamlearn.store import Store
from streamlearn.store.codec import open_blob

_OFFSET: Final = re.compile(r"(?:(\d+)/)?(\d+)")


class Places(Protocol):
    """The partitions of one stream, as `log.seek` and `Log.bounds` tell of them."""

    def bounds(self, partition: int) -> tuple[int, int]:
        """(first retained offset, end) of the partition."""

    def time_at(self, partition: int, offset: int) -> float:
        """The append time of the record at `offset`."""

    def offset_at(self, partition: int, time: float) -> int:
        """The first retained offset appended at `time` or later; the end when there is none."""


class LogPlaces:
    """The places of a stream in a log."""

    def __init__(self, log: Log, stream: str) -> None:
        self._log, self._stream = log, stream

    def bounds(self, partition: int) -> tuple[int, int]:
        """See `Places`."""
        return self._log.bounds(self._stream, partition)

    def time_at(self, partition: int, offset: int) -> float:
        """See `Places`."""
        return time_at(self._log, self._stream, partition, offset)

    def offset_at(self, partition: int, time: float) -> int:
        """See `Places`."""
        return offset_at(self._log, self._stream, partition, time)


class Place(NamedTuple):
    """A place as a person named it: an offset, of one partition or of the only one, or a time (Unix seconds)."""

    partition: int | None
    offset: int | None
    time: float | None


class Sound(NamedTuple):
    """A checkpoint that may be gone on from: its id in the store, the next offset to read, when it was taken, its version."""

    checkpoint: int
    position: int
    created: float
    version: int


class ShardPlan(NamedTuple):
    """What would be done for one shard: from `base` (None: from nothing, at `start`) to `end`, but for the ranges `skip`."""

    shard: int
    to: int
    base: Sound | None
    start: int
    end: int
    skip: list[Range]

    @property
    def records(self) -> int:
        """Offsets to be learned again."""
        return self.end - self.start - covered(self.skip, self.start, self.end)


def parse_place(text: str, field: str) -> Place:
    """Raises EventError for what is no place."""
    match = _OFFSET.fullmatch(text.strip())
    if match:
        return Place(None if match[1] is None else int(match[1]), int(match[2]), None)
    try:
        return Place(None, None, parse_time(text.strip()))
    except EventError:
        mending = "write an offset, PARTITION/OFFSET, or a time such as 2026-01-31T12:00:00Z"
        raise EventError("shape", field, f"{text[:60]!r} is no place in the log; {mending}") from None


def parse_range(text: str, field: str = "skip") -> tuple[Place, Place]:
    """Raises EventError for what is no range. Times hold colons too: the one that parts two places is meant."""
    for index in (index for index, char in enumerate(text) if char == ":"):
        try:
            return parse_place(text[:index], field), parse_place(text[index + 1 :], field)
        except EventError:
            continue
    raise EventError("shape", field, f"{text[:80]!r} is no range; write FROM:TO, such as 1200:1900 or 0/1200:0/1900")


def offset_of(place: Place, shard: int, places: Places) -> int:
    """The offset in that partition; the place names no other one."""
    if place.offset is not None:
        return place.offset
    assert place.time is not None
    return places.offset_at(shard, place.time)


def plan(
    to: Sequence[str],
    skip: Sequence[str],
    partitions: int,
    places: Places,
    sound: Callable[[int, int], Sound | None],
) -> list[ShardPlan]:
    """The plan of each shard. `sound(shard, offset)` gives its newest sound checkpoint that has read no further than `offset`.

    Raises EventError (its field is "to" or "skip") for what cannot be done, and LogError, StoreError.
    """
    if not to:
        raise EventError("shape", "to", "is missing; name the place to go back to")
    if not skip:
        raise EventError("shape", "skip", "is missing; name the records to pass over: without any, the same would be learned")
    goals = _goals([parse_place(text, "to") for text in to], partitions, places)
    skips: dict[int, list[Range]] = {shard: [] for shard in range(partitions)}
    for text in skip:
        for shard, found in _ranges(text, partitions, places).items():
            skips[shard].append(found)
    if not any(map(merged, skips.values())):
        raise EventError("shape", "skip", "holds no record: nothing would be passed over")
    return [_shard(shard, goals[shard], merged(skips[shard]), places, sound) for shard in range(partitions)]


def _shard(
    shard: int, goal: int, skip: list[Range], places: Places, sound: Callable[[int, int], Sound | None]
) -> ShardPlan:
    first, end = places.bounds(shard)
    goal = min([goal, *(start for start, _ in skip)])  # what is to be passed over must not be in the base
    base = sound(shard, goal)
    if base is not None and base.position < first:
        base = None
    if base is None and first > goal:
        raise EventError(
            "out_of_range", "to",
            f"partition {shard}: no checkpoint is as old as offset {goal}, and the log begins at {first} only; "
            f"name a later place, or retrain from what is left (streamlearn retrain)",
        )  # fmt: skip
    return ShardPlan(shard, goal, base, first if base is None else base.position, end, skip)


def _goals(places_named: Sequence[Place], partitions: int, places: Places) -> dict[int, int]:
    goals: dict[int, int] = {}
    time: float | None = None
    for place in places_named:
        if place.time is not None:
            time = place.time
            continue
        shard, offset = _exact(place, partitions, places, "to")
        goals[shard] = offset
    if time is None and len(goals) < partitions:
        shard, offset = next(iter(goals.items()))
        first, end = places.bounds(shard)
        time = places.time_at(shard, max(first, min(offset, end - 1))) if end > first else 0.0
    for shard in range(partitions):
        if shard not in goals:
            assert time is not None
            goals[shard] = places.offset_at(shard, time)
    return goals


def _ranges(text: str, partitions: int, places: Places) -> dict[int, Range]:
    """By partition, what a range of two places, of two times, or of both means."""
    start, end = parse_range(text)
    named = {place.partition for place in (start, end) if place.partition is not None}
    if len(named) > 1:
        raise EventError("shape", "skip", f"{text!r} begins in one partition and ends in another; write one range for each")
    if named or start.offset is not None or end.offset is not None:
        only = next(iter(named), None)
        shards = [_exact(Place(only, 0, None), partitions, places, "skip")[0]]
    else:
        shards = list(range(partitions))
    found = {shard: (offset_of(start, shard, places), offset_of(end, shard, places)) for shard in shards}
    for shard, (low, high) in found.items():
        last = places.bounds(shard)[1]
        if low > high:
            raise EventError("out_of_range", "skip", f"{text!r} ends before it begins (partition {shard}: {low} to {high})")
        if high > last:
            raise EventError("out_of_range", "skip", f"{text!r} ends beyond partition {shard}, which has offsets below {last}")
    return found


def _exact(place: Place, partitions: int, places: Places, field: str) -> tuple[int, int]:
    assert place.offset is not None
    if place.partition is None and partitions > 1:
        raise EventError("shape", field, f"the stream has {partitions} partitions; write PARTITION/OFFSET, or a time")
    shard = place.partition or 0
    if shard >= partitions:
        raise EventError("out_of_range", field, f"there is no partition {shard}; the stream has {partitions}, from 0 on")
    last = places.bounds(shard)[1]
    if place.offset > last:
        raise EventError("out_of_range", field, f"{place.offset} lies beyond partition {shard}, which ends at {last}")
    return shard, place.offset


def sound_checkpoint(store: Store, keys: KeyRing, model: str, shard: int, log: str, offset: int) -> Sound | None:
    """The newest checkpoint of the shard, taken on the log of that identity, that is sound and has read no further than
    `offset`; None when there is none. Raises StoreError."""
    for info in store.checkpoints(model, shard):
        if info.set_aside is not None:
            continue
        try:
            sealed = open_blob(store.checkpoint(info.id), keys, kind="checkpoint", model=model, shard=shard, log=log)
            position = next(at.offset for at in sealed.header.positions if at.partition == shard)
            if position > offset:
                continue
            for name in ("champion", "join"):
                sealed.part(name)
        except (CodecError, StopIteration):
            continue
        return Sound(info.id, position, info.created, sealed.header.version)
    return None


def kept_versions(found: Sequence[tuple[str, int, int]], model: str, partitions: int) -> frozenset[int]:
    """The versions of the model of which the store, whose `versions()` are given, has every shard."""
    shards: dict[int, set[int]] = {}
    for name, version, shard in found:
        if name == model:
            shards.setdefault(version, set()).add(shard)
    return frozenset(version for version, having in shards.items() if having >= set(range(partitions)))


def as_json(skips: Mapping[int, Sequence[Range]]) -> dict[str, list[list[int]]]:
    """Ranges by shard, as a decision's numbers hold them; shards without any are left out."""
    return {str(shard): [list(one) for one in ranges] for shard, ranges in sorted(skips.items()) if ranges}
