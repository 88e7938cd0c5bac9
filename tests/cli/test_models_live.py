"""The registry of running services: a version is fitted, promoted by hand, rolled back, and taken to another service."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli.main import app
from streamlearn.client import Client

CONFIG = """
data_dir = "data"
[serve]
port = 0
[streams.s]
partitions = 2
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
"""


@contextmanager
def service(folder: Path) -> Iterator[tuple[Path, str]]:
    """A running service: its configuration and its address."""
    folder.mkdir()
    (folder / "s.toml").write_text(CONFIG)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")}
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlearn", "serve", "s.toml"], stdout=out, stderr=err, cwd=folder,
            env=kept | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    try:
        wait_for(lambda: re.search(r"API: http://\S+,", (folder / "out").read_text()))
        found = re.search(r"API: (http://\S+),", (folder / "out").read_text())
        assert found is not None
        yield folder / "s.toml", found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_for(what: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == code, result.output
    return result


def post(client: Client, count: int, seed: int) -> None:
    draw = random.Random(seed)
    events = []
    for n in range(count):
        a = draw.uniform(-1, 1)
        events.append({"stream": "s", "id": f"{seed}-{n}", "x": {"a": a, "c": draw.choice("xyz")}, "y": a > 0})
    assert client.send(events).accepted == count


@pytest.mark.slow
def test_a_version_from_its_fit_to_another_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "m2.zip"
    with service(tmp_path / "home") as (config, url), Client(url) as client:
        client.wait_until_ready(60)
        post(client, 600, 1)
        assert run("retrain", "m", "--url", url).stdout.startswith("asked for a retrain of m")
        wait_for(lambda: client.model("m").state == "trial" and client.versions("m")[-1]["fate"] == "challenger")
        version = client.version("m", 2)
        assert (version["kept"], set(version["fitted"]), version["learned"]) == (True, {"0", "1"}, 600)
        assert version["fitted"]["0"]["weights"]["a"] > 0
        assert "ended: the new version serves" in run("models", "promote", "m", 2, "--reason", "it must", "--url", url).stdout
        wait_for(lambda: client.version("m", 2)["serving"])
        history = client.history("m")
        assert [one.version for one in history.items] == [1, 2]
        assert set(history.items[1].since.positions) == {"0", "1"}
        assert history.items[1].why.endswith("it must")
        out = json.loads(run("models", "export", "m", 2, file, "-c", config, "--json").stdout)
        assert (out["what"], out["bytes"]) == ("fitted", file.stat().st_size)
        assert "version 2 of m is version 3 of m here; it goes on" in run("models", "import", file, "-c", config).stdout
        assert client.versions("m")[-1]["kept"]
        assert "ended: the version before serves again" in run("models", "rollback", "m", "--url", url).stdout
        assert [one.version for one in client.history("m").items] == [1, 2, 1]
        rows = json.loads(run("models", "list", "m", "--json", "--url", url).stdout)
        assert [row["fate"] for row in rows] == ["champion", "rolled_back", "imported"]
        key_file = config.parent / "data" / "secret.key"
    with service(tmp_path / "away") as (config, url), Client(url) as client:
        client.wait_until_ready(60)
        refused = run("models", "import", file, "-c", config, code=1).stderr
        assert "the signature by key 'local' does not match" in refused
        assert "--keys" in refused
        words = ("models", "import", file, "-c", config, "--keys", key_file, "--json")
        assert json.loads(run(*words).stdout)["rebased"] is True
        found = client.version("m", 2)
        assert (found["fate"], found["kept"], found["learned"]) == ("imported", True, 600)
        assert found["fitted"]["0"]["weights"] == version["fitted"]["0"]["weights"]
