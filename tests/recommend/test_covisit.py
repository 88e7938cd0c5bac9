"""Co-visits against a plain matrix; the bound on neighbours and on items with any; what is let go is not found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend import covisit
from streamlearn.recommend.covisit import AFTER, LIFE, SMOOTHED, Covisits
from streamlearn.recommend.ids import COLUMNS, Ids, hash_of
from streamlearn.recommend.tables import Rows, Table

N = 9


def made(neighbours: int = 20, n: int = N) -> tuple[Table, Ids, Covisits]:
    table = Table({**COLUMNS, **covisit.COLUMNS}, ("id",))
    ids = Ids(table, 100, 0)
    for number in range(n):
        ids.add(f"i{number}", hash_of(f"i{number}"), 0.0)
    return table, ids, Covisits(table, ids, RecommendSettings(neighbours=neighbours, half_life_s=100.0))


def rows(*numbers: int) -> Rows:
    return np.array(numbers, np.int32)


@given(st.lists(st.tuples(st.lists(st.integers(0, N - 1), max_size=7, unique=True), st.integers(0, N - 1)), max_size=40))
def test_with_room_for_all_it_scores_as_the_whole_matrices_do(events: list[tuple[list[int], int]]) -> None:
    _, _, covisits = made()
    for item in range(N):
        covisits.learn(rows(), item, 1.0, 0.0)
    together, met = np.zeros((N, N)), np.full(N, 1e-30)
    after, followed = np.zeros((N, N)), np.zeros(N)
    grown = 1.0
    for ts, (history, item) in enumerate(events):
        last = [row for row in history if row != item]
        covisits.learn(rows(*last), item, 1.0, float(ts))
        grown = 2 ** (ts / (LIFE * 100.0))
        for place, row in enumerate(reversed(last), start=1):
            together[row, item] += grown
            together[item, row] += grown
            met[[row, item]] += grown
            if place <= AFTER:
                after[row, item] += grown / place
                followed[row] += grown / place
    asked = [0, 1, 2, 3, 4, 5]
    place = np.arange(len(asked), 0, -1.0)
    found = covisits.near(rows(*asked), float(max(len(events) - 1, 0)))
    mine = np.zeros((3, N))
    mine[0, found.rows], mine[1, found.rows], mine[2, found.next_rows] = found.shares, found.cosines, found.next_shares
    soon = place <= AFTER
    expected = [
        (place**-0.5 / met[asked]) @ together[asked],
        (place**-0.5 / np.sqrt(met[asked])) @ together[asked] / np.sqrt(met + SMOOTHED * grown),
        (soon / place / (followed[asked] + grown)) @ after[asked],
    ]
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-6)
    assert found.rows.tolist() == np.flatnonzero(expected[0] > 0).tolist()


def test_without_room_a_new_neighbour_takes_the_place_of_the_lightest() -> None:
    _, _, covisits = made(neighbours=2)
    for item in (0, 1, 1, 2, 3):
        covisits.learn(rows(*([0] if item else [])), item, 1.0, 0.0)
    assert covisits.near(rows(0), 0.0).rows.tolist() == [1, 3]
    found, cosines = covisits.similar(0, 0.0)
    assert found.tolist() == [1, 3]
    np.testing.assert_allclose(cosines, [2 / np.sqrt(4 * (2 + SMOOTHED)), 1 / np.sqrt(4 * (1 + SMOOTHED))], rtol=1e-6)


def test_an_item_that_is_let_go_is_nobodys_neighbour_nor_is_the_next_in_its_row() -> None:
    _, ids, covisits = made()
    covisits.learn(rows(), 0, 1.0, 0.0)
    covisits.learn(rows(0), 1, 1.0, 0.0)
    assert covisits.near(rows(0), 0.0).rows.tolist() == [1]
    covisits.forget(1)
    ids.remove(1)
    assert ids.add("new", hash_of("new"), 0.0) == 1
    for found in (covisits.near(rows(0), 0.0), covisits.near(rows(1), 0.0)):
        assert found.rows.tolist() == found.next_rows.tolist() == []
    covisits.learn(rows(0), 1, 1.0, 0.0)
    np.testing.assert_allclose(covisits.near(rows(1), 0.0).shares, [1.0])


def test_of_the_items_with_neighbours_the_one_acted_on_longest_ago_gives_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covisit, "MOST", 2)
    table, _, covisits = made()
    covisits.learn(rows(), 0, 1.0, 0.0)
    covisits.learn(rows(0), 1, 1.0, 0.0)
    covisits.learn(rows(1), 0, 1.0, 0.0)
    covisits.learn(rows(0), 2, 1.0, 0.0)  # takes the row of 1
    assert table["near_at"].tolist()[:4] == [0, -1, 1, -1]
    assert covisits.near(rows(1), 0.0).rows.tolist() == []
    assert covisits.near(rows(0), 0.0).rows.tolist() == [1, 2]
    assert covisits.near(rows(2), 0.0).rows.tolist() == [0]
    assert len(covisits.table) == 2


def test_growing_weights_are_brought_down_and_compare_as_before() -> None:
    _, _, covisits = made()
    for item, ts in ((0, 0.0), (1, 0.0), (2, LIFE * 100.0 * 59)):
        covisits.learn(rows(*([0] if item else [])), item, 1.0, ts)
    before = covisits.near(rows(0), 0.0)
    covisits.learn(rows(), 5, 1.0, LIFE * 100.0 * 61)
    after = covisits.near(rows(0), 0.0)
    np.testing.assert_allclose(after.shares, before.shares, rtol=1e-5)
    covisits.learn(rows(0), 3, 1.0, LIFE * 100.0 * 1e9)
    assert np.isfinite(covisits.table["weight"]).all()
    assert covisits.near(rows(0), 0.0).shares[-1] == pytest.approx(1.0)
