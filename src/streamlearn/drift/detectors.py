"""The cheap alarms: river's drift detectors by name. They see every loss, so nothing wraps those that need no wrapping.

An alarm is only a suspicion. Nothing here decides anything, keeps a reference or knows about offsets; see `watch`.
Every detector takes a number of which *more is worse*, and looks for a rise; ADWIN, KSWIN and the two-sided HDDMs notice a fall
as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Protocol

from river import drift

from streamlearn.config import DetectorSettings
from streamlearn.errors import ConfigError


class Detector(Protocol):
    """A river drift detector. Picklable; equal values give equal alarms; after an alarm it starts afresh by itself."""

    @property
    def drift_detected(self) -> bool:
        """Whether the last value completed an alarm."""

    def update(self, x: float) -> None:
        """Take a value."""


class UpwardPageHinkley(drift.PageHinkley):
    """River's Page-Hinkley with mode "up", and the same numbers, in one call instead of four: it runs for every label."""

    def __init__(
        self, min_instances: int = 30, delta: float = 0.005, threshold: float = 50.0, alpha: float = 1 - 0.0001
    ) -> None:
        super().__init__(min_instances, delta, threshold, alpha, "up")

    def update(self, x: float) -> None:
        """Take a value."""
        if self._drift_detected:
            self._reset()  # type: ignore[no-untyped-call]  # river's
        mean = self._x_mean
        mean.n = n = mean.n + 1.0
        mean._mean = average = mean._mean + (1.0 / n) * (x - mean._mean)
        self._sum_increase = total = self.alpha * self._sum_increase + (x - average) - self.delta
        if total < self._min_increase:
            self._min_increase = total
        if n >= self.min_instances:
            self._drift_detected = total - self._min_increase > self.threshold


class SeededKSWIN(drift.KSWIN):
    """River's KSWIN, which draws from its window at random, with a seed of its own: a replay must give the same alarms."""

    def __init__(self, alpha: float = 0.005, window_size: int = 100, stat_size: int = 30, seed: int = 0) -> None:
        super().__init__(alpha=alpha, window_size=window_size, stat_size=stat_size, seed=seed)


class ErrorFHDDM(drift.binary.FHDDM):
    """River's FHDDM for errors: the original watches the rate of right answers fall (Pesaranghader & Viktor 2016)."""

    def __init__(
        self, sliding_window_size: int = 100, confidence_level: float = 0.000001, short_window_size: int | None = None
    ) -> None:
        super().__init__(sliding_window_size, confidence_level, short_window_size)

    def update(self, x: float) -> None:
        """Take a value."""
        super().update(1 - x)  # type: ignore[no-untyped-call]  # river's


class Dummy(drift.DummyDriftDetector):
    """River's dummy detector, which fires every `t_0` values whatever they are: what any other one has to beat."""

    def __init__(self, t_0: int = 1000) -> None:
        super().__init__(t_0=t_0)


class Averaged:
    """A detector of the means of `every` values each: for one that is too slow to see each, or needs more than 0 and 1."""

    def __init__(self, detector: Detector, every: int) -> None:
        self._detector, self._every = detector, every
        self._sum, self._count = 0.0, 0
        self.drift_detected = False

    def update(self, x: float) -> None:
        """Take a value."""
        self._sum += x
        self._count += 1
        if self._count < self._every:
            self.drift_detected = False
            return
        self._detector.update(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        self.drift_detected = self._detector.drift_detected

    @property
    def width(self) -> int:
        """As `recent`, in values."""
        return recent(self._detector) * self._every


# ADWIN: Bifet & Gavaldà, SDM 2007. Page-Hinkley: Page, Biometrika 1954. KSWIN: Raab, Heusinger & Schleif, Neurocomputing 2020;
# it takes some 240 µs a value. DDM: Gama et al., SBIA 2004. EDDM: Baena-García et al., IWKDDS 2006. FHDDM: Pesaranghader &
# Viktor, ECML 2016. HDDM: Frías-Blanco et al., IEEE TKDE 2015.
_MAKERS: Final[dict[str, Callable[..., Detector]]] = {
    "adwin": drift.ADWIN,
    "page_hinkley": UpwardPageHinkley,
    "kswin": SeededKSWIN,
    "ddm": drift.binary.DDM,
    "eddm": drift.binary.EDDM,
    "fhddm": ErrorFHDDM,
    "hddm_a": drift.binary.HDDMA,
    "hddm_w": drift.binary.HDDMW,
    "dummy": Dummy,
}
_EVERY: Final[dict[str, int]] = {"kswin": 32}


def build(settings: DetectorSettings) -> Detector:
    """The detector that `settings` describes. Raises ConfigError for parameters that it does not have or does not take."""
    make = _MAKERS[settings.name]
    allowed = inspect.signature(make).parameters
    for name, value in settings.params.items():
        key = f"drift.detectors.{settings.name}.params.{name}"
        if name not in allowed:
            raise ConfigError(key, "there is no such parameter", f"Use some of {', '.join(allowed)}")
        flag = isinstance(allowed[name].default, bool)
        if isinstance(value, str) or isinstance(value, bool) is not flag:
            kind = "true or false" if flag else "a number"
            raise ConfigError(key, f"{value!r} is not {kind}", f"Write {kind}")
    detector = make(**settings.params)
    every = settings.every or _EVERY.get(settings.name, 1)
    return detector if every == 1 else Averaged(detector, every)


def recent(detector: Any) -> int:
    """How many of the last values lie after the change that an alarm has just found; 0 from a detector that cannot tell."""
    return int(getattr(detector, "width", 0))
