"""The recipes: for each name its tasks, its parameters with their bounds, and how river's estimators are put together.

Every recipe is a `Prepare` before an estimator of river's own, used as it is. Whatever draws at random is handed the seed,
and nothing may depend on the order of a set of strings: an estimator is a function of what it learned, in any process.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Final

from river import base, compose, ensemble, forest, linear_model, multiclass, neighbors, optim, tree

from ..errors import ModelError
from .adapters import BoundedNorm, ClassNumbers, MixedNaiveBayes, ScaledTarget
from .prepare import Codes, OneHot, Prepare, Strings

ALL: Final = frozenset({"binary", "multiclass", "regression"})
CLASSES: Final = frozenset({"binary", "multiclass"})

# river's trees estimate their size in bytes now and then, and prune by it; the estimate differs between a process that grew
# the tree and one that unpickled it, so it is never taken, and the depth is what bounds a tree.
_NEVER: Final = 2**62


@dataclass(frozen=True, slots=True)
class Param:
    """A recipe's parameter: its default, whose type it must have, and the least and largest value it may take."""

    default: float | int
    least: float
    most: float = inf


@dataclass(frozen=True, slots=True)
class Recipe:
    """`build(task, params, seed)` makes a fresh estimator from every parameter of `params`, checked and complete."""

    tasks: frozenset[str]
    summary: str
    params: Mapping[str, Param]
    make: Callable[[str, dict[str, Any], int], base.Estimator]

    def build(self, task: str, params: Mapping[str, Any], seed: int) -> base.Estimator:
        """Raises ModelError for a parameter that is unknown, of another type or out of its bounds."""
        allowed = {**_PREPARE, **self.params}
        for name, value in params.items():
            _check_param(name, value, allowed)
        return self.make(task, {**{name: param.default for name, param in allowed.items()}, **params}, seed)


def _check_param(name: str, value: Any, allowed: Mapping[str, Param]) -> None:
    param = allowed.get(name)
    if param is None:
        close = difflib.get_close_matches(name, allowed, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise ModelError(f"there is no parameter {name!r}{hint} It takes {', '.join(sorted(allowed))}.")
    whole = type(param.default) is int
    fits = type(value) is int or (not whole and type(value) is float and isfinite(value))
    if not fits or not param.least <= value <= param.most:
        kind = "a whole number" if whole else "a number"
        bounds = f"of at least {param.least:g}" if param.most == inf else f"from {param.least:g} to {param.most:g}"
        raise ModelError(f"{name} is {value!r}; write {kind} {bounds} (the default is {param.default})")


_UNTYPED: Final[Any] = linear_model  # the part of it that river has not annotated

_PREPARE: Final = {
    "clip": Param(8.0, 1.0),
    "max_categories": Param(1000, 1),
    "max_features": Param(10_000, 1),
}
_TREE: Final = {"grace_period": Param(200, 1), "delta": Param(1e-7, 1e-15, 1.0), "max_depth": Param(12, 1, 40)}
_FOREST: Final = {**_TREE, "grace_period": Param(50, 1), "delta": Param(0.01, 1e-15, 1.0), "n_models": Param(10, 1, 1000)}


def _after(prepare: type[Prepare], params: dict[str, Any], *steps: base.Estimator) -> base.Estimator:
    return compose.Pipeline(prepare(**_chosen(params, *_PREPARE)), *steps)


def _chosen(params: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: params[name] for name in names}


def _linear(task: str, params: dict[str, Any], classifier: base.Classifier) -> base.Estimator:
    last = classifier if task == "binary" else multiclass.OneVsRestClassifier(classifier)
    return _after(OneHot, params, last)


def _logistic(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    rate = params["learning_rate"]
    return _linear(
        task, params, linear_model.LogisticRegression(optim.SGD(rate), l2=params["l2"], intercept_lr=params["intercept_lr"])
    )


def _softmax(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    return _after(OneHot, params, linear_model.SoftmaxRegression(optim.SGD(params["learning_rate"]), l2=params["l2"]))


def _linear_regression(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    rate = params["learning_rate"]
    regressor = linear_model.LinearRegression(optim.SGD(rate), l2=params["l2"], intercept_lr=params["intercept_lr"])
    return _after(OneHot, params, BoundedNorm(0.5 / rate), ScaledTarget(regressor, params["clip"]))


def _passive_aggressive(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    if task == "regression":
        regressor = _UNTYPED.PARegressor(C=params["C"], mode=1, eps=params["eps"])
        return _after(OneHot, params, ScaledTarget(regressor, params["clip"]))
    return _linear(task, params, _UNTYPED.PAClassifier(C=params["C"], mode=1))


def _alma(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    return _linear(task, params, _UNTYPED.ALMAClassifier(alpha=params["alpha"]))


def _naive_bayes(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    return _after(Strings, params, MixedNaiveBayes(params["alpha"]))


def _trees(task: str, params: dict[str, Any], classifier: type, regressor: type, chosen: dict[str, Any]) -> base.Estimator:
    """`Codes` before a classifier, its classes numbered when they are not just two, or before a regressor."""
    if task == "regression":
        return _after(Codes, params, ScaledTarget(regressor(**chosen), params["clip"]))
    last = classifier(**chosen)
    return _after(Codes, params, last if task == "binary" else ClassNumbers(last))


def _hoeffding_tree(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    chosen = {**_chosen(params, *_TREE), "memory_estimate_period": _NEVER}
    return _trees(task, params, tree.HoeffdingTreeClassifier, tree.HoeffdingTreeRegressor, chosen)


def _hoeffding_adaptive_tree(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    chosen = {**_chosen(params, *_TREE), "memory_estimate_period": _NEVER, "seed": seed}
    return _trees(task, params, tree.HoeffdingAdaptiveTreeClassifier, tree.HoeffdingAdaptiveTreeRegressor, chosen)


def _adaptive_random_forest(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    names = (*_FOREST, "lambda_value")
    chosen = {**_chosen(params, *names), "memory_estimate_period": _NEVER, "seed": seed}
    return _trees(task, params, forest.ARFClassifier, forest.ARFRegressor, chosen)


def _streaming_random_patches(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    kind = tree.HoeffdingTreeRegressor if task == "regression" else tree.HoeffdingTreeClassifier
    chosen = {
        "model": kind(**_chosen(params, *_TREE), memory_estimate_period=_NEVER),
        "n_models": params["n_models"],
        "subspace_size": params["subspace"],
        "lam": params["lambda_value"],
        "seed": seed,
    }
    return _trees(task, params, ensemble.SRPClassifier, ensemble.SRPRegressor, chosen)


def _leveraging_bagging(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    member = tree.HoeffdingTreeClassifier(**_chosen(params, *_TREE), memory_estimate_period=_NEVER)
    bagging = ensemble.LeveragingBaggingClassifier(
        member, n_models=params["n_models"], w=params["lambda_value"], adwin_delta=params["adwin_delta"], seed=seed
    )
    return _after(Codes, params, bagging if task == "binary" else ClassNumbers(bagging))


def _neighbours(task: str, params: dict[str, Any], seed: int) -> base.Estimator:
    engine = neighbors.LazySearch(window_size=params["window"])
    if task == "regression":
        last: base.Estimator = ScaledTarget(neighbors.KNNRegressor(params["neighbours"], engine), params["clip"])
    else:
        classifier = neighbors.KNNClassifier(params["neighbours"], engine)
        last = classifier if task == "binary" else ClassNumbers(classifier)
    return _after(OneHot, params, last)


_SGD: Final = {"learning_rate": Param(0.01, 1e-9, 10.0), "l2": Param(0.0, 0.0, 1.0)}
_INTERCEPT: Final = {"intercept_lr": Param(0.01, 0.0, 10.0)}

RECIPES: Final[Mapping[str, Recipe]] = {
    "logistic": Recipe(
        CLASSES, "logistic regression by stochastic gradient; one against the rest", {**_SGD, **_INTERCEPT}, _logistic
    ),
    "softmax": Recipe(frozenset({"multiclass"}), "softmax regression by stochastic gradient", _SGD, _softmax),
    "linear": Recipe(
        frozenset({"regression"}), "least squares by stochastic gradient", {**_SGD, **_INTERCEPT}, _linear_regression
    ),
    "passive_aggressive": Recipe(
        ALL, "passive-aggressive: just as far as the last error asks", {"C": Param(0.01, 1e-9), "eps": Param(0.1, 0.0)},
        _passive_aggressive,
    ),
    "alma": Recipe(CLASSES, "approximate large margin", {"alpha": Param(0.9, 1e-6, 1.0)}, _alma),
    "naive_bayes": Recipe(
        CLASSES, "naive Bayes: Gaussian for numbers, multinomial for strings", {"alpha": Param(1.0, 1e-9)}, _naive_bayes
    ),
    "hoeffding_tree": Recipe(ALL, "one Hoeffding tree", _TREE, _hoeffding_tree),
    "hoeffding_adaptive_tree": Recipe(
        ALL, "a Hoeffding tree that replaces branches as they drift", _TREE, _hoeffding_adaptive_tree
    ),
    "adaptive_random_forest": Recipe(
        ALL, "trees on random features, each replaced as it drifts", {**_FOREST, "lambda_value": Param(6, 1)},
        _adaptive_random_forest,
    ),
    "streaming_random_patches": Recipe(
        ALL, "trees on random features and events, each replaced as it drifts",
        {**_FOREST, "lambda_value": Param(6, 1), "subspace": Param(0.6, 0.01, 1.0)}, _streaming_random_patches,
    ),
    "leveraging_bagging": Recipe(
        CLASSES, "bagged trees, the worst replaced on drift",
        {**_TREE, "n_models": Param(10, 2, 1000), "lambda_value": Param(6, 1), "adwin_delta": Param(0.002, 1e-9, 1.0)},
        _leveraging_bagging,
    ),
    "nearest_neighbours": Recipe(
        ALL, "the nearest among the last events", {"neighbours": Param(5, 1), "window": Param(500, 1, 100_000)}, _neighbours
    ),
}
