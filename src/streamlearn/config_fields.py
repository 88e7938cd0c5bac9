"""What every table of settings is made of: the kinds of numbers, and that nothing in it may change or be unknown."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

Task = Literal["binary", "multiclass", "regression", "recommend"]
Positive = Annotated[float, Field(gt=0, strict=True)]
NotNegative = Annotated[float, Field(ge=0, strict=True)]
Whole = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]
Margin = Annotated[float, Field(ge=0, lt=1, strict=True)]  # of a loss in [0, 1]
FROZEN: Final = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)
