"""How records change what control knows: `apply` a decision, `ask` a request; signals: `observe.py`. Nothing is decided here.

A decision says in `signal` up to where `_signals` had been read when it was made, so that a replay observes and applies in
the order of the first time and ends in the same state. A decision that does not fit the state (made by a second control
that had read less) changes nothing. What a decision asks of the shards is in its `numbers["command"]`, the commands that
must follow once it was answered in `numbers["then"]`, the request that it settles in `numbers["request"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..records import Decision, Request
from ..retrain.policy import Confirmed
from ..retrain.reversal import Reversal
from ..retrain.trial import Trial
from . import contract, dropping, fold_inputs, recipes, skips
from .growth import Growth
from .state import Blocks, Case, Guard, Order, Phase, State

RESETS: Final = ("reset", "promote", "rollback")  # what makes a shard forget the alarm it raised
OPEN: Final = frozenset(Phase) - {Phase.STEADY, Phase.ROLLING_BACK}
AWAITING: Final = frozenset({Phase.TRIAL, Phase.CANARY, Phase.PROMOTING, Phase.CLOSING, Phase.ROLLING_BACK})
FITTING: Final = frozenset({Phase.CONFIRMED, Phase.RETRAINING, Phase.FITTED})
# To a rewind: bad data may look like drift, and a fit that it set off is of no use. A trial has a shadow: cancel it first.
MAY_GIVE_WAY: Final = FITTING | {Phase.STEADY, Phase.CONFIRM, Phase.RECOVERING}
TRYING: Final = frozenset({Phase.TRIAL, Phase.CANARY})
ANY: Final = frozenset(Phase)


def ask(state: State, offset: int, request: Request) -> bool:
    """Take a request from the control log. False for the same `id` again: it is a repeat, and was or will be settled."""
    if request.id in state.request_ids:
        return False
    state.request_ids.add(request.id)
    state.asked[offset] = request
    return True


def apply(state: State, offset: int, decision: Decision) -> bool:
    """Take the decision at `offset` of the control log. False, and nothing is changed, when it does not fit the state."""
    handler, phases = _HANDLERS.get(decision.kind, (None, ANY))
    if handler is None or not _fits(state, decision, phases):
        return False
    state.asked.pop(decision.numbers.get("request", -1), None)
    before = state.phase
    handler(state, offset, decision)
    command = decision.numbers.get("command")
    if command is not None:
        shards = tuple(command.get("shards", state.shards))
        state.orders[offset] = Order(offset, dict(command), shards)
        if state.phase in AWAITING and decision.kind not in ("held", "resumed", "rebuilt"):
            state.order = offset
        state.orders = {seq: order for seq, order in state.orders.items() if order.waiting or seq == state.order}
    if state.phase != before:
        state.since = decision.at
    return True


def _fits(state: State, decision: Decision, phases: frozenset[Phase]) -> bool:
    request = decision.numbers.get("request")
    if request is not None and request not in state.asked and not _ends_rollback(state, decision):
        return False
    if state.phase not in phases or (not state.registered and decision.kind not in ("registered", "request_refused")):
        return False
    if phases <= OPEN and (state.case is None or state.case.id != decision.case):
        return False
    match decision.kind:
        case "registered":
            return not state.registered
        case "case_opened":
            may = state.phase == Phase.STEADY or decision.numbers["kind"] == "rewind"
            return may and decision.case == f"{state.name}-{state.cases + 1}"
        case "retrain_started":
            fresh = state.case is not None and decision.numbers["run"] == state.case.run + 1
            return fresh and (decision.version == state.last_version + 1 or decision.version == _case(state).version)
        case "retrain_kept":
            return not _case(state).kept or bool(decision.numbers["final"])
        case "retrained":
            return state.case is not None and decision.numbers["run"] == state.case.run
        case "retrain_failed":
            late = state.phase == Phase.CONFIRMED and not decision.numbers["final"]
            return state.case is not None and decision.numbers["attempt"] == state.case.attempt and not late
        case "canary_started":
            step = 0 if state.case is None or state.case.canary is None else state.case.canary.step
            return state.case is not None and decision.numbers["step"] == step + 1
        case "held" | "resumed" | "feature_drift" | "detectors_reset":
            return fold_inputs.fits(state, decision)
        case "detached":
            if state.phase == Phase.CLOSING and state.case is not None:
                return bool(decision.numbers["left"] == len(state.case.then))
            return state.shadow is not None and decision.version == state.shadow
        case "rollback_started":
            return state.previous is not None
        case "imported":
            return decision.version == state.last_version + 1
        case "request_refused":
            return request is not None
        case "range_skipped":
            return skips.fits(state, decision)
        case "version_dropped":
            return dropping.fits(state, decision)
    return True


def _ends_rollback(state: State, decision: Decision) -> bool:
    """The request was granted once, and is refused after all: by the learners."""
    asked = decision.numbers.get("request") == state.rolling_back_for
    return decision.kind == "request_refused" and state.phase == Phase.ROLLING_BACK and asked


def _registered(state: State, offset: int, decision: Decision) -> None:
    state.registered = True
    state.version = state.last_version = decision.version or 1
    if state.settings is not None:
        state.course.settle = state.settings.drift.min_reference
    state.course.begin(decision.at, another=True)
    fold_inputs.begins_anew(state, decision)


def _case_opened(state: State, offset: int, decision: Decision) -> None:
    numbers = decision.numbers
    if state.case is not None:
        _close(state)
    state.cases += 1
    case = state.case = Case(decision.case, numbers["kind"], decision.at)
    if case.kind == "drift":
        case.shard, case.change_offset, case.alarm_n = numbers["shard"], numbers["change_offset"], numbers["alarm_n"]
        case.change_n = numbers.get("change_n", 0)
        state.drift_cases.append(decision.n)
        state.phase = Phase.CONFIRM
    else:
        case.to, case.skip = _by_shard(numbers.get("to", {})), skips.by_shard(numbers.get("skip", {}))
        case.base, case.evidence = numbers.get("base", 0), numbers.get("evidence", False)
        if case.kind == contract.KIND:
            contract.opened(state, case, numbers)
        state.phase = Phase.CONFIRMED


def _confirmed(state: State, offset: int, decision: Decision) -> None:
    case = _case(state)
    state.drift_cases.clear()
    if decision.numbers.get("survived"):
        _close(state)
        return
    case.diagnosis = decision.numbers.get("diagnosis")
    state.reference = (case.shard, decision.numbers["reference"])
    case.confirmed = _what_came(decision.numbers)
    case.confirmed_n = case.change_n + decision.numbers.get("since_change", 0) - 1
    state.degraded = decision.why
    state.phase = Phase.CONFIRMED


def _closed(state: State, offset: int, decision: Decision) -> None:
    _close(state)


def _retrain_started(state: State, offset: int, decision: Decision) -> None:
    case, numbers = _case(state), decision.numbers
    case.version = decision.version
    state.last_version = max(state.last_version, decision.version or 0)
    case.fit = numbers["fit"]
    recipes.fitting(state, decision)
    case.starts, case.until = _by_shard(numbers["starts"]), _by_shard(numbers["until"])
    case.run, case.attempt, case.catch_ups = numbers["run"], numbers["attempt"], numbers["catch_ups"]
    case.bases = {int(shard): base for shard, base in numbers.get("bases", {}).items()}
    case.skips = skips.by_shard(numbers.get("skip", {}))
    case.not_before = 0.0
    case.trained_to = {}
    if case.kind in ("drift", contract.KIND):
        state.last_starts = _by_shard(numbers.get("change", numbers["starts"]))
    if case.run == 1:
        state.course.begin(decision.at, another=False)
    state.phase = Phase.RETRAINING


def _retrained(state: State, offset: int, decision: Decision) -> None:
    case = _case(state)
    case.trained_to = state.fitted[case.version or 0] = _by_shard(decision.numbers["trained_to"])
    recipes.found(state, case, decision)
    state.phase = Phase.FITTED


def _retrain_failed(state: State, offset: int, decision: Decision) -> None:
    case, numbers = _case(state), decision.numbers
    case.empties += numbers["reason"] == "empty"
    state.shadow = None if state.phase == Phase.TRIAL else state.shadow
    if not numbers["final"]:
        case.not_before = numbers["retry_at"]
        state.phase = Phase.CONFIRMED
    elif numbers.get("then"):
        case.then = list(numbers["then"])
        state.phase = Phase.CLOSING
    else:
        _close(state)


def _retrain_kept(state: State, offset: int, decision: Decision) -> None:
    case, numbers = _case(state), decision.numbers
    case.kept = True
    if numbers["final"]:
        degraded = state.degraded
        _close(state)
        state.degraded = None if numbers["settled"] else degraded


def _retrain_asked(state: State, offset: int, decision: Decision) -> None:
    _case(state).confirmed = None  # the policies are not asked any more


def _trial_started(state: State, offset: int, decision: Decision) -> None:
    case, numbers = _case(state), decision.numbers
    case.trial, case.growth = Trial.of(numbers), Growth()
    case.blocks = Blocks(state.partitions)
    case.trial_seq = offset
    case.champion.clear()
    case.rehearsals.clear()
    case.champion_events = 0
    case.shadow_failed = ""
    if not case.decided:
        state.trials.append(decision.at)
    case.canary = state.guard = None
    state.shadow, state.watch_from = case.version, None
    state.untried.discard(case.base)
    state.arms = _arms(decision, case.version)
    state.phase = Phase.TRIAL


def _canary_started(state: State, offset: int, decision: Decision) -> None:
    case = _case(state)
    case.go_on_with_canary(offset, decision.numbers)
    case.canary_at = decision.at
    state.phase = Phase.CANARY


def _trial_won(state: State, offset: int, decision: Decision) -> None:
    case = _case(state)
    if case.trial is not None and not case.decided:  # what a person has decided, no test undoes
        state.guard = Guard(offset, Reversal(case.trial.alpha, case.trial.length), Blocks(state.partitions))
    state.recoveries.clear()
    state.arms = _arms(decision, state.version)
    state.phase = Phase.PROMOTING


def _trial_lost(state: State, offset: int, decision: Decision) -> None:
    _case(state).then = list(decision.numbers["then"])
    state.shadow = state.guard = None
    state.phase = Phase.CLOSING


def _promoted(state: State, offset: int, decision: Decision) -> None:
    case = _case(state)
    state.previous, state.version = state.version, case.version or 0
    state.shadow, state.watch_from = state.previous, decision.n
    state.shadow_lost = ""
    _end_hold(state)
    fold_inputs.begins_anew(state, decision)
    state.story = case.id
    state.course.begin(decision.at, another=True)
    state.trials.clear()
    skips.add(state, case.skip)
    case.promoted_n = decision.n
    state.phase = Phase.RECOVERING


def _recovered(state: State, offset: int, decision: Decision) -> None:
    _close(state)


def _not_recovered(state: State, offset: int, decision: Decision) -> None:
    reference, degraded = state.reference, state.degraded
    _close(state)
    if degraded is not None:
        state.reference, state.degraded = reference, decision.why


def _rollback_started(state: State, offset: int, decision: Decision) -> None:
    if state.case is not None:
        _close(state)
    state.rolling_back_for = decision.numbers.get("request", -1)
    state.guard = None
    state.phase = Phase.ROLLING_BACK


def _rolled_back(state: State, offset: int, decision: Decision) -> None:
    state.version, state.previous = decision.version or 0, None
    state.course.begin(decision.at, another=True)
    state.shadow = state.watch_from = None
    _end_hold(state)
    fold_inputs.begins_anew(state, decision)
    _close(state)


def _detached(state: State, offset: int, decision: Decision) -> None:
    if state.phase != Phase.CLOSING:
        state.shadow = state.watch_from = state.guard = None
        if decision.numbers["lost"]:
            state.previous = None
        return
    case = _case(state)
    case.then = case.then[1:]
    if not case.then:
        _close(state)


def _end_hold(state: State) -> None:
    """A hold was the former champion's: a swap ends it, unless it was asked for after the swap, and came after it."""
    if state.held_at < state.order:
        state.held = None


def _imported(state: State, offset: int, decision: Decision) -> None:
    state.last_version = decision.version or 0
    state.fitted[state.last_version] = _by_shard(decision.numbers["trained_to"])
    state.untried.add(state.last_version)


def _request_refused(state: State, offset: int, decision: Decision) -> None:
    if _ends_rollback(state, decision):
        state.phase = Phase.STEADY


def _silenced(state: State, offset: int, decision: Decision) -> None:
    state.silenced_until = decision.numbers["until"]


_Handler = Callable[[State, int, Decision], None]
_HANDLERS: Final[Mapping[str, tuple[_Handler, frozenset[Phase]]]] = {
    "registered": (_registered, ANY),
    "case_opened": (_case_opened, MAY_GIVE_WAY),
    "confirmed": (_confirmed, frozenset({Phase.CONFIRM})),
    "rejected": (_closed, frozenset({Phase.CONFIRM})),
    "expired": (_closed, frozenset({Phase.CONFIRM})),
    "retrain_started": (_retrain_started, frozenset({Phase.CONFIRMED, Phase.FITTED})),
    "retrain_kept": (_retrain_kept, frozenset({Phase.CONFIRMED})),
    "retrain_asked": (_retrain_asked, frozenset({Phase.CONFIRMED})),
    "retrained": (_retrained, frozenset({Phase.RETRAINING})),
    "retrain_failed": (_retrain_failed, FITTING | {Phase.TRIAL}),
    "trial_started": (_trial_started, frozenset({Phase.FITTED})),
    "canary_started": (_canary_started, frozenset({Phase.TRIAL, Phase.CANARY})),
    "trial_won": (_trial_won, frozenset({Phase.TRIAL, Phase.CANARY})),
    "trial_lost": (_trial_lost, frozenset({Phase.TRIAL, Phase.CANARY, Phase.PROMOTING})),
    "promoted": (_promoted, frozenset({Phase.PROMOTING})),
    "recovered": (_recovered, frozenset({Phase.RECOVERING})),
    "not_recovered": (_not_recovered, frozenset({Phase.RECOVERING})),
    "rollback_started": (_rollback_started, MAY_GIVE_WAY),
    "rollback_failed": (_closed, frozenset({Phase.ROLLING_BACK})),
    "rolled_back": (_rolled_back, frozenset({Phase.ROLLING_BACK})),
    "detached": (_detached, ANY),
    "broken_input": (_closed, FITTING),
    "feature_drift": (fold_inputs.feature_drift, ANY),
    "detectors_reset": (fold_inputs.detectors_reset, frozenset({Phase.STEADY})),
    "held": (fold_inputs.held, ANY),
    "resumed": (fold_inputs.resumed, ANY),
    "imported": (_imported, ANY),
    "request_refused": (_request_refused, ANY),
    "range_skipped": (skips.recorded, ANY),
    "version_dropped": (dropping.dropped, ANY),
    "rebuilt": (recipes.rebuilt, ANY),
    "silenced": (_silenced, ANY),
}


def _arms(decision: Decision, version: int | None) -> dict[str, Any] | None:
    """The arms that the decision's command makes: `version` answers for a share of the users. None where it makes none."""
    command = decision.numbers.get("command", {})
    return {"version": version, "share": command["share"], "salt": command["salt"]} if command.get("share") else None


def _case(state: State) -> Case:
    assert state.case is not None
    return state.case


def _what_came(numbers: Mapping[str, Any]) -> Confirmed | None:
    """The confirmed drift as policies see it; None in what was decided before there were any."""
    since = numbers.get("since_change")
    return None if since is None else Confirmed(numbers["ref_mean"], numbers["fresh_mean"], since)


def _close(state: State) -> None:
    state.case = None
    state.degraded = None
    state.reference = None
    state.phase = Phase.STEADY


def _by_shard(numbers: Mapping[str, Any]) -> dict[int, int]:
    return {int(shard): int(value) for shard, value in numbers.items()}
