"""A small shop over one model that recommends, where `serve.shop` names it: the page at `/shop`, and what it asks for below.

It is to be looked at, not to sell: whoever opens it is a visitor whose clicks are events like any others. All that it shows
comes from the API; of its own it has only the search among the items' titles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ..config_recommend import RecommendSettings
from .assets import PAGE, answer, assets
from .deps import Shared, shared
from .documents import json_answer
from .openapi import PlainRoute
from .problems import ProblemError

FOLDER: Final = "shop"
FOUND: Final = 8  # items that a search answers, at most
LONGEST: Final = 100  # characters of a search
LASTS_S: Final = 5.0  # a list of titles is made anew for a search when it is older
router: Final = APIRouter(route_class=PlainRoute)


class Titled(NamedTuple):
    """An item as the search knows it; `text` is its title, casefolded."""

    text: str
    item: str
    fields: Mapping[str, Any]


class Titles:
    """The titles of the items that a model offers, made anew off the event loop when a search finds them old."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._made: list[Titled] = []
        self._at: float | None = None
        self._lock = asyncio.Lock()

    async def search(self, estimator: Any, text: str) -> list[dict[str, Any]]:
        """Items whose title has all words of `text`, those that begin with it first, then the shorter titles."""
        async with self._lock:
            if self._at is None or self._timer() - self._at > LASTS_S:
                self._made = await asyncio.to_thread(_titles, estimator.state)
                self._at = self._timer()
        words = text.casefold().split()
        found = [one for one in self._made if all(word in one.text for word in words)]
        found.sort(key=lambda one: (not one.text.startswith(words[0]), len(one.text), one.text, one.item))
        return [{"item": one.item, "fields": one.fields} for one in found[:FOUND]]


def _titles(state: Any) -> list[Titled]:
    import numpy as np  # the model that was loaded came with it: the service starts without

    rows = np.arange(len(state.items), dtype=np.int32)
    offered = [(state.item_ids.id_of(row), state.fields_at(row)) for row in rows[state.available(rows)].tolist()]
    return [Titled(str(fields.get("title", item)).casefold(), item, fields) for item, fields in offered]


@router.get("/shop", include_in_schema=False)
async def page(request: Request) -> Response:
    _model(shared(request))
    return answer(request, assets(FOLDER)[PAGE])


@router.get("/shop/settings", include_in_schema=False)
async def settings(request: Request) -> Response:
    """What the page has to know: the model, its stream, and by which actions to say that an item is wanted, or is not."""
    hub = shared(request)
    name = _model(hub)
    model = hub.deps.settings.models[name]
    click, dislike = actions(model.recommend)
    return _fresh({"model": name, "stream": model.stream, "click": click, "dislike": dislike})


@router.get("/shop/items", include_in_schema=False)
async def items(request: Request) -> Response:
    """Items by their title: `?q=` takes a few words of it."""
    hub = shared(request)
    model = _model(hub)
    text = request.query_params.get("q", "").strip()
    if not text or len(text) > LONGEST:
        raise ProblemError("rejected", f"q: write 1 to {LONGEST} characters of a title", {"field": "q"})
    served = request.app.state.recommending.widest(model)
    titles: Titles = request.app.state.titles
    return _fresh({"items": await titles.search(served.model.estimator, text)})


@router.get("/shop/{path:path}", include_in_schema=False)
async def file(request: Request) -> Response:
    _model(shared(request))
    path = request.path_params["path"]
    asset = assets(FOLDER).get(path)
    if asset is None:
        raise ProblemError("not-found", f"the shop has no file {path[:200]!r}; it begins at /shop")
    return answer(request, asset)


def actions(settings: RecommendSettings) -> tuple[str, str | None]:
    """The action of a click: "click" where it is worth something, else what is worth the most; and that of a dislike."""
    weights = settings.actions
    best = max(weights, key=lambda name: weights[name])
    worst = min(weights, key=lambda name: weights[name])
    return "click" if weights.get("click", 0) > 0 else best, worst if weights[worst] < 0 else None


def _model(hub: Shared) -> str:
    """The model of the shop. Raises ProblemError where there is none."""
    name = hub.deps.settings.serve.shop
    if not name:
        raise ProblemError("not-found", "there is no shop here; serve.shop in the configuration names a model for it")
    return name


def _fresh(document: dict[str, Any]) -> Response:
    response = json_answer(document)
    response.headers["Cache-Control"] = "no-store"
    return response
