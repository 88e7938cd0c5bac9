"""How long after a slate was shown the first action came: the share of clicks by delay, with slates that still wait counted in.

A slate that has waited for a while without a click says something of short delays and nothing of longer ones. The life table of
Cutler and Ederer (J. Chronic Dis. 8, 1958), which is Kaplan and Meier's estimate on grouped delays, counts it in just so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Final

import msgspec

BINS: Final = 24
REMEMBERED: Final = 50_000.0  # slates; beyond that all counts are halved, so that old ones fade
QUANTILES: Final = (50, 90, 99)


class DelayCurve(msgspec.Struct, array_like=True):
    """Slates whose time is over, by the delay of their first click. A bin ends at `window` · (i / BINS)², i from 1.

    `clicked` counts first clicks by bin, `unclicked` slates that were let go without one, by the bin of their age then.
    """

    window: float
    clicked: list[float]
    unclicked: list[float]

    @staticmethod
    def of(window: float) -> DelayCurve:
        """One that has seen nothing; `window` is the attribution window in seconds."""
        return DelayCurve(float(window), [0.0] * BINS, [0.0] * BINS)

    @property
    def edges(self) -> list[float]:
        """Where each bin ends, in seconds."""
        return [self.window * (index / BINS) ** 2 for index in range(1, BINS + 1)]

    def add(self, delay: float | None, age: float) -> None:
        """A slate waits no longer: its first click came after `delay` seconds, or none within its `age`."""
        rows, seconds = (self.unclicked, age) if delay is None else (self.clicked, delay)
        rows[self._bin(seconds)] += 1.0
        if sum(self.clicked) + sum(self.unclicked) > REMEMBERED:
            self.clicked = [count / 2 for count in self.clicked]
            self.unclicked = [count / 2 for count in self.unclicked]

    def _bin(self, seconds: float) -> int:
        return min(BINS - 1, bisect_left(self.edges, seconds))

    def view(self, waiting: Iterable[tuple[float | None, float]] = ()) -> dict[str, Any]:
        """JSON-able; `waiting` are (delay, age) of slates that still wait.

        impressions; clicked: the estimated share of slates with a click within the window; curve: [seconds, share of all such
        clicks that come within so many]; p50_s, p90_s, p99_s: the ends of the bins that reach those shares, None without any.
        """
        clicked, unclicked = list(self.clicked), list(self.unclicked)
        for delay, age in waiting:
            rows, seconds = (unclicked, age) if delay is None else (clicked, delay)
            rows[self._bin(seconds)] += 1.0
        total = left = sum(clicked) + sum(unclicked)
        unlucky, reached = 1.0, []
        for index, (came, gone) in enumerate(zip(clicked, unclicked, strict=True)):
            at_risk = left - (gone / 2 if index < BINS - 1 else 0.0)  # of the last bin nearly all have waited to its end
            if at_risk > 0:
                unlucky *= 1.0 - min(1.0, came / at_risk)
            left -= came + gone
            reached.append(1.0 - unlucky)
        final = reached[-1]
        shares = [share / final for share in reached] if final > 0 else []
        edges = self.edges
        return {
            "impressions": total,
            "clicked": final if total else None,
            "curve": [[edge, share] for edge, share in zip(edges, shares, strict=False)],
            **{f"p{mark}_s": _quantile(edges, shares, mark / 100) for mark in QUANTILES},
        }


def _quantile(edges: list[float], shares: list[float], wanted: float) -> float | None:
    return next((edge for edge, share in zip(edges, shares, strict=False) if share >= wanted - 1e-12), None)
