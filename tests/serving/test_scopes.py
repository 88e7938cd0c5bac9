"""The table of scopes holds every route of the app, and the gate keeps to it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Mount, Route

from streamlearn.apikeys import SCOPES
from streamlearn.serving import scopes
from streamlearn.serving.scopes import ANY, OPEN, TABLE, rule

SECRETS = {scope: f"secret-that-may-{scope}" for scope in SCOPES}


def routes(app: Any) -> list[tuple[str, str]]:
    """(method, a path that the route takes) of every route; of a mount, a path below it."""
    found = []
    for route in app.routes:
        if isinstance(route, Mount):
            found += [("GET", f"{route.path}/app.js")]
        else:
            assert isinstance(route, Route), f"{route!r} is of a kind that this test does not know"
            found += [(method, route.path_format) for method in route.methods or ()]
    return found


def test_every_route_of_the_app_is_in_the_table(world: Any) -> None:
    found = routes(world.make())
    assert len(found) > 25
    for method, path in found:
        assert rule(method, path).path is not None, f"{method} {path} is in no row of the table of scopes"


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/events", "write"),
        ("POST", "/v1/predict/delay", "predict"),
        ("POST", "/v1/predict/delay/batch", "predict"),
        ("GET", "/v1/models", "read"),
        ("HEAD", "/v1/models", "read"),
        ("GET", "/v1/models/delay/rewind", "read"),
        ("GET", "/v1/live", "read"),
        ("GET", "/v1/fleet", "read"),
        ("GET", "/metrics", "read"),
        ("POST", "/v1/models/delay/rewind", "operate"),
        ("POST", "/v1/models/delay/silence", "operate"),
        ("GET", "/", OPEN),
        ("GET", "/dashboard/lib/dom.js", OPEN),
        ("GET", "/healthz", OPEN),
        ("GET", "/readyz", OPEN),
        ("DELETE", "/v1/session", OPEN),
        ("GET", "/openapi.json", ANY),
        ("GET", "/healthz/", ANY),
        ("POST", "/healthz", ANY),
        ("GET", "/dashboard", ANY),
        ("DELETE", "/v1/models/delay", ANY),
        ("POST", "/v1/models", ANY),
        ("POST", "/v1/models/delay/x/retrain", ANY),
    ],
)
def test_what_is_needed(method: str, path: str, scope: str) -> None:
    assert rule(method, path).scope == scope


def test_long_paths_are_judged_alike_and_not_remembered() -> None:
    before = scopes._remembered.cache_info().currsize
    for n in range(50):
        assert rule("POST", f"/v1/models/{n}{'x' * 300}/hold").scope == "operate"
        assert rule("GET", f"/{n}{'x' * 300}").path is None
    assert scopes._remembered.cache_info().currsize == before


def test_each_scope_is_used_and_no_other() -> None:
    assert {scope for _, _, scope in TABLE} == {*SCOPES, OPEN, ANY}


def test_a_key_does_what_its_scopes_say_and_nothing_else(world: Any) -> None:
    """Every route that needs a scope, asked with each key in turn: 403 says which scope lacks, for all but the one."""
    world.api_keys = {f"only-{scope}+{scope}": secret for scope, secret in SECRETS.items()}
    world.tree["serve"] = {"rates": {"operate": 0}}
    world.publish_all()
    asked = 0

    async def story(http: Any) -> None:
        nonlocal asked
        for method, template in routes(world.app):
            needs = rule(method, template).scope
            if needs in (OPEN, ANY):
                continue
            path = template.replace("{model}", "delay").replace("{version}", "1").replace("{case}", "delay-1")
            if path == "/v1/live":
                continue  # answers as long as it is listened to
            for scope, secret in SECRETS.items():
                body = {"x": {}, "id": "a", "stream": "flights"}
                got = await http.request(method, path, headers={"x-api-key": secret}, json=body)
                asked += 1
                if scope == needs:
                    assert got.status_code not in (401, 403), f"{method} {path}: {got.text}"
                else:
                    assert got.status_code == 403, f"{method} {path} with {scope}"
                    problem = got.json()
                    assert (problem["type"], problem["scope"]) == ("/problems/scope", needs)

    world.run(story)
    assert asked > 60


def test_what_is_no_route_is_told_to_whoever_holds_any_key(world: Any) -> None:
    world.api_keys = {"app+write": SECRETS["write"]}

    async def story(http: Any) -> None:
        http.headers["x-api-key"] = SECRETS["write"]
        assert (await http.get("/nowhere")).status_code == 404
        assert (await http.get("/v1/events")).status_code == 403
        assert (await http.delete("/v1/events")).status_code == 405
        assert (await http.get("/problems/scope")).json()["status"] == 403
        assert (await http.get("/openapi.json")).status_code == 200
        del http.headers["x-api-key"]
        assert (await http.get("/nowhere")).status_code == 401

    world.run(story)


def test_the_document_says_which_scope_is_needed(world: Any) -> None:
    paths = world.make().openapi()["paths"]
    assert paths["/v1/events"]["post"]["x-scope"] == "write"
    assert paths["/v1/models/{model}/hold"]["post"]["x-scope"] == "operate"
    assert paths["/healthz"]["get"]["x-scope"] == OPEN
