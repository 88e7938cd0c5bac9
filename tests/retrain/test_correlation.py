"""The span over which losses correlate: 1 for independent ones, longer for shocks, from what came last."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.retrain.correlation import MOST, RECENT, Span
from streamlearn.retrain.trial import SETTLING


def span_of(x: np.ndarray | list[float]) -> int:
    span = Span()
    for value in x:
        span.add(float(value))
    return span.blocks()


def shocks(rng: np.random.Generator, length: int, n: int = RECENT) -> np.ndarray:
    """Noise about levels that last for `length` each."""
    levels = np.repeat(rng.choice([-1.0, 1.0], n // length + 2), length)[rng.integers(length) :][:n]
    return levels + rng.normal(0, 1, n)


@pytest.mark.parametrize("n", [SETTLING, 50, RECENT])
def test_independent_losses_seldom_make_a_block_longer(n: int) -> None:
    rng = np.random.default_rng(1)
    spans = [span_of(rng.normal(0, 1, n)) for _ in range(200)]
    assert np.mean([span > 1 for span in spans]) <= 0.1
    assert max(spans) <= 8


@pytest.mark.parametrize("length", [4, 8, 16])
def test_shocks_make_blocks_about_as_long_as_they_are(length: int) -> None:
    rng = np.random.default_rng(length)
    spans = [span_of(shocks(rng, length)) for _ in range(100)]
    assert length / 2 <= np.median(spans) <= 2 * length
    assert np.mean([span == 1 for span in spans]) <= 0.25


def test_shocks_are_noticed_as_blocks_come() -> None:
    """The few blocks after which a trial begins to stake tell little; that it errs no more often for it, its own tests show."""
    rng = np.random.default_rng(3)
    noticed = [np.mean([span_of(shocks(rng, 10, n)) > 1 for _ in range(200)]) for n in (SETTLING, 50, 100)]
    assert noticed[0] < noticed[1]
    assert noticed[1] >= 0.75
    assert noticed[2] >= 0.95


def test_what_is_long_past_is_forgotten() -> None:
    rng = np.random.default_rng(4)
    assert span_of(np.concatenate([shocks(rng, 16), rng.normal(0, 1, RECENT)])) == span_of(rng.normal(0, 1, RECENT)) == 1


@pytest.mark.parametrize("x", [[], [0.3], [0.3, -0.3], [0.1] * 300, [0.0] * 300])
def test_what_tells_nothing_of_correlation_leaves_blocks_as_they_are(x: list[float]) -> None:
    assert span_of(x) == 1


@given(st.lists(st.floats(-1, 1), max_size=300))
def test_a_span_is_a_power_of_two_and_can_be_measured(x: list[float]) -> None:
    span = span_of(x)
    assert span in (1, 2, 4, 8, 16, MOST)
    assert span == 1 or span // 2 + 1 <= len(x) // 3
