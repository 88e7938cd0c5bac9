"""Champion against challenger: is the new version better, or at least not worse, on the very same events?

Both predicted each event before either learned from it. Their paired losses come in blocks at least one label delay long,
and an anytime-valid test bets on the blocks, so that looking at it after each one costs no error budget. Nothing here
reads a clock, draws a random number or forgets a block.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any, Final, Literal

SCALE: Final = 2.0  # c: paired differences lie in [-1, 1]
STITCH: Final = 1.4  # s
STEP: Final = 2.0  # η
MOST_STAKE: Final = 0.5  # of the capital, at the worst x; it is what bounds the growth on blocks, whose means vary little
ZETA: Final = 3.1055472779775806  # Riemann's ζ(STITCH); scipy would take control a second to import, for this alone


class BettingProcess:
    """A capital that grows by bets that the mean of x in [−1, 1] lies above `m` (Waudby-Smith & Ramdas, JRSS B 2024, §4).

    H0: E[x_t | past] ≤ m. Under it the capital is a supermartingale that starts at 1. With g = μ̂_{t−1} − m,
    λ_t = clip(g / (v̂_{t−1} + g²), 0, 0.5 / (1 + m)); μ̂_0 = 0 and v̂_0 = 1/4 count as one observation.
    """

    def __init__(self, m: float) -> None:
        self.capital = 1.0
        self._m = m
        self._most = MOST_STAKE / (1.0 + m)
        self._count = 1
        self._sum = 0.0
        self._squares = 0.25

    def bet(self, x: float) -> None:
        """Stake on `x` what the past advises, take the outcome, then learn from it."""
        gain = self._sum / self._count - self._m
        stake = min(max(gain / (self._squares / self._count + gain * gain), 0.0), self._most)
        self.capital *= 1.0 + stake * (x - self._m)
        self._count += 1
        self._sum += x
        self._squares += (x - self._sum / self._count) ** 2


class Trial:
    """The trial of the `k`-th challenger since the last promotion, k from 1, at the level 6·alpha/(π²k²).

    x is a block's mean of champion's loss − challenger's, H0: E[x | past] ≤ −tolerance: the challenger is worse by at least
    the tolerance. With a tolerance of 0, crossing means better; above 0, it means not worse by as much as that, and a
    challenger that is just as good is meant to pass. Odd and even blocks feed two processes whose capitals are averaged:
    each bet then rests on losses that were known before the block's predictions were made, also when labels are late by
    up to a block or a shock is shared by that many events.

    `e` is that average now, `peak` its maximum; `crossed` says whether it ever reached 1 / level. `blocks` and `events`
    count what was closed. Raises ValueError for an alpha or tolerance outside (0, 1) and [0, 1), and for k below 1.
    """

    def __init__(self, alpha: float, tolerance: float, k: int) -> None:
        if not 0.0 < alpha < 1.0 or not 0.0 <= tolerance < 1.0 or k < 1:
            raise ValueError(f"alpha {alpha}, tolerance {tolerance}, k {k}: they lie in (0, 1), [0, 1), and from 1 up")
        self.alpha, self.tolerance, self.k = alpha, tolerance, k
        self.alpha_k = 6.0 * alpha / (math.pi * k) ** 2
        self.threshold = 1.0 / self.alpha_k
        self.e = self.peak = 1.0
        self.blocks = 0
        self._processes = (BettingProcess(-tolerance), BettingProcess(-tolerance))
        self._events = [0]  # running sums, so that any recent stretch is one subtraction
        self._differences = [0.0]
        self._sum = 0.0
        self._variance = 0.0

    @property
    def events(self) -> int:
        """Labelled events in closed blocks."""
        return self._events[-1]

    @property
    def crossed(self) -> bool:
        """Whether the evidence was ever enough. It stays so: the test is valid at any time."""
        return self.peak >= self.threshold

    @property
    def mean_difference(self) -> float:
        """Champion's mean loss less the challenger's over all closed events; above 0, the challenger is better."""
        return self._differences[-1] / self.events if self.events else 0.0

    def add_block(self, n: int, champion: float, challenger: float) -> None:
        """Take the next closed block: `n` events and each side's sum of losses in [0, 1] over them.

        Raises ValueError for an empty block or sums that such losses cannot have; nothing has changed then.
        """
        if n < 1 or not (-1e-9 <= champion <= n + 1e-9 and -1e-9 <= challenger <= n + 1e-9):
            raise ValueError(f"a block of {n} events cannot have loss sums of {champion} and {challenger}")
        x = min(max((champion - challenger) / n, -1.0), 1.0)
        self._processes[self.blocks % 2].bet(x)
        self.e = (self._processes[0].capital + self._processes[1].capital) / 2
        self.peak = max(self.peak, self.e)
        self._variance += (x - (self._sum / self.blocks if self.blocks else 0.0)) ** 2
        self._sum += x
        self.blocks += 1
        self._events.append(self.events + n)
        self._differences.append(self._differences[-1] + champion - challenger)

    def recent(self, n_events: int) -> float:
        """The mean paired difference over the last closed blocks that together hold at least `n_events`, or over all."""
        start = max(0, bisect_right(self._events, self.events - n_events) - 1)
        events = self.events - self._events[start]
        return (self._differences[-1] - self._differences[start]) / events if events else 0.0

    def interval(self) -> tuple[float, float]:
        """A 1 − alpha confidence sequence for the mean of the blocks' differences, within [−1, 1]: for show.

        Empirical-Bernstein (Howard, Ramdas, McAuliffe & Sekhon, Annals of Statistics 49, 2021, Theorem 4) with the
        stitched boundary, c = 2, s = 1.4, η = 2, alpha / 2 on each side.
        """
        if not self.blocks:
            return -1.0, 1.0
        variance = max(1.0, self._variance)
        log = STITCH * math.log(math.log(STEP * variance)) + math.log(ZETA / (self.alpha / 2 * math.log(STEP) ** STITCH))
        k1 = (STEP**0.25 + STEP**-0.25) / math.sqrt(2.0)
        k2 = (math.sqrt(STEP) + 1.0) / 2.0
        spread = math.sqrt(k1**2 * variance * log + (k2 * SCALE * log) ** 2) + k2 * SCALE * log
        centre = self._sum / self.blocks
        return max(-1.0, centre - spread / self.blocks), min(1.0, centre + spread / self.blocks)

    def verdict(self, min_events: int, horizon: int) -> Literal["promote", "reject"] | None:
        """Promote once crossed, with `min_events` closed and the last of them not worse; reject at `horizon` events.

        The guard is there because both models go on learning: the evidence says "better at some time", the last
        `min_events` events must not be worse by more than the tolerance.
        """
        if self.crossed and self.events >= min_events and self._holds(min_events):
            return "promote"
        return "reject" if self.events >= horizon else None

    def why(self, min_events: int, horizon: int) -> str:
        """In words, what `verdict` rests on."""
        evidence = f"evidence {self.peak:.3g} of {self.threshold:.3g} after {self.events} events"
        if not self.crossed:
            return f"{evidence}: " + ("undecided at the horizon" if self.events >= horizon else "undecided")
        if self.events < min_events:
            return f"{evidence}: enough, but {min_events} events are the least"
        recently = f"over the last {min_events} events the challenger's loss is lower by {self.recent(min_events):.4f}"
        return f"{evidence}; {recently}" + ("" if self._holds(min_events) else ", and that is worse by more than the tolerance")

    def numbers(self, min_events: int = 1000) -> dict[str, Any]:
        """What the audit keeps: JSON-able. `recent` is over the last `min_events` events."""
        lower, upper = self.interval()
        return {
            "e": self.e,
            "peak": self.peak,
            "threshold": self.threshold,
            "alpha_k": self.alpha_k,
            "k": self.k,
            "tolerance": self.tolerance,
            "blocks": self.blocks,
            "events": self.events,
            "mean_difference": self.mean_difference,
            "interval": [lower, upper],
            "recent": self.recent(min_events),
        }

    def _holds(self, min_events: int) -> bool:
        return self.recent(min_events) >= -self.tolerance
