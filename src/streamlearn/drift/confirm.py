"""Is an alarm a drift? A test on losses that the alarm never saw, at a level that a stated budget allows, and a harm gate.

The fresh window is looked at before it is full, too: a change that is beyond doubt after a fifth of it needs no more. What the
level allows is shared among the looks, most of it for the last.

Windows come as counts (`n`, `sum`) and, for losses that are not 0 or 1, as means of consecutive losses (`blocks`), see
`records.Signal`. Everything here is a pure function of its arguments, the seed included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streamlearn.config import DriftSettings

from . import compare

Window = Mapping[str, Any]
Floats = npt.NDArray[np.float64]

CASE_MEMORY: Final = 100_000  # labelled events for which a case counts against the budget of the next
PERMUTATIONS: Final = 999
MOST_PERMUTATIONS: Final = 99_999
RESAMPLES: Final = 999
CHUNK: Final = 2_000_000  # random numbers drawn at once
LOOKS: Final = (0.2, 0.4, 1.0)  # shares of the fresh window at which it is looked at
LEAST_LOOK: Final = 30  # losses
PART: Final = 5  # a fifth of a block of features is enough to see that input is broken


class Look(NamedTuple):
    """How much of the fresh window has come, and had come at the look before: shares of it."""

    before: float
    now: float

    @property
    def last(self) -> bool:
        """Whether the window is full."""
        return self.now >= 1.0


WHOLE: Final = Look(0.0, 1.0)


class Gate(NamedTuple):
    """One-sided bounds on two risks: `harmful` when even the lowest likely fresh risk lies above the reference's highest."""

    ref_mean: float
    fresh_mean: float
    lcb_fresh: float
    ucb_ref: float
    harmful: bool


class Verdict(NamedTuple):
    """What `confirm` found: the p-value, the level it had to stay under, the harm gate's numbers, and why, in words."""

    confirmed: bool
    p: float
    level: float
    ref_mean: float
    fresh_mean: float
    lcb_fresh: float
    ucb_ref: float
    reason: str


def level(alpha: float, k: int) -> float:
    """The level of the k-th case, k from 1: 6α/(π²k²), which sums to α. Raises ValueError for k below 1."""
    if k < 1:
        raise ValueError(f"cases are counted from 1, not {k}")
    return 6.0 * alpha / (math.pi * k) ** 2


def case_number(opened: Iterable[int], labelled: int) -> int:
    """The k of the newest case, from the labelled counts at which those since the last confirmed change were opened."""
    return max(1, sum(labelled - n <= CASE_MEMORY for n in opened))


def look_sizes(window: int) -> tuple[int, ...]:
    """How many fresh losses there are at each look at a window of this size; the last one is at all of it."""
    return (*(size for share in LOOKS[:-1] if LEAST_LOOK <= (size := round(share * window)) < window), window)


def look_of(window: Mapping[str, Any]) -> Look:
    """The look that the data of a "window" signal stand for: `look` has the losses before, now and in all."""
    before, now, whole = window.get("look", (0, 1, 1))
    return Look(before / whole, now / whole)


def spent(budget: float, share: float) -> float:
    """What of `budget` may be spent once this share of the window has come: 2 − 2Φ(z / √share), z = Φ⁻¹(1 − budget / 2).

    The spending function of Lan & DeMets (Biometrika 70, 1983) that O'Brien & Fleming's boundaries have: of a level of 0.03
    some 1e-6 at a fifth of the window, 6e-4 at two fifths. Raises ValueError for a share outside (0, 1].
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"a share of the window lies in (0, 1], not at {share}")
    if share == 1.0:
        return budget
    return math.erfc(NormalDist().inv_cdf(1.0 - budget / 2.0) / math.sqrt(2.0 * share))


def confirm(
    loss: str, ref: Window, fresh: Window, *, alpha: float, harm: float, k: int, seed: int, look: Look = WHOLE
) -> Verdict:
    """Whether the fresh window's mean loss is higher than the reference's, significantly and harmfully.

    `loss` is "binary" (Fisher's exact test, one-sided) or "bounded" (permutation of blocks). Confirmed needs p at most what
    `level(alpha, k)` leaves for this look (`spent` by now less what was spent before; so all looks at a case together stay
    within the level, however they depend), and the harm gate passed with a margin of `harm`, whose own `alpha` is shared
    alike. Raises ValueError for an empty window.
    """
    _check(loss, ref, fresh)
    return _confirm(loss, _frozen(ref), _frozen(fresh), alpha, harm, k, seed, look)


Frozen = tuple[int, float, tuple[float, ...]]


def _frozen(window: Window) -> Frozen:
    return window["n"], window["sum"], tuple(window.get("blocks", ()))


def _thawed(frozen: Frozen) -> Window:
    return {"n": frozen[0], "sum": frozen[1], "blocks": list(frozen[2])}


@lru_cache(maxsize=64)  # an early look is judged anew whenever control comes by, until more of the window is there
def _confirm(
    loss: str, frozen_ref: Frozen, frozen_fresh: Frozen, alpha: float, harm: float, k: int, seed: int, look: Look
) -> Verdict:
    ref, fresh = _thawed(frozen_ref), _thawed(frozen_fresh)
    whole = level(alpha, k)
    budget = spent(whole, look.now) - (spent(whole, look.before) if look.before else 0.0)
    p = _p(loss, ref, fresh, budget, seed)
    bounds = _gate(loss, frozen_ref, frozen_fresh, alpha * budget / whole, harm, seed)
    means = f"{bounds.ref_mean:.4f} → {bounds.fresh_mean:.4f}"
    if p > budget:
        reason = f"mean loss {means} may be chance: p = {p:.3g}, above the level {budget:.3g} of case {k}"
    elif not bounds.harmful:
        reason = (
            f"mean loss {means} is no chance (p = {p:.3g}), but the harm is not sure: lower bound {bounds.lcb_fresh:.4f}, "
            f"reference's upper bound {bounds.ucb_ref:.4f}, margin {harm:g}"
        )
    else:
        reason = (
            f"mean loss rose {means}: p = {p:.3g} at level {budget:.3g}, and the lower bound {bounds.lcb_fresh:.4f} "
            f"is above the reference's upper bound {bounds.ucb_ref:.4f} by more than {harm:g}"
        )
    return Verdict(p <= budget and bounds.harmful, p, budget, *bounds[:4], reason)


def _p(loss: str, ref: Window, fresh: Window, budget: float, seed: int) -> float:
    if loss == "binary":
        return fisher(ref, fresh)
    if budget * (1 + MOST_PERMUTATIONS) < 1.0:  # no number of permutations that we make could tell
        return 1.0
    return permutation(ref["blocks"], fresh["blocks"], budget, seed)


def to_diagnose(settings: DriftSettings) -> int:
    """Labelled events since a change, for which an early confirmation waits.

    Without them a diagnosis would be blind, and broken input must be told from drift before anything is retrained: features are
    seen to be broken in a PART of a block, which may begin anywhere in one.
    """
    return 2 * settings.features.window // PART if settings.features.enabled else 0


def recovered(loss: str, ref: Window, recovery: Window, *, alpha: float, harm: float, seed: int) -> bool:
    """Whether the harm gate no longer passes on the window after a promotion, against the reference before the drift."""
    return not gate(loss, ref, recovery, alpha=alpha, harm=harm, seed=seed).harmful


def gate(loss: str, ref: Window, fresh: Window, *, alpha: float, harm: float, seed: int) -> Gate:
    """Harmful when LCB(fresh risk) > UCB(reference risk) + `harm`, each a one-sided 1 − `alpha` bound.

    After the gate of Podkopaev & Ramdas (arXiv 2110.06177); both windows have a fixed size, so the bounds are those of a
    fixed sample: Clopper-Pearson for binary losses, else a percentile bootstrap over blocks.
    """
    _check(loss, ref, fresh)
    return _gate(loss, _frozen(ref), _frozen(fresh), alpha, harm, seed)


@lru_cache(maxsize=64)  # a trial asks again whenever control comes by
def _gate(loss: str, frozen_ref: Frozen, frozen_fresh: Frozen, alpha: float, harm: float, seed: int) -> Gate:
    ref, fresh = _thawed(frozen_ref), _thawed(frozen_fresh)
    if loss == "binary":
        lcb = clopper_pearson(fresh["sum"], fresh["n"], alpha)[0]
        ucb = clopper_pearson(ref["sum"], ref["n"], alpha)[1]
    else:
        rng = np.random.default_rng(seed)
        lcb = float(np.quantile(_resampled_means(fresh["blocks"], rng), alpha))
        ucb = float(np.quantile(_resampled_means(ref["blocks"], rng), 1.0 - alpha))
    return Gate(ref["sum"] / ref["n"], fresh["sum"] / fresh["n"], lcb, ucb, lcb > ucb + harm)


def fisher(ref: Window, fresh: Window) -> float:
    """The one-sided p-value of Fisher's exact test that errors are not more frequent in `fresh` than in `ref`."""
    return compare.fisher(round(ref["sum"]), ref["n"], round(fresh["sum"]), fresh["n"])


def permutation(ref: list[float], fresh: list[float], budget: float, seed: int) -> float:
    """The one-sided p-value that fresh block means are not higher, (1 + #) / (1 + B), # permuted means at least as high.

    B = 999, and more when `budget` is so small that 999 could not resolve it: ten times its inverse, 99,999 at most.
    """
    times = min(MOST_PERMUTATIONS, max(PERMUTATIONS, math.ceil(10.0 / budget) - 1))
    pooled = np.array([*fresh, *ref])
    size = len(fresh)
    threshold = pooled[:size].sum() - 1e-9  # the same sum added in another order must count as equal
    rng = np.random.default_rng(seed)
    stride = max(1, CHUNK // len(pooled))
    higher = 0
    for start in range(0, times, stride):
        rows = np.broadcast_to(pooled, (min(stride, times - start), len(pooled)))
        higher += int((rng.permuted(rows, axis=1)[:, :size].sum(axis=1) >= threshold).sum())
    return (1 + higher) / (1 + times)


def clopper_pearson(errors: float, n: int, alpha: float) -> tuple[float, float]:
    """Exact one-sided 1 − `alpha` bounds, lower and upper, on a binomial share (Clopper & Pearson, Biometrika 26, 1934)."""
    from scipy import special  # here, since control must start without it

    k = round(errors)
    lower = float(special.betaincinv(k, n - k + 1, alpha)) if k > 0 else 0.0
    upper = float(special.betaincinv(k + 1, n - k, 1.0 - alpha)) if k < n else 1.0
    return lower, upper


def _resampled_means(blocks: list[float], rng: np.random.Generator) -> Floats:
    values = np.array(blocks)
    means: Floats = rng.choice(values, size=(RESAMPLES, len(values))).mean(axis=1)
    return means


def _check(loss: str, *windows: Window) -> None:
    if loss not in ("binary", "bounded"):
        raise ValueError(f"the loss is binary or bounded, not {loss!r}")
    for window in windows:
        if window["n"] < 1 or (loss == "bounded" and not window.get("blocks")):
            raise ValueError("a window holds no losses: there is nothing to compare")
