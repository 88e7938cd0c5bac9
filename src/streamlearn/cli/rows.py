"""Files as events: CSV, newline-delimited JSON and Parquet, plain or gzipped, read row by row in bounded memory.

A row that cannot be an event is given as an EventError in its place, so that rows keep their numbers. Nothing is sent here.

Cells of a CSV are text; each is read for itself: nothing (or NaN) is null, `true` and `false` are booleans, `42`, `-4.2` and
`1e5` are numbers, and anything else is text. So are numbers with leading zeros (`007` is a code) and whole numbers beyond
64 bits. A column of codes that look like numbers is named with `--text`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

import msgspec

from ..errors import ConfigError, EventError
from ..events import INT64, Scalar, explain

WHOLE: Final = re.compile(r"[+-]?(0|[1-9][0-9]*)", re.ASCII)
NUMBER: Final = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
CHUNK: Final = 1 << 20
PARQUET_ROWS: Final = 1000
MAX_CELL: Final = 1 << 24
_JSON: Final = msgspec.json.Decoder()

Row = dict[str, Any]


class Mapped(NamedTuple):
    """Which columns are not features: the event's id, time, key and label; and which features stay text or are left out."""

    id: str | None = None
    ts: str | None = None
    key: str | None = None
    label: str | None = None
    text: frozenset[str] = frozenset()
    drop: frozenset[str] = frozenset()

    def named(self) -> dict[str, str]:
        """Column by the option that names it."""
        named = {f"--{name}": column for name in ("id", "ts", "key", "label") if (column := getattr(self, name)) is not None}
        named |= {f"--text {column}": column for column in sorted(self.text)}
        return named | {f"--drop {column}": column for column in sorted(self.drop)}


class Source:
    """A file's events in order, each with its row number from 1; `done` of `total` tells how far it was read.

    `line` is the line of the file on which the row that was given last ends; 0 in a Parquet file, which has none.
    """

    def __init__(self, path: Path, mapped: Mapped, stream: str | None, delimiter: str = ",") -> None:
        self.path, self.mapped, self.stream, self.delimiter = path, mapped, stream, delimiter
        self.kind = kind_of(path)
        if self.kind != "ndjson" and stream is None:
            raise ConfigError("--stream", "is missing", "Name the stream that the rows belong to")
        self.name = fingerprint(path)
        self.total = path.stat().st_size
        self.line = 0
        self._done: Callable[[], int] = lambda: 0

    @property
    def done(self) -> int:
        """How much of `total` was read."""
        return self._done()

    def __iter__(self) -> Iterator[tuple[int, Row | EventError]]:
        """(row number, event or why it is none). Raises ConfigError for a file that is not what its name says."""
        read = {"csv": self._csv, "ndjson": self._ndjson, "parquet": self._parquet}[self.kind]
        rows, number = read(), 0
        while True:
            try:
                row = next(rows, None)
            except (EOFError, OSError, zlib.error) as error:
                raise ConfigError(str(self.path), f"cannot be read beyond row {number}: {error}", "Is it whole?") from None
            if row is None:
                return
            number += 1
            if isinstance(row, dict) and row.get("id") is None and not _is_label_alone(row):
                row["id"] = f"{self.name}-{number}"
            yield number, row

    def _csv(self) -> Iterator[Row | EventError]:
        csv.field_size_limit(MAX_CELL)
        with self._open() as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
            reader = csv.reader(text, delimiter=self.delimiter, strict=True)
            header = self._header(reader)
            convert = [_as_text if name in self._as_text() else detect for name in header]
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    self.line = reader.line_num
                    yield EventError("malformed", "$", f"not CSV: {error}")
                    continue
                self.line = reader.line_num
                if not cells:
                    continue
                if len(cells) != len(header):
                    yield EventError("shape", "$", f"has {len(cells)} cells, the header {len(header)}")
                elif not all(map(_is_utf8, cells)):
                    yield EventError("malformed", "$", "not UTF-8")
                else:
                    yield self._flat({name: read(cell) for name, read, cell in zip(header, convert, cells, strict=True)})

    def _header(self, reader: Iterator[list[str]]) -> list[str]:
        try:
            header = [name.strip() for name in next(reader)]
        except StopIteration:
            raise ConfigError(str(self.path), "is empty", "The first line of a CSV file names its columns") from None
        except csv.Error as error:
            raise ConfigError(str(self.path), f"not CSV: {error}", "See --delimiter") from None
        twice = {name for name in header if header.count(name) > 1}
        if twice or "" in header:
            what = f"column {min(twice)!r} is there twice" if twice else "a column has no name"
            raise ConfigError(str(self.path), what, "Mend its first line")
        self._check_columns(header)
        return header

    def _ndjson(self) -> Iterator[Row | EventError]:
        flat = bool(self.mapped.named())
        with self._open() as file:
            for self.line, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = _JSON.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    yield explain(line, error)
                    continue
                if not isinstance(row, dict):
                    yield EventError("shape", "$", "is no JSON object")
                elif flat:
                    yield self._flat(row)
                elif "stream" not in row and self.stream is None:
                    yield EventError("shape", "stream", "is missing; write it into the line, or give --stream")
                else:
                    yield {"stream": self.stream} | row

    def _parquet(self) -> Iterator[Row | EventError]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise ConfigError(
                str(self.path), "Parquet needs the package pyarrow", "Install it: pip install 'streamlearn[parquet]'"
            ) from None
        try:
            file = pyarrow.parquet.ParquetFile(self.path)
        except pyarrow.ArrowException as error:
            raise ConfigError(str(self.path), f"not Parquet: {error}", "Name a Parquet file") from None
        with file:
            header = [str(name) for name in file.schema_arrow.names]
            self._check_columns(header)
            rows, size, seen = max(1, int(file.metadata.num_rows)), self.total, 0
            self._done = lambda: seen * size // rows
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for row in batch.to_pylist():
                    seen += 1
                    yield self._flat(row)

    def _flat(self, row: Mapping[str, Any]) -> Row | EventError:
        """An event from a row of columns; what stands in no mapped column is a feature."""
        mapped, event = self.mapped, cast(Row, {"stream": self.stream})
        special = {mapped.id: "id", mapped.ts: "ts", mapped.key: "key", mapped.label: "y"}
        features: dict[str, Scalar] = {}
        for name, value in row.items():
            field = special.get(name)
            if field is None and name in mapped.drop:
                continue
            try:
                plain = _plain(name, value)
            except EventError as error:
                return error
            if field is None:
                features[name] = plain if name not in mapped.text or plain is None else str(plain)
            elif plain is not None:
                event[field] = str(plain) if field in ("id", "key") else plain
        if features:
            event["x"] = features
        if self.stream is None:
            return EventError("shape", "stream", "is missing; give --stream")
        return event

    def _as_text(self) -> frozenset[str]:
        return self.mapped.text | frozenset(filter(None, (self.mapped.id, self.mapped.key)))

    def _check_columns(self, header: Iterable[str]) -> None:
        columns = list(header)
        for option, column in self.mapped.named().items():
            if column not in columns:
                raise ConfigError(option, f"{self.path.name} has no column {column!r}", f"It has {', '.join(columns)}")

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        with self.path.open("rb") as raw, ExitStack() as stack:
            self._done = raw.tell
            stack.callback(setattr, self, "_done", lambda: self.total)
            yield cast(BinaryIO, stack.enter_context(gzip.open(raw))) if self.path.suffix == ".gz" else raw


def kind_of(path: Path) -> str:
    """"csv", "ndjson" or "parquet", by the file's name. Raises ConfigError for another name, or no file."""
    if not path.is_file():
        raise ConfigError(str(path), "no such file", "Name a CSV, NDJSON or Parquet file")
    name = path.name.lower().removesuffix(".gz")
    for kind, endings in (("csv", (".csv",)), ("ndjson", (".ndjson", ".jsonl"))):
        if name.endswith(endings):
            return kind
    if path.name.lower().endswith(".parquet"):
        return "parquet"
    endings_known = "Its name must end in .csv, .ndjson or .jsonl (or .gz on top), or .parquet"
    raise ConfigError(str(path), "is not a kind of file that can be sent", endings_known)


def fingerprint(path: Path) -> str:
    """16 hexadecimal digits of the file's content: rows without an id are named by it, so that a file sent again is known."""
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def detect(cell: str) -> Scalar:
    """What a cell of a CSV stands for; the module's docstring has the rules."""
    text = cell.strip()
    if WHOLE.fullmatch(text):
        value = int(text)
        return value if -INT64 <= value < INT64 else text
    if NUMBER.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    lower = text.lower()
    if lower in ("", "nan"):
        return None
    return lower == "true" if lower in ("true", "false") else text


def _is_label_alone(row: Row) -> bool:
    """Whether only the id could tell which features it belongs to: none is made up then, and the service refuses it."""
    return row.get("x") is None and row.get("y") is not None


def _as_text(cell: str) -> str | None:
    return cell.strip() or None


def _is_utf8(cell: str) -> bool:
    return cell.isascii() or not any("\ud800" <= character <= "\udfff" for character in cell)


def _plain(name: str, value: object) -> Scalar:
    """A typed value as an event holds it. Raises EventError for one that no event can hold."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    raise EventError("shape", name, f"holds a {type(value).__name__}; only numbers, texts, booleans and times can be sent")
