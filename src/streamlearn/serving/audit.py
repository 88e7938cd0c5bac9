"""The audit trail by pages, and searched: the store has the documents, an index of their texts is kept here.

An audit document's id is its offset in the control log: a page is asked for by ids, and the newest one as fast as the oldest.
A search looks at an index that is made at the first one and then extended by what is new; it holds the newest `MOST` entries,
with at most `TEXT` characters of each. Should the store have lost the views, or hold those of another log, it is made anew.
"""

from __future__ import annotations

import re
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ..records import audit_id
from ..store import Store

MOST: Final = 200_000
TEXT: Final = 2000
PAGE: Final = 1000
MOST_JSON: Final = 20_000  # characters of a document in which texts are looked for
_STRING: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)"(:)?')  # and the colon after a key; written so that it never goes back
_ESCAPED: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")

Doc = dict[str, Any]


class _Head(msgspec.Struct):
    """What every record of the control log has, by one name or another."""

    at: float = 0.0
    model: str = ""
    type: str = ""
    kind: str = ""
    action: str = ""
    by: str = ""
    holder: str = ""


_heads: Final = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries, and which page of them: at most `limit` after the one with the id `after`, oldest first unless `desc`.

    `q`: words that must all occur somewhere in an entry's texts; `by` must occur in who it was; both in whatever case.
    `kind` is a decision's kind, or a request's action. `since` and `until`: Unix seconds, [since, until).
    """

    limit: int
    after: str | None = None
    desc: bool = False
    q: str = ""
    model: str | None = None
    type: str | None = None
    kind: str | None = None
    by: str = ""
    since: float | None = None
    until: float | None = None

    @property
    def searches(self) -> bool:
        """Whether it is for some entries alone."""
        bounded = self.since is not None or self.until is not None
        return bool(self.q.strip() or self.by or bounded) or any(one is not None for one in (self.model, self.type, self.kind))


class Audit:
    """The trail in `store`. Safe to use from several threads. Its methods raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._forget()

    def page(self, query: Query) -> tuple[list[Doc], str | None, int | None]:
        """(entries, the id to go on after or None, how many a search found in all). Raises KeyError for an unknown `after`."""
        start = None if query.after is None else self._place(query.after)
        if not query.searches:
            found = list(self._walk(query.desc, start, query.limit + 1))
            page = found[: query.limit]
            return page, str(page[-1]["id"]) if len(found) > query.limit else None, None
        with self._lock:
            for _ in range(2):
                self._extend()
                matching = self._matching(query)
                chosen = _after(matching, start, query.desc)
                ids = [audit_id(offset) for offset in chosen[: query.limit]]
                docs = self._docs(ids)
                if len(docs) == len(ids):
                    break
                self._forget()  # what was indexed is no longer there: these are other views
        page = [docs[id] for id in ids if id in docs]
        return page, ids[-1] if len(chosen) > query.limit else None, len(matching)

    def _place(self, id: str) -> int:
        if not id.isdecimal() or audit_id(int(id)) != id or not self._docs([id]):
            raise KeyError(id)
        return int(id)

    def _docs(self, ids: list[str]) -> dict[str, Doc]:
        found = self._store.views("audit", ids) if ids else {}
        return {id: {"id": id} | msgspec.json.decode(doc, type=dict[str, Any]) for id, doc in found.items()}

    def _walk(self, desc: bool, start: int | None, count: int) -> Iterator[Doc]:
        """At most `count` documents in order, beyond the offset `start`; a log has offsets without a document, too."""
        end = self._store.view_offset()
        at = (end if start is None else start) if desc else (-1 if start is None else start)
        while count > 0:
            offsets = range(at - 1, max(at - 1 - count, -1), -1) if desc else range(at + 1, min(at + 1 + count, end))
            if not offsets:
                return
            docs = self._docs([audit_id(offset) for offset in offsets])
            for offset in offsets:
                doc = docs.get(audit_id(offset))
                if doc is not None:
                    count -= 1
                    yield doc
            at = offsets[-1]

    # The index.

    def _forget(self) -> None:
        self._next = 0
        self._offsets, self._times = array("q"), array("d")
        self._texts: list[str] = []
        self._names: dict[str, int] = {}  # of models, types, kinds and people, each by a number
        self._columns = {name: array("L") for name in ("model", "type", "kind", "by")}

    def _extend(self) -> None:
        end = self._store.view_offset()
        if end < self._next:
            self._forget()
        self._next = max(self._next, end - MOST)
        while self._next < end:
            upto = min(self._next + PAGE, end)
            for id, doc in self._store.views("audit", [audit_id(offset) for offset in range(self._next, upto)]).items():
                self._add(int(id), doc)
            self._next = upto
        surplus = len(self._offsets) - MOST
        if surplus > PAGE:
            for column in (self._offsets, self._times, self._texts, *self._columns.values()):
                del column[:surplus]  # type: ignore[attr-defined]

    def _add(self, offset: int, doc: bytes) -> None:
        head = _heads.decode(doc)
        self._offsets.append(offset)
        self._times.append(head.at)
        self._texts.append(text_of(doc.decode()).casefold())
        told = {"model": head.model, "type": head.type, "kind": head.kind or head.action, "by": head.by or head.holder}
        for name, column in self._columns.items():
            column.append(self._names.setdefault(told[name], len(self._names)))

    def _matching(self, query: Query) -> list[int]:
        """The offsets of the entries that are asked for, ascending."""
        found: Any = range(len(self._offsets))
        for name, wanted in (("model", query.model), ("type", query.type), ("kind", query.kind)):
            if wanted is not None:
                column, code = self._columns[name], self._names.get(wanted, -1)
                found = [i for i in found if column[i] == code]
        if query.by:
            part, column = query.by.casefold(), self._columns["by"]
            codes = {code for name, code in self._names.items() if part in name.casefold()}
            found = [i for i in found if column[i] in codes]
        times, texts = self._times, self._texts
        if query.since is not None:
            found = [i for i in found if times[i] >= query.since]
        if query.until is not None:
            found = [i for i in found if times[i] < query.until]
        for word in query.q.casefold().split():
            found = [i for i in found if word in texts[i]]
        return [self._offsets[i] for i in found]


def text_of(doc: str) -> str:
    """Every text that is a value in a document of JSON, in one line, in its order: who, what and why come before the numbers.

    Cut at `TEXT` characters.
    """
    text = " ".join(value for value, key in _STRING.findall(doc, 0, MOST_JSON) if not key)[:TEXT]
    return _ESCAPED.sub(lambda found: str(msgspec.json.decode(f'"{found[0]}"')), text) if "\\" in text else text


def _after(offsets: list[int], start: int | None, desc: bool) -> list[int]:
    ordered = offsets[::-1] if desc else offsets
    if start is None:
        return ordered
    return [offset for offset in ordered if (offset < start if desc else offset > start)]
