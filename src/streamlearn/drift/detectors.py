"""The cheap alarms: river's ADWIN and Page-Hinkley. They see every loss, so nothing wraps them.

An alarm is only a suspicion. Nothing here decides anything, keeps a reference or knows about offsets; see `watch`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Protocol

from river import drift

from streamlearn.config import DetectorSettings
from streamlearn.errors import ConfigError


class Detector(Protocol):
    """A river drift detector. Picklable; equal losses give equal alarms; after an alarm it starts afresh by itself."""

    @property
    def drift_detected(self) -> bool:
        """Whether the last loss completed an alarm."""

    def update(self, x: float) -> None:
        """Take a loss."""


class UpwardPageHinkley(drift.PageHinkley):
    """River's Page-Hinkley with mode "up", and the same numbers, in one call instead of four: it runs for every label."""

    def __init__(
        self, min_instances: int = 30, delta: float = 0.005, threshold: float = 50.0, alpha: float = 1 - 0.0001
    ) -> None:
        super().__init__(min_instances, delta, threshold, alpha, "up")

    def update(self, x: float) -> None:
        """Take a loss."""
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


# ADWIN: Bifet & Gavaldà, SDM 2007; it notices a mean that fell as well as one that rose. Page-Hinkley: Page, Biometrika
# 1954; upwards only, since a loss that falls is no reason for an alarm.
_BUILDERS: Final[dict[str, tuple[Callable[..., Detector], tuple[str, ...]]]] = {
    "adwin": (drift.ADWIN, tuple(inspect.signature(drift.ADWIN).parameters)),
    "page_hinkley": (UpwardPageHinkley, tuple(inspect.signature(UpwardPageHinkley).parameters)),
}


def build(settings: DetectorSettings) -> Detector:
    """The detector that `settings` describes. Raises ConfigError for a parameter that it does not have or that is no number."""
    make, allowed = _BUILDERS[settings.name]
    for name, value in settings.params.items():
        key = f"drift.detectors.{settings.name}.params.{name}"
        if name not in allowed:
            raise ConfigError(key, "there is no such parameter", f"Use some of {', '.join(allowed)}")
        if isinstance(value, bool | str):
            raise ConfigError(key, f"{value!r} is not a number", "Write a number")
    return make(**settings.params)


def recent(detector: Any) -> int:
    """How many of the last losses lie after the change that an alarm has just found; 0 from a detector that cannot tell."""
    return int(getattr(detector, "width", 0))
