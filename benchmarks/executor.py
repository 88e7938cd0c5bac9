"""Retrains and a search on one, two and four workers of a local Dask cluster and of a pool: seconds, CPU, equal results.

Fits of scaled logistic regression and of a Hoeffding tree, half of each, over one SQLite log, all submitted at once to workers
that are warm; then a search over the same log. CPU seconds are those of the processes that fit: beside the wall they tell how
many cores were busy, and on a machine of two no more can be. Each version is compared with that of the first pool, byte for
byte, and so are the losses of each candidate of the search. Then the same on two Dask workers again, one of which is killed in
the middle, and starts anew by its nanny: what it had fitted is fitted again.
"""

from __future__ import annotations

import functools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from streamlearn.config import ModelSettings
from streamlearn.keys import KeyRing
from streamlearn.log import Log
from streamlearn.log.sqlite import SqliteLog
from streamlearn.retrain.cluster import Cluster
from streamlearn.retrain.executor import Call, Executor
from streamlearn.retrain.job import WARM, FitSpec, Jobs
from streamlearn.retrain.pool import Pool
from streamlearn.retrain.search import Found, Search

from .harness import Rows, electricity, main
from .learn import entries_of

KEYS = KeyRing({"bench": b"0123456789abcdef"})
PIPELINES = ("logistic", "hoeffding_tree")
LIMIT_S, LIMIT_MB = 3600.0, 2048.0
LOOK_S = 0.05
EMPTY = 50
NICENESS = 1  # this is about workers side by side, not about how they give way to others; and it tells them from Dask's own
FEW = ({"pipeline": "logistic", "params": {"learning_rate": 0.1}}, {"pipeline": "hoeffding_tree"}, {"pipeline": "naive_bayes"})


class Size(NamedTuple):
    """How much is compared: fits of so many events, a search over as many among `candidates`, on so many workers in turn."""

    fits: int
    events: int
    workers: tuple[int, ...]
    candidates: Any


FULL = Size(8, 20_000, (1, 2, 4), "auto")
QUICK = Size(4, 4000, (1, 2), FEW)
SMALL = Size(4, 4000, (2,), FEW)

Midway = Callable[[Sequence[Call]], None]


class Ran(NamedTuple):
    """The results in order; seconds on the wall, and of CPU in the processes that fitted."""

    blobs: list[bytes]
    seconds: float
    cpu: float


class Searched(NamedTuple):
    """What a search found; seconds on the wall, and of CPU in the processes that scored."""

    found: Found
    seconds: float
    cpu: float

    @property
    def scores(self) -> list[tuple[Any, ...]]:
        """Of each candidate what does not depend on the clock: its losses and how far it came."""
        told = self.found.report["candidates"]
        return [tuple(one[key] for key in ("name", "loss", "difference", "rungs", "fitted", "bytes")) for one in told]


def spec_of(pipeline: str, until: int, version: int, epochs: int = 1, candidates: Any = "auto") -> FitSpec:
    """A fit of the model m over the events [0, until) of the stream power; its seed is its version."""
    table = {"stream": "power", "task": "binary", "pipeline": pipeline, "retrain": {"search": {"candidates": candidates}}}
    settings = ModelSettings.model_validate(table)
    return FitSpec(
        model="m", version=version, shard=0, stream="power", partition=0, start=0, until=until, epochs=epochs, seed=version,
        catch_up_records=100, settings=settings.model_dump(mode="json"), stream_settings={}, limits={}, stop=until,
    )  # fmt: skip


class Meter(threading.Thread):
    """The CPU seconds of this process's descendants that fit, from `start` to `stop`; those that died count as seen last."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seen: dict[int, float] = {}
        self._before: dict[int, float] = {}
        self._niceness = psutil.Process().nice() + NICENESS
        self._ending = threading.Event()
        self._look()
        self._before = dict(self._seen)

    def run(self) -> None:
        """Look until it is stopped."""
        while not self._ending.wait(4 * LOOK_S):
            self._look()

    def stop(self) -> float:
        """The seconds."""
        self._ending.set()
        self.join()
        self._look()
        return sum(spent - self._before.get(pid, 0.0) for pid, spent in self._seen.items())

    def _look(self) -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                if process.nice() == self._niceness:
                    times = process.cpu_times()
                    self._seen[process.pid] = float(times.user + times.system)
            except psutil.Error:
                continue


def run_all(jobs: Jobs, specs: Sequence[FitSpec], midway: Midway | None = None) -> Ran:
    """Submit all at once and wait for them; `midway` is called once half of the records are read. Raises RetrainError."""
    meter, started = Meter(), time.perf_counter()
    meter.start()
    calls = [jobs.submit(spec, LIMIT_S, LIMIT_MB) for spec in specs]
    half = sum(spec.until * spec.epochs for spec in specs) / 2
    while [call for call in calls if not call.done()]:
        if midway is not None and sum(call.progress()[0] for call in calls) >= half:
            midway(calls)
            midway = None
        time.sleep(LOOK_S)
    seconds = time.perf_counter() - started
    return Ran([call.result() for call in calls], seconds, meter.stop())


def search_all(jobs: Jobs, spec: FitSpec, midway: Midway | None = None) -> Searched:
    """Search the window of `spec`; `midway` is called once half of it is done. Raises RetrainError."""
    meter, started = Meter(), time.perf_counter()
    meter.start()
    search = Search(jobs.score, spec)
    while not search.done():
        done, total = search.progress()
        if midway is not None and done >= total / 2:
            midway(())
            midway = None
        time.sleep(LOOK_S)
    return Searched(search.result(), time.perf_counter() - started, meter.stop())


@contextmanager
def local_cluster(workers: int, folder: Path) -> Iterator[Any]:
    """A scheduler and its workers, of one thread each, as processes on this machine, with their files in `folder`."""
    import dask
    from distributed import LocalCluster

    # The scheduler, too, takes its folder from the settings, and from nowhere else.
    with (
        dask.config.set({"temporary-directory": str(folder)}),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
    ):
        yield cluster


@contextmanager
def warm_jobs(open_log: Callable[[], Log], executor: Executor, workers: int) -> Iterator[Jobs]:
    """Jobs whose workers have each imported what a fit needs, all of them having begun at once."""
    jobs = Jobs(open_log, KEYS, executor=executor)
    try:
        for call in [executor.submit(LIMIT_S, LIMIT_MB, time.sleep, 2.0) for _ in range(workers)]:
            call.result()
        run_all(jobs, [spec_of("logistic", 300, 1) for _ in range(workers)])
        yield jobs
    finally:
        jobs.close()


def kill_one(cluster: Any, killed: list[int], calls: Sequence[Call]) -> None:
    """SIGKILL for the first worker of a local cluster, whose process id is noted."""
    killed.append(cluster.workers[0].pid)
    os.kill(killed[-1], signal.SIGKILL)


def empty_ms(executor: Executor) -> float:
    """Milliseconds of an empty call, there and back, one after the other."""
    started = time.perf_counter()
    for _ in range(EMPTY):
        executor.submit(LIMIT_S, LIMIT_MB, os.getpid).result()
    return 1000 * (time.perf_counter() - started) / EMPTY


class Comparison:
    """The rows, and what the first fits and the first search gave, with which all others are compared."""

    def __init__(self, rows: Rows, size: Size) -> None:
        self._rows = rows
        self._specs = [spec_of(PIPELINES[n % len(PIPELINES)], size.events, n + 1) for n in range(size.fits)]
        self._search = spec_of(PIPELINES[0], size.events, 1, candidates=size.candidates)
        self._first: tuple[Ran, Searched] | None = None
        self._single: dict[str, tuple[Ran, Searched]] = {}
        self.equal = self.total = self.scored = self.scores = 0

    def run(self, kind: str, jobs: Jobs, name: str, midway: Midway | None = None) -> tuple[Ran, Searched]:
        """The fits, then the search; rows of both, but of one with a `midway`, which is for the caller to tell."""
        ran, searched = run_all(jobs, self._specs, midway), search_all(jobs, self._search, midway)
        first, found = self._first = self._first or (ran, searched)
        self.equal += sum(map(bytes.__eq__, ran.blobs, first.blobs))
        self.total += len(ran.blobs)
        self.scored += sum(map(tuple.__eq__, searched.scores, found.scores))
        self.scores += len(found.scores)
        if midway is None:
            alone = self._single.setdefault(kind, (ran, searched))
            for what, one, single in (("all fits", ran, alone[0]), ("the search", searched, alone[1])):
                self._rows.add(f"{name}: {what}", one.seconds, "s")
                ratio, busy = single.seconds / one.seconds, f"{one.cpu:.1f} s of CPU"
                self._rows.add(f"{name}: {what}, speed-up", ratio, "ratio", reference="the first of its kind")
                self._rows.add(f"{name}: {what}, CPU / wall", one.cpu / one.seconds, "cores", reference=busy)
        return ran, searched

    def end(self) -> None:
        """The rows on equal results."""
        versions, scores = f"{self.equal} of {self.total}, byte for byte", f"{self.scored} of {self.scores}, to the last bit"
        self._rows.add("versions equal to the first", self.equal / self.total, "share", ">= 1", versions)
        self._rows.add("candidates with losses equal to the first", self.scored / self.scores, "share", ">= 1", scores)


def measure(rows: Rows, quick: bool) -> None:
    """The pool of one process, then clusters."""
    compare(rows, QUICK if quick else FULL)


def compare(rows: Rows, size: Size) -> None:
    """Each number of workers, as a pool and as a cluster; with two Dask workers also a death."""
    source, data = electricity()
    rows.title += f", {size.fits} fits of {size.events:,} events each, {source}, {os.cpu_count()} cores"
    compared = Comparison(rows, size)
    with tempfile.TemporaryDirectory() as folder:
        open_log = functools.partial(SqliteLog, Path(folder) / "log.sqlite")
        log = open_log()
        log.create({"power": 1})
        log.append("power", entries_of(data[: size.events])).result()
        log.close()
        for workers in size.workers:
            pool = Pool(workers, WARM, NICENESS)
            with warm_jobs(open_log, pool, workers) as jobs:
                compared.run("pool", jobs, f"pool of {workers}")
                if workers == size.workers[0]:
                    rows.add("pool, an empty call", empty_ms(pool), "ms")
        for workers in size.workers:
            with local_cluster(workers, Path(folder)) as cluster:
                started = time.perf_counter()
                executor = Cluster(cluster.scheduler_address, workers, WARM, NICENESS)
                executor.submit(LIMIT_S, LIMIT_MB, os.getpid).result()
                cold_s = time.perf_counter() - started
                with warm_jobs(open_log, executor, workers) as jobs:
                    ran = compared.run("Dask", jobs, f"Dask, workers: {workers}")
                    if workers == size.workers[0]:
                        rows.add("Dask, connecting and the first call, a process started for it", cold_s, "s")
                        rows.add("Dask, an empty call", empty_ms(executor), "ms")
                    if workers == 2:
                        killed: list[int] = []
                        died = compared.run("Dask", jobs, "", functools.partial(kill_one, cluster, killed))
                        told = f"two workers that live; {len(killed)} of 2 were killed in time"
                        for what, one, other in zip(("all fits", "the search"), ran, died, strict=True):
                            name = f"Dask, one of two workers killed in the middle: {what}"
                            rows.add(name, other.seconds, "s")
                            rows.add(f"{name}, time lost", other.seconds - one.seconds, "s", reference=told)
        compared.end()


if __name__ == "__main__":
    main("Where retrains run", measure)
