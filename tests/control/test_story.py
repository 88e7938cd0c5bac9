"""The whole story over a real fold: alarm to promoted and recovered, and every other way in which a case may end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamlearn.errors import RetrainError

from .conftest import WINDOW

HAPPY = [
    "registered", "case_opened", "confirmed", "retrain_started", "retrained", "trial_started", "trial_won", "promoted",
    "recovered", "detached",
]  # fmt: skip


def test_a_model_is_registered_once(stage: Any) -> None:
    stage.settle()
    stage.kill()
    stage.settle()
    assert stage.kinds() == ["registered"]
    assert stage.decisions()[0].version == 1
    assert stage.view("model")["state"] == "steady"
    assert stage.view("version", "m@1")["fate"] == "champion"


def test_a_drift_from_alarm_to_detached(stage: Any) -> None:
    stage.settle()
    stage.learner.drift()
    stage.until("recovered")
    assert stage.state().version == 2
    assert stage.state().degraded is None
    stage.learner.post(500)
    stage.settle()
    assert stage.kinds() == HAPPY
    assert stage.learner.version == 2
    assert [verb for verb, _ in stage.learner.answered] == ["try", "promote", "detach"]
    assert stage.learner.parked == 1
    assert {decision.case for decision in stage.decisions()[1:]} == {"m-1"}


def test_every_command_carries_the_offset_of_its_decision(stage: Any) -> None:
    stage.learner.drift()
    stage.until("recovered")
    audit = {int(id): doc for (kind, id), doc in stage.views().items() if kind == "audit"}
    for command in stage.learner.commands:
        assert audit[command.seq]["numbers"]["command"]["verb"] == command.verb


def test_degraded_holds_from_confirmed_to_recovered(stage: Any) -> None:
    stage.learner.alarm()
    stage.until("case_opened")
    stage.turn()
    assert stage.view("model")["degraded"] is None
    assert stage.view("model")["case"] == "m-1"
    assert stage.view("model")["state"] == "case"
    stage.learner.window()
    stage.until("confirmed")
    assert "drift confirmed in case m-1" in stage.view("model")["degraded"]
    stage.until("promoted")
    assert stage.state().degraded is not None
    stage.until("recovered")
    assert stage.view("model")["degraded"] is None


def test_a_window_that_may_be_chance_is_rejected_and_the_detectors_start_again(stage: Any) -> None:
    stage.learner.alarm()
    stage.learner.window(mean=0.11)
    stage.settle()
    assert stage.kinds() == ["registered", "case_opened", "rejected"]
    [command] = stage.learner.commands
    assert (command.verb, command.confirmed) == ("reset", False)
    assert stage.view("case", "m-1")["outcome"] == "rejected"
    assert not stage.view("case", "m-1")["open"]


def test_an_early_look_that_is_not_sure_waits_for_the_rest(stage: Any) -> None:
    stage.learner.alarm()
    stage.learner.window(mean=0.3, look=(0, WINDOW // 5))
    for _ in range(5):
        stage.turn()
    assert stage.kinds() == ["registered", "case_opened"]
    stage.learner.window(mean=0.3)
    confirmed = stage.until("confirmed")
    assert (confirmed.numbers["fresh_n"], confirmed.numbers["look"]) == (WINDOW, 1.0)


def test_an_early_look_confirms_what_is_beyond_doubt(stage: Any) -> None:
    stage.learner.alarm()
    stage.learner.window(mean=0.9, look=(0, WINDOW // 5))
    confirmed = stage.until("confirmed")
    assert (confirmed.numbers["fresh_n"], confirmed.numbers["look"]) == (WINDOW // 5, 0.2)
    assert confirmed.numbers["level"] < 1e-4
    stage.learner.window(mean=0.1)  # the rest of the window comes all the same, and is no longer asked about
    stage.until("recovered")
    assert stage.kinds() == HAPPY[:-1]


def test_what_is_confirmed_early_waits_for_the_events_that_a_fit_needs(stage: Any) -> None:
    stage.learner.alarm(since=150)
    stage.learner.window(mean=0.9, look=(0, WINDOW // 5))
    for _ in range(5):
        stage.turn()
    assert stage.kinds()[-1] == "case_opened", "too few to tell broken input from drift"
    stage.learner.post(60)
    stage.until("retrain_started")
    assert stage.kinds()[-2:] == ["confirmed", "retrain_started"]
    assert all(job.spec.version == 2 for job in stage.jobs.all)


def test_a_fit_waits_for_its_events_when_features_are_not_watched(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(drift={"features": {"enabled": False}}, retrain={"min_events": 400})
    stage.learner.alarm(since=150)
    stage.learner.window(mean=0.9, look=(0, WINDOW // 5))
    for _ in range(5):
        stage.turn()
    assert stage.kinds()[-1] == "confirmed"
    stage.learner.post(250)
    stage.until("retrain_started")


def test_the_level_falls_with_each_case_and_starts_again_after_a_confirmed_change(stage: Any) -> None:
    for expected in (1, 2, 3):
        stage.learner.alarm()
        stage.learner.window(mean=0.1)
        assert stage.until("rejected").numbers["k"] == expected
        stage.settle()
    stage.learner.drift()
    stage.until("recovered")
    confirmed = next(d for d in stage.decisions() if d.kind == "confirmed")
    assert confirmed.numbers["k"] == 4
    stage.learner.alarm()
    stage.learner.window(mean=0.1)
    assert stage.until("rejected").numbers["k"] == 1


def test_cases_long_ago_no_longer_count(stage: Any) -> None:
    for expected in (1, 2):
        stage.learner.alarm()
        stage.learner.window(mean=0.1)
        assert stage.until("rejected").numbers["k"] == expected
        stage.settle()
    stage.learner.n += 200_000
    stage.learner.alarm()
    stage.learner.window(mean=0.1)
    assert stage.until("rejected").numbers["k"] == 1


def test_a_case_whose_window_was_lost_expires(stage: Any) -> None:
    stage.learner.alarm()
    stage.until("case_opened")
    stage.learner.post(401)
    stage.turn()
    assert stage.kinds()[-1] == "case_opened"  # a status may run ahead of its signals
    stage.turn(61.0)
    stage.turn()
    expired = stage.until("expired")
    assert expired.numbers["labelled"] == 401
    stage.settle()
    assert stage.learner.commands[-1].verb == "reset"
    assert not stage.learner.commands[-1].confirmed


def test_a_case_expires_when_the_learner_is_gone_for_long(stage: Any) -> None:
    stage.learner.alarm()
    stage.until("case_opened")
    stage.turn(7 * 86_400.0)
    assert stage.kinds()[-1] == "case_opened"
    stage.turn(2 * 86_400.0 + 1)
    assert stage.kinds()[-1] == "expired"


def test_a_window_that_waits_in_the_log_comes_before_the_deadline(stage: Any) -> None:
    stage.learner.alarm()
    stage.until("case_opened")
    stage.learner.window()
    stage.advance(30 * 86_400.0)  # control was down
    stage.kill()
    stage.turn()
    assert "confirmed" in stage.kinds()
    assert "expired" not in stage.kinds()


def test_the_fit_begins_at_the_change_and_at_the_same_time_in_the_other_shards(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=3)
    first, second, third = stage.learners
    stage.advance(100)
    second.post(7)
    stage.advance(100)
    first.post(20)
    stage.advance(100)
    second.post(5)
    third.post(5)
    first.alarm(change_offset=1005)
    first.window()
    started = stage.until("retrain_started")
    assert started.numbers["starts"] == {"0": 1005, "1": 1007, "2": 1000}
    assert {job.spec.shard: job.spec.start for job in stage.jobs.all} == {0: 1005, 1: 1007, 2: 1000}
    assert started.numbers["fit"]["seed"] == stage.settings.models["m"].seed


def test_all_shards_must_have_promoted(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learners[0].drift()
    stage.learners[1].stop_before = "promote"
    stage.until("trial_won")
    for _ in range(20):
        stage.turn()
    assert stage.kinds()[-1] == "trial_won"
    stage.learners[1].stop_before = ""
    stage.until("recovered")
    assert [learner.version for learner in stage.learners] == [2, 2]


def test_blocks_of_two_shards_are_merged_into_one_trial(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learners[0].drift()
    won = stage.until("trial_won")
    assert won.numbers["events"] == 20 * won.numbers["blocks"]


def test_an_idle_shard_does_not_keep_a_trial_open_for_ever(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learners[0].drift()
    stage.until("trial_started")
    stage.turn()
    stage.learners[1].trial = -1  # it goes on obeying, and closes no block
    lost = stage.until("trial_lost", turns=600)
    assert "no blocks" in lost.why


def test_a_failed_fit_is_repeated_with_backoff_and_the_third_failure_ends_the_case(stage: Any) -> None:
    reasons = ("memory", "timeout", "failed")
    stage.jobs.errors.extend(RetrainError(reason, "as told") for reason in reasons)
    stage.learner.drift()
    stage.until("retrain_failed")
    stage.settle()
    failures = [d for d in stage.decisions() if d.kind == "retrain_failed"]
    assert [d.numbers["reason"] for d in failures] == list(reasons)
    assert [d.numbers["final"] for d in failures] == [False, False, True]
    waits = [d.numbers["retry_at"] - d.at for d in failures[:2]]
    assert waits == [5.0, 10.0]
    started = [d for d in stage.decisions() if d.kind == "retrain_started"]
    assert [d.version for d in started] == [2, 2, 2]
    for failed, again in zip(failures[:2], started[1:], strict=True):
        assert again.at >= failed.numbers["retry_at"]
    assert stage.state().degraded is None
    assert (stage.learner.commands[-1].verb, stage.learner.commands[-1].confirmed) == ("reset", True)
    assert stage.view("case", "m-1")["outcome"] == "retrain_failed"
    assert stage.view("version", "m@2")["fate"] == "failed"


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        ("timeout", "not done after 3600 s"),
        ("timeout", "not done 10 s after its limit of 3600 s: killed"),  # it hung, and heard no signal
        ("memory", "needed more than 2048 MiB"),
        ("failed", "the worker process died (terminated abruptly); out of memory, or killed"),
    ],
)
def test_a_job_that_ends_badly_is_retried_within_its_budget_and_leaves_the_champion_alone(
    stage: Any, reason: str, detail: str
) -> None:
    stage.jobs.errors.extend([RetrainError(reason, detail)] * 3)
    stage.learner.drift()
    stage.until("retrain_failed")
    assert stage.state().case.not_before == stage.decisions()[-1].at + 5.0
    assert (stage.learner.version, stage.learner.shadow, stage.learner.commands) == (1, None, [])
    stage.settle()
    failures = [d for d in stage.decisions() if d.kind == "retrain_failed"]
    assert [(d.numbers["attempt"], d.numbers["final"]) for d in failures] == [(1, False), (2, False), (3, True)]
    assert [d.numbers["reason"] for d in failures] == [reason] * 3
    assert all(d.why.startswith(f"{reason}: {detail}; ") for d in failures)
    assert failures[0].why.endswith("attempt 2 of 3 follows")
    assert failures[-1].why.endswith("the case is closed")
    assert [command.verb for command in stage.learner.commands] == ["reset"]
    assert (stage.learner.version, stage.learner.shadow, stage.state().version) == (1, None, 1)
    assert stage.store.version("m", 2, 0) is None
    stage.jobs.errors.clear()
    stage.learner.drift()
    stage.until("recovered")
    assert stage.learner.version == 3, "a later case begins afresh"


def test_a_fit_that_found_too_few_events_waits_for_more(stage: Any) -> None:
    """An early confirmation may be ahead of late labels: that is no failure, and uses no attempt up."""
    reasons = ["empty"] * 5 + ["failed"] * 2
    stage.jobs.errors.extend(RetrainError(reason, "as told") for reason in reasons)
    stage.learner.drift()
    stage.until("recovered", turns=900)
    failures = [d for d in stage.decisions() if d.kind == "retrain_failed"]
    assert [d.numbers["reason"] for d in failures] == reasons
    assert not any(d.numbers["final"] for d in failures)
    assert "more is to come" in failures[0].why
    assert stage.state().degraded is None


def test_events_that_never_come_are_not_waited_for_for_ever(stage: Any) -> None:
    stage.jobs.errors.extend([RetrainError("empty", "as told")] * 100)
    stage.learner.drift()
    stage.until("retrain_failed")
    stage.turn(86_400.0 + 3600.0)
    stage.until("retrain_failed")
    stage.settle()
    failed = [d for d in stage.decisions() if d.kind == "retrain_failed"]
    assert [d.numbers["final"] for d in failed] == [False, True]
    assert stage.state().case is None


def test_a_quiet_partition_does_not_keep_a_confirmed_drift_waiting_for_ever(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(drift={"features": {"enabled": False}}, retrain={"min_events": 400})
    stage.learner.alarm(since=150)
    stage.learner.window(mean=0.9, look=(0, WINDOW // 5))
    stage.until("confirmed")
    stage.turn(86_400.0 + 3600.0 + 1.0)
    assert stage.kinds()[-1] == "retrain_started"


def test_a_pool_that_cannot_take_the_job_is_a_failed_attempt(stage: Any) -> None:
    stage.jobs.down = RetrainError("failed", "the pool is broken")
    stage.learner.drift()
    assert stage.until("retrain_failed").numbers["reason"] == "failed"
    stage.jobs.down = None
    stage.until("recovered")


def test_a_number_given_to_a_failed_version_is_not_given_again(stage: Any) -> None:
    stage.jobs.errors.extend([RetrainError("failed", "x")] * 3)
    stage.learner.drift()
    stage.until("retrain_failed")
    stage.settle()
    stage.learner.drift()
    stage.until("recovered")
    assert stage.learner.version == 3


def test_a_version_too_far_behind_is_fitted_again_before_it_is_tried(stage: Any) -> None:
    stage.jobs.behind = 2500  # more than max_gap_records
    stage.learner.post(3000)
    stage.learner.drift()
    stage.until("retrained")
    stage.turn()
    assert stage.kinds()[-1] == "retrain_started"
    assert "catch up" in stage.decisions()[-1].why
    stage.jobs.behind = 0
    stage.until("recovered")
    assert [d.numbers["attempt"] for d in stage.decisions() if d.kind == "retrain_started"] == [1, 1]


def test_a_version_that_never_catches_up_ends_the_case(stage: Any) -> None:
    stage.jobs.behind = 2500
    stage.learner.post(3000)
    stage.learner.drift()
    stage.until("retrain_failed")
    stage.settle()
    assert stage.kinds().count("retrain_started") == 4
    assert stage.decisions()[-1].numbers["reason"] == "behind"
    assert stage.state().case is None


def test_a_refused_try_is_fitted_again(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learners[1].refuse["try"] = [("gap", "5000 records lie between")]
    stage.learners[0].drift()
    failed = stage.until("retrain_failed")
    assert failed.numbers["reason"] == "refused"
    assert failed.numbers["command"] == {"verb": "detach", "shards": [0]}
    stage.until("recovered")
    assert [verb for verb, _ in stage.learners[0].answered] == ["try", "detach", "try", "promote"]
    assert [verb for verb, _ in stage.learners[1].answered] == ["try", "try", "promote"]


def test_a_try_that_is_always_refused_ends_the_case(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learners[1].refuse["try"] = [("unknown_version", "lost")] * 3
    stage.learners[0].drift()
    stage.settle()
    assert stage.kinds()[-2:] == ["retrain_failed", "detached"]
    assert stage.state().case is None
    assert stage.state().shadow is None
    assert stage.learners[0].shadow is None
    assert [c.verb for c in stage.learners[0].commands][-2:] == ["detach", "reset"]


def test_a_challenger_that_is_no_better_is_let_go(stage: Any) -> None:
    stage.learner.gain = -0.3
    stage.learner.drift()
    lost = stage.until("trial_lost", turns=600)
    assert lost.numbers["events"] >= 2000
    stage.settle()
    assert stage.kinds()[-2:] == ["trial_lost", "detached"]
    assert [(c.verb, c.confirmed) for c in stage.learner.commands][-2:] == [("detach", False), ("reset", True)]
    assert stage.state().version == 1
    assert stage.state().shadow is None
    assert stage.state().degraded is None
    assert stage.view("case", "m-1")["outcome"] == "trial_lost"
    assert stage.view("version", "m@2")["fate"] == "lost"


def test_the_next_challenger_has_a_stricter_level(stage: Any) -> None:
    stage.learner.gain = -0.3
    stage.learner.drift()
    stage.until("trial_lost", turns=600)
    stage.settle()
    stage.learner.gain = 0.3
    stage.learner.drift()
    assert stage.until("trial_won").numbers["k"] == 2
    stage.until("recovered")
    stage.learner.drift()
    assert stage.until("trial_won").numbers["k"] == 1


def test_trials_of_long_ago_no_longer_count(stage: Any) -> None:
    stage.learner.gain = -0.3
    stage.learner.drift()
    stage.until("trial_lost", turns=600)
    stage.settle()
    stage.advance(91 * 86_400.0)
    stage.learner.drift()
    stage.until("trial_started")
    assert stage.decisions()[-1].numbers["k"] == 1


def test_a_challenger_that_breaks_is_let_go(stage: Any) -> None:
    stage.learner.drift()
    stage.until("trial_started")
    stage.turn()
    stage.learner.shadow, stage.learner.trial = None, -1
    stage.learner.tell("shadow_failed", version=2, reason="predicting raised ValueError()")
    stage.settle()
    assert "predicting raised" in next(d for d in stage.decisions() if d.kind == "trial_lost").why
    assert stage.state().case is None


def test_a_promotion_that_one_shard_refuses_is_taken_back(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learners[1].refuse["promote"] = [("not_in_trial", "")]
    stage.learners[0].drift()
    stage.settle()
    assert stage.kinds()[-3:] == ["trial_lost", "detached", "detached"]
    assert [c.verb for c in stage.learners[0].commands][-4:] == ["promote", "rollback", "detach", "reset"]
    assert stage.learners[0].commands[-3].version == 1
    assert [c.verb for c in stage.learners[1].commands][-3:] == ["promote", "detach", "reset"]
    assert [learner.version for learner in stage.learners] == [1, 1]
    assert stage.state().version == 1


def test_a_shard_that_does_not_go_back_from_half_a_promotion_is_told(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learners[1].refuse["promote"] = [("not_in_trial", "")]
    stage.learners[0].refuse["rollback"] = [("no_previous", "nothing is parked")]
    stage.learners[0].drift()
    stage.settle()
    assert stage.kinds()[-3:] == ["trial_lost", "detached", "detached"]
    assert [learner.version for learner in stage.learners] == [2, 1]
    first, second = stage.decisions()[-2:]
    assert first.numbers["stuck"] == [0]
    assert first.why == (
        "the shards do not agree: some serve version 2 and would not go back from it: shard 0: no_previous: nothing is parked"
    )
    assert (second.why, second.numbers.get("stuck")) == ("the case is closed", None)
    assert stage.view("case", "m-1")["steps"][-2]["why"] == first.why


def test_not_recovered_closes_the_case_and_the_model_stays_degraded_until_a_case_ends_well(stage: Any) -> None:
    stage.learner.recovery_mean = 0.4
    stage.learner.drift()
    ended = stage.until("not_recovered")
    assert ended.numbers["fresh_mean"] == pytest.approx(0.4)
    assert ended.numbers["ref_mean"] == pytest.approx(0.1)
    stage.settle()
    assert stage.state().case is None
    assert "has not recovered" in stage.view("model")["degraded"]
    assert stage.view("case", "m-1")["outcome"] == "not_recovered"
    stage.kill()
    stage.settle()
    assert "has not recovered" in stage.view("model")["degraded"]
    stage.learner.recovery_mean = 0.1
    stage.ask("retrain")
    stage.until("recovered", turns=400)
    assert stage.state().degraded is None


def test_a_recovery_window_that_never_comes_is_not_waited_for(stage: Any) -> None:
    stage.learner.drift()
    stage.until("trial_won")
    window, stage.learner.window = stage.learner.window, lambda *_: None
    stage.until("promoted")
    stage.learner.post(450)
    stage.turn(61.0)
    stage.turn()
    assert "not_recovered" in stage.kinds()
    stage.learner.window = window


def test_the_old_champion_makes_room_for_the_next_challenger(stage: Any) -> None:
    stage.learner.drift()
    stage.until("recovered")
    assert stage.state().shadow == 1
    stage.learner.drift()
    stage.until("recovered")
    assert stage.kinds().count("detached") == 1
    assert stage.kinds().index("detached") < len(stage.kinds()) - 1
    assert stage.learner.version == 3
    verbs = [verb for verb, _ in stage.learner.answered]
    assert verbs == ["try", "promote", "detach", "try", "promote"]


def test_an_old_champion_that_breaks_cannot_be_brought_back(stage: Any) -> None:
    stage.learner.drift()
    stage.until("recovered")
    stage.learner.shadow, stage.learner.was_champion = None, False
    stage.learner.tell("shadow_failed", version=1, reason="learning raised")
    stage.settle()
    assert stage.state().shadow is None
    assert stage.ask("rollback").kind == "request_refused"


def test_an_alarm_of_another_shard_waits_for_the_open_case(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learners[0].alarm()
    stage.learners[1].alarm()
    stage.until("case_opened")
    for _ in range(5):
        stage.turn()
    assert stage.kinds().count("case_opened") == 1
    stage.learners[0].window(mean=0.1)
    stage.until("rejected")
    stage.settle()
    assert stage.kinds().count("case_opened") == 1  # the reset reached both shards: the second alarm is void


def test_an_alarm_raised_before_the_reset_arrived_is_void(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learners[0].alarm()
    stage.until("case_opened")
    stage.learners[0].window(mean=0.1)
    stage.control.tick()
    assert stage.kinds()[-1] == "rejected"
    stage.learners[1].alarm()  # it has not read the reset yet
    stage.settle()
    assert stage.kinds()[-1] == "rejected"
    stage.learners[1].alarm()
    stage.until("case_opened")


def test_an_alarm_after_one_shards_recovery_opens_the_next_case(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learners[1].drift()
    stage.learners[1].stop_before = "promote"
    stage.until("trial_won")
    for _ in range(6):
        stage.turn()
    assert stage.kinds()[-1] == "trial_won"
    stage.learners[0].alarm()  # it was promoted, recovered, and sees another change; the other shard lags behind
    stage.learners[1].stop_before = ""
    stage.settle()
    assert stage.kinds()[-2:] == ["recovered", "case_opened"]
    assert stage.decisions()[-1].numbers["shard"] == 0


def test_repeated_signals_change_nothing(stage: Any) -> None:
    stage.learner.drift()
    seq = stage.learner.seq
    stage.learner.seq = 0
    stage.learner.drift()
    stage.learner.seq = seq
    stage.until("recovered")
    stage.settle()
    assert stage.kinds().count("case_opened") == 1


def test_two_models_on_one_stream_have_two_stories(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(models=("m", "other"))
    stage.learners[0].drift()
    stage.learners[1].alarm()
    stage.learners[1].window(mean=0.1)
    stage.until("recovered")
    assert stage.kinds("other") == ["registered", "case_opened", "rejected"]
    assert stage.decisions("other")[1].case == "other-1"


def test_a_learner_that_held_itself_is_told(stage: Any) -> None:
    stage.settle()
    stage.learner.held = "nan"
    stage.learner.tell("held", reason="the model predicted NaN", offset=5)
    held = stage.until("held")
    assert (held.by, held.why) == ("learner", "shard 0: the model predicted NaN")
    stage.settle()
    assert stage.kinds().count("held") == 1
    assert stage.view("model")["state"] == "held"
    assert not stage.learner.commands
