"""What a fit keeps and learns where it does not take all: bounded, even over the whole row, and the same each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.learning.sampling import Decay, EvenSample


def sampled(count: int, most: int) -> EvenSample[int]:
    sample: EvenSample[int] = EvenSample(most)
    for number in range(count):
        sample.add(number)
    return sample


@given(st.integers(0, 3000), st.integers(1, 64))
def test_a_sample_is_bounded_and_even(count: int, most: int) -> None:
    sample = sampled(count, most)
    assert sample.kept == list(range(0, count, sample.every))
    assert len(sample.kept) <= most
    assert sample.seen == count
    if count <= most:
        assert sample.every == 1
    elif most > 1:
        assert 2 * len(sample.kept) >= most


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.floats(0.5, 1e6), st.integers(0, 99))
def test_a_draw_depends_on_seed_and_offset_alone_and_younger_is_likelier(until: int, age: int, half: float, seed: int) -> None:
    decay = Decay(until, half, seed)
    assert decay.passes(until)
    assert decay.passes(until + age)
    assert decay.passes(until - age) == Decay(until, half, seed).passes(until - age)
    if decay.passes(until - age):  # the same draw passes wherever its chance is higher
        assert Decay(until, 2 * half, seed).passes(until - age)


@pytest.mark.parametrize("seed", [0, 7])
def test_half_of_those_a_half_life_old_are_left_and_a_quarter_of_those_two_old(seed: int) -> None:
    count, half = 4000, 1e6  # so long that all of a stretch have about the same chance
    for lives, share in ((0, 1.0), (1, 0.5), (2, 0.25), (6, 1 / 64)):
        first = 10**7
        decay = Decay(first + count + int(lives * half), half, seed)
        passed = sum(decay.passes(first + offset) for offset in range(count))
        assert passed / count == pytest.approx(share, abs=4 * 0.5 / count**0.5)


def test_another_seed_draws_others() -> None:
    one, other = ([Decay(1000, 500, seed).passes(offset) for offset in range(1000)] for seed in (1, 2))
    assert one != other
    assert not Decay(10**9, 1.0, 0).passes(0), "a chance too small for a float is none"
