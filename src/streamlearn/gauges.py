"""A model's figures out of the statuses of its shards, by the names that the history's series have.

Counts and rates add up. Scores of the window are means weighted by the events in each shard's window: exact where a score is a
mean over events (accuracy, log_loss, brier, mae), by squares for rmse; kappa, roc_auc and r2 do not add up at all, and their
weighted mean is what stands for them. Quantiles do not either: the slowest shard's is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .events import REASONS
from .records import Status

MAIN: Final[Mapping[str, tuple[str, bool]]] = {
    "binary": ("accuracy", True), "multiclass": ("accuracy", True), "regression": ("mae", False), "recommend": ("ndcg", True),
}  # fmt: skip
WINDOW: Final = "window_"  # what a baseline's scores of the window begin with


def main_metric(task: str) -> tuple[str, bool]:
    """The windowed metric that stands for a model of this task, which its baselines have too; whether higher is better."""
    return MAIN[task]


def figures(statuses: Sequence[Status], window: int) -> dict[str, float]:
    """What the statuses say together; what none of them knows is left out. `window`: the model's `score_window`.

    metric:<name>, baseline:<baseline>:<metric> (both of the window), rate (labelled events a second), lag, pending, early,
    dead, n (sums), freshness_p50_s, freshness_p99_s (from posted to learned), delay_p50, delay_p95 (of labels, in events),
    detector:<name>.
    """
    if not statuses:
        return {}
    told = {
        "rate": sum(status.rate for status in statuses),
        "lag": sum(max(0, status.end - status.position) for status in statuses),
        "pending": sum(status.pending for status in statuses),
        "early": sum(status.early for status in statuses),
        "dead": sum(dead_letters(status) for status in statuses),
        "n": sum(status.n for status in statuses),
        **scores(statuses, window),
        **_slowest(statuses),
        **_nearest(statuses),
    }
    return {name: float(value) for name, value in told.items() if math.isfinite(value)}


def dead_letters(status: Status) -> int:
    """Events that the shard's learner could not learn: its counters named by a reason."""
    return sum(count for name, count in status.counters.items() if name in REASONS)


def scores(statuses: Iterable[Status], window: int) -> dict[str, float]:
    """metric:<name> and baseline:<baseline>:<metric>, of the window."""
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    for status in statuses:
        weight = float(min(int(status.scores.get("n") or 0), window))
        for baseline, metric, value in windowed(status.scores):
            name = f"baseline:{baseline}:{metric}" if baseline else f"metric:{metric}"
            if weight:
                sums[name] = sums.get(name, 0.0) + weight * (value * value if name.endswith("rmse") else value)
                weights[name] = weights.get(name, 0.0) + weight
    means = {name: total / weights[name] for name, total in sums.items()}
    return {name: math.sqrt(mean) if name.endswith("rmse") else mean for name, mean in means.items()}


def windowed(told: Mapping[str, Any]) -> Iterable[tuple[str, str, float]]:
    """(baseline, metric, value) of the window, as a learner tells its scores; the model's own have no baseline."""
    for metric, value in (told.get("window") or {}).items():
        if _number(value):
            yield "", metric, float(value)
    for baseline, found in (told.get("baselines") or {}).items():
        for metric, value in found.items():
            if metric.startswith(WINDOW) and _number(value):
                yield baseline, metric.removeprefix(WINDOW), float(value)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _slowest(statuses: Sequence[Status]) -> dict[str, float]:
    """A freshness of 0 is that of a shard that has learned nothing lately: it says nothing."""
    told: dict[str, float] = {}
    for quantile in ("p50", "p99"):
        ages = [status.freshness_ms.get(quantile, 0.0) / 1000 for status in statuses]
        if any(ages):
            told[f"freshness_{quantile}_s"] = max(ages)
    for quantile in ("p50", "p95"):
        delays = [status.delay[quantile] for status in statuses if status.n and quantile in status.delay]
        if delays:
            told[f"delay_{quantile}"] = max(delays)
    return told


def _nearest(statuses: Sequence[Status]) -> dict[str, float]:
    """Each detector of the shard where it is nearest to an alarm."""
    names = {name for status in statuses for name in status.drift}
    return {f"detector:{name}": max(status.drift.get(name, -math.inf) for status in statuses) for name in sorted(names)}
