"""The demo's application: it posts what happens at an accelerated clock, asks for predictions, and keeps the books on both.

What it posted is what it is later held to, so an event is entered only once the service has said that it is durable.
Threads of the demo read `Feed` and `Freshness` while they work; nothing here knows how they are shown.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from ..client import Client
from ..errors import Refused, StreamlearnError
from ..wire import EventsAnswer
from .demo_data import STREAM, Flight, Happening

TICK_S: Final = 0.05
MOST_AT_ONCE: Final = 500
MOST_WAITING: Final = 20_000  # records that the learner may be behind before the accelerated clock waits for it
ASK_EVERY_S: Final = 0.04

Send = Callable[[list[Mapping[str, Any]]], EventsAnswer]


class Freshness:
    """From when an event was posted until a prediction came from a model that had learned it. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, float]] = deque()
        self._seconds: list[float] = []
        self.posted_to = 0
        self.served_to = 0

    def posted(self, end: int, at: float) -> None:
        """Events up to the log offset `end` were posted; the request began `at` (monotonic seconds)."""
        with self._lock:
            self._waiting.append((end, at))
            self.posted_to = max(self.posted_to, end)

    def served(self, position: int, at: float) -> None:
        """A prediction that came `at` was made by a model that had learned to the log offset `position`."""
        with self._lock:
            while self._waiting and self._waiting[0][0] <= position:
                self._seconds.append(at - self._waiting.popleft()[1])
            self.served_to = max(self.served_to, position)

    @property
    def behind(self) -> int:
        """Posted records that no prediction has been seen to know of."""
        with self._lock:
            return max(0, self.posted_to - self.served_to)

    def quantiles_ms(self) -> dict[str, float | None]:
        """p50 and p99 in milliseconds, None before the first."""
        with self._lock:
            ordered = sorted(self._seconds)
        return {name: 1000 * ordered[int(share * (len(ordered) - 1))] if ordered else None for name, share in _QUANTILES}


_QUANTILES: Final = (("p50", 0.5), ("p99", 0.99))


class Feed:
    """Posts happenings in order, `pace` departures a second at most, while the learner keeps up.

    `features` and `labels` hold what the service took, by id; `refused` counts what it did not. `injected_at` (Unix seconds)
    and `injected_after` (labels posted before) say when the first flight from `drift_from` on departed.
    """

    def __init__(
        self,
        send: Send,
        happenings: Iterable[Happening],
        *,
        pace: float,
        drift_from: int,
        freshness: Freshness,
        wait: Callable[[float], bool],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._send, self._pace, self._drift_from, self._freshness = send, pace, drift_from, freshness
        self._wait, self._clock, self._wall = wait, clock, wall
        self._happenings = iter(happenings)
        self._next = next(self._happenings, None)
        self.features: set[str] = set()
        self.labels: dict[str, bool] = {}
        self.refused = 0
        self.departed = 0
        self.event_time: float | None = None
        self.injected_at: float | None = None
        self.injected_after = 0
        self.started: float | None = None
        self.ended: float | None = None
        self.recent: deque[Flight] = deque(maxlen=1)

    @property
    def posted(self) -> int:
        """Events that are durable in the log."""
        return len(self.features) + len(self.labels)

    def run(self) -> None:
        """Post until nothing is left, or `wait` (called with the seconds to the next tick) says to stop.

        Raises StreamlearnError when the service cannot be reached or refuses a whole request.
        """
        self.started = start = self._clock()
        while self._next is not None:
            if self._freshness.behind > MOST_WAITING:
                start += TICK_S
            else:
                due = self._until(int((self._clock() - start) * self._pace) + 1)
                while chunk := list(islice(due, MOST_AT_ONCE)):
                    self._post(chunk)
            if self._next is not None and self._wait(TICK_S):
                break
        self.ended = self._clock()

    def _until(self, departures: int) -> Iterator[Happening]:
        """What happens before the departure numbered `departures`, from 0."""
        while (happening := self._next) is not None and (happening.late is not None or happening.number < departures):
            self._next = next(self._happenings, None)
            yield happening

    def _post(self, chunk: list[Happening]) -> None:
        began, now = self._clock(), self._wall()
        answer = self._send([one.event() for one in chunk])
        refused = {rejection.index for rejection in answer.rejected}
        self.refused += len(refused)
        for index, one in enumerate(chunk):
            if one.late is None and one.number >= self._drift_from and self.injected_at is None:
                self.injected_at, self.injected_after = now, len(self.labels)
            if index not in refused:
                self._enter(one)
        end = answer.positions.get(STREAM, {}).get("0")
        if end is not None:
            self._freshness.posted(end, began)

    def _enter(self, one: Happening) -> None:
        self.event_time = one.ts
        if one.late is None:
            self.features.add(one.flight.id)
            self.departed = one.number + 1
            self.recent.append(one.flight)
        else:
            self.labels[one.flight.id] = one.late


class Frontend:
    """Asks what becomes of a flight that has just departed, as a page would, and has the prediction logged for its label."""

    def __init__(
        self, client: Client, model: str, feed: Feed, freshness: Freshness, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._model, self._feed, self._freshness, self._clock = client, model, feed, freshness, clock
        self.asked = 0
        self.answered = 0
        self.queued = 0
        self.degraded = 0

    def run(self, stop: threading.Event) -> None:
        """Ask about each flight that is seen, until `stop` is set. There is no model before the first publication: what
        is refused is counted as not answered. While the feed waits, no flight is new, and it is an answer that it waits for:
        the last one is asked about again then, which is not logged.
        """
        last = ""
        while not stop.wait(ASK_EVERY_S):
            for flight in tuple(self._feed.recent):
                if flight.id != last or self._freshness.behind > MOST_WAITING:
                    self.ask(flight, log=flight.id != last)
                    last = flight.id

    def ask(self, flight: Flight, *, log: bool = True) -> None:
        """One question. Raises StreamlearnError when nobody answers."""
        self.asked += 1
        try:
            answer = self._client.predict(self._model, flight.x, id=flight.id, log=log)
        except Refused:
            return
        self.answered += 1
        self.queued += answer.logged == "queued"
        self.degraded += bool(answer.degraded)
        self._freshness.served(answer.position.offset, self._clock())


class Errand(threading.Thread):
    """A thread that keeps what it raised, for whoever waits for it."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.error: StreamlearnError | None = None

    def run(self) -> None:
        try:
            self._work()
        except StreamlearnError as error:
            self.error = error
