"""The scores of a recommender against the formulas written out, however the rows were batched; and what slates earned."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from streamlearn.learning.scores import FOLD, Scores


def written_out(ranks: list[int | None], k: int, weights: list[float] | None = None) -> dict[str, float]:
    pairs = [(rank, weight) for rank, weight in zip(ranks, weights or [1.0] * len(ranks), strict=True) if rank is not None]
    total = sum(weight for _, weight in pairs)
    hits = [(rank, weight) for rank, weight in pairs if 1 <= rank <= k]
    return {
        "hit_rate": sum(weight for _, weight in hits) / total,
        "ndcg": sum(weight / math.log2(1 + rank) for rank, weight in hits) / total,
        "mrr": sum(weight / rank for rank, weight in hits) / total,
    }


def test_it_is_what_the_formulas_say() -> None:
    draw = random.Random(3)
    scores, rows = Scores("recommend", 100, 0.99, 5), []
    for _ in range(2 * FOLD + 90):
        rank = draw.choice([None, 0, 1, 2, 4, 5, 6, 90])
        ranks = None if rank is None else (draw.randrange(8), draw.randrange(8))
        rows.append((rank, ranks))
        scores.add(1, rank, ranks, None, None)
    view = scores.view()
    own = [rank for rank, _ in rows]
    assert view["n"] == len(rows)
    assert view["cumulative"] == pytest.approx(written_out(own, 5))
    assert view["window"] == pytest.approx(written_out(own[-100:], 5))
    assert view["fading"] == pytest.approx(written_out(own, 5, [0.99 ** (len(own) - 1 - i) for i in range(len(own))]))
    for place, name in enumerate(("no_change", "majority")):
        ranks = [None if pair is None else pair[place] for _, pair in rows]
        told = dict(view["baselines"][name])
        assert told.pop("window_ndcg") == pytest.approx(written_out(ranks[-100:], 5)["ndcg"])
        assert told == pytest.approx(written_out(ranks, 5))


def test_without_rows_every_score_is_undefined() -> None:
    view = Scores("recommend", 100, 0.99, 5).view()
    assert set(view["cumulative"].values()) == {None}
    assert view["impressions"] == {
        "n": 0, "reward": None, "click_rate": None, "window_reward": None, "window_click_rate": None, "fading_reward": None,
        "calibration_error": None,
    }  # fmt: skip
    assert view["calibration"] == []


def test_slates_are_scored_by_what_they_earned() -> None:
    scores = Scores("recommend", 10, 0.5, 5)
    for index in range(30):
        clicked = index % 3 == 0
        scores.slate(0.6 if clicked else 0.0, clicked, [(0.25, clicked), (0.95, True), (7.0, True)])
    told = scores.view()["impressions"]
    assert (told["n"], told["reward"], told["click_rate"]) == (30, pytest.approx(0.2), pytest.approx(1 / 3))
    assert (told["window_reward"], told["window_click_rate"]) == (pytest.approx(0.18), pytest.approx(0.3))
    low, high = scores.view()["calibration"]
    assert (low["count"], low["predicted"], low["observed"]) == (30, pytest.approx(0.25), pytest.approx(1 / 3))
    assert (high["count"], high["observed"]) == (30, pytest.approx(1.0))
    assert told["calibration_error"] == pytest.approx((abs(0.25 - 1 / 3) + 0.05) / 2)


@pytest.mark.parametrize("cut", [0, 100, FOLD, FOLD + 50])
def test_a_restart_changes_nothing(cut: int) -> None:
    def fill(scores: Scores, some: range) -> None:
        for index in some:
            rank: Any = None if index % 7 == 0 else index % 12
            scores.add(1, rank, None if rank is None else (rank, 0), None, None)
            scores.slate((index % 5) / 5, index % 2 == 0, [(0.5, True)])

    whole, first = Scores("recommend", 50, 0.9, 4), Scores("recommend", 50, 0.9, 4)
    fill(whole, range(400))
    fill(first, range(cut))
    second = Scores.restore(first.state())
    fill(second, range(cut, 400))
    assert second.state() == whole.state()
    assert second.view() == whole.view()
