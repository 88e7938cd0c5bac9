"""How near each detector is to an alarm: its own statistic as a share of its own threshold, so that 1 is an alarm.

It is worked out when somebody asks, about once a second, from what the detector holds, and changes nothing in it. Only rises
are told, of which the watch makes alarms. A detector that has not seen enough, or has no threshold, has no statistic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from river import drift

from .detectors import Averaged, Detector, ErrorFHDDM, SeededKSWIN, UpwardPageHinkley

MOST: Final = 10.0  # a p-value of 0 has no logarithm


def statistic(detector: Detector, seen: npt.NDArray[np.float64] | None = None) -> float | None:
    """The statistic, or None. `seen` are the values that the detector was shown last, which ADWIN does not show by itself."""
    if isinstance(detector, Averaged):
        return statistic(detector._detector)
    if isinstance(detector, drift.ADWIN):
        return None if seen is None else _adwin(detector, seen)
    for kind, work_out in _OTHERS.items():
        if isinstance(detector, kind):
            found = work_out(detector)
            return None if found is None else min(MOST, max(0.0, found))
    return None


def _adwin(detector: drift.ADWIN, seen: npt.NDArray[np.float64]) -> float | None:
    """The largest rise over a cut of the window, by the bound at that cut (Bifet & Gavaldà 2007, section 4, as river has it).

    ADWIN itself looks at some of the cuts only, so that this may be a little above 1 before it fires.
    """
    width, least = int(detector.width), int(detector.min_window_length)
    if width <= max(detector.grace_period, 2 * least) or width > len(seen):
        return None
    window = seen[-width:]
    sums = np.cumsum(window)
    first = np.arange(least, width - least)
    second = width - first
    rise = (sums[-1] - sums[first - 1]) / second - sums[first - 1] / first
    log = math.log(2 * math.log(width) / detector.delta)
    inverse = 1 / (first - least + 1) + 1 / (second - least + 1)
    bound = np.sqrt(2 * inverse * float(window.var()) * log) + 2 / 3 * log * inverse
    return min(MOST, max(0.0, float((rise / bound).max())))


def _page_hinkley(one: Any) -> float | None:
    rise = one._sum_increase - one._min_increase
    return rise / one.threshold if math.isfinite(rise) else None


def _kswin(one: Any) -> float | None:
    if len(one.window) < one.window_size:
        return None
    return math.log(one.p_value) / math.log(one.alpha) if one.p_value > 0 else MOST


def _ddm(one: Any) -> float | None:
    if not one._s_min:
        return None
    p, n = one._p.get(), one._p.n
    return float((p + math.sqrt(p * (1 - p) / n) - one._p_min) / (one.drift_threshold * one._s_min))


def _eddm(one: Any) -> float | None:
    if one._n_errors <= one.warm_start or one._p2s_prime_max <= 0:
        return None
    level = (one._error_distances.mean.get() + 2 * math.sqrt(one._error_distances.get())) / one._p2s_prime_max
    return float((1 - level) / (1 - one.beta))


def _fhddm(one: Any) -> float | None:
    """Of all values but the oldest of its window, which it has let go of."""
    held = len(one._sliding_window)
    return (one._u_max - one.n_one / held) / one._epsilon if held >= one.sliding_window_size - 1 > 0 else None


def _hddm_a(one: Any) -> float | None:
    n, least = one._z.n, one._x_min.n
    if not 0 < least < n:
        return None
    bound = math.sqrt((n - least) / least / n / 2 * math.log(2 / one.drift_confidence))
    return float((one._z.get() - one._x_min.get()) / bound)


def _hddm_w(one: Any) -> float | None:
    before, after = one._s1_incr, one._s2_incr
    if not (before.is_init and after.is_init):
        return None
    return float((after.ewma - before.ewma) / one._mcdiarmid_bound(before.ibc + after.ibc, one.drift_confidence))


_OTHERS: Final[dict[type, Callable[[Any], float | None]]] = {
    UpwardPageHinkley: _page_hinkley,
    SeededKSWIN: _kswin,
    drift.binary.DDM: _ddm,
    drift.binary.EDDM: _eddm,
    ErrorFHDDM: _fhddm,
    drift.binary.HDDMA: _hddm_a,
    drift.binary.HDDMW: _hddm_w,
}
