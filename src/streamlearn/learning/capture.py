"""A learner's state as bytes, by a child process that has it as it was: the loop stands still for the fork alone.

Pickling a forest takes some 60 ms, a fork some 5, whatever the size of the state (copy-on-write, as Redis saves). It also keeps
the learner fast: pickling an object makes CPython 3.11 give it a dictionary of its own for good, and reading its attributes
slower. The child does nothing but build the parts, write them to a pipe and leave.

Where there is no fork to be trusted (macOS, Windows), or a child failed once, the parts are built in place.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NoReturn, TypeVar

import msgspec

logger = logging.getLogger("streamlearn.learn")

Parts = Mapping[str, bytes]
Read = Callable[[], Parts | None]
T = TypeVar("T")
WORTH_S: Final = 0.01
WORTH_BYTES: Final = 500_000
GIVES_WAY: Final = 5  # of niceness: next to the loop on one core, a child has a quarter of it
PATIENCE_S: Final = 60.0  # a child builds everything before it says a word
_READ: Final = 1 << 20
_END: Final = b"\xff" * 8  # no piece is as long


CAN_FORK: Final = sys.platform == "linux"


class Capture:
    """Chooses for one shard: in place while that is quick, by a child once it is not."""

    def __init__(self, timer: Callable[[], float], can_fork: bool = CAN_FORK) -> None:
        self._timer, self._can_fork = timer, can_fork
        self._forks = False

    def expect(self, size: int) -> None:
        """The state is about so many bytes: what was recovered tells before the first capture does."""
        self._forks = self._forks or size > WORTH_BYTES

    def take(self, build: Callable[[], Parts], *, here: bool = False) -> Read:
        """Take what `build` gives now. The answer gives the parts, on any thread, once: None when a child failed.

        With `here` in place, however long it takes. Raises what `build` raises, when it runs in place.
        """
        if self._forks and self._can_fork and not here:
            try:
                child = _fork(build, _whole)
            except OSError as error:  # no memory or no process to be had: it may be there the next time
                logger.warning("no child process", extra={"error": str(error)})
            else:
                return lambda: self._received(*child)
        started = self._timer()
        parts = build()
        self._forks = self._timer() - started > WORTH_S
        return lambda: parts

    def _received(self, pid: int, reader: int) -> Parts | None:
        parts = _receive(pid, reader)
        if parts is None:
            self._can_fork = False
            logger.error("a child process could not take the state; it is taken in place from now on")
        return parts


class ChildFailed(Exception):
    """A child ended before it had given all."""


def streamed(build: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
    """What `build` gives, by a child that is forked now; to be taken on any thread, once. Memory holds one of them at a time.

    Where no child can be had, all are built at once, here. The iterator raises ChildFailed.
    """
    try:
        pid, reader = _fork(build, _frames)
    except OSError as error:
        logger.warning("no child process", extra={"error": str(error)})
        return iter(list(build()))
    return _unframed(pid, reader)


def _frames(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield len(piece).to_bytes(8, "little")
        yield piece
    yield _END


def _unframed(pid: int, reader: int) -> Iterator[bytes]:
    whole = False
    try:
        while (head := _exactly(reader, 8)) != _END:
            yield _exactly(reader, int.from_bytes(head, "little"))
        whole = True
    finally:
        os.close(reader)
        if not whole:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _exactly(reader: int, size: int) -> bytes:
    """Joined by `bytes.join`, which copies without the interpreter's lock: any other way the loop would wait for the copy, and
    for whoever takes the core from the thread that makes it."""
    received: list[bytes] = []
    left = size
    while left:
        ready, _, _ = select.select([reader], [], [], PATIENCE_S)
        data = os.read(reader, min(_READ, left)) if ready else b""
        if not data:
            raise ChildFailed
        received.append(data)
        left -= len(data)
    return b"".join(received)


def _whole(parts: Parts) -> Iterator[bytes]:
    yield msgspec.msgpack.encode(dict(parts))


def _fork(build: Callable[[], T], framed: Callable[[T], Iterable[bytes]]) -> tuple[int, int]:
    """A child that writes what it builds into a pipe: (its pid, the end to read)."""
    reader, writer = os.pipe()
    try:
        with warnings.catch_warnings():  # Python 3.12 warns of threads: what the child calls takes no lock of theirs
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid == 0:
        os.close(reader)  # else it would wait for itself to read, once its parent is gone
        _deliver(build, framed, writer)
    os.close(writer)
    return pid, reader


def _deliver(build: Callable[[], T], framed: Callable[[T], Iterable[bytes]], writer: int) -> NoReturn:
    """The child's whole life. It must never return, and run nothing of the parent's: no handler, no finaliser. Where cores are
    few it gives way to the loop."""
    code = 1
    try:
        gc.disable()
        os.nice(GIVES_WAY)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for piece in framed(build()):
            data = memoryview(piece)
            while data:
                data = data[os.write(writer, data) :]
        code = 0
    finally:
        os._exit(code)


def _receive(pid: int, reader: int) -> Parts | None:
    """What the child wrote; None when it died, or said nothing for PATIENCE_S and was killed."""
    received: list[bytes] = []
    try:
        while True:
            ready, _, _ = select.select([reader], [], [], PATIENCE_S)
            if not ready:
                os.kill(pid, signal.SIGKILL)
                break
            data = os.read(reader, _READ)
            if not data:
                break
            received.append(data)
    finally:
        os.close(reader)
        _, status = os.waitpid(pid, 0)
    if status != 0:
        return None
    parts: Parts = msgspec.msgpack.decode(b"".join(received), type=dict[str, bytes])
    return parts
