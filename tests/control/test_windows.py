"""What a retrain learns and begins with: the window of each shard, the champion of a checkpoint, what decisions say of it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamlearn.control import facts
from streamlearn.errors import RetrainError
from streamlearn.lineage import recipe_of
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Claim
from streamlearn.retrain.job import FitSpec

from .conftest import checkpoint

Make = Callable[..., Any]


def strategy(**fields: Any) -> dict[str, Any]:
    return {"attempts": 3, "backoff_s": 5.0, "max_gap_records": 2000, "strategy": fields}


def started(stage: Any, change: int = 600) -> Any:
    """The decision that begins the fit after a drift since `change`."""
    stage.learner.alarm(change_offset=change)
    stage.learner.window()
    return stage.until("retrain_started")


def specs(stage: Any) -> list[FitSpec]:
    stage.turn()
    return [job.spec for job in stage.jobs.all]


def claim(stage: Any, **recipe: Any) -> None:
    """The first claim, which says what version 1 is made of."""
    made = {**recipe_of(stage.settings.models["m"]), **recipe}
    value = msgspec.json.encode(Claim("m", 0, "l1", 0.0, recipe=made))
    stage.log.append(CONTROL, [Entry(b"", value, partition=0)]).result()


def test_the_window_is_the_change_when_nothing_else_is_asked_for(stage: Any) -> None:
    decision = started(stage)
    assert decision.numbers["starts"] == {"0": 600}
    assert decision.numbers["strategy"] == {"how": "full", "window": "change"}
    assert decision.why.startswith("attempt 1 of 3: fit version 2 from the change point; debt: ")
    [spec] = specs(stage)
    assert (spec.how, spec.base, spec.half_life, spec.max_events) == ("full", None, 0.0, 200_000)


def test_the_last_records_of_each_partition(make_stage: Make) -> None:
    stage = make_stage(shards=2, retrain=strategy(window="records", records=150))
    stage.learners[1].post(40)
    decision = started(stage)
    assert decision.numbers["starts"] == {"0": 850, "1": 890}
    assert decision.numbers["until"] == {"0": 1000, "1": 1040}
    assert decision.numbers["strategy"] == {"how": "full", "window": "records", "records": 150}
    assert decision.numbers["change"] == {"0": 600, "1": 0}
    assert "fit version 2 from the last 150 records of each partition; debt: " in decision.why


def test_more_records_than_there_are_are_all_that_are_kept(make_stage: Make) -> None:
    stage = make_stage(retrain=strategy(window="records", records=5000))
    stage.settle()
    stage.log.trim("clicks", 0, 30)
    assert started(stage).numbers["starts"] == {"0": 30}


def test_the_records_of_the_last_days(make_stage: Make) -> None:
    stage = make_stage(shards=2, retrain=strategy(window="days", days=2))
    for learner in stage.learners:
        stage.advance(86_400.0)
        learner.post(50)
    stage.advance(86_400.0 + 3600.0)
    decision = started(stage)
    assert decision.numbers["starts"] == {"0": 1050, "1": 1000}
    assert decision.numbers["strategy"] == {"how": "full", "window": "days", "days": 2}
    assert "from the records of the last 2 days" in decision.why


@pytest.mark.parametrize(("start", "first"), [("earliest", 0), ("1970-01-01T00:00:00Z", 0), ("later", 1000)])
def test_all_begins_where_the_model_does(make_stage: Make, start: str, first: int) -> None:
    """And no other window begins before."""
    for fields in ({"window": "all"}, {"window": "records", "records": 5000}, {"window": "days", "days": 10}):
        stage = make_stage()
        at = stage.clock() + 50
        begin = start if start != "later" else datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat()
        stage = make_stage(start=begin, retrain=strategy(**fields))
        stage.advance(100)
        stage.learner.post(70)
        assert started(stage, 1020).numbers["starts"] == {"0": first}


def test_where_the_change_was_is_remembered_whatever_the_window(make_stage: Make) -> None:
    """By the next fit whose window begins there: the settings may be others then."""
    stage = make_stage(retrain=strategy(window="records", records=100))
    started(stage, 600)
    stage.until("recovered")
    assert stage.state().last_starts == {0: 600}
    assert stage.ask("retrain").kind == "case_opened"
    by_hand = stage.until("retrain_started").numbers
    assert by_hand["starts"]["0"] == by_hand["until"]["0"] - 100
    assert "change" not in by_hand


def test_a_second_attempt_learns_the_window_of_the_first(make_stage: Make) -> None:
    stage = make_stage(retrain=strategy(window="records", records=100))
    stage.jobs.errors.append(RetrainError("failed", "x"))
    first = started(stage)
    stage.learner.post(50)
    again = stage.until("retrain_started")
    assert again.numbers["starts"] == first.numbers["starts"] == {"0": 900}
    assert again.numbers["until"] == {"0": 1050}


# The champion begins.


@pytest.mark.parametrize("how", ["warm", "members"])
def test_a_warm_start_begins_with_the_newest_sound_checkpoint(make_stage: Make, how: str) -> None:
    stage = make_stage(shards=2, retrain=strategy(how=how, share=0.25, half_life=300, max_events=77))
    checkpoint(stage, 300)
    ids = [checkpoint(stage, 980), checkpoint(stage, 700, 1)]
    decision = started(stage)
    assert decision.numbers["starts"] == {"0": 600, "1": 0}
    assert {shard: base["id"] for shard, base in decision.numbers["bases"].items()} == {"0": ids[0], "1": ids[1]}
    told = {"how": how, "window": "change", "half_life": 300} | ({"share": 0.25} if how == "members" else {})
    assert decision.numbers["strategy"] == told
    assert "from the change point, where an event counts half as much for every 300 records of age" in decision.why
    assert "by a copy of version 1 as it was at offset 980, 700" in decision.why
    assert ("25% of its members begun anew" in decision.why) == (how == "members")
    fits = specs(stage)
    assert [(fit.how, fit.base.id, fit.start, fit.half_life, fit.max_events) for fit in fits] == [
        (how, ids[0], 600, 300.0, 77), (how, ids[1], 0, 300.0, 77),
    ]  # fmt: skip
    assert fits[0].share == (0.25 if how == "members" else 0.5)
    stage.until("promoted")
    command = stage.learner.commands[0]
    again = msgspec.convert(command.spec, FitSpec)
    assert (again.how, again.base, again.stop) == (how, fits[0].base, command.trained_to["0"])
    assert stage.view("version", "m@2")["bases"]["0"]["id"] == ids[0]


def no_checkpoint(stage: Any) -> None:
    checkpoint(stage, 900)


def older_version(stage: Any) -> None:
    checkpoint(stage, 900)
    checkpoint(stage, 900, 1, version=7)


def another_recipe(stage: Any) -> None:
    checkpoint(stage, 900)
    checkpoint(stage, 900, 1)
    claim(stage, pipeline="naive_bayes")


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (no_checkpoint, "shard 1 has no sound checkpoint"),
        (older_version, "the newest checkpoint of shard 1 is still of version 7"),
        (another_recipe, "the configuration has another pipeline than version 1"),
    ],
)
def test_where_there_can_be_no_warm_start_it_is_made_in_full_and_says_so(
    make_stage: Make, prepare: Callable[[Any], None], why: str
) -> None:
    stage = make_stage(shards=2, retrain={**strategy(how="warm"), "min_events": 400})
    prepare(stage)
    decision = started(stage)
    assert decision.numbers["bases"] == {}
    assert decision.numbers["strategy"] == {"how": "full", "window": "change", "instead": why}
    assert f'in full instead of "warm": {why}' in decision.why
    assert {(fit.how, fit.base) for fit in specs(stage)} == {("full", None)}


def test_a_version_with_another_recipe_is_always_made_in_full(make_stage: Make) -> None:
    stage = make_stage(retrain={**strategy(how="members"), "min_events": 400})
    checkpoint(stage, 900)
    claim(stage, params={"l2": 0.5})
    decision = stage.until("retrain_started")
    assert stage.state().case.kind == "changed"
    assert decision.numbers["strategy"]["how"] == "full"
    assert decision.numbers["strategy"]["instead"] == "the configuration has another params than version 1"
    assert stage.state().recipes[2] == recipe_of(stage.settings.models["m"])


def test_a_warm_version_keeps_the_recipe_of_the_champion(make_stage: Make) -> None:
    stage = make_stage(retrain=strategy(how="warm"))
    claim(stage)
    checkpoint(stage, 900)
    started(stage)
    assert stage.state().recipes[2] == stage.state().recipes[1] == recipe_of(stage.settings.models["m"])


def test_what_a_person_has_decided_is_touched_by_no_strategy(make_stage: Make) -> None:
    stage = make_stage(retrain=strategy(how="warm", window="records", records=10, half_life=5))
    stage.settle()
    id = checkpoint(stage, 500)
    checkpoint(stage, 950)
    stage.ask("rewind", to=["600"], skip=["600:700"])
    decision = stage.until("retrain_started")
    assert "strategy" not in decision.numbers
    assert decision.numbers["starts"] == {"0": 500}
    [spec] = specs(stage)
    assert (spec.how, spec.base.id, spec.half_life, spec.start) == ("full", id, 0.0, 500)
    assert spec.goes_on


def test_a_retry_takes_the_champion_of_that_time(make_stage: Make) -> None:
    """A checkpoint that was there at the first attempt may be gone at the second."""
    stage = make_stage(retrain=strategy(how="warm"))
    checkpoint(stage, 500)
    stage.jobs.errors.append(RetrainError("failed", "checkpoint 1 is no longer in the store"))
    first = started(stage)
    newer = checkpoint(stage, 990)
    again = stage.until("retrain_started")
    assert first.numbers["bases"]["0"]["id"] != again.numbers["bases"]["0"]["id"] == newer
    stage.until("recovered")


def test_control_that_dies_meets_its_own_decision_again(make_stage: Make) -> None:
    stage = make_stage(retrain=strategy(how="warm", half_life=10, window="all"))
    id = checkpoint(stage, 900)
    started(stage)
    stage.kill()
    checkpoint(stage, 990)
    [spec] = specs(stage)
    assert (spec.how, spec.base.id, spec.half_life, spec.start) == ("warm", id, 10.0, 0)


# What the fit tells of itself.


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"learned": 10}, ""),
        ({"learned": 10, "thinned": 5}, "; 5 of 15 labelled events were thinned out for their age"),
        ({"strategy": {"how": "warm"}}, ""),
        ({"strategy": {"how": "warm", "instead": "no members: a warm start was made"}}, "; no members: a warm start was made"),
        (
            {"strategy": {"how": "members", "renewed": [1], "losses": [0.1, 0.5], "events": 90}},
            "; 1 of 2 members were begun anew, by their losses on 90 events",
        ),
        (
            {"sample": {"kept": 50, "of": 99}, "thinned": 1, "learned": 99},
            "; 1 of 100 labelled events were thinned out for their age, further epochs passed over 50 of 99 labelled events, "
            "evenly spread",
        ),
    ],
)
def test_the_decision_says_what_the_fit_did(fact: dict[str, Any], words: str) -> None:
    assert facts.strategy_told({0: fact}) == words
    both = facts.strategy_told({0: fact, 1: {}})
    assert both == (words.replace("; ", "; shard 0: ", 1) if words else "")
