"""What a retrain learns, and who learns it: its window by shard, and the champion that a strategy begins with.

    window   change    from the change in the shard that saw it, from the same time in the others
             records   the last so many of each partition
             days      what was appended in the last so many days
             all       from where the model begins
    how      full      a fresh model
             warm      the champion of each shard's newest sound checkpoint; where there is none, or the file's recipe is
             members   another, or the features are, in full, and the decision says why
             search    a fresh model of the recipe that does best among some, see `retrain.search`

Cases that a person has decided go on from a base, and no strategy touches them (`rewind`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ..config import ModelSettings
from ..config_retrain import StrategySettings
from ..lineage import changes, recipe_of
from .changes import begins
from .facts import by_shard
from .rewind import checkpoint_base, origin
from .state import Case, State
from .world import World

DAY_S: Final = 86_400.0
WARM: Final = ("warm", "members")

Bases = dict[int, dict[str, Any]]


class Making(NamedTuple):
    """How a version is to be made: `starts` by shard, `bases` as `rewind.bases` gives them, further fields of the FitSpec
    (`fit`), what the decision writes down (`numbers`), and where it begins and how, for people (`words`)."""

    starts: dict[int, int]
    bases: Bases
    fit: dict[str, Any]
    numbers: dict[str, Any]
    words: str


def making(state: State, case: Case, world: World, settings: ModelSettings, found: Bases) -> Making:
    """How the case's version is made now; `found` are the bases of one that a person decided. Raises LogError, StoreError."""
    if case.decided:
        return Making({shard: base["position"] for shard, base in found.items()}, found, {}, {}, origin(case, found))
    strategy = settings.retrain.strategy
    starts = case.starts or window(state, case, world, strategy)
    numbers: dict[str, Any] = {}
    if case.kind == "drift" and strategy.window != "change":
        numbers["change"] = by_shard(kept(state, world, _since_change(state, case, world)))
    bases, instead = champions(state, case, world, settings) if strategy.how in WARM else ({}, "")
    how = strategy.how if bases or strategy.how == "search" else "full"
    told: dict[str, Any] = {"how": how, "window": strategy.window}
    if strategy.window in ("records", "days"):
        told[strategy.window] = getattr(strategy, strategy.window)
    fit: dict[str, Any] = {"max_events": strategy.max_events}
    words = [_words(case, strategy)]
    if strategy.half_life:
        fit["half_life"] = told["half_life"] = strategy.half_life
        words.append(f"where an event counts half as much for every {strategy.half_life:g} records of age")
    if bases:
        fit["how"] = how
        at = ", ".join(str(base["position"]) for _, base in sorted(bases.items()))
        words.append(f"by a copy of version {state.version} as it was at offset {at}")
    if how == "members":
        fit["share"] = told["share"] = strategy.share
        words.append(f"{strategy.share:.0%} of its members begun anew")
    if instead:
        told["instead"] = instead
        words.append(f'in full instead of "{strategy.how}": {instead}')
    return Making(starts, bases, fit, {**numbers, "strategy": told}, ", ".join(words))


def window(state: State, case: Case, world: World, strategy: StrategySettings) -> dict[int, int]:
    """By shard, the first offset that the fit is to learn; what the log no longer has is for the caller to leave out. Never
    before the model begins."""
    if strategy.window == "change":
        return _since_change(state, case, world)
    first = begins(state, world)
    if strategy.window == "all":
        return first
    if strategy.window == "records":
        at = {shard: world.bounds(shard)[1] - strategy.records for shard in state.shards}
    else:
        at = {shard: world.offset_at(shard, world.now - strategy.days * DAY_S) for shard in state.shards}
    return {shard: max(offset, first.get(shard, 0)) for shard, offset in at.items()}


def champions(state: State, case: Case, world: World, settings: ModelSettings) -> tuple[Bases, str]:
    """The newest sound checkpoint of every shard, as the base of a warm start; or none, and why there can be no such start."""
    if case.kind == "contract":
        return {}, "the features are other ones"
    names = changes(state.recipes.get(state.version, {}), recipe_of(settings))
    if names:
        return {}, f"the configuration has another {', '.join(names)} than version {state.version}"
    bases = {}
    for shard in state.shards:
        base = world.sound(shard, world.bounds(shard)[1])
        if base is None:
            return {}, f"shard {shard} has no sound checkpoint"
        if base.version != state.version:
            return {}, f"the newest checkpoint of shard {shard} is still of version {base.version}"
        bases[shard] = checkpoint_base(base)
    return bases, ""


def _since_change(state: State, case: Case, world: World) -> dict[int, int]:
    """At the change in the shard that saw it, at the same time in the others; without a change, where the last one was."""
    if case.kind != "drift":
        return dict(state.last_starts) or begins(state, world)
    first, end = world.bounds(case.shard)
    change = max(case.change_offset, first)
    if change >= end:
        return {case.shard: end}
    time = world.time_at(case.shard, change)
    return {shard: change if shard == case.shard else world.offset_at(shard, time) for shard in state.shards}


def kept(state: State, world: World, starts: Mapping[int, int]) -> dict[int, int]:
    """By shard, the same within what the log holds; where nothing is said, from its first record."""
    bounds = {shard: world.bounds(shard) for shard in state.shards}
    return {shard: min(max(starts.get(shard, 0), first), end) for shard, (first, end) in bounds.items()}


def _words(case: Case, strategy: StrategySettings) -> str:
    if strategy.window == "change":
        return origin(case, {})
    if strategy.window == "all":
        return "where the model begins"
    if strategy.window == "records":
        return f"the last {strategy.records} records of each partition"
    return f"the records of the last {strategy.days:g} days"
