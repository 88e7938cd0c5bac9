"""What may happen to a Dask cluster while calls run: workers and the scheduler are killed, away, and come back."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pool_work as work
import psutil
import pytest
from dask_bench import Processes, free_port
from executor_bench import reason_of, wait_for

from streamlearn.errors import RetrainError
from streamlearn.retrain import cluster
from streamlearn.retrain.cluster import Cluster, ask

ROOMY = 1024.0
WAIT_S = 90.0
LOOPS = ("dask cluster", "dask loop", "IO loop")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]

Start = Callable[..., Processes]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Distributed leaves sockets of connections that broke to the collector: here, not in another test."""
    yield
    gc.collect()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a scheduler, and so many workers."""
    with ExitStack() as stack:

        def started(workers: int, **settings: str) -> Processes:
            made = Processes(tmp_path, **settings)
            stack.callback(made.close)
            made.start_scheduler()
            for _ in range(workers):
                made.start_worker()
            wait_for(lambda: ask(made.address) == workers, WAIT_S)
            return made

        yield started


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def begun(folder: Path) -> list[int]:
    """The processes in which `slowly` began."""
    return [int(path.name) for path in folder.iterdir()]


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_call_whose_worker_is_killed_is_run_by_another(start: Start, marks: Path) -> None:
    """Its process goes with the worker."""
    here = start(2)
    with Cluster(here.address) as executor:
        job = executor.submit(60, ROOMY, work.slowly, str(marks), 30, 0.05)
        wait_for(lambda: job.progress()[0] >= 5, WAIT_S)
        [first] = begun(marks)
        os.kill(psutil.Process(first).ppid(), signal.SIGKILL)
        assert wait_for(lambda: not alive(first), 5) < 2
        wait_for(lambda: len(begun(marks)) == 2, WAIT_S)
        assert not job.done()
        assert job.result() == 30


def test_a_call_under_which_workers_die_is_given_up(start: Start) -> None:
    here = start(3, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1")
    with Cluster(here.address) as executor:
        with pytest.raises(RetrainError, match=r"2 workers died, .* the last of them tcp://127") as caught:
            executor.submit(60, ROOMY, work.fell_the_parent).result()
        assert caught.value.reason == "failed"
        assert executor.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_a_call_for_which_no_worker_is_left_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch, marks: Path) -> None:
    monkeypatch.setattr(cluster, "PATIENCE_S", 3.0)
    here = start(1)
    with Cluster(here.address) as executor:
        job = executor.submit(60, ROOMY, work.slowly, str(marks), 1000, 0.05)
        wait_for(lambda: job.progress()[0] > 0, WAIT_S)
        here.workers[0].kill()
        with pytest.raises(RetrainError, match=r"no worker has been left for 3 s at the Dask scheduler tcp://127.*; start one"):
            job.result()
        here.start_worker()
        wait_for(lambda: ask(here.address) == 1, WAIT_S)
        assert executor.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_a_scheduler_that_is_away_or_lost_fails_calls_until_it_is_back(tmp_path: Path, marks: Path) -> None:
    here, before = Processes(tmp_path), set(threading.enumerate())
    try:
        with Cluster(here.address) as executor:
            executor.warm()
            for _ in range(2):
                started = time.monotonic()
                job = executor.submit(60, ROOMY, work.add, 1, 2)
                assert time.monotonic() - started < 0.5, "submitting does not wait"
                with pytest.raises(RetrainError, match=r"scheduler at tcp://127\S+ does not answer .*; start it") as caught:
                    job.result()
                assert caught.value.reason == "failed"
                assert time.monotonic() - started < 2 * cluster.CONNECT_S
            here.start_scheduler()
            here.start_worker()
            assert executor.submit(60, ROOMY, work.add, 1, 2).result() == 3
            job = executor.submit(60, ROOMY, work.slowly, str(marks), 1000, 0.05)
            wait_for(lambda: job.progress()[0] > 0, WAIT_S)
            assert here.scheduler is not None
            here.scheduler.kill()
            here.scheduler.wait()
            with pytest.raises(RetrainError, match=r"the connection to the Dask scheduler at tcp://127\S+ was lost"):
                job.result()
            here.start_scheduler()
            here.start_worker()
            assert executor.submit(60, ROOMY, work.add, 1, 2).result() == 3
        wait_for(lambda: not alive(begun(marks)[0]), 10)
        assert [thread.name for thread in threading.enumerate() if thread not in before and thread.name in LOOPS] == []
    finally:
        here.close()


def test_what_runs_ends_on_the_worker_when_the_cluster_is_closed_here(start: Start, marks: Path) -> None:
    here = start(1)
    executor = Cluster(here.address, 2)
    job = executor.submit(60, ROOMY, work.slowly, str(marks), 1000, 0.05)
    waiting = executor.submit(60, ROOMY, work.add, 1, 2)
    wait_for(lambda: job.progress()[0] > 0, WAIT_S)
    executor.close()
    assert (reason_of(job), reason_of(waiting)) == ("cancelled", "cancelled")
    executor.close()
    with pytest.raises(RetrainError, match="closed"):
        executor.submit(60, ROOMY, work.add, 1, 2)
    with Cluster(here.address) as other:
        assert other.submit(60, ROOMY, work.add, 1, 2).result() == 3, "its only thread is free again"


def test_a_worker_that_ends_as_asked_lets_its_processes_go(start: Start, marks: Path) -> None:
    """A SIGTERM to the worker's nanny in the middle: the call is run by another."""
    here = start(0)
    here.start_worker("--nanny")
    wait_for(lambda: ask(here.address) == 1, WAIT_S)
    with Cluster(here.address) as executor:
        job = executor.submit(60, ROOMY, work.slowly, str(marks), 200, 0.05)
        wait_for(lambda: job.progress()[0] > 0, WAIT_S)
        [first] = begun(marks)
        here.start_worker()
        wait_for(lambda: ask(here.address) == 2, WAIT_S)
        here.workers[0].terminate()
        here.workers[0].wait(WAIT_S)
        wait_for(lambda: not alive(first), 5)
        assert job.result() == 200
        assert len(begun(marks)) == 2


def test_a_scheduler_that_says_nothing_is_given_up() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Cluster(f"tcp://127.0.0.1:{silent.getsockname()[1]}") as executor,
        pytest.raises(RetrainError, match=r"does not answer \(OSError: no answer within 5 s .*start it"),
    ):
        executor.submit(60, ROOMY, work.add, 1, 2).result()


@pytest.mark.parametrize("address", ["tls://127.0.0.1:1", "nonsense://here", "tcp://no-such-host.invalid:8786"])
def test_an_address_that_cannot_be_used(address: str) -> None:
    with Cluster(address) as executor, pytest.raises(RetrainError, match=f"scheduler at {address} does not answer"):
        executor.submit(60, ROOMY, work.add, 1, 2).result()


def test_a_scheduler_that_hangs_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch, marks: Path) -> None:
    monkeypatch.setattr(cluster, "PATIENCE_S", 2.0)
    here = start(1)
    assert here.scheduler is not None
    with Cluster(here.address) as executor:
        job = executor.submit(60, ROOMY, work.slowly, str(marks), 1000, 0.05)
        wait_for(lambda: job.progress()[0] > 0, WAIT_S)
        here.scheduler.send_signal(signal.SIGSTOP)
        with pytest.raises(RetrainError, match=r"has not answered for 2 s"):
            job.result()
        following = executor.submit(60, ROOMY, work.add, 1, 2)
        with pytest.raises(RetrainError, match=r"has not answered for 2 s|does not answer"):
            following.result()
        here.scheduler.send_signal(signal.SIGCONT)


def test_asking_a_scheduler(start: Start) -> None:
    here = start(1)
    wait_for(lambda: ask(here.address) == 1, WAIT_S)
    with pytest.raises(RetrainError, match=r"the Dask scheduler at tcp://127\S+ does not answer"):
        ask(f"tcp://127.0.0.1:{free_port()}")
