"""Scores against river's metrics and plain formulas; and that they depend on the rows alone."""

from __future__ import annotations

import json
import math
import pickle
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import metrics

from streamlearn.learning.digest import digest
from streamlearn.learning.scores import FOLD, Scores
from streamlearn.learning.tallies import MAX_CLASSES

TASKS = ["binary", "multiclass", "regression"]
Row = tuple[Any, Any, Any, Any, Any]


def stream(task: str, n: int, seed: int = 1) -> list[Row]:
    """Rows of a model that is right more often than not, with baselines as a learner would give them."""
    draw = random.Random(seed)
    rows: list[Row] = []
    last: Any = None
    for _ in range(n):
        if task == "binary":
            y: Any = draw.random() < 0.4
            p: Any = min(1.0, max(0.0, (0.7 if y else 0.3) + draw.gauss(0, 0.25)))
            answer: Any = p > 0.5
            majority: Any = False
        elif task == "multiclass":
            y = draw.choice(["a", "b", "b", "c"])
            weights = {label: draw.random() + (label == y) * 0.4 for label in "abc"}
            p = {label: weight / sum(weights.values()) for label, weight in weights.items()}
            answer = max(p, key=p.__getitem__)
            majority = "b"
        else:
            y, p = draw.gauss(5, 2), None
            answer, majority = y + draw.gauss(0, 1), 5.0
        rows.append((y, answer, p, last, None if last is None else majority))
        last = y
    return rows


def scored(task: str, rows: list[Row], window: int = 1000, fading: float = 0.999) -> Scores:
    scores = Scores(task, window, fading)
    for row in rows:
        scores.add(*row)
    return scores


def of_river(metric: Any, rows: list[Row], column: int = 1) -> float:
    for row in rows:
        if row[column] is not None:
            metric.update(row[0], row[column])
    return float(metric.get())


@pytest.mark.parametrize("n", [1, 100, FOLD, FOLD + 1, 1500])
def test_binary_scores_are_rivers(n: int) -> None:
    rows = stream("binary", n)
    view = scored("binary", rows, window=300).view()
    for found, part in ((view["cumulative"], rows), (view["window"], rows[-300:])):
        assert found["accuracy"] == pytest.approx(of_river(metrics.Accuracy(), part))
        assert found["kappa"] == pytest.approx(of_river(metrics.CohenKappa(), part))
        # river takes 1 - (1 - 1e-15) for a certain and wrong answer, which is not quite 1e-15
        assert found["log_loss"] == pytest.approx(of_river(metrics.LogLoss(), part, 2), rel=1e-4)
        assert found["brier"] == pytest.approx(sum((y - p) ** 2 for y, _, p, _, _ in part) / len(part))
        if n > 1:
            assert found["roc_auc"] == pytest.approx(of_river(metrics.ROCAUC(n_thresholds=500), part, 2), abs=0.003)
    assert view["n"] == n
    for name, column in (("no_change", 3), ("majority", 4)):
        if n > 1:
            assert view["baselines"][name]["accuracy"] == pytest.approx(of_river(metrics.Accuracy(), rows, column))
            assert view["baselines"][name]["kappa"] == pytest.approx(of_river(metrics.CohenKappa(), rows, column), abs=1e-12)
            recent = of_river(metrics.Accuracy(), rows[-300:], column)
            assert view["baselines"][name]["window_accuracy"] == pytest.approx(recent)


@pytest.mark.parametrize("n", [1, 100, FOLD, 1500])
def test_multiclass_scores_are_rivers(n: int) -> None:
    rows = stream("multiclass", n)
    view = scored("multiclass", rows, window=300).view()
    for found, part in ((view["cumulative"], rows), (view["window"], rows[-300:])):
        assert found["accuracy"] == pytest.approx(of_river(metrics.Accuracy(), part))
        assert found["kappa"] == pytest.approx(of_river(metrics.CohenKappa(), part))
        assert found["log_loss"] == pytest.approx(-sum(math.log(p[y]) for y, _, p, _, _ in part) / len(part))
    for name, column in (("no_change", 3), ("majority", 4)):
        if n > 1:
            assert view["baselines"][name]["accuracy"] == pytest.approx(of_river(metrics.Accuracy(), rows, column))
            assert view["baselines"][name]["kappa"] == pytest.approx(of_river(metrics.CohenKappa(), rows, column), abs=1e-12)
    assert sum(bin["count"] for bin in view["calibration"]) == n


@pytest.mark.parametrize("n", [2, 100, FOLD, 1500])
def test_regression_scores_are_rivers(n: int) -> None:
    rows = stream("regression", n)
    view = scored("regression", rows, window=300).view()
    for found, part in ((view["cumulative"], rows), (view["window"], rows[-300:])):
        assert found["mae"] == pytest.approx(of_river(metrics.MAE(), part))
        assert found["rmse"] == pytest.approx(of_river(metrics.RMSE(), part))
        assert found["r2"] == pytest.approx(of_river(metrics.R2(), part))
    for name, column in (("no_change", 3), ("majority", 4)):
        assert view["baselines"][name]["mae"] == pytest.approx(of_river(metrics.MAE(), rows, column))
        assert view["baselines"][name]["rmse"] == pytest.approx(of_river(metrics.RMSE(), rows, column))
        assert view["baselines"][name]["window_mae"] == pytest.approx(of_river(metrics.MAE(), rows[-300:], column))


@pytest.mark.parametrize("n", [1, FOLD - 1, FOLD + 10, 900])
def test_fading_scores_weigh_each_row_by_its_age(n: int) -> None:
    factor = 0.99
    weights = [factor ** (n - 1 - i) for i in range(n)]
    rows = stream("binary", n)
    fading = scored("binary", rows, fading=factor).view()["fading"]
    assert fading["accuracy"] == pytest.approx(np.average([y == a for y, a, *_ in rows], weights=weights))
    assert fading["brier"] == pytest.approx(np.average([(y - p) ** 2 for y, _, p, *_ in rows], weights=weights))
    rows = stream("multiclass", n)
    fading = scored("multiclass", rows, fading=factor).view()["fading"]
    assert fading["accuracy"] == pytest.approx(np.average([y == a for y, a, *_ in rows], weights=weights))
    assert fading["log_loss"] == pytest.approx(np.average([-math.log(p[y]) for y, _, p, *_ in rows], weights=weights))
    rows = stream("regression", n)
    fading = scored("regression", rows, fading=factor).view()["fading"]
    assert fading["mae"] == pytest.approx(np.average([abs(y - a) for y, a, *_ in rows], weights=weights))
    if n > 1:
        y, a = np.array([row[:2] for row in rows]).T
        deviations = np.average((y - np.average(y, weights=weights)) ** 2, weights=weights)
        assert fading["r2"] == pytest.approx(1 - np.average((y - a) ** 2, weights=weights) / deviations)


@pytest.mark.parametrize("task", TASKS)
@given(looks=st.lists(st.integers(0, 700), max_size=6))
@settings(max_examples=15, deadline=None)
def test_however_the_rows_are_split_looked_at_and_restored_the_state_has_the_same_bytes(task: str, looks: list[int]) -> None:
    rows = stream(task, 700)
    wanted = scored(task, rows, window=100)
    scores = Scores(task, 100, 0.999)
    for index, row in enumerate(rows):
        for kind in range(looks.count(index)):
            scores.view()
            scores = Scores.restore(scores.state()) if kind % 2 == 0 else pickle.loads(pickle.dumps(scores))
        scores.add(*row)
    assert scores.state() == wanted.state()
    assert scores.view() == wanted.view()
    assert digest(scores) == digest(wanted)


@pytest.mark.parametrize("task", TASKS)
def test_one_other_row_gives_another_state(task: str) -> None:
    rows = stream(task, 300)
    other = [*rows]
    other[0] = (rows[1][0], rows[1][1], rows[1][2], *rows[0][3:])
    assert rows[0][:3] != other[0][:3]
    assert scored(task, rows).state() != scored(task, other).state()


@pytest.mark.parametrize("task", TASKS)
def test_looking_changes_nothing(task: str) -> None:
    scores = scored(task, stream(task, 400))
    before = scores.state()
    assert scores.view() == scores.view()
    assert scores.state() == before


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("n", [0, 1, 300])
def test_a_view_is_json(task: str, n: int) -> None:
    view = scored(task, stream(task, n)).view()
    assert json.loads(json.dumps(view, allow_nan=False)) == view
    assert set(view) == {"n", "cumulative", "window", "fading", "baselines", "calibration"}
    assert view["n"] == n


@pytest.mark.parametrize("task", TASKS)
def test_without_rows_nothing_is_known(task: str) -> None:
    view = Scores(task, 10, 0.9).view()
    for kind in ("cumulative", "window", "fading"):
        assert set(view[kind].values()) == {None}
    for baseline in view["baselines"].values():
        assert set(baseline.values()) == {None}
    assert view["calibration"] == []


def test_calibration_is_counted_by_tenths() -> None:
    rows: list[Row] = [(i % 4 == 0, False, 0.25, None, None) for i in range(400)]
    rows += [(True, True, 0.95, None, None) for _ in range(100)]
    view = scored("binary", rows).view()
    low, high = view["calibration"]
    assert (low["low"], low["count"], low["predicted"], low["observed"]) == (0.2, 400, pytest.approx(0.25), 0.25)
    assert (high["high"], high["count"], high["predicted"], high["observed"]) == (1.0, 100, pytest.approx(0.95), 1.0)
    assert view["cumulative"]["calibration_error"] == pytest.approx(0.05 * 100 / 500)


def test_a_window_shorter_than_a_fold_keeps_the_last_rows() -> None:
    rows = stream("binary", 600)
    found = scored("binary", rows, window=10).view()["window"]
    assert found["accuracy"] == sum(y == a for y, a, *_ in rows[-10:]) / 10


def test_binary_rows_without_a_probability_count_for_what_needs_none() -> None:
    rows = [(y, a, None if i % 3 else p, u, v) for i, (y, a, p, u, v) in enumerate(stream("binary", 600))]
    view = scored("binary", rows).view()
    assert view["cumulative"]["accuracy"] == pytest.approx(of_river(metrics.Accuracy(), rows))
    for kind in ("cumulative", "window"):
        assert view[kind]["log_loss"] == pytest.approx(of_river(metrics.LogLoss(), rows, 2), rel=1e-4)
    none = scored("binary", [(y, a, None, u, v) for y, a, _, u, v in rows]).view()
    assert none["cumulative"]["log_loss"] is None
    assert none["window"]["roc_auc"] is None
    assert none["cumulative"]["accuracy"] == view["cumulative"]["accuracy"]


def test_an_answer_that_a_model_could_not_give_is_wrong() -> None:
    rows: list[Row] = [
        ("a", None, None, None, None), ("b", "b", {"a": 0.2, "b": 0.8}, "a", "a"), ("c", "b", {"a": 0.5, "b": 0.5}, "b", "a")
    ]  # fmt: skip
    found = scored("multiclass", rows).view()["cumulative"]
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["log_loss"] == pytest.approx((-math.log(0.8) - math.log(1e-15)) / 2)


def test_classes_beyond_the_bound_share_an_index_but_not_their_hits() -> None:
    n = MAX_CLASSES + 500
    rows: list[Row] = [(i, i + (i % 2), None, i - 1, i) for i in range(n)]
    scores = scored("multiclass", rows)
    view = scores.view()
    assert view["cumulative"]["accuracy"] == 0.5
    assert view["baselines"]["no_change"]["accuracy"] == 0.0
    assert view["baselines"]["majority"]["accuracy"] == 1.0
    assert len(msgspec.msgpack.decode(scores.state())[5]) == MAX_CLASSES
    assert Scores.restore(scores.state()).view() == view


@pytest.mark.parametrize("labels", [("x", "y"), (1, 2), (False, True)])
def test_classes_keep_their_type_through_a_state(labels: tuple[Any, Any]) -> None:
    rows: list[Row] = [(labels[i % 2], labels[i % 3 == 0], {labels[0]: 0.4, labels[1]: 0.6}, None, None) for i in range(300)]
    scores = scored("multiclass", rows)
    again = Scores.restore(scores.state())
    for row in rows[:50]:
        scores.add(*row)
        again.add(*row)
    assert again.state() == scores.state()


def test_what_numpy_models_answer_is_kept_as_plain_values() -> None:
    plain = scored("regression", [(1.0, 2.0, None, 1.5, 1.0)])
    assert scored("regression", [(1.0, np.float64(2.0), None, 1.5, 1.0)]).state() == plain.state()
    counted = scored("multiclass", [(1, 2, {1: 0.25, 2: 0.75}, None, None)])
    odd: Row = (1, np.int64(2), {1: np.float64(0.25), 2: np.float64(0.75)}, None, None)
    assert scored("multiclass", [odd]).state() == counted.state()


def test_absurd_numbers_neither_warn_nor_leave_json() -> None:
    rows: list[Row] = [(1e308, -1e308, None, 1.0, -1e308), (1.0, 2.0, None, 1e308, 1e308), (-1e308, 1.0, None, 1.0, 1.0)] * 200
    view = scored("regression", rows).view()
    json.dumps(view, allow_nan=False)
    assert view["n"] == 600
    assert view["cumulative"]["mae"] > 1e149


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        Scores.restore(b"nonsense")
