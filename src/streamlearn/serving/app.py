"""The HTTP service put together: routes, errors, the gate, and what starts and stops with it.

It serves what learners published and writes what applications post. It must never learn, and a prediction must never wait
for the log or the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..events import encode
from ..log import CONTROL, Entry
from ..records import Refused
from ..telemetry import CollectorRegistry, Histogram, Metrics, together, watch
from . import (
    openapi,
    problems,
    routes_cases,
    routes_dashboard,
    routes_events,
    routes_history,
    routes_inputs,
    routes_live,
    routes_models,
    routes_predict,
    routes_recommend,
    routes_rewind,
    routes_service,
    routes_session,
    routes_shop,
    routes_versions,
)
from .access import check_bind
from .audit import Audit
from .auth import Gate
from .deps import Deps, Shared
from .figures import figures
from .headers import Headers
from .holder import Holder
from .indexes import Indexes
from .ingest import Ingest
from .keywatch import KeyWatch
from .limits import Buckets
from .pasts import Pasts
from .predictions import PredictionBuffer
from .recommending import Recommending
from .refusals import Refusals
from .tracing import Traced

DESCRIPTION: Final = "Post events; models learn from each one as it arrives; ask them for predictions and recommendations."

__all__ = ["Deps", "create_app"]


def create_app(deps: Deps) -> FastAPI:
    """The service over `deps`; it polls and flushes from its lifespan's start to its end.

    Raises ConfigError when it would be reachable from other machines without an API key.
    """
    keys = KeyWatch(deps.log, deps.api_keys, deps.settings.serve.host, deps.clock)
    keys.poll()
    check_bind(deps.settings.serve.host, keys.valid())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        hub: Shared = app.state.shared
        await asyncio.to_thread(hub.holder.start)
        app.state.indexes.start()
        hub.buffer.start()
        app.state.live.start()
        hub.keys.start()
        hub.refusals.start()
        try:
            yield
        finally:
            await app.state.live.closed()
            await hub.refusals.close()
            await hub.buffer.close()
            await asyncio.to_thread(hub.keys.close)
            await asyncio.to_thread(app.state.indexes.close)
            await asyncio.to_thread(hub.holder.close)

    app = FastAPI(
        title="streamlearn", version=__version__, description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    shares = deps.shared_metrics
    metrics = Metrics(deps.registry if shares is None else CollectorRegistry())
    if shares is not None:
        together(deps.registry, shares)
    identity = deps.log.identity
    renewed = deps.renewed or identity
    holder = Holder(deps.settings, deps.store, deps.keys, identity, renewed, metrics, deps.clock, deps.timer)
    watch(deps.registry, lambda: figures(holder, deps.timer(), deps.clock()))
    ingest = Ingest(deps.settings, deps.log, metrics, deps.clock)

    async def write(record: Refused) -> int:
        return await ingest.append_one(CONTROL, Entry(record.by.encode(), encode(record)))

    refusals = Refusals(write, deps.clock, deps.timer)
    buffer = PredictionBuffer(deps.log, deps.settings.serve.prediction_buffer, metrics)
    pasts = Pasts(deps.settings, deps.store)
    app.state.shared = Shared(deps, metrics, holder, ingest, buffer, keys, refusals, Buckets(deps.timer), pasts)
    app.state.audit = Audit(deps.store)
    app.state.live = routes_live.live_of(app.state.shared)
    app.state.titles = routes_shop.Titles(deps.timer)
    app.state.predictor = routes_predict.Predictor(app.state.shared)
    app.state.indexes = Indexes(deps.settings, holder, deps.timer)
    app.state.recommending = Recommending(app.state.shared, app.state.indexes)
    routers = (
        routes_predict, routes_recommend, routes_events, routes_models, routes_cases, routes_inputs, routes_history,
        routes_versions, routes_rewind, routes_session, routes_service, routes_live, routes_dashboard, routes_shop,
    )  # fmt: skip
    for routes in routers:
        app.router.routes.extend(routes.router.routes)  # flat: an included router is matched in two steps, and slower
    problems.install(app)
    openapi.install(app, secured=keys.required)
    app.add_middleware(Gate, shared=app.state.shared)
    app.add_middleware(Headers)
    app.add_middleware(Timed, metrics=metrics)  # added last, so outermost: it sees what the gate refuses
    if deps.tracing is not None:
        app.add_middleware(Traced, tracing=deps.tracing)
    return app


class Timed:
    """ASGI middleware: every request's time, by route and status. A child of the histogram is looked up once for each."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._requests = app, metrics.requests
        self._children: dict[tuple[str, str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route: Any = scope.get("route")
            key = (scope["method"], route.path, status) if route is not None else ("other", "other", status)
            child = self._children.get(key)
            if child is None:
                child = self._children[key] = self._requests.labels(*map(str, key))
            child.observe(perf_counter() - began)
