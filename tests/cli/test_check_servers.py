"""What `check` says of a real Kafka and a real Redis: topics that are not as they must be, servers that are not there."""

from __future__ import annotations

import gc
import uuid
from pathlib import Path
from typing import Any

import pytest

from streamlearn.cli import wiring
from streamlearn.cli.check import Finding, findings
from streamlearn.config import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

CONFIG = """
data_dir = "data"
[log]
backend = "kafka"
retention_hours = {hours}
[log.kafka]
bootstrap = ["{kafka}"]
prefix = "{prefix}."
request_timeout_s = 2
[store]
backend = "redis"
[store.redis]
url = "{redis}"
prefix = "{prefix}"
[streams.clicks]
partitions = {partitions}
"""


class Place:
    """A configuration on real servers, under names of its own."""

    def __init__(self, folder: Path, kafka: str, redis: str) -> None:
        self.path, self.kafka, self.redis = folder / "service.toml", kafka, redis
        self.prefix = f"check-{uuid.uuid4().hex[:8]}"

    def settings(self, **changes: Any) -> Settings:
        values = {"kafka": self.kafka, "redis": self.redis, "prefix": self.prefix, "hours": 0, "partitions": 2} | changes
        self.path.write_text(CONFIG.format(**values))
        return wiring.read_settings(self.path, {})

    def found(self, **changes: Any) -> list[Finding]:
        settings = self.settings(**changes)
        return [one for one in findings(self.path, settings, {}) if one.key.startswith(("log", "store", "streams"))]


@pytest.fixture
def place(tmp_path: Path, kafka_server: Any, redis_server: Any) -> Place:
    return Place(tmp_path, kafka_server.address, redis_server.url)


def test_before_the_first_start_there_is_nothing_to_find(place: Place) -> None:
    assert place.found() == []


def test_topics_as_the_service_makes_them_are_well(place: Place) -> None:
    wiring.open_log(place.settings()).close()
    assert place.found() == []


def test_another_number_of_partitions_is_an_error(place: Place) -> None:
    wiring.open_log(place.settings()).close()
    errors = [one for one in place.found(partitions=3) if one.level == "error"]
    assert [one.key for one in errors] == ["streams.clicks.partitions"]
    assert "is 3, but the log has this stream with 2" in errors[0].text


@pytest.mark.parametrize(("window", "least_h"), [("", 24 + 168 + 24), ("window_s = 7200", 24 + 2 + 24)])
def test_a_retention_shorter_than_labels_and_retrains_need_is_explained(place: Place, window: str, least_h: int) -> None:
    """The label wait of a day, the longest retrain window, and a day on top."""
    wiring.open_log(place.settings(hours=49)).close()
    text = CONFIG + '[models.ctr]\nstream = "clicks"\ntask = "binary"\npipeline = "logistic"\n[models.ctr.retrain]\n'
    values = {"kafka": place.kafka, "redis": place.redis, "prefix": place.prefix, "hours": 0, "partitions": 2}
    place.path.write_text(text.format(**values) + window)
    settings = wiring.read_settings(place.path, {})
    found = [one for one in findings(place.path, settings, {}) if one.key == "log.kafka"]
    assert [one.level for one in found] == ["warning"]
    assert f"{place.prefix}.clicks" in found[0].text
    assert f"retention.ms={least_h * 3_600_000}" in found[0].text
    assert "label_wait_s, retrain.window_s and a day" in found[0].text


def test_a_redis_that_may_evict_is_a_warning(place: Place, own_redis: Any) -> None:
    evicting = own_redis("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    [one] = place.found(redis=evicting.url)
    assert (one.level, one.key) == ("warning", "store.redis")
    assert "maxmemory-policy is allkeys-lru" in one.text
    assert "noeviction" in one.text


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_servers_that_are_not_there_are_named(place: Place) -> None:
    nowhere = "127.0.0.1:1"
    found = {one.key: one for one in place.found(kafka=nowhere, redis=f"redis://:hush@{nowhere}/0")}
    assert found["log.kafka"].level == found["store.redis"].level == "error"
    assert nowhere in found["log.kafka"].text
    assert nowhere in found["store.redis"].text
    assert "hush" not in found["store.redis"].text
    gc.collect()  # kafka-python leaves sockets that never connected to the collector: here, not in another test
