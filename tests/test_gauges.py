"""Figures of several shards: sums where they add up, means by events where they do not, the slowest shard's quantiles."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.gauges import figures, main_metric
from streamlearn.records import Status


def status(shard: int = 0, **fields: Any) -> Status:
    base: dict[str, Any] = {
        "model": "m", "shard": shard, "generation": 1, "version": 1, "shadow": None, "position": 10, "end": 10, "log": "l",
        "at": 5.0, "n": 100, "clock": None, "held": None, "counters": {}, "pending": 0, "early": 0, "scores": {},
    }  # fmt: skip
    return Status(**(base | fields))


def test_nothing_is_known_of_no_shard() -> None:
    assert figures([], 1000) == {}


def test_what_adds_up_is_added() -> None:
    told = figures(
        [
            status(0, n=100, position=10, end=15, rate=2.5, pending=3, early=1, counters={"malformed": 2, "events": 9}),
            status(1, n=50, position=20, end=15, rate=1.0, pending=4, early=0, counters={"malformed": 1, "orphan": 5}),
        ],
        1000,
    )
    assert {name: told[name] for name in ("n", "lag", "rate", "pending", "early", "dead")} == {
        "n": 150, "lag": 5, "rate": 3.5, "pending": 7, "early": 1, "dead": 8,
    }  # fmt: skip


def test_quantiles_are_the_slowest_shards_and_none_says_nothing() -> None:
    slow = status(0, freshness_ms={"p50": 40.0, "p99": 900.0}, delay={"p50": 3.0, "p95": 20.0})
    idle = status(1, freshness_ms={"p50": 0.0, "p99": 0.0}, delay={"p50": 7.0, "p95": 8.0})
    new = status(2, n=0, delay={"p50": 99.0, "p95": 99.0})
    told = figures([slow, idle, new], 1000)
    assert (told["freshness_p50_s"], told["freshness_p99_s"], told["delay_p50"], told["delay_p95"]) == (0.04, 0.9, 7, 20)
    assert not {"freshness_p50_s", "freshness_p99_s"} & set(figures([idle], 1000))
    assert not {"delay_p50", "delay_p95"} & set(figures([new], 1000))


def test_each_detector_as_near_as_it_is_to_an_alarm() -> None:
    told = figures([status(0, drift={"adwin": 0.2, "page_hinkley": 0.9}), status(1, drift={"adwin": 0.5})], 1000)
    assert (told["detector:adwin"], told["detector:page_hinkley"]) == (0.5, 0.9)


@given(st.lists(st.tuples(st.integers(1, 300), st.floats(0, 1)), min_size=1, max_size=5))
def test_means_over_events_are_what_one_shard_with_all_events_would_say(shards: list[tuple[int, float]]) -> None:
    """As long as no window is full; accuracy and mae are means over events, rmse the root of one."""
    statuses = [
        status(
            shard, scores={"n": n, "window": {"accuracy": share, "rmse": share}, "baselines": {"b": {"window_accuracy": share}}}
        )
        for shard, (n, share) in enumerate(shards)
    ]
    told = figures(statuses, 1000)
    events = sum(n for n, _ in shards)
    assert told["metric:accuracy"] == pytest.approx(sum(n * share for n, share in shards) / events)
    assert told["metric:rmse"] == pytest.approx(math.sqrt(sum(n * share * share for n, share in shards) / events), abs=1e-9)
    assert told["baseline:b:accuracy"] == pytest.approx(told["metric:accuracy"])


def test_a_shard_weighs_no_more_than_its_window_holds() -> None:
    scores = [{"n": 1_000_000, "window": {"accuracy": 1.0}}, {"n": 100, "window": {"accuracy": 0.0}}]
    assert figures([status(0, scores=scores[0]), status(1, scores=scores[1])], 100)["metric:accuracy"] == 0.5


def test_what_a_shard_does_not_know_is_left_out() -> None:
    one = status(0, scores={"n": 10, "window": {"accuracy": 1.0, "kappa": None, "roc_auc": math.nan}, "baselines": {}})
    other = status(1, scores={"n": 0, "window": {"accuracy": 0.0}})
    told = figures([one, other], 100)
    assert told["metric:accuracy"] == 1.0
    assert not {"metric:kappa", "metric:roc_auc"} & set(told)


@pytest.mark.parametrize(("task", "main"), [("binary", ("accuracy", True)), ("regression", ("mae", False))])
def test_the_main_metric_is_one_that_baselines_have(task: str, main: tuple[str, bool]) -> None:
    assert main_metric(task) == main
