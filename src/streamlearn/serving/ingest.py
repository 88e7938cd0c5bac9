"""Posted events on their way into the log: read within bounds, judged one by one, appended, answered once durable.

A bad event is named in the answer and never takes the others down. Work in flight is bounded in number and in bytes; what
goes beyond is refused with a time to try again. Nothing here knows about models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from starlette.requests import ClientDisconnect, Request

from ..config import Settings
from ..errors import EventError, LogFull, LogUnavailable, Overloaded
from ..events import (
    Event,
    Kind,
    Limits,
    check_event,
    decode_posted,
    default_key,
    encode,
    is_item_record,
    new_id,
    parse_time,
    split_body,
)
from ..log import Entry, Log
from ..telemetry import Metrics
from ..wire import EventsAnswer, Rejection
from .problems import ProblemError

READ_S: Final = 30.0
BREATH: Final = 200
NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
FIELD_WARNING: Final = "an event has no such field, so it was ignored (features go into x, the label is y): "
MAX_WARNED: Final = 10
RETRY_WARNING: Final = "events without an id got one (see ids): if this request is sent again, they may be learned twice"


class Bundle(NamedTuple):
    """What was made of one body: log entries by stream, the answer so far, and names of fields that were ignored."""

    entries: dict[str, list[Entry]]
    answer: EventsAnswer
    ignored: set[str]


def content_type(request: Request) -> str:
    """"ndjson" or "json" (also when the request names no type). Raises ProblemError for anything else, compressed or not."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise ProblemError("media-type", f"Content-Encoding {coding!r} is not read here; send the body as it is")
    name = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if name in NDJSON:
        return "ndjson"
    if not name or name == "application/json" or (name.startswith("application/") and name.endswith("+json")):
        return "json"
    detail = f"{name!r} is not read here; send the header Content-Type: application/json"
    raise ProblemError("media-type", f"{detail} (curl: -H 'Content-Type: application/json')")


async def read_body(request: Request, limit: int, grown: Callable[[int], None] | None = None) -> bytes:
    """The body, at most `limit` bytes; `grown` hears of every piece. Raises ProblemError once it is too large or too slow."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size, more, deadline = 0, True, None
    while more:
        if deadline is None:  # most bodies come whole: they need no timer
            message = await request.receive()
            deadline = asyncio.get_running_loop().time() + READ_S
        else:
            try:
                async with asyncio.timeout_at(deadline):
                    message = await request.receive()
            except TimeoutError:
                raise ProblemError("timeout", f"the body was not complete after {READ_S:g} s", headers=_CLOSE) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        if grown is not None:
            grown(len(piece))
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Ingest:
    """The door for events. All methods belong to the event loop's thread."""

    def __init__(self, settings: Settings, log: Log, metrics: Metrics, clock: Callable[[], float]) -> None:
        limits = settings.limits
        self._limits = Limits(limits.max_features, limits.max_string, limits.max_event_bytes, limits.max_ahead_s)
        self._max_body, self._max_batch = limits.max_body_bytes, limits.max_batch
        self._max_in_flight = settings.serve.max_in_flight
        self._streams = {name: stream.partitions for name, stream in settings.streams.items()}
        self._log, self._metrics, self._clock = log, metrics, clock
        self._in_flight = 0
        self._bytes = 0

    async def take(self, request: Request) -> EventsAnswer:
        """Read, judge and append the events of `request`; the answer comes once all that was accepted is durable.

        Raises ProblemError, EventError (the body as a whole is not JSON), Overloaded, LogUnavailable, LogFull.
        """
        held = 0

        def grown(size: int) -> None:
            nonlocal held
            if self._bytes + size > self._max_in_flight * self._max_body:
                raise self._overloaded("too many bytes are being read", _CLOSE)
            held += size
            self._bytes += size

        try:
            ndjson = content_type(request) == "ndjson"
            body = await read_body(request, self._max_body, grown)
            with self._slot():
                bundle = await self._judge(body, ndjson)
                await self._append(bundle)
        except EventError as error:
            self._metrics.rejections.labels(error.reason).inc()
            raise
        except ProblemError as problem:
            self._metrics.refusals.labels(problem.kind).inc()
            raise
        finally:
            self._bytes -= held
        self._count(bundle.answer)
        return bundle.answer

    async def append_one(self, stream: str, entry: Entry) -> int:
        """Append one record of the service's own, under the same bounds; returns its offset when durable."""
        with self._slot():
            [(_, offset)] = await self._durable(stream, [entry])
        return offset

    @contextmanager
    def _slot(self) -> Any:
        if self._in_flight >= self._max_in_flight:
            raise self._overloaded(f"{self._in_flight} requests already wait for the log")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def _overloaded(self, what: str, headers: dict[str, str] | None = None) -> ProblemError:
        return ProblemError("overloaded", f"{what}; nothing was taken", {"retry_after": 1.0}, headers)

    async def _judge(self, body: bytes, ndjson: bool) -> Bundle:
        if not body.strip():
            raise ProblemError("malformed", "the body is empty; send one event, an array of events, or lines of them")
        bundle = Bundle({}, EventsAnswer(0, 0, [], [], {}, {}), set())
        seen: set[tuple[object, ...]] = set()
        now = self._clock()
        for count, (index, raw) in enumerate(split_body(body, ndjson)):
            if count >= self._max_batch:
                raise ProblemError("too-large", f"more than {self._max_batch} events in one request; send them in several")
            if count % BREATH == BREATH - 1:
                await asyncio.sleep(0)  # others have questions, too
            try:
                if isinstance(raw, EventError):
                    raise raw
                self._judge_one(index, bytes(raw), now, seen, bundle)
            except EventError as error:
                bundle.answer.rejected.append(Rejection(index, error.field, error.reason, error.detail))
        if bundle.answer.ids:
            bundle.answer.warnings.append(RETRY_WARNING)
        if bundle.ignored:
            bundle.answer.warnings.append(FIELD_WARNING + ", ".join(sorted(bundle.ignored)))
        return bundle

    def _judge_one(self, index: int, raw: bytes, now: float, seen: set[tuple[object, ...]], bundle: Bundle) -> None:
        if len(raw) > self._limits.max_event_bytes:
            raise EventError("too_large", "$", f"has {len(raw)} bytes, more than {self._limits.max_event_bytes}")
        event, unknown = decode_posted(raw)
        if unknown is not None and len(bundle.ignored) < MAX_WARNED:
            bundle.ignored.add(repr(unknown[:80]))
        if event.stream not in self._streams:
            known = f"there is no stream {event.stream[:80]!r}; there are {sorted(self._streams)}"
            raise EventError("unknown_stream", "stream", known)
        check_event(event, self._limits, now)
        if event.id is None:
            event.id = bundle.answer.ids[str(index)] = new_id()
        else:
            parts = _parts(event)
            if parts <= seen:
                bundle.answer.duplicate += 1
                return
            seen |= parts
        if event.ts is not None:
            event.ts = parse_time(event.ts)
        if event.key is None:
            event.key = default_key(event) or event.id
        bundle.entries.setdefault(event.stream, []).extend(_entries(event, event.key, self._streams[event.stream]))
        bundle.answer.accepted += 1

    async def _append(self, bundle: Bundle) -> None:
        # All are started before any is awaited: streams share a commit. After a failure of one, a repeat of the request
        # is harmless, since the learner drops what it has seen.
        waits = [self._durable(stream, entries) for stream, entries in bundle.entries.items()]
        results = await asyncio.gather(*waits, return_exceptions=True)
        for stream, result in zip(bundle.entries, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            ends: dict[str, int] = {}
            for partition, offset in result:
                ends[str(partition)] = max(ends.get(str(partition), 0), offset + 1)
            bundle.answer.positions[stream] = ends

    async def _durable(self, stream: str, entries: list[Entry]) -> list[tuple[int, int]]:
        try:
            return await asyncio.wrap_future(self._log.append(stream, entries))
        except Overloaded:
            self._metrics.refusals.labels("overloaded").inc()
            raise
        except LogFull:
            self._metrics.refusals.labels("full").inc()
            raise
        except LogUnavailable:
            self._metrics.refusals.labels("log-unavailable").inc()
            raise

    def _count(self, answer: EventsAnswer) -> None:
        for outcome in ("accepted", "duplicate"):
            self._metrics.events.labels(outcome).inc(getattr(answer, outcome))
        self._metrics.events.labels("rejected").inc(len(answer.rejected))
        for rejection in answer.rejected:
            self._metrics.rejections.labels(rejection.reason).inc()


def refusal(answer: EventsAnswer) -> ProblemError | None:
    """The problem that `answer` is when nothing of the request went in and something was rejected; else None."""
    if answer.accepted or answer.duplicate or not answer.rejected:
        return None
    first = answer.rejected[0]
    kind = "malformed" if all(item.reason == "malformed" for item in answer.rejected) else "rejected"
    more = f" (and {len(answer.rejected) - 1} more)" if len(answer.rejected) > 1 else ""
    extra: dict[str, Any] = {"index": first.index, "field": first.field, "reason": first.reason}
    extra |= {"accepted": 0, "duplicate": 0, "rejected": answer.rejected, "warnings": [], "ids": {}, "positions": {}}
    return ProblemError(kind, f"no event was accepted: {first.field}: {first.detail}{more}", extra)


def _entries(event: Event, key: str, partitions: int) -> list[Entry]:
    """The event's entry in the partition of its key, or one in each partition for what is said of an item."""
    value, raw = encode(event), key.encode()
    if is_item_record(event):
        return [Entry(raw, value, Kind.EVENT, partition) for partition in range(partitions)]
    return [Entry(raw, value, Kind.EVENT)]


def _parts(event: Event) -> set[tuple[object, ...]]:
    """What the event says about its id, one item a part. Another label for the same id is no repeat: it is a correction."""
    parts: set[tuple[object, ...]] = set()
    if event.x is not None:
        parts.add((event.stream, event.id, "x"))
    if event.y is not None:
        parts.add((event.stream, event.id, "y", type(event.y), event.y))
    if event.item is not None or event.items is not None or event.action is not None:
        fields = encode(event.x) if event.action is not None and event.action.startswith("$") else None
        parts.add((event.stream, event.id, "item", event.user, event.item, event.action, encode(event.items), fields))
    return parts


def _too_large(limit: int) -> ProblemError:
    return ProblemError("too-large", f"the body has more than {limit} bytes; send it in several", headers=_CLOSE)


_CLOSE: Final = {"Connection": "close"}
