"""The OpenAPI document holds what it says: every operation has examples, and each example works against the running app."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from streamlearn import wire
from streamlearn.log import Entry
from streamlearn.serving.examples import AUDIT_ID, HISTORY, VERSION
from streamlearn.serving.openapi import COMPONENTS
from streamlearn.serving.problems import CATALOGUE


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, spec) for path, methods in document["paths"].items() for method, spec in methods.items()]


def fill(path: str, spec: dict[str, Any]) -> str:
    for parameter in spec.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", str(parameter["example"]))
    return path


def query(spec: dict[str, Any]) -> dict[str, Any]:
    return {parameter["name"]: parameter["example"] for parameter in spec.get("parameters", ()) if parameter["in"] == "query"}


def prepare(world: Any) -> None:
    """Publishes and keeps what the examples ask for."""
    world.publish_all()
    world.memory_log.create({"flights": 1})
    world.memory_log.append("flights", [Entry(b"k", b"{}")] * 10).result()  # a place in it is an example
    for kind, id in (("case", "delay-17"), ("audit", AUDIT_ID)):
        world.view(kind, id, {"model": "delay"})
    for version in (1, 2):
        world.view("version", f"delay@{version}", VERSION | {"version": version})
    world.view("history", "delay", HISTORY)


@pytest.fixture
def document(shop: Any) -> dict[str, Any]:
    return json.loads(json.dumps(shop.make().openapi()))


def test_every_path_of_the_api_is_there(document: dict[str, Any]) -> None:
    assert {f"{method.upper()} {path}" for path, method, _ in operations(document)} == {
        "POST /v1/events", "POST /v1/predict/{model}", "POST /v1/predict/{model}/batch",
        "POST /v1/recommend/{model}", "GET /v1/recommend/{model}", "POST /v1/rank/{model}", "GET /v1/similar/{model}/{item}",
        "GET /v1/models", "GET /v1/models/{model}", "GET /v1/models/{model}/versions",
        "GET /v1/models/{model}/versions/{version}", "GET /v1/models/{model}/history", "GET /v1/fleet",
        "GET /v1/models/{model}/versions/{version}/diff", "GET /v1/models/{model}/marks", "GET /v1/models/{model}/features",
        "GET /v1/models/{model}/labels",
        "GET /v1/cases", "GET /v1/cases/{case}", "GET /v1/audit",
        *(f"POST /v1/models/{{model}}/{action}" for action in ("retrain", "cancel", "promote", "rollback", "hold", "resume")),
        "POST /v1/models/{model}/silence",
        "GET /v1/models/{model}/rewind", "POST /v1/models/{model}/rewind",
        "GET /v1/session", "POST /v1/session", "DELETE /v1/session",
        "GET /v1/live", "GET /healthz", "GET /readyz", "GET /metrics", "GET /problems/{kind}",
    }  # fmt: skip


def test_every_operation_is_explained_and_has_examples_of_what_it_takes_and_gives(document: dict[str, Any]) -> None:
    for path, method, spec in operations(document):
        where = f"{method} {path}"
        assert spec["summary"], where
        assert spec["description"], where
        assert spec["tags"], where
        declared = {parameter["name"] for parameter in spec.get("parameters", ()) if parameter["in"] == "path"}
        assert {part[1:-1] for part in path.split("/") if part.startswith("{")} == declared, where
        if method == "post":
            assert spec["requestBody"]["content"], where
        for body in spec.get("requestBody", {}).get("content", {}).values():
            assert body["examples"], where
            assert body["schema"], where
        assert {status for status in spec["responses"] if status < "300"} in ({"200"}, {"202"}), where
        for status, response in spec["responses"].items():
            for media_type, body in response["content"].items():
                assert body["examples"], f"{where} {status}"
                assert (media_type == "application/problem+json") == (int(status) >= 400), f"{where} {status}"


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [spec["operationId"] for _, _, spec in operations(document)]
    assert len(ids) == len(set(ids))


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [ref for inner in value.values() for ref in references(inner)]
        return [ref for inner in value for ref in references(inner)] if isinstance(value, list) else []

    found = set(references(document))
    assert found
    for ref in found:
        assert ref.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_every_example_of_an_answer_is_one(document: dict[str, Any]) -> None:
    checked = 0
    for path, _, spec in operations(document):
        for response in spec["responses"].values():
            for body in response["content"].values():
                name = body["schema"].get("$ref", "").rpartition("/")[2]
                kind = getattr(wire, name, None)
                for example in body["examples"].values():
                    if kind is not None:
                        found = msgspec.convert(example["value"], kind)
                        if name != "Problem":
                            again = msgspec.to_builtins(found)
                            assert set(again) == set(example["value"]), f"{path} {name}"
                        checked += 1
    assert checked > 30


def test_every_example_of_a_request_does_what_it_promises(shop: Any) -> None:
    world = shop
    prepare(world)
    sent = 0

    async def story(http: Any) -> None:
        nonlocal sent
        for path, method, spec in operations(world.app.openapi()):
            promised = {int(status) for status in spec["responses"] if status < "300"}
            bodies = [
                (media_type, example["value"])
                for media_type, body in spec.get("requestBody", {}).get("content", {}).items()
                for example in body["examples"].values()
            ]
            for media_type, value in bodies or [(None, None)]:
                content = None if value is None else value if isinstance(value, str) else json.dumps(value)
                headers = {} if media_type is None else {"content-type": media_type}
                got = await http.request(method, fill(path, spec), content=content, headers=headers, params=query(spec))
                assert got.status_code in promised, f"{method} {path} {value}: {got.text}"
                schema = next(iter(spec["responses"][str(got.status_code)]["content"].values()))["schema"]
                kind = getattr(wire, schema.get("$ref", "").rpartition("/")[2], None)
                if kind is not None:
                    msgspec.json.decode(got.content, type=kind)
                sent += 1

    world.run(story)
    assert sent > 25


def test_every_documented_problem_is_of_the_catalogue_and_every_answered_one_is_documented(shop: Any) -> None:
    world = shop
    prepare(world)

    async def story(http: Any) -> None:
        for path, method, spec in operations(world.app.openapi()):
            documented = {int(status) for status in spec["responses"]}
            assert documented <= {entry.status for entry in CATALOGUE.values()} | {200, 202}
            if method != "post":
                continue
            for content in (b"hello", b"x" * 9_000_000, b"17"):
                got = await http.post(fill(path, spec), content=content, headers={"content-type": "application/json"})
                assert got.status_code in documented, f"{path}: {got.status_code}"

    world.run(story)


def test_security_is_described_when_there_are_keys(world: Any) -> None:
    assert "securitySchemes" not in world.make().openapi()["components"]
    other = type(world)(api_keys={"app": "0123456789abcdef"})
    assert set(other.make().openapi()["components"]["securitySchemes"]) == {"bearer", "header", "session"}


def test_the_types_that_applications_send_are_described() -> None:
    assert {"Event", "Instance", "Batch", "Ask", "Problem", "PredictAnswer", "Position", "RecommendAsk"} <= set(COMPONENTS)
    assert set(COMPONENTS["Instance"]["properties"]) == {"x", "id", "key", "ts", "log"}
    assert COMPONENTS["Instance"]["required"] == ["x"]
