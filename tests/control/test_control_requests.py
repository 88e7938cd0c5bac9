"""What people ask for: granted by the step itself, or refused with the reason, whatever is going on."""

from __future__ import annotations

from typing import Any

import pytest

from streamlearn.errors import RetrainError


def refused(stage: Any, action: str, **fields: Any) -> str:
    decision = stage.ask(action, **fields)
    assert decision.kind == "request_refused"
    assert decision.by == "ann"
    assert decision.numbers["action"] == action
    return str(decision.why)


def promoted(stage: Any) -> None:
    stage.learner.drift()
    stage.until("recovered")
    stage.settle()


def test_retrain_by_hand_skips_the_confirmation_and_takes_all_that_is_kept(stage: Any) -> None:
    opened = stage.ask("retrain", reason="new sensors")
    assert (opened.kind, opened.case, opened.by) == ("case_opened", "m-1", "ann")
    assert "new sensors" in opened.why
    started = stage.until("retrain_started")
    assert started.numbers["starts"] == {"0": 0}
    stage.until("recovered")
    assert "confirmed" not in stage.kinds()
    assert stage.state().version == 2
    assert stage.view("case", "m-1")["kind"] == "manual"


def test_retrain_by_hand_never_makes_the_model_degraded(stage: Any) -> None:
    stage.learner.recovery_mean = 0.9
    stage.ask("retrain")
    stage.until("recovered")
    assert stage.state().degraded is None


def test_a_challenger_by_hand_must_be_better_not_just_as_good(stage: Any) -> None:
    stage.ask("retrain")
    assert stage.until("trial_started").numbers["tolerance"] == 0.0
    stage.until("recovered")
    stage.learner.drift()
    assert stage.until("trial_started").numbers["tolerance"] == 0.01


def test_retrain_by_hand_after_a_confirmed_change_begins_there(stage: Any) -> None:
    stage.learner.alarm(change_offset=700)
    stage.learner.window()
    stage.until("recovered")
    stage.ask("retrain")
    assert stage.until("retrain_started").numbers["starts"] == {"0": 700}


def test_retrain_by_hand_begins_at_the_first_record_that_is_left(stage: Any) -> None:
    stage.settle()
    stage.log.trim("clicks", 0, 300)
    stage.ask("retrain")
    assert stage.until("retrain_started").numbers["starts"] == {"0": 300}


def test_a_lost_trial_by_hand_keeps_the_reference(stage: Any) -> None:
    stage.learner.gain = -0.3
    stage.ask("retrain")
    stage.until("trial_lost", turns=600)
    stage.settle()
    assert (stage.learner.commands[-1].verb, stage.learner.commands[-1].confirmed) == ("reset", False)


def test_no_second_retrain_while_a_case_is_open(stage: Any) -> None:
    stage.ask("retrain")
    assert "retraining" in refused(stage, "retrain")
    stage.until("recovered")
    assert stage.ask("retrain").kind == "case_opened"


def test_cancel_a_retrain(stage: Any) -> None:
    stage.jobs.polls = 1000
    stage.learner.drift()
    stage.until("retrain_started")
    stage.turn()
    cancelled = stage.ask("cancel", reason="too dear")
    assert cancelled.kind == "retrain_failed"
    assert cancelled.numbers["reason"] == "cancelled"
    assert cancelled.numbers["final"]
    stage.settle()
    assert [job.cancelled for job in stage.jobs.all] == [True]
    assert stage.state().case is None
    assert stage.state().degraded is None
    assert stage.learner.commands[-1].verb == "reset"


def test_cancel_between_two_attempts(stage: Any) -> None:
    stage.jobs.errors.append(RetrainError("failed", "x"))
    stage.learner.drift()
    stage.until("retrain_failed")
    assert stage.ask("cancel").kind == "retrain_failed"
    stage.settle()
    assert stage.kinds().count("retrain_started") == 1


def test_cancel_a_trial(stage: Any) -> None:
    stage.learner.drift()
    stage.until("trial_started")
    lost = stage.ask("cancel")
    assert (lost.kind, lost.by) == ("trial_lost", "ann")
    stage.settle()
    assert stage.learner.shadow is None
    assert stage.state().case is None


def test_nothing_to_cancel(stage: Any) -> None:
    assert "steady" in refused(stage, "cancel")
    stage.learner.alarm()
    stage.until("case_opened")
    assert "neither a retrain nor a trial" in refused(stage, "cancel")


def test_promote_by_hand_before_the_trial_is_over(stage: Any) -> None:
    stage.learner.gain = 0.0
    stage.learner.drift()
    stage.until("trial_started")
    stage.turn()
    won = stage.ask("promote", version=2)
    assert (won.kind, won.by) == ("trial_won", "ann")
    stage.until("promoted")
    assert stage.learner.version == 2


def test_promote_by_hand_when_there_is_no_trial(stage: Any) -> None:
    assert "only a version on trial" in refused(stage, "promote")
    promoted(stage)
    assert "roll back" in refused(stage, "promote")


def test_promote_another_version_than_the_one_on_trial(stage: Any) -> None:
    stage.learner.drift()
    stage.until("trial_started")
    assert "version 2 is on trial, not version 7" in refused(stage, "promote", version=7)


def test_promote_before_the_shards_have_taken_the_version(stage: Any) -> None:
    stage.learner.stop_before = "try"
    stage.learner.drift()
    stage.until("trial_started")
    assert "not yet run on every shard" in refused(stage, "promote")


def test_rollback_while_the_old_champion_is_still_beside_the_new_one(stage: Any) -> None:
    promoted(stage)
    started = stage.ask("rollback", reason="complaints")
    assert started.kind == "rollback_started"
    rolled_back = stage.until("rolled_back")
    assert (rolled_back.version, rolled_back.case) == (1, "m-1")
    stage.settle()
    assert stage.learner.version == 1
    assert (stage.state().version, stage.state().previous, stage.state().shadow) == (1, None, None)
    assert stage.view("version", "m@2")["fate"] == "rolled_back"
    assert stage.view("version", "m@1")["fate"] == "champion"
    assert stage.view("case", "m-1")["outcome"] == "rolled_back"


def test_rollback_after_the_old_champion_was_parked(stage: Any) -> None:
    promoted(stage)
    stage.learner.post(500)
    stage.until("detached")
    stage.settle()
    stage.ask("rollback", version=1)
    stage.until("rolled_back")
    assert stage.learner.version == 1


def test_rollback_before_it_has_recovered_closes_the_case(stage: Any) -> None:
    stage.learner.drift()
    stage.until("promoted")
    stage.ask("rollback")
    stage.until("rolled_back")
    stage.settle()
    assert stage.state().case is None
    assert stage.state().degraded is None
    assert "recovered" not in stage.kinds()


def test_rollback_during_a_retrain_cancels_it(stage: Any) -> None:
    promoted(stage)
    stage.jobs.polls = 1000
    stage.learner.drift()
    stage.until("retrain_started")
    stage.turn()
    started = stage.ask("rollback")
    assert started.case == "m-2"
    stage.until("rolled_back")
    stage.settle()
    assert stage.jobs.all[-1].cancelled
    assert stage.view("case", "m-2")["open"] is False
    assert stage.view("case", "m-2")["outcome"] == "rolled_back"


def test_rollback_is_refused_without_an_earlier_champion_or_twice(stage: Any) -> None:
    assert "no champion before it" in refused(stage, "rollback")
    promoted(stage)
    assert "only the champion before the last promotion" in refused(stage, "rollback", version=9)
    stage.ask("rollback")
    assert "rolling_back" in refused(stage, "rollback")
    stage.until("rolled_back")
    assert "no champion before it" in refused(stage, "rollback")


def test_rollback_is_refused_during_a_trial(stage: Any) -> None:
    promoted(stage)
    stage.learner.drift()
    stage.until("trial_started")
    assert "trial" in refused(stage, "rollback")


def test_a_rollback_that_the_learner_refuses_changes_nothing(stage: Any) -> None:
    promoted(stage)
    stage.learner.refuse["rollback"] = [("no_previous", "nothing is parked")]
    assert stage.ask("rollback").kind == "rollback_started"
    failed = stage.until("request_refused")
    assert "nothing is parked" in failed.why
    stage.settle()
    assert stage.state().version == 2
    assert stage.state().phase.value == "steady"


def test_a_rollback_names_the_version_so_that_no_older_one_comes_back(stage: Any) -> None:
    promoted(stage)
    stage.learner.post(500)
    stage.until("detached")  # version 1 is parked
    stage.learner.drift()
    stage.until("promoted")  # version 3, with version 2 beside it
    learner = stage.learner
    learner.shadow, learner.was_champion = None, False  # version 2 failed there, and control has not heard of it
    assert stage.ask("rollback").numbers["command"] == {"verb": "rollback", "version": 2}
    assert "no_previous" in stage.until("request_refused").why
    stage.settle()
    assert (learner.version, stage.state().version) == (3, 3)


def test_hold_and_resume(stage: Any) -> None:
    stage.settle()
    assert stage.ask("hold", reason="broken upstream").kind == "held"
    stage.settle()
    assert "broken upstream" in stage.learner.held
    assert stage.view("model")["state"] == "held"
    assert "held already" in refused(stage, "hold")
    assert stage.ask("resume").kind == "resumed"
    stage.settle()
    assert stage.learner.held is None
    assert stage.view("model")["held"] is None
    assert "not held" in refused(stage, "resume")
    assert stage.kinds().count("held") == 1  # the learner's own word of it is not another one


def test_hold_does_not_confuse_a_promotion_under_way(stage: Any) -> None:
    stage.learner.stop_before = "promote"
    stage.learner.drift()
    stage.until("trial_won")
    stage.ask("hold")
    for _ in range(5):
        stage.turn()
    stage.learner.stop_before = ""
    stage.until("recovered")
    assert stage.learner.version == 2


def test_a_promotion_ends_a_hold(stage: Any) -> None:
    stage.learner.drift()
    stage.until("trial_started")
    stage.ask("hold")
    stage.until("promoted")
    stage.settle()
    assert stage.state().held is None
    assert stage.learner.held is None


def test_an_unknown_model_or_action_is_refused(stage: Any) -> None:
    assert "no model 'nobody'" in refused(stage, "retrain", model="nobody")
    assert "no action 'explode'" in refused(stage, "explode")
    assert ("model", "nobody") not in stage.views()


def test_a_repeated_request_is_settled_once(stage: Any) -> None:
    stage.request("retrain", id="same")
    stage.request("retrain", id="same")
    stage.turn()
    stage.kill()
    stage.turn()
    assert stage.kinds().count("case_opened") == 1
    assert "request_refused" not in stage.kinds()


@pytest.mark.parametrize("action", ["retrain", "cancel", "promote", "rollback", "hold", "resume"])
@pytest.mark.parametrize(
    "kind",
    ["registered", "case_opened", "retrain_started", "retrain_failed", "trial_started", "trial_won", "promoted", "recovered"],
)
def test_whenever_it_comes_a_request_is_settled_at_once_and_the_story_ends(stage: Any, kind: str, action: str) -> None:
    stage.jobs.errors.append(RetrainError("failed", "as told"))
    stage.until("registered")
    if kind != "registered":
        stage.learner.alarm()
        stage.until("case_opened")
    if kind not in ("registered", "case_opened"):
        stage.learner.window()
        stage.until(kind)
    stage.ask(action)
    stage.learner.window()
    stage.settle(400)
    assert stage.state().phase.value in ("steady", "confirm")
    assert not stage.state().asked
    assert stage.learner.version == stage.state().version
    assert (stage.learner.held is None) == (stage.state().held is None)


def test_a_silence_is_written_down_and_changes_nothing_else(stage: Any) -> None:
    stage.settle()
    before = stage.state().phase, stage.state().version, stage.state().held
    silenced = stage.ask("silence", for_s=7200.0, reason="the upstream is rebuilt")
    assert (silenced.kind, silenced.by, silenced.numbers["until"]) == ("silenced", "ann", silenced.at + 7200)
    assert "the upstream is rebuilt" in silenced.why
    assert (stage.state().phase, stage.state().version, stage.state().held) == before
    stage.turn()
    assert stage.view("model")["silenced_until"] == silenced.at + 7200
    stage.learner.drift()
    stage.until("confirmed")  # decisions go on as ever
    assert stage.state().silenced_until == silenced.at + 7200


def test_a_silence_is_there_again_after_a_restart_and_ends_with_zero(stage: Any) -> None:
    stage.settle()
    silenced = stage.ask("silence", for_s=60.0)
    stage.kill()
    stage.turn()
    assert stage.state().silenced_until == silenced.numbers["until"]
    ended = stage.ask("silence", for_s=0.0)
    assert (ended.numbers["until"], stage.state().silenced_until) == (None, None)
    stage.turn()
    assert stage.view("model")["silenced_until"] is None


def test_a_silence_may_be_asked_for_in_any_phase(stage: Any) -> None:
    stage.jobs.polls = 1000
    stage.learner.drift()
    stage.until("retrain_started")
    assert stage.ask("silence", for_s=60.0).kind == "silenced"
    assert stage.state().phase.value == "retraining"


@pytest.mark.parametrize("span", [None, -1.0, 31 * 86_400.0])
def test_a_silence_takes_seconds(stage: Any, span: float | None) -> None:
    stage.settle()
    assert "for_s" in refused(stage, "silence", for_s=span)
