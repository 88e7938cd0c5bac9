"""Sums of a block beside its losses: read from signals, merged over shards and blocks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.retrain.sums import NONE, merge, read_sums


def test_a_signal_without_sums_has_none() -> None:
    assert read_sums({"n": 10, "champion": 1.0, "challenger": 2.0}) == NONE


def test_the_names_say_what_was_summed() -> None:
    data = {"metrics": {"brier": [2, 0.5, 0.25]}, "slices": {"carrier": {"UA": [1, 0.0, 1.0], "other": [1, 1.0, 0.0]}}}
    assert read_sums(data) == {
        ("metric", "brier"): (2, 0.5, 0.25),
        ("slice", "carrier", "UA"): (1, 0.0, 1.0),
        ("slice", "carrier", "other"): (1, 1.0, 0.0),
    }


@pytest.mark.parametrize(
    "data",
    [
        {"metrics": {"brier": [1, None, 0.0]}}, {"metrics": {"brier": [1, 0.0]}}, {"metrics": {"brier": [-1, 0.0, 0.0]}},
        {"metrics": {"brier": [1, float("inf"), 0.0]}}, {"slices": {"carrier": {"UA": [1, 2.0, 0.0]}}},
        {"slices": {"carrier": {"UA": [1, 0.0, -0.5]}}},
    ],
)  # fmt: skip
def test_what_cannot_be_sums_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_sums(data)


NAMES = st.sampled_from([("metric", "brier"), ("slice", "hour", "1"), ("slice", "hour", "2")])
SUMS = st.dictionaries(NAMES, st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)))


@given(st.lists(SUMS, max_size=6), st.integers(0, 6))
def test_parts_may_be_merged_in_any_grouping(parts: list[Any], cut: int) -> None:
    assert merge([merge(parts[:cut]), merge(parts[cut:])]) == merge(parts)
    for key, whole in merge(parts).items():
        assert whole == tuple(sum(part[key][place] for part in parts if key in part) for place in range(3))
