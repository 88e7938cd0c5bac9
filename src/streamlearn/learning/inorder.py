"""Losses handed on in the order of their questions. With a default label, positives come early and negatives only when
the wait is over, so losses in label order would be biased (clicks first); in question order they are not.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class InOrder(msgspec.Struct, array_like=True):
    """`next` is the seq of the first question not settled; `settled` holds what came before its turn, None for no loss.

    It never holds more than `most`: beyond that the first question is passed over, and its loss, when it comes, dropped.
    """

    most: int
    next: int = 1
    settled: dict[int, tuple[float, int] | None] = {}

    def settle(self, seq: int, loss: tuple[float, int] | None) -> None:
        """A question has its (loss, log offset), or will have none."""
        if seq >= self.next:
            self.settled[seq] = loss

    def released(self) -> Iterator[tuple[float, int]]:
        """The (loss, offset) of every question whose turn has come, in order."""
        settled = self.settled
        while self.next in settled or len(settled) > self.most:
            loss = settled.pop(self.next, None)
            self.next += 1
            if loss is not None:
                yield loss
