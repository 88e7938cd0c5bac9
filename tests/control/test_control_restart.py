"""Control dies before and after every one of its writes, and goes on: the same decisions, no command twice, no second fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamlearn.errors import RetrainError
from streamlearn.testing import Abort

from .conftest import survive

TRIAL = {
    "min_events": 100, "horizon_events": 2000, "watch_events": 400, "canary": [0.1, 0.5], "canary_events": 60,
}  # fmt: skip
WRITES = ("append", "put_version", "put_views")


def scene(stage: Any, deaths: Callable[[], None] = lambda: None) -> None:
    """A rejected case, a drift to its recovery after one failed fit, a hold, a rollback, a retrain by hand that loses."""

    def turn(until: Callable[[], bool], turns: int = 400) -> None:
        for _ in range(turns):
            if until():
                return
            survive(stage)
        raise AssertionError(stage.kinds())

    def seen(kind: str, times: int = 1) -> Callable[[], bool]:
        return lambda: stage.kinds().count(kind) >= times

    deaths()
    stage.learner.alarm()
    stage.learner.window(mean=0.1)
    turn(seen("rejected"))
    turn(lambda: [c.verb for c in stage.learner.commands][-1:] == ["reset"])
    stage.jobs.errors.append(RetrainError("memory", "too large"))
    for learner in stage.learners:
        learner.drift()
    turn(seen("recovered"))
    stage.request("hold", id="h")
    turn(lambda: stage.learner.held is not None)
    stage.request("resume", id="u")
    turn(seen("range_skipped", len(stage.learners)))
    stage.request("rollback", id="b")
    turn(seen("rolled_back"))
    stage.request("promote", id="p")
    turn(seen("request_refused"))
    for learner in stage.learners:
        learner.gain = -0.3
    stage.request("retrain", id="r")
    turn(seen("trial_lost"))
    for _ in range(20):
        survive(stage)


def played(make_stage: Callable[..., Any], deaths: Callable[[Any], None] = lambda stage: None, shards: int = 1) -> Any:
    stage = make_stage(shards=shards, trial=TRIAL)
    scene(stage, lambda: deaths(stage))
    return stage


def commands_once(stage: Any) -> None:
    for learner in stage.learners:
        by_seq = {command.seq: command for command in learner.commands}
        for command in learner.commands:
            assert command == by_seq[command.seq], "the same seq with another content"
        assert len(learner.answered) == len(by_seq)


def test_the_scene_uninterrupted(make_stage: Callable[..., Any]) -> None:
    stage = played(make_stage)
    kinds = stage.kinds()
    assert kinds[:6] == ["registered", "case_opened", "rejected", "case_opened", "confirmed", "retrain_started"]
    once = ("retrain_failed", "canary_started", "promoted", "recovered", "held", "resumed", "rolled_back", "trial_lost")
    for kind in (*once, "request_refused"):
        assert kind in kinds
    assert len(stage.learner.commands) == len(stage.learner.answered)


WHOLE: dict[int, tuple[Any, dict[str, int]]] = {}


def whole_of(make_stage: Callable[..., Any], shards: int) -> tuple[Any, dict[str, int]]:
    """The story of the scene with so many shards that nothing interrupts, and how many writes it makes: told once."""
    if shards not in WHOLE:
        stage = played(make_stage, shards=shards)
        WHOLE[shards] = stage.story(), {method: stage.faults.calls[method] for method in WRITES}
    return WHOLE[shards]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["append", "put_version"])
def test_death_at_every_write(make_stage: Callable[..., Any], method: str, when: Any, shards: int) -> None:
    whole, writes = whole_of(make_stage, shards)
    assert writes[method] > 0
    for count in range(writes[method]):
        stage = played(make_stage, lambda s, c=count: s.faults.fail(method, Abort(), after=c, when=when), shards)
        assert stage.story() == whole, f"death {when} {method} {count}"
        commands_once(stage)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", WRITES)
def test_death_at_some_writes(make_stage: Callable[..., Any], method: str, when: Any) -> None:
    whole, writes = whole_of(make_stage, 1)
    for count in range(0, writes[method], 1 + writes[method] // 5):
        stage = played(make_stage, lambda s, c=count: s.faults.fail(method, Abort(), after=c, when=when))
        assert stage.story() == whole
        commands_once(stage)


@pytest.mark.slow
def test_death_at_every_turn(make_stage: Callable[..., Any]) -> None:
    whole = played(make_stage)
    stage = make_stage(trial=TRIAL)
    turn = stage.turn

    def deadly(seconds: float = 1.0) -> None:
        turn(seconds)
        stage.start()

    stage.jobs.polls = 1  # a fit that lives for one turn only is never done otherwise
    stage.turn = deadly
    scene(stage)
    assert stage.story() == whole.story()
    commands_once(stage)


def test_views_after_a_death_are_those_of_a_life_without_one(make_stage: Callable[..., Any]) -> None:
    stage = played(make_stage, lambda s: s.faults.fail("append", Abort(), after=6, when="after"))
    stage.settle()
    before = stage.views()
    stage.store.empty()
    stage.kill()
    stage.control.tick()
    assert stage.views() == before


def test_the_state_after_a_restart_is_the_state_before_it(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2, trial=TRIAL)
    for learner in stage.learners:
        learner.drift()
    previous = ""
    while "recovered" not in stage.kinds():
        stage.turn()
        if stage.kinds()[-1] != previous:
            previous = stage.kinds()[-1]
        stage.control._fold()
        stage.control._observe(None)
        before = shown(stage)
        stage.start()
        stage.jobs.polls = 1
        stage.control._fold()
        stage.control._observe(None)
        assert shown(stage) == before


def shown(stage: Any) -> Any:
    state = stage.state()
    case = state.case
    trial = None if case is None or case.trial is None else case.trial.numbers()
    waiting = {} if case is None else dict(case.blocks.waiting)
    return (
        state.phase, state.version, state.shadow, state.degraded, dict(state.n), dict(state.seen), sorted(state.alarms),
        sorted(state.orders), state.order, list(state.asked), trial, waiting, state.drift_cases, state.trials, state.since,
    )  # fmt: skip


def test_two_controls_at_once_decide_as_one(make_stage: Callable[..., Any]) -> None:
    """A zombie that goes on beside its successor: what it decides too late takes no effect, and nothing is done twice."""
    whole = played(make_stage)
    stage = make_stage(trial=TRIAL)
    first = stage.control
    stage.start()
    second, turn = stage.control, stage.turn

    def both(seconds: float = 1.0) -> None:
        stage.control = first
        turn(seconds)
        stage.control = second
        second.tick()

    stage.turn = both
    scene(stage)
    audit = [doc for (kind, _), doc in sorted(stage.views().items()) if kind == "audit" and doc["type"] == "decision"]
    assert [doc["kind"] for doc in audit if doc["took_effect"]] == whole.kinds()
    commands_once(stage)
