"""What each way to retrain is worth after a drift that is known: loss of the next 5,000 events, CPU seconds, bytes.

A champion learns a stream online up to 500 events after a change, which is about when a drift is confirmed, and is kept as a
checkpoint. Then the service's own fit (`retrain.job.fit`, and `retrain.search` before it where that is the strategy) makes a
version by each strategy from the log, and each version predicts and learns what follows, from its first event on: what a trial
and a canary cost in time is not counted. *Nothing* is the champion that goes on; river's own ARF, bare, is beside it.

Generated streams: five each of four kinds (`drift.CONCEPTS`), that turn abruptly, gradually (over 1,000 events; the change is
taken to be their centre), or back to a concept that ruled before (A, B, A). With `STREAMLEARN_DATA` also three files;
electricity at the row where its `vicprice` begins to vary. A difference to *nothing* has a 95 % interval over streams
(Student's t), or, of a single stream, over blocks of its events (a bootstrap). Then fits and a search on workers (`executor`);
what a retrain that runs costs the service beside it is measured by `interference`.
"""

from __future__ import annotations

import functools
import os
import pickle
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from river import forest

from streamlearn.config import ModelSettings, StreamSettings
from streamlearn.config_retrain import StrategySettings
from streamlearn.errors import RetrainError
from streamlearn.events import Features, Limits, Position
from streamlearn.keys import KeyRing
from streamlearn.learning import pickling
from streamlearn.learning.batch import Batch
from streamlearn.learning.model import Model
from streamlearn.learning.trainer import Trainer
from streamlearn.log import read_below
from streamlearn.retrain.job import Base, FitSpec, base_blob, fit
from streamlearn.retrain.scoring import ScoreSpec, score
from streamlearn.retrain.search import Found, Search
from streamlearn.store import Retention
from streamlearn.store.codec import encode, open_blob
from streamlearn.testing import DoneJob, FakeClock, MemoryLog, MemoryStore

from . import executor
from .drift import CONCEPTS
from .harness import Rows, main, quiet
from .learn import entries_of
from .loop import of_csv, over_blocks, over_seeds

MODEL, STREAM = "m", "s"
SEED: Final = 42
DELAY: Final = 500  # labelled events from the change to the fit
FIRST: Final = 500  # events after the fit whose loss is told apart
WIDTH: Final = 1000  # events over which a gradual drift mixes
KINDS: Final = ("sine", "mixed", "agrawal", "hyperplane")
KEYS: Final = KeyRing({"bench": b"0123456789abcdef"})
ABRUPT, GRADUAL, RECURRING = "abrupt", "gradual", "recurring"
NOTHING, FULL, LAST, DECAYED, WARM, MEMBERS, SEARCH = (
    "nothing", "full, since the change", "full, the last 2,000", "full, all, half-life 250", "warm, since the change",
    "members, since the change", "search, since the change",
)  # fmt: skip
STRATEGIES: Final[Mapping[str, StrategySettings]] = {
    FULL: StrategySettings(),
    LAST: StrategySettings(window="records", records=2000),
    DECAYED: StrategySettings(window="all", half_life=250),
    WARM: StrategySettings(how="warm"),
    MEMBERS: StrategySettings(how="members"),
    SEARCH: StrategySettings(how="search"),
}
LINEAR, TREE, FOREST, BAGGING, ARF = "linear", "tree", "forest", "bagging", "river ARF"
MODELS: Final[Mapping[str, tuple[str, ...]]] = {
    LINEAR: (FULL, LAST, DECAYED, WARM, SEARCH),
    TREE: (FULL, LAST, DECAYED, WARM),
    FOREST: (FULL, WARM, MEMBERS),
    BAGGING: (FULL, WARM, MEMBERS),
}
TREES: Final = 5  # of a forest
ENSEMBLES: Final = {FOREST: ("adaptive_random_forest", {"n_models": TREES}), BAGGING: ("leveraging_bagging", {"n_models": 4})}

Pair = tuple[Features, Any]


class Drift(NamedTuple):
    """A stream with a change at the event `change`: the fit is made `at`, and judged on `after` events from there on."""

    kind: str
    name: str
    make: Callable[[], list[Pair]]
    change: int
    at: int
    after: int
    labels: tuple[Any, ...] = (False, True)
    min_events: int = 200
    by: tuple[str, ...] = (LINEAR, TREE, FOREST, ARF)

    @property
    def task(self) -> str:
        """No declared labels make it one of several classes."""
        return "binary" if self.labels else "multiclass"


class Ran(NamedTuple):
    """What a strategy made: which predictions were wrong, CPU seconds of the fit, bytes of the version and of the model in it,
    and what a search chose; of nothing, what the change cost the model as it was."""

    wrong: list[bool]
    seconds: float
    size: int
    model: int
    what: str = ""
    cost: float = 0.0

    @property
    def loss(self) -> float:
        return statistics.fmean(self.wrong)


Results = dict[tuple[str, str], dict[str, list[Ran]]]  # by kind of drift and model, by strategy: one for each stream


def turning(kind: str, seed: int, n: int, share: Callable[[int], float]) -> list[Pair]:
    """`n` events of two concepts; event i is of the second with probability `share(i)`. Every other seed turns them round."""
    rng = random.Random(seed)
    first, second = (CONCEPTS[kind]((seed + place) % 2, seed + 10_000 * place).take(n) for place in (0, 1))
    found = []
    for i, (one, other) in enumerate(zip(first, second, strict=True)):
        x, y = other if rng.random() < share(i) else one
        found.append(({str(name): value for name, value in x.items()}, bool(y)))
    return found


def abrupt(change: int, i: int) -> float:
    return float(i >= change)


def gradual(change: int, i: int) -> float:
    return min(1.0, max(0.0, 0.5 + (i - change) / WIDTH))


def recurring(change: int, i: int) -> float:
    """The second concept rules over the half before the change."""
    return float(change // 2 <= i < change)


def drifts(quick: bool) -> list[Drift]:
    """Everything that is measured: of a quick run two streams of each kind, of concepts that turn over."""
    seeds, change, after = (2, 2000, 1500) if quick else (20, 5000, 5000)
    forests = {ABRUPT: 1} if quick else {ABRUPT: 20, GRADUAL: 8, RECURRING: 8}  # forests take tens of times as long
    baggings = {} if quick else {ABRUPT: 8}
    found = []
    for name, share in ((ABRUPT, abrupt), (GRADUAL, gradual), (RECURRING, recurring)):
        for seed in range(seeds):
            kind = KINDS[seed % (2 if quick else len(KINDS))]
            by = (LINEAR, TREE) + (FOREST, ARF) * (seed < forests.get(name, 0)) + (BAGGING,) * (seed < baggings.get(name, 0))
            n, when = change + DELAY + after, functools.partial(share, change)
            make = functools.partial(turning, kind, seed // len(KINDS), n, when)
            found.append(Drift(name, kind, make, change, change + DELAY, after, by=by))
    return found if quick else [*found, *_of_folder(os.environ.get("STREAMLEARN_DATA"))]


def _of_folder(folder: str | None) -> Iterator[Drift]:
    if folder is None:
        print("  STREAMLEARN_DATA is not set: no real streams", file=sys.stderr)
        return
    power = ("day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
    files: list[tuple[str, str, str, tuple[str, ...], tuple[Any, ...], tuple[int, ...], int, int]] = [
        ("insects_gradual_balanced", "insects_gradual_balanced", "class", (), (), (14_028,), DELAY, 5000),
        ("usenet1", "usenet1", "interesting", (), ("0", "1"), (300, 600, 900, 1200), 100, 200),
        ("electricity", "elecNormNew", "class", power, ("DOWN", "UP"), (17_424,), DELAY, 5000),
    ]
    for name, file, label, known, labels, changes, delay, after in files:
        path = Path(folder, name, f"{file}.csv.gz")
        if not path.exists():
            print(f"  {path} is not there: passed over", file=sys.stderr)
            continue
        for change in changes:
            make = functools.partial(_rows, path, label, known, change + delay + after)
            yield Drift(name, name, make, change, change + delay, after, labels, min(200, delay))


def _rows(path: Path, label: str, known: Sequence[str], limit: int) -> list[Pair]:
    return list(of_csv(path, label, known, limit))


def settings_of(drift: Drift, model: str, few: bool) -> ModelSettings:
    """The service's defaults with the recipe; with `few`, a search compares few candidates."""
    linear = "logistic" if drift.task == "binary" else "softmax"
    recipes: dict[str, tuple[str, dict[str, int]]] = {LINEAR: (linear, {}), TREE: ("hoeffding_tree", {}), **ENSEMBLES}
    pipeline, params = recipes[model]
    table: dict[str, Any] = {
        "stream": STREAM, "task": drift.task, "pipeline": pipeline, "params": params, "seed": SEED
    }  # fmt: skip
    if drift.task == "binary" and drift.labels != (False, True):
        table["labels"] = list(drift.labels)
    table["retrain"] = {"min_events": drift.min_events} | ({"search": {"candidates": executor.FEW}} if few else {})
    return ModelSettings.model_validate(table)


class Stage:
    """The log up to the moment of the fit, and the champion's checkpoint there."""

    def __init__(self, drift: Drift, settings: ModelSettings, pairs: Sequence[Pair]) -> None:
        self._drift, self._settings = drift, settings
        self._log, self._store = MemoryLog(clock=FakeClock()), MemoryStore(clock=FakeClock())
        self._log.create({STREAM: 1})
        self._log.append(STREAM, entries_of(pairs[: drift.at], stream=STREAM)).result()
        champion = Trainer.new(MODEL, settings, StreamSettings(), Limits(), STREAM, 0, 0)
        self.cost = self._cost(champion, pairs)
        self._feed(champion, drift.at)
        self.champion = pickling.dumps(champion.model)
        blob = encode(
            kind="checkpoint", model=MODEL, version=1, shard=0, generation=1, created=1.0,
            positions=[Position(self._log.identity(STREAM), STREAM, 0, drift.at)],
            parts={"champion": self.champion, "join": champion.parts()["join"]}, keys=KEYS,
        )  # fmt: skip
        self._base = Base("checkpoint", self._store.put_checkpoint(MODEL, 0, 1, blob, Retention()))

    def _feed(self, champion: Trainer, end: int) -> None:
        while champion.position < end:
            champion.feed(read_below(self._log, STREAM, 0, champion.position, end, 1000))

    def _cost(self, champion: Trainer, pairs: Sequence[Pair]) -> float:
        """The loss of the model as it was before the change on the events that follow it, less what it lost before. As many
        events are looked at as lie between the change and the fit, and as many before the change are left out."""
        change, delay = self._drift.change, self._drift.at - self._drift.change
        champion.rehearse_from = change - 2 * delay
        self._feed(champion, change - delay)
        before = statistics.fmean(y != predicted for _, y, predicted in champion.rehearsed)
        champion.rehearse_from = None
        frozen: Model = pickle.loads(pickling.dumps(champion.model))
        return statistics.fmean(frozen.predict(x)[0] != frozen.label(y) for x, y in pairs[change : self._drift.at]) - before

    def spec(self, strategy: StrategySettings) -> FitSpec:
        """The fit that control would ask for (`control.windows`)."""
        drift = self._drift
        start = {"change": drift.change, "records": max(0, drift.at - strategy.records), "all": 0}[strategy.window]
        warm: dict[str, Any] = {"how": strategy.how, "base": self._base} if strategy.how in ("warm", "members") else {}
        return FitSpec(
            model=MODEL, version=2, shard=0, stream=STREAM, partition=0, start=start, until=drift.at, epochs=1, seed=SEED,
            catch_up_records=500, settings=self._settings.model_dump(mode="json"), stream_settings={}, limits={},
            half_life=strategy.half_life, share=strategy.share, max_events=strategy.max_events, **warm,
        )  # fmt: skip

    def ran(self, strategy: StrategySettings, after: Sequence[Pair]) -> Ran:
        """A version by this strategy, and how it does on the events `after`."""
        began, spec, what = time.process_time(), self.spec(strategy), ""
        if strategy.how == "search":
            found = self._search(spec)
            spec.settings, spec.seed, what = {**spec.settings, **found.recipe}, found.recipe["seed"], found.report["winner"]
        blob = fit(spec, self._log.reopen, KEYS, _silent, functools.partial(base_blob, self._store))
        seconds = time.process_time() - began
        sealed = open_blob(blob, KEYS, kind="version", model=MODEL, shard=0, version=2)
        model = sealed.part("model")
        return Ran(prequential(pickle.loads(model), after), seconds, len(blob), len(model), what)

    def _search(self, spec: FitSpec) -> Found:
        def submit(spec: ScoreSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
            try:
                return DoneJob(score(spec, self._log.reopen, _silent))
            except RetrainError as error:
                return DoneJob(error)

        return Search(submit, spec).result()


def _silent(done: int, total: int) -> None:
    """Progress that nobody follows."""


def prequential(model: Model, pairs: Sequence[Pair]) -> list[bool]:
    """Predict, then learn, event by event: which predictions were wrong."""
    batch = model.estimator if isinstance(model.estimator, Batch) else None
    answers = [] if batch is None else batch.answers([x for x, _ in pairs]).tolist()
    wrong = []
    for i, (x, label) in enumerate(pairs):
        if batch is not None:
            batch.remember(x, answers[i])
        y = model.label(label)
        wrong.append(bool(model.predict(x)[0] != y))
        model.learn(x, y)
    return wrong


def look(drift: Drift, model: str, few: bool) -> dict[str, Ran]:
    """Every strategy of the model after one drift."""
    pairs = drift.make()
    after = pairs[drift.at : drift.at + drift.after]
    if model == ARF:
        return {NOTHING: _rivers(pairs[: drift.at], after)}
    with quiet():
        stage = Stage(drift, settings_of(drift, model, few), pairs)
        ran = {NOTHING: Ran(prequential(pickle.loads(stage.champion), after), 0.0, 0, len(stage.champion), cost=stage.cost)}
        return ran | {name: stage.ran(STRATEGIES[name], after) for name in MODELS[model]}


def _rivers(before: Sequence[Pair], after: Sequence[Pair]) -> Ran:
    """River's own forest, which has learned from the start."""
    bare = forest.ARFClassifier(TREES, seed=SEED)
    for x, y in before:
        bare.learn_one(x, y)
    wrong = []
    for x, y in after:
        wrong.append(bool(bare.predict_one(x) != y))
        bare.learn_one(x, y)
    return Ran(wrong, 0.0, 0, len(pickle.dumps(bare)))


def difference(ran: Sequence[Ran], nothing: Sequence[Ran]) -> tuple[float, float, float]:
    """Mean loss less that of *nothing*, and its 95 % interval: over several streams, or over the blocks of one."""
    apart = [one.loss - other.loss for one, other in zip(ran, nothing, strict=True)]
    low, high = over_seeds(apart) if len(apart) > 1 else over_blocks(ran[0].wrong, nothing[0].wrong)
    return statistics.fmean(apart), low, high


def measure(rows: Rows, quick: bool) -> None:
    """Every drift by every model, two at a time; then the workers."""
    todo = [(drift, model) for drift in drifts(quick) for model in drift.by]
    results: Results = {}
    with ProcessPoolExecutor(2) as pool:
        jobs = [pool.submit(look, drift, model, quick) for drift, model in todo]
        for n, ((drift, model), job) in enumerate(zip(todo, jobs, strict=True), 1):
            for name, ran in job.result().items():
                results.setdefault((drift.kind, model), {}).setdefault(name, []).append(ran)
            print(f"  {n} of {len(todo)}: {drift.kind}, {drift.name}, {model}", file=sys.stderr, flush=True)
    report(rows, results)
    executor.compare(rows, executor.SMALL if quick else executor.FULL)


def report(rows: Rows, results: Results) -> None:
    """A table for each kind of drift; a goal for the default strategy."""
    for kind, some in groupby(sorted(results, key=lambda key: list(results).index(key)), key=lambda key: key[0]):
        _show(rows, kind, {model: results[kind, model] for _, model in some})
    for (kind, model), by in results.items():
        if model == ARF:
            continue
        mean, low, high = difference(by[FULL], by[NOTHING])
        told = f"95 % {low:+.4f} to {high:+.4f}, {len(by[FULL])} streams"
        rows.add(f"{kind}: {model}, {FULL}, loss less that of nothing", mean, "loss", "<= 0", told)


def _show(rows: Rows, kind: str, models: Mapping[str, Mapping[str, Sequence[Ran]]]) -> None:
    events = len(next(iter(next(iter(models.values())).values()))[0].wrong)
    table = Table(title=f"{kind}: {events:,} events after the fit", title_justify="left", box=None)
    columns = ("streams", "loss", f"first {FIRST}", "less nothing", "95 %", "fit, s", "kB", "model, kB")
    for column in ("model", "strategy", *columns, "cost; chosen"):
        table.add_column(column, justify="right" if column in columns else "left")
    for model, by in models.items():
        for name, ran in by.items():
            about = f"{kind}: {model}, {name}"
            loss, first = (statistics.fmean(statistics.fmean(one.wrong[:n]) for one in ran) for n in (None, FIRST))
            seconds = statistics.fmean(one.seconds for one in ran)
            size, inner = statistics.fmean(one.size for one in ran), statistics.fmean(one.model for one in ran)
            rows.note(f"{about}, loss", loss, "loss", f"{len(ran)} streams, {events} events each")
            rows.note(f"{about}, loss of the first {FIRST}", first, "loss")
            rows.note(f"{about}, size of the model", inner, "bytes")
            cells, chosen = ["", "", "", ""], _counted([one.what for one in ran if one.what])
            if name == NOTHING and model != ARF:
                cost = statistics.fmean(one.cost for one in ran)
                rows.note(f"{kind}: {model}, what the change cost", cost, "loss", "the model as it was")
                chosen = f"the change cost the model as it was {cost:+.3f}"
            if name != NOTHING:
                mean, low, high = difference(ran, by[NOTHING])
                rows.note(f"{about}, less nothing", mean, "loss", f"95 % {low:+.4f} to {high:+.4f}")
                rows.note(f"{about}, fit", seconds, "s", chosen)
                rows.note(f"{about}, size of the version", size, "bytes")
                cells = [f"{mean:+.4f}", f"{low:+.4f} {high:+.4f}", f"{seconds:.3f}", f"{size / 1000:,.1f}"]
            table.add_row(model, name, str(len(ran)), f"{loss:.4f}", f"{first:.4f}", *cells, f"{inner / 1000:,.1f}", chosen)
    Console(width=180).print(table)
    print()


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{name} {names.count(name)}×" for name in sorted(set(names), key=lambda name: (-names.count(name), name)))


if __name__ == "__main__":
    main("Ways to retrain after a drift", measure)
