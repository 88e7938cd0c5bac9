"""Token buckets: how many requests a second a caller may make, and how many at once. Bounded in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

MOST: Final = 4096


class Buckets:
    """A bucket for each caller: at most `burst` tokens, `rate` more a second, one for a request. The timer gives seconds.

    Of more than `most` callers the one that was seen longest ago is forgotten, and so begins with a full bucket again.
    """

    def __init__(self, timer: Callable[[], float], most: int = MOST) -> None:
        self._timer, self._most = timer, most
        self._held: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens, and when it was so

    def take(self, caller: Hashable, rate: float, burst: float) -> float:
        """0 when the request may go on, else the seconds until it might."""
        now, burst = self._timer(), max(1.0, burst)
        tokens, at = self._held.get(caller, (burst, now))
        tokens = min(burst, tokens + (now - at) * rate)
        wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / rate
        self._held[caller] = (tokens - 1.0 if wait == 0.0 else tokens, now)
        self._held.move_to_end(caller)
        if len(self._held) > self._most:
            self._held.popitem(last=False)
        return wait

    def __len__(self) -> int:
        return len(self._held)
