"""What to plan for: events a second and core by recipe, and the bytes of an event, a waiting label, a shard, a model, a day.

Events have seven numbers and their label, one stream of one partition in the embedded log, everything as it is by default.
Events a second are by the CPU time of the process that learns, its writer's threads and children included, so that a busy
machine does not spoil them: one core can do no more. Bytes in memory are what a fresh process grew by. What Kafka and Redis do:
`benchmarks.kafka`.
"""

from __future__ import annotations

import gc
import os
import random
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from streamlearn.config import Settings, parse
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import Event, encode
from streamlearn.history import STEPS
from streamlearn.learning.checkpoint import parts
from streamlearn.learning.learner import Learner
from streamlearn.learning.replay import new_learner
from streamlearn.log import Record
from streamlearn.log.sqlite import SqliteLog
from streamlearn.store.sqlite import SqliteStore
from streamlearn.testing import MemoryStore

from .harness import Rows, electricity, main, quiet
from .history import bytes_a_day, in_all, kept
from .learn import Logged, Rowset, entries_of
from .memory import resident

RECIPES = {
    "logistic": ("binary", 40_000), "passive_aggressive": ("binary", 40_000), "linear": ("regression", 40_000),
    "naive_bayes": ("binary", 20_000), "hoeffding_adaptive_tree": ("binary", 20_000),
    "nearest_neighbours": ("binary", 6_000), "leveraging_bagging": ("binary", 6_000),
    "adaptive_random_forest": ("binary", 6_000),
}  # fmt: skip
FEATURES = 7
T = TypeVar("T")


def settings_of(pipeline: str, task: str, **model: Any) -> Settings:
    """One stream of one partition, one model."""
    table = {"stream": "power", "task": task, "pipeline": pipeline, **model}
    return parse({"streams": {"power": {}}, "models": {"m": table}}, {})


def cpu() -> float:
    """CPU seconds of this process, its threads, and its children that have ended."""
    return sum(os.times()[:4])


def recipe(rows: Rows, name: str, task: str, data: Rowset, folder: Path) -> None:
    """Learn `data` through the log, and weigh what is there at the end."""
    labelled: Any = [(x, 10.0 * x["nswprice"] + x["nswdemand"]) for x, _ in data] if task == "regression" else data
    folder.mkdir()
    log, store = SqliteLog(folder / "log.sqlite"), SqliteStore(folder / "store.sqlite")
    log.create({"power": 1})
    log.append("power", entries_of(labelled)).result()
    side = Logged(settings_of(name, task), log, store)
    warm_up, _ = side.run(0, len(data) // 10)
    began = cpu()
    taken, _ = side.run(warm_up, len(data))
    spent = cpu() - began
    side.close()
    again = SqliteStore(folder / "store.sqlite")
    publication, checkpoint = again.publication("m", 0), again.checkpoints("m", 0)[0]
    [status] = again.statuses().values()
    again.close()
    assert publication is not None
    rows.add(f"{name}: learned", taken / spent, "events/s a core")
    rows.add(f"{name}: publication", len(publication.blob) / 1000, "kB")
    rows.add(f"{name}: checkpoint", checkpoint.size / 1000, "kB")
    if name == next(iter(RECIPES)):
        rows.add("status of a shard", len(status), "bytes")
        rows.add("an event in the log", (folder / "log.sqlite").stat().st_size / len(data), "bytes")


def records(count: int, first: int, labelled: bool) -> list[Record]:
    """Events of FEATURES numbers, with their labels or to wait for them."""
    rng, found = random.Random(first), []
    for place in range(first, first + count):
        x: Any = {f"f{feature}": rng.random() for feature in range(FEATURES)}
        event = Event("power", id=f"event-{place:09d}", ts=1e9 + place / 1000, x=x, y=x["f0"] > 0.5 if labelled else None)
        found.append(Record(place, 1e9 + place / 1000, 0, b"k", encode(event)))
    return found


def learner_of(events: int, **model: Any) -> Learner:
    """A learner of the recipe `logistic` that has learned so many events."""
    learner = new_learner(settings_of("logistic", "binary", **model), "m", 0, 0, DriftWatch)
    for record in records(events, 0, labelled=True):
        learner.step(record)
    return learner


def grown(before: float) -> float:
    """Bytes that this process has grown by since it was `before` MB."""
    gc.collect()
    return max(0.0, 1e6 * (resident() - before))


def waiting(count: int) -> tuple[float, float]:
    """Bytes of features that wait for their label, with their ids: each in memory, and in a checkpoint."""
    learner = learner_of(1000, max_pending=1_000_000, dedupe_ids=1_000_000)
    few = sum(map(len, parts(learner).values()))
    asked = records(count, 1000, labelled=False)
    gc.collect()
    before = resident()
    for record in asked:
        learner.step(record)
    return grown(before) / count, (sum(map(len, parts(learner).values())) - few) / count


def shards(count: int, events: int) -> float:
    """MB of one more shard in a process, logistic, once it has learned so many events."""
    kept_alive = [learner_of(events)]  # the first one brings the libraries
    gc.collect()
    before = resident()
    kept_alive += [learner_of(events) for _ in range(count)]
    return grown(before) / count / 1e6


def afresh(work: Callable[..., T], *given: int) -> T:
    """What `work` answers in a process of its own, whose memory nothing else has filled and freed."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def measure(rows: Rows, quick: bool) -> None:
    """Recipes one after the other, then what is counted in bytes."""
    source, data = electricity()
    rows.title += f", {source}"
    with quiet(), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        memory, checkpoint = afresh(waiting, 20_000 if quick else 100_000)
        rows.add("a waiting label: memory", memory, "bytes")
        rows.add("a waiting label: checkpoint", checkpoint, "bytes")
        events = 1_500 if quick else 5_000
        rows.add(f"a shard after {events:,} events: memory", afresh(shards, 4 if quick else 10, events), "MB")
        for name, (task, size) in list(RECIPES.items())[: 3 if quick else None]:
            recipe(rows, name, task, data[: size // 8 if quick else size], folder / name)
        store = MemoryStore()
        a_day = bytes_a_day(store, lambda model: kept(store, model))
        for step in STEPS:
            rows.add(f"a day of history in steps of {step} s", a_day[step] / 1000, "kB")
        rows.add("a model's history in all, by default", in_all(a_day) / 1e6, "MB", "<= 5")


if __name__ == "__main__":
    main("Capacity", measure)
