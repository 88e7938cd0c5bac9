"""What a shard says of itself is what its learner holds."""

from __future__ import annotations

import math

import msgspec
import pytest
from learning_bench import NOW, Stage

from streamlearn.buckets import PAUSE_S, Buckets
from streamlearn.drift.watch import DriftWatch
from streamlearn.learning.checkpoint import load, parts
from streamlearn.learning.measured import Measured
from streamlearn.learning.report import Pace, quantile, status
from streamlearn.records import Status


def test_a_status_says_what_the_learner_holds_and_travels_as_json() -> None:
    stage = Stage(label_wait_s=10, labels=["no", "yes"])
    stage.xy("a", "yes")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    stage.x("b", 5)
    stage.served("b", "no", 7)
    stage.xy("c", "yes", 5)
    stage.y("b", "yes", 5)
    stage.x("waits", 5)
    stage.y("early", "no", 5)
    stage.put(b"junk")
    stage.command("hold", reason="a test")
    learner = stage.learn()
    said = status(
        learner,
        generation=3,
        log="the log",
        end=99,
        at=NOW,
        stopped=None,
        rate=12.5,
        ages=[0.2, 0.1],
        pauses={"checkpoint": 0.004},
        checkpoint_at=NOW - 1,
        log_lost=2.5,
    )
    assert (said.model, said.shard, said.generation, said.version, said.shadow) == ("m", 0, 3, 1, 2)
    assert (said.position, said.end, said.log, said.at, said.n) == (stage.end, 99, "the log", NOW, 3)
    assert (said.clock, said.held, said.pending, said.early) == (NOW + 5, "a test", 1, 1)
    assert said.counters == {"malformed": 1}
    assert said.scores["n"] == 3
    assert said.shadow_scores["n"] == 2
    assert said.delay == {"p50": 0.0, "p95": 1.0, "p50_s": 0.0, "p90_s": 0.0, "p99_s": 0.0}
    assert said.freshness_ms == {"p50": 200.0, "p99": 200.0}
    assert said.pause_ms == {"checkpoint": 4.0}
    assert said.log_lost_s == 2.5
    assert said.outcomes == {"7": [1.0, 1.0]}
    assert msgspec.json.decode(msgspec.json.encode(said), type=Status) == said


def test_the_delays_of_labels_are_told_in_seconds_of_event_time_and_survive_a_restart() -> None:
    stage = Stage(label_wait_s=100)
    for place, name in enumerate("abcd"):
        stage.x(name, place)
    for place, name in enumerate("abcd"):
        stage.y(name, True, 10 * (place + 1))
    learner = stage.learn()
    again = stage.new()
    load(again, parts(learner), DriftWatch)
    for one in (learner, again):
        said = status(one, generation=0, log="", end=0, at=0.0, stopped=None, rate=0.0, ages=[], pauses={}, checkpoint_at=None)
        assert said.delay == {"p50": 2.0, "p95": 3.0, "p50_s": 28.0, "p90_s": 37.0, "p99_s": 37.0}


def test_a_shard_that_has_stopped_says_why_in_place_of_a_hold() -> None:
    learner = Stage().new()
    said = status(
        learner, generation=0, log="", end=0, at=0.0, stopped="expired", rate=0.0, ages=[], pauses={}, checkpoint_at=None
    )
    assert said.held == "expired"
    assert said.delay == {"p50": 0.0, "p95": 0.0}
    assert said.shadow_scores == {}


def test_what_a_status_says_does_not_change_with_the_learner() -> None:
    stage = Stage()
    stage.put(b"junk")
    learner = stage.learn()
    said = status(learner, generation=0, log="", end=0, at=0.0, stopped=None, rate=0.0, ages=[], pauses={}, checkpoint_at=None)
    stage.put(b"junk")
    stage.learn(learner)
    assert said.counters == {"malformed": 1}


def test_the_pace_is_of_what_was_learned_since_it_was_asked() -> None:
    pace = Pace(10.0, 100)
    assert pace.rate(12.0, 200) == 50.0
    assert pace.rate(12.0, 300) == 0.0
    assert pace.rate(16.0, 500) == 50.0


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.95, 5), (1.0, 5)])
def test_quantiles(share: float, value: int) -> None:
    assert quantile([1, 2, 3, 4, 5], share) == value
    assert quantile([], share) == 0.0
    assert not math.isnan(quantile([], share))


def test_what_a_shard_measured_and_its_detectors_travel_with_the_status() -> None:
    stage = Stage()
    for n in range(400):
        stage.xy(f"e{n}", n % 2)
    learner = stage.learn()
    measured = Measured(learner)
    measured.checkpoint_bytes = 123
    measured.lag_s = 4.0
    learner.n += 1
    pauses = Buckets.of(PAUSE_S)
    pauses.add(0.004)

    def said(end: int) -> Status:
        return status(
            learner, generation=0, log="", end=end, at=0.0, stopped=None, rate=0.0, ages=[], pauses={}, checkpoint_at=None,
            measured=measured, pauses_s={"checkpoint": pauses}, failures={"log": 2, "store": 0},
        )  # fmt: skip

    told = said(learner.position + 1)
    assert (told.lag_s, told.checkpoint_bytes, told.counted["learned"]) == (4.0, 123, 1)
    assert (told.failures, told.pauses_s) == ({"log": 2, "store": 0}, {"checkpoint": pauses})
    assert told.drift.keys() == learner.watch.statistics().keys()
    assert told.drift
    assert said(learner.position).lag_s == 0.0  # nothing waits
    assert msgspec.json.decode(msgspec.json.encode(told), type=Status) == told
