"""The pool of worker processes: progress, cancel, limits, deaths of workers and of the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pool_work as work
import psutil
import pytest
from executor_bench import reason_of, wait_for

from streamlearn.errors import RetrainError
from streamlearn.retrain import limits, pool
from streamlearn.retrain.pool import Pool

ROOMY = 1024.0


@pytest.fixture(scope="module")
def warm() -> Iterator[Pool]:
    with Pool(1, ("pool_work",)) as made:
        made.warm()
        yield made


pytestmark = pytest.mark.slow


def test_a_function_runs_in_one_warm_process_at_low_priority(warm: Pool) -> None:
    job = warm.submit(60, ROOMY, work.whoami)
    pid, parent, niceness = job.result()
    assert pid != os.getpid() == parent
    assert niceness == pool.NICENESS
    assert warm.submit(60, ROOMY, work.whoami).result()[0] == pid
    assert job.result()[0] == pid
    assert job.done()


def test_a_worker_that_dies_fails_its_jobs_and_the_pool_is_rebuilt() -> None:
    with Pool(1) as mortal:
        first = mortal.submit(60, ROOMY, work.whoami).result()[0]
        dying = mortal.submit(60, ROOMY, work.die)
        assert reason_of(dying) == "failed"
        assert dying.done()
        second = mortal.submit(60, ROOMY, work.whoami).result()[0]
        assert second != first
        os.kill(second, signal.SIGKILL)
        wait_for(lambda: not psutil.pid_exists(second), 10)
        time.sleep(0.2)
        assert mortal.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_a_worker_that_dies_takes_its_own_job_alone(tmp_path: Path) -> None:
    """What ran beside it begins again, what waited is run; nothing else is said to have failed."""
    with Pool(2) as mortal:
        assert [mortal.submit(60, ROOMY, work.add, number, 0).result() for number in range(2)] == [0, 1]
        beside = mortal.submit(60, ROOMY, work.slowly, str(tmp_path), 20, 0.05)
        wait_for(lambda: beside.progress()[0] > 0, 20)
        dying = mortal.submit(60, ROOMY, work.die)
        waiting = [mortal.submit(60, ROOMY, work.add, number, 1) for number in range(5)]
        with pytest.raises(RetrainError, match="the worker process died"):
            dying.result()
        assert [job.result() for job in waiting] == [1, 2, 3, 4, 5]
        assert beside.result() == 20
        assert len(list(tmp_path.iterdir())) == 2, "it began twice, in two processes"
        assert mortal.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_what_waits_while_an_idle_or_busy_worker_is_killed_from_outside(tmp_path: Path) -> None:
    with Pool(1) as mortal:
        busy = mortal.submit(60, ROOMY, work.slowly, str(tmp_path), 1000, 0.05)
        waiting = mortal.submit(60, ROOMY, work.add, 1, 2)
        gone = mortal.submit(60, ROOMY, work.add, 1, 2)
        wait_for(lambda: busy.progress()[0] > 0, 20)
        gone.cancel()
        os.kill(int(next(tmp_path.iterdir()).name), signal.SIGKILL)
        assert (reason_of(busy), reason_of(gone)) == ("failed", "cancelled")
        assert waiting.result() == 3


def test_a_job_is_not_begun_for_ever_beside_workers_that_die(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pool, "TRIES", 2)
    with Pool(2) as mortal:
        beside = mortal.submit(60, ROOMY, work.slowly, str(tmp_path), 1000, 0.05)
        for begun in (1, 2):
            wait_for(lambda begun=begun: len(list(tmp_path.iterdir())) == begun or beside.done(), 20)  # type: ignore[misc]
            assert reason_of(mortal.submit(60, ROOMY, work.die)) == "failed"
        with pytest.raises(RetrainError, match="worker processes died, its own or another, each of the 2 times it began"):
            beside.result()


def test_numpy_uses_one_core_in_a_worker_and_its_process_is_a_batch(warm: Pool) -> None:
    threads, scheduled = warm.submit(60, 4 * ROOMY, work.threads).result()
    assert threads
    assert set(threads) == {1}
    assert scheduled == os.SCHED_BATCH


def test_a_worker_that_hears_no_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "GRACE_S", 0.5)
    with Pool(1) as mortal:
        assert mortal.submit(60, ROOMY, work.add, 1, 2).result() == 3
        assert reason_of(mortal.submit(0.5, ROOMY, work.deaf)) == "timeout"
        job = mortal.submit(60, ROOMY, work.deaf)
        wait_for(lambda: bool(job._board[job._row + limits.PID]), 10)
        job.cancel()
        wait_for(job.done, 10)
        assert reason_of(job) == "cancelled"
        assert mortal.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_closing_ends_what_runs() -> None:
    closing = Pool(1)
    pid = closing.submit(60, ROOMY, work.whoami).result()[0]
    jobs = [closing.submit(60, ROOMY, work.stubborn) for _ in range(3)]
    start = time.monotonic()
    closing.close()
    assert time.monotonic() - start < 5
    assert [reason_of(job) for job in jobs] == ["cancelled"] * 3
    assert not psutil.pid_exists(pid)
    closing.close()
    with pytest.raises(RetrainError, match="closed"):
        closing.submit(60, ROOMY, work.whoami)


def test_the_worker_goes_when_its_parent_is_killed(tmp_path: Path) -> None:
    """Busy or idle, within two seconds of a kill -9 of the parent."""
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from streamlearn.retrain.pool import Pool
            if __name__ == "__main__":
                sys.path.insert(0, sys.argv[1])
                import pool_work
                idle, busy = Pool(1), Pool(1)
                pids = [pool.submit(60, 1024, pool_work.whoami).result()[0] for pool in (idle, busy)]
                busy.submit(60, 1024, pool_work.stubborn)
                time.sleep(0.5)
                print(*pids, flush=True)
                time.sleep(60)
            """
        )
    )
    folder = str(Path(work.__file__).parent)
    with subprocess.Popen([sys.executable, str(script), folder], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(psutil.pid_exists, pids))
        parent.kill()
        parent.wait()
        assert wait_for(lambda: not any(_alive(pid) for pid in pids), 5) < 2


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
