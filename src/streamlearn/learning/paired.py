"""Champion and challenger on the same events, in blocks: the raw material of a trial, judged elsewhere.

A block is a run of consecutive questions; it is closed when every question in it has its label or has given up on it, so
blocks are in the order of the questions, not of the labels. Nothing here decides anything, nor how many blocks make one of
the test.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .breakdown import Breakdown, Rows
from .waiting import Entry

MAX_OPEN: Final = 10_000


class Block(msgspec.Struct, array_like=True):
    """Questions asked and settled in one block; of the answered ones the number and each side's loss, and what a breakdown
    has summed."""

    asked: int = 0
    settled: int = 0
    n: int = 0
    champion: float = 0.0
    challenger: float = 0.0
    metrics: Rows = {}
    slices: dict[str, Rows] = {}


class PairedBlocks(msgspec.Struct, array_like=True):
    """The blocks of one trial. `trial` is the seq of the command that began it, `size` the questions in a block.

    At most MAX_OPEN are open: beyond that the oldest is closed with what it has, and what is answered later is left out.
    """

    trial: int
    size: int
    asked: int = 0
    closed: int = 0
    n: int = 0
    champion: float = 0.0
    challenger: float = 0.0
    open: dict[int, Block] = {}
    breakdown: Breakdown | None = None

    def ask(self) -> int:
        """The block that the next question belongs to."""
        number = self.asked // self.size
        self.asked += 1
        block = self.open.get(number)
        if block is None:
            block = self.open[number] = Block()
        block.asked += 1
        return number

    def detail(self, number: int, entry: Entry, y: Any, champion: float, challenger: float) -> None:
        """Before `answer`: break the event down into what the trial asks for beside the losses."""
        block = self.open.get(number)
        if block is not None and self.breakdown is not None:
            self.breakdown.add(block.metrics, entry, y)
            self.breakdown.add_slices(block.slices, entry, champion, challenger)

    def answer(self, number: int, champion: float, challenger: float) -> bool:
        """A question of that block got its label: each side's loss in [0, 1]. Whether a block may be closed now."""
        block = self.open.get(number)
        if block is None:
            return False
        block.settled += 1
        block.n += 1
        block.champion += champion
        block.challenger += challenger
        self.n += 1
        self.champion += champion
        self.challenger += challenger
        return block.settled >= self.size or len(self.open) > MAX_OPEN

    def give_up(self, number: int) -> None:
        """A question of that block will never have a label."""
        block = self.open.get(number)
        if block is not None:
            block.settled += 1

    def take_closed(self) -> list[dict[str, Any]]:
        """The blocks closed since the last call, in order, as the data of "block" signals."""
        closed: list[dict[str, Any]] = []
        while True:
            block = self.open.get(self.closed)
            if block is None or (block.settled < self.size and len(self.open) <= MAX_OPEN):
                return closed
            del self.open[self.closed]
            data: dict[str, Any] = {
                "trial": self.trial,
                "block": self.closed,
                "n": block.n,
                "champion": block.champion,
                "challenger": block.challenger,
            }
            if self.breakdown is not None:
                data |= {"metrics": block.metrics, "slices": block.slices}
            closed.append(data)
            self.closed += 1
