"""What every answer tells a browser: nothing from elsewhere, nothing inline, no other type than it says."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest

from streamlearn.serving.headers import API_HEADERS, HEADERS, policy

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def directives(text: str) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in text.split(";"))


def test_nothing_is_let_but_the_services_own_files() -> None:
    found = directives(policy())
    assert found["default-src"] == "'none'"
    assert found["script-src"] == found["style-src"] == found["connect-src"] == "'self'"
    assert found["frame-ancestors"] == found["base-uri"] == "'none'"
    assert "unsafe" not in policy()
    assert "*" not in policy()


def test_every_answer_has_them_whatever_it_is(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish_all()

    async def story(http: Any) -> None:
        world.hub.holder.control["ctr"] = None  # a fault of the service: 500
        asked = [
            ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/models/delay"), ("GET", "/metrics"), ("GET", "/openapi.json"),
            ("GET", "/nowhere"), ("DELETE", "/v1/models"), ("POST", "/v1/events"), ("GET", "/v1/models/ctr"), ("GET", "/"),
            ("GET", "/v1/session"), ("GET", "/problems/csrf"), ("POST", "/v1/predict/delay"),
        ]  # fmt: skip
        codes = set()
        for method, path in asked:
            got = await http.request(method, path)
            codes.add(got.status_code)
            of_data = path.startswith(("/v1/", "/metrics")) and got.status_code != 500
            for name in API_HEADERS if of_data else HEADERS:
                assert len(got.headers.get_list(name)) == 1, f"{path}: {name}"
            assert got.headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in got.headers["content-security-policy"]
            assert "default-src 'none'" in got.headers["content-security-policy"]
            if of_data:
                assert got.headers["cache-control"] == "no-store", path
            if got.headers["content-type"].startswith("text/html"):
                assert path in ("/", "/api")
        got = await http.get("/v1/models", headers={"host": "evil.example"})
        assert (got.status_code, got.headers["x-content-type-options"]) == (403, "nosniff")
        assert codes >= {200, 404, 405, 400, 500}

    world.run(story)


def test_the_index_of_the_api_has_its_own_style_by_its_digest_and_no_script(world: Any) -> None:
    async def story(http: Any) -> None:
        for path in ("/api", "/"):
            got = await http.get(path)
            if "<h3>" in got.text:
                break
        found = directives(got.headers["content-security-policy"])
        [style] = re.findall(r"<style>(.*?)</style>", got.text, re.S)
        assert found["style-src"] == f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
        assert found["script-src"] == "'none'"
        assert re.findall(r"<script|style=|\son\w+=|https?://(?!127\.0\.0\.1)", got.text) == []

    world.run(story)


def test_what_is_posted_comes_back_as_json_never_as_a_page(world: Any) -> None:
    world.publish_all()
    world.view("case", HOSTILE, {"model": "delay", "why": HOSTILE})
    world.view("audit", "1", {"type": "decision", "model": "delay", "why": HOSTILE, "by": HOSTILE})

    async def story(http: Any) -> None:
        quoted = HOSTILE.replace("/", "%2F").replace("<", "%3C").replace(">", "%3E").replace(" ", "%20")
        asked = [
            await http.post("/v1/events", json={"id": HOSTILE, "stream": HOSTILE, "x": {HOSTILE: HOSTILE}}),
            await http.post("/v1/events", json={"id": HOSTILE, "stream": "flights", "x": {HOSTILE: HOSTILE}}),
            await http.post("/v1/predict/delay", json={"x": {HOSTILE: HOSTILE}, "id": HOSTILE}),
            await http.post("/v1/models/delay/hold", json={"reason": HOSTILE}, headers={"x-streamlearn-user": HOSTILE}),
            await http.post("/v1/session", json={"key": HOSTILE, HOSTILE: 1}),
            await http.get(f"/v1/models/{quoted}"),
            await http.get(f"/v1/cases/{quoted}"),
            await http.get(f"/v1/audit?after={quoted}"),
            await http.get("/v1/audit"),
            await http.get(f"/problems/{quoted}"),
            await http.get(f"/{quoted}"),
        ]
        for got in asked:
            media_type = got.headers["content-type"].partition(";")[0]
            assert media_type in ("application/json", "application/problem+json"), got.request.url
            assert got.headers["x-content-type-options"] == "nosniff"
            assert got.json() is not None
        assert sum(HOSTILE in got.text for got in asked) >= 3, "it does come back, as a JSON string"

    world.run(story)
