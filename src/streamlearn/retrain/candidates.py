"""What a search compares: the candidates of the configuration, or a list by task; always what serves, and what the file names.

Pure, and without river or scikit-learn: control makes the list.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from ..config import ModelSettings
from ..lineage import Recipe, recipe_of

SERVING: Final = "residual"  # the param that says how a batch estimator serves: a search's answer, not its question
_HIST: Final = "sklearn.ensemble:HistGradientBoosting"
_RATES: Final[tuple[dict[str, Any], ...]] = ({}, {"learning_rate": 0.003}, {"learning_rate": 0.03}, {"learning_rate": 0.1})
_TREES: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("hoeffding_tree", {"grace_period": 50}),
    ("hoeffding_tree", {"grace_period": 200}),
    ("hoeffding_tree", {"grace_period": 200, "max_depth": 6}),
    ("hoeffding_adaptive_tree", {"grace_period": 50}),
    ("hoeffding_adaptive_tree", {"grace_period": 200}),
)
_BOOSTING: Final[tuple[dict[str, Any], ...]] = (
    {"max_iter": 50},
    {"max_iter": 100, "learning_rate": 0.05, "max_leaf_nodes": 15},
    {"max_iter": 100, "learning_rate": 0.1, "l2_regularization": 1.0},
)


class Candidate(msgspec.Struct, frozen=True):
    """A recipe to be tried, and a short name for it."""

    name: str
    pipeline: str
    params: dict[str, Any]
    seed: int

    @property
    def recipe(self) -> Recipe:
        """What makes its estimator."""
        return {"pipeline": self.pipeline, "params": self.params, "seed": self.seed}


def candidates(settings: ModelSettings, champion: Recipe | None = None, boosting: bool | None = None) -> list[Candidate]:
    """The candidates, each once: the champion's recipe, the file's, then those of `retrain.search.candidates`.

    "auto": linear models with a few learning rates, Hoeffding trees, naive Bayes for classes, and gradient boosting where
    scikit-learn is there, or as `boosting` says.
    """
    given = settings.retrain.search.candidates
    if given == "auto":
        if boosting is None:
            boosting = importlib.util.find_spec("sklearn") is not None
        more = list(_auto(settings.task, boosting))
    else:
        more = [(one.pipeline, dict(one.params)) for one in given]
    first = [{**recipe_of(settings), **(champion or {})}, recipe_of(settings)]
    found: list[Candidate] = []
    for pipeline, params, seed in [
        *((recipe["pipeline"], _asked(recipe["params"]), recipe["seed"]) for recipe in first),
        *((pipeline, _asked(params), settings.seed) for pipeline, params in more),
    ]:
        if not any((one.pipeline, one.params, one.seed) == (pipeline, params, seed) for one in found):
            found.append(Candidate(_name(pipeline, params), pipeline, params, seed))
    return found


def _auto(task: str, boosting: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    linear = {"binary": "logistic", "multiclass": "softmax", "regression": "linear"}[task]
    yield from ((linear, params) for params in _RATES)
    yield from _TREES
    if task != "regression":
        yield "naive_bayes", {}
    if boosting:
        kind = "Regressor" if task == "regression" else "Classifier"
        yield from ((_HIST + kind, params) for params in _BOOSTING)


def _asked(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != SERVING}


def _name(pipeline: str, params: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name}={value}" for name, value in params.items())
    return pipeline.rpartition(":")[2] + (f"({told})" if told else "")
