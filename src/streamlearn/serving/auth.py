"""Who may speak to the service: API keys, or programs on this very machine when there are none.

Without keys the service binds to loopback only, and then refuses a foreign `Host` or `Origin`, so that a web page opened
in a browser on this machine cannot reach it. Secrets are compared in constant time and never logged.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigError
from .problems import ProblemError, respond

VARIABLE: Final = "STREAMLEARN_API_KEYS"
OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
CALLER: Final = "streamlearn.caller"
WEAK: Final = 16
_FIX: Final = "Write name:secret,name:secret, each secret random, for instance from: openssl rand -hex 16"
_log = logging.getLogger(__name__)


def load_api_keys(environ: Mapping[str, str]) -> dict[str, str]:
    """Secret by name from `STREAMLEARN_API_KEYS`; empty when it is not set. Raises ConfigError."""
    keys: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in environ.get(VARIABLE, "").split(","))):
        name, colon, secret = item.partition(":")
        if not colon or not name.isprintable() or not name:
            raise ConfigError(VARIABLE, "an entry is not name:secret", _FIX)
        if not secret:
            raise ConfigError(VARIABLE, f"the secret of {name!r} is empty", _FIX)
        if len(secret) < WEAK:
            _log.warning("%s: the secret of %r has fewer than %d characters and can be guessed", VARIABLE, name, WEAK)
        if name in keys:
            raise ConfigError(VARIABLE, f"{name!r} is given twice", _FIX)
        keys[name] = secret
    return keys


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without a port, can only be reached from this machine."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_bind(host: str, api_keys: Mapping[str, str]) -> None:
    """Raises ConfigError when `host` is not loopback and there is no key; says so in the log when there is none."""
    if api_keys:
        _log.info("API keys are required: %s", ", ".join(sorted(api_keys)))
    elif is_loopback(host):
        _log.warning("no %s: everyone on this machine may use the API, and nobody else (bound to %s)", VARIABLE, host)
    else:
        raise ConfigError(
            "serve.host",
            f"{host} can be reached from other machines, and there is no API key",
            f"Set {VARIABLE}=name:secret, or bind to 127.0.0.1",
        )


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
