"""Several API processes behind one port: each scrape tells what all of them counted, also of those that have ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from streamlearn.cli.fleet import api_names
from streamlearn.cli.serve import METRICS, metrics_folder

CONFIG = """
data_dir = "data"
[serve]
port = 0
workers = 2
[streams.s]
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
"""


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


class Service:
    """`streamlearn serve` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.config, self.out, self.err = folder / "s.toml", folder / "out", folder / "err"
        self.config.write_text(CONFIG)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamlearn", "serve", "s.toml"], stdout=out, stderr=err, cwd=folder,
                env=kept | {"PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        wait_for(lambda: "ready after" in self.out.read_text())
        found = re.search(r"API: (http://\S+),", self.out.read_text())
        assert found is not None
        self.url = found[1]
        wait_for(lambda: len(self.listeners()) == 2)
        self.await_ready()

    def await_ready(self) -> None:
        """Until whichever process answers has a model."""
        wait_for(lambda: all(httpx.get(f"{self.url}/readyz", timeout=20).status_code == 200 for _ in range(10)))

    def workers(self) -> dict[int, psutil.Process]:
        """The API processes, by process id."""
        found = {}
        for one in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it has just ended
                found |= {one.pid: one} if "--api-only" in one.cmdline() else {}
        return found

    def listeners(self) -> set[int]:
        """The API processes that have answered a scrape: a file of its own tells of each."""
        self.scrape()
        folder = self.config.parent / "data" / METRICS
        return {int(path.stem.rpartition("_")[2]) for path in folder.glob("histogram_*.db")} & set(self.workers())

    def scrape(self) -> dict[str, float]:
        """The series by name and labels; by a connection of its own, which any of the processes may take."""
        text = httpx.get(f"{self.url}/metrics", timeout=20).text
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}

    def post(self, number: int) -> None:
        event = {"stream": "s", "id": f"e{number}", "x": {"a": number % 2}, "y": bool(number % 2)}
        assert httpx.post(f"{self.url}/v1/events", json=event, timeout=20).status_code in (200, 202)
        question = {"id": f"q{number}", "x": {"a": 1}, "log": True}
        assert httpx.post(f"{self.url}/v1/predict/m", json=question, timeout=20).status_code == 200

    def accepted(self) -> set[float]:
        """What several scrapes say of the events that were accepted."""
        return {self.scrape()['streamlearn_events_posted_total{outcome="accepted"}'] for _ in range(8)}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    if made.process.poll() is None:
        made.process.send_signal(signal.SIGTERM)
        made.process.wait(60)


def test_their_names() -> None:
    assert api_names(1) == ["serve"]
    assert api_names(3) == ["serve", "serve-2", "serve-3"]


def test_what_an_earlier_run_counted_is_forgotten(tmp_path: Path) -> None:
    folder = metrics_folder(tmp_path)
    (folder / "counter_1.db").touch()
    assert list(metrics_folder(tmp_path).iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_scrape_tells_of_all_processes_through_a_crash_and_a_reload(service: Service) -> None:
    before = service.workers()
    assert len(before) == 2
    for number in range(60):
        service.post(number)
    assert service.accepted() == {60}
    told = service.scrape()
    assert told['streamlearn_predictions_total{logged="queued",model="m"}'] == 60
    assert told['streamlearn_predict_seconds_count{model="m"}'] == 60
    wait_for(lambda: service.scrape()["streamlearn_buffered_predictions"] == 0)
    assert [name for name in told if name.startswith("streamlearn_build_info")] != []
    assert not [name for name in told if "pid=" in name]
    wait_for(lambda: service.scrape()['streamlearn_learned_events{model="m",shard="0"}'] == 60)
    next(iter(before.values())).kill()
    wait_for(lambda: len(service.workers()) == 2 and set(service.workers()) != set(before))
    wait_for(lambda: service.listeners() == set(service.workers()))
    service.await_ready()
    for number in range(60, 90):
        service.post(number)
    assert service.accepted() == {90}
    crashed = set(service.workers())
    service.config.write_text(CONFIG + '[models.other]\nstream = "s"\ntask = "binary"\npipeline = "logistic"\n')
    done = subprocess.run(
        [sys.executable, "-m", "streamlearn", "reload", "s.toml"], cwd=service.config.parent, capture_output=True, text=True,
        check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    after = set(service.workers())
    assert len(after) == 2
    assert not after & crashed
    for number in range(90, 100):
        service.post(number)
    assert service.accepted() == {100}
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) == 0


@pytest.mark.slow
def test_another_number_of_them_needs_a_restart(service: Service) -> None:
    service.config.write_text(CONFIG.replace("workers = 2", "workers = 3"))
    done = subprocess.run(
        [sys.executable, "-m", "streamlearn", "reload", "s.toml"], cwd=service.config.parent, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1
    assert "serve.workers: 2 cannot become 3" in done.stdout + done.stderr
