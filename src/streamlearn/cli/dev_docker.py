"""Servers in containers, where there is a Docker engine and the program itself is not installed.

The container shares the host's network and the server's folder under its own path, so the command, its files and its ports are
those of a server on this machine. The engine must share the machine's network (Linux does). It pulls images; it never builds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from ..errors import StreamlearnError
from .dev_process import LocalProcess, Process

ENGINE_S: Final = 10.0


class Docker(NamedTuple):
    """An engine, and the image to run commands in."""

    client: str
    image: str

    @classmethod
    def find(cls, image: str) -> Self | None:
        """The engine that answers, or None."""
        client = shutil.which("docker")
        if client is None:
            return None
        try:
            done = subprocess.run([client, "info"], capture_output=True, timeout=ENGINE_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return cls(client, image) if done.returncode == 0 else None

    def argv(self, argv: Sequence[str], folder: Path, name: str) -> list[str]:
        """`docker run` in the foreground for the command, as this user, gone with all it wrote elsewhere when it ends."""
        mine = ["--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{folder}:{folder}", "--workdir", str(folder)]
        run = [self.client, "run", "--rm", "--name", name, "--network", "host", *mine, "--entrypoint", argv[0]]
        return [*run, self.image, *argv[1:]]

    def run(self, argv: Sequence[str], folder: Path, log: Path) -> Process:
        name = f"streamlearn-{uuid.uuid4().hex[:12]}"
        try:
            return Container(self.client, name, LocalProcess(self.argv(argv, folder, name), folder, log, signal.SIGTERM))
        except OSError as error:
            raise StreamlearnError(f"{self.client} could not be started ({error})") from None


class Container:
    """A container whose `docker run` is our child: it passes SIGTERM on, also when we die; the engine sends what it cannot."""

    def __init__(self, client: str, name: str, process: LocalProcess) -> None:
        self._client, self._name, self._process = client, name, process

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.running()

    def send(self, number: signal.Signals) -> None:
        if self._process.running():
            argv = [self._client, "kill", "--signal", number.name, self._name]
            subprocess.run(argv, capture_output=True, timeout=ENGINE_S, check=False)

    def wait(self, seconds: float) -> bool:
        return self._process.wait(seconds)
