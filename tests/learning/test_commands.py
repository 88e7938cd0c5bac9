"""What each command does to a learner, at its own position, and what it answers."""

from __future__ import annotations

import ast
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_bench import Stage

from streamlearn.keys import KeyRing
from streamlearn.learning import checkpoint, commands
from streamlearn.learning.commands import Refusal, block_size
from streamlearn.learning.learner import Learner
from streamlearn.records import Command
from streamlearn.store.links import Kept


def taught(stage: Stage, learner: Learner, who: str = "champion") -> list[str]:
    """The names of the events that a side's spy was taught, in order."""
    model = getattr(learner, who)
    return [id for what, id in model.estimator.calls if what == "learn"]


def on_trial(**model: Any) -> tuple[Stage, Learner]:
    """Version 2, fitted from offset 1 of three events, is the shadow of version 1."""
    stage = Stage(**model)
    for id in ("a", "b", "c"):
        stage.xy(id)
    stage.command("try", version=2, trained_to={"0": stage.fit(2, start=1)})
    return stage, stage.learn()


def last(stage: Stage) -> dict[str, Any]:
    return {"kind": stage.signals[-1].kind, **stage.signals[-1].data}


def refused(stage: Stage) -> str:
    assert stage.signals[-1].kind == "refused"
    assert stage.signals[-1].data["detail"]
    assert stage.signals[-1].data["seq_of"] == stage.seq
    return str(stage.signals[-1].data["reason"])


def test_try_begins_a_trial_with_a_version_that_has_read_all_before_the_command() -> None:
    stage = Stage()
    for id in ("a", "b", "c"):
        stage.xy(id)
    trained = stage.fit(2, start=1)
    stage.xy("in the gap")
    stage.x("waits")
    stage.command("hold", model="another")
    offset = stage.command("try", version=2, trained_to={"0": trained})
    learner = stage.learn()
    assert learner.shadow_version == 2
    assert learner.version == 1
    assert taught(stage, learner, "shadow") == ["b", "c", "in the gap"]
    assert last(stage) == {
        "kind": "applied", "verb": "try", "seq_of": stage.seq, "version": 1, "shadow": 2, "offset": offset + 1
    }  # fmt: skip
    stage.y("waits")
    stage.learn(learner)
    assert taught(stage, learner, "shadow")[-1] == "waits"
    assert learner.blocks is not None
    assert learner.blocks.asked == 0  # it was asked before the trial began


def test_a_shadow_is_taught_in_step_with_the_champion() -> None:
    stage, learner = on_trial()
    for id in ("d", "e"):
        stage.xy(id)
    stage.learn(learner)
    assert taught(stage, learner) == ["a", "b", "c", "d", "e"]
    assert taught(stage, learner, "shadow") == ["b", "c", "d", "e"]


def test_promote_swaps_the_roles_and_both_go_on_learning() -> None:
    stage, learner = on_trial()
    stage.command("promote", version=2)
    stage.xy("d")
    stage.learn(learner)
    assert (learner.version, learner.shadow_version) == (2, 1)
    assert taught(stage, learner) == ["b", "c", "d"]
    assert taught(stage, learner, "shadow") == ["a", "b", "c", "d"]
    assert learner.blocks is not None
    assert learner.blocks.trial == stage.seq
    assert learner.shadow_was_champion
    assert stage.signals[-1].version == 2


def test_rollback_from_the_shadow_brings_the_champion_of_before_back_and_parks_the_other() -> None:
    stage, learner = on_trial()
    stage.command("promote", version=2)
    stage.command("rollback")
    stage.xy("d")
    stage.learn(learner)
    assert (learner.version, learner.shadow_version, learner.parked_version) == (1, None, 2)
    assert taught(stage, learner) == ["a", "b", "c", "d"]
    assert learner.parked is not None
    assert taught(stage, learner, "parked") == ["b", "c"]
    assert learner.shadow is None
    assert learner.blocks is None


@pytest.mark.parametrize("detached", [False, True])
def test_a_rollback_that_names_another_version_than_the_one_kept_is_refused(detached: bool) -> None:
    stage, learner = on_trial()
    stage.command("promote", version=2)
    if detached:
        stage.command("detach")
    stage.command("rollback", version=7)
    stage.learn(learner)
    assert (learner.version, stage.signals[-1].kind) == (2, "refused")
    assert stage.signals[-1].data["reason"] == "no_previous"
    assert "version 7 is no longer kept" in stage.signals[-1].data["detail"]
    stage.command("rollback", version=1)
    stage.learn(learner)
    assert learner.version == 1


def test_detach_parks_a_former_champion_and_rollback_brings_it_back_from_there() -> None:
    stage, learner = on_trial()
    stage.command("promote", version=2)
    stage.command("detach")
    stage.learn(learner)
    assert (learner.version, learner.shadow_version, learner.parked_version) == (2, None, 1)
    stage.command("rollback")
    stage.learn(learner)
    assert (learner.version, learner.parked_version) == (1, 2)
    stage.command("rollback")
    stage.learn(learner)
    assert (learner.version, learner.parked_version) == (2, 1)


def test_detach_forgets_a_challenger_that_never_served() -> None:
    stage, learner = on_trial()
    stage.command("detach")
    stage.xy("d")
    stage.learn(learner)
    assert (learner.shadow, learner.shadow_version, learner.parked, learner.blocks) == (None, None, None, None)
    assert learner.n == 4


def test_a_new_trial_parks_the_former_champion_that_was_still_in_the_shadow() -> None:
    stage, learner = on_trial()
    stage.command("promote", version=2)
    stage.xy("d")
    stage.command("try", version=3, trained_to={"0": stage.fit(3)})
    stage.learn(learner)
    assert (learner.version, learner.shadow_version, learner.parked_version) == (2, 3, 1)
    assert not learner.shadow_was_champion
    stage.command("rollback")
    stage.learn(learner)
    assert (learner.version, learner.shadow_version, learner.parked_version) == (1, None, 2)


def test_hold_and_resume_keep_reading_predicting_and_scoring_but_learn_nothing_between() -> None:
    stage, learner = on_trial()
    stage.command("hold", reason="a broken sensor")
    begin = stage.end
    stage.xy("d")
    stage.learn(learner)
    assert learner.held == "a broken sensor"
    assert learner.n == 4
    assert learner.scores.view()["n"] == 4
    assert taught(stage, learner) == ["a", "b", "c"]
    assert taught(stage, learner, "shadow") == ["b", "c"]
    assert ("predict", "d") in learner.champion.estimator.calls
    assert stage.kinds()[-2:] == ["held", "applied"]
    end = stage.command("resume") + 1
    stage.xy("e")
    stage.learn(learner)
    assert learner.held is None
    assert learner.held_ranges == [(begin, end)]
    assert taught(stage, learner) == ["a", "b", "c", "e"]


def test_a_new_champion_ends_the_hold_of_the_former_one() -> None:
    stage, learner = on_trial()
    stage.command("hold")
    stage.command("promote", version=2)
    stage.learn(learner)
    assert learner.held is None
    assert len(learner.held_ranges) == 1


@pytest.mark.parametrize("confirmed", [False, True])
def test_reset_is_for_the_watch(confirmed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, learner = on_trial()
    seen: list[bool] = []
    monkeypatch.setattr(learner.watch, "reset", seen.append)
    stage.command("reset", confirmed=confirmed)
    stage.learn(learner)
    assert seen == [confirmed]
    assert last(stage)["kind"] == "applied"


def test_a_promotion_and_a_rollback_begin_a_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, learner = on_trial()
    seen: list[int] = []
    monkeypatch.setattr(learner.watch, "begin_recovery", seen.append)
    stage.command("promote", version=2)
    stage.xy("d")
    stage.command("rollback")
    stage.learn(learner)
    assert seen == [3, 4]


def test_the_types_of_the_stream_outlive_a_promotion() -> None:
    stage = Stage()
    stage.xy("a", f="text")
    stage.xy("b", g=1.0)
    stage.command("try", version=2, trained_to={"0": stage.fit(2, start=1)})
    stage.xy("c", h="text")
    stage.command("promote", version=2)
    for wrong in ({"f": 1.0}, {"g": "text"}, {"h": 1.0}):
        stage.x(f"wrong {wrong}", **wrong)
    learner = stage.learn()
    assert learner.counters == {"feature_type": 3}
    assert learner.champion.types == {"f": "string", "g": "number", "h": "string"}


def test_a_repeated_command_is_passed_over_in_silence() -> None:
    stage, learner = on_trial()
    words = len(stage.signals)
    before = stage.essence(learner)
    stage.command("try", version=2, trained_to={"0": 3}, seq=stage.seq)
    stage.command("promote", version=2, seq=stage.seq - 1)
    stage.learn(learner)
    assert len(stage.signals) == words
    assert stage.essence(learner) == before


def test_a_refused_command_is_not_tried_again_either() -> None:
    stage = Stage()
    stage.command("rollback")
    stage.command("rollback", seq=stage.seq - 1)
    stage.learn()
    assert stage.kinds() == ["refused"]


def test_commands_to_other_models_are_not_ours() -> None:
    stage, learner = on_trial()
    before, words = stage.essence(learner), len(stage.signals)
    for verb in ("hold", "detach", "nonsense"):
        stage.command(verb, model="another", seq=10**6)
    stage.learn(learner)
    assert stage.essence(learner) == before
    assert len(stage.signals) == words


def test_a_gap_that_is_too_large_is_refused_before_the_version_is_fetched() -> None:
    stage = Stage(retrain={"max_gap_records": 5})
    for n in range(10):
        stage.xy(f"e{n}")
    stage.command("try", version=2, trained_to={"0": 4})
    stage.learn()
    assert refused(stage) == "gap"
    stage.command("try", version=2)
    stage.learn()
    assert refused(stage) == "gap"


def test_a_version_that_has_read_less_than_the_command_says_is_refused_for_its_gap() -> None:
    stage = Stage(retrain={"max_gap_records": 5})
    for n in range(10):
        stage.xy(f"e{n}")
    stage.fit(2, stop=2)
    stage.command("try", version=2, trained_to={"0": 10})
    stage.learn()
    assert refused(stage) == "gap"


@pytest.mark.parametrize("what", ["lost", "foreign", "other version", "other model", "cut", "too far", "no pickle", "no parts"])
def test_a_version_that_cannot_be_had_is_refused(what: str) -> None:
    stage = Stage()
    stage.xy("a")
    trainer = stage.trainer()
    trainer.feed(stage.log.read("s", 0, 0, 1))
    blob = stage.sealed(trainer, 2)
    if what == "foreign":
        blob = stage.sealed(trainer, 2, keys=KeyRing({"other": b"0123456789abcdef"}))
    elif what == "other version":
        blob = stage.sealed(trainer, 3)
    elif what == "other model":
        blob = stage.sealed(trainer, 2, model="another")
    elif what == "cut":
        blob = blob[:-3]
    elif what == "too far":
        stage.xy("b")
        stage.xy("c")
        trainer.feed(stage.log.read("s", 0, 1, 2))
        trainer._join.position = 99
        blob = stage.sealed(trainer, 2)
    elif what in ("no pickle", "no parts"):
        trainer.parts = lambda: {"model": b"?", "join": b"?"} if what == "no pickle" else {}  # type: ignore[method-assign]
        blob = stage.sealed(trainer, 2)
    if what != "lost":
        stage.versions[2] = blob
    stage.command("try", version=2, trained_to={"0": 1})
    learner = stage.learn()
    assert refused(stage) == "unknown_version"
    assert learner.shadow is None
    stage.xy("d")
    assert stage.learn(learner).n == learner.join.seq


def test_a_version_that_was_lost_is_made_again_by_the_resolver() -> None:
    stage = Stage()
    for n in range(6):
        stage.xy(f"e{n}")
    trained = stage.fit(2, start=2)
    stage.command("try", version=2, trained_to={"0": trained}, spec={"start": 2})
    live = stage.learn()
    del stage.versions[2]
    made: list[Command] = []

    def resolve(command: Command, shard: int) -> Kept:
        made.append(command)
        trainer = stage.trainer(command.spec["start"])
        trainer.feed(stage.log.read("s", 0, 2, trained - 2))
        return Kept(stage.sealed(trainer, command.version or 0))

    stage.resolve = resolve  # type: ignore[method-assign]
    assert checkpoint.digest(stage.replay()) == checkpoint.digest(live)
    assert [command.version for command in made] == [2]


def test_records_that_are_gone_from_the_log_leave_a_gap() -> None:
    stage = Stage()
    for n in range(6):
        stage.xy(f"e{n}")
    stage.fit(2, stop=2)
    stage.command("try", version=2, trained_to={"0": 2})
    stage.log.trim("s", 0, 4)
    stage.learn(stage.new(4))
    assert refused(stage) == "gap"


@pytest.mark.parametrize(
    ("verb", "more", "reason"),
    [
        ("try", {}, "unknown_version"),
        ("detach", {}, "not_in_trial"),
        ("promote", {"version": 2}, "not_in_trial"),
        ("rollback", {}, "no_previous"),
        ("resume", {}, "not_held"),
        ("vanish", {}, "unknown_verb"),
    ],
)
def test_what_has_nothing_to_act_on_is_refused_and_changes_nothing(verb: str, more: dict[str, Any], reason: str) -> None:
    stage = Stage()
    stage.xy("a")
    learner = stage.learn()
    before = stage.essence(learner)
    stage.command(verb, **more)
    stage.learn(learner)
    assert refused(stage) == reason
    assert (learner.last_command, learner.signal_seq) == (stage.seq, 1)
    learner.last_command, learner.signal_seq = -1, 0
    assert stage.essence(learner) == before


def test_a_promotion_of_another_version_than_the_shadow_is_refused() -> None:
    stage, learner = on_trial()
    stage.command("promote", version=3)
    stage.learn(learner)
    assert refused(stage) == "not_in_trial"
    assert (learner.version, learner.shadow_version) == (1, 2)


def test_a_second_hold_and_an_unknown_way_to_resume_are_refused() -> None:
    stage, learner = on_trial()
    stage.command("hold", reason="first")
    stage.learn(learner)
    stage.command("hold", reason="second")
    stage.learn(learner)
    assert refused(stage) == "held"
    stage.command("resume", mode="guess")
    stage.learn(learner)
    assert refused(stage) == "unknown_mode"
    assert learner.held == "first"


def test_a_block_is_as_short_as_asked_unless_labels_are_very_late() -> None:
    stage = Stage(trial={"min_block": 10})
    learner = stage.new()
    assert block_size(learner) == 10
    learner.delays.extend([10_000] * 100)
    assert block_size(learner) == 10
    learner.delays.extend([40_000] * 10)
    assert block_size(learner) == 40
    learner.delays.clear()
    learner.delays.extend(range(1000, 100_001, 1000))
    assert block_size(learner) == 95


def test_late_labels_alone_make_no_block_longer() -> None:
    """How long a block of the test must be is measured on losses, by `retrain.trial`."""
    stage = Stage(trial={"min_block": 2})
    for n in range(60):
        stage.x(f"e{n}")
        if n >= 20:
            stage.y(f"e{n - 20}")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    learner = stage.learn()
    assert learner.blocks is not None
    assert learner.blocks.size == 2


def test_blocks_are_closed_in_the_order_of_the_questions_with_labels_late_or_missing() -> None:
    stage = Stage(trial={"min_block": 3}, label_wait_s=50)
    stage.xy("a")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    for n in range(9):
        stage.x(f"e{n}", n)
    for n in (8, 7, 6, 5, 3, 0, 2):
        stage.y(f"e{n}", True, 10)
    learner = stage.learn()
    assert "block" not in stage.kinds()
    stage.y("e1", True, 10)
    stage.learn(learner)
    assert [s.data["block"] for s in stage.signals if s.kind == "block"] == [0]
    stage.x("late", 60)
    stage.learn(learner)
    blocks = [signal.data for signal in stage.signals if signal.kind == "block"]
    assert [(block["block"], block["n"]) for block in blocks] == [(0, 3), (1, 2), (2, 3)]
    assert {block["trial"] for block in blocks} == {101}
    assert learner.counters == {"expired": 1}


def test_blocks_hold_each_sides_losses_on_the_same_events() -> None:
    stage = Stage(trial={"min_block": 4}, pipeline="learning_bench:always", params={"p": 0.9})
    stage.xy("a")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    learner = stage.learn()
    assert learner.shadow is not None
    learner.shadow.estimator.p = 0.1
    for n, y in enumerate([True, True, True, False, False, False, False, False]):
        stage.xy(f"e{n}", y)
    stage.learn(learner)
    blocks = [signal.data for signal in stage.signals if signal.kind == "block"]
    assert [(block["champion"], block["challenger"]) for block in blocks] == [(1.0, 3.0), (4.0, 0.0)]


def test_a_trial_is_told_what_both_predicted_before_it() -> None:
    """The challenger while it was brought up, the champion as it served, on the same events; the oldest are left over."""
    stage = Stage(trial={"min_block": 4}, pipeline="learning_bench:always", params={"p": 0.9})
    stage.xy("a")
    trained_to = stage.fit(2)
    for n, y in enumerate([True, False, False, True, True, False]):
        stage.xy(f"e{n}", y)
    stage.command("try", version=2, trained_to={"0": trained_to})
    stage.learn()
    kinds = stage.kinds()
    assert kinds.index("rehearsal") == kinds.index("applied") - 1
    [told] = [signal.data for signal in stage.signals if signal.kind == "rehearsal"]
    assert told["trial"] == stage.seq
    assert told["blocks"] == [(4, 2.0, 2.0)]


def test_blocks_of_a_trial_that_is_over_are_not_told() -> None:
    stage, learner = on_trial(trial={"min_block": 2})
    stage.x("d")
    stage.x("e")
    stage.command("detach")
    stage.y("d")
    stage.y("e")
    stage.learn(learner)
    assert "block" not in stage.kinds()
    assert learner.n == 5


def test_a_refusal_says_why() -> None:
    refusal = Refusal("gap", "too far")
    assert (refusal.reason, refusal.detail, str(refusal)) == ("gap", "too far", "too far")
    assert set(commands._VERBS) == {"try", "detach", "canary", "promote", "rollback", "hold", "resume", "reset"}


FOLLOWS: dict[str, Any] = {"drift": {"features": {"contract": "follow"}}}


def lessons(stage: Stage, learner: Learner, who: str = "champion") -> list[dict[str, Any]]:
    """What a side's spy was taught."""
    return [ast.literal_eval(x) for x in taught(stage, learner, who)]


def test_of_a_followed_change_each_model_takes_what_it_knows() -> None:
    """The old champion goes on without the feature, the challenger, fitted on what came since, with it; also once they swap."""
    stage = Stage(**FOLLOWS)
    stage.xy("a", f=1.0)
    stage.xy("b", f="u")
    stage.command("try", version=2, trained_to={"0": stage.fit(2, start=1)})
    stage.xy("c", f="v", g=3.0)
    learner = stage.learn()
    assert learner.counters == {"features_left_out": 2}
    assert learner.champion.types == {"f": "number", "g": "number"}
    assert learner.shadow is not None
    assert learner.shadow.types == {"f": "string", "g": "number"}, "it checks no events, but meets them"
    assert lessons(stage, learner) == [{"f": 1.0}, {}, {"g": 3.0}]
    assert lessons(stage, learner, "shadow") == [{"f": "u"}, {"f": "v", "g": 3.0}]
    stage.command("promote", version=2)
    stage.xy("d", f="w")
    stage.xy("e", f=2.0)
    learner = stage.learn(learner)
    assert lessons(stage, learner)[-2:] == [{"f": "w"}, {}]
    assert lessons(stage, learner, "shadow")[-2:] == [{}, {"f": 2.0}]
    assert learner.counters == {"features_left_out": 3}
    assert not stage.dead
    assert learner.n == 5


def test_what_waits_for_its_label_across_a_swap_is_taken_by_either() -> None:
    stage = Stage(**FOLLOWS)
    stage.xy("a", f=1.0)
    stage.xy("b", f="u")
    stage.command("try", version=2, trained_to={"0": stage.fit(2, start=1)})
    stage.x("waits", f="v")
    stage.command("promote", version=2)
    stage.y("waits")
    learner = stage.learn()
    assert lessons(stage, learner)[-1] == {"f": "v"}
    assert lessons(stage, learner, "shadow")[-1] == {}


@pytest.mark.parametrize("accepts", [True, False])
def test_a_resume_may_accept_another_type(accepts: bool) -> None:
    stage = Stage()
    stage.xy("a", f=1.0)
    stage.command("hold")
    stage.xy("b", f="u")
    stage.command("resume", accepts=accepts)
    stage.xy("c", f="v")
    learner = stage.learn()
    assert lessons(stage, learner) == ([{"f": 1.0}, {}] if accepts else [{"f": 1.0}])
    assert learner.counters == ({"feature_type": 1, "features_left_out": 1} if accepts else {"feature_type": 2})
    stage.command("try", version=2, trained_to={"0": stage.fit(2, start=4)})
    stage.command("promote", version=2)
    stage.xy("d", f="w")
    learner = stage.learn(learner)
    assert learner.champion.types["f"] == ("string" if accepts else "number"), "a refused type outlives the swap, as ever"
    assert not learner.champion.lenient
    assert learner.counters.get("feature_type") == (1 if accepts else 3)
    stage.command("rollback")
    stage.xy("e", f="x")
    learner = stage.learn(learner)
    assert lessons(stage, learner)[-1] == ({} if accepts else {"f": 1.0}), "the old one is as it was"


def test_what_was_held_is_learned_without_what_was_accepted() -> None:
    stage = Stage()
    stage.xy("a", f=1.0)
    stage.command("hold")
    stage.xy("b", f="u")
    stage.command("resume", mode="learn", accepts=True)
    stage.xy("c", f="v")
    learner = stage.learn()
    assert lessons(stage, learner) == [{"f": 1.0}, {}, {}]


def test_a_swap_tells_what_the_former_champion_knew() -> None:
    stage = Stage()
    stage.xy("a", f=1.0)
    stage.xy("b", g=2.0)
    stage.command("try", version=2, trained_to={"0": stage.fit(2, start=1)})
    stage.command("promote", version=2)
    learner = stage.learn()
    assert last(stage)["knew"] == {"features": 2, "types": {"f": "number", "g": "number"}}
    assert all("knew" not in signal.data for signal in stage.signals[:-1])
    stage.xy("c", z="u")
    stage.command("rollback")
    stage.learn(learner)
    assert last(stage)["knew"]["types"] == {"f": "number", "g": "number", "z": "string"}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.sampled_from(["hold", "follow"]), st.integers(1, 9), st.integers(0, 90))
def test_mixed_types_are_the_same_after_a_restart_and_in_a_replay(seed: int, contract: str, batch: int, cut: int) -> None:
    draw = random.Random(seed)
    stage = Stage(pipeline="logistic", drift={"features": {"contract": contract}})

    def some(count: int, odd: float) -> None:
        for _ in range(count):
            value = draw.random()
            x = {"f": str(value > 0.5) if draw.random() < odd else value, "g": draw.choice("uv")}
            stage.xy(f"e{stage.end}", value > 0.5, **(x if draw.random() < 0.9 else {"h": value}))

    some(20, 0.0)
    stage.command("hold")
    some(10, 0.8)
    stage.command("resume", mode=draw.choice(["skip", "learn", "repair"]), accepts=draw.random() < 0.5)
    some(20, 0.5)
    stage.command("try", version=2, trained_to={"0": stage.fit(2, start=30)})
    some(10, 0.5)
    stage.command("promote", version=2)
    some(10, 0.9)
    stage.command("rollback")
    some(10, 0.5)
    whole = stage.learn()
    if contract == "follow":
        assert not stage.dead
    pieces = stage.learn(until=min(cut, stage.end), batch=batch)
    pieces = stage.learn(stage.again(pieces), batch=batch)
    assert checkpoint.digest(pieces) == checkpoint.digest(whole) == checkpoint.digest(stage.replay())
