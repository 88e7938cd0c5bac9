"""The state of a recommender: users, items, what they did together, and the candidates that follow from it.

Everything is a function of the settings, the seed and what was observed, in order. It can be pickled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..config_recommend import RecommendSettings
from ..events import Features
from . import covisit, facets, factors, popular
from .candidates import Candidates, Mask, Person, Search, Sources
from .content import TASTE, Content
from .covisit import Covisits
from .crosses import Crosses
from .factors import Factors
from .history import Histories
from .ids import COLUMNS as ID_COLUMNS
from .ids import Hashes, Ids, hash_of
from .leanings import Leanings
from .leanings import columns as of_leanings
from .popular import Popular, Segments, segments_of
from .tables import Column, Rows, Table
from .times import Times

LET_GO: Final = 2  # stale users, and stale items, that go with each event
NOBODY, OFFERED, WITHDRAWN, DELETED = range(4)  # of a row of items: "available"
SHRUNK: Final = 10.0  # events of an item at which its co-visits and its content say as much about what is similar
COUNTERS: Final[Mapping[str, Column]] = {
    "born": Column("f8"),
    "n": Column("f4"),  # events
    "liked": Column("f4"),  # events of a positive weight
    "shown": Column("f4"),
    "reward": Column("f4"),  # sum of the rewards of what was shown
}


class Interaction(NamedTuple):
    """A user (None: nobody known) acted on an item; `weight` is what the action is worth, `ts` in seconds."""

    user: str | None
    item: str
    action: str
    weight: float
    ts: float
    context: Mapping[str, Any] = {}  # never written


class Ask(NamedTuple):
    """What a recommendation is asked with. `items`: the caller's own candidates; `where`: what fields of an item must be."""

    user: str | None
    ts: float
    context: Mapping[str, Any] = {}  # never written
    k: int = 10
    items: tuple[str, ...] | None = None
    allow: frozenset[str] | None = None
    deny: frozenset[str] = frozenset()
    where: Mapping[str, Any] = {}  # never written
    seen: bool | None = None
    explain: bool = False


class State:
    """Users and items with their factors, histories and counts, `leanings` of each user, and the sources of candidates."""

    def __init__(self, settings: RecommendSettings, seed: int, leanings: int = 0) -> None:
        self.settings = settings
        self.items = Table(
            {
                **ID_COLUMNS,
                **COUNTERS,
                "available": Column("u1"),
                **facets.COLUMNS,
                **popular.columns(settings),
                **covisit.COLUMNS,
                **factors.columns(settings),
            },
            ("id", "fields", "tokens"),
        )
        of_users = {**ID_COLUMNS, **COUNTERS, **factors.columns(settings), **of_leanings(leanings)}
        self.users = Table(of_users, ("id", "fields", "history"))
        self.item_ids = Ids(self.items, settings.max_items, settings.ttl_s)
        self.user_ids = Ids(self.users, settings.max_users, settings.ttl_s)
        self.histories = Histories(self.users, settings.history)
        self.popular = Popular(self.items, settings)
        self.segments = Segments(self.item_ids, settings)
        self.covisits = Covisits(self.items, self.item_ids, settings)
        self.leanings = Leanings(self.users)
        self.factors = Factors(self.users, self.items, settings, seed)
        self.content = Content(self.items, self.item_ids, settings)
        self.crosses = Crosses(self.content, settings)
        self.sources = Sources(settings, self.popular, self.segments, self.covisits, self.factors, self.content, self.crosses)
        self.times = Times()
        self._odd = 0

    @property
    def tables(self) -> dict[str, Table]:
        """All that grows, by name."""
        return {
            "users": self.users,
            "items": self.items,
            "segments": self.segments.table,
            "crosses": self.crosses.table,
            "tokens": self.content.table,
            "near": self.covisits.table,
        }

    def observe(self, seen: Interaction) -> None:
        """Learns from an interaction; an unknown user or item is made. A weight that is no number only counts as odd."""
        weight = seen.weight
        if not math.isfinite(weight):
            self._odd += 1
            return
        ts = self.times.of(seen.ts)
        item = self._item(seen.item, ts)
        self._count(self.items, item, weight)
        user = -1 if seen.user is None else self._user(seen.user, ts)
        segments = self.segments_of(user, seen.context)
        hashed = self.items.cells["hash"][item]
        if weight > 0:
            self.popular.add(item, weight, ts, self.items.cells["available"][item] == OFFERED)
            self.segments.add(segments, item, weight, ts)
            self.crosses.add(segments, item, weight, ts)
        if user >= 0:
            self._count(self.users, user, weight)
            if weight > 0:
                self.covisits.learn(self._last(user, item), item, weight, ts)
                self.factors.learn(user, item, min(weight, 1.0))
            self.histories.add(user, hashed, weight, ts)
        self._let_go(ts, LET_GO)

    def set_item(self, name: str, fields: Mapping[str, Any], ts: float) -> None:
        """Merges the fields over the known ones; None removes one, `available` says whether the item may be recommended."""
        ts = self.times.of(ts)
        row = self._item(name, ts)
        known = self._merged(self.items, row, fields)
        available = known.pop("available", self.items.cells["available"][row] != WITHDRAWN)
        self.items.put("fields", row, _encode(known))
        self.items.raw["facets"][row] = facets.facets_of(known, self.settings.parts)
        self.item_ids.keep(row, True)
        self.content.set(row, known, ts)
        self.offer(row, OFFERED if available or available is None else WITHDRAWN)

    def delete_item(self, name: str) -> None:
        """The item is recommended no more, whatever users still do with it, until `set_item` brings it back."""
        row = self.item_ids.row_of(name)
        if row >= 0:
            self.content.forget(row)
            self.items.put("fields", row, b"")
            self.items.raw["facets"][row] = 0
            self.item_ids.keep(row, False)
            self.offer(row, DELETED)

    def set_user(self, name: str, fields: Mapping[str, Any], ts: float) -> None:
        """Merges the fields over the known ones; None removes one."""
        row = self._user(name, self.times.of(ts))
        self.users.put("fields", row, _encode(self._merged(self.users, row, fields)))

    def delete_user(self, name: str) -> None:
        """Forgets the user."""
        row = self.user_ids.row_of(name)
        if row >= 0:
            self.user_ids.remove(row)

    def candidates(
        self, user: str | None, context: Mapping[str, Any], ts: float, search: Search | None = None, *, seen: bool | None = None
    ) -> Candidates:
        """What the sources name for the user at `ts`, at most their quotas: never what is unavailable or disliked, nor, when
        `seen` (by default the setting) is true, what the user acted on already. None only when all items are.

        `search(vector, n)` gives the rows of about n items with the largest products with the vector, and the products.
        """
        person = self._person(user, context)
        hidden = ~self._offered()
        if person.row >= 0:
            entries = self.histories.of(person.row)
            if not (self.settings.seen if seen is None else seen):
                entries = entries[entries["weight"] < 0]
            rows = self.item_ids.rows(np.ascontiguousarray(entries["item"]))
            hidden[rows[rows >= 0]] = True
        return self.sources.named(person, ts, hidden, lambda limit: self._spare(hidden, limit), search)

    def candidates_of(self, items: Sequence[str], user: str | None, context: Mapping[str, Any], ts: float) -> Candidates:
        """The caller's own candidates, without the unavailable ones; ids that are not known are left out and told."""
        rows = np.array([self.item_ids.row_of(name) for name in items], np.int32)
        unknown = tuple(name for name, row in zip(items, rows.tolist(), strict=True) if row < 0)
        rows = np.unique(rows[rows >= 0])
        found = self.sources.given(rows[self.available(rows)], self._person(user, context), ts)
        return Candidates(*found[:5], unknown)  # its length is not that of a tuple

    def similar(self, name: str, k: int) -> list[tuple[str, float]]:
        """The available items most like this one, at most `k`, and how much, in [0, 1].

        The cosine of co-visits c and that of tokens t are weighed by how much is known: (n c + m t) / (n + m) for an item of
        n events, m = SHRUNK. None for an unknown item.
        """
        row = self.item_ids.row_of(name)
        if row < 0:
            return []
        near, cosines = self.covisits.similar(row, self.times.latest)
        taste = self.content.taste(np.array([row], np.int32))
        rows = np.unique(np.concatenate([near, self.content.named(taste)]))
        n = self.items.cells["liked"][row]
        scores = SHRUNK * self.content.scores(rows, taste)[0]
        scores[np.searchsorted(rows, near)] += n * cosines
        kept = self.available(rows) & (rows != row) & (scores > 0)
        rows, scores = rows[kept], scores[kept] / (n + SHRUNK)
        best = np.argsort(-scores, kind="stable")[:k]
        return [(self.item_ids.id_of(at), score) for at, score in zip(rows[best].tolist(), scores[best].tolist(), strict=True)]

    def available(self, rows: Rows) -> NDArray[np.bool_]:
        """(n,): which of the items may be recommended."""
        offered: Mask = self.items.raw["available"][rows] == OFFERED
        return offered

    def fields_of(self, name: str) -> Features:
        """The item's fields, none when it is unknown."""
        row = self.item_ids.row_of(name)
        return self._fields(self.items, row) if row >= 0 else {}

    def fields_at(self, row: int) -> Features:
        """The fields of the item of this row."""
        return self._fields(self.items, row)

    def user_fields(self, name: str | None) -> Features:
        """The user's fields, none when they are unknown."""
        row = -1 if name is None else self.user_ids.row_of(name)
        return self._fields(self.users, row) if row >= 0 else {}

    def user_row(self, name: str | None) -> int:
        """The user's row, -1 when they are unknown."""
        return -1 if name is None else self.user_ids.row_of(name)

    def segments_of(self, user: int, context: Mapping[str, Any]) -> list[str]:
        """The segments of the user of this row, -1 for nobody known, in this context."""
        known = user >= 0
        fields = self._fields(self.users, user) if known and self.settings.segments else {}
        return segments_of(self.settings.segments, fields, context, self.users.cells["n"][user] if known else 0.0)

    def seen(self, user: str | None) -> Hashes:
        """The hashes of the items that the user acted on positively, the newest last."""
        row = self.user_row(user)
        return self.histories.liked(row) if row >= 0 else np.zeros(0, np.uint64)

    def shown(self, items: Sequence[str], rewards: Sequence[float], user: str | None = None, times: int = 1) -> None:
        """Counts what was shown, and what it earned; with `times` 0 what was counted as shown before has earned more."""
        row = self.user_row(user)
        for name, reward in zip(items, rewards, strict=True):
            item = self.item_ids.row_of(name)
            for table, at in ((self.items, item), (self.users, row)):
                if at >= 0:
                    table.cells["shown"][at] += times
                    table.cells["reward"][at] += reward
                    table.touch(at)

    def evict(self, ts: float) -> None:
        """Lets go of all users and items that are stale at `ts`."""
        self._let_go(self.times.of(ts), max(len(self.users), len(self.items)))

    def counts(self) -> dict[str, int]:
        """How many there are, and how many were let go or put right."""
        return {
            "users": len(self.user_ids),
            "items": len(self.item_ids),
            "available": int(np.count_nonzero(self._offered())),
            "segments": len(self.segments),
            "tokens": len(self.content),
            "users_evicted_lru": self.user_ids.evicted_lru,
            "users_evicted_ttl": self.user_ids.evicted_ttl,
            "items_evicted_lru": self.item_ids.evicted_lru,
            "items_evicted_ttl": self.item_ids.evicted_ttl,
            "clipped": self.factors.clipped,
            "odd": self._odd + self.times.odd,
        }

    def _item(self, name: str, ts: float) -> int:
        """The row of the item, made when it is unknown, as the newest in use."""
        hashed = hash_of(name)
        row = self.item_ids.row_of_hash(hashed)
        if row >= 0:
            self.item_ids.use(row, ts)
            return row
        if self.item_ids.full:
            self._forget_item(self.item_ids.oldest())
            self.item_ids.evicted_lru += 1
        row = self._born(self.items, self.item_ids.add(name, hashed, ts), ts)
        self.items.cells["available"][row] = OFFERED
        return row

    def _user(self, name: str, ts: float) -> int:
        hashed = hash_of(name)
        row = self.user_ids.row_of_hash(hashed)
        if row >= 0:
            self.user_ids.use(row, ts)
            return row
        if self.user_ids.full:
            self.user_ids.remove(self.user_ids.oldest())
            self.user_ids.evicted_lru += 1
        return self._born(self.users, self.user_ids.add(name, hashed, ts), ts)

    def _born(self, table: Table, row: int, ts: float) -> int:
        table.cells["born"][row] = ts
        self.factors.begin(table, row)
        return row

    def _forget_item(self, row: int) -> None:
        self.content.forget(row)
        self.covisits.forget(row)
        self.offer(row, WITHDRAWN)
        self.item_ids.remove(row)

    def _let_go(self, ts: float, limit: int) -> None:
        for _ in range(limit):
            user, item = self.user_ids.stale(ts), self.item_ids.stale(ts)
            if user < 0 and item < 0:
                return
            if user >= 0:
                self.user_ids.remove(user)
                self.user_ids.evicted_ttl += 1
            if item >= 0:
                self._forget_item(item)
                self.item_ids.evicted_ttl += 1

    def offer(self, row: int, state: int) -> None:
        """Whether the item of this row may be recommended: OFFERED, WITHDRAWN or DELETED."""
        cells = self.items.cells["available"]
        former, cells[row] = cells[row], state
        self.items.touch(row)
        if state == OFFERED != former:
            self.popular.offer(row)
        elif state != OFFERED == former:
            self.popular.withdraw(row, self._offered())

    def _offered(self) -> Mask:
        offered: Mask = self.items["available"] == OFFERED
        return offered

    def _spare(self, hidden: Mask, limit: int) -> Rows:
        """Up to `limit` items that are not hidden, those used last; when all are, such that are available."""
        for mask in (hidden, ~self._offered()):
            rows = self.item_ids.newest(limit)
            rows = rows[~mask[rows]]
            if not len(rows):
                rows = np.flatnonzero(~mask)[:limit].astype(np.int32)
            if len(rows):
                return rows
        return np.zeros(0, np.int32)

    @staticmethod
    def _count(table: Table, row: int, weight: float) -> None:
        table.cells["n"][row] += 1
        if weight > 0:
            table.cells["liked"][row] += 1

    def _person(self, user: str | None, context: Mapping[str, Any]) -> Person:
        row = self.user_row(user)
        if row < 0:
            nobody = np.zeros(0, np.int32)
            return Person(row, nobody, nobody, self.segments_of(row, context))
        history = self.item_ids.rows(self.histories.liked(row)[-TASTE:])
        history = history[history >= 0]
        return Person(row, history[-self.settings.last_items :], history, self.segments_of(row, context))

    def _last(self, user: int, item: int) -> Rows:
        """The rows of the items that the user liked last, the newest last, without this one."""
        hashes = self.histories.liked(user)[-self.settings.last_items - 1 :].tolist()
        row_of = self.item_ids.row_of_hash
        rows = [row for hashed in hashes if (row := row_of(hashed)) >= 0 and row != item]
        return np.array(rows[-self.settings.last_items :], np.int32)

    @staticmethod
    def _fields(table: Table, row: int) -> Features:
        value = table.get("fields", row)
        return _decoder.decode(value) if value else {}

    def _merged(self, table: Table, row: int, fields: Mapping[str, Any]) -> Features:
        merged = {**self._fields(table, row), **fields}
        return {name: value for name, value in merged.items() if value is not None}


_decoder: Final = msgspec.msgpack.Decoder(dict[str, Any])
_encode: Final = msgspec.msgpack.Encoder().encode
