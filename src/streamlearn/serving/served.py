"""What is served of a shard: a champion, and beside it the challenger while one answers for some of the keys."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from ..events import Features, Position, unit_of
from .following import FREE

if TYPE_CHECKING:
    from ..learning.model import Answer


class Challenger(NamedTuple):
    """The version beside the champion: it answers for the keys whose `events.unit_of` (salt, key) lies below `share`."""

    answer: Callable[[Features], Answer]
    version: int
    share: float
    salt: str
    model: Any = None
    lock: AbstractContextManager[Any] = FREE

    def answers_for(self, key: str | None) -> bool:
        return key is not None and unit_of(self.salt, key) < self.share


class Indexed(NamedTuple):
    """What the index of the champion's items is: how many it holds, when it took in what was published last (by the timer),
    and the share of the exact best that it found for a sample of users when it was made."""

    items: int
    fresh_at: float
    recall: float


class Served(NamedTuple):
    """One shard's model as it is served. `current_at`: when the learner was last known to stand at it, by the timer.

    That is when the newest status was heard if it shows nothing waiting in a log that can be read, and nothing learned since;
    else when the publication was made. The age of an answer is the time since then, so that it stays small
    while a learner has nothing to do, and grows when it is behind, held or gone.
    """

    answer: Callable[[Features], Answer]
    version: int
    position: Position
    n: int
    created: float
    current_at: float
    tag: int
    size: int
    challenger: Challenger | None = None
    model: Any = None
    lock: AbstractContextManager[Any] = FREE  # to be held while `model` is asked
