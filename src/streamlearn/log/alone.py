"""The membership of a log that is one file on one machine: whoever has the lock has every partition, the others wait.

The lock is the operating system's, on a file beside the log, and goes with its process, however that ends. Where there are no
such locks (Windows), everybody has everything, and the generations of the shards keep writers apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import ModuleType

from streamlearn.errors import LogUnavailable

from . import Place

try:
    import fcntl as _fcntl

    fcntl: ModuleType | None = _fcntl
except ImportError:
    fcntl = None


class Alone:
    """Every one of `places` for the holder of the lock on the file at `path`, nothing for anybody else."""

    def __init__(self, path: Path, places: Callable[[], Collection[Place]]) -> None:
        self._path, self._places = path, places
        self._file: int | None = None
        self._closed = False

    def poll(self, let_go: Callable[[Collection[Place]], None]) -> frozenset[Place]:
        if self._closed or not self._locked():
            return frozenset()
        return frozenset(self._places())

    def _locked(self) -> bool:
        if fcntl is None or self._file is not None:
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LogUnavailable(f"the lock {self._path} cannot be opened ({error.strerror})") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._file = file
        return True

    def commit(self, positions: Mapping[Place, int]) -> None:
        """Nobody asks."""

    def close(self) -> None:
        self._closed = True
        if self._file is not None:
            os.close(self._file)
            self._file = None
