"""The clock of the service's machine is set forwards and back under load, beside servers whose clocks are right.

`time.time` of every process of the service is stepped by a file that it looks at; what is measured by a monotonic timer is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from service_bench import Load, Site, Traffic, eventually

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.cli.dev_redis import RedisServer

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]

STEPS_S = (3600.0, -7200.0, 0.0, -30.0)  # by an hour and by three, there and back, and by less than a minute
WATCHED_S = 6.0  # longer than what makes a learner or control silent (serve.stale_after_s = 4)
STEPPED = """
import pathlib, time
_true, _file = time.time, pathlib.Path({file!r})
def stepped():
    return _true() + float(_file.read_text() or 0)
time.time = stepped
"""


def test_the_clock_is_set_forwards_and_back(
    sites: Callable[..., Site], tmp_path: Path, kafka_server: KafkaServer, redis_server: RedisServer
) -> None:
    step = tmp_path / "step"
    step.write_text("0")
    path = tmp_path / "path"
    path.mkdir()
    (path / "sitecustomize.py").write_text(STEPPED.format(file=str(step)))
    site, traffic = sites(tmp_path, kafka_server.address, redis_server.url), Traffic()
    service = site.serve(PYTHONPATH=str(path))
    roles = {role: service.role(role) for role in ("learn", "control", "api")}
    with Load(site, traffic, rate=200) as load:
        eventually(lambda: load.posted > 500, "the load runs")
        for seconds in STEPS_S:
            began, posted = time.monotonic(), load.posted
            new = tmp_path / "new"
            new.write_text(str(seconds))
            new.replace(step)
            eventually(lambda: abs(newest(site) - time.time() - seconds) < 5, f"statuses are dated {seconds:+g} s")  # noqa: B023
            time.sleep(max(0.0, began + WATCHED_S - time.monotonic()))
            answers = load.since(began)
            assert {answer.status for answer in answers} == {200}
            assert not {reason for answer in answers for reason in answer.degraded}, "nobody is taken for silent or late"
            assert site.readiness() == (200, [])
            assert load.posted > posted + 200, "events are taken"
    site.hold(traffic)
    assert {role: service.role(role) for role in roles} == roles, "no role had to be started again"


def newest(site: Site) -> float:
    """When the latest status of each shard was made, by the learner's clock: the one furthest behind."""
    return min(status.at for status in site.statuses().values())
