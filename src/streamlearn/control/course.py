"""What was seen of the serving version since the last retrain: its batches, kept small, for the policies to decide by.

Folded from the learners' "batch" signals and from decisions, so that a new control process comes to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..retrain.cara import staleness
from ..retrain.policy import Batch, Confirmed
from ..retrain.upf import Spread

MOST: Final = 4096  # batches that are kept one by one; beyond that the older half is joined, two into one


@dataclass(slots=True)
class Course:
    """`batches` of the serving version since `since` (Unix seconds). `reference`: its mean loss at training time, which is that
    of the first `settle` labelled events after its first batch, since what begins with nothing is worse in that one.

    `taken` counts every batch ever taken, so that one can tell whether there is anything new.
    """

    settle: int = 500
    since: float = 0.0
    batches: list[Batch] = field(default_factory=list)
    reference: float | None = None
    taken: int = 0
    spread: Spread | None = None  # of the features of the first batch that told any
    first: bool = True
    settling: list[Batch] = field(default_factory=list)

    def take(self, data: Mapping[str, Any], at: float) -> Batch:
        """The data of a "batch" signal, told at `at`. Raises KeyError, TypeError or ValueError for what is none."""
        n, loss = int(data["n"]), float(data["loss"])
        psi, shift = loss, 0.0
        sample = data.get("sample")
        if sample:
            losses, features = [float(one) for one, _ in sample], [x for _, x in sample]
            if self.spread is None:
                self.spread = Spread.of(features)
            psi, shift = staleness(features, losses, self.spread), self.spread.shift(features)
        batch = Batch(n, loss, at, psi, shift)
        self.taken += 1
        self.batches.append(batch)
        if len(self.batches) > MOST:
            self.batches = join(self.batches)
        if self.reference is None:
            self._settle(batch)
        return batch

    def begin(self, at: float, another: bool) -> None:
        """A retrain was decided, or `another` version serves."""
        self.since, self.batches = at, []
        self.taken += 1
        if another:
            self.reference, self.spread, self.settling = None, None, []

    def _settle(self, batch: Batch) -> None:
        self.settling.append(batch)
        told = self.settling[1:]
        n = sum(one.n for one in told)
        if n >= self.settle:
            self.reference = sum(one.n * one.loss for one in told) / n
            self.settling = []


def join(batches: Sequence[Batch]) -> list[Batch]:
    """The older half joined, two into one; sums over events stay what they were."""
    half = len(batches) // 4 * 2
    pairs = zip(batches[0:half:2], batches[1:half:2], strict=True)
    return [_joined(one, other) for one, other in pairs] + list(batches[half:])


def _joined(one: Batch, other: Batch) -> Batch:
    n = one.n + other.n

    def mean(a: float, b: float) -> float:
        return (one.n * a + other.n * b) / n

    return Batch(n, mean(one.loss, other.loss), other.at, mean(one.psi, other.psi), mean(one.shift, other.shift))


__all__ = ["Confirmed", "Course", "join"]
