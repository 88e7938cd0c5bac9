"""A small network on arrays that learns whole lists: what was taken before all the other candidates.

Scaled features z go through layers of rectified units to h, and past them: v h + w z. What was taken is learned by the softmax
cross-entropy over all candidates (ListNet's loss: Cao et al. 2007, "Learning to rank: from pairwise approach to listwise
approach"). Steps are AdaGrad's, as river's `optim.AdaGrad` makes them. What slates earn only calibrates, see `Calibration`.
Learned row by row as well, the network would follow the few rows that were shown: it then ranks half as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ..errors import ModelError
from .linear import CLIP, EPSILON, AtOnce, Floats, Matrix, Scaler, SoftLog

HIDDEN: Final = (128, 48)
LEARNING_RATE: Final = 0.02
CALIBRATION_RATE: Final = 0.1
SKIP_RATE: Final = 0.1  # of the weights w, which have the scaled features for their inputs
MAX_LAYERS: Final = 3
MAX_UNITS: Final = 1024
STEEPEST: Final = 1e3  # a slope beyond it counts as this; usual ones are below 10
FLATTEST, SHARPEST = 0.01, 10.0  # the bounds of the calibration's slope, so that it keeps the order
SLOWEST: Final = 0.01  # its mean and variance follow by this share at least
LARGEST: Final = 1e2  # no weight grows beyond it; usual ones are below 3. With STEEPEST it keeps float32 from overflowing


class Calibration:
    """What an end e of the network says of the expected share of the largest reward: its logit is a (e - mean) / deviation + b.

    Platt's scaling (1999, "Probabilistic outputs for support vector machines") learned online, over moving means, since ends
    spread the more, the surer the network is.
    """

    def __init__(self) -> None:
        self.count, self.mean, self.var = 0, 0.0, 0.0
        self.slope, self.intercept = 1.0, 0.0
        self.squares = np.zeros(2)  # of their gradients: AdaGrad's

    def learn(self, end: float, y: float, w: float, loss: SoftLog) -> None:
        """What had this end earned y in [0, 1]."""
        self.count += 1
        pace, apart = max(1.0 / self.count, SLOWEST), end - self.mean
        self.mean += pace * apart
        self.var = (1.0 - pace) * (self.var + pace * apart * apart)
        z = min(max((end - self.mean) / self._deviation(), -CLIP), CLIP)
        off = w * float(loss.gradient(y, self.slope * z + self.intercept))
        gradient = np.array([off * z, off])
        self.squares += np.square(gradient)
        slope, intercept = CALIBRATION_RATE / np.sqrt(self.squares + EPSILON) * gradient
        self.slope = min(max(self.slope - float(slope), FLATTEST), SHARPEST)
        self.intercept -= float(intercept)

    def line(self) -> tuple[float, float]:
        """The slope, above 0, and the intercept that make a logit of an end."""
        slope = self.slope / self._deviation()
        return slope, self.intercept - slope * self.mean

    def learned(self) -> tuple[Any, ...]:
        """All values that learning changes, for a fingerprint."""
        return self.count, self.mean, self.var, self.slope, self.intercept, self.squares

    def _deviation(self) -> float:
        return math.sqrt(self.var) if self.var > 0 else 1.0


class Network(Scaler):
    """A ranker of `size` features; its weights begin by the seed.

    `hidden`: the units of each layer; `l2` is of all weights. Raises ModelError for what cannot be.
    """

    def __init__(
        self,
        size: int,
        seed: int = 0,
        at_once: bool = False,
        hidden: Sequence[int] = HIDDEN,
        learning_rate: float = LEARNING_RATE,
        l2: float = 0.0,
    ) -> None:
        super().__init__(size)
        self.hidden, self.learning_rate, self.l2 = _checked(hidden, learning_rate, l2)
        self.loss = AtOnce() if at_once else SoftLog()
        self.calibration = Calibration()
        sizes = (size, *self.hidden)
        count = sum((above + 1) * below for above, below in pairwise(sizes)) + sizes[-1] + size
        self.values = np.zeros(count, np.float32)
        self.squares = np.zeros(count, np.float32)
        self._look()
        random = np.random.default_rng(seed)
        for weights, _ in self._layers:
            weights[:] = random.normal(0.0, 1.0 / math.sqrt(len(weights)), weights.shape)

    def learn(self, f: Matrix, y: float, w: float = 1.0) -> None:
        """One row f [size], its target y in [0, 1] and its weight."""
        self.see(f[None, :])
        outputs = self._through(f[None, :])
        slope, intercept = self.calibration.line()
        off = w * float(self.loss.gradient(y, slope * float(self._ends(outputs)[0]) + intercept))
        self._step(outputs, np.array([slope * off], np.float32))

    def calibrate(self, f: Matrix, y: float, w: float = 1.0) -> None:
        """The same of a row that was shown: it moves the calibration alone, neither the network nor the scaler."""
        self.calibration.learn(float(self._ends(self._through(f[None, :]))[0]), y, w, self.loss)

    def prefer(self, f: Matrix, taken: int, w: float = 1.0) -> None:
        """One step on -log of the softmax of row `taken` among all rows of f [n, size]; the scaler has seen them before."""
        outputs = self._through(f)
        logits = self._ends(outputs)
        slopes = np.exp(logits - logits.max())
        slopes /= slopes.sum()
        slopes[taken] -= 1.0
        slopes *= np.float32(w)
        self._step(outputs, slopes)

    def logits(self, f: Matrix) -> Floats:
        """float64[n] for the rows of f [n, size]."""
        slope, intercept = self.calibration.line()
        return slope * self._ends(self._through(f)).astype(np.float64) + intercept

    def explained(self, f: Matrix) -> tuple[Floats, float]:
        """What each feature of the row f [size] adds to its logit, float64[size], and the rest, which no feature adds.

        Where its units stay on, or off, the network is linear: scaled value times the weights along the paths that are on. The
        rest is what the biases add along these, and the intercept.
        """
        outputs = self._through(f[None, :])
        back, rest = self._last.astype(np.float64), 0.0
        for (weights, biases), output in zip(reversed(self._layers), reversed(outputs), strict=False):
            back = back * (output[0] > 0)
            rest += float(back @ biases)
            back = weights @ back
        slope, intercept = self.calibration.line()
        return slope * (back + self._skip) * outputs[0][0], slope * rest + intercept

    def learned(self) -> tuple[Any, ...]:
        """All values that learning changes, for a fingerprint."""
        return self.mean, self.var, self.values, self.squares, self.seen, *self.calibration.learned()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._look()

    def _look(self) -> None:
        """Views of the weights and of their gradient by layer; v and w stand at the end of `values`."""
        _one_thread()
        self._gradient = np.empty_like(self.values)
        self._layers, self._last, self._skip = self._views(self.values)
        self._slopes = self._views(self._gradient)
        self._rates = np.full(len(self.values), self.learning_rate, np.float32)
        self._rates[len(self.values) - len(self.mean) :] = SKIP_RATE

    def _views(self, flat: Matrix) -> tuple[list[tuple[Matrix, Matrix]], Matrix, Matrix]:
        layers, at = [], 0
        for above, below in pairwise((len(self.mean), *self.hidden)):
            end = at + above * below
            layers.append((flat[at:end].reshape(above, below), flat[end : end + below]))
            at = end + below
        return layers, flat[at : at + self.hidden[-1]], flat[at + self.hidden[-1] :]

    def _through(self, f: Matrix) -> list[Matrix]:
        """The scaled rows of f, and what each layer makes of them."""
        outputs = [self.scaled(f).astype(np.float32)]
        for weights, biases in self._layers:
            output = outputs[-1] @ weights
            output += biases
            outputs.append(np.maximum(output, np.float32(0.0), out=output))
        return outputs

    def _ends(self, outputs: Sequence[Matrix]) -> Matrix:
        """The logits without the intercept, float32[n]."""
        return outputs[-1] @ self._last + outputs[0] @ self._skip

    def _step(self, outputs: Sequence[Matrix], slopes: NDArray[np.float32]) -> None:
        """A step of AdaGrad by the loss's slopes in the logits, float32[n]."""
        layers, last, skip = self._slopes
        np.matmul(slopes, outputs[-1], out=last)
        np.matmul(slopes, outputs[0], out=skip)
        back = slopes[:, None] * self._last
        for at in reversed(range(len(layers))):
            back *= outputs[at + 1] > 0
            np.matmul(outputs[at].T, back, out=layers[at][0])
            np.sum(back, axis=0, out=layers[at][1])
            if at:
                back = back @ self._layers[at][0].T
        gradient = self._gradient
        if self.l2:
            gradient += np.float32(self.l2) * self.values
        np.clip(gradient, -STEEPEST, STEEPEST, out=gradient)
        self.squares += np.square(gradient)
        gradient *= self._rates
        gradient /= np.sqrt(self.squares + np.float32(EPSILON))
        self.values -= gradient
        np.clip(self.values, -LARGEST, LARGEST, out=self.values)


@cache
def _one_thread() -> None:
    """From now on BLAS keeps to one thread in this process: of matrices as small as these more threads make nothing faster, and
    on a busy machine three times slower; and sums come out the same on machines with more cores."""
    threadpool_limits(1, user_api="blas")


def _checked(hidden: Any, learning_rate: Any, l2: Any) -> tuple[tuple[int, ...], float, float]:
    """Raises ModelError."""
    if (
        not isinstance(hidden, Sequence)
        or isinstance(hidden, str)
        or not 1 <= len(hidden) <= MAX_LAYERS
        or not all(type(units) is int and 1 <= units <= MAX_UNITS for units in hidden)
    ):
        raise ModelError(
            f"params.hidden = {hidden!r} of the recipe 'mlp' is no list of 1 to {MAX_LAYERS} numbers of units, each from 1 to "
            f"{MAX_UNITS}; write one such as {list(HIDDEN)}"
        )
    for name, value, least in (("learning_rate", learning_rate, "above 0"), ("l2", l2, "from 0")):
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
        if not number or (name == "learning_rate" and not value):
            raise ModelError(f"params.{name} = {value!r} of the recipe 'mlp' is no number {least} to 1; write one such as 0.01")
    return tuple(hidden), float(learning_rate), float(l2)
