"""Whether a case's alarm is a drift: what the machine decides while the fresh window fills, and when it is full.

    a look at the window is beyond doubt       ▶ confirmed, once enough has come to tell broken input from drift
    full, and no look was                      ▶ the model as it was before the change is asked (`hindsight`)
        it would do worse, beyond doubt        ▶ confirmed, and survived: the live model has unlearned it, nothing is retrained
        else, or there is no such model        ▶ rejected
    no window came                             ▶ expired
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..config import ModelSettings
from ..drift.confirm import Verdict, case_number, confirm, look_of, to_diagnose
from ..records import Decision
from . import contract
from .inputs import diagnosed
from .state import Alarm, Case, State
from .steps import PATIENCE_S, decision, labelled
from .world import World

GRACE_S: Final = 60.0  # a status may run ahead of the signals of the same events, never by this much
WINDOWS: Final = 4  # a window that has not come after this many times its labelled events was lost


def judge_alarm(state: State, case: Case, world: World, settings: ModelSettings) -> Decision | None:
    """The case's end, its confirmation, or None while more is to come."""
    alarm = state.alarms.get(case.shard)
    if alarm is None or not alarm.windows:
        return _expire(state, case, world, settings)
    window, verdict = _surest(state, settings, alarm)
    if verdict.confirmed:
        seen = look_of(window).last or came(state, case, world, to_diagnose(settings.drift))
        return _confirmed(state, case, world, window, verdict) if seen else None
    if not look_of(window).last:
        return _expire(state, case, world, settings)
    told = world.hindsight
    if told is None or told.case != case.id:
        return None
    numbers = _numbers(state, case, window, verdict)
    if told.losses is None:
        return _rejected(state, world, verdict, numbers | {"hindsight": told.why})
    frozen = _verdict(state, settings, window, told.losses)
    numbers |= {"hindsight": {**_plain(frozen), "fresh_n": told.losses["n"], "checkpoint": told.checkpoint}}
    if not frozen.confirmed:
        return _rejected(state, world, verdict, numbers)
    numbers |= {"survived": True, "command": {"verb": "reset", "confirmed": True}}
    live = f"{verdict.ref_mean:.4f} → {verdict.fresh_mean:.4f}"
    why = (
        f"drift confirmed in case {case.id}, on the model as it was before: {frozen.reason}; the live model has unlearned it "
        f"({live}), so nothing is retrained"
    )
    return decision(state, world, "confirmed", why=why, numbers=numbers)


def undecided(state: State) -> Alarm | None:
    """The alarm of the open case, if its window is full and none of its looks confirms a drift: the past is to be asked."""
    case, settings = state.case, state.settings
    alarm = None if case is None else state.alarms.get(case.shard)
    if case is None or settings is None or alarm is None or not alarm.windows or not look_of(alarm.windows[-1]).last:
        return None
    return None if _surest(state, settings, alarm)[1].confirmed else alarm


def came(state: State, case: Case, world: World, events: int) -> bool:
    """Whether so many labelled events have come since the change began: what was confirmed early may have to wait for them."""
    if case.kind == contract.KIND:
        return labelled(state, world) - case.change_n >= events
    if case.kind != "drift":
        return True
    return labelled(state, world, case.shard) - case.change_n >= events


def _surest(state: State, settings: ModelSettings, alarm: Alarm) -> tuple[dict[str, Any], Verdict]:
    """The first look that confirms, else the newest, with its verdict."""
    for window in alarm.windows:
        verdict = _verdict(state, settings, window, window["fresh"])
        if verdict.confirmed:
            break
    return window, verdict


def _verdict(state: State, settings: ModelSettings, window: dict[str, Any], fresh: Mapping[str, Any]) -> Verdict:
    drift, k = settings.drift, case_number(state.drift_cases, state.labelled)
    seed, look = settings.seed + state.cases, look_of(window)
    return confirm(window["loss"], window["ref"], fresh, alpha=drift.alpha, harm=drift.harm, k=k, seed=seed, look=look)


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {name: value for name, value in verdict._asdict().items() if name not in ("confirmed", "reason")}


def _numbers(state: State, case: Case, window: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    k = case_number(state.drift_cases, state.labelled)
    more = {"k": k, "shard": case.shard, "ref_n": window["ref"]["n"], "fresh_n": window["fresh"]["n"]}
    more |= {name: window[name] for name in ("from_n", "to_n") if name in window}
    if state.settings is not None:
        more |= {"alpha": state.settings.drift.alpha, "harm": state.settings.drift.harm}
    return {**_plain(verdict), **more, "look": look_of(window).now, "losses": _losses(window)}


def _losses(window: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many losses of each size came before the change and since the alarm: 0 and 1, or by twentieths of [0, 1]."""
    loss, sides = window["loss"], (window["ref"], window["fresh"])
    if loss == "binary":
        before, after = ([side["n"] - round(side["sum"]), round(side["sum"])] for side in sides)
    elif all("bins" in side for side in sides):
        before, after = (side["bins"] for side in sides)
    else:
        return None
    return {"loss": loss, "before": before, "after": after}


def _confirmed(state: State, case: Case, world: World, window: dict[str, Any], verdict: Verdict) -> Decision:
    numbers = _numbers(state, case, window, verdict)
    numbers["reference"] = {"loss": window["loss"], **{name: told for name, told in window["ref"].items() if name != "bins"}}
    numbers["since_change"] = max(window["fresh"]["n"], labelled(state, world, case.shard) - case.change_n + 1)
    why, seen = f"drift confirmed in case {case.id}: {verdict.reason}", diagnosed(state, case, world)
    if seen is not None:
        diagnosis, numbers["features"] = seen
        numbers["diagnosis"], why = diagnosis._asdict(), f"{why}; {diagnosis.kind}: {diagnosis.why}"
    return decision(state, world, "confirmed", why=why, numbers=numbers)


def _rejected(state: State, world: World, verdict: Verdict, numbers: dict[str, Any]) -> Decision:
    numbers |= {"command": {"verb": "reset", "confirmed": False}}
    return decision(state, world, "rejected", why=verdict.reason, numbers=numbers)


def _expire(state: State, case: Case, world: World, settings: ModelSettings) -> Decision | None:
    if not world.up_to_date:
        return None
    waited = world.now - state.since
    since = labelled(state, world, case.shard) - case.alarm_n
    if waited > PATIENCE_S + 2 * settings.label_wait_s:
        why = f"no fresh window came in {waited:.0f} s"
    elif waited > GRACE_S and since > WINDOWS * settings.drift.window:
        why = f"no fresh window came in {since} labelled events"
    else:
        return None
    numbers = {"waited_s": waited, "labelled": since, "command": {"verb": "reset", "confirmed": False}}
    return decision(state, world, "expired", why=why, numbers=numbers)
