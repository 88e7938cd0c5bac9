"""What is kept of the serving version's losses: sums stay what they were, a reference is settled once, bad data are told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.control.course import MOST, Course, join
from streamlearn.retrain.policy import Batch

LOSSES = st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1)), min_size=1, max_size=60)


def total(batches: list[Batch]) -> tuple[int, float]:
    return sum(batch.n for batch in batches), sum(batch.n * batch.loss for batch in batches)


@given(LOSSES)
def test_joining_keeps_events_losses_and_the_end(told: list[tuple[int, float]]) -> None:
    batches = [Batch(n, loss, float(i), loss) for i, (n, loss) in enumerate(told)]
    joined = join(batches)
    n, loss = total(batches)
    assert total(joined) == (n, pytest.approx(loss))
    assert joined[-1] == batches[-1]
    assert len(joined) == len(batches) - len(batches) // 4
    assert [batch.at for batch in joined] == sorted(batch.at for batch in joined)


def test_it_stays_bounded_and_counts_all() -> None:
    course = Course()
    for at in range(3 * MOST):
        course.take({"n": 10, "loss": 0.5}, float(at))
    assert len(course.batches) <= MOST
    assert total(course.batches) == (30 * MOST, pytest.approx(15 * MOST))
    assert course.taken == 3 * MOST


def test_the_reference_is_what_follows_the_first_batch() -> None:
    course = Course(settle=300)
    for loss in (0.9, 0.2, 0.3):
        course.take({"n": 100, "loss": loss}, 1.0)
        assert course.reference is None
    course.take({"n": 100, "loss": 0.1}, 2.0)
    assert course.reference == pytest.approx(0.2)
    course.take({"n": 100, "loss": 0.9}, 3.0)
    assert course.reference == pytest.approx(0.2)


def test_a_retrain_begins_the_sums_anew_and_another_version_the_reference_too() -> None:
    course = Course(settle=100)
    for at in range(3):
        course.take({"n": 100, "loss": 0.2}, float(at))
    course.begin(10.0, another=False)
    assert (course.batches, course.since, course.reference) == ([], 10.0, pytest.approx(0.2))
    assert course.retrained
    course.begin(20.0, another=True)
    assert (course.since, course.reference) == (20.0, None)


@pytest.mark.parametrize("data", [{}, {"n": 1}, {"n": "many", "loss": 0.1}, {"n": 1, "loss": None}])
def test_what_is_no_batch_changes_nothing(data: dict[str, Any]) -> None:
    course = Course()
    with pytest.raises((KeyError, TypeError, ValueError)):
        course.take(data, 1.0)
    assert course == Course()


def test_the_first_batch_of_no_shard_is_part_of_the_reference() -> None:
    course = Course(settle=200)
    for shard, loss in ((0, 0.9), (1, 0.8), (1, 0.2), (2, 0.9), (0, 0.1)):
        course.take({"n": 100, "loss": loss}, 1.0, shard)
    assert course.reference == pytest.approx(0.15)
    course.begin(2.0, another=True)
    course.take({"n": 500, "loss": 0.7}, 2.0, 1)
    assert course.reference is None
