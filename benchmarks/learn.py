"""Events learned a second through the embedded log, over a bare in-process loop with the same river model and data.

Ours: records read from the SQLite log, both detectors, every score, dedupe, publications and checkpoints to the SQLite
store. The reference: predict, accuracy, ADWIN, learn, on rows in memory. The sides are processes of their
own and take slices of the stream in turn, so that all of them meet the same machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from river import compose, drift, forest, linear_model, metrics, preprocessing

from streamlearn.config import Settings, parse
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import Event, Kind, Limits, encode
from streamlearn.keys import KeyRing
from streamlearn.learning import pickling
from streamlearn.learning.trainer import Trainer
from streamlearn.learning.worker import Worker, calm_collector
from streamlearn.log import Entry, Log, Membership
from streamlearn.log.sqlite import SqliteLog
from streamlearn.records import Command, sign_command
from streamlearn.store import Store, codec
from streamlearn.store.links import Kept, kept_version
from streamlearn.store.sqlite import SqliteStore

from .harness import Rows, electricity, main
from .sides import Runner, Side, in_turn

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
    """Ours: the worker over a log that holds the events, with a model named m; for all shards, or those of `membership`."""

    def __init__(self, settings: Settings, log: Log, store: Store, membership: Membership | None = None) -> None:
        self._log, self._store = log, store
        self._worker = Worker(settings, log, store, KEYS, watches=DriftWatch, resolve=self._resolve, membership=membership)
        calm_collector()

    def _resolve(self, command: Command, shard: int) -> Kept:
        kept = kept_version(self._store, command.model, command.version or 0, shard)
        assert kept is not None
        return kept

    @property
    def _learned(self) -> int:
        return sum(shard.learner.n for shard in self._worker.shards)

    def run(self, first: int, end: int) -> tuple[int, float]:
        """Turn the worker until `end` events are learned: how many it took, some beyond perhaps, and the seconds."""
        turn = self._worker.turn
        before, started = self._learned, time.perf_counter()
        while self._learned < end:
            turn()
        return self._learned - before, time.perf_counter() - started

    def close(self) -> None:
        """Drain the worker and let go."""
        self._worker.close()
        self._store.close()
        self._log.close()


class Tried(Logged):
    """Ours with a trial open, to the end."""

    def close(self) -> None:
        """Drain the worker and let go."""
        assert all(shard.learner.shadow is not None for shard in self._worker.shards)
        super().close()


def entries_of(rows: Rowset, first: int = 0, stream: str = "power") -> list[Entry]:
    """What an application would append: labelled events, numbered from `first` on, each with a key of its own."""
    events = [Event(stream, id=str(i), ts=1e9 + i, x=dict(x), y=y) for i, (x, y) in enumerate(rows, first)]
    return [Entry(str(event.id).encode(), encode(event)) for event in events]


def embedded(pipeline: str, rows: Rowset, folder: Path) -> Logged:
    """Ours over a SQLite log that holds `rows`, in `folder`."""
    log, store = _files(folder)
    log.append("power", entries_of(rows)).result()
    return Logged(settings_for(pipeline), log, store)


def embedded_trial(pipeline: str, rows: Rowset, folder: Path, begin: int) -> Logged:
    """The same with a trial that is open from `begin` on."""
    settings = settings_for(pipeline)
    log, store = _files(folder)
    entries = entries_of(rows)
    log.append("power", entries[:begin]).result()
    store.put_version("m", 2, 0, challenger(settings, log, begin))
    command = Command(seq=10**6, model="m", verb="try", version=2, trained_to={"0": begin})
    log.append("power", [Entry(b"", sign_command(command, KEYS), Kind.COMMAND, 0)]).result()
    log.append("power", entries[begin:]).result()
    return Tried(settings, log, store)


def _files(folder: Path) -> tuple[SqliteLog, SqliteStore]:
    folder.mkdir()
    log, store = SqliteLog(folder / "log.sqlite"), SqliteStore(folder / "store.sqlite")
    log.create({"power": 1})
    return log, store


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
        parts={"model": pickling.dumps(trainer.model), **trainer.parts()},
        keys=KEYS,
        extra={},
    )


def compare(rows: Rows, name: str, model: Callable[[], Any], data: Rowset, goals: list[str]) -> None:
    """All three side by side, each in its own process, a slice each in turn, so that a machine that slows down slows all."""
    begin, step = 500, max(100, len(data) // 40)
    pipeline = f"{model.__module__.replace('__main__', 'benchmarks.learn')}:{model.__name__}"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        makes: list[Callable[[], Runner]] = [
            partial(Bare, model, data),
            partial(embedded, pipeline, data, Path(folder) / "a"),
            partial(embedded_trial, pipeline, data, Path(folder) / "b", begin),
        ]
        sides = [stack.enter_context(Side(make)) for make in makes]
        in_turn(sides, begin, len(data), step)
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
