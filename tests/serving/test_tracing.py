"""Traces of the HTTP edge reach a real OTLP receiver; without an endpoint there are none, without the library that is said."""

from __future__ import annotations

import dataclasses
import gzip
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streamlearn.config import ConfigErrors, parse
from streamlearn.errors import ConfigError, LogUnavailable
from streamlearn.serving.app import create_app
from streamlearn.serving.tracing import VARIABLE, Traced, endpoint_of, open_tracing
from streamlearn.telemetry import CollectorRegistry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Collector:
    """Takes OTLP over HTTP on loopback."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.paths: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                found = ExportTraceServiceRequest.FromString(body)
                collector.paths.append(self.path)
                for resource in found.resource_spans:
                    collector.resources.append({pair.key: pair.value.string_value for pair in resource.resource.attributes})
                    collector.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


def attributes(span: Any) -> dict[str, Any]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


def traced(world: Any, tracing: Any, story: Any, flush: bool = True) -> None:
    """Run the story against an app with tracing, then send what waits."""
    make = world.make

    def made() -> Any:
        make()
        world.app = create_app(dataclasses.replace(world.hub.deps, tracing=tracing, registry=CollectorRegistry()))
        return world.app

    world.make = made
    try:
        world.run(story)
        if flush:
            tracing.flush()
    finally:
        tracing.close()


def test_events_and_predictions_come_as_spans_with_route_and_status(world: Any, collector: Collector) -> None:
    world.publish()
    tracing = open_tracing(collector.url + "/", {})
    answers: dict[str, Any] = {}

    async def story(http: Any) -> None:
        parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        body = {"stream": "flights", "id": "a", "x": {"a": 1.0}}
        answers["events"] = await http.post("/v1/events", json=body, headers=parent)
        answers["predict"] = await http.post("/v1/predict/delay?secret=1", json={"x": {"a": 1.0}})
        answers["none"] = await http.post("/v1/predict/nobody", json={"x": {}})
        await http.get("/nowhere")
        await http.get("/healthz")
        await http.get("/metrics")

    traced(world, tracing, story)
    assert answers["events"].status_code == 200
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "streamlearn"
    [events] = collector.named("POST /v1/events")
    assert (events.trace_id.hex(), events.parent_span_id.hex(), events.kind) == (TRACE, PARENT, 2)  # 2: SERVER
    assert attributes(events) == {
        "http.request.method": "POST", "url.path": "/v1/events", "url.scheme": "http", "http.route": "/v1/events",
        "http.response.status_code": 200,
    }  # fmt: skip
    assert events.end_time_unix_nano > events.start_time_unix_nano
    assert answers["events"].headers["traceparent"] == f"00-{TRACE}-{events.span_id.hex()}-01"
    good, missing = collector.named("POST /v1/predict/{model}")
    assert attributes(good)["url.path"] == "/v1/predict/delay"
    assert [attributes(span)["http.response.status_code"] for span in (good, missing)] == [200, 404]
    assert answers["predict"].headers["traceparent"].split("-")[1] == good.trace_id.hex() != TRACE
    assert [attributes(span)["http.response.status_code"] for span in collector.named("GET")] == [404]
    assert len(collector.spans) == 4  # not the probes


def test_a_failure_of_ours_is_an_error_and_a_garbled_parent_is_none(world: Any, collector: Collector) -> None:
    tracing = open_tracing("", {VARIABLE: collector.url, "OTEL_SERVICE_NAME": "learning"})
    world.log_faults.fail("append", LogUnavailable("locked"), times=100)

    async def story(http: Any) -> None:
        body = {"stream": "flights", "id": "a", "x": {"a": 1.0}}
        assert (await http.post("/v1/events", json=body, headers={"traceparent": b"rubbish-\xff"})).status_code == 503

    traced(world, tracing, story)
    [span] = collector.spans
    assert (span.parent_span_id, span.status.code) == (b"", 2)  # 2: ERROR
    assert collector.resources[0]["service.name"] == "learning"


def test_without_an_endpoint_nothing_is_in_the_way(world: Any) -> None:
    assert open_tracing("", {}) is None
    world.publish()

    async def story(http: Any) -> None:
        assert "traceparent" not in (await http.post("/v1/predict/delay", json={"x": {}})).headers

    world.run(story)
    assert Traced not in [one.cls for one in world.app.user_middleware]


@pytest.mark.parametrize(("setting", "environ", "key"), [
    ("http://h:4318", {}, "serve.otlp_endpoint"), ("", {VARIABLE: "http://h:4318"}, VARIABLE),
])  # fmt: skip
def test_without_the_libraries_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, setting: str, environ: dict[str, str], key: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(ConfigError, match=r"pip install 'streamlearn\[otel\]'") as caught:
        open_tracing(setting, environ)
    assert caught.value.key == key


def test_the_setting_goes_before_the_variable() -> None:
    assert endpoint_of("http://a/", {VARIABLE: "http://b"}) == "http://a"
    assert endpoint_of("", {VARIABLE: "http://b/"}) == "http://b"
    assert endpoint_of("", {}) == ""


def test_an_endpoint_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigErrors, match=r"serve\.otlp_endpoint: 'collector:4318' is no web address"):
        parse({"streams": {"s": {}}, "serve": {"otlp_endpoint": "collector:4318"}}, {})


def test_a_collector_that_is_not_there_fails_no_request_and_is_not_waited_for(world: Any) -> None:
    world.publish()
    tracing = open_tracing("http://127.0.0.1:9", {})

    async def story(http: Any) -> None:
        assert (await http.post("/v1/predict/delay", json={"x": {}})).status_code == 200

    began = time.monotonic()
    traced(world, tracing, story, flush=False)
    assert time.monotonic() - began < 15.0
