"""What the Kafka log does beyond the contract: topics as they must be, other people's records, re-created topics, bounds."""

from __future__ import annotations

import functools
import gc
import itertools
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource

from streamlearn.cli.dev_certificate import make_certificate
from streamlearn.cli.dev_kafka import KafkaServer, tls_settings
from streamlearn.errors import ConfigError, ForeignLog, LogError, LogUnavailable, Overloaded, PositionExpired, UnknownStream
from streamlearn.events import partition_of
from streamlearn.log import CONTROL, INTERNAL, Entry
from streamlearn.log.kafka import FOR_EVER, KafkaLog
from streamlearn.log.kafka_topics import DAY_MS

pytestmark = pytest.mark.kafka

WAIT = 30.0


@pytest.fixture
def address(kafka_server: KafkaServer) -> str:
    return kafka_server.address


@pytest.fixture
def log(address: str, kafka_prefix: str) -> Iterator[KafkaLog]:
    log = KafkaLog(bootstrap=address, prefix=kafka_prefix, timeout_s=10.0)
    log.create({"s": 1, "m": 4})
    yield log
    log.close()


@pytest.fixture
def other(address: str, kafka_prefix: str) -> Iterator[KafkaLog]:
    other = KafkaLog(bootstrap=address, prefix=kafka_prefix, timeout_s=10.0)
    yield other
    other.close()


def put(log: KafkaLog, *values: bytes, stream: str = "s") -> list[tuple[int, int]]:
    return log.append(stream, [Entry(b"k", value, 0, 0) for value in values]).result(WAIT)


def foreign(address: str, **settings: Any) -> Producer:
    """A producer of another make, as an application in another language would have."""
    chosen = {"bootstrap.servers": address, "linger.ms": 0, "allow.auto.create.topics": True, "log_level": 0}
    return Producer({**chosen, **settings})


def poll_for(member: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert member.poll(lambda places: None) == frozenset()
        time.sleep(0.05)


def config_of(admin: KafkaAdminClient, topic: str) -> dict[str, str]:
    found = admin.describe_configs([ConfigResource("topic", topic)], config_filter="all")
    return {name: entry["value"] for name, entry in found["topic"][topic].items()}


# -- topics


def test_topics_are_made_as_they_must_be(log: KafkaLog, kafka_admin: KafkaAdminClient, kafka_prefix: str) -> None:
    for stream, partitions in {"s": 1, "m": 4, **INTERNAL}.items():
        [topic] = kafka_admin.describe_topics([kafka_prefix + stream])
        assert len(topic["partitions"]) == partitions
        config = config_of(kafka_admin, kafka_prefix + stream)
        assert config["cleanup.policy"] == "delete"
        assert config["message.timestamp.type"] == "LogAppendTime"
        assert config["retention.ms"] == str(FOR_EVER if stream == CONTROL else 30 * DAY_MS)
        assert config["min.insync.replicas"] == "1"


def test_a_retention_of_its_own(address: str, kafka_prefix: str, kafka_admin: KafkaAdminClient) -> None:
    kept_ms = {"s": 5 * DAY_MS, CONTROL: 1}
    log = KafkaLog(bootstrap=address, prefix=kafka_prefix, retention_ms=kept_ms, default_retention_ms=DAY_MS)
    log.create({"s": 1, "m": 1})
    kept = {stream: config_of(kafka_admin, kafka_prefix + stream)["retention.ms"] for stream in ("s", "m", CONTROL)}
    assert kept == {"s": str(5 * DAY_MS), "m": str(DAY_MS), CONTROL: "-1"}
    log.close()


def test_one_broker_waives_the_copies_and_says_so(address: str, kafka_prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    log = KafkaLog(bootstrap=address, prefix=kafka_prefix, replication=3, min_insync=2)
    log.create({"s": 1})
    assert "one broker only" in caplog.text
    assert log.describe({"s": 1}) == []
    log.close()


def test_each_difference_is_named_with_its_mending(log: KafkaLog, kafka_admin: KafkaAdminClient, kafka_prefix: str) -> None:
    assert log.describe({"s": 1, "m": 4}, {"s": 30 * DAY_MS}) == []
    changed = {
        "cleanup.policy": "compact",
        "message.timestamp.type": "CreateTime",
        "retention.ms": str(DAY_MS),
        "retention.bytes": "1000000",
        "max.message.bytes": "1000",
    }
    kafka_admin.alter_configs(
        [
            ConfigResource("topic", f"{kafka_prefix}s", changed),
            ConfigResource("topic", f"{kafka_prefix}{CONTROL}", {"retention.ms": str(DAY_MS)}),
        ]
    )
    problems = log.describe({"s": 1, "m": 5, "absent": 1}, {"s": 2 * DAY_MS})
    wanted = {
        "s: cleanup.policy is compact": "cleanup.policy=delete",
        "s: message.timestamp.type is CreateTime": "message.timestamp.type=LogAppendTime",
        "s: retention.ms is 86400000, (1.0 days), but 2.0 days are needed": f"retention.ms={2 * DAY_MS}",
        "s: retention.bytes is 1000000": "retention.bytes=-1",
        "s: max.message.bytes is 1000": "max.message.bytes=",
        "m: has 4 partitions, streams.m.partitions is 5": "Write 4",
        "absent: there is no such topic": "create it",
        f"{CONTROL}: retention.ms is 86400000, (1.0 days), but it is kept for ever": "retention.ms=-1",
    }
    for start, mending in wanted.items():
        [problem] = [problem for problem in problems if problem.startswith(kafka_prefix + start)]
        assert mending in problem
    assert len(problems) == len(wanted)


def test_prefixes_keep_logs_apart(log: KafkaLog, address: str, kafka_prefix: str) -> None:
    put(log, b"mine")
    longer = KafkaLog(bootstrap=address, prefix=f"{kafka_prefix}more-")
    assert longer.streams() == {}
    with pytest.raises(UnknownStream, match="'s'"):
        longer.read("s", 0, 0, 1)
    longer.create({"s": 2})
    assert longer.bounds("s", 0) == (0, 0)
    assert longer.streams() == {"s": 2, **INTERNAL}
    assert longer.identity("s") != log.identity("s")
    longer.close()


def test_nobody_makes_a_topic_by_accident(log: KafkaLog, kafka_admin: KafkaAdminClient, kafka_prefix: str) -> None:
    for call in (
        lambda: log.read("typo", 0, 0, 1),
        lambda: log.bounds("typo", 0),
        lambda: log.identity("typo"),
        lambda: log.append("typo", [Entry(b"", b"x")]).result(WAIT),
    ):
        with pytest.raises(UnknownStream, match="typo"):
            call()
    member = log.join("g", ["typo"])
    with pytest.raises(LogUnavailable, match="typo"):
        poll_for(member, 10.0)
    assert f"{kafka_prefix}typo" not in kafka_admin.list_topics()


def test_streams_made_by_two_at_once(address: str, kafka_prefix: str) -> None:
    logs = [KafkaLog(bootstrap=address, prefix=kafka_prefix) for _ in range(2)]
    threads = [threading.Thread(target=log.create, args=({"s": 3},)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    for log in logs:
        assert log.streams() == {"s": 3, **INTERNAL}
        log.close()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"bootstrap": ""}, "bootstrap"),
        ({"bootstrap": []}, "bootstrap"),
        ({"compression": "rar"}, "compression"),
        ({"replication": 1, "min_insync": 2}, "min_insync"),
        ({"timeout_s": 5.0, "delivery_s": 1.0}, "delivery_s"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as told:
        KafkaLog(**{"bootstrap": "127.0.0.1:9092", **settings})
    assert told.value.key == f"log.kafka.{key}"


def test_a_name_too_long_for_a_topic(log: KafkaLog) -> None:
    with pytest.raises(ConfigError, match="too long"):
        log.create({"x" * 250: 1})


# -- other people's records


def test_records_of_others_are_read_and_none_is_skipped(log: KafkaLog, address: str, kafka_prefix: str) -> None:
    producer, topic = foreign(address), f"{kafka_prefix}s"
    for value, key, headers in (
        (b"plain", b"k", []),
        (None, b"tombstone", []),
        (b"no key", None, []),
        (b"other headers", b"k", [("trace", b"abc"), ("empty", None)]),
        (b"a command", b"k", [("kind", b"2")]),
        (b"the last one counts", b"k", [("kind", b"1"), ("x", b""), ("kind", b"3")]),
        (b"not a number", b"k", [("kind", b"\xff")]),
        (b"no value", b"k", [("kind", None)]),
        (b"too much of a number", b"k", [("kind", b"9" * 30)]),
    ):
        producer.produce(topic, value=value, key=key, headers=headers, partition=0)
    assert producer.flush(WAIT) == 0
    records = log.read("s", 0, 0, 100)
    assert [record.offset for record in records] == list(range(9))
    assert [record.value for record in records][:4] == [b"plain", b"", b"no key", b"other headers"]
    assert [record.key for record in records][:4] == [b"k", b"tombstone", b"", b"k"]
    assert [record.kind for record in records] == [0, 0, 0, 0, 2, 3, -1, -1, -1]
    assert all(abs(record.ts - time.time()) < 60 for record in records)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_of_others_is_read(log: KafkaLog, address: str, kafka_prefix: str, codec: str) -> None:
    producer = foreign(address, **{"compression.type": codec, "linger.ms": 50})
    wanted = [b"value %d " % number * 20 for number in range(500)]
    for value in wanted:
        producer.produce(f"{kafka_prefix}s", value=value, key=b"k", partition=0)
    assert producer.flush(WAIT) == 0
    assert [record.value for record in log.read("s", 0, 0, 1000)] == wanted
    assert [record.offset for record in log.read("s", 0, 123, 5)] == [123, 124, 125, 126, 127]


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_of_ours(log: KafkaLog, address: str, kafka_prefix: str, compression: str | None) -> None:
    writer = KafkaLog(bootstrap=address, prefix=kafka_prefix, compression=compression)
    wanted = [b"value %d " % number * 20 for number in range(300)]
    put(writer, *wanted)
    assert [record.value for record in log.read("s", 0, 0, 1000)] == wanted
    writer.close()


def test_keys_go_where_other_clients_send_them(log: KafkaLog, address: str, kafka_prefix: str) -> None:
    producer = foreign(address, partitioner="murmur2_random")
    keys = [b"%d" % number * (number % 9 + 1) for number in range(200)] + ["größe".encode(), b"\x00\xff"]
    for key in keys:
        producer.produce(f"{kafka_prefix}m", value=b"theirs", key=key)
    assert producer.flush(WAIT) == 0
    log.append("m", [Entry(key, b"ours") for key in keys]).result(WAIT)
    for partition in range(4):
        records = log.read("m", partition, 0, 1000)
        theirs, ours = ([record.key for record in records if record.value == whose] for whose in (b"theirs", b"ours"))
        assert theirs == ours == [key for key in keys if partition_of(key, 4) == partition]


def test_a_creation_time_is_passed_on_as_it_is(
    log: KafkaLog, address: str, kafka_prefix: str, kafka_admin: KafkaAdminClient
) -> None:
    """A topic that others made may hold their own times, which may step back."""
    kafka_admin.create_topics({f"{kafka_prefix}theirs": {"num_partitions": 1, "replication_factor": 1}})
    producer = foreign(address)
    for ms in (1_700_000_000_123, 1_600_000_000_000, 1_700_000_000_124):
        producer.produce(f"{kafka_prefix}theirs", value=b"v", timestamp=ms)
    assert producer.flush(WAIT) == 0
    assert [record.ts for record in log.read("theirs", 0, 0, 9)] == [1_700_000_000.123, 1_600_000_000.0, 1_700_000_000.124]


def test_transactions_leave_holes_and_their_aborted_records_out(log: KafkaLog, address: str, kafka_prefix: str) -> None:
    put(log, b"before")
    producer = foreign(address, **{"transactional.id": kafka_prefix})
    producer.init_transactions(WAIT)
    for value, commit in ((b"kept", True), (b"aborted", False), (b"kept too", True)):
        producer.begin_transaction()
        producer.produce(f"{kafka_prefix}s", value=value, key=b"k", partition=0)
        producer.flush(WAIT)
        if commit:
            producer.commit_transaction(WAIT)
        else:
            producer.abort_transaction(WAIT)
    deadline = time.monotonic() + WAIT
    while log.bounds("s", 0) != (0, 7) and time.monotonic() < deadline:
        time.sleep(0.01)  # the mark of a transaction's end follows a little later
    put(log, b"after")
    records = log.read("s", 0, 0, 100)
    found = [(record.offset, record.value) for record in records]
    assert found == [(0, b"before"), (1, b"kept"), (5, b"kept too"), (7, b"after")]
    assert log.bounds("s", 0) == (0, 8)
    assert [record.value for record in log.read("s", 0, 2, 1)] == [b"kept too"]
    assert log.read("s", 0, 8, 1) == []


def test_what_is_not_committed_yet_is_not_read(log: KafkaLog, address: str, kafka_prefix: str) -> None:
    producer = foreign(address, **{"transactional.id": kafka_prefix})
    producer.init_transactions(WAIT)
    producer.begin_transaction()
    producer.produce(f"{kafka_prefix}s", value=b"open", key=b"k", partition=0)
    producer.flush(WAIT)
    put(log, b"behind it")
    assert log.read("s", 0, 0, 9) == []
    assert log.bounds("s", 0) == (0, 0)
    producer.commit_transaction(WAIT)
    deadline = time.monotonic() + WAIT
    while len(found := log.read("s", 0, 0, 9)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [record.value for record in found] == [b"open", b"behind it"]


# -- positions


def test_a_topic_made_again_is_another_log(
    log: KafkaLog, other: KafkaLog, kafka_admin: KafkaAdminClient, kafka_prefix: str
) -> None:
    """Also while it is read: the old position would be taken for one of the new topic."""
    put(log, b"a", b"b", b"c")
    identity = log.identity("s")
    assert len(log.read("s", 0, 0, 9)) == 3
    kafka_admin.delete_topics([f"{kafka_prefix}s"])
    deadline = time.monotonic() + WAIT
    while f"{kafka_prefix}s" in kafka_admin.list_topics() and time.monotonic() < deadline:
        time.sleep(0.05)
    other.create({"s": 1})
    put(other, b"x", b"y", b"z", b"new")
    with pytest.raises(ForeignLog, match="deleted and made again"):
        log.read("s", 0, 3, 9)
    with pytest.raises(ForeignLog):
        log.trim("s", 0, 2)
    assert log.identity("s") == identity
    assert other.identity("s") != identity
    assert other.bounds("s", 0) == (0, 4)


def test_a_deleted_topic_is_told(log: KafkaLog, kafka_admin: KafkaAdminClient, kafka_prefix: str) -> None:
    put(log, b"a")
    assert len(log.read("s", 0, 0, 9)) == 1
    kafka_admin.delete_topics([f"{kafka_prefix}s"])

    def follow() -> None:
        for _ in range(100):
            log.read("s", 0, 1, 9)
            time.sleep(0.05)

    with pytest.raises(UnknownStream, match="'s'"):
        follow()


def test_a_trim_by_another_is_an_expired_position(log: KafkaLog, other: KafkaLog) -> None:
    put(log, *[b"%d" % number for number in range(10)])
    assert other.trim("s", 0, 6) == 6
    with pytest.raises(PositionExpired) as told:
        log.read("s", 0, 2, 9)
    assert (told.value.first, told.value.end, told.value.offset) == (6, 10, 2)
    assert [record.offset for record in log.read("s", 0, 6, 9)] == [6, 7, 8, 9]
    with pytest.raises(PositionExpired):
        log.read("s", 0, 5, 9)


# -- reading


def test_several_readers_of_one_partition_at_their_own_places(log: KafkaLog) -> None:
    """As several models do in one process; some in step, one behind, one jumping about, and all at once."""
    wanted = [b"%d" % number for number in range(3000)]
    put(log, *wanted)
    failures: list[BaseException] = []

    def follow(start: int, step: int) -> None:
        try:
            at = start
            while records := log.read("s", 0, at, step):
                assert [record.value for record in records] == wanted[at : at + step]
                at += len(records)
            assert at == 3000
        except BaseException as error:
            failures.append(error)

    ways = ((0, 100), (0, 100), (0, 7), (1500, 333), (2999, 1), (5, 999))
    threads = [threading.Thread(target=follow, args=way) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not failures
    for at in (2000, 10, 2999, 0, 1234):
        assert log.read("s", 0, at, 1)[0].value == wanted[at]


def test_a_read_is_short_only_at_the_end(log: KafkaLog) -> None:
    """Over several answers of the broker, each of at most 1 MiB."""
    wanted = [bytes([number % 256]) * 50_000 for number in range(80)]
    for value in wanted:
        log.append("s", [Entry(b"", value)])
    put(log, b"last")
    records = log.read("s", 0, 0, 1000)
    assert [record.value for record in records] == [*wanted, b"last"]
    assert [record.offset for record in log.read("s", 0, 3, 60)] == list(range(3, 63))


def test_an_empty_answer_comes_quickly_and_what_is_new_is_seen_at_once(log: KafkaLog) -> None:
    put(log, b"first")
    waits = []
    for at in range(1, 30):
        began = time.monotonic()
        assert log.read("s", 0, at, 100) == []
        waits.append(time.monotonic() - began)
        put(log, b"%d" % at)
        assert [record.value for record in log.read("s", 0, at, 100)] == [b"%d" % at]
    assert sorted(waits)[len(waits) // 2] < 0.1


# -- appending


def test_each_ones_order_is_kept_under_load(log: KafkaLog, address: str, kafka_prefix: str) -> None:
    """Four threads on two handles append to one partition, without waiting for an answer in between."""
    logs = [log, KafkaLog(bootstrap=address, prefix=kafka_prefix)]
    futures: list[list[Any]] = [[] for _ in range(4)]

    def write(who: int) -> None:
        for number in range(200):
            entries = [Entry(b"k", b"%d %d %d" % (who, number, part)) for part in range(5)]
            futures[who].append(logs[who % 2].append("s", entries))

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    told = [[place for future in one for place in future.result(WAIT)] for one in futures]
    stored: dict[int, list[tuple[int, bytes]]] = {who: [] for who in range(4)}
    for record in log.read("s", 0, 0, 10_000):
        stored[int(record.value.split()[0])].append((record.offset, record.value))
    for who in range(4):
        wanted = [b"%d %d %d" % (who, number, part) for number, part in itertools.product(range(200), range(5))]
        assert [value for _, value in stored[who]] == wanted
        assert [offset for offset, _ in stored[who]] == [offset for _, offset in told[who]]
    assert log.bounds("s", 0) == (0, 4000)
    logs[1].close()


APPENDER = """
import pickle, sys
from streamlearn.log import Entry
opener, who, count = pickle.load(sys.stdin.buffer)
log = opener()
futures = [log.append("s", [Entry(b"k", b"%d %d" % (who, number))]) for number in range(count)]
log.close()
print(*[offset for future in futures for _, offset in future.result(0)])
"""


@pytest.mark.slow
def test_several_processes_append_at_once(log: KafkaLog, address: str, kafka_prefix: str) -> None:
    """Each opens the log by what it was sent, and what it appended is there once its log is closed."""
    opener = functools.partial(KafkaLog, bootstrap=[address], prefix=kafka_prefix, security={"security_protocol": "PLAINTEXT"})
    argv, pipes = [sys.executable, "-c", APPENDER], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(argv, **pipes)) for _ in range(2)]
        for who, process in enumerate(processes):
            process.stdin.write(pickle.dumps((opener, who, 100)))
            process.stdin.close()
        told = [[int(offset) for offset in process.stdout.read().split()] for process in processes]
    assert sorted(told[0] + told[1]) == list(range(200))
    values = [record.value for record in log.read("s", 0, 0, 1000)]
    for who in range(2):
        assert [values[offset] for offset in told[who]] == [b"%d %d" % (who, number) for number in range(100)]


def test_a_record_too_large_is_told_with_the_settings(log: KafkaLog, address: str, kafka_prefix: str) -> None:
    with pytest.raises(LogError, match=r"of 2000000 bytes.* is too large.*max\.message\.bytes.*limits\.max_event_bytes"):
        log.append("s", [Entry(b"", b"fits"), Entry(b"", b"x" * 2_000_000)]).result(WAIT)
    assert log.bounds("s", 0) == (0, 0)
    generous = KafkaLog(bootstrap=address, prefix=kafka_prefix, max_record_bytes=4 << 20, compression=None)
    with pytest.raises(LogError, match="too large"):
        generous.append("s", [Entry(b"", b"x" * 2_000_000)]).result(WAIT)
    put(generous, b"and it goes on")
    generous.create({"large": 1})
    put(generous, b"y" * 3_000_000, stream="large")
    assert [len(record.value) for record in log.read("large", 0, 0, 9)] == [3_000_000]
    generous.close()


def test_overloaded_while_too_much_is_not_acknowledged(address: str, kafka_prefix: str) -> None:
    log = KafkaLog(bootstrap=address, prefix=kafka_prefix, max_waiting_bytes=100_000)
    log.create({"s": 1})
    futures = []

    def flood() -> None:
        for _ in range(10_000):
            futures.append(log.append("s", [Entry(b"", b"x" * 5_000)]))

    with pytest.raises(Overloaded, match="wait to be acknowledged by Kafka"):
        flood()
    assert len(futures) >= 19
    for future in futures:
        future.result(WAIT)
    put(log, b"later")
    log.close()


def test_one_call_larger_than_the_bound_goes_in_alone(address: str, kafka_prefix: str) -> None:
    log = KafkaLog(bootstrap=address, prefix=kafka_prefix, max_waiting_bytes=1000)
    log.create({"s": 1})
    assert len(put(log, *[b"x" * 100] * 100)) == 100
    log.close()


def test_a_cancelled_append_is_not_sent(log: KafkaLog) -> None:
    put(log, b"first")
    futures = [log.append("s", [Entry(b"", b"%d" % number)]) for number in range(2000)]
    cancelled = {number for number, future in enumerate(futures) if future.cancel()}
    for number, future in enumerate(futures):
        if number not in cancelled:
            future.result(WAIT)
    values = {record.value for record in log.read("s", 0, 0, 5000)}
    assert not values & {b"%d" % number for number in cancelled}
    assert len(values) == 2001 - len(cancelled)


def test_a_closed_log_leaves_no_thread(address: str, kafka_prefix: str) -> None:
    before = set(threading.enumerate())
    log = KafkaLog(bootstrap=address, prefix=kafka_prefix)
    assert set(threading.enumerate()) == before
    log.create({"s": 1})
    put(log, b"a")
    log.read("s", 0, 0, 1)
    member = log.join("g", ["s"])
    while not member.poll(lambda places: None):
        time.sleep(0.02)
    log.close()
    deadline = time.monotonic() + WAIT
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(threading.enumerate()) <= before


# -- security


@pytest.mark.slow
def test_tls_and_a_password_pass_through(own_kafka: Callable[..., KafkaServer], tmp_path: Path) -> None:
    """For every client in it: the one that reads, the producer and the member; and what is wrong is told in time."""
    certificate = make_certificate(tmp_path)
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_app="right";'
    settings = {
        **tls_settings(certificate),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": login,
    }
    server = own_kafka(protocol="SASL_SSL", settings=settings)
    security = {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": str(certificate.cert),
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "app",
        "sasl_plain_password": "right",
    }
    log = KafkaLog(bootstrap=server.address, security=security)
    log.create({"s": 1})
    assert put(log, b"secret") == [(0, 0)]
    assert [record.value for record in log.read("s", 0, 0, 9)] == [b"secret"]
    member = log.join("g", ["s"])
    deadline = time.monotonic() + WAIT
    while not (share := member.poll(lambda places: None)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert share == {("s", 0)}
    log.close()
    deadline = time.monotonic() + 2 * WAIT
    password, authority = {"sasl_plain_password": "wrong"}, {"ssl_cafile": None}
    for wrong, reason in ((password, "check the user, the password"), (authority, "CERTIFICATE")):
        log = KafkaLog(bootstrap=server.address, security={**security, **wrong}, timeout_s=2.0)
        for call in (log.streams, lambda log=log: put(log, b"x"), lambda log=log: log.read("s", 0, 0, 1)):
            told = ""
            while reason not in told and time.monotonic() < deadline:  # a broker may also hang up without a word
                began = time.monotonic()
                with pytest.raises(LogError) as error:
                    call()
                told = str(error.value)
                assert time.monotonic() - began < 6
            assert reason in told
        log.close()
    del log, error, call
    gc.collect()
