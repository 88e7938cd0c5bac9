"""Events learned a second through the embedded log, over a bare in-process loop with the same river model and data.

Ours: records read from the SQLite log, both detectors, every score, dedupe, publications and checkpoints to the SQLite
store. The reference: predict, accuracy, ADWIN, learn, on rows in memory. Runs are taken in pairs, one after the other.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from river import compose, drift, forest, linear_model, metrics, preprocessing

from streamlearn.config import Settings, parse
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import Event, Kind, Limits, encode
from streamlearn.keys import KeyRing
from streamlearn.learning.trainer import Trainer
from streamlearn.learning.worker import Worker
from streamlearn.log import Entry
from streamlearn.log.sqlite import SqliteLog
from streamlearn.records import Command, sign_command
from streamlearn.store import codec
from streamlearn.store.sqlite import SqliteStore

from .harness import Rows, electricity, main, median_ratio, quiet

KEYS = KeyRing({"bench": b"0123456789abcdef"})
Rowset = list[tuple[dict[str, float], bool]]


def logistic() -> Any:
    """River's scaled logistic regression, as a pipeline of the configuration."""
    return compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())


def adaptive_random_forest(seed: int) -> Any:
    """River's adaptive random forest of ten trees."""
    return forest.ARFClassifier(10, seed=seed)


def bare(model: Any, rows: Rowset) -> float:
    """Events a second of predict, accuracy, ADWIN, learn."""
    accuracy, adwin = metrics.Accuracy(), drift.ADWIN()
    gc.collect()
    started = time.perf_counter()
    for x, y in rows:
        predicted = model.predict_one(x)
        accuracy.update(y, predicted)
        adwin.update(predicted != y)
        model.learn_one(x, y)
    return len(rows) / (time.perf_counter() - started)


def settings_for(pipeline: str) -> Settings:
    """One stream, one model, everything else as it is by default; the trial never ends."""
    return parse({"streams": {"power": {}}, "models": {"m": {"stream": "power", "task": "binary", "pipeline": pipeline}}}, {})


def through_the_log(pipeline: str, rows: Rowset, folder: Path, trial_from: int | None = None) -> float:
    """Events a second of the worker over a log that holds `rows`; with `trial_from`, from there on with a trial open."""
    settings = settings_for(pipeline)
    log, store = SqliteLog(folder / "log.sqlite"), SqliteStore(folder / "store.sqlite")
    try:
        log.create({"power": 1, "_control": 1, "_signals": 1, "_dead": 1})
        events = [Event("power", id=str(i), ts=1e9 + i, x=dict(x), y=y) for i, (x, y) in enumerate(rows)]
        entries = [Entry(str(i).encode(), encode(event)) for i, event in enumerate(events)]
        begin = trial_from or 0
        if begin:
            log.append("power", entries[:begin]).result()
            store.put_version("m", 2, 0, challenger(settings, log, begin))
            command = Command(seq=10**6, model="m", verb="try", version=2, trained_to={"0": begin})
            log.append("power", [Entry(b"", sign_command(command, KEYS), Kind.COMMAND, 0)]).result()
            log.append("power", entries[begin:]).result()
        else:
            log.append("power", entries).result()

        def resolve(command: Command, shard: int) -> bytes:
            blob = store.version(command.model, command.version or 0, shard)
            assert blob is not None
            return blob

        worker = Worker(settings, log, store, KEYS, watches=DriftWatch, resolve=resolve)
        shard, end = worker.shards[0], log.bounds("power", 0)[1]
        while shard.learner.position < begin:
            worker.turn()
        gc.collect()
        started, first = time.perf_counter(), shard.learner.n
        while shard.learner.position < end:
            worker.turn()
        rate = (shard.learner.n - first) / (time.perf_counter() - started)
        assert shard.learner.n == len(rows)
        assert (shard.learner.shadow is not None) == bool(begin)
        worker.close()
        return rate
    finally:
        store.close()
        log.close()


def challenger(settings: Settings, log: SqliteLog, end: int) -> bytes:
    """A version fitted on everything before `end`, sealed as a retrain job seals it."""
    model, stream = settings.models["m"], settings.streams["power"]
    trainer = Trainer.new("m", model, stream, Limits(), "power", 0, 0)
    while trainer.position < end:
        trainer.feed(log.read("power", 0, trainer.position, 1000))
    return codec.encode(
        kind="version",
        model="m",
        version=2,
        shard=0,
        generation=0,
        positions=[],
        created=0.0,
        parts=trainer.parts(),
        keys=KEYS,
        extra={},
    )


def compare(rows: Rows, name: str, pipeline: str, make: Callable[[], Any], data: Rowset, pairs: int, goals: list[str]) -> None:
    """Pairs of runs, without and with a trial open, and their rows."""
    reference, ours, with_trial = [], [], []
    begin = len(data) // 10
    for _ in range(pairs):
        reference.append(bare(make(), data))
        with tempfile.TemporaryDirectory() as folder:
            ours.append(through_the_log(pipeline, data, Path(folder)))
        with tempfile.TemporaryDirectory() as folder:
            with_trial.append(through_the_log(pipeline, data, Path(folder), begin))
    rows.add(f"{name}: bare loop", sorted(reference)[pairs // 2], "events/s")
    rows.add(f"{name}: through the log", sorted(ours)[pairs // 2], "events/s")
    rows.add(f"{name}: through the log / bare", median_ratio(ours, reference), "ratio", goals[0], "bare river loop")
    rows.add(f"{name}: trial open / bare", median_ratio(with_trial, reference), "ratio", goals[1], "bare river loop")


def measure(rows: Rows, quick: bool) -> None:
    """Logistic regression and the adaptive random forest."""
    source, data = electricity()
    rows.title += f", {source}"
    with quiet():
        size, pairs = (8_000, 3) if quick else (len(data), 5)
        compare(rows, "LR", "benchmarks.learn:logistic", logistic, data[:size], pairs, [">= 0.6", ">= 0.35"])
        size, pairs = (1_500, 1) if quick else (6_000, 3)
        compare(
            rows, "ARF", "benchmarks.learn:adaptive_random_forest", lambda: adaptive_random_forest(42), data[:size], pairs,
            [">= 0.9", ">= 0.45"],
        )  # fmt: skip


if __name__ == "__main__":
    main("Events learned a second", measure)
