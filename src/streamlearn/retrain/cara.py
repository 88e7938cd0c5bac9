"""Retrains by cost (CARA): how stale a model is for the questions that come, against what a retrain costs.

Mahadevan & Mathioudakis, "Cost-Effective Retraining of Machine Learning Models", arXiv 2310.04216. That there are three
variants, by a threshold, a cumulative threshold and a period, was checked in a summary of the paper. The formulas come from
memory and were not checked: staleness ψ(q) = (1/|D_t|) Σ sim(q, x) ℓ(x, y), sim = exp(−γ‖q − x‖²), summed over the questions of
a batch; T retrains when one batch is above τ, CT when the sum since the last retrain is, P every φ batches from a; τ and (φ, a)
by grid on a first stretch. What this project changed on purpose is said at each place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from streamlearn.config_fields import Whole

from .builtin import Builtin, Flag, Number, choice
from .plain import Periods, grid, periodic
from .policy import Choice, Floats, Past, Seen
from .simulate import cheapest

Features = Mapping[str, Any]

SAMPLE: Final = 32
GAMMA: Final = 1.0  # of `staleness`, wherever the service and the benches ask for it
FAR: Final = 10.0  # scales: two numbers further apart count as this far
TAUS: Final = 24  # values of τ that are tried


class _Threshold(Builtin):
    """T and CT. `tau` is in lost events, and is κ where it is left out."""

    evidence: ClassVar[bool] = True
    sample: ClassVar[int] = SAMPLE

    tau: Number | None = None
    raw: Flag = False

    def stale(self, seen: Seen, reference: float) -> Floats:
        """n (ψ − reference) of each batch."""
        return np.asarray(seen.column("n") * (seen.column("psi") - reference), dtype=np.float64)

    def _choice(self, seen: Seen, last: int | None, what: str) -> Choice:
        tau = seen.kappa if self.tau is None else self.tau
        reference = 0.0 if self.raw else seen.reference
        if reference is None:
            return choice(seen, False, min(0.0, tau), tau, "the loss at training time is not known yet", raw=self.raw)
        if not seen.batches:
            return choice(seen, False, min(0.0, tau), tau, "no batch has come since the last retrain", raw=self.raw)
        total = float(self.stale(seen, reference)[last:].sum())
        retrain = total > tau
        why = f"{total:.1f} lost events by staleness {what}, {'above' if retrain else 'not above'} {tau:g}"
        return choice(seen, retrain, total, tau, why, reference=reference, raw=self.raw)


class CaraT(_Threshold):
    """CARA-T: retrain when n (ψ − reference) of the last batch is above τ. With `raw` the reference is 0, as in the paper."""

    name: ClassVar[str] = "cara_t"

    def decide(self, seen: Seen) -> Choice:
        """Judge the last batch alone."""
        return self._choice(seen, -1, "in the last batch")

    def tuned(self, past: Past, kappa: float) -> CaraT:
        """The τ that would have cost least there; of equals the highest."""
        totals = _rows(past, self.raw)
        return cheapest([CaraT(tau=tau, raw=self.raw) for tau in _taus(np.concatenate(totals))], past, kappa)


class CaraCT(_Threshold):
    """CARA-CT: retrain when the sum of n (ψ − reference) since the last retrain is above τ.

    Without the reference, which is the paper's form (`raw`), the sum grows by what no model could avoid: on static streams it
    cost 1.4 to 2.9 times the least possible in this project's simulations.
    """

    name: ClassVar[str] = "cara_ct"

    def decide(self, seen: Seen) -> Choice:
        """Judge all batches since the last retrain together."""
        return self._choice(seen, None, "since the last retrain")

    def tuned(self, past: Past, kappa: float) -> CaraCT:
        """The τ that would have cost least there; of equals the highest."""
        totals = [np.cumsum(row) for row in _rows(past, self.raw)]
        return cheapest([CaraCT(tau=tau, raw=self.raw) for tau in _taus(np.concatenate(totals))], past, kappa)


class CaraP(Builtin):
    """CARA-P: retrain every `phi` batches, the first time after `a` (0: `phi`). It is `periodic` under the paper's letters."""

    name: ClassVar[str] = "cara_p"

    phi: Periods
    a: Whole = 0

    def decide(self, seen: Seen) -> Choice:
        """Count."""
        return periodic(seen, self.phi, self.a)

    def tuned(self, past: Past, kappa: float) -> CaraP:
        """The φ and a of at most the past's length that would have cost least there; of equals the longest."""
        return cheapest([CaraP(phi=phi, a=a) for phi, a in grid(len(past.n))], past, kappa)


def _rows(past: Past, raw: bool) -> list[Floats]:
    """n (ψ − reference) of each model on the batches after it; nothing of a model whose reference is unknown."""
    width = len(past.n)
    references = np.zeros(width) if raw else past.reference
    return [
        past.n[i + 1 :] * (past.psi[i, i + 1 :] - references[i]) for i in range(width - 1) if not math.isnan(references[i])
    ] or [np.zeros(1)]  # fmt: skip


def _taus(totals: Floats) -> list[float]:
    """Some values of τ to try, highest first: the highest retrains never."""
    return sorted({float(tau) for tau in np.quantile(totals, np.linspace(0, 1, TAUS))}, reverse=True)


def scales(rows: Sequence[Features]) -> dict[str, float]:
    """The standard deviation of each feature that is a number in some of the rows; 1 where it does not vary."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if is_number(value):
                found.setdefault(name, []).append(float(value))
    return {name: float(np.std(np.clip(values, -1e100, 1e100))) or 1.0 for name, values in found.items()}


def staleness(
    queries: Sequence[Features], x: Sequence[Features], losses: Floats, gamma: float, scale: Mapping[str, float]
) -> float:
    """The mean over the questions of the losses around each: Σ sim ℓ / Σ sim, sim = exp(−γ d²). In [0, 1], as losses are.

    `queries`: features of questions; `x` and `losses` (len(x),): labelled events and the model's losses on them. d² is the mean
    over the features of the squared difference in units of `scale` (at most 10 each), or, where both are not finite numbers, of
    0 for equal and 1 for different, one missing included. NaN without queries or without labelled events.

    The paper as remembered divides by |D_t|, not by Σ sim, and sums squared differences: then ψ falls with the number of
    features and with the distance, and cannot be compared with a loss, a reference or κ. Here γ = 0 gives the mean loss.
    """
    if not len(queries) or not len(x):
        return math.nan
    return float(around(queries, x, gamma, scale) @ np.asarray(losses, dtype=np.float64))


def around(queries: Sequence[Features], x: Sequence[Features], gamma: float, scale: Mapping[str, float]) -> Floats:
    """(len(x),): the weight of each labelled event's loss in `staleness`, which is their sum; they sum to 1."""
    exponents = -gamma * distances(queries, x, scale)
    similar = np.exp(exponents - exponents.max(axis=1, keepdims=True))  # the nearest counts 1, however far it is
    weights: Floats = (similar / similar.sum(axis=1, keepdims=True)).mean(axis=0)
    return weights


def distances(queries: Sequence[Features], x: Sequence[Features], scale: Mapping[str, float]) -> Floats:
    """d² of `staleness`, shape (queries, x)."""
    names = sorted({name for row in (*queries, *x) for name in row})
    total = np.zeros((len(queries), len(x)))
    for name in names:
        ours, theirs = [row.get(name) for row in queries], [row.get(name) for row in x]
        left, right = _numbers(ours), _numbers(theirs)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.abs(left[:, None] / scale.get(name, 1.0) - right[None, :] / scale.get(name, 1.0))
        differ = np.array([[_differ(one, other) for other in theirs] for one in ours], dtype=np.float64)
        total += np.where(np.isnan(apart), differ, np.minimum(apart, FAR) ** 2)
    return np.asarray(total / max(1, len(names)), dtype=np.float64)


def _numbers(values: Sequence[Any]) -> Floats:
    return np.array([float(value) if is_number(value) else math.nan for value in values], dtype=np.float64)


def _differ(one: Any, other: Any) -> bool:
    return type(one) is not type(other) or one != other


def is_number(value: Any) -> bool:
    """Whether a feature counts as a number: finite, and no boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
