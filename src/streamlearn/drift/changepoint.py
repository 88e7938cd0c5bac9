"""Where the loss began to rise: the estimate behind an alarm's offset, and so behind the window of a retrain.

Run at an alarm only, never on the hot path. It always answers; whether there was a change at all is for `confirm`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def change_point(losses: npt.NDArray[np.float64]) -> int:
    """The index of the first loss after the most likely single rise of the mean, from 1 to len(losses) − 1.

    Least squares: the split that leaves the smallest sum of squares around two means is the one with the largest
    (n/(k(n−k))) S_k², S_k = Σ_{i≤k} (x_i − x̄) (Hinkley, Biometrika 57, 1970, §2; Page's CUSUM, scaled). Only splits with
    S_k < 0, a lower mean before than after, are considered, so that a model which learned well at first does not hide
    the rise that came later. Of losses that never rise, the last index. Raises ValueError for fewer than two losses.
    """
    n = len(losses)
    if n < 2:
        raise ValueError(f"a change needs at least two losses, not {n}")
    before = np.arange(1, n)
    cusum = np.cumsum(losses - losses.mean())[:-1]
    gain = np.minimum(cusum, 0.0) ** 2 / (before * (n - before))
    best = int(np.argmax(gain))
    return best + 1 if gain[best] > 0 else n - 1


def autocorrelation_time(losses: npt.NDArray[np.float64]) -> float:
    """How many consecutive losses carry as much as one independent one: 1 + 2 Σ ρ_k, at least 1.

    The sum is cut at the first pair ρ_{2j−1} + ρ_{2j} that is not above twice its standard error under independence
    (after Geyer's initial positive sequence, Statistical Science 7, 1992, §3.3), so that white noise gives 1.
    """
    n = len(losses)
    centred = losses - losses.mean()
    power = float(centred @ centred)
    if n < 8 or power <= 1e-12 * n:
        return 1.0
    spectrum = np.fft.rfft(centred, 2 * n)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[1 : n // 2] / power
    pairs = correlation[: len(correlation) // 2 * 2].reshape(-1, 2).sum(axis=1)
    weak = np.flatnonzero(pairs <= 2.0 * np.sqrt(2.0 / n))
    kept = pairs[: weak[0]] if len(weak) else pairs
    return 1.0 + 2.0 * float(kept.sum())
