"""Functions that tests run in workers."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from streamlearn.errors import RetrainError
from streamlearn.retrain.limits import report


def whoami() -> tuple[int, int, int]:
    return os.getpid(), os.getppid(), os.nice(0)


def add(a: int, b: int) -> int:
    return a + b


def count(steps: int, pause: float) -> int:
    for step in range(steps):
        report(step, steps)
        time.sleep(pause)
    return steps


def slowly(folder: str, steps: int, pause: float) -> int:
    """Each time that it begins leaves its process's number in `folder`."""
    open(f"{folder}/{os.getpid()}", "w").close()
    return count(steps, pause)


def threads() -> tuple[list[int], int]:
    import sklearn.ensemble  # brings numpy's threads and OpenMP's
    import threadpoolctl

    assert sklearn.ensemble
    return [found["num_threads"] for found in threadpoolctl.threadpool_info()], os.sched_getscheduler(0)


def take(mebibytes: int) -> int:
    return len(bytearray(mebibytes << 20))


def stubborn() -> None:
    while True:
        with contextlib.suppress(Exception):
            time.sleep(60)


def deaf() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGUSR1})
    time.sleep(60)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise RetrainError("empty", "nothing to learn")


def fail() -> None:
    raise ZeroDivisionError("by nought")


def unpicklable() -> object:
    return lambda: None


def fell_the_parent() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
