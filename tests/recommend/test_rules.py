from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.recommend.rules import capped, diverse, likeness, matches, parts


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ({}, True),
        ({"genre": "Drama"}, True),
        ({"genre": ["Western", "Comedy"]}, True),
        ({"genre": "Drama|Comedy"}, False),
        ({"genre": "Western"}, False),
        ({"genre": "Drama", "year": 1999}, True),
        ({"genre": "Drama", "year": 2000}, False),
        ({"year": [1999.0]}, True),
        ({"missing": "x"}, False),
        ({"new": True}, True),
        ({"new": 1}, False),  # a boolean is not a number
        ({"year": []}, False),
    ],
)
def test_a_filter_asks_each_field_for_one_of_its_values(where: dict[str, object], fits: bool) -> None:
    assert matches({"genre": "Drama | Comedy", "year": 1999, "new": True}, where, "|") is fits


def test_a_field_s_values_are_its_parts() -> None:
    assert parts(" a|b ||", "|") == ("a", "b")
    assert parts("a|b", "") == ("a|b",)
    assert parts(None, "|") == ()
    assert parts(["a", 3], "|") == ("a", 3)
    assert parts(2.5, "|") == (2.5,)


@given(st.lists(st.lists(st.integers(0, 4), max_size=3, unique=True), max_size=30), st.integers(1, 4))
def test_any_choice_of_what_a_cap_keeps_keeps_the_cap(categories: list[list[int]], cap: int) -> None:
    kept, over = capped(categories, cap)
    assert sorted(kept + over) == list(range(len(categories)))
    assert kept == sorted(kept)
    for one in range(5):
        assert sum(one in categories[position] for position in kept) <= cap
    for position in over:  # nothing is left over without need
        assert any(sum(one in categories[other] for other in kept if other < position) >= cap for one in categories[position])


def test_without_weight_the_order_is_that_of_the_scores() -> None:
    scores = np.array([0.1, 0.9, 0.5])
    assert diverse(scores, np.ones((3, 3)), 0.0, 3) == [1, 2, 0]


def test_diversity_puts_another_kind_before_more_of_the_same() -> None:
    tokens = [frozenset({"drama"}), frozenset({"drama"}), frozenset({"drama", "war"}), frozenset({"comedy"})]
    alike = likeness(tokens)
    assert diverse(np.array([1.0, 0.9, 0.8, 0.4]), alike, 0.5, 3) == [0, 3, 2]
    assert diverse(np.array([1.0, 0.9, 0.8, 0.4]), alike, 0.05, 3) == [0, 1, 2]
    assert diverse(np.array([]), np.zeros((0, 0)), 0.5, 3) == []


@given(st.integers(1, 20), st.floats(0, 1), st.integers(1, 25), st.integers(0, 1000))
def test_diversity_chooses_each_at_most_once(n: int, weight: float, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    alike = rng.random((n, n))
    chosen = diverse(rng.normal(size=n), alike, weight, k)
    assert len(set(chosen)) == len(chosen) == min(n, k)


def test_likeness_is_of_tokens_and_else_of_factors() -> None:
    tokens = [frozenset({"a", "b"}), frozenset({"b", "c"}), frozenset(), frozenset()]
    vectors = np.array([[1, 0], [0, 1], [2, 0], [-1, 0]], np.float32)
    alike = likeness(tokens, vectors)
    assert alike[0, 1] == pytest.approx(0.5)
    assert alike[0, 2] == pytest.approx(1.0)
    assert alike[1, 2] == 0.0
    assert alike[2, 3] == 0.0  # opposite, not less than nothing
    assert likeness(tokens)[2].tolist() == [0.0, 0.0, 0.0, 0.0]
