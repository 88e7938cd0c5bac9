"""From mixed features to rows: both encodings, and what is missing, unknown or odd; nothing depends on the order of a dict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.learning.digest import digest
from streamlearn.learning.encode import CLIP, CODES, ONE_HOT, SINGLE, Encoder

EVENTS: list[dict[str, Any]] = [
    {"n": 1.0, "s": "b", "t": True},
    {"n": 3.0, "s": "a"},
    {"n": 5, "s": "b", "late": 2.0},
]


def fitted(nan: bool, events: list[dict[str, Any]]) -> Encoder:
    encoder = Encoder(nan)
    encoder.fit(events)
    return encoder


def test_trees_get_numbers_as_they_are_nan_for_missing_and_strings_as_ranks_by_frequency() -> None:
    rows = fitted(True, EVENTS).rows(EVENTS)  # columns: late, n, s, t
    nan = float("nan")
    assert np.array_equal(rows, [[nan, 1.0, 0.0, 1.0], [nan, 3.0, 1.0, nan], [2.0, 5.0, 0.0, nan]], equal_nan=True)
    assert np.isnan(fitted(True, EVENTS).rows([{"s": "new", "never": 1.0}])).all()


def test_others_get_deviations_zero_for_missing_and_a_column_for_each_string() -> None:
    rows = fitted(False, EVENTS).rows(EVENTS)  # columns: late, n, s=b, s=a, t
    away = np.sqrt(1.5)
    assert rows == pytest.approx(np.array([[0, -away, 1, 0, 0], [0, 0, 0, 1, 0], [0, away, 1, 0, 0]]))
    assert not fitted(False, EVENTS).rows([{"s": "new", "never": 1.0}]).any()


@pytest.mark.parametrize(("nan", "most"), [(True, CODES), (False, ONE_HOT)])
def test_strings_beyond_the_bound_share_one(nan: bool, most: int) -> None:
    events = [{"s": f"v{number:04d}"} for number in range(most + 20)]
    encoder = fitted(nan, events)
    rows = encoder.rows([{"s": f"v{most + 1:04d}"}, {"s": "unheard of"}, {"s": "v0000"}])
    assert encoder.width == (1 if nan else most + 1)
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


@pytest.mark.parametrize(("nan", "limit"), [(True, SINGLE), (False, CLIP)])
def test_an_odd_number_is_cut_back(nan: bool, limit: float) -> None:
    encoder = fitted(nan, [{"n": float(number)} for number in range(10)])
    assert encoder.rows([{"n": 1e300}, {"n": -1e300}]).ravel().tolist() == [limit, -limit]


def test_a_number_where_strings_were_and_a_string_where_numbers_were_are_missing() -> None:
    encoder = fitted(True, EVENTS)
    assert np.isnan(encoder.rows([{"n": "x", "s": 1.0}])).all()


scalars = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1), st.booleans())
values = st.one_of(scalars, st.text(max_size=3))
events = st.lists(st.dictionaries(st.sampled_from("abcd"), values), min_size=1, max_size=20)


@given(events, st.booleans())
def test_any_events_give_finite_bounded_rows_whatever_the_order_of_their_features(xs: list[dict[str, Any]], nan: bool) -> None:
    encoder = fitted(nan, xs)
    rows = encoder.rows(xs)
    assert rows.shape == (len(xs), encoder.width)
    assert not np.isinf(rows).any()
    assert nan or np.isfinite(rows).all()
    turned = [dict(reversed(x.items())) for x in xs]
    again = fitted(nan, turned)
    assert digest(again) == digest(encoder)
    assert np.array_equal(again.rows(turned), rows, equal_nan=True)
    one_by_one = np.vstack([encoder.rows([x]) for x in xs])
    assert np.array_equal(one_by_one, rows, equal_nan=True)
