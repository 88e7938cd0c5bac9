"""The service about itself: alive, ready, metrics, what its problems mean, and the index page."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from .. import __version__, wire
from ..errors import LogError
from ..telemetry import EXPOSITION, exposition
from . import openapi
from .deps import Shared, shared
from .problems import CATALOGUE, ProblemError

PROBE_S: Final = 2.0
_LINE: Final = 'streamlearn_lag_records{model="delay",shard="0"} 0.0\n'
router: Final = APIRouter(route_class=openapi.PlainRoute, tags=["service"])


@router.get(
    "/healthz",
    summary="Alive",
    description="The process answers. Needs no key",
    response_class=Response,
    openapi_extra=openapi.operation(
        responses=[
            openapi.answer(200, "Alive", openapi.content(wire.Alive, ("alive", {"status": "alive", "version": __version__})))
        ]
    ),
)
async def healthz(_: Request) -> Response:
    return Response(msgspec.json.encode(wire.Alive("alive", __version__)), media_type="application/json")


@router.get(
    "/readyz",
    summary="Ready",
    description="Every model can answer. A lost log or store does not end that once models are loaded: it is named under "
    "degraded. Needs no key",
    response_class=Response,
    openapi_extra=openapi.operation(
        responses=[
            openapi.answer(
                200, "Ready", openapi.content(wire.Ready, ("ready", {"ready": True, "degraded": [], "models": {"delay": 1}}))
            ),
            openapi.problems("not-ready"),
        ]
    ),
)
async def readyz(request: Request) -> Response:
    hub = shared(request)
    missing, amiss = hub.holder.ready(), await _amiss(hub)
    if missing:
        reasons = [*missing, *amiss]
        raise ProblemError("not-ready", "; ".join(reasons), {"reasons": reasons})
    models = {name: max(slot.served.version for slot in slots if slot.served) for name, slots in hub.holder.slots.items()}
    return Response(msgspec.json.encode(wire.Ready(True, amiss, models)), media_type="application/json")


async def _amiss(hub: Shared) -> list[str]:
    """What is wrong beside missing models: the log, the store, and why each model is degraded."""
    reasons = []
    try:
        async with asyncio.timeout(PROBE_S):
            await asyncio.to_thread(hub.deps.log.streams)
    except TimeoutError:
        reasons.append(f"the log did not answer within {PROBE_S:g} s")
    except LogError as error:
        reasons.append(f"the log cannot be reached: {error}")
    if hub.holder.store_down_since is not None:
        reasons.append(f"the store has been unreachable for {hub.deps.timer() - hub.holder.store_down_since:.0f} s")
    silent = hub.holder.control_silent(hub.deps.timer())
    if silent is not None:
        reasons.append(f"control has not reported for {silent:.0f} s: nobody judges drift or answers requests")
    for target, doc in hub.holder.alive.get("notify", {}).items():
        if doc["undelivered"]:
            said = f"{doc['undelivered']} messages could not be delivered (streamlearn notify list)"
            reasons.append(f"notifications to {target!r}: {said}")
    for name, slots in hub.holder.slots.items():
        reasons += [f"model {name!r}, shard {slot.shard}: {reason}" for slot in slots for reason in slot.degraded or ()]
    return reasons


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    description="The HTTP side's own figures, and those that learners and control report",
    response_class=Response,
    openapi_extra=openapi.operation(
        responses=[
            openapi.answer(
                200, "Text exposition",
                {"text/plain": {"schema": {"type": "string"}, "examples": {"lag": {"value": _LINE}}}},
            )
        ]
    ),
)
async def metrics(request: Request) -> Response:
    text = await asyncio.to_thread(exposition, shared(request).deps.registry)
    return Response(text, media_type=EXPOSITION)


@router.get(
    "/problems/{kind}",
    summary="What a problem type means",
    description="The type of every error leads here",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[openapi.path_parameter("kind", "The last part of a problem's type", "overloaded")],
        responses=[
            openapi.answer(
                200, "Its meaning",
                {"application/json": {"schema": {"type": "object"}, "examples": {"overloaded": {"value": {
                    "kind": "overloaded", "status": 429, "title": CATALOGUE["overloaded"].title,
                    "explanation": CATALOGUE["overloaded"].explanation,
                }}}}},
            ),
            openapi.problems("not-found"),
        ],
    ),
)
async def problem(request: Request) -> Response:
    kind = request.path_params["kind"]
    if kind not in CATALOGUE:
        raise ProblemError("not-found", f"there is no problem type {kind!r}; there are {sorted(CATALOGUE)}")
    document: dict[str, Any] = {"kind": kind} | CATALOGUE[kind]._asdict()
    return Response(msgspec.json.encode(document), media_type="application/json")


@router.get("/api", include_in_schema=False)
async def index(request: Request) -> Response:
    return HTMLResponse(openapi.index_page(request.app.openapi()), headers=openapi.INDEX_HEADERS)
