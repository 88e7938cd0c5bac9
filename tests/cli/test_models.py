"""`streamlearn models`: what it shows of a running service, and what it asks of it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from streamlearn.cli import ask, models
from streamlearn.cli.main import app
from streamlearn.client import Client
from streamlearn.config import parse
from streamlearn.keys import KeyRing
from streamlearn.log import CONTROL
from streamlearn.records import decode_control
from streamlearn.serving.app import Deps, create_app
from streamlearn.serving.examples import HISTORY, VERSION
from streamlearn.testing import FakeClock, MemoryLog, MemoryStore

KEYS = KeyRing({"k": b"0123456789abcdef"})
TREE = {"streams": {"flights": {}}, "models": {"delay": {"stream": "flights", "task": "binary", "pipeline": "logistic"}}}
FIRST = {"id": "delay@1", "model": "delay", "version": 1, "reason": "registered", "fate": "previous", "created": 1767225000.0}


class Straight(httpx.BaseTransport):
    """Hands requests to the app without a network, on an event loop of its own."""

    def __init__(self, asgi: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner, self._loop = httpx.ASGITransport(asgi), loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            got = await self._inner.handle_async_request(request)
            return httpx.Response(got.status_code, headers=got.headers, content=await got.aread())

        return self._loop.run_until_complete(ask())


class Running:
    """An app over memory; commands reach it without a network."""

    def __init__(self) -> None:
        settings = parse(TREE, {})
        self.log, self.store = MemoryLog(clock=FakeClock()), MemoryStore(clock=FakeClock())
        self.log.create({"flights": 1})
        for id, doc in (("delay@1", FIRST), ("delay@2", VERSION)):
            self.view("version", id, doc)
        self.view("history", "delay", HISTORY)
        self.app = create_app(Deps(settings, self.log, self.store, KEYS, {}, CollectorRegistry()))
        self.loop = asyncio.new_event_loop()
        self.transport = Straight(self.app, self.loop)

    def view(self, kind: str, id: str, doc: dict[str, Any]) -> None:
        end = int(id) + 1 if kind == "audit" else 1  # an entry's id is its place in the control log
        self.store.put_views({(kind, id): msgspec.json.encode(doc)}, max(end, self.store.view_offset()))

    @contextmanager
    def connected(self, *_: object) -> Iterator[Client]:
        yield Client("http://localhost", transport=self.transport)

    def requests(self) -> list[Any]:
        return [decode_control(record.value) for record in self.log.read(CONTROL, 0, 0, 100)]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    made = Running()
    for module in (models, ask):
        monkeypatch.setattr(module, "connected", made.connected)
    alive = made.app.router.lifespan_context(made.app)
    made.loop.run_until_complete(alive.__aenter__())
    yield made
    made.loop.run_until_complete(alive.__aexit__(None, None, None))
    made.loop.run_until_complete(made.loop.shutdown_default_executor())
    made.loop.close()


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["models", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def lines(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()]


def test_all_models_with_what_serves(running: Running) -> None:
    header, row = lines(run("list"))
    assert header == ["model", "task", "pipeline", "serves", "since", "state", "versions", "kept"]
    assert row == ["delay", "binary", "logistic", "–", "2026-01-01", "00:01:41Z", "–", "2", "0"]
    [document] = json.loads(run("list", "--json").stdout)
    assert [doc["version"] for doc in document["versions"]] == [1, 2]
    assert document["history"][-1]["version"] == 2


def test_the_versions_of_a_model(running: Running) -> None:
    running.store.put_version("delay", 2, 0, b"x")
    _, first, second = lines(run("list", "delay"))
    assert first[:3] == ["1", "previous", "registered"]
    assert first[-1] == "no"
    assert second == [
        "2", "champion", "delay-17", "2026-01-01", "00:00Z", "10,040", "21,100–41,230", "34.1", "0.12", "yes",
    ]  # fmt: skip
    assert json.loads(run("list", "delay", "--json").stdout)[1]["kept"] is True


def test_one_version_in_full(running: Running) -> None:
    out = run("show", "delay", 2).stdout
    for words in (
        "2 of delay: champion", "for delay-17, from version 1", "river 0.26.1", "logistic, settings 9c41", "21,100–41,230",
        "10,040 labelled events in 9.0 s, 0 skipped", "champion loss 0.31, challenger loss 0.19", "interval [0.04, 0.2]",
        "by control: evidence 34.1 of 33", "48,210 bytes, SHA-256 5e0a", "every shard serves it",
    ):  # fmt: skip
        assert words in out, words
    assert json.loads(run("show", "delay", 2, "--json").stdout)["trial"]["e"] == 34.1


def test_a_version_of_which_little_is_known_is_shown_too(running: Running) -> None:
    out = run("show", "delay", 1).stdout
    assert "1 of delay: previous" in out
    assert "as events came" in out


def test_what_served_when(running: Running) -> None:
    header, first, second = lines(run("history", "delay"))
    assert header[:3] == ["version", "since", "until"]
    assert first[:5] == ["1", "2025-12-31", "23:50:00Z", "2026-01-01", "00:01:41Z"]
    assert second[:5] == ["2", "2026-01-01", "00:01:41Z", "now", "0/50,210"]
    assert len(lines(run("history", "delay", "--at", "2026-01-01T00:00:00Z"))) == 2
    assert run("history", "delay", "--at", "5").stdout == "nothing of delay served at 5\n"
    assert json.loads(run("history", "delay", "--json").stdout)["items"][0]["version"] == 1
    assert "'soon' is not RFC 3339" in run("history", "delay", "--at", "soon", code=1).stderr


def test_what_differs(running: Running) -> None:
    running.view("version", "delay@3", VERSION | {"id": "delay@3", "version": 3, "parent": 2, "learned": 10140})
    out = run("diff", "delay", 2, 3).stdout
    assert [line.split() for line in out.splitlines()][1:] == [
        ["data", "parent", "1", "2", "+1"], ["learned", "10,040", "10,140", "+100"],
    ]  # fmt: skip
    assert json.loads(run("diff", "delay", 2, 3, "--json").stdout)[0] == {"part": "data", "what": "parent", "a": 1, "b": 2}
    assert run("diff", "delay", 2, 2).stdout == "nothing that is known of versions 2 and 2 differs\n"


@pytest.mark.parametrize("words", [("show", "delay", 7), ("list", "nope"), ("diff", "delay", 1, 7), ("history", "nope")])
def test_what_is_not_there_is_said(running: Running, words: tuple[Any, ...]) -> None:
    err = run(*words, code=1).stderr
    assert err.startswith("error: 404")
    assert "there is no model 'nope'; there are ['delay']" in err or "versions lists them" in err


def test_to_promote_and_to_roll_back_is_asked_of_control(running: Running) -> None:
    assert "asked for a promote of delay" in run("promote", "delay", 2, "--no-wait", "--reason", "it is better").stdout
    run("rollback", "delay", "--no-wait")
    first, second = running.requests()
    assert (first.action, first.version, first.reason) == ("promote", 2, "it is better")
    assert (second.action, second.version) == ("rollback", None)


def test_a_promotion_is_followed_to_where_it_serves(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def decide(seconds: float) -> None:
        offset = running.log.bounds(CONTROL, 0)[1] - 1
        for number, (kind, numbers) in enumerate([("trial_won", {"request": offset}), ("promoted", {})], offset + 1):
            doc = {
                "control": number, "type": "decision", "took_effect": True, "model": "delay", "kind": kind, "case": "delay-4",
                "version": 2, "at": 0.0, "why": f"because of {kind}", "numbers": numbers,
            }  # fmt: skip
            running.view("audit", f"{number:020d}", doc)

    monkeypatch.setattr(time, "sleep", decide)
    running.view("case", "delay-4", {"open": True, "steps": []})
    out = run("promote", "delay", 2).stdout
    assert out.splitlines()[-1] == f"ended: {ask.ENDINGS['promoted']}"
    assert "promoted version 2: because of promoted" in out


def test_it_reads_well_at_100_columns(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlearn.cli.console.PIPE_WIDTH", 100)
    running.store.put_version("delay", 2, 0, b"x")
    for words in (("list",), ("list", "delay"), ("history", "delay"), ("show", "delay", 2), ("diff", "delay", 1, 2)):
        out = run(*words).stdout
        assert max(map(len, out.splitlines())) <= 100
    rows = lines(run("list", "delay"))
    assert len(rows) == 3, "a version takes one line"


# -- export and import


def test_export_and_import_need_a_configuration_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    config = tmp_path / "s.toml"
    config.write_text('data_dir = "data"\n[streams.s]\n[models.m]\nstream = "s"\ntask = "binary"\npipeline = "logistic"\n')
    assert "there is no model 'n'. Write one of ['m']" in run("export", "n", 1, "f.zip", "-c", config, code=78).stderr
    assert "there is no store in" in run("export", "m", 1, "f.zip", "-c", config, code=78).stderr
    assert "cannot be read" in run("import", tmp_path / "no.zip", "-c", config, code=78).stderr
    (tmp_path / "odd.zip").write_bytes(b"odd")
    assert "is not an exported version" in run("import", tmp_path / "odd.zip", "-c", config, code=1).stderr
    missing = run("import", tmp_path / "odd.zip", "-c", config, "--keys", tmp_path / "no.key", code=78).stderr
    assert "--keys: there is no file" in missing


def test_which_version_knows_which_features(running: Running) -> None:
    assert lines(run("features", "delay")) == [
        ["feature", "version", "2"], ["carrier", "string"], ["distance", "number"],
    ]  # fmt: skip
    more = {"id": "delay@3", "version": 3, "features": {"carrier": "number", "distance": "number"}}
    running.view("version", "delay@3", VERSION | more)
    assert lines(run("features", "delay"))[1] == ["carrier", "string", "number"]
    assert json.loads(run("features", "delay", "--last", 1, "--json").stdout) == {
        "versions": [3], "features": {"carrier": ["number"], "distance": ["number"]},
    }  # fmt: skip
    assert ["features", "carrier", "string", "number"] in lines(run("diff", "delay", 2, 3))
    running.view("version", "delay@2", FIRST | {"id": "delay@2", "version": 2})
    running.view("version", "delay@3", FIRST | {"id": "delay@3", "version": 3})
    assert run("features", "delay").stdout.startswith("nothing is known yet of the features of delay")
