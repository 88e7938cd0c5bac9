"""What is judged between a trial that was won and a promotion that stays: the canary before it, the guard after it.

    trial ─won▶ canary of the first share ─▶ … of the last share ─▶ promote ─▶ guarded by the old champion ─▶ let go
                     └─ worse: trial_lost, which ends the canary        └─ proven better: rollback

Like the machine, it records and changes nothing.
"""

from __future__ import annotations

from ..config import ModelSettings
from ..records import Decision
from .arms import by_users, guarded
from .fold import MAY_GIVE_WAY
from .state import Case, State
from .steps import PATIENCE_S, decision, lose_trial, told
from .world import World


def win_trial(state: State, case: Case, world: World, settings: ModelSettings, why: str) -> Decision:
    """The trial's verdict is for the challenger: the next step of its canary, or, when none is left, the promotion."""
    shares, canary = settings.trial.canary, case.canary
    if by_users(settings):
        shares = ()  # its trial was a canary from the first event on
    elif canary is not None:
        shares = canary.shares
    step = 0 if canary is None else canary.step
    if step == len(shares):
        promote = {"verb": "promote", "version": case.version, **guarded(state, settings)}
        numbers = {**state.trial_numbers, "command": promote}
        return decision(state, world, "trial_won", version=case.version, why=why, numbers=numbers)
    salt = f"{state.name}@{case.version}"
    command = {"verb": "canary", "version": case.version, "share": shares[step], "salt": salt}
    numbers = {
        **state.trial_numbers, "step": step + 1, "shares": list(shares), "salt": salt, "command": command,
    }  # fmt: skip
    said = f"{why}; version {case.version} answers for {shares[step]:.3g} of the keys, step {step + 1} of {len(shares)}"
    return decision(state, world, "canary_started", version=case.version, why=said, numbers=numbers)


def judge_canary(state: State, case: Case, world: World, settings: ModelSettings) -> Decision | None:
    """The next step, the end, or None while more events are needed."""
    order, canary, trial, wanted = state.orders[state.order], case.canary, case.trial, settings.trial
    assert canary is not None
    assert trial is not None
    if case.shadow_failed:
        return lose_trial(state, case, world, f"the challenger failed: {case.shadow_failed}")
    if order.refused:
        return lose_trial(state, case, world, f"the canary was refused: {told(order)}")
    if canary.guard.crossed:
        evidence = f"evidence {canary.guard.peak:.3g} of {canary.guard.threshold:.3g}"
        return lose_trial(state, case, world, f"since the canary began, the champion was better on the same events: {evidence}")
    enough = canary.events >= wanted.canary_events and (not canary.last or trial.events >= wanted.min_events)
    served = world.now - case.canary_at >= wanted.canary_s
    if not order.waiting and not state.held_by_diagnosis and enough and served:
        problem = canary.problem(trial.recent(wanted.min_events)) or "; ".join(trial.objections(wanted.min_events))
        if problem:
            return lose_trial(state, case, world, f"at step {canary.step} of the canary, {problem}")
        why = f"{canary.events} events at {canary.share:.3g} of the keys, {_served(case)}"
        return win_trial(state, case, world, settings, why)
    if case.blocks.events - canary.at >= wanted.horizon_events:
        return lose_trial(state, case, world, f"{wanted.horizon_events} events passed before the canary's end")
    if world.up_to_date and world.now - state.since > PATIENCE_S + 2 * settings.label_wait_s:
        return lose_trial(state, case, world, f"the canary did not end in {world.now - state.since:.0f} s")
    return None


def _served(case: Case) -> str:
    canary = case.canary
    assert canary is not None
    if canary.p is None:
        return f"too few outcomes of its served answers to judge ({canary.challenger.n})"
    return f"{canary.challenger.n} outcomes of its served answers not worse (p {canary.p:.2g})"


def judge_promotion(state: State, world: World) -> Decision | None:
    """A rollback, once the old champion in the shadow has proven better than the version that was promoted over it."""
    guard = state.guard
    if guard is None or not guard.test.crossed or state.watch_from is None or state.shadow_lost:
        return None
    if state.phase not in MAY_GIVE_WAY or (state.case is not None and state.case.decided):
        return None
    test = guard.test
    numbers = {**test.numbers(), "command": {"verb": "rollback", "version": state.previous}}
    why = (
        f"version {state.previous}, kept beside version {state.version}, is better on the same events: evidence "
        f"{test.peak:.3g} of {test.threshold:.3g} after {test.events} events, loss lower by {test.mean_difference:.4f}"
    )
    case = None if state.case is not None else state.story
    return decision(state, world, "rollback_started", case=case, version=state.previous, why=why, numbers=numbers)
