"""The running service is fed garbage, and rewound by the command while its control is killed; it answers all the while."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from streamlearn.client import Client
from streamlearn.errors import StreamlearnError
from streamlearn.wire import Instance

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = """
data_dir = "data"
[serve]
port = {port}
[streams.clicks]
[models.m]
stream = "clicks"
task = "binary"
pipeline = "logistic"
checkpoint = {{ interval_s = 1, keep_last = 200 }}
drift = {{ window = 5000 }}  # 400 events of garbage raise an alarm, and are no proof
"""
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")}


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Client, str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "s.toml").write_text(CONFIG.format(port=port))
    url = f"http://127.0.0.1:{port}"
    with (folder / "words").open("wb") as words:
        command = [sys.executable, "-m", "streamlearn", "serve", str(folder / "s.toml")]
        process = subprocess.Popen(command, stdout=words, stderr=words, env=ENVIRONMENT)
    try:
        with Client(url) as client:
            client.wait_until_ready(180)
            yield client, url, process
    finally:
        process.terminate()
        process.wait(60)


def wait(until: Any, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


def streamlearn(*arguments: str) -> str:
    command = [sys.executable, "-m", "streamlearn", *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kill_control(process: Any) -> None:
    for child in psutil.Process(process.pid).children():
        if "control" in child.cmdline():
            child.kill()


def test_garbage_is_taken_back_while_the_service_answers(tmp_path: Path) -> None:
    draw, sent = random.Random(3), 0

    with serving(tmp_path) as (client, url, process):

        def post(count: int, garbage: bool = False) -> int:
            nonlocal sent
            events = []
            for _ in range(count):
                a = draw.uniform(-1, 1)
                x = {"a": a * (20 if garbage else 1)}
                events.append({"stream": "clicks", "id": f"e{sent}", "x": x, "y": (a > 0) ^ garbage})
                sent += 1
            end = client.send(events).positions["clicks"]["0"]
            wait(lambda: client.model("m").n == sent and client.model("m").lag == 0)
            return end

        def status() -> dict[str, Any]:
            found = client.model("m").shards[0].status
            assert found is not None
            return found

        def accuracy() -> float:
            time.sleep(0.5)  # what was learned is published
            asked = [a / 50 for a in range(-50, 50)]
            answers = client.predict_many("m", [Instance({"a": a}) for a in asked])
            return sum(answer.prediction == (a > 0) for a, answer in zip(asked, answers, strict=True)) / 100

        post(2000)
        learned = time.time()
        wait(lambda: post(1) and (status()["checkpoint_at"] or 0) > learned)
        start = status()["position"]  # beyond what was posted, when a false alarm was answered by a command
        assert accuracy() > 0.9
        end = post(400, garbage=True)
        assert accuracy() < 0.5

        failures, versions, stop = [], [], threading.Event()

        def ask() -> None:
            with Client(url) as frontend:
                while not stop.wait(0.01):
                    try:
                        versions.append(frontend.predict("m", {"a": 0.5}).version)
                    except StreamlearnError as error:
                        failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        told = streamlearn("rewind", "m", "--to", str(start), "--skip", f"{start}:{end}", "--yes", "--no-wait", "--url", url)
        assert "(version 1), at offset" in told
        kill_control(process)
        wait(lambda: client.model("m").version == 2)
        stop.set()
        asking.join()
        assert not failures
        assert versions == sorted(versions)
        assert accuracy() > 0.9
        [version] = [one for one in client.versions("m") if one["version"] == 2]
        assert version["reason"] == "rewind"
        assert version["bases"]["0"]["position"] <= start
        assert version["skip"] == {"0": [[start, end]]}
        wait(lambda: client.model("m").control["skipped"] == {"0": [[start, end]]})  # control's view follows

        assert "ended: it learns nothing" in streamlearn("hold", "m", "--wait", "--url", url)
        before = post(300)
        assert "ended: it learns again" in streamlearn("resume", "m", "--mode", "learn", "--wait", "--url", url)
        wait(lambda: status()["position"] > before)  # the command itself
        assert status()["held"] is None
        assert client.model("m").control["skipped"] == {"0": [[start, end]]}
    streamlearn("verify", str(tmp_path / "s.toml"))
