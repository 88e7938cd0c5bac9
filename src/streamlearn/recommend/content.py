"""Content: what items share by their fields, so that items that nobody has touched can be recommended too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config_recommend import RecommendSettings
from .ids import COLUMNS as ID_COLUMNS
from .ids import Hashes, Ids, summed
from .popular import Floats
from .tables import Column, Rows, Table

MOST_TOKENS: Final = 32  # of an item
FADE: Final = 0.97  # of an item in a user's taste, for each one they acted on since
TASTE: Final = 64  # items of a history that make the taste
LAST: Final = 5  # items of a history that others are compared with
STRONGEST: Final = 8  # tokens of a history by which items are named


class Taste(NamedTuple):
    """Tokens by row, in order and each once: what each says of an item that has it."""

    tokens: Rows
    alike: Floats
    liked: Floats


class Content:
    """The tokens of items, and of each token the items that got it last.

    A token is a field's name and value; a string is split first, at every character that `separator` holds. A token that d of N
    items have weighs log(1 + N / d) (inverse document frequency).
    """

    NEWEST: Final = 64
    MOST: Final = 100_000

    def __init__(self, items: Table, ids: Ids, settings: RecommendSettings) -> None:
        self._items, self._ids = items, ids
        self._fields = settings.item_fields
        self.table = Table({**ID_COLUMNS, "item": Column("u8", self.NEWEST), "at": Column("i8"), "n": Column("f8")}, ("id",))
        self._tokens = Ids(self.table, self.MOST, 0)
        self._cut = re.compile(f"[{re.escape(settings.separator)}]") if settings.separator else None
        self._n = self._described = 0  # tokens of all items, items that have any

    def __len__(self) -> int:
        return len(self._tokens)

    def tokens_of(self, fields: Mapping[str, Any]) -> list[str]:
        """The tokens of an item with these fields: of `item_fields`, or of all that are strings or true or false."""
        found: list[str] = []
        for name in self._fields or fields:
            value = fields.get(name)
            if isinstance(value, str):
                parts = self._cut.split(value) if self._cut else [value]
                found += [f"{name}={text}" for part in parts if (text := part.strip())]
            elif isinstance(value, bool) or (self._fields and value is not None):
                found.append(f"{name}={value}")
        return list(dict.fromkeys(found))[:MOST_TOKENS]

    def set(self, row: int, fields: Mapping[str, Any], ts: float) -> None:
        """The item's fields are these from now on."""
        former = self._of(row)
        rows = [self._tokens.met(token, ts) for token in self.tokens_of(fields)]
        refs = [self._tokens.ref(token) for token in rows]
        if refs != former.tolist():
            self.forget(row)
            item, at = self._ids.ref(row), self.table.cells["at"]
            for token, ref in zip(rows, refs, strict=True):
                self.table.cells["n"][token] += 1
                if ref not in former:
                    self.table.raw["item"][token, at[token] % self.NEWEST] = item
                    at[token] += 1
            self._n += len(rows)
            self._described += bool(rows)
            self._items.put("tokens", row, np.array(refs, np.uint64).tobytes())

    def adopt(self, former: Content, theirs: Rows, rows: Rows) -> None:
        """The tokens of these items are from now on those that `former`, which reads fields as this does, has of `theirs`."""
        found, lengths = former._joined(theirs)
        tokens = self._like(former, found)[found]
        of = np.arange(len(rows)).repeat(lengths)[tokens >= 0]
        tokens = tokens[tokens >= 0]
        refs, ends = self._tokens.refs(tokens).tobytes(), 8 * np.bincount(of, minlength=len(rows)).cumsum()
        differ, start = np.zeros(len(rows), np.bool_), 0
        for at, (row, end) in enumerate(zip(rows.tolist(), ends.tolist(), strict=True)):
            before = self._items.get("tokens", row)
            if before != refs[start:end]:
                if before:
                    self.forget(row)
                self._items.put("tokens", row, refs[start:end])
                differ[at] = True
            start = end
        of, tokens = of[differ[of]], tokens[differ[of]]
        self._n += len(tokens)
        self._described += int(np.count_nonzero(np.bincount(of)))
        self._list(tokens, self._ids.refs(rows[of]))

    def agrees(self, other: Content) -> bool:
        """Whether it reads the same tokens in an item's fields."""
        return (self._fields, self._cut) == (other._fields, other._cut)

    def forget(self, row: int) -> None:
        """The item has no fields any more."""
        former = self._of(row)
        if len(former):
            known = self._tokens.deref(former)
            known = known[known >= 0]
            self.table.raw["n"][known] -= 1
            self.table.touch(known)
            self._n -= len(former)
            self._described -= 1
            self._items.put("tokens", row, b"")

    def refs(self, rows: Rows) -> tuple[Hashes, NDArray[np.int64]]:
        """References to the tokens of the items, one after another, and which of the items each is of."""
        some = self._items.some("tokens", rows)
        lengths = np.fromiter(map(len, some), np.int64, len(some)) // 8
        return np.frombuffer(b"".join(some), np.uint64), np.arange(len(some)).repeat(lengths)

    def taste(self, history: Rows) -> Taste:
        """What a user's history (rows of items, the newest last, p = 1) says of tokens.

        `alike`: the sum over the LAST items of p^-1/2 w^2 / |item|: w is a token's weight, |item| the root of the sum of w^2.
        `liked`: the token's share of what the last TASTE items have, each fading by FADE, over the root of its share of all.
        """
        history = history[-TASTE:]
        tokens, lengths = self._joined(history)
        age = np.arange(len(history) - 1, -1, -1.0)
        of, squares, lengths_w = self._weighed(tokens, lengths)
        near = np.where(age < LAST, (age + 1.0) ** -0.5, 0.0) / np.maximum(lengths_w, 1e-30)
        found, alike, liked = summed(tokens, squares * near[of], (FADE**age)[of])
        shares = (self.table.raw["n"][found] + 1.0) / (self._n + 1.0)
        return Taste(found, alike, liked / (max(liked.sum(), 1e-30) * np.sqrt(shares)))

    def scores(self, rows: Rows, taste: Taste) -> tuple[Floats, Floats]:
        """(n,) twice: of each item the sum of its tokens' `alike` over |item|, of their `liked` over the root of how many."""
        if not len(taste.tokens):
            return np.zeros(len(rows)), np.zeros(len(rows))
        tokens, lengths = self._joined(rows)
        of, _, lengths_w = self._weighed(tokens, lengths)
        place = np.minimum(taste.tokens.searchsorted(tokens), len(taste.tokens) - 1)
        has = taste.tokens[place] == tokens
        alike = np.bincount(of[has], taste.alike[place[has]], len(rows)) / np.maximum(lengths_w, 1e-30)
        liked = np.bincount(of[has], taste.liked[place[has]], len(rows)) / np.sqrt(np.maximum(lengths, 1))
        return alike, liked

    def named(self, taste: Taste) -> Rows:
        """Items that got last the tokens by which items are most alike, in the order of their rows and each once."""
        strongest = np.argsort(-taste.alike, kind="stable")[:STRONGEST]
        strongest = strongest[taste.alike[strongest] > 0]
        found: Rows = summed(self._ids.deref(self.table.raw["item"][taste.tokens[strongest]].ravel()))[0]
        return found

    def _like(self, former: Content, found: Rows) -> Rows:
        """By row of `former`, the row of each of the tokens that were found there; -1 for others. The last one is of row -1."""
        rows = np.full(len(former.table) + 1, -1, np.int32)
        order = former._tokens.newest(len(former.table))[::-1]
        order = order[np.isin(order, found)]
        for row in order.tolist():
            rows[row] = self._tokens.met(former._tokens.id_of(row), float(former.table.cells["last"][row]))
        here = rows[order]  # where there is no room for all, the first have gone again
        rows[order[self.table.raw["hash"][here] != former.table.raw["hash"][order]]] = -1
        return rows

    def _list(self, tokens: Rows, items: Hashes) -> None:
        """Each token is got by the item beside it (a reference), one after the other."""
        order = np.argsort(tokens, kind="stable")
        tokens, items = tokens[order], items[order]
        found, first, counts = np.unique(tokens, return_index=True, return_counts=True)
        place = np.arange(len(tokens)) - first.repeat(counts)
        late = place >= (counts - self.NEWEST).repeat(counts)
        at = (self.table.raw["at"][tokens] + place)[late] % self.NEWEST
        self.table.raw["item"][tokens[late], at] = items[late]
        self.table.raw["at"][found] += counts
        self.table.raw["n"][found] += counts
        self.table.touch(found)

    def _of(self, row: int) -> Hashes:
        return np.frombuffer(self._items.get("tokens", row), np.uint64)

    def _joined(self, rows: Rows) -> tuple[Rows, NDArray[np.int64]]:
        """The tokens of the items one after another (-1: let go), and how many each has."""
        some = self._items.some("tokens", rows)
        lengths = np.fromiter(map(len, some), np.int64, len(some)) // 8
        return self._tokens.deref(np.frombuffer(b"".join(some), np.uint64)), lengths

    def _weighed(self, tokens: Rows, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Which item each of the tokens is of, its squared weight, and the root of the sum of these for each item."""
        of = np.arange(len(lengths)).repeat(lengths)
        squares = np.log1p(self._described / np.maximum(self.table.raw["n"][tokens], 1.0)) ** 2 * (tokens >= 0)
        return of, squares, np.sqrt(np.bincount(of, squares, len(lengths)))
