"""Losses in the order of their questions, whatever the order of their labels."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.learning.inorder import InOrder


def settled(order: InOrder, seq: int, loss: float | None) -> list[float]:
    order.settle(seq, None if loss is None else (loss, seq * 10))
    return [loss for loss, _ in order.released()]


def test_a_loss_waits_for_the_questions_before_it() -> None:
    order = InOrder(100)
    assert settled(order, 3, 0.3) == []
    assert settled(order, 2, None) == []
    assert settled(order, 1, 0.1) == [0.1, 0.3]
    assert settled(order, 4, 0.4) == [0.4]
    assert order.settled == {}


def test_each_loss_comes_with_its_offset() -> None:
    order = InOrder(100)
    order.settle(1, (0.5, 77))
    assert list(order.released()) == [(0.5, 77)]


@given(st.permutations(range(1, 30)), st.sets(st.integers(1, 29)), st.integers(0, 29))
def test_any_order_of_labels_gives_the_order_of_questions_also_after_a_restart(
    order: list[int], without: set[int], cut: int
) -> None:
    losses, released = InOrder(100), []
    for n, seq in enumerate(order):
        if n == cut:
            losses = msgspec.msgpack.decode(msgspec.msgpack.encode(losses), type=InOrder)
        released += settled(losses, seq, None if seq in without else float(seq))
    assert released == [float(seq) for seq in range(1, 30) if seq not in without]


def test_no_more_than_most_are_kept_and_what_comes_after_its_turn_is_dropped() -> None:
    order = InOrder(10)
    released = []
    for seq in range(3, 1000):
        released += settled(order, seq, float(seq))
        assert len(order.settled) <= 10
    assert released == [float(seq) for seq in range(3, 1000)]
    assert settled(order, 1, 1.0) == []
    assert order.settled == {}
    assert settled(order, 1000, 0.5) == [0.5]
