"""An even sample of a sequence of unknown length, in its order, without drawing: the same from the same sequence."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class EvenSample(Generic[T]):
    """Of what was added, every `stride`-th, at most `most`; `seen` counts all. `stride` doubles whenever there are too many, so
    that between half of `most` and `most` are kept."""

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self.items: list[T] = []
        self.seen = 0
        self.stride = 1

    def add(self, item: T) -> None:
        """Take the next one of the sequence."""
        if self.seen % self.stride == 0:
            self.items.append(item)
            if len(self.items) > self.most:
                self.items = self.items[::2]
                self.stride *= 2
        self.seen += 1
