"""`streamlearn drift-bench CONFIG MODEL [FILE]`: which detectors, and which confirmation, suit one's own data.

The model reads a file, or some of its log, as it would in service, but is never retrained; what it shows its watch is played
to each setting. Drifts that are known, since they were injected, tell how soon each setting finds them and how often it errs.
It reads only, so the service may be up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from pydantic import ValidationError

from ..config import TAKES, DetectorSettings, DriftSettings, ModelSettings, Settings
from ..config_errors import explain
from ..errors import ConfigError
from ..log import Record
from . import benches, columns
from .benches import BATCH, Records, Source, progress
from .console import counted, say, warn
from .drift_report import Report, Result, as_json, draw, show
from .roles import Config

if TYPE_CHECKING:
    from ..drift.offline import Tape

CONFIGURED: Final = "as configured"
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
    model: benches.Model,
    file: benches.File = None,
    id: columns.Id = None,
    ts: columns.Ts = None,
    label: columns.Label = None,
    text: columns.Text = None,
    drop: columns.Drop = None,
    shard: benches.Shard = 0,
    start: benches.Start = None,
    end: benches.End = None,
    window: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Try the configured detectors with this drift.window too. Repeatable."),
    ] = None,
    alpha: Annotated[
        list[float] | None, typer.Option(metavar="A", help="Likewise with this drift.alpha; all combinations are tried.")
    ] = None,
    harm: Annotated[list[float] | None, typer.Option(metavar="H", help="Likewise with this drift.harm.")] = None,
    inject: Annotated[int, typer.Option(min=0, help="How many known drifts to inject, evenly: labels are exchanged.")] = 0,
    within: Annotated[int, typer.Option(min=1, help="Labelled events after a drift within which an alarm is for it.")] = 5000,
    budget: Annotated[float, typer.Option(min=0, help="False confirmations per 100,000 stable events that you accept.")] = 1.0,
    json: benches.Json = None,
    plot: benches.Plot = None,
) -> None:
    """Compare drift detectors, before and after confirmation, on a file or on the log, and recommend one."""
    from . import rows

    settings = benches.read_settings(config, model, plot)
    chosen = settings.models[model]
    compared = list(compare(chosen, varied(chosen.drift, window or (), alpha or (), harm or ())))
    mapped = rows.Mapped(id, ts, None, label, frozenset(text or ()), frozenset(drop or ()))
    with benches.reading(settings, chosen.stream, file, mapped, shard, start, end) as (source, records):
        report = measure(settings, model, compared, source, records, inject, within)
    show(report, budget)
    if json is not None:
        benches.write_json(json, as_json(report, budget))
    if plot is not None:
        draw(report, plot)
        say(f"wrote {plot}")


def measure(
    settings: Settings,
    name: str,
    compared: Sequence[tuple[str, DriftSettings]],
    source: Source,
    records: Records,
    inject: int,
    within: int,
) -> Report:
    """Learn the records, with `inject` drifts in them, and judge every setting on what was seen. Raises ConfigError."""
    from ..drift import offline

    model = settings.models[name]
    wants = {detector.on for _, drift in compared for detector in drift.detectors} - {"loss"}
    with progress() as bar:
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
            alarms, cases = sounded(tape, drift), offline.cases(tape, drift, model.seed)
            confirmed = [case.end_n for case in cases if case.confirmed]
            raw, after = (offline.rates(times, drifts, tape.labelled, within) for times in (alarms, confirmed))
            results.append(Result(title, drift, alarms, cases, raw, after))
            bar.advance(judging)
    return Report(name, source, tape, drifts, within, results)


def sounded(tape: Tape, drift: DriftSettings) -> list[int]:
    """The labelled counts at which as many detectors as the quorum asks for have sounded within `within` events.

    The detectors are never reset but by themselves; those that agreed once have to sound anew for the next alarm.
    """
    from ..drift.offline import alarms
    from ..drift.watch import needed

    times = sorted((n, index) for index, detector in enumerate(drift.detectors) for n in alarms(tape, [detector]))
    found: list[int] = []
    last: dict[int, int] = {}
    for n, those in itertools.groupby(times, key=lambda time: time[0]):
        last = {index: at for index, at in last.items() if n - at < drift.within} | {index: n for _, index in those}
        if len(last) >= needed(drift):
            found.append(n)
            last = {}
    return found


def compare(model: ModelSettings, varied: Iterable[tuple[str, DriftSettings]] = ()) -> Iterator[tuple[str, DriftSettings]]:
    """The model's own setting, what was varied of it, then each detector alone with the model's own confirmation."""
    yield CONFIGURED, model.drift
    yield from varied
    for detector in ALONE:
        if model.task == "regression" and TAKES.get(detector.name) == "01":
            continue
        params = ", ".join(f"{key} {value:g}" for key, value in detector.params.items())
        title = f"{detector.name} {params}".strip()
        yield title, model.drift.model_copy(update={"detectors": (detector,), "quorum": 1})


def varied(
    drift: DriftSettings, windows: Sequence[int], alphas: Sequence[float], harms: Sequence[float]
) -> Iterator[tuple[str, DriftSettings]]:
    """The setting with every combination of these, but for its own; where none is given, its own stands. Raises ConfigError."""
    options = {name: given for name, given in (("window", windows), ("alpha", alphas), ("harm", harms)) if given}
    for values in itertools.product(*(dict.fromkeys(given) for given in options.values())):
        tree = drift.model_dump() | dict(zip(options, values, strict=True))
        try:
            other = DriftSettings.model_validate(tree)
        except ValidationError as error:
            one = next(explain(error, tree, DriftSettings))
            raise ConfigError(f"--{one.key}", one.problem, one.fix) from None
        if other != drift:
            changed = ", ".join(f"{name} {value:g}" for name, value in zip(options, values, strict=True))
            yield f"{CONFIGURED}, {changed}", other


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
