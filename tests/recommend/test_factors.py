"""ISGD: where factors begin, that a step is the step of the paper, and that nothing odd ruins them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend.factors import LONGEST, SPREAD, Factors, beginnings, columns
from streamlearn.recommend.ids import COLUMNS, hash_of
from streamlearn.recommend.tables import Table


def made(width: int = 8, rate: float = 0.05, seed: int = 7) -> tuple[Table, Table, Factors]:
    settings = RecommendSettings(factors=width, learning_rate=rate)
    users, items = (Table({**COLUMNS, **columns(settings)}, ("id",)) for _ in range(2))
    factors = Factors(users, items, settings, seed)
    for table in (users, items):
        for name in "abc":
            row = table.append()
            table.cells["hash"][row] = hash_of(name)
            factors.begin(table, row)
    return users, items, factors


def test_factors_begin_alike_wherever_they_begin_and_unlike_for_another_seed_or_id() -> None:
    users, items, _ = made()
    np.testing.assert_array_equal(users["factors"], items["factors"])
    np.testing.assert_array_equal(users["factors"], made()[0]["factors"])
    assert not np.isclose(users["factors"], made(seed=8)[0]["factors"]).any()
    assert not np.isclose(users["factors"][0], users["factors"][1]).any()


def test_many_begin_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlearn.recommend.factors.BATCH", 2)
    users, _, factors = made()
    begun = users["factors"].copy()
    users["factors"][:] = 0
    factors.begin_all(users, np.arange(len(users), dtype=np.int32))
    np.testing.assert_array_equal(users["factors"], begun)


def test_beginnings_are_spread_evenly() -> None:
    hashes = np.array([hash_of(str(n)) for n in range(2000)], np.uint64)
    vectors = beginnings(hashes, 16, 3)
    assert vectors.dtype == np.float32
    assert abs(vectors).max() <= SPREAD * 3**0.5
    np.testing.assert_allclose(vectors.mean(0), 0.0, atol=5 * SPREAD / 2000**0.5)
    np.testing.assert_allclose(vectors.std(0), SPREAD, rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(vectors.T) - np.eye(16), 0.0, atol=0.12)
    np.testing.assert_array_equal(beginnings(hashes[7:8], 16, 3)[0], vectors[7])


def test_a_step_is_that_of_the_paper() -> None:
    users, items, factors = made()
    p, q = users["factors"][0].copy(), items["factors"][1].copy()
    factors.learn(0, 1, 1.0)
    error = 1 - p @ q
    np.testing.assert_allclose(users["factors"][0], p + 0.05 * (error * q - 0.01 * p), rtol=1e-5)
    np.testing.assert_allclose(items["factors"][1], q + 0.05 * (error * p - 0.01 * q), rtol=1e-5)
    np.testing.assert_array_equal(users["factors"][1:], made()[0]["factors"][1:])


def test_repeated_steps_lead_towards_one() -> None:
    users, items, factors = made()
    for _ in range(2000):
        factors.learn(0, 1, 1.0)
    assert users["factors"][0] @ items["factors"][1] == pytest.approx(1.0, abs=0.05)
    assert factors.clipped == 0


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(0, 1)), min_size=1, max_size=30),
    st.floats(0.01, 50),
    st.sampled_from([0.0, 1e3, 1e30, np.nan, np.inf, -np.inf]),
)
def test_nothing_odd_ruins_them(steps: list[tuple[int, int, float]], rate: float, odd: float) -> None:
    users, items, factors = made(rate=rate)
    users["factors"][0, 3] = odd or users["factors"][0, 3]
    with np.errstate(all="ignore"):
        factors.learn(0, 0, 1.0)
        for user, item, weight in steps:
            factors.learn(user, item, weight)
    for table in (users, items):
        assert np.isfinite(table["factors"]).all()
        assert (np.linalg.norm(table["factors"], axis=1) <= LONGEST * 1.001).all()
    assert factors.clipped > 0 or not odd


def test_scores_are_products() -> None:
    users, items, factors = made()
    expected = items["factors"] @ users["factors"][2]
    np.testing.assert_allclose(factors.scores(factors.vector(2)), expected, rtol=1e-5)
    np.testing.assert_allclose(factors.scores(factors.vector(2), np.array([1], np.int32)), expected[1:2], rtol=1e-5)
