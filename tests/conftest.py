"""What every test shares: property tests without a time limit, since the machine may be busy, and real Kafka and Redis servers.

What cannot be had, a server or the right to mount, skips the test with the reason; with STREAMLEARN_TEST_SERVERS=require it is
an error.
"""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from streamlearn.cli.dev_kafka import Kafka, KafkaCluster, KafkaServer, cache_folder, find_kafka
from streamlearn.cli.dev_redis import Redis, RedisServer, find_redis
from streamlearn.errors import ConfigError

settings.register_profile("streamlearn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("streamlearn")

Found = TypeVar("Found")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[None]:
    """Without the garbage collector, which would go through all modules and tests again and again, then and while they run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def without(reason: str) -> NoReturn:
    if os.environ.get("STREAMLEARN_TEST_SERVERS") == "require":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def had(find: Callable[[], Found]) -> Found:
    try:
        return find()
    except ConfigError as error:
        without(f"no real server to test with: {error}")


@pytest.fixture(scope="session")
def lacking() -> Callable[[str], NoReturn]:
    """Ends the test for want of what it is told: skipped, or failed where that is required."""
    return without


@pytest.fixture(scope="session")
def small_disk() -> Iterator[Callable[[Path, int], Path]]:
    """Makes a folder a file system of its own of so many megabytes, to be filled. Without where only root could, and is not."""
    places: list[Path] = []

    def mount(place: Path, megabytes: int) -> Path:
        place.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
            without("needs the right to mount a small tmpfs")
        places.append(place)
        return place

    yield mount
    gc.collect()
    for place in places:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture(scope="session")
def kafka_program() -> Kafka:
    """Java and Kafka's jars, or Docker's image."""
    return had(lambda: find_kafka(cache_folder(os.environ), print))


@pytest.fixture(scope="session")
def redis_program() -> Redis:
    """The redis-server command, or Docker's image."""
    return had(find_redis)


@pytest.fixture(scope="session")
def kafka_server(kafka_program: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """One broker for all tests, which keep apart by the names of their topics and groups. Never kill or freeze it."""
    with KafkaServer(tmp_path_factory.mktemp("kafka"), kafka_program) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(redis_program: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests, which keep apart by their prefixes. Never kill, freeze or flush it."""
    with RedisServer(tmp_path_factory.mktemp("redis"), redis_program) as server:
        yield server


@pytest.fixture
def own_kafka(kafka_program: Kafka, tmp_path: Path) -> Iterator[Callable[..., KafkaServer]]:
    """Starts a broker for this test alone, to kill, freeze and restart; keywords are KafkaServer's."""
    with ExitStack() as stack:

        def start(**options: object) -> KafkaServer:
            folder = tmp_path / f"kafka-{len(list(tmp_path.glob('kafka-*')))}"
            return stack.enter_context(KafkaServer(folder, kafka_program, **options))  # type: ignore[arg-type]  # differ by test

        yield start


@pytest.fixture
def own_redis(redis_program: Redis, tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts a Redis for this test alone; arguments are redis-server's, `tls=True` makes it speak TLS."""
    with ExitStack() as stack:

        def start(*options: str, tls: bool = False) -> RedisServer:
            folder = tmp_path / f"redis-{len(list(tmp_path.glob('redis-*')))}"
            make = RedisServer.with_tls if tls else RedisServer
            return stack.enter_context(make(folder, redis_program, *options))

        yield start


@pytest.fixture
def kafka_cluster(kafka_program: Kafka, tmp_path: Path) -> Iterator[KafkaCluster]:
    """Three brokers for this test alone; topics have three copies, of which two must be in sync."""
    with KafkaCluster(tmp_path / "cluster", kafka_program) as cluster:
        yield cluster
