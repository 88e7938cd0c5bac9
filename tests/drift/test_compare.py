"""Two sets of one feature: the tests are what they are called, and their e-values keep their promise."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import integrate, special, stats

from streamlearn.drift.compare import (
    BINS,
    LEAST,
    SUREST,
    bars,
    benjamini_hochberg,
    calibrate,
    chi_squared,
    e_benjamini_hochberg,
    histogram,
    ks,
    psi,
    rates,
)

VALUES = st.lists(st.integers(-5, 5), min_size=LEAST, max_size=45)
SHARES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30)


def column(values: object) -> np.ndarray:
    return np.sort(np.array(values, dtype=np.float64))


@settings(max_examples=30, deadline=None)
@given(VALUES, VALUES)
def test_ks_is_the_two_sample_statistic_also_with_ties(past: list[int], block: list[int]) -> None:
    n, m = len(past), len(block)
    distance = max(abs(sum(v <= at for v in past) / n - sum(v <= at for v in block) / m) for at in range(-5, 6))
    expected = special.kolmogorov(math.sqrt(n * m / (n + m)) * distance)
    assert ks(column(past), column(block)) == pytest.approx(expected, abs=1e-12)
    assert ks(column(past), column(block)) == pytest.approx(ks(column(block), column(past)), abs=1e-12)


def test_ks_sees_a_shift_and_judges_nothing_by_a_few() -> None:
    rng = np.random.default_rng(1)
    past, block = column(rng.normal(size=2000)), column(rng.normal(0.35, 1.0, size=500))
    assert ks(past, block) < 1e-4
    assert ks(past, past[:500] * 0 + past[::4]) > 0.99
    assert ks(past, block[: LEAST - 1]) == 1.0


def test_chi_squared_is_pearsons_where_nothing_is_rare() -> None:
    before, now = [500, 300, 200], [80, 90, 80]
    columns = [column(np.repeat([1.0, 2.0, 3.0], counts)) for counts in (before, now)]
    expected = stats.chi2_contingency([before, now], correction=False).pvalue
    assert chi_squared(*columns) == pytest.approx(expected)
    assert chi_squared(columns[0], columns[0]) == pytest.approx(1.0)


def test_rare_categories_are_one_and_two_are_compared_exactly() -> None:
    past = column([1.0] * 2000 + [float(code) for code in range(2, 102)])
    block = column([1.0] * 470 + [float(code) for code in range(200, 230)])
    pooled = rates(2000, 2100, 470, 500)
    assert chi_squared(past, block) == pytest.approx(pooled)
    assert chi_squared(column([1.0] * 100), column([1.0] * 50)) == 1.0
    assert chi_squared(past, block[: LEAST - 1]) == 1.0


def test_chi_squared_does_not_claim_more_than_its_tail_bears() -> None:
    assert chi_squared(column([1.0, 2.0, 3.0] * 100), column([4.0, 5.0, 6.0] * 100)) == SUREST


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_rates_are_twice_fishers_smaller_tail(n: int, m: int, data: st.DataObject) -> None:
    past, block = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    table = [[block, m - block], [past, n - past]]
    tails = [stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
    assert rates(past, n, block, m) == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-6)


def test_psi_is_none_for_the_same_and_grows_with_the_distance() -> None:
    rng = np.random.default_rng(2)
    base = column(rng.normal(size=5000))
    assert psi(base, base, False) == pytest.approx(0.0, abs=1e-6)
    near, far = (psi(base, column(rng.normal(by, 1.0, size=5000)), False) for by in (0.1, 1.0))
    assert 0.0 < near < 0.1 < 0.25 < far
    assert psi(base, base[:0], False) == 0.0
    codes = column([1.0] * 50 + [2.0] * 50)
    assert psi(codes, codes, True) == pytest.approx(0.0)
    moved = column([1.0] * 90 + [2.0] * 10)
    assert psi(codes, moved, True) == pytest.approx(0.4 * math.log(0.9 / 0.5) - 0.4 * math.log(0.1 / 0.5))


def test_pictures_hold_every_value_of_both() -> None:
    base, recent = column(np.arange(1000)), column([-1e9, 1e9, 500.0])
    picture = histogram(base, recent)
    assert len(picture["edges"]) == BINS + 1
    assert (sum(picture["reference"]), sum(picture["recent"])) == (1000, 3)
    assert picture["recent"][0] == picture["recent"][-1] == 1
    assert sum(histogram(column([3.0] * 10), column([3.0]))["recent"]) == 1
    assert sum(histogram(column([]), column([0.5]))["recent"]) == 1
    before, now = column(np.repeat(np.arange(1.0, 31.0), 2)), column([1.0] * 5 + [30.0])
    shown = bars(before, now, {code: f"c{code}" for code in range(1, 31)})
    assert len(shown["values"]) == BINS + 1
    assert shown["values"][0] == "c1"
    assert (sum(shown["reference"]), sum(shown["recent"])) == (60, 6)


@settings(max_examples=50, deadline=None)
@given(SHARES, st.floats(0.01, 0.5))
def test_bh_and_ebh_are_the_step_ups(p: list[float], q: float) -> None:
    chosen = benjamini_hochberg(p, q)
    k = sum(chosen)
    assert all(value <= q * k / len(p) for value, yes in zip(p, chosen, strict=True) if yes)
    for more in range(k + 1, len(p) + 1):
        assert sorted(p)[more - 1] > q * more / len(p)
    # e = 1/p makes e-BH the very same rule.
    e = [1.0 / max(value, 1e-300) for value in p]
    if all(value == 0 or abs(value * len(p) / q - round(value * len(p) / q)) > 1e-9 for value in p):
        assert e_benjamini_hochberg(e, q) == chosen


def test_one_e_value_must_be_worth_all_the_features() -> None:
    assert e_benjamini_hochberg([1000.0] + [1.0] * 49, 0.05) == [True] + [False] * 49
    assert not any(e_benjamini_hochberg([999.0] + [1.0] * 49, 0.05))
    assert sum(e_benjamini_hochberg([200.0] * 5 + [1.0] * 45, 0.05)) == 5
    assert not any(e_benjamini_hochberg([200.0] * 4 + [1.0] * 46, 0.05))


def test_the_calibrator_is_worth_at_most_one_and_falls() -> None:
    mean = integrate.quad(lambda u: calibrate(math.exp(-u)) * math.exp(-u), 0.0, 200.0, limit=200)[0]
    assert mean == pytest.approx(1.0 - 1.0 / 200.0, abs=1e-3)  # p below e**-200 has the rest
    ordered = [calibrate(p) for p in (0.0, 1e-12, 1e-6, 0.01, 0.3, 0.9, 0.999, 1.0)]
    assert ordered == sorted(ordered, reverse=True)
    assert calibrate(1.0) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "ties", "zipf", "rare", "missing"])
def test_the_e_values_of_equal_distributions_are_worth_at_most_one(kind: str) -> None:
    rng = np.random.default_rng(3)
    zipf = 1.0 / np.arange(1, 101) ** 1.2
    total = 0.0
    for _ in range(4000):
        n, m = 2500, 500
        if kind == "normal":
            p = ks(column(rng.normal(size=n)), column(rng.normal(size=m)))
        elif kind == "ties":
            p = ks(column(rng.integers(0, 5, n)), column(rng.integers(0, 5, m)))
        elif kind == "missing":
            p = rates(int(rng.binomial(n, 0.01)), n, int(rng.binomial(m, 0.01)), m)
        else:
            weights = zipf / zipf.sum() if kind == "zipf" else [0.97, 0.02, 0.01]
            p = chi_squared(*(rng.choice(len(weights), size=size, p=weights).astype(float) for size in (n, m)))
        total += calibrate(p)
    assert total / 4000 < 1.1
