"""From a won trial to a promotion that stays: the canary's steps, every way in which it ends, and the guard after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamlearn.control.fold import apply

TRIAL: dict[str, Any] = {
    "min_events": 100, "horizon_events": 2000, "watch_events": 5500, "tolerance": 0.01, "canary": [0.1, 0.5],
    "canary_events": 100,
}  # fmt: skip


@pytest.fixture
def stage(make_stage: Callable[..., Any]) -> Any:
    return make_stage(trial=TRIAL)


def on_canary(stage: Any, step: int = 1) -> Any:
    """The canary's decision of that step; every shard has it."""
    stage.learner.drift()
    for _ in range(step):
        started = stage.until("canary_started")
    stage.turn()
    return started


def verbs(stage: Any) -> list[str]:
    return [verb for verb, _ in stage.learner.answered]


def test_a_won_trial_goes_through_rising_shares_of_the_keys_before_all(stage: Any) -> None:
    stage.learner.drift()
    stage.until("recovered")
    steps = [d for d in stage.decisions() if d.kind == "canary_started"]
    assert [d.numbers["command"] for d in steps] == [
        {"verb": "canary", "version": 2, "share": 0.1, "salt": "m@2"},
        {"verb": "canary", "version": 2, "share": 0.5, "salt": "m@2"},
    ]
    assert [d.numbers["step"] for d in steps] == [1, 2]
    assert "answers for 0.1 of the keys, step 1 of 2" in steps[0].why
    won = next(d for d in stage.decisions() if d.kind == "trial_won")
    assert won.numbers["canary"]["events"] >= 100
    assert (won.numbers["canary"]["step"], won.numbers["canary"]["share"]) == (2, 0.5)
    assert "too few outcomes" in won.why
    assert verbs(stage) == ["try", "canary", "canary", "promote"]
    assert stage.learner.version == 2


def test_each_step_waits_for_its_own_events(stage: Any) -> None:
    stage.learner.drift()
    first = stage.until("canary_started")
    begun = stage.view("case", "m-1")["trial"]["events"]
    second = stage.until("canary_started")
    assert second.numbers["canary"]["events"] >= 100
    assert second.numbers["events"] >= begun + 100
    assert stage.state().case.canary.events < 100
    assert first.at < second.at


def test_a_clear_winner_answers_for_some_before_it_may_for_all(make_stage: Callable[..., Any]) -> None:
    """The canary begins on the evidence alone; nobody serves all keys before `min_events` events, the canary's included."""
    stage = make_stage(trial={**TRIAL, "min_events": 1100})
    stage.learner.drift()
    first = stage.until("canary_started")
    assert first.numbers["events"] < 700
    won = stage.until("trial_won")
    assert 1100 <= won.numbers["events"] < 1200
    assert won.numbers["canary"]["events"] > 200, "the last step was as long as was needed"


def test_a_step_lasts_its_seconds_however_fast_events_come(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(trial={**TRIAL, "canary_s": 20})
    stage.learner.drift()
    first, second = stage.until("canary_started"), stage.until("canary_started")
    won = stage.until("trial_won")
    assert second.at - first.at >= 20
    assert won.at - second.at >= 20


def test_blocks_that_were_asked_before_the_step_do_not_count(stage: Any) -> None:
    on_canary(stage)
    stage.learner.step = -1  # nothing but blocks from before the command
    for _ in range(30):
        stage.turn()
    assert stage.state().case.canary.events < 100
    assert stage.kinds()[-1] == "canary_started"


def test_what_is_on_is_shown(stage: Any) -> None:
    on_canary(stage, step=2)
    model = stage.view("model")
    assert model["state"] == "canary"
    assert model["canary"] == {"version": 2, "share": 0.5, "salt": "m@2"}
    assert stage.view("version", "m@2")["fate"] == "canary"
    assert stage.view("case", "m-1")["trial"]["canary"]["step"] == 2
    stage.until("promoted")
    stage.turn()
    assert stage.view("model")["canary"] is None
    assert stage.view("version", "m@2")["fate"] == "champion"


def test_without_shares_the_verdict_promotes(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(trial={**TRIAL, "canary": []})
    stage.learner.drift()
    stage.until("recovered")
    assert "canary_started" not in stage.kinds()
    assert verbs(stage) == ["try", "promote"]


def test_every_shard_must_have_the_share(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2, trial=TRIAL)
    stage.learners[1].stop_before = "canary"
    stage.learners[0].drift()
    stage.until("canary_started")
    for _ in range(40):
        stage.turn()
    assert stage.kinds()[-1] == "canary_started"
    assert stage.state().case.canary.events == 0, "a shard that has not begun holds the step up"
    stage.learners[1].stop_before = ""
    stage.until("recovered")
    assert [learner.version for learner in stage.learners] == [2, 2]


def test_a_shard_that_refuses_the_canary_ends_it(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2, trial=TRIAL)
    stage.learners[1].refuse["canary"] = [("not_in_trial", "")]
    stage.learners[0].drift()
    assert "the canary was refused: shard 1: not_in_trial" in stage.until("trial_lost").why
    stage.settle()
    assert [learner.shadow for learner in stage.learners] == [None, None]
    assert [learner.step for learner in stage.learners] == [-1, -1]


def test_a_challenger_that_the_champion_beats_since_the_canary_began_is_let_go_before_the_step_ends(
    make_stage: Callable[..., Any],
) -> None:
    stage = make_stage(trial={**TRIAL, "canary": [0.1], "canary_events": 4500, "horizon_events": 6000})
    on_canary(stage)
    stage.learner.gain = -0.5
    lost = stage.until("trial_lost")
    assert "since the canary began, the champion was better" in lost.why
    assert lost.numbers["canary"]["guard"]["e"] >= lost.numbers["canary"]["guard"]["threshold"]
    stage.settle()
    assert verbs(stage)[-2:] == ["detach", "reset"]
    assert stage.state().canary is None
    assert stage.view("model")["canary"] is None
    assert (stage.state().version, stage.view("version", "m@2")["fate"]) == (1, "lost")


def test_a_challenger_that_is_worse_of_late_does_not_take_the_next_step(stage: Any) -> None:
    on_canary(stage)
    stage.learner.gain = -0.02  # too little to be proven in a hundred events
    lost = stage.until("trial_lost")
    assert "of the canary, of late the challenger's loss is higher" in lost.why


def test_served_answers_that_do_worse_end_it_at_the_end_of_the_step(stage: Any) -> None:
    stage.learner.outcomes = (8, 4, 0.5)  # though it is the better one in the shadow
    stage.learner.drift()
    stage.until("canary_started")
    lost = stage.until("trial_lost")
    assert "its served answers did worse by 0.5" in lost.why
    numbers = lost.numbers["canary"]
    assert numbers["p"] <= numbers["level"] == 0.025
    assert numbers["served"]["challenger"] >= 30


def test_served_answers_that_do_as_well_are_said(stage: Any) -> None:
    stage.learner.outcomes = (8, 4, 0.0)
    stage.learner.drift()
    won = stage.until("trial_won")
    assert "outcomes of its served answers not worse" in won.why
    assert won.numbers["canary"]["p"] > won.numbers["canary"]["level"]


def test_a_challenger_that_breaks_in_the_canary_is_let_go(stage: Any) -> None:
    on_canary(stage)
    stage.learner.shadow, stage.learner.trial, stage.learner.step = None, -1, -1
    stage.learner.tell("shadow_failed", version=2, reason="predicting raised ValueError()")
    assert "predicting raised" in stage.until("trial_lost").why
    stage.settle()
    assert stage.state().case is None


def test_the_horizon_bounds_the_canary_too(stage: Any) -> None:
    on_canary(stage)
    stage.learner.step = -1  # its blocks say nothing of the step
    lost = stage.until("trial_lost", turns=400)
    assert "2000 events passed before the canary's end" in lost.why


def test_a_canary_of_a_stream_gone_silent_ends(stage: Any) -> None:
    on_canary(stage)
    stage.learner.trial = -1
    stage.turn(9 * 86_400.0 + 1)
    stage.turn()
    assert "the canary did not end in" in stage.until("trial_lost").why


def test_promote_by_hand_in_a_canary_goes_straight_to_all(stage: Any) -> None:
    on_canary(stage)
    assert stage.ask("promote").kind == "trial_won"
    stage.until("recovered")
    assert verbs(stage) == ["try", "canary", "promote"]


def test_promote_by_hand_in_a_trial_skips_the_canary(stage: Any) -> None:
    stage.learner.gain = 0.0
    stage.learner.drift()
    stage.until("trial_started")
    stage.turn()
    stage.ask("promote")
    stage.until("recovered")
    assert "canary_started" not in stage.kinds()


def test_cancel_ends_a_canary_and_a_rollback_has_to_wait(stage: Any) -> None:
    on_canary(stage)
    assert "canary" in stage.ask("rollback").why
    lost = stage.ask("cancel")
    assert (lost.kind, lost.by) == ("trial_lost", "ann")
    assert "the canary was cancelled" in lost.why
    stage.settle()
    assert (stage.learner.shadow, stage.learner.step) == (None, -1)


def test_a_second_control_does_not_take_the_same_step_twice(stage: Any) -> None:
    started = on_canary(stage)
    state = stage.state()
    assert not apply(state, 10**6, started)
    assert state.case.canary.step == 1


def test_an_outcome_that_cannot_be_is_passed_over(stage: Any) -> None:
    on_canary(stage)
    before = stage.state().case.canary.challenger.n
    arms = {"champion": [1, 0.0, 0.0], "challenger": [1, 7.0, 0.0]}
    stage.learner.tell(
        "block", trial=stage.learner.trial, block=10**4, n=10, champion=0.0, challenger=0.0,
        canary={"step": stage.learner.step, **arms},
    )  # fmt: skip
    stage.control.tick()
    assert stage.state().case.canary.challenger.n == before


# After the promotion.


def promoted(stage: Any, regret: float | None = 0.0) -> None:
    stage.learner.regret = regret
    stage.learner.drift()
    stage.until("promoted")


def test_a_version_that_turns_bad_after_its_promotion_is_rolled_back_by_the_same_test(stage: Any) -> None:
    promoted(stage)
    stage.until("recovered")
    stage.learner.regret = 0.4
    started = stage.until("rollback_started")
    assert (started.by, started.version, started.case) == ("control", 1, "m-1")
    assert started.numbers["peak"] >= started.numbers["threshold"]
    assert started.numbers["alpha_k"] == pytest.approx(6 * 0.05 / 9.8696, rel=1e-3)
    assert "version 1, kept beside version 2, is better on the same events" in started.why
    stage.until("rolled_back")
    stage.settle()
    assert (stage.learner.version, stage.state().version, stage.state().previous) == (1, 1, None)
    assert stage.view("version", "m@2")["fate"] == "rolled_back"
    assert stage.view("case", "m-1")["outcome"] == "rolled_back"
    assert stage.state().guard is None


def test_a_version_that_stays_good_is_left_alone(stage: Any) -> None:
    promoted(stage)
    stage.until("detached", turns=400)
    stage.settle()
    assert "rollback_started" not in stage.kinds()
    assert stage.state().guard is None
    assert (stage.learner.version, stage.learner.parked) == (2, 1)


def test_the_guard_does_not_wait_for_the_recovery(stage: Any) -> None:
    stage.learner.recovery_mean = 0.9
    promoted(stage, 0.5)
    window, stage.learner.window = stage.learner.window, lambda *_: None
    stage.until("rolled_back")
    stage.learner.window = window
    assert "recovered" not in stage.kinds()
    assert stage.state().case is None


def test_a_case_that_the_bad_version_opened_is_closed_by_the_rollback(stage: Any) -> None:
    promoted(stage)
    stage.until("recovered")
    stage.jobs.polls = 1000
    stage.learner.regret = 0.5
    stage.learner.drift()
    started = stage.until("rollback_started")
    assert started.case == "m-2"
    stage.until("rolled_back")
    stage.settle()
    assert not stage.view("case", "m-2")["open"]
    assert all(job.cancelled or not job.running for job in stage.jobs.all)


def test_the_guard_judges_all_shards_together_and_from_the_first_block_on(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2, trial=TRIAL)
    for learner in stage.learners:
        learner.regret = 0.5
    stage.learners[0].drift()
    stage.learners[1].stop_before = "promote"
    stage.until("trial_won")
    for _ in range(20):
        stage.turn()  # the first shard tells blocks of the new champion, the second has not promoted it
    assert stage.kinds()[-1] == "trial_won"
    stage.learners[1].stop_before = ""
    started = stage.until("rollback_started")
    assert started.numbers["events"] == 20 * started.numbers["blocks"]
    stage.until("rolled_back")
    assert [learner.version for learner in stage.learners] == [1, 1]


def test_an_old_champion_that_failed_is_not_brought_back(stage: Any) -> None:
    promoted(stage)
    stage.until("recovered")
    stage.learner.tell("shadow_failed", version=1, reason="learning raised")
    stage.learner.regret = 0.5
    stage.settle()
    assert "rollback_started" not in stage.kinds()


def test_a_rollback_that_the_learner_refuses_is_told_and_not_tried_again(stage: Any) -> None:
    promoted(stage)
    stage.learner.refuse["rollback"] = [("no_previous", "nothing is kept")]
    stage.learner.regret = 0.5
    failed = stage.until("rollback_failed")
    assert "nothing is kept" in failed.why
    stage.settle()
    assert stage.kinds().count("rollback_started") == 1
    assert (stage.state().version, stage.state().phase.value) == (2, "steady")


def test_what_a_person_has_decided_needs_no_canary_and_no_test_undoes_it(stage: Any) -> None:
    stage.settle()
    stage.learner.regret = 0.5  # the old champion learned the bad data, and looks the better for it while they last
    stage.ask("rewind", to=["600"], skip=["600:610"])
    stage.until("promoted")
    stage.until("detached")
    stage.settle()
    assert not {"canary_started", "rollback_started"} & set(stage.kinds())
    assert stage.learner.version == 2


def test_a_rewind_under_way_is_not_undone_by_the_guard_of_the_promotion_before(stage: Any) -> None:
    promoted(stage)
    stage.until("recovered")
    stage.jobs.polls = 60
    stage.ask("rewind", to=["600"], skip=["600:610"])
    stage.until("retrain_started")
    stage.learner.regret = 0.5
    stage.until("trial_started", turns=400)
    assert "rollback_started" not in stage.kinds()


@pytest.mark.slow
def test_control_killed_at_every_turn_tells_the_same_story(make_stage: Callable[..., Any]) -> None:
    def story(kill: bool) -> list[Any]:
        stage = make_stage(trial=TRIAL)
        stage.jobs.polls = 1
        stage.learner.outcomes = (8, 4, 0.01)
        stage.learner.regret = 0.5
        stage.learner.drift()
        for _ in range(300):
            stage.turn()
            if kill:
                stage.kill()
        assert "rolled_back" in stage.kinds()
        rows = zip(stage.story(), stage.decisions(), strict=True)
        return [(*row, decision.numbers.get("e"), decision.numbers.get("canary")) for row, decision in rows]

    assert story(kill=True) == story(kill=False)
