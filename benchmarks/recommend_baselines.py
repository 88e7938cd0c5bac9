"""Single recommenders to compare with: popular, recent, item-item co-visits, river's BiasedMF, incremental SGD factors.

Each ranks all items seen so far that the user has not interacted with, before it learns. Of each kind several variants run
side by side, and the best of them by the result stands for the kind, which favours it. Items are numbered in the order of their
first appearance, users likewise; scores are whole arrays, so that nothing is left out for speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from river import optim, reco

DAY: Final = 86_400.0
Array = NDArray[Any]


class Baseline(Protocol):
    """Scores of the first `n` items for a user with `history` (item numbers, the newest last), at `ts`; then it learns."""

    def scores(self, user: int, history: Array, n: int, ts: float) -> Array:
        """One number an item, more is better."""

    def learn(self, user: int, history: Array, item: int, rating: float, good: bool, ts: float) -> None:
        """A rating came; `good` ones are interactions, before which `history` was as given."""


class Popular:
    """Interactions, each counting half after `half_life_s` seconds."""

    def __init__(self, items: int, half_life_s: float) -> None:
        self._counts, self._half_life, self._since = np.zeros(items), half_life_s, 0.0

    def scores(self, user: int, history: Array, n: int, ts: float) -> Array:
        return self._counts[:n]

    def learn(self, user: int, history: Array, item: int, rating: float, good: bool, ts: float) -> None:
        if not good:
            return
        age = (ts - self._since) / self._half_life
        if age > 100:  # so that the growing weights stay finite
            self._counts *= 2.0 ** -min(age, 1000.0)
            self._since, age = ts, 0.0
        self._counts[item] += 2.0**age


class Recent:
    """The item that somebody interacted with last comes first."""

    def __init__(self, items: int) -> None:
        self._last = np.zeros(items)

    def scores(self, user: int, history: Array, n: int, ts: float) -> Array:
        return self._last[:n]

    def learn(self, user: int, history: Array, item: int, rating: float, good: bool, ts: float) -> None:
        if good:
            self._last[item] = ts


class CoVisits:
    """How often an item came beside one of the user's last `last` items: Σ_j rank_j^−fade · n_ij / n_j^power.

    n_ij counts pairs within the `window` last items of a user, in both directions, or `directed` from the earlier to the later.
    """

    def __init__(self, items: int, last: int, fade: float, power: float, window: int = 20, directed: bool = False) -> None:
        self._pairs, self._n = np.zeros((items, items), np.float32), np.full(items, 1e-6, np.float32)
        self._last, self._fade, self._power, self._window, self._directed = last, fade, power, window, directed

    def share(self, other: CoVisits) -> CoVisits:
        """Count once for both: a variant that differs in its scores alone."""
        self._pairs, self._n = other._pairs, other._n
        self.learn = lambda *about: None  # type: ignore[method-assign]
        return self

    def scores(self, user: int, history: Array, n: int, ts: float) -> Array:
        last = history[::-1][: self._last]
        weights = np.arange(1, len(last) + 1, dtype=np.float32) ** -self._fade / self._n[last] ** self._power
        found: Array = weights @ self._pairs[last, :n]
        return found

    def learn(self, user: int, history: Array, item: int, rating: float, good: bool, ts: float) -> None:
        last = history[::-1][: self._window]
        if not good or not len(last):
            return
        self._pairs[last, item] += 1
        self._n[last] += 1
        if not self._directed:
            self._pairs[item, last] += 1
            self._n[item] += len(last)


class Factors:
    """ISGD (Vinagre, Jorge & Gama, UMAP 2014): positive feedback alone, target 1, one step of SGD an event."""

    def __init__(self, users: int, items: int, factors: int, rate: float, regularization: float = 0.01) -> None:
        draw = np.random.default_rng(42)
        self._users = draw.normal(0, 0.1, (users, factors)).astype(np.float32)
        self._items = draw.normal(0, 0.1, (items, factors)).astype(np.float32)
        self._rate, self._regularization = rate, regularization

    def scores(self, user: int, history: Array, n: int, ts: float) -> Array:
        found: Array = self._items[:n] @ self._users[user]
        return found

    def learn(self, user: int, history: Array, item: int, rating: float, good: bool, ts: float) -> None:
        if not good:
            return
        p, q = self._users[user].copy(), self._items[item]
        error = 1.0 - float(p @ q)
        self._users[user] += self._rate * (error * q - self._regularization * p)
        self._items[item] += self._rate * (error * p - self._regularization * q)


class BiasedMF:
    """river's `reco.BiasedMF` on all ratings, as a ranker: its own parameters, gathered to score all items at once."""

    def __init__(self, items: int, factors: int, rate: float) -> None:
        draw = optim.initializers.Normal(mu=0.0, sigma=0.1, seed=42)
        self._model: Any = reco.BiasedMF(
            n_factors=factors, bias_optimizer=optim.SGD(rate), latent_optimizer=optim.SGD(rate), latent_initializer=draw
        )
        self._latents, self._biases = np.zeros((items, factors)), np.zeros(items)

    def scores(self, user: int, history: Array, n: int, ts: float) -> Array:
        known = self._model.u_latents.get(user) if hasattr(self._model, "u_latents") else None
        biases = self._biases[:n]
        return biases if known is None else biases + self._latents[:n] @ known

    def learn(self, user: int, history: Array, item: int, rating: float, good: bool, ts: float) -> None:
        self._model.learn_one(user, item, rating)
        self._latents[item] = self._model.i_latents[item]
        self._biases[item] = self._model.i_biases[item]


def baselines(users: int, items: int) -> Mapping[str, Mapping[str, Baseline]]:
    """Every kind with its variants, for so many users and items."""
    pairs = CoVisits(items, 10, 0.5, 0.7)
    shared = {
        f"last {last}, fade {fade:g}, power {power:g}": CoVisits(1, last, fade, power).share(pairs)
        for last, fade, power in ((20, 0.5, 0.0), (20, 0.5, 0.5), (20, 0.0, 0.5), (3, 1.0, 0.5))
    }
    return {
        "popular": {f"half-life {days:g} d": Popular(items, days * DAY) for days in (0.25, 1, 4, 14, 60)},
        "recent": {"last interaction": Recent(items)},
        "co-visits": {
            "last 10, fade 0.5, power 0.7": pairs, **shared,
            "directed, last 5": CoVisits(items, 5, 1.0, 0.5, window=5, directed=True),
        },
        "BiasedMF": {f"{k} factors, rate {rate:g}": BiasedMF(items, k, rate) for k, rate in ((16, 0.02), (32, 0.01))},
        "ISGD": {
            f"{k} factors, rate {rate:g}": Factors(users, items, k, rate) for k, rate in ((16, 0.2), (32, 0.1), (64, 0.05))
        },
    }  # fmt: skip


def rank(scores: Array, may: Array, item: int) -> float:
    """The rank of `item` among those that `may` be shown, from 1; equal scores share theirs. 0 when it is not among them."""
    if item >= len(scores) or not may[item]:
        return 0.0
    mine = scores[item]
    above, equal = np.count_nonzero((scores > mine) & may), np.count_nonzero((scores == mine) & may)
    return float(above + 1 + (equal - 1) / 2)
