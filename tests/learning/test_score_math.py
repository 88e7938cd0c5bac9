"""The formulas, against slow and plain ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.learning import score_math as of

probabilities = st.floats(0, 1)
pairs = st.lists(st.tuples(st.booleans(), probabilities), min_size=1, max_size=40)
coarse = st.lists(st.tuples(st.booleans(), st.integers(0, 5).map(lambda k: k / 5)), min_size=1, max_size=40)
weighted = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 10)), min_size=1, max_size=30)


def plain_auc(rows: list[tuple[bool, float]]) -> float | None:
    positive, negative = [p for y, p in rows if y], [p for y, p in rows if not y]
    if not positive or not negative:
        return None
    won = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in positive for b in negative)
    return won / len(positive) / len(negative)


@given(pairs | coarse)
def test_auc_by_ranks_counts_every_pair(rows: list[tuple[bool, float]]) -> None:
    found = of.auc_by_ranks(np.array([y for y, _ in rows]), np.array([p for _, p in rows]))
    assert found == (None if plain_auc(rows) is None else pytest.approx(plain_auc(rows), abs=1e-12))


@given(pairs | coarse)
def test_auc_of_bins_is_that_of_the_binned_scores(rows: list[tuple[bool, float]]) -> None:
    cells = of.bins_of(np.array([p for _, p in rows]), of.BINS)
    y = np.array([y for y, _ in rows])
    found = of.auc_of_bins(np.bincount(cells[~y], minlength=of.BINS), np.bincount(cells[y], minlength=of.BINS))
    wanted = plain_auc([(bool(a), float(b)) for a, b in zip(y, cells, strict=True)])
    assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-12))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_auc_of_a_confusion_is_that_of_its_hard_answers(rows: list[tuple[bool, bool]]) -> None:
    counts = np.bincount([2 * y + answer for y, answer in rows], minlength=4)
    wanted = plain_auc([(y, float(answer)) for y, answer in rows])
    assert of.auc_of_confusion(counts) == (None if wanted is None else pytest.approx(wanted))


def test_probabilities_fall_into_their_bins() -> None:
    assert of.bins_of(np.array([0.0, 0.0999, 0.1, 0.55, 0.9999, 1.0]), 10).tolist() == [0, 0, 1, 5, 9, 9]


def test_kappa_of_a_textbook_table() -> None:
    # 20 agree on yes, 15 on no, 5 and 10 disagree: p_o = .7, p_e = .5.
    assert of.of_confusion(np.array([15, 10, 5, 20])) == {"accuracy": 0.7, "kappa": pytest.approx(0.4)}


def test_kappa_where_chance_always_agrees_is_nought() -> None:
    assert of.of_confusion(np.array([7, 0, 0, 0])) == {"accuracy": 1.0, "kappa": 0.0}


def test_nothing_has_no_score() -> None:
    nothing = np.zeros(4)
    assert of.of_confusion(nothing) == {"accuracy": None, "kappa": None}
    assert of.auc_of_confusion(nothing) is None
    assert of.auc_of_bins(nothing, nothing) is None
    assert of.auc_by_ranks(np.array([], dtype=bool), np.array([])) is None
    assert of.share(0.0, 0.0) is None
    assert of.calibration(nothing, nothing, nothing) == []
    assert of.calibration_error(nothing, nothing, nothing) is None
    assert of.of_errors(np.zeros(3)) == {"mae": None, "rmse": None}
    assert of.r_squared(1.0, 0.0) is None


@pytest.mark.parametrize(("p", "loss"), [(0.5, math.log(2)), (1.0, 1e-15), (0.0, -math.log(1e-15)), (0.9, -math.log(0.9))])
def test_log_loss_is_clipped_at_both_ends(p: float, loss: float) -> None:
    assert of.log_losses(np.array([p]))[0] == pytest.approx(loss, abs=1e-16, rel=1e-6)


def test_calibration_names_the_used_bins() -> None:
    counts, predicted, observed = np.array([4.0, 0.0]), np.array([1.0, 0.0]), np.array([3.0, 0.0])
    assert of.calibration(counts, predicted, observed) == [
        {"low": 0.0, "high": 0.5, "count": 4, "predicted": 0.25, "observed": 0.75}
    ]
    assert of.calibration_error(counts, predicted, observed) == 0.5


@given(weighted, weighted)
def test_merged_moments_are_those_of_all_values(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> None:
    moments, decay = np.zeros(3), 0.7
    for part, fade in ((first, 1.0), (second, decay)):
        of.merge_moments(moments, np.array([v for v, _ in part]), np.array([w for _, w in part]), fade)
    values = np.array([v for v, _ in first + second])
    weights = np.array([w * decay for _, w in first] + [w for _, w in second])
    mean = np.average(values, weights=weights)
    assert moments == pytest.approx([weights.sum(), mean, (weights * (values - mean) ** 2).sum()], rel=1e-6, abs=1e-6)


def test_a_mean_beyond_floats_is_not_shown() -> None:
    assert of.of_errors(np.array([2.0, np.inf, np.inf])) == {"mae": None, "rmse": None}
    assert of.r_squared(math.inf, 1.0) is None
