"""The short way through a pipeline gives river's own numbers, bit for bit, or is not taken."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
from river import anomaly, compose, feature_extraction, linear_model, naive_bayes, optim, preprocessing, stats, tree

from streamlearn.learning.digest import digest
from streamlearn.learning.straight import Pair, Straight, straighten

PLAIN: dict[str, Callable[[], Any]] = {
    "scaled logistic": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    "two transformers": lambda: (
        preprocessing.StandardScaler() | preprocessing.MaxAbsScaler() | linear_model.LogisticRegression(optim.Adam(0.05))
    ),
    "selected": lambda: compose.Select("a", "b") | preprocessing.StandardScaler() | naive_bayes.GaussianNB(),
    "a function": lambda: compose.FuncTransformer(doubled) | tree.HoeffdingTreeClassifier(grace_period=20),
    "one step": lambda: compose.Pipeline(linear_model.LogisticRegression()),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "no pipeline": linear_model.LogisticRegression,
    "a union": lambda: (
        (preprocessing.StandardScaler() + preprocessing.MinMaxScaler()) | linear_model.LogisticRegression()
    ),
    "a supervised transformer": lambda: feature_extraction.TargetAgg(by="b", how=stats.Mean()) | naive_bayes.GaussianNB(),
    "an anomaly filter": lambda: compose.Pipeline(
        anomaly.QuantileFilter(anomaly.HalfSpaceTrees(seed=1), q=0.9), linear_model.LogisticRegression()
    ),
    "no model at the end": lambda: compose.Pipeline(preprocessing.StandardScaler()),
    "no steps": compose.Pipeline,
    "a pipeline of one's own": lambda: Own(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
}


class Own(compose.Pipeline):
    """May do what it likes at each call."""


def doubled(x: dict[str, Any]) -> dict[str, Any]:
    return {name: 2 * value for name, value in x.items()}


def rows(count: int) -> list[tuple[dict[str, float], bool]]:
    draw = random.Random(5)
    out = []
    for _ in range(count):
        x = {"a": draw.gauss(0, 3), "b": float(draw.randrange(4)), "c": draw.random()}
        out.append((x, x["a"] + x["b"] > 1))
    return out


@pytest.mark.parametrize("name", PLAIN)
def test_the_numbers_are_rivers_own(name: str) -> None:
    theirs, ours = PLAIN[name](), PLAIN[name]()
    short = straighten(ours)
    assert isinstance(short, (Pair, Straight))
    for x, y in rows(200):
        assert short.predict_proba_one(dict(x)) == theirs.predict_proba_one(dict(x))
        assert short.predict_one(dict(x)) == theirs.predict_one(dict(x))
        theirs.learn_one(dict(x), y)
        short.learn_one(dict(x), y)
    # The steps hold all that was learned; the pipeline itself only keeps a plan of them.
    assert digest(list(ours.steps.values())) == digest(list(theirs.steps.values()))
    x = {"a": 1.0, "b": 2.0, "c": 0.5}
    assert ours.predict_proba_one(x) == theirs.predict_proba_one(x)


# A test module cannot be imported by name, so its function cannot be pickled.
@pytest.mark.parametrize("name", sorted(set(PLAIN) - {"a function"}))
def test_after_a_pickle_the_short_way_is_still_through_the_same_steps(name: str) -> None:
    pipeline, again = PLAIN[name](), PLAIN[name]()
    for x, y in rows(30):
        straighten(pipeline).learn_one(x, y)
        straighten(again).learn_one(x, y)
    again = pickle.loads(pickle.dumps(again))
    for x, y in rows(60):
        straighten(pipeline).learn_one(x, y)
        straighten(again).learn_one(x, y)
    assert digest(list(again.steps.values())) == digest(list(pipeline.steps.values()))


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_is_not_that_plain_goes_through_the_pipeline_itself(name: str) -> None:
    estimator = OTHERS[name]()
    assert straighten(estimator) is estimator


def test_regressions_take_it_too() -> None:
    theirs, ours = (preprocessing.StandardScaler() | linear_model.LinearRegression() for _ in range(2))
    short = straighten(ours)
    assert isinstance(short, (Pair, Straight))
    for x, _ in rows(100):
        assert short.predict_one(x) == theirs.predict_one(x)
        short.learn_one(x, x["a"])
        theirs.learn_one(x, x["a"])
