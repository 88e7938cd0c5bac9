"""The formulas behind the scores, on arrays and without state. An undefined score (no events, one class only) is None.

They never warn and never return NaN or infinity: what they return is shown as JSON.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BINS: Final = 1024  # of P(positive), for the cumulative area under the ROC curve
CALIBRATION_BINS: Final = 10
LEAST_P: Final = 1e-15
LARGEST: Final = 1e150  # its square is finite


def share(part: float, whole: float) -> float | None:
    """`part` / `whole`, or None of nothing."""
    return float(part) / float(whole) if whole > 0 else None


def kappa(hits: float, truths: Array, answers: Array) -> float | None:
    """Cohen's kappa (Cohen 1960): agreement beyond chance, from the hits and each class's weight as truth and as answer.

    0 when chance alone agrees always, as in river.
    """
    whole = float(truths.sum())
    if whole <= 0:
        return None
    chance = float((truths / whole * (answers / whole)).sum())
    return (float(hits) / whole - chance) / (1 - chance) if chance < 1 else 0.0


def of_confusion(counts: Array) -> dict[str, float | None]:
    """Accuracy and kappa of [true negatives, false positives, false negatives, true positives], whole or weighted."""
    table = counts.reshape(2, 2)
    hits = float(table[0, 0] + table[1, 1])
    return {"accuracy": share(hits, float(table.sum())), "kappa": kappa(hits, table.sum(axis=1), table.sum(axis=0))}


def auc_of_confusion(counts: Array) -> float | None:
    """Area under the ROC curve of answers that are 0 or 1 only: the mean of both classes' recall."""
    tn, fp, fn, tp = (float(count) for count in counts)
    if tn + fp <= 0 or fn + tp <= 0:
        return None
    return (tp / (fn + tp) + tn / (tn + fp)) / 2


def auc_of_bins(negatives: Array, positives: Array) -> float | None:
    """P(a positive scores above a negative), a tie counting half, where what shares a bin is tied (Fawcett 2006, §7)."""
    n, p = float(negatives.sum()), float(positives.sum())
    if n <= 0 or p <= 0:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / n / p)


def auc_by_ranks(positive: Array, scores: Array) -> float | None:
    """The same, exact: the Mann-Whitney statistic with mean ranks for ties (Hanley & McNeil 1982)."""
    p = int(positive.sum())
    n = len(positive) - p
    if n == 0 or p == 0:
        return None
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[places][positive].sum() - p * (p + 1) / 2) / (n * p))


def log_losses(p_of_truth: Array) -> Array:
    """-ln of the probability that was given to what came true, clipped to [1e-15, 1 - 1e-15]."""
    losses: Array = -np.log(np.clip(p_of_truth, LEAST_P, 1 - LEAST_P))
    return losses


def bins_of(p: Array, bins: int) -> Array:
    """The bin of each probability in [0, 1]; 1 falls into the last."""
    return np.clip((p * bins).astype(np.int64), 0, bins - 1)


def calibration(counts: Array, predicted: Array, observed: Array) -> list[dict[str, float]]:
    """For each bin that was used: its bounds, how many, the mean probability predicted and the rate observed."""
    return [
        {
            "low": index / len(counts),
            "high": (index + 1) / len(counts),
            "count": int(counts[index]),
            "predicted": float(predicted[index] / counts[index]),
            "observed": float(observed[index] / counts[index]),
        }
        for index in np.flatnonzero(counts).tolist()
    ]


def calibration_error(counts: Array, predicted: Array, observed: Array) -> float | None:
    """Expected calibration error: Σ count/n · |predicted - observed| (Naeini, Cooper & Hauskrecht 2015)."""
    return share(float(np.abs(predicted - observed).sum()), float(counts.sum()))


def merge_moments(moments: Array, values: Array, weights: Array, decay: float) -> None:
    """Add weighted `values` to [weight, mean, sum of squared deviations], in place, after both sums have faded by `decay`.

    Chan, Golub & LeVeque 1983, eq. 2.1.
    """
    weight, mean, squares = float(moments[0]) * decay, float(moments[1]), float(moments[2]) * decay
    more = float(weights.sum())
    centre = float((weights * values).sum()) / more
    spread = float((weights * (values - centre) ** 2).sum())
    whole, step = weight + more, centre - mean
    moments[:] = whole, mean + step * (more / whole), squares + spread + step * step * (weight * (more / whole))


def of_errors(sums: Array) -> dict[str, float | None]:
    """Mean absolute error and root mean squared error of [weight, absolute errors, squared errors]."""
    weight, absolute, squared = (float(value) for value in sums)
    if weight <= 0:
        return {"mae": None, "rmse": None}
    return {"mae": _finite(absolute / weight), "rmse": _finite(math.sqrt(squared / weight))}


def r_squared(squared_errors: float, squared_deviations: float) -> float | None:
    """The share of the labels' squared deviations from their mean that is explained."""
    return _finite(1 - float(squared_errors) / float(squared_deviations)) if squared_deviations > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
