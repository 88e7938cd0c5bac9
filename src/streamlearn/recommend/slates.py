"""The slate: candidates in the ranker's order, the rules, chance, and what is told of each item that is shown."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config_recommend import RecommendSettings
from . import explore, rules
from .candidates import Candidates

REACH: Final = 5  # diversity chooses among the first REACH * k

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]


class Chosen(NamedTuple):
    """One item of a slate.

    `score` is the expected share of the largest reward, `source` what named it (of several, where it stood highest),
    `propensity` the probability that it stands at this `position` (1-based), `f` its row of ranking features, and `why` the
    features' parts in its logit, the largest first, when asked for.
    """

    item: str
    score: float
    source: str
    propensity: float
    position: int
    f: list[float]
    why: list[tuple[str, float]] | None


class Slate(NamedTuple):
    """`fallback` names what had to help out ("popular", "recent", "available" items, or "seen": those acted on before), if
    anything; `unknown` are the caller's own candidates that no item is known for."""

    items: list[Chosen]
    fallback: str | None
    unknown: tuple[str, ...] = ()


def arrange(
    ranked: Sequence[int],
    scores: Floats,
    k: int,
    settings: RecommendSettings,
    fields: Callable[[int], Mapping[str, Any]],
    vectors: Callable[[Sequence[int]], Matrix],
) -> list[int]:
    """The order of a slate without chance: the pool `ranked` (the best first) after caps and diversity.

    Any choice from it keeps the cap. `scores` float64[pool], `fields` of one of the pool and the factors (`vectors`) of some of
    it are asked for only when a rule needs them.
    """
    order = list(ranked)
    if settings.cap:
        categories = [rules.parts(fields(at).get(settings.cap_field), settings.parts) for at in order]
        kept, _ = rules.capped(categories, settings.cap)
        order = [order[position] for position in kept]
    if settings.diversity:
        top, rest = order[: REACH * k], order[REACH * k :]
        tokens = [_tokens(fields(at), settings) for at in top]
        first = rules.diverse(scores[top], rules.likeness(tokens, vectors(top)), settings.diversity, k)
        chosen = set(first)
        order = [top[position] for position in first] + [at for position, at in enumerate(top) if position not in chosen] + rest
    return order


def expose(means: Floats, shown_before: Floats, k: int, settings: RecommendSettings, draw: random.Random) -> explore.Slots:
    """Which of an order are shown, and how probable that was.

    `means` float64[n] are the logits in that order, `shown_before` float64[n] how often each was shown. Thompson draws from
    normals around the logits with the variance 1 / (p (1 - p) (shown + STRENGTH)), that of the logit of a rate p after so many
    trials (delta method), STRENGTH of them given to the ranker's word.
    """
    if settings.explore == "epsilon":
        return explore.epsilon_greedy(len(means), k, settings.epsilon, draw)
    if settings.explore == "thompson":
        return explore.thompson(means, deviations(means, shown_before), k, draw)
    return explore.as_ranked(len(means), k)


STRENGTH: Final = 20.0
WIDEST: Final = 1.5  # logits


def deviations(means: Floats, shown_before: Floats) -> Floats:
    """The deviation of each logit, float64[n], at most `WIDEST`."""
    p = np.clip(1.0 / (1.0 + np.exp(-np.clip(means, -30.0, 30.0))), 1e-6, 1.0 - 1e-6)
    return np.minimum(1.0 / np.sqrt(p * (1.0 - p) * (shown_before + STRENGTH)), WIDEST)


def sources_of(candidates: Candidates, some: Sequence[int]) -> list[str]:
    """Of each of some candidates the source among those that named it in which it stood highest; of the caller's own, of all
    sources that have a score for it; "available" when there is none."""
    scores, named = candidates.scores[list(some)], candidates.named[list(some)]
    named = np.where(named.any(axis=1, keepdims=True), named, scores > 0)
    above = np.count_nonzero(np.ascontiguousarray(candidates.scores.T)[None] > scores[:, :, None], axis=2)
    best = np.where(named, above, len(candidates.rows) + 1).argmin(axis=1).tolist()
    return [candidates.sources[at] if its.any() else "available" for at, its in zip(best, named, strict=True)]


def _tokens(fields: Mapping[str, Any], settings: RecommendSettings) -> frozenset[Any]:
    names = settings.item_fields or [name for name, value in fields.items() if isinstance(value, (str, bool))]
    return frozenset((name, part) for name in names for part in rules.parts(fields.get(name), settings.parts))
