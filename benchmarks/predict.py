"""Predictions a second and their p50 and p99 at 16 connections, each logged, the learner idle and at full speed.

The reference is a bare FastAPI endpoint around the same model under the same load: while the learner works, it works beside
the reference too. Runs are taken in pairs; the load comes from a process of its own.
"""

from __future__ import annotations

import pickle
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from streamlearn.events import Event, encode
from streamlearn.keys import load_keys
from streamlearn.log import Entry
from streamlearn.log.sqlite import SqliteLog
from streamlearn.store.codec import open_blob
from streamlearn.store.sqlite import SqliteStore

from .harness import Rows, electricity, main, median_ratio
from .service import Service, bare_endpoint, load, service

CONNECTIONS = 16


def backlog(running: Service, data: list[tuple[dict[str, float], bool]], first: int, n: int) -> None:
    """Put `n` labelled events on the service's log, at once, past its API."""
    log = SqliteLog(running.folder / "data" / "log.sqlite")
    try:
        for start in range(first, first + n, 5000):
            rows = [(i, *data[i % len(data)]) for i in range(start, min(start + 5000, first + n))]
            entries = [
                Entry(str(i).encode(), encode(Event("power", id=str(i), ts=1e9 + i, x=dict(x), y=y))) for i, x, y in rows
            ]
            log.append("power", entries).result()
    finally:
        log.close()


def caught_up(running: Service) -> bool:
    """Whether the learner stands at the end of the log."""
    store, log = SqliteStore(running.folder / "data" / "store.sqlite"), SqliteLog(running.folder / "data" / "log.sqlite")
    try:
        status: dict[str, Any] = msgspec.json.decode(store.statuses()[("m", 0)])
        return bool(status["position"] >= log.bounds("power", 0)[1] - CONNECTIONS * 100)
    finally:
        store.close()
        log.close()


def wait_until_caught_up(running: Service) -> None:
    """Wait for the learner, two minutes at most."""
    deadline = time.monotonic() + 120
    while not caught_up(running):
        if time.monotonic() > deadline:
            raise RuntimeError("the learner did not catch up")
        time.sleep(0.3)


def save_model(running: Service, path: Path) -> None:
    """The published river model, pickled bare."""
    store = SqliteStore(running.folder / "data" / "store.sqlite")
    try:
        publication = store.publication("m", 0)
        assert publication is not None
        keys = load_keys({}, running.folder / "data" / "secret.key")
        sealed = open_blob(publication.blob, keys, kind="publication", model="m", shard=0)
        path.write_bytes(pickle.dumps(pickle.loads(sealed.part("model")).estimator))
    finally:
        store.close()


def pairs(rows: Rows, name: str, running: Service, bare: int, x: dict[str, float], count: int, seconds: float) -> None:
    """Pairs of loads, ours and the reference, and their rows."""
    ours, reference = [], []
    for _ in range(count):
        ours.append(load(running.port, "/v1/predict/m", {"x": x, "log": True}, CONNECTIONS, seconds))
        reference.append(load(bare, "/predict", {"x": x}, CONNECTIONS, seconds))
    middle = sorted(ours, key=lambda run: run["per_s"])[count // 2]
    other = sorted(reference, key=lambda run: run["per_s"])[count // 2]
    rows.add(f"{name}: requests", middle["per_s"], "1/s", None)
    rows.add(f"{name}: p50", middle["p50_ms"], "ms", None)
    rows.add(f"{name}: p99", middle["p99_ms"], "ms", None)
    rows.add(f"{name}: bare p50", other["p50_ms"], "ms", None)
    rows.add(f"{name}: bare p99", other["p99_ms"], "ms", None)
    rows.add(f"{name}: answers other than 200", sum(run["errors"] for run in ours), "answers", "<= 0")
    ratio = median_ratio([run["per_s"] for run in ours], [run["per_s"] for run in reference])
    rows.add(f"{name}: requests / bare", ratio, "ratio", ">= 0.6", "bare FastAPI endpoint")


def measure(rows: Rows, quick: bool) -> None:
    """Idle, then with a backlog that keeps the learner at full speed."""
    source, data = electricity()
    rows.title += f", {source}"
    count, seconds = (1, 1.5) if quick else (5, 5.0)
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as running:
        folder = Path(name)
        backlog(running, data, 0, 5000)
        wait_until_caught_up(running)
        time.sleep(1)
        save_model(running, folder / "model.pickle")
        x = data[17][0]
        with bare_endpoint(folder, folder / "model.pickle") as bare:
            pairs(rows, "learner idle", running, bare, x, count, seconds)
            size = 60_000 if quick else 180_000 * count
            backlog(running, data, 10_000, size)
            busy_before = not caught_up(running)
            pairs(rows, "learner at full speed", running, bare, x, count, seconds)
            at_work = float(busy_before) + float(not caught_up(running))
            rows.add("learner still at work before and after", at_work, "of 2", ">= 2")


if __name__ == "__main__":
    main("Predictions a second, each logged", measure)
