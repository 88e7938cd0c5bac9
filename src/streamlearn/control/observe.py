"""How signals of the learners change what control knows: alarms, windows, answers to commands, paired blocks, holds.

Like the fold of decisions, which it stands beside, it decides nothing. A repeat is known by its number, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..records import Signal
from ..retrain.sums import read_sums
from . import skips
from .course import bounded
from .fold import RESETS, TRYING
from .state import Alarm, Phase, State

TOLD: Final = 20  # alarms that come while a case is open, told with it


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
    case = state.case
    if case is not None:
        case.alarms_in_all += 1
        if len(case.alarms) < TOLD:
            about = {"detector": signal.data.get("detector", ""), "shard": signal.shard, "at": signal.ts, "n": signal.n}
            case.alarms.append({**about, "change_offset": signal.data.get("change_offset")})


def _window(state: State, log_offset: int, signal: Signal) -> None:
    if signal.data["tag"] == "recovery":
        state.recoveries[signal.shard] = signal.data
    elif signal.shard in state.alarms:
        alarm = state.alarms[signal.shard]
        alarm.windows.append(signal.data)
        alarm.until = signal.offset


def _batch(state: State, log_offset: int, signal: Signal) -> None:
    """Of another version, or of a model that broken input holds, it tells nothing that a policy should decide by."""
    if signal.version != state.version or state.held_by_diagnosis:
        return
    batch, case = state.course.take(signal.data, signal.ts, signal.shard), state.case
    if case is None or case.confirmed is None or state.phase != Phase.CONFIRMED:
        return
    n = min(batch.n, signal.n - case.confirmed_n) if signal.shard == case.shard else batch.n  # those before are in `confirmed`
    if n > 0:
        case.batches.append(batch._replace(n=n))
        case.batches = bounded(case.batches)


def _applied(state: State, log_offset: int, signal: Signal) -> None:
    skips.hold_ended(state, signal)
    _answer(state, signal, "")


def _refused(state: State, log_offset: int, signal: Signal) -> None:
    reason, detail = signal.data["reason"], signal.data.get("detail", "")
    if signal.data["verb"] == "resume" and reason != "not_held":
        state.held_by_learner = f"shard {signal.shard} could not resume, and is still held: {detail}"
    _answer(state, signal, f"{reason}: {detail}" if detail else reason)


def _answer(state: State, signal: Signal, answer: str) -> None:
    """A shard takes commands in the order of their seq, so one that it answers leaves none before it to be answered."""
    shard, seq = signal.shard, signal.data["seq_of"]
    for order in [order for order in state.orders.values() if order.seq <= seq and shard in order.waiting]:
        order.answers[shard] = answer if order.seq == seq else "skipped: a later command was answered first"
        order.at[shard] = signal.offset
        if order.verb == "try":
            state.tried.setdefault(order.arguments["version"], {})[shard] = signal.offset
        if order.seq == seq and "knew" in signal.data:
            order.knew[shard] = signal.data["knew"]
        if order.verb in RESETS:
            state.alarms.pop(shard, None)
        doubt = state.held_doubts.pop(shard, None) if order.verb in ("promote", "rollback") else None
        if doubt is not None and answer and state.held is None:
            state.held_by_learner = doubt
        if not order.waiting and order.seq != state.order:
            del state.orders[order.seq]


def _block(state: State, log_offset: int, signal: Signal) -> None:
    """What was told while broken input holds the model is numbered on, and counts for nothing: it must decide nothing."""
    case, data, counts = state.case, signal.data, not state.held_by_diagnosis
    if state.guard is not None:
        state.guard.take(signal.shard, data, counts)
    if case is None or case.trial is None or state.phase not in TRYING or data["trial"] != case.trial_seq:
        return
    if case.canary is not None and "canary" in data and counts:
        case.canary.add(signal.shard, data["n"], data["canary"])
    if signal.shard == case.shard and state.settings is not None and counts:
        case.add_champion(data["n"], data["champion"], state.settings.drift.window)
    numbers = (data["n"], data["champion"], data["challenger"], read_sums(data))
    for n, champion, challenger, sums in case.blocks.add(data["block"], signal.shard, *numbers):
        if n and counts:
            case.trial.add_block(n, champion, challenger, sums)
            case.growth.take(case.trial)
            if case.canary is not None:
                case.canary.guard.add_block(n, challenger, champion)


def _rehearsal(state: State, log_offset: int, signal: Signal) -> None:
    case, data = state.case, signal.data
    if case is not None and state.phase == Phase.TRIAL and data["trial"] == case.trial_seq:
        case.rehearse(signal.shard, [(int(n), float(one), float(other)) for n, one, other in data["blocks"]])


def _held_itself(state: State, log_offset: int, signal: Signal) -> None:
    shard, why = signal.shard, f"shard {signal.shard}: {signal.data['reason']}"
    state.holding[shard] = signal.data.get("offset", signal.offset)
    if state.held is not None or state.pending(shard, "hold", "resume"):
        return
    if state.pending(shard, "promote", "rollback"):
        state.held_doubts[shard] = why
    else:
        state.held_by_learner = why


def _shadow_failed(state: State, log_offset: int, signal: Signal) -> None:
    version, why = signal.data["version"], f"shard {signal.shard}: {signal.data['reason']}"
    if state.phase in TRYING and state.case is not None and version == state.case.version:
        state.case.shadow_failed = why
    elif version == state.shadow:
        state.shadow_lost = why


_OBSERVERS: Final[Mapping[str, Callable[[State, int, Signal], None]]] = {
    "alarm": _alarm,
    "window": _window,
    "batch": _batch,
    "applied": _applied,
    "refused": _refused,
    "rehearsal": _rehearsal,
    "block": _block,
    "held": _held_itself,
    "shadow_failed": _shadow_failed,
}
