"""A service whose Redis dies, forgets everything, is full or takes no writes, under load: nothing acknowledged is lost.

Nobody helps. One Redis that keeps nothing through a restart and one service for all tests but the last; each leaves both well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import redis
from service_bench import STREAM, Load, Program, Site, Traffic, eventually, fill

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.cli.dev_redis import FORGET, Redis, RedisServer
from streamlearn.errors import StoreFull, StoreUnavailable
from streamlearn.log import CONTROL

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]

DISK_MB = 64


class House:
    """The Redis, the service, and what was posted to it so far."""

    def __init__(self, store: RedisServer, site: Site) -> None:
        self.store, self.site, self.traffic = store, site, Traffic()
        self.service: Program = site.serve()

    def roles(self) -> dict[str, int | None]:
        return {role: self.service.role(role) for role in ("learn", "control", "api")}

    @contextmanager
    def configured(self, **settings: str) -> Iterator[None]:
        """The server with other settings meanwhile."""
        with cast(Any, redis.Redis(port=self.store.port)) as client:
            before = client.config_get(*settings)
            try:
                for name, value in settings.items():
                    client.config_set(name, value)
                yield
            finally:
                for name in settings:
                    client.config_set(name, before[name])


@pytest.fixture(scope="module")
def house(module_folder: Path, kafka_server: KafkaServer, redis_program: Redis) -> Iterator[House]:
    with RedisServer(module_folder / "redis", redis_program, *FORGET) as store:
        site = Site(module_folder, kafka_server.address, store.url)
        try:
            yield House(store, site)
        finally:
            site.close()


def answered(load: Load, start: float, until: float) -> set[str]:
    """Every question between the two times was answered; why it was said to be degraded."""
    answers = load.since(start, until)
    assert len(answers) > (until - start), "questions were hardly answered"
    assert {answer.status for answer in answers} == {200}, [answer for answer in answers if answer.status != 200][:5]
    return {reason for answer in answers for reason in answer.degraded}


def serving(site: Site) -> tuple[int, list[str]]:
    """That the API is ready, and what it says is amiss."""
    status, amiss = site.readiness()
    assert status == 200, amiss
    return status, amiss


def silent(amiss: list[str]) -> bool:
    """That neither control nor a learner is heard of."""
    return all(any(f"{who} has not reported" in reason for reason in amiss) for who in ("control", "the learner"))


def test_killed_and_restarted_empty_while_learners_live(house: House) -> None:
    """The views are rebuilt from the control log; the learners publish and checkpoint again though nothing new is learned."""
    site = house.site
    roles, audit = house.roles(), site.world.store.views("audit")
    with Load(site, house.traffic) as load:
        eventually(lambda: load.posted > 1000, "the load runs")
        killed = time.monotonic()
        house.store.kill()
        eventually(lambda: any("the store" in reason for reason in serving(site)[1]), "readiness names the store", 20)
        posted = load.posted
        eventually(lambda: load.posted > posted + 500, "events are taken while the store is away")
        degraded = answered(load, killed, time.monotonic())
        assert any("the store has been unreachable" in reason for reason in degraded), degraded
    site.ask()
    house.store.start()
    up = time.monotonic()
    eventually(lambda: len(site.statuses()) == len(site.shards), "the learners report")
    for model, shard in site.shards:
        eventually(lambda: site.world.store.publication(model, shard), "the learners publish again")  # noqa: B023
    site.await_ready()
    print(f"\nempty Redis: all well {time.monotonic() - up:.1f} s after it was back")
    eventually(lambda: site.world.store.views("audit").keys() >= audit.keys(), "the views are there again")
    site.hold(house.traffic)
    assert house.roles() == roles, "no role had to be started again"


def test_emptied_behind_everybodys_back(house: House) -> None:
    """No connection breaks, and nothing is learned afterwards: still everything comes back."""
    site = house.site
    with cast(Any, redis.Redis(port=house.store.port)) as client:
        client.flushall()
    emptied = time.monotonic()
    for model, shard in site.shards:
        eventually(lambda: site.world.store.publication(model, shard), "the learners publish again", 20)  # noqa: B023
        eventually(lambda: site.world.store.checkpoints(model, shard), "the learners checkpoint again", 20)  # noqa: B023
    end = site.world.log.bounds(CONTROL, 0)[1]
    eventually(lambda: site.world.store.view_offset() >= end, "the views are rebuilt")
    print(f"\nFLUSHALL: everything is there again after {time.monotonic() - emptied:.1f} s")
    site.await_ready()
    site.hold(house.traffic)


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        pytest.param({"maxmemory": "1mb", "maxmemory-policy": "noeviction"}, StoreFull, id="out of memory"),
        pytest.param({"min-replicas-to-write": "1"}, StoreUnavailable, id="read-only"),
    ],
)
def test_it_takes_no_writes_for_a_while(house: House, settings: dict[str, str], refusal: type[Exception]) -> None:
    site, roles = house.site, house.roles()
    with Load(site, house.traffic) as load:
        eventually(lambda: load.posted > 500, "the load runs")
        refused = time.monotonic()
        with house.configured(**settings):
            unwritable(house, load, refusal)
        healed_since(house, load, refused)
    site.hold(house.traffic)
    assert house.roles() == roles, "no role had to be started again"


def unwritable(house: House, load: Load, refusal: type[Exception]) -> None:
    """Nothing can be written now; it is said, and events are taken all the same."""
    with pytest.raises(refusal):
        house.site.world.store.put_version("ctr", 99, 0, b"x")
    eventually(lambda: silent(serving(house.site)[1]), "readiness says that nobody reports", 20)
    posted = load.posted
    eventually(lambda: load.posted > posted + 500, "events are taken while nothing can be written")


def healed_since(house: House, load: Load, refused: float) -> None:
    """Redis takes writes again: wait until all is well; every question was answered meanwhile."""
    healed = time.monotonic()
    degraded = answered(load, refused, healed)
    assert any("the learner has not reported" in reason for reason in degraded), degraded
    house.site.await_ready()
    print(f"\nno writes for {healed - refused:.1f} s; all well {time.monotonic() - healed:.1f} s after")


def test_a_service_that_starts_without_its_store_and_finds_it_empty_rebuilds_everything(house: House) -> None:
    """Nobody is alive who could publish: the learner replays the log, control its own."""
    site = house.site
    assert house.service.stop() == 0, house.service.said[-3000:]
    decisions = len(site.decisions())
    house.store.kill()
    house.service = site.run("serve")
    status, reasons = eventually(site.readiness, "the API answers without a store")
    assert status == 503
    assert any("nothing published yet" in reason for reason in reasons), reasons
    assert any("the store" in reason for reason in reasons), reasons
    assert httpx.post(f"{site.url}/v1/predict/ctr", json={"x": {"a": 1.0}, "key": "k1"}).status_code == 503
    for batch in house.traffic.batches(1000):
        site.post(batch)
    time.sleep(2)
    assert site.readiness()[0] == 503, "still nobody can answer"
    house.store.start()
    up = time.monotonic()
    site.await_ready()
    print(f"\nstarted without a store: all well {time.monotonic() - up:.1f} s after an empty one came")
    site.hold(house.traffic)
    assert {info.set_aside for place in site.shards for info in site.world.store.checkpoints(*place)} == {None}
    assert len(site.decisions()) == decisions, "the replay made control decide nothing again"
    assert site.ends() == {shard: site.world.log.bounds(STREAM, shard)[1] for shard in range(site.partitions)}


def test_its_disk_is_full(
    module_folder: Path, small_disk: Callable[[Path, int], Path], kafka_server: KafkaServer, redis_program: Redis
) -> None:
    """A Redis that keeps a file of what is written refuses to write when it cannot, and goes on when there is space again."""
    disk = small_disk(module_folder / "disk", DISK_MB)
    folder = module_folder / "cramped"
    folder.mkdir()
    server = RedisServer(disk / "redis", redis_program, "--appendonly", "yes", "--appendfsync", "everysec")
    with server as store, closing(Site(folder, kafka_server.address, store.url)) as site:
        house = House(store, site)
        roles = house.roles()
        with Load(site, house.traffic) as load:
            eventually(lambda: load.posted > 500, "the load runs")
            refused = time.monotonic()
            ballast = disk / "ballast"
            fill(ballast)
            eventually(lambda: writes_fail(site), "Redis notices")
            unwritable(house, load, StoreFull)
            ballast.unlink()
            eventually(lambda: not writes_fail(site), "Redis writes again")
            healed_since(house, load, refused)
        site.hold(house.traffic)
        assert house.roles() == roles, "no role had to be started again"


def writes_fail(site: Site) -> bool:
    try:
        site.world.store.put_version("ctr", 99, 0, b"x")
    except StoreFull:
        return True
    return False
