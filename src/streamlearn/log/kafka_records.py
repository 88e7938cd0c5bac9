"""Kafka's record batches (message format 2) turned into log records: the hot path of reading.

kafka-python's own decoder builds three objects a record and looks at every field; a learner needs one tuple. The layout is
that of Kafka's protocol guide ("Record Batch" and "Record"). This module must never skip a record that was committed.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple, cast

from kafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from kafka.record.util import calc_crc32c

from streamlearn.errors import LogError

from . import Record

KIND_HEADER: Final = "kind"
UNKNOWN_KIND: Final = -1
HEAD_BYTES: Final = 512  # more than a batch of one record takes beside its key and value
MAX_KIND: Final = 999

# base offset, length, leader epoch, magic, CRC-32C, attributes, last offset delta, first and newest time (ms), producer id,
# producer epoch, base sequence, number of records
_BATCH: Final = struct.Struct(">qiibIhiqqqhii")
_START: Final = struct.Struct(">qii")
_LENGTH_ENDS: Final = 12
_MAGIC_AT: Final = 16
_CHECKED_FROM: Final = 21  # the CRC covers everything from the attributes on
_CONTROL_KEY: Final = struct.Struct(">hh")
_ABORT: Final = 0
_CODEC, _APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20
_DECODERS: Final[dict[int, Callable[[bytes], bytes] | None]] = {
    0: bytes, 1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode,
}  # fmt: skip
_KIND_KEY: Final = KIND_HEADER.encode()

# Record._make without its Python frame.
_record: Final = cast(Callable[[Iterable[Any]], Record], partial(tuple.__new__, Record))
_offset: Final = attrgetter("offset")


class Block(NamedTuple):
    """What one batch holds: the records of the offsets from `first` up to, but without, `next`. Holes hold none."""

    first: int
    next: int
    records: list[Record]

    def since(self, offset: int, limit: int) -> list[Record]:
        """Up to `limit` records from `offset` on."""
        start = offset - self.first
        if len(self.records) != self.next - self.first:
            start = bisect_left(self.records, offset, key=_offset)
        elif start < 0:
            start = 0
        return self.records[start : start + limit]


class Chunk:
    """The answer to one fetch: whole batches, of which the last may be cut off. Iterating decodes them one by one.

    `aborted` are the (producer id, first offset) of the transactions in it that were aborted; their records are left out.
    Iterating raises LogError for what is damaged or older than message format 2. `next` is the offset after the last of them,
    `epoch` the leader's epoch in which that was written; None and -1 when there is none.
    """

    def __init__(self, where: str, data: bytes | bytearray | memoryview, aborted: Collection[tuple[int, int]] = ()) -> None:
        self._where, self._data = where, memoryview(data)
        self._aborted = sorted(aborted, key=lambda one: one[1])
        self._dead: set[int] = set()
        self._spans: list[tuple[int, int]] = []
        self.next: int | None = None
        self.epoch = -1
        at, size = 0, len(self._data)
        while at + _START.size <= size:
            base, length, epoch = _START.unpack_from(self._data, at)
            end = at + _LENGTH_ENDS + length
            if end > size or length < _BATCH.size - _LENGTH_ENDS:
                break
            self._spans.append((at, end))
            self.next = base + int(struct.unpack_from(">i", self._data, at + 23)[0]) + 1
            self.epoch = epoch
            at = end

    @property
    def batches(self) -> int:
        """How many whole batches there are."""
        return len(self._spans)

    def __iter__(self) -> Iterator[Block]:
        for start, end in self._spans:
            yield self._block(self._data[start:end])

    def _block(self, batch: memoryview) -> Block:
        if batch[_MAGIC_AT] != 2:
            raise LogError(f"{self._where} holds records of a message format older than 2 (Kafka 0.11); write them anew")
        base, _, _, _, crc, attributes, last, first_ms, newest_ms, producer, _, _, count = _BATCH.unpack_from(batch)
        if calc_crc32c(batch[_CHECKED_FROM:]) != crc:
            raise LogError(f"{self._where}: the batch at offset {base} is damaged (its CRC is wrong)")
        while self._aborted and self._aborted[0][1] <= base + last:
            self._dead.add(self._aborted.pop(0)[0])
        if attributes & _TRANSACTIONAL and producer in self._dead and not attributes & _CONTROL:
            return Block(base, base + last + 1, [])
        data: bytes = bytes(batch[_BATCH.size :])
        decode = _DECODERS.get(attributes & _CODEC)
        if decode is None:
            raise LogError(f"{self._where}: no decoder for compression {attributes & _CODEC}; install kafka-python's extras")
        stamp = newest_ms / 1000 if attributes & _APPEND_TIME else None
        try:
            records = _records(decode(data), count, base, first_ms, stamp)
        except Exception as error:  # each compression has errors of its own
            raise LogError(f"{self._where}: the batch at offset {base} is damaged ({error!r})") from error
        if attributes & _CONTROL:
            if records and _CONTROL_KEY.unpack_from(records[0].key)[1] == _ABORT:
                self._dead.discard(producer)
            records = []
        return Block(base, base + last + 1, records)


def _records(data: bytes, count: int, base: int, first_ms: int, stamp: float | None) -> list[Record]:
    """The records of one batch, uncompressed. `stamp` is the append time, seconds; None when each has a time of its own.

    Numbers are zigzag varints: one byte is the usual case, two for what counts bytes or records; both are read in place.
    """
    found: list[Record] = []
    add, at = found.append, 0
    for _ in range(count):
        byte = data[at]
        if byte < 128:
            end = at + 1 + (byte >> 1)
            at += 2  # the length, and the attributes: one byte, unused
        elif (high := data[at + 1]) < 128:
            end = at + 2 + (byte >> 1 & 63 | high << 6)
            at += 3
        else:
            length, at = _varint(data, at)
            end = at + length
            at += 1
        byte = data[at]
        if byte < 128:
            ms = (byte >> 1) ^ -(byte & 1)
            at += 1
        else:
            ms, at = _varint(data, at)
        byte = data[at]
        if byte < 128:
            delta = byte >> 1
            at += 1
        elif (high := data[at + 1]) < 128:
            delta = byte >> 1 & 63 | high << 6
            at += 2
        else:
            delta, at = _varint(data, at)
        byte = data[at]
        if byte < 128:
            size = (byte >> 1) ^ -(byte & 1)
            at += 1
        else:
            size, at = _varint(data, at)
        if size > 0:
            key = data[at : at + size]
            at += size
        else:
            key = b""
        byte = data[at]
        if byte < 128:
            size = (byte >> 1) ^ -(byte & 1)
            at += 1
        elif (high := data[at + 1]) < 128:
            size = byte >> 1 & 63 | high << 6
            at += 2
        else:
            size, at = _varint(data, at)
        if size > 0:
            value = data[at : at + size]
            at += size
        else:
            value = b""
        if data[at]:
            kind, at = _kind(data, at)
        else:
            kind = 0
            at += 1
        if at != end:
            raise ValueError(f"record {delta} ends at byte {at}, not {end}")
        add(_record((base + delta, (first_ms + ms) / 1000 if stamp is None else stamp, kind, key, value)))
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes follow the last record")
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(the number, where the next one begins)."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _kind(data: bytes, at: int) -> tuple[int, int]:
    """(the record's kind, where its headers end). The last header of our name counts, as in Kafka's own `lastHeader`."""
    kind = 0
    count, at = _varint(data, at)
    for _ in range(count):
        size, at = _varint(data, at)
        name = data[at : at + size]
        at += size
        size, at = _varint(data, at)
        size = max(size, 0)
        if name == _KIND_KEY:
            kind = kind_of(data[at : at + size])
        at += size
    return kind, at


def kind_of(value: bytes) -> int:
    """The kind that a header's value names; one that no learner knows when it is not a small number in decimal digits."""
    if value.isdigit() and len(value) <= len(str(MAX_KIND)):
        return int(value)
    return UNKNOWN_KIND
