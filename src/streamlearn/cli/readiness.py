"""How a new API process tells its supervisor which models it cannot answer for yet: over a pipe, since the port is shared.

One JSON list of names a line, whenever it changes; the newest counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from threading import Event, Thread
from typing import Any

LOOK_S = 0.05
PATIENCE_S = 15.0  # for models that were added to publish; those that were there must be there
CHUNK = 65_536


class Readiness:
    """The supervisor's side. `fd` is what the child inherits, to write to."""

    def __init__(self) -> None:
        self._read, self.fd = os.pipe()
        os.set_blocking(self._read, False)
        self._rest = b""
        self._missing: frozenset[str] | None = None

    def missing(self) -> frozenset[str] | None:
        """The models that could not answer when the child last said so; None while it has said nothing."""
        with suppress(BlockingIOError):
            while chunk := os.read(self._read, CHUNK):
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                if lines:
                    self._missing = frozenset(json.loads(lines[-1]))
        return self._missing

    def close(self) -> None:
        os.close(self._read)
        os.close(self.fd)


def tell(fd: int, started: Callable[[], bool], missing: Callable[[], list[str]], stop: Event) -> Thread:
    """The child's side: from when it has `started` until `stop`, write what is `missing` to `fd` whenever that changes."""

    def watch() -> None:
        said: list[str] | None = None
        while not stop.wait(LOOK_S):
            now = missing() if started() else None
            if now is not None and now != said:
                said = now
                with suppress(OSError):  # the supervisor is gone, and so will this process be
                    os.write(fd, json.dumps(now).encode() + b"\n")

    thread = Thread(target=watch, name="readiness", daemon=True)
    thread.start()
    return thread


def hold_back(router: Any, missing: Callable[[], list[str]], may_lack: frozenset[str], stop: Event) -> None:
    """Let the application of `router` (Starlette's) begin to serve only when nothing is `missing`, or, PATIENCE_S later,
    nothing but `may_lack`."""
    begin = router.lifespan_context

    @asynccontextmanager
    async def waits(app: Any) -> AsyncIterator[Any]:
        async with begin(app) as state:
            until = time.monotonic() + PATIENCE_S
            while (lacks := frozenset(missing())) and not stop.is_set():
                if lacks <= may_lack and time.monotonic() >= until:
                    break
                await asyncio.sleep(LOOK_S)
            yield state

    router.lifespan_context = waits


def patient(missing: Callable[[], frozenset[str] | None], was: frozenset[str], added: frozenset[str], patience_s: float) -> (
    Callable[[], bool]
):  # fmt: skip
    """Whether a new process is ready: it can answer for everything; or, after some patience, for all that the old one could."""
    until = time.monotonic() + patience_s

    def ready() -> bool:
        lacks = missing()
        if lacks is None:
            return False
        return not lacks or (time.monotonic() >= until and lacks - added <= was)

    return ready
