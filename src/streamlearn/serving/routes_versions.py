"""The registry over HTTP: a model's versions, one of them with what its models hold. What served when: `routes_history`.

Models are not unpickled for it: what one says of itself is in the signed header of its blob, or is asked of the served one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .. import wire
from ..errors import CodecError
from ..store.codec import open_blob
from ..store.links import lacking
from . import openapi
from .deps import Shared, shared
from .differing import differing
from .documents import MODEL_NAME, documents, json_answer
from .examples import VERSION, VERSION_IN_FULL
from .examples_pages import DIFF
from .holder import Slot
from .problems import ProblemError

router: Final = APIRouter(route_class=openapi.PlainRoute)


@router.get(
    "/v1/models/{model}/versions",
    tags=["models"],
    summary="A model's versions",
    description="Each with its parent, why and with what it was made, from which part of the log, the features that it knows, "
    "its trial, its fate, and whether it is kept",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[MODEL_NAME],
        responses=[
            openapi.answer(200, "The versions", openapi.content(wire.Page, ("one", {"items": [VERSION], "next": None}))),
            openapi.problems("not-found", "store-unavailable"),
        ],
    ),
)
async def get_versions(request: Request) -> Response:
    hub, name = shared(request), request.path_params["model"]
    shards = hub.holder.shards(name)
    items = [doc for doc in await documents(hub, "version") if str(doc["id"]).rpartition("@")[0] == name]
    blobs = set(await asyncio.to_thread(hub.deps.store.versions))
    live = await asyncio.to_thread(_features, shards)
    for doc in items:
        version = int(str(doc["id"]).rpartition("@")[2])
        doc["kept"] = all((name, version, slot.shard) in blobs for slot in shards)
        doc |= live.get(version, {})
    return json_answer(wire.Page(items))


@router.get(
    "/v1/models/{model}/versions/{version}",
    tags=["models"],
    summary="One version in full",
    description="Besides all that the list has, what its models say of themselves: features, sizes, weights; as they were "
    "fitted, and as they serve now",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[MODEL_NAME, openapi.path_parameter("version", "The version's number", "2")],
        responses=[
            openapi.answer(200, "The version", openapi.content(wire.VersionView, ("version", VERSION_IN_FULL))),
            openapi.problems("not-found", "store-unavailable"),
        ],
    ),
)
async def get_version(request: Request) -> Response:
    return json_answer(await _in_full(shared(request), request.path_params["model"], request.path_params["version"]))


@router.get(
    "/v1/models/{model}/versions/{version}/diff",
    tags=["models"],
    summary="What differs between two versions",
    description="Settings, libraries, data, trials, features, what the models hold; a is the version in the path, b the other",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[
            MODEL_NAME, openapi.path_parameter("version", "The version's number", "1"),
            {**openapi.query_parameter("with", "The other version's number", {"type": "string"}, "2"), "required": True},
        ],
        responses=[
            openapi.answer(200, "What differs", openapi.content(wire.VersionDiff, ("diff", DIFF))),
            openapi.problems("not-found", "rejected", "store-unavailable"),
        ],
    ),
)
async def get_diff(request: Request) -> Response:
    hub, name, text = shared(request), request.path_params["model"], request.path_params["version"]
    other = request.query_params.get("with")
    if other is None:
        raise ProblemError("rejected", "with: it is missing; write the other version's number", {"field": "with"})
    one, another = await _in_full(hub, name, text), await _in_full(hub, name, other)
    return json_answer(wire.VersionDiff(name, int(text), int(other), differing(one, another)))


async def _in_full(hub: Shared, name: str, text: str) -> dict[str, Any]:
    """All that is known of a version. Raises ProblemError where there is none."""
    shards = hub.holder.shards(name)
    found = await documents(hub, "version", [f"{name}@{text}"]) if text.isdecimal() else []
    if not found:
        raise ProblemError("not-found", f"{name!r} has no version {text!r}; GET /v1/models/{name}/versions lists them")
    version = int(text)
    kept, unusable, fitted = await asyncio.to_thread(_blobs, hub, name, version, shards)
    serving = await asyncio.to_thread(_serving, version, shards)
    features = (await asyncio.to_thread(_features, shards)).get(version, {})
    return found[0] | features | {"kept": kept, "unusable": unusable, "fitted": fitted, "serving": serving}


def _blobs(
    hub: Shared, model: str, version: int, shards: Sequence[Slot]
) -> tuple[bool, dict[str, str], dict[str, dict[str, Any]]]:
    """Whether every shard's blob is kept; by shard, why one cannot be used, and what its model says of itself."""
    kept, unusable, fitted = True, {}, {}
    for slot in shards:
        blob = hub.deps.store.version(model, version, slot.shard)
        if blob is None:
            kept = False
            continue
        try:
            header = open_blob(
                blob, hub.deps.keys, kind="version", model=model, shard=slot.shard, version=version
            ).header
            lacks = lacking(hub.deps.store, model, version, slot.shard, header.extra)
        except CodecError as error:
            unusable[str(slot.shard)] = str(error)
        else:
            if lacks:
                unusable[str(slot.shard)] = lacks
            fitted[str(slot.shard)] = {"position": header.positions[0].offset, **header.extra.get("summary", {})}
    return kept, unusable, fitted


def _features(shards: Sequence[Slot]) -> dict[int, dict[str, Any]]:
    """By version that serves, the types of its features by name as they are known now, and how many there are in all."""
    from ..learning.recommending import AnyModel  # as below
    from ..learning.summary import known_features

    found: dict[int, dict[str, Any]] = {}
    for slot in shards:
        one = slot.served
        if one is None or not isinstance(one.model, AnyModel):
            continue
        known = known_features(one.model)
        doc = found.setdefault(one.version, {"features": {}, "features_in_all": 0})
        doc["features"] = dict(sorted({**known["types"], **doc["features"]}.items()))
        doc["features_in_all"] = max(doc["features_in_all"], known["features"])
    return found


def _serving(version: int, shards: Sequence[Slot]) -> dict[str, dict[str, Any]]:
    """By shard where this version serves, what the served model says of itself now."""
    from ..learning.recommending import AnyModel  # here, since it brings river, which a served model has brought already
    from ..learning.summary import summarize

    served = [(slot.shard, slot.served) for slot in shards if slot.served is not None]
    return {
        str(shard): {"position": one.position.offset, "n": one.n, **summarize(one.model)}
        for shard, one in served if one.version == version and isinstance(one.model, AnyModel)
    }
