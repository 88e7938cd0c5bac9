"""What a model says of itself in a few numbers, for people who compare two versions: features, sizes of trees, weights.

A fit writes it into the header of the version's blob, so that nobody unpickles a model to look at it. It must never change the
model, and must never fail: pipelines are the user's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, Final

from ..lineage import known
from ..recommend.linear import Linear
from .batch import Batch
from .model import NUMBER
from .recommending import AnyModel, RecommendModel

MAX_WEIGHTS: Final = 300
INTERCEPT: Final = "(intercept)"
_INNER: Final = ("regressor", "classifier")  # what an estimator around another one calls it
_ADDED: Final = ("n_nodes", "n_leaves")


def summarize(model: AnyModel) -> dict[str, Any]:
    """JSON-able: `estimator` (the last step's class), `features` seen with `numbers` and `strings`, their `types` ("number" or
    "string") by name, see `lineage.known`, `members` of an ensemble, `nodes`, `leaves` and `height` of trees, and the
    `weights` of linear models by name, the MAX_WEIGHTS largest of `weights_in_all`. Of a batch estimator its own class, how it
    `serves` ("frozen" or "residual"), and that it was `fitted_to` so many of the `gathered` events; the weights are those of
    the online model on top. Of a recommender the `users` and `items` it knows, and the weights of a "logistic" ranking. What
    does not apply is left out."""
    if isinstance(model, RecommendModel):
        return _recommender(model)
    kinds = list(model.types.values())
    told: dict[str, Any] = {
        "estimator": type(_last(model.estimator)).__name__, "features": len(kinds), "numbers": kinds.count(NUMBER),
        "strings": len(kinds) - kinds.count(NUMBER), **known_features(model),
    }  # fmt: skip
    estimator = model.estimator
    if isinstance(estimator, Batch):
        told |= {
            "estimator": type(estimator.estimator).__name__, "serves": "residual" if estimator.residual else "frozen",
            "fitted_to": estimator.events, "gathered": estimator.of,
        }  # fmt: skip
        estimator = _on_top(estimator)
    try:
        told |= _sizes(estimator)
        weights = dict(_weights(estimator, ""))
    except Exception:  # an estimator of the user's own may keep anything under these names
        return told
    return told | _largest(weights)


def _recommender(model: RecommendModel) -> dict[str, Any]:
    ranking = model.estimator.ranker.recipe
    named: dict[str, float] = {}
    if isinstance(ranking, Linear):
        named = dict(zip(model.estimator.feature_names, ranking.weights.tolist(), strict=True))
    counts = model.counts()
    return {
        "estimator": type(model.estimator).__name__, "features": len(model.estimator.feature_names),
        "users": counts["users"], "items": counts["items"], **_largest(named),
    }  # fmt: skip


def _largest(weights: Mapping[str, float]) -> dict[str, Any]:
    if not weights:
        return {}
    largest = sorted(weights, key=lambda name: (-abs(weights[name]), name))[:MAX_WEIGHTS]
    return {"weights": {name: weights[name] for name in sorted(largest)}, "weights_in_all": len(weights)}


def _on_top(estimator: Batch) -> Any:
    """The online model that stands on a fitted estimator, None where none does."""
    top = estimator.top if estimator.residual else None
    return top[1] if isinstance(top, tuple) else top


def known_features(model: AnyModel) -> dict[str, Any]:
    """How many `features` it has seen, and the `types` of the first of them by name; see `lineage.known`."""
    return known(model.types)


def _last(estimator: Any) -> Any:
    """The model behind the steps and the wrappers around it."""
    while True:
        steps = getattr(estimator, "steps", None)
        inner = list(steps.values())[-1:] if isinstance(steps, dict) else _inner(estimator)
        if not inner:
            return estimator
        estimator = inner[0]


def _inner(estimator: Any) -> list[Any]:
    classifiers = getattr(estimator, "classifiers", None)
    if isinstance(classifiers, dict):
        return []  # one against the rest: several models
    return [found for name in _INNER if (found := getattr(estimator, name, None)) is not None]


def _sizes(estimator: Any) -> dict[str, int]:
    last = _last(estimator)
    members = list(last) if hasattr(last, "n_models") and hasattr(last, "__iter__") else []
    trees = [_last(getattr(member, "model", member)) for member in members] or [last]
    sizes = {} if not members else {"members": len(members)}
    for name in _ADDED:
        found = [value for tree in trees if isinstance(value := getattr(tree, name, None), int)]
        if found:
            sizes[name.removeprefix("n_")] = sum(found)
    heights = [value for tree in trees if isinstance(value := getattr(tree, "height", None), int)]
    return sizes | ({"height": max(heights)} if heights else {})


def _weights(estimator: Any, prefix: str) -> Iterator[tuple[str, float]]:
    last = _last(estimator)
    several = getattr(last, "classifiers", None)
    if isinstance(several, dict):
        for label in sorted(several, key=str):
            yield from _weights(several[label], f"{prefix}{label}: ")
        return
    weights = getattr(last, "weights", getattr(last, "w", None))  # ALMA calls them w
    if not isinstance(weights, Mapping):
        return
    for name, value in weights.items():
        if isinstance(value, Mapping):  # softmax: weights by class
            yield from ((f"{prefix}{name}: {inner}", float(weight)) for inner, weight in value.items() if isfinite(weight))
        elif isfinite(value):
            yield f"{prefix}{name}", float(value)
    intercept = getattr(last, "intercept", None)
    if isinstance(intercept, (int, float)) and isfinite(intercept):
        yield prefix + INTERCEPT, float(intercept)
