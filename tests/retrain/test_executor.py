"""What every executor promises: a pool of processes here, and a Dask cluster of two workers, processes of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pool_work as work
import pytest
from executor_bench import reason_of, wait_for

from streamlearn.errors import RetrainError
from streamlearn.retrain import pool
from streamlearn.retrain.cluster import Cluster
from streamlearn.retrain.executor import Executor
from streamlearn.retrain.pool import NICENESS, Pool

ROOMY = 1024.0
MODULES = ("pool_work",)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a local cluster's scheduler."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=40) as local:
        yield local.scheduler_address


@pytest.fixture(scope="module", params=["processes", "dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Runs one call at once."""
    made: Pool | Cluster
    made = Pool(1, MODULES) if request.param == "processes" else Cluster(request.getfixturevalue("scheduler"), 1, MODULES)
    with made:
        made.warm()
        yield made


def test_a_function_runs_in_another_process_at_low_priority(executor: Executor) -> None:
    job = executor.submit(60, ROOMY, work.whoami)
    pid, _, niceness = job.result()
    assert niceness == NICENESS
    assert job.result()[0] == pid
    assert job.done()


def test_progress_is_seen_while_it_runs_and_after(executor: Executor) -> None:
    job = executor.submit(60, ROOMY, work.count, 40, 0.05)
    wait_for(lambda: job.progress()[0] >= 3, 10)
    assert job.progress()[1] == 40
    assert not job.done()
    assert job.result() == 40
    wait_for(lambda: job.progress() == (39, 40), 5)
    following = executor.submit(60, ROOMY, work.add, 1, 2)
    assert following.result() == 3
    assert following.progress() == (0, 0)
    assert job.progress() == (39, 40)


def test_cancel_stops_what_runs_and_spares_what_follows(executor: Executor) -> None:
    job = executor.submit(60, ROOMY, work.count, 1000, 0.05)
    following = executor.submit(60, ROOMY, work.add, 1, 2)
    wait_for(lambda: job.progress()[0] > 0, 10)
    job.cancel()
    assert wait_for(job.done, 5) < 3
    assert reason_of(job) == "cancelled"
    assert following.result() == 3
    job.cancel()
    assert reason_of(job) == "cancelled"
    assert executor.submit(60, ROOMY, work.add, 2, 2).result() == 4


def test_cancel_of_a_waiting_job_is_done_at_once(executor: Executor) -> None:
    running = executor.submit(60, ROOMY, work.count, 20, 0.05)
    waiting = executor.submit(60, ROOMY, work.add, 1, 2)
    wait_for(lambda: running.progress()[0] > 0, 10)
    waiting.cancel()
    assert waiting.done()
    assert reason_of(waiting) == "cancelled"
    assert running.result() == 20
    running.cancel()
    assert running.result() == 20
    assert reason_of(waiting) == "cancelled"


def test_the_time_limit(executor: Executor) -> None:
    start = time.monotonic()
    job = executor.submit(0.5, ROOMY, work.stubborn)
    assert reason_of(job) == "timeout"
    assert time.monotonic() - start < 5
    assert executor.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_the_memory_limit(executor: Executor) -> None:
    assert executor.submit(60, 200, work.take, 100).result() == 100 << 20
    assert reason_of(executor.submit(60, 200, work.take, 400)) == "memory"
    assert executor.submit(60, 1000, work.take, 400).result() == 400 << 20


def test_reasons_of_the_function_itself(executor: Executor) -> None:
    with pytest.raises(RetrainError, match="nothing to learn") as caught:
        executor.submit(60, ROOMY, work.refuse).result()
    assert caught.value.reason == "empty"
    with pytest.raises(RetrainError, match=r"failed: ZeroDivisionError: by nought \(pool_work.py:\d+\)"):
        executor.submit(60, ROOMY, work.fail).result()
    with pytest.raises(RetrainError, match="pickle"):
        executor.submit(60, ROOMY, work.unpicklable).result()
    with pytest.raises(RetrainError, match="pickle"):
        executor.submit(60, ROOMY, work.add, lambda: None, 1).result()
    assert executor.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_a_process_that_dies_ends_its_own_job(executor: Executor) -> None:
    dying = executor.submit(60, ROOMY, work.die)
    waiting = executor.submit(60, ROOMY, work.add, 1, 2)
    with pytest.raises(RetrainError, match="the worker process died") as caught:
        dying.result()
    assert caught.value.reason == "failed"
    assert dying.done()
    assert waiting.result() == 3


def test_no_more_than_a_bounded_number_waits(executor: Executor) -> None:
    jobs = [executor.submit(60, ROOMY, work.count, 40, 0.05)]
    jobs += [executor.submit(60, ROOMY, work.add, number, 0) for number in range(63)]
    with pytest.raises(RetrainError, match="64 jobs are waiting"):
        executor.submit(60, ROOMY, work.add, 1, 2)
    assert [job.result() for job in jobs[1:]] == list(range(63))
    assert executor.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_a_call_that_hears_no_signal_is_killed(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds of grace, which the processes of a cluster have; of those here one waits for less."""
    grace = pool.GRACE_S
    if isinstance(executor, Pool):
        monkeypatch.setattr(pool, "GRACE_S", grace := 1.0)
    start = time.monotonic()
    assert reason_of(executor.submit(0.5, ROOMY, work.deaf)) == "timeout"
    assert grace < time.monotonic() - start < grace + 10
    assert executor.submit(60, ROOMY, work.add, 1, 2).result() == 3
