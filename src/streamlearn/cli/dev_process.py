"""A real server as a child process on loopback: started until it answers, killed, frozen, resumed, restarted in its place.

For tests with faults and for people without Docker; never for production. A child dies with the process that started it (on
Linux), so that a killed test run leaves no server behind. This module knows no server in particular.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from ..errors import ConfigError, StreamlearnError

LOOPBACK: Final = "127.0.0.1"
START_S: Final = 90.0
STOP_S: Final = 30.0
LOOK_S: Final = 0.05
TAIL_LINES: Final = 20
PR_SET_PDEATHSIG: Final = 1
# Run by an interpreter that then becomes the server: argv[1] is the parent, argv[2] the signal that its death sends.
_TIED: Final = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Process(Protocol):
    """A started program: on this machine or in a container."""

    @property
    def pid(self) -> int:
        """Its process id; that of the client when it runs in a container."""

    def running(self) -> bool:
        """Whether it has not ended yet; a frozen one runs."""

    def send(self, number: signal.Signals) -> None:
        """Send a signal, also one that cannot be caught. Nothing happens when it has ended."""

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, and say whether it has."""


class Host(Protocol):
    """Where programs run."""

    def run(self, argv: Sequence[str], folder: Path, log: Path) -> Process:
        """Start `argv` in `folder`, its output appended to `log`. Raises StreamlearnError when it cannot be started."""


class LocalProcess:
    """A child process in a process group of its own, so that Ctrl-C does not reach it."""

    def __init__(self, argv: Sequence[str], folder: Path, log: Path, death: signal.Signals = signal.SIGKILL) -> None:
        self._process = _spawner().submit(_spawn, tied(argv, death), folder, log).result()

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


@dataclass(frozen=True)
class Local:
    """This machine."""

    def run(self, argv: Sequence[str], folder: Path, log: Path) -> Process:
        try:
            return LocalProcess(argv, folder, log)
        except OSError as error:
            raise StreamlearnError(f"{argv[0]} could not be started ({error})") from None


class Server(ABC):
    """A server with a folder of its own. Start it, or use it as a context manager: it is stopped at the end."""

    def __init__(self, name: str, folder: Path, host: Host) -> None:
        self.name, self.folder, self.log = name, folder, folder / "server.log"
        self._host = host
        self._process: Process | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """HOST:PORT for clients, the same after a restart."""

    @abstractmethod
    def prepare(self) -> Sequence[str]:
        """Make what it needs in its folder, which is there; the command that runs it in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether a real request was answered as it should. Raises nothing but OSError."""

    @property
    def pid(self) -> int:
        """Its process id. Raises StreamlearnError when it is not running."""
        if self._process is None or not self._process.running():
            raise StreamlearnError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self._process is not None and self._process.running()

    def start(self) -> Self:
        """Start it, and return when it answers. Raises StreamlearnError, with the end of its log, when it does not."""
        self.launch()
        self.await_ready()
        return self

    def launch(self) -> None:
        """Start it without waiting. Raises StreamlearnError when it runs already, or cannot be started."""
        if self.running:
            raise StreamlearnError(f"{self.name} is running already")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = self._host.run(self.prepare(), self.folder, self.log)

    def await_ready(self, seconds: float = START_S) -> None:
        """Wait until it answers. Raises StreamlearnError, with the end of its log, when it ended or takes too long."""
        deadline = time.monotonic() + seconds
        while not self._answered():
            if not self.running:
                raise StreamlearnError(f"{self.name} ended while it started:\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise StreamlearnError(f"{self.name} did not answer within {seconds:g} s:\n{self.tail()}")
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """Ask it to end, and wait; what does not end in time is killed. Stopping twice is allowed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a power cut would; its folder stays as it is."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Halt it: connections stay open, and nobody answers. Raises StreamlearnError when it is not running."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `freeze`. Raises StreamlearnError when it is not running."""
        self._send(signal.SIGCONT)

    def restart(self) -> Self:
        """Stop it if it runs, and start it again with the same port and folder."""
        self.stop()
        return self.start()

    def tail(self) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _answered(self) -> bool:
        try:
            return self.answers()
        except OSError:
            return False

    def _send(self, number: signal.Signals) -> None:
        if self._process is None or not self._process.running():
            raise StreamlearnError(f"{self.name} is not running")
        self._process.send(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send(number)
        self._process.send(signal.SIGCONT)  # a frozen process does not see SIGTERM
        if not self._process.wait(STOP_S):
            self._process.send(signal.SIGKILL)
            self._process.wait(STOP_S)
        self._process = None


def tied(argv: Sequence[str], death: signal.Signals) -> list[str]:
    """`argv` as a command that gets the signal `death` when this process ends, where the system can do that (Linux)."""
    if sys.platform != "linux":
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), str(int(death)), *argv]


def program(name: str, package: str) -> str:
    """The path of an installed program. Raises ConfigError that names Debian's package for it."""
    found = shutil.which(name)
    if found is None:
        raise ConfigError("dev-servers", f"{name} is not installed", f"Run: apt-get install {package}")
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, outside of the range that the system gives to outgoing connections.

    A port inside of it could be taken by any client while its server is down, even by one that only tries to reconnect.
    """
    low, _ = _outgoing()
    found: list[int] = []
    for port in random.SystemRandom().sample(range(min(low, 32768) // 2, low), 2000):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise StreamlearnError(f"no {count} free ports were found on {LOOPBACK}")


def _outgoing() -> tuple[int, int]:
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return 32768, 60999
    return (int(first), int(last)) if int(first) >= 8192 else (32768, 60999)


@functools.cache
def _spawner() -> ThreadPoolExecutor:
    """A thread that lasts as long as this process: the system ties a child to the thread that started it."""
    return ThreadPoolExecutor(1, thread_name_prefix="dev-servers")


def _spawn(argv: Sequence[str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
