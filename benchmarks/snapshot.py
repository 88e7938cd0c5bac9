"""The pause of a publication and of a checkpoint, against the size of the model and the number of events that wait.

The pause is what the learning loop stands still for: state captured on its thread, or by a child process once that takes long
(then the time until the parts are there is given too). Writing happens on another thread.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

from streamlearn.config import parse
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import Event, encode
from streamlearn.learning import pickling
from streamlearn.learning.capture import Capture
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


def pauses(rows: Rows, what: str, size: int, build: Callable[[], Mapping[str, bytes]]) -> None:
    """The median pause of seven, and when a child does the work, the median time until it has."""
    capture, stood, waited = Capture(time.perf_counter), [], []
    capture.expect(size)
    capture.take(build)()  # what is slow in place goes to a child from here on
    for _ in range(7):
        started = time.perf_counter()
        read = capture.take(build)
        begun = time.perf_counter()
        read()
        stood.append(begun - started)
        waited.append(time.perf_counter() - begun)
    rows.add(f"{what}: pause", 1000 * statistics.median(stood), "ms")
    if (child := statistics.median(waited)) > 0.001:
        rows.add(f"{what}: child", 1000 * child, "ms")


def measure(rows: Rows, quick: bool) -> None:
    """Models of growing size, then growing numbers of waiting events."""
    models = [("logistic", 10, 500), ("logistic", 1000, 50), ("hoeffding_adaptive_tree", 10, 3000)]
    models.append(("adaptive_random_forest", 10, 600))
    if not quick:
        models.append(("adaptive_random_forest", 10, 6000))
    with quiet():
        for name, features, learned in models:
            learner = learner_with(name, features, learned, 0)
            size = len(pickling.dumps(learner.champion))
            about = f"{name}, {features} features, {learned} learned, {size / 1e3:.0f} kB"
            pauses(rows, f"publication: {about}", size, partial(model_of, learner))
            pauses(rows, f"checkpoint: {about}", size, partial(parts, learner))
        for waiting in (0, 10_000) if quick else (0, 10_000, 100_000, 300_000):
            learner = learner_with("logistic", 10, 500, waiting)
            size = sum(map(len, parts(learner).values()))
            pauses(rows, f"checkpoint: {waiting:,} waiting events, {size / 1e6:.1f} MB", size, partial(parts, learner))


def model_of(learner: Learner) -> dict[str, bytes]:
    """What a publication holds."""
    return {"model": pickling.dumps(learner.champion)}


if __name__ == "__main__":
    main("Pause of publications and checkpoints", measure)
