"""Every backend of the log, each as a function that opens it: add one here, and it must pass the whole contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from streamlearn.log import Log
from streamlearn.log.sqlite import SqliteLog
from streamlearn.testing import FakeClock, MemoryLog

Open = Callable[[], Log]


class Backend(NamedTuple):
    """`open` gives another handle on the same log, as another process would have; all are closed after the test."""

    open: Open
    clock: FakeClock


def memory(path: Path, clock: FakeClock) -> Open:
    return MemoryLog(clock=clock).reopen


def sqlite(path: Path, clock: FakeClock) -> Open:
    return lambda: SqliteLog(path / "deep" / "log.sqlite", clock=clock)


BACKENDS: dict[str, Callable[[Path, FakeClock], Open]] = {"memory": memory, "sqlite": sqlite}


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    clock, opened = FakeClock(1000.0), []
    make = BACKENDS[request.param](tmp_path, clock)

    def open_one() -> Log:
        log = make()
        opened.append(log)
        return log

    yield Backend(open_one, clock)
    for log in opened:
        log.close()


@pytest.fixture
def log(backend: Backend) -> Log:
    """A log with the streams `one` (1 partition) and `four` (4 partitions)."""
    log = backend.open()
    log.create({"one": 1, "four": 4})
    return log
