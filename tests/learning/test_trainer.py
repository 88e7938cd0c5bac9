"""A trainer is taught the very pairs that the learner is taught, in the same order, and can be kept and brought back."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_bench import Stage, scene

from streamlearn.events import Kind
from streamlearn.learning import pickling
from streamlearn.learning.digest import digest
from streamlearn.learning.replay import limits_of
from streamlearn.learning.sampling import Decay
from streamlearn.learning.trainer import Trainer


def taught(model: Any) -> list[str]:
    return [id for what, id in model.estimator.calls if what == "learn"]


def fed(stage: Stage, start: int = 0, until: int | None = None, batch: int = 1000) -> Trainer:
    trainer = stage.trainer(start)
    return feed(stage, trainer, until, batch)


def feed(stage: Stage, trainer: Trainer, until: int | None = None, batch: int = 1000) -> Trainer:
    until = stage.end if until is None else until
    while trainer.position < until:
        trainer.feed(stage.log.read("s", 0, trainer.position, min(batch, until - trainer.position)))
    return trainer


def again(stage: Stage, trainer: Trainer) -> Trainer:
    config = stage.settings
    model = pickle.loads(pickling.dumps(trainer.model))
    return Trainer.restore("m", config.models["m"], config.streams["s"], limits_of(config), "s", 0, model, trainer.parts())


def busy(default: Any = None, seed: int = 3, **model: Any) -> Stage:
    stage = Stage(label_wait_s=30, default_label=default, dedupe_ids=100_000, **model)
    scene(stage, 200, "binary", seed)
    return stage


@pytest.mark.parametrize("default", [None, False])
def test_it_is_taught_the_same_pairs_in_the_same_order_as_the_learner(default: Any) -> None:
    stage = busy(default)
    learner = stage.learn()
    trainer = fed(stage)
    assert taught(trainer.model) == taught(learner.champion)
    assert len(taught(trainer.model)) == learner.n == trainer.learned
    assert learner.n > 100
    assert trainer.position == learner.position
    assert trainer.model.types == learner.champion.types


def test_nothing_is_predicted() -> None:
    assert {what for what, _ in fed(busy()).model.estimator.calls} == {"learn"}


def test_from_a_later_start_it_is_taught_what_the_learner_is_taught_of_the_questions_from_there_on() -> None:
    stage = busy()
    start = stage.end // 2
    learner = stage.learn()
    trainer = fed(stage, start)
    later = taught(trainer.model)
    assert later == [id for id in taught(learner.champion) if id in set(later)]
    assert 20 < len(later) < learner.n


@settings(max_examples=25)
@given(st.integers(0, 60), st.integers(0, 400), st.integers(1, 9))
def test_brought_up_to_a_position_it_equals_one_that_was_fitted_straight_to_it(start: int, cut: int, batch: int) -> None:
    stage = busy(False, pipeline="logistic")
    until = stage.end
    straight = fed(stage, start, until)
    kept = again(stage, fed(stage, start, min(max(cut, start), until), batch))
    brought_up = feed(stage, kept, until, batch)
    assert digest((brought_up.model.estimator, brought_up.model.types)) == digest(
        (straight.model.estimator, straight.model.types)
    )
    assert brought_up.parts()["join"] == straight.parts()["join"]


def test_a_version_brought_up_by_a_try_equals_one_fitted_straight_to_the_command() -> None:
    stage = busy(pipeline="logistic")
    stage.fit(2, start=10, stop=120)
    stage.command("try", version=2, trained_to={"0": 120})
    learner = stage.learn()
    straight = fed(stage, 10, stage.end - 1)
    assert learner.shadow is not None
    assert digest(learner.shadow.estimator) == digest(straight.model.estimator)


def test_a_shadow_goes_on_as_the_trainer_would_have() -> None:
    stage = Stage(label_wait_s=30)
    scene(stage, 100, "binary", 1)
    stage.fit(2)
    stage.command("try", version=2, trained_to={"0": stage.end})
    for n in range(20):
        stage.x(f"late{n}", 100 + n)
        stage.xy(f"both{n}", n % 2 == 0, 100 + n)
        if n > 5:
            stage.y(f"late{n - 5}", True, 100 + n)
    learner = stage.learn()
    assert learner.shadow is not None
    assert taught(learner.shadow) == taught(fed(stage).model)


def test_commands_and_heartbeats_teach_nothing_but_move_on() -> None:
    stage = Stage(label_wait_s=10)
    stage.x("a")
    stage.command("hold")
    stage.put(b"not even a command", Kind.COMMAND)
    stage.beat(11)
    trainer = fed(stage)
    assert trainer.position == 4
    assert trainer.learned == 0
    stage.y("a")
    assert feed(stage, trainer).learned == 0


def test_what_raises_is_skipped_and_counted() -> None:
    stage = Stage()
    stage.xy("a")
    stage.xy("b", True, n="b", bang=1)
    stage.xy("c")
    trainer = stage.trainer()
    assert trainer.feed(stage.log.read("s", 0, 0, 10)) == 2
    assert (trainer.learned, trainer.skipped) == (2, 1)


def test_more_epochs_repeat_the_pairs_and_only_those_that_were_learned() -> None:
    stage = Stage(retrain={"epochs": 3})
    stage.xy("a")
    stage.xy("b", True, n="b", bang=1)
    stage.x("c")
    stage.y("c", False)
    trainer = fed(stage)
    trainer.repeat()
    assert taught(trainer.model) == ["a", "c", "a", "c"]
    trainer.forget_pairs()
    trainer.repeat()
    assert taught(trainer.model) == ["a", "c", "a", "c"]
    assert trainer.learned == 2


def test_a_pass_over_pairs_that_raise_the_second_time_goes_on() -> None:
    stage = Stage(retrain={"epochs": 2})
    for id in "abc":
        stage.xy(id)
    trainer = fed(stage)
    learn = trainer.model.learn

    def once(x: Any, y: Any) -> None:
        if x["n"] == "b":
            raise ZeroDivisionError("the second time")
        learn(x, y)

    trainer.model.learn = once  # type: ignore[method-assign]
    trainer.repeat()
    assert taught(trainer.model) == ["a", "b", "c", "a", "c"]
    assert trainer.skipped == 1


def test_with_one_epoch_no_pair_is_kept() -> None:
    stage = Stage()
    stage.xy("a")
    trainer = fed(stage)
    trainer.repeat()
    assert taught(trainer.model) == ["a"]


def test_a_kept_trainer_obeys_the_limits_of_today() -> None:
    stage = busy()
    kept = fed(stage)
    config = stage.settings
    limits = limits_of(config)._replace(max_features=1)
    trainer = Trainer.restore("m", config.models["m"], config.streams["s"], limits, "s", 0, kept.model, kept.parts())
    assert trainer.model.max_features == 1


# Further epochs, thinning, warm starts, memory.


def epochs(count: int, most: int) -> dict[str, Any]:
    return {"retrain": {"epochs": count, "strategy": {"max_events": most}}}


@pytest.mark.parametrize("most", [5, 64, 1000])
def test_further_epochs_pass_over_an_even_sample_that_is_bounded(most: int) -> None:
    stage = busy(**epochs(2, most))
    trainer = fed(stage)
    once = taught(trainer.model)
    kept, of = trainer.repeated
    assert of == trainer.learned == len(once) > 100
    assert min(most // 2, of) <= kept <= most
    trainer.repeat()
    again = taught(trainer.model)[len(once) :]
    every = -(-of // kept) if most < of else 1
    assert again == once[:: 1 << (every - 1).bit_length()]
    assert len(again) == kept
    trainer.forget_pairs()
    assert trainer.repeated == (0, 0)


def test_one_epoch_keeps_nothing() -> None:
    trainer = fed(busy())
    assert trainer.repeated == (0, 0)
    before = taught(trainer.model)
    trainer.repeat()
    assert taught(trainer.model) == before


def test_events_are_thinned_by_the_age_of_their_features_and_never_from_the_end_of_the_window_on() -> None:
    stage = busy()
    until, everything = stage.end // 2, taught(fed(stage).model)
    trainer = stage.trainer()
    trainer.decay = Decay(until, until / 4, 3)
    feed(stage, trainer)
    some = taught(trainer.model)
    assert len(some) == trainer.learned
    assert trainer.learned + trainer.thinned == len(everything)
    assert some == [id for id in everything if id in set(some)], "the order is kept"
    late = stage.trainer(until)
    feed(stage, late)
    assert set(taught(late.model)) <= set(some)
    half = fed(stage, 0, until)
    early = [id for id in taught(half.model) if id in set(some)]
    assert 0 < len(early) < half.learned / 2
    assert trainer.parts()["join"] == fed(stage).parts()["join"], "what is not learned was accepted all the same"


def test_a_warm_start_goes_on_with_the_model_and_with_a_join_of_its_own() -> None:
    stage = busy()
    known = fed(stage, 0, stage.end // 2)
    config, start = stage.settings, stage.end // 4
    about = "m", config.models["m"], config.streams["s"], limits_of(config), "s", 0, start
    warm = Trainer.warm(*about, pickle.loads(pickling.dumps(known.model)))
    assert warm.position == start
    feed(stage, warm)
    assert taught(warm.model) == taught(known.model) + taught(fed(stage, start).model)
    assert warm.parts()["join"] == fed(stage, start).parts()["join"]
    assert warm.model.types == fed(stage).model.types


@pytest.mark.parametrize("x", [{"vast": True}, {"huge": True}])
def test_memory_that_runs_out_is_no_event_that_cannot_be_learned(x: dict[str, bool]) -> None:
    stage = Stage()
    stage.xy("a")
    trainer = fed(stage)
    trainer.rehearse_from = 0
    stage.xy("b", **x)
    with pytest.raises(MemoryError):
        feed(stage, trainer)
    assert (trainer.learned, trainer.skipped) == (1, 0)


def test_memory_that_runs_out_ends_a_further_epoch() -> None:
    stage = Stage(**epochs(2, 10))
    stage.xy("a")
    trainer = fed(stage)

    def starve(x: dict[str, Any], y: Any) -> None:
        raise MemoryError

    trainer.model.learn = starve  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        trainer.repeat()
