"""Optional traces of the HTTP edge, by OpenTelemetry: a span a request, sent to a collector over OTLP/HTTP.

Off unless an endpoint is set, and then nothing of it is in the way of a request. A caller's `traceparent` is taken in, so that
the span hangs below the caller's; the answer carries the span's own, so that a caller without one can find it. What a span says
follows the stable conventions for HTTP servers; a query, a body or a header is never in it. The library's own variables
(OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_…) count as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..errors import ConfigError

VARIABLE: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
# Asked every few seconds by machines, and of no interest; and the stream that a dashboard holds open for hours.
UNTRACED: Final = frozenset({"/healthz", "/readyz", "/metrics", "/v1/live"})
TIMEOUT_S: Final = 5.0
_TAKEN_IN: Final = frozenset({b"traceparent", b"tracestate"})


class Tracing:
    """What makes spans and sends them, a batch at a time from a thread of its own; `close` sends what is left."""

    def __init__(self, tracer: Any, provider: Any) -> None:
        self.tracer = tracer
        self._provider = provider

    def flush(self) -> None:
        """Send what waits, now."""
        self._provider.force_flush()

    def close(self) -> None:
        """Send what waits, and stop. A collector that is not there is not waited for."""
        self._provider.shutdown()


def endpoint_of(setting: str, environ: Mapping[str, str]) -> str:
    """The collector's address, by the setting, else by the variable; empty when tracing is off."""
    return (setting or environ.get(VARIABLE, "")).rstrip("/")


def open_tracing(setting: str, environ: Mapping[str, str]) -> Tracing | None:
    """Tracing to the collector at `setting` or in the environment, None when there is neither.

    Raises ConfigError when the libraries are not installed.
    """
    endpoint = endpoint_of(setting, environ)
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise without_extra(setting, error) from None
    name = environ.get("OTEL_SERVICE_NAME", "streamlearn")
    provider = TracerProvider(resource=Resource.create({"service.name": name, "service.version": __version__}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider.get_tracer("streamlearn.serving", __version__), provider)


def without_extra(setting: str, error: ImportError) -> ConfigError:
    """What to tell when traces are asked for and cannot be made."""
    key = "serve.otlp_endpoint" if setting else VARIABLE
    fix = "Install them with: pip install 'streamlearn[otel]', or take it away"
    return ConfigError(key, f"traces need OpenTelemetry's libraries ({error})", fix)


class Traced:
    """ASGI middleware: a span around each request, named by its route; outermost, so that it sees what is refused too."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, use_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app, self._tracer = app, tracing.tracer
        self._kind, self._failed, self._use = SpanKind.SERVER, Status(StatusCode.ERROR), use_span
        self._context = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNTRACED:
            await self._app(scope, receive, send)
            return
        came = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _TAKEN_IN}
        method = scope["method"]
        span = self._tracer.start_span(
            method, self._context.extract(came), self._kind,
            {"http.request.method": method, "url.path": scope["path"], "url.scheme": scope.get("scheme", "http")},
        )  # fmt: skip
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given: dict[str, str] = {}
                self._context.inject(given)
                headers = [*message.get("headers", ()), *((name.encode(), value.encode()) for name, value in given.items())]
                message = {**message, "headers": headers}
            await send(message)

        with self._use(span, end_on_exit=True):
            try:
                await self._app(scope, receive, watched)
            finally:
                route: Any = scope.get("route")
                if route is not None:
                    span.update_name(f"{method} {route.path}")
                    span.set_attribute("http.route", route.path)
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(self._failed)
