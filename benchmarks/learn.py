"""Events learned a second through the embedded log, over a bare in-process loop with the same river model and data.

Ours: records read from the SQLite log, both detectors, every score, dedupe, publications and checkpoints to the SQLite
store. The reference: predict, accuracy, ADWIN, learn, on rows in memory. The sides take
slices of the stream in turn, so that all of them meet the same machine.
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

from .harness import Rows, electricity, main, quiet

KEYS = KeyRing({"bench": b"0123456789abcdef"})
Rowset = list[tuple[dict[str, float], bool]]


def logistic() -> Any:
    """River's scaled logistic regression, as a pipeline of the configuration."""
    return compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())


def adaptive_random_forest(seed: int) -> Any:
    """River's adaptive random forest of ten trees."""
    return forest.ARFClassifier(10, seed=seed)


class Bare:
    """The reference: predict, accuracy, ADWIN, learn, on rows in memory."""

    def __init__(self, model: Any, rows: Rowset) -> None:
        self._model, self._rows = model, rows
        self._accuracy, self._adwin = metrics.Accuracy(), drift.ADWIN()
        self.spent = 0.0

    def run(self, first: int, end: int) -> None:
        """Take the rows from `first` to `end`."""
        model, accuracy, adwin = self._model, self._accuracy, self._adwin
        started = time.perf_counter()
        for x, y in self._rows[first:end]:
            predicted = model.predict_one(x)
            accuracy.update(y, predicted)
            adwin.update(predicted != y)
            model.learn_one(x, y)
        self.spent += time.perf_counter() - started


def settings_for(pipeline: str) -> Settings:
    """One stream, one model, everything else as it is by default; the trial never ends."""
    return parse({"streams": {"power": {}}, "models": {"m": {"stream": "power", "task": "binary", "pipeline": pipeline}}}, {})


class Logged:
    """Ours: the worker over a SQLite log that holds `rows`, in `folder`; with `trial_from`, a trial is open from there on."""

    def __init__(self, pipeline: str, rows: Rowset, folder: Path, trial_from: int = 0) -> None:
        folder.mkdir()
        settings = settings_for(pipeline)
        self._log, self._store = SqliteLog(folder / "log.sqlite"), SqliteStore(folder / "store.sqlite")
        self._log.create({"power": 1})
        events = [Event("power", id=str(i), ts=1e9 + i, x=dict(x), y=y) for i, (x, y) in enumerate(rows)]
        entries = [Entry(str(i).encode(), encode(event)) for i, event in enumerate(events)]
        if trial_from:
            self._log.append("power", entries[:trial_from]).result()
            self._store.put_version("m", 2, 0, challenger(settings, self._log, trial_from))
            command = Command(seq=10**6, model="m", verb="try", version=2, trained_to={"0": trial_from})
            self._log.append("power", [Entry(b"", sign_command(command, KEYS), Kind.COMMAND, 0)]).result()
        self._log.append("power", entries[trial_from:]).result()
        self._worker = Worker(settings, self._log, self._store, KEYS, watches=DriftWatch, resolve=self._resolve)
        self.learner = self._worker.shards[0].learner
        self.spent = 0.0

    def _resolve(self, command: Command, shard: int) -> bytes:
        blob = self._store.version(command.model, command.version or 0, shard)
        assert blob is not None
        return blob

    def run(self, end: int) -> None:
        """Turn the worker until `end` events are learned; what it did beyond is in the time too."""
        learner, turn = self.learner, self._worker.turn
        started = time.perf_counter()
        while learner.n < end:
            turn()
        self.spent += time.perf_counter() - started

    def close(self) -> None:
        """Drain the worker and let go."""
        self._worker.close()
        self._store.close()
        self._log.close()


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


def compare(rows: Rows, name: str, pipeline: str, make: Callable[[], Any], data: Rowset, goals: list[str]) -> None:
    """All three side by side, a slice each in turn, so that a machine that slows down slows all; and their rows."""
    begin, step = 500, max(100, len(data) // 40)
    with tempfile.TemporaryDirectory() as folder:
        reference = Bare(make(), data)
        ours, tried = Logged(pipeline, data, Path(folder) / "a"), Logged(pipeline, data, Path(folder) / "b", begin)
        reference.run(0, begin)
        ours.run(begin)
        tried.run(begin)
        for side in (reference, ours, tried):
            side.spent = 0.0
        gc.collect()
        counted = ours.learner.n, tried.learner.n
        for first in range(begin, len(data), step):
            end = min(first + step, len(data))
            reference.run(first, end)
            ours.run(end)
            tried.run(end)
        assert tried.learner.shadow is not None
        bare = (len(data) - begin) / reference.spent
        logged = (ours.learner.n - counted[0]) / ours.spent
        trial = (tried.learner.n - counted[1]) / tried.spent
        ours.close()
        tried.close()
    rows.add(f"{name}: bare loop", bare, "events/s")
    rows.add(f"{name}: through the log", logged, "events/s")
    rows.add(f"{name}: through the log / bare", logged / bare, "ratio", goals[0], "bare river loop")
    rows.add(f"{name}: trial open / bare", trial / bare, "ratio", goals[1], "bare river loop")


def measure(rows: Rows, quick: bool) -> None:
    """Logistic regression and the adaptive random forest."""
    source, data = electricity()
    rows.title += f", {source}"
    with quiet():
        size = 16_000 if quick else len(data)
        compare(rows, "LR", "benchmarks.learn:logistic", logistic, data[:size], [">= 0.6", ">= 0.35"])
        size = 2_000 if quick else 12_000
        goals = [">= 0.9", ">= 0.45"]
        compare(rows, "ARF", "benchmarks.learn:adaptive_random_forest", lambda: adaptive_random_forest(42), data[:size], goals)


if __name__ == "__main__":
    main("Events learned a second", measure)
