"""Stories of a changed data contract: features come, go, or change their type, and each change has one case."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamlearn.control.state import Phase
from streamlearn.control.views import model_doc
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Decision, decode_control

WINDOW, REFERENCE = 60, 300
FEATURES = {"window": WINDOW, "reference": REFERENCE, "every_s": 1.0}
GONE: Any = object()


@pytest.fixture
def make(make_stage: Callable[..., Any]) -> Callable[..., Any]:
    def made(shards: int = 1, retrain: dict[str, Any] | None = None, **features: Any) -> Any:
        drift = {"window": 100, "features": {**FEATURES, **features}}
        more = {} if retrain is None else {"retrain": {"attempts": 3, "backoff_s": 5.0, "max_gap_records": 2000, **retrain}}
        stage = make_stage(shards=shards, drift=drift, **more)
        stage.turn()
        feed(stage, REFERENCE)
        stage.turn()
        return stage

    return made


def feed(stage: Any, count: int, **changes: Any) -> None:
    """Labelled events with the features a and b, changed, over all shards; the learners learn of each."""
    rng = random.Random(stage.log.bounds("clicks", 0)[1])
    entries = []
    for i in range(count):
        row = {"a": rng.gauss(0, 1), "b": rng.choice(["x", "y"]), **changes}
        x = {name: value(i) if callable(value) else value for name, value in row.items() if value is not GONE}
        value = msgspec.json.encode({"stream": "clicks", "x": x, "y": True})
        shard = i % len(stage.learners)
        entries.append(Entry(b"k", value, partition=shard))
        stage.learners[shard].n += 1
    stage.log.append("clicks", entries).result()


def go(stage: Any, turns: int, **changes: Any) -> None:
    for _ in range(turns):
        feed(stage, WINDOW, **changes)
        stage.turn()


def cases(stage: Any) -> list[Decision]:
    return [d for d in stage.decisions() if d.kind == "case_opened" and d.numbers["kind"] == "contract"]


def change(feature: str, what: str, was: str = "", now: str = "") -> dict[str, str]:
    return {"feature": feature, "what": what, "was": was, "is": now}


def test_a_feature_that_appears_has_a_case_from_where_it_began(make: Any) -> None:
    stage = make()
    go(stage, 3)
    start = stage.log.bounds("clicks", 0)[1]
    go(stage, 2, c=1.5, d="u")
    assert not cases(stage), "heal_looks blocks must agree"
    go(stage, 2, c=1.5, d="u")
    [case] = cases(stage)
    assert case.numbers["changes"] == [change("c", "appeared", now="number"), change("d", "appeared", now="string")]
    assert case.why == "the features are other ones: 'c' came, a number, 'd' came, a string"
    assert case.numbers["starts"] == {"0": start}
    assert case.numbers["since"] == stage.log.read("clicks", 0, start, 1)[0].ts
    view = stage.view("model")
    assert view["contract"] == {"case": case.case, "changes": case.numbers["changes"]}
    assert stage.view("case", case.case)["kind"] == "contract"
    go(stage, 8, c=1.5, d="u")
    started, trial = stage.until("retrain_started"), stage.until("trial_started")
    assert started.numbers["starts"] == {"0": start}
    assert started.numbers["fit"]["types"] == {"c": "number", "d": "string"}
    assert started.why.endswith("from where the features changed")
    assert trial.numbers["tolerance"] == 0.01, "not worse is enough"
    stage.until("promoted")
    stage.settle()
    assert stage.view("model")["contract"] is None
    go(stage, 20, c=1.5, d="u")
    assert len(cases(stage)) == 1
    assert stage.state().last_starts == {0: start}


@pytest.mark.parametrize("share", [1, 2, 3, 7])
def test_names_that_are_values_are_no_news(make: Any, share: int) -> None:
    """A name in a third of the events, or a new one in each, opens no case; one in half of them does."""
    stage = make()
    for turn in range(6):
        go(stage, 1, **{f"word{turn}": 1.0})
    assert not cases(stage)
    rows = [{"c": 1.0} if i % share == 0 else {} for i in range(WINDOW)]
    for _ in range(6):
        values = [msgspec.json.encode({"stream": "clicks", "x": {"a": 0.1, "b": "x", **row}, "y": True}) for row in rows]
        stage.log.append("clicks", [Entry(b"k", value, partition=0) for value in values]).result()
        stage.turn()
    assert len(cases(stage)) == (share <= 2)


def test_nulls_are_no_feature(make: Any) -> None:
    stage = make()
    go(stage, 6, c=None)
    assert not cases(stage)


def test_it_waits_for_labelled_events_since_the_change(make: Any) -> None:
    stage = make(retrain={"min_events": 6 * WINDOW})
    go(stage, 2)
    before = stage.learner.n
    go(stage, 4, c=1.0)
    assert cases(stage)
    assert "retrain_started" not in stage.kinds()
    go(stage, 6, c=1.0)
    started = stage.until("retrain_started")
    assert 6 * WINDOW <= started.n - before <= 9 * WINDOW


def test_what_was_tried_in_vain_is_not_tried_again_and_again(make: Any) -> None:
    stage = make()
    stage.learner.gain = -0.3
    go(stage, 5, c=1.0)
    stage.until("trial_lost")
    stage.settle()
    go(stage, 20, c=1.0)
    stage.kill()
    go(stage, 20, c=1.0)
    assert len(cases(stage)) == 1
    assert stage.state().phase == Phase.STEADY
    go(stage, 5, c=1.0, e=2.0)
    assert cases(stage)[-1].numbers["changes"] == [change("e", "appeared", now="number")]


def test_the_same_is_known_after_a_restart_at_any_moment(make: Any) -> None:
    stage = make()
    for _ in range(6):
        go(stage, 1, c=1.0)
        stage.kill()
    go(stage, 6, c=1.0)
    assert len(cases(stage)) == 1
    assert stage.state().contract == {("c", "appeared", "number")}
    stage.until("promoted")
    state = model_doc(stage.state())
    stage.kill()
    stage.settle()
    assert model_doc(stage.state())["version"] == state["version"] == 2
    go(stage, 20, c=1.0)
    assert len(cases(stage)) == 1


def test_a_promoted_version_makes_it_the_rule_and_its_end_is_news(make: Any) -> None:
    stage = make(contract="follow")
    go(stage, 5, c=1.0)
    stage.until("promoted")
    stage.settle()
    go(stage, 6, c=1.0)
    assert stage.state().contract == set()
    go(stage, 5)
    assert cases(stage)[-1].numbers["changes"] == [change("c", "vanished", "number")]


def test_no_case_while_another_one_is_open(make: Any) -> None:
    stage = make()
    stage.learner.alarm()
    stage.until("case_opened")
    go(stage, 8, c=1.0)
    assert not cases(stage)
    stage.learner.window(mean=0.1)
    stage.until("rejected")
    go(stage, 1, c=1.0)
    assert [case.case for case in cases(stage)] == ["m-2"]


def test_no_case_for_a_model_that_is_held(make: Any) -> None:
    stage = make()
    stage.ask("hold")
    go(stage, 8, c=1.0)
    assert not cases(stage)
    stage.ask("resume")
    go(stage, 1, c=1.0)
    assert len(cases(stage)) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"a": "text"}, change("a", "type", "number", "string")),
        ({"b": 3}, change("b", "type", "string", "number")),
        ({"a": GONE}, change("a", "vanished", "number")),
    ],
)
def test_what_is_followed_is_not_held_for(make: Any, changes: dict[str, Any], expected: dict[str, str]) -> None:
    stage = make(contract="follow")
    go(stage, 3)
    feed(stage, WINDOW // 3)  # the change comes in the midst of a block
    stage.advance(1.0)
    start = stage.log.bounds("clicks", 0)[1]
    for _ in range(6):
        feed(stage, WINDOW, **changes)
        stage.turn()
    assert stage.kinds()[:2] == ["registered", "case_opened"]
    [case] = cases(stage)
    assert case.numbers["changes"] == [expected]
    assert case.numbers["starts"] == {"0": start}
    stage.until("promoted")
    assert "held" not in stage.kinds()
    types = {expected["feature"]: expected["is"]} if expected["is"] else {}
    assert stage.state().types == types
    stage.settle()
    stage.ask("retrain")
    started = [d for d in stage.decisions() if d.kind == "retrain_started"][-1]
    assert started.numbers["fit"].get("types", {}) == types, "whatever is fitted later goes by it too"


def test_what_is_followed_must_last(make: Any) -> None:
    stage = make(contract="follow")
    for _ in range(4):
        go(stage, 2, a="text")
        go(stage, 1)
    assert stage.kinds() == ["registered"]


def test_nulls_still_hold_a_model_that_follows(make: Any) -> None:
    stage = make(contract="follow")
    go(stage, 2)
    go(stage, 2, a=None)
    assert stage.state().held_by_diagnosis
    go(stage, 6)
    assert stage.state().held is None
    assert not cases(stage)


def test_a_feature_that_is_missing_more_often_holds_at_the_second_block(make: Any) -> None:
    """Rather than vanishing, it comes for half of the events: what is left of it is broken."""
    stage = make(contract="follow")
    go(stage, 2)

    def halves(count: int) -> None:
        rows = [{"a": 0.5, "b": "x"} if i % 2 else {"b": "y"} for i in range(count)]
        values = [msgspec.json.encode({"stream": "clicks", "x": row, "y": True}) for row in rows]
        stage.log.append("clicks", [Entry(b"k", value, partition=0) for value in values]).result()
        stage.turn()

    halves(WINDOW)
    assert stage.state().held is None
    halves(WINDOW)
    stage.turn()
    assert stage.state().broken["kind"] == "null_jump"


def test_a_followed_change_and_nulls_at_once_heal_of_the_nulls(make: Any) -> None:
    stage = make(contract="follow")
    go(stage, 2)
    go(stage, 2, a=None, b=7)
    assert [one["feature"] for one in stage.state().broken["findings"]] == ["a"]
    go(stage, 6, b=7)
    assert stage.state().held is None
    stage.settle()
    assert [case.numbers["changes"] for case in cases(stage)] == [[change("b", "type", "string", "number")]]


def test_under_hold_a_change_is_broken_input_until_a_person_resumes(make: Any) -> None:
    stage = make()
    go(stage, 3)
    start = stage.log.bounds("clicks", 0)[1]
    go(stage, 6, a="text")
    assert stage.state().held_by_diagnosis
    assert not cases(stage)
    stage.ask("resume")
    stage.settle()
    [case] = cases(stage)
    assert case.numbers["changes"] == [change("a", "type", "number", "string")]
    assert case.numbers["starts"] == {"0": start}
    [resume] = [command for command in stage.learner.commands if command.verb == "resume"]
    assert resume.accepts
    assert "range_skipped" in stage.kinds()
    go(stage, 8, a="text")
    started = stage.until("retrain_started")
    assert started.numbers["skip"]["0"], "what was held is not learned by the new version either"
    stage.until("promoted")
    go(stage, 20, a="text")
    assert len(cases(stage)) == 1


def test_under_hold_what_heals_has_no_case(make: Any) -> None:
    stage = make()
    go(stage, 3, a="text")
    go(stage, 6)
    stage.settle()
    go(stage, 6)
    assert stage.state().held is None
    assert not cases(stage)
    assert all(not command.accepts for command in stage.learner.commands)


def test_to_accept_nulls_opens_no_case(make: Any) -> None:
    stage = make()
    go(stage, 3, a=None)
    stage.ask("resume")
    go(stage, 20, a=None)
    assert not cases(stage)
    assert all(not command.accepts for command in stage.learner.commands)


def test_an_accepted_change_waits_for_the_case_that_is_open(make: Any) -> None:
    stage = make()
    stage.jobs.polls = 1000
    stage.ask("retrain")
    stage.until("retrain_started")
    go(stage, 3, a="text")
    stage.ask("resume")
    stage.kill()
    go(stage, 2, a="text")
    assert not cases(stage)
    stage.ask("cancel")
    stage.settle()
    assert [case.numbers["changes"] for case in cases(stage)] == [[change("a", "type", "number", "string")]]


def test_alarms_open_no_case_of_their_own_on_a_followed_change(make: Any) -> None:
    stage = make(contract="follow")
    go(stage, 2)
    go(stage, 1, a="text")
    stage.learner.drift()
    go(stage, 4, a="text")
    assert [d.numbers["kind"] for d in stage.decisions() if d.kind == "case_opened"] == ["contract"]


def test_a_drift_that_came_with_a_followed_change_makes_way_for_its_case(make: Any) -> None:
    stage = make(contract="follow")
    go(stage, 2)
    stage.learner.alarm()
    stage.until("case_opened")
    feed(stage, WINDOW, a="text")
    stage.learner.window()
    ended = stage.until("broken_input")
    assert ended.why.startswith("it rose with the features, whose change is to be a case of its own: 'a' is no number")
    go(stage, 4, a="text")
    assert len(cases(stage)) == 1
    stage.until("promoted")


def test_a_drift_after_a_followed_change_was_tried_in_vain_is_retrained_for(make: Any) -> None:
    stage = make(contract="follow")
    stage.learner.gain = -0.3
    go(stage, 5, a="text")
    stage.until("trial_lost")
    stage.settle()
    go(stage, 3, a="text")
    stage.learner.gain = 0.3
    stage.learner.drift()
    confirmed = stage.until("confirmed")
    assert confirmed.numbers["diagnosis"]["kind"] != "schema_break"
    started = stage.until("retrain_started")
    assert started.numbers["fit"]["types"] == {"a": "string"}
    stage.until("promoted")


def test_every_shard_begins_where_the_change_did(make: Any) -> None:
    stage = make(shards=2)
    go(stage, 2)
    starts = {str(shard): stage.log.bounds("clicks", shard)[1] for shard in range(2)}
    go(stage, 5, c=1.0)
    assert cases(stage)[0].numbers["starts"] == starts


def test_the_decisions_alone_give_the_state_again(make: Any) -> None:
    """A second control that has seen nothing of the stream folds the log to the same state."""
    stage = make(contract="follow")
    go(stage, 5, a="text", c=2.0)
    stage.until("promoted")
    stage.settle()
    known = stage.state()
    stage.kill()
    stage.control.tick()
    again = stage.state()
    for name in ("contract", "accepted", "types", "last_starts", "phase", "version"):
        assert getattr(again, name) == getattr(known, name), name
    values = [record.value for record in stage.log.read(CONTROL, 0, 0, 100_000)]
    decided = [one for value in values if isinstance(one := decode_control(value), Decision)]
    assert sum(one.numbers.get("kind") == "contract" for one in decided) == 1


def test_what_a_person_accepted_under_an_older_build_opens_no_case_by_hindsight(make: Any) -> None:
    """Its command does not say that other features were accepted, so no learner ever took them."""
    stage = make()
    go(stage, 3, a="text")
    held = next(d for d in stage.decisions() if d.kind == "held")
    request = stage.request("resume")
    resumed = Decision(
        "m", "resumed", stage.clock(), n=held.n, signal=held.signal, by="ann", why="resumed",
        numbers={"command": {"verb": "resume", "mode": "skip"}, "request": stage.log.bounds(CONTROL, 0)[1] - 1},
    )  # fmt: skip
    stage.log.append(CONTROL, [Entry(b"m", msgspec.json.encode(resumed), partition=0)]).result()
    stage.settle()
    assert request.action == "resume"
    assert stage.state().held is None
    go(stage, 10, a="text")
    assert not cases(stage)


def test_a_type_is_known_until_the_feature_is_gone(make: Any) -> None:
    stage = make(contract="follow")
    go(stage, 5, a="text")
    stage.until("promoted")
    stage.settle()
    go(stage, 6, a="text")
    assert stage.state().types == {"a": "string"}
    go(stage, 5, a=GONE)
    assert len(cases(stage)) == 2
    assert stage.state().types == {}
