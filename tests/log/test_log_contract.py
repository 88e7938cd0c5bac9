"""What every log must do, run over every backend that conftest names."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from streamlearn.errors import ConfigError, LogUnavailable, PositionExpired, UnknownStream
from streamlearn.events import Kind, partition_of
from streamlearn.log import CONTROL, DEAD, INTERNAL, SIGNALS, Entry, Log, Record

WAIT = 20.0


def put(log: Log, stream: str, *values: bytes, key: bytes = b"k", partition: int | None = None) -> list[tuple[int, int]]:
    return log.append(stream, [Entry(key, value, 0, partition) for value in values]).result(WAIT)


def values(log: Log, stream: str, partition: int = 0, offset: int = 0) -> list[bytes]:
    return [record.value for record in log.read(stream, partition, offset, 1_000_000)]


# -- streams


def test_create_makes_streams_and_the_internal_ones(backend: Any) -> None:
    log = backend.open()
    assert log.streams() == {}
    log.create({"clicks": 3})
    assert log.streams() == {"clicks": 3, **INTERNAL}
    assert {CONTROL, SIGNALS, DEAD} == set(INTERNAL)


def test_create_again_is_a_check_and_may_add(log: Log) -> None:
    put(log, "one", b"a")
    log.create({"one": 1, "more": 2})
    assert log.streams()["more"] == 2
    assert values(log, "one") == [b"a"]
    assert log.bounds("more", 1) == (0, 0)


def test_create_refuses_another_number_of_partitions_and_makes_nothing(log: Log) -> None:
    with pytest.raises(ConfigError, match=r"streams.four.partitions: is 5, but .* was made with 4") as caught:
        log.create({"extra": 1, "four": 5})
    assert caught.value.key == "streams.four.partitions"
    assert "extra" not in log.streams()


@pytest.mark.parametrize("partitions", [0, -1])
def test_create_refuses_no_partitions(log: Log, partitions: int) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        log.create({"none": partitions})
    assert "none" not in log.streams()


def test_create_refuses_another_number_of_partitions_of_an_internal_stream(log: Log) -> None:
    with pytest.raises(ConfigError):
        log.create({CONTROL: 2})


def test_another_handle_sees_new_streams(backend: Any, log: Log) -> None:
    other = backend.open()
    log.create({"late": 2})
    assert put(other, "late", b"x", partition=1) == [(1, 0)]
    assert values(log, "late", 1) == [b"x"]


def test_identity_belongs_to_the_log_not_to_the_handle(backend: Any, log: Log) -> None:
    assert log.identity("_control")
    assert backend.open().identity("_control") == log.identity("_control")


@pytest.mark.parametrize(("stream", "partition"), [("nowhere", 0), ("one", 1), ("four", 4), ("four", -1)])
def test_unknown_stream_or_partition(log: Log, stream: str, partition: int) -> None:
    for call in (
        lambda: log.read(stream, partition, 0, 1),
        lambda: log.bounds(stream, partition),
        lambda: log.trim(stream, partition, 0),
        lambda: log.append(stream, [Entry(b"", b"", 0, partition)]).result(WAIT),
    ):
        with pytest.raises(UnknownStream, match=stream):
            call()


# -- append and read


def test_what_is_appended_is_read(log: Log) -> None:
    entries = [Entry(b"", b""), Entry(b"\x00\xff", b"\x00" * 10, Kind.COMMAND), Entry(b"k", b"v" * 100_000, 3)]
    assert log.append("one", entries).result(WAIT) == [(0, 0), (0, 1), (0, 2)]
    records = log.read("one", 0, 0, 10)
    assert [record._replace(ts=0.0) for record in records] == [
        Record(0, 0.0, 0, b"", b""),
        Record(1, 0.0, 2, b"\x00\xff", b"\x00" * 10),
        Record(2, 0.0, 3, b"k", b"v" * 100_000),
    ]
    assert all(type(record) is Record for record in records)
    assert type(records[0].key) is bytes
    assert type(records[0].value) is bytes


@pytest.mark.parametrize("count", [1, 3, 4, 31, 33, 255, 256, 257, 1000])
def test_any_number_of_entries_keeps_its_order(log: Log, count: int) -> None:
    put(log, "one", b"before")
    wanted = [b"%d" % n for n in range(count)]
    assert put(log, "one", *wanted) == [(0, n + 1) for n in range(count)]
    assert values(log, "one", offset=1) == wanted
    assert [record.offset for record in log.read("one", 0, 0, 2000)] == list(range(count + 1))


def test_nothing_to_append(log: Log) -> None:
    assert log.append("one", []).result(WAIT) == []
    assert log.bounds("one", 0) == (0, 0)
    with pytest.raises(UnknownStream):
        log.append("nowhere", []).result(WAIT)


def test_the_key_decides_the_partition(log: Log) -> None:
    keys = [b"user-%d" % n for n in range(200)]
    places = log.append("four", [Entry(key, key) for key in keys]).result(WAIT)
    assert [partition for partition, _ in places] == [partition_of(key, 4) for key in keys]
    for partition in range(4):
        wanted = [key for key in keys if partition_of(key, 4) == partition]
        assert values(log, "four", partition) == wanted
        assert [offset for where, offset in places if where == partition] == list(range(len(wanted)))


def test_a_given_partition_wins_over_the_key(log: Log) -> None:
    for partition in range(4):
        assert put(log, "four", b"v", key=b"same", partition=partition) == [(partition, 0)]


def test_streams_do_not_mix(log: Log) -> None:
    put(log, "one", b"a")
    put(log, CONTROL, b"c")
    put(log, "four", b"f", partition=0)
    assert (values(log, "one"), values(log, CONTROL), values(log, "four")) == ([b"a"], [b"c"], [b"f"])


def test_one_unroutable_entry_keeps_the_whole_call_out(log: Log) -> None:
    future = log.append("four", [Entry(b"", b"good", 0, 0), Entry(b"", b"bad", 0, 9)])
    with pytest.raises(UnknownStream):
        future.result(WAIT)
    assert log.bounds("four", 0) == (0, 0)


def test_read_gives_at_most_limit(log: Log) -> None:
    put(log, "one", *[b"%d" % n for n in range(10)])
    assert [record.offset for record in log.read("one", 0, 3, 4)] == [3, 4, 5, 6]
    assert [record.offset for record in log.read("one", 0, 8, 4)] == [8, 9]
    assert log.read("one", 0, 3, 0) == []


def test_read_at_the_end_is_empty_and_beyond_it_expired(log: Log) -> None:
    put(log, "one", b"a", b"b")
    assert log.read("one", 0, 2, 5) == []
    with pytest.raises(PositionExpired) as caught:
        log.read("one", 0, 3, 5)
    assert (caught.value.first, caught.value.end, caught.value.offset) == (0, 2, 3)
    for offset in (-1, 2**62):
        with pytest.raises(PositionExpired):
            log.read("one", 0, offset, 5)


def test_every_handle_reads_what_any_wrote(backend: Any, log: Log) -> None:
    other = backend.open()
    put(log, "one", b"a")
    put(other, "one", b"b")
    put(log, "one", b"c")
    assert values(log, "one") == values(other, "one") == values(backend.open(), "one") == [b"a", b"b", b"c"]


# -- append time


def test_ts_is_the_append_time(backend: Any, log: Log) -> None:
    """In Unix seconds, to the millisecond; what becomes of a clock that steps back is tested backend by backend."""
    stamps = []
    for handle in (log, backend.open(), log):
        before = backend.clock()
        put(handle, "one", b"x")
        stamps.append((before - 0.002, handle.read("one", 0, len(stamps), 1)[0].ts, backend.clock() + 0.002))
    assert all(before <= ts <= after for before, ts, after in stamps), stamps


# -- trim


def test_trim_forgets_what_is_before(log: Log) -> None:
    put(log, "one", *[b"%d" % n for n in range(10)])
    assert log.trim("one", 0, 4) == 4
    assert log.bounds("one", 0) == (4, 10)
    assert [record.offset for record in log.read("one", 0, 4, 99)] == list(range(4, 10))
    with pytest.raises(PositionExpired, match=r"offset 3 is outside the retained range \[4, 10\]"):
        log.read("one", 0, 3, 99)


def test_trim_never_goes_back_or_beyond_the_end(log: Log) -> None:
    put(log, "one", *[b"x"] * 6)
    assert log.trim("one", 0, 3) == 3
    assert log.trim("one", 0, 1) == 3
    assert log.trim("one", 0, 99) == 6
    assert log.bounds("one", 0) == (6, 6)
    assert log.read("one", 0, 6, 5) == []
    assert put(log, "one", b"next") == [(0, 6)]
    assert values(log, "one", offset=6) == [b"next"]


def test_trim_of_an_empty_partition(log: Log) -> None:
    assert log.trim("four", 1, 10) == 0


def test_a_trimmed_range_stays_trimmed(backend: Any, log: Log) -> None:
    put(log, "one", *[b"x"] * 6)
    log.trim("one", 0, 5)
    assert backend.open().bounds("one", 0) == (5, 6)


# -- closing


def test_a_closed_log_refuses_and_keeps_its_records(backend: Any, log: Log) -> None:
    pending = [log.append("one", [Entry(b"", b"%d" % n)]) for n in range(50)]
    log.close()
    log.close()
    assert [future.result(WAIT) for future in pending] == [[(0, n)] for n in range(50)]
    for call in (
        lambda: log.append("one", [Entry(b"", b"late")]).result(WAIT),
        lambda: log.read("one", 0, 0, 1),
        lambda: log.bounds("one", 0),
        lambda: log.trim("one", 0, 0),
        lambda: log.create({"x": 1}),
    ):
        with pytest.raises(LogUnavailable, match="closed"):
            call()
    again = backend.open()
    assert values(again, "one") == [b"%d" % n for n in range(50)]


# -- several threads


def test_threads_append_and_read_at_once(log: Log) -> None:
    """Offsets are contiguous, calls are not torn apart, and a reader sees only a growing prefix."""
    writers, calls, size = 4, 25, 7
    futures: list[list[Future[list[tuple[int, int]]]]] = [[] for _ in range(writers)]
    failures: list[BaseException] = []
    done = threading.Event()

    def write(who: int) -> None:
        for call in range(calls):
            futures[who].append(log.append("one", [Entry(b"", b"%d %d %d" % (who, call, n)) for n in range(size)]))

    def follow() -> None:
        try:
            seen: list[Record] = []
            while len(seen) < writers * calls * size and not done.is_set():
                seen += log.read("one", 0, len(seen), 13)
            assert [record.offset for record in seen] == list(range(len(seen)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(writers)]
    reader = threading.Thread(target=follow)
    for thread in [*threads, reader]:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    stored = {}
    for who in range(writers):
        for call, future in enumerate(futures[who]):
            places = future.result(WAIT)
            assert [offset for _, offset in places] == list(range(places[0][1], places[0][1] + size))
            stored.update({offset: b"%d %d %d" % (who, call, n) for n, (_, offset) in enumerate(places)})
    reader.join(WAIT)
    done.set()
    assert not failures
    assert values(log, "one") == [stored[offset] for offset in range(writers * calls * size)]


def test_a_log_that_made_its_streams_itself_has_nothing_to_mend(log: Log) -> None:
    assert log.describe({"one": 1, "four": 4}, {"one": 1000}) == []


# -- membership


def settled(*members: Any, goal: int) -> list[frozenset[Any]]:
    """What each member has once they have `goal` places between them, none of them twice."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        shares = [member.poll(lambda places: None) for member in members]
        if len(frozenset().union(*shares)) == goal == sum(map(len, shares)):
            return shares
        time.sleep(0.02)
    raise AssertionError(shares)


def test_a_member_alone_has_every_partition(log: Log) -> None:
    member = log.join("learn", ["four", "one"])
    [share] = settled(member, goal=5)
    assert share == {("one", 0), *(("four", partition) for partition in range(4))}
    member.commit({("one", 0): 3})
    member.close()
    member.close()


def test_two_members_share_without_overlap_and_the_last_one_has_all(backend: Any, log: Log) -> None:
    one, other = log.join("learn", ["four"]), backend.open().join("learn", ["four"])
    settled(one, goal=4)
    settled(one, other, goal=4)
    one.close()
    [share] = settled(other, goal=4)
    assert len(share) == 4
    other.close()


def test_other_groups_do_not_matter(log: Log) -> None:
    one, other = log.join("learn", ["four"]), log.join("control", [CONTROL])
    settled(one, goal=4)
    settled(other, goal=1)
    one.close()
    other.close()
