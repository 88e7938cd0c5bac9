"""Retrains on a Dask cluster: what `pool.Pool` is on one machine, with the same calls, limits and reasons.

Dask runs tasks in threads of its worker processes, where no call can be stopped and no memory be limited. So the task only
relays: the function runs in a pool of processes beside the worker (`pool`), of as many as it has threads, which end when
the worker does. A worker that dies has its calls begun again on another one by Dask. The scheduler does not unpickle what is
called, but it, too, needs the same streamlearn as the workers; whoever may connect to it runs code on all of them.

One thread of a `Cluster` does everything that may wait for the scheduler, so that no caller ever does. It connects when there
is something to run, and anew when the connection was lost: what ran then ends as failed. Calls whose client is gone are
cancelled by Dask, and the task sees to it that they end.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import multiprocessing
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Final

from distributed import Client, KilledWorker, Security, get_worker
from distributed.comm.core import connect
from tornado.ioloop import IOLoop

from streamlearn.errors import RetrainError

from .limits import Outcome, describe
from .pool import GRACE_S, NICENESS, Pool

CONNECT_S: Final = 5.0
ANSWER_S: Final = 5.0  # for an answer of a scheduler that we are connected to
PATIENCE_S: Final = 30.0  # without any worker, or without an answer, until what runs is given up
SURVEY_S: Final = 1.0
RELAY_S: Final = 0.1
MOST: Final = 64  # calls that run or wait

logger = logging.getLogger("streamlearn.retrain")


class Job:
    """One call on the cluster. `Cluster.submit` makes it; `executor.Call` says what its methods promise."""

    def __init__(self, number: int, limits: tuple[float, float], payload: bytes, wake: Callable[[], None]) -> None:
        self.number, self.limits, self.payload = number, limits, payload
        self.began: float | None = None  # when a worker last said that it begins
        self.future: Future[Outcome] | None = None
        self._wake = wake
        self._lock = threading.Lock()
        self._outcome: Outcome | None = None
        self._ended = threading.Event()
        self._progress = (0, 0)

    def progress(self) -> tuple[int, int]:
        """(done, total) as the function reported last; it begins anew with the call when a worker died."""
        return self._progress

    def cancel(self) -> None:
        """It is done at once; the worker is told, and lets go of it within a second."""
        self.end(Outcome(None, "cancelled", "cancelled"))
        self._wake()

    def done(self) -> bool:
        """Whether `result` would not wait."""
        return self._ended.is_set()

    def result(self) -> Any:
        """What the function returned; waits for it. Raises RetrainError."""
        self._ended.wait()
        outcome = self._outcome
        assert outcome is not None
        if outcome.reason:
            raise RetrainError(outcome.reason, outcome.detail)
        return outcome.value

    def end(self, outcome: Outcome) -> None:
        """For the cluster: how it ended; the first word counts."""
        with self._lock:
            if self._outcome is None:
                self._outcome, self.payload = outcome, b""
                self._ended.set()

    def told(self, done: int, total: int, begins: bool) -> None:
        """For the cluster: what the worker says."""
        if not self.done():
            self._progress = done, total
            if begins:
                self.began = time.monotonic()


class Cluster:
    """The workers of the Dask cluster whose scheduler is at `address`, at most `workers` calls at once; see `pool.Pool`.

    An address with tls:// takes certificates from Dask's own configuration (`distributed.comm.tls`).
    """

    def __init__(self, address: str, workers: int = 1, modules: Sequence[str] = (), niceness: int = NICENESS) -> None:
        self._address, self._workers, self._kind = address, workers, (tuple(modules), niceness)
        self._topic = f"streamlearn-{uuid.uuid4().hex}"
        self._lock = threading.Lock()
        self._waiting: collections.deque[Job] = collections.deque()
        self._running: dict[int, Job] = {}
        self._count = 0
        self._client: Client | None = None
        self._fine = 0.0  # when there was a worker last
        self._surveyed = 0.0
        self._warm_wanted = self._closed = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dask cluster", daemon=True)
        self._thread.start()

    def submit(self, time_limit_s: float, memory_limit_mb: float, function: Callable[..., Any], *args: Any) -> Job:
        """Run `function(*args)` on a worker when one is free; see `pool.Pool.submit`. Raises RetrainError."""
        try:
            payload = pickle.dumps((function, args))
        except Exception as error:
            raise RetrainError("failed", f"the call cannot be sent: {describe(error)}") from error
        with self._lock:
            if self._closed:
                raise RetrainError("failed", "the cluster is closed")
            if sum(not job.done() for job in (*self._waiting, *list(self._running.values()))) >= MOST:
                raise RetrainError("failed", f"{MOST} jobs are waiting already")
            self._count += 1
            job = Job(self._count, (time_limit_s, memory_limit_mb), payload, self._woken.set)
            self._waiting.append(job)
        self._woken.set()
        return job

    def warm(self) -> None:
        """Let workers start the processes that calls will run in, and import what these need. Does not wait for it."""
        self._warm_wanted = True
        self._woken.set()

    def close(self) -> None:
        """Cancel every call, and let the connection go. Closing twice is allowed."""
        with self._lock:
            self._closed = True
            jobs = [*self._waiting, *self._running.values()]
        for job in jobs:
            job.cancel()
        self._woken.set()
        self._thread.join(CONNECT_S + ANSWER_S)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with _Loop() as self._loop:
            self._follow()
            self._let_go()
            self._give_up("the cluster is closed")
            self._disconnect()

    def _follow(self) -> None:
        while not self._closed:
            self._woken.wait(SURVEY_S if self._running else None)
            self._woken.clear()
            try:
                self._turn()
            except Exception as error:  # distributed raises many kinds: none may end the thread that others wait for
                self._give_up(f"Dask at {self._address}: {describe(error)}")

    def _turn(self) -> None:
        self._let_go()
        if self._warm_wanted or self._waiting:
            try:
                self._connect()
            except Exception as error:  # of many kinds, by what is wrong with the address, its certificates or the network
                self._warm_wanted = False
                what = f"the Dask scheduler at {self._address} does not answer"
                why = f"{what} ({describe(error)}); start it, or mend executor.dask.scheduler"
                logger.warning("no cluster", extra={"error": why})
                self._give_up(why)
                return
        if self._warm_wanted and self._client is not None:
            self._warm_wanted = False
            executor = self._client.get_executor(pure=False)
            for _ in range(self._workers):
                executor.submit(warm_here, *self._kind)
        while self._waiting and len(self._running) < self._workers and not self._closed:
            self._start(self._waiting.popleft())
        if self._running and time.monotonic() > self._surveyed + SURVEY_S:
            self._survey()

    def _start(self, job: Job) -> None:
        client = self._client
        if job.done() or client is None:
            return
        if not self._running:
            self._fine = time.monotonic()
        self._running[job.number] = job
        call = self._topic, job.number, *job.limits, *self._kind, job.payload
        job.future = client.get_executor(pure=False).submit(run_here, *call)
        job.future.add_done_callback(lambda future: self._ended(job, future))

    def _ended(self, job: Job, future: Future[Outcome]) -> None:
        try:
            outcome = Outcome(*future.result())
        except CancelledError:
            outcome = Outcome(None, "failed", f"the connection to the Dask scheduler at {self._address} was lost")
        except KilledWorker as error:
            died = f"{error.allowed_failures + 1} workers died, one after the other, while they ran it"
            outcome = Outcome(None, "failed", f"{died}, the last of them {error.last_worker.address}; out of memory, or killed")
        except Exception as error:
            outcome = Outcome(None, "failed", " ".join(describe(error).split()))  # distributed's own take several lines
        job.end(outcome)
        self._woken.set()

    def _let_go(self) -> None:
        """What has ended: Dask is told of what it does not know, and keeps nothing."""
        for job in list(self._running.values()):
            if job.done():
                del self._running[job.number]
                future, job.future = job.future, None
                if future is not None and not future.done():
                    future.cancel()
        with self._lock:
            self._waiting = collections.deque(job for job in self._waiting if not job.done())

    def _survey(self) -> None:
        client, now = self._client, time.monotonic()
        assert client is not None
        try:
            if client.status == "running" and _workers(client):
                self._fine = now
            why = f"no worker has been left for {PATIENCE_S:g} s at the Dask scheduler {self._address}; start one"
        except Exception as error:  # whatever a broken connection raises; a lost one ends the futures by itself
            why = f"the Dask scheduler at {self._address} has not answered for {PATIENCE_S:g} s ({describe(error)})"
        self._surveyed = time.monotonic()
        if now > self._fine + PATIENCE_S:
            self._give_up(why)
            return
        for job in list(self._running.values()):
            if job.began is not None and now > job.began + job.limits[0] + 2 * GRACE_S + PATIENCE_S:
                job.end(Outcome(None, "timeout", f"nothing was heard of it since its limit of {job.limits[0]:g} s has passed"))

    def _give_up(self, why: str) -> None:
        with self._lock:
            jobs = [*self._waiting, *self._running.values()]
        for job in jobs:
            job.end(Outcome(None, "failed", why))
        self._woken.set()

    def _connect(self) -> None:
        if self._client is not None and self._client.status == "running":
            return
        self._disconnect()
        self._client = _connected(self._address, self._loop)
        self._client.subscribe_topic(self._topic, self._heard)
        self._fine = time.monotonic()

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                client.close(timeout=ANSWER_S)
            except Exception as error:
                logger.warning("the connection to Dask did not close", extra={"error": describe(error)})

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        said = event[1]
        job = self._running.get(said["job"])
        if job is not None:
            job.told(said["done"], said["total"], said["begins"])


class _Loop:
    """The event loop of clients, in a thread of its own. One that a client makes is left behind when it cannot connect."""

    def __init__(self) -> None:
        self._there = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="dask loop", daemon=True)

    def __enter__(self) -> IOLoop:
        self._thread.start()
        self._there.wait()
        return self._loop

    def __exit__(self, *_: object) -> None:
        self._loop.add_callback(self._end.set)
        self._thread.join(ANSWER_S)

    async def _main(self) -> None:
        self._loop, self._end = IOLoop.current(), asyncio.Event()
        self._there.set()
        await self._end.wait()


def ask(address: str) -> int:
    """How many workers the scheduler at `address` has. Raises RetrainError when it does not answer."""
    try:
        with _Loop() as loop, _connected(address, loop) as client:
            return _workers(client)
    except Exception as error:
        raise RetrainError("failed", f"the Dask scheduler at {address} does not answer: {describe(error)}") from error


def _connected(address: str, loop: IOLoop) -> Client:
    """A client, within twice CONNECT_S. Raises OSError, or whatever Dask raises for an address that it cannot use."""
    # Dask itself waits for ever for one that accepts connections and says nothing: it hangs, or is no scheduler.
    answered = asyncio.run_coroutine_threadsafe(_greet(address), loop.asyncio_loop)  # type: ignore[attr-defined]
    try:
        answered.result()
    except TimeoutError:
        raise OSError(f"no answer within {CONNECT_S:g} s") from None
    return Client(address, timeout=CONNECT_S, set_as_default=False, loop=loop)


async def _greet(address: str) -> None:
    options = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=CONNECT_S, **options), CONNECT_S + 0.5)
    await comm.close()


def _workers(client: Client) -> int:
    scheduler: Any = client.scheduler
    return len(client.sync(scheduler.ncores, callback_timeout=ANSWER_S))


# -- what runs in a Dask worker

_pools: dict[tuple[tuple[str, ...], int], Pool] = {}
_pools_lock = threading.Lock()


def run_here(
    topic: str,
    number: int,
    time_limit_s: float,
    memory_limit_mb: float,
    modules: tuple[str, ...],
    niceness: int,
    payload: bytes,
) -> Outcome:
    """Run a pickled call in a process of this worker's own, tell its progress on `topic`, and end it if Dask cancelled it."""
    worker = get_worker()
    key = worker.get_current_task()

    def tell(progress: tuple[int, int], begins: bool = False) -> tuple[int, int]:
        worker.log_event(topic, {"job": number, "done": progress[0], "total": progress[1], "begins": begins})
        return progress

    def unwanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled" or worker.status.name != "running"

    try:
        function, args = pickle.loads(payload)
    except Exception as error:
        where = f"the Dask worker {worker.address} cannot read the call"
        return Outcome(None, "failed", f"{where} ({describe(error)}); install the very same streamlearn and pipelines there")
    try:
        job = _pool(modules, niceness).submit(time_limit_s, memory_limit_mb, function, *args)
        told = tell((0, 0), begins=True)
        while not job.wait(RELAY_S):
            if unwanted():
                job.cancel()
            if job.progress() != told:
                told = tell(job.progress())
        if job.progress() != told:
            tell(job.progress())
        return Outcome(job.result())
    except RetrainError as error:
        return Outcome(None, error.reason, error.detail)


def warm_here(modules: tuple[str, ...], niceness: int) -> None:
    """Start this worker's own processes, unless they run."""
    _pool(modules, niceness)


def _pool(modules: tuple[str, ...], niceness: int) -> Pool:
    with _pools_lock:
        pool = _pools.get((modules, niceness))
        if pool is None:
            # A worker under a nanny is "daemonic", which only forbids children that might outlive it: these watch for its end.
            multiprocessing.current_process().daemon = False
            pool = _pools[modules, niceness] = Pool(get_worker().state.nthreads, modules, niceness)
            pool.warm()
        return pool
