"""The second stage: which of the candidates first, learned from what was taken and from what was shown.

The recipes are a small network ("mlp") and a scaled logistic regression ("logistic"), each on arrays, for a whole matrix of
candidates at once. Any river classifier can take their place, row by row.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from river import base

from ..errors import ModelError
from ..importpath import call, find
from .linear import Floats, Linear, Matrix, sigmoid
from .network import Network

DEFAULT: Final = "mlp"
RECIPES: Final = {"mlp": "hidden, learning_rate or l2", "logistic": "learning_rate or l2"}  # and their params
FARTHEST: Final = 1e-7  # a classifier's probability of 0 or 1 is taken for one this far from it


class Ranker:
    """Scores rows of features by their names.

    `pipeline` is "mlp" (`params`: hidden, learning_rate, l2), "logistic" (learning_rate, l2) or package.module:function, which
    gives a river classifier and is called with the params, and `seed` if it takes it. `at_once` says that impressions are
    learned when they are shown; only the two recipes can. `recipe` is the recipe as it learned so far, None of a classifier.
    Raises ModelError.
    """

    def __init__(
        self,
        names: Sequence[str],
        pipeline: str = DEFAULT,
        seed: int = 0,
        at_once: bool = False,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.recipe: Linear | Network | None = None
        self.classifier: Any = None
        given = dict(params or {})
        if pipeline in RECIPES:
            self.recipe = _recipe(pipeline, len(self.names), seed, at_once, given)
        elif at_once:
            raise ModelError(f'{pipeline}: labels = "at_once" needs the pipeline "mlp" or "logistic"; or write labels = "wait"')
        elif ":" not in pipeline:
            raise ModelError(
                f"there is no recipe {pipeline!r} for recommend; write mlp or logistic, or package.module:function that "
                "returns a river binary classifier"
            )
        else:
            self.classifier = _imported(pipeline, given, seed)
            self._weighs = _takes_weight(self.classifier)

    @property
    def listwise(self) -> bool:
        """Whether `prefer` compares with all the other candidates, so that none need be drawn.

        What slates earn then calibrates the scores and leaves the order alone, so what is taken from a slate is preferred, too.
        """
        return isinstance(self.recipe, Network)

    def shown(self, f: Matrix, y: float) -> None:
        """One row f [features] that was shown, with its reward y in [0, 1]."""
        if self.recipe is not None:
            self.recipe.calibrate(f, y)
        else:
            self.learn(f, y)

    def learn(self, f: Matrix, y: float, w: float = 1.0) -> None:
        """One row f [features], what it is worth, y in [0, 1], and its weight.

        A classifier that takes weights learns yes with the weight y and no with the rest, another one yes where y > 0.
        """
        if self.recipe is not None:
            self.recipe.learn(f, y, w)
            return
        x = dict(zip(self.names, f.tolist(), strict=True))
        if not self._weighs:
            self.classifier.learn_one(x, y > 0)
        elif 0 < y < 1:
            self.classifier.learn_one(x, True, w=w * y)
            self.classifier.learn_one(x, False, w=w * (1.0 - y))
        else:
            self.classifier.learn_one(x, y > 0, w=w)

    def prefer(self, f: Matrix, better: int, worse: Sequence[int], w: float = 1.0) -> None:
        """Row `better` of the candidates f [n, features] was taken; the rows `worse` were not.

        `worse`: one at least; not looked at by a ranker that is `listwise`.
        """
        if self.recipe is not None:
            self.recipe.see(f)
            if isinstance(self.recipe, Network):
                self.recipe.prefer(f, better, w)
            else:
                self.recipe.prefer(f[better], f[list(worse)], w)
            return
        self.learn(f[better], 1.0, w)
        for row in worse:
            self.learn(f[row], 0.0, w)

    def logits(self, f: Matrix) -> Floats:
        """What to rank by, float64[n] for the rows of f [n, features]."""
        if self.recipe is not None:
            return self.recipe.logits(f)
        chances = [
            self.classifier.predict_proba_one(dict(zip(self.names, row, strict=True))).get(True, 0.0) for row in f.tolist()
        ]
        return np.array([_logit(chance) for chance in chances])

    def score(self, f: Matrix) -> Matrix:
        """The probability (expected share of the largest reward) of each row of f [n, features], float32[n]."""
        return np.asarray(sigmoid(self.logits(f)), dtype=np.float32)

    def contributions(self, f: Matrix) -> list[tuple[str, float]]:
        """What each feature of the row f [features] adds to its logit, the largest first; zeros are left out.

        For a recipe see its `explained`; for a classifier what the logit loses when the feature is taken as 0.
        """
        if self.recipe is not None:
            parts, _ = self.recipe.explained(f)
        else:
            without = np.repeat(f[None, :], len(f) + 1, axis=0)
            np.fill_diagonal(without, 0.0)
            values = self.logits(without)
            parts = values[-1] - values[:-1]
        order = np.argsort(-np.abs(parts), kind="stable")
        return [(self.names[at], float(parts[at])) for at in order if parts[at] != 0.0]

    def __fingerprint__(self) -> str:
        """SHA-256 over the values of a recipe, or over those of river's classifier by its pickle's own order."""
        total = hashlib.sha256("\0".join(self.names).encode())
        if self.recipe is not None:
            for value in self.recipe.learned():
                total.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        else:
            total.update(repr(_plain(self.classifier)).encode())
        return total.hexdigest()


def _recipe(pipeline: str, size: int, seed: int, at_once: bool, params: Mapping[str, Any]) -> Linear | Network:
    try:
        if pipeline == "mlp":
            return Network(size, seed, at_once, **params)
        return Linear(size, at_once=at_once, **params)
    except TypeError:
        raise ModelError(
            f"the recipe {pipeline!r} of a recommend model has no parameter {', '.join(sorted(params))}; write "
            f"{RECIPES[pipeline]}, or name package.module:function"
        ) from None


def _plain(value: Any, depth: int = 0) -> Any:
    """The values in an object, nested, in an order that does not depend on how it was filled."""
    if isinstance(value, (bool, int, float, str, bytes, type(None))) or depth > 40:
        return value
    if isinstance(value, random.Random):
        return hashlib.sha256(repr(value.getstate()).encode()).hexdigest()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping) or hasattr(value, "to_dict"):
        entries = value if isinstance(value, Mapping) else value.to_dict()
        return sorted((repr(key), repr(_plain(entry, depth + 1))) for key, entry in entries.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = [_plain(entry, depth + 1) for entry in value]
        return parts if isinstance(value, (list, tuple)) else sorted(map(repr, parts))
    return type(value).__qualname__, _plain(getattr(value, "__dict__", {}), depth + 1)


def _imported(path: str, params: Mapping[str, Any], seed: int) -> Any:
    function = find(path, "function")
    if not callable(function):
        raise ModelError(
            f"{path} is a {type(function).__name__}, not a function; name a function that returns a river classifier"
        )
    arguments = dict(params)
    if "seed" in inspect.signature(function).parameters:
        arguments.setdefault("seed", seed)
    classifier = call(path, function, arguments)
    if isinstance(classifier, type) or not isinstance(classifier, base.Classifier):
        raise ModelError(
            f"{path} returned a {type(classifier).__name__}, but a recommend model ranks by a river binary classifier; "
            "return one, such as StandardScaler() | LogisticRegression()"
        )
    return classifier


def _takes_weight(classifier: Any) -> bool:
    last = getattr(classifier, "_last_step", classifier)
    return "w" in inspect.signature(last.learn_one).parameters


def _logit(chance: float) -> float:
    chance = min(max(chance, FARTHEST), 1.0 - FARTHEST)
    return math.log(chance / (1.0 - chance))
