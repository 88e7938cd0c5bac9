"""Policies as an application may have them, sound and not."""

from __future__ import annotations

from typing import Any

from streamlearn.retrain.policy import Choice, Seen


class Eager:
    """Retrains after so many batches."""

    name, gated, evidence, sample = "eager", False, False, 0

    def __init__(self, after: int = 1) -> None:
        if after < 1:
            raise ValueError("after must be at least 1")
        self.after = after

    def decide(self, seen: Seen) -> Choice:
        return Choice(len(seen.batches) >= self.after, len(seen.batches), self.after, "eager")

    def params(self) -> dict[str, Any]:
        return {"after": self.after}


class Half:
    """Lacks the half of what a policy is."""

    name, gated, sample = "half", "no", True

    def decide(self, seen: Seen) -> Choice:
        return Choice(False, 0, 0, "never")


def the_class() -> type[Eager]:
    return Eager


broken = "no class at all"
