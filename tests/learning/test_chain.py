"""Chains of pieces: what a reader makes of them is what the writer has, whatever failed and whenever a new base was made."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.errors import Corrupt, StoreUnavailable
from streamlearn.learning import chain as chains
from streamlearn.learning.chain import Chain, Chains, Links, Reader, apply, links_of, load, settle
from streamlearn.learning.pickling import dumps_apart, loads_apart
from streamlearn.recommend import pieces
from streamlearn.recommend.tables import Column, Table

COLUMNS = {"n": Column("i8", fill=7), "vector": Column("f4", 3)}


def table() -> Table:
    return Table(COLUMNS, ("note",))


def write(one: Table, row: int, value: int) -> None:
    while row >= len(one):
        one.append()
    one.raw["n"][row] = value
    one.raw["vector"][row] = value / 2
    one.touch(row)
    one.put("note", row, b"x" * (value % 5))


def content(tables: dict[str, Table]) -> dict[str, Any]:
    return {
        name: {key: array.tolist() for key, array in sorted(one.arrays().items())} for name, one in sorted(tables.items())
    }


class Shelf:
    """Pieces by name; away for as long as it is told."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.away = 0

    def put(self, name: str, piece: bytes) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("gone")
        self.held[name] = piece


def follow(reader: Reader, links: Links, shelf: Shelf) -> int:
    count = 0
    for piece in reader.follow(links, shelf.held.get):
        apply(reader.tables, piece)
        count += 1
    return count


def test_a_base_and_deltas_give_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, shelf = {"items": table(), "users": table()}, Shelf()
    chain = Chain("u", tables, can_fork=False)
    for row in range(100):
        write(tables["items"], row, row)
    chain.take()
    links = chain.settle(shelf.put)
    assert links is not None
    reader = Reader()
    follow(reader, links, shelf)
    assert content(reader.tables) == content(tables)
    write(tables["items"], 3, 1000)
    write(tables["items"], 120, 5)
    write(tables["users"], 0, 1)
    chain.take()
    again = chain.settle(shelf.put)
    assert again is not None
    assert follow(reader, again, shelf) == 1, "one delta, and nothing of the base again"
    assert content(reader.tables) == content(tables)
    fresh = Reader()
    follow(fresh, again, shelf)
    assert content(fresh.tables) == content(tables)


def test_nothing_new_makes_no_piece() -> None:
    tables, shelf = {"items": table()}, Shelf()
    chain = Chain("u", tables, can_fork=False)
    chain.take()
    chain.settle(shelf.put)
    before = dict(shelf.held)
    chain.take()
    links = chain.settle(shelf.put)
    assert shelf.held == before
    assert links is not None
    assert links.deltas == []


@pytest.mark.parametrize("can_fork", [False, True])
def test_a_new_base_is_made_when_deltas_have_grown(monkeypatch: pytest.MonkeyPatch, can_fork: bool) -> None:
    monkeypatch.setattr(chains, "LEAST_BYTES", 1000)
    monkeypatch.setattr(chains, "IN_PLACE_BYTES", 0)
    monkeypatch.setattr(chains, "TURN_BYTES", 500)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 400)
    tables, shelf, reader = {"items": table()}, Shelf(), Reader()
    chain = Chain("u", tables, can_fork)
    bases: set[tuple[str, ...]] = set()
    for turn in range(60):
        for row in range(40):
            write(tables["items"], row, turn * row)
        chain.take()
        links = chain.settle(shelf.put)
        assert links is not None
        bases.add(tuple(links.base))
        follow(reader, links, shelf)
        assert content(reader.tables) == content(tables)
        fresh = Reader()
        follow(fresh, links, shelf)
        assert content(fresh.tables) == content(tables)
        assert links.names <= set(shelf.held)
    assert len(bases) > 2
    assert len(links.deltas) < 59


def test_what_could_not_be_put_is_put_the_next_time() -> None:
    tables, shelf = {"items": table()}, Shelf()
    chain = Chain("u", tables, can_fork=False)
    write(tables["items"], 0, 1)
    shelf.away = 1
    chain.take()
    with pytest.raises(StoreUnavailable):
        chain.settle(shelf.put)
    write(tables["items"], 1, 2)
    chain.take()
    shelf.away = 1
    with pytest.raises(StoreUnavailable):
        chain.settle(shelf.put)
    chain.take()
    links = chain.settle(shelf.put)
    assert links is not None
    reader = Reader()
    follow(reader, links, shelf)
    assert content(reader.tables) == content(tables)


def test_a_child_that_dies_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "IN_PLACE_BYTES", 0)
    tables, shelf = {"items": table()}, Shelf()
    write(tables["items"], 0, 1)
    chain = Chain("u", tables, can_fork=True)

    def dies(tables: Any) -> Any:
        raise RuntimeError("in the child")
        yield b""

    with monkeypatch.context() as patch:
        patch.setattr(pieces, "base", dies)
        chain.take()
        assert chain.settle(shelf.put) is None
    chain.take()
    links = chain.settle(shelf.put)
    assert links is not None
    reader = Reader()
    follow(reader, links, shelf)
    assert content(reader.tables) == content(tables)


def test_another_lineage_begins_afresh_and_leaves_the_old_tables_as_they_are() -> None:
    shelf, reader = Shelf(), Reader()
    for uid, value in (("one", 1), ("two", 2)):
        tables = {"items": table()}
        write(tables["items"], 0, value)
        chain = Chain(uid, tables, can_fork=False)
        chain.take()
        links = chain.settle(shelf.put)
        assert links is not None
        before = reader.tables
        assert not reader.goes_on(links)
        follow(reader, links, shelf)
        assert content(reader.tables) == content(tables)
        assert reader.tables is not before
    assert before["items"].raw["n"][0] == 1


def test_a_piece_that_is_gone_or_damaged_is_told() -> None:
    tables, shelf = {"items": table()}, Shelf()
    write(tables["items"], 0, 1)
    chain = Chain("u", tables, can_fork=False)
    chain.take()
    links = chain.settle(shelf.put)
    assert links is not None
    [name] = links.base
    whole = shelf.held[name]
    shelf.held[name] = whole[:-1]
    with pytest.raises(Corrupt, match="damaged"):
        follow(Reader(), links, shelf)
    del shelf.held[name]
    with pytest.raises(Corrupt, match="not in the store"):
        follow(Reader(), links, shelf)
    with pytest.raises(Corrupt, match="cannot be used"):
        apply({}, b"no piece")
    with pytest.raises(Corrupt, match="other columns"):
        apply({"items": Table({"n": Column("i4")})}, whole)
    with pytest.raises(Corrupt, match="cannot be read"):
        links_of({"chains": {"model": {"uid": 1}}})


class Thing:
    """Plays a recommender in a model."""

    task = "recommend"

    def __init__(self, tables: dict[str, Table]) -> None:
        self.estimator = self.state = self
        self.tables = tables
        self.items = tables["items"]
        self.words = ["more"]


def test_a_shell_holds_everything_but_the_tables() -> None:
    thing = Thing({"items": table()})
    for row in range(1000):
        write(thing.items, row, row)
    shelf, made = Shelf(), Chains("u", can_fork=False)
    shell = dumps_apart(thing, thing.tables)
    assert len(shell) < 500
    links = settle(made.take({"model": thing}), shelf.put)
    assert links is not None
    again = load(shell, links["model"], shelf.held.get)
    assert again.items is again.tables["items"]
    assert content(again.tables) == content(thing.tables)
    assert again.words == ["more"]
    with pytest.raises(pickle.UnpicklingError, match="'items'"):
        loads_apart(shell, {})


def test_models_of_other_tasks_have_no_chain() -> None:
    made = Chains("u", can_fork=False)
    assert settle(made.take({"model": object(), "none": None}), lambda name, piece: None) == {}
    assert links_of({}) == {}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 99), st.booleans(), st.integers(0, 2)), max_size=40))
def test_whatever_comes_the_reader_has_what_the_writer_has(turns: list[tuple[int, int, bool, int]]) -> None:
    tables, shelf, reader = {"items": table()}, Shelf(), Reader()
    chain = Chain("u", tables, can_fork=False)
    chain._wants_base = lambda: chain._links is None or len(chain._links.deltas) > 3  # type: ignore[method-assign]
    for row, value, taken, away in turns:
        write(tables["items"], row, value)
        if not taken:
            continue
        shelf.away = away
        chain.take()
        shot = content(tables)
        try:
            links = chain.settle(shelf.put)
        except StoreUnavailable:
            continue
        finally:
            shelf.away = 0
        assert links is not None
        follow(reader, links, shelf)
        assert content(reader.tables) == shot
        assert np.array_equal(reader.tables["items"]["n"], tables["items"]["n"])
