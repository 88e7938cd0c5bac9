"""Ranges of offsets of one partition: [from, to), as records that are to be passed over are named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]


def merged(ranges: Iterable[Sequence[int]]) -> list[Range]:
    """The same offsets in as few ranges as can be, in order; empty ranges are left out."""
    found: list[Range] = []
    for start, end in sorted((start, end) for start, end in ranges):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def within(ranges: Iterable[Sequence[int]], offset: int) -> bool:
    """Whether one of the ranges holds the offset."""
    return any(start <= offset < end for start, end in ranges)


def covered(ranges: Iterable[Sequence[int]], start: int, end: int) -> int:
    """How many offsets of [start, end) lie in the ranges."""
    return sum(max(0, min(end, one[1]) - max(start, one[0])) for one in merged(ranges))
