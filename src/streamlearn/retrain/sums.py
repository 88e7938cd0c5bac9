"""What a block of a trial holds beside its losses: additive sums by name, merged over shards and over blocks.

A name is ("metric", metric) or ("slice", feature, value); its sum is (events, champion's, challenger's). Of a slice they are
sums of losses in [0, 1], of a metric sums of what its mean is of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

METRIC: Final = "metric"
SLICE: Final = "slice"

Name = tuple[str, ...]
Sum = tuple[int, float, float]
Sums = Mapping[Name, Sum]

NONE: Final[Sums] = {}


def read_sums(data: Mapping[str, Any]) -> Sums:
    """The sums in the data of a "block" signal, none in one without. Raises TypeError or ValueError for what cannot be one."""
    if "metrics" not in data and "slices" not in data:
        return NONE
    found: dict[Name, Sum] = {(METRIC, metric): _sum(row) for metric, row in data.get("metrics", {}).items()}
    for feature, values in data.get("slices", {}).items():
        for value, row in values.items():
            n, champion, challenger = found[SLICE, feature, value] = _sum(row)
            if max(champion, challenger) > n + 1e-9 or min(champion, challenger) < -1e-9:
                raise ValueError(f"slice {feature} = {value}: {n} events cannot have loss sums of {champion}, {challenger}")
    return found


def merge(parts: Iterable[Sums]) -> Sums:
    """All parts added up, name by name."""
    whole: dict[Name, Sum] = {}
    for part in parts:
        for name, (n, champion, challenger) in part.items():
            before = whole.get(name, (0, 0.0, 0.0))
            whole[name] = (before[0] + n, before[1] + champion, before[2] + challenger)
    return whole


def _sum(row: Any) -> Sum:
    n, champion, challenger = row
    if n < 0 or not (math.isfinite(champion) and math.isfinite(challenger)):
        raise ValueError(f"{row} is no number of events with two finite sums")
    return int(n), float(champion), float(challenger)
