"""A Kafka broker that is killed, restarted, frozen, gone from the start: every wait ends in time, and nothing needs a hand."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamlearn.cli.dev_kafka import Kafka, KafkaServer
from streamlearn.cli.dev_process import free_ports
from streamlearn.errors import LogError, LogUnavailable, Overloaded, PositionExpired
from streamlearn.log import Entry
from streamlearn.log.kafka import KafkaLog

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

WAIT = 30.0
TIMEOUT_S = 2.0
BOUND_S = 2 * TIMEOUT_S + 1.5  # two calls' worth: the first may find out only at its end that the leader is to be asked for


@pytest.fixture(scope="module")
def fragile(kafka_program: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """The broker that all of these maltreat, one after the other."""
    with KafkaServer(tmp_path_factory.mktemp("fragile"), kafka_program) as server:
        yield server


@pytest.fixture
def broker(fragile: KafkaServer) -> Iterator[KafkaServer]:
    yield fragile
    if not fragile.running:
        fragile.restart()


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:10]}-"


@pytest.fixture
def log(broker: KafkaServer, prefix: str) -> Iterator[KafkaLog]:
    log = open_log(broker.address, prefix)
    log.create({"s": 1, "m": 4})
    yield log
    log.close()


def open_log(address: str, prefix: str = "") -> KafkaLog:
    return KafkaLog(bootstrap=address, prefix=prefix, timeout_s=TIMEOUT_S, delivery_s=TIMEOUT_S, session_s=3.0)


def freeze(broker: KafkaServer) -> None:
    """Return when every thread of it stands still: a signal takes its time."""
    broker.freeze()
    tasks = Path(f"/proc/{broker.pid}/task")
    while any("\nState:\tT" not in (task / "status").read_text() for task in tasks.iterdir()):
        time.sleep(0.01)


def put(log: KafkaLog, *values: bytes) -> list[tuple[int, int]]:
    return log.append("s", [Entry(b"k", value) for value in values]).result(WAIT)


def timed(call: Callable[[], object]) -> float:
    """Seconds until `call` raised LogUnavailable."""
    began = time.monotonic()
    with pytest.raises(LogUnavailable):
        call()
    return time.monotonic() - began


def until_it_works(call: Callable[[], object], seconds: float = WAIT) -> float:
    """Seconds until `call` came through."""
    began = time.monotonic()
    while True:
        try:
            call()
            return time.monotonic() - began
        except LogUnavailable:
            assert time.monotonic() - began < seconds
            time.sleep(0.05)


def everything(log: KafkaLog) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while records := log.read("s", 0, at, 1000):
        found += [record.value for record in records]
        at = records[-1].offset + 1
    return found


def test_a_killed_broker_is_told_in_time_and_its_return_noticed(broker: KafkaServer, log: KafkaLog, prefix: str) -> None:
    put(log, b"a", b"b")
    assert len(log.read("s", 0, 0, 9)) == 2
    identity = log.identity("s")
    broker.kill()
    for call in (
        lambda: log.read("s", 0, 2, 9),
        lambda: log.bounds("s", 0),
        lambda: log.trim("s", 0, 1),
        log.streams,
        lambda: log.create({"more": 1}),
        lambda: put(log, b"lost"),
    ):
        assert timed(call) < BOUND_S
    assert log.identity("s") == identity
    broker.restart()
    assert until_it_works(lambda: log.read("s", 0, 2, 9)) < 10
    until_it_works(lambda: put(log, b"c"))
    assert log.identity("s") == identity
    got = everything(log)
    assert got[:2] == [b"a", b"b"]
    assert got[-1] == b"c"
    other = open_log(broker.address, prefix)
    assert other.identity("s") == identity
    other.close()


def test_what_was_kept_is_read_while_the_broker_is_away(broker: KafkaServer, log: KafkaLog) -> None:
    put(log, b"a", b"b", b"c")
    log.read("s", 0, 0, 1)
    broker.kill()
    assert [record.value for record in log.read("s", 0, 1, 2)] == [b"b", b"c"]


def test_a_frozen_broker_is_told_in_time_and_its_thaw_noticed(broker: KafkaServer, log: KafkaLog) -> None:
    put(log, b"a")
    log.read("s", 0, 0, 9)
    freeze(broker)
    try:
        pending = log.append("s", [Entry(b"k", b"unsure")])
        for call in (
            lambda: log.read("s", 0, 1, 9),
            lambda: log.bounds("s", 0),
            lambda: pending.result(WAIT),
            log.streams,
        ):
            assert timed(call) < BOUND_S
    finally:
        broker.resume()
    assert until_it_works(lambda: log.read("s", 0, 1, 9)) < 10
    until_it_works(lambda: put(log, b"b"))
    got = everything(log)
    assert got[0] == b"a"
    assert got[-1] == b"b"
    assert got.count(b"unsure") <= 1


def test_a_short_freeze_is_not_noticed(broker: KafkaServer, log: KafkaLog) -> None:
    put(log, b"a")
    freeze(broker)
    pending = log.append("s", [Entry(b"k", b"b")])
    threading.Timer(TIMEOUT_S / 3, broker.resume).start()
    assert [record.value for record in log.read("s", 0, 0, 1)] == [b"a"]
    assert pending.result(WAIT) == [(0, 1)]


def test_a_broker_that_is_not_there_yet(broker: KafkaServer, prefix: str) -> None:
    broker.kill()
    log = open_log(broker.address, prefix)
    began = time.monotonic()
    assert timed(lambda: log.create({"s": 1})) < BOUND_S
    assert timed(lambda: log.append("s", [Entry(b"", b"x")]).result(WAIT)) < BOUND_S
    member = log.join("g", ["s"])
    told = False
    while not told and time.monotonic() < began + WAIT:
        try:
            assert member.poll(lambda places: None) == frozenset()
            time.sleep(0.05)
        except LogUnavailable:
            told = True
    assert told
    broker.restart()
    until_it_works(lambda: log.create({"s": 1}))
    until_it_works(lambda: put(log, b"a"))

    def has_it() -> None:
        if member.poll(lambda places: None) != {("s", 0)}:
            raise LogUnavailable("not yet")

    until_it_works(has_it)
    log.close()


def test_closing_does_not_hang_without_a_broker(broker: KafkaServer, prefix: str) -> None:
    log = open_log(broker.address, prefix)
    log.create({"s": 1})
    put(log, b"a")
    member = log.join("g", ["s"])
    while not member.poll(lambda places: None):
        time.sleep(0.02)
    broker.kill()
    pending = log.append("s", [Entry(b"", b"x")])
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < 3 * BOUND_S
    with pytest.raises(LogUnavailable):
        pending.result(0)


def test_an_append_never_waits_and_is_bounded_in_an_outage(broker: KafkaServer, prefix: str) -> None:
    times = {"timeout_s": TIMEOUT_S, "delivery_s": TIMEOUT_S}
    log = KafkaLog(bootstrap=broker.address, prefix=prefix, max_waiting_bytes=50_000, **times)
    log.create({"s": 1})
    put(log, b"a")
    freeze(broker)
    futures, slowest, refused = [], 0.0, None
    try:
        while refused is None and len(futures) < 100:
            began = time.monotonic()
            try:
                futures.append(log.append("s", [Entry(b"k", b"x" * 1000)]))
            except Overloaded as error:
                refused = error
            slowest = max(slowest, time.monotonic() - began)
        assert refused is not None
        assert refused.retry_after > 0
        assert 40 <= len(futures) <= 50
        assert slowest < 0.5
        for future in futures:
            assert isinstance(future.exception(WAIT), LogUnavailable)
    finally:
        broker.resume()
    until_it_works(lambda: put(log, b"b"))
    log.close()


def test_nothing_that_was_acknowledged_is_lost_or_reordered_over_kills(broker: KafkaServer, log: KafkaLog) -> None:
    """Three writers number their appends while the broker dies twice: what each was told is there, in order."""
    stop, acknowledged = threading.Event(), [list[int](), list[int](), list[int]()]

    def write(who: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                log.append("s", [Entry(b"k", b"%d %d" % (who, number))]).result(WAIT)
                acknowledged[who].append(number)
            except LogError:
                time.sleep(0.1)

    writers = [threading.Thread(target=write, args=(who,)) for who in range(3)]
    for writer in writers:
        writer.start()
    for _ in range(2):
        time.sleep(0.7)
        broker.kill()
        broker.restart()
    before = [len(numbers) for numbers in acknowledged]
    deadline = time.monotonic() + WAIT
    while any(len(now) <= then + 5 for now, then in zip(acknowledged, before, strict=True)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stop.set()
    for writer in writers:
        writer.join(WAIT)
    stored: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for value in everything(log):
        who, number = value.split()
        stored[int(who)].append(int(number))
    for who, numbers in enumerate(acknowledged):
        assert set(numbers) <= set(stored[who])
        assert stored[who] == sorted(set(stored[who])), "in order, and none twice: a producer's own retries are told apart"


def test_a_partition_that_lost_what_was_read_and_has_grown_again_is_not_taken_for_its_continuation(
    broker: KafkaServer, log: KafkaLog, prefix: str
) -> None:
    """As an unclean election does, or a disk put back from a copy; the reader lives through it."""
    put(log, *(b"%d" % n for n in range(30)))
    assert len(everything(log)) == 30
    broker.kill()
    for part in (broker.folder / "data" / f"{prefix}s-0").iterdir():
        if part.suffix in (".log", ".index", ".timeindex", ".snapshot"):
            part.unlink()
    broker.start()
    other = open_log(broker.address, prefix)
    until_it_works(lambda: other.append("s", [Entry(b"k", b"new")] * 50).result(WAIT))
    assert other.bounds("s", 0) == (0, 50)
    assert {record.value for record in other.read("s", 0, 30, 100)} == {b"new"}
    other.close()
    with pytest.raises(PositionExpired, match=r"offset 30 is outside the retained range \[0, 0\]"):
        log.read("s", 0, 30, 100)


def test_a_wrong_address_is_told_in_time() -> None:
    [port] = free_ports(1)
    log = open_log(f"127.0.0.1:{port}")
    for call in (log.streams, lambda: log.read("s", 0, 0, 1), lambda: log.identity("s"), lambda: put(log, b"x")):
        assert timed(call) < BOUND_S
    log.close()
