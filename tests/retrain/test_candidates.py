"""Which candidates a search compares: the champion's and the file's recipe always, each once, all of which can be built."""

from __future__ import annotations

from typing import Any

import pytest

from streamlearn.config import ModelSettings
from streamlearn.learning.recipes import build
from streamlearn.retrain.candidates import Candidate, candidates


def settings(task: str = "binary", pipeline: str = "logistic", **search: Any) -> ModelSettings:
    return ModelSettings.model_validate({"stream": "s", "task": task, "pipeline": pipeline, "retrain": {"search": search}})


def made_of(found: list[Candidate]) -> list[tuple[str, dict[str, Any]]]:
    return [(one.pipeline, one.params) for one in found]


@pytest.mark.parametrize(("task", "pipeline"), [("binary", "logistic"), ("multiclass", "softmax"), ("regression", "linear")])
def test_every_automatic_candidate_can_be_built_and_stands_there_once(task: str, pipeline: str) -> None:
    found = candidates(settings(task, pipeline))
    for one in found:
        build(one.pipeline, task, one.params, one.seed)
    assert found[0].recipe == {"pipeline": pipeline, "params": {}, "seed": 42}
    assert len({one.name for one in found}) == len(found) >= 10
    assert ("naive_bayes" in {one.pipeline for one in found}) == (task != "regression")
    kind = "Regressor" if task == "regression" else "Classifier"
    assert f"sklearn.ensemble:HistGradientBoosting{kind}" in {one.pipeline for one in found}


def test_without_scikit_learn_there_is_no_boosting() -> None:
    assert not any("sklearn" in one.pipeline for one in candidates(settings(), boosting=False))


def test_what_serves_and_what_the_file_names_come_first_with_their_seeds() -> None:
    champion = {"pipeline": "naive_bayes", "params": {"alpha": 2.0}, "seed": 7, "asked": {"pipeline": "logistic"}}
    given = [{"pipeline": "logistic"}, {"pipeline": "hoeffding_tree", "params": {"grace_period": 9}}]
    found = candidates(settings(candidates=given), champion)
    assert made_of(found) == [("naive_bayes", {"alpha": 2.0}), ("logistic", {}), ("hoeffding_tree", {"grace_period": 9})]
    assert [one.seed for one in found] == [7, 42, 42]
    assert found[2].name == "hoeffding_tree(grace_period=9)"


def test_how_a_former_winner_served_is_asked_anew() -> None:
    path = "sklearn.linear_model:LogisticRegression"
    champion = {"pipeline": path, "params": {"C": 2.0, "residual": True}, "seed": 42}
    found = candidates(settings(candidates=[{"pipeline": path, "params": {"C": 2.0}}]), champion)
    assert made_of(found) == [(path, {"C": 2.0}), ("logistic", {})]
