"""Places as people name them, and the plan of a rewind: from which checkpoint, to where, without what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamlearn.errors import EventError
from streamlearn.events import Position
from streamlearn.keys import KeyRing
from streamlearn.log import Entry
from streamlearn.retrain.rewind import LogPlaces, Place, Sound, kept_versions, parse_place, parse_range, plan, sound_checkpoint
from streamlearn.store import Retention
from streamlearn.store.codec import encode
from streamlearn.testing import FakeClock, MemoryLog, MemoryStore

KEYS = KeyRing({"k1": b"0123456789abcdef"})
T0 = 1_767_225_600.0


def at(seconds: float) -> str:
    return datetime.fromtimestamp(T0 + seconds, UTC).isoformat()


class Bench:
    """A log with a record a second in each partition, and checkpoints at some offsets."""

    def __init__(self, partitions: int = 1, count: int = 100) -> None:
        clock = FakeClock(T0)
        self.log = MemoryLog(clock=clock)
        self.log.create({"s": partitions})
        for _ in range(count):
            self.log.append("s", [Entry(b"", b"{}", 0, partition) for partition in range(partitions)]).result()
            clock.advance(1)
        self.partitions = partitions
        self.checkpoints: dict[int, list[int]] = {}

    def sound(self, shard: int, offset: int) -> Sound | None:
        found = [position for position in self.checkpoints.get(shard, ()) if position <= offset]
        return Sound(7, max(found), 5.0, 1) if found else None

    def plan(self, to: Any, skip: Any) -> Any:
        to, skip = [[one] if isinstance(one, str) else one for one in (to, skip)]
        return plan(to, skip, self.partitions, LogPlaces(self.log, "s"), self.sound)

    def refused(self, to: Any, skip: Any) -> str:
        with pytest.raises(EventError) as caught:
            self.plan(to, skip)
        return f"{caught.value.field}: {caught.value.detail}"


def test_places() -> None:
    assert parse_place("17", "to") == Place(None, 17, None)
    assert parse_place(" 3/17", "to") == Place(3, 17, None)
    assert parse_place("2026-01-01T00:00:10Z", "to") == Place(None, None, T0 + 10)
    for wrong in ("", "-1", "1.5", "a/1", "1/2/3", "yesterday"):
        with pytest.raises(EventError, match="PARTITION/OFFSET") as caught:
            parse_place(wrong, "to")
        assert caught.value.field == "to"


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("1:20", Place(None, 1, None), Place(None, 20, None)),
        ("2/1:2/20", Place(2, 1, None), Place(2, 20, None)),
        ("5:2026-01-01T00:00:10Z", Place(None, 5, None), Place(None, None, T0 + 10)),
        ("2026-01-01T00:00:10Z:7", Place(None, None, T0 + 10), Place(None, 7, None)),
        ("2026-01-01T00:00:10Z:2026-01-01T00:00:20+00:00", Place(None, None, T0 + 10), Place(None, None, T0 + 20)),
    ],
)
def test_ranges(text: str, start: Place, end: Place) -> None:
    assert parse_range(text) == (start, end)


@pytest.mark.parametrize("text", ["", "5", ":", "5:", "a:b", "2026-01-01T00:00:10Z"])
def test_no_ranges(text: str) -> None:
    with pytest.raises(EventError, match="FROM:TO"):
        parse_range(text)


def test_the_newest_checkpoint_before_the_place_and_before_all_that_is_skipped() -> None:
    bench = Bench()
    bench.checkpoints = {0: [10, 40, 60]}
    [one] = bench.plan("50", "50:70")
    assert (one.to, one.base.position, one.start, one.end, one.skip, one.records) == (50, 40, 40, 100, [(50, 70)], 40)
    [one] = bench.plan("70", ["45:50", "48:60"])
    assert (one.to, one.start, one.skip, one.records) == (45, 40, [(45, 60)], 45)
    [one] = bench.plan("40", "40:41")
    assert one.start == 40


def test_without_a_checkpoint_as_old_it_begins_with_nothing_while_the_log_has_all() -> None:
    bench = Bench()
    bench.checkpoints = {0: [40]}
    [one] = bench.plan("30", "30:35")
    assert (one.base, one.start, one.records) == (None, 0, 95)
    bench.log.trim("s", 0, 31)
    assert "the log begins at 31 only" in bench.refused("30", "30:35")


def test_a_checkpoint_whose_next_record_is_gone_is_of_no_use() -> None:
    bench = Bench()
    bench.checkpoints = {0: [10]}
    bench.log.trim("s", 0, 20)
    [one] = bench.plan("30", "30:35")
    assert (one.base, one.start) == (None, 20)


def test_times_hold_for_every_partition_and_an_offset_stands_for_its_time() -> None:
    bench = Bench(partitions=2)
    first, second = bench.plan(at(20), f"{at(20)}:{at(25.5)}")
    assert (first.to, second.to, first.skip, second.skip) == (20, 20, [(20, 26)], [(20, 26)])
    first, second = bench.plan("1/30", "1/30:1/40")
    assert (first.to, second.to, first.skip, second.skip) == (30, 30, [], [(30, 40)])
    first, second = bench.plan(["1/30", "0/50"], "1/30:1/40")
    assert (first.to, second.to) == (50, 30)
    first, second = bench.plan(["1/30", at(60)], f"1/30:{at(33)}")
    assert (first.to, second.to, second.skip) == (60, 30, [(30, 33)])


@pytest.mark.parametrize(
    ("to", "skip", "why"),
    [
        ([], "1:2", "to: is missing"),
        ("1", [], "skip: is missing"),
        ("1", "5:5", "skip: holds no record"),
        ("1", "7:5", "skip: '7:5' ends before it begins"),
        ("1", "7:101", "skip: '7:101' ends beyond partition 0, which has offsets below 100"),
        ("1" * 30, "7:10", f"to: {'1' * 30} lies beyond partition 0"),
        ("101", "7:10", "to: 101 lies beyond partition 0, which ends at 100"),
        ("1/5", "7:10", "to: there is no partition 1"),
        ("5", "0/7:1/10", "skip: '0/7:1/10' begins in one partition and ends in another"),
    ],
)
def test_what_cannot_be_is_said(to: Any, skip: Any, why: str) -> None:
    assert Bench().refused(to, skip).startswith(why)


def test_a_plain_offset_needs_a_stream_of_one_partition() -> None:
    bench = Bench(partitions=2)
    assert bench.refused("5", "0/7:0/9") == "to: the stream has 2 partitions; write PARTITION/OFFSET, or a time"
    assert bench.refused("0/5", "7:9").startswith("skip: the stream has 2 partitions")


def put(store: MemoryStore, position: int, generation: int = 1, log: str = "L", parts: Any = None, **named: Any) -> int:
    fields: dict[str, Any] = {"kind": "checkpoint", "model": "m", "version": 3, "shard": 0, "created": 5.0, "keys": KEYS}
    blob = encode(
        **fields | named, generation=generation, positions=[Position(log, "s", 0, position)],
        parts={"champion": b"c", "join": b"j"} if parts is None else parts,
    )  # fmt: skip
    return store.put_checkpoint("m", 0, generation, blob, Retention(100, 0, 0))


def test_a_sound_checkpoint_is_the_newest_that_can_be_opened() -> None:
    clock = FakeClock(100.0)
    store = MemoryStore(clock=clock)
    good = put(store, 10)
    put(store, 20, log="another")
    put(store, 21, keys=KeyRing({"k1": b"another key here"}))
    put(store, 22, parts={"champion": b"c"})
    store.set_aside(put(store, 23), "damaged")
    put(store, 40)

    def found(offset: int) -> Any:
        return sound_checkpoint(store, KEYS, "m", 0, "L", offset)

    assert found(39) == Sound(good, 10, 100.0, 3)
    assert found(40).position == 40
    assert found(9) is None
    put(store, 5, generation=2)  # the shard was started over: what was before is of another life
    assert found(39).position == 5


def test_a_version_is_kept_when_every_shard_of_it_is() -> None:
    found = [("m", 1, 0), ("m", 2, 0), ("m", 2, 1), ("other", 1, 1)]
    assert kept_versions(found, "m", 2) == {2}
    assert kept_versions(found, "m", 1) == {1, 2}
