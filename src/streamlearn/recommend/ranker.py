"""The second stage: which of the candidates first, learned from what was taken and from what was shown.

The default is a scaled logistic regression with AdaGrad on arrays: the numbers of river's `StandardScaler |
LogisticRegression(AdaGrad)`, for a whole matrix of candidates at once. Any river classifier can take its place, row by row.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river import base, optim

from ..errors import ModelError
from ..importpath import call, find

DEFAULT: Final = "logistic"
LEARNING_RATE: Final = 0.03
INTERCEPT_RATE: Final = 0.02
CLIP: Final = 8.0  # deviations: one odd value must not ruin the weights
EPSILON: Final = 1e-8  # river's AdaGrad
FARTHEST: Final = 1e-7  # a classifier's probability of 0 or 1 is taken for one this far from it

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]


class SoftLog(optim.losses.BinaryLoss):
    """Logarithmic loss with a target in [0, 1], such as a share of the largest reward; the gradient in the logit is p - y."""

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        return np.logaddexp(0.0, y_pred) - y_true * y_pred

    def gradient(self, y_true: Any, y_pred: Any) -> Any:
        return sigmoid(y_pred) - y_true


class AtOnce(SoftLog):
    """For impressions learned at once as untaken and again as taken when the click comes: loss on q = p / (1 + p).

    The gradient in the logit is (q - y)(1 - p) (the biased logit of Monolith's fast emit); p is what is served.
    """

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        q = 1.0 / (2.0 + np.exp(-np.clip(y_pred, -500.0, 500.0)))
        return -(y_true * np.log(q) + (1.0 - y_true) * np.log1p(-q))

    def gradient(self, y_true: Any, y_pred: Any) -> Any:
        p = sigmoid(y_pred)
        return (p / (1.0 + p) - y_true) * (1.0 - p)


def sigmoid(z: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-np.clip(z, -500.0, 500.0)))


class Linear:
    """StandardScaler | LogisticRegression(AdaGrad(learning_rate)) on arrays; scaled values are clipped at `CLIP` deviations."""

    def __init__(self, size: int, learning_rate: float = LEARNING_RATE, l2: float = 0.0, at_once: bool = False) -> None:
        self.learning_rate, self.l2 = learning_rate, l2
        self.loss = AtOnce() if at_once else SoftLog()
        self.seen = 0
        self.mean, self.var = np.zeros(size), np.zeros(size)
        self.weights, self.squares = np.zeros(size), np.zeros(size)
        self.intercept = 0.0

    def scaled(self, f: Matrix) -> Floats:
        """(f - mean) / deviation, float64 of f's shape; 0 where nothing has varied yet."""
        deviation = np.sqrt(self.var)
        return np.clip((f - self.mean) / np.where(deviation > 0, deviation, np.inf), -CLIP, CLIP)

    def see(self, f: Matrix) -> None:
        """Lets the scaler learn the rows of f [n, size] (n >= 1), as river's `learn_many` does."""
        rows = f.astype(np.float64)
        mean = rows.mean(axis=0)
        var = np.square(rows - mean).mean(axis=0)
        new = len(rows) / (self.seen + len(rows))
        apart = mean - self.mean
        self.var += new * (var - self.var) + new * (1.0 - new) * np.square(apart)
        self.mean += new * apart
        self.seen += len(rows)

    def learn(self, f: Matrix, y: float, w: float = 1.0) -> None:
        """One row f [size], its target y in [0, 1] and its weight."""
        self.see(f[None, :])
        z = self.scaled(f)
        slope = w * float(self.loss.gradient(y, float(z @ self.weights) + self.intercept))
        self.intercept -= INTERCEPT_RATE * slope
        self._step(slope * z)

    def prefer(self, better: Matrix, worse: Matrix, w: float = 1.0) -> None:
        """One step on the mean over the rows of `worse` [n, size] (n >= 1) of the loss that `better` [size] is before it.

        It is logistic regression on the differences, without an intercept; the scaler has seen the rows before.
        """
        apart = self.scaled(better) - self.scaled(worse)
        slope = w * (sigmoid(apart @ self.weights) - 1.0)
        self._step(slope @ apart / len(apart))

    def _step(self, gradient: Floats) -> None:
        if self.l2:
            gradient = gradient + self.l2 * self.weights
        self.squares += np.square(gradient)
        self.weights -= self.learning_rate / np.sqrt(self.squares + EPSILON) * gradient

    def logits(self, f: Matrix) -> Floats:
        """float64[n] for the rows of f [n, size]."""
        deviation = np.sqrt(self.var)
        inverse = np.where(deviation > 0, 1.0 / np.where(deviation > 0, deviation, 1.0), 0.0)
        return np.clip((f - self.mean) * inverse, -CLIP, CLIP) @ self.weights + self.intercept


class Ranker:
    """Scores rows of features by their names.

    `pipeline` is "logistic" (`params`: learning_rate, l2) or package.module:function, which gives a river classifier and is
    called with the params, and `seed` if it takes it. `at_once` says that impressions are learned when they are shown; only
    "logistic" can. Raises ModelError.
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
        self.linear: Linear | None = None
        self.classifier: Any = None
        given = dict(params or {})
        if pipeline == DEFAULT:
            try:
                self.linear = Linear(len(self.names), at_once=at_once, **given)
            except TypeError:
                raise ModelError(
                    f"the recipe 'logistic' of a recommend model has no parameter {', '.join(sorted(given))}; "
                    "write learning_rate or l2, or name package.module:function"
                ) from None
        elif at_once:
            raise ModelError(f'{pipeline}: labels = "at_once" needs the pipeline \'logistic\'; write it, or labels = "wait"')
        elif ":" not in pipeline:
            raise ModelError(
                f"there is no recipe {pipeline!r} for recommend; write logistic, or package.module:function that returns a "
                "river binary classifier"
            )
        else:
            self.classifier = _imported(pipeline, given, seed)
            self._weighs = _takes_weight(self.classifier)

    def learn(self, f: Matrix, y: float, w: float = 1.0) -> None:
        """One row f [features] that was shown, with its reward y in [0, 1].

        A classifier that takes weights learns yes with the weight y and no with the rest, another one yes where y > 0.
        """
        if self.linear is not None:
            self.linear.learn(f, y, w)
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
        """Row `better` of the candidates f [n, features] was taken; the rows `worse` (one at least) were not."""
        if self.linear is not None:
            self.linear.see(f)
            self.linear.prefer(f[better], f[list(worse)], w)
            return
        self.learn(f[better], 1.0, w)
        for row in worse:
            self.learn(f[row], 0.0, w)

    def logits(self, f: Matrix) -> Floats:
        """What to rank by, float64[n] for the rows of f [n, features]."""
        if self.linear is not None:
            return self.linear.logits(f)
        chances = [
            self.classifier.predict_proba_one(dict(zip(self.names, row, strict=True))).get(True, 0.0) for row in f.tolist()
        ]
        return np.array([_logit(chance) for chance in chances])

    def score(self, f: Matrix) -> Matrix:
        """The probability (expected share of the largest reward) of each row of f [n, features], float32[n]."""
        return np.asarray(sigmoid(self.logits(f)), dtype=np.float32)

    def contributions(self, f: Matrix) -> list[tuple[str, float]]:
        """What each feature of the row f [features] adds to its logit, the largest first; zeros are left out.

        For a linear ranker weight times scaled value, for another one what the logit loses when the feature is taken as 0.
        """
        if self.linear is not None:
            parts = self.linear.weights * self.linear.scaled(f)
        else:
            without = np.repeat(f[None, :], len(f) + 1, axis=0)
            np.fill_diagonal(without, 0.0)
            values = self.logits(without)
            parts = values[-1] - values[:-1]
        order = np.argsort(-np.abs(parts), kind="stable")
        return [(self.names[at], float(parts[at])) for at in order if parts[at] != 0.0]

    def __fingerprint__(self) -> str:
        """SHA-256 over the values of the default ranker, or over those of river's classifier by its pickle's own order."""
        total = hashlib.sha256("\0".join(self.names).encode())
        if self.linear is not None:
            for values in (self.linear.mean, self.linear.var, self.linear.weights, self.linear.squares):
                total.update(values.tobytes())
            total.update(repr((self.linear.seen, self.linear.intercept)).encode())
        else:
            total.update(repr(_plain(self.classifier)).encode())
        return total.hexdigest()


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
