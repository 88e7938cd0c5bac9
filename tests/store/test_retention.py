"""The retention rule, by examples and by its properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamlearn.store import Retention
from streamlearn.store.retention import DAY_S, HOUR_S, kept

keeps = st.builds(Retention, last=st.integers(1, 5), hourly=st.integers(0, 30), daily=st.integers(0, 10))
gaps = st.lists(st.one_of(st.floats(0, 60), st.floats(0, 3 * HOUR_S), st.floats(0, 4 * DAY_S)), min_size=1, max_size=80)


def series(gaps: list[float], start: float = 1_700_000_000.0) -> list[tuple[int, float]]:
    """(id, created) one gap after the other."""
    made, now = [], start
    for id, gap in enumerate(gaps, 1):
        now += gap
        made.append((id, now))
    return made


def test_nothing_of_nothing() -> None:
    assert kept([], Retention()) == set()


def test_the_last_few() -> None:
    assert kept(series([10.0] * 9), Retention(last=3, hourly=0, daily=0)) == {7, 8, 9}


def test_at_least_the_newest_is_kept() -> None:
    assert kept(series([10.0] * 9), Retention(last=0, hourly=0, daily=0)) == {9}


def test_the_newest_of_each_hour() -> None:
    every_ten_minutes = [(n, 600.0 * n) for n in range(24)]  # four hours: 0–5, 6–11, 12–17, 18–23
    assert kept(every_ten_minutes, Retention(last=1, hourly=3, daily=0)) == {11, 17, 23}


def test_then_the_newest_of_each_day() -> None:
    every_hour = [(n, HOUR_S * n) for n in range(24 * 5)]
    assert kept(every_hour, Retention(last=2, hourly=3, daily=3)) == {119, 118, 117, 95, 71}


def test_an_idle_week_empties_the_hours_but_not_the_last_few() -> None:
    old = [(n, 60.0 * n) for n in range(10)]
    assert kept([*old, (10, 30 * DAY_S)], Retention(last=2, hourly=24, daily=7)) == {9, 10}


def test_order_of_the_input_does_not_matter() -> None:
    made = series([1000.0] * 40)
    assert kept(reversed(made), Retention()) == kept(made, Retention())


@given(gaps, keeps)
def test_only_what_is_there_and_no_more_than_told(gaps: list[float], keep: Retention) -> None:
    made = series(gaps)
    chosen = kept(made, keep)
    assert chosen <= {id for id, _ in made}
    assert len(chosen) <= keep.last + keep.hourly + keep.daily


@given(gaps, keeps)
def test_the_newest_ones_are_kept(gaps: list[float], keep: Retention) -> None:
    made = series(gaps)
    assert {id for id, _ in made[-keep.last :]} <= kept(made, keep)


@given(gaps, keeps)
def test_every_recent_hour_and_day_is_covered(gaps: list[float], keep: Retention) -> None:
    made = series(gaps)
    chosen = kept(made, keep)
    for span, count in ((HOUR_S, keep.hourly), (DAY_S, keep.daily)):
        newest = made[-1][1] // span
        recent = {created // span for _, created in made if created // span > newest - count}
        assert recent <= {created // span for id, created in made if id in chosen}


@given(gaps, keeps)
def test_dropping_each_time_leaves_the_same_as_dropping_once(gaps: list[float], keep: Retention) -> None:
    made = series(gaps)
    left: list[tuple[int, float]] = []
    for one in made:
        left.append(one)
        chosen = kept(left, keep)
        left = [known for known in left if known[0] in chosen]
    assert {id for id, _ in left} == kept(made, keep)


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=40), keeps)
def test_a_clock_that_jumps_never_costs_the_newest(times: list[float], keep: Retention) -> None:
    made = list(enumerate(times))
    assert {id for id, _ in made[-keep.last :]} <= kept(made, keep) <= set(range(len(made)))
