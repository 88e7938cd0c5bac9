"""The part of the fold that keeps account of what each version was made of, and of learners that read everything again."""

from __future__ import annotations

from ..lineage import recipe_of_fit
from ..records import Claim, Decision
from .state import State


def claimed(state: State, at: float, claim: Claim) -> None:
    """A learner's claim was appended at `at`: the first one says what version 1 is made of."""
    state.claimed.setdefault(claim.shard, at)
    if claim.recipe:
        state.recipes.setdefault(1, claim.recipe)


def fitting(state: State, decision: Decision) -> None:
    """A fit of a version begins."""
    recipe = recipe_of_fit(decision.numbers, state.recipes)
    if decision.version is not None and recipe:
        state.recipes[decision.version] = recipe


def rebuilt(state: State, offset: int, decision: Decision) -> None:
    """A shard's rebuild was answered."""
    state.rebuilt[decision.numbers["shard"]] = decision.numbers["generation"]
