"""Which checkpoints outlive the next one: the last few, then one an hour, then one a day. Pure; deletes nothing itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from . import Retention

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0


def kept(checkpoints: Iterable[tuple[int, float]], keep: Retention) -> set[int]:
    """The ids to keep of (id, created in Unix seconds), where a higher id is a newer checkpoint.

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
