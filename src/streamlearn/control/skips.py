"""The part of the fold that keeps account of what no fit may learn: ranges that were held and skipped, or rewound past.

Learners tell of a held range by signals, and signals may be forgotten by the log; so control writes each range into its own log
(`range_skipped`), and that record is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..log.ranges import Range, covered, merged
from ..records import Decision, Signal
from .state import State


def by_shard(numbers: Mapping[str, Any]) -> dict[int, list[Range]]:
    """Ranges by shard, from a decision's numbers."""
    return {int(shard): merged(ranges) for shard, ranges in numbers.items()}


def add(state: State, ranges: Mapping[int, list[Range]]) -> None:
    """No fit may learn these from now on."""
    for shard, more in ranges.items():
        state.skipped[shard] = merged([*state.skipped.get(shard, ()), *more])


def hold_ended(state: State, signal: Signal) -> None:
    """A command was applied: if it ended a hold, what came meanwhile is to be recorded, unless it was learned after all."""
    data, shard = signal.data, signal.shard
    held = data.get("held")
    if held is None and data["verb"] == "resume" and shard in state.holding:  # by a learner that did not say it yet
        held = [state.holding[shard], data["offset"]]
    if held is None:
        return
    state.holding.pop(shard, None)
    if data.get("mode") != "learn":
        state.to_skip.append((shard, held[0], held[1]))


def fits(state: State, decision: Decision) -> bool:
    """Whether the range is still to be recorded, or is news altogether, its signal being forgotten."""
    shard, (start, end) = decision.numbers["shard"], decision.numbers["range"]
    known = covered(state.skipped.get(shard, ()), start, end) == end - start
    return (shard, start, end) in state.to_skip or not known


def recorded(state: State, offset: int, decision: Decision) -> None:
    """Take the decision that a range was skipped."""
    shard, (start, end) = decision.numbers["shard"], decision.numbers["range"]
    state.to_skip = [one for one in state.to_skip if one != (shard, start, end)]
    add(state, {shard: [(start, end)]})
