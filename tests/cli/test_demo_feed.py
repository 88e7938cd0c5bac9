"""The demo's application: what it posts and when, what it enters into its books, and how it measures freshness."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streamlearn.cli import demo_feed
from streamlearn.cli.demo_data import Flight, timeline
from streamlearn.cli.demo_feed import MOST_AT_ONCE, MOST_WAITING, TICK_S, Errand, Feed, Freshness, Frontend
from streamlearn.client import Client
from streamlearn.errors import Refused, Unreachable
from streamlearn.testing import FakeClock
from streamlearn.wire import EventsAnswer, Rejection


def flight(number: int, lasts: float | None = 2.5) -> Flight:
    lands = None if lasts is None else number + lasts
    return Flight(f"f{number}", number, lands, {"Distance": 100}, None if lands is None else number % 2 == 0, 100)


class Service:
    """Takes requests; rejects the events whose id is in `bad`."""

    def __init__(self, *bad: str) -> None:
        self.requests: list[list[Mapping[str, Any]]] = []
        self.bad = bad
        self.end = 0

    def __call__(self, events: list[Mapping[str, Any]]) -> EventsAnswer:
        self.requests.append(list(events))
        rejected = [Rejection(index, "x", "shape", "bad") for index, event in enumerate(events) if event["id"] in self.bad]
        self.end += len(events) - len(rejected)
        return EventsAnswer(len(events) - len(rejected), 0, rejected, [], {}, {"flights": {"0": self.end}})

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event["id"], "y" if "y" in event else "x") for request in self.requests for event in request]


class World:
    """A feed whose time passes only while it waits."""

    def __init__(self, flights: list[Flight], service: Service, pace: float = 100.0, drift_from: int = 10**9) -> None:
        self.clock, self.service, self.freshness = FakeClock(1000.0), service, Freshness()
        self.stop_after = 10**9
        self.waits = 0
        self.feed = Feed(
            service, timeline(flights, drift_from), pace=pace, drift_from=drift_from, freshness=self.freshness,
            wait=self.wait, clock=self.clock, wall=lambda: self.clock.now + 5000,
        )  # fmt: skip

    def wait(self, seconds: float) -> bool:
        self.clock.advance(seconds)
        self.waits += 1
        self.freshness.served(self.service.end, self.clock.now)
        return self.waits >= self.stop_after


def test_everything_is_posted_in_the_order_in_which_it_happened() -> None:
    flights = [flight(number, None if number == 3 else 2.5) for number in range(50)]
    service = Service()
    feed = World(flights, service).feed
    feed.run()
    assert service.told == [(one.flight.id, "x" if one.late is None else "y") for one in timeline(flights, 10**9)]
    assert feed.features == {one.id for one in flights}
    assert feed.labels == {one.id: one.late for one in flights if one.id != "f3"}
    assert (feed.posted, feed.refused, feed.departed, feed.event_time) == (99, 0, 50, 51.5)


def test_the_clock_is_accelerated_and_no_more() -> None:
    world = World([flight(number) for number in range(100)], Service(), pace=100.0)
    world.feed.run()
    assert world.feed.started == 1000.0
    assert world.feed.ended == pytest.approx(1001.0, abs=2 * TICK_S)
    sizes = [sum("x" in event for event in request) for request in world.service.requests]
    assert max(sizes) <= 100 * TICK_S + 1


def test_a_request_has_a_bounded_size() -> None:
    service = Service()
    World([flight(number) for number in range(3 * MOST_AT_ONCE)], service, pace=1e6).feed.run()
    assert max(map(len, service.requests)) == MOST_AT_ONCE
    assert len(service.told) == 6 * MOST_AT_ONCE


def test_what_the_service_refuses_is_counted_and_not_entered() -> None:
    feed = World([flight(number) for number in range(10)], Service("f4")).feed
    feed.run()
    assert feed.refused == 2
    assert "f4" not in feed.features
    assert "f4" not in feed.labels
    assert feed.posted == 18


def test_the_injection_is_dated_by_the_first_departure_after_it() -> None:
    world = World([flight(number) for number in range(100)], Service(), pace=100.0, drift_from=40)
    world.feed.run()
    before = world.service.told[: world.service.told.index(("f40", "x"))]
    assert world.feed.injected_at == pytest.approx(6000.4, abs=1.5 * TICK_S)
    assert world.feed.injected_after == sum(part == "y" for _, part in before) > 30


def test_without_a_drift_nothing_is_injected() -> None:
    feed = World([flight(number) for number in range(10)], Service()).feed
    feed.run()
    assert (feed.injected_at, feed.injected_after) == (None, 0)


def test_it_stops_when_it_is_told() -> None:
    world = World([flight(number) for number in range(100)], Service(), pace=10.0)
    world.stop_after = 3
    world.feed.run()
    assert world.waits == 3
    assert world.feed.departed < 10
    assert world.feed.ended is not None


def test_the_clock_waits_for_a_learner_that_is_behind() -> None:
    world = World([flight(number) for number in range(100)], Service(), pace=100.0)
    world.freshness.posted(MOST_WAITING + 1, 0.0)
    waits = 0

    def wait(seconds: float) -> bool:
        nonlocal waits
        waits += 1
        world.clock.advance(seconds)
        if waits == 10:
            assert not world.service.requests
            world.freshness.served(MOST_WAITING + 1, world.clock.now)
        return waits > 100

    world.feed._wait = wait
    world.feed.run()
    assert world.feed.departed == 100
    assert max(sum("x" in event for event in request) for request in world.service.requests) <= 100 * TICK_S + 1


def test_freshness_is_from_the_post_to_a_prediction_that_knows_of_it() -> None:
    freshness = Freshness()
    assert freshness.quantiles_ms() == {"p50": None, "p99": None}
    freshness.posted(10, 1.0)
    freshness.posted(20, 2.0)
    freshness.posted(30, 3.0)
    freshness.served(9, 3.1)
    assert (freshness.behind, freshness.quantiles_ms()["p50"]) == (21, None)
    freshness.served(20, 3.5)
    assert freshness.behind == 10
    assert freshness.quantiles_ms() == {"p50": pytest.approx(1500), "p99": pytest.approx(1500)}
    freshness.served(19, 9.0)  # an older answer that came later tells nothing
    freshness.served(30, 4.0)
    assert (freshness.behind, freshness.posted_to, freshness.served_to) == (0, 30, 30)
    assert freshness.quantiles_ms()["p50"] == pytest.approx(1500)


class Asked:
    """A client that answers, or raises."""

    def __init__(self, error: Exception | None = None, logged: str = "queued") -> None:
        self.questions: list[tuple[Any, ...]] = []
        self.error, self.logged = error, logged

    def predict(self, model: str, x: Any, *, id: str, log: bool) -> Any:
        self.questions.append((model, x, id, log))
        if self.error is not None:
            raise self.error
        return SimpleNamespace(logged=self.logged, degraded=["drift"], position=SimpleNamespace(offset=7))


def frontend(client: Asked, *recent: Flight) -> tuple[Frontend, Freshness]:
    freshness, feed = Freshness(), SimpleNamespace(recent=recent)
    made = Frontend(cast(Client, client), "delay", cast(Feed, feed), freshness, lambda: 5.0)
    return made, freshness


def test_the_frontend_has_its_predictions_logged_and_reads_how_fresh_they_are() -> None:
    client = Asked()
    made, freshness = frontend(client)
    freshness.posted(7, 4.5)
    made.ask(flight(3))
    assert client.questions == [("delay", {"Distance": 100}, "f3", True)]
    assert (made.asked, made.answered, made.queued, made.degraded) == (1, 1, 1, 1)
    assert freshness.quantiles_ms()["p50"] == pytest.approx(500)


def test_the_frontend_goes_on_when_there_is_no_model_yet() -> None:
    made, _ = frontend(Asked(Refused(503, {})))
    made.ask(flight(3))
    assert (made.asked, made.answered) == (1, 0)


def test_the_frontend_asks_once_about_what_departed_last_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_feed, "ASK_EVERY_S", 0.001)
    client, stop, recent = Asked(), threading.Event(), [flight(8)]
    made, _ = frontend(client)
    made._feed = cast(Feed, SimpleNamespace(recent=recent))
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    while len(client.questions) < 1:
        assert thread.is_alive()
    time.sleep(0.05)
    recent[0] = flight(9)
    while len(client.questions) < 2:
        assert thread.is_alive()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert [question[2] for question in client.questions] == ["f8", "f9"]


def test_the_frontend_asks_again_while_the_feed_waits_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_feed, "ASK_EVERY_S", 0.001)
    client, stop = Asked(), threading.Event()
    made, freshness = frontend(client, flight(8))
    freshness.posted(MOST_WAITING + 10, 0.0)
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    while len(client.questions) < 3:
        assert thread.is_alive()
    stop.set()
    thread.join(5)
    assert [question[2:] for question in client.questions][:3] == [("f8", True), ("f8", False), ("f8", False)]


def test_an_errand_keeps_what_it_raised() -> None:
    def fail() -> None:
        raise Unreachable("nobody there")

    failing, fine = Errand("a", fail), Errand("b", lambda: None)
    for errand in (failing, fine):
        errand.start()
        errand.join(5)
    assert str(failing.error) == "nobody there"
    assert fine.error is None
