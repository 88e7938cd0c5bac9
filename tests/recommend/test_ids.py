"""Ids against a dictionary in the order of use: what is found, who is let go, and that no reference finds another's row."""

from __future__ import annotations

import pickle
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamlearn.recommend import tables
from streamlearn.recommend.ids import COLUMNS, FEW, Ids, hash_of, summed
from streamlearn.recommend.tables import Table

NAMES = st.integers(0, 40).map(lambda n: f"é{n}")
TTL_S = 50.0


def made(most: int = 8, ttl_s: float = TTL_S) -> tuple[Table, Ids]:
    table = Table(COLUMNS, ("id",))
    return table, Ids(table, most, ttl_s)


class Model(RuleBasedStateMachine):
    """`used`: who is there, with the time of their last use, the one used longest ago first."""

    @initialize(most=st.integers(1, 12))
    def begin(self, most: int) -> None:
        self.most = most
        self.table, self.ids = made(most)
        self.used: OrderedDict[str, float] = OrderedDict()
        self.kept: set[str] = set()
        self.refs: dict[str, int] = {}

    def oldest(self) -> str | None:
        return next((name for name in self.used if name not in self.kept), next(iter(self.used), None))

    def drop(self, name: str) -> None:
        self.ids.remove(self.ids.row_of(name))
        del self.used[name]
        self.kept.discard(name)

    @rule(name=NAMES, ts=st.floats(0, 200))
    def use(self, name: str, ts: float) -> None:
        row = self.ids.row_of(name)
        assert (row >= 0) == (name in self.used)
        if row >= 0:
            self.ids.use(row, ts)
        else:
            if self.ids.full:
                gone = self.ids.id_of(self.ids.oldest())
                assert gone == self.oldest()
                self.drop(gone)
            row = self.ids.add(name, hash_of(name), ts)
            self.used[name] = ts
            self.refs[name] = self.ids.ref(row)
        self.used[name] = max(self.used[name], ts)
        self.used.move_to_end(name)

    @rule(name=NAMES, ts=st.floats(0, 200))
    def met(self, name: str, ts: float) -> None:
        gone = self.oldest() if name not in self.used and len(self.used) == self.most else None
        row = self.ids.met(name, ts)
        assert self.ids.id_of(row) == name
        if gone is not None:
            assert self.ids.row_of(gone) < 0
            del self.used[gone]
            self.kept.discard(gone)
        if name not in self.used:
            self.refs[name] = self.ids.ref(row)
        self.used[name] = max(self.used.get(name, ts), ts)
        self.used.move_to_end(name)

    @rule(names=st.lists(NAMES, unique=True, max_size=6), ts=st.floats(0, 200))
    def older(self, names: list[str], ts: float) -> None:
        fresh = [name for name in names if name not in self.used][: self.ids.room]
        hashes = np.array([hash_of(name) for name in fresh], np.uint64)
        rows = self.ids.add_older([name.encode() for name in fresh], hashes, np.full(len(fresh), ts))
        for name, row in zip(fresh, rows.tolist(), strict=True):
            self.refs[name] = self.ids.ref(row)
        self.used = OrderedDict({**dict.fromkeys(fresh, ts), **self.used})

    @rule(names=st.lists(NAMES, unique=True))
    def keep_all(self, names: list[str]) -> None:
        there = [name for name in names if name in self.used]
        self.ids.keep_all(np.array([self.ids.row_of(name) for name in there], np.int32))
        self.kept.update(there)

    @rule(name=NAMES, kept=st.booleans())
    def keep(self, name: str, kept: bool) -> None:
        if name in self.used:
            self.ids.keep(self.ids.row_of(name), kept)
            (self.kept.add if kept else self.kept.discard)(name)
            self.used.move_to_end(name)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if name in self.used:
            self.drop(name)

    @rule(ts=st.floats(0, 400))
    def let_go(self, ts: float) -> None:
        while (row := self.ids.stale(ts)) >= 0:
            gone = self.ids.id_of(row)
            assert gone == self.oldest()
            assert gone not in self.kept
            assert ts - self.used[gone] > TTL_S
            self.drop(gone)
        first = next((name for name in self.used if name not in self.kept), None)
        assert first is None or ts - self.used[first] <= TTL_S

    @rule()
    def pickled(self) -> None:
        self.table, self.ids = pickle.loads(pickle.dumps((self.table, self.ids)))

    @invariant()
    def same(self) -> None:
        assert len(self.ids) == len(self.used) <= self.most
        assert self.ids.full == (len(self.used) == self.most)
        rows = [self.ids.row_of(name) for name in self.used]
        assert [self.ids.id_of(row) for row in rows] == list(self.used)
        assert [self.ids.id_of(row) for row in self.ids.newest(100).tolist()] == list(self.used)[::-1]
        row = self.ids.oldest()
        assert (self.ids.id_of(row) if row >= 0 else None) == self.oldest()

    @invariant()
    def no_reference_finds_another(self) -> None:
        names = list(self.refs)
        found = self.ids.deref(np.array([self.refs[name] for name in names], np.uint64)).tolist()
        for name, row in zip(names, found, strict=True):
            assert row == -1 or self.ids.id_of(row) == name
        assert all(self.ids.row_of(name) in found for name in self.used)


Model.TestCase.settings = given_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstADictionary = Model.TestCase


@given(st.integers(0, 500), st.lists(st.integers(0, 700), max_size=4 * FEW))
def test_many_are_looked_up_as_one_by_one(n: int, asked: list[int]) -> None:
    _, ids = made(1000)
    for number in range(n):
        ids.add(f"i{number}", hash_of(f"i{number}"), 0.0)
    for number in range(0, n, 3):
        ids.remove(ids.row_of(f"i{number}"))
    hashes = np.array([hash_of(f"i{number}") for number in asked] + [0], np.uint64)
    expected = [ids.row_of(f"i{number}") for number in asked] + [-1]
    assert ids.rows(hashes).tolist() == expected
    assert all((row >= 0) == (number < n and number % 3 > 0) for number, row in zip(asked, expected[:-1], strict=True))


def test_a_full_one_is_not_overfilled() -> None:
    _, ids = made(1)
    ids.add("a", hash_of("a"), 0.0)
    with pytest.raises(ValueError, match="all 1 rows are taken"):
        ids.add("b", hash_of("b"), 0.0)
    with pytest.raises(ValueError, match="of 1 rows 1 are taken: there is no room for 1 more"):
        ids.add_older([b"b"], np.array([hash_of("b")], np.uint64), np.zeros(1))


def test_its_table_is_told_how_many_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MANY", 128)
    table = Table(COLUMNS, ("id",))
    ids = Ids(table, 1000, 0)
    for number in range(129):
        ids.add(str(number), hash_of(str(number)), 0.0)
    assert len(table.raw["hash"]) == 1000
    again = pickle.loads(pickle.dumps(ids))
    assert len(again._table.raw["hash"]) == 1000


def test_a_removed_row_is_used_again_and_a_reference_to_the_former_finds_nothing() -> None:
    table, ids = made()
    row = ids.add("a", hash_of("a"), 0.0)
    ref = ids.ref(row)
    ids.remove(row)
    assert ids.add("b", hash_of("b"), 0.0) == row
    assert ids.deref(np.array([ref, 0], np.uint64)).tolist() == [-1, -1]
    assert len(table) == 1


def test_the_hash_is_never_that_of_nobody_and_takes_any_text() -> None:
    assert hash_of("") != 0
    assert hash_of("\ud800") == hash_of("\ud800")
    assert hash_of("a") == 0x2F42_665B_399E_F840  # the same in every process and on every machine


@given(st.lists(st.tuples(st.integers(-1, 6), st.floats(-5, 5)), max_size=60))
def test_sums_by_row(pairs: list[tuple[int, float]]) -> None:
    rows = np.array([row for row, _ in pairs], np.int32)
    values = np.array([value for _, value in pairs])
    found, sums, twice = summed(rows, values, 2 * values)
    expected = {row: sum(value for at, value in pairs if at == row) for row in sorted({row for row, _ in pairs} - {-1})}
    assert found.tolist() == list(expected)
    np.testing.assert_allclose(sums, list(expected.values()), atol=1e-9)
    np.testing.assert_allclose(twice, 2 * sums, atol=1e-9)
