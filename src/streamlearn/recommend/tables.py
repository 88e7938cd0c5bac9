"""Tables: what grows with users or items, in arrays, one row each, that know which of their rows changed.

A column is of a fixed width; a ragged column holds some bytes for each row. Rows are appended and reset, never moved or taken
out, so that a row's number stays valid while its table lives. Each reader asks on its own what changed since it last asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .slots import Slots

Array = NDArray[Any]
Rows = NDArray[np.int32]
FIRST: Final = 64  # rows that a table is made for
MANY: Final = 32_768  # rows that are copied in some 25 ms; when there are more, room is made once


class Column(NamedTuple):
    """`width` values of `dtype` for each row, `fill` in a new one."""

    dtype: str
    width: int = 1
    fill: float = 0


class Table:
    """Columns in arrays and ragged columns of bytes, which grow by doubling, beyond MANY rows at once to what is expected.

    Room that no row has used yet takes no memory. The values of a ragged column are in an array of objects: the garbage
    collector does not walk through these, and a full collection would stand still for 100 ms at some millions of them.

    `raw[name]` is a column's whole array, (capacity,) or (capacity, width), and is replaced when the table grows; so is
    `cells[name]`, a memoryview of a column of width 1, by which a single value is read and written fastest. Who writes a row
    in them says so by `touch`.
    """

    def __init__(self, columns: Mapping[str, Column], ragged: Sequence[str] = ()) -> None:
        self.columns = dict(columns)
        self.ragged = tuple(ragged)
        self.raw: dict[str, Array] = {}
        self.cells: dict[str, Any] = {}
        self._bytes: dict[str, Array] = {}
        self._filled = [(name, column.fill) for name, column in columns.items() if column.fill]
        self.slots: Slots | None = None  # of the column "hash", once somebody looks for rows by it
        self._n = self._expected = 0
        self._fresh()
        self._make_room(FIRST)

    def expect(self, rows: int) -> None:
        """So many rows are to come at most: what is large has room for them now, what becomes large gets it then."""
        self._expected = rows
        if rows > len(self._stamps) > MANY:
            self._make_room(rows)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, name: str) -> Array:
        """The column as it is now: (n,) or (n, width), a view."""
        return self.raw[name][: self._n]

    def append(self) -> int:
        """A new row at the end, as its columns' fills have it."""
        row = self._n
        if row == len(self._stamps):
            self._make_room(self._roomy(row + 1))
        self._n = row + 1
        for name, fill in self._filled:
            self.raw[name][row] = fill
        for values in self._bytes.values():
            values[row] = b""
        self._marks[row] = self._clock
        return row

    def extend(self, count: int) -> Rows:
        """So many new rows at the end."""
        start = self._n
        self._lengthen(start + count)
        return np.arange(start, start + count, dtype=np.int32)

    def reset(self, row: int) -> None:
        """Makes the row what a new one is."""
        for name, column in self.columns.items():
            self.raw[name][row] = column.fill
        for values in self._bytes.values():
            values[row] = b""
        self._marks[row] = self._clock

    def get(self, name: str, row: int) -> bytes:
        """What the ragged column holds at the row."""
        return self._bytes[name][row]  # type: ignore[no-any-return]  # of an array of objects

    def put(self, name: str, row: int, value: bytes) -> None:
        """Writes the ragged column at the row, and touches it."""
        self._bytes[name][row] = value
        self._marks[row] = self._clock

    def column(self, name: str) -> Array:
        """A ragged column, (n,) of bytes: a view, to be read only."""
        return self._bytes[name][: self._n]

    def some(self, name: str, rows: Rows) -> list[bytes]:
        """What the ragged column holds at each of the rows."""
        return self._bytes[name][rows].tolist()  # type: ignore[no-any-return]  # of an array of objects

    def touch(self, rows: int | Rows) -> None:
        """Says that the row, or each of the rows, was written."""
        if isinstance(rows, int):
            self._marks[rows] = self._clock
        else:
            self._stamps[rows] = self._clock

    def changed(self, reader: str) -> Rows:
        """The rows, in order, that were appended, reset or touched since this reader last asked; all when it never did."""
        since = self._read.get(reader, 0)
        self._read[reader] = self._clock
        self._clock += 1
        return np.flatnonzero(self._stamps[: self._n] > since).astype(np.int32)

    def arrays(self) -> dict[str, Array]:
        """Everything as arrays: a ragged column as `NAME.bytes` (uint8) and `NAME.ends` (int64: where each row's bytes end)."""
        every = {name: values[: self._n].tolist() for name, values in self._bytes.items()}
        return self._arrays(lambda array: array[: self._n], every)

    def part(self, rows: Rows) -> dict[str, Array]:
        """These rows alone, like `arrays`, copied."""
        some = {name: self.some(name, rows) for name in self.ragged}
        return self._arrays(lambda array: array[rows], some)

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Becomes what `arrays` gave; takes the arrays as they are, without a copy.

        Raises ValueError when they are not those of a table with these columns.
        """
        lengths = {len(self._checked(name, arrays)) for name in self.columns}
        lengths |= {len(arrays[f"{name}.ends"]) for name in self.ragged}
        if len(lengths) > 1:
            raise ValueError(f"a table's columns are of {sorted(lengths)} rows; it cannot be loaded")
        self._n = lengths.pop() if lengths else 0
        self.raw = {name: arrays[name] for name in self.columns}
        self._bytes = {name: _cut(arrays[f"{name}.bytes"], arrays[f"{name}.ends"]) for name in self.ragged}
        self.slots = None
        self._fresh()
        if not self._n:
            self._make_room(FIRST)
        self._see_cells()

    def patch(self, length: int, rows: Rows, arrays: Mapping[str, Array]) -> None:
        """Writes what `part(rows)` of another table gave over these rows here; `length` is that table's.

        Raises ValueError when that table is the shorter one, or has other columns.
        """
        if length < self._n or (len(rows) and int(rows.max()) >= length):
            raise ValueError(f"a part of a table of {length} rows does not fit one of {self._n}")
        lengths = {len(self._checked(name, arrays)) for name in self.columns}
        lengths |= {len(arrays[f"{name}.ends"]) for name in self.ragged}
        if lengths - {len(rows)}:
            raise ValueError(f"a part of {len(rows)} rows has columns of {sorted(lengths)}")
        self._lengthen(length)
        if self.slots is not None:
            self.slots.change(rows, self.raw["hash"][rows], arrays["hash"])
        for name in self.columns:
            self.raw[name][rows] = arrays[name]
        for name, values in self._bytes.items():
            values[rows] = _cut(arrays[f"{name}.bytes"], arrays[f"{name}.ends"])
        self._stamps[rows] = self._clock

    def __getstate__(self) -> dict[str, Any]:
        return {"columns": self.columns, "ragged": self.ragged, "arrays": self.arrays()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.columns, self.ragged = state["columns"], state["ragged"]
        self._filled = [(name, column.fill) for name, column in self.columns.items() if column.fill]
        self.cells, self._expected = {}, 0
        self.load(state["arrays"])

    def _arrays(self, of: Any, ragged: Mapping[str, list[bytes]]) -> dict[str, Array]:
        found = {name: of(self.raw[name]) for name in self.columns}
        for name, values in ragged.items():
            found[f"{name}.bytes"] = np.frombuffer(b"".join(values), np.uint8)
            found[f"{name}.ends"] = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
        return found

    def _checked(self, name: str, arrays: Mapping[str, Array]) -> Array:
        column, array = self.columns[name], arrays[name]
        shape = (len(array),) if column.width == 1 else (len(array), column.width)
        if array.dtype != np.dtype(column.dtype) or array.shape != shape:
            raise ValueError(f"column {name!r} is {array.dtype}{list(array.shape)}, not {column.dtype}{list(shape)}")
        return array

    def _fresh(self) -> None:
        """No reader has asked for anything yet."""
        self._clock = 1
        self._read: dict[str, int] = {}
        self._stamps = np.ones(self._n, np.int32)
        self._marks = self._stamps.data

    def _roomy(self, rows: int) -> int:
        """The rows to make room for, when so many are to fit in."""
        doubled = max(rows, 2 * len(self._stamps))
        return doubled if rows <= MANY else max(doubled, self._expected)

    def _lengthen(self, length: int) -> None:
        if length > len(self._stamps):
            self._make_room(self._roomy(length))
        for values in self._bytes.values():
            values[self._n : length] = b""
        for name, fill in self._filled:
            self.raw[name][self._n : length] = fill
        self._stamps[self._n : length] = self._clock
        self._n = length

    def _make_room(self, rows: int) -> None:
        for name, column in self.columns.items():
            array = np.zeros(rows if column.width == 1 else (rows, column.width), column.dtype)
            if self._n:
                array[: self._n] = self.raw[name][: self._n]
            self.raw[name] = array
        for name in self.ragged:
            objects = np.empty(rows, object)
            if self._n:
                objects[: self._n] = self._bytes[name][: self._n]
            self._bytes[name] = objects
        stamps = np.zeros(rows, np.int32)
        stamps[: self._n] = self._stamps[: self._n]
        self._stamps, self._marks = stamps, stamps.data
        self._see_cells()

    def _see_cells(self) -> None:
        self.cells = {name: self.raw[name].data for name, column in self.columns.items() if column.width == 1}


def _cut(joined: Array, ends: Array) -> Array:
    """The values (object) that were joined."""
    data, bounds = joined.tobytes(), [0, *ends.tolist()]
    return np.fromiter((data[start:end] for start, end in pairwise(bounds)), object, len(ends))
