"""What a trial may ask for beside the losses: each side's sums of other metrics, and of the losses by slices of the events.

Only a trial with guardrails or slices in its settings has a breakdown. All of it is additive, so that control can merge blocks
and shards; nothing here decides anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ..config import ModelSettings
from .score_math import LARGEST, LEAST_P
from .waiting import Entry

MAX_VALUES: Final = 24  # of one feature, as many as a day has hours; those that come later count as "other"
MAX_TEXT: Final = 64  # characters of a value's name
WHOLE: Final = 100  # whole numbers below it, but for their sign, are slices of their own; other numbers share a range
MISSING: Final = "missing"
OTHER: Final = "other"

Rows = dict[str, list[float]]  # by name: events, the champion's sum, the challenger's


def _log_loss(y: Any, answer: Any, p: Any) -> float | None:
    if p is None:
        return None
    given = p.get(y, 0.0) if isinstance(p, dict) else p if y else 1.0 - p
    return -math.log(min(max(given, LEAST_P), 1.0 - LEAST_P))


def _brier(y: Any, answer: Any, p: Any) -> float | None:
    return float((p - y) ** 2)


def _positive(y: Any, answer: Any, p: Any) -> float | None:
    return float(answer)


def _absolute(y: Any, answer: Any, p: Any) -> float | None:
    return float(min(abs(y - answer), LARGEST))


def _squared(y: Any, answer: Any, p: Any) -> float | None:
    return float(min(abs(y - answer), LARGEST) ** 2)


# What is summed for each metric, from truth, answer and probabilities; None where a side has no such value.
_SUMMED: Final[Mapping[str, Callable[[Any, Any, Any], float | None]]] = {
    "log_loss": _log_loss,
    "brier": _brier,
    "positive_rate": _positive,
    "mae": _absolute,
    "rmse": _squared,
}


class Breakdown(msgspec.Struct, array_like=True):
    """The metrics and the features to slice by. `values` are the slices that were met, by feature, at most MAX_VALUES each."""

    metrics: list[str]
    slices: list[str]
    values: dict[str, list[str]] = {}

    @staticmethod
    def of(model: ModelSettings) -> Breakdown | None:
        """What the trials of a model ask for, None for nothing but the losses."""
        trial = model.trial
        if not trial.guardrails and not trial.slices:
            return None
        wanted = {guardrail.metric for guardrail in trial.guardrails}
        return Breakdown([name for name in _SUMMED if name in wanted], list(trial.slices))

    def add(self, metrics: Rows, entry: Entry, y: Any) -> None:
        """Add the metrics of one answered event to the sums in `metrics`."""
        for name in self.metrics:
            value = _SUMMED[name]
            champion, challenger = value(y, entry.y, entry.p), value(y, entry.shadow_y, entry.shadow_p)
            if champion is not None and challenger is not None:
                _add(metrics, name, champion, challenger)

    def add_slices(self, slices: dict[str, Rows], entry: Entry, champion: float, challenger: float) -> None:
        """Add both losses of one answered event to the sums of its slices, one of each feature."""
        for feature in self.slices:
            value = slice_of(entry.x.get(feature))
            known = self.values.setdefault(feature, [])
            if value not in known:
                if len(known) < MAX_VALUES:
                    known.append(value)
                else:
                    value = OTHER
            _add(slices.setdefault(feature, {}), value, champion, challenger)


def slice_of(value: Any) -> str:
    """The name of the slice that a feature's value lies in.

    Texts and booleans are slices of their own, and so are whole numbers below WHOLE; other numbers share the ranges between
    1, 2, 5, 10, 20, 50, … and the like below 1, since numbers with very many values would make slices of nothing.
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if math.isfinite(value) and abs(value) < WHOLE and value == int(value):
        return str(int(value))
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    power = math.floor(math.log10(size))
    low = next(step * 10.0**power for step in (5, 2, 1, 0.5) if step * 10.0**power <= size or step == 0.5)
    high = low * (2.5 if f"{low:e}"[0] == "2" else 2)
    sign = "-" if value < 0 else ""
    return f"{sign}{low:g} to {sign}{high:g}"


def _add(rows: Rows, name: str, champion: float, challenger: float) -> None:
    row = rows.setdefault(name, [0, 0.0, 0.0])
    row[0] += 1
    row[1] += champion
    row[2] += challenger
