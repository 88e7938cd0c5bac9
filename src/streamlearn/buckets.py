"""Histograms that a process counts into and tells of whole: counts by bucket and their sum, ever growing while it lives."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

LEARN_S: Final = (2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 0.05)
FRESH_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
PAUSE_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
RETRAIN_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)


class Dated(Protocol):
    """Something with a time, in Unix seconds."""

    @property
    def ts(self) -> float: ...


class Buckets(msgspec.Struct):
    """`counts[i]` values lay at most at `bounds[i]` and above the bound before; the last count is of those above all bounds."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float = 0.0

    @classmethod
    def of(cls, bounds: tuple[float, ...]) -> Buckets:
        """An empty one."""
        return cls(bounds, [0] * (len(bounds) + 1))

    def add(self, value: float, n: int = 1) -> None:
        """Count `value` so many times."""
        self.counts[bisect_left(self.bounds, value)] += n
        self.sum += value * n

    def add_ages(self, records: Sequence[Dated], now: float) -> None:
        """Count the ages at `now` of records in the order of their times, in one pass over the bounds that they lie between.

        The sum takes the mean of the oldest and the youngest for each. A time that lies ahead of `now` has the age 0.
        """
        if not records:
            return
        oldest, youngest = max(0.0, now - records[0].ts), max(0.0, now - records[-1].ts)
        self.sum += len(records) * (oldest + youngest) / 2
        low, high = bisect_left(self.bounds, youngest), bisect_left(self.bounds, oldest)
        end = len(records)  # of those that are not counted yet, which are the older ones
        for place in range(low, high):
            cut = bisect_left(records, now - self.bounds[place], hi=end, key=_time)
            self.counts[place] += end - cut
            end = cut
        self.counts[high] += end


def _time(record: Dated) -> float:
    return record.ts
