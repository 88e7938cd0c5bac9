"""Event time, guarded: one event of an odd time must not make everything else look old."""

from __future__ import annotations

import math
from typing import Final

LEAP_S: Final = 30 * 86_400.0
BELIEVED: Final = 20


class Times:
    """The latest time known. One more than LEAP_S ahead of it is believed only when BELIEVED of them come in a row."""

    def __init__(self) -> None:
        self.latest = -math.inf
        self._ahead = 0
        self.odd = 0

    def of(self, ts: float) -> float:
        """`ts` in seconds; the latest time known instead when it is no number or too far ahead, which is counted as odd."""
        if not math.isfinite(ts):
            self.odd += 1
            return self.latest if math.isfinite(self.latest) else 0.0
        if ts > self.latest + LEAP_S and math.isfinite(self.latest):
            self._ahead += 1
            if self._ahead < BELIEVED:
                self.odd += 1
                return self.latest
        self._ahead = 0
        self.latest = max(self.latest, ts)
        return ts
