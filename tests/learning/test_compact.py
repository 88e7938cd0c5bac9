"""Gaussians without their generator: smaller, repeatable, and the same in every answer."""

from __future__ import annotations

import copy
import pickle

import pytest
from river import proba

from streamlearn.learning import compact


@pytest.fixture(autouse=True)
def installed() -> None:
    compact.install()


def learned(seed: int | None = None) -> proba.Gaussian:
    gaussian = proba.Gaussian(seed)
    for value in (1.0, 2.5, 4.0, -1.0):
        gaussian.update(value)
    return gaussian


@pytest.mark.parametrize("copied", [lambda g: pickle.loads(pickle.dumps(g)), copy.deepcopy])
def test_a_copy_answers_and_learns_as_the_original(copied: object) -> None:
    one = learned()
    two = copied(one)  # type: ignore[operator]  # one of the two functions above
    for _ in range(3):
        assert (two.mu, two.sigma, two.n_samples) == (one.mu, one.sigma, one.n_samples)
        assert [two(x) for x in (-3.0, 0.0, 2.0)] == [one(x) for x in (-3.0, 0.0, 2.0)]
        assert two.cdf(1.0) == one.cdf(1.0)
        one.update(7.0)
        two.update(7.0)


def test_two_that_learned_the_same_pickle_to_the_same_few_bytes() -> None:
    assert pickle.dumps(learned()) == pickle.dumps(learned())
    assert len(pickle.dumps(learned())) < 300


def test_a_copy_can_still_be_sampled_and_pickled_again() -> None:
    two = pickle.loads(pickle.dumps(learned()))
    assert isinstance(two.sample(), float)
    assert len(pickle.dumps(two)) < 300


def test_a_seeded_one_keeps_its_generator() -> None:
    one = learned(seed=3)
    two = pickle.loads(pickle.dumps(one))
    assert [two.sample() for _ in range(3)] == [one.sample() for _ in range(3)]
