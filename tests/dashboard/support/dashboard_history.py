"""The thirty days of series between what control sampled while the world's clock leapt over them."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamlearn.config_history import HistorySettings
from streamlearn.history import SPAN, STEPS, Block, tiers
from streamlearn.store import Store

PASSING: Final = ("trial_", "progress", "canary_share", "held", "degraded")  # they hold until the next sample
WOBBLE: Final[Mapping[str, float]] = {
    "metric:": 0.012, "baseline:": 0.006, "loss": 0.02, "rate": 6.0, "freshness_p50_s": 0.04, "freshness_p99_s": 0.15,
    "feature:": 0.01,
}  # fmt: skip
Samples = dict[str, tuple[list[float], list[float]]]  # by series: times and values


class Tap:
    """A store whose history is kept aside: what is sampled while the clock leaps is the frame of what is drawn later."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.rows: dict[tuple[str, int], bytes] = {}  # of the finest tier, by model and the block's start

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_history(self, model: str, step: int, at: int, row: bytes, was: bytes | None) -> bool:
        if step == STEPS[0]:
            self.rows[model, at] = row
        return True

    def history(self, model: str, step: int, since: int, until: int) -> list[tuple[int, bytes]]:
        found = self.rows.get((model, since)) if step == STEPS[0] and until == since + 1 else None
        return [] if found is None else [(since, found)]

    def histories(self) -> list[tuple[str, int]]:
        return []

    def samples(self) -> dict[str, Samples]:
        """What was sampled, by model."""
        told: dict[str, Samples] = defaultdict(dict)
        for (model, start), row in sorted(self.rows.items()):
            block = Block.decode(row, STEPS[0], start)
            for name, place in block.rows.items():
                for column in np.flatnonzero(block.cells[place, 0]):
                    times, values = told[model].setdefault(name, ([], []))
                    times.append(start + STEPS[0] * (float(column) + 0.5))
                    values.append(float(block.cells[place, 1, column]))
        return told


def draw(samples: Samples, settings: HistorySettings, now: float, seed: str) -> dict[tuple[int, int], bytes]:
    """The rows of every tier, by step and start, that lead through the samples up to `now`."""
    random = np.random.default_rng(zlib.crc32(seed.encode()))
    first = min(times[0] for times, _ in samples.values())
    names = list(samples)
    rows = {}
    for tier in tiers(settings):
        for start in range(tier.start(max(first, now - tier.keep_s)), math.ceil(now), tier.span):
            at = start + tier.step * (np.arange(SPAN) + 0.5)
            cells = np.zeros((len(names), 4, SPAN))
            for place, name in enumerate(names):
                value, there = _through(name, *samples[name], at)
                there &= (at >= first) & (at <= now)
                cells[place] = _cells(name, value, there, tier.step, random)
            rows[tier.step, start] = Block(tier.step, start, names, cells).encode()
    return rows


def _through(name: str, times: list[float], values: list[float], at: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """A series' value at each time, and whether it has one."""
    if not name.startswith(PASSING):
        return np.interp(at, times, values), np.ones(SPAN, dtype=bool)
    before = np.searchsorted(times, at, side="right") - 1
    known = before >= 0
    if name.startswith(("trial_", "progress")):
        known &= at - np.asarray(times)[np.maximum(before, 0)] < 900.0
    return np.asarray(values)[np.maximum(before, 0)], known


def _cells(name: str, value: NDArray[Any], there: NDArray[Any], step: int, random: np.random.Generator) -> NDArray[Any]:
    wobble = next((size for prefix, size in WOBBLE.items() if name.startswith(prefix)), 0.0)
    width = wobble / 2 * math.sqrt(step / STEPS[-1]) + wobble / 4
    mean = value + random.normal(0.0, wobble / math.sqrt(step), SPAN) if wobble else value
    least, most = mean - width, mean + width
    if name.startswith(("metric:accuracy", "metric:roc_auc", "baseline:", "loss", "rate", "freshness", "feature:")):
        least, mean, most = (np.maximum(part, 0.0) for part in (least, mean, most))
    if name.startswith(("metric:accuracy", "metric:roc_auc")):
        least, mean, most = (np.minimum(part, 1.0) for part in (least, mean, most))
    return np.where(there, np.stack([np.full(SPAN, step / STEPS[0]), mean, least, most]), 0.0)
