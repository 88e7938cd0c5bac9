"""Promotions and a rollback while the whole service answers at full load: no request fails, and nobody meets a flap.

Once a person decides both; once the service does: drift, verdict, a canary in two steps, promotion.
"""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from service_bench import Program, eventually

from streamlearn.cli.dev_process import free_ports
from streamlearn.events import unit_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """
data_dir = "data"
[serve]
port = {port}
[streams.clicks]
[models.ctr]
stream = "clicks"
task = "binary"
pipeline = "{pipeline}"
label_wait_s = 100000
retrain = {{ min_events = 100 }}
{more}
"""
# No verdict before the lesser of canary_events and min_events: more than come while the test lasts.
BY_HAND = "trial = { min_events = 40000, canary_events = 20000 }"
# Each step lasts for several publications, however busy the machine: one that is over before the next is served to nobody.
BY_ITSELF = """
publish = { budget = 0.5 }
trial = { min_events = 400, canary = [0.2, 0.6], canary_events = 700 }
[models.ctr.drift]
window = 100
gap = 50
min_reference = 200
features = { enabled = false }
"""
DECIDED = [
    "case_opened", "confirmed", "retrain_started", "retrained", "trial_started", "canary_started", "canary_started",
    "trial_won", "promoted",
]  # fmt: skip
CONNECTIONS = 6
USERS = [f"user-{n}" for n in range(50)]
LINGER_S = 1.5


class Answer(NamedTuple):
    """What a question was answered with: whose it was, the HTTP status (or what went wrong), the version, from when to when."""

    key: str
    status: int | str
    version: int
    began: float
    ended: float


class Service:
    """`streamlearn serve` on the embedded log and store."""

    def __init__(self, folder: Path, pipeline: str, more: str) -> None:
        self.url = f"http://127.0.0.1:{(port := free_ports(1)[0])}"
        config = folder / "config.toml"
        config.write_text(CONFIG.format(port=port, pipeline=pipeline, more=more))
        self.program = Program(["serve", str(config)], folder / "service.log", {})

    def until(self, found: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The model's document, once it is as `found` says."""

        def look() -> dict[str, Any] | None:
            assert self.program.process.poll() is None, self.program.said[-4000:]
            answer = httpx.get(f"{self.url}/v1/models/ctr", timeout=10)
            return answer.json() if answer.status_code == 200 and found(answer.json()) else None

        model: dict[str, Any] = eventually(look, what, 90)
        return model

    def learn(self, count: int) -> None:
        """Have the first version learn so many events, and wait until it serves."""
        eventually(lambda: httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200, "the API is there", 90)
        rng = random.Random(0)
        for start in range(0, count, 4000):
            events = [event(f"f{n}", rng) for n in range(start, min(count, start + 4000))]
            assert httpx.post(f"{self.url}/v1/events", json=events, timeout=30).status_code == 200
        self.until(lambda model: model["ready"] and model["n"] >= count, "the first version serves")

    def decisions(self) -> list[str]:
        """The kinds of all decisions, in order."""
        return [one["kind"] for one in httpx.get(f"{self.url}/v1/audit", timeout=10).json()["items"] if "kind" in one]

    def request(self, action: str) -> None:
        answer = httpx.post(f"{self.url}/v1/models/ctr/{action}", json={"reason": "by hand"}, timeout=10)
        assert answer.status_code == 202, answer.text


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str, str], Service]]:
    """Starts a service with that pipeline and those settings of the model."""
    with ExitStack() as stack:

        def start(pipeline: str, more: str) -> Service:
            running = Service(tmp_path, pipeline, more)
            stack.callback(running.program.end)
            return running

        yield start


def event(id: str, rng: random.Random, turned: bool = False) -> dict[str, Any]:
    """An event with its label, which is the other one once the world has turned."""
    a, b = rng.random(), rng.random()
    return {"stream": "clicks", "id": id, "x": {"a": a, "b": b}, "y": (a + b > 1) ^ turned}


class Load:
    """Events that are learned, and keyed questions over connections of their own, `pause` seconds apart, until `stop`."""

    def __init__(self, url: str, turned: bool = False, pause: float = 0.0) -> None:
        self.url, self.turned, self.pause, self.stop = url, turned, pause, threading.Event()
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
                events = [event(f"e{batch}-{n}", rng, self.turned) for n in range(40)]
                self.posted.append(client.post(f"{self.url}/v1/events", json=events).status_code)
                if self.stop.wait(0.1):
                    return

    def _ask(self, number: int) -> None:
        with httpx.Client(timeout=30) as client:
            for n in itertools.count():
                if self.stop.wait(self.pause):
                    return
                key = USERS[n % len(USERS)]
                question = {"id": f"q{number}-{n}", "key": key, "x": {"a": 0.9, "b": 0.3}}
                began = time.monotonic()
                status: int | str
                try:
                    answer = client.post(f"{self.url}/v1/predict/ctr", json=question)
                    status, version = answer.status_code, answer.json().get("version", 0)
                except httpx.HTTPError as error:
                    status, version = repr(error), 0
                self.answers[number].append(Answer(key, status, version, began, time.monotonic()))

    def check(self) -> list[Answer]:
        """Every answer, in the order in which they were given; none failed, nor did an event."""
        everything = sorted(itertools.chain(*self.answers), key=lambda answer: answer.ended)
        assert {answer.status for answer in everything} == {200}
        assert set(self.posted) == {200}
        took = sorted(answer.ended - answer.began for answer in everything)
        print(f"{len(took)} answers, p50 {1000 * took[len(took) // 2]:.1f} ms, p99 {1000 * took[int(0.99 * len(took))]:.1f} ms")
        return everything


def test_no_request_is_dropped_while_a_version_is_promoted_and_rolled_back(serve: Callable[[str, str], Service]) -> None:
    service = serve("logistic", BY_HAND)
    service.learn(400)
    service.request("retrain")  # before the load, which would leave the fit, nice to all else, hardly any of the machine
    service.until(
        lambda model: model["state"] == "trial" and (model["shards"][0]["status"] or {}).get("shadow") == 2, "a trial"
    )
    with Load(service.url) as load:
        time.sleep(LINGER_S)
        service.request("promote")
        service.until(lambda model: model["version"] == 2 and model["state"] in ("watch", "steady"), "the new version serves")
        time.sleep(LINGER_S)
        service.request("rollback")
        service.until(lambda model: model["version"] == 1 and model["state"] == "steady", "the old version serves again")
        time.sleep(LINGER_S)
    load.check()
    for answers in load.answers:
        runs = [version for version, _ in itertools.groupby(answer.version for answer in answers)]
        assert runs == [1, 2, 1], "each swap is met once, whatever the connection"
    assert service.program.stop() == 0, service.program.said[-4000:]


def gone_back(everything: Sequence[Answer], place: Mapping[str, float]) -> list[Answer]:
    """Answers of version 1 to questions that were asked when this key, or one of a higher place, had had version 2 already."""
    times, highest = [-math.inf], [-1.0]
    for answer in everything:
        if answer.version == 2 and place[answer.key] > highest[-1]:
            times.append(answer.ended)
            highest.append(place[answer.key])
    return [
        answer
        for answer in everything
        if answer.version == 1 and place[answer.key] <= highest[bisect_left(times, answer.began) - 1]
    ]


def test_no_request_is_dropped_and_nobody_goes_back_while_a_canary_rises(serve: Callable[[str, str], Service]) -> None:
    """The world turns; naive Bayes, which forgets nothing, is beaten by the version that is fitted to what came since.

    The load leaves the fit, which is nice to all else, its share of the machine: nobody waits for it here for ever.
    """
    service = serve("naive_bayes", BY_ITSELF)
    service.learn(12_000)
    shares: set[float] = set()

    def promoted(model: dict[str, Any]) -> bool:
        shares.update(shard["canary"]["share"] for shard in model["shards"] if shard["canary"])
        return bool(model["version"] == 2 and model["shards"][0]["version"] == 2)

    with Load(service.url, turned=True, pause=0.02) as load:
        service.until(promoted, "the new version serves all")
        time.sleep(LINGER_S)
    everything = load.check()
    assert shares == {0.2, 0.6}
    place = {key: unit_of("ctr@2", key) for key in USERS}
    assert not gone_back(everything, place), "what a lower share gave, a higher one does not take away"
    steps = [
        [answer for answer in everything if low <= place[answer.key] < high] for low, high in ((0, 0.2), (0.2, 0.6), (0.6, 1))
    ]
    assert [{answer.version for answer in step} for step in steps] == [{1, 2}] * 3
    begun = [min(answer.began for answer in step if answer.version == 2) for step in steps]
    assert begun == sorted(begun), "each share has its turn"
    assert [kind for kind in service.decisions() if kind in DECIDED] == DECIDED
    assert service.program.stop() == 0, service.program.said[-4000:]
