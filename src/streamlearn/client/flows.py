"""What a client does, without doing it: flows yield the calls to make and the pauses to take, and are told what came of them.

So that waiting and awaiting clients run the same steps, and both can be tested without a network or a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

import httpx

from ..errors import Unreachable

TRY_AGAIN: Final = frozenset({429, 503, 507})
T = TypeVar("T")


class Retry(NamedTuple):
    """At most `attempts` tries; pauses grow from `first_s`, doubling, to `max_s` (which also bounds what Retry-After asks)."""

    attempts: int = 8
    first_s: float = 0.1
    max_s: float = 10.0


RETRY: Final = Retry()


class Call(NamedTuple):
    """One HTTP request. One that is not `repeatable` is only tried again when it cannot have arrived."""

    method: str
    path: str
    content: bytes | None = None
    content_type: str = "application/json"
    repeatable: bool = True


class Wait(NamedTuple):
    """A pause of so many seconds."""

    seconds: float


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Outcome(NamedTuple):
    """What came of a step: a reply, an error of the connection, or neither (after a pause, and before the first step)."""

    reply: Reply | None = None
    error: httpx.TransportError | None = None


Flow = Generator[Call | Wait, Reply | None, T]


class Run(Generic[T]):
    """One run of a flow; `result` is there once `advance` returned None."""

    result: T

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow

    def advance(self, outcome: Outcome) -> Call | Wait | None:
        """Tell the flow what came of its last step; what it wants next, None when it has ended. Raises what it raises."""
        try:
            return self._flow.send(outcome.reply) if outcome.error is None else self._flow.throw(outcome.error)
        except StopIteration as stop:
            self.result = stop.value
            return None


def fetch(call: Call, retry: Retry, jitter: Callable[[], float]) -> Flow[Reply]:
    """The reply to `call`, tried again as `retry` allows when the service is overloaded, lost its log, or cannot be reached.

    `jitter` gives numbers in [0, 1): a pause is cut by up to half, so that clients do not all come back at once.
    Raises Unreachable.
    """
    pause = retry.first_s
    for attempt in range(1, retry.attempts + 1):
        asked = 0.0
        try:
            reply = yield call
            assert reply is not None
            if reply.status not in TRY_AGAIN or attempt == retry.attempts:
                return reply
            asked = _retry_after(reply)
        except httpx.TransportError as error:
            arrived = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
            if attempt == retry.attempts or (arrived and not call.repeatable):
                raise Unreachable(f"{call.method} {call.path}, tried {attempt} times: {describe(error)}") from error
        yield Wait(min(retry.max_s, max(asked, pause * (1.0 - 0.5 * jitter()))))
        pause = min(retry.max_s, pause * 2)
    raise ValueError("Retry.attempts: must be at least 1")


def describe(error: httpx.TransportError) -> str:
    """The error in a line, also when it came without words."""
    return f"{type(error).__name__}: {error}"


def _retry_after(reply: Reply) -> float:
    """Seconds; 0 when the service does not say (or gives a date, which it never does)."""
    try:
        return float(reply.headers.get("retry-after", 0))
    except ValueError:
        return 0.0
