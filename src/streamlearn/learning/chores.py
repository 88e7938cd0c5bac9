"""What a shard does now and then: publish, checkpoint, report; each with its own cadence, its write on another thread.

A store that cannot be reached is tried again with growing pauses, and the shard goes on learning meanwhile. Nothing here knows
what is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final

from ..buckets import PAUSE_S, Buckets
from ..errors import Overloaded, StoreFull, StoreUnavailable, StreamlearnError

logger = logging.getLogger("streamlearn.learn")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0


class Patience:
    """Pauses that double with each failure in a row; `what` is said aloud each time. `failing`: the last attempt failed.

    `failures` counts all of them.
    """

    def __init__(self, what: str) -> None:
        self.until = 0.0
        self.failures = 0
        self._what = what
        self._pause = 0.0

    def failed(self, error: StreamlearnError, now: float) -> None:
        """Wait until some time after `now`, by the timer; at least as long as an Overloaded asks for."""
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        if isinstance(error, Overloaded):
            self._pause = min(LONGEST_PAUSE, max(self._pause, error.retry_after))
        self.until = now + self._pause
        self.failures += 1
        logger.warning("waiting", extra={"what": self._what, "error": str(error), "again_in_s": self._pause})

    @property
    def failing(self) -> bool:
        return self._pause > 0

    def worked(self) -> None:
        """It went well: the next failure is a first one."""
        self._pause = 0.0


class Chore:
    """Due every `interval` seconds, and less often when its pause would exceed the share `budget` of the time.

    `first` is when it is due at first, by the timer. `pause` is how long it last kept the loop from learning, in seconds;
    `pauses` counts all of them. `failing` says that its last write did not come about. What its write spends beside the loop
    counts like a pause.
    """

    def __init__(self, what: str, interval: float, budget: float, first: float) -> None:
        self.pause = 0.0
        self.pauses = Buckets.of(PAUSE_S)
        self.failing = False
        self._interval, self._budget, self._next = interval, budget, first
        self._ended = first
        self._write: Future[float | None] | None = None
        self._patience = Patience(what)

    @property
    def failures(self) -> int:
        """How often a write did not come about."""
        return self._patience.failures

    def due(self, now: float) -> bool:
        """Whether its time has come and its last write is over. Raises what that write raised, unless it can be tried again."""
        if self._write is not None:
            if not self._write.done():
                return False
            self.settle(now)
        return now >= self._next

    def done(self, started: float, ended: float) -> None:
        """It kept the loop from `started` to `ended`, by the timer."""
        self.pause, self._ended = ended - started, ended
        self.pauses.add(self.pause)
        self._next = ended + max(self._interval, self.pause / self._budget)

    def write(self, writer: Executor, write: Callable[[], float | None]) -> None:
        """Have `write` done on another thread; it gives the seconds spent beside the loop, if any. The last must be over."""
        self._write = writer.submit(write)

    def settle(self, now: float) -> None:
        """Wait for the last write, and take in how it ended. Raises as `due` does."""
        write, self._write = self._write, None
        if write is None:
            return
        try:
            spent = write.result()
        except (StoreUnavailable, StoreFull) as error:
            self.failing = True
            self._patience.failed(error, now)
            self._next = self._patience.until
        else:
            self.failing = False
            self._patience.worked()
            self._next = max(self._next, self._ended + (spent or 0.0) / self._budget)
