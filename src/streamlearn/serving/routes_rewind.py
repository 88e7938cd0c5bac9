"""What a rewind would do, told before anybody asks control for one. It changes nothing."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .. import wire
from ..config import ModelSettings
from ..retrain.rewind import LogPlaces, Sound, plan, sound_checkpoint
from . import openapi
from .deps import Deps, shared
from .documents import MODEL_NAME, json_answer
from .examples import REWIND

router: Final = APIRouter(route_class=openapi.PlainRoute)
_PLACE: Final = "OFFSET, PARTITION/OFFSET, or an RFC 3339 time"


@router.get(
    "/v1/models/{model}/rewind",
    tags=["requests"],
    summary="What a rewind would do",
    description="The checkpoint that each shard would go on from, and what it would learn again. Parameters may be repeated",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[
            MODEL_NAME,
            openapi.query_parameter("to", f"The place to go back to: {_PLACE}", {"type": "string"}, "0/4"),
            openapi.query_parameter("skip", f"FROM:TO, the records to pass over: each {_PLACE}", {"type": "string"}, "0/4:0/9"),
        ],
        responses=[
            openapi.answer(200, "The plan", openapi.content(wire.RewindPlan, ("plan", REWIND))),
            openapi.problems("not-found", "rejected", "log-unavailable", "store-unavailable"),
        ],
    ),
)
async def get_rewind(request: Request) -> Response:
    hub, name = shared(request), request.path_params["model"]
    hub.holder.shards(name)
    to, skip = request.query_params.getlist("to"), request.query_params.getlist("skip")
    found = await asyncio.to_thread(_plan, hub.deps, name, hub.deps.settings.models[name], to, skip)
    return json_answer(found)


def _plan(deps: Deps, name: str, model: ModelSettings, to: list[str], skip: list[str]) -> wire.RewindPlan:
    stream, identity = model.stream, deps.log.identity(model.stream)

    def sound(shard: int, offset: int) -> Sound | None:
        return sound_checkpoint(deps.store, deps.keys, name, shard, identity, offset)

    plans = plan(to, skip, deps.settings.streams[stream].partitions, LogPlaces(deps.log, stream), sound)
    shards = []
    for one in plans:
        base = one.base
        checkpoint, at, version = (None, None, None) if base is None else (base.checkpoint, base.created, base.version)
        shards.append(
            wire.RewindShard(one.shard, one.to, checkpoint, at, version, one.start, one.end, one.records, list(one.skip))
        )
    return wire.RewindPlan(name, shards)
