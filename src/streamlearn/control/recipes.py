"""The part of the fold that keeps account of what each version was made of, and of learners that read everything again."""

from __future__ import annotations

from ..lineage import recipe_of, recipe_of_fit, recipe_of_search
from ..records import Claim, Decision
from .state import Case, State


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


def found(state: State, case: Case, decision: Decision) -> None:
    """A fit has ended: what a search before it found is what the version is made of, and is fitted again when need be."""
    told = decision.numbers.get("search")
    if told is None:
        return
    case.searched = recipe_of(told["recipe"])
    case.fit = {**case.fit, "seed": case.searched["seed"], "settings": {**case.fit["settings"], **case.searched}}
    version = case.version or 0
    state.recipes[version] = recipe_of_search(decision.numbers, state.recipes.get(version, {}))


def rebuilt(state: State, offset: int, decision: Decision) -> None:
    """A shard's rebuild was answered."""
    state.rebuilt[decision.numbers["shard"]] = decision.numbers["generation"]
