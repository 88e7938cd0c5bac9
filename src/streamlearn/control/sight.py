"""The world as the loop sees it: the log's ends and times, labelled counts from statuses, the clock. It never writes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..config import Settings
from ..events import Limits
from ..keys import KeyRing
from ..log import Log
from ..log.seek import offset_at as offset_at
from ..log.seek import time_at as time_at
from ..records import Status
from ..retrain.rewind import Sound, kept_versions, sound_checkpoint
from ..store import Store
from .facts import scores_of
from .seen import Inputs
from .world import Hindsight, Outcome, Said

logger = logging.getLogger("streamlearn.control")


class Statuses:
    """The learners' newest words about themselves, read again when they are `max_age_s` old. Damaged ones are passed over."""

    def __init__(self, store: Store, max_age_s: float) -> None:
        self._store, self._max_age_s = store, max_age_s
        self._read_at: float | None = None
        self._docs: dict[tuple[str, int], Status] = {}

    def refresh(self, now: float) -> None:
        """Read the store, unless it was read just now; `now` by a timer. Raises StoreError."""
        if self._read_at is not None and now - self._read_at < self._max_age_s:
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
    hindsight: Hindsight | None
    store: Store
    keys: KeyRing
    partitions: int
    inputs: Inputs | None
    look: Callable[[], Inputs | None]
    ask: Callable[[], Sequence[Said]]

    def sound(self, shard: int, offset: int) -> Sound | None:
        """See `World`."""
        return sound_checkpoint(self.store, self.keys, self.model, shard, self.log.identity(self.stream), offset)

    def kept(self) -> frozenset[int]:
        """See `World`."""
        return kept_versions(self.store.versions(), self.model, self.partitions)

    @property
    def choices(self) -> Sequence[Said]:
        """See `World`."""
        return self.ask()

    def look_now(self) -> Inputs | None:
        """See `World`."""
        return self.look()

    def labelled(self, shard: int) -> int:
        """See `World`."""
        status = self.statuses.get(self.model, shard)
        return 0 if status is None else status.n

    def scores(self, shard: int) -> dict[str, Any]:
        """See `World`."""
        status = self.statuses.get(self.model, shard)
        return {} if status is None else scores_of(status)
    def rebuilt(self, shard: int) -> int | None:
        """See `World`."""
        status = self.statuses.get(self.model, shard)
        past = None if status is None else status.backfill
        awaits = past is not None and past.why == "rebuild" and past.position >= past.until
        return status.generation if status is not None and awaits else None

    def bounds(self, partition: int) -> tuple[int, int]:
        """See `World`."""
        return self.log.bounds(self.stream, partition)

    def time_at(self, partition: int, offset: int) -> float:
        """See `World`."""
        return time_at(self.log, self.stream, partition, offset)

    def offset_at(self, partition: int, time: float) -> int:
        """See `World`."""
        return offset_at(self.log, self.stream, partition, time)
