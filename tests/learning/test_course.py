"""What a learner tells by the batch: the mean loss of the serving version, in the order in which it is watched."""

from __future__ import annotations

from typing import Any

import pytest
from learning_bench import Stage, scene

from streamlearn.learning import checkpoint
from streamlearn.learning.course import Course


def batches(stage: Stage) -> list[dict[str, Any]]:
    return [signal.data for signal in stage.signals if signal.kind == "batch"]


def test_every_batch_is_told_with_its_mean_loss() -> None:
    stage = Stage(pipeline="learning_bench:always", retrain={"batch": 10})
    for i in range(25):
        stage.xy(f"e{i}", y=i % 5 != 0)  # it always says true: one in five is wrong
    learner = stage.learn()
    assert batches(stage) == [{"n": 10, "loss": pytest.approx(0.2)}] * 2
    assert [signal.n for signal in stage.signals if signal.kind == "batch"] == [10, 20]
    assert (learner.course.n, learner.course.loss) == (5, 1.0)


def test_a_batch_under_way_survives_a_restart() -> None:
    whole, cut = Stage(retrain={"batch": 10, "sample": 5}), Stage(retrain={"batch": 10, "sample": 5})
    for stage in (whole, cut):
        scene(stage, 200, "binary")
    whole.learn()
    learner = cut.learn(until=77)
    learner = cut.learn(cut.again(learner))
    assert batches(cut) == batches(whole)
    assert len(batches(whole)) > 5
    assert checkpoint.digest(learner) == checkpoint.digest(whole.replay())


def test_the_features_of_some_events_are_told_when_asked_for() -> None:
    stage = Stage(retrain={"batch": 12, "sample": 3})
    for i in range(24):
        stage.xy(f"e{i}", a=float(i))
    stage.learn()
    first, second = batches(stage)
    assert [x for _, x in first["sample"]] == [{"a": 3.0}, {"a": 7.0}, {"a": 11.0}]
    assert [x for _, x in second["sample"]] == [{"a": 15.0}, {"a": 19.0}, {"a": 23.0}]
    assert all(loss in (0.0, 1.0) for loss, _ in first["sample"])


def test_losses_of_the_version_before_are_forgotten_at_a_swap() -> None:
    stage = Stage(retrain={"batch": 10})
    for i in range(7):
        stage.xy(f"e{i}")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    stage.command("promote", version=2)
    for i in range(9):
        stage.xy(f"f{i}")
    learner = stage.learn()
    assert batches(stage) == []
    assert learner.course.n == 9


def test_with_a_default_label_the_batch_follows_the_questions() -> None:
    stage = Stage(pipeline="learning_bench:always", default_label=False, label_wait_s=100, retrain={"batch": 10})
    for i in range(12):
        stage.x(f"e{i}", at=i)
    for i in range(10):
        stage.y(f"e{i}", True, at=i)
    stage.x("late", at=1000)
    stage.learn()
    assert batches(stage) == [{"n": 10, "loss": 0.0}]


def test_it_begins_anew_after_each_batch() -> None:
    course = Course(2, 1.0, [(1.0, {"a": 1})])
    assert course.end() == {"n": 2, "loss": 0.5, "sample": [(1.0, {"a": 1})]}
    assert course == Course()
