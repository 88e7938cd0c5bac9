"""What every question to a model has in common: how its body is read, its time judged, and who is there to answer."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.requests import Request

from ..errors import EventError
from ..events import Limits, check_string, explain, parse_time
from .holder import Served, Slot
from .ingest import content_type, read_body
from .problems import ProblemError

T = TypeVar("T")


async def read_question(request: Request, limit: int) -> bytes:
    """The body, JSON of at most `limit` bytes. Raises ProblemError."""
    if content_type(request) != "json":
        raise ProblemError("media-type", "questions are application/json")
    return await read_body(request, limit)


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """What `decoder` makes of the body. Raises EventError."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise explain(body, error) from None


def check_name(field: str, value: str | None, limits: Limits) -> None:
    """A text that names something: not empty, not too long; None is fine. Raises EventError."""
    if value is not None:
        check_string(field, value, limits)
        if not value:
            raise EventError("shape", field, "is an empty string; leave it out instead")


def asked_at(ts: float | str | None, limits: Limits, now: float) -> float | None:
    """The event time of a question, Unix seconds, None without one. Raises EventError."""
    if ts is None:
        return None
    at = parse_time(ts)
    if at > now + limits.max_ahead_s:
        raise EventError("future", "ts", f"lies more than {limits.max_ahead_s:g} s ahead of now; Unix time is in seconds")
    return at


def served_by(slot: Slot) -> Served:
    """What the shard serves. Raises ProblemError while that is nothing."""
    if slot.served is None:
        why = slot.refused or "the model has not learned yet: nothing was published"
        raise ProblemError("not-learned", f"model {slot.model!r}, shard {slot.shard}: {why}")
    return slot.served
