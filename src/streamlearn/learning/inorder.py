"""Losses handed on in the order of their questions. With a default label, positives come early and negatives only when
the wait is over, so losses in label order would be biased (clicks first); in question order they are not.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class InOrder(msgspec.Struct, array_like=True):
    """`next` is the seq of the first question not settled; `settled` holds what came before its turn, None for no loss."""

    next: int = 1
    settled: dict[int, tuple[float, int] | None] = {}

    def settle(self, seq: int, loss: tuple[float, int] | None) -> None:
        """A question has its (loss, log offset), or will have none."""
        self.settled[seq] = loss

    def released(self) -> Iterator[tuple[float, int]]:
        """The (loss, offset) of every question whose turn has come, in order."""
        while self.next in self.settled:
            loss = self.settled.pop(self.next)
            self.next += 1
            if loss is not None:
                yield loss
