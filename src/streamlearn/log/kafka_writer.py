"""Appending: one thread hands every call to kafka-python's idempotent producer, so that no caller waits for a broker.

A call is told its places once every entry is acknowledged by all in-sync replicas, in the order in which it was made. It must
never acknowledge what is not, and never keep more than the given number of bytes that are not acknowledged.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from streamlearn.errors import LogError, LogFull, LogUnavailable, Overloaded, UnknownStream
from streamlearn.events import partition_of

from . import Entry
from .kafka_link import PASSING, Link, Topic, build
from .kafka_records import HEAD_BYTES, KIND_HEADER

Places = list[tuple[int, int]]

MIB: Final = 1 << 20
ENTRY_OVERHEAD_BYTES: Final = 64
BATCH_BYTES: Final = 128 << 10
RETRY_S: Final = 1.0
SETTLE_S: Final = 1.0

# Of the producer alone: after these its numbering of records is lost, and a new producer begins afresh.
NUMBERING: Final = (
    kafka_errors.ProducerFencedError,
    kafka_errors.InvalidProducerEpochError,
    kafka_errors.OutOfOrderSequenceNumberError,
    kafka_errors.UnknownProducerIdError,
)
TOO_LARGE: Final = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


class _Call:
    """One append: its entries, their partitions (None when the stream was not known yet), and when it must have been told."""

    __slots__ = ("due", "entries", "future", "partitions", "settled", "size", "stream")

    def __init__(self, stream: str, entries: Sequence[Entry], partitions: list[int] | None, size: int, due: float) -> None:
        self.stream, self.entries, self.partitions, self.size, self.due = stream, entries, partitions, size, due
        self.future: Future[Places] = Future()
        self.settled = False


class Writer:
    """The producing side of one handle. Safe to use from several threads.

    After any failed delivery the producer is replaced, and with it fails what it still had: a later append cannot overtake an
    earlier one that is acknowledged, and nothing waits for a producer that lost its way (kafka-python 3.0.12 can).
    """

    def __init__(
        self,
        link: Link,
        *,
        compression: str | None,
        linger_ms: int,
        delivery_s: float,
        max_waiting_bytes: int,
        max_record_bytes: int,
    ) -> None:
        self._link, self._delivery_s, self._max_waiting_bytes = link, delivery_s, max_waiting_bytes
        self._max_record_bytes = max_record_bytes
        self._settings = {
            "enable_idempotence": True,
            "acks": "all",
            "compression_type": compression,
            "linger_ms": linger_ms,
            "batch_size": BATCH_BYTES,
            "max_request_size": max_record_bytes + HEAD_BYTES,
            "delivery_timeout_ms": int(delivery_s * 1000),
            "allow_auto_create_topics": False,
        }
        self._changed = threading.Condition()
        self._calls: deque[_Call] = deque()
        self._sent: deque[_Call] = deque()
        self._waiting_bytes = 0
        self._unsettled = 0
        self._closing = False
        self._spoiled = False
        self._thread: threading.Thread | None = None
        self._producer: Any = None

    def append(self, stream: str, entries: Sequence[Entry]) -> Future[Places]:
        """As `Log.append`. Raises Overloaded; never waits."""
        sizes = [len(entry.key) + len(entry.value) + ENTRY_OVERHEAD_BYTES for entry in entries]
        size = sum(sizes)
        call = _Call(stream, entries, None, size, time.monotonic() + self._delivery_s + SETTLE_S)
        known = self._link.known(stream)
        try:
            self._link.check_open()
            if known is not None:
                call.partitions = route(known, stream, entries)
            if max(sizes, default=0) > self._max_record_bytes:
                raise self._explain(call, kafka_errors.MessageSizeTooLargeError())
        except LogError as error:
            call.future.set_exception(error)
            return call.future
        with self._changed:
            if self._closing:
                call.future.set_exception(LogUnavailable(f"{self._link.where}: this log is closed"))
                return call.future
            if self._waiting_bytes and self._waiting_bytes + size > self._max_waiting_bytes:
                raise Overloaded(f"{self._waiting_bytes / MIB:.1f} MiB wait to be acknowledged by Kafka", RETRY_S)
            self._waiting_bytes += size
            self._unsettled += 1
            self._calls.append(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_forever, name="log-writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return call.future

    def close(self) -> None:
        """Wait for every answer, at most as long as a delivery may take, then end."""
        until = time.monotonic() + self._delivery_s + 2 * SETTLE_S
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._unsettled and time.monotonic() < until:
                self._changed.wait(max(until - time.monotonic(), 0.001))
        if self._thread is not None:
            self._thread.join(SETTLE_S)
        self._discard()

    # -- the writer thread

    def _write_forever(self) -> None:
        while True:
            with self._changed:
                while not self._calls:
                    pause = self._patience()
                    if self._closing and not self._sent:
                        return
                    if pause is not None and pause <= 0:
                        break
                    self._changed.wait(pause)
                call = self._calls.popleft() if self._calls else None
            try:
                self._give_up_late()
                if call is not None and self._is_wanted(call):
                    self._send(call)
            except BaseException as error:  # whatever it is, the thread goes on, and the callers are told
                self._fail_all(call, error)

    def _patience(self) -> float | None:
        """Seconds until the oldest call that was sent must have been told; None when there is none."""
        while self._sent and self._sent[0].settled:
            self._sent.popleft()
        return self._sent[0].due - time.monotonic() if self._sent else None

    def _give_up_late(self) -> None:
        with self._changed:
            pause = self._patience()
        if pause is not None and pause <= 0:
            self._discard()
            for call in list(self._sent):
                self._fail(call, kafka_errors.KafkaTimeoutError("the producer gave no answer"))

    def _is_wanted(self, call: _Call) -> bool:
        if call.future.set_running_or_notify_cancel():
            return True
        self._settle(call)
        return False

    def _send(self, call: _Call) -> None:
        topic = self._link.topic(call.stream)
        partitions = route(topic, call.stream, call.entries) if call.partitions is None else call.partitions
        if not call.entries:
            self._settle(call, [])
            return
        send = self._usable().send
        self._sent.append(call)
        waiting = []
        for entry, partition in zip(call.entries, partitions, strict=True):
            headers = [(KIND_HEADER, b"%d" % entry.kind)] if entry.kind else None
            waiting.append(send(topic.name, value=entry.value, key=entry.key, headers=headers, partition=partition))
        _Answers(waiting, partitions, lambda places: self._settle(call, places), lambda error: self._fail(call, error)).go_on()

    def _usable(self) -> Any:
        """The producer; a new one when there was none, or a delivery failed. Raises kafka-python's errors."""
        if self._spoiled:
            self._discard()
        if self._producer is None:
            options = self._link.options
            block_ms = int(options.timeout_s * 1000)
            self._producer = build(KafkaProducer, max_block_ms=block_ms, **options.client(), **self._settings)
        return self._producer

    def _discard(self) -> None:
        """End the producer; what it has not delivered fails, and is told so."""
        producer, self._producer, self._spoiled = self._producer, None, False
        if producer is None:
            return
        producer._sender.force_close()  # its `close` alone would first wait for what it cannot deliver
        producer._sender.join(SETTLE_S)
        with suppress(kafka_errors.KafkaError):
            producer.close(timeout=SETTLE_S)
        producer._closed = True  # else its finalizer tries all that again

    def _settle(self, call: _Call, places: Places | None = None, error: LogError | None = None) -> None:
        with self._changed:
            if call.settled:
                return
            call.settled = True
            self._waiting_bytes -= call.size
            self._unsettled -= 1
            self._changed.notify_all()
        if places is not None:
            call.future.set_result(places)
        elif error is not None:
            call.future.set_exception(error)

    def _fail(self, call: _Call, error: BaseException) -> None:
        if isinstance(error, kafka_errors.KafkaError):
            self._spoiled = True
        self._settle(call, error=error if isinstance(error, LogError) else self._explain(call, error))

    def _fail_all(self, call: _Call | None, error: BaseException) -> None:
        """Tell the call; and those behind it, if it could not even be sent: waiting in turn, they would wait too long."""
        with self._changed:
            behind = list(self._calls) if isinstance(error, (LogUnavailable, *PASSING)) else []
            for one in behind:
                self._calls.remove(one)
        if call is not None:
            self._fail(call, error)
        for one in behind:
            if self._is_wanted(one):
                self._fail(one, error)

    def _explain(self, call: _Call, error: BaseException) -> LogError:
        what = f"append to stream {call.stream!r}"
        if isinstance(error, TOO_LARGE):
            largest = max((len(entry.key) + len(entry.value) for entry in call.entries), default=0)
            return LogError(
                f"a record of {largest} bytes, or one sent with it, is too large: {self._max_record_bytes} is the most here, "
                "and max.message.bytes in the topic; lower limits.max_event_bytes, or raise both"
            )
        if isinstance(error, kafka_errors.UnknownTopicOrPartitionError | kafka_errors.InvalidTopicError):
            return UnknownStream(f"stream {call.stream!r} is gone from {self._link.where}")
        if isinstance(error, kafka_errors.KafkaStorageError):
            return LogFull(f"{self._link.where} cannot write to its disk ({error})")
        if isinstance(error, (*PASSING, *NUMBERING)):
            return self._link.unavailable(what, error)
        return self._link.refused(what, error)


class _Answers:
    """Waits for the producer's answers to one call, one after the other: mostly all of them come at once."""

    def __init__(
        self, waiting: list[Any], partitions: list[int], done: Callable[[Places], None], failed: Callable[[BaseException], None]
    ) -> None:
        self._waiting, self._partitions, self._done, self._failed = waiting, partitions, done, failed
        self._next = 0
        self._error: BaseException | None = None

    def go_on(self, _: object = None) -> None:
        waiting, total = self._waiting, len(self._waiting)
        while self._next < total:
            answer = waiting[self._next]
            if not answer.is_done:
                answer.add_both(self.go_on)
                return
            self._next += 1
            if answer.exception is not None and self._error is None:
                self._error = answer.exception
        if self._error is not None:
            self._failed(self._error)
        else:
            self._done([(partition, answer.value.offset) for partition, answer in zip(self._partitions, waiting, strict=True)])


def route(topic: Topic, stream: str, entries: Sequence[Entry]) -> list[int]:
    """The partition of each entry. Raises UnknownStream for one that there is not: then nothing of the call is sent."""
    partitions = topic.partitions
    found = []
    for entry in entries:
        partition = entry.partition
        if partition is None:
            partition = partition_of(entry.key, partitions)
        elif not 0 <= partition < partitions:
            raise UnknownStream(f"no partition {partition} in stream {stream!r}; it has {partitions}, numbered from 0")
        found.append(partition)
    return found
