"""The settings of a recommender: what its actions are worth, how fast it forgets, what it keeps, and how it explores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, model_validator

from .config_fields import FROZEN, Count, NotNegative, Positive, Share, Whole

SOURCES: Final = ("popular", "recent", "covisit", "factors", "content", "segment")
Weight = Annotated[float, Field(strict=True)]
Part = Annotated[float, Field(ge=0, le=1, strict=True)]


class RecommendSettings(BaseModel):
    model_config = FROZEN
    actions: Mapping[str, Weight] = Field(default={"view": 0.1, "click": 1.0, "buy": 5.0, "dislike": -1.0}, min_length=1)
    reward_scale: NotNegative = 0
    k: Count = 10
    factors: Count = 64
    learning_rate: Positive = 0.05
    regularization: NotNegative = 0.01
    half_life_s: Positive = 604_800
    recent_half_life_s: Positive = 21_600
    neighbours: Count = 20
    last_items: Count = 20
    history: Count = 500
    quotas: Mapping[str, Whole] = Field(default={})
    negatives: Count = 5
    rank_every: Count = 1
    exact_items: Count = 50_000
    item_fields: tuple[str, ...] = ()
    separator: str = "|"
    segments: tuple[str, ...] = ()
    window_s: Positive = 1800
    labels: Literal["wait", "at_once"] = "wait"
    explore: Literal["epsilon", "thompson", "none"] = "epsilon"
    epsilon: Part = 0.05
    seen: bool = True
    cap_field: str = ""
    cap: Whole = 0
    diversity: Part = 0.0
    max_users: Count = 1_000_000
    max_items: Count = 1_000_000
    ttl_s: NotNegative = 7_776_000
    unit_impressions: Count = 5
    arm_share: Share = 0.5
    guard_share: Share = 0.1

    @property
    def scale(self) -> float:
        """What a reward is divided by: `reward_scale`, or the largest weight when that is 0."""
        return self.reward_scale or max(self.actions.values())

    @model_validator(mode="before")
    @classmethod
    def _quotas_are_whole(cls, given: Any) -> Any:
        """Quotas that are left out keep their defaults."""
        if isinstance(given, Mapping) and isinstance(given.get("quotas", {}), Mapping):
            return {**given, "quotas": {**QUOTAS, **given.get("quotas", {})}}
        return given

    @model_validator(mode="after")
    def _means_something(self) -> RecommendSettings:
        if unknown := sorted(set(self.quotas) - set(SOURCES)):
            raise ValueError(f"quotas: there is no source {unknown[0]!r}; write some of {list(SOURCES)}")
        if max(self.actions.values()) <= 0:
            raise ValueError("actions: none has a weight above 0, so nothing could be learned; give one a positive weight")
        return self


QUOTAS: Final = {"popular": 50, "recent": 50, "covisit": 100, "factors": 100, "content": 50, "segment": 30}
