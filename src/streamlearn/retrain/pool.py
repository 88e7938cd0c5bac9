"""A pool of warm worker processes that run one function each under limits, with progress, and can be told to stop.

A worker that dies takes its job with it, never the caller: that job ends as failed. The others of the pool, which the executor
ends with it, begin again in a new one when they are looked at next, `TRIES` times at most. A job that ignores its time limit or
a cancel for `GRACE_S` is killed. Nothing here knows what is being run.
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
TRIES: Final = 5  # times that a job is begun while workers beside its own die
SEEN_S: Final = 1.0  # within which the death of a worker, that broke the pool, must show


class Job:
    """One call in a worker. `submit` makes it; the methods may be called from any thread, `result` as often as one likes."""

    def __init__(self, board: Board, slot: int, time_limit_s: float, begin: Callable[[Job], None]) -> None:
        self._row = slot * WIDTH
        self._board = board
        self._time_limit_s = time_limit_s
        self._begin = begin
        self._lock = threading.Lock()
        self._future: Future[Outcome] = Future()
        self._settled = threading.Event()  # `_future` tells how it ended
        self._stopped = False  # it was ended with a pool that another worker broke, and waits for a new one
        self._tries = 1
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
        self._tend()
        return self._settled.is_set() or self._never_begins()

    def wait(self, seconds: float) -> bool:
        """Wait for its end, so long at most; whether it is done."""
        self._settled.wait(seconds)
        return self.done()

    def result(self) -> Any:
        """What the function returned; waits for it. Raises RetrainError."""
        while not self._settled.is_set():
            if self._never_begins():
                raise RetrainError("cancelled", "cancelled before it began")
            self._tend()
            self._settled.wait(POLL_S)
        try:
            outcome = self._future.result()
        except (CancelledError, BrokenProcessPool) as error:
            raise self._lost(error) from None
        except RetrainError:
            raise
        except Exception as error:
            raise RetrainError("failed", describe(error)) from error
        if outcome.reason:
            raise RetrainError(outcome.reason, outcome.detail)
        return outcome.value

    def started(self, future: Future[Outcome]) -> None:
        """For the pool: this future tells of the call."""
        self._future = future

    def running_in(self) -> int:
        """For the pool: the process that has begun it, 0 before that."""
        return int(self._board[self._row + PID])

    def stop(self) -> bool:
        """For the pool: it was ended through no fault of its own. Whether it will begin again."""
        with self._lock:
            if self._cancelled_at is not None or self._tries >= TRIES:
                return False
            self._tries += 1
            self._stopped = True
            self._board[self._row + PID] = 0
            return True

    def release(self) -> None:
        """For the pool: the row is another's from now on."""
        with self._lock:
            self._progress = self._read_progress()
            self._released = True
        self._settled.set()

    def _read_progress(self) -> tuple[int, int]:
        return int(self._board[self._row + DONE]), int(self._board[self._row + TOTAL])

    def _never_begins(self) -> bool:
        """Cancelled while it waits for a worker: whoever takes it up will put it down at once (see `limits.run`).

        The future itself is not cancelled: up to Python 3.12 a pool that breaks trips over a cancelled future, and hangs.
        """
        with self._lock:
            return not self._released and self._cancelled_at is not None and not self.running_in()

    def _lost(self, error: Exception) -> RetrainError:
        if self._overdue:
            return RetrainError("timeout", f"not done {GRACE_S:g} s after its limit of {self._time_limit_s:g} s: killed")
        if self._cancelled_at is not None:
            return RetrainError("cancelled", "cancelled")
        if self._tries >= TRIES:
            return RetrainError("failed", f"worker processes died, its own or another, each of the {TRIES} times it began")
        return RetrainError("failed", f"the worker process died ({error}); out of memory, or killed")

    def _tend(self) -> None:
        """Begin again what was stopped, and end what ignores its limit or a cancel."""
        with self._lock:
            again, self._stopped = self._stopped, False
        if again:
            self._begin(self)
        self._enforce()

    def reset(self) -> None:
        """For the pool, before it begins again: nothing was done yet. A cancel stays."""
        with self._lock:
            for index in (PID, STARTED, DONE, TOTAL):
                self._board[self._row + index] = 0

    def _enforce(self) -> None:
        """Kill the worker that has not come back: a call stuck in compiled code sees no signal."""
        with self._lock:
            pid, started = self.running_in(), self._board[self._row + STARTED]
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
        self._closed = self._warmed = False
        self._dead: set[int] = set()  # the processes whose jobs were running when the executor broke
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
            call = functools.partial(run, slot, time_limit_s, memory_limit_mb, function, args)
            job = self._jobs[slot] = Job(self._board, slot, time_limit_s, functools.partial(self._again, slot, call))
        try:
            self._start(slot, call, job)
        except Exception as error:
            self._release(slot)
            raise RetrainError("failed", f"no worker process could be started: {describe(error)}") from error
        return job

    def warm(self) -> None:
        """Let each worker start and import what it will need. Does not wait for it."""
        with self._executor_lock:
            self._warmed = True
            self._warm(self._executor)

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

    def _start(self, slot: int, call: Callable[[], Outcome], job: Job) -> None:
        with self._executor_lock:
            try:
                future = self._executor.submit(call)
            except BrokenProcessPool:
                self._executor.shutdown(wait=True, cancel_futures=True)  # whatever ran in it is gone then
                self._dead.clear()
                self._executor = self._build()
                job.reset()
                future = self._executor.submit(call)
            job.started(future)
        future.add_done_callback(functools.partial(self._ended, slot))

    def _again(self, slot: int, call: Callable[[], Outcome], job: Job) -> None:
        job.reset()
        try:
            self._start(slot, call, job)
        except Exception as error:
            failed: Future[Outcome] = Future()
            failed.set_exception(RetrainError("failed", f"no worker process could be started again: {describe(error)}"))
            job.started(failed)
            self._release(slot)

    def _build(self) -> ProcessPoolExecutor:
        made = ProcessPoolExecutor(
            self._workers, self._context, initializer=install, initargs=(self._board, os.getpid(), self._niceness)
        )
        # All start now. One that a later submit starts would not be watched: its death would go unnoticed until another
        # call ends, since CPython takes the list of whom to watch just before it starts the new one.
        self._warm(made)
        return made

    def _warm(self, executor: ProcessPoolExecutor) -> None:
        for _ in range(self._workers):
            executor.submit(_import, self._modules if self._warmed else ())

    def _ended(self, slot: int, future: Future[Outcome]) -> None:
        """The executor calls this before it ends the workers beside the one that died."""
        if not future.cancelled() and isinstance(future.exception(), BrokenProcessPool):
            with self._lock:
                job = None if self._closed else self._jobs.get(slot)
                running = {job.running_in() for job in self._jobs.values()} - {0}
            if job is not None and not self._died(job.running_in(), running) and job.stop():
                return
        self._release(slot)

    def _died(self, pid: int, running: set[int]) -> bool:
        """Whether `pid` is a process that died, of those that are `running` jobs."""
        deadline = time.monotonic() + SEEN_S
        while pid and not self._dead and time.monotonic() < deadline:
            self._dead |= running - {process.pid for process in multiprocessing.active_children()}
            time.sleep(0.01)
        return pid in self._dead

    def _release(self, slot: int) -> None:
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
