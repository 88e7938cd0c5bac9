"""Carries a learner's words to the log: signals, dead letters and what it tells other shards, in order, one append at a time.

What was left in `learner.signals`, `learner.dead` and `learner.shares` stays there until the log says that it is durable, so
that nothing is lost when the log refuses; a refused append is made again after a pause.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from ..errors import LogError, Overloaded
from ..events import Kind, encode
from ..log import DEAD, SIGNALS, Entry, Log
from .chores import Patience
from .learner import Learner

CROWD: Final = 10_000
LETTERS: Final = 500  # in one append: each may hold a whole event


class Carrier:
    """Of one learner. `timer` is monotonic seconds."""

    def __init__(self, log: Log, learner: Learner, timer: Callable[[], float]) -> None:
        self._log, self._learner, self._timer = log, learner, timer
        self._key = learner.name.encode()
        own = learner.join.partition
        self._others = [partition for partition in range(learner.join.partitions) if partition != own]
        self._sending: Future[list[tuple[int, int]]] | None = None
        self._sent = (0, 0, 0)
        self._patience = Patience("the log, to take signals and dead letters")

    @property
    def crowded(self) -> bool:
        """So much waits that nothing more should be learned until it is carried."""
        learner = self._learner
        return len(learner.signals) + len(learner.dead) + len(learner.shares) > CROWD

    @property
    def failures(self) -> int:
        """How often the log did not take what it was given."""
        return self._patience.failures

    def carry(self) -> None:
        """Take in how the last append ended, if it has, and begin the next one. Never waits."""
        if self._sending is not None and not self._sending.done():
            return
        try:
            self._settle()
            if self._timer() >= self._patience.until:
                self._send()
        except (LogError, Overloaded) as error:
            self._patience.failed(error, self._timer())

    def carry_all(self) -> None:
        """Wait until every word is durable in the log. Raises LogError or Overloaded when the log refuses: none is lost."""
        try:
            self._settle()
            while self._learner.signals or self._learner.dead or self._learner.shares:
                self._send()
                self._settle()
        except (LogError, Overloaded) as error:
            self._patience.failed(error, self._timer())
            raise

    def _settle(self) -> None:
        sending, self._sending = self._sending, None
        if sending is None:
            return
        sending.result()
        self._patience.worked()
        signals, dead, shares = self._sent
        del self._learner.signals[:signals]
        del self._learner.dead[:dead]
        del self._learner.shares[:shares]

    def _send(self) -> None:
        learner = self._learner
        signals, dead, shares = learner.signals, learner.dead[:LETTERS], learner.shares[:LETTERS]
        if dead:
            self._sent = (0, len(dead), 0)
            self._sending = self._log.append(DEAD, [Entry(self._key, encode(letter)) for letter in dead])
        elif signals:
            self._sent = (len(signals), 0, 0)
            self._sending = self._log.append(SIGNALS, [Entry(self._key, encode(signal)) for signal in signals])
        elif shares:
            self._sent = (0, 0, len(shares))
            told = [Entry(self._key, share, Kind.SHARED, partition) for share in shares for partition in self._others]
            self._sending = self._log.append(learner.join.stream, told)
