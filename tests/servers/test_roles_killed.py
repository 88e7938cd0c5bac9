"""Shots at the roles of a service on Kafka and Redis, at random times, in a random order and under load.

Nothing is lost or learned twice.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from service_bench import SEED, Load, Site, Traffic

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.cli.dev_redis import RedisServer

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]

ROUNDS = 5
AFTER_S = 5.0
ROLES = ("learn", "control", "api")
PAUSE_S = (1.0, 6.0)


def test_random_deaths(
    sites: Callable[..., Site], tmp_path: Path, kafka_server: KafkaServer, redis_server: RedisServer
) -> None:
    site = sites(tmp_path, kafka_server.address, redis_server.url)
    service, traffic, rng = site.serve(), Traffic(), random.Random(SEED)
    with Load(site, traffic, rate=150, batch=50) as load:
        for role in (role for _ in range(ROUNDS) for role in rng.sample(ROLES, len(ROLES))):
            time.sleep(rng.uniform(*PAUSE_S))
            service.kill_role(role)
        last = time.monotonic()
        site.await_ready()  # the supervisor waits up to 30 s before it starts a role that has died often
        well = time.monotonic() - last
        time.sleep(AFTER_S)
    answered = Counter(answer.status for answer in load.answers)
    print(f"\nanswers {dict(answered)}")
    print(f"{load.posted} records acknowledged, the slowest after {load.slowest_s:.1f} s")
    print(f"all well {well:.1f} s after the last shot")
    assert load.posted > 1500
    assert answered.keys() <= {0, 200, 503}, "questions are answered, or it is said that nobody can yet"
    assert answered[200] > 300
    assert service.stop() == 0, service.said[-3000:]
    site.hold(traffic)
