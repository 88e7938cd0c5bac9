"""Retrains on one, two and four workers of a local Dask cluster and of a process pool: seconds, CPU, equal results, a death.

Fits of scaled logistic regression and of a Hoeffding tree, half of each, over one SQLite log, all submitted at once to workers
that are warm. CPU seconds are those of the processes that fit: beside the wall they tell how many cores were busy, and on a
machine of two no more can be. Each result is compared with that of the pool's single process, byte for byte. Then the same
on two workers again, one of which is killed in the middle, and starts anew by its nanny: what it had fitted is fitted again.
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

from .harness import Rows, electricity, main
from .learn import entries_of

KEYS = KeyRing({"bench": b"0123456789abcdef"})
PIPELINES = ("logistic", "hoeffding_tree")
LIMIT_S, LIMIT_MB = 3600.0, 2048.0
LOOK_S = 0.05
EMPTY = 50
NICENESS = 1  # this is about workers side by side, not about how they give way to others; and it tells them from Dask's own


class Ran(NamedTuple):
    """The results in order; seconds on the wall, and of CPU in the processes that fitted."""

    blobs: list[bytes]
    seconds: float
    cpu: float


def spec_of(pipeline: str, until: int, version: int, epochs: int = 1) -> FitSpec:
    """A fit of the model m over the events [0, until) of the stream power; its seed is its version."""
    settings = ModelSettings.model_validate({"stream": "power", "task": "binary", "pipeline": pipeline})
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
                if process.nice() == NICENESS:
                    times = process.cpu_times()
                    self._seen[process.pid] = float(times.user + times.system)
            except psutil.Error:
                continue


def run_all(jobs: Jobs, specs: Sequence[FitSpec], midway: Callable[[Sequence[Call]], None] | None = None) -> Ran:
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


@contextmanager
def local_cluster(workers: int, folder: Path) -> Iterator[Any]:
    """A scheduler and its workers, of one thread each, as processes on this machine, with their files in `folder`."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50,
        local_directory=str(folder),
    ) as cluster:  # fmt: skip
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


def kill_one(cluster: Any, calls: Sequence[Call]) -> None:
    """SIGKILL for the first worker of a local cluster."""
    os.kill(cluster.workers[0].pid, signal.SIGKILL)


def empty_ms(executor: Executor) -> float:
    """Milliseconds of an empty call, there and back, one after the other."""
    started = time.perf_counter()
    for _ in range(EMPTY):
        executor.submit(LIMIT_S, LIMIT_MB, os.getpid).result()
    return 1000 * (time.perf_counter() - started) / EMPTY


def measure(rows: Rows, quick: bool) -> None:
    """The pool of one process, then clusters."""
    source, data = electricity()
    fits, events, sizes = (4, 4000, (1, 2)) if quick else (8, 20_000, (1, 2, 4))
    rows.title += f", {fits} fits of {events:,} events each, {source}, {os.cpu_count()} cores"
    specs = [spec_of(PIPELINES[number % len(PIPELINES)], events, number + 1) for number in range(fits)]
    with tempfile.TemporaryDirectory() as folder:
        open_log = functools.partial(SqliteLog, Path(folder) / "log.sqlite")
        log = open_log()
        log.create({"power": 1})
        log.append("power", entries_of(data[:events])).result()
        log.close()
        first: Ran | None = None
        equal = total = 0
        for workers in sizes:
            pool = Pool(workers, WARM, NICENESS)
            with warm_jobs(open_log, pool, workers) as jobs:
                ran = run_all(jobs, specs)
                if first is None:
                    first = ran
                    rows.add("pool, an empty call", empty_ms(pool), "ms")
            _told(rows, f"pool of {workers}", ran, first)
            equal, total = equal + sum(map(bytes.__eq__, ran.blobs, first.blobs)), total + fits
        assert first is not None
        single: Ran | None = None
        for workers in sizes:
            with local_cluster(workers, Path(folder)) as cluster:
                started = time.perf_counter()
                executor = Cluster(cluster.scheduler_address, workers, WARM, NICENESS)
                cold = executor.submit(LIMIT_S, LIMIT_MB, os.getpid)
                cold.result()
                cold_s = time.perf_counter() - started
                with warm_jobs(open_log, executor, workers) as jobs:
                    ran = run_all(jobs, specs)
                    single = single or ran
                    if workers == 1:
                        rows.add("Dask, connecting and the first call, a process started for it", cold_s, "s")
                        rows.add("Dask, an empty call", empty_ms(executor), "ms")
                    _told(rows, f"Dask, workers: {workers}", ran, single)
                    equal, total = equal + sum(map(bytes.__eq__, ran.blobs, first.blobs)), total + fits
                    if workers == 2:
                        killed = run_all(jobs, specs, functools.partial(kill_one, cluster))
                        rows.add("Dask, one of two workers killed in the middle", killed.seconds, "s")
                        lost, why = killed.seconds - ran.seconds, "two workers that live"
                        rows.add("Dask, one of two workers killed: time lost", lost, "s", reference=why)
                        equal, total = equal + sum(map(bytes.__eq__, killed.blobs, first.blobs)), total + fits
        rows.add("results equal to the first", equal / total, "share", ">= 1", f"{equal} of {total}, byte for byte")


def _told(rows: Rows, name: str, ran: Ran, first: Ran) -> None:
    rows.add(f"{name}: all fits", ran.seconds, "s")
    rows.add(f"{name}: speed-up", first.seconds / ran.seconds, "ratio", reference="one of its kind")
    rows.add(f"{name}: CPU of the fits / wall", ran.cpu / ran.seconds, "cores", reference=f"{ran.cpu:.1f} s of CPU")


if __name__ == "__main__":
    main("Where retrains run", measure)
