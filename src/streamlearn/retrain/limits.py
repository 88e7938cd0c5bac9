"""Inside a worker process: one call at a time under a time limit, a memory limit and a cancel flag, gently: on one core.

Installed as the initializer of a pool (see `pool`). The process ends by itself soon after the one that started it is gone,
however that one died. Nothing here knows what is being run, and no exception leaves `run`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, MutableSequence
from types import FrameType
from typing import Any, Final, NamedTuple

from streamlearn.errors import RetrainError

Board = MutableSequence[float]  # shared memory: a row of WIDTH numbers for each call under way

DONE: Final = 0
TOTAL: Final = 1
CANCEL: Final = 2
PID: Final = 3
STARTED: Final = 4
WIDTH: Final = 5
SLOTS: Final = 64

POLL_S: Final = 0.2
AGAIN_S: Final = 1.0
MIB: Final = 1 << 20

# What numpy, scikit-learn and what they call read when they are loaded: how many threads they may start.
THREADS: Final = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS", "LOKY_MAX_CPU_COUNT",
)  # fmt: skip


class Outcome(NamedTuple):
    """How a call ended: its `value`, or the reason (as in RetrainError) why there is none."""

    value: Any
    reason: str = ""
    detail: str = ""


class Stop(BaseException):
    """Ends a call from a signal handler. Not an Exception: a pipeline's own `except Exception` may not swallow it."""


_board: Board = []
_slot = -1


def install(board: Board, parent: int, niceness: int) -> None:
    """Make this process a worker of the process `parent`, at low priority, watching for the parent's end and for cancels.

    It uses one core: numpy's own threads would take the others from the learner and the API. It is scheduled as a batch
    (Linux), so that waking up interrupts nobody.
    """
    global _board
    _board = board
    os.environ.update(dict.fromkeys(THREADS, "1"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    signal.signal(signal.SIGALRM, _stop)
    signal.signal(signal.SIGUSR1, _stop)
    os.nice(niceness)
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    main = threading.get_ident()
    threading.Thread(target=_watch, args=(parent, main), name="watch", daemon=True).start()


def report(done: int, total: int) -> None:
    """Tell the parent how far the call under way is; outside a call it goes nowhere."""
    if _slot >= 0:
        _board[_slot * WIDTH + DONE] = done
        _board[_slot * WIDTH + TOTAL] = total


def run(
    slot: int, time_limit_s: float, memory_limit_mb: float, function: Callable[..., Any], args: tuple[Any, ...]
) -> Outcome:
    """Call `function(*args)`; reasons: timeout, memory, cancelled, failed, or that of a RetrainError which it raised.

    The memory limit is what the call may take beyond what the process has mapped at its beginning (RLIMIT_AS), in MiB.
    """
    global _slot
    row = slot * WIDTH
    _board[row + PID] = os.getpid()
    _board[row + STARTED] = time.monotonic()
    usual = resource.getrlimit(resource.RLIMIT_AS)
    try:
        try:
            _slot = slot
            signal.setitimer(signal.ITIMER_REAL, time_limit_s, AGAIN_S)
            _limit_memory(memory_limit_mb, usual[1])
            if _board[row + CANCEL]:
                return Outcome(None, "cancelled", "cancelled before it began")
            return Outcome(function(*args))
        finally:
            _slot = -1
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_AS, usual)
    except Stop as stop:
        if stop.args[0] == signal.SIGALRM:
            return Outcome(None, "timeout", f"not done after {time_limit_s:g} s")
        return Outcome(None, "cancelled", "cancelled while it ran")
    except MemoryError:
        return Outcome(None, "memory", f"needed more than {memory_limit_mb:g} MiB")
    except RetrainError as error:
        return Outcome(None, error.reason, error.detail)
    except BaseException as error:
        return Outcome(None, "failed", describe(error))


def describe(error: BaseException) -> str:
    """The exception in one line, with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _limit_memory(limit_mb: float, hard: int) -> None:
    soft = _mapped_bytes() + int(limit_mb * MIB)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _mapped_bytes() -> int:
    """The address space in use; 0 where /proc does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _stop(number: int, frame: FrameType | None) -> None:
    if _slot >= 0:
        raise Stop(number)


def _watch(parent: int, main: int) -> None:
    while not sys.is_finalizing():
        time.sleep(POLL_S)
        if os.getppid() != parent:
            os._exit(1)
        slot = _slot
        if slot >= 0 and _board[slot * WIDTH + CANCEL]:
            signal.pthread_kill(main, signal.SIGUSR1)
