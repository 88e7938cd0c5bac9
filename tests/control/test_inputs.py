"""Stories of the input: broken, it holds the model until it heals; moved, it is told of; and a person has the last word."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamlearn.control.state import Phase
from streamlearn.errors import PositionExpired
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Decision

WINDOW, REFERENCE = 60, 300
FEATURES = {"window": WINDOW, "reference": REFERENCE, "every_s": 1.0}


@pytest.fixture
def make(make_stage: Callable[..., Any]) -> Callable[..., Any]:
    def made(shards: int = 1, **features: Any) -> Any:
        drift = {"window": 100, "features": {**FEATURES, **features}}
        stage = make_stage(shards=shards, drift=drift)
        stage.turn()
        feed(stage, REFERENCE)
        stage.turn()
        return stage

    return made


def feed(stage: Any, count: int, shard: int = 0, **changes: Any) -> None:
    """Labelled events with the features a and b, changed."""
    rng = random.Random(stage.log.bounds("clicks", shard)[1])
    rows = [{"a": rng.gauss(0, 1), "b": rng.choice(["x", "y"]), **changes} for _ in range(count)]
    values = [msgspec.json.encode({"stream": "clicks", "x": row, "y": True}) for row in rows]
    stage.log.append("clicks", [Entry(b"k", value, partition=shard) for value in values]).result()


def go(stage: Any, turns: int, **changes: Any) -> None:
    for _ in range(turns):
        feed(stage, WINDOW, **changes)
        stage.turn()


def held(stage: Any) -> list[tuple[str, str]]:
    return [(d.kind, d.by) for d in stage.decisions() if d.kind in ("held", "resumed")]


def test_input_that_is_as_it_was_says_nothing(make: Any) -> None:
    stage = make()
    go(stage, 10)
    assert stage.kinds() == ["registered"]
    seen = stage.view("model")["features"]["seen"]
    assert (seen["looks"], seen["sound"], seen["flagged"], seen["broken"]) == (10, 10, [], [])
    assert {feature["name"]: feature["type"] for feature in seen["features"]} == {"a": "number", "b": "string"}


def test_broken_input_holds_and_healing_resumes(make: Any) -> None:
    stage = make()
    go(stage, 3)
    go(stage, 1, a=None)
    stage.turn()
    assert stage.learner.held == "broken input, null_jump: 'a' is missing in 0% of the events before, 100% now"
    view = stage.view("model")
    assert (view["state"], view["features"]["broken"]["kind"]) == ("held", "null_jump")
    go(stage, 2)
    assert stage.learner.held
    go(stage, 3)
    assert stage.learner.held is None
    stage.settle()
    assert held(stage) == [("held", "diagnosis"), ("resumed", "diagnosis")]
    assert [verb for verb, _ in stage.learner.answered] == ["hold", "resume", "reset"]
    assert stage.view("model")["features"]["broken"] is None


@pytest.mark.parametrize("mode", ["learn", "repair"])
def test_what_was_held_may_be_learned_or_repaired_when_it_heals(make: Any, mode: str) -> None:
    stage = make(heal_mode=mode)
    go(stage, 3)
    go(stage, 2, a=None)
    go(stage, 5)
    assert stage.learner.held is None
    [resume] = [command for command in stage.learner.commands if command.verb == "resume"]
    assert resume.mode == mode


def test_what_can_no_longer_be_learned_when_it_heals_is_skipped(make: Any) -> None:
    stage = make(heal_mode="learn")
    go(stage, 3)
    go(stage, 2, a=None)
    stage.turn()
    stage.log.trim("clicks", 0, stage.log.bounds("clicks", 0)[1] - 10)
    go(stage, 5)
    resumed = stage.until("resumed")
    assert "what was held is skipped: shard 0 was held at offset" in resumed.why
    [resume] = [command for command in stage.learner.commands if command.verb == "resume"]
    assert resume.mode == "skip"


def test_a_part_of_a_window_is_enough_to_hold(make: Any) -> None:
    stage = make()
    feed(stage, 20, a=None)
    stage.turn()
    assert held(stage) == [("held", "diagnosis")]


def test_a_feature_that_vanishes_is_a_break_of_the_schema(make: Any) -> None:
    stage = make()
    for _ in range(2):
        entries = [Entry(b"k", b'{"stream": "clicks", "x": {"b": "x"}, "y": true}', partition=0)] * WINDOW
        stage.log.append("clicks", entries).result()
        stage.turn()
    assert stage.state().broken["kind"] == "schema_break"
    assert "'a' no longer comes" in stage.state().held


def test_healing_must_last(make: Any) -> None:
    stage = make()
    go(stage, 1, a="text")
    for _ in range(3):
        go(stage, 2)
        go(stage, 1, a="text")
    stage.turn()
    assert held(stage) == [("held", "diagnosis")]


def test_a_diagnosed_hold_heals_after_a_restart(make: Any) -> None:
    stage = make()
    go(stage, 2, a=None)
    stage.kill()
    go(stage, 2, a=None)
    stage.kill()
    go(stage, 5)
    stage.settle()
    assert held(stage) == [("held", "diagnosis"), ("resumed", "diagnosis")]
    go(stage, 2, b=None)
    assert held(stage)[-1] == ("held", "diagnosis")


def test_what_came_before_the_break_is_no_healing(make: Any) -> None:
    stage = make()
    go(stage, 5)
    go(stage, 2, a=None)
    stage.kill()
    stage.turn()
    stage.turn()
    assert held(stage) == [("held", "diagnosis")]


def test_it_heals_also_when_the_log_no_longer_holds_the_reference(make: Any) -> None:
    stage = make()
    go(stage, 3, a=None)
    stage.log.trim("clicks", 0, stage.log.bounds("clicks", 0)[1])
    stage.kill()
    go(stage, 2, a=None)
    go(stage, 5)
    stage.settle()
    assert held(stage) == [("held", "diagnosis"), ("resumed", "diagnosis")]
    go(stage, 8)
    go(stage, 2, a=None)
    assert held(stage)[-1] == ("held", "diagnosis")  # against a reference that came after the healing


def test_a_hold_by_a_person_is_not_ended_by_healing(make: Any) -> None:
    stage = make()
    stage.ask("hold")
    go(stage, 3, a=None)
    go(stage, 6)
    assert held(stage) == [("held", "ann")]
    assert stage.learner.held


def test_a_person_may_take_a_diagnosed_hold_over(make: Any) -> None:
    stage = make()
    go(stage, 2, a=None)
    taken = stage.ask("hold", reason="I look into it")
    assert taken.why.startswith("held, asked for by ann: I look into it; before that, broken input")
    assert "already" in stage.ask("hold").why
    go(stage, 8)
    assert held(stage) == [("held", "diagnosis"), ("held", "ann")]
    assert stage.learner.held
    stage.ask("resume")
    stage.settle()
    assert stage.learner.held is None
    assert stage.learner.answered == [("hold", "applied"), ("resume", "applied")]


def test_to_resume_is_to_accept_the_input_as_it_is(make: Any) -> None:
    stage = make()
    go(stage, 2, a=None)
    stage.ask("resume")
    go(stage, 10, a=None)
    stage.kill()
    go(stage, 5, a=None)
    assert held(stage) == [("held", "diagnosis"), ("resumed", "ann")]
    go(stage, 3, a=None, b=None)
    assert held(stage)[-1] == ("held", "diagnosis")


def test_a_swap_of_versions_does_not_end_what_is_broken(make: Any) -> None:
    stage = make()
    stage.learner.drift()
    stage.until("recovered")
    feed(stage, REFERENCE)
    stage.turn()
    go(stage, 2, a=None)
    assert held(stage) == [("held", "diagnosis")]
    stage.ask("rollback")
    stage.until("rolled_back")
    go(stage, 2, a=None)
    assert held(stage) == [("held", "diagnosis"), ("held", "diagnosis")]
    assert stage.learner.held
    go(stage, 5)
    assert stage.learner.held is None
    assert stage.state().input_since == stage.decisions()[-2].at > 0  # of the resume: the reference must not be broken input


def test_alarms_on_broken_input_open_no_case(make: Any) -> None:
    stage = make()
    go(stage, 2, a=None)
    stage.learner.drift()
    go(stage, 3, a=None)
    assert stage.kinds() == ["registered", "held"]
    go(stage, 6)
    stage.settle()
    assert stage.kinds() == ["registered", "held", "resumed", "detectors_reset", "range_skipped"]
    stage.learner.drift()
    stage.until("confirmed")


def test_a_case_on_broken_input_ends_without_a_retrain(make: Any) -> None:
    stage = make()
    stage.learner.alarm()
    stage.until("case_opened")
    feed(stage, WINDOW, a=None)
    stage.learner.window()  # in the very turn: the newest events are looked at before it is judged
    ended = stage.until("broken_input")
    confirmed = next(d for d in stage.decisions() if d.kind == "confirmed")
    assert confirmed.numbers["diagnosis"]["kind"] == ended.numbers["diagnosis"]["kind"] == "null_jump"
    assert stage.kinds() == ["registered", "case_opened", "confirmed", "held", "broken_input"]
    assert stage.view("case", "m-1")["outcome"] == "broken_input"
    assert not stage.view("case", "m-1")["open"]
    assert (stage.state().phase, stage.learner.held is None) == (Phase.STEADY, False)
    assert not stage.jobs.all


def test_broken_input_decides_no_trial(make: Any) -> None:
    """What both versions lose on garbage says nothing of either: the trial stands still until the input has healed."""
    stage = make()
    stage.learner.drift()
    stage.until("trial_started")
    go(stage, 2, a=None)
    assert stage.state().held_by_diagnosis
    at = stage.view("case", "m-1")["trial"]["events"]
    go(stage, 20, a=None)
    assert stage.kinds()[-1] == "held"
    assert stage.view("case", "m-1")["trial"]["events"] <= at + 30
    go(stage, 6)
    stage.until("promoted")
    assert stage.view("case", "m-1")["trial"]["events"] > at


def test_a_retrain_that_runs_is_given_up_when_the_input_breaks(make: Any) -> None:
    stage = make()
    stage.jobs.polls = 1000
    stage.learner.drift()
    stage.until("retrain_started")
    go(stage, 2, a=None)
    stage.settle()
    assert stage.kinds()[-2:] == ["held", "broken_input"]
    assert all(job.cancelled for job in stage.jobs.all)
    assert stage.view("version", "m@2")["fate"] == "failed"


def test_without_hold_broken_input_is_told_of_and_not_retrained_for(make: Any) -> None:
    stage = make(hold=False)
    go(stage, 6, a=None)
    stage.learner.drift()
    stage.until("broken_input")
    assert held(stage) == []
    assert stage.kinds() == ["registered", "feature_drift", "case_opened", "confirmed", "broken_input"]
    [told] = [d for d in stage.decisions() if d.kind == "feature_drift"]
    assert told.numbers["features"][0]["missing"] == [0.0, 1.0]


def test_unreadable_records_are_a_break_of_the_schema(make: Any) -> None:
    stage = make()

    def said(share: float) -> None:
        """What the learner says before each turn of control: of 200 records, this share was unreadable."""
        counts["malformed"] += int(200 * share)
        stage.learner.position += 200
        put(stage.learner, counters=dict(counts))

    counts, share, tick = {"malformed": 0}, 0.0, stage.control.tick
    stage.learner.turn = lambda: False
    put, stage.status = type(stage).status.__get__(stage), lambda learner: None
    stage.control.tick = lambda: said(share) or tick()
    go(stage, 3)
    assert held(stage) == []
    share = 0.5
    stage.turn()
    stage.turn()
    assert held(stage) == [("held", "diagnosis")]
    assert stage.state().broken["kind"] == "schema_break"
    assert "dead letters for the reason malformed" in stage.state().held
    share = 0.0
    go(stage, 6)
    assert held(stage)[-1] == ("resumed", "diagnosis")


def test_drift_of_features_is_told_of_once_and_again_in_another_episode(make: Any) -> None:
    stage = make()
    go(stage, 10)
    go(stage, 12, b="y")
    assert stage.kinds() == ["registered", "feature_drift"]
    told = stage.decisions()[-1]
    assert told.case == ""
    [feature] = told.numbers["features"]
    assert (feature["name"], feature["test"], feature["differs"]) == ("b", "chi-squared", True)
    assert set(told.numbers["histograms"]["b"]["values"]) == {"x", "y"}
    stage.kill()
    go(stage, 12, b="y")
    assert stage.kinds() == ["registered", "feature_drift"]
    go(stage, 8)
    go(stage, 12, b="x")
    assert stage.kinds() == ["registered", "feature_drift", "feature_drift"]
    assert stage.state().held is None


def test_what_moved_with_the_loss_is_named_and_what_moved_before_is_not(make: Any) -> None:
    stage = make()
    go(stage, 12, b="y")
    change = stage.log.bounds("clicks", 0)[1]
    go(stage, 4, b="y", a=4.0)
    stage.learner.alarm(change_offset=change)
    stage.learner.window()
    confirmed = stage.until("confirmed")
    assert confirmed.numbers["diagnosis"] == {"kind": "feature_drift", "why": "'a' changed", "features": ["a"]}
    [moved] = confirmed.numbers["features"]
    assert (moved["name"], moved["differs"]) == ("a", True)
    assert moved["psi"] > 1
    before, after = moved["histogram"]["reference"], moved["histogram"]["recent"]
    assert (sum(before), sum(after), after[-1]) == (REFERENCE, WINDOW, WINDOW)
    stage.until("promoted")


def test_the_features_have_a_document_of_their_own_put_when_they_were_looked_at(make: Any) -> None:
    stage = make()
    assert "m" not in stage.store.views("features")
    go(stage, 12, b="y")
    go(stage, 4, b="y", a=4.0)
    doc = stage.view("features")
    assert (doc["looks"], doc["in_all"], doc["findings"], doc["reference"]["n"]) == (16, 2, [], REFERENCE)
    first, second = doc["features"]
    assert (first["name"], first["flagged_since"], first["differs"]) == ("a", stage.state().drifted["a"], True)
    assert sum(first["histogram"]["recent"]) == sum(second["histogram"]["recent"]) == WINDOW
    assert set(second["histogram"]["values"]) == {"x", "y"}
    put: list[str] = []
    put_views = stage.store.put_views
    stage.control._store.put_views = lambda docs, offset: put.extend(kind for kind, _ in docs) or put_views(docs, offset)
    for _ in range(5):
        stage.turn()
    assert "features" not in put
    go(stage, 1, b="y", a=4.0)
    assert put.count("features") == 1


def test_labels_that_come_later_are_named(make: Any) -> None:
    stage = make()
    put, delay = type(stage).status.__get__(stage), {"p50": 5.0}
    stage.status = lambda learner, **changes: put(learner, delay=dict(delay), **changes)
    go(stage, 6)
    change = stage.log.bounds("clicks", 0)[1]
    delay["p50"] = 300.0
    go(stage, 4)
    stage.learner.alarm(change_offset=change)
    stage.learner.window()
    diagnosis = stage.until("confirmed").numbers["diagnosis"]
    assert (diagnosis["kind"], diagnosis["why"]) == ("label_delay", "labels came after 5 questions, and come after 300 now")


def test_labels_that_stay_away_are_named(make: Any) -> None:
    stage = make()
    go(stage, 6)
    change = stage.log.bounds("clicks", 0)[1]
    rng = random.Random(1)
    for _ in range(4):
        rows = [{"stream": "clicks", "x": {"a": rng.gauss(0, 1), "b": rng.choice("xy")}} for _ in range(WINDOW)]
        stage.log.append("clicks", [Entry(b"k", msgspec.json.encode(row), partition=0) for row in rows]).result()
        stage.turn()
    stage.learner.alarm(change_offset=change)
    stage.learner.window()
    assert stage.until("confirmed").numbers["diagnosis"]["kind"] == "label_rate"


def test_without_a_reference_nothing_is_diagnosed(make_stage: Any) -> None:
    stage = make_stage()
    stage.learner.drift()
    confirmed = stage.until("confirmed")
    assert "diagnosis" not in confirmed.numbers
    assert stage.view("model")["features"]["seen"] is None


def test_switched_off_nothing_is_read(make: Any) -> None:
    stage = make(enabled=False)
    go(stage, 5, a=None)
    assert stage.kinds() == ["registered"]
    assert stage.view("model")["features"]["seen"] is None


def test_shards_are_one_stream(make: Any) -> None:
    stage = make(shards=2)
    for shard in (0, 1, 0, 1):
        feed(stage, WINDOW // 2, shard=shard)
    stage.turn()
    assert stage.view("model")["features"]["seen"]["looks"] == 2
    for shard in (0, 1):
        feed(stage, WINDOW // 2, shard=shard, a=None)
    stage.turn()
    stage.turn()
    assert held(stage) == [("held", "diagnosis")]
    assert all(learner.held for learner in stage.learners)


def test_a_log_that_is_trimmed_while_it_is_read_is_read_from_what_is_left(make: Any) -> None:
    stage = make()
    go(stage, 2)
    feed(stage, WINDOW)
    stage.advance(1.0)
    stage.faults.fail("read", PositionExpired("clicks", 0, 3, 10, 20), after=2)  # _control and _signals come first
    stage.control.tick()
    assert stage.view("model")["features"]["seen"] is None
    go(stage, 5)
    assert stage.view("model")["features"]["seen"]["broken"] == []
    go(stage, 2, a=None)
    assert held(stage) == [("held", "diagnosis")]


def test_healing_does_not_end_a_hold_that_a_person_took_over_meanwhile(make: Any) -> None:
    stage = make()
    go(stage, 2, a=None)
    stage.ask("hold")
    stale = Decision("m", "resumed", stage.clock(), by="diagnosis", numbers={"healed": True, "command": {"verb": "resume"}})
    stage.log.append(CONTROL, [Entry(b"m", msgspec.json.encode(stale), partition=0)]).result()
    stage.settle()
    assert stage.state().held
    assert stage.learner.held


def test_of_a_flood_only_the_newest_is_read(make: Any) -> None:
    stage = make()
    go(stage, 1)
    before = stage.faults.calls["read"]
    feed(stage, 100 * WINDOW)
    stage.advance(1.0)
    stage.control.tick()
    looks = stage.control._observer.inputs(stage.state()).look.looks
    assert looks == 1 + 4
    assert stage.faults.calls["read"] - before < 20
