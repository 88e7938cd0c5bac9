"""What decisions about holds and the input change in a model's state; a part of `fold`. Nothing is decided here."""

from __future__ import annotations

from ..records import Decision
from . import contract
from .state import State


def begins_anew(state: State, decision: Decision) -> None:
    """What comes from now on is what the features are compared with: another version serves, or a person accepts it."""
    state.input_since = decision.at
    state.drifted = {}
    state.contract = set()


def held(state: State, offset: int, decision: Decision) -> None:
    """Held by a diagnosis, which says what is broken; or by somebody else, who then is the one to end it."""
    state.held, state.held_at, state.held_by_learner = decision.why, offset, None
    state.broken = decision.numbers.get("diagnosis")


def resumed(state: State, offset: int, decision: Decision) -> None:
    """Healed: the reference is good still, unless it would have begun in what was broken. Else a person accepts what comes."""
    state.held = state.held_by_learner = None
    contract.resumed(state, decision)
    if state.broken is not None:
        if not decision.numbers.get("healed") or state.input_since > state.broken["since"]:
            begins_anew(state, decision)
        state.unsettled = True
    state.broken = None


def feature_drift(state: State, offset: int, decision: Decision) -> None:
    """These features have been told of. Those whose episode is over may be again."""
    state.drifted = _still(state, decision) | dict.fromkeys(_names(decision), decision.numbers["at"])


def fits(state: State, decision: Decision) -> bool:
    """Whether the decision fits: a person's hold stands, and drift is told of where it is news."""
    match decision.kind:
        case "held":
            return state.held is None or (state.held_by_diagnosis and "diagnosis" not in decision.numbers)
        case "resumed":
            return state.held is not None and (state.held_by_diagnosis or not decision.numbers.get("healed"))
        case "detectors_reset":
            return state.unsettled
    return not _names(decision).keys() <= _still(state, decision).keys()


def detectors_reset(state: State, offset: int, decision: Decision) -> None:
    """They begin afresh."""
    state.unsettled = False


def _names(decision: Decision) -> dict[str, None]:
    return {feature["name"]: None for feature in decision.numbers["features"]}


def _still(state: State, decision: Decision) -> dict[str, float]:
    calm_at = decision.numbers["calm_at"]
    return {name: at for name, at in state.drifted.items() if calm_at is None or at > calm_at}
