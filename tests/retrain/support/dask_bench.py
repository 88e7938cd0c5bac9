"""A Dask cluster of processes that a test starts and kills one by one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

SUPPORT = str(Path(__file__).parent)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Processes:
    """A scheduler at `address` and its workers of one thread each; `settings` are Dask's, for all of them."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port, self._folder = free_port(), folder
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._environ = os.environ | {"PYTHONPATH": os.pathsep.join([SUPPORT, *map(os.path.abspath, sys.path)])} | settings
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._started = 0

    def start_scheduler(self) -> None:
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.scheduler.poll() is None:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError((self._folder / "dask-1.log").read_text())

    def start_worker(self, *options: str) -> subprocess.Popen[bytes]:
        options = options or ("--no-nanny",)
        self.workers.append(self._start("worker", self.address, "--nthreads", "1", "--host", "127.0.0.1", *options))
        return self.workers[-1]

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process is not None:
                process.kill()
                process.wait()

    def _start(self, role: str, *options: str) -> subprocess.Popen[bytes]:
        self._started += 1
        command = [sys.executable, "-m", "dask", role, *options, "--no-dashboard"]
        with (self._folder / f"dask-{self._started}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=self._environ, cwd=self._folder)
