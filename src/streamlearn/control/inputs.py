"""What the machine decides about the input: hold on what is broken, resume when it has healed, tell of features that drift.

    broken    ▶ held by "diagnosis" ─ healed ▶ resumed by "diagnosis" ▶ detectors_reset, once the model is steady
    broken, and a drift was confirmed ▶ broken_input: the case ends without a retrain
    other features ▶ a case of its own, see `contract`
    flagged   ▶ feature_drift, once for each feature and episode. It alone never retrains

A hold by a person is never ended here, and a hold by a diagnosis is whoever's who holds the model after it. To resume a model
that a diagnosis holds is to accept its input: from then on, that is what the features are compared with.
"""

from __future__ import annotations

from typing import Any, Final

from ..config import FeatureSettings, ModelSettings
from ..drift.diagnose import BROKEN, Diagnosis, Evidence, diagnose
from ..records import Decision
from .contract import open_contract, unanswered
from .fold import FITTING
from .rewind import refuse_resume
from .seen import Inputs
from .state import Case, Phase, State
from .steps import decision
from .world import World

BY: Final = "diagnosis"
TOLD: Final = 20  # features in one decision
PICTURED: Final = 10  # of those, with their histograms


def judge_inputs(state: State, world: World, settings: ModelSettings) -> Decision | None:
    """The next decision that the input calls for, or None."""
    features, case = settings.drift.features, state.case
    if not features.enabled:
        return None
    inputs = world.inputs
    hold = _hold(state, world, inputs, features)
    if hold is not None:
        return hold
    if case is not None and case.kind == "drift" and state.phase in FITTING and _is_broken(state, case):
        return _end(state, case, world, follow=features.contract == "follow")
    if state.unsettled and state.phase == Phase.STEADY and state.broken is None:
        why = "the losses of broken input are no news: the detectors begin afresh"
        numbers = {"command": {"verb": "reset", "confirmed": False}}
        return decision(state, world, "detectors_reset", why=why, by=BY, numbers=numbers)
    if state.broken is not None:
        return None
    changed = open_contract(state, world, settings)
    return changed if changed is not None or inputs is None else _tell(state, world, inputs, features)


def diagnosed(state: State, case: Case, world: World) -> tuple[Diagnosis, list[dict[str, Any]]] | None:
    """What came with the loss of the case's alarm, by what is to be seen now, and the features that it names, see
    `Inputs.named`; None where nothing is known. Raises LogError."""
    inputs = world.look_now()
    if inputs is None:
        return None
    first, end = world.bounds(case.shard)
    change = max(case.change_offset, first)
    changed_at = world.time_at(case.shard, change) if change < end else world.now
    found = inputs.diagnosis(changed_at, state.drifted, unanswered(state, inputs))
    return None if found is None else (found, inputs.named(found.features))


def _hold(state: State, world: World, inputs: Inputs | None, features: FeatureSettings) -> Decision | None:
    if state.broken is not None:
        if state.held is None:  # a swap of versions has ended the hold, but the input is what it was
            return _held(state, world, state.broken)
        if inputs is not None and inputs.sound >= features.heal_looks:
            why = f"healed: {inputs.sound} windows in a row are like the reference; held was for: {state.broken['why']}"
            mode, cannot = features.heal_mode, refuse_resume(state, features.heal_mode, world)
            if cannot:
                mode, why = "skip", f"{why}; what was held is skipped: {cannot}"
            numbers = {"healed": True, "sound": inputs.sound, "command": {"verb": "resume", "mode": mode}}
            return decision(state, world, "resumed", why=why, by=BY, numbers=numbers)
        return None
    if inputs is None or not inputs.broken or not features.hold or state.held is not None:
        return None
    found = diagnose(Evidence(False, inputs.broken))
    assert found is not None
    findings = [finding._asdict() for finding in inputs.broken[:TOLD]]
    return _held(state, world, {**found._asdict(), "findings": findings, "since": inputs.began})


def _held(state: State, world: World, diagnosis: dict[str, Any]) -> Decision:
    why = f"broken input, {diagnosis['kind']}: {diagnosis['why']}"
    numbers = {"diagnosis": diagnosis, "command": {"verb": "hold", "reason": why}}
    return decision(state, world, "held", why=why, by=BY, numbers=numbers)


def _is_broken(state: State, case: Case) -> bool:
    return state.broken is not None or (case.diagnosis or {}).get("kind") in BROKEN


def _end(state: State, case: Case, world: World, follow: bool) -> Decision:
    diagnosis = state.broken or case.diagnosis or {}
    why = f"broken input is not learned, so there is no retrain: {diagnosis['why']}"
    if follow and state.broken is None and diagnosis["kind"] == "schema_break":
        why = f"it rose with the features, whose change is to be a case of its own: {diagnosis['why']}"
    numbers = {
        "diagnosis": {name: diagnosis[name] for name in Diagnosis._fields}, "command": {"verb": "reset", "confirmed": False}
    }  # fmt: skip
    return decision(state, world, "broken_input", version=case.version, why=why, by=BY, numbers=numbers)


def _tell(state: State, world: World, inputs: Inputs, features: FeatureSettings) -> Decision | None:
    look = inputs.look
    if look is None or not look.settled:
        return None
    calm_at = look.calm_at
    known = {name for name, at in state.drifted.items() if calm_at is None or at > calm_at}
    fresh = [shift for shift in look.shifts if shift.name in look.flagged and shift.name not in known][:TOLD]
    if not fresh:
        return None
    numbers = {
        "features": [shift.doc() for shift in fresh], "at": look.at, "calm_at": calm_at, "looks": look.looks, "q": features.q,
        "histograms": {shift.name: look.histograms[shift.name] for shift in fresh[:PICTURED] if shift.name in look.histograms},
    }  # fmt: skip
    names = ", ".join(repr(shift.name) for shift in fresh)
    why = f"{names} changed, false with a chance of at most {features.q:g}; the model is not retrained for that alone"
    return decision(state, world, "feature_drift", case="", why=why, numbers=numbers)
