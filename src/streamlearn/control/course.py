"""What was seen of the serving version since the last retrain: its batches, kept small, for the policies to decide by.

Folded from the learners' "batch" signals and from decisions, so that a new control process comes to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ..events import Features
from ..retrain.cara import GAMMA, scales, staleness
from ..retrain.policy import Batch
from ..retrain.upf import shift

MOST: Final = 4096  # batches that are kept one by one; beyond that the older half is joined, two into one


@dataclass(slots=True)
class Course:
    """`batches` of the serving version since `since` (Unix seconds). `reference`: its mean loss at training time, that of the
    first `settle` labelled events after the first batch of each shard, since what begins with nothing is worse in that one.

    `taken` counts every batch ever taken and every beginning, so that one can tell whether there is anything new. What a batch
    tells of features is compared with the first batch that told any: CARA's staleness, and how far they have moved.
    """

    settle: int = 500
    since: float = 0.0
    batches: list[Batch] = field(default_factory=list)
    reference: float | None = None
    taken: int = 0
    retrained: bool = False  # ever
    made_on: list[Features] = field(default_factory=list)  # the features of the first batch that told any
    begun: set[int] = field(default_factory=set)  # the shards that have told a batch since the version serves
    settling: list[Batch] = field(default_factory=list)

    def take(self, data: Mapping[str, Any], at: float, shard: int = 0) -> Batch:
        """The data of a "batch" signal of `shard`, told at `at`. Raises KeyError, TypeError or ValueError for what is none."""
        n, loss = int(data["n"]), float(data["loss"])
        psi, moved = loss, 0.0
        if data.get("sample"):
            losses, rows = np.array([float(one) for one, _ in data["sample"]]), [x for _, x in data["sample"]]
            self.made_on = self.made_on or rows
            scale = scales(self.made_on)
            psi, moved = staleness(rows, rows, losses, GAMMA, scale), shift(self.made_on, rows, scale)
        batch = Batch(n, loss, at, psi, moved)
        self.taken += 1
        self.batches.append(batch)
        self.batches = bounded(self.batches)
        if self.reference is None:
            self._settle(batch, shard)
        return batch

    def begin(self, at: float, another: bool) -> None:
        """A retrain was decided, or `another` version serves."""
        self.since, self.batches = at, []
        self.taken += 1
        self.retrained = self.retrained or not another
        if another:
            self.reference, self.made_on, self.settling, self.begun = None, [], [], set()

    def _settle(self, batch: Batch, shard: int) -> None:
        if shard not in self.begun:
            self.begun.add(shard)
            return
        self.settling.append(batch)
        n = sum(one.n for one in self.settling)
        if n >= self.settle:
            self.reference = sum(one.n * one.loss for one in self.settling) / n
            self.settling = []


def bounded(batches: list[Batch]) -> list[Batch]:
    """The same, as long as there are no more than `MOST`; else the older half joined."""
    return batches if len(batches) <= MOST else join(batches)


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

