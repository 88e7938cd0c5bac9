"""Every backend of the store, each as a function that opens it: add one here, and it must pass the whole contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from streamlearn.store import Store
from streamlearn.store.sqlite import SqliteStore
from streamlearn.testing import FakeClock, MemoryStore

Open = Callable[[], Store]


class Backend(NamedTuple):
    """`open` gives another handle on the same store, as another process would have; all are closed after the test."""

    open: Open
    clock: FakeClock


def memory(path: Path, clock: FakeClock) -> Open:
    return MemoryStore(clock=clock).reopen


def sqlite(path: Path, clock: FakeClock) -> Open:
    return lambda: SqliteStore(path / "deep" / "store.sqlite", clock=clock)


BACKENDS: dict[str, Callable[[Path, FakeClock], Open]] = {"memory": memory, "sqlite": sqlite}


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    clock, opened = FakeClock(1_000_000.0), []
    make = BACKENDS[request.param](tmp_path, clock)

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
