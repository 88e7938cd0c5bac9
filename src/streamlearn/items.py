"""What an event says of items: a shown slate, and the actions that are records of an item or a user.

The shapes are held here, at the HTTP door and in the learner alike; what an action is worth is the model's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from .errors import EventError

SET: Final = "$set"  # fields of an item or a user, merged over the known ones; null removes one
DELETE: Final = "$delete"
AVAILABLE: Final = "available"  # the field of an item that takes it out of answers, and back
MAX_SHOWN: Final = 1000  # items in one slate


class ShownItem(msgspec.Struct, omit_defaults=True):
    """One item of a slate. `position` is 1-based, 0 says that the order of the list tells it; `propensity` is the probability
    in (0, 1] with which it was shown there; `f` are the ranking features as served, by `Recommender.feature_names`."""

    item: Annotated[str, Meta(min_length=1)]
    position: Annotated[int, Meta(ge=0, le=100_000)] = 0
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None
    score: float | None = None
    source: str | None = None
    f: list[float] | None = None


def shown_items(items: Sequence[Any], longest: int) -> list[ShownItem]:
    """The slate in an event's `items`, ids or objects with an `item`, with a position for each. Raises EventError.

    An id may have `longest` characters.
    """
    if not items:
        raise EventError("shape", "items", "is an empty list; send what was shown, or leave it out")
    if len(items) > MAX_SHOWN:
        raise EventError("too_many_items", "items", f"has {len(items)} items, more than {MAX_SHOWN}")
    try:
        given = msgspec.convert(items, list[str | ShownItem])
    except (msgspec.ValidationError, RecursionError) as error:
        problem, _, path = str(error).partition(" - at `")
        raise EventError("shape", f"items{path.rstrip('`').removeprefix('$')}", problem) from None
    shown: list[ShownItem] = []
    for index, one in enumerate(given):
        item = ShownItem(one) if isinstance(one, str) else one
        if not item.item:
            raise EventError("shape", f"items[{index}]", "is an empty string; leave it out instead")
        if len(item.item) > longest:
            raise EventError("too_long", f"items[{index}]", f"has {len(item.item)} characters, more than {longest}")
        if item.position == 0:
            item.position = index + 1
        shown.append(item)
    return shown


def check_action(action: str, item: str | None, user: str | None, x: Mapping[str, Any] | None) -> None:
    """Hold an event with this `action` to the shape of an interaction, or, with a $, of a record. Raises EventError."""
    if action[:1] != "$":
        if item is None:
            raise EventError("shape", "item", f"is missing: {action[:40]!r} was done to which item?")
        return
    if action not in (SET, DELETE):
        raise EventError("shape", "action", f"is {action[:40]!r}, which no record has; write {SET} or {DELETE}")
    if (item is None) == (user is None):
        given = "both" if item else "none"
        raise EventError("shape", "item", f"{action} is of an item or of a user: name one of them, not {given}")
    if action == SET and x is None:
        raise EventError("shape", "x", f"is missing: {SET} needs the fields, null removes one")
    if x is not None and item is not None and type(x.get(AVAILABLE, True)) is not bool and x[AVAILABLE] is not None:
        raise EventError("shape", f"x.{AVAILABLE}", "is neither true nor false")
