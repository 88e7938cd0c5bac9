"""What a model says of itself: for every recipe, and for pipelines that hold anything."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from river import linear_model

from streamlearn.config import ModelSettings, Settings
from streamlearn.learning.digest import digest
from streamlearn.learning.model import Model
from streamlearn.learning.recipes import RECIPES
from streamlearn.learning.replay import limits_of
from streamlearn.learning.summary import INTERCEPT, MAX_WEIGHTS, known_features, summarize
from streamlearn.lineage import MAX_LETTERS, MAX_NAMES

LINEAR = {"logistic", "softmax", "linear", "passive_aggressive", "alma"}
TREES = {"hoeffding_tree", "hoeffding_adaptive_tree"}
FORESTS = {"adaptive_random_forest", "streaming_random_patches", "leveraging_bagging"}


def learned(pipeline: str, task: str, events: int = 120, **params: Any) -> Model:
    settings = ModelSettings(stream="s", task=task, pipeline=pipeline, params=params)  # type: ignore[arg-type]  # a task
    model, draw = Model(settings, limits_of(Settings())), random.Random(3)
    for _ in range(events):
        x, types = model.check({"a": draw.random(), "b": draw.random(), "c": draw.choice("xyz")})
        model.accept(types)
        model.learn(x, model.label({"binary": x["a"] > 0.5, "multiclass": x["c"], "regression": 3 * x["a"]}[task]))
    return model


@pytest.mark.parametrize(("name", "task"), [(name, task) for name, one in RECIPES.items() for task in sorted(one.tasks)])
def test_every_recipe(name: str, task: str) -> None:
    params = {"n_models": 2} if name in FORESTS else {}
    model = learned(name, task, **params)
    before = digest(model)
    told = json.loads(json.dumps(summarize(model)))
    assert digest(model) == before, "looking at a model changed it"
    assert (told["features"], told["numbers"], told["strings"]) == (3, 2, 1)
    assert ("weights" in told) == (name in LINEAR)
    assert ("nodes" in told) == (name in TREES | FORESTS)
    assert told.get("members") == (2 if name in FORESTS else None)


def test_weights_by_name() -> None:
    told = summarize(learned("logistic", "binary", 500))
    assert set(told["weights"]) == {"a", "b", "c=x", "c=y", "c=z", INTERCEPT}
    assert max(told["weights"], key=lambda name: abs(told["weights"][name])) == "a"
    several = summarize(learned("logistic", "multiclass"))["weights"]
    assert {name.split(": ")[0] for name in several} == {"x", "y", "z"}


def test_only_the_largest_weights_of_many() -> None:
    model = learned("logistic", "binary", 1)
    last: Any = model.estimator.steps[list(model.estimator.steps)[-1]]
    last._weights = dict(zip(map(str, range(1000)), map(float, range(1000)), strict=True))
    last.__class__ = type("Linear", (linear_model.LogisticRegression,), {"weights": property(lambda self: self._weights)})
    told = summarize(model)
    assert (len(told["weights"]), told["weights_in_all"]) == (MAX_WEIGHTS, 1001)
    assert min(told["weights"].values()) == 1000 - MAX_WEIGHTS


class Odd:
    """A pipeline's last step that holds something else under the names that are looked at."""

    n_models = 3

    def __iter__(self) -> Any:
        raise RuntimeError("not that kind of thing")


def test_what_cannot_be_told_is_left_out() -> None:
    model = learned("logistic", "binary")
    model.estimator = Odd()
    types = {"a": "number", "b": "number", "c": "string"}
    assert summarize(model) == {"estimator": "Odd", "features": 3, "numbers": 2, "strings": 1, "types": types}


def test_a_weight_that_is_not_finite_is_left_out() -> None:
    model = learned("logistic", "binary")
    model.estimator = type("Plain", (), {"weights": {"a": float("nan"), "b": 2.0}, "intercept": float("inf")})()
    assert summarize(model)["weights"] == {"b": 2.0}


def test_of_many_features_the_first_are_named() -> None:
    model = learned("logistic", "binary", 1)
    model.accept({f"f{n:04}": "string" for n in range(1000)})
    told = known_features(model)
    assert told["features"] == 1003
    assert list(told["types"]) == sorted(model.types)[:MAX_NAMES]
    assert summarize(model)["types"] == told["types"]
    model.accept({f"a{'x' * 900}{n}": "number" for n in range(100)})
    told = known_features(model)
    assert told["features"] == 1103
    assert sum(map(len, told["types"])) <= MAX_LETTERS < sum(map(len, list(model.types)[:MAX_NAMES])) + 900 * 100
