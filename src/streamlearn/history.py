"""The history of models: bounded, downsampled series of their figures, kept by the store.

There are three tiers, of steps of 10 s, 1 min and 15 min, each with its own retention. A tier is cut into blocks of SPAN steps.
A block is one row of the store, at its first step's time, and holds for each series and step how many samples there were (`n`),
their mean, least and greatest. So steps can be merged into longer ones, and what a longer one says is what its parts say.

Written are whole blocks, over what was there when it was read, so that a second writer is noticed: then both are merged, step
by step, and the one that knows of more samples wins. A block that cannot be read is told and passed over.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from .config_history import HistorySettings
from .errors import Corrupt, StoreUnavailable
from .store import Store

logger = logging.getLogger("streamlearn.history")

SPAN: Final = 32  # steps in a block
STEPS: Final = (10, 60, 900)  # seconds; each a multiple of the one before
MAX_SERIES: Final = 500  # of a block; those beyond are not kept
MAX_BYTES: Final = 4 << 20  # of a block as it is in memory
WAITING: Final = 8
MAX_N: Final = 65_535
LARGEST: Final = 3.0e38  # what a float of four bytes holds
TRIES: Final = 3
FORMAT: Final = b"H1"
EPSILON: Final = 1e-9
Floats = NDArray[np.float64]


class Tier(NamedTuple):
    """Steps of `step` seconds, kept for `keep_s` seconds; with `span` seconds in a block."""

    step: int
    keep_s: float

    @property
    def span(self) -> int:
        return self.step * SPAN

    def start(self, at: float) -> int:
        """When the block begins that `at` lies in."""
        return math.floor(at / self.span) * self.span


def tiers(settings: HistorySettings) -> tuple[Tier, ...]:
    """The tiers, the finest first."""
    keep = (settings.fine_hours * 3600.0, settings.middle_days * 86_400.0, settings.coarse_days * 86_400.0)
    return tuple(Tier(step, keep_s) for step, keep_s in zip(STEPS, keep, strict=True))


class _Packed(msgspec.Struct, array_like=True):
    step: int
    start: int
    names: list[str]
    n: bytes
    values: bytes


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Packed)


class Block:
    """SPAN steps of `step` seconds from `start` on. `cells`: (series, [n, mean, least, greatest], SPAN), zero where n is."""

    def __init__(self, step: int, start: int, names: Sequence[str] = (), cells: Floats | None = None) -> None:
        self.step, self.start = step, start
        self.rows = {name: row for row, name in enumerate(names)}
        self.cells: Floats = np.zeros((len(names), 4, SPAN)) if cells is None else cells

    def add(self, at: float, sample: Mapping[str, float]) -> None:
        """Take one value of each series, at a time within the block. What is not finite is left out."""
        column = int((at - self.start) // self.step)
        taken = {name: value for name, value in sample.items() if math.isfinite(value)}
        self._know(taken)
        rows = [self.rows[name] for name in taken if name in self.rows]
        values = np.clip([value for name, value in taken.items() if name in self.rows], -LARGEST, LARGEST)
        n, mean, least, greatest = self.cells[rows, :, column].T
        first = n == 0
        mean = np.where(first, values, mean + (values - mean) / (n + 1))
        least = np.where(first, values, np.minimum(least, values))
        greatest = np.where(first, values, np.maximum(greatest, values))
        self.cells[rows, :, column] = np.stack([np.minimum(n + 1, MAX_N), mean, least, greatest], axis=1)

    def take(self, other: Block) -> None:
        """Become, step by step, the one of two versions of this block that knows of more samples."""
        self._know(other.rows)
        for name, row in other.rows.items():
            if name in self.rows:
                mine, its = self.cells[self.rows[name]], other.cells[row]
                mine[:] = np.where(its[0] > mine[0], its, mine)

    def encode(self) -> bytes:
        """The row: values in four bytes each (a relative error of 6e-8), and compressed."""
        n = self.cells[:, 0, :].astype("<u2")
        values = np.ascontiguousarray(self.cells[:, 1:, :], dtype="<f4")
        shuffled = values.reshape(-1).view(np.uint8).reshape(-1, 4).T  # bytes of one weight lie together: they are alike
        packed = _Packed(self.step, self.start, list(self.rows), n.tobytes(), shuffled.tobytes())
        return FORMAT + zlib.compress(_encoder.encode(packed), 6)

    @classmethod
    def decode(cls, row: bytes, step: int, start: int) -> Block:
        """The block of the tier `step` at `start`. Raises Corrupt for a row that is none, or another one."""
        try:
            packed = _decoder.decode(_inflated(row))
            shape = len(packed.names), SPAN
            n = np.frombuffer(packed.n, "<u2").reshape(shape)
            shuffled = np.frombuffer(packed.values, np.uint8).reshape(4, -1)
            values = np.ascontiguousarray(shuffled.T).view("<f4").reshape(shape[0], 3, SPAN)
        except (msgspec.DecodeError, UnicodeDecodeError, zlib.error, ValueError) as error:
            raise Corrupt(f"not a block of history: {error}") from None
        if (packed.step, packed.start) != (step, start):
            raise Corrupt(f"a block of history of steps of {packed.step} s from {packed.start} on")
        if len(set(packed.names)) < shape[0] or not np.isfinite(values).all():
            raise Corrupt("a block of history with a series twice, or with values that are no numbers")
        cells = np.concatenate([n[:, None, :].astype(np.float64), values.astype(np.float64)], axis=1)
        return cls(step, start, packed.names, cells)

    def _know(self, names: Collection[str]) -> None:
        new = [name for name in names if name not in self.rows][: MAX_SERIES - len(self.rows)]
        if new:
            self.rows |= {name: len(self.rows) + place for place, name in enumerate(new)}
            self.cells = np.concatenate([self.cells, np.zeros((len(new), 4, SPAN))])


def _inflated(row: bytes) -> bytes:
    if row[:2] != FORMAT:
        raise ValueError(f"it begins with {row[:2]!r}")
    inflater = zlib.decompressobj()
    data = inflater.decompress(row[2:], MAX_BYTES)
    if not inflater.eof:
        raise ValueError("it is cut short, or far too long")
    return data


def load(store: Store, model: str, step: int, since: int, until: int) -> list[Block]:
    """The blocks that begin in [since, until), in order; one that cannot be read is told and left out. Raises StoreError."""
    rows = store.history(model, step, since, until)
    return [block for at, row in rows if (block := _decoded(row, model, step, at)) is not None]


def _decoded(row: bytes, model: str, step: int, at: int) -> Block | None:
    try:
        return Block.decode(row, step, at)
    except Corrupt as error:
        about = {"model": model, "step_s": step, "at": at, "error": str(error)}
        logger.warning("a block of history cannot be read, and is left out", extra=about)
        return None


@dataclass(slots=True)
class _Open:
    """A block that is being filled. `was`: the row that the store has of it, as far as is known; `written`: when last."""

    block: Block
    was: bytes | None = None
    written: float = -math.inf


class Recorder:
    """Takes samples of models into every tier, and writes them. Not for several threads.

    It goes on with blocks that were half filled before it. While the store is away, what was taken waits, WAITING blocks of
    each tier at most, and is written by the next sample that finds the store there again.
    """

    def __init__(self, store: Store, settings: HistorySettings) -> None:
        self._store, self._tiers = store, tiers(settings)
        self._open: dict[tuple[str, int], _Open] = {}
        self._waiting: dict[tuple[str, int], deque[_Open]] = {}

    def forget(self) -> None:
        """Know nothing, as at the start: another process may have written meanwhile."""
        self._open.clear()
        self._waiting.clear()

    def sample(self, model: str, at: float, sample: Mapping[str, float]) -> None:
        """Take one value of each series at `at` (Unix seconds), and write what is due. Raises StoreError; the sample is taken
        all the same, and the next one writes it.

        The finest tier is due with every sample, the others once a step of the next finer one has passed: a crash loses no
        more.
        """
        for tier in self._tiers:
            there = self._open.get((model, tier.step))
            if there is None or there.block.start != tier.start(at):
                there = self._begin(model, tier, at)
            there.block.add(at, sample)
        finer = 0
        for tier in self._tiers:
            self._write_waiting(model, tier)
            there = self._open[model, tier.step]
            if not finer or at // finer != there.written // finer:
                self._write(model, there)
                there.written = at
            finer = tier.step

    def trim(self, now: float) -> None:
        """Forget what is older than its tier is kept, of every model that the store knows. Raises StoreError."""
        spans = {tier.step: (tier.span, tier.keep_s) for tier in self._tiers}
        for model, step in self._store.histories():
            span, keep_s = spans.get(step, (0, 0.0))
            self._store.drop_history(model, step, math.floor(now - keep_s) - span + 1)

    def _begin(self, model: str, tier: Tier, at: float) -> _Open:
        """The block that `at` lies in, as the store has it; the one before it waits, unless all of it was written."""
        place, start = (model, tier.step), tier.start(at)
        before = self._open.get(place)
        if before is not None:
            self._waiting.setdefault(place, deque(maxlen=WAITING)).append(before)
        there = self._open[place] = _Open(Block(tier.step, start))
        with suppress(StoreUnavailable):  # else the write finds out
            self._take(model, there)
        return there

    def _take(self, model: str, there: _Open) -> None:
        """Take what the store has of a block: over it, and no other, it is written next."""
        block = there.block
        rows = self._store.history(model, block.step, block.start, block.start + 1)
        there.was = rows[0][1] if rows else None
        found = _decoded(there.was, model, block.step, block.start) if there.was is not None else None
        if found is not None:
            block.take(found)

    def _write_waiting(self, model: str, tier: Tier) -> None:
        waiting = self._waiting.get((model, tier.step))
        while waiting:
            self._write(model, waiting[0])
            waiting.popleft()

    def _write(self, model: str, there: _Open) -> None:
        for _ in range(TRIES):
            row = there.block.encode()
            if row == there.was:
                return
            if self._store.put_history(model, there.block.step, there.block.start, row, there.was):
                there.was = row
                return
            self._take(model, there)
        raise StoreUnavailable(f"the history of {model!r} could not be written: others wrote at the same time, {TRIES} times")


class Series(msgspec.Struct):
    """Series of a model over [since, until): `at`, when each step of `step_s` seconds begins, and by name and "mean", "min" or
    "max" a value for each, None where nothing was recorded."""

    since: float
    until: float
    step_s: int
    at: list[int]
    series: dict[str, dict[str, list[float | None]]]


def read(
    store: Store, settings: HistorySettings, model: str, since: float, until: float, points: int,
    names: Sequence[str] | None, now: float,
) -> Series:  # fmt: skip
    """At most `points` steps of the series `names` (names, or beginnings that end in `*`; None: all but `feature:*`).

    They are merged from the coarsest tier that is fine enough, or from a coarser one where that goes back far enough only.
    Raises StoreError.
    """
    tier = _tier(tiers(settings), since, until, points, now)
    width, first, count = _grid(tier.step, since, until, points)
    merged = _Merged(first, width, count)
    for block in load(store, model, tier.step, tier.start(first), math.ceil(until)):
        merged.add(block, [name for name in block.rows if wanted(name, names)])
    return Series(since, until, width, list(range(first, first + count * width, width)), merged.values())


def wanted(name: str, names: Sequence[str] | None) -> bool:
    """Whether a series is asked for."""
    if names is None:
        return not name.startswith("feature:")
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in names)


def _tier(choice: Sequence[Tier], since: float, until: float, points: int, now: float) -> Tier:
    fine_enough = [tier for tier in choice if tier.step <= (until - since) / points + EPSILON] or [choice[0]]
    at = choice.index(fine_enough[-1])
    while at + 1 < len(choice) and since < now - choice[at].keep_s - choice[at].step:
        at += 1
    return choice[at]


def _grid(step: int, since: float, until: float, points: int) -> tuple[int, int, int]:
    """(seconds of a step, the first one's time, how many): whole steps of the tier that lie on multiples of their length."""
    width = step * max(1, math.ceil((until - since) / points / step - EPSILON))
    while True:
        first = math.floor(since / width) * width
        count = max(1, math.ceil((until - first) / width))
        if count <= points or width > until - since + 2 * step:
            return width, first, min(count, points)
        width += step * max(1, width // step // 64)


class _Merged:
    """Blocks merged into `count` steps of `width` seconds from `first` on."""

    def __init__(self, first: int, width: int, count: int) -> None:
        self._first, self._width, self._count = first, width, count
        self._rows: dict[str, int] = {}
        empty = np.zeros((0, count))
        self._n, self._sum, self._least, self._greatest = empty, empty, empty, empty

    def add(self, block: Block, names: Sequence[str]) -> None:
        index = (block.start + block.step * np.arange(SPAN) - self._first) // self._width
        inside = np.flatnonzero((index >= 0) & (index < self._count))
        if not len(inside) or not names:
            return
        self._know(names)
        index = index[inside]
        begins = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
        cells = block.cells[[block.rows[name] for name in names]][:, :, inside]
        n, mean, least, greatest = (cells[:, part, :] for part in range(4))
        at = np.ix_(np.array([self._rows[name] for name in names]), index[begins])
        self._n[at] += np.add.reduceat(n, begins, axis=1)
        self._sum[at] += np.add.reduceat(n * mean, begins, axis=1)
        low = np.minimum.reduceat(np.where(n > 0, least, np.inf), begins, axis=1)
        high = np.maximum.reduceat(np.where(n > 0, greatest, -np.inf), begins, axis=1)
        self._least[at] = np.minimum(self._least[at], low)
        self._greatest[at] = np.maximum(self._greatest[at], high)

    def values(self) -> dict[str, dict[str, list[float | None]]]:
        some = self._n > 0
        mean = np.clip(self._sum / np.where(some, self._n, 1.0), self._least, self._greatest)
        told = {"mean": mean, "min": self._least, "max": self._greatest}
        lists = {what: _lists(values, some) for what, values in told.items()}
        known = [(name, row) for name, row in sorted(self._rows.items()) if some[row].any()]
        return {name: {what: rows[row] for what, rows in lists.items()} for name, row in known}

    def _know(self, names: Iterable[str]) -> None:
        new = [name for name in names if name not in self._rows]
        if new:
            self._rows |= {name: len(self._rows) + place for place, name in enumerate(new)}
            more = np.zeros((len(new), self._count))
            self._n, self._sum = np.concatenate([self._n, more]), np.concatenate([self._sum, more])
            self._least = np.concatenate([self._least, more + np.inf])
            self._greatest = np.concatenate([self._greatest, more - np.inf])


def _lists(values: Floats, some: NDArray[np.bool_]) -> list[list[float | None]]:
    """To seven digits, which is what was kept."""
    known = np.where(some, values, 0.0)
    scale = 10.0 ** (6 - np.floor(np.log10(np.where(known == 0, 1.0, np.abs(known)))))
    usual = (np.abs(known) < 1e30) & (np.abs(known) > 1e-30)
    short: NDArray[Any] = np.where(usual, np.round(known * scale) / scale, known).astype(object)
    short[~some] = None
    rows: list[list[float | None]] = short.tolist()
    return rows
