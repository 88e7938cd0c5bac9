"""The headers with which every answer tells a browser how little it may do with it: ASGI middleware.

The dashboard's own files are all that may be loaded, scripts and styles among them; nothing runs or styles from within a page;
nobody may frame it; an answer is never taken for another type than it says. Answers of the API are not kept by caches. A route
that says otherwise in one of these headers is let.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DIRECTIVES: Final = {
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data:", "font-src": "'self'",
    "connect-src": "'self'", "manifest-src": "'self'", "base-uri": "'none'", "form-action": "'self'",
    "frame-ancestors": "'none'",
}  # fmt: skip


def policy(**changes: str) -> str:
    """The Content-Security-Policy, some directives (written with underscores) replaced."""
    found = DIRECTIVES | {name.replace("_", "-"): value for name, value in changes.items()}
    return "; ".join(f"{name} {value}" for name, value in found.items())


HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": policy(),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# The API answers with data, which loads and opens nothing: fewer headers say so, for each of them costs a prediction time.
API_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    **{name: HEADERS[name] for name in ("X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Resource-Policy")},
    "Cache-Control": "no-store",
}
_OF_PAGES, _OF_DATA = (
    tuple((name.lower().encode(), value.encode()) for name, value in found.items()) for found in (HEADERS, API_HEADERS)
)


class Headers:
    """Adds them to each answer that lacks them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = _OF_DATA if scope["path"].startswith(("/v1/", "/metrics")) else _OF_PAGES

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                add(message, wanted)
            await send(message)

        await self._app(scope, receive, guarded)


def add(message: Message, wanted: Iterable[tuple[bytes, bytes]]) -> None:
    """Give the beginning of an answer those headers that it does not have."""
    headers: list[Any] = message.setdefault("headers", [])
    there = [name for name, _ in headers]
    headers += [pair for pair in wanted if pair[0] not in there]
