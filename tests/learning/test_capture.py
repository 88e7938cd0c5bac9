"""State taken by a child process: as it was when it was asked for, whatever the loop does meanwhile, and whatever befalls."""

from __future__ import annotations

import gc
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn

import pytest

from streamlearn.learning import capture
from streamlearn.learning.capture import Capture

forks = pytest.mark.skipif(sys.platform != "linux", reason="children are trusted on Linux only")


class Timer:
    """Ticks by `step` at each look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def here() -> Mapping[str, bytes]:
    return {"pid": str(os.getpid()).encode()}


def forked(parts: Mapping[str, bytes] | None) -> bool:
    assert parts is not None
    return parts["pid"] != str(os.getpid()).encode()


def slow() -> Capture:
    """One that has seen that its state takes long."""
    taking = Capture(Timer(1.0))
    taking.take(here)
    return taking


def test_what_is_quickly_built_is_built_in_place() -> None:
    taking = Capture(Timer(0.001))
    assert not any(forked(taking.take(here)()) for _ in range(3))


@forks
def test_what_took_long_is_built_by_a_child_from_then_on() -> None:
    taking = Capture(Timer(1.0))
    assert [forked(taking.take(here)()) for _ in range(3)] == [False, True, True]


@forks
def test_a_large_state_that_was_recovered_is_expected() -> None:
    taking = Capture(Timer(0.001))
    taking.expect(capture.WORTH_BYTES + 1)
    assert forked(taking.take(here)())


def test_where_there_is_no_fork_it_is_built_in_place() -> None:
    taking = Capture(Timer(1.0), can_fork=False)
    assert not any(forked(taking.take(here)()) for _ in range(3))


def test_a_drain_trusts_no_child() -> None:
    assert not forked(slow().take(here, here=True)())


@forks
def test_the_state_is_that_of_the_moment_and_may_be_large() -> None:
    state = bytearray(b"a" * 5_000_000)
    read = slow().take(lambda: {"state": bytes(state)})
    state[:] = b"b" * 5_000_000
    parts = read()
    assert parts is not None
    assert parts["state"] == b"a" * 5_000_000


@forks
def test_it_may_be_read_on_another_thread_while_others_run() -> None:
    stop = threading.Event()
    busy = [threading.Thread(target=lambda: [sum(range(1000)) for _ in iter(stop.is_set, True)]) for _ in range(3)]
    for thread in busy:
        thread.start()
    got: list[bool] = []
    reads = [slow().take(here) for _ in range(5)]
    reading = threading.Thread(target=lambda: got.extend(forked(read()) for read in reads))
    reading.start()
    reading.join(30)
    stop.set()
    for thread in busy:
        thread.join()
    assert got == [True] * 5


def killed() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def raising() -> Mapping[str, bytes]:
    raise ValueError("cannot be pickled")


def asleep() -> Mapping[str, bytes]:
    time.sleep(60)
    return {}


@forks
@pytest.mark.parametrize("build", [killed, raising, asleep])
def test_a_child_that_fails_is_not_tried_again(
    build: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(capture, "PATIENCE_S", 0.5)
    taking = slow()
    assert taking.take(build)() is None  # type: ignore[arg-type]  # one of the three above
    assert "taken in place from now on" in caplog.text
    assert not forked(taking.take(here)())


@forks
def test_a_child_outlives_the_signals_that_end_its_parent() -> None:
    def build() -> Mapping[str, bytes]:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        return here()

    assert forked(slow().take(build)())


@forks
def test_a_child_gives_way_to_the_loop_and_collects_nothing() -> None:
    def build() -> Mapping[str, bytes]:
        return {"nice": str(os.nice(0)).encode(), "collects": str(gc.isenabled()).encode()}

    parts = slow().take(build)()
    assert parts == {"nice": str(min(19, os.nice(0) + capture.GIVES_WAY)).encode(), "collects": b"False"}
    assert gc.isenabled()


@forks
def test_a_child_whose_parent_is_gone_ends() -> None:
    """It holds no end of the pipe that it could be read from, so a write fails once its parent holds none."""

    def pipes() -> int:
        found = 0
        for number in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # that of the listing itself
                found += stat.S_ISFIFO(os.fstat(int(number)).st_mode)
        return found

    before = pipes()
    parts = slow().take(lambda: {"pipes": str(pipes()).encode()})()
    assert parts == {"pipes": str(before + 1).encode()}


@forks
def test_what_is_streamed_comes_piece_by_piece_as_it_was_built() -> None:
    pieces = [bytes([number]) * size for number, size in enumerate((1, 0, 70_000, 3_000_000, 5))]
    assert list(capture.streamed(lambda: iter(pieces))) == pieces


def test_a_piece_that_comes_in_one_go_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that holds the interpreter's lock is one that the loop waits for; `bytes.join` makes none of one part."""
    data = b"p" * 100_000
    monkeypatch.setattr("select.select", lambda *_: ([0], [], []))
    monkeypatch.setattr("os.read", lambda reader, most: data)
    assert capture._exactly(0, len(data)) is data


@forks
def test_without_a_process_to_be_had_it_is_built_in_place_this_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise BlockingIOError("no more processes")

    taking = slow()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", refused)
        assert not forked(taking.take(here)())
    assert forked(taking.take(here)())


@forks
def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    fork = os.fork

    def counted() -> int:
        pid = fork()
        children.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", counted)
    taking = slow()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        taking.take(here)()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(children) == 20
    for pid in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
