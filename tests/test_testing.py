"""The fakes: that faults come when and where they were told, on any backend, and that the clock stands still."""

from __future__ import annotations

import doctest
import threading
from pathlib import Path

import pytest

from streamlearn import testing
from streamlearn.errors import Fenced, LogFull, LogUnavailable, Overloaded, PositionExpired, StoreUnavailable
from streamlearn.log import Entry, Log
from streamlearn.log.sqlite import SqliteLog
from streamlearn.store import Retention
from streamlearn.testing import Abort, FakeClock, Faults, MemoryLog, MemoryStore

KEEP = Retention(last=2, hourly=0, daily=0)


def ready(log: Log) -> Log:
    log.create({"s": 1})
    return log


def put(log: Log, value: bytes = b"v") -> list[tuple[int, int]]:
    return log.append("s", [Entry(b"", value)]).result(20)


# -- the clock


def test_the_clock_stands_still_until_told() -> None:
    clock = FakeClock(5.0)
    assert clock() == clock() == 5.0
    clock.advance(2.5)
    assert clock() == 7.5


# -- handles


def test_two_handles_share_one_log() -> None:
    log = MemoryLog(clock=FakeClock(1.0))
    other = log.reopen()
    ready(log)
    put(other)
    log.close()
    assert other.read("s", 0, 0, 9) == [(0, 1.0, 0, b"", b"v")]
    assert other.identity("s") == log.identity("s") != ready(MemoryLog()).identity("s")
    with pytest.raises(LogUnavailable):
        log.read("s", 0, 0, 9)


def test_the_append_time_never_goes_back() -> None:
    clock = FakeClock(1000.0)
    log = ready(MemoryLog(clock=clock))
    for step in (0.0, 5.5, -100.0):
        clock.advance(step)
        put(log)
    assert [record.ts for record in log.read("s", 0, 0, 9)] == [1000.0, 1005.5, 1005.5]


def test_what_was_read_does_not_change_later() -> None:
    log = ready(MemoryLog())
    put(log, b"a")
    read = log.read("s", 0, 0, 9)
    put(log, b"b")
    log.trim("s", 0, 2)
    assert [record.value for record in read] == [b"a"]


def test_two_handles_share_one_store_that_can_be_emptied() -> None:
    store = MemoryStore()
    other = store.reopen()
    tag = store.put_publication("m", 0, 5, b"p")
    id = store.put_checkpoint("m", 0, 5, b"c", KEEP)
    store.put_views({("case", "a"): b"1"}, 3)
    other.empty()
    assert store.publication("m", 0) is None
    assert store.checkpoints("m", 0) == []
    assert (store.views("case"), store.view_offset(), store.statuses()) == ({}, 0, {})
    other.claim("m", 0, 1)  # an emptied store knows no generation
    assert store.put_publication("m", 0, 5, b"p") != tag
    assert store.put_checkpoint("m", 0, 5, b"c", KEEP) == id
    with pytest.raises(Fenced):
        other.claim("m", 0, 1)


# -- faults


def test_a_fault_before_the_effect() -> None:
    faults = Faults()
    log = ready(faults.over(MemoryLog()))
    faults.fail("append", Abort(), after=2)
    put(log)
    put(log)
    with pytest.raises(Abort):
        put(log)
    assert log.bounds("s", 0) == (0, 2)
    assert put(log) == [(0, 2)]
    assert faults.calls == {"create": 1, "append": 4, "bounds": 1}


def test_a_fault_after_the_effect() -> None:
    faults = Faults()
    log = ready(faults.over(MemoryLog()))
    faults.fail("append", Abort(), when="after")
    with pytest.raises(Abort):
        put(log)
    assert log.bounds("s", 0) == (0, 1)


def test_abort_passes_where_exceptions_are_caught() -> None:
    assert not issubclass(Abort, Exception)


def test_errors_of_an_append_come_through_its_future() -> None:
    faults = Faults()
    log = ready(faults.over(MemoryLog()))
    faults.fail("append", LogFull("full"))
    future = log.append("s", [Entry(b"", b"v")])
    with pytest.raises(LogFull):
        future.result(1)
    assert log.bounds("s", 0) == (0, 0)


def test_an_unsure_append_may_have_happened() -> None:
    faults = Faults()
    log = ready(faults.over(MemoryLog()))
    faults.fail("append", LogUnavailable("the answer was lost"), when="after")
    with pytest.raises(LogUnavailable):
        put(log)
    assert log.bounds("s", 0) == (0, 1)


def test_overload_comes_from_the_call_itself() -> None:
    faults = Faults()
    log = ready(faults.over(MemoryLog()))
    faults.fail("append", Overloaded("busy", 1.0))
    with pytest.raises(Overloaded):
        log.append("s", [])


def test_a_fault_may_last_and_be_healed() -> None:
    faults = Faults()
    log = ready(faults.over(MemoryLog()))
    faults.fail("read", LogUnavailable("down"), times=3)
    for _ in range(3):
        with pytest.raises(LogUnavailable):
            log.read("s", 0, 0, 1)
    assert log.read("s", 0, 0, 1) == []
    faults.fail("read", LogUnavailable("down"), times=1000)
    with pytest.raises(LogUnavailable):
        log.read("s", 0, 0, 1)
    faults.heal()
    assert log.read("s", 0, 0, 1) == []


def test_several_faults_of_one_method_come_in_their_order() -> None:
    faults = Faults()
    store = faults.over(MemoryStore())
    faults.fail("put_status", StoreUnavailable("first"), after=1)
    faults.fail("put_status", Abort("second"), after=2)
    store.put_status("m", 0, 1, b"1")
    with pytest.raises(StoreUnavailable, match="first"):
        store.put_status("m", 0, 1, b"2")
    with pytest.raises(Abort, match="second"):
        store.put_status("m", 0, 1, b"3")
    store.put_status("m", 0, 1, b"4")
    assert store.statuses() == {("m", 0): b"4"}


def test_other_methods_and_properties_are_left_alone() -> None:
    faults = Faults()
    log = ready(faults.over(MemoryLog()))
    faults.fail("trim", Abort())
    put(log)
    assert len(log.read("s", 0, 0, 9)) == 1
    assert isinstance(log.identity("s"), str)
    with pytest.raises(PositionExpired):
        log.read("s", 0, 9, 9)


def test_faults_over_a_real_log(tmp_path: Path) -> None:
    faults = Faults()
    log = ready(faults.over(SqliteLog(tmp_path / "log.sqlite")))
    faults.fail("append", Abort(), when="after")
    with pytest.raises(Abort):
        put(log, b"durable")
    assert [record.value for record in log.read("s", 0, 0, 9)] == [b"durable"]
    log.close()


def test_one_fault_hits_one_of_many_threads() -> None:
    faults = Faults()
    store = faults.over(MemoryStore())
    faults.fail("put_status", StoreUnavailable("once"), after=10)
    hits: list[int] = []

    def write(who: int) -> None:
        for n in range(20):
            try:
                store.put_status("m", who, 1, b"%d" % n)
            except StoreUnavailable:
                hits.append(who)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hits) == 1
    assert faults.calls["put_status"] == 100


def test_the_example_runs() -> None:
    assert doctest.testmod(testing).failed == 0
