"""Ranges of offsets, held to sets of them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamlearn.log.ranges import covered, merged, within

RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8)


def offsets(ranges: list[tuple[int, int]]) -> set[int]:
    return {offset for start, end in ranges for offset in range(start, end)}


@given(RANGES)
def test_merged_ranges_are_the_same_offsets_apart_and_in_order(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    assert offsets(found) == offsets(ranges)
    assert all(start < end for start, end in found)
    assert all(before[1] < after[0] for before, after in pairwise(found))


@given(RANGES, st.integers(0, 30), st.integers(0, 30))
def test_what_lies_within(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    assert within(ranges, start) == (start in offsets(ranges))
    assert covered(ranges, start, end) == len(offsets(ranges) & set(range(start, end)))
