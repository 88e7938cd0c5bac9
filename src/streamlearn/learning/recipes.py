"""A recipe's name, or an import path, with a task and parameters → a river estimator that takes features as they come.

An error names what is wrong and what to write instead: it is read by whoever writes the configuration. No code comes from
anywhere but the recipes and what the operator has installed.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from river import base

from ..errors import ModelError
from ..importpath import call, find
from . import compact
from .batch import EXTRA, is_batch, wrap
from .catalogue import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe", "build"]

compact.install()


def build(pipeline: str, task: str, params: Mapping[str, Any], seed: int) -> base.Estimator:
    """The estimator of a recipe's name, or of `package.module:function` (called with `params`, and `seed` if it takes it).

    A scikit-learn class, or a function that returns such an estimator, is dressed as a river one, see `batch`; then `residual`
    among the params says whether it serves under an online model. Raises ModelError saying what is wrong and what to write
    instead.
    """
    if ":" in pipeline:
        return _import(pipeline, task, params, seed)
    recipe = RECIPES.get(pipeline)
    if recipe is None:
        close = difflib.get_close_matches(pipeline, RECIPES, n=3, cutoff=0.5)
        hint = f"did you mean {_or(close)}?" if close else f"write one of {', '.join(RECIPES)}."
        raise ModelError(f"there is no recipe {pipeline!r}; {hint} Your own pipeline is named package.module:function.")
    if task not in recipe.tasks:
        fitting = [name for name, other in RECIPES.items() if task in other.tasks]
        raise ModelError(
            f"the recipe {pipeline!r} is for {_or(sorted(recipe.tasks))}, not for {task}; write one of {', '.join(fitting)}"
        )
    try:
        return recipe.build(task, params, seed)
    except ModelError as error:
        raise ModelError(f"the recipe {pipeline!r}: {error}") from None


def _import(path: str, task: str, params: Mapping[str, Any], seed: int) -> base.Estimator:
    if path.partition(":")[0].partition(".")[0] == "sklearn" and importlib.util.find_spec("sklearn") is None:
        raise ModelError(f"{path}: {EXTRA}")
    function, given = find(path, "function"), dict(params)
    if is_batch(function):
        return wrap(path, function, task, given, seed, bool(given.pop("residual", False)))
    if not callable(function):
        raise ModelError(
            f"{path} is a {type(function).__name__}, not a function; name a function that returns a river estimator"
        )
    serving = None if _takes(function, "residual") else given.pop("residual", None)
    arguments = {**given, "seed": seed} if _takes(function, "seed") and "seed" not in given else given
    estimator = call(path, function, arguments)
    if is_batch(estimator) and not isinstance(estimator, type):
        return wrap(path, estimator, task, {}, seed, bool(serving))
    if serving is not None:
        raise ModelError(f"{path}: residual is for scikit-learn estimators; take it out of the params")
    _check_kind(path, task, estimator)
    return estimator  # type: ignore[no-any-return]  # _check_kind has seen to it


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _check_kind(path: str, task: str, estimator: Any) -> None:
    if isinstance(estimator, type) or not isinstance(estimator, base.Estimator):
        what = f"the class {estimator.__name__}" if isinstance(estimator, type) else f"a {type(estimator).__name__}"
        raise ModelError(f"{path} returned {what}, not a river estimator; return an instance, such as a pipeline")
    wanted = base.Regressor if task == "regression" else base.Classifier
    if not isinstance(estimator, wanted):
        raise ModelError(
            f"{path} returned a {_kind(estimator)}, but the task {task} needs a {wanted.__name__.lower()} as the last step"
        )
    if task == "multiclass" and not getattr(estimator, "_multiclass", False):
        raise ModelError(
            f"{path} returned a classifier of two classes, but the task is multiclass; "
            "wrap it in river.multiclass.OneVsRestClassifier"
        )


def _kind(estimator: Any) -> str:
    last = getattr(estimator, "_last_step", estimator)
    for kind in (base.Classifier, base.Regressor, base.Transformer):
        if isinstance(estimator, kind):
            return f"{kind.__name__.lower()} ({type(last).__name__})"
    return type(last).__name__


def _or(names: list[str]) -> str:
    return " or ".join(names)
