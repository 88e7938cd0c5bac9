"""Candidates: each source names its best items, and every source scores every one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config_recommend import SOURCES, RecommendSettings
from .content import Content, Taste
from .covisit import Covisits, Near
from .crosses import Crosses
from .factors import Factors, Vectors
from .popular import MAIN, MULTIPLES, Floats, Popular, Segments
from .tables import Rows

Search = Callable[[Vectors, int], tuple[Rows, Vectors]]
Mask = NDArray[np.bool_]
MORE: Final = ("cosine", "next", "taste")  # co-visits by cosine, what comes next, and tokens liked: see Covisits and Content
RECENT: Final = 0  # of the half-lives
NOTHING: Final = np.zeros(0, np.int32)


class Candidates(NamedTuple):
    """Items by row, each once, in the order of their rows; `scores`, `named`: (n, sources).

    Every source scores every candidate, 0 where it has nothing to say of it. `more` (n, MORE): signals beside the sources'.
    `lifts` (n,): how much more than elsewhere what each is like is liked in the segments (see Crosses), None without any.
    `unknown`: ids asked for that are not known.
    """

    rows: Rows
    scores: Vectors
    named: Mask
    more: Vectors
    lifts: Floats | None = None
    unknown: tuple[str, ...] = ()
    sources: tuple[str, ...] = SOURCES

    def __len__(self) -> int:
        return len(self.rows)


class Person(NamedTuple):
    """Who candidates are for: their row (-1: nobody known), what they liked last (rows of items, the newest last), segments."""

    row: int
    last: Rows
    history: Rows
    segments: Sequence[str]


class Sources:
    """The sources of candidates, over the parts of a state."""

    def __init__(
        self,
        settings: RecommendSettings,
        popular: Popular,
        segments: Segments,
        covisits: Covisits,
        factors: Factors,
        content: Content,
        crosses: Crosses,
    ) -> None:
        self._quotas: Mapping[str, int] = {str(name): quota for name, quota in settings.quotas.items()}
        self._exact = settings.exact_items
        self._popular, self._segments = popular, segments
        self._covisits, self._factors, self._content = covisits, factors, content
        self._crosses = crosses

    def named(self, person: Person, ts: float, hidden: Mask, spare: Callable[[int], Rows], search: Search | None) -> Candidates:
        """What the sources name for the person at `ts`, without the hidden items (items,). `spare(n)` names up to n items that
        may be recommended when no source names one."""
        near = self._covisits.near(person.last, ts)
        segment = self._segments.scores(person.segments)
        taste = self._content.taste(person.history)
        quotas, lead = self._quotas, self._popular.leaders
        by_source = dict.fromkeys(SOURCES, NOTHING)
        if quotas["popular"]:
            led = [lead(1 + which, hidden, quotas["popular"]) for which in range(len(MULTIPLES))]
            by_source["popular"] = _unique(led)
        if quotas["recent"]:
            by_source["recent"] = lead(RECENT, hidden, quotas["recent"])
        by_source["covisit"] = _unique(
            [
                _best(near.rows, near.shares, hidden, quotas["covisit"]),
                _best(near.rows, near.cosines, hidden, quotas["covisit"] // 2),
                _best(near.next_rows, near.next_shares, hidden, quotas["covisit"] // 2),
            ]
        )
        by_source["segment"] = _best(*segment, hidden, quotas["segment"])
        every: Vectors | None = None
        if person.row >= 0 and quotas["factors"]:
            by_source["factors"], every = self._of_factors(person, hidden, search)
        if quotas["content"] and len(taste.tokens):
            rows = self._content.named(taste)
            by_source["content"] = _best(rows, self._content.scores(rows, taste)[0], hidden, quotas["content"])
        rows = _unique(list(by_source.values()))
        if not len(rows):
            rows = np.sort(spare(max(quotas.values())))
        found = self._scored(rows, person, ts, near, segment, taste, every)
        for number, name in enumerate(SOURCES):
            found.named[np.searchsorted(rows, by_source[name]), number] = True
        return found

    def given(self, rows: Rows, person: Person, ts: float) -> Candidates:
        """The items of these rows (each once, sorted), scored for the person at `ts`; none of them is named by a source."""
        near, segment = self._covisits.near(person.last, ts), self._segments.scores(person.segments)
        return self._scored(rows, person, ts, near, segment, self._content.taste(person.history), None)

    def _scored(
        self,
        rows: Rows,
        person: Person,
        ts: float,
        near: Near,
        segment: tuple[Rows, Floats],
        taste: Taste,
        every: Vectors | None,
    ) -> Candidates:
        scores = np.zeros((len(rows), len(SOURCES)), np.float32)
        heats = self._popular.heats(rows, ts)
        scores[:, 0], scores[:, 1] = heats[:, MAIN], heats[:, RECENT]
        scores[:, 2], scores[:, 5] = _looked_up(rows, near.rows, near.shares), _looked_up(rows, *segment)
        if person.row >= 0:
            scores[:, 3] = self._factors.scores(self._factors.vector(person.row), rows) if every is None else every[rows]
        more = np.zeros((len(rows), len(MORE)), np.float32)
        more[:, 0] = _looked_up(rows, near.rows, near.cosines)
        more[:, 1] = _looked_up(rows, near.next_rows, near.next_shares)
        scores[:, 4], more[:, 2] = self._content.scores(rows, taste)
        lifts = self._crosses.lifts(person.segments, rows) if self._crosses.declared else None
        return Candidates(rows, scores, np.zeros(scores.shape, np.bool_), more, lifts)

    def _of_factors(self, person: Person, hidden: Mask, search: Search | None) -> tuple[Rows, Vectors | None]:
        """What the factors name, of the items that somebody touched (what they say of others is where those began), and the
        score of every item when each was scored. Of more than `exact_items`, without a search, only the leaders are scored.
        """
        vector, limit = self._factors.vector(person.row), self._quotas["factors"]
        if search is not None:
            rows = search(vector, limit + len(person.history))[0]
            rows = rows[(rows >= 0) & (rows < len(hidden))]
            return rows[~hidden[rows] & self._popular.touched(rows)][:limit], None
        if len(hidden) <= self._exact:
            every = self._factors.scores(vector)
            rows = np.arange(len(hidden), dtype=np.int32)
            return _best(rows, every * self._popular.touched(rows), hidden, limit), every
        rows = self._popular.every_leader()
        return _best(rows, self._factors.scores(vector, rows), hidden, limit), None


def _best(rows: Rows, scores: Floats | Vectors, hidden: Mask, limit: int) -> Rows:
    """At most `limit` of the rows that are not hidden and score above 0, those that score most."""
    kept = ((scores > 0) & ~hidden[rows]).nonzero()[0]
    if len(kept) > limit:
        kept = kept[scores[kept].argpartition(-limit)[-limit:]] if limit else kept[:0]
    return rows[kept]


def _unique(parts: list[Rows]) -> Rows:
    """The rows of all parts, in order and each once."""
    rows = np.concatenate(parts)
    rows.sort()
    first = np.ones(len(rows), np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=first[1:])
    return rows[first]


def _looked_up(rows: Rows, known: Rows, scores: Floats) -> Floats:
    """(rows,): the score of each row among the known ones (sorted or not, each once), 0 for the others."""
    if not len(known) or not len(rows):
        return np.zeros(len(rows))
    place = np.minimum(np.searchsorted(rows, known), len(rows) - 1)
    found = rows[place] == known
    looked_up = np.zeros(len(rows))
    looked_up[place[found]] = scores[found]
    return looked_up
