"""What every built-in policy is made of: checked parameters, and choices that say all that an audit needs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from streamlearn.config_fields import FROZEN

from .policy import Choice, Seen

Number = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


class Builtin(BaseModel):
    """A policy whose fields are its parameters. What it is called, and what it is to be shown, stands in its class."""

    model_config = FROZEN

    name: ClassVar[str]
    evidence: ClassVar[bool] = False
    sample: ClassVar[int] = 0

    @property
    def gated(self) -> bool:
        """Whether it answers confirmed drifts alone."""
        return False

    def params(self) -> dict[str, Any]:
        """What it was called with, JSON-able; what was left out stands there with its default."""
        return self.model_dump(mode="json", exclude_none=True)


def choice(seen: Seen, retrain: bool, total: float, threshold: float, why: str, settled: bool = False, **more: Any) -> Choice:
    """A Choice with the numbers that all have in common; `more` are a policy's own, and win."""
    numbers = {
        "sum": float(total),
        "threshold": float(threshold),
        "kappa": float(seen.kappa),
        "reference": seen.reference,
        "batches": len(seen.batches),
        "labelled": int(seen.labelled),
        **more,
    }
    return Choice(bool(retrain), float(total), float(threshold), why, settled, numbers)
