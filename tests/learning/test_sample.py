"""An even sample: bounded, in order, equally far apart, and the same from the same sequence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamlearn.learning.sample import EvenSample


@given(st.integers(1, 60), st.integers(0, 500))
def test_it_is_even_bounded_and_begins_at_the_beginning(most: int, count: int) -> None:
    sample: EvenSample[int] = EvenSample(most)
    for item in range(count):
        sample.add(item)
    assert sample.seen == count
    assert sample.items == list(range(0, count, sample.stride))
    assert len(sample.items) <= most
    assert len(sample.items) == count if count <= most else 2 * len(sample.items) >= most
