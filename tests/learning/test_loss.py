"""What a wrong prediction costs, and the scale by which numbers are measured."""

from __future__ import annotations

import math
import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config import ModelSettings
from streamlearn.learning.loss import SCALE_DEVIATIONS, SCALE_LABELS, Scaled, ZeroOne, make_loss

NUMBERS = st.floats(-1e6, 1e6)


def test_a_class_is_right_or_wrong() -> None:
    loss = make_loss(ModelSettings(stream="s", task="multiclass", pipeline="softmax"))
    assert isinstance(loss, ZeroOne)
    assert (loss("a", "a"), loss("a", "b"), loss("a", None)) == (0.0, 1.0, 1.0)
    assert loss.kind == "binary"


def test_a_number_is_measured_by_the_configured_scale_and_cut_at_one() -> None:
    loss = make_loss(ModelSettings(stream="s", task="regression", pipeline="linear", loss_scale=10.0))
    assert isinstance(loss, Scaled)
    assert (loss(5.0, 3.0), loss(3.0, 5.0), loss(0.0, 11.0)) == (0.2, 0.2, 1.0)
    assert loss.kind == "bounded"
    loss.learn(1e6)
    assert loss.scale == 10.0


def test_without_a_configured_scale_there_is_no_loss_until_the_labels_have_given_one() -> None:
    loss = Scaled()
    labels = [float((n * 37) % 101) for n in range(SCALE_LABELS)]
    for y in labels:
        assert loss(y, 0.0) is None
        loss.learn(y)
    assert loss.scale == pytest.approx(SCALE_DEVIATIONS * statistics.pstdev(labels))
    frozen = loss.scale
    loss.learn(1e9)
    assert loss.scale == frozen


def test_labels_that_are_all_the_same_give_no_scale_until_one_differs() -> None:
    loss = Scaled()
    for _ in range(2 * SCALE_LABELS):
        loss.learn(7.0)
    assert loss.scale is None
    loss.learn(8.0)
    assert loss.scale is not None
    assert loss.scale > 0


def test_a_label_near_the_largest_float_does_not_make_the_scale_infinite() -> None:
    loss = Scaled()
    for n in range(SCALE_LABELS + 2):
        loss.learn(1.7e308 if n % 100 == 50 else float(n % 10))
    assert loss.scale is not None
    assert math.isfinite(loss.scale)


@given(NUMBERS, NUMBERS, st.floats(1e-300, 1e300))
def test_a_loss_is_always_between_zero_and_one(y: float, predicted: float, scale: float) -> None:
    loss = Scaled(scale)(y, predicted)
    assert loss is not None
    assert 0.0 <= loss <= 1.0


def test_the_loss_of_the_largest_numbers_is_one() -> None:
    assert Scaled(1.0)(1.7e308, -1.7e308) == 1.0


@given(st.lists(NUMBERS, max_size=50), st.integers(0, 50))
def test_a_scale_goes_on_from_its_state(labels: list[float], cut: int) -> None:
    one, other = Scaled(), Scaled()
    for n, y in enumerate(labels):
        one.learn(y)
        if n == cut:
            other = msgspec.msgpack.decode(msgspec.msgpack.encode(other), type=Scaled)
        other.learn(y)
    assert one == other
