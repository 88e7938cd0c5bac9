"""The OpenAPI document: schemas from the wire types, an example for every operation, and the index page that needs no network.

Routes decode with msgspec, so that FastAPI's own model handling stays off the hot path; this module tells FastAPI what it
would otherwise have worked out. It must never be called while a request is answered, but for the two pages themselves.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from .. import events, wire
from .headers import policy
from .problems import CATALOGUE, MEDIA_TYPE
from .scopes import rule
from .sessions import COOKIE

TYPES: Final[tuple[type, ...]] = (
    events.Event, wire.EventsAnswer, wire.Instance, wire.Batch, wire.PredictAnswer, wire.BatchAnswer,
    wire.RecommendAsk, wire.RecommendAnswer, wire.SimilarAnswer, wire.ModelView,
    wire.Models, wire.Page, wire.AuditPage, wire.Marks, wire.VersionView, wire.VersionDiff, wire.History, wire.Fleet, wire.Ask,
    wire.Asked, wire.RewindPlan, wire.Alive, wire.Ready, wire.SignIn, wire.SessionView, wire.Problem,
)
_, COMPONENTS = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")


class PlainRoute(APIRoute):
    """A documented route whose endpoint takes the raw request and gives the response: no models in between."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        endpoint: Callable[[Request], Awaitable[Response]] = self.endpoint
        return endpoint


def ref(kind: type) -> dict[str, str]:
    """The schema reference of a wire type."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def content(kind: type, *examples: tuple[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    """A media type object with its schema and named examples."""
    return {media_type: {"schema": ref(kind), "examples": {name: {"value": value} for name, value in examples}}}


def answer(status: int, description: str, body: dict[str, Any]) -> dict[str, Any]:
    return {str(status): {"description": description, "content": body}}


def problems(*kinds: str) -> dict[str, Any]:
    """Responses for kinds of the problem catalogue, with an example each; kinds of one status share a response."""
    out: dict[str, Any] = {}
    for kind in kinds:
        entry = CATALOGUE[kind]
        example = {
            "type": f"/problems/{kind}", "title": entry.title, "status": entry.status, "detail": entry.explanation,
            "instance": "/v1/…",
        }
        empty = {"description": entry.title, "content": {MEDIA_TYPE: {"schema": ref(wire.Problem), "examples": {}}}}
        out.setdefault(str(entry.status), empty)["content"][MEDIA_TYPE]["examples"][kind] = {"value": example}
    return out


def path_parameter(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name, "in": "path", "required": True, "description": description,
        "schema": {"type": "string"}, "example": example,
    }


def query_parameter(name: str, description: str, schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema, "example": example}


def operation(
    *, responses: Sequence[dict[str, Any]], body: dict[str, Any] | None = None, parameters: Sequence[dict[str, Any]] = (),
    body_required: bool = True,
) -> dict[str, Any]:
    """What `openapi_extra` of a route says."""
    merged: dict[str, Any] = {}
    for group in responses:
        merged |= group
    out: dict[str, Any] = {"responses": dict(sorted(merged.items()))}
    if body is not None:
        out["requestBody"] = {"required": body_required, "content": body}
    if parameters:
        out["parameters"] = list(parameters)
    return out


def install(app: FastAPI, *, secured: bool) -> None:
    """Give `app` its OpenAPI document, made once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
            )
            for route in app.routes:
                if isinstance(route, PlainRoute) and route.include_in_schema:
                    for method in route.methods or ():
                        # Once more, and whole: FastAPI drops the nulls from examples.
                        operation = found["paths"][route.path_format][method.lower()]
                        operation.update(route.openapi_extra or {})
                        operation["x-scope"] = rule(method, route.path_format).scope
            components = found.setdefault("components", {})
            components.setdefault("schemas", {}).update(COMPONENTS)
            if secured:
                components["securitySchemes"] = {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
                }
                found["security"] = [{"bearer": []}, {"header": []}, {"session": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend the document


_STYLE: Final = (
    "body{font:16px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em}"
    "pre{background:#f4f4f4;padding:.6em;overflow:auto}"
)
INDEX_HEADERS: Final = {  # the page's own style is let, named by its digest, and nothing else
    "Content-Security-Policy": policy(
        style_src=f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'", script_src="'none'"
    )
}


def index_page(document: dict[str, Any]) -> str:
    """All operations with a curl example each, as one HTML page without scripts, styles or fonts from elsewhere."""
    rows = []
    for path, methods in document["paths"].items():
        for method, spec in methods.items():
            rows.append(
                f"<h3><code>{method.upper()} {html.escape(path)}</code></h3><p>{html.escape(spec.get('summary', ''))}. "
                f"{html.escape(spec.get('description', ''))}</p><pre>{html.escape(_curl(path, method, spec))}</pre>"
            )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>streamlearn</title>"
        f"<style>{_STYLE}</style>"
        f"<h1>{html.escape(document['info']['title'])} {html.escape(document['info']['version'])}</h1>"
        f"<p>{html.escape(document['info'].get('description', ''))}</p>"
        "<p>The whole contract: <a href=/openapi.json>/openapi.json</a>.</p>" + "".join(rows)
    )


def _curl(path: str, method: str, spec: dict[str, Any]) -> str:
    for parameter in spec.get("parameters", ()):
        path = path.replace("{" + parameter["name"] + "}", str(parameter["example"]))
    line = f"curl -X {method.upper()} http://127.0.0.1:8321{path}" if method != "get" else f"curl http://127.0.0.1:8321{path}"
    for media_type, body in spec.get("requestBody", {}).get("content", {}).items():
        example = next(iter(body["examples"].values()))["value"]
        text = example if isinstance(example, str) else json.dumps(example)
        return f"{line} \\\n  -H 'Content-Type: {media_type}' -d '{text}'"
    return line
