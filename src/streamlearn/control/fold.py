"""How records change what control knows: `apply` a decision, `ask` a request, `observe` a signal. Nothing is decided here.

A decision says in `signal` up to where `_signals` had been read when it was made, so that a replay observes and applies in
the order of the first time and ends in the same state. A decision that does not fit the state (made by a second control
that had read less) changes nothing. What a decision asks of the shards is in its `numbers["command"]`, the commands that
must follow once it was answered in `numbers["then"]`, the request that it settles in `numbers["request"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..records import Decision, Request, Signal
from ..retrain.trial import Trial
from .state import Alarm, Blocks, Case, Order, Phase, State

RESETS: Final = ("reset", "promote", "rollback")  # what makes a shard forget the alarm it raised
OPEN: Final = frozenset(Phase) - {Phase.STEADY, Phase.ROLLING_BACK}
AWAITING: Final = frozenset({Phase.TRIAL, Phase.PROMOTING, Phase.CLOSING, Phase.ROLLING_BACK})
FITTING: Final = frozenset({Phase.CONFIRMED, Phase.RETRAINING, Phase.FITTED})
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
        if state.phase in AWAITING and decision.kind not in ("held", "resumed"):
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
            return decision.case == f"{state.name}-{state.cases + 1}"
        case "retrain_started":
            return state.case is not None and decision.numbers["run"] == state.case.run + 1
        case "retrained":
            return state.case is not None and decision.numbers["run"] == state.case.run
        case "retrain_failed":
            late = state.phase == Phase.CONFIRMED and not decision.numbers["final"]
            return state.case is not None and decision.numbers["attempt"] == state.case.attempt and not late
        case "held":
            return state.held is None
        case "resumed":
            return state.held is not None
        case "detached":
            if state.phase == Phase.CLOSING and state.case is not None:
                return bool(decision.numbers["left"] == len(state.case.then))
            return state.shadow is not None and decision.version == state.shadow
        case "rollback_started":
            return state.previous is not None
        case "request_refused":
            return request is not None
    return True


def _ends_rollback(state: State, decision: Decision) -> bool:
    """The request was granted once, and is refused after all: by the learners."""
    asked = decision.numbers.get("request") == state.rolling_back_for
    return decision.kind == "request_refused" and state.phase == Phase.ROLLING_BACK and asked


def _registered(state: State, offset: int, decision: Decision) -> None:
    state.registered = True
    state.version = state.last_version = decision.version or 1


def _case_opened(state: State, offset: int, decision: Decision) -> None:
    numbers = decision.numbers
    state.cases += 1
    case = state.case = Case(decision.case, numbers["kind"], decision.at)
    if case.kind == "drift":
        case.shard, case.change_offset, case.alarm_n = numbers["shard"], numbers["change_offset"], numbers["alarm_n"]
        state.drift_cases.append(decision.n)
        state.phase = Phase.CONFIRM
    else:
        state.phase = Phase.CONFIRMED


def _confirmed(state: State, offset: int, decision: Decision) -> None:
    case = _case(state)
    state.reference = (case.shard, decision.numbers["reference"])
    state.degraded = decision.why
    state.drift_cases.clear()
    state.phase = Phase.CONFIRMED


def _closed(state: State, offset: int, decision: Decision) -> None:
    _close(state)


def _retrain_started(state: State, offset: int, decision: Decision) -> None:
    case, numbers = _case(state), decision.numbers
    case.version = decision.version
    state.last_version = max(state.last_version, decision.version or 0)
    case.fit = numbers["fit"]
    case.starts, case.until = _by_shard(numbers["starts"]), _by_shard(numbers["until"])
    case.run, case.attempt, case.catch_ups = numbers["run"], numbers["attempt"], numbers["catch_ups"]
    case.not_before = 0.0
    case.trained_to = {}
    if case.kind == "drift":
        state.last_starts = case.starts
    state.phase = Phase.RETRAINING


def _retrained(state: State, offset: int, decision: Decision) -> None:
    _case(state).trained_to = _by_shard(decision.numbers["trained_to"])
    state.phase = Phase.FITTED


def _retrain_failed(state: State, offset: int, decision: Decision) -> None:
    case, numbers = _case(state), decision.numbers
    state.shadow = None if state.phase == Phase.TRIAL else state.shadow
    if not numbers["final"]:
        case.not_before = numbers["retry_at"]
        state.phase = Phase.CONFIRMED
    elif numbers.get("then"):
        case.then = list(numbers["then"])
        state.phase = Phase.CLOSING
    else:
        _close(state)


def _trial_started(state: State, offset: int, decision: Decision) -> None:
    case, numbers = _case(state), decision.numbers
    case.trial = Trial(numbers["alpha"], numbers["tolerance"], numbers["k"])
    case.blocks = Blocks(state.partitions)
    case.trial_seq = offset
    case.shadow_failed = ""
    state.trials.append(decision.at)
    state.shadow, state.watch_from = case.version, None
    state.phase = Phase.TRIAL


def _trial_won(state: State, offset: int, decision: Decision) -> None:
    state.recoveries.clear()
    state.phase = Phase.PROMOTING


def _trial_lost(state: State, offset: int, decision: Decision) -> None:
    _case(state).then = list(decision.numbers["then"])
    state.shadow = None
    state.phase = Phase.CLOSING


def _promoted(state: State, offset: int, decision: Decision) -> None:
    case = _case(state)
    state.previous, state.version = state.version, case.version or 0
    state.shadow, state.watch_from = state.previous, decision.n
    state.shadow_lost = ""
    _end_hold(state)
    state.story = case.id
    state.trials.clear()
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
    state.rolling_back_for = decision.numbers["request"]
    state.phase = Phase.ROLLING_BACK


def _rolled_back(state: State, offset: int, decision: Decision) -> None:
    state.version, state.previous = decision.version or 0, None
    state.shadow = state.watch_from = None
    _end_hold(state)
    _close(state)


def _detached(state: State, offset: int, decision: Decision) -> None:
    if state.phase != Phase.CLOSING:
        state.shadow = state.watch_from = None
        if decision.numbers["lost"]:
            state.previous = None
        return
    case = _case(state)
    case.then = case.then[1:]
    if not case.then:
        _close(state)


def _held(state: State, offset: int, decision: Decision) -> None:
    state.held, state.held_at, state.held_by_learner = decision.why, offset, None


def _resumed(state: State, offset: int, decision: Decision) -> None:
    state.held = state.held_by_learner = None


def _end_hold(state: State) -> None:
    """A hold was the former champion's: a swap ends it, unless it was asked for after the swap, and came after it."""
    if state.held_at < state.order:
        state.held = None


def _request_refused(state: State, offset: int, decision: Decision) -> None:
    if _ends_rollback(state, decision):
        state.phase = Phase.STEADY


_Handler = Callable[[State, int, Decision], None]
_HANDLERS: Final[Mapping[str, tuple[_Handler, frozenset[Phase]]]] = {
    "registered": (_registered, ANY),
    "case_opened": (_case_opened, frozenset({Phase.STEADY})),
    "confirmed": (_confirmed, frozenset({Phase.CONFIRM})),
    "rejected": (_closed, frozenset({Phase.CONFIRM})),
    "expired": (_closed, frozenset({Phase.CONFIRM})),
    "retrain_started": (_retrain_started, frozenset({Phase.CONFIRMED, Phase.FITTED})),
    "retrained": (_retrained, frozenset({Phase.RETRAINING})),
    "retrain_failed": (_retrain_failed, FITTING | {Phase.TRIAL}),
    "trial_started": (_trial_started, frozenset({Phase.FITTED})),
    "trial_won": (_trial_won, frozenset({Phase.TRIAL})),
    "trial_lost": (_trial_lost, frozenset({Phase.TRIAL, Phase.PROMOTING})),
    "promoted": (_promoted, frozenset({Phase.PROMOTING})),
    "recovered": (_recovered, frozenset({Phase.RECOVERING})),
    "not_recovered": (_not_recovered, frozenset({Phase.RECOVERING})),
    "rollback_started": (_rollback_started, frozenset({Phase.STEADY, Phase.CONFIRM, Phase.RECOVERING}) | FITTING),
    "rolled_back": (_rolled_back, frozenset({Phase.ROLLING_BACK})),
    "detached": (_detached, ANY),
    "held": (_held, ANY),
    "resumed": (_resumed, ANY),
    "request_refused": (_request_refused, ANY),
}


def observe(state: State, log_offset: int, signal: Signal) -> bool:
    """Take the signal at `log_offset` of `_signals`. False when it is a repeat, or of a shard that the model does not have.

    Raises KeyError, TypeError or ValueError when its data are not those of its kind; the signal is then spent.
    """
    shard = signal.shard
    if not 0 <= shard < state.partitions or signal.seq <= state.seen.get(shard, -1):
        return False
    state.seen[shard] = signal.seq
    state.n[shard] = max(signal.n, state.n.get(shard, 0))
    state.offset = signal.offset
    observer = _OBSERVERS.get(signal.kind)
    if observer is not None:
        observer(state, log_offset, signal)
    return True


def _alarm(state: State, log_offset: int, signal: Signal) -> None:
    if not state.pending(signal.shard, *RESETS):
        state.alarms[signal.shard] = Alarm(log_offset, signal)


def _window(state: State, log_offset: int, signal: Signal) -> None:
    if signal.data["tag"] == "recovery":
        state.recoveries[signal.shard] = signal.data
    elif signal.shard in state.alarms:
        state.alarms[signal.shard].window = signal.data


def _applied(state: State, log_offset: int, signal: Signal) -> None:
    _answer(state, signal, "")


def _refused(state: State, log_offset: int, signal: Signal) -> None:
    reason, detail = signal.data["reason"], signal.data.get("detail", "")
    _answer(state, signal, f"{reason}: {detail}" if detail else reason)


def _answer(state: State, signal: Signal, answer: str) -> None:
    """A shard takes commands in the order of their seq, so one that it answers leaves none before it to be answered."""
    shard, seq = signal.shard, signal.data["seq_of"]
    for order in [order for order in state.orders.values() if order.seq <= seq and shard in order.waiting]:
        order.answers[shard] = answer if order.seq == seq else "skipped: a later command was answered first"
        if order.verb in RESETS:
            state.alarms.pop(shard, None)
        doubt = state.held_doubts.pop(shard, None) if order.verb in ("promote", "rollback") else None
        if doubt is not None and answer and state.held is None:
            state.held_by_learner = doubt
        if not order.waiting and order.seq != state.order:
            del state.orders[order.seq]


def _block(state: State, log_offset: int, signal: Signal) -> None:
    case, data = state.case, signal.data
    if case is None or case.trial is None or state.phase != Phase.TRIAL or data["trial"] != case.trial_seq:
        return
    numbers = (data["n"], data["champion"], data["challenger"])
    for n, champion, challenger in case.blocks.add(data["block"], signal.shard, *numbers):
        if n:
            case.trial.add_block(n, champion, challenger)


def _held_itself(state: State, log_offset: int, signal: Signal) -> None:
    shard, why = signal.shard, f"shard {signal.shard}: {signal.data['reason']}"
    if state.held is not None or state.pending(shard, "hold", "resume"):
        return
    if state.pending(shard, "promote", "rollback"):
        state.held_doubts[shard] = why
    else:
        state.held_by_learner = why


def _shadow_failed(state: State, log_offset: int, signal: Signal) -> None:
    version, why = signal.data["version"], f"shard {signal.shard}: {signal.data['reason']}"
    if state.phase == Phase.TRIAL and state.case is not None and version == state.case.version:
        state.case.shadow_failed = why
    elif version == state.shadow:
        state.shadow_lost = why


_OBSERVERS: Final[Mapping[str, Callable[[State, int, Signal], None]]] = {
    "alarm": _alarm,
    "window": _window,
    "applied": _applied,
    "refused": _refused,
    "block": _block,
    "held": _held_itself,
    "shadow_failed": _shadow_failed,
}


def _case(state: State) -> Case:
    assert state.case is not None
    return state.case


def _close(state: State) -> None:
    state.case = None
    state.degraded = None
    state.reference = None
    state.phase = Phase.STEADY


def _by_shard(numbers: Mapping[str, Any]) -> dict[int, int]:
    return {int(shard): int(value) for shard, value in numbers.items()}
