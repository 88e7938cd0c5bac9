"""Whether a retrain is worth its price now: the configured policies are asked, and what they say becomes a decision.

    confirmed drift ▶ a policy says retrain                 ▶ retrain_started, with the sum that decided
                      none does                             ▶ retrain_kept; asked again at each batch that comes
                      all gated ones say that it has
                      settled, or there is none of them     ▶ retrain_kept, and the case is closed
    steady          ▶ a policy that is not gated says so    ▶ case_opened, of the kind "policy"

A person's request passes over all of them. `Panel` asks each policy once for a batch, and clocks once a second. One that
raises, or says what cannot be written down, counts as keeping the model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..config import ModelSettings, Settings
from ..records import Decision
from ..retrain.policies import policies_of
from ..retrain.policy import Choice, Policy, Seen
from .state import Case, Phase, State
from .steps import PATIENCE_S, decision, labelled, reset
from .world import Said, World, words

logger = logging.getLogger("streamlearn.control")


class Panel:
    """The policies of every model, built once. Raises ConfigErrors for those that cannot be."""

    def __init__(self, settings: Settings) -> None:
        self._policies = {
            name: policies_of(model.retrain, f"models.{name}.retrain") for name, model in settings.models.items()
        }
        self._said: dict[str, tuple[tuple[Any, ...], list[Said]]] = {}
        self._failed: dict[tuple[str, str], str] = {}  # by model and policy: how it failed last

    def ask(self, state: State, now: float) -> Sequence[Said]:
        """What the model's policies say of what was seen by now; those that answer confirmed drifts only while one waits."""
        policies, settings = self._policies.get(state.name, []), state.settings
        if settings is None or not policies:
            return []
        waits = state.phase == Phase.CONFIRMED and state.case is not None and state.case.confirmed is not None
        asked_at = (waits, state.course.taken, state.cases, int(now))
        known = self._said.get(state.name)
        if known is not None and known[0] == asked_at:
            return known[1]
        said = [
            self._say(state.name, policy, _seen(state, settings, now, policy.gated))
            for policy in policies
            if waits or not policy.gated
        ]
        self._said[state.name] = asked_at, said
        return said

    def _say(self, model: str, policy: Policy, seen: Seen) -> Said:
        try:
            said = Said(policy, policy.decide(seen))
            msgspec.json.encode(said.doc())
        except Exception as error:  # the policy may be anybody's, and must not end control
            why = f"it failed, and counts as keeping the model: {error!r}"
            if self._failed.get((model, policy.name)) != why:
                logger.error("a retrain policy failed", extra={"model": model, "policy": policy.name, "error": repr(error)})
                self._failed[model, policy.name] = why
            return Said(policy, Choice(False, 0.0, seen.kappa, why))
        return said


def judge_drift(state: State, case: Case, world: World, settings: ModelSettings) -> Decision | dict[str, Any] | None:
    """What the policies make of a confirmed drift: the numbers of a retrain, a decision to keep it, None for neither yet.

    Drift alone is asked about, and only before the first attempt: what was decided is carried out.
    """
    if case.confirmed is None or case.attempt:
        return {}
    said = world.choices
    for one in said:
        if one.choice.retrain:
            return {"policy": one.doc(), **_cost(settings)}
    gated = [one for one in said if one.policy.gated]
    over = bool(gated) and all(one.choice.settled for one in gated)
    late = world.up_to_date and world.now - state.since > PATIENCE_S + 2 * settings.label_wait_s
    final = not gated or over or late
    if not final and case.kept:
        return None
    if not gated:
        why = "no policy of the model answers a confirmed drift: a person, or another policy, has it retrained"
    else:
        why = words(said)
    numbers: dict[str, Any] = {"final": final, "policies": [one.doc() for one in said], **_cost(settings)}
    if final:
        numbers |= {"command": reset(case), "settled": over}
        why = f"{why}; the case is closed"
    return decision(state, world, "retrain_kept", why=why, numbers=numbers)


def open_policy(state: State, world: World, settings: ModelSettings) -> Decision | None:
    """The case of a policy that wants a retrain of a steady model."""
    least = min(labelled(state, world, shard) for shard in state.shards)  # each of them is fitted on its own
    if state.held is not None or state.broken is not None or least < settings.retrain.min_events:
        return None
    for one in world.choices:
        if one.choice.retrain:
            numbers = {"kind": "policy", "policy": one.doc(), "evidence": one.policy.evidence, **_cost(settings)}
            why = f"the policy {one.policy.name} asks for a retrain: {one.choice.why}"
            return decision(state, world, "case_opened", case=f"{state.name}-{state.cases + 1}", why=why, numbers=numbers)
    return None


def _cost(settings: ModelSettings) -> Mapping[str, Any]:
    cost = settings.retrain.cost
    return {"cost": {"retrain": cost.retrain, "loss": cost.loss, "unit": cost.unit, "kappa": cost.kappa}}


def _seen(state: State, settings: ModelSettings, now: float, gated: bool) -> Seen:
    course, case = state.course, state.case
    kappa, seed = settings.retrain.cost.kappa, settings.seed + state.cases
    if gated and case is not None:
        return Seen(case.batches, course.reference, kappa, now, state.since, case.confirmed, seed)
    return Seen(course.batches, course.reference, kappa, now, course.since, None, seed, first=not course.retrained)
