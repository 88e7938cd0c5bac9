"""A service whose broker is killed, frozen or out of disk, and brought back, under load: nothing acknowledged is lost, and
nobody helps.

One broker, one service for all tests here but the last, each of which leaves both well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from service_bench import Load, Program, Site, Traffic, eventually, fill

from streamlearn.cli.dev_kafka import Kafka, KafkaServer
from streamlearn.cli.dev_redis import RedisServer

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]

FROZEN_S = 10.0
DISK_MB = 256


class House:
    """The broker, the service, and what was posted to it so far."""

    def __init__(self, kafka: KafkaServer, site: Site) -> None:
        self.kafka, self.site, self.traffic = kafka, site, Traffic()
        self.service: Program = site.serve()
        self.pids = self.roles()

    def roles(self) -> dict[str, int | None]:
        return {role: self.service.role(role) for role in ("learn", "control", "api")}


@pytest.fixture(scope="module")
def house(module_folder: Path, kafka_program: Kafka, redis_server: RedisServer) -> Iterator[House]:
    with KafkaServer(module_folder / "kafka", kafka_program) as kafka:
        site = Site(module_folder, kafka.address, redis_server.url)
        try:
            yield House(kafka, site)
        finally:
            site.close()


def answers_on(load: Load, start: float, until: float) -> None:
    """Every question between the two times was answered."""
    answers = load.since(start, until)
    assert len(answers) > (until - start), "questions were hardly answered"
    assert {answer.status for answer in answers} == {200}, [answer for answer in answers if answer.status != 200][:5]


def lost_log_is_said(house: House) -> None:
    """Answers and the model's view come to say that the learner is without the log."""

    def said(reasons: list[str] | None) -> bool:
        return any("not been able to read the log" in reason for reason in reasons or [])

    site = house.site
    keys = site.keys()
    for key in keys:
        eventually(lambda key=key: said(site.ask(key=key).degraded), "an answer says that the log is lost", 30)
    eventually(lambda: said(httpx.get(f"{site.url}/v1/models/ctr", timeout=10).json()["degraded"]), "so does the view", 10)
    ages = [site.ask(key=key).age_s for key in keys]
    time.sleep(1.5)
    for key, age in zip(keys, ages, strict=True):
        assert site.ask(key=key).age_s > age + 1.2, "what the model knows gets older"


def taken_again(house: House, load: Load, gone: float) -> float:
    """The broker, away since `gone`, is back: wait until events are taken and all is well; when the former was so."""
    up, posted = time.monotonic(), load.posted
    eventually(lambda: load.posted > posted + 500, "events are taken again")
    taken = time.monotonic()
    house.site.await_ready()
    well = time.monotonic()
    print()
    print(f"away for {up - gone:.1f} s; events taken again after {taken - up:.1f} s, all well after {well - up:.1f} s")
    return taken


def all_is_well(house: House, load: Load, gone: float, taken: float) -> None:
    """Predictions went on, nothing was lost or learned twice, nobody had to help, and no answer is degraded any more."""
    answers_on(load, gone, taken)
    house.site.hold(house.traffic)
    keys = house.site.keys()
    for key in keys:
        eventually(lambda key=key: house.site.ask(key=key).degraded == [], "answers are well", 20)
        assert house.site.ask(key=key).age_s < 10
    assert house.roles() == house.pids, "no role had to be started again"


def test_broker_killed_and_restarted(house: House) -> None:
    site = house.site
    with Load(site, house.traffic) as load:
        eventually(lambda: load.posted > 1000, "the load runs")
        killed = time.monotonic()
        house.kafka.kill()
        eventually(lambda: any("log" in reason for reason in site.readiness()[1]), "readiness names the log", 20)
        status, amiss = site.readiness()
        assert status == 200, "what is loaded can answer"
        assert any("the log cannot be reached" in reason or "the log did not answer" in reason for reason in amiss), amiss
        lost_log_is_said(house)
        assert httpx.post(f"{site.url}/v1/events", json={"stream": "clicks", "x": {}}, timeout=30).status_code in (429, 503)
        house.kafka.start()
        taken = taken_again(house, load, killed)
    all_is_well(house, load, killed, taken)


def test_broker_frozen_and_resumed(house: House) -> None:
    site = house.site
    with Load(site, house.traffic) as load:
        eventually(lambda: load.posted > 1000, "the load runs")
        frozen = time.monotonic()
        house.kafka.freeze()
        try:
            eventually(lambda: any("the log" in reason for reason in site.readiness()[1]), "readiness names the log", 20)
            assert site.readiness()[0] == 200
            lost_log_is_said(house)
            time.sleep(max(0.0, frozen + FROZEN_S - time.monotonic()))
        finally:
            house.kafka.resume()
        taken = taken_again(house, load, frozen)
    all_is_well(house, load, frozen, taken)


def test_the_brokers_disk_full(
    module_folder: Path, small_disk: Callable[[Path, int], Path], kafka_program: Kafka, redis_server: RedisServer
) -> None:
    """The broker ends itself when it cannot write; with space again, and started again, all is as before."""
    disk = small_disk(module_folder / "disk", DISK_MB)
    folder = module_folder / "cramped"
    folder.mkdir()
    with KafkaServer(disk / "kafka", kafka_program) as kafka, closing(Site(folder, kafka.address, redis_server.url)) as site:
        house = House(kafka, site)
        with Load(site, house.traffic) as load:
            eventually(lambda: load.posted > 1000, "the load runs")
            full = time.monotonic()
            ballast = disk / "ballast"
            fill(ballast)
            eventually(lambda: not kafka.running, "the broker ends")
            eventually(lambda: any("log" in reason for reason in site.readiness()[1]), "readiness names the log", 20)
            assert site.readiness()[0] == 200, "what is loaded can answer"
            lost_log_is_said(house)
            ballast.unlink()
            kafka.start()
            taken = taken_again(house, load, full)
        all_is_well(house, load, full, taken)
