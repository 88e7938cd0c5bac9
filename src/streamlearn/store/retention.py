"""Which checkpoints outlive the next one: the last few, then one an hour, then one a day. Pure; deletes nothing itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from . import Retention

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0

BUILDS_LAST: Final = 2  # builds beside the one that writes now whose checkpoints are kept

Id = TypeVar("Id", int, tuple[int, int])


def kept(checkpoints: Iterable[tuple[Id, float]], keep: Retention) -> set[Id]:
    """The ids to keep of (id, created in Unix seconds), where a higher id is a newer checkpoint; it may be (generation, id).

    Kept are the `last` newest, and of each clock hour (UTC day) that ends less than `hourly` hours (`daily` days) before
    the newest checkpoint, the newest one. What is kept now was kept at every earlier call, so that dropping the rest each
    time leaves the same as dropping once at the end (while `created` does not go back).
    """
    newest_first = sorted(checkpoints, reverse=True)
    chosen = {id for id, _ in newest_first[: max(keep.last, 1)]}
    for span, count in ((HOUR_S, keep.hourly), (DAY_S, keep.daily)):
        seen: set[float] = set()
        for id, created in newest_first:
            bucket = created // span
            if bucket not in seen and bucket > newest_first[0][1] // span - count:
                seen.add(bucket)
                chosen.add(id)
    return chosen


def kept_by_build(checkpoints: Iterable[tuple[Id, float, str]], keep: Retention, build: str) -> set[Id]:
    """As `kept` for (id, created, build), counted for each build by itself, so that one that comes back finds its own.

    Of the builds beside `build`, which writes now, the BUILDS_LAST newest stay, each with its `last` checkpoints, until those
    are as old as the oldest that `keep` would hold; then nobody goes back to them.
    """
    found = sorted(checkpoints, reverse=True)
    builds = list(dict.fromkeys(written for _, _, written in found if written != build))[:BUILDS_LAST]
    chosen = kept([(id, created) for id, created, written in found if written == build], keep)
    newest = max((created for _, created, _ in found), default=0.0)
    span = max(keep.hourly * HOUR_S, keep.daily * DAY_S, DAY_S)
    for other in builds:
        own = [(id, created) for id, created, written in found if written == other][: max(keep.last, 1)]
        chosen |= {id for id, created in own if created > newest - span}
    return chosen
