"""Record batches as kafka-python writes them, decoded by the log's own reader: the same records, none skipped, damage told."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import calc_crc32c

from streamlearn.errors import LogError
from streamlearn.log import Record
from streamlearn.log.kafka_records import UNKNOWN_KIND, Block, Chunk, kind_of

FIRST_MS = 1_700_000_000_000
ROOM = 64 << 20
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
COUNT_AT, CRC_AT, ATTRIBUTES_AT, CHECKED_FROM = 57, 17, 21, 21

Row = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]


def batch(rows: list[Row], codec: int = 0, transactional: int = 0, producer: int = -1) -> bytes:
    """One batch; a row is (milliseconds after the first, key, value, headers)."""
    builder = DefaultRecordBatchBuilder(2, codec, transactional, producer, 0 if producer >= 0 else -1, 0, ROOM)
    for number, (ms, key, value, headers) in enumerate(rows):
        assert builder.append(number, FIRST_MS + ms, key, value, headers) is not None
    return bytes(builder.build())


def at(data: bytes, base: int) -> bytes:
    """The batch as the broker keeps it, from offset `base` on."""
    return struct.pack(">q", base) + data[8:]


def sealed(data: bytearray) -> bytes:
    """The batch with the CRC that belongs to it."""
    struct.pack_into(">I", data, CRC_AT, calc_crc32c(bytes(data[CHECKED_FROM:])))
    return bytes(data)


def decoded(data: bytes, aborted: list[tuple[int, int]] | None = None) -> list[Record]:
    return [record for block in Chunk("t/0", data, aborted or ()) for record in block.records]


def expected(rows: list[Row], base: int = 0) -> list[Record]:
    """What the rows mean to the log; a missing key or value is empty."""
    return [
        Record(base + number, (FIRST_MS + ms) / 1000, kind_of(headers[-1][1]) if headers else 0, key or b"", value or b"")
        for number, (ms, key, value, headers) in enumerate(rows)
    ]


@pytest.mark.parametrize("size", [0, 1, 55, 63, 64, 65, 127, 128, 8185, 8191, 8192, 8193, 20_000, 1_048_576, 1_050_000])
def test_sizes_at_which_a_number_takes_another_byte(size: int) -> None:
    rows: list[Row] = [(0, b"k" * min(size, 70_000), b"v" * size, []), (1, b"", b"v", [])]
    assert decoded(batch(rows)) == expected(rows)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 66, 128, 8193, 8200])
def test_offsets_at_which_a_number_takes_another_byte(count: int) -> None:
    rows: list[Row] = [(number, b"%d" % number, b"v", []) for number in range(count)]
    found = decoded(at(batch(rows), 10**12))
    assert found == expected(rows, 10**12)
    assert [record.offset for record in found] == list(range(10**12, 10**12 + count))


@given(
    st.lists(
        st.tuples(
            st.integers(-100_000, 10_000_000),
            st.none() | st.binary(max_size=200),
            st.none() | st.binary(max_size=9000),
            st.lists(st.tuples(st.just("kind"), st.sampled_from([b"0", b"1", b"7", b"999", b"x"])), max_size=2),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(sorted(CODECS)),
)
def test_any_records_are_read_as_they_were_written(rows: list[Row], codec: str) -> None:
    assert decoded(batch(rows, CODECS[codec])) == expected(rows)


def test_a_foreign_header_says_nothing_of_the_kind() -> None:
    others = [("trace", b"3"), ("kind", b"2"), ("other", b"x" * 300)]
    rows: list[Row] = [(0, b"k", b"v", others), (0, b"k", b"v", others[:1])]
    assert [record.kind for record in decoded(batch(rows))] == [2, 0]


@pytest.mark.parametrize("value", [b"", b"-1", b"1000", b"one", b"\xff", b"1.5"])
def test_a_kind_that_is_no_small_number_is_one_that_no_learner_knows(value: bytes) -> None:
    assert kind_of(value) == UNKNOWN_KIND


def test_the_append_time_goes_before_that_of_the_sender() -> None:
    data = bytearray(batch([(0, b"a", b"v", []), (500, b"b", b"v", [])]))
    struct.pack_into(">h", data, ATTRIBUTES_AT, 0x08)
    assert [record.ts for record in decoded(sealed(data))] == [(FIRST_MS + 500) / 1000] * 2


def test_several_batches_and_one_cut_off() -> None:
    rows: list[Row] = [(0, b"k", b"v" * 100, [])] * 3
    whole = at(batch(rows), 5) + at(batch(rows), 8)
    for cut in (1, 8, 12, 61, 100):
        chunk = Chunk("t/0", whole + at(batch(rows), 11)[:cut])
        assert (chunk.batches, chunk.next) == (2, 11)
        assert [record.offset for block in chunk for record in block.records] == [5, 6, 7, 8, 9, 10]
    nothing = Chunk("t/0", whole[:50])
    assert (nothing.batches, nothing.next, list(nothing)) == (0, None, [])


def test_a_compacted_batch_has_holes() -> None:
    """Kafka keeps the first and the last offset of a batch from which records were removed."""
    block = Block(10, 20, [Record(offset, 0.0, 0, b"", b"") for offset in (11, 14, 19)])
    assert [record.offset for record in block.since(10, 99)] == [11, 14, 19]
    assert [record.offset for record in block.since(12, 1)] == [14]
    assert block.since(20, 99) == []


def test_a_full_block_is_cut_where_asked() -> None:
    block = Block(10, 13, [Record(offset, 0.0, 0, b"", b"") for offset in (10, 11, 12)])
    assert [record.offset for record in block.since(11, 1)] == [11]
    assert [record.offset for record in block.since(3, 2)] == [10, 11]
    assert block.since(13, 5) == []


def test_an_aborted_transaction_is_left_out_until_its_end() -> None:
    rows: list[Row] = [(0, b"k", b"v", [])]
    aborted, kept = (at(batch(rows, 0, 1, producer), base) for producer, base in ((7, 0), (8, 1)))
    marker = bytearray(at(batch([(0, struct.pack(">hh", 0, 0), b"", [])], 0, 1, 7), 2))
    struct.pack_into(">h", marker, ATTRIBUTES_AT, 0x30)
    later = at(batch(rows, 0, 1, 7), 3)
    found = decoded(aborted + kept + sealed(marker) + later, [(7, 0)])
    assert [record.offset for record in found] == [1, 3]


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_no_flipped_bit_goes_unnoticed(codec: str) -> None:
    """The CRC covers all from the attributes on; what lies before it decides where the batch ends and which offsets it has."""
    rows: list[Row] = [(number, b"key%d" % number, bytes(range(100)), []) for number in range(5)]
    whole = batch(rows, CODECS[codec])
    rng = random.Random(3)
    for place in range(CRC_AT, len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        with pytest.raises(LogError, match="damaged"):
            decoded(bytes(data))


def test_damage_under_a_right_crc_is_told_too() -> None:
    """A writer with a fault of its own: counts and lengths that do not fit, whatever the CRC says."""
    rows: list[Row] = [(number, b"key", b"v" * 70, []) for number in range(70)]
    whole = batch(rows)
    for count in (69, 71, 2**31 - 1):
        data = bytearray(whole)
        struct.pack_into(">i", data, COUNT_AT, count)
        with pytest.raises(LogError, match="damaged"):
            decoded(sealed(data))
    for cut in (1, 40, 100):
        with pytest.raises(LogError, match="damaged"):
            decoded(sealed(_shorter(whole, cut)))


def _shorter(data: bytes, cut: int) -> bytearray:
    short = bytearray(data[:-cut])
    struct.pack_into(">i", short, 8, len(short) - 12)
    return short


@pytest.mark.parametrize(("change", "text"), [((16, 1), "older than 2"), ((ATTRIBUTES_AT + 1, 5), "no decoder")])
def test_what_cannot_be_read_is_named(change: tuple[int, int], text: str) -> None:
    data = bytearray(batch([(0, b"k", b"v", [])]))
    data[change[0]] = change[1]
    with pytest.raises(LogError, match=text):
        decoded(sealed(data))


def test_the_same_as_kafka_python_reads() -> None:
    rng = random.Random(5)
    rows: list[Row] = [
        (rng.randrange(100_000), rng.randbytes(rng.randrange(1, 90)), rng.randbytes(rng.choice([1, 60, 200, 9000])), [])
        for _ in range(300)
    ]
    data = at(batch(rows), 77)
    theirs: list[Any] = [record for each in iter(MemoryRecords(data).next_batch, None) for record in each]
    assert [(record.offset, record.ts, record.key, record.value) for record in decoded(data)] == [
        (record.offset, record.timestamp / 1000, record.key, record.value) for record in theirs
    ]


@given(body=st.binary(max_size=300), codec=st.sampled_from(sorted(CODECS)), count=st.integers(1, 5))
def test_nonsense_under_a_right_crc_is_told_whatever_its_compression(body: bytes, codec: str, count: int) -> None:
    """Each compression raises errors of its own; by chance the bytes may also make sense."""
    data = bytearray(batch([(0, b"k", b"v", [])])[:61] + body)
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">h", data, ATTRIBUTES_AT, CODECS[codec])
    struct.pack_into(">i", data, COUNT_AT, count)
    try:
        found = decoded(sealed(data))
    except LogError:
        return
    assert len(found) == count


def test_a_producer_may_abort_twice() -> None:
    """A transaction between the two that was committed is kept: what was aborted is known by where each one began."""
    rows: list[Row] = [(0, b"k", b"v", [])]
    parts = []
    for base, kind in ((0, 0), (2, 1), (4, 0)):
        marker = bytearray(at(batch([(0, struct.pack(">hh", 0, kind), b"", [])], 0, 1, 7), base + 1))
        struct.pack_into(">h", marker, ATTRIBUTES_AT, 0x30)
        parts += [at(batch(rows, 0, 1, 7), base), sealed(marker)]
    assert [record.offset for record in decoded(b"".join(parts), [(7, 4), (7, 0)])] == [2]
