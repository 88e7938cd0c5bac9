"""What waits in a join, as its checkpoint keeps it, and the handler that a join drives.

MessagePack carries all of it, so that a join's state can be read without opening a pickle.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from ..events import Features
from ..log import Record

WAITING: Final = b"waiting"  # bytes, which JSON does not have, so no label can be mistaken for them
EXPIRED: Final = b"expired"
SKIPPED: Final = b"skipped"  # its features or its label came while the model was held


class Entry(msgspec.Struct, array_like=True, gc=False):
    """Features on their way to a label. `seq` counts the shard's questions; the rest is what was predicted at the time.

    Many wait at once, and none refers to another, so the garbage collector need not walk them.

    `key` is the event's own, None when it is the id. `served` is the (version, answer) of this model's logged prediction.
    """

    id: str
    x: Any
    offset: int
    ts: float
    deadline: float
    seq: int = 0
    key: str | None = None
    version: int = 0
    y: Any = None
    p: Any = None
    last: Any = None
    majority: Any = None
    shadow_y: Any = None
    shadow_p: Any = None
    trial: int = -1
    block: int = -1
    served: Any = None


class Early(msgspec.Struct, array_like=True, gc=False):
    """A label that came before its features, as it came."""

    id: str
    y: Any
    deadline: float
    offset: int
    ts: float
    key: bytes
    raw: bytes


class JoinState(msgspec.Struct, array_like=True):
    """All that a join remembers, as a checkpoint keeps it."""

    position: int
    newest: float | None
    last_append: float
    seq: int
    pending: list[Entry]
    early: list[Early]
    young: tuple[list[str], list[Any]]
    old: tuple[list[str], list[Any]]
    counters: dict[str, int]


class Slot(msgspec.Struct, array_like=True, gc=False):
    """One item of a slate that waits; `f` are its ranking features as served, as float32 bytes: many wait at once."""

    item: str
    position: int
    propensity: float | None = None
    score: float | None = None
    f: bytes | None = None


class Impression(msgspec.Struct, array_like=True, gc=False):
    """A slate that was shown, on its way to what comes of it.

    `version` is the one of this model that made it, None for another maker. `earned` holds the sum of weights of each slot, and
    `delay` the seconds from showing it to the first action with a weight above 0.
    """

    id: str
    user: str | None
    slots: list[Slot]
    context: dict[str, Any]
    ts: float
    offset: int
    version: int | None = None
    earned: list[float] = []
    delay: float | None = None


class Handler(Protocol):
    """What a join drives. `check`, `label` and `question` may raise EventError, and have changed nothing then; `answer` and
    `unanswered` never raise, since they are also called for other events than the one at hand."""

    @property
    def name(self) -> str:
        """The model's name."""

    def check(self, x: Features) -> tuple[Features, dict[str, str]]:
        """The features without nulls, and the types of those never seen before."""

    def label(self, y: Any) -> Any:
        """The label as the estimator takes it."""

    def accept(self, types: dict[str, str]) -> None:
        """Features of these types, never seen before, were accepted."""

    def question(self, entry: Entry) -> None:
        """Features were accepted: predict."""

    def answer(self, entry: Entry, y: Any) -> bool:
        """Their label is known: score, detect, learn. False when they were refused after all: the id is forgotten."""

    def unanswered(self, entry: Entry) -> None:
        """Their label never came, and there is no default."""

    def teach(self, kind: str, given: Any) -> None:
        """What teaches a recommender and is no question: see `interactions`. Never raises."""

    def refuse(self, record: Record, reason: str, detail: str) -> None:
        """A record, or the part of it that cannot be used, goes to the dead letters."""
