"""How soon drifts that are known are found, and how often one is seen where there is none: raw detectors, and confirmed cases.

A logistic model learns each stream in the learner of the service, and is never retrained; what it shows its watch is then
judged by each setting. Generated streams: 20 seeds of each of five concepts with an abrupt change in the middle, ten of each
without one. With `STREAMLEARN_DATA` also files whose drifts are known.

A checkpoint every thousand events is the model as it was, which is asked where the live losses confirm nothing.

A change counts by what it costs: the loss on the 2,000 events after it of the model as it was before it, over the loss on the
2,000 before. Some of these an online model survives by itself: they are told apart by what the live model lost over the 500
events after the change. Times are in labelled events; an alarm later than 5,000 events after a change, or before any, is false.
"""

from __future__ import annotations

import copy
import csv
import gzip
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from river.datasets import synth

from streamlearn.cli.drift_bench import compare
from streamlearn.config import Settings, parse
from streamlearn.drift.offline import Case, Hindsight, Rates, Recorder, Tape, alarms, cases, rates
from streamlearn.events import Event, Features, encode
from streamlearn.learning.replay import new_learner
from streamlearn.log import Record

from .harness import Rows, main, quiet

WITHIN = 5000
LOOK = 2000  # events before and after a change over which its cost is counted
FELT = 500
CHECKPOINT = 1000  # events from one kept model to the next: ten seconds at a hundred a second
HARMFUL = 0.10
DEFAULT = "as configured"
STABLE, ABRUPT, FILES = "stable", "abrupt", "files"

Pair = tuple[Features, Any]
CONCEPTS: Mapping[str, Callable[[int, int], Any]] = {
    "sea": lambda concept, seed: synth.SEA(variant=2 * concept, noise=0.1, seed=seed),
    "sine": lambda concept, seed: synth.Sine(classification_function=concept, seed=seed, has_noise=True),
    "mixed": lambda concept, seed: synth.Mixed(classification_function=concept, seed=seed),
    "agrawal": lambda concept, seed: synth.Agrawal(classification_function=6 if concept else 0, perturbation=0.05, seed=seed),
    "hyperplane": lambda concept, seed: synth.Hyperplane(seed=seed + 500 * concept, n_drift_features=0, noise_percentage=0.1),
}
GRADUAL = (9500, 20_000, 30_500)  # centres, 1,000 events wide
ABRUPT_AT = (10_000, 20_000, 30_000)


class Stream(NamedTuple):
    """A stream to be made where it is learned: its group, its name, how to make it, and where its drifts begin."""

    group: str
    name: str
    make: Callable[[], Iterator[Pair]]
    drifts: tuple[int, ...]
    task: str = "binary"


class Seen(NamedTuple):
    """What one stream gave: each drift's cost to the model as it was and to the live one; by setting (raw, confirmed) rates."""

    stream: str
    group: str
    labelled: int
    rises: list[float]
    felt: list[float]
    rates: dict[str, tuple[Rates, Rates]]


def generated(kind: str, concepts: Sequence[int], seed: int, each: int) -> Iterator[Pair]:
    """`each` events of one concept after the other."""
    for place, concept in enumerate(concepts):
        for x, y in CONCEPTS[kind](concept, seed + 10_000 * place).take(each):
            yield {str(name): value for name, value in x.items()}, bool(y)


def of_file(path: Path) -> Iterator[Pair]:
    """A file's rows; the label is the last column."""
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            _, y = row.popitem()
            yield {name: float(value) for name, value in row.items()}, y


def streams(quick: bool) -> list[Stream]:
    """Everything that is measured."""
    seeds, long = (2, 5000) if quick else (20, 50_000)
    half = 3000 if quick else 10_000
    found = []
    for kind in CONCEPTS:
        for seed in range(seeds):
            if seed < max(2, seeds // 2):
                found.append(Stream(STABLE, f"{kind} {seed}", partial(generated, kind, [0], seed, long), ()))
            turn = [seed % 2, 1 - seed % 2]  # also from the harder concept to the easier
            found.append(Stream(ABRUPT, f"{kind} {seed}", partial(generated, kind, turn, seed, half), (half,)))
    folder = os.environ.get("STREAMLEARN_DATA")
    if folder is None or quick:
        return found
    for path in sorted(Path(folder, "synthetic_known_drift").glob("*.csv.gz")):
        gradual = "gradual" in path.name
        drifts = tuple(at - 500 for at in GRADUAL) if gradual else ABRUPT_AT
        found.append(Stream(FILES, path.name.removesuffix(".csv.gz"), partial(of_file, path), drifts))
    for name, drifts in (("insects_gradual_balanced", (14_028,)), ("usenet1", (300, 600, 900, 1200))):
        path = Path(folder, name, f"{name}.csv.gz")
        task = "multiclass" if "insects" in name else "binary"
        if path.exists():
            found.append(Stream(FILES, name, partial(of_file, path), drifts, task))
    return found


def settings_of(task: str, labels: list[Any]) -> Settings:
    model: dict[str, Any] = {"stream": "s", "task": task, "pipeline": "softmax" if task == "multiclass" else "logistic"}
    if task == "binary" and not isinstance(labels[0], bool):
        model["labels"] = labels
    return parse({"streams": {"s": {}}, "models": {"m": model}}, {})


def look(stream: Stream) -> Seen:
    """Learn one stream and judge every setting on it."""
    pairs = list(stream.make())
    settings = settings_of(stream.task, sorted({y for _, y in pairs}))
    recorder = Recorder()
    learner = new_learner(settings, "m", 0, 0, recorder)
    frozen: dict[int, Any] = {}
    kept: dict[int, Any] = {}
    with quiet():
        for n, (x, y) in enumerate(pairs):
            if n in stream.drifts:
                frozen[n] = copy.deepcopy(learner.champion)
            if n % CHECKPOINT == 0:
                kept[n] = copy.deepcopy(learner.champion)
            learner.step(Record(n, 1e9 + n, 0, b"", encode(Event("s", ts=1e9 + n, x=x, y=y))))
            learner.signals.clear()
    assert learner.n == len(pairs), learner.dead[:1]
    tape = recorder.tape
    losses = [one.value for one in tape.shown]
    rises = [_cost(frozen[n], losses[max(0, n - LOOK) : n], pairs[n : n + LOOK]) for n in stream.drifts]
    felt = [_mean(losses[n : n + FELT]) - _mean(losses[max(0, n - LOOK) : n]) for n in stream.drifts]
    harmful = [n for n, rise in zip(stream.drifts, rises, strict=True) if rise >= HARMFUL]

    def hindsight(case: Case, until: int) -> dict[str, Any]:
        model = kept[(case.change_n - 1) // CHECKPOINT * CHECKPOINT]
        fresh = pairs[case.alarm_n : until]
        return {"n": len(fresh), "sum": float(_wrong(model, fresh))}

    judged = dict(_judge(tape, settings, harmful, stream.drifts, hindsight))
    return Seen(stream.name, stream.group, len(pairs), rises, felt, judged)


def _cost(model: Any, before: Sequence[float], after: Sequence[Pair]) -> float:
    return _wrong(model, after) / len(after) - _mean(before)


def _wrong(model: Any, pairs: Sequence[Pair]) -> int:
    wrong = 0
    for x, y in pairs:
        x, _ = model.check(dict(x))
        wrong += model.predict(x)[0] != model.label(y)
    return wrong


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)


def _judge(
    tape: Tape, settings: Settings, harmful: list[int], drifts: Sequence[int], hindsight: Hindsight
) -> Iterator[tuple[str, tuple[Rates, Rates]]]:
    """Rates over the harmful drifts; what falls to the others neither counts as found nor as false."""
    mild = [n for n in drifts if n not in harmful]
    for name, drift in compare(settings.models["m"]):
        raw = alarms(tape, drift.detectors)
        ends = [case.end_n for case in cases(tape, drift, hindsight=hindsight) if case.confirmed]
        yield name, (_without(raw, harmful, mild, tape.labelled), _without(ends, harmful, mild, tape.labelled))


def _without(times: list[int], harmful: list[int], mild: list[int], labelled: int) -> Rates:
    kept = [time for time in times if not any(n < time <= n + WITHIN for n in mild)]
    return rates(kept, harmful, labelled, WITHIN)


def pooled(several: Sequence[Rates]) -> Rates:
    """One over all."""
    counts = {name: sum(getattr(one, name) for one in several) for name in ("alarms", "found", "drifts", "false", "stable")}
    return Rates.of(**counts, delays=sum(one.found * one.mtd for one in several if one.mtd is not None))


def measure(rows: Rows, quick: bool) -> None:
    """Every stream in turn, two at a time."""
    with ProcessPoolExecutor(2) as pool:
        seen = []
        todo = streams(quick)
        for one in pool.map(look, todo):
            seen.append(one)
            print(f"  {len(seen)} of {len(todo)}: {one.group} {one.stream}", file=sys.stderr, flush=True)
    for group in (STABLE, ABRUPT, FILES):
        mine = [one for one in seen if one.group == group]
        if mine:
            _show_group(rows, group, mine)
    default = [one.rates[DEFAULT][1] for one in seen if one.group == STABLE]
    calm = pooled(default)
    rows.add("default, false confirmations per 100,000 stable events", calm.false_rate, "cases", "<= 1", "stable streams")
    abrupt = pooled([one.rates[DEFAULT][1] for one in seen if one.group == ABRUPT])
    if abrupt.drifts and abrupt.mtd is not None:
        rows.add("default, abrupt drifts of 10 points confirmed", abrupt.found / abrupt.drifts, "share", ">= 0.95")
        lasting = [one for one in seen if one.group == ABRUPT and one.rises[0] >= HARMFUL and one.felt[0] >= HARMFUL]
        found = sum(one.rates[DEFAULT][1].found for one in lasting)
        told = f"{found} of {len(lasting)} that the live model felt by 10 points over {FELT} events"
        rows.add("default, those that the model does not survive by itself", found / max(1, len(lasting)), "share", None, told)
        rows.add("default, mean delay of the confirmation", abrupt.mtd, "events", "<= 1000")


def _show_group(rows: Rows, group: str, seen: Sequence[Seen]) -> None:
    """A table of the group: every setting, raw and confirmed."""
    rises = [rise for one in seen for rise in one.rises]
    title = f"{group}: {sum(one.labelled for one in seen):,} labelled events"
    if rises:
        harmful = sum(rise >= HARMFUL for rise in rises)
        title += f", {harmful} of {len(rises)} drifts cost 10 points or more; these count, and the others do not"
    table = Table(title=title, title_justify="left", box=None)
    columns = ("false/100k", "MDR", "MTD", "MTFA", "MTR")
    table.add_column("setting")
    for column in (*columns, "confirmed: " + columns[0], *columns[1:]):
        table.add_column(column, justify="right")
    for name in seen[0].rates:
        cells = []
        for stage, which in (("raw", 0), ("confirmed", 1)):
            one = pooled([each.rates[name][which] for each in seen if name in each.rates])
            values = (one.false_rate, one.mdr, one.mtd, one.mtfa, one.mtr)
            for column, value in zip(columns, values, strict=True):
                if value is not None:
                    rows.note(f"{group}: {name}, {stage}, {column}", value, column, f"{one.false} false in {one.stable} events")
            least = "" if one.false else "> "
            cells += [f"{one.false_rate:.1f}", _cell(one.mdr, 2), _cell(one.mtd), f"{least}{one.mtfa:,.0f}", _cell(one.mtr, 1)]
        table.add_row(name, *cells)
    Console(width=170).print(table)
    for each in seen if group == FILES else ():
        raw, confirmed = each.rates[DEFAULT]
        costs = ", ".join(f"{rise:+.2f}" for rise in each.rises)
        delay = "" if confirmed.mtd is None else f" after {confirmed.mtd:,.0f} events"
        print(
            f"{each.stream}: costs {costs}; default: {raw.found} of {raw.drifts} harmful ones found raw, {confirmed.found}"
            f" confirmed{delay}; {raw.false} false alarms, {confirmed.false} after confirmation"
        )
    print()


def _cell(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


if __name__ == "__main__":
    main("Known drifts", measure)
