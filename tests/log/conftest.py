"""Every backend of the log, each as a function that opens it: add one here, and it must pass the whole contract."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from kafka import KafkaAdminClient

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.log import Log
from streamlearn.log.kafka import KafkaLog
from streamlearn.log.kafka_link import Direct
from streamlearn.log.sqlite import SqliteLog
from streamlearn.testing import FakeClock, MemoryLog

Open = Callable[[], Log]


class Backend(NamedTuple):
    """`open` gives another handle on the same log, as another process would have; all are closed after the test.

    `clock` is the one by which it stamps what is appended: the fake one, where that can be given.
    """

    open: Open
    clock: Callable[[], float]


def memory(request: pytest.FixtureRequest) -> Backend:
    clock = FakeClock(1000.0)
    return Backend(MemoryLog(clock=clock).reopen, clock)


def sqlite(request: pytest.FixtureRequest) -> Backend:
    path, clock = request.getfixturevalue("tmp_path"), FakeClock(1000.0)
    return Backend(lambda: SqliteLog(path / "deep" / "log.sqlite", clock=clock), clock)


def kafka(request: pytest.FixtureRequest) -> Backend:
    """On one broker for all tests, each under a prefix of its own."""
    address, prefix = request.getfixturevalue("kafka_server").address, request.getfixturevalue("kafka_prefix")
    return Backend(lambda: KafkaLog(bootstrap=address, prefix=prefix), time.time)


BACKENDS: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {"memory": memory, "sqlite": sqlite, "kafka": kafka}
MARKS = {"kafka": [pytest.mark.kafka]}


@pytest.fixture
def kafka_admin(kafka_server: KafkaServer) -> Iterator[KafkaAdminClient]:
    """An operator's client of the broker. Its thread draws from `random`, which no property test allows beside it."""
    with KafkaAdminClient(bootstrap_servers=kafka_server.address, proxy_url=f"{Direct.SCHEMES[0]}://") as admin:
        yield admin


@pytest.fixture
def kafka_prefix(kafka_admin: KafkaAdminClient) -> Iterator[str]:
    """The topics of this test alone, which are deleted after it."""
    prefix = f"t{uuid.uuid4().hex[:10]}-"
    yield prefix
    mine = [name for name in kafka_admin.list_topics() if name.startswith(prefix)]
    if mine:
        kafka_admin.delete_topics(mine)


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in sorted(BACKENDS)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made, opened = BACKENDS[request.param](request), []

    def open_one() -> Log:
        log = made.open()
        opened.append(log)
        return log

    yield Backend(open_one, made.clock)
    for log in opened:
        log.close()


@pytest.fixture
def log(backend: Backend) -> Log:
    """A log with the streams `one` (1 partition) and `four` (4 partitions)."""
    log = backend.open()
    log.create({"one": 1, "four": 4})
    return log
