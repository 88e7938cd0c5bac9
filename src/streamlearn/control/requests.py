"""What people ask for: each request is granted by the very step that it asks for, or refused with the reason.

A request is never left lying: whatever phase the model is in, one decision settles it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from ..records import LONGEST_SILENCE_S, Decision, Request
from .contract import accepts
from .dropping import told
from .fold import FITTING, MAY_GIVE_WAY, TRYING
from .imports import judge_import
from .rewind import refuse_resume, restore, rewind
from .state import Phase, State
from .steps import decision, ending, lose_trial
from .world import World


def judge_request(state: State, world: World) -> Decision | None:
    """The decision that settles the oldest request that waits, or None when none does."""
    if not state.asked:
        return None
    offset, request = next(iter(state.asked.items()))
    if state.settings is None:
        answer: Decision | str = f"there is no model {request.model!r} in the configuration"
    elif request.action not in ACTIONS:
        answer = f"there is no action {request.action!r}; ask for one of {', '.join(sorted(ACTIONS))}"
    else:
        answer = ACTIONS[request.action](state, request, world)
    if isinstance(answer, str):
        numbers = {"action": request.action, "id": request.id}
        answer = decision(state, world, "request_refused", why=answer, numbers=numbers)
    answer.numbers = {**answer.numbers, "request": offset}
    answer.by = request.by
    return answer


def _why(request: Request, what: str) -> str:
    return f"{what}, asked for by {request.by}{f': {request.reason}' if request.reason else ''}"


def _doing(state: State) -> str:
    case = f" in case {state.case.id}" if state.case is not None else ""
    return f"the model is in phase {state.phase.value!r}{case}"


def _retrain(state: State, request: Request, world: World) -> Decision | str:
    if state.phase == Phase.CONFIRMED and state.case is not None and state.case.kept:
        why = _why(request, "a retrain, whatever the policies say")
        return decision(state, world, "retrain_asked", why=why)
    if state.phase != Phase.STEADY:
        return f"{_doing(state)}: a retrain can begin when that has ended, or was cancelled"
    case = f"{state.name}-{state.cases + 1}"
    return decision(state, world, "case_opened", case=case, why=_why(request, "a retrain"), numbers={"kind": "manual"})


def _cancel(state: State, request: Request, world: World) -> Decision | str:
    case = state.case
    if case is not None and state.phase in FITTING:
        numbers: dict[str, Any] = {"attempt": case.attempt, "run": case.run, "reason": "cancelled", "final": True}
        why = _why(request, "the retrain was cancelled")
        return decision(state, world, "retrain_failed", version=case.version, why=why, numbers=numbers | ending(case, None))
    if case is not None and state.phase in TRYING:
        return lose_trial(state, case, world, _why(request, f"the {state.phase.value} was cancelled"))
    return f"{_doing(state)}: there is neither a retrain nor a trial to cancel"


def _rewind(state: State, request: Request, world: World) -> Decision | str:
    if state.phase not in MAY_GIVE_WAY:
        cancel = f"POST /v1/models/{state.name}/cancel"
        return f"{_doing(state)}: a rewind can begin when that has ended, or was cancelled ({cancel})"
    return rewind(state, request, world, _why(request, "a rewind"))


def _promote(state: State, request: Request, world: World) -> Decision | str:
    case = state.case
    if state.phase == Phase.STEADY and request.version is not None:
        return restore(state, request.version, world, _why(request, f"version {request.version} is to serve again"))
    if case is None or state.phase not in TRYING or case.trial is None:
        return (
            f"{_doing(state)}: only a version on trial can be promoted, or, when nothing is under way, a kept one that is "
            "named; to bring the last champion back, roll back"
        )
    if request.version is not None and request.version != case.version:
        return f"version {case.version} is on trial, not version {request.version}"
    order = state.orders.get(case.trial_seq)  # None once every shard has answered, and the canary's has followed it
    if (order is not None and (order.waiting or order.refused)) or case.shadow_failed:
        return f"version {case.version} does not yet run on every shard"
    numbers = {**state.trial_numbers, "command": {"verb": "promote", "version": case.version}}
    return decision(
        state, world, "trial_won", version=case.version, why=_why(request, "promoted before the trial's end"), numbers=numbers
    )


def _rollback(state: State, request: Request, world: World) -> Decision | str:
    if state.phase in (*TRYING, Phase.PROMOTING, Phase.CLOSING, Phase.ROLLING_BACK):
        return f"{_doing(state)}: roll back when that has ended (a trial can be cancelled)"
    if state.previous is None:
        return f"version {state.version} has no champion before it to go back to"
    if request.version is not None and request.version != state.previous:
        dropped = f"; of version {request.version}, {told(state, request.version)}" if request.version in state.dropped else ""
        return f"only the champion before the last promotion can be brought back, version {state.previous}{dropped}"
    why = _why(request, f"back from version {state.version} to version {state.previous}")
    case = None if state.case is not None else state.story
    numbers = {"command": {"verb": "rollback", "version": state.previous}}
    return decision(state, world, "rollback_started", case=case, version=state.previous, why=why, numbers=numbers)


def _hold(state: State, request: Request, world: World) -> Decision | str:
    if state.held is not None and not state.held_by_diagnosis:
        return f"the model is held already: {state.held}"
    why = _why(request, "held")
    if state.held_by_diagnosis:  # the learners hold it; from now on it is the person's to resume
        return decision(state, world, "held", why=f"{why}; before that, {state.held}")
    return decision(state, world, "held", why=why, numbers={"command": {"verb": "hold", "reason": why}})


def _resume(state: State, request: Request, world: World) -> Decision | str:
    if state.held is None:
        return "the model is not held"
    refused = refuse_resume(state, request.mode, world)
    if refused:
        return refused
    command = {"verb": "resume", "mode": request.mode} | ({"accepts": True} if accepts(state) else {})
    return decision(state, world, "resumed", why=_why(request, f"resumed ({request.mode})"), numbers={"command": command})


def _silence(state: State, request: Request, world: World) -> Decision | str:
    """Notifications wait or are lost, decisions never: this one changes nothing else."""
    if request.for_s is None or not 0 <= request.for_s <= LONGEST_SILENCE_S:
        return f"for_s is {request.for_s}: a silence takes seconds, 0 (it ends) to {LONGEST_SILENCE_S:.0f} (30 days)"
    if not request.for_s:
        return decision(state, world, "silenced", why=_why(request, "the silence ends"), numbers={"until": None})
    until = world.now + request.for_s
    what = f"nobody is notified before {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%SZ}"
    return decision(state, world, "silenced", why=_why(request, what), numbers={"until": until})


ACTIONS: Final[dict[str, Callable[[State, Request, World], Decision | str]]] = {
    "retrain": _retrain,
    "cancel": _cancel,
    "promote": _promote,
    "rollback": _rollback,
    "hold": _hold,
    "resume": _resume,
    "import": judge_import,
    "rewind": _rewind,
    "silence": _silence,
}
