"""What a shard learns of items from users who are not its own: how popular they are, beside what, in which segments.

Users are spread over shards, and each shard knows its own alone; but an item is liked by users of all of them. So a shard tells
the others of each positive interaction what it means for the items, without saying whose it was, and hears the same of theirs.
Factors are not told: those of two shards are learned apart and do not mean the same.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from .state import LET_GO, OFFERED, Interaction, State


class Heard(msgspec.Struct, array_like=True):
    """A positive interaction as items have it. `last`: hashes (uint64) of what its user liked last, the newest last."""

    item: str
    weight: float
    ts: float
    last: bytes = b""
    segments: tuple[str, ...] = ()


def told(state: State, seen: Interaction) -> Heard | None:
    """What the other shards are told of an interaction that is about to be observed; None of one that says nothing of items."""
    if not 0 < seen.weight < math.inf:
        return None
    row = state.user_row(seen.user)
    last = state.histories.liked(row)[-state.settings.last_items :] if row >= 0 else np.zeros(0, np.uint64)
    return Heard(seen.item, seen.weight, seen.ts, last.tobytes(), tuple(state.segments_of(row, seen.context)))


def hear(state: State, heard: Heard) -> None:
    """Learn of an interaction that another shard observed."""
    ts = state.times.of(heard.ts)
    item = state._item(heard.item, ts)
    state._count(state.items, item, heard.weight)
    state.popular.add(item, heard.weight, ts, state.items.cells["available"][item] == OFFERED)
    state.segments.add(heard.segments, item, heard.weight, ts)
    state.crosses.add(heard.segments, item, heard.weight, ts)
    rows = state.item_ids.rows(np.frombuffer(heard.last, np.uint64))
    state.covisits.learn(rows[(rows >= 0) & (rows != item)][-state.settings.last_items :], item, heard.weight, ts)
    state._let_go(ts, LET_GO)
