"""What a shard measures of its own work since it was opened, for its status: see `records.Status`. It decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ..buckets import FRESH_S, LEARN_S, Buckets
from ..log import Record
from .learner import Learner


class Measured:
    """Of one learner; told once for a batch and once for a status, never for each event."""

    def __init__(self, learner: Learner) -> None:
        self.learn_s, self.fresh_s = Buckets.of(LEARN_S), Buckets.of(FRESH_S)
        self.lag_s = 0.0
        self.checkpoint_bytes: int | None = None
        self._learner = learner
        self._counted = dict.fromkeys(("learned", "alarms"), 0)
        self._last = self._now()

    def batch(self, records: Sequence[Record], spent: float, now: float, past: bool) -> None:
        """These were taken in `spent` seconds, and are learned `now`, by the clock. `past`: they are of a backfill."""
        self.learn_s.add(spent / len(records), len(records))
        self.lag_s = max(0.0, now - records[-1].ts)
        if not past:
            self.fresh_s.add_ages(records, now)

    def counted(self) -> dict[str, int]:
        """What was counted since the shard was opened. A count that was taken back is not: this only grows."""
        now = self._now()
        for name, value in now.items():
            self._counted[name] = self._counted.get(name, 0) + max(0, value - self._last.get(name, 0))
        self._last = now
        return dict(self._counted)

    def _now(self) -> dict[str, int]:
        return {**self._learner.counters, "learned": self._learner.n, "alarms": self._learner.watch.alarms}
