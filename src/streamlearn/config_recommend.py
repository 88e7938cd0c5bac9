"""The settings of a model that recommends: what interactions are worth, its candidates and ranking, its slates, its arms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, StrictBool, StrictStr, StringConstraints, field_validator, model_validator

from .config_fields import FROZEN, Count, NotNegative, Positive, Share, Whole

Source = Literal["popular", "recent", "covisit", "factors", "content", "segment"]
Weight = Annotated[float, Field(ge=-1e6, le=1e6, strict=True)]
Part = Annotated[float, Field(ge=0, le=1, strict=True)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=128)]

QUOTAS: Final[Mapping[Source, int]] = {
    "popular": 50,
    "recent": 50,
    "covisit": 100,
    "factors": 100,
    "content": 50,
    "segment": 30,
}
# What the learned state depends on: with another of these a version is made anew, and tried. The others count at once.
LEARNED: Final = (
    "actions", "reward_scale", "factors", "learning_rate", "regularization", "half_life_s", "recent_half_life_s", "neighbours",
    "last_items", "history", "quotas", "negatives", "item_fields", "separator", "segments", "labels", "max_users", "max_items",
    "ttl_s",
)  # fmt: skip
SOURCES: Final = tuple(QUOTAS)  # in the order of a candidate's scores


class RecommendSettings(BaseModel):
    model_config = FROZEN
    actions: Annotated[dict[Name, Weight], Field(max_length=64)] = {"view": 0.1, "click": 1.0, "buy": 5.0, "dislike": -1.0}
    reward_scale: NotNegative = 0
    k: Annotated[int, Field(ge=1, le=1000, strict=True)] = 10
    factors: Annotated[int, Field(ge=1, le=512, strict=True)] = 64
    learning_rate: Positive = 0.05
    regularization: NotNegative = 0.01
    half_life_s: Positive = 345_600
    recent_half_life_s: Positive = 21_600
    neighbours: Count = 100
    last_items: Count = 20
    history: Count = 500
    quotas: dict[Source, Whole] = dict(QUOTAS)
    negatives: Count = 10
    rank_every: Count = 1
    exact_items: Count = 50_000
    item_fields: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    separator: Annotated[str, StringConstraints(strict=True, strip_whitespace=False)] = "| ,;:()"
    segments: Annotated[tuple[Name, ...], Field(max_length=8)] = ()
    window_s: Positive = 1800
    labels: Literal["wait", "at_once"] = "wait"
    explore: Literal["epsilon", "thompson", "none"] = "epsilon"
    epsilon: Part = 0.05
    seen: StrictBool = True
    cap_field: StrictStr = ""
    cap: Whole = 0
    diversity: Part = 0.0
    max_users: Count = 1_000_000
    max_items: Count = 1_000_000
    ttl_s: NotNegative = 7_776_000
    unit_impressions: Count = 5
    arm_share: Share = 0.5
    guard_share: Share = 0.1
    share_every: Whole = 50
    share_s: Positive = 2

    @property
    def parts(self) -> str:
        """What parts the values of a field, by which filters and caps go: of `separator` the first character."""
        return self.separator[:1]

    @property
    def scale(self) -> float:
        """The weight that counts as a whole reward of 1."""
        return self.reward_scale or max(self.actions.values())

    def reward(self, weights: float) -> float:
        """The sum of the weights that an impression earned as a reward in [0, 1]."""
        return min(max(weights / self.scale, 0.0), 1.0)

    def learned(self, settings: RecommendSettings) -> RecommendSettings:
        """These, but as `settings` have it where what was learned depends on it."""
        return self.model_copy(update={name: getattr(settings, name) for name in LEARNED})

    @field_validator("quotas", mode="before")
    @classmethod
    def _others_as_they_are(cls, value: Any) -> Any:
        return {**QUOTAS, **value} if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _something_is_worth_something(self) -> RecommendSettings:
        if not any(weight > 0 for weight in self.actions.values()):
            raise ValueError("actions: none has a weight above 0, so nothing could be learned; write one, such as click = 1.0")
        reserved = [action for action in self.actions if action.startswith("$")]
        if reserved:
            raise ValueError(f"actions: {reserved[0]!r} begins with $, which is kept for $set and $delete; write another name")
        return self

    @model_validator(mode="after")
    def _slates_can_be_made(self) -> RecommendSettings:
        if not any(self.quotas.values()):
            raise ValueError("quotas: every source has 0, so there would be no candidates; write one above 0")
        if self.last_items > self.history:
            raise ValueError(f"last_items: {self.last_items} is above history, {self.history}; write at most as many")
        if (self.cap > 0) != bool(self.cap_field):
            raise ValueError("cap: it caps the items of a slate with the same cap_field; write both, or neither")
        return self
