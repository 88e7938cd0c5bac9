"""Tables as pieces of bytes: a base, which is all of their rows, and deltas, which are those that changed.

A piece names its rows and holds their values, so pieces that are applied in order to tables that have nothing, or to tables
that have had some of them, give the tables that they were made of. Nothing in a piece is a pickle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from .tables import Column, Rows, Table

PIECE_BYTES: Final = 8 << 20


class _Part(msgspec.Struct, array_like=True):
    """Some `rows` (int32) of a table that has `n` in all; the values by the names of `Table.part`."""

    table: str
    columns: dict[str, Column]
    ragged: tuple[str, ...]
    n: int
    rows: bytes
    values: dict[str, bytes]


_decoder: Final = msgspec.msgpack.Decoder(list[_Part])


def delta(tables: Mapping[str, Table], rows: Mapping[str, Rows]) -> bytes:
    """A piece of these rows by table; a table of which there are none is left out."""
    parts = [_part(name, tables[name], some) for name, some in rows.items() if len(some)]
    return msgspec.msgpack.encode(parts)


def base(tables: Mapping[str, Table], most: int = PIECE_BYTES) -> Iterator[bytes]:
    """Pieces of all rows of all tables, of about `most` bytes each; a table without rows is in them too."""
    for name, table in tables.items():
        n, start = len(table), 0
        while start < n or not start:
            rows = np.arange(start, min(n, start + _fitting(table, start, most)), dtype=np.int32)
            yield msgspec.msgpack.encode([_part(name, table, rows)])
            start += max(1, len(rows))


def apply(tables: dict[str, Table], piece: bytes) -> None:
    """Write the rows of a piece over those of `tables`; a table that is not there is made.

    Raises ValueError for what is no piece, or one of other tables.
    """
    try:
        parts = _decoder.decode(piece)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a piece of tables: {error}") from error
    for part in parts:
        table = tables.get(part.table)
        if table is None:
            table = tables[part.table] = Table(part.columns, part.ragged)
        if (table.columns, table.ragged) != (part.columns, part.ragged):
            raise ValueError(f"a piece of table {part.table!r} has other columns")
        table.patch(part.n, np.frombuffer(part.rows, np.int32), _arrays(part))


def _part(name: str, table: Table, rows: Rows) -> _Part:
    values = {column: array.tobytes() for column, array in table.part(rows).items()}
    return _Part(name, table.columns, table.ragged, len(table), rows.tobytes(), values)


def _arrays(part: _Part) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for name, column in part.columns.items():
        array = np.frombuffer(part.values[name], column.dtype)
        arrays[name] = array if column.width == 1 else array.reshape(-1, column.width)
    for name in part.ragged:
        arrays[f"{name}.bytes"] = np.frombuffer(part.values[f"{name}.bytes"], np.uint8)
        arrays[f"{name}.ends"] = np.frombuffer(part.values[f"{name}.ends"], np.int64)
    return arrays


def _fitting(table: Table, start: int, most: int) -> int:
    """How many rows from `start` on make about `most` bytes, one at least; judged by the first thousand of them."""
    fixed = sum(column.width * np.dtype(column.dtype).itemsize for column in table.columns.values())
    some = range(start, min(len(table), start + 1000))
    ragged = sum(len(table.get(name, row)) for name in table.ragged for row in some) / max(1, len(some))
    return max(1, int(most / max(1.0, fixed + ragged)))
