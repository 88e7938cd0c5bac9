"""What every store must do with history, run over every backend that conftest names."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from streamlearn.errors import StoreUnavailable
from streamlearn.store import Store


def put(store: Store, at: int, row: bytes, was: bytes | None = None, model: str = "m", step: int = 10) -> bool:
    return store.put_history(model, step, at, row, was)


def test_rows_come_back_in_the_order_of_their_times(store: Store) -> None:
    for at in (1_700_000_640, 320, 1_700_000_320, 9_640):
        assert put(store, at, b"at %d" % at)
    assert store.history("m", 10, 0, 1 << 40) == [(at, b"at %d" % at) for at in (320, 9_640, 1_700_000_320, 1_700_000_640)]
    assert store.history("m", 10, 320, 9_640) == [(320, b"at 320")]
    assert store.history("m", 10, 321, 1_700_000_641) == [
        (at, b"at %d" % at) for at in (9_640, 1_700_000_320, 1_700_000_640)
    ]
    assert store.history("m", 10, 400, 400) == []


def test_models_and_steps_are_kept_apart(store: Store) -> None:
    for model, step in (("b", 60), ("a", 10), ("a", 900)):
        assert put(store, 0, f"{model}{step}".encode(), model=model, step=step)
    assert store.histories() == [("a", 10), ("a", 900), ("b", 60)]
    assert store.history("a", 900, 0, 1) == [(0, b"a900")]
    assert store.history("a", 60, 0, 1) == []
    store.drop_history("a", 10, 1)
    assert store.histories() == [("a", 900), ("b", 60)]


def test_the_same_row_at_two_times_is_two_rows(store: Store) -> None:
    put(store, 0, b"same")
    put(store, 320, b"same")
    assert store.history("m", 10, 0, 1000) == [(0, b"same"), (320, b"same")]


def test_a_row_goes_only_over_the_one_that_was_read(backend: Any, store: Store) -> None:
    other = backend.open()
    assert put(store, 0, b"first")
    assert not put(other, 0, b"second")
    assert not put(other, 0, b"second", was=b"another")
    assert store.history("m", 10, 0, 1) == [(0, b"first")]
    assert put(other, 0, b"second", was=b"first")
    assert put(other, 0, b"", was=b"second")
    assert not put(store, 0, b"third", was=None), "an empty row is a row"
    assert put(store, 0, b"third", was=b"")
    assert not put(store, 320, b"later", was=b"was never there")
    assert store.history("m", 10, 0, 1000) == [(0, b"third")]


def test_what_is_older_is_forgotten(store: Store) -> None:
    for at in (0, 320, 640):
        put(store, at, b"%d" % at)
        put(store, at, b"other", model="n")
    store.drop_history("m", 10, 320)
    assert store.history("m", 10, 0, 1000) == [(320, b"320"), (640, b"640")]
    assert len(store.history("n", 10, 0, 1000)) == 3
    store.drop_history("m", 10, 1000)
    store.drop_history("m", 10, 1000)
    assert store.history("m", 10, 0, 1000) == []
    assert put(store, 0, b"again")


def test_any_bytes_come_back_as_they_were(backend: Any, store: Store) -> None:
    row = bytes(range(256)) * 300
    put(store, 0, row)
    assert backend.open().history("m", 10, 0, 1) == [(0, row)]
    assert put(store, 0, b"x", was=row)


def test_of_several_writers_of_one_row_one_wins_each_time(backend: Any, store: Store) -> None:
    """Each counts up what it has read; a count that is lost would be a write over something else than what was read."""
    put(store, 0, b"0")

    def count() -> None:
        mine, done = backend.open(), 0
        while done < 25:
            [(_, was)] = mine.history("m", 10, 0, 1)
            done += put(mine, 0, b"%d" % (int(was) + 1), was)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert store.history("m", 10, 0, 1) == [(0, b"75")]


def test_history_is_in_the_memory_of_its_model(store: Store) -> None:
    put(store, 0, b"r" * 5000)
    assert 5000 <= store.memory()["m"] < 20_000
    put(store, 320, b"s" * 50_000)
    assert store.memory()["m"] >= 55_000


def test_views_are_cleared_without_the_history(store: Store) -> None:
    put(store, 0, b"row")
    store.put_views({("case", "c"): b"{}"}, 1)
    store.clear_views()
    assert store.history("m", 10, 0, 1) == [(0, b"row")]


def test_a_closed_store_says_so(backend: Any) -> None:
    store = backend.open()
    store.close()
    with pytest.raises(StoreUnavailable):
        store.history("m", 10, 0, 1)
