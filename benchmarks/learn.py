"""Events learned a second through the embedded log, over a bare in-process loop with the same river model and data.

Ours: records read from the SQLite log, both detectors, every score, dedupe, publications and checkpoints to the SQLite
store. The reference: predict, accuracy, ADWIN, learn, on rows in memory. The sides are processes of their
own and take slices of the stream in turn, so that all of them meet the same machine.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from river import compose, drift, forest, linear_model, metrics, preprocessing

from streamlearn.config import Settings, parse
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import Event, Kind, Limits, encode
from streamlearn.keys import KeyRing
from streamlearn.learning.trainer import Trainer
from streamlearn.learning.worker import Worker, calm_collector
from streamlearn.log import Entry
from streamlearn.log.sqlite import SqliteLog
from streamlearn.records import Command, sign_command
from streamlearn.store import codec
from streamlearn.store.sqlite import SqliteStore

from .harness import Rows, electricity, main

KEYS = KeyRing({"bench": b"0123456789abcdef"})
Rowset = list[tuple[dict[str, float], bool]]


def logistic() -> Any:
    """River's scaled logistic regression, as a pipeline of the configuration."""
    return compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())


def adaptive_random_forest() -> Any:
    """River's adaptive random forest of ten trees, seeded."""
    return forest.ARFClassifier(10, seed=42)


class Bare:
    """The reference: predict, accuracy, ADWIN, learn, on rows in memory."""

    def __init__(self, model: Callable[[], Any], rows: Rowset) -> None:
        self._model, self._rows = model(), rows
        self._accuracy, self._adwin = metrics.Accuracy(), drift.ADWIN()

    def run(self, first: int, end: int) -> tuple[int, float]:
        """Take the rows from `first` to `end`: how many, and the seconds."""
        model, accuracy, adwin = self._model, self._accuracy, self._adwin
        started = time.perf_counter()
        for x, y in self._rows[first:end]:
            predicted = model.predict_one(x)
            accuracy.update(y, predicted)
            adwin.update(predicted != y)
            model.learn_one(x, y)
        return end - first, time.perf_counter() - started

    def close(self) -> None:
        """Nothing to let go."""


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
        self._learner = self._worker.shards[0].learner
        self._trial_from = trial_from

    def _resolve(self, command: Command, shard: int) -> bytes:
        blob = self._store.version(command.model, command.version or 0, shard)
        assert blob is not None
        return blob

    def run(self, first: int, end: int) -> tuple[int, float]:
        """Turn the worker until `end` events are learned: how many it took, some beyond perhaps, and the seconds."""
        learner, turn = self._learner, self._worker.turn
        before, started = learner.n, time.perf_counter()
        while learner.n < end:
            turn()
        return learner.n - before, time.perf_counter() - started

    def close(self) -> None:
        """Drain the worker and let go."""
        assert (self._learner.shadow is not None) == bool(self._trial_from)
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


def serve_side(channel: Connection, make: Callable[[], Bare | Logged]) -> None:
    """A side in a process of its own: for each (first, end) it answers (events taken, seconds spent); None ends it."""
    logging.disable(logging.WARNING)
    side = make()
    if isinstance(side, Logged):
        calm_collector()
    while (slice_ := channel.recv()) is not None:
        channel.send(side.run(*slice_))
    side.close()


class Side:
    """A side at the other end of a pipe, and what it has taken and spent so far."""

    def __init__(self, make: Callable[[], Bare | Logged]) -> None:
        context = get_context("spawn")
        self._channel, other = context.Pipe()
        self._process = context.Process(target=serve_side, args=(other, make))
        self._process.start()
        self.taken, self.spent = 0, 0.0

    def run(self, first: int, end: int) -> None:
        """Take a slice, and wait for it."""
        self._channel.send((first, end))
        taken, spent = self._channel.recv()
        self.taken += taken
        self.spent += spent

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.taken / self.spent

    def close(self) -> None:
        """End the process."""
        self._channel.send(None)
        self._process.join()


def compare(rows: Rows, name: str, model: Callable[[], Any], data: Rowset, goals: list[str]) -> None:
    """All three side by side, each in its own process, a slice each in turn, so that a machine that slows down slows all."""
    begin, step = 500, max(100, len(data) // 40)
    pipeline = f"{model.__module__.replace('__main__', 'benchmarks.learn')}:{model.__name__}"
    with tempfile.TemporaryDirectory() as folder:
        sides = [
            Side(partial(Bare, model, data)),
            Side(partial(Logged, pipeline, data, Path(folder) / "a")),
            Side(partial(Logged, pipeline, data, Path(folder) / "b", begin)),
        ]
        for side in sides:
            side.run(0, begin)
            side.taken, side.spent = 0, 0.0
        for first in range(begin, len(data), step):
            for side in sides:
                side.run(first, min(first + step, len(data)))
        for side in sides:
            side.close()
    bare, logged, trial = (side.rate for side in sides)
    rows.add(f"{name}: bare loop", bare, "events/s")
    rows.add(f"{name}: through the log", logged, "events/s")
    rows.add(f"{name}: through the log / bare", logged / bare, "ratio", goals[0], "bare river loop")
    rows.add(f"{name}: trial open / bare", trial / bare, "ratio", goals[1], "bare river loop")


def measure(rows: Rows, quick: bool) -> None:
    """Logistic regression and the adaptive random forest."""
    source, data = electricity()
    rows.title += f", {source}"
    size = 16_000 if quick else len(data)
    compare(rows, "LR", logistic, data[:size], [">= 0.6", ">= 0.35"])
    size = 2_000 if quick else 12_000
    compare(rows, "ARF", adaptive_random_forest, data[:size], [">= 0.9", ">= 0.45"])


if __name__ == "__main__":
    main("Events learned a second", measure)
