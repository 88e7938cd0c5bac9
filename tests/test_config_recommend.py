"""The settings of a model that recommends: weights that mean something, slates that can be made, what does not go with them."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config import ConfigErrors, ModelSettings, RecommendSettings, parse
from streamlearn.config_recommend import QUOTAS

MODEL = '[streams.s]\n[models.m]\nstream = "s"\ntask = "{task}"\npipeline = "logistic"\n'


def model(text: str, task: str = "recommend") -> ModelSettings:
    return parse(tomllib.loads(MODEL.format(task=task) + text), {}).models["m"]


def error(text: str, task: str = "recommend") -> str:
    with pytest.raises(ConfigErrors) as caught:
        model(text, task)
    assert len(caught.value.errors) == 1
    return str(caught.value.errors[0])


def test_a_table_survives_json() -> None:
    made = model('[models.m.recommend]\nactions = {listen = 1, skip = -0.5}\nquotas = {content = 0}\nlabels = "at_once"\n')
    assert made.recommend.actions == {"listen": 1, "skip": -0.5}
    assert made.recommend.quotas == RecommendSettings().quotas | {"content": 0}
    assert ModelSettings.model_validate(made.model_dump(mode="json")) == made


def test_the_largest_weight_is_a_whole_reward_unless_another_is_given() -> None:
    assert RecommendSettings().scale == 5
    assert RecommendSettings().reward(1.0) == 0.2
    assert RecommendSettings(reward_scale=2).reward(1.0) == 0.5


@given(st.floats(-1e9, 1e9))
def test_a_reward_lies_between_0_and_1(weights: float) -> None:
    assert 0 <= RecommendSettings().reward(weights) <= 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("actions = {dislike = -1.0}", "actions: none has a weight above 0, so nothing could be learned"),
        ('actions = {"$set" = 1.0}', "actions: '$set' begins with $, which is kept for $set and $delete"),
        (f"quotas = {{{', '.join(f'{source} = 0' for source in QUOTAS)}}}", "quotas: every source has 0"),
        ("quotas = {trending = 10}", "'trending'"),
        ("last_items = 600", "last_items: 600 is above history, 500"),
        ("cap = 3", "cap: it caps the items of a slate with the same cap_field"),
        ("epsilon = 1.5", "epsilon: 1.5 is out of range. Write a number of at most 1"),
        ('labels = "never"', "labels: 'never' is not known"),
    ],
)
def test_what_could_not_work_is_told(text: str, says: str) -> None:
    told = error("[models.m.recommend]\n" + text)
    assert says in told
    assert told.startswith("models.m.recommend.")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('labels = ["a", "b"]', "labels: a recommend model has none"),
        ("default_label = false", "default_label: False stands for a missing label, and a recommend model has none"),
        ("loss_scale = 1.0", "loss_scale: a recommend model has none"),
        ('[models.m.drift]\ndetectors = [{name = "adwin", on = "label_rate"}]', "a recommend model has no such metric"),
        ('[models.m.drift]\ndetectors = [{name = "ddm"}]', "ddm on loss: it takes 0 and 1 alone"),
        ('[[models.m.trial.guardrails]]\nmetric = "accuracy"\nabsolute = 0.1', "judged by reward alone. Remove it"),
        ("[models.m.retrain]\nepochs = 2", "retrain.epochs: a recommend model counts what it learns"),
        ('[models.m.retrain.strategy]\nhow = "warm"', "how: a recommend model is fitted in full, not by 'warm'"),
        ('[models.m.trial]\nslices = ["country"]', "has no slices. Remove the key"),
    ],
)
def test_what_does_not_go_with_the_task_is_told(text: str, says: str) -> None:
    assert says in error(text)


def test_detectors_may_watch_its_own_metrics() -> None:
    made = model('[models.m.drift]\ndetectors = [{name = "adwin", on = "ndcg"}, {name = "hddm_a", on = "hit_rate"}]')
    assert [detector.on for detector in made.drift.detectors] == ["ndcg", "hit_rate"]


def test_the_table_is_refused_for_another_task() -> None:
    assert "recommend: a binary model has no such table. Remove it" in error("[models.m.recommend]\nk = 5", "binary")
