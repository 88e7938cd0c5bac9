"""A forest that remembers its trees' last answers gives river's own numbers, bit for bit, and holds river's own trees."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import base, compose, drift, forest, metrics, preprocessing, tree

from streamlearn.learning.digest import digest
from streamlearn.learning.recall import Recalling, recall
from streamlearn.learning.straight import straighten

FORESTS: dict[str, Callable[[], Any]] = {
    "classifier": lambda: forest.ARFClassifier(4, seed=3, grace_period=20),
    "without detectors": lambda: forest.ARFClassifier(
        4, seed=3, grace_period=20, drift_detector=drift.NoDrift(), warning_detector=drift.NoDrift()
    ),
    "weighed by log loss": lambda: forest.ARFClassifier(4, seed=3, grace_period=20, metric=metrics.LogLoss()),
    "eager to drift": lambda: forest.ARFClassifier(
        4, seed=3, grace_period=20, drift_detector=drift.ADWIN(0.5), warning_detector=drift.ADWIN(0.9)
    ),
    "regressor": lambda: forest.ARFRegressor(4, seed=3, grace_period=20, drift_detector=drift.ADWIN(0.5)),
    "regressor, mean": lambda: forest.ARFRegressor(
        4, seed=3, grace_period=20, aggregation_method="mean", disable_weighted_vote=False, drift_detector=drift.ADWIN(0.5)
    ),
}


def rows(count: int, numbers: bool) -> list[tuple[dict[str, float], Any]]:
    """The concept turns round half way, so that trees are replaced."""
    draw = random.Random(11)
    out: list[tuple[dict[str, float], Any]] = []
    for i in range(count):
        x = {"a": draw.gauss(0, 1), "b": draw.random(), "c": float(draw.randrange(3))}
        value = (x["a"] + x["b"]) * (1 if i < count // 2 else -1)
        out.append((x, value if numbers else value > 0.3))
    return out


def answer(model: Any, x: dict[str, float]) -> Any:
    return model.predict_one(x) if isinstance(model, base.Regressor) else model.predict_proba_one(x)


@pytest.mark.parametrize("name", FORESTS)
def test_predict_then_learn_is_rivers_own(name: str) -> None:
    theirs, ours = FORESTS[name](), FORESTS[name]()
    short = recall(ours)
    numbers = isinstance(ours, base.Regressor)
    for x, y in rows(400, numbers):
        expected = answer(theirs, x)
        assert (short.predict_one(x) if numbers else short.predict_proba_one(x)) == expected
        theirs.learn_one(x, y)
        short.learn_one(x, y)
    assert digest(ours) == digest(theirs)
    assert (ours.n_drifts_detected() > 0) is (name != "without detectors"), "trees were replaced on the way"


@given(st.lists(st.tuples(st.sampled_from(["predict", "class", "learn"]), st.integers(0, 5)), max_size=60))
@settings(max_examples=30, deadline=None)
def test_in_whatever_order_it_is_asked_and_taught(calls: list[tuple[str, int]]) -> None:
    theirs, ours = FORESTS["eager to drift"](), FORESTS["eager to drift"]()
    short, data = recall(ours), rows(6, False)
    for what, which in calls:
        x, y = data[which]
        if what == "learn":
            theirs.learn_one(dict(x), y)
            short.learn_one(x, y)
        elif what == "class":
            assert short.predict_one(x) == theirs.predict_one(dict(x))
        else:
            assert short.predict_proba_one(x) == theirs.predict_proba_one(dict(x))
    assert digest(ours) == digest(theirs)


def test_a_tree_is_asked_once_for_an_event_that_is_predicted_and_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    model = forest.ARFClassifier(4, seed=3)
    short, data = recall(model), rows(30, False)
    for x, y in data:
        short.learn_one(x, y)
    asked = []
    original = tree.HoeffdingTreeClassifier.predict_proba_one
    monkeypatch.setattr(
        tree.HoeffdingTreeClassifier, "predict_proba_one", lambda self, x: asked.append(self) or original(self, x)
    )
    x, y = data[0]
    short.predict_proba_one(x)
    short.learn_one(x, y)
    assert len(asked) == 4
    short.learn_one(x, y)  # its trees have learned since
    assert len(asked) == 8


def test_the_forest_has_its_own_trees_again_when_learning_fails() -> None:
    model = forest.ARFClassifier(4, seed=3)
    short, (x, y) = recall(model), rows(1, False)[0]
    short.learn_one(x, y)
    trees = list(model.data)
    short.predict_one(x)
    with pytest.raises(TypeError):
        short.learn_one(x, [])  # no label can be a list
    assert len(model.data) == 4
    assert all(one is other for one, other in zip(model.data, trees, strict=True))


def test_only_rivers_own_forests_are_taken_so_and_also_at_the_end_of_a_pipeline() -> None:
    class Own(forest.ARFClassifier):
        """May do what it likes."""

    for other in (Own(seed=1), tree.HoeffdingTreeClassifier()):
        assert recall(other) is other
    assert isinstance(straighten(forest.ARFRegressor()), Recalling)
    theirs, ours = (compose.Pipeline(preprocessing.StandardScaler(), FORESTS["classifier"]()) for _ in range(2))
    short = straighten(ours)
    for x, y in rows(200, False):
        assert short.predict_proba_one(x) == theirs.predict_proba_one(x)
        theirs.learn_one(x, y)
        short.learn_one(x, y)
    assert digest(list(ours.steps.values())) == digest(list(theirs.steps.values()))
