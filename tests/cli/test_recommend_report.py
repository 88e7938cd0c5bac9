"""Recommenders side by side: the order, the cells, the rolling mean by hand, and pictures of few and of many."""

from __future__ import annotations

import json
import math
import random
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from streamlearn.cli.recommend_report import as_json, draw, ordered, rolling, show
from streamlearn.errors import ConfigError
from streamlearn.recommend.measures import Measures


def view(good: float, seed: int = 1, days: int = 12, k: int = 10, available: int | None = 40) -> dict[str, Any]:
    """Measures of a contender that puts the right item first with this chance, as they are read from JSON."""
    rng = random.Random(seed)
    made = Measures(k)
    for day in range(days):
        for _ in range(rng.randint(5, 30)):
            shown = [f"i{n}" for n in rng.sample(range(30), k)]
            rank = 1 if rng.random() < good else None
            new = rng.random() < 0.2
            tokens = [frozenset(item[-1]) for item in shown]
            made.add(rank, shown, [1 / 32] * k, tokens, new, False, 1.36e9 + 86_400 * day, available=available)
    found: dict[str, Any] = json.loads(json.dumps(made.view()))
    return found


def test_the_best_comes_first_and_all_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    views = {"popular": view(0.2), "mine": view(0.8), "nobody": Measures(10).view()}
    show(views)
    told = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert lines[0] == "contender events HR@10 NDCG@10 of the best MRR@10 MRR coverage of 7 days novelty diversity"
    mine, popular = views["mine"], views["popular"]
    ndcg = f"{mine['ndcg']:.4f}"
    assert lines[1].startswith(f"mine {mine['events']} {ndcg} {ndcg} 1.00 {ndcg} {ndcg} 75.0% 75.0% 5.00 0.")
    assert f" {popular['ndcg'] / mine['ndcg']:.2f} " in lines[2]
    assert lines[3] == "nobody 0 – – – – – 0 0 – –"
    assert lines[4] == "contender cold events new users new items NDCG@10: warm cold new user new item never touched"
    share, split = f"{mine['cold_start']['cold']:.1%}", mine["split"]
    cold = f"{split['cold']['ndcg']:.4f}"
    assert lines[5] == f"mine {share} {share} 0.0% {split['warm']['ndcg']:.4f} {cold} {cold} – 0.0%"
    assert "Novelty: bits" in told


def test_shown_items_are_counted_where_it_is_not_known_of_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    show({"one": view(0.5, available=None)})
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("one ") and "5.00" in line]
    assert line.split()[-4:-2] == ["30", "30"]


def test_the_json_is_in_the_same_order() -> None:
    views = {"a": view(0.1), "b": view(0.9)}
    found = as_json(views)
    assert found["k"] == 10
    assert list(found["contenders"]) == ["b", "a"] == ordered(views)
    assert found["contenders"]["a"] is views["a"]
    json.dumps(found)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="contenders: there are none"):
        show({})
    with pytest.raises(ConfigError, match="contenders: there are none"):
        as_json({})
    with pytest.raises(ConfigError, match="measured at different depths: a 10, b 5"):
        show({"a": view(0.1), "b": view(0.1, k=5)})


def test_the_rolling_mean_is_over_events_and_breaks_where_nothing_was() -> None:
    days = [
        {"day": "2013-03-01", "events": 1, "ndcg": 1.0}, {"day": "2013-03-02", "events": 3, "ndcg": 0.0},
        {"day": "2013-03-04", "events": 1, "ndcg": 0.5}, {"day": "2013-03-09", "events": 2, "ndcg": 0.25},
    ]  # fmt: skip
    dates, means = rolling(days, "ndcg", 3)
    assert dates == [date(2013, 3, 1), date(2013, 3, 2), date(2013, 3, 4), date(2013, 3, 5), date(2013, 3, 9)]
    assert means[:3] == [1.0, 0.25, pytest.approx(0.5 / 4)]
    assert math.isnan(means[3])
    assert means[4] == 0.25
    assert rolling(days, "ndcg", 1)[1][:2] == [1.0, 0.0]
    assert rolling([], "ndcg", 3) == ([], [])


@pytest.mark.parametrize("count", [1, 3, 11])
def test_the_picture(tmp_path: Path, count: int) -> None:
    views = {f"contender {n}": view(n / count, days=1 if count == 1 else 12) for n in range(count)}
    draw(views, tmp_path / "p.svg", marks={"2013-02-08": "the taste turns"})
    draw(views | {"nobody": Measures(10).view()}, tmp_path / "p.png", title="Mine")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "p.svg").stat().st_size > 10_000
    import matplotlib

    assert matplotlib.rcParams["date.converter"] == "auto", "what others set stays"
