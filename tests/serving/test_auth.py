"""Who may speak to the service: keys from the environment, binding, the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamlearn.apikeys import given
from streamlearn.errors import ConfigError
from streamlearn.log import CONTROL
from streamlearn.records import Request, decode_control
from streamlearn.serving.access import check_bind, is_loopback, load_api_keys

SECRET = "0123456789abcdef"
OTHER = "fedcba9876543210"


def loaded(text: str) -> dict[str, tuple[str, ...]]:
    """Scopes by name; that each key opens with its own secret is `given`'s."""
    return {key.name: tuple(sorted(key.scopes)) for key in load_api_keys({"STREAMLEARN_API_KEYS": text})}


def test_keys_come_by_name(caplog: pytest.LogCaptureFixture) -> None:
    assert load_api_keys({"STREAMLEARN_API_KEYS": f"app:{SECRET}, ops:{OTHER},"}) == [given("app", SECRET), given("ops", OTHER)]
    assert load_api_keys({}) == []
    assert load_api_keys({"STREAMLEARN_API_KEYS": " "}) == []
    assert caplog.text == ""


def test_keys_come_from_a_file_each_on_a_line(tmp_path: Path) -> None:
    path = tmp_path / "api_keys"
    path.write_text(f"app:{SECRET}\nops:{OTHER}\n")
    assert load_api_keys({"STREAMLEARN_API_KEYS_FILE": str(path)}) == [given("app", SECRET), given("ops", OTHER)]
    with pytest.raises(ConfigError, match=r"STREAMLEARN_API_KEYS_FILE: .* cannot be read"):
        load_api_keys({"STREAMLEARN_API_KEYS_FILE": str(tmp_path)})


def test_a_colon_may_be_in_a_secret() -> None:
    assert load_api_keys({"STREAMLEARN_API_KEYS": f"app:{SECRET}:x"}) == [given("app", SECRET + ":x")]


def test_a_key_of_the_environment_may_have_scopes() -> None:
    text = f"app:{SECRET}, prometheus+read:{OTHER}, shop+write+predict:{OTHER}1"
    assert loaded(text) == {
        "app": ("operate", "predict", "read", "write"), "prometheus": ("read",), "shop": ("predict", "write"),
    }  # fmt: skip


@pytest.mark.parametrize("label", ["app+raed", "app+", "app+read+"])
def test_a_scope_that_there_is_not_does_not_start(label: str) -> None:
    with pytest.raises(ConfigError, match=r"STREAMLEARN_API_KEYS \(app\): there is no scope .* Write some of write, predict"):
        loaded(f"{label}:{SECRET}")


@pytest.mark.parametrize("text", ["justasecret", ":secret", "app:", f"app:{SECRET},app:{OTHER}", "a\x07b:secret"])
def test_what_is_no_key_does_not_start_and_is_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match="STREAMLEARN_API_KEYS") as caught:
        load_api_keys({"STREAMLEARN_API_KEYS": text})
    assert SECRET not in str(caught.value)
    assert "name:secret" in caught.value.fix


def test_a_secret_that_can_be_guessed_is_warned_of_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    assert load_api_keys({"STREAMLEARN_API_KEYS": "app:hunter2"}) == [given("app", "hunter2")]
    assert "can be guessed" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    check_bind(host, [])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.3", "example.org", "", "127.0.0.1.example.org", "localhost.a.org"])
def test_elsewhere_a_key_is_needed(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match=r"serve\.host"):
        check_bind(host, [])
    check_bind(host, [given("app", SECRET)])


def test_without_keys_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    check_bind("127.0.0.1", [])
    assert "everyone on this machine may use the API" in caplog.text


def test_the_app_is_not_made_for_the_world_without_a_key(world: Any) -> None:
    world.tree["serve"] = {"host": "0.0.0.0"}
    with pytest.raises(ConfigError, match=r"serve\.host"):
        world.make()
    world.api_keys = {"app": SECRET}
    world.make()


@pytest.mark.parametrize(
    "headers",
    [{"authorization": f"Bearer {SECRET}"}, {"authorization": f"bearer  {OTHER} "}, {"x-api-key": SECRET}],
)
def test_a_known_key_opens(world: Any, headers: dict[str, str]) -> None:
    world.api_keys = {"app": SECRET, "ops": OTHER}

    async def story(http: Any) -> None:
        assert (await http.get("/v1/models", headers=headers)).status_code == 200
        # with keys, another name for this machine is no reason to refuse
        assert (await http.get("/v1/models", headers=headers | {"host": "api.example.org"})).status_code == 200

    world.run(story)


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer "}, {"authorization": f"Basic {SECRET}"}, {"x-api-key": SECRET[:-1]}, {"x-api-key": "app"}],
)
def test_anything_else_is_401_everywhere_but_for_the_probes(world: Any, headers: dict[str, str]) -> None:
    world.api_keys = {"app": SECRET}
    world.publish_all()

    async def story(http: Any) -> None:
        for method, path in [
            ("GET", "/v1/models"), ("POST", "/v1/events"), ("POST", "/v1/predict/delay"), ("GET", "/metrics"), ("GET", "/api"),
            ("GET", "/openapi.json"), ("GET", "/nowhere"), ("POST", "/v1/models/delay/retrain"), ("GET", "/healthz/"),
        ]:  # fmt: skip
            got = await http.request(method, path, headers=headers, json={"x": {}})
            assert got.status_code == 401, path
            assert got.headers["www-authenticate"] == "Bearer"
            assert got.json()["type"] == "/problems/unauthorized"
        assert (await http.get("/healthz", headers=headers)).status_code == 200
        assert (await http.get("/readyz", headers=headers)).status_code == 200

    world.run(story)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:8321"}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:8321"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:8321"}, 403),
        ({"host": "localhost", "origin": "http://localhost:3000"}, 200),
        ({"host": "localhost", "origin": "https://evil.example"}, 403),
        ({"host": "localhost", "origin": "null"}, 403),
    ],
)
def test_without_keys_no_page_from_elsewhere_gets_in(world: Any, headers: dict[str, str], status: int) -> None:
    async def story(http: Any) -> None:
        got = await http.get("/v1/models", headers=headers)
        assert got.status_code == status
        assert (await http.get("/healthz", headers=headers)).status_code == 200

    world.run(story)


@pytest.mark.parametrize(
    ("keys", "headers", "by"),
    [
        ({}, {}, "anonymous"),
        ({}, {"x-streamlearn-user": "ada"}, "ada"),
        ({"ops": SECRET}, {"x-api-key": SECRET}, "key ops"),
        ({"ops": SECRET}, {"x-api-key": SECRET, "x-streamlearn-user": "ada"}, "ada (key ops)"),
    ],
)
def test_the_audit_knows_who_asked(world: Any, keys: dict[str, str], headers: dict[str, str], by: str) -> None:
    world.api_keys = keys

    async def story(http: Any) -> None:
        assert (await http.post("/v1/models/delay/retrain", headers=headers)).json()["by"] == by

    world.run(story)
    request = decode_control(world.records(CONTROL)[0].value)
    assert isinstance(request, Request)
    assert request.by == by
