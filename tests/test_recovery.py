"""The whole service under `kill -9`: each role in turn, then at random, while 40,000 events come in.

Afterwards the learner's state must equal that of a single-process replay of the same log, and the learner's own account of
ids must hold every event that was acknowledged, once.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from streamlearn.cli import wiring
from streamlearn.drift.watch import DriftWatch
from streamlearn.learning import checkpoint
from streamlearn.learning.replay import new_learner, replay
from streamlearn.store.codec import open_blob

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = 40_000
BATCH = 400
SEED = 20
ROLES = ("learn", "control", "api")

CONFIG = """
data_dir = "data"
[serve]
port = {port}
[streams.clicks]
[models.ctr]
stream = "clicks"
task = "binary"
pipeline = "logistic"
label_wait_s = 100000
dedupe_ids = 300000
checkpoint = {{ interval_s = 1 }}
[models.ctr.drift]
window = 100
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("STREAMLEARN_")}


class Service:
    """`streamlearn serve` over a folder, its log in a file, its roles to be shot at."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "config.toml"
        self.config.write_text(CONFIG.format(port=self.port))
        self.words = folder / "service.log"
        with self.words.open("wb") as file:
            command = [sys.executable, "-m", "streamlearn", "serve", str(self.config)]
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment())
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.words.read_text()[-4000:]
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"never ready: {self.words.read_text()[-4000:]}")

    def pid_of(self, role: str) -> int | None:
        for child in psutil.Process(self.process.pid).children():
            try:
                line = child.cmdline()
            except psutil.Error:
                continue
            word = "--api-only" if role == "api" else role
            if word in line:
                return int(child.pid)
        return None

    def kill(self, role: str) -> None:
        """SIGKILL to a role, waiting first for one that is only just coming back."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            pid = self.pid_of(role)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.1)
        raise AssertionError(f"{role} never came back: {self.words.read_text()[-4000:]}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def batches() -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Events whose label comes with them, later in the same order, or never; and how many of a batch carry a label."""
    rng = random.Random(SEED)
    late: list[tuple[int, dict[str, Any]]] = []
    batch: list[dict[str, Any]] = []
    for i in range(EVENTS):
        a, b = rng.random(), rng.random()
        y = (a + b > 1) ^ (rng.random() < 0.1) ^ (i > EVENTS // 2)
        event: dict[str, Any] = {
            "stream": "clicks", "id": f"e{i}", "ts": 1e9 + i, "x": {"a": a, "b": b, "c": rng.choice("uvw")},
        }  # fmt: skip
        kind = rng.random()
        if kind < 0.6:
            event["y"] = y
        elif kind < 0.95:
            late.append((i + 200, {"stream": "clicks", "id": f"e{i}", "ts": 1e9 + i + 200, "y": y}))
        batch.append(event)
        while late and late[0][0] <= i:
            batch.append(late.pop(0)[1])
        if len(batch) >= BATCH:
            yield batch, sum("y" in event for event in batch)
            batch = []
    batch.extend(event for _, event in late)
    yield batch, sum("y" in event for event in batch)


def post_until_acknowledged(service: Service, client: httpx.Client, batch: list[dict[str, Any]]) -> None:
    """At least once: what was not acknowledged is sent again, under the same ids."""
    deadline = time.monotonic() + 120
    while True:
        try:
            answer = client.post(f"{service.url}/v1/events", json=batch)
            if answer.status_code == 200:
                assert answer.json()["accepted"] == len(batch), answer.text[:500]
                return
            assert answer.status_code in (429, 503), answer.text[:500]
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, service.words.read_text()[-4000:]
        time.sleep(0.05)


def test_nothing_is_lost_or_learned_twice_when_roles_are_killed(service: Service, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    shots = [*ROLES, *(rng.choice(ROLES) for _ in range(3))]
    everything = list(batches())
    every = len(everything) // (len(shots) + 1)
    labels = 0
    with httpx.Client(timeout=30) as client:
        for place, (batch, labelled) in enumerate(everything, 1):
            post_until_acknowledged(service, client, batch)
            labels += labelled
            if place % every == 0 and shots:
                service.kill(shots.pop(0))
    assert not shots
    wait_until_learned(service)
    assert service.stop() == 0, service.words.read_text()[-4000:]

    settings = wiring.read_settings(service.config, {})
    with wiring.opened(settings, {}) as world:
        newest = world.store.checkpoints("ctr", 0)[0]
        blob = world.store.checkpoint(newest.id)
        account = checkpoint.ledger(blob, world.keys, "ctr", 0)
        end = world.log.bounds("clicks", 0)[1]
        assert account.position == end
        learned_ids = {id for id, y in account.labels.items() if y is not None}
        assert len(account.labels) == EVENTS, "every acknowledged event is known to the learner"
        assert account.learned == len(learned_ids) == labels, "each label was learned once"

        sealed = open_blob(blob, world.keys, kind="checkpoint", model="ctr", shard=0)
        recovered = new_learner(settings, "ctr", 0, 0, DriftWatch)
        checkpoint.load(recovered, sealed.all_parts(), DriftWatch)
        alone = replay(settings, "ctr", 0, world.log, world.keys, DriftWatch, wiring.resolver(world), end)
        assert alone.position == recovered.position
        assert checkpoint.digest(alone) == checkpoint.digest(recovered)


def wait_until_learned(service: Service) -> None:
    """Until the learner stands at the end of its log, whatever it was shot at."""
    settings = wiring.read_settings(service.config, {})
    deadline = time.monotonic() + 120
    with wiring.opened(settings, {}) as world:
        while time.monotonic() < deadline:
            status = world.store.statuses().get(("ctr", 0))
            if status is not None and msgspec.json.decode(status)["position"] >= world.log.bounds("clicks", 0)[1]:
                return
            time.sleep(0.2)
    raise AssertionError(f"the learner did not reach the end: {service.words.read_text()[-4000:]}")
