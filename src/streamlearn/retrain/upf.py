"""Retrains by forecast (UPF): how the loss of this model will go on, against that of one made now, both with their doubt.

Regol et al., "When to retrain a machine learning model", ICML 2025, arXiv 2505.14903: minimise κ·#retrains + the losses, by a
forecast of the loss of each model at each later time. What is forecast from what, by which regression and which distribution,
comes from secondary sources, which also name a rule on quantiles; the rule as it stands here comes from memory. None of it was
checked against the paper. Of this project are: times by the clock, since a policy is not told how many batches there ever were;
the measure of the shift; that the shift of the model stays as it is, and that of a new one is 0; and H, chosen on the past.

It is of use only where its past holds drift: without, it forecasts no growth and never retrains.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from pydantic import Field, model_validator

from streamlearn.config_fields import Count, Positive, Share
from streamlearn.errors import ModelError

from .builtin import Builtin, Number, choice
from .cara import FAR, SAMPLE, Features, is_number
from .policy import Choice, Floats, Past, Seen
from .simulate import cheapest

Four = Annotated[tuple[Number, ...], Field(min_length=4, max_length=4)]
FITTED: Final = ("origin", "span", "step", "batch", "coefficients", "intercept", "means", "scales", "variance")
LEAST: Final = 6  # batches of a past that may be fitted
EDGE: Final = 1e-3  # a forecast stays so far within (0, 1)
SURE: Final = 1e6  # k at most
FARTHEST: Final = 64  # batches ahead, of those that are tried


class Upf(Builtin):
    """Retrain iff κ + Σ_{h=1..H} n·Q_q(trained now, h) < Σ_{h=1..H} n·Q_q(kept, h).

    The loss of the model made at time i at a later time j is forecast from r = (i/T, (j−i)/T, j/T, z): mean μ = `intercept` +
    `coefficients` · (r − `means`) / `scales`, distribution Beta(μk, (1−μ)k) with k = μ(1−μ)/`variance` − 1, and Q_q its
    `quantile`. T is `span` and times count from `origin`, both in seconds; z is `shift`. A batch takes `step` seconds and has
    n = `batch` labelled events; H is `ahead`, in batches. `growth` is told, and not used: what the forecast says that T of age
    cost a model in mean loss; 0 or less means that there was no drift to learn from. `streamlearn policy-bench` finds and
    prints all of them.
    """

    name: ClassVar[str] = "upf"
    evidence: ClassVar[bool] = True
    sample: ClassVar[int] = SAMPLE

    origin: Number
    span: Positive
    step: Positive
    batch: Positive
    coefficients: Four
    intercept: Number
    means: Four
    scales: Four
    variance: Annotated[float, Field(ge=0, strict=True)]
    ahead: Count = 10
    quantile: Share = 0.95
    growth: Number = 0.0

    @model_validator(mode="before")
    @classmethod
    def _is_fitted(cls, params: Any) -> Any:
        missing = [name for name in FITTED if name not in params]
        if missing:
            raise ValueError(
                f"{missing[0]}: upf needs the forecast that was fitted to a past, and lacks {', '.join(missing)}; "
                "run `streamlearn policy-bench` and copy the params that it prints"
            )
        return params

    @model_validator(mode="after")
    def _scales_are_some(self) -> Upf:
        if min(self.scales) <= 0:
            raise ValueError("scales: each must be above 0; copy the params that `streamlearn policy-bench` prints")
        return self

    def decide(self, seen: Seen) -> Choice:
        """Compare the two forecasts."""
        more: dict[str, Any] = {"ahead": self.ahead, "quantile": self.quantile, "growth": self.growth}
        if not seen.batches:
            return choice(seen, False, 0.0, seen.kappa, "no batch has come since the last retrain", **more)
        shift = seen.batches[-1].shift
        kept = self.batch * float(self.forecast(seen.since, seen.now, shift).sum())
        anew = self.batch * float(self.forecast(seen.now, seen.now, 0.0).sum())
        retrain = kept - anew > seen.kappa
        why = (
            f"over the next {self.ahead} batches the model loses up to {kept:.1f} events and one made now {anew:.1f}, "
            f"{'more' if retrain else 'not more'} than a retrain ({seen.kappa:g}) apart"
        )
        if self.growth <= 0:
            why += "; the past that it was fitted to held no drift: fit it to one that does"
        return choice(seen, retrain, kept - anew, seen.kappa, why, kept=kept, anew=anew, shift=shift, **more)

    def forecast(self, made: float, now: float, shift: float) -> Floats:
        """Q_q of the mean loss in each of the next `ahead` batches, of the model made at `made` (Unix seconds)."""
        from scipy.special import betaincinv

        times = now + self.step * np.arange(1.0, self.ahead + 1)
        mean: Floats = np.clip(self.mean(made, times, shift), EDGE, 1 - EDGE)
        k = np.clip(mean * (1 - mean) / max(self.variance, 1 / SURE**2) - 1, EDGE, SURE)
        return np.asarray(betaincinv(mean * k, (1 - mean) * k, self.quantile), dtype=np.float64)

    def mean(self, made: float, times: Floats, shift: float) -> Floats:
        """μ at each of the times, as it comes out of the regression."""
        i, j = (made - self.origin) / self.span, (times - self.origin) / self.span
        r = np.column_stack([np.full_like(j, i), j - i, j, np.full_like(j, shift)])
        scaled = (r - np.array(self.means)) / np.array(self.scales)
        return np.asarray(self.intercept + scaled @ np.array(self.coefficients), dtype=np.float64)

    def tuned(self, past: Past, kappa: float) -> Upf:
        """The forecast fitted to another past; see `fitted`."""
        return fitted(past, kappa, self.quantile)


def fitted(past: Past, kappa: float, quantile: float = 0.95) -> Upf:
    """The forecast of what the models of `past` did, with the H, of 1, 2, 4, … 64, that would have cost least there.

    Raises ModelError without scikit-learn, and for a past of fewer than 6 batches or of no duration.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import ElasticNetCV
    except ImportError:
        raise ModelError("upf is fitted with scikit-learn, which is not there; run pip install 'streamlearn[batch]'") from None
    width, span = len(past.n), float(past.at[-1] - past.at[0]) if len(past.n) else 0.0
    if width < LEAST or span <= 0:
        raise ModelError(f"upf cannot be fitted to {width} batches in {span:g} s; give it {LEAST} at least, with their times")
    made, seen = np.triu_indices(width, 1)
    at = (past.at - past.at[0]) / span
    r = np.column_stack([at[made], at[seen] - at[made], at[seen], past.shift[made, seen]])
    loss = past.loss[made, seen]
    means, scales = r.mean(axis=0), r.std(axis=0)
    scales[scales < 1e-12] = 1.0
    scaled = (r - means) / scales
    coefficients, intercept = np.zeros(4), float(loss.mean())
    if loss.std() > 1e-12:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # what it has is good enough to be compared in the bench
            net = ElasticNetCV(cv=5, max_iter=10_000).fit(scaled, loss)
        coefficients, intercept = net.coef_, float(net.intercept_)
    residuals = loss - (intercept + scaled @ coefficients)
    aged, fresh = np.array([0.0, 1.0, 1.0, past.shift[0, -1]]), np.array([1.0, 0.0, 1.0, 0.0])
    params: dict[str, Any] = {
        "origin": float(past.at[0]), "span": span, "step": span / (width - 1), "batch": float(past.n.mean()),
        "coefficients": _four(coefficients), "intercept": intercept, "means": _four(means), "scales": _four(scales),
        "variance": float(residuals.var()), "quantile": quantile, "growth": float(coefficients @ ((aged - fresh) / scales)),
    }  # fmt: skip
    horizons = [ahead for ahead in (2**power for power in range(width.bit_length())) if ahead <= FARTHEST]
    return cheapest([Upf(**params, ahead=ahead) for ahead in horizons], past, kappa)


def shift(made_on: Sequence[Features], rows: Sequence[Features], scale: Mapping[str, float]) -> float:
    """How far the features of `rows` have moved from those that the model was made on: the root of the mean over the features
    of the squared move. Of numbers it is the difference of means in units of `scale`, 10 at most; else the total variation
    distance, which is at most 1. 0 without rows on either side. Noise alone gives some √(1/len(made_on) + 1/len(rows)).

    A design of this project (the paper's z_shift was not checked).
    """
    if not made_on or not rows:
        return 0.0
    names = sorted({name for row in (*made_on, *rows) for name in row})
    moves = [_moved([row.get(name) for row in made_on], [row.get(name) for row in rows], scale.get(name)) for name in names]
    return math.sqrt(sum(move * move for move in moves) / len(moves)) if moves else 0.0


def _moved(before: Sequence[Any], after: Sequence[Any], scale: float | None) -> float:
    numbers = [[float(value) for value in values if is_number(value)] for values in (before, after)]
    if scale and all(numbers):
        return min(FAR, abs(math.fsum(numbers[0]) / len(numbers[0]) - math.fsum(numbers[1]) / len(numbers[1])) / scale)
    shares = [Counter(map(_kind, values)) for values in (before, after)]
    values = {**shares[0], **shares[1]}
    return sum(abs(shares[0][value] / len(before) - shares[1][value] / len(after)) for value in values) / 2


def _kind(value: Any) -> tuple[str, Any]:
    return type(value).__name__, value  # True is not 1


def _four(values: Floats) -> list[float]:
    return [float(value) for value in values]
