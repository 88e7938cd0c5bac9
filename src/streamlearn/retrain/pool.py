"""A pool of warm worker processes that run one function each under limits, with progress, and can be told to stop.

A worker that dies takes the jobs of the pool with it, never the caller: they end as failed, and the next submit finds a
new pool. A job that ignores its time limit or a cancel for `GRACE_S` is killed. Nothing here knows what is being run.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import RawArray
from typing import Any, Final

from streamlearn.errors import RetrainError

from .limits import CANCEL, DONE, PID, SLOTS, STARTED, TOTAL, WIDTH, Board, Outcome, describe, install, run

GRACE_S: Final = 10.0
NICENESS: Final = 10
POLL_S: Final = 0.5


class Job:
    """One call in a worker. `submit` makes it; the methods may be called from any thread, `result` as often as one likes."""

    def __init__(self, board: Board, slot: int, time_limit_s: float) -> None:
        self._row = slot * WIDTH
        self._board = board
        self._time_limit_s = time_limit_s
        self._lock = threading.Lock()
        self._future: Future[Outcome] = Future()
        self._released = False
        self._progress = (0, 0)
        self._cancelled_at: float | None = None
        self._overdue = False

    def progress(self) -> tuple[int, int]:
        """(done, total) as the function reported last; (0, 0) before it did."""
        with self._lock:
            return self._progress if self._released else self._read_progress()

    def cancel(self) -> None:
        """Let it end without a result. Cancelling a job that is done changes nothing."""
        with self._lock:
            if not self._released:
                self._board[self._row + CANCEL] = 1
                if self._cancelled_at is None:
                    self._cancelled_at = time.monotonic()

    def done(self) -> bool:
        """Whether `result` would not wait."""
        self._enforce()
        return self._future.done() or self._never_begins()

    def result(self) -> Any:
        """What the function returned; waits for it. Raises RetrainError."""
        while True:
            if self._never_begins():
                raise RetrainError("cancelled", "cancelled before it began")
            try:
                outcome = self._future.result(POLL_S)
            except TimeoutError:
                self._enforce()
            except (CancelledError, BrokenProcessPool) as error:
                raise self._lost(error) from None
            except Exception as error:
                raise RetrainError("failed", describe(error)) from error
            else:
                if outcome.reason:
                    raise RetrainError(outcome.reason, outcome.detail)
                return outcome.value

    def started(self, future: Future[Outcome]) -> None:
        """For the pool: this future tells of the call."""
        self._future = future

    def release(self) -> None:
        """For the pool: the row is another's from now on."""
        with self._lock:
            self._progress = self._read_progress()
            self._released = True

    def _read_progress(self) -> tuple[int, int]:
        return int(self._board[self._row + DONE]), int(self._board[self._row + TOTAL])

    def _never_begins(self) -> bool:
        """Cancelled while it waits for a worker: whoever takes it up will put it down at once (see `limits.run`).

        The future itself is not cancelled: up to Python 3.12 a pool that breaks trips over a cancelled future, and hangs.
        """
        with self._lock:
            return not self._released and self._cancelled_at is not None and not self._board[self._row + PID]

    def _lost(self, error: Exception) -> RetrainError:
        if self._overdue:
            return RetrainError("timeout", f"not done {GRACE_S:g} s after its limit of {self._time_limit_s:g} s: killed")
        if self._cancelled_at is not None:
            return RetrainError("cancelled", "cancelled")
        return RetrainError("failed", f"the worker process died ({error}); out of memory, or killed")

    def _enforce(self) -> None:
        """Kill the worker that has not come back: a call stuck in compiled code sees no signal."""
        with self._lock:
            pid, started = int(self._board[self._row + PID]), self._board[self._row + STARTED]
            if self._released or not pid or self._future.done():
                return
            now = time.monotonic()
            late = now > started + self._time_limit_s + GRACE_S
            unheard = self._cancelled_at is not None and now > max(self._cancelled_at, started) + GRACE_S
            if late or unheard:
                self._overdue = late
                _kill(pid)


class Pool:
    """`workers` processes, started anew (never forked), at low priority, with `modules` imported before any work comes."""

    def __init__(self, workers: int = 1, modules: Sequence[str] = (), niceness: int = NICENESS) -> None:
        self._workers, self._modules, self._niceness = workers, tuple(modules), niceness
        self._context = multiprocessing.get_context("spawn")
        self._board: Board = RawArray("d", SLOTS * WIDTH)
        self._free = list(range(SLOTS))
        self._jobs: dict[int, Job] = {}
        # The executor runs done-callbacks under a lock of its own that submitting needs too: `_lock`, which the callback
        # takes, is therefore never held while the executor is called.
        self._lock = threading.Lock()
        self._executor_lock = threading.Lock()
        self._closed = False
        self._executor = self._build()

    def submit(self, time_limit_s: float, memory_limit_mb: float, function: Callable[..., Any], *args: Any) -> Job:
        """Run `function(*args)`, all of it picklable, when a worker is free; the limits begin then. Raises RetrainError.

        The function may call `limits.report(done, total)`. Its memory limit is in MiB, beyond what the worker holds itself.
        """
        with self._lock:
            if self._closed:
                raise RetrainError("failed", "the pool is closed")
            if not self._free:
                raise RetrainError("failed", f"{SLOTS} jobs are waiting already")
            slot = self._free.pop()
            for index in range(slot * WIDTH, (slot + 1) * WIDTH):
                self._board[index] = 0
            job = self._jobs[slot] = Job(self._board, slot, time_limit_s)
        try:
            future = self._submit(functools.partial(run, slot, time_limit_s, memory_limit_mb, function, args))
        except Exception as error:
            self._release(slot, None)
            raise RetrainError("failed", f"no worker process could be started: {describe(error)}") from error
        job.started(future)
        future.add_done_callback(functools.partial(self._release, slot))
        return job

    def warm(self) -> None:
        """Let each worker start and import what it will need. Does not wait for it."""
        with self._executor_lock:
            self._warm()

    def close(self) -> None:
        """Cancel every job, kill those that do not end within `GRACE_S`, and let the workers go. Closing twice is allowed."""
        with self._lock:
            self._closed = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        deadline = time.monotonic() + GRACE_S + 2 * POLL_S
        while not all(job.done() for job in jobs) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._executor.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, call: Callable[[], Outcome]) -> Future[Outcome]:
        with self._executor_lock:
            try:
                return self._executor.submit(call)
            except BrokenProcessPool:
                self._executor.shutdown(wait=False, cancel_futures=True)
                self._executor = self._build()
                return self._executor.submit(call)

    def _warm(self) -> None:
        for _ in range(self._workers):
            self._executor.submit(_import, self._modules)

    def _build(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._workers, self._context, initializer=install, initargs=(self._board, os.getpid(), self._niceness)
        )

    def _release(self, slot: int, _: Future[Outcome] | None) -> None:
        with self._lock:
            job = self._jobs.pop(slot, None)
            if job is not None:
                job.release()
                self._free.append(slot)


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
