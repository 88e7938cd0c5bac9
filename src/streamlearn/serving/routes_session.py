"""Signing in to the dashboard with an API key, and out again: the session is a signed cookie that no script can read."""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .. import wire
from ..apikeys import SCOPES
from ..events import explain
from . import openapi, sessions
from .auth import check_local, origin_of
from .deps import Shared, shared
from .ingest import read_body
from .problems import ProblemError
from .refusals import SIGN_IN, UNKNOWN

MAX_BYTES: Final = 4096
TRIES_RATE: Final = 0.1  # attempts a second from one address, and at once
TRIES_BURST: Final = 10.0
router: Final = APIRouter(route_class=openapi.PlainRoute, tags=["session"])
logger = logging.getLogger(__name__)

_HERE: Final[dict[str, Any]] = {
    "signed_in": True, "name": "ops", "scopes": list(SCOPES), "csrf": "k1.4c3a…", "keys_required": True,
    "expires": 1767268800.0,
}  # fmt: skip
_OUT: Final[dict[str, Any]] = {
    "signed_in": False, "name": None, "scopes": [], "csrf": None, "keys_required": True, "expires": None,
}  # fmt: skip


@router.get(
    "/v1/session",
    summary="Who is signed in",
    description="Needs no key. Where no keys are needed, everybody on this machine is signed in as anonymous",
    response_class=Response,
    openapi_extra=openapi.operation(
        responses=[
            openapi.answer(200, "The session", openapi.content(wire.SessionView, ("signed in", _HERE), ("nobody", _OUT))),
            openapi.problems("forbidden"),
        ]
    ),
)
async def get_session(request: Request) -> Response:
    hub = shared(request)
    _check_page(hub, request)
    text = request.cookies.get(sessions.COOKIE, "")
    found = sessions.find(text, hub.deps.clock(), hub.deps.keys, hub.keys) if text else None
    return _answer(hub, found)


@router.post(
    "/v1/session",
    summary="Sign in with an API key",
    description="Sets a cookie that scripts cannot read; requests with it that change anything carry csrf as X-CSRF-Token. "
    "Needs no key but the one in the body; a few attempts a minute from one address",
    response_class=Response,
    openapi_extra=openapi.operation(
        body=openapi.content(wire.SignIn, ("a key", {"key": "slk_0a1b2c3d4e5f_3vJx…"})),
        responses=[
            openapi.answer(200, "Signed in", openapi.content(wire.SessionView, ("signed in", _HERE))),
            openapi.problems(
                "malformed", "unauthorized", "forbidden", "timeout", "too-large", "media-type", "rejected", "rate",
                "log-unavailable",
            ),
        ],
    ),
)
async def sign_in(request: Request) -> Response:
    hub = shared(request)
    _check_page(hub, request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # a page from elsewhere can send other types without asking the browser first
        raise ProblemError("media-type", "send the key as JSON, with the header Content-Type: application/json")
    body = await read_body(request, MAX_BYTES)
    try:
        given = msgspec.json.decode(body, type=wire.SignIn).key
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise explain(body, error) from None
    if not hub.keys.required:
        return _answer(hub, None)
    origin = origin_of(request.scope)
    wait = hub.attempts.take(origin, TRIES_RATE, TRIES_BURST)
    if wait:
        hub.refusals.note(UNKNOWN, SIGN_IN, "rate", origin=origin)
        raise ProblemError("rate", "too many attempts to sign in from this address", {"retry_after": wait})
    key = hub.keys.find(given.strip().encode())
    if key is None:
        if not hub.keys.known:
            raise ProblemError("log-unavailable", "which API keys hold is known once the log has been read")
        hub.refusals.note(UNKNOWN, SIGN_IN, "unauthorized", origin=origin)
        raise ProblemError("unauthorized", "the API key is not a known one")
    hours = hub.deps.settings.serve.session_hours
    session = sessions.begin(key, hub.deps.clock(), hours * 3600, hub.deps.keys)
    logger.info("signed in", extra={"key": key.name, "origin": origin})
    response = _answer(hub, session)
    seconds = max(1, session.ends - int(hub.deps.clock()))
    response.headers["Set-Cookie"] = sessions.cookie(session.text, seconds, request.url.scheme == "https")
    return response


@router.delete(
    "/v1/session",
    summary="Sign out",
    description="Takes the cookie away. A session that nobody signed out of ends by itself, or with its API key",
    response_class=Response,
    openapi_extra=openapi.operation(
        responses=[
            openapi.answer(200, "Signed out", openapi.content(wire.SessionView, ("nobody", _OUT))),
            openapi.problems("forbidden"),
        ]
    ),
)
async def sign_out(request: Request) -> Response:
    hub = shared(request)
    _check_page(hub, request)
    response = _answer(hub, None)
    response.headers["Set-Cookie"] = sessions.cookie("", 0, request.url.scheme == "https")
    return response


def _check_page(hub: Shared, request: Request) -> None:
    """Without keys, a token is for pages of this machine alone."""
    if not hub.keys.required:
        problem = check_local({name: value for name, value in request.scope["headers"] if name in (b"host", b"origin")})
        if problem is not None:
            raise problem


def _answer(hub: Shared, session: sessions.Session | None) -> Response:
    ring = hub.deps.keys
    if not hub.keys.required:
        found = wire.SessionView(True, sessions.ANONYMOUS, [*SCOPES], sessions.csrf("", ring), False, None)
    elif session is None:
        found = wire.SessionView(False, None, [], None, True, None)
    else:
        key = session.key
        scopes: list[str] = [scope for scope in SCOPES if scope in key.scopes]
        found = wire.SessionView(True, key.name, scopes, sessions.csrf(session.text, ring), True, float(session.ends))
    return Response(msgspec.json.encode(found), media_type="application/json")
