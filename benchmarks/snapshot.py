"""The pause of a publication and of a checkpoint, against the size of the model and the number of events that wait.

The pause is what the learning loop stands still for: state captured on its thread. Writing happens on another.
"""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Callable
from functools import partial

from streamlearn.config import parse
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import Event, encode
from streamlearn.learning.checkpoint import parts
from streamlearn.learning.learner import Learner
from streamlearn.learning.replay import new_learner
from streamlearn.log import Record

from .harness import Rows, main, quiet


def learner_with(pipeline: str, features: int, learned: int, waiting: int) -> Learner:
    """A learner that has learned `learned` events of that many features, and remembers `waiting` more."""
    model = {"stream": "s", "task": "binary", "pipeline": pipeline, "max_pending": 1_000_000, "dedupe_ids": 1_000_000}
    learner = new_learner(parse({"streams": {"s": {}}, "models": {"m": model}}, {}), "m", 0, 0, DriftWatch)
    rng = random.Random(7)
    for i in range(learned + waiting):
        wide = features if i < learned else 10
        x: dict[str, float | int | str | bool | None] = {f"f{j}": rng.random() for j in range(wide)}
        y = (rng.random() > 0.5) if i < learned else None
        learner.step(Record(i, 1e9 + i, 0, b"k", encode(Event("s", id=f"event-{i}", ts=1e9 + i / 1000, x=x, y=y))))
    return learner


def median_of(runs: int, action: Callable[[], object]) -> float:
    """Milliseconds of the median run."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return 1000 * sorted(times)[runs // 2]


def measure(rows: Rows, quick: bool) -> None:
    """Models of growing size, then growing numbers of waiting events."""
    models = [("logistic", 10, 500), ("logistic", 1000, 50), ("hoeffding_adaptive_tree", 10, 3000)]
    models.append(("adaptive_random_forest", 10, 600))
    if not quick:
        models.append(("adaptive_random_forest", 10, 6000))
    with quiet():
        for name, features, learned in models:
            learner = learner_with(name, features, learned, 0)
            size = len(pickle.dumps(learner.champion, protocol=5))
            about = f"{name}, {features} features, {learned} learned, {size / 1e3:.0f} kB"
            rows.add(f"publication: {about}", median_of(7, partial(pickle.dumps, learner.champion, 5)), "ms")
            rows.add(f"checkpoint: {about}", median_of(7, partial(parts, learner)), "ms")
        for waiting in (0, 10_000, 50_000) if quick else (0, 10_000, 100_000, 300_000):
            learner = learner_with("logistic", 10, 500, waiting)
            size = sum(map(len, parts(learner).values()))
            about = f"{waiting:,} waiting events, {size / 1e6:.1f} MB"
            rows.add(f"checkpoint: {about}", median_of(5, partial(parts, learner)), "ms")


if __name__ == "__main__":
    main("Pause of publications and checkpoints", measure)
