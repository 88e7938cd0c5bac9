"""Which labelled events a fit keeps or learns, where it does not take all: drawn so that the same fit can be made again."""

from __future__ import annotations

from typing import Generic, TypeVar

from ..events import unit_of

T = TypeVar("T")


class EvenSample(Generic[T]):
    """Every k-th of the items added, from the first one on; k doubles whenever `most` are kept and one more is due.

    So at least half of `most` are kept of a longer row, evenly spread over all of it, and the same ones each time. `seen`: how
    many were added; `every`: k.
    """

    def __init__(self, most: int) -> None:
        self.kept: list[T] = []
        self.seen = 0
        self.every = 1
        self._most = most

    def add(self, item: T) -> None:
        """Take the next item of the row."""
        if self.seen % self.every == 0 and len(self.kept) >= self._most:
            self.kept = self.kept[::2]
            self.every *= 2
        if self.seen % self.every == 0:
            self.kept.append(item)
        self.seen += 1


class Decay:
    """Of the events before `until`, one that is `half_life` records old is learned with probability ½, see `passes`.

    Older is counted in offsets. Thinning stands for the weight 0.5^(age / half-life), which few estimators can take.
    """

    def __init__(self, until: int, half_life: float, seed: int) -> None:
        self._until, self._half_life = until, half_life
        self._salt = f"decay {seed}"

    def passes(self, offset: int) -> bool:
        """Whether the event whose features are at `offset` is learned: with probability 0.5^((until − offset) / half_life), by
        a draw that depends on seed and offset alone; one at `until` or later always is."""
        age = self._until - offset
        return age <= 0 or unit_of(self._salt, str(offset)) < 0.5 ** (age / self._half_life)
