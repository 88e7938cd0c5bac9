"""How long a block of a trial must be: the span over which paired losses still correlate, measured on those seen before.

A shock that many events share, or labels that are late and share a cause, make neighbouring losses alike. Bets on odd and on
even blocks stay fair as long as nothing reaches over the block in between, so a block must be as long as the correlation.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

RECENT: Final = 256  # blocks that are looked at: what changes more slowly is a change of the models, not a shock
MOST: Final = 32  # least blocks in one block of the test
CERTAINTY: Final = 1.5  # standard errors by which correlations must exceed 0 to count: one time in fifteen by chance


class Span:
    """The correlation length of a sequence of block means, in blocks, from the last RECENT of them.

    With ρ̂_k the autocorrelations, the span is the least q = 1, 2, 4, … MOST for which Σ ρ̂_k over k = q+1 … 2q+2 is at most
    CERTAINTY standard errors; those by Bartlett's formula, var ρ̂_k ≈ (1 + 2 Σ_{j≤q} ρ_j²) / n for k beyond the correlation
    (Brockwell & Davis, Time Series: Theory and Methods, 2nd ed. 1991, §7.2), with E ρ̂_k ≈ −1/n added back.
    """

    def __init__(self) -> None:
        self._kept = np.zeros(8 * RECENT)  # the last RECENT of the first `_end` are looked at, in one piece
        self._end = 0

    def add(self, x: float) -> None:
        """Take the next block's mean."""
        if self._end == len(self._kept):
            self._kept[:RECENT] = self._kept[-RECENT:]
            self._end = RECENT
        self._kept[self._end] = x
        self._end += 1

    def blocks(self) -> int:
        """The span as it is now, from 1 to MOST."""
        n = min(self._end, RECENT)
        x = self._kept[self._end - n : self._end]
        x = x - (float(x.sum()) / n if n else 0.0)
        squares = float(x @ x)
        if squares <= 1e-12 * n:  # all alike
            return 1
        rho: list[float] = []  # from lag 1 on, as far as it was needed
        q = 1
        while q < MOST:
            first, last = q + 1, min(2 * q + 2, n // 3)
            lags = last - first + 1
            if lags < 1:
                break
            rho += [float(x[lag:] @ x[:-lag]) / squares for lag in range(len(rho) + 1, last + 1)]
            near = math.fsum(max(r, 0.0) ** 2 for r in rho[:q])
            error = math.sqrt(lags * (1.0 + 2.0 * near) / n)
            if math.fsum(rho[first - 1 :]) + lags / n <= CERTAINTY * error:
                break
            q *= 2
        return q
