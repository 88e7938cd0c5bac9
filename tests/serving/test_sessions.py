"""Signing in: the cookie, the CSRF token, how long both hold, and that nothing else opens."""

from __future__ import annotations

import asyncio
import base64
import json
from http.cookies import SimpleCookie
from typing import Any

import pytest

from streamlearn.apikeys import SCOPES, make
from streamlearn.events import encode
from streamlearn.keys import KeyRing
from streamlearn.log import CONTROL, Entry
from streamlearn.records import KeyMade, KeyRevoked, Refused, Request, decode_control
from streamlearn.serving import sessions
from streamlearn.serving.auth import Gate

SECRET = "0123456789abcdef"
OTHER = "fedcba9876543210"
HOLD = "/v1/models/delay/hold"


def write(world: Any, record: Any) -> None:
    world.memory_log.create({})
    world.memory_log.append(CONTROL, [Entry(b"keys", encode(record), partition=0)]).result()


def made(world: Any, *scopes: str, **more: Any) -> tuple[str, KeyMade]:
    token, record = make("ops", scopes or SCOPES, "ada", world.clock(), **more)
    write(world, record)
    return token, record


async def signed_in(http: Any, key: str) -> dict[str, Any]:
    got = await http.post("/v1/session", json={"key": key})
    assert got.status_code == 200, got.text
    found: dict[str, Any] = got.json()
    return found


def test_nobody_is_signed_in_at_first(world: Any) -> None:
    world.api_keys = {"app": SECRET}

    async def story(http: Any) -> None:
        got = await http.get("/v1/session")
        assert got.status_code == 200
        assert got.json() == {
            "signed_in": False, "name": None, "scopes": [], "csrf": None, "keys_required": True, "expires": None,
        }  # fmt: skip

    world.run(story)


def test_a_key_signs_in_and_the_cookie_reads(world: Any) -> None:
    token, _ = made(world, "read", "operate")

    async def story(http: Any) -> None:
        assert (await http.get("/v1/models")).status_code == 401
        got = await http.post("/v1/session", json={"key": f" {token}\n"})
        said = got.json()
        assert (said["signed_in"], said["name"], said["scopes"]) == (True, "ops", ["read", "operate"])
        assert said["expires"] == world.clock() + 12 * 3600
        assert (await http.get("/v1/session")).json()["name"] == "ops"
        assert (await http.get("/v1/models")).status_code == 200
        assert token not in got.text + str(got.headers)
        morsel = SimpleCookie(got.headers["set-cookie"])[sessions.COOKIE]
        assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Strict", "/")
        assert (morsel["max-age"], morsel["secure"], morsel["domain"]) == (str(12 * 3600), "", "")
        assert got.headers["cache-control"] == "no-store"

    world.run(story)


def test_behind_tls_the_cookie_is_for_tls_alone(world: Any) -> None:
    token, _ = made(world)

    async def story(http: Any) -> None:
        got = await http.post("https://localhost/v1/session", json={"key": token})
        assert SimpleCookie(got.headers["set-cookie"])[sessions.COOKIE]["secure"] is True

    world.run(story)


def test_a_wrong_key_does_not_sign_in_and_is_audited(world: Any) -> None:
    made(world)

    async def story(http: Any) -> None:
        got = await http.post("/v1/session", json={"key": "slk_nothing"})
        assert (got.status_code, got.json()["type"]) == (401, "/problems/unauthorized")
        assert "set-cookie" not in got.headers
        assert (await http.get("/v1/models")).status_code == 401
        await world.hub.refusals.flush()

    world.run(story)
    [refused] = [record for record in audited(world) if isinstance(record, Refused)]
    assert (refused.by, refused.action, refused.reason, refused.count) == ("unknown", "sign in", "unauthorized", 1)
    assert refused.origins == ["127.0.0.1"]


def audited(world: Any) -> list[Any]:
    return [decode_control(record.value) for record in world.records(CONTROL)]


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b'{"key": "x"}', "text/plain", 415),
        (b'{"key": "x"}', "", 415),
        (b'{"key": "x"}', "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 422),
        (b'{"key": 1}', "application/json", 422),
        (b'{"key": "' + b"x" * 5000 + b'"}', "application/json", 413),
        (b'{"key": ""}', "application/json", 401),
    ],
)
def test_what_is_no_sign_in_is_said(world: Any, content: bytes, media_type: str, status: int) -> None:
    made(world)

    async def story(http: Any) -> None:
        headers = {"content-type": media_type} if media_type else {}
        assert (await http.post("/v1/session", content=content, headers=headers)).status_code == status

    world.run(story)


def test_attempts_from_one_address_are_few(world: Any) -> None:
    token, _ = made(world)

    async def story(http: Any) -> None:
        codes = [(await http.post("/v1/session", json={"key": "wrong"})).status_code for _ in range(12)]
        assert codes == [401] * 10 + [429] * 2
        got = await http.post("/v1/session", json={"key": token})
        assert (got.status_code, got.json()["type"]) == (429, "/problems/rate")
        assert 1 <= int(got.headers["retry-after"]) <= 10
        world.clock.advance(10.0)
        await signed_in(http, token)
        await world.hub.refusals.flush(everything=True)

    world.run(story)
    counts = {(one.action, one.reason): one.count for one in audited(world) if isinstance(one, Refused)}
    assert counts == {("sign in", "unauthorized"): 10, ("sign in", "rate"): 3}


def test_an_action_needs_the_token_of_this_very_session(world: Any) -> None:
    token, _ = made(world)

    async def story(http: Any) -> None:
        first = await signed_in(http, token)
        cookie = http.cookies[sessions.COOKIE]
        for headers in ({}, {"x-csrf-token": "wrong"}, {"x-csrf-token": f"k1.{'0' * 64}"}, {"x-csrf-token": "é".encode()}):
            got = await http.post(HOLD, headers=headers)
            assert (got.status_code, got.json()["type"]) == (403, "/problems/csrf"), headers
        got = await http.post(HOLD, headers={"x-csrf-token": first["csrf"], "x-streamlearn-user": "ada"})
        assert (got.status_code, got.json()["by"]) == (202, "ada (key ops)")
        http.cookies.clear()
        second = await signed_in(http, token)
        assert second["csrf"] != first["csrf"]
        assert (await http.post(HOLD, headers={"x-csrf-token": first["csrf"]})).status_code == 403
        assert (await http.post(HOLD, headers={"x-csrf-token": second["csrf"]})).status_code == 202
        http.cookies.clear()
        http.cookies.set(sessions.COOKIE, cookie)
        assert (await http.get("/v1/session")).json()["csrf"] == first["csrf"]

    world.run(story)
    requests = [record for record in audited(world) if isinstance(record, Request)]
    assert [one.by for one in requests] == ["ada (key ops)", "key ops"]


def test_a_program_with_the_key_in_a_header_needs_no_token(world: Any) -> None:
    token, _ = made(world)

    async def story(http: Any) -> None:
        await signed_in(http, token)  # the cookie is sent along, but the header decides
        assert (await http.post(HOLD, headers={"x-api-key": token})).status_code == 202
        assert (await http.post(HOLD, headers={"x-api-key": "wrong"})).status_code == 401

    world.run(story)


def test_signing_out_takes_the_cookie_away(world: Any) -> None:
    token, _ = made(world)

    async def story(http: Any) -> None:
        await signed_in(http, token)
        got = await http.delete("/v1/session")
        assert (got.status_code, got.json()["signed_in"]) == (200, False)
        assert SimpleCookie(got.headers["set-cookie"])[sessions.COOKIE]["max-age"] == "0"
        assert (await http.get("/v1/models")).status_code == 401

    world.run(story)


def test_a_session_ends_with_its_time(world: Any) -> None:
    token, _ = made(world)
    world.tree["serve"] = {"session_hours": 0.5}

    async def story(http: Any) -> None:
        found = await signed_in(http, token)
        assert found["expires"] == world.clock() + 1800
        cookie = http.cookies[sessions.COOKIE]
        http.cookies.clear()
        world.clock.advance(1799)
        assert (await http.get("/v1/models", headers={"cookie": f"{sessions.COOKIE}={cookie}"})).status_code == 200
        world.clock.advance(1)
        assert (await http.get("/v1/models", headers={"cookie": f"{sessions.COOKIE}={cookie}"})).status_code == 401

    world.run(story)


def test_a_session_is_no_longer_than_its_key(world: Any) -> None:
    token, _ = made(world, expires=world.clock() + 60)

    async def story(http: Any) -> None:
        assert (await signed_in(http, token))["expires"] == world.clock() + 60

    world.run(story)


def test_a_session_dies_with_its_key(world: Any) -> None:
    token, record = made(world)

    async def story(http: Any) -> None:
        await signed_in(http, token)
        write(world, KeyRevoked(record.key, record.name, "ada", world.clock()))
        assert (await http.get("/v1/models")).status_code == 200
        world.hub.keys.poll()
        assert (await http.get("/v1/models")).status_code == 401
        assert (await http.get("/v1/session")).json() == {
            "signed_in": False, "name": None, "scopes": [], "csrf": None, "keys_required": True, "expires": None,
        }  # fmt: skip

    world.run(story)


def test_a_stream_ends_with_its_key(world: Any) -> None:
    token, record = made(world)

    async def story(http: Any) -> None:
        sent: list[Any] = []
        begun, told = asyncio.Event(), asyncio.Event()

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)
            (begun if message.get("more_body") else told).set()

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
                await asyncio.sleep(0.01)

        headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())]
        scope = {"type": "http", "method": "GET", "path": "/v1/live", "headers": headers}
        task = asyncio.create_task(Gate(endless, world.hub)(scope, receive, send))
        await asyncio.wait_for(begun.wait(), 5)
        told.clear()
        write(world, KeyRevoked(record.key, record.name, "ada", world.clock()))
        world.hub.keys.poll()
        await asyncio.wait_for(told.wait(), 5)
        count = len(sent)
        await asyncio.sleep(0.1)
        assert (len(sent), sent[-1]["more_body"]) == (count, False)
        task.cancel()
        await asyncio.wait([task])

    world.run(story)


def test_a_session_holds_over_a_restart_and_in_every_process_but_not_under_another_secret(world: Any) -> None:
    world.api_keys = {"app": SECRET}
    kept: list[tuple[str, str]] = []

    async def first(http: Any) -> None:
        found = await signed_in(http, SECRET)
        kept.append((http.cookies[sessions.COOKIE], found["csrf"]))

    async def second(http: Any) -> None:
        [(cookie, csrf)] = kept
        headers = {"cookie": f"{sessions.COOKIE}={cookie}"}
        assert (await http.get("/v1/session", headers=headers)).json()["signed_in"] is True
        assert (await http.post(HOLD, headers=headers | {"x-csrf-token": csrf})).status_code == 202

    async def third(http: Any) -> None:
        got = await http.get("/v1/session", headers={"cookie": f"{sessions.COOKIE}={kept[0][0]}"})
        assert got.json()["signed_in"] is False

    world.run(first)
    world.registry = type(world.registry)()
    world.run(second)
    world.api_keys = {"app": OTHER}
    world.registry = type(world.registry)()
    world.run(third)


class TestForged:
    """What was not signed by the ring opens nothing, whatever it says."""

    def ring(self) -> KeyRing:
        return KeyRing({"k1": b"0123456789abcdef0123456789abcdef"})

    def test_an_altered_cookie_is_none(self, world: Any) -> None:
        token, record = made(world, "read")
        _, stronger = made(world)

        async def story(http: Any) -> None:
            await signed_in(http, token)
            cookie = http.cookies[sessions.COOKIE]
            http.cookies.clear()
            body, _, mac = cookie.partition(".")
            payload = json.loads(base64.urlsafe_b64decode(body))
            assert payload["id"] == record.key
            forged = [
                base64.urlsafe_b64encode(json.dumps(payload | change).encode()).decode()
                for change in ({"id": stronger.key}, {"ends": payload["ends"] + 1}, {"signer": "k2"}, {"id": "env:app"})
            ]
            texts = [*(f"{one}.{mac}" for one in forged), body, f"{body}.", f"{body}.{'0' * 64}", f"{body}.é"]
            for text in [*texts, f".{mac}", "x" * 5000, f"!!!.{mac}", f"{base64.urlsafe_b64encode(b'[').decode()}.{mac}"]:
                got = await http.get("/v1/models", headers={"cookie": f"{sessions.COOKIE}={text}".encode()})
                assert got.status_code == 401, text
            got = await http.get("/v1/models", headers={"cookie": f"a=b; {sessions.COOKIE}={cookie}; c=d"})
            assert got.status_code == 200

        world.run(story)

    def test_a_csrf_token_is_no_session_and_a_session_no_csrf_token(self, world: Any) -> None:
        token, _ = made(world)

        async def story(http: Any) -> None:
            found = await signed_in(http, token)
            cookie = http.cookies[sessions.COOKIE]
            got = await http.post(HOLD, headers={"x-csrf-token": f"k1.{cookie.rpartition('.')[2]}"})
            assert got.status_code == 403
            body = cookie.partition(".")[0]
            mac = found["csrf"].rpartition(".")[2]
            http.cookies.clear()
            got = await http.get("/v1/models", headers={"cookie": f"{sessions.COOKIE}={body}.{mac}"})
            assert got.status_code == 401

        world.run(story)

    def test_an_old_signing_key_holds_as_long_as_it_is_in_the_ring(self, world: Any) -> None:
        token, _ = made(world)
        old, new = b"0123456789abcdef0123456789abcdef", b"fedcba9876543210fedcba9876543210"

        async def story(http: Any) -> None:
            keys = world.hub.keys
            key = keys.find(token.encode())
            session = sessions.begin(key, world.clock(), 60, KeyRing({"k1": old}))
            csrf = sessions.csrf(session.text, KeyRing({"k1": old}))
            both = KeyRing({"k2": new, "k1": old})
            assert sessions.find(session.text, world.clock(), both, keys) == session
            assert sessions.proves(csrf, session.text, both)
            assert sessions.proves(sessions.csrf(session.text, both), session.text, both)
            assert sessions.find(session.text, world.clock(), KeyRing({"k2": new}), keys) is None
            assert not sessions.proves(csrf, session.text, KeyRing({"k2": new}))

        world.run(story)


class TestWithoutKeys:
    """On loopback, without any key: programs act as they like; a page in a browser needs the token."""

    def test_everybody_here_is_signed_in_as_anonymous(self, world: Any) -> None:
        async def story(http: Any) -> None:
            found = (await http.get("/v1/session")).json()
            assert found == {
                "signed_in": True, "name": "anonymous", "scopes": list(SCOPES), "csrf": found["csrf"], "keys_required": False,
                "expires": None,
            }  # fmt: skip
            assert (await http.post("/v1/session", json={"key": "whatever"})).json()["name"] == "anonymous"

        world.run(story)

    @pytest.mark.parametrize("mark", [{"origin": "http://localhost:8321"}, {"sec-fetch-site": "same-origin"}])
    def test_an_action_from_a_browser_needs_the_token(self, world: Any, mark: dict[str, str]) -> None:
        async def story(http: Any) -> None:
            got = await http.post(HOLD, headers=mark)
            assert (got.status_code, got.json()["type"]) == (403, "/problems/csrf")
            csrf = (await http.get("/v1/session", headers=mark)).json()["csrf"]
            assert (await http.post(HOLD, headers=mark | {"x-csrf-token": csrf})).status_code == 202
            assert (await http.get("/v1/models", headers=mark)).status_code == 200
            assert (await http.post(HOLD)).status_code == 202, "a program sends neither header"
            await world.hub.refusals.flush()

        world.run(story)
        [refused] = [one for one in audited(world) if isinstance(one, Refused)]
        assert (refused.by, refused.action, refused.reason, refused.models) == ("anonymous", "hold", "csrf", ["delay"])

    @pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}])
    def test_a_page_from_elsewhere_gets_no_token(self, world: Any, headers: dict[str, str]) -> None:
        async def story(http: Any) -> None:
            for method in ("GET", "POST", "DELETE"):
                got = await http.request(method, "/v1/session", headers=headers, json={"key": "x"})
                assert (got.status_code, got.json()["type"]) == (403, "/problems/forbidden")

        world.run(story)

    def test_the_first_key_closes_the_door(self, world: Any) -> None:
        async def story(http: Any) -> None:
            assert (await http.get("/v1/models")).status_code == 200
            token, record = made(world)
            world.hub.keys.poll()
            assert (await http.get("/v1/models")).status_code == 401
            assert (await http.get("/v1/models", headers={"x-api-key": token})).status_code == 200
            write(world, KeyRevoked(record.key, record.name, "ada", world.clock()))
            world.hub.keys.poll()
            assert (await http.get("/v1/models")).status_code == 401, "to revoke the last key opens nothing"
            assert (await http.get("/v1/session")).json()["keys_required"] is True

        world.run(story)
