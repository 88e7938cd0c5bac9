from __future__ import annotations

import random
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.recommend.explore import (
    as_ranked,
    epsilon_greedy,
    epsilon_propensities,
    thompson,
    thompson_propensities,
)

DRAWS = 4_000


def frequencies(slates: list[list[int]], size: int) -> np.ndarray:
    """float64[size, positions]: how often each item stood at each position."""
    counts = np.zeros((size, len(slates[0])))
    for slate in slates:
        counts[slate, range(len(slate))] += 1
    return counts / len(slates)


def assert_binomial(seen: np.ndarray, told: np.ndarray) -> None:
    """Each frequency within 4.5 standard errors of what was told, and a tenth of a draw for what is next to never."""
    error = np.sqrt(told * (1 - told) / DRAWS) + 0.1 / DRAWS
    worst = np.abs(seen - told) / error
    assert worst.max() < 4.5, f"{seen.ravel()[worst.argmax()]} was seen where {told.ravel()[worst.argmax()]} was told"


def all_epsilon(size: int, k: int, epsilon: float) -> np.ndarray:
    """float64[size, k]: what is told of each item at each position, put together from slates that name it there."""
    told = np.zeros((size, k))
    for item in range(size):
        for at in range(k):
            others = [other for other in range(size) if other != item]
            slate = [*others[:at], item, *others[at : k - 1]]
            told[item, at] = epsilon_propensities(size, epsilon, slate)[at]
    return told


def exact_epsilon(size: int, k: int, epsilon: float) -> np.ndarray:
    """The same by going through every slate there can be."""
    told = np.zeros((size, k))
    for slate in permutations(range(size), k):
        chance, left = 1.0, list(range(size))
        for item in slate:
            chance *= epsilon / len(left) + (1 - epsilon) * (item == left[0])
            left.remove(item)
        told[slate, range(k)] += chance
    return told


def test_without_chance_the_order_is_shown_as_it_is() -> None:
    assert as_ranked(5, 3) == ([0, 1, 2], [1.0, 1.0, 1.0])
    assert as_ranked(2, 3) == ([0, 1], [1.0, 1.0])
    assert as_ranked(0, 3) == ([], [])


@pytest.mark.parametrize(("size", "k"), [(1, 1), (3, 3), (5, 2), (6, 4)])
@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.4, 1.0])
def test_epsilon_propensities_are_those_of_all_slates_gone_through(size: int, k: int, epsilon: float) -> None:
    assert all_epsilon(size, k, epsilon) == pytest.approx(exact_epsilon(size, k, epsilon), abs=1e-12)


def test_epsilon_greedy_shows_items_as_often_as_it_says() -> None:
    draw = random.Random(1)
    slates = [epsilon_greedy(12, 4, 0.3, draw)[0] for _ in range(DRAWS)]
    assert_binomial(frequencies(slates, 12), all_epsilon(12, 4, 0.3))


@given(st.integers(1, 40), st.integers(1, 12), st.floats(0, 1), st.integers(0, 1000))
def test_an_epsilon_slate_has_no_item_twice_and_propensities_within_bounds(
    size: int, k: int, epsilon: float, seed: int
) -> None:
    shown, chances = epsilon_greedy(size, k, epsilon, random.Random(seed))
    assert len(shown) == len(set(shown)) == len(chances) == min(size, k)
    assert all(0 < chance <= 1 + 1e-12 for chance in chances)


def test_with_epsilon_zero_nothing_is_drawn_from_behind() -> None:
    assert epsilon_greedy(9, 3, 0.0, random.Random(2)) == ([0, 1, 2], [1.0, 1.0, 1.0])


def all_thompson(means: np.ndarray, deviations: np.ndarray, k: int) -> np.ndarray:
    size = len(means)
    told = np.zeros((size, k))
    for item in range(size):
        for at in range(k):
            others = [other for other in range(size) if other != item]
            told[item, at] = thompson_propensities(means, deviations, [*others[:at], item, *others[at : k - 1]])[at]
    return told


def test_thompson_shows_items_as_often_as_it_says() -> None:
    means = np.array([0.9, 0.8, 0.8, 0.1, 0.0, -0.4, -1.0])
    deviations = np.array([0.2, 0.9, 0.1, 0.5, 1.0, 0.3, 0.6])
    draw = random.Random(3)
    slates = [thompson(means, deviations, 3, draw)[0] for _ in range(DRAWS)]
    told = all_thompson(means, deviations, 3)
    assert_binomial(frequencies(slates, 7), told)
    assert told.sum(axis=0) == pytest.approx(np.ones(3), abs=1e-6)


def test_two_alike_stand_first_equally_often() -> None:
    assert thompson_propensities(np.zeros(2), np.ones(2), [0, 1]) == pytest.approx([0.5, 0.5], abs=1e-9)


def test_one_against_another_is_the_normal_of_their_difference() -> None:
    told = thompson_propensities(np.array([1.0, 0.0]), np.array([0.6, 0.8]), [0, 1])
    assert told == pytest.approx([0.8413447460685429] * 2, abs=1e-6)  # Phi(1 / sqrt(0.36 + 0.64))


@settings(max_examples=25)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 10_000))
def test_thompson_propensities_of_a_position_sum_to_one(size: int, k: int, seed: int) -> None:
    random_numbers = np.random.default_rng(seed)
    means = -np.sort(-random_numbers.normal(0, 2, size))
    deviations = random_numbers.uniform(0.1, 1.0, size)
    k = min(k, size)
    assert all_thompson(means, deviations, k).sum(axis=0) == pytest.approx(np.ones(k), abs=1e-4)


def test_thompson_keeps_the_order_that_the_rules_made() -> None:
    means, deviations = np.array([0.2, 5.0]), np.array([1e-3, 1e-3])  # the rules put the second behind, whatever its score
    shown, chances = thompson(means, deviations, 2, random.Random(4))
    assert chances == pytest.approx([0.5, 0.5])
    assert sorted(shown) == [0, 1]


def test_items_far_behind_take_no_part() -> None:
    draw = random.Random(5)
    assert {index for _ in range(200) for index in thompson(np.zeros(30), np.ones(30), 2, draw)[0]} == set(range(10))
    assert thompson(np.empty(0), np.empty(0), 3, draw) == ([], [])
