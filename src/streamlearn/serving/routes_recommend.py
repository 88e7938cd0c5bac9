"""What to show next, over HTTP: recommendations, the order of one's own candidates, and items that are alike."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import APIRouter
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from .. import wire
from ..errors import EventError
from ..events import explain
from ..items import MAX_SHOWN
from ..wire_recommend import scalar_of
from . import openapi
from .examples_recommend import ANSWER, EXPLAINED, RANKED, SIMILAR
from .questions import decode, read_question
from .recommending import Recommending

router: Final = APIRouter(route_class=openapi.PlainRoute, tags=["recommendations"])
_question: Final = msgspec.json.Decoder(wire.RecommendAsk)
_encode: Final = msgspec.json.Encoder().encode
_TEXTS: Final = frozenset({"user", "session", "id"})
_VALUES: Final = frozenset({"k", "ts", "seen", "explain", "fields", "log"})
_LISTS: Final = {"item": "items", "allow": "allow", "deny": "deny"}

_MODEL: Final = openapi.path_parameter("model", "The model's name in the configuration", "shop")
_ITEM: Final = openapi.path_parameter("item", "The item that the others are to be like", "shoe-7")
_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_K: Final = {"type": "integer", "minimum": 1, "maximum": MAX_SHOWN}
_ASKED: Final = ("malformed", "not-found", "rejected", "model", "not-learned")
_POSTED: Final = openapi.problems(*_ASKED, "timeout", "too-large", "media-type")
_QUERY: Final = [
    openapi.query_parameter("user", "For whom", _TEXT, "ann"),
    openapi.query_parameter("session", "For whom, where no user is known", _TEXT, "s-81"),
    openapi.query_parameter("k", "How many items; default: the model's", _K, 2),
    openapi.query_parameter("context.device", "The moment: context.NAME for each thing that is known of it", _TEXT, "phone"),
    openapi.query_parameter(
        "where.category", "Only items whose field has this value: a parameter where.NAME for each field; repeated: any of them",
        _TEXT, "shoes",
    ),
    openapi.query_parameter("item", "Choose among these: repeat it", _TEXT, "shoe-9"),
    openapi.query_parameter("allow", "Only these: repeat it", _TEXT, "shoe-9"),
    openapi.query_parameter("deny", "None of these: repeat it", _TEXT, "hat-1"),
    openapi.query_parameter("seen", "Leave out what the user has acted on; default: as the model is set", _FLAG, True),
    openapi.query_parameter("explain", "Tell what moved each score; default false", _FLAG, False),
    openapi.query_parameter("fields", "Tell what is known of each item; default false", _FLAG, False),
    openapi.query_parameter("id", "The impression's id; default: a new one", _TEXT, "i-1"),
    openapi.query_parameter("ts", "Event time, Unix seconds or RFC 3339; default: the stream's", _TEXT, "2026-01-01T00:00:00Z"),
    openapi.query_parameter("log", "Whether the slate is logged; default true", _FLAG, True),
]  # fmt: skip


@router.post(
    "/v1/recommend/{model}",
    summary="What to show next",
    description="The items to show a user, or a session, or nobody in particular; unknown users are ordinary. The slate is "
    "handed to the log (never waited for), with the probability of each item at its place, so that clicks that carry the "
    "answer's id, or come from the same user, teach what they should",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[_MODEL],
        body=openapi.content(
            wire.RecommendAsk, ("user", {"user": "ann", "k": 2}),
            ("rules", {"user": "ann", "k": 2, "where": {"category": ["shoes", "hats"]}, "deny": ["hat-1"], "explain": True}),
            ("session", {"session": "s-81", "context": {"device": "phone", "hour": 9}}), ("nobody", {"log": False}),
        ),
        responses=[
            openapi.answer(
                200, "The slate", openapi.content(wire.RecommendAnswer, ("slate", ANSWER), ("explained", EXPLAINED))
            ),
            _POSTED,
        ],
    ),
)  # fmt: skip
async def recommend(request: Request) -> Response:
    desk = _recommending(request)
    return _answer(desk.recommend(request.path_params["model"], decode(await read_question(request, desk.max_body), _question)))


@router.get(
    "/v1/recommend/{model}",
    summary="What to show next, for simple frontends",
    description="As the POST, with the question in the query. Values are read as JSON where they are (42, true, \"42\"), else "
    "as text. It is logged as well, so let nothing fetch it ahead of time, or say log=false",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[_MODEL, *_QUERY],
        responses=[
            openapi.answer(200, "The slate", openapi.content(wire.RecommendAnswer, ("slate", ANSWER))),
            openapi.problems(*_ASKED[1:]),
        ],
    ),
)
async def get_recommend(request: Request) -> Response:
    return _answer(_recommending(request).recommend(request.path_params["model"], question_of(request.query_params)))


@router.post(
    "/v1/rank/{model}",
    summary="Order one's own candidates",
    description="The items that are sent, in the order in which to show them: all of them, or the first k; also those that the "
    "user has acted on, unless seen is true. Those that the model does not know are told as unknown",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[_MODEL],
        body=openapi.content(wire.RecommendAsk, ("mine", {"user": "ann", "items": ["shoe-7", "shoe-9", "unheard-of"]})),
        responses=[openapi.answer(200, "In order", openapi.content(wire.RecommendAnswer, ("ranked", RANKED))), _POSTED],
    ),
)
async def rank(request: Request) -> Response:
    desk = _recommending(request)
    return _answer(desk.rank(request.path_params["model"], decode(await read_question(request, desk.max_body), _question)))


@router.get(
    "/v1/similar/{model}/{item:path}",
    summary="Items that are alike",
    description="The items most like one, the most alike first; none if that is not known. Nothing is logged",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[_MODEL, _ITEM, openapi.query_parameter("k", "How many; default: the model's k", _K, 2)],
        responses=[
            openapi.answer(200, "Alike", openapi.content(wire.SimilarAnswer, ("alike", SIMILAR))),
            openapi.problems(*_ASKED[1:]),
        ],
    ),
)  # fmt: skip
async def similar(request: Request) -> Response:
    path, query = request.path_params, request.query_params
    for name in query:
        if name != "k":
            raise EventError("shape", name, "is no parameter of it; write k")
    k = None if "k" not in query else _converted({"k": scalar_of(query["k"])}).k
    return _answer(_recommending(request).similar(path["model"], path["item"], k))


def question_of(query: QueryParams) -> wire.RecommendAsk:
    """The question in a query, see the GET. Raises EventError."""
    given: dict[str, Any] = {}
    for name, text in query.multi_items():
        table, _, field = name.partition(".")
        if name in _TEXTS:
            given[name] = text
        elif name in _VALUES:
            given[name] = scalar_of(text)
        elif name in _LISTS:
            given.setdefault(_LISTS[name], []).append(text)
        elif table == "context" and field:
            given.setdefault(table, {})[field] = scalar_of(text)
        elif table == "where" and field:
            given.setdefault(table, {}).setdefault(field, []).append(scalar_of(text))
        else:
            known = ", ".join(sorted({*_TEXTS, *_VALUES, *_LISTS}))
            raise EventError("shape", name[:80], f"is no parameter of it; there are {known}, context.NAME and where.NAME")
    return _converted(given)


def _converted(given: dict[str, Any]) -> wire.RecommendAsk:
    try:
        return msgspec.convert(given, wire.RecommendAsk)
    except msgspec.ValidationError as error:
        raise explain(b"", error) from None


def _recommending(request: Request) -> Recommending:
    found: Recommending = request.app.state.recommending
    return found


def _answer(answer: wire.RecommendAnswer | wire.SimilarAnswer) -> Response:
    return Response(_encode(answer), media_type="application/json")
