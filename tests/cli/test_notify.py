"""Trying the targets of notifications, and dealing with what was not delivered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from streamlearn.cli.check_notify import targets
from streamlearn.cli.main import app
from streamlearn.config import ConfigErrors, Settings, TargetSettings, parse
from streamlearn.log import CONTROL, Entry
from streamlearn.log.sqlite import SqliteLog
from streamlearn.records import Decision, Notified, decode_control

CONFIG = """
data_dir = "data"
[streams.s]
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
[notify.targets.ops]
url = "{url}"
[notify.targets.dead]
url = "http://127.0.0.1:9/"
"""


class Hook:
    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.got.append(msgspec.json.decode(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(hook.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


@pytest.fixture
def config(tmp_path: Path, hook: Hook) -> Path:
    file = tmp_path / "s.toml"
    file.write_text(CONFIG.format(url=hook.url))
    return file


@pytest.fixture
def log(config: Path) -> Iterator[SqliteLog]:
    (config.parent / "data").mkdir()
    log = SqliteLog(config.parent / "data" / "log.sqlite")
    log.create({"s": 1})
    try:
        yield log
    finally:
        log.close()


def put(log: SqliteLog, record: Any) -> int:
    [(_, offset)] = log.append(CONTROL, [Entry(b"m", msgspec.json.encode(record), partition=0)]).result()
    return offset


def given_up(log: SqliteLog, target: str = "ops") -> int:
    held = put(log, Decision("m", "held", 1000.0, why="broken input"))
    resumed = put(log, Decision("m", "resumed", 1060.0, by="ann"))
    counts = {"held": 1, "resumed": 1}
    return put(log, Notified("m", target, "undelivered", 2000.0, resumed, counts, [held, resumed], 10, "HTTP 500"))


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["notify", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_each_target_gets_a_test_message_and_what_came_back_is_said(config: Path, hook: Hook) -> None:
    told = run("test", config, code=1)
    assert "ops: taken, HTTP 200" in told
    assert "dead: not taken: ConnectError" in told
    assert run("test", config, "--target", "ops") == "ops: taken, HTTP 200\n"
    assert [document["counts"] for document in hook.got] == [{"test": 1}] * 2
    hook.status = 403
    assert "ops: not taken: HTTP 403" in run("test", config, "--target", "ops", code=1)
    assert "there is no target 'opps'. Write one of" in run("test", config, "--target", "opps", code=78)


def test_without_a_target_it_says_how_to_add_one(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(CONFIG.partition("[notify")[0])
    assert "Add one, for instance [notify.targets.ops]" in run("test", tmp_path / "s.toml", code=78)


def test_what_was_lost_is_listed_resent_and_then_done(config: Path, hook: Hook, log: SqliteLog) -> None:
    number = given_up(log)
    listed = run("list", config)
    for word in (str(number), "ops", "1970-01-01 00:33:20Z", "10", "1 × held, 1 × resumed", "HTTP 500"):
        assert word in listed
    hook.status = 500
    assert f"{number}: not taken: HTTP 500" in run("resend", config, code=1)
    hook.status = 200
    assert run("resend", config, number) == "1 message resent\n"
    document = hook.got[-1]
    assert (document["counts"], document["severity"], document["since"]) == ({"held": 1, "resumed": 1}, "critical", 1000.0)
    assert [notice["event"] for notice in document["notices"]] == ["held", "resumed"]
    assert run("list", config) == "everything was delivered\n"
    assert "there is no undelivered message" in run("resend", config, number, code=78)
    record = decode_control(log.read(CONTROL, 0, number + 1, 1)[0].value)
    assert isinstance(record, Notified)
    assert (record.outcome, record.of, record.target) == ("resent", number, "ops")


def test_what_does_not_matter_any_more_is_dismissed(config: Path, hook: Hook, log: SqliteLog) -> None:
    first, second = given_up(log), given_up(log, "gone")
    assert f"{second}: there is no target 'gone' any more; dismiss it" in run("resend", config, code=1)
    assert run("dismiss", config, second) == "1 message dismissed\n"
    assert run("list", config) == "everything was delivered\n"
    assert first != second
    assert len(hook.got) == 1


TREE: dict[str, Any] = {
    "streams": {"s": {}}, "models": {"m": {"stream": "s", "task": "binary", "pipeline": "logistic"}},
}  # fmt: skip


def settings(**target: Any) -> Settings:
    return parse({**TREE, "notify": {"targets": {"ops": target}}}, {})


@pytest.mark.parametrize(
    ("target", "level", "key", "words"),
    [
        ({"url": "http://127.0.0.1:1/", "secret_file": "/none"}, "error", "secret_file", "/none cannot be read"),
        ({"url": "http://127.0.0.1:1/", "secret_env": "NONE"}, "error", "secret_env", "NONE holds no secret"),
        ({"form": "slack", "url_file": "/none"}, "error", "url_file", "/none cannot be read"),
        ({"url": "https://no-such-host.invalid/x"}, "warning", "url", "the host no-such-host.invalid cannot be found"),
        ({"url": "http://192.0.2.1/"}, "warning", "url", "in the clear. Write https://"),
        ({"url": "https://127.0.0.1:99999/"}, "error", "url", "is no web address"),
        ({"url": "https://127.0.0.1/", "models": ["n"]}, "warning", "models", "there is no model 'n'"),
    ],
)
def test_check_finds_what_would_not_reach_anybody(target: dict[str, Any], level: str, key: str, words: str) -> None:
    found = [one for one in targets(settings(**target), {}) if one.level != "note"]
    assert [(one.level, one.key) for one in found] == [(level, f"notify.targets.ops.{key}")]
    assert words in found[0].text


def test_check_has_nothing_to_say_of_a_sound_target_but_that_it_signs_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("abcdefgh\n")
    assert list(targets(settings(url="http://127.0.0.1:1/", secret_file=str(tmp_path / "secret")), {})) == []
    [note] = targets(settings(url="http://localhost:1/"), {})
    assert (note.level, "no secret" in note.text) == ("note", True)


@pytest.mark.parametrize(
    ("notify", "words"),
    [
        ({"targets": {"ops": {}}}, "notify.targets.ops.url: a target has either url or url_file. Write one of them"),
        ({"targets": {"ops": {"url": "ftp://h/"}}}, "notify.targets.ops.url: it is no web address. Write one that begins with"),
        ({"targets": {"ops": {"url": "http://h", "secret_env": "STREAMLEARN_X"}}}, "begin with STREAMLEARN_ are settings"),
        ({"targets": {"ops": {"url": "http://h", "kinds": ["hold"]}}}, "'hold' is not known. Write one of 'case_opened'"),
        ({"targets": {"O K": {"url": "http://h"}}}, "notify.targets: 'O K' is not a usable name"),
        ({"targets": {"ops": {"form": "slack", "url": "http://h", "secret_env": "A"}}}, "Slack checks no signature"),
        ({"quiet": {"starts": "22:00"}}, "notify.quiet.starts: a quiet time has two different ends. Write both"),
        ({"quiet": {"starts": "22:00", "ends": "7"}}, "notify.quiet.ends: '7' is no time of day. Write one such as 07:00"),
        ({"quiet": {"zone": "Mars/Olympus"}}, "notify.quiet.zone"),
        ({"repeats_s": 1}, "notify.repeats_s: there is no such setting. Did you mean 'repeat_s'?"),
    ],
)
def test_what_is_wrong_in_the_settings_is_said_with_its_fix(notify: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse({**TREE, "notify": notify}, {})
    assert words in str(caught.value)


def test_the_example_names_every_field_of_a_target() -> None:
    text = (Path(__file__).parents[2] / "src/streamlearn/cli/streamlearn.example.toml").read_text(encoding="utf-8")
    comment = text.partition("# The receivers by name")[2].partition("#targets")[0]
    assert [name for name in TargetSettings.model_fields if name not in comment] == []


def test_a_target_can_be_set_by_the_environment() -> None:
    made = parse(TREE, {"STREAMLEARN_NOTIFY__TARGETS__OPS__URL": "https://h.example/x"})
    assert made.notify.targets["ops"].url == "https://h.example/x"
