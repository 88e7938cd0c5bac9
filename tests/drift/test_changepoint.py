"""The estimate of where a loss began to rise, held to known changes and to a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.drift.changepoint import autocorrelation_time, change_point


def stretches(seed: int, *parts: tuple[int, float]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(count) < share).astype(float) for count, share in parts])


def test_a_clean_step_is_found_exactly() -> None:
    assert change_point(np.array([0.0] * 40 + [1.0] * 7)) == 40
    assert change_point(np.array([0.0, 1.0])) == 1


@pytest.mark.parametrize(("after", "tolerance"), [(0.3, 150), (0.4, 40), (0.6, 15)])
def test_a_noisy_rise_is_found_nearby(after: float, tolerance: int) -> None:
    errors = [change_point(stretches(seed, (5000, 0.2), (500, after))) - 5000 for seed in range(40)]
    assert np.quantile(np.abs(errors), 0.8) <= tolerance
    assert abs(np.median(errors)) <= tolerance / 3


def test_a_bad_beginning_does_not_hide_a_later_rise() -> None:
    losses = stretches(4, (300, 0.6), (5000, 0.1), (300, 0.3))
    assert abs(change_point(losses) - 5300) <= 60


def test_a_loss_that_never_rises_gives_its_end() -> None:
    assert change_point(np.zeros(50)) == 49
    assert change_point(np.array([1.0] * 20 + [0.0] * 20)) == 39


def test_one_loss_has_no_change() -> None:
    with pytest.raises(ValueError, match="at least two"):
        change_point(np.array([1.0]))


def squares_around_two_means(losses: np.ndarray, split: int) -> float:
    return sum(float(((part - part.mean()) ** 2).sum()) for part in (losses[:split], losses[split:]))


@given(st.lists(st.integers(0, 8), min_size=2, max_size=40))
def test_it_is_the_least_squares_split_among_the_rises(values: list[int]) -> None:
    losses = np.array(values) / 8
    found = change_point(losses)
    assert 1 <= found < len(losses)
    rises = [split for split in range(1, len(losses)) if losses[split:].mean() > losses[:split].mean() + 1e-12]
    if rises:
        best = min(squares_around_two_means(losses, split) for split in rises)
        assert squares_around_two_means(losses, found) == pytest.approx(best, abs=1e-9)


def first_order(seed: int, n: int, rho: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=n)
    values = np.empty(n)
    values[0] = noise[0]
    for index in range(1, n):
        values[index] = rho * values[index - 1] + noise[index]
    return values


def test_white_noise_is_its_own_block() -> None:
    times = [autocorrelation_time(np.random.default_rng(seed).random(5000)) for seed in range(40)]
    assert np.median(times) == 1.0
    assert max(times) < 1.5


@pytest.mark.parametrize("rho", [0.5, 0.8, 0.9])
def test_the_time_of_a_first_order_process(rho: float) -> None:
    expected = (1 + rho) / (1 - rho)
    times = [autocorrelation_time(first_order(seed, 8000, rho)) for seed in range(15)]
    assert np.median(times) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("losses", [np.zeros(500), np.full(500, 0.3), np.array([0.1, 0.9, 0.2])])
def test_constant_and_short_losses_have_the_least_time(losses: np.ndarray) -> None:
    assert autocorrelation_time(losses) == 1.0
