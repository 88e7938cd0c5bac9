"""Three minutes of shots at the roles of a service on Kafka and Redis, at random and under load.

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

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(420)]

SHOTS_S = 180.0
LOAD_S = SHOTS_S + 30.0  # the supervisor waits up to 30 s before it starts a role that has died often
ROLES = ("learn", "control", "api")
PAUSE_S = (1.0, 6.0)


def test_three_minutes_of_random_deaths(
    sites: Callable[..., Site], tmp_path: Path, kafka_server: KafkaServer, redis_server: RedisServer
) -> None:
    site = sites(tmp_path, kafka_server.address, redis_server.url)
    service, traffic, rng = site.serve(), Traffic(), random.Random(SEED)
    killed: Counter[str] = Counter()
    order = [*ROLES]
    began = time.monotonic()
    with Load(site, traffic, rate=150, batch=50) as load:
        while time.monotonic() < began + SHOTS_S:
            time.sleep(rng.uniform(*PAUSE_S))
            role = order.pop() if order else rng.choice(ROLES)
            if service.role(role) is None:
                continue  # it is only just coming back
            service.kill_role(role)
            killed[role] += 1
        last = time.monotonic()
        site.await_ready()
        well = time.monotonic() - last
        time.sleep(max(0.0, began + LOAD_S - time.monotonic()))
    answered = Counter(answer.status for answer in load.answers)
    print(f"\nkilled {dict(killed)}; answers {dict(answered)}")
    print(f"{load.posted} records acknowledged, the slowest after {load.slowest_s:.1f} s")
    print(f"all well {well:.1f} s after the last shot")
    assert all(killed[role] >= 3 for role in ROLES), killed
    assert load.posted > 3000
    assert answered.keys() <= {0, 200, 503}, "questions are answered, or it is said that nobody can yet"
    assert answered[200] > 1000
    assert service.stop() == 0, service.said[-3000:]
    site.hold(traffic)
