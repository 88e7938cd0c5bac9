"""Refused actions and attempts to sign in, on their way into the audit trail: gathered, so that nobody can fill the log with
them.

The first refusal of a caller, an action and a reason is written within a second. What follows is counted, and written as one
record after a minute, then two, four, up to an hour, while it goes on; after an hour of quiet it begins anew. Callers without
a valid key are one caller, and callers beyond `MOST` are counted together. While the log is away, nothing is lost but the
order. All methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ..errors import StreamlearnError
from ..records import Refused
from .problems import ProblemError

UNKNOWN: Final = "unknown"  # the caller without a valid key
OTHERS: Final = "others"
SIGN_IN: Final = "sign in"
FIRST_S: Final = 60.0
LONGEST_S: Final = 3600.0
LOOK_S: Final = 0.5
CLOSE_S: Final = 2.0
MOST: Final = 256
NAMED: Final = 5  # models and addresses told in one record
logger = logging.getLogger(__name__)

Place = tuple[str, str, str]


class _Kept:
    """What is known of one caller, action and reason."""

    __slots__ = ("due", "pause", "waiting")

    def __init__(self, now: float) -> None:
        self.waiting: Refused | None = None
        self.due, self.pause = now, FIRST_S


class Refusals:
    """`write` appends a record to the control log; `clock` dates, by `timer` it waits."""

    def __init__(
        self, write: Callable[[Refused], Awaitable[object]], clock: Callable[[], float], timer: Callable[[], float]
    ) -> None:
        self._write, self._clock, self._timer = write, clock, timer
        self._kept: dict[Place, _Kept] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, by: str, action: str, reason: str, model: str = "", origin: str = "") -> None:
        """A refusal. `model` must be one that there is, or empty."""
        place, now = (by, action, reason), self._timer()
        if place not in self._kept and len(self._kept) >= MOST:
            place = (OTHERS, "", "")
        kept = self._kept.setdefault(place, _Kept(now))
        at = self._clock()
        if kept.waiting is None:
            kept.waiting = Refused(*place, at, at, 0)
        one = kept.waiting
        one.count, one.at = one.count + 1, at
        for name, names in ((model, one.models), (origin, one.origins)):
            if name and name not in names and len(names) < NAMED:
                names.append(name)

    async def flush(self, everything: bool = False) -> None:
        """Write what is due, or everything. What the log refuses stays."""
        now = self._timer()
        for place, kept in list(self._kept.items()):
            if kept.waiting is None:
                if now - kept.due >= LONGEST_S:
                    del self._kept[place]
                continue
            if not everything and now < kept.due:
                continue
            record, kept.waiting = kept.waiting, None
            try:
                await self._write(record)
            except (StreamlearnError, ProblemError) as error:
                self._put_back(kept, record)
                logger.warning("a refusal cannot be written into the audit trail now: %s", error)
                return
            kept.due, kept.pause = now + kept.pause, min(LONGEST_S, 2 * kept.pause)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="refusals")

    async def close(self) -> None:
        """Write what waits, for a moment at most."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.flush(everything=True)
        except TimeoutError:
            logger.error("the audit trail lacks the last refusals: the log did not take them within %g s", CLOSE_S)

    def _put_back(self, kept: _Kept, record: Refused) -> None:
        later = kept.waiting
        if later is not None:  # came while the log was asked
            record.count, record.at = record.count + later.count, later.at
            for names, more in ((record.models, later.models), (record.origins, later.origins)):
                names.extend([name for name in more if name not in names][: NAMED - len(names)])
        kept.waiting = record

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.flush()
            except Exception:  # the task must outlive a fault
                logger.exception("writing refusals failed")
