"""What is compared, each in a process of its own, takes slices of the work in turn: a machine that slows down slows all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Protocol, Self

# What takes long to import; the forks of one process that has it, and no threads, need not wait for it again.
PRELOAD = [
    "streamlearn.learning.worker", "streamlearn.learning.recipes", "streamlearn.drift.watch", "streamlearn.log.kafka",
    "streamlearn.store.redis",
]  # fmt: skip


class Runner(Protocol):
    """One of the things compared; made and run in the process of its `Side`."""

    def run(self, first: int, end: int) -> tuple[int, float]:
        """Take what lies from `first` to `end`: how many were taken, some beyond perhaps, and the seconds."""

    def close(self) -> None:
        """Let go of everything."""


def serve_side(channel: Connection, make: Callable[[], Runner]) -> None:
    """Make the runner, then answer each (first, end) with what `run` says; None ends it, and so does the parent's death."""
    logging.disable(logging.WARNING)
    runner = make()
    channel.send(None)
    while (piece := channel.recv()) is not None:
        channel.send(runner.run(*piece))
    runner.close()


class Side:
    """A runner in a process of its own, and what it has taken and spent so far. An error that leaves its block kills it."""

    def __init__(self, make: Callable[[], Runner]) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._channel, other = context.Pipe()
        self._process = context.Process(target=serve_side, args=(other, make))
        self._process.start()
        other.close()
        self.taken, self.spent = 0, 0.0

    def await_ready(self) -> None:
        """Wait until the runner was made. Raises EOFError when its process ended instead."""
        self._channel.recv()

    def run(self, first: int, end: int) -> float:
        """Take a slice, and wait for it; the seconds. Raises EOFError when the process has ended."""
        self.begin(first, end)
        return self.finish()

    def begin(self, first: int, end: int) -> None:
        """Have it take a slice, without waiting."""
        self._channel.send((first, end))

    def finish(self) -> float:
        """Wait until the slice that was begun is taken; the seconds. Raises EOFError when the process has ended."""
        taken, spent = self._channel.recv()
        self.taken += taken
        self.spent += spent
        return float(spent)

    def forget(self) -> None:
        """Count anew: what was taken so far was the warm-up."""
        self.taken, self.spent = 0, 0.0

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.taken / self.spent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._channel.send(None)
        else:
            self._process.kill()
        self._process.join()


def in_turn(sides: Sequence[Side], warm_up: int, size: int, step: int) -> None:
    """Let every side take the first `warm_up` events, uncounted, and then the rest up to `size`, `step` each in turn."""
    for side in sides:
        side.await_ready()
    for side in sides:
        side.run(0, warm_up)
        side.forget()
    for first in range(warm_up, size, step):
        for side in sides:
            side.run(first, min(first + step, size))
