"""Reading up to an offset where a broker's own marks leave holes between offsets."""

from __future__ import annotations

import pytest

from streamlearn.errors import PositionExpired
from streamlearn.log import Entry, Record, pages_below, read_below
from streamlearn.testing import MemoryLog


class HoleyLog(MemoryLog):
    """Only even offsets hold records, and none from 20 on."""

    def read(self, stream: str, partition: int, offset: int, limit: int) -> list[Record]:
        records = super().read(stream, partition, offset, 100)
        return [record for record in records if record.offset % 2 == 0 and record.offset < 20][:limit]


@pytest.fixture
def log() -> HoleyLog:
    log = HoleyLog()
    log.create({"s": 1})
    log.append("s", [Entry(b"k", b"%d" % n) for n in range(30)]).result()
    return log


@pytest.mark.parametrize(
    ("offset", "end", "limit", "found"),
    [
        (0, 10, 100, [0, 2, 4, 6, 8]),  # ten records would reach to 18
        (0, 10, 3, [0, 2, 4]),
        (0, 9, 100, [0, 2, 4, 6, 8]),
        (0, 8, 100, [0, 2, 4, 6]),
        (7, 9, 100, [8]),
        (7, 8, 100, []),  # one record is asked for, and the next one lies at the end
        (9, 9, 100, []),
        (16, 30, 100, [16, 18]),
        (19, 30, 100, []),  # marks alone
    ],
)
def test_nothing_from_the_end_on_is_read(log: HoleyLog, offset: int, end: int, limit: int, found: list[int]) -> None:
    assert [record.offset for record in read_below(log, "s", 0, offset, end, limit)] == found


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_page_by_page_nothing_is_missed(log: HoleyLog, limit: int) -> None:
    at, found = 0, []
    while records := read_below(log, "s", 0, at, 15, limit):
        found += [record.offset for record in records]
        at = found[-1] + 1
    assert found == [0, 2, 4, 6, 8, 10, 12, 14]


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_pages_hold_all_there_is_below_the_end_and_end_where_nothing_is_left(log: HoleyLog, limit: int) -> None:
    pages = list(pages_below(log, "s", 0, 3, 15, limit))
    assert [record.offset for page in pages for record in page] == [4, 6, 8, 10, 12, 14]
    assert all(0 < len(page) <= limit for page in pages)
    marks = pages_below(log, "s", 0, 16, 30, limit)
    assert [record.offset for page in marks for record in page] == [16, 18], "then marks alone"
    assert list(pages_below(log, "s", 0, 9, 9, limit)) == []


def test_an_expired_position_is_no_hole(log: HoleyLog) -> None:
    log.trim("s", 0, 10)
    with pytest.raises(PositionExpired):
        read_below(log, "s", 0, 4, 20, 100)
