"""Every recipe learns, stays sound on odd input, and is the same in any process; every mistake is named with its mending."""

from __future__ import annotations

import csv
import gzip
import math
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from river import base, linear_model, metrics, preprocessing

from streamlearn.errors import ModelError
from streamlearn.learning.digest import digest
from streamlearn.learning.recipes import RECIPES, build

PAIRS = [(name, task) for name, recipe in RECIPES.items() for task in sorted(recipe.tasks)]
# An ensemble takes seconds where one model takes moments.
WEIGHED = [
    pytest.param(name, task, marks=[pytest.mark.slow] if "n_models" in RECIPES[name].params else []) for name, task in PAIRS
]

# Learns from the same events in every process; prints, for each recipe and task, a digest of the predictions and of the model,
# once straight on and once through a pickle every 37 events.
PROGRAM = """
import pickle, random, sys
from streamlearn.learning.digest import digest
from streamlearn.learning.recipes import RECIPES, build

def events(task, n=200):
    draw = random.Random(5)
    for _ in range(n):
        x = {"a": draw.gauss(0, 1), "b": draw.randrange(50), "c": draw.choice(["red", "green", "blue", "grey"]),
             "d": draw.random() < 0.5, "e": draw.choice(["x", "y"])}
        score = x["a"] + (x["c"] == "red") - (x["e"] == "x") + draw.gauss(0, 0.3)
        yield x, score > 0 if task == "binary" else score if task == "regression" else ["low", "mid", "high"][
            (score > -0.5) + (score > 0.5)]

for name, recipe in RECIPES.items():
    for task in sorted(recipe.tasks):
        found = []
        for pickled in (False, True):
            params = {"n_models": 2, "grace_period": 20} if "n_models" in recipe.params else {}
            model, seen = build(name, task, params, 11), []
            for i, (x, y) in enumerate(events(task)):
                seen.append(model.predict_one(x) if task == "regression" else list(model.predict_proba_one(x).items()))
                model.learn_one(x, y)
                if pickled and i % 37 == 36:
                    model = pickle.loads(pickle.dumps(model))
            found.append(digest(seen) + " " + digest(model))
        print(name, task, *found)
"""


def small(name: str) -> dict[str, Any]:
    return {"n_models": 3} if "n_models" in RECIPES[name].params else {}


def events(task: str, n: int, seed: int = 0) -> list[tuple[dict[Any, Any], Any]]:
    """Numbers of about 0.3 or constant, strings, and a label that both tell of."""
    draw = random.Random(seed)
    rows = []
    for _ in range(n):
        x = {"price": draw.gauss(0.15, 0.05), "load": draw.random(), "flat": 2.0, "day": draw.choice(["mon", "tue", "wed"])}
        score = (x["price"] - 0.15) / 0.05 + 1.5 * (x["day"] == "mon") - 0.5 + draw.gauss(0, 0.3)
        y: Any = score > 0
        if task == "multiclass":
            y = "low" if score < -0.7 else "high" if score > 0.7 else "mid"
        rows.append((x, 40 + 10 * score if task == "regression" else y))
    return rows


def quality(model: Any, task: str, rows: list[tuple[dict[Any, Any], Any]], skip: int = 0) -> float:
    """Accuracy, or R² for regression, of predictions made before learning, all of them finite."""
    metric: Any = metrics.R2() if task == "regression" else metrics.Accuracy()
    for index, (x, y) in enumerate(rows):
        if task == "regression":
            answer = model.predict_one(x)
            assert math.isfinite(answer)
        else:
            shares = model.predict_proba_one(x)
            assert all(0 <= share <= 1 for share in shares.values())
            answer = max(shares, key=shares.get) if shares else None
        model.learn_one(x, y)
        if index >= skip and answer is not None:
            metric.update(y, answer)
    return float(metric.get())


@pytest.mark.parametrize(("name", "task"), WEIGHED)
def test_every_recipe_learns_from_numbers_and_strings(name: str, task: str) -> None:
    found = quality(build(name, task, small(name), 1), task, events(task, 1200), skip=300)
    assert found > {"binary": 0.75, "multiclass": 0.6, "regression": 0.5}[task]


@pytest.mark.parametrize(("name", "task"), WEIGHED)
def test_one_odd_value_does_not_ruin_a_model(name: str, task: str) -> None:
    rows = events(task, 600)
    plain = quality(build(name, task, small(name), 1), task, rows, skip=300)
    for at, odd in ((0, {"price": 1e200}), (250, {"price": 100.0}), (250, {"price": -1e200, "load": 1e300, "flat": 1e200})):
        spoilt = [*rows]
        spoilt[at] = ({**rows[at][0], **odd}, rows[at][1])
        assert quality(build(name, task, small(name), 1), task, spoilt, skip=300) > plain - 0.08


@pytest.mark.parametrize("name", ["linear", "passive_aggressive", "hoeffding_tree", "hoeffding_adaptive_tree"])
def test_one_odd_label_does_not_ruin_a_regression(name: str) -> None:
    rows = events("regression", 1200)
    spoilt = [*rows]
    spoilt[250] = (rows[250][0], 1e200)
    plain = quality(build(name, "regression", small(name), 1), "regression", rows, skip=300)
    assert quality(build(name, "regression", small(name), 1), "regression", spoilt, skip=300) > plain - 0.15


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_an_event_without_features_and_features_that_come_and_go_are_fine(name: str, task: str) -> None:
    rows = events(task, 150)
    thin = [({key: value for i, (key, value) in enumerate(x.items()) if (n + i) % 3}, y) for n, (x, y) in enumerate(rows)]
    new = [({**x, f"new {n % 7}": float(n), f"word {n % 5}": f"w{n}"}, y) for n, (x, y) in enumerate(rows)]
    quality(build(name, task, small(name), 1), task, [*rows[:20], ({}, rows[20][1]), *thin, *new, *rows])
    quality(build(name, task, small(name), 1), task, [({}, rows[0][1]), *rows])


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_asking_a_learned_model_changes_nothing(name: str, task: str) -> None:
    model = build(name, task, small(name), 1)
    quality(model, task, events(task, 120))
    before = digest(model)
    for x, _ in events(task, 20, seed=9):
        model.predict_one({**x, "new": 3.0, "day": "never"})
    assert digest(model) == before


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_the_task_the_pickle_and_the_clone_fit(name: str, task: str) -> None:
    model = build(name, task, {}, 1)
    assert isinstance(model, base.Regressor if task == "regression" else base.Classifier)
    assert task != "multiclass" or model._multiclass
    assert digest(pickle.loads(pickle.dumps(model))) == digest(model)
    quality(model.clone(), task, events(task, 30))


@pytest.mark.parametrize("name", ["hoeffding_adaptive_tree", "adaptive_random_forest", "streaming_random_patches"])
def test_the_seed_is_what_draws(name: str) -> None:
    rows = events("binary", 250)
    made = {seed: build(name, "binary", small(name), seed) for seed in (1, 2)}
    for model in made.values():
        quality(model, "binary", rows)
    same = build(name, "binary", small(name), 1)
    quality(same, "binary", rows)
    assert digest(same) == digest(made[1]) != digest(made[2])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_recipe_is_the_same_under_any_hash_seed_and_through_pickles() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "4711")
    ]
    runs = []
    for process in running:
        with process:
            printed, complaint = process.communicate(timeout=250)
        assert process.returncode == 0, complaint
        runs.append(printed.splitlines())
    assert len(runs[0]) == len(PAIRS)
    for one, other in zip(*runs, strict=True):
        assert one == other
        name, task, predictions, model, again_predictions, again_model = one.split()
        assert (predictions, model) == (again_predictions, again_model), (name, task)


def electricity(n: int) -> list[tuple[dict[Any, Any], bool]]:
    folder = os.environ.get("STREAMLEARN_DATA")
    if not folder:
        pytest.skip("STREAMLEARN_DATA is not set: the electricity stream is not at hand")
    rows = []
    with gzip.open(Path(folder) / "electricity" / "elecNormNew.csv.gz", "rt") as file:
        for row, _ in zip(csv.DictReader(file), range(n), strict=False):
            label = row.pop("class")
            del row["date"]
            rows.append(({name: float(value) for name, value in row.items()}, label == "UP"))
    return rows


@pytest.mark.slow
def test_on_electricity_the_logistic_recipe_is_no_worse_than_scaler_and_model() -> None:
    rows = electricity(8000)
    bare = quality(preprocessing.StandardScaler() | linear_model.LogisticRegression(), "binary", rows)
    assert quality(build("logistic", "binary", {}, 1), "binary", rows) > bare - 0.005


# --- mistakes, and the user's own pipelines -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pipeline", "task", "params", "says"),
    [
        ("logistc", "binary", {}, ["no recipe 'logistc'", "did you mean logistic?"]),
        ("hoeffding", "binary", {}, ["did you mean hoeffding_tree", "package.module:function"]),
        ("zzz", "binary", {}, ["write one of logistic, softmax"]),
        ("linear", "binary", {}, ["'linear' is for regression, not for binary", "write one of logistic", "naive_bayes"]),
        ("logistic", "regression", {}, ["for binary or multiclass, not for regression", "linear"]),
        ("logistic", "binary", {"learning_rat": 1}, ["'logistic'", "no parameter 'learning_rat'", "did you mean 'learning_"]),
        ("alma", "binary", {"q": 1}, ["no parameter 'q'", "alpha, clip, max_categories, max_features"]),
        ("logistic", "binary", {"learning_rate": "fast"}, ["learning_rate is 'fast'", "write a number", "default is 0.01"]),
        ("logistic", "binary", {"learning_rate": -1}, ["learning_rate is -1", "from 1e-09 to 10"]),
        ("logistic", "binary", {"clip": math.nan}, ["clip is nan", "of at least 1"]),
        ("logistic", "binary", {"clip": True}, ["clip is True"]),
        ("adaptive_random_forest", "binary", {"n_models": 2.5}, ["n_models is 2.5", "a whole number from 1 to 1000"]),
        ("adaptive_random_forest", "binary", {"n_models": 0}, ["n_models is 0"]),
    ],
)
def test_a_mistake_is_named_with_its_mending(pipeline: str, task: str, params: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        build(pipeline, task, params, 1)
    for words in says:
        assert words in str(caught.value)


def test_parameters_arrive() -> None:
    model = build("logistic", "binary", {"learning_rate": 0.5, "l2": 0.1, "clip": 3, "max_categories": 5}, 1)
    assert (model["OneHot"].clip, model["OneHot"].max_categories) == (3, 5)
    assert model["LogisticRegression"].optimizer.lr.learning_rate == 0.5
    assert model["LogisticRegression"].l2 == 0.1
    assert build("adaptive_random_forest", "regression", {"n_models": 4}, 9)["ScaledTarget"].regressor.n_models == 4


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_every_parameter_may_be_given_at_its_least(name: str, task: str) -> None:
    params = {key: param.least for key, param in RECIPES[name].params.items()}
    quality(build(name, task, params, 1), task, events(task, 60))


OWN = """
from river import linear_model, preprocessing, tree

number = 3

def plain():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()

def seeded(depth, seed):
    return tree.HoeffdingAdaptiveTreeClassifier(max_depth=depth, seed=seed)

def anything(**settings):
    return tree.HoeffdingAdaptiveTreeClassifier(**settings)

def regressor():
    return preprocessing.StandardScaler() | linear_model.LinearRegression()

def scaler():
    return preprocessing.StandardScaler()

def text():
    return "a model"

def a_class():
    return linear_model.LogisticRegression

def broken():
    raise ValueError("the file is missing")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_pipelines.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("1 / 0\n")
    (tmp_path / "own_needy.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("own_pipelines", "own_broken", "own_needy"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("own")
def test_an_import_path_is_called_with_the_parameters_and_the_seed_if_it_takes_it() -> None:
    assert isinstance(build("own_pipelines:plain", "binary", {}, 5), base.Classifier)
    assert isinstance(build("own_pipelines:regressor", "regression", {}, 5), base.Regressor)
    model: Any = build("own_pipelines:seeded", "multiclass", {"depth": 4}, 5)
    assert (model.max_depth, model.seed) == (4, 5)
    model = build("own_pipelines:anything", "binary", {"grace_period": 50}, 5)
    assert (model.grace_period, model.seed) == (50, 5)
    assert build("own_pipelines:seeded", "binary", {"depth": 4, "seed": 8}, 5).seed == 8
    assert isinstance(build("river.tree:HoeffdingTreeClassifier", "binary", {}, 5), base.Classifier)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("path", "task", "params", "says"),
    [
        ("no_such_module:make", "binary", {}, ["there is no module 'no_such_module'", "PYTHONPATH"]),
        ("own_needy:make", "binary", {}, ["there is no module 'no_such_package'", "install it"]),
        ("own_broken:make", "binary", {}, ["importing own_broken raised ZeroDivisionError"]),
        ("own_pipelines:plane", "binary", {}, ["own_pipelines has no 'plane'", "did you mean 'plain'?"]),
        ("own_pipelines:qqq", "binary", {}, ["define it in own_pipelines"]),
        ("own_pipelines:", "binary", {}, ["is not an import path", "package.module:function"]),
        (":make", "binary", {}, ["is not an import path"]),
        ("own_pipelines:number", "binary", {}, ["is a int, not a function"]),
        ("own_pipelines:text", "binary", {}, ["returned a str, not a river estimator"]),
        ("own_pipelines:a_class", "binary", {}, ["returned the class LogisticRegression", "return an instance"]),
        ("own_pipelines:broken", "binary", {}, ["raised ValueError: the file is missing"]),
        ("own_pipelines:plain", "binary", {"depth": 3}, ["unexpected keyword argument 'depth'", "plain()"]),
        ("own_pipelines:seeded", "binary", {}, ["missing a required argument: 'depth'", "seeded(depth, seed)"]),
        ("own_pipelines:regressor", "binary", {}, ["returned a regressor (LinearRegression)", "needs a classifier"]),
        ("own_pipelines:plain", "regression", {}, ["returned a classifier (LogisticRegression)", "needs a regressor"]),
        ("own_pipelines:scaler", "binary", {}, ["returned a transformer (StandardScaler)", "as the last step"]),
        ("own_pipelines:plain", "multiclass", {}, ["a classifier of two classes", "OneVsRestClassifier"]),
    ],
)
def test_a_mistake_in_a_users_pipeline_is_named(path: str, task: str, params: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        build(path, task, params, 1)
    for words in says:
        assert words in str(caught.value)
