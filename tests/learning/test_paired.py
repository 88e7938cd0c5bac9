"""Blocks of questions that champion and challenger answered both, closed in the order of the questions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.learning import paired
from streamlearn.learning.paired import Block, PairedBlocks


def asked(size: int, count: int) -> tuple[PairedBlocks, list[int]]:
    blocks = PairedBlocks(7, size)
    return blocks, [blocks.ask() for _ in range(count)]


def test_questions_are_cut_into_blocks_as_they_come() -> None:
    assert asked(3, 8)[1] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_a_block_is_closed_when_each_of_its_questions_is_settled() -> None:
    blocks, numbers = asked(3, 6)
    blocks.answer(numbers[0], 1.0, 0.0)
    blocks.answer(numbers[1], 0.5, 0.25)
    assert blocks.take_closed() == []
    blocks.give_up(numbers[2])
    assert blocks.take_closed() == [{"trial": 7, "block": 0, "n": 2, "champion": 1.5, "challenger": 0.25}]
    assert blocks.take_closed() == []
    assert (blocks.n, blocks.champion, blocks.challenger) == (2, 1.5, 0.25)


def test_a_later_block_waits_for_an_earlier_one() -> None:
    blocks, numbers = asked(2, 6)
    for number in numbers[2:]:
        blocks.answer(number, 1.0, 0.0)
    assert blocks.take_closed() == []
    blocks.answer(0, 0.0, 1.0)
    blocks.give_up(0)
    assert [(block["block"], block["n"]) for block in blocks.take_closed()] == [(0, 1), (1, 2), (2, 2)]
    assert blocks.open == {}


def test_a_block_without_any_label_is_closed_as_well_so_that_none_is_missing() -> None:
    blocks, numbers = asked(2, 2)
    for number in numbers:
        blocks.give_up(number)
    assert blocks.take_closed() == [{"trial": 7, "block": 0, "n": 0, "champion": 0.0, "challenger": 0.0}]


@given(st.data(), st.integers(1, 5), st.integers(0, 40))
def test_whatever_the_order_of_labels_every_full_block_is_closed_once_with_all_its_losses(
    data: Any, size: int, count: int
) -> None:
    blocks, numbers = asked(size, count)
    order = data.draw(st.permutations(range(count)))
    missing = data.draw(st.sets(st.integers(0, 40)))
    cut = data.draw(st.integers(0, 40))
    closed: list[dict[str, Any]] = []
    for n, question in enumerate(order):
        if n == cut:
            blocks = msgspec.msgpack.decode(msgspec.msgpack.encode(blocks), type=PairedBlocks)
        if question in missing:
            blocks.give_up(numbers[question])
        else:
            blocks.answer(numbers[question], float(question), 1.0)
        closed += blocks.take_closed()
    full = count // size
    assert [block["block"] for block in closed] == list(range(full))
    for block in closed:
        inside = [q for q in range(count) if q // size == block["block"] and q not in missing]
        assert (block["n"], block["champion"], block["challenger"]) == (len(inside), sum(inside), len(inside))


def test_no_more_than_max_open_are_kept_and_what_is_answered_later_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "MAX_OPEN", 5)
    blocks = PairedBlocks(7, 2)
    first = blocks.ask()
    closed = []
    for _ in range(101):
        blocks.answer(blocks.ask(), 1.0, 0.0)
        closed += blocks.take_closed()
        assert len(blocks.open) <= 6
    assert [block["block"] for block in closed] == list(range(len(closed)))
    assert closed[0]["n"] == 1
    before = msgspec.msgpack.encode(blocks)
    blocks.answer(first, 1.0, 1.0)
    blocks.give_up(first)
    assert msgspec.msgpack.encode(blocks) == before


def test_blocks_of_a_checkpoint_from_before_breakdowns_are_read() -> None:
    old = msgspec.msgpack.encode([7, 3, 2, 0, 1, 1.0, 0.0, {0: [2, 1, 1, 1.0, 0.0]}])
    blocks = msgspec.msgpack.decode(old, type=PairedBlocks)
    assert blocks.breakdown is None
    assert blocks.open[0] == Block(2, 1, 1, 1.0, 0.0)
    blocks.ask()
    blocks.answer(0, 1.0, 1.0)
    blocks.answer(0, 1.0, 1.0)
    assert blocks.take_closed() == [{"trial": 7, "block": 0, "n": 3, "champion": 3.0, "challenger": 2.0}]
