"""Control's documents as the API hands them out, and what its routes about models share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from ..errors import EventError
from ..events import parse_time
from . import openapi
from .deps import Shared
from .problems import ProblemError

MODEL_NAME: Final = openapi.path_parameter("model", "The model's name in the configuration", "delay")


def json_answer(value: Any, status: int = 200) -> Response:
    """A response of JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def documents(hub: Shared, kind: str, ids: list[str] | None = None) -> list[dict[str, Any]]:
    """Control's documents of one kind, each with its id. Raises StoreUnavailable."""
    found = await asyncio.to_thread(hub.deps.store.views, kind, ids)
    return [{"id": id} | msgspec.json.decode(doc, type=dict[str, Any]) for id, doc in found.items()]


def instant(text: str | None, field: str) -> float | None:
    """The time in a query's parameter, Unix seconds or RFC 3339. Raises ProblemError, naming the field, for what is none."""
    if text is None:
        return None
    try:
        return parse_time(float(text))
    except ValueError:
        pass
    except EventError as error:
        raise ProblemError("rejected", f"{field}: {error.detail}", {"field": field}) from None
    try:
        return parse_time(text)
    except EventError as error:
        detail = f"{field}: {error.detail}, nor Unix seconds; a + in it is written %2B"
        raise ProblemError("rejected", detail, {"field": field}) from None


def stretch(query: Mapping[str, str], now: float, length_s: float) -> tuple[float, float]:
    """A query's `since` and `until`, Unix seconds; by default `length_s` long, and up to `now`. Raises ProblemError."""
    since, until = instant(query.get("since"), "since"), instant(query.get("until"), "until")
    until = now if until is None else until
    since = until - length_s if since is None else since
    if since >= until:
        raise ProblemError("rejected", "since: it is not before until; write an earlier time", {"field": "since"})
    return since, until
