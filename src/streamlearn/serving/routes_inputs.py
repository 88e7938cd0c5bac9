"""What comes into a model: its features and how they drift, its labels, and what could not be learned."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ..errors import LogError
from . import openapi
from .deps import shared
from .documents import MODEL_NAME, documents, json_answer, stretch
from .examples_pages import FEATURES, LABELS
from .features import POINTS, PREFIX, features_view
from .labels import labels_view, newest_dead
from .pasts import read_series

DAY_S: Final = 86_400.0
logger = logging.getLogger(__name__)
router: Final = APIRouter(route_class=openapi.PlainRoute, tags=["models"])
_TIME: Final = {"type": "string"}


@router.get(
    "/v1/models/{model}/features",
    summary="A model's features: the newest look at each, and how far each has moved",
    description="Each compared with the reference, the surest first, with its histograms; and heat: each one's PSI over time "
    "(population stability index; by custom, 0.2 is a significant change), from the history. enabled: whether they are watched",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[
            MODEL_NAME,
            openapi.query_parameter(
                "since", "Of the heat: Unix seconds or RFC 3339; default a day before until", _TIME, "2026-01-01T00:00:00Z"
            ),
            openapi.query_parameter(
                "until", "Of the heat: Unix seconds or RFC 3339; default now", _TIME, "2026-01-02T00:00:00Z"
            ),
        ],
        responses=[
            openapi.answer(
                200, "The features",
                {"application/json": {"schema": {"type": "object"}, "examples": {"features": {"value": FEATURES}}}},
            ),
            openapi.problems("not-found", "rejected", "store-unavailable"),
        ],
    ),
)
async def get_features(request: Request) -> Response:
    hub, name, query = shared(request), request.path_params["model"], request.query_params
    hub.holder.shards(name)
    now = hub.deps.clock()
    since, until = stretch(query, now, DAY_S)
    settings, found = hub.deps.settings, await documents(hub, "features", [name])
    series = await asyncio.to_thread(
        read_series, hub.deps.store, settings.history, name, since, until, POINTS, [f"{PREFIX}*"], now
    )
    model = settings.models[name]
    enabled = None if model.task == "recommend" else model.drift.features.enabled
    return json_answer(features_view(name, enabled, found[0] if found else {}, series))


@router.get(
    "/v1/models/{model}/labels",
    summary="A model's labels: what waits, how late they come, what became of them, and what could not be learned",
    description="Counts are the learners', since each began. newest: the newest dead letters, null while the log is lost; "
    "explain says what each outcome and reason means",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[MODEL_NAME],
        responses=[
            openapi.answer(
                200, "The labels",
                {"application/json": {"schema": {"type": "object"}, "examples": {"labels": {"value": LABELS}}}},
            ),
            openapi.problems("not-found"),
        ],
    ),
)
async def get_labels(request: Request) -> Response:
    hub, name = shared(request), request.path_params["model"]
    statuses = [slot.status for slot in hub.holder.shards(name) if slot.status is not None]
    try:
        newest = await asyncio.to_thread(newest_dead, hub.deps.log, name)
    except LogError as error:
        logger.warning("the dead letters cannot be read", extra={"model": name, "error": str(error)})
        newest = None
    return json_answer(labels_view(name, hub.deps.settings.models[name], statuses, newest))
