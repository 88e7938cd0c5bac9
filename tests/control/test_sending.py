"""How a message travels, to a real HTTP server: signed, as Slack takes it, within its time, and nowhere else."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

import streamlearn
from streamlearn.cli.dev_certificate import make_certificate
from streamlearn.config_notify import TargetSettings
from streamlearn.control.notices import Message, Notice
from streamlearn.control.sending import Answer, Parcel, client, parcel, post, slack_body, trial_message
from streamlearn.errors import ConfigError

NOW = 1_767_225_600.0
DOCS = Path(streamlearn.__file__).parents[2] / "docs" / "notifications.md"


def genuine() -> Any:
    """The function that the documentation gives to receivers."""
    [code] = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    found: dict[str, Any] = {}
    exec(code, found)
    return found["genuine"]


def message(why: str = "because", count: int = 1) -> Message:
    notices = tuple(
        Notice(f"m:log:{n}", "m", "confirmed", "confirmed", "warning", NOW + n, n, "m-7", 3, "control", why)
        for n in range(count)
    )
    return Message(
        notices[-1].id, "ops", "m", "warning", {"confirmed": count}, NOW, NOW + count - 1, count - 1, notices
    )  # fmt: skip


def target(url: str = "", **fields: Any) -> TargetSettings:
    return TargetSettings.model_validate({**({"url": url} if url else {}), **fields})


def send(what: Parcel, timeout_s: float = 5.0) -> Answer:
    async def go() -> Answer:
        async with client(timeout_s) as http:
            return await post(http, what, timeout_s, NOW)

    return asyncio.run(go())


def test_a_webhook_is_signed_by_every_secret_and_a_receiver_can_tell(receiver: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("old-secret-123\nnew-secret-456\n")
    one = target(receiver.url, secret_file=str(tmp_path / "secret"))
    what = parcel("notify.targets.ops", one, message(), {}, "https://here/", time.time())
    assert send(what) == Answer(200, "")
    [(path, headers, body)] = receiver.got
    assert (path, headers["content-type"], headers["x-streamlearn-id"]) == ("/hook", "application/json", "m:log:0")
    check, header = genuine(), headers["x-streamlearn-signature"]
    assert check(header, body, "old-secret-123")
    assert check(header, body, "new-secret-456")
    assert not check(header, body, "another-secret")
    assert not check(header, body.replace(b"because", b"becausE"), "old-secret-123")
    assert not check(header.replace("t=", "t=1"), body, "old-secret-123")
    assert not check("", body, "old-secret-123")
    late = parcel("notify.targets.ops", one, message(), {}, "", time.time() - 301)
    assert not check(late.headers["X-Streamlearn-Signature"], late.body, "old-secret-123")
    document = msgspec.json.decode(body)
    assert document["url"] == "https://here/#/case/m-7"
    assert document["text"] == "m: drift confirmed, version 3 (case m-7): because"
    assert document["notices"][0]["control"] == 0
    (tmp_path / "secret").write_text("new-secret-456\n")  # read anew for each message
    again = parcel("notify.targets.ops", one, message(), {}, "", time.time())
    assert not check(again.headers["X-Streamlearn-Signature"], again.body, "old-secret-123")


def test_the_document_is_the_documented_one() -> None:
    [text] = re.findall(r"```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    documented = msgspec.json.decode(text)
    made = msgspec.json.decode(parcel("k", target("http://h/"), message(), {}, "", NOW).body)
    assert list(documented) == list(made)
    assert list(documented["notices"][0]) == list(made["notices"][0])


def test_a_secret_from_the_environment_and_none_at_all() -> None:
    signed = parcel("k", target("http://h/", secret_env="HOOK"), message(), {"HOOK": "s3cret-s3cret"}, "", NOW)
    assert genuine().__name__ == "genuine"
    assert signed.headers["X-Streamlearn-Signature"].startswith(f"t={NOW:.0f},v1=")
    assert "X-Streamlearn-Signature" not in parcel("k", target("http://h/"), message(), {}, "", NOW).headers
    with pytest.raises(ConfigError, match=r"k\.secret_env: HOOK holds no secret"):
        parcel("k", target("http://h/", secret_env="HOOK"), message(), {}, "", NOW)
    with pytest.raises(ConfigError, match=r"k\.secret_file: /none cannot be read"):
        parcel("k", target("http://h/", secret_file="/none"), message(), {}, "", NOW)


def test_slack_gets_text_and_blocks_and_nothing_of_a_users_is_markup(receiver: Any, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(receiver.url + "\n")
    hostile = "<!channel> & <https://evil|click> " + "x" * 5000
    what = parcel("k", target(form="slack", url_file=str(tmp_path / "url")), message(hostile, 3), {}, "https://here", NOW)
    assert send(what) == Answer(200, "")
    [document] = receiver.documents()
    assert set(document) == {"text", "blocks"}
    assert "<!channel>" not in document["text"]
    assert "&lt;!channel&gt; &amp; &lt;https://evil|click&gt;" in document["blocks"][1]["text"]["text"]
    assert all(len(block["text"]["text"]) <= 3000 for block in document["blocks"])
    assert [block["type"] for block in document["blocks"]] == ["header", "section", "section", "section", "section"]
    assert document["blocks"][-1]["text"]["text"] == "<https://here/#/case/m-7|See it on the dashboard>"
    many = slack_body(msgspec.structs.replace(message("why", 20), counts={"confirmed": 63}), "")
    assert many["blocks"][1]["text"]["text"] == "_43 before these are counted only_"
    assert len(many["blocks"]) == 22  # Slack takes 50


def test_a_slack_address_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("file:///etc/passwd")
    with pytest.raises(ConfigError, match="holds no web address"):
        parcel("k", target(form="slack", url_file=str(tmp_path / "url")), message(), {}, "", NOW)


@pytest.mark.parametrize(
    ("status", "headers", "answer"),
    [
        (204, {}, Answer(204, "")),
        (500, {}, Answer(500, "HTTP 500: try <later>")),
        (429, {"Retry-After": "17"}, Answer(429, "HTTP 429: try <later>", 17.0)),
        (503, {"Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT"}, Answer(503, "HTTP 503: try <later>", 30.0)),
        (503, {"Retry-After": "soon"}, Answer(503, "HTTP 503: try <later>")),
    ],
)
def test_what_came_back_is_said(receiver: Any, status: int, headers: dict[str, str], answer: Answer) -> None:
    receiver.answers.append((status, headers))
    assert send(Parcel(receiver.url, b"{}", {})) == answer


@pytest.mark.parametrize("elsewhere", ["http://127.0.0.1:1/", "file:///etc/passwd", "/other"])
def test_no_answer_sends_it_elsewhere(receiver: Any, elsewhere: str) -> None:
    receiver.answers.append((302, {"Location": elsewhere}))
    got = send(Parcel(receiver.url, b"{}", {}))
    assert (got.status, "not followed" in got.error, len(receiver.got)) == (302, True, 1)


def test_a_receiver_that_hangs_is_left_after_the_time(receiver: Any) -> None:
    receiver.hangs.set()
    began = time.monotonic()
    assert send(Parcel(receiver.url, b"{}", {}), 0.3) == Answer(None, "no answer within 0.3 s")
    assert time.monotonic() - began < 25.0  # it hangs for 30


def test_a_receiver_that_dribbles_is_left_after_the_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        def dribble() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                for _ in range(100):
                    try:
                        connection.sendall(b"x-a: b\r\n")
                    except OSError:
                        return
                    time.sleep(0.05)

        threading.Thread(target=dribble, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        assert send(Parcel(url, b"{}", {}), 0.5) == Answer(None, "no answer within 0.5 s")


def test_a_dead_receiver_is_an_error_and_its_address_is_not_repeated() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    got = send(Parcel(f"http://127.0.0.1:{port}/services/SECRET", b"{}", {}))
    assert got.status is None
    assert "ConnectError" in got.error
    assert "SECRET" not in got.error
    assert "SECRET" not in send(Parcel("http://[bad/SECRET", b"{}", {})).error


def test_a_certificate_that_nobody_vouches_for_is_refused(
    receiver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    url = receiver.url.replace("http:", "https:")
    refused = send(Parcel(url, b"{}", {}))
    assert refused.status is None
    assert "CERTIFICATE_VERIFY_FAILED" in refused.error
    assert receiver.got == []
    monkeypatch.setenv("SSL_CERT_FILE", str(made.cert))
    assert send(Parcel(url, b"{}", {})) == Answer(200, "")


def test_a_test_message_says_that_it_is_one() -> None:
    made = msgspec.json.decode(parcel("k", target("http://h/"), trial_message("ops", NOW), {}, "https://here", NOW).body)
    assert (made["counts"], made["url"]) == ({"test": 1}, "https://here/")
    assert made["text"].startswith("test: test of the target 'ops', sent 20")
