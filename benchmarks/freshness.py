"""Freshness: from a posted event to a served model that has learned it, at half of the rate that the service can take.

The top rate is measured first (posted in large batches, until learned). Then events are posted at half of it; for probes among
them the time runs from before the POST until a prediction's position lies beyond the event's.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from streamlearn.events import encode

from .harness import Rows, electricity, main
from .service import Service, service

BATCH = 500
Rowset = list[tuple[dict[str, float], bool]]


def batches(data: Rowset, first: int, size: int) -> bytes:
    """A JSON array of labelled events."""
    rows = ((i, *data[i % len(data)]) for i in range(first, first + size))
    return encode([{"stream": "power", "id": f"e{i}", "ts": 1e9 + i, "x": x, "y": y} for i, x, y in rows])


def post(client: httpx.Client, running: Service, body: bytes) -> int:
    """Post a batch; the offset after its last event."""
    answer = client.post(f"{running.url}/v1/events", content=body, headers={"content-type": "application/json"})
    answer.raise_for_status()
    end: int = answer.json()["positions"]["power"]["0"]
    return end


def served(client: httpx.Client, running: Service, x: dict[str, float]) -> int:
    """The position of the model that answers."""
    answer: dict[str, Any] = client.post(f"{running.url}/v1/predict/m", json={"x": x}).raise_for_status().json()
    offset: int = answer["position"]["offset"]
    return offset


def top_rate(client: httpx.Client, running: Service, data: Rowset, total: int) -> float:
    """Events a second from the first POST until all `total` are learned and served."""
    bodies = [batches(data, first, 2000) for first in range(0, total, 2000)]
    started = time.monotonic()
    for body in bodies:
        end = post(client, running, body)
    while served(client, running, data[3][0]) < end:
        time.sleep(0.01)
    return total / (time.monotonic() - started)


@contextmanager
def feeding(running: Service, data: Rowset, first: int, pace: float) -> Iterator[list[int]]:
    """Post batches beside what is done meanwhile, `pace` events a second; the list holds the number of the next event."""
    stop, made = threading.Event(), [first]

    def feed() -> None:
        with httpx.Client(timeout=30) as feeder:
            began = time.monotonic()
            while not stop.is_set():
                post(feeder, running, batches(data, made[0], BATCH))
                made[0] += BATCH
                stop.wait(max(0.0, began + (made[0] - first) / pace - time.monotonic()))

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()


def probe(client: httpx.Client, running: Service, data: Rowset, seconds: float) -> list[float]:
    """How long each of many events took from before its POST until it was served, ms, in order of length."""
    times: list[float] = []
    number, until = 10_000_000, time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        end = post(client, running, batches(data, number, 1))
        number += 1
        while served(client, running, data[3][0]) < end:
            time.sleep(0.002)
        times.append(1000 * (time.monotonic() - began))
    return sorted(times)


def posted_to_served(rows: Rows, running: Service, data: Rowset, total: int, seconds: float) -> None:
    """The top rate over `total` events, then half of it with probes, for `seconds`."""
    with httpx.Client(timeout=30) as client:
        top = top_rate(client, running, data, total)
        rows.add("top rate, posted to served", top, "events/s")
        with feeding(running, data, total, top / 2) as made:
            times = probe(client, running, data, seconds)
            fed = made[0] - total
    rows.add("events posted beside the probes", fed / seconds, "events/s")
    rows.add("probes", len(times), "probes")
    rows.add("posted to served, p50", times[len(times) // 2], "ms")
    rows.add("posted to served, p99", times[min(len(times) - 1, int(0.99 * len(times)))], "ms", "<= 1000")


def measure(rows: Rows, quick: bool) -> None:
    """The embedded log and store."""
    source, data = electricity()
    rows.title += f", {source}"
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as running:
        posted_to_served(rows, running, data, 10_000 if quick else 80_000, 4.0 if quick else 60.0)


if __name__ == "__main__":
    main("Freshness", measure)
