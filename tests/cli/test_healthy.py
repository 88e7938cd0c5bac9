"""Whether a role is well: the API by asking it, the others by their last report; with the reason, and an exit code."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from streamlearn.cli.healthy import Role, ask_api, ask_store
from streamlearn.cli.main import app
from streamlearn.cli.wiring import open_store, read_settings
from streamlearn.config import Settings
from streamlearn.records import Status
from streamlearn.store import Store

CONFIG = """
data_dir = "data"
[streams.s]
partitions = 2
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "service.toml").write_text(CONFIG)
    return tmp_path / "service.toml"


@pytest.fixture
def settings(config: Path) -> Settings:
    return read_settings(config, {})


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    made = open_store(settings)
    yield made
    made.close()


def report(store: Store, shard: int, at: float) -> None:
    store.claim("m", shard, 1)
    status = Status("m", shard, 1, 1, None, 0, 0, "l", at, 0, None, None, {}, 0, 0, {})
    store.put_status("m", shard, 1, msgspec.json.encode(status))


def beat(store: Store, at: float) -> None:
    store.put_views({("role", "control"): msgspec.json.encode({"at": at})}, 0)


def test_nothing_started_is_not_well(settings: Settings) -> None:
    for role in (Role.learn, Role.control):
        assert ask_store(settings, role, 1000.0, 30.0) == "there is no store yet"


def test_a_learner_is_well_when_every_shard_of_every_model_reports(settings: Settings, store: Store) -> None:
    assert ask_store(settings, Role.learn, 1000.0, 30.0) == (
        "model 'm', shard 0 has not reported yet; model 'm', shard 1 has not reported yet"
    )
    report(store, 0, 990.0)
    assert ask_store(settings, Role.learn, 1000.0, 30.0) == "model 'm', shard 1 has not reported yet"
    report(store, 1, 980.0)
    assert ask_store(settings, Role.learn, 1000.0, 30.0) is None
    assert ask_store(settings, Role.learn, 1010.0, 30.0) is None
    assert ask_store(settings, Role.learn, 1011.0, 30.0) == "model 'm', shard 1 has not reported for 31 s"
    assert ask_store(settings, Role.learn, 1011.0, 40.0) is None


def test_what_is_no_longer_configured_need_not_report(settings: Settings, store: Store) -> None:
    report(store, 0, 0.0)
    assert ask_store(settings.model_copy(update={"models": {}}), Role.learn, 1000.0, 30.0) is None


def test_control_is_well_while_its_beat_goes_on(settings: Settings, store: Store) -> None:
    assert ask_store(settings, Role.control, 1000.0, 30.0) == "control has not reported yet"
    beat(store, 990.0)
    assert ask_store(settings, Role.control, 1000.0, 30.0) is None
    assert ask_store(settings, Role.control, 1100.0, 30.0) == "control has not reported for 110 s"


def test_a_store_that_cannot_be_read_is_the_reason(settings: Settings, store: Store) -> None:
    store.close()
    path = settings.data_dir / "store.sqlite"
    path.write_bytes(b"no database " * 1000)
    for extra in path.parent.glob("store.sqlite-*"):
        extra.unlink()
    reason = ask_store(settings, Role.learn, 1000.0, 30.0)
    assert reason
    assert "store" in reason


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("0.0.0.0", 200), ("127.0.0.1", 500)])
def test_serve_is_asked_on_this_machine(settings: Settings, host: str, status: int) -> None:
    asked: list[str] = []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer((host, 0), Api) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        there = settings.serve.model_copy(update={"host": host, "port": server.server_port})
        reason = ask_api(settings.model_copy(update={"serve": there}))
        thread.join()
    assert asked == ["/healthz"]
    if status == 200:
        assert reason is None
    else:
        assert reason is not None
        assert "500" in reason


def test_the_command_says_it_and_exits_with_it(config: Path, settings: Settings, store: Store) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["healthy", *arguments])
        return done.exit_code, done.output

    beat(store, time.time())
    assert run("control", str(config)) == (0, "control is well\n")
    code, said = run("learn", str(config))
    assert code == 1
    assert said.startswith("learn is not well: model 'm', shard 0 has not reported yet")
    beat(store, time.time() - 10)
    assert run("control", str(config), "--within", "5") == (1, "control is not well: control has not reported for 10 s\n")
    assert run("nobody", str(config))[0] == 2
    with config.open("a") as file:
        file.write("[serve]\nport = 1\n")  # where nothing can listen without being asked to
    code, said = run("serve", str(config))
    assert code == 1
    assert "http://127.0.0.1:1/healthz does not answer" in said
