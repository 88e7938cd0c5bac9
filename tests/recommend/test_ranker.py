"""The ranker, of each recipe and of river's classifiers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from river import base, linear_model, naive_bayes, optim, preprocessing, tree

from streamlearn.errors import ModelError
from streamlearn.recommend.linear import Linear, SoftLog
from streamlearn.recommend.ranker import RECIPES, Ranker

NAMES = ("a", "b", "c", "d")
HERE = __name__


def logistic(learning_rate: float = 0.02) -> base.Classifier:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(
        optim.AdaGrad(learning_rate), SoftLog(), intercept_lr=0.02
    )


def gaussian() -> base.Classifier:
    return naive_bayes.GaussianNB()


def forest(seed: int) -> base.Classifier:
    return tree.ExtremelyFastDecisionTreeClassifier(grace_period=10 + seed % 2)


def regressor() -> base.Regressor:
    return linear_model.LinearRegression()


def rows(n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 4)) * [1, 3, 0.2, 0] + [0, 5, -1, 2]).astype(np.float32)


def as_dict(row: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, row.tolist(), strict=True))


@pytest.mark.parametrize("pipeline", RECIPES)
def test_what_is_preferred_comes_first(pipeline: str) -> None:
    ranker = Ranker(NAMES, pipeline)
    for turn in range(200):
        f = rows(10, turn)
        best = int(f[:, 1].argmax())
        ranker.prefer(f, best, [] if ranker.listwise else [row for row in range(10) if row != best])
    ranks = [
        int((ranker.logits(f) > ranker.logits(f)[f[:, 1].argmax()]).sum()) for f in (rows(10, seed) for seed in range(900, 950))
    ]
    assert np.mean(ranks) < 0.2


def test_one_odd_value_does_not_ruin_the_order() -> None:
    ranker = Ranker(NAMES, "logistic")
    for row in rows(500):
        ranker.learn(row, float(row[0] > 0))
    ranker.learn(np.array([3e38, -3e38, 0, 0], np.float32), 1.0)
    assert np.isfinite(ranker.logits(rows(5))).all()
    assert isinstance(ranker.recipe, Linear)
    assert np.abs(ranker.recipe.weights).max() < 10


@pytest.mark.parametrize("name", ["logistic", "gaussian", "forest"])
def test_any_river_classifier_learns_and_explains(name: str) -> None:
    ranker = Ranker(NAMES, f"{HERE}:{name}", seed=3)
    for turn in range(60):
        f = rows(6, turn)
        best = int(f[:, 1].argmax())
        ranker.prefer(f, best, [row for row in range(6) if row != best])
        ranker.learn(f[best], 0.4)
    low, high = rows(2)
    low[1], high[1] = 0.0, 12.0
    scores = ranker.score(np.stack([low, high]))
    assert scores.dtype == np.float32
    assert scores[1] > scores[0]
    assert ranker.contributions(high)[0][0] == "b"
    assert len(ranker.__fingerprint__()) == 64


def test_a_linear_river_pipeline_scores_as_itself() -> None:
    ranker = Ranker(NAMES, f"{HERE}:logistic", params={"learning_rate": 0.05})
    f = rows(50)
    for row in f:
        ranker.learn(row, float(row[1] > 5))
    told = [ranker.classifier.predict_proba_one(as_dict(row))[True] for row in f]
    assert ranker.score(f) == pytest.approx(told, abs=1e-6)


@pytest.mark.parametrize("pipeline", RECIPES)
def test_contributions_and_the_rest_are_the_logit(pipeline: str) -> None:
    ranker = Ranker(NAMES, pipeline)
    f = rows(100)
    for row in f:
        ranker.learn(row, float(row[0] > 0))
    parts = ranker.contributions(f[7])
    assert ranker.recipe is not None
    _, rest = ranker.recipe.explained(f[7])
    assert sum(value for _, value in parts) + rest == pytest.approx(float(ranker.logits(f[7:8])[0]), abs=1e-5)
    assert [abs(value) for _, value in parts] == sorted((abs(value) for _, value in parts), reverse=True)
    assert "d" not in dict(parts)  # it never varied


def test_a_pickled_ranker_is_the_same_and_goes_on_alike() -> None:
    for pipeline in (*RECIPES, f"{HERE}:logistic"):
        ranker = Ranker(NAMES, pipeline)
        for row in rows(20):
            ranker.learn(row, float(row[0] > 0))
        other = pickle.loads(pickle.dumps(ranker))
        assert other.__fingerprint__() == ranker.__fingerprint__()
        other.learn(rows(1)[0], 1.0)
        assert other.__fingerprint__() != ranker.__fingerprint__()


@pytest.mark.parametrize(
    ("pipeline", "params", "at_once", "said"),
    [
        ("tree", {}, False, "write mlp or logistic"),
        ("logistic", {"depth": 3}, False, "'logistic' .* no parameter depth; write learning_rate or l2"),
        ("mlp", {"depth": 3}, False, "'mlp' .* no parameter depth; write hidden, learning_rate or l2"),
        ("mlp", {"hidden": 64}, False, "hidden = 64"),
        ("mlp", {"hidden": []}, False, "1 to 3 numbers"),
        ("mlp", {"hidden": [8, 0]}, False, "from 1 to 1024"),
        ("mlp", {"hidden": [True]}, False, "hidden"),
        ("mlp", {"learning_rate": 0}, False, "above 0 to 1"),
        ("mlp", {"learning_rate": "fast"}, False, "learning_rate = 'fast'"),
        ("mlp", {"l2": -1}, False, "l2 = -1"),
        (f"{HERE}:regressor", {}, False, "river binary classifier"),
        (f"{HERE}:HERE", {}, False, "not a function"),
        (f"{HERE}:gaussian", {}, True, 'labels = "wait"'),
    ],
)
def test_an_error_says_what_to_write_instead(pipeline: str, params: dict[str, object], at_once: bool, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Ranker(NAMES, pipeline, at_once=at_once, params=params)
