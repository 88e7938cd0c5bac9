"""Errors as RFC 9457 problem details: the catalogue, the exception that routes raise, and the map from every other error.

The only place where an exception meets an HTTP status. It must never show a stack trace or a secret to a caller.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..errors import EventError, LogError, LogFull, LogUnavailable, Overloaded, StoreError, StoreFull, StreamlearnError
from .headers import HEADERS

MEDIA_TYPE: Final = "application/problem+json"
_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    status: int
    title: str
    explanation: str


CATALOGUE: Final[Mapping[str, Entry]] = {
    "malformed": Entry(400, "The body is not JSON", "Nothing of it could be read; nothing was accepted."),
    "unauthorized": Entry(401, "An API key is needed", "Send it as 'Authorization: Bearer …' or as 'X-API-Key: …'."),
    "forbidden": Entry(403, "Only for this machine", "Without API keys, the service answers programs on its own machine."),
    "scope": Entry(403, "The API key may not do this", "The detail names the scope that it lacks."),
    "csrf": Entry(403, "The CSRF token is missing or wrong", "A browser sends the csrf of GET /v1/session as X-CSRF-Token."),
    "not-found": Entry(404, "No such thing", "There is no such path, model or case."),
    "method": Entry(405, "Another method is needed", "The path is right; the 'Allow' header names its methods."),
    "timeout": Entry(408, "The body came too slowly", "Send it again, faster or in smaller pieces."),
    "too-large": Entry(413, "Too much at once", "Send it in smaller pieces; the limits are in the configuration."),
    "media-type": Entry(415, "Not a type that is read here", "Send application/json, or application/x-ndjson for events."),
    "rejected": Entry(422, "Not acceptable", "JSON, but against the rules; the detail says what and how to mend it."),
    "overloaded": Entry(429, "Too much work is in flight", "Nothing was taken; try again after 'Retry-After' seconds."),
    "rate": Entry(429, "Too many requests", "The key has used up its share; try again after 'Retry-After' seconds."),
    "internal": Entry(500, "A fault in the service", "It is in the service's own log; nothing is known to be lost."),
    "model": Entry(500, "The model could not answer", "Its pipeline raised an error or gave NaN; the service's log says more."),
    "log-unavailable": Entry(503, "The log cannot be reached", "Nothing was written; try again after 'Retry-After' seconds."),
    "store-unavailable": Entry(503, "The store cannot be reached", "Predictions go on; try again after 'Retry-After' seconds."),
    "not-learned": Entry(503, "Nothing learned yet", "The model has published nothing yet; try again later."),
    "not-ready": Entry(503, "Not ready", "The detail says what is missing."),
    "streams": Entry(503, "Too many live streams", "A process has so many and no more; try again after 'Retry-After' seconds."),
    "full": Entry(507, "No space left", "Nothing was written; it will be again once there is space."),
}
RETRY_AFTER_S: Final = {
    "log-unavailable": 2.0, "store-unavailable": 2.0, "not-learned": 1.0, "not-ready": 1.0, "streams": 5.0, "full": 10.0,
}  # fmt: skip


class ProblemError(Exception):
    """An answer that is an error: `kind` of the catalogue, a detail for this very case, and further members of the body."""

    def __init__(
        self, kind: str, detail: str, extra: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.extra = kind, detail, dict(extra or {})
        self.headers = dict(headers or {})
        self.status = CATALOGUE[kind].status


def of_event(error: EventError, index: int | None = None) -> ProblemError:
    """The problem with one event or question: 400 when it is no JSON, else 422."""
    extra: dict[str, Any] = {} if index is None else {"index": index}
    extra |= {"field": error.field, "reason": error.reason}
    kind = "malformed" if error.reason == "malformed" else "rejected"
    return ProblemError(kind, f"{error.field}: {error.detail}", extra)


def of_error(error: StreamlearnError) -> ProblemError:
    """The problem that an error of the tree in `errors` is to a caller."""
    if isinstance(error, EventError):
        return of_event(error)
    if isinstance(error, Overloaded):
        return ProblemError("overloaded", str(error), {"retry_after": error.retry_after})
    if isinstance(error, (LogFull, StoreFull)):
        return ProblemError("full", str(error))
    if isinstance(error, LogUnavailable):
        return ProblemError("log-unavailable", str(error))
    if isinstance(error, StoreError):
        return ProblemError("store-unavailable", str(error))
    if isinstance(error, LogError):
        return ProblemError("log-unavailable", str(error))
    _log.error("no problem type for %s: %s", type(error).__name__, error)
    return ProblemError("internal", "an unexpected error; the service's log has it")


def respond(problem: ProblemError, instance: str) -> Response:
    """The response, with 'Retry-After' (whole seconds, at least 1) where trying again makes sense."""
    entry = CATALOGUE[problem.kind]
    body: dict[str, Any] = {
        "type": f"/problems/{problem.kind}",
        "title": entry.title,
        "status": entry.status,
        "detail": problem.detail,
        "instance": instance,
    }
    body |= problem.extra
    retry_after = body.get("retry_after", RETRY_AFTER_S.get(problem.kind))
    headers = problem.headers
    if retry_after is not None:
        body["retry_after"] = retry_after
        headers = {"Retry-After": str(max(1, math.ceil(retry_after))), **headers}
    return Response(msgspec.json.encode(body), entry.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem."""

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return respond(error, request.url.path)

    async def mapped(request: Request, error: Exception) -> Response:
        assert isinstance(error, StreamlearnError)
        return respond(of_error(error), request.url.path)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = {404: "not-found", 405: "method", 413: "too-large", 415: "media-type"}.get(error.status_code, "malformed")
        detail = f"{request.method} {request.url.path}: {str(error.detail).lower()}; see /api for all paths"
        return respond(ProblemError(kind, detail, headers=error.headers), request.url.path)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or "$"
        return respond(ProblemError("rejected", f"{field}: {first['msg']}", {"field": field}), request.url.path)

    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=499)  # nobody is left to read it

    async def unexpected(request: Request, _: Exception) -> Response:
        problem = ProblemError("internal", "an unexpected error; the service's log has it", headers=HEADERS)
        return respond(problem, request.url.path)  # sent from outside of all middleware

    app.add_exception_handler(ProblemError, known)
    app.add_exception_handler(StreamlearnError, mapped)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, unexpected)
