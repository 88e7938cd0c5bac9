"""What happens, told to whoever looks: one poller for the process, and for each reader no more than what it has yet to hear.

A *topic* is a document that changes: `fleet`, `model:NAME`, `case:ID`. The poller reads each topic that anyone wants once a
period and hands the same bytes to all its readers. A slow reader misses states in between, never the newest, and holds no more
than one of each topic. Decisions, the documents of the audit trail, reach every reader in order; of those that one cannot take
in time the oldest give way, and it is told which. Everything here runs on the event loop's own thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Final, NamedTuple

import msgspec

from ..errors import StoreError
from .problems import ProblemError

PERIOD_S: Final = 1.0
EVERY: Final = {"fleet": 2}  # topics that are looked at less often, in periods: all models' documents are large
SHORTEST_S: Final = 0.1  # between two looks, however many readers come
BEAT_S: Final = 10.0
RETRY_MS: Final = 2000
MAX_READERS: Final = 200
MAX_TOPICS: Final = 20
MAX_WAITING: Final = 200  # decisions kept for a reader, and made up for when it resumes
LONGEST_S: Final = 900.0  # then the reader comes again, and its key is checked again
_log = logging.getLogger(__name__)


class Decisions(NamedTuple):
    """The audit trail as the poller reads it: the control-log offset below which it is known, and its documents by offset."""

    head: Callable[[], Awaitable[int]]
    read: Callable[[int, int], Awaitable[Mapping[int, bytes]]]


class Reader:
    """One stream's share: what it has yet to be sent. `after`: the newest decision that it knows, None for one that is new."""

    def __init__(self, topics: Collection[str], after: int | None) -> None:
        self.topics = frozenset(topics)
        self.next = None if after is None else after + 1  # the decision to be offered next
        self._sent = after
        self._begun = self._placed = False
        self._states: dict[str, bytes] = {}
        self._given: dict[str, bytes] = {}
        self._decisions: deque[tuple[int, bytes]] = deque()
        self._missed: tuple[int, int] | None = None
        self.woken = asyncio.Event()

    def begin(self, head: int) -> None:
        """The first look: what is below `head` is known to one that does not say what it knows, or names more than there is."""
        if self._begun:
            return
        self._begun = True
        if self.next is None or self.next > head:
            self.next, self._sent, self._placed = head, head - 1, True
            self.woken.set()

    def offer(self, topic: str, doc: bytes) -> None:
        """The newest state of a topic, in place of one that was not sent yet."""
        if self._given.get(topic) is not doc:
            self._given[topic] = self._states[topic] = doc
            self.woken.set()

    def tell(self, offset: int, doc: bytes) -> None:
        """One decision more."""
        if len(self._decisions) >= MAX_WAITING:
            oldest, _ = self._decisions.popleft()
            self.miss(oldest, oldest + 1)
        self._decisions.append((offset, doc))
        self.woken.set()

    def miss(self, first: int, end: int) -> None:
        """The decisions from `first` to before `end` are not going to be told."""
        self._missed = (first if self._missed is None else self._missed[0], end)
        self.woken.set()

    def take(self) -> bytes | None:
        """The next frame to be sent, None when there is nothing new."""
        if self._missed is not None:
            first, end = self._missed
            self._missed, self._sent = None, end - 1
            return self._frame("missed", msgspec.json.encode({"from": first, "until": end}))
        if self._decisions:
            self._sent, doc = self._decisions.popleft()
            return self._frame("decision", doc)
        if self._states:
            topic = next(iter(self._states))
            return self._frame(topic.partition(":")[0], self._states.pop(topic))
        if self._placed:  # a reader that is cut off before anything has happened must know where to resume
            return self._frame("beat", b"{}")
        return None

    def beat(self) -> bytes:
        return b": still here\n" + self._frame("beat", b"{}")

    def _frame(self, event: str, data: bytes) -> bytes:
        id = b"" if self._sent is None else b"id: %d\n" % self._sent
        self._placed = self._placed and not id
        return b"event: %s\n%sdata: %s\n\n" % (event.encode(), id, data)


class Live:
    """The poller and its readers. `read` gives a topic's document as JSON, None when there is none; it may raise StoreError."""

    def __init__(
        self, read: Callable[[str], Awaitable[bytes | None]], decisions: Decisions, period_s: float = PERIOD_S
    ) -> None:
        self._read, self._trail, self._period_s = read, decisions, period_s
        self._readers: set[Reader] = set()
        self._cache: dict[str, bytes] = {}
        self._ticks = 0
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._readers)

    def start(self) -> None:
        """Poll from now on, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """End every stream, and take no more."""
        self._closing = True
        self._wanted.set()
        for reader in self._readers:
            reader.woken.set()

    async def closed(self) -> None:
        """Close, and wait for the poller."""
        self.close()
        if self._task is not None:
            await self._task

    def join(self, topics: Collection[str], after: int | None) -> Reader:
        """A reader of `topics` and of the decisions after the given one. Raises ProblemError when there can be no more."""
        if self._closing:
            raise ProblemError("streams", "the service is going down; come again, it may be back by then")
        if len(self._readers) >= MAX_READERS:
            raise ProblemError("streams", f"{MAX_READERS} live streams are open, as many as one process has")
        reader = Reader(topics, after)
        self._readers.add(reader)
        for topic in reader.topics:
            doc = self._cache.get(topic)
            if doc is not None:
                reader.offer(topic, doc)
        self._wanted.set()
        return reader

    def leave(self, reader: Reader) -> None:
        self._readers.discard(reader)

    async def frames(self, reader: Reader, seconds: float = LONGEST_S) -> AsyncIterator[bytes]:
        """What the reader is sent, for `seconds` at most or until the service goes down."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        yield b"retry: %d\n\n" % RETRY_MS + reader.beat()
        while not self._closing and (left := until - clock()) > 0:
            try:
                async with asyncio.timeout(min(BEAT_S, left)):
                    await reader.woken.wait()
            except TimeoutError:
                yield reader.beat()
            reader.woken.clear()
            while not self._closing and (frame := reader.take()) is not None:
                yield frame

    async def _run(self) -> None:
        while not self._closing:
            self._wanted.clear()
            try:
                await self.look()
            except Exception:  # the poller must outlive a fault: it is what notices that things are well again
                _log.exception("reading what live streams show failed")
            try:
                async with asyncio.timeout(self._period_s if self._readers else None):
                    await self._wanted.wait()
            except TimeoutError:
                continue
            if not self._closing:
                await asyncio.sleep(SHORTEST_S)

    async def look(self) -> None:
        """Read every topic that is wanted and due, and the decisions that came; hand them out. Public for tests."""
        self._ticks += 1
        wanted = {topic for reader in self._readers for topic in reader.topics}
        self._cache = {topic: doc for topic, doc in self._cache.items() if topic in wanted}
        for topic in sorted(wanted):
            if topic in self._cache and self._ticks % EVERY.get(topic, 1):
                continue
            try:
                doc = await self._read(topic)
            except StoreError:
                continue  # the fleet's document says so; what was known stays
            if doc is not None and doc != self._cache.get(topic):
                self._cache[topic] = doc
            self._hand_out(topic)
        await self._look_at_decisions()

    def _hand_out(self, topic: str) -> None:
        doc = self._cache.get(topic)
        for reader in self._readers if doc is not None else ():
            if topic in reader.topics:
                assert doc is not None
                reader.offer(topic, doc)

    async def _look_at_decisions(self) -> None:
        if not self._readers:
            return
        try:
            head = await self._trail.head()
            readers = list(self._readers)
            for reader in readers:
                reader.begin(head)
            behind = [reader.next for reader in readers if reader.next is not None and reader.next < head]
            if not behind:
                return
            first = max(min(behind), head - MAX_WAITING)
            found = await self._trail.read(first, head)
        except StoreError:
            return
        for reader in readers:
            begin = head if reader.next is None else reader.next
            if begin < first:
                reader.miss(begin, first)
            for offset in range(max(begin, first), head):
                if offset in found:
                    reader.tell(offset, found[offset])
            reader.next = max(begin, head)
