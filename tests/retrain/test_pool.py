"""The pool of worker processes: progress, cancel, limits, deaths of workers and of the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from streamlearn.errors import RetrainError
from streamlearn.retrain import limits, pool
from streamlearn.retrain.pool import Job, Pool

WORK = '''
import os, signal, time
from streamlearn.errors import RetrainError
from streamlearn.retrain.limits import report


def whoami():
    return os.getpid(), os.getppid(), os.nice(0)


def add(a, b):
    return a + b


def count(steps, pause):
    for step in range(steps):
        report(step, steps)
        time.sleep(pause)
    return steps


def take(mebibytes):
    return len(bytearray(mebibytes << 20))


def stubborn():
    while True:
        try:
            time.sleep(60)
        except Exception:
            pass


def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGUSR1})
    time.sleep(60)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def refuse():
    raise RetrainError("empty", "nothing to learn")


def fail():
    raise ZeroDivisionError("by nought")


def unpicklable():
    return lambda: None
'''

ROOMY = 1024.0


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Module-level functions that a worker can import: it is given the parent's sys.path."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "pool_work.py").write_text(WORK)
    sys.path.insert(0, str(folder))
    import pool_work

    yield pool_work
    sys.path.remove(str(folder))
    del sys.modules["pool_work"]


@pytest.fixture(scope="module")
def warm(work: object) -> Iterator[Pool]:
    with Pool(1, ("pool_work",)) as made:
        made.warm()
        yield made


def wait_for(condition: Callable[[], bool], seconds: float) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "not in time"
        time.sleep(0.02)
    return time.monotonic() - start


def reason_of(job: Job) -> str:
    with pytest.raises(RetrainError) as caught:
        job.result()
    return caught.value.reason


pytestmark = pytest.mark.slow


def test_a_function_runs_in_one_warm_process_at_low_priority(warm: Pool, work: object) -> None:
    job = warm.submit(60, ROOMY, work.whoami)
    pid, parent, niceness = job.result()
    assert pid != os.getpid() == parent
    assert niceness == pool.NICENESS
    assert warm.submit(60, ROOMY, work.whoami).result()[0] == pid
    assert job.result()[0] == pid
    assert job.done()


def test_progress_is_seen_while_it_runs_and_after(warm: Pool, work: object) -> None:
    job = warm.submit(60, ROOMY, work.count, 40, 0.05)
    wait_for(lambda: job.progress()[0] >= 3, 10)
    assert job.progress()[1] == 40
    assert not job.done()
    assert job.result() == 40
    assert job.progress() == (39, 40)
    following = warm.submit(60, ROOMY, work.add, 1, 2)
    assert following.result() == 3
    assert following.progress() == (0, 0)
    assert job.progress() == (39, 40)


def test_cancel_stops_what_runs_and_spares_what_follows(warm: Pool, work: object) -> None:
    job = warm.submit(60, ROOMY, work.stubborn)
    following = warm.submit(60, ROOMY, work.add, 1, 2)
    wait_for(lambda: bool(job._board[job._row + limits.PID]), 10)
    job.cancel()
    assert wait_for(job.done, 5) < 3
    assert reason_of(job) == "cancelled"
    assert following.result() == 3
    job.cancel()
    assert warm.submit(60, ROOMY, work.add, 2, 2).result() == 4


def test_cancel_of_a_waiting_job_is_done_at_once(warm: Pool, work: object) -> None:
    running = warm.submit(60, ROOMY, work.count, 20, 0.05)
    waiting = warm.submit(60, ROOMY, work.add, 1, 2)
    wait_for(lambda: running.progress()[0] > 0, 10)
    waiting.cancel()
    assert waiting.done()
    assert reason_of(waiting) == "cancelled"
    assert running.result() == 20
    assert reason_of(waiting) == "cancelled"


def test_the_time_limit(warm: Pool, work: object) -> None:
    start = time.monotonic()
    job = warm.submit(0.5, ROOMY, work.stubborn)
    assert reason_of(job) == "timeout"
    assert time.monotonic() - start < 5
    assert warm.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_the_memory_limit(warm: Pool, work: object) -> None:
    pid = warm.submit(60, ROOMY, work.whoami).result()[0]
    assert warm.submit(60, 200, work.take, 100).result() == 100 << 20
    assert reason_of(warm.submit(60, 200, work.take, 400)) == "memory"
    assert warm.submit(60, 1000, work.take, 400).result() == 400 << 20
    assert warm.submit(60, ROOMY, work.whoami).result()[0] == pid


def test_reasons_of_the_function_itself(warm: Pool, work: object) -> None:
    with pytest.raises(RetrainError, match="nothing to learn") as caught:
        warm.submit(60, ROOMY, work.refuse).result()
    assert caught.value.reason == "empty"
    with pytest.raises(RetrainError, match=r"failed: ZeroDivisionError: by nought \(pool_work.py:\d+\)"):
        warm.submit(60, ROOMY, work.fail).result()
    with pytest.raises(RetrainError, match="pickle"):
        warm.submit(60, ROOMY, work.unpicklable).result()
    with pytest.raises(RetrainError, match="pickle"):
        warm.submit(60, ROOMY, work.add, lambda: None, 1).result()
    assert warm.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_no_more_than_a_bounded_number_waits(warm: Pool, work: object) -> None:
    jobs = [warm.submit(60, ROOMY, work.count, 40, 0.05)]
    jobs += [warm.submit(60, ROOMY, work.add, number, 0) for number in range(limits.SLOTS - 1)]
    with pytest.raises(RetrainError, match="64 jobs are waiting"):
        warm.submit(60, ROOMY, work.add, 1, 2)
    assert [job.result() for job in jobs[1:]] == list(range(limits.SLOTS - 1))
    assert warm.submit(60, ROOMY, work.add, 1, 2).result() == 3


def test_a_worker_that_dies_fails_its_jobs_and_the_pool_is_rebuilt(work: object) -> None:
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


def test_a_worker_that_hears_no_signal_is_killed(work: object, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_closing_ends_what_runs(work: object) -> None:
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


def test_the_worker_goes_when_its_parent_is_killed(work: object, tmp_path: Path) -> None:
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
