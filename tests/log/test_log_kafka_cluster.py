"""Three brokers, each partition three times, two copies in sync: one may die, and nothing acknowledged is lost or doubled.

One cluster for all tests here, each of which finds every broker running.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator

import pytest

from streamlearn.cli.dev_kafka import Kafka, KafkaCluster
from streamlearn.errors import LogError, LogUnavailable
from streamlearn.log import INTERNAL, Entry
from streamlearn.log.kafka import KafkaLog

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

WAIT = 90.0


@pytest.fixture(scope="module")
def shared(kafka_program: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster(tmp_path_factory.mktemp("cluster"), kafka_program) as cluster:
        yield cluster


@pytest.fixture
def kafka_cluster(shared: KafkaCluster) -> KafkaCluster:
    dead = [node for node in shared.nodes if not node.running]
    for node in dead:
        node.launch()
    for node in dead:
        node.await_ready()
    shared.await_members(WAIT)
    return shared


@pytest.fixture
def log(kafka_cluster: KafkaCluster) -> Iterator[KafkaLog]:
    prefix = f"{secrets.token_hex(4)}."
    log = KafkaLog(
        bootstrap=kafka_cluster.address, prefix=prefix, replication=3, min_insync=2, timeout_s=3.0, delivery_s=15.0
    )
    log.create({"s": 1})
    yield log
    log.close()


def leader(log: KafkaLog, cluster: KafkaCluster) -> int:
    """Which of the cluster's nodes leads the partition now."""
    log._link.look_up("s")
    return [node.node.number for node in cluster.nodes].index(log._link._leaders["s", 0])


def test_the_leader_dies_and_nothing_acknowledged_is_lost(kafka_cluster: KafkaCluster, log: KafkaLog) -> None:
    """Two writers and a reader go on through the death of the leader and, once it is back in sync, of the next one."""
    assert log.describe({"s": 1}) == []
    stop, acknowledged = threading.Event(), [list[int](), list[int]()]
    read: list[bytes] = []
    problems: list[BaseException] = []

    def write(who: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                log.append("s", [Entry(b"k", b"%d %d" % (who, number))]).result(WAIT)
                acknowledged[who].append(number)
            except LogError:
                time.sleep(0.05)

    def follow() -> None:
        at, last = 0, -1.0
        while not (stop.is_set() and last >= 0 and time.monotonic() - last > 2):
            try:
                records = log.read("s", 0, at, 500)
            except LogUnavailable:
                time.sleep(0.05)
                continue
            except BaseException as error:
                problems.append(error)
                return
            if records:
                assert [record.offset for record in records] == list(range(at, at + len(records)))
                read.extend(record.value for record in records)
                at = records[-1].offset + 1
            if stop.is_set() and last < 0:
                last = time.monotonic()
            time.sleep(0.01)

    threads = [*(threading.Thread(target=write, args=(who,)) for who in range(2)), threading.Thread(target=follow)]
    for thread in threads:
        thread.start()
    try:
        identity = log.identity("s")
        for _ in range(2):
            more_from_all(acknowledged)
            dead = kafka_cluster.nodes[leader(log, kafka_cluster)]
            dead.kill()
            more_from_all(acknowledged)  # two of three go on
            dead.restart()
            kafka_cluster.await_members(WAIT)
            in_sync(log, 3)
        assert log.identity("s") == identity
    finally:
        stop.set()
        for thread in threads:
            thread.join(WAIT)
    assert not problems
    stored: dict[int, list[int]] = {0: [], 1: []}
    for value in read:
        who, number = value.split()
        stored[int(who)].append(int(number))
    for who, numbers in enumerate(acknowledged):
        assert set(numbers) <= set(stored[who])
        assert stored[who] == sorted(set(stored[who]))


def test_topics_with_too_few_copies_are_named_with_the_mending(kafka_cluster: KafkaCluster, log: KafkaLog) -> None:
    """Topics that were made with one copy, where the settings ask for three of which two are in sync."""
    made = KafkaLog(bootstrap=kafka_cluster.address, prefix="few.", replication=1, min_insync=1)
    made.create({"s": 2})
    assert made.describe({"s": 2}) == []
    made.close()
    asking = KafkaLog(bootstrap=kafka_cluster.address, prefix="few.", replication=3, min_insync=2)
    problems = asking.describe({"s": 2})
    asking.close()
    topics = [f"few.{stream}" for stream in ("s", *INTERNAL)]
    for topic in topics:
        copies, insync = (one for one in problems if one.startswith(f"{topic}: "))
        assert copies.startswith(f"{topic}: has 1 copies, log.kafka.replication is 3. Reassign its partitions")
        assert insync.startswith(f"{topic}: min.insync.replicas is 1, log.kafka.min_insync is 2. Run: ")
        assert insync.endswith(f"--entity-name {topic} --add-config min.insync.replicas=2")
    assert len(problems) == 2 * len(topics)
    assert log.describe({"s": 1}) == [], "those of another prefix are well"


def more_from_all(acknowledged: list[list[int]]) -> None:
    """Wait until each writer got some more through."""
    before = [len(numbers) for numbers in acknowledged]
    deadline = time.monotonic() + WAIT
    while any(len(now) < then + 20 for now, then in zip(acknowledged, before, strict=True)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def in_sync(log: KafkaLog, copies: int) -> None:
    """Wait until every copy has caught up with its leader."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        [topic] = log._link.metadata(["s"], time.monotonic() + 5).topics
        if all(len(one.isr_nodes) == copies for one in topic.partitions):
            return
        time.sleep(0.1)
    raise AssertionError(topic)


def test_too_few_copies_refuse_an_append_and_still_let_read(kafka_cluster: KafkaCluster, log: KafkaLog) -> None:
    log.append("s", [Entry(b"k", b"safe")]).result(WAIT)
    at = leader(log, kafka_cluster)
    for node in (kafka_cluster.nodes[(at + 1) % 3],):
        node.kill()
    log.append("s", [Entry(b"k", b"two copies")]).result(WAIT)
    assert [record.value for record in log.read("s", 0, 0, 9)] == [b"safe", b"two copies"]
    kafka_cluster.nodes[(at + 2) % 3].kill()  # nor is there a quorum left
    with pytest.raises(LogUnavailable):
        log.append("s", [Entry(b"k", b"one copy")]).result(WAIT)
