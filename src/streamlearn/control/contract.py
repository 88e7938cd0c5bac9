"""A changed data contract: features that came, went, or changed their type, and the case that brings in a version with them.

    appeared           ▶ case "contract", once heal_looks windows in a row have it
    vanished, type     ▶ with contract = "follow" likewise; with "hold" when a person resumes the model that was held for it

Such a case is fitted from where the change began, on the types that the features have now, and its version may serve when it
is not worse. Each change has one case, whatever comes of it, for as long as the reference of the features is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..config import ModelSettings
from ..drift.contract import APPEARED, SCHEMA, Agreed, change_of
from ..drift.features import Finding
from ..records import Decision
from .seen import Inputs
from .state import Case, Phase, State
from .steps import decision
from .world import World

KIND: Final = "contract"
REFUSED: Final = "feature_type"  # the reason of dead letters for events with a feature of another type


def open_contract(state: State, world: World, settings: ModelSettings) -> Decision | None:
    """The case of changes that have had none; not while the model is busy or held."""
    if state.phase != Phase.STEADY or state.held is not None or not settings.drift.features.enabled:
        return None
    due = state.accepted or _agreed(state, world.inputs, settings)
    if due is None:
        return None
    starts = {str(shard): world.offset_at(shard, due["since"]) for shard in state.shards}
    why = f"the features are other ones: {', '.join(map(_text, due['changes'][:5]))}"
    if len(due["changes"]) > 5:
        why += f" and {len(due['changes']) - 5} more"
    numbers = {"kind": KIND, "changes": due["changes"], "since": due["since"], "starts": starts, "change_n": due["n"]}
    return decision(state, world, "case_opened", case=f"{state.name}-{state.cases + 1}", why=why, numbers=numbers)


def _agreed(state: State, inputs: Inputs | None, settings: ModelSettings) -> dict[str, Any] | None:
    found = [one for one in _news(state, inputs, settings) if one.looks >= settings.drift.features.heal_looks]
    if not found:
        return None
    since, n = min(one.since for one in found), max(one.n for one in found)
    return {"changes": [one.change.doc() for one in found], "since": since, "n": n}


def _news(state: State, inputs: Inputs | None, settings: ModelSettings) -> list[Agreed]:
    """What the last block shows that is to have a case by itself, and has had none."""
    follow = settings.drift.features.contract == "follow"
    seen = () if inputs is None else inputs.changes
    return [
        one for one in seen if (follow or one.change.what == APPEARED) and _key(one.change.doc()) not in state.contract
    ]  # fmt: skip


def explains(state: State, inputs: Inputs | None, settings: ModelSettings) -> bool:
    """Whether features went or changed their type of late, and have had no case: a loss that rises with it is no news."""
    return any(one.change.what != APPEARED for one in _news(state, inputs, settings))


def unanswered(state: State, inputs: Inputs) -> tuple[Finding, ...]:
    """The findings that may lie behind a rise of the loss: not those whose change has had its case."""
    found = [(finding, change_of(finding)) for finding in inputs.findings]
    return tuple(finding for finding, change in found if change is None or _key(change.doc()) not in state.contract)


def types_now(state: State, inputs: Inputs | None, settings: ModelSettings) -> dict[str, str]:
    """What is known of the types that features have come to have, by name: what a fit goes by, wherever its window begins."""
    seen = _news(state, inputs, settings)
    return state.types | {one.change.feature: one.change.now for one in seen if one.change.what == "type"}


def accepts(state: State) -> bool:
    """Whether to resume the model is to accept other features: then it has to go on without those of another type."""
    found = () if state.broken is None else state.broken.get("findings", ())
    return any(one["what"] in SCHEMA or (one["what"], one["feature"]) == ("dead_letters", REFUSED) for one in found)


# The fold.


def opened(state: State, case: Case, numbers: Mapping[str, Any]) -> None:
    """A contract case was opened."""
    case.changes = list(numbers["changes"])
    case.starts = {int(shard): int(offset) for shard, offset in numbers["starts"].items()}
    case.change_n = int(numbers["change_n"])
    state.accepted = None
    state.contract |= {_key(change) for change in case.changes}
    for change in case.changes:
        if change["what"] == "vanished":
            state.types.pop(change["feature"], None)
        else:
            state.types[change["feature"]] = change["is"]


def resumed(state: State, decided: Decision) -> None:
    """A person has resumed a model that was held for broken input: what changed in its features is meant."""
    broken = state.broken if decided.numbers.get("command", {}).get("accepts") else None
    found = [] if broken is None else [change_of(Finding(**finding)) for finding in broken.get("findings", ())]
    changes = [change.doc() for change in found if change is not None]
    if broken is not None and changes:
        state.accepted = {"changes": changes, "since": broken["since"], "n": decided.n}


def _key(change: Mapping[str, str]) -> tuple[str, str, str]:
    return change["feature"], change["what"], change["is"]


def _text(change: Mapping[str, str]) -> str:
    match change["what"]:
        case "appeared":
            return f"{change['feature']!r} came, a {change['is']}"
        case "vanished":
            return f"{change['feature']!r} no longer comes"
    return f"{change['feature']!r} was a {change['was']} and is a {change['is']}"
