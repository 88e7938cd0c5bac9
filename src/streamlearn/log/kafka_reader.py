"""Reading one partition: requests of our own instead of kafka-python's consumer, which may skip, reset and wait.

A fetch names the topic by its id, so a topic that was deleted and made again is never taken for the old one, and the broker
answers at once, also at the end. It names the leader's epoch of what was read last (KIP-595), so that a partition that lost
records in an unclean election, and has grown again beyond the reader, is told from its continuation. While the caller works on
one answer the next is already under way. What was decoded is kept for a while, since several models read the same partition.
It must never skip a record, nor look beyond what is committed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

from kafka import errors as kafka_errors
from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest

from streamlearn.errors import LogError, PositionExpired

from . import Record
from .kafka_link import Link, Topic, check
from .kafka_records import Block, Chunk

FETCH_BYTES: Final = 1 << 20
KEEP_BYTES: Final = 1 << 20  # of what was decoded, and is behind the reader
MAX_CURSORS: Final = 4
READ_COMMITTED: Final = 1
EARLIEST, LATEST = -2, -1
OUT_OF_RANGE: Final = 1
BY_ID: Final = 13


class _Kept(NamedTuple):
    block: Block
    size: int


class _Cursor:
    """A place in the partition: blocks that were decoded, the rest of an answer, and the request that follows it."""

    def __init__(self, at: int) -> None:
        self.kept: deque[_Kept] = deque()
        self.kept_bytes = 0
        self.blocks: Iterator[Block] | None = None
        self.start = at  # what lies before it in the same batch may have been trimmed
        self.tail = at  # the first offset that was not decoded yet
        self.ahead = at  # the first offset that was not fetched yet
        self.epoch = -1  # the leader's epoch in which the record before it was written, as far as that is known
        self.end = -1  # where the committed records ended when last heard
        self.waiting: Any = None
        self.share = 0  # bytes that a block of the current answer stands for

    def holds(self, offset: int) -> bool:
        first = self.kept[0].block.first if self.kept else self.tail
        return max(first, self.start) <= offset <= self.tail

    def find(self, offset: int) -> Block | None:
        """The first decoded block that reaches beyond `offset`; mostly the newest."""
        found = None
        for kept in reversed(self.kept):
            if kept.block.next <= offset:
                break
            found = kept.block
        return found

    def decode(self) -> Block | None:
        """The next block of the current answer; None when there is no more of it. Raises LogError."""
        block = next(self.blocks, None) if self.blocks is not None else None
        if block is None:
            self.blocks = None
            self.tail = self.ahead
            return None
        if block.next <= self.tail:
            return block  # wholly before what was asked for
        self.kept.append(_Kept(block, self.share))
        self.kept_bytes += self.share
        self.tail = block.next
        while len(self.kept) > 1 and self.kept_bytes - self.kept[0].size >= KEEP_BYTES:
            self.kept_bytes -= self.kept.popleft().size
        return block


class Reader:
    """The records of one partition, from wherever one asks. Safe to use from several threads."""

    def __init__(self, link: Link, stream: str, topic: Topic, partition: int) -> None:
        self._link, self._stream, self._topic, self._partition = link, stream, topic, partition
        self._where = f"{topic.name}/{partition}"
        self._lock = threading.Lock()
        self._cursors: list[_Cursor] = []  # the one used last comes first

    def read(self, offset: int, limit: int) -> list[Record]:
        """Up to `limit` records from `offset` on, fewer only at the end.

        Raises LogUnavailable, LogError, UnknownStream, ForeignLog, PositionExpired.
        """
        with self._lock:
            cursor = self._cursor(offset)
            found: list[Record] = []
            try:
                self._collect(cursor, offset, limit, found)
            except Exception:
                self._cursors.remove(cursor)
                if not found:
                    raise
            return found

    def bounds(self) -> tuple[int, int]:
        """(first retained offset, end). Raises LogUnavailable, LogError, UnknownStream, ForeignLog."""

        return self._bounds(None)

    def _bounds(self, until: float | None) -> tuple[int, int]:
        def attempt(deadline: float) -> tuple[int, int]:
            node = self._link.leader(self._topic, self._stream, self._partition, deadline)
            try:
                asked = [self._link.start(self._offsets_request(which), node) for which in (EARLIEST, LATEST)]
                first, end = (self._offset_in(answer) for answer in self._link.gather(asked, deadline))
            except kafka_errors.KafkaError:
                self._link.moved(self._stream, self._partition)
                raise
            return first, max(first, end)

        return self._link.patiently(attempt, f"tell the bounds of {self._where}", until)

    def forget(self) -> None:
        """Ask the broker for everything from now on: what was kept may have been trimmed."""
        with self._lock:
            self._cursors.clear()

    # -- inside the lock

    def _cursor(self, offset: int) -> _Cursor:
        for index, cursor in enumerate(self._cursors):
            if cursor.holds(offset):
                if index:
                    self._cursors.insert(0, self._cursors.pop(index))
                return cursor
        cursor = _Cursor(offset)
        self._cursors.insert(0, cursor)
        del self._cursors[MAX_CURSORS:]
        return cursor

    def _collect(self, cursor: _Cursor, offset: int, limit: int, found: list[Record]) -> None:
        asked = False
        while len(found) < limit:
            block = cursor.find(offset)
            if block is not None:
                some = block.since(offset, limit - len(found))
                found += some
                if len(found) >= limit:
                    break
                offset = block.next
            elif cursor.decode() is None:
                offset = max(offset, cursor.tail)
                if offset >= cursor.end and (asked or found):
                    return
                self._fetch(cursor)
                asked = True
                if cursor.blocks is None:
                    return

    def _fetch(self, cursor: _Cursor) -> None:
        """Take the next answer: the one under way, or that of a request made now."""
        waiting, cursor.waiting = cursor.waiting, None

        def attempt(deadline: float) -> Any:
            nonlocal waiting
            future, waiting = waiting or self._start(cursor, deadline), None
            try:
                [answer] = self._link.gather([future], deadline)
                return self._part(answer, cursor.ahead, deadline)
            except kafka_errors.KafkaError:
                self._link.moved(self._stream, self._partition)  # the next attempt asks, and sees whether it is the same topic
                raise

        part = self._link.patiently(attempt, f"read {self._where}")
        aborted = [(one.producer_id, one.first_offset) for one in part.aborted_transactions or ()]
        data = part.records or b""
        chunk = Chunk(self._where, data, aborted)
        cursor.end = part.last_stable_offset
        if chunk.next is None:
            if data:
                raise LogError(f"{self._where}: {len(data)} bytes at offset {cursor.ahead} are no whole batch")
            cursor.blocks = None
            return
        cursor.blocks, cursor.share = iter(chunk), max(1, len(data) // chunk.batches)
        cursor.ahead, cursor.epoch = max(chunk.next, cursor.ahead), chunk.epoch
        if cursor.ahead < cursor.end:
            with suppress(kafka_errors.KafkaError, LogError):  # then the next read asks, and is told why
                cursor.waiting = self._start(cursor, time.monotonic())

    def _start(self, cursor: _Cursor, deadline: float) -> Any:
        link = self._link
        node = link.leader(self._topic, self._stream, self._partition, deadline)
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=FETCH_BYTES,
            isolation_level=READ_COMMITTED,
            session_id=0,
            session_epoch=-1,
            topics=[
                FetchRequest.FetchTopic(
                    topic=self._topic.name,
                    topic_id=self._topic.id,
                    partitions=[
                        FetchRequest.FetchTopic.FetchPartition(
                            partition=self._partition,
                            current_leader_epoch=-1,
                            fetch_offset=cursor.ahead,
                            last_fetched_epoch=cursor.epoch,
                            log_start_offset=-1,
                            partition_max_bytes=FETCH_BYTES,
                        )
                    ],
                )
            ],
            forgotten_topics_data=[],
            rack_id="",
            min_version=BY_ID,
        )
        return link.start(request, node)

    def _part(self, answer: Any, offset: int, deadline: float) -> Any:
        check(answer.error_code, self._where)
        part = answer.responses[0].partitions[0]
        if part.error_code == OUT_OF_RANGE:
            first, end = self._bounds(deadline)
            if not first <= offset <= end:
                raise PositionExpired(self._stream, self._partition, offset, first, end)
            raise kafka_errors.OffsetNotAvailableError(f"{self._where} at {offset}")
        check(part.error_code, self._where)
        diverging = part.diverging_epoch
        if diverging is not None and diverging.end_offset >= 0:  # what follows is not the continuation of what was read
            first, _ = self._bounds(deadline)
            raise PositionExpired(self._stream, self._partition, offset, first, diverging.end_offset)
        return part

    def _offsets_request(self, which: int) -> Any:
        return ListOffsetsRequest(
            replica_id=-1,
            isolation_level=READ_COMMITTED,
            topics=[
                ListOffsetsRequest.ListOffsetsTopic(
                    name=self._topic.name,
                    partitions=[
                        ListOffsetsRequest.ListOffsetsTopic.ListOffsetsPartition(
                            partition_index=self._partition, current_leader_epoch=-1, timestamp=which
                        )
                    ],
                )
            ],
        )

    def _offset_in(self, answer: Any) -> int:
        part = answer.topics[0].partitions[0]
        check(part.error_code, self._where)
        return int(part.offset)
