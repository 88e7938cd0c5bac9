"""Every backend of the store, each as a function that opens it: add one here, and it must pass the whole contract."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from redis import Redis as client_of

from streamlearn.cli.dev_redis import FORGET, Redis, RedisServer
from streamlearn.store import Store
from streamlearn.store.redis import RedisStore
from streamlearn.store.sqlite import SqliteStore
from streamlearn.testing import FakeClock, MemoryStore

Open = Callable[[], Store]


class Backend(NamedTuple):
    """`open` gives another handle on the same store, as another process would have; all are closed after the test."""

    open: Open
    clock: FakeClock


def memory(request: pytest.FixtureRequest, clock: FakeClock) -> Open:
    return MemoryStore(clock=clock).reopen


def sqlite(request: pytest.FixtureRequest, clock: FakeClock) -> Open:
    path = request.getfixturevalue("tmp_path") / "deep" / "store.sqlite"
    return lambda: SqliteStore(path, clock=clock)


def redis(request: pytest.FixtureRequest, clock: FakeClock) -> Open:
    """On one server for all tests, each under a prefix of its own; parts so small that every larger blob has several."""
    url, prefix = request.getfixturevalue("redis_server").url, f"test-{uuid.uuid4().hex}"
    return lambda: RedisStore(url, prefix=prefix, part_bytes=1 << 20, clock=clock)


def cluster(request: pytest.FixtureRequest, clock: FakeClock) -> Open:
    url, prefix = request.getfixturevalue("redis_cluster"), f"test-{uuid.uuid4().hex}"
    return lambda: RedisStore(url, prefix=prefix, part_bytes=1 << 20, clock=clock)


@pytest.fixture(scope="session")
def redis_cluster(redis_program: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Cluster of two nodes, each with half of the slots, for all tests."""
    with ExitStack() as stack:
        nodes, halves = [], ((0, 8191), (8192, 16383))
        for _ in halves:
            server = RedisServer(tmp_path_factory.mktemp("node"), redis_program, *FORGET, "--cluster-enabled", "yes")
            nodes.append(stack.enter_context(server))
        clients = [stack.enter_context(client_of(port=node.port)) for node in nodes]
        for client, (first, last) in zip(clients, halves, strict=True):
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        deadline = time.monotonic() + 60
        while not all(client.cluster("info")["cluster_state"] == "ok" for client in clients):
            assert time.monotonic() < deadline, nodes[0].tail()
            time.sleep(0.05)
        yield "redis+cluster://" + ",".join(node.address for node in nodes)


BACKENDS: dict[str, Callable[[pytest.FixtureRequest, FakeClock], Open]] = {
    "memory": memory, "sqlite": sqlite, "redis": redis, "cluster": cluster,
}  # fmt: skip
MARKS = {"redis": [pytest.mark.redis], "cluster": [pytest.mark.redis]}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in sorted(BACKENDS)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    clock, opened = FakeClock(1_000_000.0), []
    make = BACKENDS[request.param](request, clock)

    def open_one() -> Store:
        store = make()
        opened.append(store)
        return store

    yield Backend(open_one, clock)
    for store in opened:
        store.close()


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.open()
