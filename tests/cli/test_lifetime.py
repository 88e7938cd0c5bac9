"""Signals and a lost parent become one event."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from streamlearn.cli import lifetime
from streamlearn.cli.lifetime import Lifetime

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_stops_and_the_second_kills(number: signal.Signals) -> None:
    life = Lifetime()
    life.catch_signals()
    signal.raise_signal(number)
    assert life.stop.wait(5)
    assert not life.kill.is_set()
    signal.raise_signal(signal.SIGTERM)
    assert life.kill.wait(5)


def test_a_signal_may_come_while_the_event_is_waited_for_or_set() -> None:
    """Then this very thread holds the event's lock, for good if the handler wants it too."""
    code = """if True:
        import signal
        from streamlearn.cli.lifetime import Lifetime

        life = Lifetime()
        life.catch_signals()
        with life.stop._cond:
            signal.raise_signal(signal.SIGTERM)
        assert life.stop.wait(5)
        with life.kill._cond:
            signal.raise_signal(signal.SIGTERM)
        assert life.kill.wait(5)
        print("done")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == "done\n"


@pytest.mark.parametrize(("had", "has", "reloads"), [(False, False, True), (True, True, True), (True, False, False)])
def test_a_hangup_reloads_unless_the_terminal_was_closed(
    had: bool, has: bool, reloads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Lifetime()
    life.catch_signals()
    monkeypatch.setattr(lifetime, "has_terminal", lambda: had)
    life.reload_on_hangup()
    monkeypatch.setattr(lifetime, "has_terminal", lambda: has)
    signal.raise_signal(signal.SIGHUP)
    assert (life.reload if reloads else life.stop).wait(5)
    assert (life.reload.is_set(), life.stop.is_set()) == (reloads, not reloads)


def test_a_process_without_a_terminal_has_none() -> None:
    code = "from streamlearn.cli.lifetime import has_terminal; print(has_terminal())"
    done = subprocess.run([sys.executable, "-c", code], start_new_session=True, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_parent_that_is_there_changes_nothing() -> None:
    life = Lifetime()
    ended: list[int] = []
    life.follow(os.getppid(), grace_s=0, end=ended.append)
    assert not life.stop.wait(0.5)
    assert ended == []


def test_a_parent_that_is_gone_stops_and_then_ends() -> None:
    life = Lifetime()
    ended: list[int] = []
    life.follow(2**22 + 1, grace_s=0.05, end=ended.append).join(5)
    assert life.stop.is_set()
    assert ended == [1]


def test_the_grace_is_kept() -> None:
    life = Lifetime()
    ended: list[int] = []
    life.follow(2**22 + 1, grace_s=30, end=ended.append)
    assert life.stop.wait(5)
    assert ended == []
