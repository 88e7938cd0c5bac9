"""Example documents for the OpenAPI contract: recommendations as the service gives them."""

from __future__ import annotations

from typing import Any, Final

_POSITION: Final = {"log": "3f0c", "stream": "clicks", "partition": 0, "offset": 41230}
_BEHIND: Final = {"model": "shop", "version": 1, "position": _POSITION, "age_s": 0.31, "degraded": None}
_FIRST: Final = {"item": "shoe-9", "position": 1, "score": 0.31, "source": "covisit", "propensity": 0.955}
_SECOND: Final = {"item": "hat-4", "position": 2, "score": 0.22, "source": "popular", "propensity": 0.955}
ANSWER: Final[dict[str, Any]] = {
    "id": "8c1f", **_BEHIND, "items": [_FIRST, _SECOND], "fallback": None, "unknown": [], "logged": "queued",
}  # fmt: skip
EXPLAINED: Final[dict[str, Any]] = ANSWER | {
    "items": [
        _FIRST | {"why": [{"feature": "covisit", "contribution": 1.4}, {"feature": "popular", "contribution": 0.3}]},
        _SECOND | {"why": [{"feature": "popular", "contribution": 0.9}, {"feature": "seen_category", "contribution": -0.2}]},
    ]
}
RANKED: Final[dict[str, Any]] = ANSWER | {
    "items": [_FIRST, _SECOND | {"item": "shoe-7"}], "unknown": ["unheard-of"],
}  # fmt: skip
SIMILAR: Final[dict[str, Any]] = {
    **_BEHIND, "item": "shoe-7", "items": [{"item": "shoe-9", "score": 0.62}, {"item": "sock-2", "score": 0.41}],
}  # fmt: skip
