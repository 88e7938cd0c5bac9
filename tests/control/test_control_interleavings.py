"""Signals, repeats, requests, failures and deaths in any order: the log alone tells the state, and all comes to rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from streamlearn.control.loop import Control
from streamlearn.control.state import Phase
from streamlearn.errors import LogUnavailable, RetrainError
from streamlearn.log import SIGNALS, Entry
from streamlearn.testing import Abort

from .conftest import checkpoint

TRIAL = {
    "min_events": 100, "horizon_events": 2000, "watch_events": 400, "canary": [0.1, 0.5], "canary_events": 60,
}  # fmt: skip
RETRAIN = {"attempts": 3, "backoff_s": 5.0, "max_gap_records": 2000, "keep_versions": 1}
ACTIONS = ("retrain", "cancel", "promote", "rollback", "hold", "resume")


class Interleavings(RuleBasedStateMachine):
    """Two shards, one model. `make_stage` is set by the test."""

    make_stage: Callable[..., Any]

    def __init__(self) -> None:
        super().__init__()
        drift = {"window": 100, "features": {"window": 50, "reference": 100, "every_s": 1.0}}
        self.stage = type(self).make_stage(shards=2, trial=TRIAL, drift=drift, retrain=RETRAIN)
        self.asked = 0

    @rule(turns=st.integers(1, 20))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            try:
                self.stage.turn()
            except Abort:
                self.stage.kill()
            except LogUnavailable:
                pass

    @rule()
    def kill(self) -> None:
        self.stage.kill()

    @rule(shards=st.sets(st.integers(0, 1)))
    def look_at_versions(self, shards: set[int]) -> None:
        """Some shards leave a checkpoint; then it is time to look which versions go."""
        for shard in sorted(shards):
            checkpoint(self.stage, self.stage.learners[shard].position, shard)
        self.stage.advance(61.0)
        self.turn(1)

    @rule(when=st.sampled_from(("before", "after")), after=st.integers(0, 3), deadly=st.booleans())
    def fault(self, when: Any, after: int, deadly: bool) -> None:
        self.stage.faults.fail("append", Abort() if deadly else LogUnavailable("down"), after=after, when=when)

    @rule(shard=st.integers(0, 1), offset=st.integers(0, 1200))
    def alarm(self, shard: int, offset: int) -> None:
        self.stage.learners[shard].alarm(change_offset=offset)

    @rule(shard=st.integers(0, 1), mean=st.sampled_from((0.1, 0.5)))
    def window(self, shard: int, mean: float) -> None:
        self.stage.learners[shard].window(mean)

    @rule(shard=st.integers(0, 1), turns=st.integers(0, 30))
    def drift(self, shard: int, turns: int) -> None:
        """An alarm with the window that confirms it, and time for the story to go some way."""
        self.stage.learners[shard].drift()
        self.turn(turns)

    @precondition(lambda self: self.stage.state().previous is not None)
    @rule(turns=st.integers(0, 5))
    def roll_back(self, turns: int) -> None:
        self.request("rollback", again=False)
        self.turn(turns)

    @rule(shard=st.integers(0, 1), count=st.integers(1, 300))
    def post(self, shard: int, count: int) -> None:
        self.stage.learners[shard].post(count)

    @rule(count=st.integers(20, 200), sound=st.booleans(), turns=st.integers(0, 5))
    def feed(self, count: int, sound: bool, turns: int) -> None:
        """Features, which a broken upstream leaves out."""
        value = b'{"stream": "clicks", "x": {"a": %s, "b": 1.0}}' % (b"0.5" if sound else b"null")
        for _ in range(turns + 1):
            self.stage.log.append("clicks", [Entry(b"k", value, partition=0)] * count).result()
            self.turn(1)

    @rule(data=st.data())
    def repeat_signals(self, data: st.DataObject) -> None:
        """A learner came back from a checkpoint and says again what it had said since."""
        records = self.stage.log.read(SIGNALS, 0, 0, 100_000)
        if records:
            start = data.draw(st.integers(max(0, len(records) - 20), len(records) - 1))
            again = [Entry(record.key, record.value, partition=0) for record in records[start:]]
            self.stage.log.append(SIGNALS, again).result()

    @rule(action=st.sampled_from(ACTIONS), again=st.booleans())
    def request(self, action: str, again: bool) -> None:
        self.asked += not again
        self.stage.request(action, id=f"request-{self.asked}")

    @rule(shard=st.integers(0, 1), verb=st.sampled_from(("try", "canary", "promote", "rollback")))
    def refuse(self, shard: int, verb: str) -> None:
        self.stage.learners[shard].refuse.setdefault(verb, []).append(("refused", "by chance"))

    @rule(reason=st.sampled_from(("memory", "timeout")))
    def break_fit(self, reason: str) -> None:
        failures = self.stage.kinds().count("retrain_failed")
        self.stage.jobs.errors = [RetrainError(reason, "by chance")] * (failures + 1)

    @precondition(lambda self: self.stage.learner.shadow is not None)
    @rule()
    def break_shadow(self) -> None:
        learner = self.stage.learner
        version, learner.shadow, learner.trial, learner.was_champion = learner.shadow, None, -1, False
        learner.step = -1
        learner.tell("shadow_failed", version=version, reason="by chance")

    @rule(shard=st.integers(0, 1), loss=st.sampled_from((0.1, 0.6)))
    def tell_a_batch(self, shard: int, loss: float) -> None:
        self.stage.learners[shard].batch(loss)

    @rule(shard=st.integers(0, 1))
    def hold_itself(self, shard: int) -> None:
        learner = self.stage.learners[shard]
        if learner.held is None:
            learner.held = "not finite"
            learner.tell("held", reason="not finite", offset=learner.position)

    @rule(
        gain=st.sampled_from((0.3, -0.3)), recovery=st.sampled_from((0.1, 0.6)), regret=st.sampled_from((None, 0.0, 0.3)),
        worse=st.sampled_from((0.0, 0.5)),
    )  # fmt: skip
    def fate(self, gain: float, recovery: float, regret: float | None, worse: float) -> None:
        for learner in self.stage.learners:
            learner.gain, learner.recovery_mean = gain, recovery
            learner.regret, learner.outcomes = regret, (5, 5, worse)

    @invariant()
    def the_log_alone_tells_the_state(self) -> None:
        stage = self.stage
        live = stage.control
        again = Control(stage.settings, stage.log, stage.store, None, stage.jobs, stage.clock, timer=stage.timer)
        end = stage.log.bounds(SIGNALS, 0)[1] - 1
        for control in (live, again):
            control._fold()
            control._observe(end)
        assert shown(again) == shown(live)

    @invariant()
    def what_a_shard_needs_is_kept(self) -> None:
        """Of the versions that were fitted, or are still to be tried by a shard that lags."""
        stage = self.stage
        state, kept = stage.state(), {version for _, version, _ in stage.store.versions()}
        awaited = {order.arguments["version"] for order in state.orders.values() if order.verb == "try" and order.waiting}
        assert awaited <= kept
        assert not {state.version, state.previous, state.shadow} & state.dropped.keys()
        assert not state.fitted.keys() & state.dropped.keys()

    @invariant()
    def decisions_are_made_once(self) -> None:
        stage = self.stage
        settled = [d.numbers["request"] for d in stage.decisions() if "request" in d.numbers and d.kind != "request_refused"]
        assert len(settled) == len(set(settled))
        opened = [decision.case for decision in stage.decisions() if decision.kind == "case_opened"]
        assert opened == [f"m-{number + 1}" for number in range(len(opened))]

    @invariant()
    def commands_are_obeyed_once(self) -> None:
        for learner in self.stage.learners:
            by_seq = {command.seq: command for command in learner.commands}
            assert all(command == by_seq[command.seq] for command in learner.commands)
            assert len(learner.answered) == len(by_seq)

    def teardown(self) -> None:
        """Whatever happened, with the faults gone it comes to rest, and learners and control agree."""
        stage = self.stage
        stage.faults.heal()
        stage.jobs.errors.clear()
        for learner in stage.learners:
            learner.refuse.clear()
            learner.gain, learner.regret, learner.outcomes = 0.3, None, (0, 0, 0.0)
        stage.settle(2000)
        if stage.state().phase == Phase.CONFIRMED:  # features have changed, and the fit waits for labelled events
            assert (stage.state().case.kind, stage.state().case.run) == ("contract", 0)
            for learner in stage.learners:
                learner.post(300)
            stage.settle(2000)
        state = stage.state()
        assert not state.asked
        assert state.phase in (Phase.STEADY, Phase.CONFIRM)
        assert all(not order.waiting for order in state.orders.values())
        if state.held is None:
            assert [learner.held for learner in stage.learners] == [None, None]
        assert {learner.version for learner in stage.learners} == {state.version} or refused_by_half(stage)
        audit = [doc for (kind, _), doc in stage.views().items() if kind == "audit" and doc["type"] == "decision"]
        assert all(doc["took_effect"] for doc in audit)
        assert stage.view("model")["version"] == state.version


def refused_by_half(stage: Any) -> bool:
    """One shard rolled back, or could not be promoted, and the other would not go back: that is told, and left to people."""
    return any(
        (d.kind in ("request_refused", "rollback_failed") and d.numbers.get("applied"))
        or (d.kind == "detached" and d.numbers.get("stuck"))
        for d in stage.decisions()
    )


def shown(control: Control) -> Any:
    state = control.states()["m"]
    case, guard = state.case, state.guard
    kept = None if case is None else (case.kept, case.confirmed, case.batches, case.changes, case.starts)
    trial = None if case is None else (case.run, case.attempt, case.catch_ups, case.trained_to, case.then, case.shadow_failed)
    blocks = None if case is None else (case.blocks.next, case.blocks.events, case.blocks.waiting)
    orders = {seq: (order.verb, order.answers) for seq, order in state.orders.items()}
    return (
        state.phase, state.since, state.version, state.previous, state.shadow, state.watch_from, state.last_version,
        state.cases, state.degraded, state.held, state.held_by_learner, state.held_doubts, state.reference, state.n,
        state.seen, state.drift_cases, state.trials, state.alarms, state.recoveries, state.shadow_lost, orders, state.order,
        state.asked, trial, blocks, state.trial_numbers, state.broken, state.drifted, state.input_since, state.unsettled,
        None if guard is None else (guard.seq, guard.blocks, guard.test.numbers()), kept, state.course, state.contract,
        state.fitted, state.untried, state.tried, state.dropped,
    )  # fmt: skip


def check(make_stage: Callable[..., Any], examples: int, steps: int) -> None:
    machine = type("Machine", (Interleavings,), {"make_stage": staticmethod(make_stage)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def test_any_interleaving(make_stage: Callable[..., Any]) -> None:
    check(make_stage, examples=12, steps=25)


@pytest.mark.slow
def test_many_interleavings(make_stage: Callable[..., Any]) -> None:
    check(make_stage, examples=40, steps=40)
