"""A shard whose log is not what it read before stops with a stated choice, and the others go on.

`learn --reset` starts it over. Records that are gone beyond its checkpoint, a log that lost what was read, a topic that was
deleted and made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from service_bench import MODEL, STREAM, Program, Site, Traffic, eventually

from streamlearn.cli.dev_kafka import Kafka, KafkaServer
from streamlearn.cli.dev_redis import RedisServer
from streamlearn.cli.verify import check_shard
from streamlearn.events import encode
from streamlearn.log import Entry

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]

OTHER = "other"  # another stream, of whose shard nothing of all this is felt
TABLES = f"[streams.{OTHER}]\n" + MODEL.format(name="side", pipeline="logistic").replace(f'"{STREAM}"', f'"{OTHER}"')
CHOICE = "(streamlearn learn CONFIG --reset ctr starts over from the earliest)"
ALL = [("ctr", 0), ("ctr", 1), ("side", 0)]


class House:
    """A broker to be damaged, two models on two streams, one learner and one API."""

    def __init__(self, kafka: KafkaServer, site: Site) -> None:
        self.kafka, self.site, self._fed = kafka, site, 0
        self.learner: Program = site.run("learn")
        self.api: Program = site.run("serve", "--api-only")
        self.control: Program = site.run("control")
        self.feed(300)
        eventually(lambda: all(self.model(name)["ready"] for name in ("ctr", "side")), "every model can answer")

    def feed(self, events: int, *streams: str) -> None:
        """As many events into each stream, all with ids of their own."""
        for stream in streams or (STREAM, OTHER):
            self._fed += 1
            for batch in Traffic(self._fed).batches(events):
                named = [event | {"stream": stream, "id": f"{self._fed}-{event['id']}"} for event in batch]
                entries = [Entry(event["id"].encode(), encode(event)) for event in named]
                self.site.world.log.append(stream, entries).result(30)

    def start_over(self) -> None:
        """What the message offers."""
        if self.learner.process.poll() is None:
            assert self.learner.stop() == 0, self.learner.said[-3000:]
        self.learner = self.site.run("learn", "--reset", "ctr")

    def model(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.site.url}/v1/models/{name}", timeout=10).json()
        return found

    def bounds(self, place: tuple[str, int]) -> tuple[int, int]:
        return self.site.world.log.bounds(OTHER if place[0] == "side" else STREAM, place[1])

    def goes_on(self, *places: tuple[str, int]) -> None:
        """Wait until these shards have read all that there is, and nothing holds them."""

        def read() -> bool:
            found = self.site.statuses()
            return all(found[at].held is None and found[at].position == self.bounds(at)[1] for at in places)

        eventually(read, f"{places} go on")

    def stopped(self, place: tuple[str, int], why: str) -> None:
        """Wait until that shard has stopped for this reason and says so everywhere, with the choice."""

        def stated() -> str:
            held = self.site.statuses()[place].held or ""
            return held if why in held else ""

        held = eventually(stated, f"{place} stops, for {why!r}")
        assert held.endswith(CHOICE), held
        assert '"text": "shard stopped"' in self.learner.said
        assert self.learner.process.poll() is None, "the learner goes on"

        def told() -> bool:
            shard = self.model("ctr")["shards"][place[1]]
            return shard["status"]["held"] == held and f"learning is held: {held}" in (shard["degraded"] or ())

        eventually(told, "the API says so")
        answer = self.site.ask(key=self.site.keys()[place[1]])
        assert answer.status == 200, "the last good model answers"
        assert any(held in reason for reason in answer.degraded)

    def well(self) -> None:
        """Everything is learned, checkpointed, and what a replay gives."""
        self.goes_on(*ALL)

        def same() -> bool:
            checks = {at: check_shard(self.site.world, *at) for at in ALL}
            assert not [check for check in checks.values() if check.verdict == "differs"]
            return all(check.position == self.bounds(at)[1] for at, check in checks.items())

        eventually(same, "every shard has a checkpoint at its end")


@pytest.fixture(scope="module")
def house(module_folder: Path, kafka_program: Kafka, redis_server: RedisServer) -> Iterator[House]:
    with KafkaServer(module_folder / "kafka", kafka_program) as kafka:
        site = Site(module_folder, kafka.address, redis_server.url, more=TABLES)
        try:
            yield House(kafka, site)
        finally:
            site.close()


def test_records_that_are_gone_beyond_the_checkpoint(house: House) -> None:
    house.well()
    assert house.learner.stop() == 0
    position = house.site.statuses()["ctr", 0].position
    house.feed(300)
    end = house.bounds(("ctr", 0))[1]
    assert house.site.world.log.trim(STREAM, 0, end - 10) == end - 10
    house.learner = house.site.run("learn")
    house.stopped(("ctr", 0), f"offset {position}")
    house.feed(200)
    house.goes_on(("ctr", 1), ("side", 0))
    assert house.site.statuses()["ctr", 0].position == position, "nothing was skipped in silence"
    house.start_over()
    house.well()
    assert "starts from the log" in house.learner.said


def test_a_log_that_lost_what_was_read(house: House) -> None:
    """As after a disk was put back from a copy, or an unclean election: its end is before the learner's position."""
    house.well()
    house.kafka.kill()
    for part in (house.kafka.folder / "data" / f"{house.site.topic}-1").iterdir():
        if part.suffix in (".log", ".index", ".timeindex", ".snapshot"):
            part.unlink()
    house.kafka.start()
    assert eventually(lambda: house.bounds(("ctr", 1)), "the broker is back") == (0, 0)
    house.feed(100)
    house.stopped(("ctr", 1), "clicks/1")
    house.goes_on(("ctr", 0), ("side", 0))
    house.site.let_go()
    house.start_over()
    house.well()


def test_a_topic_that_was_deleted_and_made_again(house: House) -> None:
    house.well()
    admin = AdminClient({"bootstrap.servers": house.kafka.address})
    [deleted] = admin.delete_topics([house.site.topic]).values()
    deleted.result(20)
    house.feed(100, OTHER)
    house.goes_on(("side", 0))
    for shard in range(house.site.partitions):
        house.stopped(("ctr", shard), "it has no topic")

    assert house.control.process.wait(60) == 1, "a new one finds all that it knew"

    def made() -> bool:
        [done] = admin.create_topics([NewTopic(house.site.topic, house.site.partitions, 1)]).values()
        return done.exception(20) is None

    eventually(made, "the topic is made again")
    house.control = house.site.run("control")
    house.learner.kill()
    house.learner = house.site.run("learn")
    for shard in range(house.site.partitions):
        house.stopped(("ctr", shard), "the checkpoint was taken on log")
    house.feed(100, OTHER)
    house.goes_on(("side", 0))

    house.site.let_go()
    house.feed(100)
    house.start_over()
    house.well()
    keys = house.site.keys()
    house.site.post([{"stream": STREAM, "id": f"posted-{key}", "key": key, "x": {}} for key in keys])
    house.well()
    made_again = house.site.world.log.identity(STREAM)

    def served_from(key: str) -> str:
        question = {"x": {"a": 0.9}, "key": key}
        return str(httpx.post(f"{house.site.url}/v1/predict/ctr", json=question, timeout=10).json()["position"]["log"])

    eventually(lambda: {served_from(key) for key in keys} == {made_again}, "the API follows the new log")
    eventually(lambda: house.model("ctr")["ready"] and house.model("ctr")["degraded"] is None, "and all is well")
    assert house.api.process.poll() is None, "nobody had to start it again"
    assert house.control.process.poll() is None
