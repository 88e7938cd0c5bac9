"""The world as the loop sees it: the log's ends and times, labelled counts from statuses, the clock. It never writes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from ..config import Settings
from ..events import Limits
from ..log import Log
from ..records import Status
from ..store import Store
from .world import Outcome

logger = logging.getLogger("streamlearn.control")


class Statuses:
    """The learners' newest words about themselves, read again when they are `max_age_s` old. Damaged ones are passed over."""

    def __init__(self, store: Store, max_age_s: float) -> None:
        self._store, self._max_age_s = store, max_age_s
        self._read_at: float | None = None
        self._docs: dict[tuple[str, int], Status] = {}

    def refresh(self, now: float) -> None:
        """Read the store, unless it was read just now. Raises StoreError."""
        if self._read_at is not None and 0 <= now - self._read_at < self._max_age_s:
            return
        docs = {}
        for key, doc in self._store.statuses().items():
            try:
                docs[key] = msgspec.json.decode(doc, type=Status)
            except msgspec.DecodeError as error:
                logger.warning("a status cannot be read", extra={"model": key[0], "shard": key[1], "error": str(error)})
        self._docs, self._read_at = docs, now

    def get(self, model: str, shard: int) -> Status | None:
        """The status of a shard, as it was when last read."""
        return self._docs.get((model, shard))


def time_at(log: Log, stream: str, partition: int, offset: int) -> float:
    """The append time of the record at `offset`, which must be retained. Raises LogError."""
    return log.read(stream, partition, offset, 1)[0].ts


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


def limits_of(settings: Settings) -> dict[str, float]:
    """The bounds on one event, by the names that `events.Limits` has."""
    given = settings.limits.model_dump()
    return {name: given[name] for name in Limits._fields}


@dataclass(frozen=True, slots=True)
class Sight:
    """A `World`: what the judge of one model may look at."""

    log: Log
    statuses: Statuses
    model: str
    stream: str
    now: float
    signal: int
    up_to_date: bool
    limits: Mapping[str, float]
    stream_settings: Mapping[str, object]
    outcome: Outcome | None

    def labelled(self, shard: int) -> int:
        """See `World`."""
        status = self.statuses.get(self.model, shard)
        return 0 if status is None else status.n

    def bounds(self, partition: int) -> tuple[int, int]:
        """See `World`."""
        return self.log.bounds(self.stream, partition)

    def time_at(self, partition: int, offset: int) -> float:
        """See `World`."""
        return time_at(self.log, self.stream, partition, offset)

    def offset_at(self, partition: int, time: float) -> int:
        """See `World`."""
        return offset_at(self.log, self.stream, partition, time)
