"""The gate: it lets those in who hold an API key with the scope that the route needs or, when there are no keys, programs on
this very machine.

A key comes as a header, or as the session that the dashboard signed in for; a browser's actions carry a CSRF token. Without
keys the service binds to loopback only, and then refuses a foreign `Host` or `Origin`, so that a web page opened in a browser
on this machine cannot reach it. Secrets are compared in constant time and never logged. What is refused of actions is told to
the audit trail.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..apikeys import ApiKey
from . import sessions
from .access import is_loopback
from .limits import Buckets
from .problems import ProblemError, respond
from .refusals import UNKNOWN
from .scopes import ANY, OPEN, Rule, rule

if TYPE_CHECKING:
    from .deps import Shared

CALLER: Final = "streamlearn.caller"
KEY: Final = "streamlearn.key"
STREAM: Final = "/v1/live"
SAFE: Final = ("GET", "HEAD")
WANTED: Final = frozenset({
    b"x-api-key", b"authorization", b"cookie", b"x-csrf-token", b"host", b"origin", b"sec-fetch-site",
})  # fmt: skip

Found = dict[bytes, bytes]


class Gate:
    """ASGI middleware: lets a request through, its caller's name in `scope[CALLER]`, or answers 401, 403 or 429."""

    def __init__(self, app: ASGIApp, shared: Shared) -> None:
        deps = shared.deps
        self._app, self._keys, self._refusals = app, shared.keys, shared.refusals
        self._ring, self._clock = deps.keys, deps.clock
        self._models = frozenset(deps.settings.models)
        self._rates = deps.settings.serve.rates
        self._buckets = Buckets(deps.timer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            needs = rule(scope["method"], scope["path"])
            if needs.scope != OPEN:
                problem = self._check(scope, needs)
                if problem is not None:
                    if needs.action:
                        self._tell(scope, needs, problem.kind)
                    await respond(problem, scope["path"])(scope, receive, send)
                    return
                if KEY in scope and scope["path"] == STREAM:
                    send = self._while_it_holds(scope[KEY], send)
        await self._app(scope, receive, send)

    def _while_it_holds(self, key: ApiKey, send: Send) -> Send:
        """Ends an answer that goes on and on once its key opens nothing any more; the next piece of it comes within seconds."""
        over = False

        async def guarded(message: Message) -> None:
            nonlocal over
            if over:
                return
            if message["type"] == "http.response.body" and self._keys.by_id(key.id) is None:
                over, message = True, {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        return guarded

    def _check(self, scope: Scope, needs: Rule) -> ProblemError | None:
        headers: Found = {name: value for name, value in scope["headers"] if name in WANTED}
        if self._keys.required:
            return self._check_key(scope, needs, headers)
        problem = check_local(headers)
        if problem is None and scope["method"] not in SAFE and (b"origin" in headers or b"sec-fetch-site" in headers):
            return self._check_csrf(headers, "")
        return problem

    def _check_key(self, scope: Scope, needs: Rule, headers: Found) -> ProblemError | None:
        given, session = _secret(headers), None
        if given:
            key = self._keys.find(given)
        else:
            session = self._session(headers)
            key = None if session is None else session.key
        if key is None:
            if not self._keys.known:
                return ProblemError("log-unavailable", "which API keys hold is known once the log has been read")
            detail = "the API key is not a known one" if given else "the request carries no API key"
            return ProblemError("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        scope[CALLER], scope[KEY] = key.name, key
        if needs.scope != ANY and needs.scope not in key.scopes:
            detail = f"the API key {key.name!r} lacks the scope {needs.scope!r}; it has {', '.join(sorted(key.scopes))}"
            return ProblemError("scope", detail, {"scope": needs.scope})
        if session is not None and scope["method"] not in SAFE:
            problem = self._check_csrf(headers, session.text)
            if problem is not None:
                return problem
        return self._check_rate(key, needs.scope)

    def _session(self, headers: Found) -> sessions.Session | None:
        text = sessions.of_cookies(headers.get(b"cookie", b""))
        return None if text is None else sessions.find(text, self._clock(), self._ring, self._keys)

    def _check_csrf(self, headers: Found, session: str) -> ProblemError | None:
        token = headers.get(b"x-csrf-token", b"").decode("latin-1")
        if token and sessions.proves(token, session, self._ring):
            return None
        what = "is not the one of this session" if token else "is missing"
        return ProblemError("csrf", f"the header X-CSRF-Token {what}; GET /v1/session gives it as csrf")

    def _check_rate(self, key: ApiKey, scope: str) -> ProblemError | None:
        rate = key.rate if key.rate is not None else 0.0 if scope == ANY else float(getattr(self._rates, scope))
        if rate <= 0:
            return None
        wait = self._buckets.take((key.id, "" if key.rate is not None else scope), rate, rate * self._rates.burst_s)
        if wait == 0.0:
            return None
        detail = f"the API key {key.name!r} makes more than {rate:g} requests a second of this kind"
        return ProblemError("rate", detail, {"retry_after": wait})

    def _tell(self, scope: Scope, needs: Rule, reason: str) -> None:
        nobody = UNKNOWN if self._keys.required else sessions.ANONYMOUS
        by = f"key {scope[CALLER]}" if CALLER in scope else nobody
        self._refusals.note(by, needs.action, reason, needs.model if needs.model in self._models else "", origin_of(scope))


def origin_of(scope: Scope) -> str:
    """The address that a request came from."""
    client = scope.get("client")
    return "" if client is None else str(client[0])


def check_local(headers: Found) -> ProblemError | None:
    """Refuses what a page from elsewhere sends, and a name of this machine that another one made up."""
    for name in (b"host", b"origin"):
        value = headers.get(name)
        if value is not None and not _is_local(value.partition(b"://")[2] if name == b"origin" else value):
            detail = f"the {name.decode()} is not of this machine; to be reached from elsewhere, make an API key"
            return ProblemError("forbidden", detail)
    return None


def _secret(headers: Found) -> bytes:
    """What may be an API key in the headers."""
    given = headers.get(b"authorization", b"")
    if given[:7].lower() == b"bearer ":
        return given[7:].strip()
    return headers.get(b"x-api-key", b"")


@lru_cache(maxsize=256)
def _is_local(authority: bytes) -> bool:
    """Whether a host with or without a port is this machine's own."""
    host = authority.decode("latin-1")
    name, colon, port = host.rpartition(":")
    with_port = colon and port.isdigit() and (name.endswith("]") or ":" not in name)
    return is_loopback(name if with_port else host)
