"""What changed around a model: its recipe in the configuration, or the build of a learner, which then read everything again.

A version keeps the estimator that it was made with, so a pipeline, params or seed changed in the file makes another model. It
comes into service as every other: a case of the kind "changed" fits a version with it, tries it on the same events, and
promotes it when it is not worse. Until then the model's document says that file and service differ. Nothing here is remembered
but by decisions. A version that a search found answers the file's recipe of that time, whatever it was made of itself.
"""

from __future__ import annotations

from ..config import ModelSettings
from ..events import parse_time
from ..lineage import REBUILT, asked, changes, recipe_of
from ..records import Decision
from .state import State
from .steps import decision, labelled
from .world import World


def differs(state: State) -> str | None:
    """How the recipe in the file differs from that of the version that serves, None when it does not, or nobody can tell."""
    made = state.recipes.get(state.version)
    if state.settings is None or made is None:
        return None
    found, wanted = asked(made), recipe_of(state.settings)
    names = changes(found, wanted)
    if not names:
        return None
    where = f"in version {state.version}" if found is made else f"when version {state.version} was searched for"
    what = "; ".join(f"{name} is {wanted[name]!r} in the file and {found[name]!r} {where}" for name in names)
    return f"{what}, which serves; {_fate(state, state.settings)}"


def _fate(state: State, settings: ModelSettings) -> str:
    case = state.case
    if case is not None and case.version is not None and not _other(state, case.version, settings):
        return f"case {case.id} brings it in as version {case.version}"
    if not _other(state, state.last_version, settings):
        retry = f"`streamlearn retrain {state.name}` tries again"
        return f"version {state.last_version} was made with it and does not serve: {retry}"
    return f"a version with it is made once {settings.retrain.min_events} labelled events are there, and no other case is open"


def _other(state: State, version: int, settings: ModelSettings) -> bool:
    """Whether the version was made with another recipe than the file's."""
    found = state.recipes.get(version)
    return found is not None and bool(changes(asked(found), recipe_of(settings)))


def open_change(state: State, world: World, settings: ModelSettings) -> Decision | None:
    """A case for a recipe that neither serves nor was tried last; what lost its trial, or was rolled back, is for people."""
    if not _other(state, state.version, settings) or not _other(state, state.last_version, settings):
        return None
    if labelled(state, world) < settings.retrain.min_events:
        return None
    found, wanted = asked(state.recipes[state.version]), recipe_of(settings)
    names = changes(found, wanted)
    numbers = {"kind": "changed", "changed": names, "was": found, "wanted": wanted}
    why = f"the configuration has another {', '.join(names)} than version {state.version}"
    return decision(state, world, "case_opened", case=f"{state.name}-{state.cases + 1}", why=why, numbers=numbers)


def begins(state: State, world: World) -> dict[int, int]:
    """By shard, the offset where the model begins to learn; {} for the first retained one."""
    start = "earliest" if state.settings is None else state.settings.start
    if start == "earliest":
        return {}
    times = state.claimed if start == "latest" else dict.fromkeys(state.shards, parse_time(start))
    return {shard: world.offset_at(shard, time) for shard, time in times.items() if shard in state.shards}


def answer_rebuild(state: State, world: World) -> Decision | None:
    """The reset that a learner of another build awaits once it has made its state again by replay, see `learning.catchup`."""
    for shard in state.shards:
        generation = world.rebuilt(shard)
        if generation is not None and generation > state.rebuilt.get(shard, -1):
            command = {"verb": "reset", "confirmed": False, "reason": REBUILT, "shards": [shard]}
            numbers = {"shard": shard, "generation": generation, "command": command}
            why = f"shard {shard} was made again by replay, by a learner of another build"
            return decision(state, world, "rebuilt", version=state.version, why=why, numbers=numbers)
    return None
