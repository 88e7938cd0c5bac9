"""One run of the demo: the threads that post and ask, what is seen of the service meanwhile, and the state at the end.

It sees the service through its public HTTP API alone, until the learner's last checkpoint is read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from ..client import Client, Retry
from ..errors import StreamlearnError, Unreachable
from ..wire import ModelView
from .demo_data import Schedule, timeline, while_open
from .demo_feed import Errand, Feed, Freshness, Frontend
from .demo_report import Report, account, scores_of
from .demo_service import LOGS, MODEL, Outcome, Service, final_state, prepare
from .demo_story import Step, Story, milestones, stories
from .demo_view import Snapshot, injection

PACE: Final = 720.0  # departures a second
LAST_DEPARTURE_S: Final = 72.0  # seconds after the start: a slow machine sees fewer flights, but an end
READY_S: Final = 45.0
LEARNED_S: Final = 60.0
SETTLED_S: Final = 2.0
KEPT_S: Final = 30.0
LOOK_S: Final = 0.25
PATIENT: Final = Retry(attempts=12)
IMPATIENT: Final = Retry(attempts=1)


class Run:
    """A run over `schedule`; `started` (monotonic) and `origin` (Unix seconds) are its beginning.

    Every method raises StreamlearnError when the service fails.
    """

    def __init__(
        self, running: Service, schedule: Schedule, started: float, origin: float, show: Callable[[Snapshot], None]
    ) -> None:
        self._running, self._schedule, self._started, self._origin, self._show = running, schedule, started, origin, show
        self._stop = running.life.stop
        self._closing = threading.Event()
        self._client = Client(running.url, retry=PATIENT)
        self._view: ModelView | None = None
        self._stories: Sequence[Story] = ()
        self._first_version: int | None = None
        self._meter = Meter()
        middle = len(schedule.flights) // 2
        flights = while_open(schedule.flights, lambda: time.monotonic() - started > LAST_DEPARTURE_S)
        self.freshness = Freshness()
        self.feed = Feed(
            Client(running.url, retry=PATIENT).send, timeline(flights, middle), pace=PACE, drift_from=middle,
            freshness=self.freshness, wait=self._stop.wait,
        )  # fmt: skip
        self.frontend = Frontend(Client(running.url, retry=PATIENT), MODEL, self.feed, self.freshness)

    def until_posted(self) -> bool:
        """Wait for the service, send every flight; False when interrupted."""
        if not self._until_ready():
            return False
        errands = [Errand("feed", self.feed.run), Errand("frontend", lambda: self.frontend.run(self._closing))]
        for errand in (*errands, Errand("prepare", prepare)):
            errand.start()
        while errands[0].is_alive() and not self._stop.wait(LOOK_S):
            self._check(errands)
            self._look("flights depart and land")
        self._closing.set()
        if self._stop.is_set():
            return False
        for errand in errands:
            errand.join()
        self._check(errands)
        return True

    def until_learned(self) -> bool:
        """Wait until the learner has read all of it, and what that leads to was decided; False when interrupted."""
        deadline = time.monotonic() + LEARNED_S
        settled: float | None = None
        while not self._stop.wait(LOOK_S):
            self._check([])
            view = self._look("the learner reads the rest")
            position = max((shard.status["position"] for shard in view.shards if shard.status), default=0)
            now = time.monotonic()
            if position < self.freshness.posted_to or view.lag:
                if now > deadline:
                    raise StreamlearnError(f"the learner is {view.lag} records behind after {LEARNED_S:g} s")
                continue
            settled = settled or now
            if not any(story.open for story in self._stories) or now - settled > SETTLED_S:
                return True
        return False

    def outcome_kept(self) -> Outcome | None:
        """The state at the end while the service goes on running; None when interrupted."""
        deadline = time.monotonic() + KEPT_S
        while not self._stop.wait(LOOK_S):
            self._look("waiting for the learner's next checkpoint")
            outcome = final_state(self._running.settings)
            if outcome is not None:
                return outcome
            if time.monotonic() > deadline:
                break
        if self._stop.is_set():
            return None
        raise StreamlearnError(f"the learner wrote no checkpoint in {KEPT_S:g} s; see {self._running.folder / LOGS}")

    def outcome_ended(self) -> Outcome:
        """The state at the end, once the service was drained."""
        self._running.stop()
        outcome = final_state(self._running.settings)
        if outcome is None:
            raise StreamlearnError(f"the learner left no checkpoint of all that it read; see {self._running.folder / LOGS}")
        return outcome

    def report(self, outcome: Outcome, seconds: float) -> Report:
        """The summary of a run that took `seconds`."""
        feed, status = self.feed, outcome.status
        took = max(1e-9, (feed.ended or 0.0) - (feed.started or 0.0))
        events = account(feed.features, feed.labels, outcome.ledger.labels, outcome.ledger.learned, outcome.dead)
        return Report(
            events, seconds, events.learned / took, scores_of(status.scores), self.freshness.quantiles_ms(),
            milestones(self._stories, self._injected()), (self._first_version or status.version, status.version),
        )  # fmt: skip

    def _until_ready(self) -> bool:
        client = Client(self._running.url, retry=IMPATIENT)
        deadline = time.monotonic() + READY_S
        while not self._stop.wait(LOOK_S):
            self._check([])
            self._tell("three processes start: learn, control, serve")
            try:
                found = client.ready()
            except Unreachable as error:
                missing = str(error)
            else:
                if found.ready:
                    return True
                missing = "; ".join(found.degraded)
            if time.monotonic() > deadline:
                raise StreamlearnError(f"the service is not ready after {READY_S:g} s: {missing}")
        return False

    def _check(self, errands: Sequence[Errand]) -> None:
        for errand in errands:
            if errand.error is not None:
                raise errand.error
        if self._running.ended.is_set():
            raise StreamlearnError(f"the service ended with exit code {self._running.code}")

    def _look(self, phase: str) -> ModelView:
        """Ask the service how it stands, and show it."""
        self._view = self._client.model(MODEL)
        self._stories = stories(self._client.cases(MODEL), self._origin)
        if self._first_version is None:
            self._first_version = self._view.version
        for shard in self._view.shards:
            if shard.status:
                self._meter.read(shard.status["position"], shard.status["at"])
        self._tell(phase)
        return self._view

    def _tell(self, phase: str) -> None:
        view, feed = self._view, self.feed
        now = Snapshot(
            time.monotonic() - self._started, phase, feed.departed, len(self._schedule.flights), feed.event_time, feed.posted,
            rate=self._meter.rate, asked=self.frontend.answered, freshness_ms=self.freshness.quantiles_ms(),
            injected=self._injected(), stories=self._stories, **({} if view is None else _of_view(view)),
        )  # fmt: skip
        self._show(now)

    def _injected(self) -> Step | None:
        feed = self.feed
        return None if feed.injected_at is None else injection(feed.injected_at - self._origin, feed.injected_after)


class Meter:
    """Records that the learner takes a second, between its last two words."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self.rate = 0.0

    def read(self, position: int, at: float) -> None:
        """It stood at `position` at Unix time `at`."""
        if self._last is not None and at > self._last[1]:
            self.rate = (position - self._last[0]) / (at - self._last[1])
        if self._last is None or at > self._last[1]:
            self._last = (position, at)


def _of_view(view: ModelView) -> dict[str, Any]:
    return {
        "learned": view.n, "lag": view.lag, "dead": view.dead, "version": view.version, "state": view.state,
        "degraded": view.degraded or (), "scores": view.scores or {},
    }  # fmt: skip
