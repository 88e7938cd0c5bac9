"""A canary in a shard: for which keys the challenger answers, and what came of its served answers beside the champion's.

An outcome is the loss of the answer that was logged, less the loss of the champion's own prediction for the same question: what
makes some keys harder than others falls out of it. Outcomes are told by block, with the paired losses, once every question of
the block is settled, so that labels which come early have no more weight than late ones. Nothing here judges.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Canary(msgspec.Struct, array_like=True):
    """One step of a canary: `step` is the seq of its command, `since` the first block of questions that all came after it.

    `open`: by block, number, sum and sum of squares of the champion's outcomes, then of the challenger's.
    """

    version: int
    share: float
    salt: str
    step: int
    since: int
    open: dict[int, list[float]] = {}

    @property
    def extra(self) -> dict[str, Any]:
        """What a publication's header says of it."""
        return {"version": self.version, "share": self.share, "salt": self.salt}

    def outcome(self, block: int, difference: float, *, challenger: bool) -> None:
        """An answer that was served for a question of `block` has its label; blocks before the step are left out."""
        if block < self.since:
            return
        row = self.open.setdefault(block, [0.0] * 6)
        place = 3 if challenger else 0
        row[place] += 1
        row[place + 1] += difference
        row[place + 2] += difference * difference

    def close(self, block: int) -> dict[str, Any]:
        """What the signal of that block says besides, {} when it began before the step did."""
        row = self.open.pop(block, None) or [0.0] * 6
        return {} if block < self.since else {"canary": {"step": self.step, "champion": row[:3], "challenger": row[3:]}}
