"""Event time: a single leap is not believed, a lasting one is."""

from __future__ import annotations

import math

from streamlearn.recommend.times import BELIEVED, LEAP_S, Times


def test_times_in_any_order_are_taken_as_they_are() -> None:
    times = Times()
    assert [times.of(ts) for ts in (100.0, 90.0, 100.0 + LEAP_S, -1e12, 101.0 + LEAP_S)] == [
        100.0, 90.0, 100.0 + LEAP_S, -1e12, 101.0 + LEAP_S,
    ]  # fmt: skip
    assert (times.latest, times.odd) == (101.0 + LEAP_S, 0)


def test_a_leap_is_not_believed_at_once() -> None:
    times = Times()
    times.of(1e9)
    for _ in range(5):
        for _ in range(BELIEVED - 1):
            assert times.of(1e12) == 1e9
        assert times.of(1e9 - 1) == 1e9 - 1
    assert times.odd == 5 * (BELIEVED - 1)


def test_a_leap_that_lasts_is() -> None:
    times = Times()
    times.of(1e9)
    found = [times.of(2e9 + n) for n in range(BELIEVED + 1)]
    assert found == [1e9] * (BELIEVED - 1) + [2e9 + BELIEVED - 1, 2e9 + BELIEVED]


def test_no_number_is_the_latest_time() -> None:
    times = Times()
    assert times.of(math.nan) == 0.0
    assert times.of(5.0) == 5.0
    assert [times.of(math.inf), times.of(-math.inf)] == [5.0, 5.0]
    assert times.odd == 3
