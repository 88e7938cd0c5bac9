"""How a shard begins when no checkpoint of its own is there: where its reading starts, as which version, made from what.

All of it is told by the log, so that a start that is repeated (the store was emptied, another build has to replay) begins at
the same place with the same estimator, whatever the configuration has come to say since. It only reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ..config import Settings
from ..events import parse_time
from ..lineage import Recipe, recipe_of, recipe_of_fit, recipe_of_search
from ..log import CONTROL, Log, Record
from ..log.seek import offset_at
from ..records import AccessRecord, Claim, ControlRecord, Decision, decode_control

PAGE = 1000
CHAMPIONS = ("promoted", "rolled_back")


class Genesis(NamedTuple):
    """Begin at offset `start` as `version`, an estimator made from `recipe`. `trimmed`: the log has lost what came before;
    `dropped`: the store has dropped versions that are tried on the way, and not all of them may be made again."""

    start: int
    version: int
    recipe: Recipe
    trimmed: bool
    dropped: bool = False


class _Story(NamedTuple):
    """What the control log tells of a model. `claimed_at`: the append time of the shard's first claim; `first`: what was the
    first retained offset then; `dropped`: whether a version's bytes were dropped."""

    recipes: dict[int, Recipe]
    version: int
    claimed_at: float | None
    first: int
    dropped: bool


def genesis(settings: Settings, model: str, shard: int, log: Log) -> Genesis:
    """How shard `shard` of `model` begins.

    `start` = "latest" is the time of its first claim. When the log was trimmed since then, the commands that made the champion
    may be among what is gone: the shard then begins as that very version, made afresh from its recipe. Raises LogError.
    """
    one = settings.models[model]
    story = _story(model, shard, log)
    first, end = log.bounds(one.stream, shard)
    if one.start == "earliest":
        start = first
    elif one.start == "latest":
        start = end if story.claimed_at is None else offset_at(log, one.stream, shard, story.claimed_at)
    else:
        start = offset_at(log, one.stream, shard, parse_time(one.start))
    trimmed = start == first and first > story.first
    version = story.version if trimmed else 1
    return Genesis(start, version, story.recipes.get(version) or recipe_of(one), trimmed, story.dropped)


def _story(model: str, shard: int, log: Log) -> _Story:
    recipes: dict[int, Recipe] = {}
    version, claimed_at, first, dropped = 1, None, 0, False
    for record, entry in _entries(log):
        if isinstance(entry, AccessRecord) or entry.model != model:
            continue
        if isinstance(entry, Claim):
            if entry.recipe:
                recipes.setdefault(1, entry.recipe)
            if entry.shard == shard and claimed_at is None:
                claimed_at, first = record.ts, entry.first
        elif isinstance(entry, Decision):
            if entry.kind == "retrain_started" and entry.version is not None:
                recipes[entry.version] = recipe_of_fit(entry.numbers, recipes)
            elif entry.kind == "retrained" and entry.version in recipes:
                recipes[entry.version] = recipe_of_search(entry.numbers, recipes[entry.version])
            elif entry.kind in CHAMPIONS and entry.version is not None:
                version = entry.version
            dropped = dropped or entry.kind == "version_dropped"
    return _Story(recipes, version, claimed_at, first, dropped)


def _entries(log: Log) -> Iterator[tuple[Record, ControlRecord]]:
    offset = log.bounds(CONTROL, 0)[0]
    while records := log.read(CONTROL, 0, offset, PAGE):
        for record in records:
            try:
                yield record, decode_control(record.value)
            except msgspec.DecodeError:
                continue  # control says so
        offset = records[-1].offset + 1
