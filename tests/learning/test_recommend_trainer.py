"""A retrain of a recommender replays interactions, slates and records as its learner took them, is kept and brought back."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from learning_bench import KEYS, Stage
from shop_bench import catalogue, shop, visits

from streamlearn.events import Kind
from streamlearn.learning import pickling
from streamlearn.learning.digest import digest
from streamlearn.learning.replay import limits_of
from streamlearn.learning.trainer import Trainer
from streamlearn.retrain.job import FitSpec, fit
from streamlearn.store.codec import open_blob


def filled(labels: str = "wait", count: int = 80, **recommend: Any) -> Stage:
    stage = shop(labels, **recommend)
    catalogue(stage)
    visits(stage, count)
    return stage


def fed(stage: Stage, trainer: Trainer, until: int | None = None, batch: int = 1000) -> Trainer:
    until = stage.end if until is None else until
    while trainer.position < until:
        trainer.feed(stage.log.read("s", 0, trainer.position, min(batch, until - trainer.position)))
    return trainer


def again(stage: Stage, trainer: Trainer) -> Trainer:
    config = stage.settings
    model = pickle.loads(pickling.dumps(trainer.model))
    return Trainer.restore("m", config.models["m"], config.streams["s"], limits_of(config), "s", 0, model, trainer.parts())


@pytest.mark.parametrize("labels", ["wait", "at_once"])
def test_it_learns_what_the_learner_learned(labels: str) -> None:
    stage = filled(labels)
    learner, trainer = stage.learn(), fed(stage, stage.trainer())
    assert trainer.learned == learner.n > 40
    assert trainer.skipped == 0
    assert trainer.model.estimator.counts() == learner.champion.estimator.counts()
    ours, theirs = trainer.model.estimator.state, learner.champion.estimator.state
    assert {name: digest(table) for name, table in ours.tables.items()} == {
        name: digest(table) for name, table in theirs.tables.items()
    }


@pytest.mark.parametrize("cut", [1, 60, 119])
def test_it_can_be_kept_and_brought_back_anywhere(cut: int) -> None:
    stage = filled()
    whole = fed(stage, stage.trainer())
    parted = fed(stage, again(stage, fed(stage, stage.trainer(), cut)), batch=13)
    assert digest(parted.model.estimator) == digest(whole.model.estimator)
    assert parted._join.state() == whole._join.state()


def test_a_range_that_is_passed_over_is_not_learned_but_its_facts_are() -> None:
    stage = shop()
    catalogue(stage)
    end = stage.end
    visits(stage, 60)
    trainer = stage.trainer()
    trainer.pass_over([(0, stage.end)])
    fed(stage, trainer)
    assert end > 0
    assert trainer.learned == 0
    counts = trainer.model.estimator.counts()
    assert counts["items"] == 40
    stage.event(None, 100.0, item="i1", action="$set", x={"available": False})
    assert fed(stage, trainer).model.estimator.counts()["available"] == 39


def test_a_fit_seals_a_version_that_a_learner_can_try() -> None:
    stage = filled(count=150)
    model = stage.settings.models["m"]
    spec = FitSpec(
        "m", 2, 0, "s", 0, 0, stage.end, 1, 42, 500,
        model.model_dump(mode="json") | {"retrain": {"min_events": 20}},
        stage.settings.streams["s"].model_dump(mode="json"),
        limits_of(stage.settings)._asdict(),
    )  # fmt: skip
    blob = fit(spec, stage.log.reopen, KEYS, lambda done, total: None)
    assert fit(spec, stage.log.reopen, KEYS, lambda done, total: None) == blob
    sealed = open_blob(blob, KEYS, kind="version", model="m", shard=0, version=2)
    summary = sealed.header.extra["summary"]
    assert summary["estimator"] == "Recommender"
    assert summary["items"] == 40
    stage.versions[2] = blob
    stage.command("try", version=2, trained_to={"0": stage.end}, share=0.5, salt="m@2")
    learner = stage.learn()
    assert learner.shadow_version == 2
    assert stage.signals[-1].data["verb"] == "try"


def test_what_a_model_cannot_take_is_skipped() -> None:
    stage = filled(count=10)
    trainer = fed(stage, stage.trainer())

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError(name)

    trainer.model.estimator = Broken()
    stage.event("e", 40.0, user="u1", item="i1", action="click")
    stage.event("f", 40.0, user="u1", item="i1", action="dislike")
    fed(stage, trainer)
    assert trainer.skipped == 2
    assert stage.log.read("s", 0, stage.end - 1, 1)[0].kind == Kind.EVENT
