"""Cases, each with its story, the marks that they leave on a time axis, and the audit trail."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .. import wire
from . import openapi
from .audit import MOST, Query
from .deps import Shared, shared
from .documents import MODEL_NAME, documents, instant, json_answer
from .examples import AUDIT_ID, CASE, DECISION
from .examples_pages import MARKS
from .marks import marks
from .problems import ProblemError
from .story import story

MAX_PAGE: Final = 1000
MAX_WORDS: Final = 200
CASES: Final = 20  # read at once
ORDERS: Final = ("asc", "desc")
router: Final = APIRouter(route_class=openapi.PlainRoute, tags=["cases"])
_CASE: Final = CASE | {"story": story(CASE)}
_PAGE: Final = {"items": [DECISION], "next": AUDIT_ID, "total": None}


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


_TIME: Final = {"type": "string"}
_LIMIT: Final = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}
_PARAMETERS: Final = (
    ("q", "Words that must all occur in an entry's texts: names, reasons, why; upper or lower case", _TIME, "carrier codes"),
    ("model", "Only those of this model", _TIME, "delay"),
    ("type", "Only records of this type: decision, request, claim, …", _TIME, "decision"),
    ("kind", "Only decisions of this kind, or requests of this action", _TIME, "promoted"),
    ("by", "Only those by whoever's name has this in it", _TIME, "ops"),
    ("since", "Only from then on: Unix seconds or RFC 3339", _TIME, "2026-01-01T00:00:00Z"),
    ("until", "Only before then: Unix seconds or RFC 3339", _TIME, "2026-01-02T00:00:00Z"),
    ("order", "asc: the oldest first, by default; desc: the newest first", {"type": "string", "enum": list(ORDERS)}, "desc"),
    ("limit", "At most so many", _LIMIT, 100),
    ("after", "Only those beyond the one with this id, in that order", _TIME, AUDIT_ID),
)


@router.get(
    "/v1/audit",
    summary="The audit trail",
    description="Every decision and every request, in order; or, searched, some of them: of the newest "
    f"{MOST:,} entries, with how many match as total. Send the answer's next as after to go on",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[openapi.query_parameter(*parameter) for parameter in _PARAMETERS],
        responses=[
            openapi.answer(200, "A page", openapi.content(wire.AuditPage, ("one", _PAGE))),
            openapi.problems("rejected", "store-unavailable"),
        ],
    ),
)
async def get_audit(request: Request) -> Response:
    query, trail = _query(request), request.app.state.audit
    try:
        items, further, total = await asyncio.to_thread(trail.page, query)
    except KeyError:
        raise ProblemError("rejected", f"after: there is no entry {query.after!r}", {"field": "after"}) from None
    return json_answer(wire.AuditPage(items, further, total))


def _query(request: Request) -> Query:
    """Raises ProblemError."""
    given = request.query_params
    text, order = given.get("limit", "100"), given.get("order", "asc")
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PAGE:
        raise ProblemError("rejected", f"limit: write a whole number from 1 to {MAX_PAGE}", {"field": "limit"})
    if order not in ORDERS:
        raise ProblemError("rejected", f"order: write one of {', '.join(ORDERS)}", {"field": "order"})
    for field in ("q", "by"):
        if len(given.get(field, "")) > MAX_WORDS:
            raise ProblemError("rejected", f"{field}: write at most {MAX_WORDS} characters", {"field": field})
    return Query(
        limit=int(text), after=given.get("after"), desc=order == "desc", q=given.get("q", ""), model=given.get("model"),
        type=given.get("type"), kind=given.get("kind"), by=given.get("by", ""), since=instant(given.get("since"), "since"),
        until=instant(given.get("until"), "until"),
    )  # fmt: skip


@router.get(
    "/v1/models/{model}/marks",
    summary="What happened to a model, as marks on a time axis",
    description="Alarms, cases, retrains, trials, canaries, promotions, rollbacks, recoveries, holds, broken input, drifting "
    "features; those with a part in the time asked for, by when they began. until is null for a moment, and while it lasts",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[
            MODEL_NAME,
            openapi.query_parameter("since", "From then on: Unix seconds or RFC 3339", _TIME, "2026-01-01T00:00:00Z"),
            openapi.query_parameter("until", "Before then: Unix seconds or RFC 3339", _TIME, "2026-01-02T00:00:00Z"),
        ],
        responses=[
            openapi.answer(200, "The marks", openapi.content(wire.Marks, ("marks", MARKS))),
            openapi.problems("not-found", "rejected", "store-unavailable"),
        ],
    ),
)
async def get_marks(request: Request) -> Response:
    hub, name = shared(request), request.path_params["model"]
    hub.holder.shards(name)
    since, until = (instant(request.query_params.get(field), field) for field in ("since", "until"))
    cases, aside = await _cases(hub, name, since), await documents(hub, "marks", [name])
    return json_answer(wire.Marks(name, marks(cases, aside[0] if aside else {}, since, until)))


async def _cases(hub: Shared, model: str, since: float | None) -> list[dict[str, Any]]:
    """The model's cases that were open at `since` or later, and perhaps some before: read from the newest on."""
    count, found = hub.holder.control[model].get("cases"), []
    if count is None:  # control is of an older build, or has not told yet
        return [doc for doc in await documents(hub, "case") if doc.get("model") == model]
    for last in range(count, 0, -CASES):
        some = await documents(hub, "case", [f"{model}-{number}" for number in range(max(1, last - CASES + 1), last + 1)])
        found += some
        if since is not None and any((doc.get("closed_at") or since) < since for doc in some):
            break
    return found
