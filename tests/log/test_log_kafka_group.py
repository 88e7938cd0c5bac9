"""Sharing partitions by Kafka's consumer group: who holds what when members come, go, die, stand still or are silent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from kafka import KafkaAdminClient

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.log import Entry
from streamlearn.log.kafka import KafkaLog
from streamlearn.log.kafka_group import GroupMembership

pytestmark = pytest.mark.kafka

WAIT = 40.0
SESSION_S = 3.0
ALL = frozenset(("m", partition) for partition in range(4))
Shares = dict[GroupMembership, frozenset[Any]]


@pytest.fixture
def open_log(kafka_server: KafkaServer, kafka_prefix: str) -> Iterator[Callable[..., KafkaLog]]:
    opened = []

    def make(**settings: Any) -> KafkaLog:
        log = KafkaLog(bootstrap=kafka_server.address, prefix=kafka_prefix, **{"session_s": SESSION_S, **settings})
        opened.append(log)
        return log

    yield make
    for log in opened:
        log.close()


@pytest.fixture
def log(open_log: Callable[..., KafkaLog]) -> KafkaLog:
    log = open_log()
    log.create({"s": 1, "m": 4})
    return log


def keep(places: Collection[Any]) -> None:
    raise AssertionError(f"nobody else wanted {places}")


def nothing(places: Collection[Any]) -> None:
    """Lets go of whatever is asked for."""


def poll_until(good: Callable[[Shares], bool], *members: GroupMembership, let_go: Callable[..., None] = nothing) -> Shares:
    """Poll every member in turn until their shares are good; none may be another's at any time."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        shares: Shares = {}
        for member in members:
            share = member.poll(let_go)
            shares = {other: held - share if other is not member else held for other, held in shares.items()}
            shares[member] = share
        if good(shares):
            return shares
        time.sleep(0.01)
    raise AssertionError(shares)


def fair(shares: Shares) -> bool:
    sizes = [len(share) for share in shares.values()]
    return frozenset[Any]().union(*shares.values()) == ALL and max(sizes) - min(sizes) <= 1


def test_one_alone_has_all_and_a_poll_costs_nothing(log: KafkaLog) -> None:
    member = log.join("g", ["m"])
    poll_until(fair, member, let_go=keep)
    waits = []
    for _ in range(100):
        began = time.monotonic()
        assert member.poll(keep) == ALL
        waits.append(time.monotonic() - began)
        time.sleep(0.001)
    assert sorted(waits)[95] < 0.01


def test_who_stays_keeps_its_part_without_a_stop(log: KafkaLog, open_log: Callable[..., KafkaLog]) -> None:
    """Cooperative: the first member holds two of its partitions all through the joining of a second."""
    first = log.join("g", ["m"])
    poll_until(fair, first, let_go=keep)
    second = open_log().join("g", ["m"])
    held: list[frozenset[Any]] = []

    def both(shares: Shares) -> bool:
        held.append(shares[first])
        return fair(shares)

    shares = poll_until(both, first, second)
    assert frozenset.intersection(*held) == shares[first]
    assert len(shares[first]) == len(shares[second]) == 2


def test_nobody_has_a_partition_before_the_other_has_let_it_go(log: KafkaLog, open_log: Callable[..., KafkaLog]) -> None:
    first, second = log.join("g", ["m"]), open_log().join("g", ["m"])
    poll_until(lambda shares: shares[first] == ALL, first, let_go=keep)
    second.poll(nothing)
    events: list[tuple[str, Any]] = []
    stop = threading.Event()

    def watch() -> None:
        seen: frozenset[Any] = frozenset()
        while not stop.is_set():
            share = second.poll(nothing)
            if share - seen:
                events.append(("second has", share - seen))
            seen = share
            time.sleep(0.005)

    def slowly(places: Collection[Any]) -> None:
        events.append(("first is asked for", frozenset(places)))
        time.sleep(1.5 * SESSION_S)  # a long checkpoint: heartbeats go on meanwhile, so the rest is not lost
        events.append(("first has let go", frozenset(places)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    deadline = time.monotonic() + WAIT
    while not any(what == "second has" for what, _ in events) and time.monotonic() < deadline:
        first.poll(slowly)
        time.sleep(0.01)
    stop.set()
    watcher.join(WAIT)
    assert [what for what, _ in events] == ["first is asked for", "first has let go", "second has"]
    assert events[0][1] == events[1][1] == events[2][1]
    assert first.poll(keep) == ALL - events[2][1]


def test_a_let_go_that_fails_is_asked_again(log: KafkaLog, open_log: Callable[..., KafkaLog]) -> None:
    first, second = log.join("g", ["m"]), open_log().join("g", ["m"])
    poll_until(lambda shares: shares[first] == ALL, first)
    asked: list[Any] = []

    def broken(places: Collection[Any]) -> None:
        asked.append(tuple(places))
        raise OSError("the store is away")

    deadline = time.monotonic() + WAIT
    while len(asked) < 3 and time.monotonic() < deadline:
        try:
            first.poll(broken)
        except OSError:
            assert second.poll(nothing) == frozenset()
        second.poll(nothing)
        time.sleep(0.02)
    assert len(asked) == 3
    assert len(set(asked)) == 1
    poll_until(fair, first, second)


def test_who_closes_is_followed_at_once(log: KafkaLog, open_log: Callable[..., KafkaLog]) -> None:
    first, second = log.join("g", ["m"]), open_log().join("g", ["m"])
    poll_until(fair, first, second)
    began = time.monotonic()
    first.close()
    assert first.poll(keep) == frozenset()
    poll_until(lambda shares: shares[second] == ALL, second)
    assert time.monotonic() - began < SESSION_S - 0.5


def test_a_silent_learner_loses_its_share_and_comes_back(open_log: Callable[..., KafkaLog]) -> None:
    log = open_log(silence_s=1.0)
    log.create({"m": 4})
    silent, busy = log.join("g", ["m"]), open_log().join("g", ["m"])
    poll_until(fair, silent, busy)
    poll_until(lambda shares: shares[busy] == ALL, busy)
    assert silent.poll(keep) == frozenset()
    poll_until(fair, silent, busy)


def test_who_is_asked_and_stays_silent_loses_what_was_asked_for(open_log: Callable[..., KafkaLog]) -> None:
    log = open_log(silence_s=2.0)
    log.create({"m": 4})
    first, second = log.join("g", ["m"]), open_log().join("g", ["m"])
    poll_until(lambda shares: shares[first] == ALL, first)
    shares = poll_until(lambda shares: bool(shares[second]), second)
    assert not first.poll(keep) & shares[second]


def test_positions_are_told_for_dashboards(log: KafkaLog, kafka_admin: KafkaAdminClient, kafka_prefix: str) -> None:
    log.append("m", [Entry(b"", b"x", 0, 2)] * 7).result(WAIT)
    member = log.join("g", ["m"])
    poll_until(fair, member)
    told: dict[Any, int] = {}
    deadline = time.monotonic() + WAIT
    while told != {0: 1, 2: 7} and time.monotonic() < deadline:
        member.commit({("m", 2): 7, ("m", 0): 1, ("s", 0): 3})
        member.poll(keep)
        found = kafka_admin.list_group_offsets([f"{kafka_prefix}g"])[f"{kafka_prefix}g"]
        told = {place.partition: position.offset for place, position in found.items()}
        time.sleep(0.1)
    assert told == {0: 1, 2: 7}


MEMBER = """
import sys, time
from streamlearn.log.kafka import KafkaLog
log = KafkaLog(bootstrap=sys.argv[1], prefix=sys.argv[2], session_s=float(sys.argv[3]))
member = log.join("g", ["m"])
held = None
while True:
    share = member.poll(lambda places: None)
    if share != held:
        held = share
        print(len(held), flush=True)
    time.sleep(0.02)
"""


@pytest.fixture
def process(kafka_server: KafkaServer, kafka_prefix: str, log: KafkaLog) -> Iterator[subprocess.Popen[bytes]]:
    """A member in a process of its own that says how many partitions it has, whenever that changes."""
    argv = [sys.executable, "-c", MEMBER, kafka_server.address, kafka_prefix, str(SESSION_S)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as running:
        yield running
        running.kill()


@pytest.mark.slow
def test_who_is_killed_is_followed_after_its_session(log: KafkaLog, process: subprocess.Popen[bytes]) -> None:
    member = log.join("g", ["m"])
    poll_until(lambda shares: len(shares[member]) == 2, member)
    os.kill(process.pid, signal.SIGKILL)
    began = time.monotonic()
    poll_until(lambda shares: shares[member] == ALL, member, let_go=keep)
    assert SESSION_S / 2 < time.monotonic() - began < SESSION_S + 6


@pytest.mark.slow
def test_who_stood_still_learns_that_its_share_is_gone(log: KafkaLog, process: subprocess.Popen[bytes]) -> None:
    """Stopped for longer than its session, it has nothing when it goes on, and then gets a share anew."""
    assert process.stdout is not None
    counts: list[int] = []
    reader = threading.Thread(target=lambda: [counts.append(int(line)) for line in process.stdout])  # as they come
    reader.start()
    member = log.join("g", ["m"])
    poll_until(lambda shares: len(shares[member]) == 2 and counts[-1:] == [2], member)
    os.kill(process.pid, signal.SIGSTOP)
    poll_until(lambda shares: shares[member] == ALL, member, let_go=keep)
    before = len(counts)
    os.kill(process.pid, signal.SIGCONT)
    poll_until(lambda shares: len(shares[member]) == 2 and len(counts) > before and counts[-1] == 2, member)
    process.kill()
    reader.join(WAIT)
    assert counts[before:] == [0, 2]
