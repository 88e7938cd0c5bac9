"""Logistic regression on arrays against river's own pipeline, row by row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from river import linear_model, optim, preprocessing

from streamlearn.recommend.linear import LEARNING_RATE, AtOnce, Linear, SoftLog, sigmoid

NAMES = ("a", "b", "c", "d")


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
    linear = Linear(len(NAMES), at_once=isinstance(loss, AtOnce))
    f = rows(400)
    for index, row in enumerate(f):
        y, w = (1.0 if row[0] > 0 else 0.2 * (index % 2)), 1.0 + index % 3
        river.learn_one(as_dict(row), y, w=w)
        linear.learn(row, y, w)
    told = [river.predict_proba_one(as_dict(row))[True] for row in f]
    assert sigmoid(linear.logits(f)) == pytest.approx(told, abs=1e-6)
    assert linear.weights == pytest.approx(
        [river["LogisticRegression"].weights[name] for name in NAMES], rel=1e-9, abs=1e-12
    )
    assert np.ptp(sigmoid(linear.logits(f))) > 0.3


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
