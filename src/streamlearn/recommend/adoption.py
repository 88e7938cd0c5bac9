"""What a version of a recommender takes over from the one before it: what that was told, and what its users did.

What was learned from that is not taken over. It is done in arrays, since learning stands still meanwhile; and where both know
the same, nothing is touched, so that there is nothing to publish.
"""

from __future__ import annotations

from operator import ne

import numpy as np
from numpy.typing import NDArray

from .facets import facets_of
from .ids import KEPT, Ids
from .state import OFFERED, State
from .tables import Rows, Table


def adopt(state: State, former: State) -> None:
    """Fields and availability of items become those that `former` knows. Users that lack fields or a history get theirs.

    Whoever is not known here was used longer ago than all who are; for whom there is no room, the oldest first, is left out.
    """
    state.times.latest = max(state.times.latest, former.times.latest)
    _items(state, former)
    _users(state, former)


def _items(state: State, former: State) -> None:
    given, states = former.items.column("fields"), former.items.raw["available"]
    told = _some(former.items, "fields")
    theirs = np.flatnonzero((former.items["hash"] != 0) & (told | (states[: len(told)] != OFFERED))).astype(np.int32)
    theirs, rows, fresh = _met(state, state.item_ids, state.items, former.items, theirs)
    state.items.raw["available"][fresh] = OFFERED
    mine, ours = map(state.items.column("fields").__getitem__, rows.tolist()), map(given.__getitem__, theirs.tolist())
    differ = np.fromiter(map(ne, mine, ours), np.bool_, len(rows)) & told[theirs]
    for row, their in zip(rows[differ].tolist(), theirs[differ].tolist(), strict=True):
        state.items.put("fields", row, given[their])
    state.item_ids.keep_all(rows[told[theirs]])
    if state.content.agrees(former.content):
        state.content.adopt(former.content, theirs[differ], rows[differ])
        state.items.raw["facets"][rows[differ]] = former.items.raw["facets"][theirs[differ]]
    else:
        for row in rows[differ].tolist():
            fields = state.fields_at(row)
            state.content.set(row, fields, float(state.items.cells["last"][row]))
            state.items.raw["facets"][row] = facets_of(fields, state.settings.parts)
    for at in np.flatnonzero(state.items.raw["available"][rows] != states[theirs]).tolist():
        state.offer(int(rows[at]), int(states[theirs[at]]))


def _users(state: State, former: State) -> None:
    theirs = np.flatnonzero(former.users["hash"]).astype(np.int32)
    theirs, rows, _ = _met(state, state.user_ids, state.users, former.users, theirs)
    for name in ("fields", "history"):
        given = former.users.column(name)
        lack = _some(former.users, name)[theirs] & ~_some(state.users, name)[rows]
        for row, their in zip(rows[lack].tolist(), theirs[lack].tolist(), strict=True):
            state.users.put(name, row, given[their])


def _met(state: State, ids: Ids, table: Table, other: Table, theirs: Rows) -> tuple[Rows, Rows, Rows]:
    """Those of the other table's rows that have one here now, these, and which of these are new; the new ones last, and in the
    order in which they were used there."""
    rows = ids.rows(other.raw["hash"][theirs])
    lacking = theirs[rows < 0]
    lacking = lacking[np.argsort(other.raw["used"][lacking] & np.uint64(KEPT - 1))][max(0, len(lacking) - ids.room) :]
    names = [other.get("id", row) for row in lacking.tolist()]
    fresh = ids.add_older(names, other.raw["hash"][lacking], other.raw["last"][lacking])
    table.raw["born"][fresh] = table.raw["last"][fresh]
    state.factors.begin_all(table, fresh)
    return np.concatenate([theirs[rows >= 0], lacking]), np.concatenate([rows[rows >= 0], fresh]), fresh


def _some(table: Table, name: str) -> NDArray[np.bool_]:
    """(n,): in which rows a ragged column holds something."""
    values = table.column(name)
    return np.fromiter(map(bool, values), np.bool_, len(values))
