"""What is gathered of a window is what a trainer would have been taught, in the same order, and an even sample of much."""

from __future__ import annotations

from typing import Any

import pytest
from learning_bench import Stage, scene

from streamlearn.learning.gather import Gatherer
from streamlearn.learning.replay import limits_of


def gathered(stage: Stage, start: int = 0) -> Gatherer:
    config = stage.settings
    gatherer = Gatherer.new("m", config.models["m"], config.streams["s"], limits_of(config), "s", 0, start)
    gatherer.feed(stage.log.read("s", 0, start, 100_000))
    return gatherer


def busy(**model: Any) -> Stage:
    stage = Stage(label_wait_s=30, dedupe_ids=100_000, **model)
    scene(stage, 200, "binary", 3)
    return stage


@pytest.mark.parametrize("default", [None, False])
def test_the_very_pairs(default: Any) -> None:
    stage = busy(default_label=default)
    trainer = stage.trainer(0)
    trainer.feed(stage.log.read("s", 0, 0, 100_000))
    gatherer = gathered(stage)
    taught = [id for what, id in trainer.model.estimator.calls if what == "learn"]
    assert [str(x.get("n", x)) for x, _ in gatherer.sample.items] == taught
    assert gatherer.learned == gatherer.sample.seen == trainer.learned > 100
    assert gatherer.model.estimator.calls == []


def test_of_much_an_even_sample() -> None:
    gatherer = gathered(busy(retrain={"strategy": {"max_events": 20}}))
    everything = gathered(busy()).sample.items
    assert gatherer.sample.items == everything[:: gatherer.sample.stride]
    assert len(gatherer.sample.items) <= 20 < gatherer.sample.seen
