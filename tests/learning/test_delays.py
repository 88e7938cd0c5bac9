"""The delay curve against the naive life table, and against what is simple to say beforehand."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.learning.delays import BINS, REMEMBERED, DelayCurve

seconds = st.floats(0, 100)


def test_without_slates_there_is_nothing_to_say() -> None:
    view = DelayCurve.of(100.0).view()
    assert (view["impressions"], view["clicked"], view["curve"], view["p50_s"]) == (0.0, None, [], None)


def test_of_slates_that_all_waited_to_the_end_it_is_the_plain_share() -> None:
    curve = DelayCurve.of(100.0)
    for delay in (0.1, 5.0, 5.0, 60.0):
        curve.add(delay, 100.0)
    for _ in range(6):
        curve.add(None, 100.0)
    view = curve.view()
    assert view["impressions"] == 10
    assert view["clicked"] == pytest.approx(0.4)
    shares = dict(view["curve"])
    assert len(shares) == BINS
    assert [share for edge, share in shares.items() if edge < 4] == pytest.approx([0.25] * 4)
    assert max(shares) == 100.0
    assert shares[100.0] == pytest.approx(1.0)
    assert 5.0 <= view["p50_s"] <= 6.3
    assert 60.0 <= view["p90_s"] <= 64.0


def test_a_slate_that_has_just_been_shown_does_not_count_against_late_clicks() -> None:
    """Of 100 slates half are clicked after 50 s; 1,000 more are a second old. The share stays about a half."""
    curve = DelayCurve.of(100.0)
    for index in range(100):
        curve.add(50.0 if index % 2 else None, 100.0)
    waiting = [(None, 1.0)] * 1000
    assert curve.view(waiting)["clicked"] == pytest.approx(0.5)
    assert curve.view(waiting)["impressions"] == 1100


@given(st.lists(st.tuples(st.none() | seconds, seconds)), st.lists(st.tuples(st.none() | seconds, seconds)))
def test_shares_rise_to_one_and_waiting_ones_change_nothing_for_good(
    over: list[tuple[float | None, float]], waiting: list[tuple[float | None, float]]
) -> None:
    curve = DelayCurve.of(100.0)
    for delay, age in over:
        curve.add(delay, age)
    before = msgspec.msgpack.encode(curve)
    view = curve.view(waiting)
    shares = [share for _, share in view["curve"]]
    assert shares == sorted(shares)
    assert not shares or shares[-1] == pytest.approx(1.0)
    assert view["clicked"] is None or 0 <= view["clicked"] <= 1
    assert msgspec.msgpack.encode(curve) == before
    assert msgspec.msgpack.decode(before, type=DelayCurve) == curve


def test_old_slates_fade() -> None:
    curve = DelayCurve.of(100.0)
    curve.unclicked[-1] = REMEMBERED
    curve.add(1.0, 100.0)
    assert sum(curve.clicked) + sum(curve.unclicked) == pytest.approx((REMEMBERED + 1) / 2)
    assert sum(curve.clicked) == 0.5
