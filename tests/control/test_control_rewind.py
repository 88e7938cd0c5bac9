"""Rewinds, kept versions that serve again, and what no later fit may learn: the stories, and control's death in any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamlearn.errors import RetrainError
from streamlearn.keys import KeyRing
from streamlearn.testing import Abort

from .conftest import checkpoint, survive

KEYS = KeyRing({"test": b"0123456789abcdef"})


def refused(stage: Any, action: str, **fields: Any) -> str:
    decision = stage.ask(action, **fields)
    assert decision.kind == "request_refused"
    return str(decision.why)


def specs(stage: Any) -> list[Any]:
    return [job.spec for job in stage.jobs.all]


def held(stage: Any, mode: str = "skip", posts: int = 50) -> tuple[int, int]:
    """The model is held for some events; the range."""
    stage.ask("hold")
    stage.settle()
    for learner in stage.learners:
        learner.post(posts)
    stage.settle()
    start = stage.learner.held_from
    stage.ask("resume", mode=mode)
    stage.settle()
    return start, stage.learner.position


def test_a_rewind_from_checkpoint_to_promotion(stage: Any) -> None:
    stage.settle()
    checkpoint(stage, 200)
    id = checkpoint(stage, 500)
    checkpoint(stage, 900)
    opened = stage.ask("rewind", to=["600"], skip=["600:700", "650:720"], reason="the sensor was off")
    assert (opened.kind, opened.case, opened.by) == ("case_opened", "m-1", "ann")
    assert "the sensor was off" in opened.why
    assert opened.numbers["to"] == {"0": 600}
    assert opened.numbers["skip"] == {"0": [[600, 720]]}
    started = stage.until("retrain_started")
    assert started.numbers["starts"] == {"0": 500}
    assert "checkpoint of shard 0 at offset 500" in started.why
    stage.until("promoted")
    stage.settle()
    assert stage.kinds() == [
        "registered", "case_opened", "retrain_started", "retrained", "trial_started", "trial_won", "promoted", "recovered",
    ]  # fmt: skip
    [spec] = specs(stage)
    assert ((spec.base.kind, spec.base.id), spec.start, spec.skip, spec.epochs) == (("checkpoint", id), 500, [(600, 720)], 1)
    assert (stage.learner.version, stage.learner.shadow) == (2, 1)
    assert stage.decisions()[5].why.startswith("a person decided in case m-1")
    assert stage.state().skipped == {0: [(600, 720)]}
    assert stage.state().trials == []
    version = stage.view("version", "m@2")
    assert (version["parent"], version["reason"], version["case"], version["fate"]) == (1, "rewind", "m-1", "champion")
    assert version["bases"]["0"]["id"] == id
    assert version["skip"] == {"0": [[600, 720]]}
    assert stage.view("model")["skipped"] == {"0": [[600, 720]]}
    stage.ask("rollback")
    stage.until("rolled_back")
    assert stage.learner.version == 1


def test_the_champion_serves_until_the_rewound_version_does(stage: Any) -> None:
    stage.settle()
    stage.jobs.polls = 20
    stage.ask("rewind", to=["0"], skip=["10:20"])
    for _ in range(10):
        stage.turn()
        assert (stage.learner.version, stage.learner.shadow, stage.state().degraded) == (1, None, None)
    stage.until("promoted")
    assert stage.learner.version == 2


def test_a_rewind_without_a_checkpoint_as_old_begins_with_nothing(stage: Any) -> None:
    stage.settle()
    checkpoint(stage, 500)
    stage.ask("rewind", to=["400"], skip=["400:410"])
    assert stage.until("retrain_started").numbers["starts"] == {"0": 0}
    stage.until("promoted")
    assert specs(stage)[0].base is None


def test_a_rewind_that_cannot_be_is_refused(stage: Any) -> None:
    stage.settle()
    assert "skip: is missing" in refused(stage, "rewind", to=["10"])
    assert "no place in the log" in refused(stage, "rewind", to=["x"], skip=["1:2"])
    assert "ends beyond partition 0" in refused(stage, "rewind", to=["1"], skip=["1:20000"])
    stage.log.trim("clicks", 0, 300)
    assert "no checkpoint is as old as offset 200" in refused(stage, "rewind", to=["200"], skip=["200:210"])
    stage.ask("retrain")
    stage.until("trial_started")
    assert "phase 'trial' in case m-1" in refused(stage, "rewind", to=["400"], skip=["400:410"])


def test_a_retrain_that_bad_data_set_off_gives_way_to_the_rewind(stage: Any) -> None:
    """What was confirmed early may be a fit already when a person sees that the data were bad."""
    stage.settle()
    checkpoint(stage, 500)
    stage.jobs.polls = 100
    stage.learner.drift()
    stage.until("retrain_started")
    fits = list(stage.jobs.all)
    stage.jobs.polls = 2
    opened = stage.ask("rewind", to=["600"], skip=["600:700"])
    assert (opened.case, opened.numbers["instead_of"]) == ("m-2", "m-1")
    stage.until("promoted")
    assert all(fit.cancelled for fit in fits)
    assert stage.learner.version == 3, "a number is not given twice"
    assert (stage.view("case", "m-1")["outcome"], stage.view("version", "m@2")["fate"]) == ("replaced", "failed")


def test_an_alarm_that_bad_data_raised_gives_way_to_the_rewind(stage: Any) -> None:
    stage.learner.alarm(change_offset=600)
    stage.until("case_opened")
    opened = stage.ask("rewind", to=["600"], skip=["600:700"])
    assert (opened.case, opened.numbers["instead_of"]) == ("m-2", "m-1")
    stage.learner.window()
    stage.until("promoted")
    stage.settle()
    assert "confirmed" not in stage.kinds()
    assert (stage.state().case, stage.state().alarms, stage.learner.version) == (None, {}, 2)
    first, second = stage.view("case", "m-1"), stage.view("case", "m-2")
    assert (first["open"], first["outcome"], second["outcome"]) == (False, "replaced", "recovered")


def test_a_retrain_that_learned_the_bad_data_gives_way_to_the_rewind(stage: Any) -> None:
    stage.learner.recovery_mean = 0.9
    stage.learner.drift()
    stage.until("promoted")
    assert stage.state().degraded is not None
    stage.ask("rewind", to=["600"], skip=["600:700"])
    assert stage.state().degraded is None
    stage.until("promoted")
    stage.settle()
    assert (stage.learner.version, stage.state().previous, stage.state().phase.value) == (3, 2, "steady")


def test_a_rewind_chooses_again_when_its_checkpoint_is_gone(stage: Any) -> None:
    stage.settle()
    older, newer = checkpoint(stage, 200), checkpoint(stage, 500)
    stage.jobs.errors.append(RetrainError("failed", "the checkpoint is no longer in the store"))
    stage.ask("rewind", to=["600"], skip=["600:700"])
    stage.store.set_aside(newer, "damaged")
    stage.until("promoted")
    assert [spec.base.id for spec in specs(stage)] == [newer, older]


def test_a_rewind_ends_when_nothing_is_left_to_begin_with(stage: Any) -> None:
    stage.settle()
    only = checkpoint(stage, 200)
    stage.jobs.errors.append(RetrainError("failed", "the disk was full"))
    stage.ask("rewind", to=["600"], skip=["600:700"])
    stage.until("retrain_failed")
    stage.store.set_aside(only, "damaged")
    stage.log.trim("clicks", 0, 800)
    failed = stage.until("retrain_failed")
    assert "no checkpoint of shard 0 is as old as offset 600 any more" in failed.why
    stage.settle()
    assert stage.state().case is None
    assert stage.state().skipped == {}
    assert stage.learner.version == 1


def test_a_rewind_can_be_cancelled_and_leaves_nothing_behind(stage: Any) -> None:
    stage.settle()
    stage.jobs.polls = 100
    stage.ask("rewind", to=["600"], skip=["600:700"])
    stage.until("retrain_started")
    assert stage.ask("cancel").kind == "retrain_failed"
    stage.settle()
    assert (stage.state().case, stage.state().skipped, stage.learner.version) == (None, {}, 1)


def test_a_rewind_of_several_partitions_goes_back_to_the_same_time(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.settle()
    ids = [checkpoint(stage, 500, shard) for shard in (0, 1)]
    for learner in stage.learners:
        learner.post(100)
    stage.settle()
    stage.ask("rewind", to=["1/1040"], skip=["1/1040:1/1060"])
    stage.until("promoted")
    assert [(spec.shard, spec.base.id, spec.skip) for spec in specs(stage)] == [(0, ids[0], []), (1, ids[1], [(1040, 1060)])]
    assert stage.state().skipped == {1: [(1040, 1060)]}
    assert [learner.version for learner in stage.learners] == [2, 2]


def test_a_held_range_is_written_down_and_passed_over_by_every_later_fit(stage: Any) -> None:
    stage.settle()
    start, end = held(stage)
    assert stage.kinds()[-3:] == ["held", "resumed", "range_skipped"]
    assert stage.state().skipped == {0: [(start, end)]}
    stage.learner.drift()
    stage.until("recovered")
    stage.settle()
    second = held(stage)
    stage.ask("retrain")
    stage.until("recovered")
    drift, manual = specs(stage)
    assert drift.skip == [(start, end)]
    assert manual.skip == [(start, end), second]


def test_signals_that_the_log_forgot_are_not_needed_to_know_what_was_skipped(stage: Any) -> None:
    stage.settle()
    found = held(stage)
    stage.log.trim("_signals", 0, stage.log.bounds("_signals", 0)[1])
    stage.kill()
    stage.turn()
    assert stage.state().skipped == {0: [found]}
    assert stage.kinds().count("range_skipped") == 1


def test_what_was_learned_after_all_is_not_passed_over(stage: Any) -> None:
    stage.settle()
    held(stage, "learn")
    assert stage.learner.commands[-1].mode == "learn"
    assert stage.state().skipped == {}
    stage.ask("retrain")
    stage.until("retrain_started")
    stage.until("recovered")
    assert specs(stage)[0].skip == []


def test_what_was_repaired_is_passed_over(stage: Any) -> None:
    stage.settle()
    found = held(stage, "repair")
    assert stage.learner.commands[-1].mode == "repair"
    assert stage.state().skipped == {0: [found]}


def test_a_fit_while_the_model_is_held_passes_over_all_since(stage: Any) -> None:
    stage.settle()
    stage.ask("hold")
    stage.settle()
    start = stage.learner.held_from
    stage.learner.post(20)
    stage.ask("retrain")
    stage.until("promoted")
    stage.settle()
    [(first, last)] = specs(stage)[0].skip
    assert first == start
    assert last > 2**60
    [(first, last)] = stage.state().skipped[0]
    assert first == start
    assert last < stage.learner.position, "the promotion ended the hold, and so the range"
    assert (stage.state().held, stage.state().holding) == (None, {})


def test_a_resume_that_is_refused_beforehand_leaves_the_model_held(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(max_held_records=30)
    stage.settle()
    assert "no mode 'guess'" in refused_resume(stage, "guess")
    stage.learner.post(50)
    for mode in ("learn", "repair"):
        assert "more than max_held_records (30)" in refused(stage, "resume", mode=mode)
    stage.log.trim("clicks", 0, stage.learner.held_from + 1)
    assert "the log begins at" in refused(stage, "resume", mode="learn")
    assert stage.state().held is not None
    assert stage.ask("resume").kind == "resumed"


def refused_resume(stage: Any, mode: str) -> str:
    stage.ask("hold")
    stage.settle()
    return refused(stage, "resume", mode=mode)


def test_a_resume_that_a_shard_refuses_leaves_the_model_held_and_says_why(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.settle()
    stage.ask("hold")
    stage.settle()
    stage.learners[1].refuse["resume"] = [("gap", "it is gone from the log")]
    stage.ask("resume", mode="learn")
    stage.settle()
    assert stage.kinds()[-2:] == ["resumed", "held"]
    assert "shard 1 could not resume, and is still held: it is gone from the log" in stage.state().held
    assert [learner.held is None for learner in stage.learners] == [True, False]
    stage.ask("resume")
    stage.settle()
    assert stage.state().held is None
    assert [learner.held for learner in stage.learners] == [None, None]


def promoted(stage: Any, times: int = 1) -> None:
    for _ in range(times):
        stage.learner.drift()
        stage.until("recovered")
        stage.settle()


def test_a_kept_version_serves_again_brought_up_to_date(stage: Any) -> None:
    promoted(stage, 2)
    start, end = held(stage)
    assert sorted(stage.state().fitted) == [2, 3]
    trained_to = stage.state().fitted[2][0]
    opened = stage.ask("promote", version=2, reason="it knew the summer")
    assert (opened.kind, opened.case, opened.numbers["kind"]) == ("case_opened", "m-3", "restore")
    stage.until("promoted")
    stage.settle()
    spec = specs(stage)[-1]
    assert ((spec.base.kind, spec.base.id), spec.version, spec.start) == (("version", 2), 4, trained_to)
    assert spec.skip == [(start, end)]
    assert (stage.learner.version, stage.state().version) == (4, 4)
    version = stage.view("version", "m@4")
    assert (version["parent"], version["reason"], version["fate"]) == (2, "restore", "champion")
    assert stage.view("model")["fitted"] == [2, 3, 4]


def test_a_version_that_cannot_serve_again_is_refused_with_those_that_can(stage: Any) -> None:
    stage.settle()
    assert "only a fitted version that the store keeps can be, and none is kept" in refused(stage, "promote", version=7)
    promoted(stage, 3)
    stage.store.drop_version("m", 3)
    for version in (1, 3, 9):
        assert f"version {version} cannot be promoted" in refused(stage, "promote", version=version)
    assert "those kept are 2" in refused(stage, "promote", version=9)
    assert "version 4 serves already" in refused(stage, "promote", version=4)
    stage.log.trim("clicks", 0, stage.log.bounds("clicks", 0)[1])
    assert "the log begins at" in refused(stage, "promote", version=2)


WRITES = ("append", "put_version", "put_views")


def scene(stage: Any) -> None:
    """A hold that is skipped, a rewind that fails once, a version that serves again, a hold that is learned, a retrain."""

    def turn(until: Callable[[], bool]) -> None:
        for _ in range(400):
            if until():
                return
            survive(stage)
        raise AssertionError(stage.kinds())

    def seen(kind: str, times: int = 1) -> Callable[[], bool]:
        return lambda: stage.kinds().count(kind) >= times

    def asked(id: str, action: str, **fields: Any) -> None:
        stage.request(action, id=id, **fields)

    turn(seen("registered"))
    asked("h", "hold")
    turn(lambda: stage.learner.held is not None)
    asked("s", "resume")
    turn(seen("range_skipped", len(stage.learners)))
    for learner in stage.learners:
        learner.post(30)
    stage.jobs.errors.append(RetrainError("failed", "once"))
    asked("w", "rewind", to=["0/600"], skip=["0/600:0/700"])
    turn(seen("recovered"))
    asked("v", "rollback")
    turn(seen("rolled_back"))
    asked("p", "promote", version=2)
    turn(seen("recovered", 2))
    asked("i", "hold")
    turn(lambda: stage.learner.held is not None)
    asked("l", "resume", mode="learn")
    turn(lambda: stage.learner.held is None)
    asked("r", "retrain")
    turn(seen("recovered", 3))
    for _ in range(20):
        survive(stage)


def played(make_stage: Callable[..., Any], deaths: Callable[[Any], None] = lambda stage: None, shards: int = 1) -> Any:
    stage = make_stage(shards=shards)
    for shard in range(shards):
        checkpoint(stage, 500, shard)
    deaths(stage)
    scene(stage)
    return stage


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["append", "put_version"])
def test_death_at_every_write(make_stage: Callable[..., Any], method: str, when: Any, shards: int) -> None:
    whole = played(make_stage, shards=shards)
    for count in range(whole.faults.calls[method]):
        stage = played(make_stage, lambda s, c=count: s.faults.fail(method, Abort(), after=c, when=when), shards)
        assert stage.story() == whole.story(), f"death {when} {method} {count}"


@pytest.mark.parametrize("when", ["before", "after"])
def test_death_at_some_writes(make_stage: Callable[..., Any], when: Any) -> None:
    whole = played(make_stage)
    for count in range(1, whole.faults.calls["append"], 9):
        stage = played(make_stage, lambda s, c=count: s.faults.fail("append", Abort(), after=c, when=when))
        assert stage.story() == whole.story(), count


@pytest.mark.parametrize("shards", [1, 2])
def test_the_state_after_a_restart_is_the_state_before_it(make_stage: Callable[..., Any], shards: int) -> None:
    """In every phase: what is folded from the log alone is what was known."""
    stage = make_stage(shards=shards)
    checkpoint(stage, 500)
    stage.jobs.polls = 1
    turn, last = stage.turn, [""]

    def checked(seconds: float = 1.0) -> None:
        turn(seconds)
        if stage.kinds()[-1:] == last:
            return
        last[:] = stage.kinds()[-1:]
        stage.control._fold()
        stage.control._observe(None)
        before = known(stage)
        stage.start()
        stage.jobs.polls = 1
        stage.control._fold()
        stage.control._observe(None)
        assert known(stage) == before

    stage.turn = checked
    scene(stage)


def known(stage: Any) -> Any:
    state = stage.state()
    case = state.case
    fit = None if case is None else (case.to, case.skip, case.base, case.bases, case.skips, case.starts, case.trained_to)
    return state.phase, state.version, state.skipped, state.to_skip, state.holding, state.fitted, state.held, fit
