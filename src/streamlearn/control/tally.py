"""How often each kind of decision was made about each model, and how long its fits took: counted from the control log itself.

The log is folded from its beginning by every process, so these are the same whoever counts them, and only grow.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from ..buckets import RETRAIN_S, Buckets
from ..records import Decision
from .state import State


class Tally:
    """Of all models."""

    def __init__(self) -> None:
        self._kinds: dict[str, Counter[str]] = {}
        self._fits: dict[str, Buckets] = {}

    def add(self, decision: Decision) -> None:
        """Count a decision that took effect."""
        self._kinds.setdefault(decision.model, Counter())[decision.kind] += 1
        took = decision.numbers.get("took_s")
        if decision.kind == "retrained" and took is not None:
            self._fits.setdefault(decision.model, Buckets.of(RETRAIN_S)).add(float(took))

    def doc(self, state: State) -> dict[str, Any]:
        """What a model's document has of it, and how its open case and its trial stand."""
        fits, trial = self._fits.get(state.name), state.trial_numbers
        return {
            "decisions": dict(self._kinds.get(state.name, {})),
            "fits_s": None if fits is None else msgspec.to_builtins(fits),
            "case_opened_at": None if state.case is None else state.case.opened_at,
            "trial": {name: trial[name] for name in ("e", "peak", "threshold", "events")} if trial else None,
        }
