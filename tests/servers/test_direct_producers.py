"""Applications that produce the documented JSON straight to Kafka, with a client of another make.

With the murmur2 partitioner they teach a model what the same events over HTTP teach it; with another one their records are
found and named. What is no event of ours becomes a dead letter, and the learner goes on.
"""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka import Producer
from service_bench import MODEL, STREAM, Program, Site, Traffic, eventually

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.cli.dev_redis import RedisServer
from streamlearn.cli.letters import Letter, letters
from streamlearn.cli.verify import check_shard
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import partition_of
from streamlearn.learning import checkpoint
from streamlearn.learning.digest import digest
from streamlearn.learning.learner import Learner
from streamlearn.learning.replay import new_learner
from streamlearn.learning.waiting import JoinState
from streamlearn.store.codec import open_blob

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]

PARTITIONS = 3
DIRECT = "direct"  # the stream that is written without the API
TABLES = f"[streams.{DIRECT}]\npartitions = {PARTITIONS}\n" + MODEL.format(name="straight", pipeline="logistic").replace(
    f'"{STREAM}"', f'"{DIRECT}"'
)

Event = dict[str, Any]


class House:
    """One learner and one API; `ctr` learns what is posted, `straight`, the same model, what is produced."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.learner: Program = site.run("learn")
        site.run("serve", "--api-only")
        self.topic = f"{site.name}.{DIRECT}"
        self._producers: dict[str, Producer] = {}
        site.post([{"stream": STREAM, "id": "first", "ts": 1e9, "x": {}}])
        self.produce([{"stream": DIRECT, "id": "first", "ts": 1e9, "x": {}}])

    def produce(self, events: Iterable[Event], partitioner: str = "murmur2_random") -> None:
        """As an application would: the JSON as the value, the key, else the id, as the key."""
        if partitioner not in self._producers:
            self._producers[partitioner] = self.producer(partitioner=partitioner)
        producer = self._producers[partitioner]
        for event in events:
            producer.produce(self.topic, json.dumps(event), event.get("key", event["id"]))
            producer.poll(0)
        assert producer.flush(30) == 0

    def producer(self, **settings: Any) -> Producer:
        bootstrap = ",".join(self.site.settings.log.kafka.bootstrap)
        return Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, **settings})

    def learners(self, model: str) -> list[Learner]:
        """Each shard's learner, from a checkpoint of all that is in its partition."""
        stream = self.site.settings.models[model].stream
        found = []
        for shard in range(PARTITIONS):
            end = self._end(stream, shard)
            found.append(eventually(lambda: self._learner(model, shard, end), f"{model}/{shard} is at {end}"))  # noqa: B023
        return found

    def _end(self, stream: str, shard: int) -> int:
        """The offset after the newest record; the marks of a transaction may follow it."""
        log, at = self.site.world.log, 0
        while records := log.read(stream, shard, at, 1000):
            at = records[-1].offset + 1
        return at

    def _learner(self, model: str, shard: int, end: int) -> Learner | None:
        world = self.site.world
        for info in world.store.checkpoints(model, shard):
            sealed = open_blob(world.store.checkpoint(info.id), world.keys, kind="checkpoint", model=model, shard=shard)
            if sealed.header.positions[0].offset < end:
                return None
            learner = new_learner(self.site.settings, model, shard, 0, DriftWatch)
            checkpoint.load(learner, sealed.all_parts(), DriftWatch)
            return learner
        return None

    def dead(self) -> list[Letter]:
        return [letter for letter in letters(self.site.world.log) if letter.dead.model == "straight"]


@pytest.fixture(scope="module")
def house(module_folder: Path, kafka_server: KafkaServer, redis_server: RedisServer) -> Iterator[House]:
    site = Site(module_folder, kafka_server.address, redis_server.url, partitions=PARTITIONS, more=TABLES)
    try:
        yield House(site)
    finally:
        site.close()


def learned(learner: Learner) -> dict[str, Any]:
    """All of a learner's state that does not know when a record was appended, or in which stream."""
    kept = checkpoint.parts(learner)
    join = msgspec.msgpack.decode(kept["join"], type=JoinState)
    return {
        "position": learner.position,
        "n": learner.n,
        "counters": learner.counters,
        "champion": digest((learner.champion.estimator, learner.champion.types, learner.champion.label_type)),
        "scores": digest(kept["scores"]),
        "baselines": digest(learner.baselines),
        "watch": digest(learner.watch),
        "waiting": [(entry.id, entry.offset, entry.ts, entry.deadline, entry.y, entry.p) for entry in join.pending],
        "ids": (join.seq, join.newest, join.young, join.old),
    }


def test_what_is_produced_teaches_the_same_as_what_is_posted(house: House) -> None:
    """Labels come with their features, later, or never; keys are the event's own, or its id."""
    rng, site = random.Random(7), house.site
    for batch in Traffic().batches(3000):
        for event in batch:
            event["id"] = f"a{event['id']}"
            if zlib.crc32(event["id"].encode()) % 3:
                event["key"] = f"user-{zlib.crc32(event['id'].encode()) % 50}"
        site.post(batch)
        house.produce([event | {"stream": DIRECT} for event in batch])
    posted, produced = house.learners("ctr"), house.learners("straight")
    for over_http, straight in zip(posted, produced, strict=True):
        assert over_http.n > 500
        assert learned(straight) == learned(over_http)
    assert sum(learner.n for learner in produced) > 2500
    for n in range(20):
        question = {"x": {"a": rng.random(), "b": rng.random(), "c": "u"}, "key": f"user-{n}"}

        def same(question: Event = question) -> bool:
            answers = [httpx.post(f"{site.url}/v1/predict/{model}", json=question) for model in ("ctr", "straight")]
            one, other = (answer.raise_for_status().json()["probabilities"] for answer in answers)
            return bool(one == other)

        eventually(same, "both models answer alike, once the API has them", 30)
    assert house.dead() == []
    for shard in range(PARTITIONS):
        assert check_shard(site.world, "straight", shard).verdict == "same"


def test_records_of_another_partitioner_are_found_and_named(house: House) -> None:
    """librdkafka's own default hashes by CRC-32: two thirds of the records lie where nobody would look for their key."""
    before, n = len(house.dead()), sum(learner.n for learner in house.learners("straight"))
    events = [{"stream": DIRECT, "id": f"crc{i}", "x": {"a": i / 300, "b": 0.5, "c": "u"}, "y": i > 150} for i in range(300)]
    wrong = {e["id"] for e in events if zlib.crc32(e["id"].encode()) % PARTITIONS != partition_of(e["id"].encode(), PARTITIONS)}
    assert 100 < len(wrong) < 250
    house.produce(events, "consistent_random")
    learners = house.learners("straight")
    dead = [letter.dead for letter in house.dead()[before:]]
    assert {letter.reason for letter in dead} == {"misrouted"}
    assert {letter.key for letter in dead} == wrong
    assert len(dead) == len(wrong)
    for letter in dead:
        assert letter.shard == zlib.crc32(letter.key.encode()) % PARTITIONS
        assert f"belongs to partition {partition_of(letter.key.encode(), PARTITIONS)}" in letter.detail
        assert "murmur2" in letter.detail
        assert json.loads(letter.raw)["id"] == letter.key, "the raw record is kept"
    assert sum(learner.n for learner in learners) == n + len(events) - len(wrong), "the others were learned"
    assert sum(learner.counters["misrouted"] for learner in learners) == len(wrong)


GOOD = {"stream": DIRECT, "id": "good", "x": {"a": 0.1, "b": 0.2, "c": "u"}, "y": True}
ODD: tuple[tuple[str, bytes | None, list[tuple[str, bytes]], str], ...] = (
    ("a tombstone", None, [], "malformed"),
    ("no bytes at all", b"", [], "malformed"),
    ("not JSON", b"\x00\x01avro", [], "malformed"),
    ("not UTF-8", b'{"stream": "direct", "id": "\xff"}', [], "malformed"),
    ("half of an event", b'{"stream": "direct", "id": "x", "x": {"a"', [], "malformed"),
    ("no object", b"[1, 2]", [], "shape"),
    ("another schema", b'{"order": 17, "total": 3.5}', [], "shape"),
    ("features of the wrong type", b'{"stream": "direct", "id": "x", "x": {"a": [1]}}', [], "shape"),
    ("nothing to learn from", b'{"stream": "direct", "id": "x"}', [], "empty"),
    ("an event of another stream", b'{"stream": "clicks", "id": "x", "x": {}}', [], "unknown_stream"),
    ("NaN", b'{"stream": "direct", "id": "x", "x": {"a": NaN}}', [], "not_finite"),
    ("a kind that no learner knows", json.dumps(GOOD).encode(), [("kind", b"7")], "shape"),
    ("a kind that is no number", json.dumps(GOOD).encode(), [("kind", b"order-created")], "shape"),
    ("a kind that is empty", json.dumps(GOOD).encode(), [("kind", b"")], "shape"),
    ("a command that nobody signed", b'{"seq": 1, "model": "straight", "verb": "hold"}', [("kind", b"2")], "bad_signature"),
    ("a prediction that is none", b"{}", [("kind", b"1")], "shape"),
)


def test_what_is_no_event_of_ours_is_a_dead_letter_and_never_fatal(house: House) -> None:
    site, before = house.site, len(house.dead())
    n = sum(learner.n for learner in house.learners("straight"))
    producer = house.producer(partitioner="murmur2_random")
    for what, value, headers, _ in ODD:
        producer.produce(house.topic, value, what.encode(), headers=list(headers))
    producer.produce(house.topic, json.dumps(GOOD), "good", headers=[("traceparent", b"00-1"), ("source", b"shop")])
    assert producer.flush(30) == 0
    learners = house.learners("straight")
    found = {letter.dead.key: letter.dead for letter in house.dead()[before:]}
    assert {key: letter.reason for key, letter in found.items()} == {what: reason for what, _, _, reason in ODD}
    for what, value, _, _ in ODD:
        assert found[what].raw == (value or b"")
        assert found[what].detail
    assert sum(learner.n for learner in learners) == n + 1, "other headers do not matter"
    assert house.learner.process.poll() is None
    assert all(status.held is None for status in site.statuses().values())
    for shard in range(PARTITIONS):
        assert check_shard(site.world, "straight", shard).verdict == "same"


def test_a_transaction_is_learned_when_it_was_committed_and_not_when_it_was_aborted(house: House) -> None:
    before, counts = len(house.dead()), Counter(n=sum(learner.n for learner in house.learners("straight")))
    producer = house.producer(partitioner="murmur2_random", **{"transactional.id": f"{house.site.name}-app"})
    producer.init_transactions(30)
    for outcome in ("aborted", "committed"):
        producer.begin_transaction()
        for i in range(30):
            event = GOOD | {"id": f"{outcome}-{i}"}
            producer.produce(house.topic, json.dumps(event), event["id"])
        producer.flush(30)
        (producer.abort_transaction if outcome == "aborted" else producer.commit_transaction)(30)
    house.produce([GOOD | {"id": f"after-{shard}", "key": key} for shard, key in enumerate(house.site.keys())])
    learners = house.learners("straight")
    assert sum(learner.n for learner in learners) == counts["n"] + 30 + PARTITIONS
    known = {id for learner in learners for id in learner.join._young}
    assert {id for id in known if id.startswith(("aborted", "committed"))} == {f"committed-{i}" for i in range(30)}
    assert len(house.dead()) == before
    house.produce([GOOD | {"id": f"later-{n}"} for n in range(200)])
    for shard in range(PARTITIONS):
        assert check_shard(house.site.world, "straight", shard).verdict == "same", "also while the log goes on beyond the marks"
