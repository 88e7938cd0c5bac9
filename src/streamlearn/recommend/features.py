"""What the ranker knows of a candidate: one row of numbers, made by the same code when it is served and when it is learned.

Every value is finite and of the order of one, whatever came in: counts go through logarithms, times through logarithms of hours
or days. A feature that is the same for every candidate of one question (the user's, the hour's) cannot change their order in a
linear ranker; it is there for the calibration, for the features crossed with it, and for rankers that are not linear.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..config_recommend import SOURCES, RecommendSettings
from .candidates import MORE, Candidates
from .popular import half_lives
from .state import State
from .tables import Rows

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
LONGEST_S: Final = 365 * DAY_S
LEADING: Final = [1, 3]  # of the half-lives: a quarter and four times `half_life_s`
FAINT: Final = 1e-3  # a source's score counts as this share of the best one at least
RATE_PRIOR: Final = 20.0  # impressions that a click rate is smoothed with
ITEM: Final = ("item.count", "item.age", "item.idle", "item.rising", "item.rising_slowly", "item.click_rate", "item.unseen")
LIFT: Final = ("item.lift",)  # with declared segments: how much more than elsewhere what it is like is liked in them
USER: Final = ("user.count", "user.gap")
LEANS: Final = "user.leans_"  # the user's leaning to a feature, see leanings
CONTEXT: Final = ("context.hour_sin", "context.hour_cos", "context.weekend")
SHOWN: Final = ("shown", "shown.position")  # whether it was shown by a slate, and how far from its head

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]


class Features:
    """`names` of the columns, of which those in `constant` are the same for all candidates of one question.

    `leans`: with the user's leanings, which only a ranker that is not linear can go by. They are to the features at `leaning`.
    """

    def __init__(self, settings: RecommendSettings, leans: bool = False) -> None:
        heats = [f"item.heat_{_span(life)}" for life in half_lives(settings)]
        signals = (*SOURCES, *MORE, *(f"popular_{_span(half_lives(settings)[at])}" for at in LEADING))
        by_signal = [f"{signal}.{kind}" for kind in ("share", "log", *(f"log*{by}" for by in USER)) for signal in signals]
        items = (*ITEM, *heats, *(LIFT if settings.segments else ()))
        told = (*by_signal, *items, *(f"{name}*{USER[0]}" for name in items), *USER, *CONTEXT)
        to = (*by_signal[: len(signals)], *items) if leans else ()
        self.leaning = np.array([told.index(name) for name in to], np.int64)
        leanings = [LEANS + name.removesuffix(".share").removeprefix("item.") for name in to]
        self.names = (*told, *leanings, *SHOWN)
        self.constant = frozenset((*USER, *CONTEXT, *leanings, *SHOWN))

    def matrix(
        self, state: State, candidates: Candidates, user: str | None, ts: float, reward: float, shown: bool = False
    ) -> Matrix:
        """float32[n, len(names)]: the candidates' rows for the user at `ts`.

        `reward` is the mean of what is shown, towards which click rates are smoothed; `shown`: as at the head of a slate.
        """
        heats = state.popular.heats(candidates.rows, ts).T
        signals = np.maximum(np.concatenate([candidates.scores.T, candidates.more.T, heats[LEADING]]), 0.0)
        best = signals.max(axis=1, keepdims=True, initial=0.0)
        share = signals / np.where(best > 0, best, 1.0)
        log = np.log(share + FAINT) * (best > 0)
        facts = _of_items(state, candidates.rows, heats, ts, reward)
        if candidates.lifts is not None:
            facts = np.concatenate([facts, candidates.lifts[None, :]])
        of_user = _of_user(state, user, ts)
        leans = state.leanings.of(state.user_row(user)) if len(self.leaning) else ()
        constant = [*of_user, *_of_time(ts), *leans, float(shown), float(shown)]
        same = np.repeat(np.array(constant)[:, None], len(candidates.rows), axis=1)
        parts = [share, log, *(log * value for value in of_user), facts, facts * of_user[0], same]
        return np.ascontiguousarray(np.concatenate(parts).T, dtype=np.float32)

    def placed(self, f: Matrix, position: int) -> Matrix:
        """The row f [len(names)] as one that was shown at this position (1-based)."""
        f = f.copy()
        f[-2:] = 1.0, _head(position)
        return f


def _of_items(state: State, rows: Rows, heats: Floats, ts: float, reward: float) -> Floats:
    """ITEM and the fading counts, float64[.., n]. The counts stand in the order of their half-lives, the shortest first."""
    raw = state.items.raw
    liked, shown = raw["liked"][rows], raw["shown"][rows]
    middle = len(heats) // 2
    rate = (raw["reward"][rows] + RATE_PRIOR * reward) / (shown + RATE_PRIOR)
    return np.stack(
        [
            np.log1p(liked),
            np.log1p(np.clip(ts - raw["born"][rows], 0.0, LONGEST_S) / DAY_S),
            np.log1p(np.clip(ts - raw["last"][rows], 0.0, LONGEST_S) / HOUR_S),
            np.log((heats[1] + 0.1) / (0.1 * heats[middle] + 0.1)),
            np.log((heats[middle] + 0.3) / (0.1 * heats[-1] + 0.3)),
            np.log((np.maximum(rate, 0.0) + 1e-3) / (max(reward, 0.0) + 1e-3)),
            (liked == 0).astype(np.float64),
            *np.log1p(heats),
        ]
    )


def _of_user(state: State, user: str | None, ts: float) -> tuple[float, float]:
    """USER: how much they did, and how long ago."""
    row = state.user_row(user)
    if row < 0:
        return -0.5, 0.0
    cells = state.users.cells
    gap = min(max(ts - cells["last"][row], 0.0), LONGEST_S)
    return math.log1p(cells["n"][row]) / 3.0 - 0.5, math.log1p(gap / 60.0) / 5.0 - 1.0


def _span(seconds: float) -> str:
    return f"{seconds / DAY_S:g}d" if seconds >= DAY_S else f"{seconds / HOUR_S:g}h"


def _of_time(ts: float) -> tuple[float, float, float]:
    """CONTEXT of a time in Unix seconds, by UTC."""
    turn = 2.0 * math.pi * (ts % DAY_S) / DAY_S
    return math.sin(turn), math.cos(turn), float((ts // DAY_S + 3) % 7 >= 5)  # day 0 was a Thursday


def _head(position: int) -> float:
    return 1.0 / math.log2(1.0 + max(position, 1))
