"""From offsets to append times and back, over any log."""

from __future__ import annotations

import math

from . import Log


def time_at(log: Log, stream: str, partition: int, offset: int) -> float:
    """The append time of the first record from `offset` on, which must be retained; infinite for a broker's marks alone."""
    records = log.read(stream, partition, offset, 1)
    return records[0].ts if records else math.inf


def offset_at(log: Log, stream: str, partition: int, time: float) -> int:
    """The first retained offset appended at `time` or later, the end when there is none: a binary search. Raises LogError."""
    low, high = log.bounds(stream, partition)
    while low < high:
        middle = (low + high) // 2
        if time_at(log, stream, partition, middle) < time:
            low = middle + 1
        else:
            high = middle
    return low
