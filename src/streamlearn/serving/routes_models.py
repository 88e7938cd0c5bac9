"""Models and their status, and what a person may ask of control. Versions: `routes_versions`; cases: `routes_cases`."""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .. import records, wire
from ..errors import EventError
from ..events import encode, explain
from ..log import CONTROL, Entry
from ..retrain.rewind import parse_place, parse_range
from . import openapi
from .auth import CALLER
from .deps import shared
from .documents import MODEL_NAME, json_answer
from .examples import ASKED, MODEL
from .ingest import content_type, read_body
from .problems import ProblemError
from .views import model_view

ACTIONS: Final = {
    "retrain": "Open a case by hand: retrain in full, try the result, promote it if it is better",
    "cancel": "Give up the open case: stop its retraining or its trial",
    "promote": "Let the version on trial serve now, or, when nothing is under way, the kept one that is named",
    "rollback": "Let the version before the last promotion serve again",
    "hold": "Go on reading and predicting, and learn nothing",
    "resume": "Learn again; what came while held is skipped, learned now, or forgotten to be sent again, by mode",
    "rewind": "Go back to before a place in the log, and learn on from there without the records to be skipped",
    "silence": "Notify nobody of this model for so many seconds; 0 ends that. Decisions go on as ever",
}
MAX_ASK_BYTES: Final = 16_384
MAX_USER: Final = 128
MAX_REASON: Final = 1000
router: Final = APIRouter(route_class=openapi.PlainRoute)


@router.get(
    "/v1/models",
    tags=["models"],
    summary="All models and their status",
    description="As their learners last reported, about once a second",
    response_class=Response,
    openapi_extra=openapi.operation(
        responses=[openapi.answer(200, "The models", openapi.content(wire.Models, ("one", {"models": [MODEL]})))]
    ),
)
async def get_models(request: Request) -> Response:
    hub = shared(request)
    now = hub.deps.timer()
    return json_answer(wire.Models([model_view(name, hub.deps.settings, hub.holder, now) for name in hub.holder.slots]))


@router.get(
    "/v1/models/{model}",
    tags=["models"],
    summary="One model and its status",
    description="Scores beside the baselines, counters, position, lag, versions, case, and whether it is degraded and why",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[MODEL_NAME],
        responses=[
            openapi.answer(200, "The model", openapi.content(wire.ModelView, ("model", MODEL))),
            openapi.problems("not-found"),
        ],
    ),
)
async def get_model(request: Request) -> Response:
    hub, name = shared(request), request.path_params["model"]
    hub.holder.shards(name)
    return json_answer(model_view(name, hub.deps.settings, hub.holder, hub.deps.timer()))


async def ask(request: Request) -> Response:
    """Write a person's request into the control log; control takes it from there."""
    hub, name, action = shared(request), request.path_params["model"], request.path_params["action"]
    hub.holder.shards(name)
    if action not in ACTIONS:
        raise ProblemError("not-found", f"there is no action {action!r}; there are {sorted(ACTIONS)}")
    if content_type(request) != "json":
        raise ProblemError("media-type", "a request to control is application/json")
    words = _words(await read_body(request, MAX_ASK_BYTES))
    if action == "silence" and words.for_s is None:
        raise EventError("shape", "for_s", "is missing; write for how many seconds, 0 to end a silence")
    asked = records.Request(
        uuid.uuid4().hex, name, action, _by(request), hub.deps.clock(), words.reason, words.version, words.mode, words.to,
        words.skip, for_s=words.for_s,
    )  # fmt: skip
    offset = await hub.ingest.append_one(CONTROL, Entry(name.encode(), encode(asked)))
    return json_answer(wire.Asked(asked.id, name, action, asked.by, asked.at, offset), 202)


def _words(body: bytes) -> wire.Ask:
    if not body.strip():
        return wire.Ask()
    try:
        words = msgspec.json.decode(body, type=wire.Ask)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise explain(body, error) from None
    if len(words.reason) > MAX_REASON:
        raise EventError("too_long", "reason", f"has {len(words.reason)} characters, more than {MAX_REASON}")
    if sum(map(len, (*words.to, *words.skip))) > MAX_REASON:
        raise EventError("too_long", "skip", f"with to it has more than {MAX_REASON} characters; name fewer ranges")
    if words.mode not in records.RESUME_MODES:
        raise EventError("shape", "mode", f"is {words.mode[:40]!r}; write one of {', '.join(records.RESUME_MODES)}")
    if words.for_s is not None and not 0 <= words.for_s <= records.LONGEST_SILENCE_S:
        raise EventError("shape", "for_s", f"is {words.for_s:g}; write 0 to {records.LONGEST_SILENCE_S:.0f} seconds")
    for place in words.to:
        parse_place(place, "to")
    for both in words.skip:
        parse_range(both)
    return words


def _by(request: Request) -> str:
    """Who asks, for the audit: the API key's name, and whom it says it speaks for."""
    user = "".join(c for c in request.headers.get("x-streamlearn-user", "") if c.isprintable())[:MAX_USER].strip()
    caller = request.scope.get(CALLER)
    if caller is None:
        return user or "anonymous"
    return f"{user} (key {caller})" if user else f"key {caller}"


_SILENCE: Final = ("two hours", {"for_s": 7200.0, "reason": "the upstream is rebuilt"}), ("end it", {"for_s": 0.0})
_BARE: Final[tuple[tuple[str, Any], ...]] = (("with a reason", {"reason": "new carrier codes since Monday"}), ("bare", {}))
_EXAMPLES: Final[dict[str, tuple[tuple[str, Any], ...]]] = {
    "promote": (("a kept version", {"version": 2, "reason": "it knew the summer"}),),
    "resume": (("learn what was held", {"mode": "learn"}), ("make room for mended events", {"mode": "repair"})),
    "rewind": (("past bad data", {"to": ["0/41000"], "skip": ["0/41000:0/41800"], "reason": "the sensor was off"}),),
    "silence": _SILENCE,
}


def _ask_route(action: str, summary: str) -> None:
    optional = action != "silence"  # which says for how long

    async def endpoint(request: Request) -> Response:
        request.path_params["action"] = action
        return await ask(request)

    router.add_api_route(
        f"/v1/models/{{model}}/{action}",
        endpoint,
        methods=["POST"],
        name=f"{action}_model",
        tags=["requests"],
        summary=summary,
        description="Control decides; the audit trail and the case say what came of it. X-Streamlearn-User names who asks",
        response_class=Response,
        status_code=202,
        openapi_extra=openapi.operation(
            parameters=[MODEL_NAME],
            body=openapi.content(wire.Ask, *_EXAMPLES.get(action, ()), *(_BARE if optional else ())),
            body_required=not optional,
            responses=[
                openapi.answer(202, "Control will see it", openapi.content(wire.Asked, ("asked", ASKED | {"action": action}))),
                openapi.problems(
                    "malformed", "not-found", "timeout", "too-large", "media-type", "rejected", "overloaded", "log-unavailable",
                    "full",
                ),
            ],
        ),
    )


for _action, _summary in ACTIONS.items():
    _ask_route(_action, _summary)
