"""Cases that a person has decided beforehand: a rewind past bad data, and a kept version that is to serve again.

Both fit a new version from a base by reading the log on to its head, passing over what was held or is to be skipped; it is
then tried, which brings it beside the champion on every shard, and promoted at once, without a trial. The old champion goes
on in the shadow, and can be rolled back to, as after any promotion.

    rewind     base: each shard's newest sound checkpoint that has read no further than the place asked for; else nothing,
               from the first retained record
    restore    base: a version that was fitted before, from where it was fitted to
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import EventError
from ..log.ranges import Range, merged
from ..records import RESUME_MODES, Decision, Request
from ..retrain.rewind import Sound, as_json, plan
from .dropping import told
from .state import Case, State
from .steps import decision, ending
from .world import World

FOR_EVER: Final = 2**62  # the end of a range that is still held


def rewind(state: State, request: Request, world: World, why: str) -> Decision | str:
    """The case of a rewind, or why there can be none. `why` says who asked."""
    try:
        plans = plan(request.to, request.skip, state.partitions, world, world.sound)
    except EventError as error:
        return f"{error.field}: {error.detail}"
    skip = as_json({one.shard: one.skip for one in plans})
    numbers: dict[str, Any] = {"kind": "rewind", "to": {str(one.shard): one.to for one in plans}, "skip": skip}
    if state.case is not None:
        numbers["instead_of"] = state.case.id
    return decision(state, world, "case_opened", case=f"{state.name}-{state.cases + 1}", why=why, numbers=numbers)


def restore(state: State, version: int, world: World, why: str) -> Decision | str:
    """The case that brings a kept version up to date and lets it serve, or why there can be none."""
    if version == state.version:
        return f"version {version} serves already"
    trained_to, kept = state.fitted.get(version), world.kept()
    if trained_to is None or version not in kept:
        choice = sorted(kept & set(state.fitted) - {state.version})
        have = f"those kept are {', '.join(map(str, choice))}" if choice else "none is kept"
        if version in state.dropped:
            return f"version {version} cannot be promoted: {told(state, version)}; {have}"
        return f"version {version} cannot be promoted: only a fitted version that the store keeps can be, and {have}"
    for shard, position in sorted(trained_to.items()):
        first = world.bounds(shard)[0]
        if position < first:
            return (
                f"version {version} has read to offset {position} of partition {shard}, and the log begins at {first} only: "
                "it cannot be brought up to date; retrain instead"
            )
    numbers = {"kind": "restore", "base": version}
    return decision(state, world, "case_opened", case=f"{state.name}-{state.cases + 1}", why=why, numbers=numbers)


def bases(state: State, case: Case, world: World) -> dict[int, dict[str, Any]]:
    """By shard, what the case's fit goes on from: kind and id as `retrain.job.Base` has them, its position, and when it was
    taken. A shard without one begins with nothing."""
    if case.kind == "restore":
        return {
            shard: {"kind": "version", "id": case.base, "position": position}
            for shard, position in sorted(state.fitted.get(case.base, {}).items())
        }
    found = {}
    for shard, goal in case.to.items():
        base = world.sound(shard, goal)
        if base is not None and base.position >= world.bounds(shard)[0]:
            found[shard] = checkpoint_base(base)
    return found


def checkpoint_base(base: Sound) -> dict[str, Any]:
    """A checkpoint as a decision writes down what a fit begins with."""
    return {
        "kind": "checkpoint", "id": base.checkpoint, "position": base.position, "created": base.created,
        "version": base.version,
    }  # fmt: skip


def lost(case: Case, found: Mapping[int, Any], world: World) -> str:
    """Why a rewind cannot begin any more: the checkpoint and the records before it are gone meanwhile. Else ""."""
    for shard, goal in case.to.items():
        first = world.bounds(shard)[0]
        if shard not in found and first > goal:
            return f"no checkpoint of shard {shard} is as old as offset {goal} any more, and the log begins at {first} only"
    return ""


def give_up(state: State, case: Case, world: World, why: str) -> Decision:
    """The end of a case that cannot even begin."""
    numbers: dict[str, Any] = {"attempt": case.attempt, "run": case.run, "reason": "failed", "final": True}
    numbers |= ending(case, None)
    return decision(state, world, "retrain_failed", version=case.version, why=f"{why}; the case is closed", numbers=numbers)


def passed_over(state: State, case: Case) -> dict[int, list[Range]]:
    """By shard, what no fit may learn: what was held and skipped, what is held now, and what the case itself skips."""
    still = {} if state.held is None else {shard: (start, FOR_EVER) for shard, start in state.holding.items()}
    found = {}
    for shard in state.shards:
        ranges = [*state.skipped.get(shard, ()), *case.skip.get(shard, ())]
        found[shard] = merged([*ranges, still[shard]] if shard in still else ranges)
    return found


def origin(case: Case, found: Mapping[int, Mapping[str, Any]]) -> str:
    """Where the fit begins, for people; `found` as `bases` gave it."""
    if case.kind == "drift":
        return "the change point"
    if case.kind == "contract":
        return "where the features changed"
    if case.kind in ("manual", "policy", "changed"):
        return "the last confirmed change, or where the model begins"
    if case.kind == "restore":
        return f"version {case.base}, as it was fitted"
    at = [
        f"the checkpoint of shard {shard} at offset {found[shard]['position']}"
        if shard in found
        else f"the first record that partition {shard} keeps"
        for shard in sorted(case.to)
    ]
    return ", ".join(at)


def promote_at_once(state: State, case: Case, world: World) -> Decision:
    """No trial: a person has decided."""
    numbers = {"command": {"verb": "promote", "version": case.version}}
    why = f"a person decided in case {case.id}: version {case.version} is promoted without a trial"
    return decision(state, world, "trial_won", version=case.version, why=why, numbers=numbers)


def record_skipped(state: State, world: World) -> Decision:
    """A shard was held and did not learn this range: no later fit is to learn it either."""
    shard, start, end = state.to_skip[0]
    why = f"shard {shard} was held from offset {start} to {end}: what came then is not learned, now or in any retrain"
    return decision(state, world, "range_skipped", case="", why=why, numbers={"shard": shard, "range": [start, end]})


def refuse_resume(state: State, mode: str, world: World) -> str:
    """Why a held range cannot be learned or repaired any more; "" when it can."""
    if mode not in RESUME_MODES:
        return f"there is no mode {mode!r}; resume with one of {', '.join(RESUME_MODES)}"
    if mode == "skip" or state.settings is None:
        return ""
    most = state.settings.max_held_records
    for shard, start in sorted(state.holding.items()):
        first, end = world.bounds(shard)
        if start < first:
            return f"shard {shard} was held at offset {start}, and the log begins at {first} only; resume with mode skip"
        if end - start > most:
            return (
                f"shard {shard} was held for {end - start} records, more than max_held_records ({most}) are; "
                "raise that, or resume with mode skip"
            )
    return ""
