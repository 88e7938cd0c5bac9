"""Staleness: a mean of losses around the questions; and the three rules that retrain by it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrain_pasts import BATCHES, LOSSES, past_of, seen_of, simulated

from streamlearn.retrain.cara import CaraCT, CaraP, CaraT, distances, scales, staleness
from streamlearn.retrain.policy import Batch, Tunable
from streamlearn.retrain.simulate import oracle, replay

VALUES = st.none() | st.booleans() | st.floats(-1e300, 1e300) | st.sampled_from(["a", "b"]) | st.integers(-5, 5)
ROWS = st.lists(st.dictionaries(st.sampled_from(["u", "v", "w"]), VALUES), min_size=1, max_size=6)


# Staleness.


def test_staleness_is_the_loss_of_what_is_like_the_question() -> None:
    x = [{"u": 0.0}, {"u": 0.0}, {"u": 10.0}]
    losses = np.array([0.0, 0.5, 1.0])
    assert staleness([{"u": 0.0}], x, losses, gamma=1.0, scale={"u": 1.0}) == pytest.approx(0.25)
    assert staleness([{"u": 10.0}], x, losses, gamma=1.0, scale={"u": 1.0}) == pytest.approx(1.0)
    assert staleness([{"u": 0.0}, {"u": 10.0}], x, losses, gamma=1.0, scale={"u": 1.0}) == pytest.approx(0.625)


def test_without_gamma_it_is_the_mean_loss() -> None:
    losses = np.array([0.0, 0.5, 1.0])
    assert staleness([{"u": 0.0}], [{"u": 0.0}, {"u": 3.0}, {"v": "a"}], losses, 0.0, {}) == pytest.approx(0.5)


def test_the_weight_is_the_papers_similarity() -> None:
    near, far = math.exp(-0.5 * 1.0), math.exp(-0.5 * 4.0)
    expected = (near * 0.2 + far * 0.8) / (near + far)
    assert staleness([{"u": 0.0}], [{"u": 2.0}, {"u": 4.0}], np.array([0.2, 0.8]), 0.5, {"u": 2.0}) == pytest.approx(expected)


def test_distances_are_in_scales_and_texts_are_equal_or_not() -> None:
    query = {"u": 1.0, "c": "a", "flag": True, "gone": None}
    rows: list[dict[str, Any]] = [
        query, {**query, "u": 5.0}, {**query, "c": "b"}, {**query, "flag": 1}, {"u": 1.0, "c": "a", "flag": True},
        {**query, "u": 1e300}, {**query, "u": math.nan}, {**query, "u": "1.0"},
    ]  # fmt: skip
    assert (4 * distances([query], rows, {"u": 2.0})).tolist() == [[0.0, 4.0, 1.0, 1.0, 0.0, 100.0, 1.0, 1.0]]


def test_scales_are_standard_deviations_of_numbers() -> None:
    rows = [{"u": 1.0, "k": 3, "c": "a", "flag": True}, {"u": 5, "k": 3, "c": None}, {"v": math.inf}]
    assert scales(rows) == {"u": 2.0, "k": 1.0}


def test_nothing_can_be_said_of_nothing() -> None:
    assert math.isnan(staleness([], [{"u": 1.0}], np.array([0.5]), 1.0, {}))
    assert math.isnan(staleness([{"u": 1.0}], [], np.array([]), 1.0, {}))


@given(ROWS, ROWS, st.floats(0, 1e6), st.randoms())
def test_staleness_is_on_the_scale_of_a_loss(queries: Any, x: Any, gamma: float, random: Any) -> None:
    losses = np.array([random.random() for _ in x])
    value = staleness(queries, x, losses, gamma, scales(x))
    assert losses.min() - 1e-9 <= value <= losses.max() + 1e-9


# The rules.


def test_t_judges_the_last_batch_and_ct_all() -> None:
    seen = seen_of([0.23, 0.23])  # 15 lost events above the reference, twice
    assert CaraT().decide(seen)[:3] == (False, pytest.approx(15.0), 20.0)
    assert CaraCT().decide(seen)[:3] == (True, pytest.approx(30.0), 20.0)
    assert CaraT(tau=14.0).decide(seen).retrain
    assert not CaraCT(tau=31.0).decide(seen).retrain
    assert CaraT(raw=True).decide(seen).total == pytest.approx(115.0)
    assert CaraCT(raw=True).decide(seen).total == pytest.approx(230.0)
    assert CaraCT().decide(seen).why == "30.0 lost events by staleness since the last retrain, above 20"


def test_they_judge_by_staleness_and_not_by_loss() -> None:
    stale = replace(seen_of([0.0]), batches=(Batch(500, 0.0, 0.0, 0.9),))
    assert CaraT().decide(stale).retrain
    assert CaraCT().decide(stale).retrain


def test_without_a_reference_only_the_papers_form_decides() -> None:
    seen = seen_of([0.9], reference=None)
    assert not CaraCT().decide(seen).retrain
    assert CaraCT(raw=True).decide(seen).retrain


@given(BATCHES.filter(lambda batches: len(batches) > 1), st.integers(0, 10), LOSSES)
def test_joining_batches_does_not_change_the_sum(batches: list[Batch], place: int, reference: float) -> None:
    place = min(place, len(batches) - 2)
    one, two = batches[place : place + 2]
    n = one.n + two.n
    joined = Batch(n, (one.n * one.loss + two.n * two.loss) / n, two.at, (one.n * one.psi + two.n * two.psi) / n)
    seen = seen_of([], reference=reference)
    sums = [
        CaraCT(tau=1.0).decide(replace(seen, batches=rows)).total
        for rows in (tuple(batches), (*batches[:place], joined, *batches[place + 2 :]))
    ]
    assert sums[0] == pytest.approx(sums[1], abs=1e-6)


def test_the_raw_sum_grows_by_what_no_model_could_avoid() -> None:
    """ALGORITHMS: on a static stream raw CT retrains all the same; less the reference it does not."""
    past = simulated(60, lambda _, __: 0.2, seed=4)
    raw, mended = replay(CaraCT(tau=300.0, raw=True), past, 300.0), replay(CaraCT(tau=300.0), past, 300.0)
    assert len(raw.retrains) >= 14  # 100 a batch: after each fourth one, or third
    assert mended.retrains == []
    best = oracle(past, 300.0).cost
    assert mended.cost < 1.02 * best
    assert 1.4 * best < raw.cost < 2.9 * best


# Tuning.


@pytest.mark.parametrize("policy", [CaraT(), CaraCT(), CaraT(raw=True), CaraCT(raw=True)])
def test_tau_is_tuned_to_the_past(policy: CaraT | CaraCT) -> None:
    past = simulated(40, lambda i, j: 0.2 if i // 8 == (j - 1) // 8 else 0.35, seed=5)
    found = policy.tuned(past, 20.0)
    assert isinstance(found, Tunable)
    assert (type(found), found.raw) == (type(policy), policy.raw)
    assert replay(found, past, 20.0).cost <= replay(policy, past, 20.0).cost
    assert replay(found, past, 20.0).cost <= 1.1 * oracle(past, 20.0).cost
    dear = policy.tuned(past, 1e6)
    assert replay(dear, past, 1e6).retrains == []


def test_a_past_of_unknown_references_is_tuned_without_them() -> None:
    past = past_of(np.full((6, 6), 0.3), reference=math.nan)
    assert replay(CaraCT().tuned(past, 20.0), past, 20.0).retrains == []


def test_p_is_a_period() -> None:
    past = simulated(40, lambda i, j: 0.2 if (i - 2) // 6 == (j - 3) // 6 else 0.4, seed=1)
    found = CaraP(phi=1).tuned(past, 20.0)
    assert found == CaraP(phi=6, a=2)
    assert replay(found, past, 20.0).retrains == [2, 8, 14, 20, 26, 32, 38]
