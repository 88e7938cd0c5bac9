"""The whole service as processes, events that flow into it, and a wire that can be cut."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from streamlearn.client import Client

KEY: Final = "operator-secret-0123456789"
START_S: Final = 60.0
PACE_S: Final = 0.15
BATCH: Final = 25
STREAMS: Final = ("orders", "clicks")
CONFIG: Final = """
data_dir = "data"
[serve]
port = 0
[streams.orders]
[streams.clicks]
[models.late]
stream = "orders"
[models.bought]
stream = "clicks"
"""
MODEL: Final = """task = "binary"
pipeline = "naive_bayes"
drift = {window = 200, gap = 50, min_reference = 200, features = {window = 200, reference = 600}}
trial = {min_events = 300, watch_events = 600, canary_events = 100, canary_s = 1.0}
retrain = {min_events = 100, catch_up_records = 50}
"""


@contextlib.contextmanager
def service(folder: Path) -> Iterator[str]:
    """`streamlearn serve` over a fresh folder, with the key `ops`; its URL once every model can answer."""
    config = folder / "service.toml"
    config.write_text(re.sub(r'(stream = "\w+"\n)', lambda found: found[1] + MODEL, CONFIG))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")}
    environ["STREAMLEARN_API_KEYS"] = f"ops:{KEY}"
    with (folder / "out.txt").open("w+") as out:
        command = [sys.executable, "-P", "-m", "streamlearn", "serve", str(config), "--logs", str(folder / "logs.jsonl")]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environ)
        try:
            yield _url(process, folder / "out.txt")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
                raise


def _url(process: subprocess.Popen[bytes], out: Path) -> str:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        found = re.search(r"http://127\.0\.0\.1:\d+", out.read_text())
        if found:
            return found[0]
        assert process.poll() is None, out.read_text()
        time.sleep(0.05)
    raise AssertionError(f"it did not start: {out.read_text()}")


class Events:
    """Posts events until the end; the label of `orders` follows the distance, or, once `flipped`, the weight."""

    def __init__(self, url: str) -> None:
        self.flipped = False
        self.count = 0
        self._url, self._random, self._stop = url, random.Random(7), threading.Event()
        self._thread = threading.Thread(target=self._run, name="events")

    def __enter__(self) -> Events:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        with Client(self._url, api_key=KEY) as client:
            while not self._stop.wait(PACE_S):
                client.send([self._event(stream) for stream in STREAMS for _ in range(BATCH)])

    def _event(self, stream: str) -> dict[str, Any]:
        self.count += 1
        distance, weight = self._random.gauss(0.0, 1.0), self._random.gauss(0.0, 1.0)
        cause = weight if self.flipped and stream == "orders" else distance
        y = (cause > 0) ^ (self._random.random() < 0.05)
        return {"stream": stream, "id": f"{stream}-{self.count}", "x": {"distance": distance, "weight": weight}, "y": y}


class Wire:
    """A way to the service that can be cut and mended: what it carries breaks off, and new connections are refused."""

    def __init__(self, url: str) -> None:
        self._to = int(url.rpartition(":")[2])
        self._listening: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._port = 0
        self.mend()
        self.url = f"http://127.0.0.1:{self._port}"

    def cut(self) -> None:
        listening, self._listening = self._listening, None
        assert listening is not None
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self._port), reuse_port=False)
        self._port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        self._open.add(one)
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
        self._open.discard(one)
        one.close()
