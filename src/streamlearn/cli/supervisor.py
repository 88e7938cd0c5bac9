"""Runs the roles as child processes: restarts one that dies, with backoff; drains them on request; kills them at the second.

A child that ends with EXIT_CONFIG cannot be helped by a restart, so everything is drained and the supervisor fails too.
Children get a process group of their own, so that Ctrl-C reaches the supervisor alone, which decides. It knows nothing
about models, logs or HTTP, and installs no signal handler: who calls `run` does.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import Final, NamedTuple

EXIT_CONFIG: Final = 78  # EX_CONFIG of sysexits.h
TICK_S: Final = 0.05


class Child(NamedTuple):
    """What to run. `argv` may hold `{parent}`, which becomes the supervisor's process id; `fds` are inherited."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str] | None = None
    fds: tuple[int, ...] = ()


class Hopeless(Exception):
    """A child ended in a way that starting it again will not help; `name` is its name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} cannot run with this configuration (see its message above)")
        self.name = name


class Backoff(NamedTuple):
    """Seconds before the first restart, doubled at each further one up to `longest`, forgotten after `well` seconds up."""

    first: float = 0.5
    longest: float = 30.0
    well: float = 60.0

    def delay(self, failures: int) -> float:
        """Seconds before the restart after the `failures`-th failure in a row, from 1."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30))


ORDINARY: Final = Backoff()


class _Running:
    """One child's life."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.failures = 0
        self.due = 0.0
        self.restarts = 0


class Supervisor:
    """`stderr` (a file descriptor, default: inherited) takes what the children say. `say` takes one line for people."""

    def __init__(
        self,
        children: Sequence[Child],
        *,
        say: Callable[[str], None],
        backoff: Backoff = ORDINARY,
        drain_s: float = 30.0,
        stderr: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._running = {child.name: _Running(child) for child in children}
        self._leaving: list[tuple[subprocess.Popen[bytes], float]] = []  # asked to end, and to be killed at that time
        self._say, self._backoff, self._drain_s, self._stderr, self._clock = say, backoff, drain_s, stderr, clock

    def start(self) -> None:
        """Start every child. Raises OSError when one cannot be run at all; then none is left behind."""
        try:
            for running in self._running.values():
                self._spawn(running)
        except OSError:
            self.kill()
            raise

    def pids(self) -> dict[str, int]:
        """Process id of each child that is alive."""
        return {
            name: running.process.pid
            for name, running in self._running.items()
            if running.process is not None and running.process.poll() is None
        }

    def restarts(self) -> dict[str, int]:
        """How often each child was started again."""
        return {name: running.restarts for name, running in self._running.items()}

    def child(self, name: str) -> Child:
        """The child that runs, or is to run, under this name."""
        return self._running[name].child

    def run(self, stop: Event, kill: Event, each: Callable[[], None] = lambda: None) -> int:
        """Watch the children until `stop` is set, or one fails for good; then drain them, and kill them once `kill` is set.

        `each` is called with every look; it may change the children, and raise Hopeless. Returns the exit code: 0 after a
        drain in which every child ended by itself, EXIT_CONFIG, or 1.
        """
        code = 0
        try:
            while not stop.wait(TICK_S):
                self._look()
                each()
        except Hopeless as failed:
            self._say(f"{failed}; stopping")
            code = EXIT_CONFIG
        return self.drain(kill) or code

    def restart(self, children: Sequence[Child], stop: Event) -> None:
        """Drain the children of these names, then start these in their places. The others are watched meanwhile.

        Returns early once `stop` is set. Raises Hopeless.
        """
        for child in children:
            running = self._running[child.name]
            self._let_go(running)
            running.child, running.due, running.failures = child, math.inf, 0
        if not self._wait_for_leaving(stop):
            return
        for child in children:
            self._running[child.name].due = 0.0
        self._look()

    def replace(self, child: Child, ready: Callable[[], bool], limit_s: float, stop: Event) -> str | None:
        """Start `child` beside the one of its name; once it is `ready`, that one is drained, and this one takes its place.

        Returns why the old one stays: the new one ended, or was not ready in time. Raises Hopeless for another child.
        """
        fresh = _Running(child)
        try:
            self._spawn(fresh)
        except OSError as error:
            return f"the new {child.name} could not be started ({error})"
        assert fresh.process is not None
        deadline = self._clock() + limit_s
        problem: str | None = None
        try:
            while not ready():
                code = fresh.process.poll()
                if code is not None or self._clock() >= deadline or stop.is_set():
                    how = _how(code) if code is not None else f"was not ready within {limit_s:g} s"
                    problem = f"the new {child.name} {how}"
                    return problem
                self._look()
                stop.wait(TICK_S)
        except BaseException:
            problem = "left"
            raise
        finally:
            if problem is not None:
                _end_group(fresh.process.pid)
                fresh.process.wait()
        self._let_go(self._running[child.name])
        fresh.restarts = self._running[child.name].restarts
        self._running[child.name] = fresh
        self._wait_for_leaving(stop)
        return None

    def watch(self, seconds: float, stop: Event) -> None:
        """Look after the children for so long, or until `stop` is set. Raises Hopeless."""
        until = self._clock() + seconds
        while self._clock() < until and not stop.wait(TICK_S):
            self._look()

    def _wait_for_leaving(self, stop: Event) -> bool:
        """Watch the others until every child that was asked to end has done so; False once `stop` is set."""
        while self._leaving:
            if stop.wait(TICK_S):
                return False
            self._look()
        return True

    def _let_go(self, running: _Running) -> None:
        """Ask a child to end, and no longer count it as running."""
        if running.process is not None and running.process.poll() is None:
            running.process.terminate()
        if running.process is not None:
            self._leaving.append((running.process, self._clock() + self._drain_s))
        running.process = None

    def _look(self) -> None:
        failed = self.tick()
        if failed is not None:
            raise Hopeless(failed)

    def tick(self) -> str | None:
        """Look at each child once, and restart those that are due; the name of one that failed for good, or None."""
        for process, deadline in list(self._leaving):
            if process.poll() is None and self._clock() < deadline:
                continue
            if process.poll() is None:
                self._say(f"killed, since it did not end within {self._drain_s:g} s: process {process.pid}")
            _end_group(process.pid)
            process.wait()
            self._leaving.remove((process, deadline))
        for name, running in self._running.items():
            if running.process is None:
                if self._clock() >= running.due:
                    running.restarts += 1
                    try:
                        self._spawn(running)
                    except OSError as error:
                        self._put_off(running, f"could not be started ({error})")
                continue
            code = running.process.poll()
            if code == EXIT_CONFIG:
                return name
            if code is not None:
                _end_group(running.process.pid)
                running.process = None
                self._put_off(running, _how(code))
        return None

    def _put_off(self, running: _Running, what: str) -> None:
        now = self._clock()
        running.failures = 1 if now - running.started >= self._backoff.well else running.failures + 1
        delay = self._backoff.delay(running.failures)
        running.due = now + delay
        self._say(f"{running.child.name} {what}; starting it again in {delay:g} s")

    def drain(self, kill: Event) -> int:
        """Ask every child to end, wait for them, and kill what is left at the time limit or once `kill` is set.

        Returns 0 when each ended by itself and well, else 1.
        """
        alive = [running for running in self._running.values() if running.process is not None]
        for running in alive:
            if running.process is not None and running.process.poll() is None:
                running.process.terminate()
        deadline = self._clock() + self._drain_s
        while (self.pids() or self._any_leaves()) and not kill.is_set() and self._clock() < deadline:
            kill.wait(TICK_S)
        late = self.pids()
        if late and not kill.is_set():
            self._say(f"killed, since it did not end within {self._drain_s:g} s: {', '.join(late)}")
        self.kill()
        codes = [running.process.returncode for running in alive if running.process is not None]
        return 1 if late or any(code not in (0, -signal.SIGTERM, EXIT_CONFIG) for code in codes) else 0

    def kill(self) -> None:
        """End every child, and whatever it started, at once."""
        living = [running.process for running in self._running.values() if running.process is not None]
        for process in [*living, *(process for process, _ in self._leaving)]:
            _end_group(process.pid)
            process.wait()
        self._leaving.clear()

    def _any_leaves(self) -> bool:
        return any(process.poll() is None for process, _ in self._leaving)

    def _spawn(self, running: _Running) -> None:
        child, running.started = running.child, self._clock()
        running.process = subprocess.Popen(
            [part.replace("{parent}", str(os.getpid())) for part in child.argv],
            env=None if child.environ is None else dict(child.environ),
            stdin=subprocess.DEVNULL,
            stderr=self._stderr,
            process_group=0,
            pass_fds=child.fds,
        )


def _end_group(pid: int) -> None:
    """Kill what is left of a child's process group: it may have died before the processes that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
