"""How decisions are put together: the fields that all of them carry, and the endings that several phases share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..config import ModelSettings
from ..records import Decision
from .state import Case, Order, State
from .world import World

EMPTY_S: Final = 3600.0  # beside a label wait, for which a confirmed drift may wait for the events that a fit needs
MOST_BACKOFF_S: Final = 600.0
PATIENCE_S: Final = 7 * 86_400.0  # what has not come a week and two label waits after it was due never will


def labelled(state: State, world: World, *shards: int) -> int:
    """Labelled events of these shards, of all where none is named: by statuses or by signals, whichever know of more."""
    return sum(max(world.labelled(shard), state.n.get(shard, 0)) for shard in shards or state.shards)


def decision(
    state: State,
    world: World,
    kind: str,
    *,
    case: str | None = None,
    version: int | None = None,
    why: str,
    by: str = "control",
    numbers: dict[str, Any] | None = None,
) -> Decision:
    """A decision on this model, now; `case` defaults to the open one."""
    if case is None:
        case = "" if state.case is None else state.case.id
    return Decision(
        model=state.name, kind=kind, at=world.now, case=case, version=version, n=labelled(state, world), offset=state.offset,
        signal=world.signal, by=by, why=why, numbers=numbers or {},
    )  # fmt: skip


def retrain_failed(
    state: State,
    case: Case,
    world: World,
    settings: ModelSettings,
    reason: str,
    detail: str,
    to_detach: Sequence[int] = (),
) -> Decision:
    """A fit, or the attempt to try what it made, failed: to be repeated after a backoff, or the end of the case.

    `to_detach`: the shards that have taken the new version beside their champion, and must let it go.
    """
    retrain, backoff_s = settings.retrain, settings.retrain.backoff_s
    waits = reason == "empty" and case.kind in ("drift", "contract")  # its events may be on their way
    early = waits and world.now - case.opened_at <= EMPTY_S + settings.label_wait_s
    spent = case.attempt - case.empties >= retrain.attempts
    final = reason == "behind" or (not early if waits else spent)
    numbers: dict[str, Any] = {"attempt": case.attempt, "run": case.run, "reason": reason, "final": final}
    detach = {"verb": "detach", "shards": list(to_detach)}
    if final:
        numbers |= ending(case, detach if to_detach else None)
    else:
        numbers["retry_at"] = world.now + min(backoff_s * 2.0 ** (case.attempt - 1), max(backoff_s, MOST_BACKOFF_S))
        if to_detach:
            numbers["command"] = detach
    left = "the case is closed" if final else f"attempt {case.attempt + 1} of {retrain.attempts} follows"
    if early:
        left = "more is to come, and the fit is begun again"
    return decision(state, world, "retrain_failed", version=case.version, why=f"{reason}: {detail}; {left}", numbers=numbers)


def lose_trial(state: State, case: Case, world: World, why: str, promoted: Sequence[int] = ()) -> Decision:
    """The challenger is let go. Shards that have `promoted` it already go back first."""
    detach = {"verb": "detach"}
    numbers = state.trial_numbers
    if promoted:
        back = {"verb": "rollback", "version": state.version, "shards": list(promoted)}
        numbers |= {"command": back, "then": [detach, reset(case)]}
    else:
        numbers |= ending(case, detach)
    return decision(state, world, "trial_lost", version=case.version, why=why, numbers=numbers)


def ending(case: Case, detach: dict[str, Any] | None) -> dict[str, Any]:
    """The commands that end a case without a promotion: the shadow, if any, goes first."""
    return {"command": reset(case)} if detach is None else {"command": detach, "then": [reset(case)]}


def reset(case: Case) -> dict[str, Any]:
    """Only a confirmed drift makes the reference before it worthless."""
    return {"verb": "reset", "confirmed": case.kind == "drift"}


def told(order: Order) -> str:
    """Why the shards that would not obey did not."""
    return "; ".join(f"shard {shard}: {why}" for shard, why in sorted(order.refused.items()))
