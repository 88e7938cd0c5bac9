"""A real service for a benchmark: the three roles as processes on a free loopback port, in a folder of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

CONFIG = """
data_dir = "data"
[serve]
port = {port}
[streams.power]
[models.m]
stream = "power"
task = "binary"
pipeline = "{pipeline}"
"""


class Service(NamedTuple):
    """Where a running service is, and where it keeps its log."""

    url: str
    port: int
    folder: Path

    def status(self) -> dict[str, Any]:
        """What `/v1/models/m` says."""
        answer: dict[str, Any] = httpx.get(f"{self.url}/v1/models/m", timeout=10).raise_for_status().json()
        return answer


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def service(
    folder: Path, pipeline: str = "benchmarks.learn:logistic", backends: str = "", config: str = CONFIG
) -> Iterator[Service]:
    """Start `streamlearn serve`, wait until it is ready, and stop it by SIGTERM. `backends`: TOML of another log and store;
    `config` is formatted with the port and the pipeline."""
    port = free_port()
    (folder / "config.toml").write_text(config.format(port=port, pipeline=pipeline) + backends)
    process = start([sys.executable, "-m", "streamlearn", "serve", str(folder / "config.toml")], folder / "service.log")
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/readyz", process, folder / "service.log")
        yield Service(url, port, folder)
    finally:
        stop(process)


@contextmanager
def bare_endpoint(folder: Path, model: Path) -> Iterator[int]:
    """A bare FastAPI endpoint around the pickled model at `model`; its port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare_app:app", "--port", str(port), "--log-level", "error"]
    process = start([*command, "--no-access-log"], folder / "bare.log", {"BARE_MODEL": str(model)})
    try:
        wait_for(f"http://127.0.0.1:{port}/openapi.json", process, folder / "bare.log")
        yield port
    finally:
        stop(process)


def start(command: list[str], log: Path, extra: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process whose output goes to `log`; it finds this package's pipelines."""
    path = filter(None, (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **(extra or {})}
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    """Poll `url` until it answers 200. Raises RuntimeError with the process's last words."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} never became ready:\n{log.read_text()[-3000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then wait; SIGKILL after half a minute."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def load(port: int, path: str, body: dict[str, Any], connections: int, seconds: float) -> dict[str, float]:
    """Run the load generator in a process of its own: {"requests", "per_s", "p50_ms", "p99_ms", "errors"}."""
    command = [sys.executable, "-m", "benchmarks.load", str(port), path, json.dumps(body), str(connections), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=seconds + 60)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
