"""The gate: it lets those in who hold an API key or, when there are none, programs on this very machine.

Without keys the service binds to loopback only, and then refuses a foreign `Host` or `Origin`, so that a web page opened
in a browser on this machine cannot reach it. Secrets are compared in constant time and never logged.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from .access import is_loopback
from .problems import ProblemError, respond

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
CALLER: Final = "streamlearn.caller"


class Gate:
    """ASGI middleware: lets a request through, its caller's name in `scope[CALLER]`, or answers 401 or 403."""

    def __init__(self, app: ASGIApp, api_keys: Mapping[str, str]) -> None:
        self._app = app
        self._digests = [(name, hashlib.sha256(secret.encode()).digest()) for name, secret in api_keys.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            problem = self._check_key(scope) if self._digests else self._check_local(scope)
            if problem is not None:
                await respond(problem, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check_key(self, scope: Scope) -> ProblemError | None:
        given = b""
        for header, value in scope["headers"]:
            if header == b"x-api-key":
                given = value
            elif header == b"authorization" and value[:7].lower() == b"bearer ":
                given = value[7:].strip()
        digest, caller = hashlib.sha256(given).digest(), None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                caller = name
        if caller is None:
            detail = "the API key is not a known one" if given else "the request carries no API key"
            return ProblemError("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        scope[CALLER] = caller
        return None

    def _check_local(self, scope: Scope) -> ProblemError | None:
        for header, value in scope["headers"]:
            if header == b"host":
                host = value
            elif header == b"origin":
                host = value.partition(b"://")[2]
            else:
                continue
            if not _is_local(host):
                detail = f"the {header.decode()} is not of this machine; to be reached from elsewhere, set API keys"
                return ProblemError("forbidden", detail)
        return None


@lru_cache(maxsize=256)
def _is_local(authority: bytes) -> bool:
    """Whether a host with or without a port is this machine's own."""
    host = authority.decode("latin-1")
    name, colon, port = host.rpartition(":")
    with_port = colon and port.isdigit() and (name.endswith("]") or ":" not in name)
    return is_loopback(name if with_port else host)
