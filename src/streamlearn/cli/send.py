"""`streamlearn send FILE`: post a file's rows in order, in batches, and account for every one of them.

A batch is sent again by the client when the service is overloaded; what it rejects is named by row, and the rest goes in.
Nothing is ever sent out of order, so that labels follow their features.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..errors import EventError, StreamlearnError
from ..wire import EventsAnswer
from .console import console, counted, say, warn
from .rows import Row, Source

SHOWN: Final = 10  # rejected rows told one by one
Post = Callable[[list[Row]], EventsAnswer]


class Rejected(NamedTuple):
    """A row that did not go in, and why."""

    row: int
    field: str
    reason: str
    detail: str
    event: Row | None


class Tally:
    """What became of the rows so far. `last` is the number of the last row that was dealt with."""

    def __init__(self, skip: int) -> None:
        self.last = skip
        self.accepted = self.duplicate = self.rejected = 0
        self.reasons: Counter[str] = Counter()
        self.shown: list[Rejected] = []
        self.warnings: dict[str, None] = {}

    def reject(self, rejected: Rejected) -> None:
        self.rejected += 1
        self.reasons[rejected.reason] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(rejected)


class Pace:
    """At most `rate` rows a second on average since the first; None for as fast as it goes."""

    def __init__(
        self, rate: float | None, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._rate, self._clock, self._sleep, self._sent = rate, clock, sleep, 0
        self._started: float | None = None

    def wait(self, rows: int) -> None:
        """Wait until `rows` more may go."""
        if self._rate is None:
            return
        now = self._clock()
        if self._started is None:
            self._started = now
        early = self._started + self._sent / self._rate - now
        if early > 0:
            self._sleep(early)
        self._sent += rows


def batches(source: Source, size: int, skip: int) -> Iterator[list[tuple[int, Row | EventError]]]:
    """The rows after the first `skip`, at most `size` at a time."""
    batch: list[tuple[int, Row | EventError]] = []
    for numbered in source:
        if numbered[0] <= skip:
            continue
        batch.append(numbered)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def send_batch(batch: list[tuple[int, Row | EventError]], post: Post, tally: Tally, rejects: IO[bytes] | None) -> None:
    """Post one batch and enter its answer into the tally. Raises what `post` raises; the tally is then as before."""
    rows = [(number, row) for number, row in batch if isinstance(row, dict)]
    failed = [Rejected(number, row.field, row.reason, row.detail, None) for number, row in batch if isinstance(row, EventError)]
    if rows:
        answer = post([row for _, row in rows])
        for one in answer.rejected:
            number, row = rows[one.index]
            failed.append(Rejected(number, one.field, one.reason, one.detail, row))
        tally.accepted += answer.accepted
        tally.duplicate += answer.duplicate
        tally.warnings |= dict.fromkeys(answer.warnings)
    for rejected in sorted(failed, key=lambda one: one.row):
        tally.reject(rejected)
        if rejects is not None:
            rejects.write(msgspec.json.encode(rejected._asdict()) + b"\n")
    tally.last = batch[-1][0]


def send(
    source: Source, post: Post, *, size: int, rate: float | None, skip: int, rejects: Path | None, pace: Pace | None = None
) -> int:
    """Send the whole source with a progress bar; the exit code: 0 when every row went in, else 1 (130 when interrupted)."""
    tally, started = Tally(skip), time.monotonic()
    if rate is not None:
        size = max(1, min(size, int(rate)))
    pace = pace or Pace(rate)
    code, file = 0, rejects.open("ab" if skip else "wb") if rejects is not None else None
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), _Rows(), TimeRemainingColumn(),
        console=console(stderr=True), transient=False, disable=not console(stderr=True).is_terminal,
    )  # fmt: skip
    try:
        with bar:
            task = bar.add_task(source.path.name, total=source.total, rows=0, rate=0.0)
            for batch in batches(source, size, skip):
                pace.wait(len(batch))
                send_batch(batch, post, tally, file)
                seconds = max(time.monotonic() - started, 1e-9)
                bar.update(task, completed=source.done, rows=tally.last, rate=(tally.last - skip) / seconds)
            bar.update(task, completed=source.total)
    except (StreamlearnError, KeyboardInterrupt) as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        warn(f"error: stopped after row {tally.last}: {why}")
        if tally.last:
            warn(f"To go on where it stopped, run the same command with --skip {tally.last}")
    finally:
        if file is not None:
            file.close()
    _tell(source, tally, time.monotonic() - started, rejects)
    return code or (1 if tally.rejected else 0)


def _tell(source: Source, tally: Tally, seconds: float, rejects: Path | None) -> None:
    for one in tally.shown:
        warn(f"row {one.row}: {one.field}: {one.detail} [{one.reason}]")
    if tally.rejected > len(tally.shown):
        warn(f"… and {tally.rejected - len(tally.shown)} more")
    for text in tally.warnings:
        warn(f"warning: {text}")
    if tally.rejected:
        by_reason = ", ".join(f"{count} {reason}" for reason, count in tally.reasons.most_common())
        kept = f"written to {rejects}" if rejects else "--rejects FILE keeps them"
        warn(f"rejected {counted(tally.rejected, 'row')} ({by_reason}); {kept}")
    rows = tally.accepted + tally.duplicate + tally.rejected
    say(
        f"{source.path.name}: {tally.accepted} accepted, {tally.duplicate} repeated, {tally.rejected} rejected "
        f"in {seconds:.1f} s ({rows / max(seconds, 1e-9):.0f} rows/s)"
    )


class _Rows(ProgressColumn):
    """Rows so far and rows a second."""

    def render(self, task: Task) -> Text:
        fields: dict[str, Any] = task.fields
        return Text(f"{fields['rows']:,} rows  {fields['rate']:,.0f}/s")
