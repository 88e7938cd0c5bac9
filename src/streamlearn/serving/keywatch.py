"""The API keys as the control log tells of them, followed by a thread of its own: what is made or revoked holds within a
second.

The log is asked, not the store, so that neither a store nor a control process that is away stands between a key and its
revocation. While the log is away, what was read last holds. A log that was made again is read from its start: its keys alone
hold.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Final

from ..apikeys import ApiKey, KeyBook
from ..errors import LogError, PositionExpired
from ..log import Log
from .access import is_loopback, read_keys

POLL_S: Final = 0.5
MAX_BACKOFF_S: Final = 4.0
logger = logging.getLogger(__name__)


class KeyWatch:
    """`host` is what the service is bound to. Readers may be on any thread: `find` and `by_id` see a key as it is now."""

    def __init__(self, log: Log, environment: Collection[ApiKey], host: str, clock: Callable[[], float]) -> None:
        self._log, self._environment, self._clock = log, environment, clock
        self._local = is_loopback(host)
        self.book = KeyBook(environment)
        self._offset = 0
        self.known = False  # whether the log was read to its end once
        self._away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    @property
    def required(self) -> bool:
        """Whether a request needs a key; also while nobody can tell, since the log was never read."""
        return not self.known or not self._local or self.book.required

    def find(self, token: bytes) -> ApiKey | None:
        return self.book.find(token, self._clock())

    def by_id(self, id: str) -> ApiKey | None:
        return self.book.by_id(id, self._clock())

    def valid(self) -> list[ApiKey]:
        return self.book.valid(self._clock())

    def poll(self) -> bool:
        """Read what is new; whether the log could be read. Never raises for a log that is away."""
        try:
            self._read()
        except LogError as error:
            if not self._away:
                logger.warning("the log cannot be read; the API keys are those that were known: %s", error)
            self._away = True
            return False
        if self._away:
            logger.info("the log can be read again; the API keys are up to date")
        self._away, self.known = False, True
        return True

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _read(self) -> None:
        try:
            self._offset, news = read_keys(self._log, self.book, self._offset)
        except PositionExpired:
            fresh = KeyBook(self._environment)
            self._offset, news = read_keys(self._log, fresh, 0)
            self.book, news = fresh, True
            logger.warning("the control log was made again: only the API keys in it hold")
        if news:
            names = ", ".join(sorted(key.name for key in self.valid())) or "none is valid"
            logger.info("API keys: %s", names)

    def _run(self) -> None:
        pause = POLL_S
        while not self._stop.wait(pause):
            try:
                pause = POLL_S if self.poll() else min(MAX_BACKOFF_S, 2 * pause)
            except Exception:  # the thread must outlive a fault: a revocation may come next
                logger.exception("reading the API keys failed")
                pause = MAX_BACKOFF_S
