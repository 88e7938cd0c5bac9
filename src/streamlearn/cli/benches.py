"""What the commands share that measure settings on one's own data: what they read, their options, TOML to paste, pictures.

A bench reads a file, or some of a model's log. It reads only, so the service may be up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..config import Settings
from ..errors import ConfigError, EventError
from ..events import Kind, encode, parse_time
from ..log import Log, Record, pages_below
from .console import console, say

BATCH: Final = 1000

Model = Annotated[str, typer.Argument(help="The model of the configuration.", show_default=False)]
File = Annotated[
    Path | None, typer.Argument(help="CSV, NDJSON (both also .gz) or Parquet; without it, the model's log.", show_default=False)
]
Shard = Annotated[int, typer.Option(min=0, help="Which partition of the log.")]
Start = Annotated[
    str | None, typer.Option("--from", metavar="PLACE", help="Where in the log to begin: an offset, or an RFC 3339 time.")
]
End = Annotated[
    str | None, typer.Option("--to", metavar="PLACE", help="Where in the log to end; the place itself is left out.")
]
Json = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results there.", show_default=False)]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw them, as .svg or .png.", show_default=False)]

Records = Callable[[], Iterable[Record]]


class Source(NamedTuple):
    """What was read: a file, or offsets of a partition of a stream, `end` itself left out."""

    name: str
    shard: int | None = None
    start: int = 0
    end: int = 0

    def __str__(self) -> str:
        if self.shard is None:
            return self.name
        return f"stream {self.name}, partition {self.shard}, offsets {self.start:,} to {self.end:,}"

    def as_json(self) -> dict[str, Any]:
        """The source for programs."""
        if self.shard is None:
            return {"file": self.name}
        return {"stream": self.name, "shard": self.shard, "from": self.start, "to": self.end}


def read_settings(config: Path, model: str, plot: Path | None) -> Settings:
    """The settings, which have this model. Raises ConfigError, also for a picture that cannot be drawn."""
    from . import wiring

    settings = wiring.read_settings(config, os.environ)
    if model not in settings.models:
        raise ConfigError("MODEL", f"there is no model {model!r}", f"Write one of {sorted(settings.models)}")
    if settings.models[model].task == "recommend":
        problem = f"model {model!r} recommends, and its policies and detectors are not replayed here"
        raise ConfigError("MODEL", problem, f"Run: streamlearn evaluate, which replays a file of interactions for {model!r}")
    if plot is not None:
        check_plot(plot)
    return settings


@contextmanager
def reading(
    settings: Settings, stream: str, file: Path | None, mapped: Any, shard: int, start: str | None, end: str | None
) -> Iterator[tuple[Source, Records]]:
    """The file with its columns `mapped` (a `rows.Mapped`), or that part of the log: what it is, and its records, from the
    beginning whenever they are asked for. Raises ConfigError."""
    from . import rows, wiring

    if file is not None:
        for option, place in (("--from", start), ("--to", end)):
            if place is not None:
                raise ConfigError(option, "is a place in the log, and a file is read", "Leave one of them out")
        whole = rows.Source(file, mapped, stream)
        yield Source(str(file)), lambda: of_file(whole)
        return
    partitions = settings.streams[stream].partitions
    if shard >= partitions:
        raise ConfigError("--shard", f"there is no partition {shard}", f"Stream {stream!r} has {partitions}, from 0")
    with wiring.opened(settings, os.environ) as world:
        part = Source(stream, shard, *stretch(world.log, stream, shard, start, end))
        yield part, lambda: of_log(world.log, part)


def of_file(source: Any) -> Iterator[Record]:
    """A file's rows as records, appended at their times. A row that cannot be an event ends it with its number and reason."""
    for number, row in source:
        if isinstance(row, EventError):
            raise ConfigError(f"{source.path}, row {number}", f"{row.field}: {row.detail}", "Mend the row, or leave it out")
        yield Record(number - 1, _when(row.get("ts")), Kind.EVENT, str(row["id"]).encode(), encode(row))


def _when(ts: Any) -> float:
    """Its own time; 0 for one without, or with what is no time, which the join refuses."""
    try:
        return parse_time(ts) if isinstance(ts, int | float | str) else 0.0
    except EventError:
        return 0.0


def of_log(log: Log, part: Source) -> Iterator[Record]:
    """What applications put into that part of a partition."""
    assert part.shard is not None
    for records in pages_below(log, part.name, part.shard, part.start, part.end, BATCH):
        yield from (record for record in records if record.kind in (Kind.EVENT, Kind.HEARTBEAT))


def stretch(log: Log, stream: str, shard: int, start: str | None, end: str | None) -> tuple[int, int]:
    """The offsets from `start` to `end`, places as people name them; None is the log's own. Raises ConfigError."""
    from ..retrain.rewind import LogPlaces, offset_of, parse_place

    places = LogPlaces(log, stream)
    first, last = found = places.bounds(shard)
    held = f"partition {shard} has the offsets from {first:,} up to {last:,}"
    for option, text in (("--from", start), ("--to", end)):
        if text is None:
            continue
        try:
            place = parse_place(text, option)
        except EventError as error:
            problem, _, fix = error.detail.partition("; ")
            raise ConfigError(option, problem, fix[:1].upper() + fix[1:]) from None
        if place.partition not in (None, shard):
            raise ConfigError(option, f"{text} lies in partition {place.partition}", f"Write --shard {place.partition}")
        offset = offset_of(place, shard, places)
        forgotten = place.time is not None and 0 < first < last and place.time < places.time_at(shard, first)
        if forgotten or not first <= offset <= last:
            raise ConfigError(option, f"{text} is not held: {held}", "Name a place among them")
        found = (offset, found[1]) if option == "--from" else (found[0], offset)
    if found[0] >= found[1] and (start, end) != (None, None):
        key, problem = "--from" if start else "--to", f"no record lies from {found[0]:,} on and before {found[1]:,}"
        raise ConfigError(key, f"{problem}: {held}", "Name an earlier beginning, or a later end")
    return found


def progress() -> Progress:
    """A bar on stderr, for people alone."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}"), TimeRemainingColumn(),
        console=console(stderr=True), disable=not console(stderr=True).is_terminal,
    )  # fmt: skip


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    """The results for programs, and a line that says so."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")
    say(f"wrote {path}")


def check_plot(path: Path) -> None:
    """Raises ConfigError for a picture that cannot be drawn."""
    if path.suffix not in (".svg", ".png"):
        raise ConfigError("--plot", f"{path.name} is neither .svg nor .png", "Name a file that ends so")
    try:
        import matplotlib  # noqa: F401  # to see whether it is there, before the long work
    except ImportError:
        raise ConfigError("--plot", "needs matplotlib", "Run: pip install 'streamlearn[plot]'") from None


def as_table(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a TOML table."""
    yield f"[{name}]"
    yield from (f"{key} = {as_value(value)}" for key, value in values.items())


def as_value(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {as_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_value, value))}]"
    return msgspec.json.encode(value).decode()  # of texts, numbers and truths, what JSON writes TOML reads
