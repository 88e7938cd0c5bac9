"""What a version was made from, and how far a shard is in reading what was there before it: words that the roles share.

A *recipe* is what makes an estimator: the pipeline, its params and its seed; of a model that recommends also the settings that
its state depends on ("recommend.factors", …). A learner's first claim of a model carries the one
of version 1, and each retrain that of its version, so the control log tells of every version what it was made with, whatever
the configuration says today. A version that a search found remembers under `asked` which recipe the file had then: that one was
answered, and is no other than the file's until the file changes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from .config import ModelSettings, RecommendSettings
from .config_recommend import LEARNED

RECIPE: Final = ("pipeline", "params", "seed")
_RECOMMEND: Final = "recommend."
ASKED: Final = "asked"
REBUILT: Final = "rebuilt"  # the reason of the reset that ends a rebuild
MAX_NAMES: Final = 300
MAX_LETTERS: Final = 20_000
MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0

Recipe = dict[str, Any]


class Backfill(msgspec.Struct, omit_defaults=True):
    """A shard reads what the log held before it began: from `start` up to `until`; it has come to `position`.

    `why`: "start" for a model that is new, "rebuild" for one that is made again by replay. `rate`: records a second.
    """

    start: int
    until: int
    position: int
    why: str = "start"
    rate: float = 0.0


def recipe_of(settings: ModelSettings | Mapping[str, Any]) -> Recipe:
    """What makes the estimator of a model with these settings (or their JSON, or a recipe)."""
    fields = {*RECIPE, "task", "recommend"}
    tree = settings if isinstance(settings, Mapping) else settings.model_dump(mode="json", include=fields)
    recipe = {name: value for name, value in tree.items() if name in RECIPE or name.startswith(_RECOMMEND)}
    if tree.get("task") == "recommend":
        table = tree.get("recommend", {})
        recipe |= {f"{_RECOMMEND}{name}": table[name] for name in LEARNED if name in table}
    return recipe


def with_recipe(settings: ModelSettings, recipe: Recipe) -> ModelSettings:
    """The settings with what the recipe has in place of theirs."""
    table = {name.removeprefix(_RECOMMEND): value for name, value in recipe.items() if name.startswith(_RECOMMEND)}
    update: dict[str, Any] = {name: recipe[name] for name in RECIPE if name in recipe}
    if table:
        update["recommend"] = RecommendSettings.model_validate(settings.recommend.model_dump() | table)
    return settings.model_copy(update=update)


def recipe_of_fit(numbers: Mapping[str, Any], known: Mapping[int, Recipe]) -> Recipe:
    """What the version of a `retrain_started` is made of, {} when that cannot be told: the settings of the fit or, where it
    goes on from another version, what that one was made of. `known`: the recipes of the versions before it."""
    for base in numbers.get("bases", {}).values():
        return known.get(base["id"] if base["kind"] == "version" else base["version"], {})
    return searched(recipe_of(numbers["fit"].get("settings", {})), numbers.get(ASKED))


def recipe_of_search(numbers: Mapping[str, Any], recipe: Recipe) -> Recipe:
    """What a version is made of by its `retrained`, whose fit began with `recipe`: what a search found, where there was one."""
    found = numbers.get("search")
    return recipe if found is None else searched(recipe_of(found["recipe"]), asked(recipe))


def searched(recipe: Recipe, by: Recipe | None) -> Recipe:
    """The recipe that was found for the file's recipe `by`; itself where that is None."""
    return recipe if by is None else {**recipe, ASKED: recipe_of(by)}


def asked(recipe: Recipe) -> Recipe:
    """The file's recipe that this one answers."""
    found: Recipe = recipe.get(ASKED, recipe)
    return found


def changes(recipe: Recipe, wanted: Recipe) -> list[str]:
    """The settings by which `recipe` is another than `wanted`; what either does not tell is taken for the same."""
    return [name for name, value in wanted.items() if name != ASKED and name in recipe and recipe[name] != value]


def told(backfills: Iterable[Backfill]) -> str | None:
    """How far the shards are, in words: "backfill 42 % (120,000 of 285,000 records, about 3 min)"; None when none reads."""
    found = [one for one in backfills if one.position < one.until]
    if not found:
        return None
    total = sum(one.until - one.start for one in found)
    done = sum(one.position - one.start for one in found)
    slowest = max((one.until - one.position) / one.rate if one.rate > 0 else -1.0 for one in found)
    left = f", {_about(slowest)}" if all(one.rate > 0 for one in found) else ""
    name = "rebuild by replay" if any(one.why == "rebuild" for one in found) else "backfill"
    return f"{name} {100 * done // max(1, total)} % ({done:,} of {total:,} records{left})"


def _about(seconds: float) -> str:
    if seconds < MINUTE_S:
        return "less than a minute"
    return f"about {seconds / MINUTE_S:.0f} min" if seconds < 2 * HOUR_S else f"about {seconds / HOUR_S:.0f} h"


def known(types: Mapping[str, str], in_all: int = 0) -> dict[str, Any]:
    """What is kept of the features that a model knows: how many `features` (`in_all`, where that is more than are given), and
    the `types` ("number" or "string") of the first of them by name: MAX_NAMES, and MAX_LETTERS of names, at most."""
    kept: dict[str, str] = {}
    letters = 0
    for name in heapq.nsmallest(MAX_NAMES, types):
        letters += len(name)
        if letters > MAX_LETTERS:
            break
        kept[name] = types[name]
    return {"features": max(len(types), in_all), "types": kept}
