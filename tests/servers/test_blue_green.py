"""A promotion and a rollback while the whole service answers at full load: no request fails, and no connection meets a flap."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from service_bench import Program, eventually

from streamlearn.cli.dev_process import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

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
retrain = {{ min_events = 100 }}
trial = {{ min_events = 40000 }}
"""
CONNECTIONS = 6
LINGER_S = 1.5


class Answer(NamedTuple):
    """What one question was answered with: the HTTP status (or what went wrong), the version, and how long it took."""

    status: int | str
    version: int
    took: float


class Service:
    """`streamlearn serve` on the embedded log and store."""

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := free_ports(1)[0])}"
        config = folder / "config.toml"
        config.write_text(CONFIG.format(port=port))
        self.program = Program(["serve", str(config)], folder / "service.log", {})

    def until(self, found: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The model's document, once it is as `found` says."""

        def look() -> dict[str, Any] | None:
            assert self.program.process.poll() is None, self.program.said[-4000:]
            answer = httpx.get(f"{self.url}/v1/models/ctr", timeout=10)
            return answer.json() if answer.status_code == 200 and found(answer.json()) else None

        model: dict[str, Any] = eventually(look, what, 90)
        return model

    def request(self, action: str) -> None:
        answer = httpx.post(f"{self.url}/v1/models/ctr/{action}", json={"reason": "by hand"}, timeout=10)
        assert answer.status_code == 202, answer.text


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path)
    yield running
    running.program.end()


class Load:
    """Events that are learned, and keyed questions over connections of their own, until `stop`."""

    def __init__(self, url: str) -> None:
        self.url, self.stop = url, threading.Event()
        self.answers: list[list[Answer]] = [[] for _ in range(CONNECTIONS)]
        self.posted: list[int] = []
        work = [lambda number=number: self._ask(number) for number in range(CONNECTIONS)]
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._feed, *work)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(30)

    def _feed(self) -> None:
        rng = random.Random(1)
        with httpx.Client(timeout=30) as client:
            for batch in itertools.count():
                events = []
                for n in range(40):
                    a, b = rng.random(), rng.random()
                    events.append({"stream": "clicks", "id": f"e{batch}-{n}", "x": {"a": a, "b": b}, "y": a + b > 1})
                self.posted.append(client.post(f"{self.url}/v1/events", json=events).status_code)
                if self.stop.wait(0.1):
                    return

    def _ask(self, number: int) -> None:
        with httpx.Client(timeout=30) as client:
            for n in itertools.count():
                if self.stop.is_set():
                    return
                question = {"id": f"q{number}-{n}", "key": f"user-{n % 50}", "x": {"a": 0.9, "b": 0.3}}
                began = time.monotonic()
                try:
                    answer = client.post(f"{self.url}/v1/predict/ctr", json=question)
                    one = Answer(answer.status_code, answer.json().get("version", 0), time.monotonic() - began)
                except httpx.HTTPError as error:
                    one = Answer(repr(error), 0, time.monotonic() - began)
                self.answers[number].append(one)


def test_no_request_is_dropped_while_a_version_is_promoted_and_rolled_back(service: Service) -> None:
    eventually(lambda: httpx.get(f"{service.url}/healthz", timeout=5).status_code == 200, "the API is there", 90)
    first = [{"stream": "clicks", "id": f"f{n}", "x": {"a": n % 7 / 7, "b": 0.5}, "y": n % 7 > 3} for n in range(400)]
    assert httpx.post(f"{service.url}/v1/events", json=first, timeout=30).status_code == 200
    service.until(lambda model: model["ready"] and model["n"] >= 400, "the first version serves")
    with Load(service.url) as load:
        service.request("retrain")
        service.until(
            lambda model: model["state"] == "trial" and (model["shards"][0]["status"] or {}).get("shadow") == 2, "a trial"
        )
        service.request("promote")
        service.until(lambda model: model["version"] == 2 and model["state"] in ("watch", "steady"), "the new version serves")
        time.sleep(LINGER_S)
        service.request("rollback")
        service.until(lambda model: model["version"] == 1 and model["state"] == "steady", "the old version serves again")
        time.sleep(LINGER_S)
    everything = [answer for answers in load.answers for answer in answers]
    assert {answer.status for answer in everything} == {200}
    assert set(load.posted) == {200}
    for answers in load.answers:
        runs = [version for version, _ in itertools.groupby(answer.version for answer in answers)]
        assert runs == [1, 2, 1], "each swap is met once, whatever the connection"
    took = sorted(answer.took for answer in everything)
    print(f"{len(took)} answers, p50 {1000 * took[len(took) // 2]:.1f} ms, p99 {1000 * took[int(0.99 * len(took))]:.1f} ms")
    assert service.program.stop() == 0, service.program.said[-4000:]
