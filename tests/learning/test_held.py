"""What becomes of the range in which a model was held: skipped for good, learned after all, or forgotten to be sent again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_bench import Stage, scene

from streamlearn.errors import LogUnavailable
from streamlearn.learning import checkpoint
from streamlearn.learning.digest import digest
from streamlearn.learning.learner import Learner


def taught(learner: Learner, who: str = "champion") -> list[str]:
    model = getattr(learner, who)
    return [id for what, id in model.estimator.calls if what == "learn"]


def weights(learner: Learner, who: str = "champion") -> str:
    model = getattr(learner, who)
    return digest((model.estimator, model.types, model.label_type))


def around_a_hold(mode: str, **model: Any) -> tuple[Stage, Learner]:
    """An event before, one that crosses into the hold, one within it, one that crosses out of it, one after."""
    stage = Stage(**model)
    stage.xy("before")
    stage.x("crosses in")
    stage.command("hold", reason="asked")
    stage.xy("within", False)
    stage.y("crosses in")
    stage.x("crosses out")
    stage.y("early")
    stage.command("resume", mode=mode)
    stage.y("crosses out")
    stage.x("early")
    stage.xy("after")
    return stage, stage.learn()


def applied(stage: Stage) -> dict[str, Any]:
    return stage.signals[-1].data


def test_skipped_is_what_has_either_half_within_the_range() -> None:
    stage, learner = around_a_hold("skip")
    assert taught(learner) == ["before", "after"]
    assert learner.held_ranges == [(3, 8)]
    assert (applied(stage)["held"], applied(stage)["mode"]) == ([3, 8], "skip")
    assert learner.counters["skipped_labels"] == 1
    assert learner.counters["duplicate_features"] == 1
    assert not stage.dead
    assert not learner.join.pending
    assert not learner.join.early


def test_what_waits_is_not_learned_as_the_default_label_either() -> None:
    stage = Stage(label_wait_s=10, default_label=False)
    stage.command("hold")
    stage.x("within")
    stage.command("resume")
    stage.x("after", 20)
    stage.x("later", 40)
    assert taught(stage.learn()) == ["after"]


def test_learned_is_all_of_it_in_order() -> None:
    stage, learner = around_a_hold("learn")
    assert taught(learner) == ["before", "within", "crosses in", "crosses out", "early", "after"]
    assert learner.held_ranges == []
    assert (applied(stage)["held"], applied(stage)["mode"]) == ([3, 8], "learn")
    assert learner.n == 6, "what was scored while held is not scored again"
    assert learner.held is learner.held_from is learner.held_join is None


def test_repaired_is_what_is_sent_again() -> None:
    stage, learner = around_a_hold("repair")
    assert learner.held_ranges == [(3, 8)]
    assert taught(learner) == ["before", "after"]
    stage.xy("within", True, n="mended")
    stage.xy("crosses in", True, n="mended too")
    stage.xy("crosses out", True, n="and this")
    stage.xy("before", True, n="a repeat all the same")
    stage.learn(learner)
    assert taught(learner) == ["before", "after", "mended", "mended too", "and this"]


def test_without_repair_the_same_ids_are_repeats() -> None:
    stage, learner = around_a_hold("skip")
    stage.xy("within", False, n="mended")
    stage.learn(learner)
    assert taught(learner) == ["before", "after"]
    assert learner.counters["duplicate_features"] == 2


def held_scene(mode: str | None, seed: int, hold_at: int, resume_at: int, **model: Any) -> Stage:
    """Some hundred records of every kind; with a `mode`, a hold between two of them."""
    stage = Stage(label_wait_s=30, pipeline="logistic", dedupe_ids=100_000, **model)
    scene(stage, hold_at, "binary", seed)
    if mode is not None:
        stage.command("hold")
    scene(stage, resume_at - hold_at, "binary", seed + 1, first=hold_at)
    if mode is not None:
        stage.command("resume", mode=mode)
    scene(stage, 60, "binary", seed + 2, first=resume_at)
    return stage


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5), st.integers(0, 80), st.integers(0, 80), st.sampled_from([None, False]))
def test_a_held_range_that_was_learned_leaves_a_model_that_was_never_held(
    seed: int, before: int, long: int, default: Any
) -> None:
    held = held_scene("learn", seed, before, before + long, default_label=default).learn()
    never = held_scene(None, seed, before, before + long, default_label=default).learn()
    assert weights(held) == weights(never)
    assert held.n == never.n


@pytest.mark.parametrize("mode", ["skip", "learn", "repair"])
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 5), st.integers(1, 7), st.integers(0, 160))
def test_neither_batches_nor_a_restart_nor_a_replay_change_anything(mode: str, seed: int, batch: int, cut: int) -> None:
    stage = held_scene(mode, seed, 40, 80)
    whole = stage.learn()
    pieces = stage.learn(until=min(cut, stage.end), batch=batch)
    pieces = stage.learn(stage.again(pieces), batch=batch)
    assert checkpoint.digest(pieces) == checkpoint.digest(whole) == checkpoint.digest(stage.replay())


def test_a_trainer_that_passes_over_what_was_skipped_is_taught_what_the_learner_was() -> None:
    stage, learner = around_a_hold("skip")
    trainer = stage.trainer()
    trainer.pass_over(learner.held_ranges)
    trainer.feed(stage.log.read("s", 0, 0, 100))
    assert [id for what, id in trainer.model.estimator.calls if what == "learn"] == taught(learner) == ["before", "after"]


def test_a_shadow_is_taught_beside_the_champion() -> None:
    stage = Stage()
    stage.xy("a")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    stage.command("hold")
    stage.xy("within")
    stage.command("resume", mode="learn")
    learner = stage.learn()
    assert taught(learner) == taught(learner, "shadow") == ["a", "within"]


def test_a_shadow_that_raises_is_dropped_and_said() -> None:
    stage = Stage()
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    stage.learn(learner := stage.new())
    assert learner.shadow is not None
    learner.shadow.estimator = Stubborn()
    stage.command("hold")
    stage.xy("within", True)
    stage.command("resume", mode="learn")
    stage.learn(learner)
    assert learner.shadow is None
    assert taught(learner) == ["within"]
    assert "stubborn" in next(signal for signal in stage.signals if signal.kind == "shadow_failed").data["reason"]


class Stubborn:
    """Stands for a pipeline that learns nothing."""

    def predict_proba_one(self, x: Any) -> dict[bool, float]:
        return {True: 0.5, False: 0.5}

    def learn_one(self, x: Any, y: Any) -> None:
        raise ValueError("stubborn")


def test_what_cannot_be_learned_then_is_a_dead_letter_and_can_be_sent_again() -> None:
    stage = Stage()
    stage.command("hold")
    offset = stage.xy("odd", True, n="odd", bang=1)
    stage.xy("good")
    stage.command("resume", mode="learn")
    learner = stage.learn()
    assert taught(learner) == ["good"]
    [letter] = stage.dead
    assert (letter.reason, letter.offset) == ("unlearnable", offset)
    stage.xy("odd", True, n="mended")
    assert taught(stage.learn(learner)) == ["good", "mended"]


def test_a_log_that_is_away_in_the_middle_changes_nothing() -> None:
    stage = Stage()
    stage.command("hold")
    for n in range(5):
        stage.xy(f"e{n}")
    stage.command("resume", mode="learn")
    learner = stage.learn(until=stage.end - 1)
    before = checkpoint.digest(learner)
    log, read, calls = stage.log, stage.log.read, []

    def fails(stream: str, partition: int, offset: int, limit: int) -> Any:
        calls.append(offset)
        if len(calls) == 2:  # the first one reads the command itself
            raise LogUnavailable("away")
        return read(stream, partition, offset, limit)

    log.read = fails  # type: ignore[method-assign]
    with pytest.raises(LogUnavailable):
        stage.learn(learner)
    assert checkpoint.digest(learner) == before
    stage.learn(learner)
    assert taught(learner) == [f"e{n}" for n in range(5)]


@pytest.mark.parametrize("mode", ["learn", "repair"])
def test_a_range_that_is_too_long_or_gone_is_refused_and_the_model_stays_held(mode: str) -> None:
    stage = Stage(max_held_records=3)
    stage.command("hold", reason="first")
    for n in range(4):
        stage.xy(f"e{n}")
    stage.command("resume", mode=mode)
    learner = stage.learn()
    assert (learner.held, applied(stage)["reason"]) == ("first", "gap")
    assert "max_held_records" in applied(stage)["detail"]
    stage = Stage()
    stage.command("hold", reason="first")
    stage.xy("e")
    stage.command("resume", mode=mode)
    learner = stage.learn(until=stage.end - 1)
    stage.log.trim("s", 0, stage.end - 1)
    stage.learn(learner)
    assert (learner.held, applied(stage)["reason"]) == ("first", "gap")
    assert "mode skip" in applied(stage)["detail"]


def test_a_hold_from_before_the_join_was_kept_can_only_be_skipped_or_repaired() -> None:
    stage = Stage()
    stage.command("hold", reason="old")
    stage.xy("e")
    kept = checkpoint.parts(stage.learn())
    del kept["held_join"]
    learner = stage.new()
    checkpoint.load(learner, kept, type(learner.watch))
    stage.command("resume", mode="learn")
    stage.learn(learner)
    assert (learner.held, applied(stage)["reason"]) == ("old", "gap")


def test_a_model_that_held_itself_in_the_middle_of_an_event_can_be_taught_the_rest() -> None:
    stage = Stage()
    stage.xy("before")
    for n in range(10):
        stage.x(f"odd{n}", nan=1)
    stage.xy("within")
    stage.command("resume", mode="learn")
    learner = stage.learn()
    assert learner.held is None
    assert taught(learner) == ["before", "within"]


def test_a_version_tried_while_held_is_not_taught_the_held_range_of_the_gap() -> None:
    stage = Stage()
    stage.xy("a")
    trained = stage.fit(2)
    stage.command("hold")
    stage.xy("broken")
    stage.command("try", version=2, trained_to={"0": trained})
    learner = stage.learn()
    assert taught(learner, "shadow") == ["a"]
    stage.command("resume")
    stage.xy("good")
    assert taught(stage.learn(learner), "shadow") == ["a", "good"]
