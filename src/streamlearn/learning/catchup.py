"""What a shard still has to catch up with when it begins: a new model with the past, another build with all of it.

A *backfill* is the first reading of what was there when the model began. A *rebuild* is one by a learner that found checkpoints
of another build (river, Python or schema) only: it makes its state again by replay. So does one without any checkpoint, of a
model of which versions were dropped: those that cannot be made again are not tried again, and it sends fewer signals. What was
alarming then was judged then, so a rebuild tells control nothing of it; when it is through, control sends a reset with the
reason "rebuilt", by which the detectors start afresh and signals are numbered above all that the former learner may have sent.
While the store's publication is of another build, processes of that build may need it: it is withheld from being overwritten
until the shard is near the end.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..errors import CodecError, OtherBuild
from ..keys import KeyRing
from ..lineage import Backfill, told
from ..store import Store
from ..store.codec import open_blob
from .learner import Learner

logger = logging.getLogger("streamlearn.learn")

SAY_S: Final = 10.0
MUTED: Final = frozenset({"alarm", "window"})


class CatchUp:
    """Of one shard. `past` is None when there is nothing to catch up with; `near`: fewer records left than this is the end."""

    def __init__(
        self, learner: Learner, past: Backfill | None, withheld: str, until: int, near: int, now: float,
        who: Mapping[str, object],
    ) -> None:
        self.past, self.withheld, self._who = past, withheld, who
        self._learner, self._until, self._near = learner, until, near
        self._began = (now, learner.position)
        self._say_at = now + SAY_S

    @property
    def rebuilding(self) -> bool:
        """A rebuild is under way, or is through and control has not yet answered with its reset."""
        past = self.past
        return past is not None and past.why == "rebuild" and self._learner.signal_seq < 2 * past.until

    def mute(self, first: int) -> None:
        """Take back, of the signals from place `first` on, what a rebuild must not tell."""
        if self.rebuilding:
            signals = self._learner.signals
            signals[first:] = [signal for signal in signals[first:] if signal.kind not in MUTED]

    def may_publish(self, end: int) -> bool:
        """Whether the store's publication may be replaced; `end` is the log's end as it was last known."""
        if self.withheld and self._learner.position >= self._until and end - self._learner.position < self._near:
            logger.info("caught up: publishes from now on", extra=self._who)
            self.withheld = ""
        return not self.withheld

    def status(self, now: float) -> Backfill | None:
        """How far it is, None once that is over; says so aloud now and then. `now` by the timer."""
        past, position = self.past, self._learner.position
        if past is None:
            return None
        if self._over(past):
            logger.info("has read what was there when it began", extra={**self._who, "offset": position})
            self.past = None
            return None
        then, began = self._began
        rate = (position - began) / (now - then) if now > then else 0.0
        found = msgspec.structs.replace(past, position=min(position, past.until), rate=rate)
        if now >= self._say_at and position < past.until:
            self._say_at = now + SAY_S
            logger.info(told([found]), extra={**self._who, "offset": position})
        return found

    def kept(self) -> dict[str, Any]:
        """What a checkpoint's header must carry, for the next process to go on."""
        past = self.past
        if past is None or self._over(past):
            return {}
        return {"backfill": {"start": past.start, "until": past.until, "why": past.why}}

    def _over(self, past: Backfill) -> bool:
        return self._learner.position >= past.until and not self.rebuilding


def kept_past(extra: dict[str, Any], position: int) -> Backfill | None:
    """The backfill that a checkpoint's header carries."""
    found = extra.get("backfill")
    return None if found is None else Backfill(found["start"], found["until"], position, found["why"])


def foreign_publication(store: Store, keys: KeyRing, model: str, shard: int) -> str:
    """Why the store's publication must be withheld from being replaced, "" when it need not. Raises StoreError."""
    found = store.publication(model, shard)
    if found is not None:
        try:
            open_blob(found.blob, keys, kind="publication", model=model, shard=shard)
        except OtherBuild as error:
            return str(error)
        except CodecError:
            pass
    return ""
