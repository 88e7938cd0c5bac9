"""Dead letters as the log holds them: repeats dropped, what was replayed remembered, and replayed once at most.

A letter's number is its offset in `_dead`. A replay appends the original record again, to the partition of its key, and then a
mark to `_dead`; a crash between the two replays again, which is harmless, since models know an id that they have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from ..errors import LogError
from ..events import Kind
from ..log import DEAD, Entry, Log
from ..records import DeadLetter

PAGE: Final = 1000
MARK: Final = b"replayed"
NEVER_REPLAYED: Final = frozenset({"bad_signature"})  # a command that is not ours


class Letter(NamedTuple):
    """A dead letter, its number, and whether its record was replayed."""

    number: int
    dead: DeadLetter
    replayed: bool

    @property
    def source(self) -> tuple[str, int, int]:
        """Where its record lies: stream, partition, offset. Several models may have refused the same record."""
        return self.dead.stream, self.dead.shard, self.dead.offset


class Replayed(msgspec.Struct):
    """The mark of a replay: the records that were appended again, and when (Unix seconds)."""

    records: list[tuple[str, int, int]]
    at: float


class Outcome(NamedTuple):
    """What a replay did: records appended, letters passed over because they were replayed before, letters that never are."""

    appended: int
    before: int
    never: int


def letters(log: Log) -> list[Letter]:
    """Every dead letter, oldest first; a letter that a recovering learner wrote again counts once. Raises LogError."""
    found: dict[tuple[str, int, int, str], tuple[int, DeadLetter]] = {}
    replayed: set[tuple[str, int, int]] = set()
    for offset, entry in _read(log):
        if isinstance(entry, Replayed):
            replayed.update(entry.records)
        else:
            found.setdefault((entry.model, entry.shard, entry.offset, entry.reason), (offset, entry))
    return [
        Letter(offset, dead, (dead.stream, dead.shard, dead.offset) in replayed) for offset, dead in found.values()
    ]


def replay(log: Log, chosen: Iterable[Letter], again: bool, clock: Callable[[], float]) -> Outcome:
    """Append the records of `chosen` again, each once, in their order in the log; `again` also those replayed before."""
    before = never = 0
    sources: dict[tuple[str, int, int], DeadLetter] = {}
    for letter in chosen:
        if letter.dead.reason in NEVER_REPLAYED:
            never += 1
        elif letter.replayed and not again:
            before += 1
        else:
            sources.setdefault(letter.source, letter.dead)
    for start in range(0, len(sources), PAGE):
        page = sorted(sources)[start : start + PAGE]
        futures = [log.append(source[0], [_original(log, sources[source])]) for source in page]
        for future in futures:
            future.result()
        mark = msgspec.json.encode(Replayed(page, clock()))
        log.append(DEAD, [Entry(MARK, mark, Kind.COMMAND)]).result()
    return Outcome(len(sources), before, never)


def _original(log: Log, dead: DeadLetter) -> Entry:
    """The record behind a letter, or what the letter kept of it when the log holds it no longer. Its key finds its place."""
    try:
        [record] = log.read(dead.stream, dead.shard, dead.offset, 1)
    except (LogError, ValueError):
        return Entry(dead.key.encode(), dead.raw)
    return Entry(record.key, record.value, record.kind)


def _read(log: Log) -> Iterator[tuple[int, DeadLetter | Replayed]]:
    offset, end = log.bounds(DEAD, 0)
    while offset < end:
        records = log.read(DEAD, 0, offset, PAGE)
        if not records:
            return  # a broker's own marks are all that is left
        for record in records:
            with suppress(msgspec.DecodeError):  # not ours: another program wrote into the stream
                if record.kind == Kind.COMMAND:
                    yield record.offset, msgspec.json.decode(record.value, type=Replayed)
                else:
                    yield record.offset, msgspec.json.decode(record.value, type=DeadLetter)
        offset = records[-1].offset + 1
