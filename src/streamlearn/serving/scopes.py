"""Which scope a request needs: one table of methods and routes, asked by the gate before anything else is done.

A row's path is a route as the router writes it; `{…:path}` takes whatever follows. The first row that fits holds. What no row
fits is no route, and is answered with 404 or 405, to whoever holds a key. A test finds every route of the app in here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from starlette.routing import compile_path

OPEN: Final = "open"  # needs no key
ANY: Final = "any"  # needs a key, whatever its scopes
REMEMBERED: Final = 200  # characters: whoever asks for longer paths must not fill the memory with them

TABLE: Final[tuple[tuple[str, str, str], ...]] = (
    ("POST", "/v1/predict/{model}", "predict"),
    ("POST", "/v1/predict/{model}/batch", "predict"),
    ("POST", "/v1/recommend/{model}", "predict"),
    ("GET", "/v1/recommend/{model}", "predict"),
    ("POST", "/v1/rank/{model}", "predict"),
    ("GET", "/v1/similar/{model}/{item:path}", "predict"),
    ("POST", "/v1/events", "write"),
    ("GET", "/v1/session", OPEN),
    ("POST", "/v1/session", OPEN),
    ("DELETE", "/v1/session", OPEN),
    ("GET", "/v1/{rest:path}", "read"),
    ("GET", "/metrics", "read"),
    ("POST", "/v1/models/{model}/retrain", "operate"),
    ("POST", "/v1/models/{model}/cancel", "operate"),
    ("POST", "/v1/models/{model}/promote", "operate"),
    ("POST", "/v1/models/{model}/rollback", "operate"),
    ("POST", "/v1/models/{model}/hold", "operate"),
    ("POST", "/v1/models/{model}/resume", "operate"),
    ("POST", "/v1/models/{model}/rewind", "operate"),
    ("POST", "/v1/models/{model}/silence", "operate"),
    ("GET", "/", OPEN),
    ("GET", "/dashboard/{rest:path}", OPEN),
    ("GET", "/shop/items", "predict"),
    ("GET", "/shop", OPEN),
    ("GET", "/shop/{rest:path}", OPEN),
    ("GET", "/healthz", OPEN),
    ("GET", "/readyz", OPEN),
    ("GET", "/api", ANY),
    ("GET", "/openapi.json", ANY),
    ("GET", "/problems/{kind}", ANY),
)
_ROWS: Final = tuple((method, path, compile_path(path)[0], scope) for method, path, scope in TABLE)


class Rule:
    """What a request needs: its scope (or OPEN, ANY), and the row of the table that says so, None when none does."""

    __slots__ = ("action", "model", "path", "scope")

    def __init__(self, scope: str, path: str | None, model: str = "") -> None:
        self.scope, self.path, self.model = scope, path, model
        self.action = path.rpartition("/")[2] if path is not None and scope == "operate" else ""


_NOWHERE: Final = Rule(ANY, None)


def rule(method: str, path: str) -> Rule:
    """The rule for a request. HEAD needs what GET does."""
    return _remembered(method, path) if len(path) <= REMEMBERED else _found(method, path)


@lru_cache(maxsize=2048)
def _remembered(method: str, path: str) -> Rule:
    return _found(method, path)


def _found(method: str, path: str) -> Rule:
    wanted = "GET" if method == "HEAD" else method
    for row, template, pattern, scope in _ROWS:
        if row == wanted and (found := pattern.match(path)) is not None:
            return Rule(scope, template, found.groupdict().get("model", ""))
    return _NOWHERE
