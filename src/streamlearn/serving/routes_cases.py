"""Cases, each with its story, and the audit trail."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .. import wire
from . import openapi
from .deps import shared
from .documents import documents, json_answer
from .examples import AUDIT_ID, CASE, DECISION
from .problems import ProblemError
from .story import story

MAX_PAGE: Final = 1000
router: Final = APIRouter(route_class=openapi.PlainRoute, tags=["cases"])
_CASE: Final = CASE | {"story": story(CASE)}


@router.get(
    "/v1/cases",
    summary="Drift cases",
    description="All of them, oldest first, each with everything that happened",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[openapi.query_parameter("model", "Only those of this model", {"type": "string"}, "delay")],
        responses=[
            openapi.answer(200, "The cases", openapi.content(wire.Page, ("one", {"items": [CASE], "next": None}))),
            openapi.problems("store-unavailable"),
        ],
    ),
)
async def get_cases(request: Request) -> Response:
    model = request.query_params.get("model")
    items = await documents(shared(request), "case")
    return json_answer(wire.Page([doc for doc in items if model is None or doc.get("model") == model]))


@router.get(
    "/v1/cases/{case}",
    summary="One drift case",
    description="Every step with its times, offsets and numbers; and story: the same in order, see streamlearn.serving.story",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[openapi.path_parameter("case", "The case's id", "delay-17")],
        responses=[
            openapi.answer(
                200, "The case", {"application/json": {"schema": {"type": "object"}, "examples": {"case": {"value": _CASE}}}}
            ),
            openapi.problems("not-found", "store-unavailable"),
        ],
    ),
)
async def get_case(request: Request) -> Response:
    id = request.path_params["case"]
    found = await documents(shared(request), "case", [id])
    if not found:
        raise ProblemError("not-found", f"there is no case {id!r}; GET /v1/cases lists them")
    return json_answer(found[0] | {"story": story(found[0])})


@router.get(
    "/v1/audit",
    summary="The audit trail",
    description="Every decision and every request, in order. Send the answer's next as after to go on",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[
            openapi.query_parameter("limit", "At most so many", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}, 100),
            openapi.query_parameter("after", "Only those after the one with this id", {"type": "string"}, AUDIT_ID),
        ],
        responses=[
            openapi.answer(200, "A page", openapi.content(wire.Page, ("one", {"items": [DECISION], "next": AUDIT_ID}))),
            openapi.problems("rejected", "store-unavailable"),
        ],
    ),
)
async def get_audit(request: Request) -> Response:
    text = request.query_params.get("limit", "100")
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PAGE:
        raise ProblemError("rejected", f"limit: write a whole number from 1 to {MAX_PAGE}", {"field": "limit"})
    items, limit = await documents(shared(request), "audit"), int(text)
    after = request.query_params.get("after")
    if after is not None:
        ids = [str(doc["id"]) for doc in items]
        if after not in ids:
            raise ProblemError("rejected", f"after: there is no entry {after!r}", {"field": "after"})
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    return json_answer(wire.Page(page, str(page[-1]["id"]) if len(items) > limit else None))
