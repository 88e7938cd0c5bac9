"""Evidence by slice, and e-BH over all of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.retrain.slices import MAX_VALUES, SHOWN, Slices


def name(value: str) -> tuple[str, ...]:
    return ("slice", "carrier", value)


def with_evidence(*e: float) -> Slices:
    slices = Slices(0.01, 0.05)
    for number, value in enumerate(e):
        slices.add(0, {name(str(number)): (1, 0.0, 1.0)}, stake=False)
        slices._evidence[name(str(number))].e = value
    return slices


@pytest.mark.parametrize(
    ("e", "worse"),
    [
        ((), []),
        ((19.0,), []),
        ((20.0,), ["0"]),
        ((20.0, 1.0), []),  # of two, one alone needs 40
        ((40.0, 1.0), ["0"]),
        ((20.0, 21.0), ["1", "0"]),  # two together need 20 each
        ((25.0, 1.0, 100.0, 27.0), ["2"]),  # one of four needs 80, three need 26.7 each
        ((41.0, 1.0, 100.0, 45.0), ["2", "3", "0"]),
    ],
)
def test_the_largest_k_that_pass_are_called_worse(e: tuple[float, ...], worse: list[str]) -> None:
    assert [value for _, _, value in with_evidence(*e).worse()] == worse


@given(st.lists(st.floats(0, 1000), max_size=MAX_VALUES))
def test_e_bh_is_that_of_its_definition(e: list[float]) -> None:
    ranked = sorted(e, reverse=True)
    passing = [k for k in range(1, len(e) + 1) if ranked[k - 1] >= len(e) / (0.05 * k)]
    assert len(with_evidence(*e).worse()) == max(passing, default=0)


def test_many_equal_slices_are_rarely_called_worse() -> None:
    """10 slices of equal models, looked at after every block: a discovery in few of 30 runs."""
    rng, runs = np.random.default_rng(8), 0
    for _ in range(30):
        slices, found = Slices(0.0, 0.05), False
        for number in range(100):
            sums = {name(str(value)): (5, *map(float, rng.binomial(5, 0.2, 2))) for value in range(10)}
            slices.add(number, sums, stake=True)
            found = found or bool(slices.worse())
        runs += found
    assert runs <= 4


def test_values_beyond_the_most_share_a_slice() -> None:
    slices = Slices(0.0, 0.05)
    for number in range(MAX_VALUES + 10):
        slices.add(number, {name(f"v{number}"): (2, 0.0, 1.0), ("metric", "brier"): (2, 0.0, 1.0)}, stake=True)
    assert len(slices._totals) == MAX_VALUES + 1
    assert slices._totals[name("other")] == (20, 0.0, 10.0)
    numbers = json.loads(json.dumps(slices.numbers()))
    assert numbers["count"] == MAX_VALUES + 1
    assert len(numbers["rows"]) == SHOWN


def test_a_block_in_which_values_share_a_slice_is_one_bet() -> None:
    slices = Slices(0.0, 0.05)
    for number in range(MAX_VALUES):
        slices.add(number, {name(f"v{number}"): (1, 0.0, 0.0)}, stake=True)
    slices.add(0, {name("x"): (1, 0.0, 1.0), name("y"): (3, 0.0, 0.0)}, stake=False)
    slices.add(2, {name("x"): (1, 0.0, 1.0), name("y"): (1, 0.0, 0.0)}, stake=True)
    # g = (1/4) / 2 = 1/8 and v = (1/4 + (1/4 − 1/8)²)/2; the block's mean is 1/2
    gain, variance = 1 / 8, (1 / 4 + 1 / 64) / 2
    stake = min(0.9, gain / (variance + gain**2))
    assert slices._evidence[name("other")].e == pytest.approx((2 + stake / 2) / 2)


def test_a_slice_without_events_in_a_block_is_passed_over() -> None:
    slices = Slices(0.0, 0.05)
    slices.add(0, {name("a"): (0, 0.0, 0.0)}, stake=True)
    assert slices.numbers() == {"count": 0, "worse": 0, "rows": []}
    assert slices.why() == ""


def test_the_reason_names_the_three_surest() -> None:
    assert with_evidence(100.0, 200.0, 300.0, 400.0, 50.0).why() == (
        "it is worse in 5 of 5 slices: carrier = 3 by 1.0000 (evidence 400); carrier = 2 by 1.0000 (evidence 300); "
        "carrier = 1 by 1.0000 (evidence 200) and 2 more"
    )
