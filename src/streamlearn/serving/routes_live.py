"""The live stream over HTTP: server-sent events about topics and decisions. What it tells, and how much, is `live`'s."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from . import openapi
from .deps import Shared, shared
from .documents import documents
from .examples import DECISION, MODEL
from .fleet import fleet
from .live import LONGEST_S, MAX_TOPICS, Decisions, Live, Reader
from .problems import ProblemError
from .story import story
from .views import model_view

_STREAM: Final = (
    f"retry: 2000\n\nevent: model\nid: 42\ndata: {msgspec.json.encode(MODEL).decode()}\n\n"
    f"event: decision\nid: 42\ndata: {msgspec.json.encode(DECISION).decode()}\n\n"
)
# The connection is used for nothing else, so that it is gone when the stream is.
HEADERS: Final = {"Cache-Control": "no-store", "Connection": "close", "X-Accel-Buffering": "no"}
router: Final = APIRouter(route_class=openapi.PlainRoute)


def live_of(hub: Shared) -> Live:
    """The app's live streams, over what its routes share."""

    async def read(topic: str) -> bytes | None:
        kind, _, name = topic.partition(":")
        if kind == "case":
            found = await documents(hub, "case", [name])
            return msgspec.json.encode(found[0] | {"story": story(found[0])}) if found else None
        if kind == "model":
            return msgspec.json.encode(model_view(name, hub.deps.settings, hub.holder, hub.deps.timer()))
        return msgspec.json.encode(await fleet(hub))

    async def head() -> int:
        return await asyncio.to_thread(hub.deps.store.view_offset)

    async def trail(first: int, end: int) -> Mapping[int, bytes]:
        ids = [f"{offset:020d}" for offset in range(first, end)]
        return {int(doc["id"]): msgspec.json.encode(doc) for doc in await documents(hub, "audit", ids)}

    return Live(read, Decisions(head, trail))


class LiveResponse(StreamingResponse):
    """The frames of a reader, who leaves with the connection."""

    media_type = "text/event-stream"

    def __init__(self, live: Live, reader: Reader, seconds: float) -> None:
        super().__init__(live.frames(reader, seconds), headers=HEADERS)
        self._live, self._reader = live, reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.leave(self._reader)


@router.get(
    "/v1/live",
    tags=["live"],
    summary="What happens, as it happens",
    description="Server-sent events: fleet, model and case carry the document of a topic whenever it changes, decision an "
    "entry of the audit trail. Each id is the control-log offset of the newest decision sent: sent back as Last-Event-ID (or "
    "after), the decisions since come first; missed names those that are too many to be made up for. A stream ends in time",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[
            openapi.query_parameter(
                "topics", "What to hear of, comma-separated: fleet, model:NAME, case:ID", {"type": "string"}, "model:delay"
            ),
            openapi.query_parameter("after", "The newest decision that is known, as Last-Event-ID", {"type": "integer"}, 42),
            openapi.query_parameter("for_s", "End after so many seconds", {"type": "number", "maximum": LONGEST_S}, 0.2),
        ],
        responses=[
            openapi.answer(
                200, "The stream",
                {"text/event-stream": {"schema": {"type": "string"}, "examples": {"two": {"value": _STREAM}}}},
            ),
            openapi.problems("not-found", "rejected", "streams"),
        ],
    ),
)
async def get_live(request: Request) -> Response:
    hub, query = shared(request), request.query_params
    topics = _topics(hub, query.get("topics", ""))
    after = _number("after", request.headers.get("last-event-id") or query.get("after"), -1.0, 2.0**62)
    seconds = _number("for_s", query.get("for_s"), 0.0, LONGEST_S)
    live: Live = request.app.state.live
    reader = live.join(topics, None if after is None else int(after))
    return LiveResponse(live, reader, LONGEST_S if seconds is None else seconds)


def _topics(hub: Shared, text: str) -> set[str]:
    topics = {topic for topic in text.split(",") if topic}
    if len(topics) > MAX_TOPICS:
        raise ProblemError("rejected", f"topics: there are {len(topics)}; name {MAX_TOPICS} at most", {"field": "topics"})
    for topic in topics:
        kind, _, name = topic.partition(":")
        if kind == "model" and name:
            hub.holder.shards(name)
        elif topic != "fleet" and not (kind == "case" and name):
            detail = f"topics: {topic[:80]!r} is none; write fleet, model:NAME or case:ID, with commas between"
            raise ProblemError("rejected", detail, {"field": "topics"})
    return topics


def _number(field: str, text: str | None, least: float, most: float) -> float | None:
    if not text:
        return None
    detail: dict[str, Any] = {"field": field}
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise ProblemError("rejected", f"{field}: write a number from {least:g} to {most:g}", detail)
    return value
