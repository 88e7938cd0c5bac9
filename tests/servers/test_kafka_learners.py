"""Several `learn` processes share a stream's partitions: a second one takes half, and all when the first is killed or leaves.

Nothing is lost or learned twice: a shard's state is that of a replay of its partition, and the accounts hold every event once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from service_bench import STREAM, Program, Site, Traffic, eventually

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.cli.dev_redis import RedisServer
from streamlearn.events import encode
from streamlearn.log import Entry

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]

PARTITIONS = 4


@pytest.fixture
def site(sites: Callable[..., Site], tmp_path: Path, kafka_server: KafkaServer, redis_server: RedisServer) -> Site:
    models = {"ctr": "logistic", "bayes": "naive_bayes"}
    return sites(tmp_path, kafka_server.address, redis_server.url, partitions=PARTITIONS, models=models)


class Feed:
    """Appends traffic to the log without the API."""

    def __init__(self, site: Site) -> None:
        self.site, self.traffic = site, Traffic()

    def __call__(self, events: int) -> None:
        for batch in self.traffic.batches(events):
            entries = [Entry(event["id"].encode(), encode(event)) for event in batch]
            self.site.world.log.append(STREAM, entries).result(30)


def held_by(site: Site, *programs: Program) -> dict[int, int]:
    """How many partitions each has; {} while a shard is without a living holder, or the models' holders differ."""
    holders = site.holders()
    if holders.keys() != set(site.shards):
        return {}
    by_partition = [{holders[model, shard] for model in site.models} for shard in range(PARTITIONS)]
    pids = [pid for owners in by_partition for pid in owners]
    if len(pids) != PARTITIONS or not {program.pid for program in programs}.issuperset(pids):
        return {}
    return {program.pid: pids.count(program.pid) for program in programs}


def learning_again(site: Site, positions: dict[tuple[str, int], int]) -> bool:
    """Every shard has read beyond where it was."""
    statuses = site.statuses()
    return all(statuses[place].position > positions[place] for place in site.shards)


def test_partitions_move_to_whoever_is_there_and_nothing_is_lost_or_learned_twice(site: Site) -> None:
    feed = Feed(site)
    feed(2000)
    first = site.run("learn")
    eventually(lambda: held_by(site, first) == {first.pid: 4}, "one learner has every partition")
    before = {place: status.generation for place, status in site.statuses().items()}

    second = site.run("learn")
    half = {first.pid: 2, second.pid: 2}
    started = time.monotonic()
    while held_by(site, first, second) != half:
        feed(200)
        assert time.monotonic() < started + 60, site.said()
    print(f"\na second learner has half of the partitions {time.monotonic() - started:.1f} s after its start")
    feed(2000)
    moved = [place for place, pid in site.holders().items() if pid == second.pid]
    after = {place: status.generation for place, status in site.statuses().items()}
    assert all((after[place] > before[place]) == (place in moved) for place in site.shards), "only what moved was claimed anew"
    assert all(status.held is None for status in site.statuses().values())
    site.await_learned()

    feed(1000)
    first.kill()
    killed = time.monotonic()
    positions = {(model, shard): end for shard, end in site.ends().items() for model in site.models}
    feed(1000)
    eventually(lambda: held_by(site, second) == {second.pid: 4}, "the second has all when the first is killed")
    eventually(lambda: learning_again(site, positions), "every shard learns again")
    print(f"kill -9: every shard learns again after {time.monotonic() - killed:.1f} s (the session is 3 s)")

    third = site.run("learn")
    eventually(lambda: held_by(site, second, third) == {second.pid: 2, third.pid: 2}, "a third takes half")
    feed(1000)
    left = time.monotonic()
    assert second.stop() == 0, second.said[-3000:]
    drained = time.monotonic()
    positions = {(model, shard): end for shard, end in site.ends().items() for model in site.models}
    feed(1000)
    eventually(lambda: held_by(site, third) == {third.pid: 4}, "the last one has all when the second leaves")
    eventually(lambda: learning_again(site, positions), "every shard learns again")
    print(f"SIGTERM: drained after {drained - left:.1f} s, every shard learns again after {time.monotonic() - left:.1f} s")

    assert third.stop() == 0, third.said[-3000:]
    site.hold(feed.traffic)
