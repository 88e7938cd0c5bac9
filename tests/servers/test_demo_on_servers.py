"""The demo as a person runs it, on a real Kafka and a real Redis: its own account of events must be even."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.cli.dev_redis import RedisServer

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]


def test_nothing_is_lost_and_nothing_learned_twice(
    tmp_path: Path, kafka_server: KafkaServer, redis_server: RedisServer
) -> None:
    file = tmp_path / "summary.json"
    servers = ["--kafka", kafka_server.address, "--redis", redis_server.url]
    command = [sys.executable, "-m", "streamlearn", "demo", *servers, "--flights", "12000", "--json", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    found = json.loads(file.read_text())
    events = found["events"]
    assert (events["lost"], events["duplicated"], events["dead"]) == (0, 0, 0)
    assert events["posted"] == events["learned"] > 20_000
    assert found["freshness_ms"]["p50"] > 0
    assert found["scores"]["model"]["accuracy"] > found["scores"]["no_change"]["accuracy"]
    p99 = found["freshness_ms"]["p99"]
    print(f"\n{events['posted']} records in {found['seconds']:.0f} s, posted → served p99 {p99:.0f} ms")
