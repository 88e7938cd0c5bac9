"""What an executor is, wherever its workers are: `pool.Pool` has them on this machine, `cluster.Cluster` on a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Call(Protocol):
    """One call under way. The methods may be called from any thread, `result` as often as one likes."""

    def progress(self) -> tuple[int, int]:
        """(done, total) as the function reported last; (0, 0) before it did."""

    def cancel(self) -> None:
        """Let it end without a result. Cancelling a call that is done changes nothing."""

    def done(self) -> bool:
        """Whether `result` would not wait. Does not wait itself."""

    def result(self) -> Any:
        """What the function returned; waits for it. Raises RetrainError: failed, timeout, memory, cancelled, or its own."""


class Executor(Protocol):
    """Runs functions in worker processes, each under limits. None of its methods waits for a function."""

    def submit(self, time_limit_s: float, memory_limit_mb: float, function: Callable[..., Any], *args: Any) -> Call:
        """Run `function(*args)`, all of it picklable, when a worker is free; the limits begin then. Raises RetrainError."""

    def warm(self) -> None:
        """Let each worker start and import what it will need."""

    def close(self) -> None:
        """Cancel every call, and let go. Closing twice is allowed."""
