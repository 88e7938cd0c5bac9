"""How models do and did: the fleet in a row each, and a model's series over time with what served then."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .. import wire
from . import openapi
from .deps import shared
from .documents import MODEL_NAME, documents, instant, json_answer, stretch
from .examples import FLEET, HISTORY
from .fleet import fleet
from .pasts import read_series
from .problems import ProblemError

HOUR_S: Final = 3600.0
POINTS: Final = 600
MAX_POINTS: Final = 2000
MAX_NAMES: Final = 200
router: Final = APIRouter(route_class=openapi.PlainRoute, tags=["models"])
_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 1, "maximum": MAX_POINTS, "default": POINTS}


@router.get(
    "/v1/fleet",
    summary="All models in a row each, worst first",
    description="State and why, the windowed metric beside its baselines with the last hour of both, events a second, lag, "
    "freshness, version and since when. States from worst to best: degraded, held, case, retraining, trial, canary, watch, "
    "starting, healthy",
    response_class=Response,
    openapi_extra=openapi.operation(
        responses=[openapi.answer(200, "The fleet", openapi.content(wire.Fleet, ("one", FLEET)))]
    ),
)
async def get_fleet(request: Request) -> Response:
    return json_answer(await fleet(shared(request)))


@router.get(
    "/v1/models/{model}/history",
    summary="How a model did, and what served when",
    description="Series of its figures in steps of one length, merged down to at most `points` of them: the mean, least and "
    "greatest value of each step, null where nothing was recorded. The items are the stretches in which one version served, "
    "oldest first, with who decided and why: all of them, or those of the time that is asked for. With at there are no series",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[
            MODEL_NAME,
            openapi.query_parameter(
                "since", "From then on: Unix seconds or RFC 3339; default an hour before until", _TEXT, "1767225600"
            ),
            openapi.query_parameter("until", "Before that; default now", _TEXT, "2026-01-01T01:00:00Z"),
            openapi.query_parameter("points", "At most so many steps", _COUNT, POINTS),
            openapi.query_parameter(
                "series", "Only these: names, or beginnings with a *, comma-separated; default all but feature:*",
                _TEXT, "metric:*,baseline:*,lag",
            ),
            openapi.query_parameter(
                "at", "Only what served at this time, and no series: Unix seconds or RFC 3339", _TEXT, "2026-01-01T00:10:00Z"
            ),
        ],
        responses=[
            openapi.answer(200, "The history", openapi.content(wire.History, ("history", HISTORY))),
            openapi.problems("not-found", "rejected", "store-unavailable"),
        ],
    ),
)  # fmt: skip
async def get_history(request: Request) -> Response:
    hub, name, query = shared(request), request.path_params["model"], request.query_params
    hub.holder.shards(name)
    now = hub.deps.clock()
    begin, end = stretch(query, now, HOUR_S)
    at = instant(query.get("at"), "at")
    points, names = _points(query.get("points")), _names(query.get("series"))
    found = await documents(hub, "history", [name])
    items: list[dict[str, Any]] = found[0]["items"] if found else []
    if at is not None:
        return json_answer({"model": name, "items": [one for one in items if _served(one, at, math.nextafter(at, math.inf))]})
    if "since" in query or "until" in query:
        items = [one for one in items if _served(one, begin, end)]
    settings = hub.deps.settings.history
    series = await asyncio.to_thread(read_series, hub.deps.store, settings, name, begin, end, points, names, now)
    return json_answer(
        {
            "model": name, "items": items, "since": begin, "until": end, "step_s": series.step_s, "at": series.at,
            "series": series.series,
        }
    )  # fmt: skip


def _served(one: dict[str, Any], since: float, until: float) -> bool:
    """Whether a stretch has a part in [since, until)."""
    return bool(one["since"]["at"] < until and (one["until"] is None or since < one["until"]["at"]))


def _points(text: str | None) -> int:
    if text is None:
        return POINTS
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:9]) <= MAX_POINTS:
        raise ProblemError("rejected", f"points: write a whole number from 1 to {MAX_POINTS}", {"field": "points"})
    return int(text)


def _names(text: str | None) -> list[str] | None:
    names = None if text is None else [name for one in text.split(",") if (name := one.strip())]
    if names is not None and len(names) > MAX_NAMES:
        raise ProblemError("rejected", f"series: {len(names)} names; write {MAX_NAMES} at most, or use *", {"field": "series"})
    return names
