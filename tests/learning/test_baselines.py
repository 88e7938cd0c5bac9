"""No-change and majority, by what was known when a question was asked."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.learning.baselines import Baselines

CLASSES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=40)


def taught(task: str, labels: list[Any]) -> Baselines:
    baselines = Baselines(task)
    for y in labels:
        baselines.learn(y)
    return baselines


def test_before_the_first_label_they_know_nothing() -> None:
    assert (Baselines("binary").last, Baselines("binary").usual) == (None, None)


@given(CLASSES)
def test_last_is_the_last_and_usual_the_commonest(labels: list[str]) -> None:
    baselines = taught("multiclass", labels)
    assert baselines.last == labels[-1]
    counts = Counter(labels)
    assert counts[baselines.usual] == max(counts.values()) == baselines.most


def test_of_two_as_common_the_one_that_was_there_first_stays() -> None:
    assert taught("binary", [True, False]).usual is True
    assert taught("binary", [True, False, False]).usual is False


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_for_numbers_usual_is_the_mean(labels: list[float]) -> None:
    baselines = taught("regression", labels)
    assert baselines.last == labels[-1]
    assert baselines.usual == pytest.approx(math.fsum(labels) / len(labels), rel=1e-9, abs=1e-6)


def test_the_mean_of_the_largest_numbers_is_finite() -> None:
    assert math.isfinite(taught("regression", [1.7e308, -1.7e308, 1.7e308]).usual)


@pytest.mark.parametrize(
    ("task", "labels"), [("binary", [True, False, True]), ("multiclass", [3, 1, 3]), ("regression", [0.1, 2.0])]
)
def test_a_restart_changes_neither_values_nor_their_types(task: str, labels: list[Any]) -> None:
    one = taught(task, labels)
    other = msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Baselines)
    one.learn(labels[0])
    other.learn(labels[0])
    assert msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other)
    assert [type(label) for label in other.counts] == [type(label) for label in one.counts]
