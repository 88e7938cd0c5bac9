"""Where the challenger is worse: for each slice of the events, evidence that its loss there is higher than the champion's.

A slice is one value of one feature. Each has a betting process of its own, on the same odd and even blocks as the trial, and
what is worse beyond doubt is found by e-BH (Wang & Ramdas, JRSS B 2022), which allows for any dependence between slices.
"""

from __future__ import annotations

from typing import Any, Final

from .betting import OddEven
from .sums import SLICE, Name, Sum, Sums

MAX_VALUES: Final = 24  # of one feature, as many as a day has hours; those that come later are one slice together
OTHER: Final = "other"
SHOWN: Final = 20


class Slices:
    """All slices of a trial. H0 of each: E[challenger's − champion's loss | past] ≤ tolerance, over its events in a block.

    `level` is the false discovery rate: of the slices that are called worse, the share that is not, in expectation.
    """

    def __init__(self, tolerance: float, level: float) -> None:
        self._tolerance, self._level = tolerance, level
        self._evidence: dict[Name, OddEven] = {}
        self._totals: dict[Name, Sum] = {}
        self._values: dict[str, int] = {}  # by feature, how many of its values have a slice of their own

    def add(self, number: int, sums: Sums, *, stake: bool) -> None:
        """Take block `number` of the trial's bets; without a stake it is experience alone."""
        block: dict[Name, Sum] = {}
        for name, (n, champion, challenger) in sums.items():
            if name[0] == SLICE and n:
                name = self._own(name)
                before = block.get(name, (0, 0.0, 0.0))
                block[name] = (before[0] + n, before[1] + champion, before[2] + challenger)
        for name, (n, champion, challenger) in block.items():
            process = self._evidence[name]
            total = self._totals[name]
            self._totals[name] = (total[0] + n, total[1] + champion, total[2] + challenger)
            x = min(max((challenger - champion) / n, -1.0), 1.0)
            (process.bet if stake else process.learn)(number, x)

    def worse(self) -> list[Name]:
        """The slices where the challenger is worse by more than the tolerance, the surest one first.

        e-BH: of m slices by falling e, the first k for the largest k with e_(k) ≥ m / (level · k).
        """
        ranked = sorted(self._evidence, key=lambda name: -self._evidence[name].e)
        for k in range(len(ranked), 0, -1):
            if self._evidence[ranked[k - 1]].e >= len(ranked) / (self._level * k):
                return ranked[:k]
        return []

    def why(self) -> str:
        """What `worse` found, in words, "" for nothing."""
        found = [
            f"{feature} = {value} by {(challenger - champion) / n:.4f} (evidence {self._evidence[_, feature, value].e:.3g})"
            for _, feature, value in self.worse()
            for n, champion, challenger in [self._totals[_, feature, value]]
        ]
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        return f"it is worse in {len(found)} of {len(self._evidence)} slices: {'; '.join(found[:3])}{more}" if found else ""

    def numbers(self) -> dict[str, Any]:
        """What the audit keeps: how many slices there are, and the SHOWN with the most evidence. JSON-able."""
        worse = set(self.worse())
        ranked = sorted(self._evidence, key=lambda name: -self._evidence[name].e)
        rows = []
        for name in ranked[:SHOWN]:
            n, champion, challenger = self._totals[name]
            rows.append(
                {
                    "feature": name[1], "value": name[2], "n": n, "champion": champion / n, "challenger": challenger / n,
                    "e": self._evidence[name].e, "worse": name in worse,
                }
            )  # fmt: skip
        return {"count": len(ranked), "worse": len(worse), "rows": rows}

    def _own(self, name: Name) -> Name:
        """The slice that a value belongs to: its own, or the one for all values beyond MAX_VALUES."""
        if name in self._evidence:
            return name
        count = self._values.get(name[1], 0)
        if name[2] != OTHER:
            if count >= MAX_VALUES:
                return self._own((SLICE, name[1], OTHER))
            self._values[name[1]] = count + 1
        self._evidence[name] = OddEven(self._tolerance)
        self._totals[name] = (0, 0.0, 0.0)
        return name
