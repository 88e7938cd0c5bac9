"""What a retrain that runs costs the service beside it: events learned a second, and the p99 of predictions.

A real service; the retrain is what control would run, a fit over its log in a worker process of a pool, for as long as it is
measured. Spans with and without it are taken in turn, in one run: first under predictions from 16 connections, the learner
idle, then with a backlog that keeps the learner at full speed. Each ratio is the median over the pairs. On a contended core
the retrain weighs 110 against 1024 (nice 10), which leaves the learner nine tenths of it.
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from streamlearn.keys import load_keys
from streamlearn.log.sqlite import SqliteLog
from streamlearn.retrain.job import Jobs
from streamlearn.store.sqlite import SqliteStore

from .executor import LIMIT_MB, LIMIT_S, spec_of
from .harness import Rows, electricity, main, median_ratio
from .predict import CONNECTIONS, backlog, wait_until_caught_up
from .service import Service, load, service

FITTED = 20_000
FOR_EVER = 100_000  # epochs
EVENTS_A_SECOND = 30_000  # more than are learned
START_S = 60.0
PIECE = 50_000


@contextmanager
def retraining(jobs: Jobs, wanted: bool) -> Iterator[None]:
    """A fit that runs until the block ends, if `wanted`. Raises RetrainError when it ended before."""
    if not wanted:
        yield
        return
    call = jobs.submit(spec_of("hoeffding_tree", FITTED, 2, FOR_EVER), LIMIT_S, LIMIT_MB)
    deadline = time.monotonic() + START_S
    while call.progress()[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    yield
    if call.progress()[0] == 0 or call.done():
        raise RuntimeError(f"the fit was to run all the time: {call.progress()}, {call.result() if call.done() else ''}")
    call.cancel()
    while not call.done():
        time.sleep(0.05)


def status(running: Service) -> dict[str, Any]:
    """What the learner told of itself last."""
    store = SqliteStore(running.folder / "data" / "store.sqlite")
    try:
        told: dict[str, Any] = msgspec.json.decode(store.statuses()[("m", 0)])
        return told
    finally:
        store.close()


def learned_a_second(running: Service, seconds: float, end: int) -> float:
    """Between two of the learner's reports, at least so many seconds apart; 0 when it has come to `end` meanwhile."""
    first = status(running)
    while (fresh := status(running))["at"] == first["at"]:
        time.sleep(0.05)
    last = fresh
    while last["at"] < fresh["at"] + seconds:
        time.sleep(0.05)
        last = status(running)
    return 0.0 if last["position"] >= end else float((last["n"] - fresh["n"]) / (last["at"] - fresh["at"]))


def measure(rows: Rows, quick: bool) -> None:
    """Learning, then predictions."""
    source, data = electricity()
    rows.title += f", {source}, {os.cpu_count()} cores"
    pairs, seconds = (1, 1.0) if quick else (6, 5.0)
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as running:
        backlog(running, data, 0, FITTED)
        wait_until_caught_up(running)
        open_log = functools.partial(SqliteLog, running.folder / "data" / "log.sqlite")
        jobs = Jobs(open_log, load_keys({}, running.folder / "data" / "secret.key"))
        try:
            with retraining(jobs, True):
                pass  # the worker is warm from here on
            tails: tuple[list[float], list[float]] = [], []
            middles: tuple[list[float], list[float]] = [], []
            for number in range(2 * pairs):
                wanted = number % 4 in (1, 2)  # without, with, with, without: neither side always comes first
                with retraining(jobs, wanted):
                    found = load(running.port, "/v1/predict/m", {"x": data[17][0]}, CONNECTIONS, seconds)
                tails[wanted].append(found["p99_ms"])
                middles[wanted].append(found["p50_ms"])
            _told(rows, "prediction, p50", middles, "ms", None)
            _told(rows, "prediction, p99", tails, "ms", "<= 1.5")
            rates: tuple[list[float], list[float]] = [], []
            end = FITTED
            for number in range(2 * pairs):
                wanted = number % 4 in (1, 2)
                with retraining(jobs, wanted):
                    while end - status(running)["position"] < (seconds + 4) * EVENTS_A_SECOND:
                        backlog(running, data, end, PIECE)  # the learner takes some while it is appended
                        end += PIECE
                    rates[wanted].append(learned_a_second(running, seconds, end))
            _told(rows, "events learned", rates, "1/s", ">= 0.9")
            rows.add("least rate, 0 if the learner was not at work all the time", min(*rates[0], *rates[1]), "1/s", "> 0")
        finally:
            jobs.close()


def _told(rows: Rows, name: str, found: tuple[list[float], list[float]], unit: str, goal: str | None) -> None:
    without, beside = found
    rows.add(f"{name}, no retrain", statistics.median(without), unit)
    rows.add(f"{name}, a retrain runs", statistics.median(beside), unit)
    ratio = median_ratio(beside, without) if min(without) > 0 else 0.0
    rows.add(f"{name}: beside a retrain / without", ratio, "ratio", goal, f"no retrain, {len(without)} pairs in turn")


if __name__ == "__main__":
    main("What a retrain costs the service beside it", measure)
