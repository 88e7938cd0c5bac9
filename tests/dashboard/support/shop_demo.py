"""`streamlearn demo --recommend` as a process, from when its shop is open until it has ended by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

OPEN_S: Final = 240.0


@contextmanager
def demo_shop(folder: Path, likes: int) -> Iterator[str]:
    """The address of its service, in `folder`, with so many likes learned. It has to end well, and to leave nothing running."""
    out = folder / "out.txt"
    command = [sys.executable, "-m", "streamlearn", "demo", "--recommend", "--likes", str(likes), "--data-dir"]
    with out.open("wb") as file:
        process = subprocess.Popen(
            [*command, str(folder / "data")], stdout=file, stderr=file, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        )
    try:
        yield _opened(process, out)
        roles = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, out.read_text()
        assert "Traceback" not in out.read_text()
        assert not [one for one in roles if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    finally:
        if process.poll() is None:
            for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                one.kill()
            process.wait(10)


def _opened(process: subprocess.Popen[bytes], out: Path) -> str:
    end = time.monotonic() + OPEN_S
    while time.monotonic() < end:
        found = re.search(r"The shop is open: (http://127\.0\.0\.1:\d+)/shop", out.read_text())
        if found:
            return found[1]
        assert process.poll() is None, out.read_text()
        time.sleep(0.2)
    raise AssertionError(f"the shop did not open in {OPEN_S:g} s:\n{out.read_text()}")
