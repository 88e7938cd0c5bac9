"""The settings of trials: guardrails that mean something for the task, slices within bounds."""

from __future__ import annotations

import tomllib

import pytest

from streamlearn.config import ConfigErrors, ModelSettings, parse

MODEL = '[streams.s]\n[models.m]\nstream = "s"\ntask = "{task}"\npipeline = "logistic"\n[models.m.trial]\n'


def model(text: str, task: str = "binary") -> ModelSettings:
    return parse(tomllib.loads(MODEL.format(task=task) + text), {}).models["m"]


def error(text: str, task: str = "binary") -> str:
    with pytest.raises(ConfigErrors) as caught:
        model(text, task)
    assert len(caught.value.errors) == 1
    return str(caught.value.errors[0])


def test_without_any_a_trial_asks_for_nothing_but_losses() -> None:
    assert (model("").trial.table, model("").trial.slices) == ([], ())


def test_a_table_of_guardrails() -> None:
    made = model(
        '[[models.m.trial.guardrails]]\nmetric = "log_loss"\nabsolute = 0.02\nrelative = 0.05\n'
        '[[models.m.trial.guardrails]]\nmetric = "accuracy"\nabsolute = 0.01\n'
        '[[models.m.trial.guardrails]]\nmetric = "positive_rate"\nrelative = 0.2\n'
    )
    assert made.trial.table == [
        {"metric": "log_loss", "direction": "lower", "absolute": 0.02, "relative": 0.05},
        {"metric": "accuracy", "direction": "higher", "absolute": 0.01, "relative": 0},
        {"metric": "positive_rate", "direction": "both", "absolute": 0, "relative": 0.2},
    ]
    assert ModelSettings.model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        ("binary", ["accuracy", "log_loss", "brier", "positive_rate"]),
        ("multiclass", ["accuracy", "log_loss"]),
        ("regression", ["mae", "rmse"]),
    ],
)
def test_each_task_has_its_metrics(task: str, metrics: list[str]) -> None:
    for metric in ("accuracy", "log_loss", "brier", "positive_rate", "mae", "rmse"):
        text = f'guardrails = [{{metric = "{metric}", absolute = 0.5}}]'
        if metric in metrics:
            assert model(text, task).trial.guardrails[0].metric == metric
        else:
            assert f"models.m.trial.guardrails: a {task} model has no {metric} to guard. Write one of ['" in error(text, task)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('guardrails = [{metric = "auc", absolute = 0.5}]', "guardrails.0.metric: 'auc' is not known. Write one of"),
        ('guardrails = [{metric = "brier"}]', "guardrails.0.absolute: nothing is allowed, so chance alone"),
        ('guardrails = [{metric = "brier", absolute = -0.1}]', "guardrails.0.absolute: -0.1 is out of range"),
        ('guardrails = [{metric = "brier", relative = 5.0}]', "guardrails.0.relative: 5.0 is out of range"),
        ('guardrails = [{metric = "brier", absolute = 1.5}]', "guardrails.0.absolute: brier lies in [0, 1]"),
        (
            'guardrails = [{metric = "accuracy", absolute = 0.1, direction = "lower"}]',
            "guardrails.0.direction: of accuracy, higher is better, not lower. Write 'higher', or leave it out",
        ),
        (
            'guardrails = [{metric = "brier", absolute = 0.1}, {metric = "brier", relative = 0.1}]',
            "trial.guardrails: brier is given twice. List each once",
        ),
        ('slices = ["hour", "hour"]', "trial.slices: hour is given twice. List each once"),
        ('slices = [""]', "trial.slices.0: is empty"),
        (f"slices = {[f'f{n}' for n in range(9)]}".replace("'", '"'), "trial.slices"),
    ],
)
def test_what_means_nothing_is_refused_with_its_fix(text: str, wrong: str) -> None:
    assert wrong in error(text)
