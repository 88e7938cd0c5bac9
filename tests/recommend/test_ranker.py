"""The ranker against river's own pipeline, row by row, and its parts."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from river import base, linear_model, naive_bayes, optim, preprocessing, tree

from streamlearn.errors import ModelError
from streamlearn.recommend.ranker import LEARNING_RATE, AtOnce, Linear, Ranker, SoftLog, sigmoid

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


def table(f: np.ndarray) -> pa.Table:
    return pa.table({name: f[:, at].astype(float) for at, name in enumerate(NAMES)})


@pytest.mark.parametrize("loss", [SoftLog(), AtOnce()])
def test_the_numbers_are_river_s_own(loss: SoftLog) -> None:
    model = linear_model.LogisticRegression(optim.AdaGrad(LEARNING_RATE), loss, intercept_lr=0.02)
    river = preprocessing.StandardScaler() | model
    ranker = Ranker(NAMES, at_once=isinstance(loss, AtOnce))
    f = rows(400)
    for index, row in enumerate(f):
        y, w = (1.0 if row[0] > 0 else 0.2 * (index % 2)), 1.0 + index % 3
        river.learn_one(as_dict(row), y, w=w)
        ranker.learn(row, y, w)
    told = [river.predict_proba_one(as_dict(row))[True] for row in f]
    assert ranker.score(f) == pytest.approx(told, abs=1e-6)
    assert ranker.linear is not None
    assert ranker.linear.weights == pytest.approx(
        [river["LogisticRegression"].weights[name] for name in NAMES], rel=1e-9, abs=1e-12
    )
    assert np.ptp(ranker.score(f)) > 0.3


def test_preferring_is_river_s_mini_batch_on_the_differences() -> None:
    scaler = preprocessing.StandardScaler()
    river = linear_model.LogisticRegression(optim.AdaGrad(LEARNING_RATE), intercept_lr=0.0)
    linear = Linear(4)
    for turn in range(40):
        f = rows(12, turn)
        linear.see(f)
        linear.prefer(f[0], f[3:8], 0.5)
        frame = table(f)
        scaler.learn_many(frame)
        scaled = np.stack([column.to_numpy() for column in scaler.transform_many(frame).columns], axis=1)
        river.learn_many(table(scaled[0] - scaled[3:8]), pa.chunked_array([[True] * 5]), w=0.5)
    assert linear.mean == pytest.approx([scaler.means[name] for name in NAMES], rel=1e-9)
    assert linear.var == pytest.approx([scaler.vars[name] for name in NAMES], abs=1e-9)
    assert linear.weights[:3] == pytest.approx([river.weights[name] for name in NAMES[:3]], rel=1e-6)
    assert linear.intercept == 0.0


def test_what_is_preferred_comes_first() -> None:
    ranker = Ranker(NAMES)
    for turn in range(200):
        f = rows(10, turn)
        best = int(f[:, 1].argmax())
        ranker.prefer(f, best, [row for row in range(10) if row != best])
    ranks = [
        int((ranker.logits(f) > ranker.logits(f)[f[:, 1].argmax()]).sum()) for f in (rows(10, seed) for seed in range(900, 950))
    ]
    assert np.mean(ranks) < 0.2


@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("loss", [SoftLog(), AtOnce()])
def test_a_gradient_is_the_slope_of_its_loss(loss: SoftLog, y: float) -> None:
    for z in (-3.0, -0.2, 0.0, 1.7):
        slope = (loss(y, z + 1e-6) - loss(y, z - 1e-6)) / 2e-6
        assert loss.gradient(y, z) == pytest.approx(slope, abs=1e-6)


def test_learning_at_once_serves_the_true_rate_and_counting_twice_does_not() -> None:
    rng = np.random.default_rng(5)
    rates = {}
    for at_once in (True, False):
        linear = Linear(1, at_once=at_once)
        for _ in range(6_000):
            f = rng.normal(size=1).astype(np.float32)
            linear.learn(f, 0.0)
            if rng.random() < 0.3:
                linear.learn(f, 1.0)
        rates[at_once] = sigmoid(linear.intercept)
    assert rates[True] == pytest.approx(0.3, abs=0.03)
    assert rates[False] == pytest.approx(0.3 / 1.3, abs=0.03)


def test_one_odd_value_does_not_ruin_the_order() -> None:
    ranker = Ranker(NAMES)
    for row in rows(500):
        ranker.learn(row, float(row[0] > 0))
    ranker.learn(np.array([3e38, -3e38, 0, 0], np.float32), 1.0)
    assert np.isfinite(ranker.logits(rows(5))).all()
    assert ranker.linear is not None
    assert np.abs(ranker.linear.weights).max() < 10


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


def test_contributions_and_the_intercept_are_the_logit() -> None:
    ranker = Ranker(NAMES)
    f = rows(100)
    for row in f:
        ranker.learn(row, float(row[0] > 0))
    parts = ranker.contributions(f[7])
    assert ranker.linear is not None
    assert sum(value for _, value in parts) + ranker.linear.intercept == pytest.approx(float(ranker.logits(f[7:8])[0]))
    assert [abs(value) for _, value in parts] == sorted((abs(value) for _, value in parts), reverse=True)
    assert "d" not in dict(parts)  # it never varied


def test_a_pickled_ranker_is_the_same_and_goes_on_alike() -> None:
    for ranker in (Ranker(NAMES), Ranker(NAMES, f"{HERE}:logistic")):
        for row in rows(20):
            ranker.learn(row, float(row[0] > 0))
        other = pickle.loads(pickle.dumps(ranker))
        assert other.__fingerprint__() == ranker.__fingerprint__()
        other.learn(rows(1)[0], 1.0)
        assert other.__fingerprint__() != ranker.__fingerprint__()


@pytest.mark.parametrize(
    ("pipeline", "params", "at_once", "said"),
    [
        ("tree", {}, False, "write logistic"),
        ("logistic", {"depth": 3}, False, "learning_rate or l2"),
        (f"{HERE}:regressor", {}, False, "river binary classifier"),
        (f"{HERE}:HERE", {}, False, "not a function"),
        (f"{HERE}:gaussian", {}, True, 'labels = "wait"'),
    ],
)
def test_an_error_says_what_to_write_instead(pipeline: str, params: dict[str, object], at_once: bool, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Ranker(NAMES, pipeline, at_once=at_once, params=params)
