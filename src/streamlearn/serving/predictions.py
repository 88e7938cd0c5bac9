"""Served predictions on their way to the log: a bounded buffer that a request never waits for, and the task that empties it.

What does not fit is dropped and counted. While the log is unreachable or full, the buffer holds what it can and tries
again; nothing is written twice, because a log that refuses has appended nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from ..errors import LogFull, LogUnavailable, Overloaded, StreamlearnError
from ..events import Kind, Prediction, encode
from ..log import Entry, Log
from ..telemetry import Metrics

FLUSH_S: Final = 0.02
BATCH: Final = 500
MAX_BACKOFF_S: Final = 2.0
DRAIN_S: Final = 5.0
_log = logging.getLogger(__name__)


class PredictionBuffer:
    """At most `capacity` predictions that wait for `log`. All methods belong to the event loop's thread."""

    def __init__(self, log: Log, capacity: int, metrics: Metrics) -> None:
        self._log, self._capacity = log, capacity
        self._waiting: deque[Prediction] = deque()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._gauge = metrics.buffered
        self._dropped, self._lost = metrics.unlogged.labels("dropped"), metrics.unlogged.labels("lost")

    def offer(self, prediction: Prediction) -> str:
        """ "queued", or "dropped" when the buffer is full or closing. Never waits."""
        if len(self._waiting) >= self._capacity or self._closing:
            self._dropped.inc()
            return "dropped"
        self._waiting.append(prediction)
        self._gauge.set(len(self._waiting))
        if not self._more.is_set():
            self._more.set()
        return "queued"

    def start(self) -> None:
        self._task = asyncio.create_task(self._flush(), name="prediction flusher")

    async def close(self, drain_s: float = DRAIN_S) -> None:
        """Write what waits, for `drain_s` seconds at most; what is left then is counted as lost."""
        self._closing = True
        self._more.set()
        if self._task is not None:
            _, pending = await asyncio.wait([self._task], timeout=drain_s)
            for task in pending:
                task.cancel()
                await asyncio.wait([task])
        if self._waiting:
            _log.error("%d predictions were not logged before the end", len(self._waiting))
            self._lost.inc(len(self._waiting))
            self._waiting.clear()
            self._gauge.set(0)

    async def _flush(self) -> None:
        backoff = FLUSH_S
        while self._waiting or not self._closing:
            if not self._waiting:
                self._more.clear()
                await self._more.wait()
                if not self._closing:
                    await asyncio.sleep(FLUSH_S)  # let some gather: one commit serves them all
                continue
            batch = self._take()
            self._gauge.set(len(self._waiting))
            try:
                await asyncio.wrap_future(self._log.append(batch[0].stream, [_entry(item) for item in batch]))
            except asyncio.CancelledError:
                self._put_back(batch)
                raise
            except (LogUnavailable, LogFull, Overloaded) as error:
                self._put_back(batch)
                if backoff == FLUSH_S:
                    about = {"stream": batch[0].stream, "error": str(error)}
                    _log.warning("predictions wait, the log refuses them", extra=about)
                await asyncio.sleep(backoff)
                backoff = min(MAX_BACKOFF_S, backoff * 2)
            except StreamlearnError as error:
                about = {"stream": batch[0].stream, "error": str(error)}
                _log.error("%d predictions cannot be logged", len(batch), extra=about)
                self._lost.inc(len(batch))
            else:
                backoff = FLUSH_S

    def _take(self) -> list[Prediction]:
        """The first predictions that wait, up to a batch, all of one stream."""
        stream = self._waiting[0].stream
        batch: list[Prediction] = []
        while self._waiting and len(batch) < BATCH and self._waiting[0].stream == stream:
            batch.append(self._waiting.popleft())
        return batch

    def _put_back(self, batch: list[Prediction]) -> None:
        self._waiting.extendleft(reversed(batch))
        self._gauge.set(len(self._waiting))


def _entry(prediction: Prediction) -> Entry:
    return Entry((prediction.key or prediction.id).encode(), encode(prediction), Kind.PREDICTION)
