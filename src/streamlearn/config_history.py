"""The settings of the history: how often the models' figures are taken, and for how long each step of it is kept."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, Field, model_validator

from .config_fields import FROZEN, Count, Positive, Whole

MAX_KEEP_DAYS: Final = 3660


class HistorySettings(BaseModel):
    model_config = FROZEN
    every_s: Annotated[float, Field(ge=1, le=10, strict=True)] = 10
    fine_hours: Positive = 6
    middle_days: Positive = 3
    coarse_days: Count = 31
    max_features: Whole = 20

    @model_validator(mode="after")
    def _coarser_is_kept_longer(self) -> HistorySettings:
        if self.middle_days * 24 < self.fine_hours:
            raise ValueError(
                f"middle_days: {self.middle_days:g} is less than fine_hours, {self.fine_hours:g} hours; keep minutes for longer"
            )
        if self.coarse_days < self.middle_days:
            raise ValueError(
                f"coarse_days: {self.coarse_days} is less than middle_days, {self.middle_days:g}; "
                "keep quarters of an hour for longer"
            )
        if self.coarse_days > MAX_KEEP_DAYS:
            raise ValueError(f"coarse_days: {self.coarse_days} is more than ten years; write {MAX_KEEP_DAYS} at most")
        return self
