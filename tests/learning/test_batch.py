"""scikit-learn estimators as river ones: gather, fit, serve frozen or under an online model; kept, compared, refused."""

from __future__ import annotations

import importlib.util
import json
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from streamlearn.config import ModelSettings
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import ModelError, RetrainError
from streamlearn.events import Limits
from streamlearn.learning import pickling
from streamlearn.learning.batch import ON_TOP, Batch
from streamlearn.learning.digest import digest
from streamlearn.learning.genesis import Genesis
from streamlearn.learning.model import BatchOnly, Model
from streamlearn.learning.recipes import build
from streamlearn.learning.replay import new_learner
from streamlearn.learning.summary import summarize

BOOST = "sklearn.ensemble:HistGradientBoosting"
FAST = {"max_iter": 20}
KINDS = [
    ("binary", f"{BOOST}Classifier", FAST),
    ("binary", "sklearn.linear_model:LogisticRegression", {}),
    ("multiclass", f"{BOOST}Classifier", FAST),
    ("multiclass", "sklearn.tree:DecisionTreeClassifier", {"max_depth": 6}),
    ("regression", f"{BOOST}Regressor", FAST),
    ("regression", "sklearn.linear_model:Ridge", {}),
]


def model(task: str, pipeline: str, live: bool = False, **params: Any) -> Model:
    settings = {"stream": "s", "task": task, "pipeline": pipeline, "params": params}
    return Model(ModelSettings.model_validate(settings), Limits(), live=live)


def event(task: str, draw: random.Random, turned: bool = False) -> tuple[dict[str, Any], Any]:
    a, b = draw.uniform(-1, 1), draw.uniform(-1, 1)
    x: dict[str, Any] = {"a": a, "b": b, "kind": draw.choice("xyz"), "on": draw.random() > 0.5}
    value = (2 * x["a"] + (x["kind"] == "x") + x["b"] * x["a"]) * (-1 if turned else 1)
    if draw.random() < 0.1:
        del x["b"]
    return x, {"binary": value > 0.3, "multiclass": "low" if value < 0 else "mid" if value < 0.8 else "high"}.get(task, value)


def fitted(task: str, pipeline: str, events: int = 1500, seed: int = 1, **params: Any) -> Model:
    made, draw = model(task, pipeline, **params), random.Random(seed)
    for _ in range(events):
        x, y = event(task, draw)
        made.learn(made.check(x)[0], made.label(y))
    made.estimator.fit_gathered()
    return made


def loss(made: Model, task: str, events: int = 300, seed: int = 2, turned: bool = False, learn: bool = False) -> float:
    draw, total = random.Random(seed), 0.0
    for _ in range(events):
        x, y = event(task, draw, turned)
        predicted, _ = made.predict(x)
        total += abs(predicted - y) if task == "regression" else predicted != made.label(y)
        if learn:
            made.learn(x, made.label(y))
    return total / events


@pytest.mark.parametrize(("task", "pipeline", "params"), KINDS)
def test_it_learns_a_window_and_is_no_other_for_a_pickle(task: str, pipeline: str, params: dict[str, Any]) -> None:
    made = fitted(task, pipeline, **params)
    assert loss(made, task) < {"binary": 0.15, "multiclass": 0.3, "regression": 0.4}[task]
    x = event(task, random.Random(5))[0]
    for dumps in (pickling.dumps, pickle.dumps):
        again = pickle.loads(dumps(made))
        assert digest(again) == digest(made)
        assert again.predict(x) == made.predict(x)
    assert digest(fitted(task, pipeline, **params)) == digest(made)
    assert digest(fitted(task, pipeline, seed=3, **params)) != digest(made)
    told = json.loads(json.dumps(summarize(made)))
    assert (told["estimator"], told["serves"], told["fitted_to"]) == (pipeline.rpartition(":")[2], "frozen", 1500)


@pytest.mark.parametrize(("task", "pipeline", "params"), KINDS)
def test_residual_begins_as_the_frozen_model_and_follows_a_world_that_turns(
    task: str, pipeline: str, params: dict[str, Any]
) -> None:
    frozen, online = fitted(task, pipeline, **params), fitted(task, pipeline, residual=True, **params)
    draw = random.Random(4)
    for _ in range(50):
        x = event(task, draw)[0]
        (y, p), (y_, p_) = frozen.predict(x), online.predict(x)
        if task == "regression":
            assert y_ == pytest.approx(y)
        elif task == "binary":
            assert p_ == pytest.approx(min(max(p, 1e-3), 1 - 1e-3))
        else:
            assert p_ == pytest.approx(p, abs=0.005)
    before = digest(frozen)
    at_first = loss(frozen, task, 500, turned=True, learn=True)
    assert digest(frozen) == before, "a frozen one has learned"
    assert loss(online, task, 500, turned=True, learn=True) < 0.9 * at_first
    assert digest(pickle.loads(pickling.dumps(online))) == digest(online)
    told = summarize(online)
    assert told["serves"] == "residual"
    assert told["weights_in_all"] > 3
    assert task != "binary" or ON_TOP in told["weights"]


def test_two_processes_that_hold_the_same_version_agree(tmp_path: Any) -> None:
    made = fitted("binary", f"{BOOST}Classifier", residual=True, **FAST)
    loss(made, "binary", 50, learn=True)
    (tmp_path / "m").write_bytes(pickling.dumps(made))
    code = (
        "import pickle, sys; from streamlearn.learning.digest import digest; "
        f"print(digest(pickle.load(open({str(tmp_path / 'm')!r}, 'rb'))))"
    )
    told = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()]
    assert told == [digest(made)]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_several_threads_are_answered_as_one_is_and_change_nothing(task: str, residual: bool) -> None:
    made, draw = fitted(task, f"{BOOST}Classifier", residual=residual, **FAST), random.Random(6)
    before, xs = digest(made), [event(task, draw)[0] for _ in range(200)]
    alone = [made.answer(x) for x in xs]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(made.answer, xs)) == alone
    assert digest(made) == before


def test_it_keeps_an_even_sample_and_says_so() -> None:
    made, draw = model("binary", "sklearn.linear_model:LogisticRegression"), random.Random(1)
    made.estimator.gather_at_most(100)
    for _ in range(1000):
        x, y = event("binary", draw)
        made.learn(x, y)
    made.estimator.fit_gathered()
    told = summarize(made)
    assert 50 <= told["fitted_to"] <= 100
    assert told["gathered"] == 1000
    assert not made.estimator.gathering


def test_a_live_pipeline_is_refused_with_the_way_out() -> None:
    with pytest.raises(BatchOnly, match=r"learns a window at once.*retrain\.strategy\.how = \"search\""):
        model("binary", "sklearn.linear_model:LogisticRegression", live=True)


def test_before_it_was_fitted_it_answers_nothing() -> None:
    with pytest.raises(ModelError, match="has not been fitted yet"):
        model("binary", "sklearn.linear_model:LogisticRegression").predict({"a": 1.0})


def test_one_class_is_no_window() -> None:
    made = model("binary", "sklearn.linear_model:LogisticRegression")
    for _ in range(10):
        made.learn({"a": 1.0}, True)
    with pytest.raises(ModelError, match="needs labels of two classes in its window, and there is only the label True"):
        made.estimator.fit_gathered()


def test_a_class_that_comes_after_the_window_is_learned_on_top() -> None:
    made, draw = fitted("multiclass", "sklearn.tree:DecisionTreeClassifier", residual=True), random.Random(8)
    for _ in range(300):
        made.learn({**event("multiclass", draw)[0], "flag": 3.0}, "new")
    assert made.predict({"a": 0.1, "b": 0.1, "kind": "x", "on": True, "flag": 3.0})[0] == "new"


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("sklearn.linear_model:Ridge", {}, "is a Ridge, but the task binary needs a classifier"),
        ("sklearn.linear_model:LogisticRegression", {"colour": 1}, "unexpected keyword argument 'colour'"),
        ("sklearn.linear_model:RidgeClassifier", {}, "gives no probabilities"),
        ("batch_bench:unsure", {}, "gives no probabilities"),
        ("sklearn.linear_model:LogistcRegression", {}, "did you mean 'LogisticRegression'"),
        ("learning_bench:spy", {"residual": True}, "residual is for scikit-learn estimators"),
    ],
)
def test_what_cannot_be_built_says_why(path: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build(path, "binary", params, 1)


def test_functions_and_instances_that_a_path_names_are_wrapped_too() -> None:
    one = build("batch_bench:tree", "binary", {"depth": 3, "residual": True}, 9)
    other = build("batch_bench:SOLVED", "binary", {}, 9)
    assert isinstance(one, Batch)
    assert isinstance(other, Batch)
    assert (one.residual, other.residual) == (True, False)
    assert (one.estimator.random_state, other.estimator.random_state) == (9, 9)
    assert (one.estimator.max_depth, other.estimator.C) == (3, 10.0)


def test_without_scikit_learn_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_NotThere(), *sys.meta_path])
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else real(name))
    with pytest.raises(ModelError, match=r"pip install 'streamlearn\[batch\]'"):
        build("sklearn.linear_model:LogisticRegression", "binary", {}, 1)


class _NotThere:
    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] == "sklearn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_shard_that_begins_as_such_a_version_takes_the_recipe_of_the_file(stage: Any) -> None:
    bench = stage(pipeline="logistic")
    batch = "sklearn.tree:DecisionTreeClassifier"
    for pipeline, last in (("naive_bayes", "MixedNaiveBayes"), (batch, "LogisticRegression")):
        recipe = {"pipeline": pipeline, "params": {}, "seed": 1, "asked": {"pipeline": "logistic", "params": {}, "seed": 42}}
        learner = new_learner(bench.settings, "m", 0, 0, DriftWatch, Genesis(0, 3, recipe, True))
        assert (learner.version, type(learner.champion.estimator).__name__) == (3, "Pipeline")
        assert summarize(learner.champion)["estimator"] == last


def test_a_fit_of_too_few_is_empty(stage: Any) -> None:
    bench = stage(pipeline="sklearn.linear_model:LogisticRegression", retrain={"min_events": 50})
    trainer = bench.trainer(0)
    with pytest.raises(RetrainError, match=r"0 labelled events in the window; retrain\.min_events asks for 50"):
        trainer.forget_pairs()
