"""When a process of ours ends: on SIGTERM, Ctrl-C or a closed terminal, and when the process that started it is gone.

`Lifetime` turns each of these into one event that the role's loop waits on. It never ends a process that still drains,
unless that takes longer than its grace after the parent was lost, since then nobody is left who could.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

WATCH_S: Final = 0.2
GRACE_S: Final = 20.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Lifetime:
    """`stop` is set at the first signal or when the parent is gone, `kill` at the second signal, `reload` at a SIGHUP that
    asks for it."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.kill = threading.Event()
        self.reload = threading.Event()
        self._asked = False  # to stop, by a signal

    def catch_signals(self) -> None:
        """Take over the signals that ask a process to end. Only in the main thread."""
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def reload_on_hangup(self) -> None:
        """Take SIGHUP as the wish to reload, unless it comes since the terminal of this process was closed."""
        had = has_terminal()

        def hang_up(number: int, frame: FrameType | None) -> None:
            if had and not has_terminal():
                self._on_signal(number, frame)
            else:
                _thread.start_new_thread(self.reload.set, ())

        signal.signal(signal.SIGHUP, hang_up)

    def follow(self, parent: int, *, grace_s: float = GRACE_S, end: Callable[[int], object] = os._exit) -> threading.Thread:
        """Set `stop` once `parent` is no longer this process's parent; call `end(1)` if it is alive `grace_s` later."""

        def watch() -> None:
            while os.getppid() == parent:
                time.sleep(WATCH_S)
            self.stop.set()
            time.sleep(grace_s)
            end(1)

        thread = threading.Thread(target=watch, name="parent-watch", daemon=True)
        thread.start()
        return thread

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """A signal may come while this very thread waits for the event, or sets it for the signal before, and then holds the
        event's lock. So a thread of its own sets it; one that is started this way takes no lock either."""
        event, self._asked = (self.kill if self._asked or self.stop.is_set() else self.stop), True
        _thread.start_new_thread(event.set, ())


def has_terminal() -> bool:
    """Whether this process has a terminal that controls it, and that is there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
