"""What a decision may look at besides the records: the time, the log's ends, labelled counts, and how a job ended.

The loop gives these in; tests give what they like. A decision records every number of them that it used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the fit numbered `run` of a case ended: `trained_to` by shard, or with the `reason` of a RetrainError."""

    case: str
    run: int
    trained_to: Mapping[int, int]
    reason: str = ""
    detail: str = ""


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

    def labelled(self, shard: int) -> int:
        """Labelled events of the shard by its newest status, 0 when there is none."""

    def bounds(self, partition: int) -> tuple[int, int]:
        """(first retained offset, end) of the partition."""

    def time_at(self, partition: int, offset: int) -> float:
        """The append time of the record at `offset`."""

    def offset_at(self, partition: int, time: float) -> int:
        """The first retained offset appended at `time` or later; the end when there is none."""
