"""Resident memory over a million events with delayed, missing and repeated ids: bounded joins, windows and tables stay flat.

The bounds are reached during the first tenth (the warm-up); growth is measured from there to the end.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from pathlib import Path

from streamlearn.config import parse
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import Event, Features, encode
from streamlearn.learning.replay import new_learner
from streamlearn.log import Record

from .harness import Rows, main, quiet

PAGE = 4096


def resident() -> float:
    """Resident set size, MB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def records(n: int) -> Iterator[Record]:
    """Features, then labels some hundred events later; one in ten labels never comes, one event in a hundred is repeated."""
    rng = random.Random(11)
    due: list[tuple[int, str, bool]] = []
    place = 0
    for i in range(n):
        while due and due[0][0] <= i:
            _, id, y = due.pop(0)
            yield Record(place, 1e9 + i, 0, b"k", encode(Event("s", id=id, ts=1e9 + i, y=y)))
            place += 1
        id = f"event-{i if rng.random() > 0.01 else max(0, i - 50)}"
        numbers = {f"f{j}": rng.random() for j in range(8)}
        x: Features = {**numbers, "c": f"c{rng.randrange(50)}"}
        yield Record(place, 1e9 + i, 0, b"k", encode(Event("s", id=id, ts=1e9 + i, x=x)))
        place += 1
        if rng.random() > 0.1:
            due.append((i + 300, id, numbers["f0"] > 0.5))


def measure(rows: Rows, quick: bool) -> None:
    """RSS at each tenth of the run."""
    n = 100_000 if quick else 1_000_000
    bounds = {"label_wait_s": 2000, "dedupe_ids": n // 40, "max_pending": 5000}
    model = {"stream": "s", "task": "binary", "pipeline": "logistic", **bounds}
    learner = new_learner(parse({"streams": {"s": {}}, "models": {"m": model}}, {}), "m", 0, 0, DriftWatch)
    marks: list[float] = []
    with quiet():
        for place, record in enumerate(records(n * 11 // 20)):
            learner.step(record)
            learner.signals.clear()
            learner.dead.clear()
            if place % (n // 10) == n // 10 - 1:
                gc.collect()
                marks.append(resident())
    rows.add("records taken", learner.position, "records")
    rows.add("events learned", learner.n, "events")
    rows.add("RSS after the first tenth", marks[0], "MB")
    rows.add("RSS at the end", marks[-1], "MB")
    rows.add("growth after the warm-up", marks[-1] / marks[0], "ratio", "<= 1.1", "RSS after the first tenth")


if __name__ == "__main__":
    main("Memory over many events", measure)
