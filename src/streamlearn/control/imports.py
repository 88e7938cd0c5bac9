"""A version from elsewhere asks for a number of its own: granted when it is a model of the same kind, else refused with why.

Control gives the number and the positions; whoever asked, with the store and the keys at hand, then puts the blobs under
them. A blob that never comes is a version that is listed and not kept: asking again with the same file goes on from there.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..config import ModelSettings
from ..lineage import RECIPE
from ..records import Decision, Request
from .facts import by_shard, shards_of
from .state import State
from .steps import decision
from .world import World

SAME: Final = ("task", "stream", "pipeline", "params", "labels")  # settings in which a version must be as the model is


class Offer(msgspec.Struct):
    """What is asked for with `data` of a request to import.

    `settings`: the model's table that the version was made with. `shards`: what is known of each shard's blob, see
    `facts.of_blob`. `trained_to`: by shard, the next offset to read, when the version comes from this very log, else {}.
    `origin`: where it comes from, for people.
    """

    settings: dict[str, Any]
    made_with: dict[str, Any]
    shards: dict[str, dict[str, Any]]
    trained_to: dict[str, int]
    origin: dict[str, Any]


def judge_import(state: State, request: Request, world: World) -> Decision | str:
    """Import a version, or why not. Raises LogError from `world`."""
    settings = state.settings
    assert settings is not None
    try:
        offer = msgspec.convert(request.data, Offer)
    except msgspec.ValidationError as error:
        return f"the request to import does not say what: {error}"
    shards = by_shard(dict.fromkeys(state.shards))
    if set(offer.shards) != set(shards):
        return f"the version has {len(offer.shards)} shards, the model {len(shards)}"
    differs = differences(offer.settings, settings)
    if differs:
        return f"it is another model: {'; '.join(differs)}"
    bounds = {str(shard): world.bounds(shard) for shard in state.shards}
    follows = set(offer.trained_to) == set(shards) and all(
        bounds[shard][0] <= offset <= bounds[shard][1] for shard, offset in offer.trained_to.items()
    )
    numbers = {
        "origin": offer.origin, "settings": offer.settings, "made_with": offer.made_with,
        **shards_of({int(shard): facts for shard, facts in offer.shards.items()}),
        "trained_to": offer.trained_to if follows else {shard: end for shard, (_, end) in bounds.items()},
        "rebased": not follows,
    }  # fmt: skip
    where = "it goes on from where it had read to" if follows else "of this log it has read nothing: it begins at the head"
    why = f"imported by {request.by}{f': {request.reason}' if request.reason else ''}; {where}"
    return decision(state, world, "imported", case="", version=state.last_version + 1, why=why, numbers=numbers)


def differences(settings: dict[str, Any], wanted: ModelSettings) -> list[str]:
    """In which of the settings that make a model another one `settings` differ from those `wanted`. Of a model that is searched
    for, versions may be made of any recipe."""
    mine, free = wanted.model_dump(mode="json"), RECIPE if wanted.retrain.strategy.how == "search" else ()
    names = [name for name in SAME if name not in free]
    return [f"{name}: {settings.get(name)!r} there, {mine[name]!r} here" for name in names if settings.get(name) != mine[name]]
