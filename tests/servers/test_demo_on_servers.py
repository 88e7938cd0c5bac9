"""The demo as a person runs it, on a real Kafka and a real Redis: the whole story, and an even account of events."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamlearn.cli.demo_report import DRIFT
from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.cli.dev_redis import RedisServer

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_whole_story_and_nothing_is_lost_or_learned_twice(
    tmp_path: Path, kafka_server: KafkaServer, redis_server: RedisServer
) -> None:
    file = tmp_path / "summary.json"
    servers = ["--kafka", kafka_server.address, "--redis", redis_server.url]
    command = [sys.executable, "-m", "streamlearn", "demo", *servers, "--json", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    found = json.loads(file.read_text())
    events = found["events"]
    assert (events["lost"], events["duplicated"], events["dead"]) == (0, 0, 0)
    assert events["posted"] == events["learned"] > 40_000
    assert found["freshness_ms"]["p50"] > 0
    assert found["scores"]["model"]["accuracy"] > found["scores"]["no_change"]["accuracy"]
    drift = found["drift"]
    assert tuple(drift) == DRIFT
    assert all(set(step) == {"events", "second"} for step in drift.values()), drift
    for measure in ("events", "second"):
        assert [step[measure] for step in drift.values()] == sorted(step[measure] for step in drift.values())
    assert 0.4 < drift[DRIFT[0]]["events"] / (events["posted"] / 2) < 0.6, "the drift comes half way"
    assert {"confirmed", "promoted", "recovered"} <= drift.keys()
    assert found["versions"] == {"before": 1, "after": 2}
    for name in ("confirmed", "retrained", "trial won", "promoted", "recovered"):
        assert re.search(rf"case delay-\d+, {name}: ", told.stdout), name
    p99 = found["freshness_ms"]["p99"]
    print(f"\n{events['posted']} records in {found['seconds']:.0f} s, posted → served p99 {p99:.0f} ms")
