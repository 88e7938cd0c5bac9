"""What is gathered of a window is what a trainer would have been taught, in the same order, and an even sample of much."""

from __future__ import annotations

from typing import Any

import pytest
from learning_bench import Stage, scene

from streamlearn.learning.replay import limits_of
from streamlearn.learning.sampler import Sampler


def gathered(stage: Stage, start: int = 0) -> Sampler:
    config = stage.settings
    sampler = Sampler.new("m", config.models["m"], config.streams["s"], limits_of(config), "s", 0, start)
    sampler.feed(stage.log.read("s", 0, start, 100_000))
    return sampler


def busy(**model: Any) -> Stage:
    stage = Stage(label_wait_s=30, dedupe_ids=100_000, **model)
    scene(stage, 200, "binary", 3)
    return stage


@pytest.mark.parametrize("default", [None, False])
def test_the_very_pairs(default: Any) -> None:
    stage = busy(default_label=default)
    trainer = stage.trainer(0)
    trainer.feed(stage.log.read("s", 0, 0, 100_000))
    sampler = gathered(stage)
    taught = [id for what, id in trainer.model.estimator.calls if what == "learn"]
    assert [str(x.get("n", x)) for x, _ in sampler.sample.kept] == taught
    assert sampler.learned == sampler.sample.seen == trainer.learned > 100
    assert sampler.model.estimator.calls == []


def test_of_much_an_even_sample() -> None:
    sampler = gathered(busy(retrain={"strategy": {"max_events": 20}}))
    everything = gathered(busy()).sample.kept
    assert sampler.sample.kept == everything[:: sampler.sample.every]
    assert len(sampler.sample.kept) <= 20 < sampler.sample.seen
