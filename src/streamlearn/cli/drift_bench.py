"""`streamlearn drift-bench CONFIG MODEL [FILE]`: which detectors, and which confirmation, suit one's own data.

The model reads a file or its log as it would in service, but is never retrained; what it shows its watch is played to each
setting. Drifts that are known, since they were injected, tell how soon each setting finds them and how often it errs.
It reads only, so the service may be up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..config import TAKES, DetectorSettings, DriftSettings, ModelSettings, Settings
from ..errors import ConfigError, EventError
from ..events import Kind, encode
from ..log import Log, Record, read_below
from . import columns
from .console import console, counted, say, table, warn
from .roles import Config

if TYPE_CHECKING:
    from ..drift.offline import Case, Rates, Tape

BATCH: Final = 1000
ALONE: Final[tuple[DetectorSettings, ...]] = (
    DetectorSettings(name="adwin"),
    DetectorSettings(name="page_hinkley", params={"threshold": 10.0}),
    DetectorSettings(name="page_hinkley", params={"threshold": 20.0}),
    DetectorSettings(name="page_hinkley"),
    DetectorSettings(name="kswin"),
    DetectorSettings(name="ddm"),
    DetectorSettings(name="eddm"),
    DetectorSettings(name="fhddm"),
    DetectorSettings(name="hddm_a"),
    DetectorSettings(name="hddm_w"),
    DetectorSettings(name="dummy"),
)


class Result(NamedTuple):
    """One setting on the tape: its raw alarms, its cases, and how well both fit the known drifts."""

    name: str
    drift: DriftSettings
    alarms: list[int]
    cases: list[Case]
    raw: Rates
    confirmed: Rates


@dataclass
class Swap:
    """Exchanges labels from each of the known drifts to the next but one: a concept that turns round, and back.

    Of two labels the other one; of several the next one, in the order in which they came; numbers are mirrored at `middle`.
    """

    task: str
    drifts: Sequence[int]
    labels: list[Any] = field(default_factory=list)
    middle: float = 0.0

    def __call__(self, y: Any, labelled: int) -> Any:
        """The label of the event that comes after `labelled` others."""
        if y not in self.labels and self.task != "regression":
            self.labels.append(y)
        if sum(drift <= labelled for drift in self.drifts) % 2 == 0:
            return y
        if self.task == "regression":
            return 2 * self.middle - y
        return self.labels[(self.labels.index(y) + 1) % len(self.labels)]


def drift_bench(
    config: Config,
    model: Annotated[str, typer.Argument(help="The model of the configuration.", show_default=False)],
    file: Annotated[
        Path | None,
        typer.Argument(help="CSV, NDJSON (both also .gz) or Parquet; without it, the model's log.", show_default=False),
    ] = None,
    id: columns.Id = None,
    ts: columns.Ts = None,
    label: columns.Label = None,
    text: columns.Text = None,
    drop: columns.Drop = None,
    shard: Annotated[int, typer.Option(min=0, help="Which partition of the log.")] = 0,
    inject: Annotated[int, typer.Option(min=0, help="How many known drifts to inject, evenly: labels are exchanged.")] = 0,
    within: Annotated[int, typer.Option(min=1, help="Labelled events after a drift within which an alarm is for it.")] = 5000,
    budget: Annotated[float, typer.Option(min=0, help="False confirmations per 100,000 stable events that you accept.")] = 1.0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results there.", show_default=False)] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw them, as .svg or .png.", show_default=False)] = None,
) -> None:
    """Compare drift detectors, before and after confirmation, on a file or on the log, and recommend one."""
    from . import rows, wiring

    settings = wiring.read_settings(config, os.environ)
    if model not in settings.models:
        raise ConfigError("MODEL", f"there is no model {model!r}", f"Write one of {sorted(settings.models)}")
    if plot is not None:
        check_plot(plot)
    stream = settings.models[model].stream
    if file is not None:
        mapped = rows.Mapped(id, ts, None, label, frozenset(text or ()), frozenset(drop or ()))
        source = rows.Source(file, mapped, stream)
        report = measure(settings, model, lambda: of_file(source), inject, within)
    else:
        partitions = settings.streams[stream].partitions
        if shard >= partitions:
            raise ConfigError("--shard", f"there is no partition {shard}", f"Stream {stream!r} has {partitions}, from 0")
        with wiring.opened(settings, os.environ) as world:
            report = measure(settings, model, lambda: of_log(world.log, stream, shard), inject, within)
    show(report, budget)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(as_json(report, budget)), indent=2) + b"\n")
        say(f"wrote {json}")
    if plot is not None:
        draw(report, plot)
        say(f"wrote {plot}")


class Report(NamedTuple):
    """What was measured: the tape, the known drifts (labelled counts), and each setting's result."""

    model: str
    tape: Tape
    drifts: list[int]
    within: int
    results: list[Result]


Records = Callable[[], Iterable[Record]]


def of_file(source: Any) -> Iterator[Record]:
    """A file's rows as records. A row that cannot be an event ends it with its number and reason."""
    for number, row in source:
        if isinstance(row, EventError):
            raise ConfigError(f"{source.path}, row {number}", f"{row.field}: {row.detail}", "Mend the row, or leave it out")
        yield Record(number - 1, 0.0, Kind.EVENT, str(row["id"]).encode(), encode(row))


def of_log(log: Log, stream: str, shard: int) -> Iterator[Record]:
    """What applications put into a partition, as far as the log holds it."""
    at, end = log.bounds(stream, shard)
    while records := read_below(log, stream, shard, at, end, BATCH):
        yield from (record for record in records if record.kind in (Kind.EVENT, Kind.HEARTBEAT))
        at = records[-1].offset + 1


def measure(settings: Settings, name: str, records: Records, inject: int, within: int) -> Report:
    """Learn the records, with `inject` drifts in them, and judge every setting on what was seen. Raises ConfigError."""
    from ..drift import offline

    model = settings.models[name]
    compared = list(compare(model))
    wants = {detector.on for _, drift in compared for detector in drift.detectors} - {"loss"}
    with _progress() as bar:
        task = bar.add_task("counting labels", total=None)
        labels, middle = count_labels(records(), model.task)
        if not labels:
            raise ConfigError(name, "nothing here has a label", "Name its column with --label, or another file")
        drifts = [labels * (i + 1) // (inject + 1) for i in range(inject)]
        bar.update(task, description="learning", total=labels)
        swap = Swap(model.task, drifts, list(model.labels), middle)
        recorder = offline.Recorder(wants)
        learn(settings, name, records(), recorder, swap if inject else None, lambda n: bar.update(task, completed=n))
        tape = recorder.tape
        judging = bar.add_task("judging", total=len(compared))
        results = []
        for title, drift in compared:
            alarms, cases = offline.alarms(tape, drift.detectors), offline.cases(tape, drift, model.seed)
            confirmed = [case.end_n for case in cases if case.confirmed]
            raw, after = (offline.rates(times, drifts, tape.labelled, within) for times in (alarms, confirmed))
            results.append(Result(title, drift, alarms, cases, raw, after))
            bar.advance(judging)
    return Report(name, tape, drifts, within, results)


def compare(model: ModelSettings) -> Iterator[tuple[str, DriftSettings]]:
    """The model's own setting, then each detector alone with the model's own confirmation."""
    yield "as configured", model.drift
    for detector in ALONE:
        if model.task == "regression" and TAKES.get(detector.name) == "01":
            continue
        params = ", ".join(f"{key} {value:g}" for key, value in detector.params.items())
        title = f"{detector.name} {params}".strip()
        yield title, model.drift.model_copy(update={"detectors": (detector,), "quorum": 1})


def count_labels(records: Iterable[Record], task: str) -> tuple[int, float]:
    """How many records have a label, and for numbers their mean."""
    count, total = 0, 0.0
    for record in records:
        y = _event(record).get("y")
        if y is not None:
            count += 1
            total += float(y) if task == "regression" and isinstance(y, int | float) else 0.0
    return count, total / max(1, count)


def learn(
    settings: Settings, name: str, records: Iterable[Record], recorder: Any, swap: Swap | None, told: Callable[[int], None]
) -> None:
    """Have the model learn them, and the recorder see what a watch would. Warns of what cannot be learned."""
    from ..learning.replay import new_learner

    stream = settings.models[name].stream
    alone = settings.streams[stream].model_copy(update={"partitions": 1})  # whatever partition they come from
    learner = new_learner(settings.model_copy(update={"streams": {stream: alone}}), name, 0, 0, recorder)
    for record in records:
        event = _event(record) if swap is not None else {}
        if swap is not None and event.get("y") is not None:
            record = record._replace(value=msgspec.json.encode(event | {"y": swap(event["y"], learner.n)}))
        learner.step(record)
        learner.signals.clear()
        if learner.n % BATCH == 0:
            told(learner.n)
    if learner.dead:
        dead, first = counted(len(learner.dead), "record"), learner.dead[0]
        warn(f"{dead} could not be learned; the first, at {first.offset}: {first.reason}, {first.detail}")


def _event(record: Record) -> dict[str, Any]:
    try:
        event = msgspec.json.decode(record.value)
    except msgspec.DecodeError:  # a heartbeat, or a dead letter to be
        return {}
    return event if isinstance(event, dict) else {}


def recommended(report: Report, budget: float) -> Result | None:
    """Of the settings within the budget the one that finds most, then soonest, with the fewest alarms; None without drifts."""
    if not report.drifts:
        return None
    good = [one for one in report.results if one.confirmed.false_rate <= budget and one.confirmed.found]
    return min(good, key=lambda one: (-one.confirmed.found, one.confirmed.mtd, one.raw.alarms), default=None)


def show(report: Report, budget: float) -> None:
    """The table, and what follows from it."""
    tape = report.tape
    mean = _mean([one.value for one in tape.shown if one.what == "loss"])
    drifts = ", ".join(f"{n:,}" for n in report.drifts) or "none known"
    say(f"{report.model}: {counted(tape.labelled, 'labelled event')}, mean loss {mean:.3f}; drifts after {drifts}")
    made = table(
        "detectors", ">alarms", ">found", ">false", ">MTD", ">MTFA", ">MDR", ">MTR",
        ">confirmed", ">found", ">false", ">MTD", ">MTFA", ">MDR", ">MTR",
    )  # fmt: skip
    for one in report.results:
        made.add_row(one.name, *_cells(one.raw), *_cells(one.confirmed))
    console().print(made)
    say(
        f"Left: raw alarms; right: after confirmation. An alarm within {report.within:,} labelled events of a drift is for it,"
        " and the first one finds it. MTD: mean time to detection of those found. MTFA: mean time between false alarms."
        " MDR: share missed. MTR: MTFA / MTD x (1 - MDR). Times in labelled events."
    )
    best = recommended(report, budget)
    if not report.drifts:
        say("Without known drifts nobody can tell a false alarm from a true one: inject some with --inject 3")
        return
    say("What drifts by itself in the data counts as false too: look at it with --plot")
    stable = report.results[0].raw.stable
    if 0 < stable < 100_000 / max(budget, 1e-9):
        say(f"One false confirmation among these {stable:,} stable events is {100_000 / stable:.1f} per 100,000 already")
    if best is None:
        say(f"No setting found a drift with at most {budget:g} false confirmations per 100,000 stable events")
    else:
        say(f"Recommended for at most {budget:g} false confirmations per 100,000 stable events: {best.name}")
        say(f"  drift = {{detectors = [{', '.join(map(_toml, best.drift.detectors))}], quorum = {_quoted(best.drift.quorum)}}}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def _cells(rates: Rates) -> list[str]:
    def number(value: float | None, digits: int = 0) -> str:
        return "–" if value is None else f"{value:,.{digits}f}"

    found = f"{rates.found}/{rates.drifts}" if rates.drifts else "–"
    mtfa = number(rates.mtfa) if rates.false else f"> {rates.mtfa:,.0f}"
    return [str(rates.alarms), found, str(rates.false), number(rates.mtd), mtfa, number(rates.mdr, 2), number(rates.mtr, 1)]


def _toml(detector: DetectorSettings) -> str:
    params = ", ".join(f"{key} = {_quoted(value)}" for key, value in detector.params.items())
    on = "" if detector.on == "loss" else f', on = "{detector.on}"'
    return f'{{name = "{detector.name}"{on}, params = {{{params}}}}}'


def _quoted(value: object) -> str:
    return msgspec.json.encode(value).decode()


def as_json(report: Report, budget: float) -> dict[str, Any]:
    """The report for programs."""
    best = recommended(report, budget)
    return {
        "model": report.model,
        "labelled": report.tape.labelled,
        "drifts": report.drifts,
        "within": report.within,
        "budget": budget,
        "recommended": best.name if best else None,
        "settings": [
            {
                "name": one.name,
                "drift": one.drift.model_dump(mode="json"),
                "alarms": one.alarms,
                "cases": [case._asdict() for case in one.cases],
                "raw": one.raw._asdict(),
                "confirmed": one.confirmed._asdict(),
            }
            for one in report.results
        ],
    }


def check_plot(path: Path) -> None:
    """Raises ConfigError for a picture that cannot be drawn."""
    if path.suffix not in (".svg", ".png"):
        raise ConfigError("--plot", f"{path.name} is neither .svg nor .png", "Name a file that ends so")
    try:
        import matplotlib  # noqa: F401  # to see whether it is there, before the long work
    except ImportError:
        raise ConfigError("--plot", "needs matplotlib", "Run: pip install 'streamlearn[plot]'") from None


def draw(report: Report, path: Path) -> None:
    """The loss over time with the known drifts, and below it each setting's alarms and confirmations."""
    import matplotlib.figure
    import numpy as np

    shown = [(one.n, one.value) for one in report.tape.shown if one.what == "loss"]
    counts, losses = np.array([n for n, _ in shown]), np.array([value for _, value in shown])
    width = max(1, min(500, len(losses) // 20))
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    figure = matplotlib.figure.Figure(figsize=(11, 3 + 0.3 * len(report.results)), layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 0.35 * len(report.results)))
    top.plot(counts[width - 1 :], smooth, color="tab:blue", linewidth=1)
    top.set_ylabel(f"loss, mean of {width}")
    top.set_title(f"{report.model}: what each setting makes of it")
    for row, one in enumerate(report.results):
        below.plot(one.alarms, [row] * len(one.alarms), "|", color="0.6", markersize=9)
        ends = [case.end_n for case in one.cases if case.confirmed]
        below.plot(ends, [row] * len(ends), "v", color="tab:red", markersize=6)
    below.set_yticks(range(len(report.results)), [one.name for one in report.results])
    below.set_ylim(len(report.results) - 0.5, -0.5)
    below.set_xlabel("labelled events  (grey: alarm, red: confirmed, dashed: known drift)")
    for axes in (top, below):
        for n in report.drifts:
            axes.axvline(n, color="black", linestyle="--", linewidth=0.8)
    figure.savefig(path)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}"), TimeRemainingColumn(),
        console=console(stderr=True), disable=not console(stderr=True).is_terminal,
    )  # fmt: skip
