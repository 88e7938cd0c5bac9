"""The settings of a trial: its test, its guardrails, its slices. What a model's task has no metric for, `wrong_metric` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, model_validator

from .config_fields import FROZEN, Count, Margin, NotNegative, Share, Task, Whole

MAX_SLICED: Final = 8  # features; each may have two dozen values, and each of those is tested
GUARDED: Final[Mapping[Task, tuple[str, ...]]] = {
    "binary": ("accuracy", "log_loss", "brier", "positive_rate"),
    "multiclass": ("accuracy", "log_loss"),
    "regression": ("mae", "rmse"),
    "recommend": (),
}
SHARES: Final = frozenset({"accuracy", "brier", "positive_rate"})  # metrics that lie in [0, 1]


class GuardrailSettings(BaseModel):
    model_config = FROZEN
    metric: Literal["accuracy", "log_loss", "brier", "positive_rate", "mae", "rmse"]
    direction: Literal["lower", "higher", "both"] | None = None
    absolute: NotNegative = 0
    relative: Margin = 0

    @property
    def better(self) -> str:
        """Where better lies: as given, or as the metric has it."""
        return self.direction or {"accuracy": "higher", "positive_rate": "both"}.get(self.metric, "lower")

    @model_validator(mode="after")
    def _row_means_something(self) -> GuardrailSettings:
        own = {"accuracy": "higher", "positive_rate": self.better}.get(self.metric, "lower")
        if self.better != own:
            raise ValueError(f"direction: of {self.metric}, {own} is better, not {self.better}; write {own!r}, or leave it out")
        if not self.absolute and not self.relative:
            raise ValueError("absolute: nothing is allowed, so chance alone would break it; write absolute or relative above 0")
        if self.metric in SHARES and self.absolute >= 1:
            raise ValueError(f"absolute: {self.metric} lies in [0, 1], so it never falls by as much; write a number below 1")
        return self


class TrialSettings(BaseModel):
    model_config = FROZEN
    alpha: Share = 0.05
    tolerance: Margin = 0.01
    min_block: Count = 10
    min_events: Count = 1000
    horizon_events: Count = 50_000
    watch_events: Whole = 5000
    canary: tuple[Share, ...] = (0.1, 0.5)
    canary_events: Count = 300
    canary_s: NotNegative = 2
    guardrails: tuple[GuardrailSettings, ...] = ()
    slices: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=MAX_SLICED)] = ()

    @property
    def table(self) -> list[dict[str, Any]]:
        """The guardrails as rows of metric, direction, absolute, relative: JSON-able."""
        return [
            {"metric": row.metric, "direction": row.better, "absolute": row.absolute, "relative": row.relative}
            for row in self.guardrails
        ]

    @model_validator(mode="after")
    def _trial_can_end(self) -> TrialSettings:
        if self.horizon_events < self.min_events:
            raise ValueError(
                f"horizon_events: {self.horizon_events} is below min_events, {self.min_events}, "
                "so no trial could be won; write a larger one"
            )
        if list(self.canary) != sorted(set(self.canary)):
            raise ValueError(f"canary: the shares {list(self.canary)} do not rise; write them in order, each once")
        if (needed := len(self.canary) * self.canary_events) > self.horizon_events:
            raise ValueError(f"canary_events: the canary needs {needed} events, more than horizon_events; write fewer")
        return self

    @model_validator(mode="after")
    def _each_is_given_once(self) -> TrialSettings:
        metrics: list[str] = [row.metric for row in self.guardrails]
        for name, given in (("guardrails", metrics), ("slices", list(self.slices))):
            twice = [one for one in given if given.count(one) > 1]
            if twice:
                raise ValueError(f"{name}: {twice[0]} is given twice; list each once")
        return self


def wrong_metric(task: Task, trial: TrialSettings) -> str | None:
    """The first guardrail that a model of this task cannot have, and what it may have; None when all fit."""
    for row in trial.guardrails:
        if row.metric not in GUARDED[task]:
            if not GUARDED[task]:
                return f"trial.guardrails: the trial of a {task} model is judged by reward alone; remove it"
            return f"trial.guardrails: a {task} model has no {row.metric} to guard; write one of {list(GUARDED[task])}"
    if task == "recommend" and trial.slices:
        return "trial.slices: a recommend model's trial is judged by user, and has no slices; remove the key"
    return None
