"""The members of each ensemble: found, compared, and some of them begun anew while nothing of the others changes."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
from river import compose, ensemble, linear_model, preprocessing, tree

from streamlearn.config import ModelSettings
from streamlearn.events import Limits
from streamlearn.learning import pickling
from streamlearn.learning.digest import digest
from streamlearn.learning.members import losses, members, renew, worst
from streamlearn.learning.model import Model
from streamlearn.learning.recipes import RECIPES, build

SMALL: dict[str, Any] = {"n_models": 4, "grace_period": 20, "delta": 0.1}
ENSEMBLES = [
    pytest.param(name, task, id=f"{name}-{task}")
    for name, recipe in RECIPES.items()
    if "n_models" in recipe.params
    for task in sorted(recipe.tasks)
]


def rows(task: str, count: int, seed: int = 3, flipped: bool = False) -> list[tuple[dict[str, Any], Any]]:
    draw, found = random.Random(seed), []
    for _ in range(count):
        x = {"a": draw.uniform(-1, 1), "b": draw.uniform(-1, 1), "c": draw.choice("pqr"), "d": draw.uniform(-1, 1)}
        score = (x["a"] + (x["c"] == "p") - 0.3) * (-1 if flipped else 1)
        y: Any = score > 0 if task == "binary" else score if task == "regression" else "low" if score < 0 else "high"
        found.append((x, y))
    return found


def taught(name: str, task: str, count: int = 160) -> Any:
    """An ensemble over whose head the world turned, so that it has drifts, warnings and background learners to show."""
    model = build(name, task, SMALL, 5)
    for x, y in [*rows(task, count), *rows(task, count // 2, 4, flipped=True)]:
        model.learn_one(x, y)
    return model


def copied(model: Any) -> Any:
    return pickle.loads(pickling.dumps(model))


def ensemble_in(model: Any) -> Any:
    last = list(model.steps.values())[-1]
    return getattr(last, "classifier", getattr(last, "regressor", last))


def beside(model: Any, index: int) -> list[Any]:
    """All that the ensemble keeps of a member besides its model."""
    inner = ensemble_in(model)
    names = ("_metrics", "_drift_detectors", "_warning_detectors", "_background", "_drift_norm")
    found = [getattr(inner, name)[index] for name in names if hasattr(inner, name)]
    for name in ("_drift_tracker", "_warning_tracker"):
        found += [getattr(inner, name).get(index, 0)] if hasattr(inner, name) else []
    own = ("metric", "drift_detector", "warning_detector", "_background_learner", "n_drifts_detected", "n_warnings_detected")
    return [*found, *(getattr(inner.data[index], name) for name in own if hasattr(inner.data[index], "idx_original"))]


def kept_of(model: Any, index: int) -> str:
    """The digest of a member and all that is kept of it, but for the generator that they share."""
    member = ensemble_in(model).data[index]
    inside = digest([member.model, member.features]) if hasattr(member, "idx_original") else digest(member)
    return digest([inside, beside(model, index)])


@pytest.mark.parametrize(("name", "task"), ENSEMBLES)
def test_those_renewed_are_as_new_and_the_others_as_they_were(name: str, task: str) -> None:
    model = taught(name, task)
    assert len(members(model) or ()) == 4
    before = [kept_of(model, index) for index in range(4)]
    renew(model, [1, 3])
    after = [kept_of(model, index) for index in range(4)]
    assert [before[index] == after[index] for index in range(4)] == [True, False, True, False]
    start = build(name, task, SMALL, 5)
    if name != "leveraging_bagging":  # which has its members from the beginning
        ensemble_in(start)._init_ensemble(list("abcd"))
    assert all(digest(beside(model, index)) == digest(beside(start, index)) for index in (1, 3))
    assert any(digest(beside(model, index)) != digest(beside(start, index)) for index in (0, 2))
    again = taught(name, task)
    renew(again, [1, 3])
    assert digest(again) == digest(model)
    x, _ = rows(task, 1, 9)[0]
    fresh = members(model)[1]  # type: ignore[index]
    shown = model.transform_one(x)
    assert not fresh.predict_one(shown), "a member that has learned nothing says nothing, or 0"


@pytest.mark.parametrize(("name", "task"), ENSEMBLES)
def test_it_learns_and_predicts_on_also_after_a_pickle(name: str, task: str) -> None:
    model = taught(name, task)
    renew(model, [0, 2])
    other, later = copied(model), rows(task, 60, 6, flipped=True)
    fresh, _ = losses(model, later)
    for x, y in rows(task, 100, 5, flipped=True):
        assert model.predict_one(x) == other.predict_one(x)
        model.learn_one(x, y)
        other.learn_one(x, y)
    assert digest(model) == digest(other)
    means, n = losses(model, later)
    assert n == 60
    assert sum(means) < sum(fresh)


@pytest.mark.parametrize(("name", "task"), ENSEMBLES)
def test_members_are_measured_each_for_itself_and_learn_nothing(name: str, task: str) -> None:
    model = taught(name, task)
    state = digest(model)
    pairs = rows(task, 40, 7)
    means, n = losses(model, [*pairs, ({"a": object()}, pairs[0][1])])
    assert digest(model) == state
    assert n == 40
    last = list(model.steps.values())[-1]
    for index, mean in enumerate(means):
        total = 0.0
        for x, y in pairs:
            answer = members(model)[index].predict_one(model.transform_one(x))  # type: ignore[index]
            if task == "regression":
                total += abs(last.scale.transform_one({"y": y})["y"] - answer)
            else:
                total += answer != (last.numbers[y] if task == "multiclass" else y)
        assert mean == pytest.approx(total / 40)


def test_a_background_learner_goes_with_its_member() -> None:
    """It would take the place of the new one at the next drift, with what it learned before."""
    trees = taught("adaptive_random_forest", "binary")
    inner = ensemble_in(trees)
    for index in (0, 1):
        inner._background[index] = inner._new_base_model()
    renew(trees, [1])
    assert inner._background[0] is not None
    assert inner._background[1] is None
    patches = taught("streaming_random_patches", "binary")
    member = ensemble_in(patches).data[2]
    member._trigger_warning(list("abcd"), 360)
    assert member._background_learner is not None
    renew(patches, [2])
    assert ensemble_in(patches).data[2]._background_learner is None


def test_a_member_that_knows_the_new_world_is_kept() -> None:
    model = build("leveraging_bagging", "binary", SMALL, 5)
    for x, y in rows("binary", 300):
        model.learn_one(x, y)
    knows = build("leveraging_bagging", "binary", SMALL, 6)
    for x, y in rows("binary", 300, 4, flipped=True):
        knows.learn_one(x, y)
    list(model.steps.values())[-1].data[2] = members(knows)[0]  # type: ignore[index]
    means, _ = losses(model, rows("binary", 200, 5, flipped=True))
    assert min(range(4), key=means.__getitem__) == 2
    assert worst(means, 0.75) == [0, 1, 3]


def test_the_worst_are_at_least_one_and_of_equal_ones_the_first() -> None:
    assert worst([0.1, 0.5, 0.3, 0.5], 0.01) == [1]
    assert worst([0.1, 0.5, 0.3, 0.5], 0.5) == [1, 3]
    assert worst([0.2, 0.2, 0.2], 0.4) == [0]
    assert worst([0.2], 0.3) == [0]


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if "n_models" not in recipe.params])
def test_what_is_no_ensemble_has_no_members(name: str) -> None:
    task = sorted(RECIPES[name].tasks)[0]
    assert members(build(name, task, {}, 1)) is None


def test_an_ensemble_that_has_seen_nothing_has_none_yet() -> None:
    assert members(build("adaptive_random_forest", "binary", SMALL, 1)) == []
    assert losses(build("adaptive_random_forest", "binary", SMALL, 1), rows("binary", 3)) == ([], 3)


def logistic() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ensemble.BaggingClassifier(logistic(), n_models=3, seed=1),
        lambda: ensemble.ADWINBaggingClassifier(logistic(), n_models=3, seed=1),
        lambda: compose.Pipeline(
            preprocessing.StandardScaler(), ensemble.SRPClassifier(tree.HoeffdingTreeClassifier(), n_models=3, seed=1)
        ),
    ],
    ids=["bagging", "adwin bagging", "patches"],
)
def test_ensembles_of_ones_own_pipeline_are_known(make: Callable[[], Any]) -> None:
    model = make()
    data = [({name: x[name] for name in "abd"}, y) for x, y in rows("binary", 120)]
    for x, y in data:
        model.learn_one(x, y)
    before = [digest(member.model if hasattr(member, "idx_original") else member) for member in members(model) or ()]
    renew(model, [2])
    after = [digest(member.model if hasattr(member, "idx_original") else member) for member in members(model) or ()]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False]
    for x, y in data:
        model.learn_one(x, y)
    means, n = losses(model, data)
    assert n == 120
    assert max(means) < 0.5, "those begun anew have learned again"


def test_a_forest_that_recalls_what_it_answered_forgets_it() -> None:
    """Else the trees that it asked last would come back when that event is learned."""
    settings = ModelSettings.model_validate(
        {"stream": "s", "task": "binary", "pipeline": "adaptive_random_forest", "params": {"n_models": 3}}
    )
    model, data = Model(settings, Limits()), rows("binary", 60)
    for x, y in data:
        model.learn(x, y)
    model.predict(data[0][0])
    renew(model.estimator, [1])
    model.changed()
    fresh = members(model.estimator) or []
    model.learn(*data[0])
    assert [one is other for one, other in zip(members(model.estimator) or [], fresh, strict=True)] == [True] * 3


def test_boosting_is_left_alone() -> None:
    assert members(ensemble.AdaBoostClassifier(tree.HoeffdingTreeClassifier(), n_models=3, seed=1)) is None
