"""One feature in two sets of events: is it the same distribution, and how far apart are they?

A feature is a number (compared by Kolmogorov-Smirnov) or a category: strings, booleans (compared by chi-squared). A column
is one float for each event: the number, or the code of the category; NaN where there is none, be it null, absent or of the
other type, which is compared as a rate by itself. All tests are two-sided, and ranks or counts alone enter them.

Approximate are: the asymptotic Kolmogorov distribution (conservative at these sizes, and more so with ties, such as numbers
that take few values), and chi-squared's tail, for which rare categories are pooled until `EXPECTED` are expected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST: Final = 30  # values on each side without which a distribution is not judged
EXPECTED: Final = 25.0  # events of a category expected in the smaller set; rarer ones are pooled
SUREST: Final = 1e-8  # the lowest p-value of chi-squared: below, its tail says less than it seems to
BINS: Final = 20  # bars of a histogram
PSI_BINS: Final = 10
PSI_FLOOR: Final = 1e-4  # an empty bin counts as this share
OTHER: Final = "…"  # the categories beyond those shown or told apart, as one


def ks(past: Floats, block: Floats) -> float:
    """The two-sample Kolmogorov-Smirnov p-value, asymptotic; both sorted, without NaN. 1.0 when either has too few values.

    D = sup |F − G|, p = Q(√(nm/(n+m)) D) with Kolmogorov's Q (Kolmogorov 1933, Smirnov 1939).
    """
    from scipy import special  # here, since control must start without it

    n, m = len(past), len(block)
    if min(n, m) < LEAST:
        return 1.0
    # Between two values of the block its distribution stands still, so the largest gap lies at one of them, or just before it.
    above = np.searchsorted(block, block, side="right") / m - np.searchsorted(past, block, side="right") / n
    below = np.searchsorted(past, block, side="left") / n - np.searchsorted(block, block, side="left") / m
    return float(special.kolmogorov(math.sqrt(n * m / (n + m)) * max(float(above.max()), float(below.max()), 0.0)))


def chi_squared(past: Floats, block: Floats) -> float:
    """The p-value of Pearson's test of homogeneity on two columns of codes, without NaN. 1.0 when either has too few values.

    Which categories are pooled depends on both sets together, and so on nothing that the test asks about.
    """
    from scipy import special  # as above

    n, m = len(past), len(block)
    if min(n, m) < LEAST:
        return 1.0
    codes, places = np.unique(np.concatenate([past, block]), return_inverse=True)
    counts = np.stack([np.bincount(part, minlength=len(codes)) for part in (places[:n], places[n:])]).astype(float)
    rare = counts.sum(axis=0) * (min(n, m) / (n + m)) < EXPECTED
    if rare.any():
        counts = np.concatenate([counts[:, ~rare], counts[:, rare].sum(axis=1, keepdims=True)], axis=1)
        if counts.shape[1] > 2 and counts[:, -1].sum() * (min(n, m) / (n + m)) < EXPECTED:  # pooled, and still too rare
            place = int(np.argmin(counts[:, :-1].sum(axis=0)))
            counts[:, place] += counts[:, -1]
            counts = counts[:, :-1]
    if counts.shape[1] < 2:
        return 1.0
    if counts.shape[1] == 2:
        return rates(int(counts[0, 0]), n, int(counts[1, 0]), m)
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / (n + m)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return max(SUREST, float(special.chdtrc(counts.shape[1] - 1, statistic)))


def rates(past: int, n: int, block: int, m: int) -> float:
    """The two-sided p-value, twice the smaller tail, of Fisher's exact test on `past` of `n` against `block` of `m`."""
    return min(1.0, 2.0 * min(fisher(past, n, block, m), fisher(n - past, n, m - block, m)))


def fisher(past: int, n: int, block: int, m: int) -> float:
    """The one-sided p-value of Fisher's exact test that `block` of `m` is no larger a share than `past` of `n`.

    The hypergeometric tail as it stands: scipy.stats has it too, but takes control seconds to import on a busy machine.
    """
    from scipy import special  # as above

    total = past + block
    each = np.arange(block, min(total, m) + 1)
    logs = _choose(special, m, each) + _choose(special, n, total - each) - _choose(special, n + m, np.array([total]))
    return min(1.0, float(np.exp(logs).sum()))


def _choose(special: Any, n: int, k: npt.NDArray[np.int64]) -> Floats:
    logs: Floats = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return logs


def psi(reference: Floats, recent: Floats, categories: bool) -> float:
    """The population stability index, Σ (r − f) ln(r / f): for show. Over the reference's deciles, or over categories.

    Sorted columns without NaN; 0.0 when either is empty.
    """
    if not len(reference) or not len(recent):
        return 0.0
    if categories:
        codes, places = np.unique(np.concatenate([reference, recent]), return_inverse=True)
        counts = [np.bincount(part, minlength=len(codes)) for part in (places[: len(reference)], places[len(reference) :])]
    else:
        edges = np.unique(reference[len(reference) * np.arange(1, PSI_BINS) // PSI_BINS])
        size = len(edges) + 1
        counts = [np.bincount(np.searchsorted(edges, side, side="left"), minlength=size) for side in (reference, recent)]
    before, now = (np.maximum(count / count.sum(), PSI_FLOOR) for count in counts)
    return float(((before - now) * np.log(before / now)).sum())


def histogram(reference: Floats, recent: Floats) -> dict[str, Any]:
    """Both columns of numbers over 20 bins of the reference's range, and its `edges`; what is outside counts at the end."""
    low, high = (float(v) for v in np.quantile(reference, [0.005, 0.995])) if len(reference) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    counts = [np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0].tolist() for side in (reference, recent)]
    return {"edges": edges.tolist(), "reference": counts[0], "recent": counts[1]}


def bars(reference: Floats, recent: Floats, names: Mapping[int, str]) -> dict[str, Any]:
    """Both columns of codes as counts of the 20 most frequent categories, and of all others as one."""
    found = [np.unique(side, return_counts=True) for side in (reference, recent)]
    before, now = (dict(zip(codes.astype(int).tolist(), counts.tolist(), strict=True)) for codes, counts in found)
    shown = sorted({*before, *now}, key=lambda code: (-before.get(code, 0) - now.get(code, 0), code))
    top, rest = shown[:BINS], shown[BINS:]
    labels = [names.get(code, OTHER) for code in top]
    counts = [[side.get(code, 0) for code in top] for side in (before, now)]
    if rest:
        labels.append(OTHER)
        for count, side in zip(counts, (before, now), strict=True):
            count.append(sum(side.get(code, 0) for code in rest))
    return {"values": labels, "reference": counts[0], "recent": counts[1]}


def benjamini_hochberg(p: Sequence[float], q: float) -> list[bool]:
    """Which hypotheses Benjamini & Hochberg (JRSS B 57, 1995) reject at false discovery rate `q`."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    last = max((rank for rank, i in enumerate(order, 1) if p[i] <= q * rank / len(p)), default=0)
    chosen = set(order[:last])
    return [i in chosen for i in range(len(p))]


def e_benjamini_hochberg(e: Sequence[float], q: float) -> list[bool]:
    """Which hypotheses e-BH (Wang & Ramdas, JRSS B 84, 2022) rejects: the k largest with e_(k) ≥ m/(qk), the largest such k."""
    order = sorted(range(len(e)), key=lambda i: -e[i])
    last = max((rank for rank, i in enumerate(order, 1) if e[i] >= len(e) / (q * rank)), default=0)
    chosen = set(order[:last])
    return [i in chosen for i in range(len(e))]


def calibrate(p: float) -> float:
    """An e-value of a p-value: ∫ κ p^(κ−1) dκ, (1 − p + p ln p) / (p ln² p) (Vovk & Wang, Ann. Stat. 49, 2021)."""
    p = max(p, 1e-100)
    log = math.log(p)
    if log > -1e-3:  # the limit at 1, where the formula is 0/0
        return 0.5
    return (1.0 - p + p * log) / (p * log * log)
