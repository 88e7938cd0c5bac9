"""Histograms that a process tells of whole."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.buckets import FRESH_S, LEARN_S, PAUSE_S, RETRAIN_S, Buckets

BOUNDS = (1.0, 2.0, 5.0)


class Dated(NamedTuple):
    ts: float


@pytest.mark.parametrize("bounds", [FRESH_S, LEARN_S, PAUSE_S, RETRAIN_S])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


def test_a_value_is_counted_in_the_first_bucket_whose_bound_it_does_not_exceed() -> None:
    buckets = Buckets.of(BOUNDS)
    for value in (0.0, 1.0, 1.5, 5.0, 5.1):
        buckets.add(value)
    buckets.add(2.0, 10)
    assert buckets.counts == [2, 11, 1, 1]
    assert buckets.sum == pytest.approx(32.6)


def test_it_travels_as_json() -> None:
    buckets = Buckets.of(BOUNDS)
    buckets.add(3.0)
    assert msgspec.json.decode(msgspec.json.encode(buckets), type=Buckets) == buckets


@given(st.lists(st.integers(0, 120), max_size=40), st.integers(0, 100))
def test_ages_of_records_in_order_are_counted_as_one_by_one(times: list[int], now: int) -> None:
    records = [Dated(ts / 10) for ts in sorted(times)]
    buckets = Buckets.of(BOUNDS)
    buckets.add_ages(records, now / 10)
    expected = [0] * (len(BOUNDS) + 1)
    for record in records:
        age_place = next((i for i, bound in enumerate(BOUNDS) if record.ts >= now / 10 - bound), len(BOUNDS))
        expected[age_place] += 1
    assert buckets.counts == expected


@given(st.lists(st.floats(0, 20), min_size=1, max_size=20), st.floats(0, 20))
def test_no_record_is_lost_whatever_the_order_of_the_times(times: list[float], now: float) -> None:
    buckets = Buckets.of(BOUNDS)
    buckets.add_ages([Dated(ts) for ts in times], now)
    assert sum(buckets.counts) == len(times)
    assert min(buckets.counts) >= 0
    assert buckets.sum >= 0
