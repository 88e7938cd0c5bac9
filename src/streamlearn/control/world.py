"""What a decision may look at besides the records: the time, the log's ends, labelled counts, and how a job ended.

The loop gives these in; tests give what they like. A decision records every number of them that it used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..retrain.policy import Choice, Policy
from ..retrain.rewind import Sound
from .seen import Inputs


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the fit numbered `run` of a case ended: `trained_to` by shard, or with the `reason` of a RetrainError."""

    case: str
    run: int
    trained_to: Mapping[int, int]
    reason: str = ""
    detail: str = ""
    facts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)  # by shard, see `facts.of_blob`
    search: Mapping[str, Any] | None = None  # {recipe, report} of the search before it, see `retrain.search.Found`


@dataclass(frozen=True, slots=True)
class Hindsight:
    """What the model as it was in `checkpoint`, before the change of the case, would have lost since: a window, or why not."""

    case: str
    losses: Mapping[str, Any] | None
    checkpoint: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What a policy says now, with what it was asked about."""

    policy: Policy
    choice: Choice

    def doc(self) -> dict[str, Any]:
        """As JSON holds it."""
        choice = self.choice
        return {
            "policy": self.policy.name, "gated": self.policy.gated, "retrain": choice.retrain, "total": choice.total,
            "threshold": choice.threshold, "why": choice.why, "settled": choice.settled, **choice.numbers,
        }  # fmt: skip


def words(said: Iterable[Said]) -> str:
    """What policies say, for people."""
    return "; ".join(f"{one.policy.name}: {one.choice.why}" for one in said)


class World(Protocol):
    """The world as one model's judge sees it. Partitions are those of the model's stream."""

    @property
    def now(self) -> float:
        """Unix seconds."""

    @property
    def signal(self) -> int:
        """The offset of the newest signal read, -1 before the first."""

    @property
    def up_to_date(self) -> bool:
        """Whether every signal that the log holds has been read: only then can one be missed."""

    @property
    def limits(self) -> Mapping[str, float]:
        """The fields of `events.Limits` that a fit must keep to."""

    @property
    def stream_settings(self) -> Mapping[str, object]:
        """The settings of the model's stream, as JSON would hold them."""

    @property
    def outcome(self) -> Outcome | None:
        """How the model's last fit ended, until its decision is recorded."""

    @property
    def hindsight(self) -> Hindsight | None:
        """The answer of the model as it was, for the open case; None before it is there."""

    def sound(self, shard: int, offset: int) -> Sound | None:
        """The shard's newest sound checkpoint that has read no further than `offset`."""

    def kept(self) -> frozenset[int]:
        """The versions of which the store has every shard."""

    @property
    def choices(self) -> Sequence[Said]:
        """What the model's policies say now, see `choosing.Panel.ask`."""

    @property
    def inputs(self) -> Inputs | None:
        """What was seen last of the model's features, None before the first look."""

    def look_now(self) -> Inputs | None:
        """The same up to the log's end, which has to be read for it."""

    def labelled(self, shard: int) -> int:
        """Labelled events of the shard by its newest status, 0 when there is none."""

    def scores(self, shard: int) -> Mapping[str, Any]:
        """What the shard's newest status says of its models' worth, {} when there is none."""
    def rebuilt(self, shard: int) -> int | None:
        """The generation of the shard's learner, when it has made its state again by replay and awaits the reset; else None."""

    def bounds(self, partition: int) -> tuple[int, int]:
        """(first retained offset, end) of the partition."""

    def time_at(self, partition: int, offset: int) -> float:
        """The append time of the record at `offset`."""

    def offset_at(self, partition: int, time: float) -> int:
        """The first retained offset appended at `time` or later; the end when there is none."""
