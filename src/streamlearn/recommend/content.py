"""Content: what items share by their fields, so that items that nobody has touched can be recommended too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..config_recommend import RecommendSettings
from .ids import COLUMNS as ID_COLUMNS
from .ids import Hashes, Ids, hash_of
from .popular import Floats
from .tables import Column, Rows, Table

MOST_TOKENS: Final = 32  # of an item
FADE: Final = 0.97  # of an item in a user's taste, for each one they acted on since
TASTE: Final = 64  # items of a history that make the taste
STRONGEST: Final = 8  # tokens of a taste by which items are named
Taste = tuple[Hashes, Floats]


class Content:
    """The tokens of items, and of each token the items that got it last.

    A token is a field's name and value; a string is split at `separator` first. The rarer a token is among the items, the more
    it weighs in a taste: by one over the root of its share (as a smoothed inverse frequency).
    """

    NEWEST: Final = 64
    MOST: Final = 100_000

    def __init__(self, items: Table, ids: Ids, settings: RecommendSettings) -> None:
        self._items, self._ids = items, ids
        self._fields, self._separator = settings.item_fields, settings.separator
        self.table = Table({**ID_COLUMNS, "item": Column("u8", self.NEWEST), "at": Column("i8"), "n": Column("f8")}, ("id",))
        self._tokens = Ids(self.table, self.MOST, 0)
        self._n = 0  # tokens of all items

    def __len__(self) -> int:
        return len(self._tokens)

    def tokens_of(self, fields: Mapping[str, Any]) -> list[str]:
        """The tokens of an item with these fields: of `item_fields`, or of all that are strings or true or false."""
        found: list[str] = []
        for name in self._fields or fields:
            value = fields.get(name)
            if isinstance(value, str):
                parts = value.split(self._separator) if self._separator else [value]
                found += [f"{name}={text}" for part in parts if (text := part.strip())]
            elif isinstance(value, bool) or (self._fields and value is not None):
                found.append(f"{name}={value}")
        return list(dict.fromkeys(found))[:MOST_TOKENS]

    def set(self, row: int, fields: Mapping[str, Any], ts: float) -> None:
        """The item's fields are these from now on."""
        former = np.frombuffer(self._items.get("tokens", row), np.uint64).tolist()
        tokens = {hash_of(token): token for token in self.tokens_of(fields)}
        if list(tokens) != former:
            self.forget(row)
            item = self._items.cells["hash"][row]
            for hashed, token in tokens.items():
                self._give(item, hashed, token, hashed not in former, ts)
            self._n += len(tokens)
            self._items.put("tokens", row, np.array(list(tokens), np.uint64).tobytes())

    def forget(self, row: int) -> None:
        """The item has no fields any more."""
        former = np.frombuffer(self._items.get("tokens", row), np.uint64)
        counts = self.table.cells["n"]
        for token in former.tolist():
            found = self._tokens.row_of_hash(token)
            if found >= 0:
                counts[found] = max(counts[found] - 1, 0)
                self.table.touch(found)
        self._n -= len(former)
        if len(former):
            self._items.put("tokens", row, b"")

    def taste(self, history: Rows) -> Taste:
        """The tokens of what a user acted on (rows of items, the newest last), and how much each weighs."""
        joined, lengths = self._joined(history[-TASTE:])
        if not len(joined):
            return joined, np.zeros(0)
        weights = FADE ** np.arange(len(lengths) - 1, -1, -1.0)
        tokens, of = np.unique(joined, return_inverse=True)
        sums = np.bincount(of, np.repeat(weights, lengths), len(tokens))
        rows = self._tokens.rows(tokens)
        shares = (self.table.raw["n"][rows] + 1.0) / (self._n + 1.0)
        return tokens, np.where(rows >= 0, sums / (sums.sum() * np.sqrt(shares)), 0.0)

    def scores(self, rows: Rows, taste: Taste) -> Floats:
        """(n,): of each item the sum of what its tokens weigh in the taste, over the root of how many it has."""
        tokens, weights = taste
        if not len(tokens):
            return np.zeros(len(rows))
        joined, lengths = self._joined(rows)
        place = np.minimum(np.searchsorted(tokens, joined), len(tokens) - 1)
        found = np.where(tokens[place] == joined, weights[place], 0.0)
        sums = np.bincount(np.repeat(np.arange(len(rows)), lengths), found, len(rows))
        return sums / np.sqrt(np.maximum(lengths, 1))

    def named(self, taste: Taste) -> Rows:
        """Items that got the strongest tokens of the taste last, each once."""
        tokens, weights = taste
        if not len(tokens):
            return np.zeros(0, np.int32)
        strongest = np.argsort(-weights, kind="stable")[:STRONGEST]
        rows = self._tokens.rows(tokens[strongest])
        items = np.unique(self.table.raw["item"][rows[rows >= 0]])
        found = self._ids.rows(items)
        return found[found >= 0]

    def alike(self, row: int) -> tuple[Rows, Floats]:
        """Items with tokens of this one, and the cosine of their tokens."""
        tokens = np.unique(np.frombuffer(self._items.get("tokens", row), np.uint64))
        taste = tokens, np.full(len(tokens), max(len(tokens), 1) ** -0.5)
        rows = self.named(taste)
        return rows, self.scores(rows, taste)

    def _give(self, item: int, hashed: int, token: str, new: bool, ts: float) -> None:
        row = self._tokens.row_of_hash(hashed)
        if row < 0:
            if self._tokens.full:
                self._tokens.remove(self._tokens.oldest())
            row = self._tokens.add(token, hashed, ts)
        else:
            self._tokens.use(row, ts)
        self.table.cells["n"][row] += 1
        if new:
            at = self.table.cells["at"]
            self.table.raw["item"][row, at[row] % self.NEWEST] = item
            at[row] += 1

    def _joined(self, rows: Rows) -> tuple[Hashes, NDArray[np.int64]]:
        """The tokens of the items one after another, and how many each has."""
        column = self._items.column("tokens")
        some = [column[row] for row in rows.tolist()]
        lengths = np.fromiter(map(len, some), np.int64, len(some)) // 8
        return np.frombuffer(b"".join(some), np.uint64), lengths
