"""Freshness: from a posted event to a served model that has learned it, at half of the rate that the service can take.

The top rate is measured first (posted in large batches, until learned). Then events are posted at half of it; for probes among
them the time runs from before the POST until a prediction's position lies beyond the event's.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from streamlearn.events import encode

from .harness import Rows, electricity, main
from .service import Service, service

BATCH = 500


def batches(data: list[tuple[dict[str, float], bool]], first: int, size: int) -> bytes:
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


def measure(rows: Rows, quick: bool) -> None:
    """The top rate, then half of it with probes."""
    source, data = electricity()
    rows.title += f", {source}"
    x = data[3][0]
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as running, httpx.Client(timeout=30) as client:
        total = 20_000 if quick else 80_000
        bodies = [batches(data, first, 2000) for first in range(0, total, 2000)]
        started = time.monotonic()
        for body in bodies:
            end = post(client, running, body)
        while served(client, running, x) < end:
            time.sleep(0.01)
        top = total / (time.monotonic() - started)
        rows.add("top rate, posted to served", top, "events/s")
        seconds = 10.0 if quick else 60.0
        stop, made = threading.Event(), [total]

        def feed() -> None:
            with httpx.Client(timeout=30) as feeder:
                pace, began, sent = top / 2, time.monotonic(), 0
                while not stop.is_set():
                    post(feeder, running, batches(data, made[0], BATCH))
                    made[0] += BATCH
                    sent += BATCH
                    stop.wait(max(0.0, began + sent / pace - time.monotonic()))

        thread = threading.Thread(target=feed)
        thread.start()
        times: list[float] = []
        probe, until = 10_000_000, time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            end = post(client, running, batches(data, probe, 1))
            probe += 1
            while served(client, running, x) < end:
                time.sleep(0.002)
            times.append(1000 * (time.monotonic() - began))
        stop.set()
        thread.join()
        times.sort()
        rows.add("events posted beside the probes", (made[0] - total) / seconds, "events/s")
        rows.add("probes", len(times), "probes")
        rows.add("posted to served, p50", times[len(times) // 2], "ms")
        rows.add("posted to served, p99", times[min(len(times) - 1, int(0.99 * len(times)))], "ms", "<= 1000")


if __name__ == "__main__":
    main("Freshness", measure)
