"""The small estimators between river's own."""

from __future__ import annotations

import math
import pickle
import random
from typing import Any

import pytest
from river import linear_model, naive_bayes, neighbors, optim, tree

from streamlearn.learning.adapters import BoundedNorm, ClassNumbers, MixedNaiveBayes, ScaledTarget
from streamlearn.learning.digest import digest


def clusters(n: int, seed: int = 0) -> list[tuple[dict[Any, Any], Any]]:
    draw = random.Random(seed)
    centres = {"north": 2.0, "south": -2.0, "west": 0.0}
    rows = []
    for _ in range(n):
        label = draw.choice(list(centres))
        rows.append(({"a": centres[label] + draw.gauss(0, 0.5), "b": draw.gauss(0, 1)}, label))
    return rows


def test_numbered_classes_come_back_as_they_were() -> None:
    plain, numbered = naive_bayes.GaussianNB(), ClassNumbers(naive_bayes.GaussianNB())
    assert numbered.predict_proba_one({"a": 1.0}) == {}
    assert numbered.predict_one({"a": 1.0}) is None
    for x, y in clusters(200):
        plain.learn_one(x, y)
        numbered.learn_one(x, y)
        assert numbered.predict_proba_one(x) == pytest.approx(plain.predict_proba_one(x))
    assert numbered._multiclass
    assert numbered.labels == list(plain.class_counts)


def test_labels_that_cannot_be_sorted_together_do_not_break_a_tree() -> None:
    model = ClassNumbers(tree.HoeffdingTreeClassifier())
    for i in range(30):
        model.learn_one({"a": float(i % 3)}, [7, "seven", "other"][i % 3])
    assert set(model.predict_proba_one({"a": 1.0})) == {7, "seven", "other"}


def test_numbered_classes_are_cloned_afresh_and_survive_a_pickle() -> None:
    model = ClassNumbers(neighbors.KNNClassifier(3, neighbors.LazySearch(20)))
    for x, y in clusters(50):
        model.learn_one(x, y)
    assert model.clone().labels == []
    assert model.clone().predict_proba_one({"a": 0.0}) == {}
    assert digest(pickle.loads(pickle.dumps(model))) == digest(model)


@pytest.mark.parametrize(("offset", "size"), [(0.0, 1.0), (1e6, 1e5), (-3.0, 1e-6), (0.0, 1e12)])
def test_a_scaled_target_learns_whatever_the_unit(offset: float, size: float) -> None:
    draw = random.Random(1)
    model = ScaledTarget(linear_model.LinearRegression(optim.SGD(0.05)))
    assert model.predict_one({"a": 1.0}) == 0.0
    errors = []
    for _ in range(2000):
        x = {"a": draw.gauss(0, 1), "b": draw.gauss(0, 1)}
        y = offset + size * (2 * x["a"] - x["b"])
        errors.append(abs(y - model.predict_one(x)) / size)
        model.learn_one(x, y)
    assert sum(errors[-500:]) / 500 < 0.1


def test_one_odd_target_does_not_ruin_the_model() -> None:
    draw = random.Random(2)
    model = ScaledTarget(linear_model.LinearRegression(optim.SGD(0.05)))
    errors = []
    for i in range(3000):
        x = {"a": draw.gauss(0, 1)}
        y = 10 + 3 * x["a"]
        errors.append(abs(y - model.predict_one(x)))
        model.learn_one(x, 1e200 if i in (3, 1500) else y)
    assert sum(errors[-500:]) / 500 < 0.5


def test_a_constant_target_is_predicted() -> None:
    model = ScaledTarget(linear_model.LinearRegression())
    for _ in range(40):
        model.learn_one({"a": 1.0}, 42.0)
    assert model.predict_one({"a": 1.0}) == 42.0


def test_a_long_event_is_shrunk_and_a_short_one_left_alone() -> None:
    norm = BoundedNorm(4.0)
    short = {"a": 1.0, "b": -1.0}
    assert norm.transform_one(short) is short
    out = norm.transform_one({"a": 3.0, "b": -4.0})
    assert out == pytest.approx({"a": 1.2, "b": -1.6})
    assert norm.transform_one({}) == {}


def test_gradient_descent_does_not_diverge_on_hundreds_of_features() -> None:
    draw = random.Random(3)
    bounded, bare = BoundedNorm(50.0) | linear_model.LinearRegression(), linear_model.LinearRegression()
    for _ in range(200):
        x = {f"f{i}": draw.gauss(0, 1) for i in range(300)}
        y = x["f0"]
        bounded.learn_one(x, y)
        bare.learn_one(x, y)
    assert abs(bounded.predict_one(x)) < 10
    assert abs(bare.predict_one(x)) > 100


def test_mixed_naive_bayes_on_numbers_is_rivers_where_no_bound_applies() -> None:
    mixed, rivers = MixedNaiveBayes(least=0.0), naive_bayes.GaussianNB()
    for index, (x, y) in enumerate(clusters(400)):
        mixed.learn_one(x, y)
        rivers.learn_one(x, y)
        if index > 50:
            assert mixed.predict_proba_one(x) == pytest.approx(rivers.predict_proba_one(x), abs=1e-6)


def test_mixed_naive_bayes_on_strings_is_a_categorical_one() -> None:
    mixed = MixedNaiveBayes(alpha=1.0)
    rows = [("red", True), ("red", True), ("blue", False), ("red", False), ("blue", False)]
    for colour, y in rows:
        mixed.learn_one({"c": colour}, y)
    # P(True) P(red | True) = 2/5 · (2+1)/(2+2), P(False) P(red | False) = 3/5 · (1+1)/(3+2)
    yes, no = 0.4 * 3 / 4, 0.6 * 2 / 5
    assert mixed.predict_proba_one({"c": "red"}) == pytest.approx({True: yes / (yes + no), False: no / (yes + no)})


def test_mixed_naive_bayes_uses_numbers_and_strings_together() -> None:
    draw = random.Random(4)
    mixed = MixedNaiveBayes()
    hits = 0
    for i in range(1000):
        y = draw.random() < 0.5
        x = {"a": draw.gauss(1 if y else -1, 2), "c": "up" if (draw.random() < 0.75) == y else "down"}
        shares = mixed.predict_proba_one(x)
        hits += i >= 200 and (shares[True] > 0.5) == y
        mixed.learn_one(x, y)
    assert hits / 800 > 0.77
    assert mixed.predict_proba_one({}) == pytest.approx({True: 0.5, False: 0.5}, abs=0.05)
    assert math.isclose(sum(mixed.predict_proba_one({"a": 8.0, "c": "new", "d": 3.0}).values()), 1.0)


def test_asking_mixed_naive_bayes_changes_nothing() -> None:
    mixed = MixedNaiveBayes()
    assert mixed.predict_proba_one({"a": 1.0, "c": "x"}) == {}
    for x, y in clusters(30):
        mixed.learn_one(x, y)
    before = digest(mixed)
    mixed.predict_proba_one({"new": 1.0, "c": "new"})
    assert digest(mixed) == before
