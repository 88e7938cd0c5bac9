"""Tables: rows that grow, reset and change; what is told to each reader; a delta on a base is the whole."""

from __future__ import annotations

import gc
import pickle
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.recommend import tables
from streamlearn.recommend.slots import Slots
from streamlearn.recommend.tables import FIRST, Column, Table

COLUMNS = {"one": Column("f8"), "wide": Column("f4", 3), "filled": Column("i4", fill=-1)}
KINDS = ["append", "reset", "write", "put", "ask"]
Steps = list[tuple[str, int, int]]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 200), st.integers(-9, 9)), max_size=120)


def made() -> Table:
    return Table(COLUMNS, ("text",))


def made_of(rows: int) -> Table:
    table = made()
    for _ in range(rows):
        table.append()
    return table


def same(left: Table, right: Table) -> None:
    mine, theirs = left.arrays(), right.arrays()
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_array_equal(array, theirs[name])


def stepped(table: Table, kind: str, at: int, value: int) -> int | None:
    """Takes a step; the row that it wrote."""
    if kind == "append":
        return table.append()
    if not len(table) or kind == "ask":
        return None
    row = at % len(table)
    if kind == "reset":
        table.reset(row)
    elif kind == "write":
        table.cells["one"][row] = value
        table.raw["wide"][row] = value
        table.cells["filled"][row] = value
        table.touch(row)
    else:
        table.put("text", row, b"x" * abs(value))
    return row


@given(STEPS)
def test_each_reader_is_told_what_changed_since_it_last_asked(steps: Steps) -> None:
    table = made()
    waiting: dict[str, set[int]] = {"often": set(), "once": set()}
    for kind, at, value in steps:
        row = stepped(table, kind, at, value)
        for rows in waiting.values():
            rows |= {row} - {None}
        if kind == "ask":
            assert table.changed("often").tolist() == sorted(waiting["often"])
            waiting["often"] = set()
    assert table.changed("once").tolist() == sorted(waiting["once"])
    assert table.changed("once").tolist() == []


@given(STEPS, STEPS)
def test_the_changed_rows_on_a_base_are_the_whole(before: Steps, after: Steps) -> None:
    table, base = made(), made()
    for step in before:
        stepped(table, *step)
    table.changed("chain")
    base.load({name: array.copy() for name, array in table.arrays().items()})
    same(base, table)
    for step in after:
        stepped(table, *step)
    rows = table.changed("chain")
    base.patch(len(table), rows, table.part(rows))
    same(base, table)
    base.append()  # and it goes on from there
    assert len(base) == len(table) + 1


@given(STEPS)
def test_a_pickled_table_is_the_same_and_has_told_nobody_yet(steps: Steps) -> None:
    table = made()
    for step in steps:
        stepped(table, *step)
    again = pickle.loads(pickle.dumps(table))
    same(again, table)
    assert again.changed("chain").tolist() == list(range(len(table)))
    row = again.append()
    again.cells["one"][row] = 2.5
    assert again["one"][row] == 2.5
    assert again["filled"][row] == -1


def test_it_grows_by_doubling_and_keeps_what_it_held() -> None:
    table = made()
    for value in range(FIRST * 4 + 1):
        row = table.append()
        table.cells["one"][row] = value
        table.raw["wide"][row] = value
    assert len(table.raw["one"]) == FIRST * 8
    assert table["one"].tolist() == list(range(FIRST * 4 + 1))
    assert table["wide"].shape == (FIRST * 4 + 1, 3)
    assert (table["wide"][:, 2] == table["one"]).all()


def test_a_large_table_gets_the_room_it_is_expected_to_need_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its columns are copied while it is small, never again: a copy of all stands still for as long as there is much."""
    monkeypatch.setattr(tables, "MANY", 2 * FIRST)
    table = made()
    table.expect(10 * FIRST)
    assert len(table.raw["one"]) == FIRST  # a small one takes no room that it does not need
    for value in range(2 * FIRST + 1):
        table.append()
        table.cells["one"][value] = value
        table.put("text", value, b"%d" % value)
    roomy = dict(table.raw)
    assert {len(array) for array in roomy.values()} == {10 * FIRST}
    for value in range(2 * FIRST + 1, 10 * FIRST):
        table.append()
        table.cells["one"][value] = value
        table.put("text", value, b"%d" % value)
    assert all(table.raw[name] is array for name, array in roomy.items())
    assert table["one"].tolist() == list(range(10 * FIRST))
    assert [table.get("text", row) for row in range(len(table))] == [b"%d" % row for row in range(10 * FIRST)]
    table.append()  # more than was expected
    assert len(table.raw["one"]) == 20 * FIRST


def test_so_does_one_that_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MANY", 2 * FIRST)
    table, follower = made_of(2 * FIRST), made()
    follower.expect(9 * FIRST)
    for room in (2 * FIRST, 9 * FIRST):
        rows = table.changed("chain")
        follower.patch(len(table), rows, table.part(rows))
        assert len(follower.raw["one"]) == room
        same(follower, table)
        table.append()


@pytest.mark.parametrize(("rows", "room"), [(FIRST, FIRST), (2 * FIRST, 2 * FIRST), (2 * FIRST + 1, 9 * FIRST)])
def test_a_table_that_was_loaded_gets_it_when_it_is_told(monkeypatch: pytest.MonkeyPatch, rows: int, room: int) -> None:
    monkeypatch.setattr(tables, "MANY", 2 * FIRST)
    table = made()
    for value in range(rows):
        table.put("text", table.append(), b"%d" % value)
    again = pickle.loads(pickle.dumps(table))
    again.expect(9 * FIRST)
    assert len(again.raw["wide"]) == room
    same(again, table)
    again.expect(3 * FIRST)  # never less
    assert len(again.raw["wide"]) == room


def test_the_garbage_collector_walks_through_no_rows() -> None:
    """A full collection looks at all that can be reached so: with the values of some millions of rows it takes 100 ms."""

    def reached(rows: int) -> int:
        table = made()
        for value in range(rows):
            table.put("text", table.append(), b"%d" % value)
        known: dict[int, object] = {}
        waiting: list[object] = list(vars(table).values())
        while waiting:
            one = waiting.pop()
            if id(one) not in known and not isinstance(one, (type, ModuleType)):
                known[id(one)] = one
                waiting += gc.get_referents(one)
        return len(known)

    assert reached(10 * FIRST) <= reached(FIRST)


def test_many_rows_are_added_as_one_by_one() -> None:
    many, single = made(), made()
    for table in (many, single):
        table.append()
        table.changed("chain")
    assert many.extend(3 * FIRST).tolist() == [single.append() for _ in range(3 * FIRST)]
    assert many.extend(0).tolist() == []
    assert many.changed("chain").tolist() == single.changed("chain").tolist() == list(range(1, 3 * FIRST + 1))
    left, right = many.arrays(), single.arrays()
    assert all((left[name] == right[name]).all() for name in left)
    many.put("text", 3 * FIRST, b"last")
    assert many.get("text", 3 * FIRST) == b"last"


def test_what_is_of_another_shape_is_refused() -> None:
    table = made()
    table.append()
    arrays: dict[str, Any] = dict(table.arrays())
    with pytest.raises(ValueError, match="'wide' is float64"):
        made().load({**arrays, "wide": np.zeros((1, 3))})
    with pytest.raises(ValueError, match=r"are of \[1, 2\] rows"):
        made().load({**arrays, "one": np.zeros(2)})
    with pytest.raises(ValueError, match="does not fit one of 1"):
        table.patch(0, np.zeros(0, np.int32), made().arrays())
    for some in ({**arrays, "one": np.zeros(2)}, {**arrays, "text.ends": np.zeros(2, np.int64)}):
        with pytest.raises(ValueError, match=r"a part of 1 rows has columns of \[1, 2\]"):
            table.patch(1, np.zeros(1, np.int32), some)
    same(table, made_of(1))


def test_many_rows_are_touched_at_once() -> None:
    table = made()
    for _ in range(5):
        table.append()
    table.changed("chain")
    table.touch(np.array([1, 3], np.int32))
    assert table.changed("chain").tolist() == [1, 3]


@settings(max_examples=20)
@given(st.integers(0, 5))
def test_a_loaded_table_takes_arrays_as_they_are(n: int) -> None:
    table = made()
    for _ in range(n):
        table.append()
    arrays = table.arrays()
    again = made()
    again.load(arrays)
    assert n == 0 or np.shares_memory(again["wide"], arrays["wide"])


IDS = {"hash": Column("u8"), "n": Column("f8")}


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0, 0, 1, 2, 3, 4, 1 << 40, 2 << 40, 3 << 40])), max_size=60))
def test_slots_follow_what_is_patched(steps: list[tuple[int, int]]) -> None:
    """Hashes that crowd into one slot move between rows; those of a table made anew are found in the same rows."""
    table, follower = Table(IDS), Table(IDS)
    follower.slots = Slots(follower["hash"])
    for place, (at, hashed) in enumerate(steps):
        row = at if at < len(table) else table.append()
        if hashed not in table["hash"] or not hashed:
            table.cells["hash"][row] = hashed
            table.touch(row)
        if place % 3:
            continue
        rows = table.changed("chain")
        follower.patch(len(table), rows, table.part(rows))
        afresh = Slots(table["hash"])
        for one in {hashed for _, hashed in steps} - {0}:
            assert found(follower.slots, one) == found(afresh, one) == next(iter(np.flatnonzero(table["hash"] == one)), -1)


def test_slots_grow_with_what_is_patched() -> None:
    table, follower = Table(IDS), Table(IDS)
    follower.slots = Slots(follower["hash"])
    for number in range(5000):
        row = table.append()
        table.cells["hash"][row] = number * 0x9E37_79B9_7F4A_7C15 % 2**64 or 1
    rows = table.changed("chain")
    follower.patch(len(table), rows, table.part(rows))
    assert [found(follower.slots, hashed) for hashed in table["hash"].tolist()] == list(range(5000))
    assert follower.slots.mask >= 2 * 5000


def found(slots: Slots, hashed: int) -> int:
    slot = hashed & slots.mask
    while slots.taken[slot] not in (0, hashed):
        slot = (slot + 1) & slots.mask
    return int(slots.rows[slot])
