"""The scores of a recommender: where each wanted item stood before it was learned, and what shown slates earned.

A row's truth is that the item was wanted, its answer the rank (1-based; 0: not among the candidates, None: not ranked), and the
place of the probability holds the ranks by the two baselines: among the same candidates by what is recent, which stands as
no-change, and by what is popular, which stands as majority. Hit rate, NDCG and reciprocal rank are cut at k; with one wanted
item a row, NDCG is 1 / log2(1 + rank) (Järvelin & Kekäläinen 2002).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from . import score_math as of
from .score_math import Array
from .tallies import BASELINES, Row, Tally

_MEASURES: Final = ("hit_rate", "ndcg", "mrr")


class RecommendTally(Tally):
    """Of the ring, columns are the rank by the model, by no-change, by majority. Sums hold [rows, hits, gains, reciprocals].

    `classes` holds k alone.
    """

    width = 3

    def __init__(self, window: int, fading: float) -> None:
        super().__init__(window, fading)
        self.classes = [10]
        self.arrays |= {
            "sums": np.zeros((3, 4)),
            "faded": np.zeros(4),
            "slates": np.zeros(3),  # slates, rewards, slates with a click
            "faded_slates": np.zeros(3),
            "last_slates": np.zeros((2, window)),
            "calibration": np.zeros((3, of.CALIBRATION_BINS)),
        }

    def count(self, rows: Sequence[Row], fading: Array, decay: float) -> Array:
        a = self.arrays
        columns = np.array(
            [(rank, *((None, None) if ranks is None else ranks)) for _, rank, ranks, _, _ in rows], dtype=np.float64
        ).T
        for index in range(3):
            a["sums"][index] += self._measured(columns[index]).sum(axis=1)
        a["faded"] *= decay
        a["faded"] += (self._measured(columns[0]) * fading).sum(axis=1)
        return columns

    def slate(self, reward: float, clicked: bool, shown: Iterable[tuple[float, bool]]) -> None:
        """A slate's time is over: its reward in [0, 1], and of each item with a score in [0, 1] that score and whether it was
        clicked."""
        a = self.arrays
        row = np.array([1.0, reward, float(clicked)])
        a["last_slates"][:, int(a["slates"][0]) % self.window] = row[1:]
        a["slates"] += row
        a["faded_slates"] *= self.fading
        a["faded_slates"] += row
        pairs = np.array([pair for pair in shown if 0.0 <= pair[0] <= 1.0], dtype=np.float64)
        if len(pairs):
            cell = of.bins_of(pairs[:, 0], of.CALIBRATION_BINS)
            for line, weights in enumerate((None, pairs[:, 0], pairs[:, 1])):
                a["calibration"][line] += np.bincount(cell, weights, of.CALIBRATION_BINS)

    def _measured(self, ranks: Array) -> Array:
        """(4, rows): 1, hit, gain, reciprocal rank of each; zeros where nothing was ranked."""
        known = ~np.isnan(ranks)
        hit = known & (ranks >= 1) & (ranks <= self.classes[0])
        near = np.where(hit, ranks, 1.0)
        return np.stack([known.astype(float), hit.astype(float), hit / np.log2(1.0 + near), hit / near])

    def view(self) -> dict[str, Any]:
        a = self.arrays
        ring = self.last()
        total = a["slates"][0]
        last = a["last_slates"][:, : min(int(total), self.window)]
        baselines = zip(BASELINES, a["sums"][1:], ring[1:], strict=True)
        return {
            "n": self.n,
            "cumulative": _means(a["sums"][0]),
            "window": _means(self._measured(ring[0]).sum(axis=1)),
            "fading": _means(a["faded"]),
            "baselines": {
                name: {**_means(sums), "window_ndcg": _means(self._measured(ranks).sum(axis=1))["ndcg"]}
                for name, sums, ranks in baselines
            },
            "impressions": {
                "n": int(total),
                "reward": of.share(a["slates"][1], total),
                "click_rate": of.share(a["slates"][2], total),
                "window_reward": of.share(last[0].sum(), last.shape[1]),
                "window_click_rate": of.share(last[1].sum(), last.shape[1]),
                "fading_reward": of.share(a["faded_slates"][1], a["faded_slates"][0]),
                "calibration_error": of.calibration_error(*a["calibration"]),
            },
            "calibration": of.calibration(*a["calibration"]),
        }


def _means(sums: Array) -> dict[str, float | None]:
    return {name: of.share(total, sums[0]) for name, total in zip(_MEASURES, sums[1:], strict=True)}
