"""What the learner calls without knowing who answers: the watch over its losses, and the maker of lost versions.

The composition root hands implementations in; nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..config import DriftSettings
from ..records import Command
from ..store.links import Kept


class Note(NamedTuple):
    """What a watch has to say: it becomes a signal of that kind ("alarm" or "window", see `records.Signal`)."""

    kind: str
    data: dict[str, Any]


class Watch(Protocol):
    """Drift detection over the losses of one shard; deterministic, and all of its state in `state()`."""

    def update(self, loss: float, offset: int, n: int) -> Note | None:
        """Take a loss in [0, 1], the log offset of its features, and the labelled events so far, this one included."""

    @property
    def alarms(self) -> int:
        """The alarms noted so far."""

    @property
    def wants(self) -> frozenset[str]:
        """What it is to be told of beside the loss: "score", "label_rate", or a metric of `Scores.view()["window"]`."""

    def observe(self, what: str, value: float) -> None:
        """Take one of those, of which more is worse, or which is watched both ways."""

    def begin_recovery(self, n: int) -> None:
        """A new champion serves: collect a window of its losses, tagged "recovery", and start a new reference."""

    def reset(self, confirmed: bool) -> None:
        """The case is over: detectors afresh; after a confirmed change the reference before it is forgotten too."""

    def since(self, offset: int) -> dict[int, float]:
        """The losses that it remembers of features at this log offset and later, by theirs."""

    def statistics(self) -> dict[str, float]:
        """By detector, how near it is to an alarm, which 1 is. For people: it changes nothing."""

    def state(self) -> bytes:
        """Everything, for a checkpoint."""


class WatchMaker(Protocol):
    """Makes a watch for "binary" (0 or 1) or "bounded" ([0, 1]) losses, or brings one back from its state."""

    def new(self, settings: DriftSettings, loss: str) -> Watch:
        """A watch that has seen nothing."""

    def restore(self, settings: DriftSettings, loss: str, state: bytes) -> Watch:
        """The watch whose `state()` was given."""


# The sealed blob of a version that a "try" command names, for one shard, and its pieces: from the store, else made again from
# the command's spec. Raises CodecError or RetrainError when neither works.
ResolveVersion = Callable[[Command, int], Kept]
