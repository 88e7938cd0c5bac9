"""A recommender's story: its challenger answers for users drawn at random, is promoted by what they do, and is watched on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

TRIAL: dict[str, Any] = {"min_events": 100, "horizon_events": 2000, "watch_events": 5500, "tolerance": 0.01}


@pytest.fixture
def stage(make_stage: Callable[..., Any]) -> Any:
    return recommending(make_stage)


def recommending(make_stage: Callable[..., Any], **model: Any) -> Any:
    return make_stage(task="recommend", trial=TRIAL, recommend={"arm_share": 0.4, "guard_share": 0.2}, **model)


def verbs(stage: Any) -> list[str]:
    return [verb for verb, _ in stage.learner.answered]


def test_the_trial_is_a_canary_of_users_and_is_promoted_at_once(stage: Any) -> None:
    stage.learner.drift()
    started = stage.until("trial_started")
    assert (started.numbers["command"]["share"], started.numbers["command"]["salt"]) == (0.4, "m@2")
    assert "0.4 of the users, drawn at random" in started.why
    stage.until("recovered")
    assert "canary_started" not in stage.kinds()
    assert verbs(stage) == ["try", "promote"]
    [tried, promoted] = stage.learner.commands[:2]
    assert (tried.share, tried.salt) == (0.4, "m@2")
    assert (promoted.share, promoted.salt) == (0.2, "m@1>2"), "the old champion goes on for other users"


def test_a_challenger_that_is_no_better_is_not_promoted(stage: Any) -> None:
    """Not worse is not enough: what is compared are rewards, of which one in a hundred may be all there is."""
    stage.learner.gain = 0.0
    stage.learner.drift()
    started = stage.until("trial_started")
    assert started.numbers["tolerance"] == 0.0
    lost = stage.until("trial_lost", turns=400)
    assert "undecided at the horizon" in lost.why
    assert verbs(stage)[:2] == ["try", "detach"]
    assert stage.learner.version == 1


def test_a_challenger_that_serves_users_worse_is_let_go_before_the_horizon(stage: Any) -> None:
    stage.learner.gain = -0.1
    stage.learner.drift()
    lost = stage.until("trial_lost", turns=400)
    assert lost.why == "users are served worse: in the last half of the trial rewards rose by -0.1000 at most"
    assert 2 * TRIAL["min_events"] <= lost.numbers["events"] < TRIAL["horizon_events"] / 2
    stage.settle()
    assert stage.state().case is None, "the next drift finds the way free"


def test_who_answers_for_how_many_is_shown(stage: Any) -> None:
    stage.learner.gain = 0.0
    stage.learner.drift()
    stage.until("trial_started")
    stage.turn()
    model = stage.view("model")
    assert model["state"] == "trial"
    assert model["canary"] == {"version": 2, "share": 0.4, "salt": "m@2"}
    stage.until("trial_lost", turns=400)
    stage.turn()
    assert stage.view("model")["canary"] is None


def test_the_old_champion_is_shown_while_it_is_watched_and_may_come_back(stage: Any) -> None:
    stage.learner.regret = 0.0
    stage.learner.drift()
    stage.until("promoted")
    stage.turn()
    assert stage.view("model")["canary"] == {"version": 1, "share": 0.2, "salt": "m@1>2"}
    stage.learner.regret = 0.3
    stage.until("rolled_back", turns=400)
    stage.turn()
    assert stage.view("model")["canary"] is None
    assert stage.learner.version == 1


def test_nothing_is_watched_where_nothing_is_to_be(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(task="recommend", trial={**TRIAL, "watch_events": 0})
    stage.learner.drift()
    stage.until("promoted")
    assert stage.learner.commands[1].share == 0.0


def test_a_restart_in_the_middle_changes_nothing(make_stage: Callable[..., Any]) -> None:
    whole = recommending(make_stage)
    whole.learner.drift()
    whole.until("recovered")
    cut = recommending(make_stage)
    cut.learner.drift()
    for kind in ("trial_started", "trial_won", "promoted", "recovered"):
        cut.until(kind)
        cut.kill()
    assert cut.story() == whole.story()
