"""Scaled logistic regression on arrays: the numbers of river's `StandardScaler | LogisticRegression(AdaGrad)`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river import optim

LEARNING_RATE: Final = 0.03
INTERCEPT_RATE: Final = 0.02
CLIP: Final = 8.0  # deviations: one odd value must not ruin the weights
EPSILON: Final = 1e-8  # river's AdaGrad

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


class Scaler:
    """river's `StandardScaler` for `size` features, on arrays; scaled values are clipped at `CLIP` deviations."""

    def __init__(self, size: int) -> None:
        self.seen = 0
        self.mean, self.var = np.zeros(size), np.zeros(size)

    def scaled(self, f: Matrix) -> Floats:
        """(f - mean) / deviation, float64 of f's shape; 0 where nothing has varied yet."""
        deviation = np.sqrt(self.var)
        z: Floats = f - self.mean
        z *= np.where(deviation > 0, 1.0 / np.where(deviation > 0, deviation, 1.0), 0.0)
        return np.clip(z, -CLIP, CLIP, out=z)

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


class Linear(Scaler):
    """StandardScaler | LogisticRegression(AdaGrad(learning_rate)) on arrays."""

    def __init__(self, size: int, learning_rate: float = LEARNING_RATE, l2: float = 0.0, at_once: bool = False) -> None:
        super().__init__(size)
        self.learning_rate, self.l2 = learning_rate, l2
        self.loss = AtOnce() if at_once else SoftLog()
        self.weights, self.squares = np.zeros(size), np.zeros(size)
        self.intercept = 0.0

    def learn(self, f: Matrix, y: float, w: float = 1.0) -> None:
        """One row f [size], its target y in [0, 1] and its weight."""
        self.see(f[None, :])
        z = self.scaled(f)
        slope = w * float(self.loss.gradient(y, float(z @ self.weights) + self.intercept))
        self.intercept -= INTERCEPT_RATE * slope
        self._step(slope * z)

    def calibrate(self, f: Matrix, y: float, w: float = 1.0) -> None:
        """The same of a row that was shown."""
        self.learn(f, y, w)

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
        return self.scaled(f) @ self.weights + self.intercept

    def explained(self, f: Matrix) -> tuple[Floats, float]:
        """What each feature of the row f [size] adds to its logit, float64[size], and the rest, which no feature adds."""
        return self.weights * self.scaled(f), self.intercept

    def learned(self) -> tuple[Any, ...]:
        """All values that learning changes, for a fingerprint."""
        return self.mean, self.var, self.weights, self.squares, self.seen, self.intercept
