"""The loop: what cannot be read is passed over, what cannot be had is waited for, and nothing is lost by either."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamlearn.control.loop import Control
from streamlearn.errors import LogFull, LogUnavailable, Overloaded, StoreFull, StoreUnavailable
from streamlearn.events import Kind
from streamlearn.log import CONTROL, SIGNALS, Entry
from streamlearn.records import Command, Decision, open_command


def test_control_makes_the_streams_that_it_reads(stage: Any) -> None:
    assert {CONTROL, SIGNALS, "clicks"} <= set(stage.log.streams())


def test_damaged_records_are_passed_over_and_told(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    for stream in (CONTROL, SIGNALS):
        stage.log.append(stream, [Entry(b"", b"{not json", partition=0)]).result()
    stage.log.append(SIGNALS, [Entry(b"", b'{"model":"nobody"}', partition=0)]).result()
    stage.learner.tell("window", nothing="that belongs there")
    stage.learner.tell("a kind that is not known yet")
    stage.learner.drift()
    with caplog.at_level(logging.ERROR):
        stage.until("recovered")
    assert "a control record cannot be read" in caplog.text
    assert "a signal cannot be read" in caplog.text


def test_signals_of_shards_or_models_that_are_not_there_are_passed_over(stage: Any) -> None:
    stage.learner.shard = 7
    stage.learner.drift()
    stage.learner.shard, stage.learner.model = 0, "nobody"
    stage.learner.drift()
    stage.learner.model = "m"
    stage.settle()
    assert stage.kinds() == ["registered"]


def test_a_model_that_left_the_configuration_keeps_its_records_and_does_nothing(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(models=("m", "other"))
    stage.learners[1].alarm()
    stage.until("case_opened", model="other")
    kept = stage.settings.model_copy(update={"models": {"m": stage.settings.models["m"]}})
    stage.settings = kept
    stage.kill()
    stage.learners[1].window()
    stage.settle()
    assert stage.kinds("other") == ["registered", "case_opened"]
    stage.request("retrain", model="other")
    stage.settle()
    assert stage.kinds("other")[-1] == "request_refused"


@pytest.mark.parametrize("error", [LogUnavailable("down"), LogFull("full"), Overloaded("busy", 1.0)])
def test_nothing_is_lost_when_the_log_cannot_be_written(stage: Any, error: Exception) -> None:
    stage.settle()
    stage.learner.drift()
    stage.faults.fail("append", error, times=4)
    failures = 0
    for _ in range(60):
        try:
            stage.turn()
        except type(error):
            failures += 1
    assert failures == 4
    assert stage.kinds().count("recovered") == 1
    assert stage.kinds().count("case_opened") == 1
    assert len(stage.learner.commands) == len(stage.learner.answered)


@pytest.mark.parametrize("method", ["statuses", "put_version", "put_views", "view_offset"])
@pytest.mark.parametrize("error", [StoreUnavailable("down"), StoreFull("full")])
def test_nothing_is_lost_when_the_store_is_away(stage: Any, method: str, error: Exception) -> None:
    stage.learner.drift()
    stage.faults.fail(method, error, times=3)
    failures = 0
    for _ in range(60):
        try:
            stage.turn()
        except type(error):
            failures += 1
    assert failures == 3
    assert stage.kinds().count("recovered") == 1
    assert len(stage.jobs.all) == 1
    assert stage.view("model")["version"] == 2


def test_an_append_that_came_through_although_it_failed_is_not_made_again(stage: Any) -> None:
    stage.settle()
    stage.faults.fail("append", LogUnavailable("the answer was lost"), when="after")
    stage.learner.drift()
    with pytest.raises(LogUnavailable):
        stage.turn()
    stage.until("recovered")
    assert stage.kinds().count("case_opened") == 1


def test_a_decision_that_fits_nothing_stops_control_instead_of_filling_the_log(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.settle()
    wrong = Decision("m", "promoted", 0.0, case="m-9")
    monkeypatch.setattr("streamlearn.control.loop.decide", lambda state, world: wrong)
    with pytest.raises(RuntimeError, match="does not fit"):
        stage.turn()
    assert stage.kinds().count("promoted") == 1


def test_a_command_is_sent_once_by_one_process_and_again_by_the_next(stage: Any, keys: Any) -> None:
    stage.learner.stop_before = "try"
    stage.learner.drift()
    stage.until("trial_started")
    for _ in range(5):
        stage.turn()

    def tries() -> list[Command]:
        records = stage.log.read("clicks", 0, 0, 100_000)
        return [open_command(record.value, keys) for record in records if record.kind == Kind.COMMAND]

    assert len(tries()) == 1
    stage.kill()
    for _ in range(5):
        stage.turn()
    first, second = tries()
    assert first == second
    stage.learner.stop_before = ""
    stage.until("recovered")
    assert [verb for verb, _ in stage.learner.answered] == ["try", "promote"]


def test_a_command_that_the_log_lost_is_not_waited_for_once_a_later_one_was_answered(stage: Any) -> None:
    stage.learner.stop_before = "hold"
    stage.ask("hold")
    stage.ask("resume")
    hold, resume = (order for order in stage.state().orders.values())
    stage.learner.tell("applied", verb="resume", seq_of=resume.seq, version=1, shadow=None, offset=0)
    stage.turn()
    assert stage.state().orders == {}
    assert hold.answers[0].startswith("skipped")


def test_run_goes_on_after_trouble_and_stops_when_told(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    stage.faults.fail("append", LogUnavailable("down for a moment"), times=2)
    stop = threading.Event()
    with caplog.at_level(logging.WARNING):
        thread = threading.Thread(target=stage.control.run, args=(stop,))
        thread.start()
        deadline = time.monotonic() + 20
        while "registered" not in stage.kinds() and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    assert stage.kinds() == ["registered"]
    assert "control has to wait" in caplog.text


def test_control_says_every_two_seconds_that_it_is_there_also_when_nothing_happens(stage: Any) -> None:
    stage.settle()
    told = []
    for _ in range(40):
        stage.advance(0.25)
        stage.control.tick()
        told.append(msgspec.json.decode(stage.store.views("role")["control"])["at"])
    assert told[-1] <= stage.clock()
    assert stage.clock() - told[-1] < 2
    assert len(set(told)) in (5, 6)  # in 10 s


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_clock_that_is_set_anew_changes_nothing_of_what_control_does_every_so_often(stage: Any, step: float) -> None:
    stage.settle()
    for _ in range(2):
        stage.clock.advance(step)
        calls = dict(stage.faults.calls)
        told = set()
        for _ in range(40):
            stage.advance(0.25)
            stage.control.tick()
            told.add(stage.store.views("role")["control"])
        assert len(told) in (5, 6)  # in 10 s
        assert 15 <= stage.faults.calls["statuses"] - calls["statuses"] <= 25
        assert 15 <= stage.faults.calls["view_offset"] - calls["view_offset"] <= 25
        step = -step
    stage.store.clear_views()
    stage.learner.drift()
    stage.clock.advance(step)
    stage.until("recovered")
    assert stage.kinds().count("case_opened") == 1
    assert len(stage.store.views("audit")) == stage.log.bounds(CONTROL, 0)[1]


def test_one_that_stood_still_while_another_led_takes_no_view_away(stage: Any) -> None:
    """It wakes within its turn, having read less than the views tell of, and before it can see that it leads no longer."""
    stage.settle()
    stale = Control(stage.settings, stage.log, stage.store, stage.control._keys, stage.jobs, stage.clock, timer=stage.timer)
    stale.tick()
    stage.learner.drift()
    stage.until("promoted")
    stage.advance(1.0)
    stale._show()
    told = stage.store.views("audit")
    assert len(told) == stage.store.view_offset() == stage.log.bounds(CONTROL, 0)[1]


def test_run_cancels_its_fits_when_it_stops(stage: Any) -> None:
    stage.jobs.polls = 1_000_000
    stage.learner.drift()
    stage.until("retrain_started")
    stage.turn()
    stop = threading.Event()
    stop.set()
    stage.control.run(stop)
    assert [job.cancelled for job in stage.jobs.all] == [True]


def leading(stage: Any) -> Control:
    """A process of its own, with fits of its own, that may lead."""
    jobs = type(stage.jobs)(stage.log, polls=1_000_000)
    leadership = stage.log.join("control", [CONTROL])
    return Control(stage.settings, stage.log, stage.store, stage.control._keys, jobs, stage.clock, leadership, stage.timer)


def turn(*controls: Control) -> None:
    for control in controls:
        if control._lead():
            control.tick()


def test_of_two_one_leads_and_the_other_takes_over_where_it_was(stage: Any) -> None:
    one, other = leading(stage), leading(stage)
    turn(one, other)
    assert (one.leads, other.leads) == (True, False)
    stage.learner.alarm()
    turn(one, other)
    assert "case_opened" in stage.kinds()
    before = stage.kinds()
    one.close()
    turn(other)
    assert other.leads
    assert stage.kinds() == before
    assert other.states()["m"].case is not None


def test_a_leader_that_was_thought_dead_cancels_its_fits_and_waits(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    one, other = leading(stage), leading(stage)
    stage.learner.drift()
    for _ in range(10):
        turn(one)
    assert stage.kinds()[-1] == "retrain_started"
    assert [job.cancelled for job in one._fits._jobs.all] == [False]  # type: ignore[attr-defined]  # a fake
    one._membership.lose()  # type: ignore[union-attr]  # a fake
    turn(other, one)
    assert (one.leads, other.leads) == (False, True)
    assert "another control process leads now" in caplog.text
    for _ in range(3):
        turn(other, one)
    assert [job.cancelled for job in one._fits._jobs.all] == [True]  # type: ignore[attr-defined]  # a fake
    assert [job.cancelled for job in other._fits._jobs.all] == [False]  # type: ignore[attr-defined]  # a fake
    one.close()
    other.close()


def test_tick_says_whether_there_was_anything_to_do(stage: Any) -> None:
    assert stage.control.tick()
    assert not stage.control.tick()
    stage.learner.alarm()
    assert stage.control.tick()


def test_heartbeats_go_out_with_the_turns(make_stage: Callable[..., Any]) -> None:
    stage = make_stage()
    settings = stage.settings.model_copy(update={"control": stage.settings.control.model_copy(update={"heartbeat_s": 4.0})})
    stage.control = Control(settings, stage.log, stage.store, None, stage.jobs, stage.clock, timer=stage.timer)  # type: ignore[arg-type]  # unused here
    for _ in range(21):
        stage.advance(1.0)
        stage.control.tick()
    kinds = [record.kind for record in stage.log.read("clicks", 0, 1000, 100)]
    assert kinds == [Kind.HEARTBEAT] * 5


def test_a_version_from_another_log_or_model_is_not_taken(stage: Any, keys: Any) -> None:
    stage.jobs.polls = 5
    stage.learner.drift()
    stage.until("retrain_started")
    stage.turn()
    [job] = stage.jobs.all
    job.result = lambda: b"garbage"
    failed = stage.until("retrain_failed")
    assert "cannot be used" in failed.why
    stage.until("recovered")


def test_the_audit_numbers_are_json(stage: Any) -> None:
    stage.learner.drift()
    stage.until("recovered")
    for decision in stage.decisions():
        assert msgspec.json.decode(msgspec.json.encode(decision.numbers)) == decision.numbers


def test_a_decision_is_one_line_that_names_model_version_case_and_places(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streamlearn.control")
    stage.settle()
    stage.learner.drift()
    started = stage.until("retrain_started")
    stage.settle()
    lines = {record.message: record.__dict__ for record in caplog.records if "control_offset" in record.__dict__}
    assert set(stage.kinds()) == set(lines)
    line = lines["retrain_started"]
    assert (line["model"], line["version"], line["case"], line["stream"]) == ("m", 2, "m-1", "clicks")
    assert (line["offset"], line["n"], line["by"], line["why"]) == (started.offset, started.n, "control", started.why)
    assert (lines["case_opened"]["shard"], lines["case_opened"]["partition"]) == (0, 0)
    assert len([one for one in caplog.records if one.message == "promoted"]) == 1
