"""Fading counts against a naive recomputation; the leaders are the exact first ones; segments keep their heaviest items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend.ids import COLUMNS, Ids, hash_of
from streamlearn.recommend.popular import MAIN, Popular, Segments, columns, half_lives, segments_of
from streamlearn.recommend.tables import Table

SETTINGS = RecommendSettings(
    half_life_s=100.0, recent_half_life_s=10.0, history=2, last_items=2, quotas=dict.fromkeys(RecommendSettings().quotas, 2)
)
N = 12
KINDS = ["add", "add", "add", "withdraw", "offer"]
GIVEN = st.lists(st.tuples(st.integers(0, N - 1), st.floats(0.1, 9), st.floats(0, 500)), max_size=60)


def made(n: int = N) -> tuple[Table, Popular]:
    table = Table(columns(SETTINGS))
    for _ in range(n):
        table.append()
    return table, Popular(table, SETTINGS)


def test_the_main_half_life_is_the_one_that_is_set() -> None:
    assert half_lives(SETTINGS) == (10.0, 25.0, 100.0, 400.0, 1600.0)
    assert half_lives(SETTINGS)[MAIN] == SETTINGS.half_life_s


@given(GIVEN)
def test_counts_fade_as_recomputed_in_any_order_of_times(given_: list[tuple[int, float, float]]) -> None:
    _, popular = made()
    for row, weight, ts in given_:
        popular.add(row, weight, ts, True)
    now = 600.0
    expected = np.zeros((N, 5))
    for row, weight, ts in given_:
        expected[row] += [weight * 2 ** ((ts - now) / life) for life in half_lives(SETTINGS)]
    np.testing.assert_allclose(popular.heats(np.arange(N, dtype=np.int32), now), expected, rtol=1e-9, atol=1e-300)


@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(0, N - 1), st.floats(0.1, 9)),
        max_size=80,
    )
)
def test_the_leaders_are_the_first_ones(steps: list[tuple[str, int, float]]) -> None:
    _, popular = made()
    offered = np.ones(N, np.bool_)
    rows = np.arange(N, dtype=np.int32)
    hidden = np.zeros(N, np.bool_)
    for ts, (kind, row, weight) in enumerate(steps):
        if kind == "add":
            popular.add(row, weight, float(ts), bool(offered[row]))
        elif kind == "withdraw" and offered[row]:
            offered[row] = False
            popular.withdraw(row, offered)
        elif kind == "offer" and not offered[row]:
            offered[row] = True
            popular.offer(row)
        heats = popular.heats(rows, float(ts))
        for which in range(5):
            heat = np.where(offered, heats[:, which], 0.0)
            led = popular.leaders(which, hidden, 2)
            best = np.sort(heat[heat > 0])[::-1][:2]
            np.testing.assert_allclose(heat[led], best, rtol=1e-6)


def test_as_many_lead_as_are_named_and_a_history_hides() -> None:
    _, popular = made()
    for row in range(N):
        popular.add(row, 1.0 + row, 0.0, True)
    hidden = np.zeros(N, np.bool_)
    hidden[[N - 1, N - 2]] = True  # a history of two
    assert popular.leaders(MAIN, hidden, 2).tolist() == [N - 3, N - 4]
    assert popular.every_leader().tolist() == [N - 4, N - 3, N - 2, N - 1]
    assert popular.touched(np.arange(N, dtype=np.int32)).all()
    assert not made()[1].touched(np.arange(N, dtype=np.int32)).any()


def test_a_late_weight_counts_as_if_it_had_come_in_time() -> None:
    _, popular = made()
    popular.add(0, 1.0, 100.0, True)
    popular.add(0, 1.0, 0.0, True)
    np.testing.assert_allclose(
        popular.heats(np.array([0], np.int32), 100.0)[0], [1 + 2 ** (-100 / life) for life in half_lives(SETTINGS)]
    )


def segments() -> tuple[Ids, Segments]:
    ids = Ids(Table(COLUMNS, ("id",)), 10_000, 0)
    return ids, Segments(ids, SETTINGS)


def test_a_segment_shares_its_weight_among_its_items() -> None:
    ids, made_ = segments()
    rows = [ids.add(name, hash_of(name), 0.0) for name in "abc"]
    made_.add(["x", "y"], rows[0], 3.0, 0.0)
    made_.add(["x"], rows[1], 1.0, 0.0)
    found, shares = made_.scores(["x", "y", "unknown"])
    assert found.tolist() == rows[:2]
    np.testing.assert_allclose(shares, [0.75 + 1.0, 0.25])
    assert made_.scores(["unknown"])[0].tolist() == []
    ids.remove(rows[0])
    ids.add("d", hash_of("d"), 0.0)  # in the same row
    assert made_.scores(["y"])[0].tolist() == []


def test_a_segment_without_room_replaces_the_lightest() -> None:
    ids, made_ = segments()
    rows = [ids.add(f"i{n}", hash_of(f"i{n}"), 0.0) for n in range(Segments.SIZE + 1)]
    for n, row in enumerate(rows[:-1]):
        made_.add(["x"], row, 2.0 + n, 0.0)
    made_.add(["x"], rows[-1], 5.0, 0.0)
    found = made_.scores(["x"])[0].tolist()
    assert rows[0] not in found
    assert rows[-1] in found
    assert len(found) == Segments.SIZE


def test_an_old_weight_in_a_segment_fades() -> None:
    ids, made_ = segments()
    rows = [ids.add(name, hash_of(name), 0.0) for name in "ab"]
    life = Segments.LIFE * SETTINGS.half_life_s
    made_.add(["x"], rows[0], 1.0, 0.0)
    made_.add(["x"], rows[1], 1.0, life)
    np.testing.assert_allclose(made_.scores(["x"])[1], [1 / 3, 2 / 3])
    made_.add(["x"], rows[0], 2.0, -life * 1e6)  # far too late: it counts nothing
    np.testing.assert_allclose(made_.scores(["x"])[1], [1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("events", "active"), [(0, "#0"), (1, "#1"), (2, "#1"), (3, "#2"), (126, "#6"), (127, "#7"), (999, "#7")]
)
def test_users_are_in_the_segment_of_their_activity(events: int, active: str) -> None:
    assert segments_of(["plan", "city"], {"plan": "pro", "city": "X"}, {"city": "Y"}, events) == [active, "plan=pro", "city=Y"]
    assert segments_of(["plan"], {}, {}, events) == [active]
