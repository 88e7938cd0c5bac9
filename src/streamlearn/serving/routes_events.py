"""POST /v1/events: the door through which everything comes in."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .. import events, wire
from . import openapi
from .deps import shared
from .ingest import refusal

router: Final = APIRouter(route_class=openapi.PlainRoute, tags=["events"])

_FLIGHT: Final = {
    "stream": "flights", "id": "WN-1203-2011-05-04", "ts": "2011-05-04T14:05:00Z",
    "x": {"carrier": "WN", "distance": 239, "hour": 9},
}
_LANDED: Final = {"stream": "flights", "id": "WN-1203-2011-05-04", "ts": "2011-05-04T15:20:00Z", "y": True}
_NDJSON: Final = msgspec.json.encode(_FLIGHT).decode() + "\n" + msgspec.json.encode(_LANDED).decode() + "\n"
_ACCEPTED: Final = {
    "accepted": 2, "duplicate": 0, "rejected": [], "warnings": [], "ids": {}, "positions": {"flights": {"0": 2}},
}
_PARTLY: Final = {
    "accepted": 1, "duplicate": 0,
    "rejected": [
        {
            "index": 1, "field": "x.distance", "reason": "out_of_range",
            "detail": "does not fit 64 bits; send it as a string or a float",
        }
    ],
    "warnings": [], "ids": {}, "positions": {"flights": {"0": 3}},
}
_EVENT_OR_LIST: Final = {"oneOf": [openapi.ref(events.Event), {"type": "array", "items": openapi.ref(events.Event)}]}
_BODY: Final = {
    "application/json": {
        "schema": _EVENT_OR_LIST,
        "examples": {
            "features": {"summary": "what is known now", "value": _FLIGHT},
            "label": {"summary": "what it turned out to be", "value": _LANDED},
            "several": {"summary": "an array", "value": [_FLIGHT, _LANDED]},
        },
    },
    "application/x-ndjson": {"schema": {"type": "string"}, "examples": {"lines": {"value": _NDJSON}}},
}


@router.post(
    "/v1/events",
    summary="Post events",
    description="One event, an array, or lines of them. Answered once all that was accepted is durable. Rejected events are "
    "named; the others go in. A repeat of a request is harmless when its events carry ids.",
    response_class=Response,
    openapi_extra=openapi.operation(
        body=_BODY,
        responses=[
            openapi.answer(
                200, "What was accepted is durable",
                openapi.content(wire.EventsAnswer, ("accepted", _ACCEPTED), ("one rejected", _PARTLY)),
            ),
            openapi.problems(
                "malformed", "timeout", "too-large", "media-type", "rejected", "overloaded", "log-unavailable", "full"
            ),
        ],
    ),
)
async def post_events(request: Request) -> Response:
    answer = await shared(request).ingest.take(request)
    problem = refusal(answer)
    if problem is not None:
        raise problem
    return Response(msgspec.json.encode(answer), media_type="application/json")
