"""The recommender: what learns from interactions, records and shown slates, and answers what comes next.

Everything is a function of the settings, the seed and what was learned, in order; chance on a slate comes from the `draw` that
the caller gives.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..config_recommend import SOURCES, RecommendSettings
from ..events import Features as Fields
from . import rules
from .adoption import adopt
from .candidates import Candidates, Search
from .facets import may_match
from .fallback import fill
from .features import Features
from .linear import sigmoid
from .ranker import DEFAULT, Ranker
from .slates import Chosen, Slate, arrange, expose, sources_of
from .state import OFFERED, Ask, Interaction, State
from .tables import Rows

REASONS: Final = 10  # features named by explain, at most

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]
Bools = NDArray[np.bool_]


class ShownItem(Protocol):
    """One item of a slate, see events; `position` 0: by the order."""

    @property
    def item(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def f(self) -> list[float] | None: ...


class _Stage(NamedTuple):
    """Candidates with their features and logits; `of`: the interaction that they were made for."""

    of: Interaction | None
    candidates: Candidates
    f: Matrix
    logits: Floats


class _Pool(NamedTuple):
    """Items that may be shown, the best first, and what named each: a place among the candidates, or a kind of filling."""

    rows: Rows
    f: Matrix
    logits: Floats
    named: Sequence[int | str]


class Recommender:
    """`pipeline` and `params` are the ranker's; `settings`, `seed`, `state`, `ranker` and `feature_names` are for reading.

    Raises ModelError for a pipeline that is none.
    """

    def __init__(
        self, settings: RecommendSettings, seed: int, pipeline: str = DEFAULT, params: Mapping[str, Any] | None = None
    ) -> None:
        self.settings, self.seed = settings, seed
        self._features = Features(settings, leans=pipeline == "mlp")
        self.state = State(settings, seed, len(self._features.leaning))
        self.feature_names = self._features.names
        self.ranker = Ranker(self.feature_names, pipeline, seed, settings.labels == "at_once", params)
        self._random = random.Random(seed)
        self._positives = 0
        self._shown, self._earned = 0, 0.0  # items of slates, and the sum of their rewards
        self._made: _Stage | None = None  # of the interaction that was ranked last, for its learning

    def configure(self, settings: RecommendSettings) -> None:
        """Go by these settings from now on, but for those that what was learned depends on."""
        self.settings = self.state.settings = settings.learned(self.settings)

    # What is learned

    def rank(self, i: Interaction) -> int:
        """Where the interaction's item stands among the candidates of this moment, 1-based; 0: not among them, or seen before.

        Before it is learned: nothing of the interaction but who and when (and its context) is looked at.
        """
        self._made = stage = self._stage(self.state.candidates(i.user, i.context, i.ts), i.user, i.ts, i)
        at = self._at(stage, i.item)
        if at < 0:
            return 0
        own = stage.logits[at]
        return int(np.count_nonzero(stage.logits > own)) + int(np.count_nonzero(stage.logits[:at] == own)) + 1

    def baseline_ranks(self) -> tuple[int, int]:
        """Where the item ranked last stands among the same candidates by what is recent, and by what is popular; 0 where that
        speaks for it by nothing."""
        stage = self._made
        at = -1 if stage is None or stage.of is None else self._at(stage, stage.of.item)
        if stage is None or at < 0:
            return 0, 0
        scores = stage.candidates.scores
        recent, popular = (
            int(np.count_nonzero(scores[:, source] > scores[at, source])) + 1 if scores[at, source] > 0 else 0
            for source in (SOURCES.index("recent"), SOURCES.index("popular"))
        )
        return recent, popular

    def listed(self, k: int, source: str | None = None) -> list[int]:
        """The rows of the first `k` items of the ranking that was made last, or of its order by what a source says of them."""
        stage = self._made
        if stage is None:
            return []
        scores = stage.logits if source is None else stage.candidates.scores[:, SOURCES.index(source)]
        first = np.argsort(-scores, kind="stable")[:k]
        rows: list[int] = stage.candidates.rows[first if source is None else first[scores[first] > 0]].tolist()
        return rows

    def left_out(self, i: Interaction) -> bool:
        """Whether the item is not shown to the user again, since it was seen."""
        if not self.settings.seen or i.user is None:
            return False
        row = self.state.item_ids.row_of(i.item)
        return row >= 0 and bool(np.any(self.state.seen(i.user) == self.state.items.raw["hash"][row]))

    def learn(self, i: Interaction, organic: bool = True) -> None:
        """The sources learn the interaction; a listwise ranker too, another one when it was `organic` (not the outcome of a
        slate that is learned).

        What was taken is preferred to all the other candidates, or, by a ranker that is not listwise, to `negatives` of them,
        drawn by how likely it thinks them; what was disliked is learned as worth nothing.
        """
        stage, self._made = self._made, None
        liked: Matrix | None = None
        if i.weight > 0 and (organic or self.ranker.listwise):
            due, self._positives = self._positives % self.settings.rank_every == 0, self._positives + 1
            if (stage is None or stage.of != i) and due:
                stage = self._stage(self.state.candidates(i.user, i.context, i.ts), i.user, i.ts, i)
            if stage is not None and stage.of == i and (at := self._at(stage, i.item)) >= 0:
                self._prefer(stage, at, i)
                liked = stage.f[at]
        elif organic and i.weight < 0:
            disliked = self._stage(self.state.candidates_of([i.item], i.user, i.context, i.ts), i.user, i.ts, None)
            if len(disliked.f):
                self.ranker.learn(disliked.f[0], 0.0, min(-i.weight / self.settings.scale, 1.0))
        self.state.observe(i)
        if liked is not None:
            self._lean(i.user, liked, i.weight)

    def features_of(self, user: str | None, context: Fields, ts: float, items: Sequence[str]) -> list[list[float] | None]:
        """The rows of ranking features of items as they are now, to be kept until it is known what became of a slate that
        another made; None for an item that is not known."""
        candidates = self.state.candidates_of(items, user, context, ts)
        rows = dict(zip(candidates.rows.tolist(), self._matrix(candidates, user, ts).tolist(), strict=True))
        return [rows.get(self.state.item_ids.row_of(item)) for item in items]

    def learn_shown(
        self, user: str | None, context: Fields, ts: float, shown: Sequence[ShownItem], rewards: Sequence[float]
    ) -> None:
        """A slate that is closed: what each item earned, as the sum of its actions' weights.

        The ranker learns the rows `f` as they were served, or is calibrated by them; where an item has none, its row as it is
        now.
        """
        for f, reward in zip(self._rows(user, context, ts, shown), rewards, strict=True):
            if f is not None:
                self.ranker.shown(f, self.settings.reward(reward))
        worth = [self.settings.reward(reward) for reward in rewards]
        self._shown, self._earned = self._shown + len(worth), self._earned + sum(worth)
        self.state.shown([one.item for one in shown], worth, user)

    def learn_emitted(self, user: str | None, context: Fields, ts: float, shown: Sequence[ShownItem]) -> None:
        """A slate that is shown just now, with labels = "at_once": as if nothing will be taken, which `learn_clicked` mends."""
        self.learn_shown(user, context, ts, shown, [0.0] * len(shown))

    def learn_clicked(self, user: str | None, context: Fields, ts: float, shown: ShownItem, reward: float) -> None:
        """One item of an emitted slate earned this much, with labels = "at_once"."""
        for f in self._rows(user, context, ts, [shown]):
            if f is not None:
                self.ranker.shown(f, self.settings.reward(reward))
        worth = self.settings.reward(reward)
        self._earned += worth
        self.state.shown([shown.item], [worth], user, times=0)

    def set_item(self, item: str, fields: Fields, ts: float) -> None:
        """Fields merge over the known ones, None takes one away; `available` False takes the item out of answers."""
        self.state.set_item(item, fields, ts)

    def delete_item(self, item: str) -> None:
        self.state.delete_item(item)

    def set_user(self, user: str, fields: Fields, ts: float) -> None:
        self.state.set_user(user, fields, ts)

    def delete_user(self, user: str) -> None:
        self.state.delete_user(user)

    def adopt(self, former: Recommender) -> None:
        """Takes over the facts of a former model: fields, availability, histories."""
        adopt(self.state, former.state)

    # What is answered

    def recommend(self, ask: Ask, draw: random.Random, search: Search | None = None) -> Slate:
        """At most `k` items for the user, or for nobody in particular; never empty while there is one that the filters let by.

        `search` finds the items whose factors suit a vector. What is short is filled up by what is popular, then recent, then
        by any that is available. Caps and diversity only choose and order, so they never empty a slate; that an item was seen
        gives way when nothing else is left. What is unavailable or denied, or what a filter leaves out, is never shown.
        """
        if ask.items is not None or ask.allow is not None:
            return self.rank_own(ask, draw)
        candidates = self.state.candidates(ask.user, ask.context, ask.ts, search, seen=ask.seen)
        return self._slate(ask, draw, candidates)

    def rank_own(self, ask: Ask, draw: random.Random) -> Slate:
        """The same of the caller's own candidates (`ask.items`, else `ask.allow`) alone."""
        own = ask.items if ask.items is not None else tuple(sorted(ask.allow or ()))
        candidates = self.state.candidates_of(own, ask.user, ask.context, ask.ts)
        return self._slate(ask, draw, candidates)

    def similar(self, item: str, k: int) -> list[tuple[str, float]]:
        """The items most like this one, with how alike; none of an unknown item."""
        return self.state.similar(item, k)

    def counts(self) -> dict[str, int]:
        return self.state.counts()

    def factors(self) -> tuple[Rows, Matrix]:
        """The rows of items and their factors [n, d], for an index."""
        rows = np.flatnonzero(self.state.items["hash"]).astype(np.int32)
        return rows, self.state.items["factors"][rows]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}

    def __fingerprint__(self) -> str:
        """SHA-256 over the values of the tables and of the ranker: equal for two that learned the same."""
        total = hashlib.sha256(self.ranker.__fingerprint__().encode())
        total.update(repr((self._random.getstate(), self._positives, self._shown, self._earned)).encode())
        for name, table in sorted(self.state.tables.items()):
            for column, values in sorted(table.arrays().items()):
                total.update(f"{name}.{column} {values.dtype.str} {values.shape}".encode())
                total.update(np.ascontiguousarray(values).tobytes())
        return total.hexdigest()

    # The stages

    def _matrix(self, candidates: Candidates, user: str | None, ts: float, shown: bool = False) -> Matrix:
        reward = self._earned / self._shown if self._shown else 0.0
        return self._features.matrix(self.state, candidates, user, ts, reward, shown)

    def _stage(
        self,
        candidates: Candidates,
        user: str | None,
        ts: float,
        of: Interaction | None,
        shown: bool = False,
    ) -> _Stage:
        f = self._matrix(candidates, user, ts, shown)
        logits = self.ranker.logits(f) if len(f) else np.empty(0)
        return _Stage(of, candidates, f, logits)

    def _seen(self, rows: Rows, user: str | None) -> Bools:
        return np.isin(self.state.items.raw["hash"][rows], self.state.seen(user))

    def _at(self, stage: _Stage, item: str) -> int:
        found = np.flatnonzero(stage.candidates.rows == self.state.item_ids.row_of(item))
        return int(found[0]) if len(found) else -1

    def _prefer(self, stage: _Stage, at: int, i: Interaction) -> None:
        worse = [] if self.ranker.listwise else self._drawn(stage.logits, at)
        if len(stage.f) > 1 and (worse or self.ranker.listwise):
            self.ranker.prefer(stage.f, at, worse, min(i.weight / self.settings.scale, 1.0))

    def _lean(self, user: str | None, f: Matrix, reward: float) -> None:
        """The user liked the item that this row of features was made for."""
        row, leaning, recipe = self.state.user_row(user), self._features.leaning, self.ranker.recipe
        if recipe is not None and len(leaning) and row >= 0 and reward > 0:
            self.state.leanings.learn(row, recipe.scaled(f)[leaning], self.settings.reward(reward))

    def _drawn(self, logits: Floats, taken: int) -> list[int]:
        """`negatives` rows other than the one taken, drawn by the softmax of the logits; none when none has a chance."""
        chances = np.exp(logits - logits.max())
        chances[taken] = 0.0
        upto = np.cumsum(chances)
        if not upto[-1] > 0:
            return []
        drawn = [self._random.random() * upto[-1] for _ in range(self.settings.negatives)]
        worse: list[int] = np.minimum(np.searchsorted(upto, drawn, side="right"), np.flatnonzero(chances)[-1]).tolist()
        return worse

    def _rows(self, user: str | None, context: Fields, ts: float, shown: Sequence[ShownItem]) -> list[Matrix | None]:
        size = len(self.feature_names)
        served = [one.f if one.f is not None and len(one.f) == size else None for one in shown]
        lacking = [one.item for one, f in zip(shown, served, strict=True) if f is None]
        made = iter(self.features_of(user, context, ts, lacking) if lacking else ())
        rows: list[Matrix | None] = []
        for place, (one, f) in enumerate(zip(shown, served, strict=True), start=1):
            values = next(made) if f is None else f
            row = None if values is None else np.array(values, dtype=np.float32)
            rows.append(None if row is None else self._features.placed(row, one.position or place))
        return rows

    def _slate(self, ask: Ask, draw: random.Random, candidates: Candidates) -> Slate:
        seen = self.settings.seen if ask.seen is None else ask.seen
        pool, fallback = self._pool(ask, candidates, seen)
        if seen and not len(pool.rows):
            pool, _ = self._pool(ask, candidates, False)
            fallback = "seen" if len(pool.rows) else None
        k, state = ask.k, self.state
        rows = pool.rows.tolist()

        def factors(some: Sequence[int]) -> Matrix:
            return np.asarray(state.items.raw["factors"][pool.rows[list(some)]])

        order = arrange(range(len(rows)), pool.logits, k, self.settings, lambda at: state.fields_at(rows[at]), factors)
        shown_before = state.items.raw["shown"][pool.rows[order]]
        shown, propensities = expose(pool.logits[order], shown_before, k, self.settings, draw)
        scores, named = sigmoid(pool.logits), [pool.named[order[place]] for place in shown]
        sources = iter(sources_of(candidates, [at for at in named if isinstance(at, int)]))
        items = []
        for position, (place, propensity) in enumerate(zip(shown, propensities, strict=True), start=1):
            at = order[place]
            why = self._why(pool.f[at]) if ask.explain else None
            name = state.item_ids.id_of(rows[at])
            kind = pool.named[at]
            source = kind if isinstance(kind, str) else next(sources)
            items.append(Chosen(name, float(scores[at]), source, propensity, position, pool.f[at].tolist(), why))
        return Slate(items, fallback, candidates.unknown)

    def _pool(self, ask: Ask, candidates: Candidates, seen: bool) -> tuple[_Pool, str | None]:
        """What may be shown, the best first: the ranked candidates, and what fills them up; and what had to."""
        state, rows = self.state, candidates.rows
        allowed = state.available(rows)
        if seen:
            allowed &= ~self._seen(rows, ask.user)
        if ask.where:
            allowed &= may_match(state.items, rows, ask.where)
        if ask.where or ask.deny or ask.allow is not None:
            some = np.flatnonzero(allowed)
            allowed[some] = [self._fits(ask, row) for row in rows[some].tolist()]
        stage = self._stage(candidates, ask.user, ask.ts, None, shown=True)
        kept = np.flatnonzero(allowed)
        kept = kept[np.argsort(-stage.logits[kept], kind="stable")]
        pool = _Pool(rows[kept], stage.f[kept], stage.logits[kept], kept.tolist())
        if len(kept) >= ask.k or ask.items is not None or ask.allow is not None:
            return pool, None
        hidden = state.items["available"] != OFFERED
        hidden[rows[kept]] = True
        if ask.where:
            hidden |= ~may_match(state.items, None, ask.where)
        if seen:
            known = state.item_ids.rows(state.seen(ask.user))
            hidden[known[known >= 0]] = True
        more = fill(state, hidden, lambda row: self._fits(ask, row), ask.k - len(kept))
        if not more:
            return pool, None
        names = [state.item_ids.id_of(row) for row, _ in more]
        others = state.candidates_of(names, ask.user, ask.context, ask.ts)
        stage = self._stage(others, ask.user, ask.ts, None, shown=True)
        place = {row: at for at, row in enumerate(others.rows.tolist())}
        order = [place[row] for row, _ in more]
        filled = _Pool(
            np.concatenate([pool.rows, others.rows[order]]),
            np.concatenate([pool.f, stage.f[order]]),
            np.concatenate([pool.logits, stage.logits[order]]),
            [*pool.named, *(kind for _, kind in more)],
        )
        return filled, more[0][1]

    def _fits(self, ask: Ask, row: int) -> bool:
        """Whether the rules of the request let the item by."""
        if ask.deny or ask.allow is not None:
            name = self.state.item_ids.id_of(row)
            if name in ask.deny or (ask.allow is not None and name not in ask.allow):
                return False
        return not ask.where or rules.matches(self.state.fields_at(row), ask.where, self.settings.parts)

    def _why(self, f: Matrix) -> list[tuple[str, float]]:
        parts = self.ranker.contributions(f)
        return [part for part in parts if part[0] not in self._features.constant][:REASONS]
