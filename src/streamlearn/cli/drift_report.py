"""What `drift-bench` tells: the table, the setting that it recommends as TOML to paste, the results for programs, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config import DriftSettings
from .benches import Source, as_table
from .console import console, counted, say, table

if TYPE_CHECKING:
    from ..drift.offline import Case, Rates, Tape


class Result(NamedTuple):
    """One setting on the tape: its raw alarms, its cases, and how well both fit the known drifts."""

    name: str
    drift: DriftSettings
    alarms: list[int]
    cases: list[Case]
    raw: Rates
    confirmed: Rates


class Report(NamedTuple):
    """What was measured: the tape and where it is from, the known drifts (labelled counts), and each setting's result."""

    model: str
    source: Source
    tape: Tape
    drifts: list[int]
    within: int
    results: list[Result]


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
    say(f"Read: {report.source}")
    say(f"{report.model}: {counted(tape.labelled, 'labelled event')}, mean loss {mean:.3f}; drifts after {drifts}")
    made = table(
        "detectors", ">alarms", ">found", ">false", ">MTD", ">MTFA", ">MDR", ">MTR",
        ">confirmed", ">found", ">false", ">MTD", ">MTFA", ">MDR", ">MTR",
    )  # fmt: skip
    for one in report.results:
        made.add_row(one.name, *_cells(one.raw), *_cells(one.confirmed))
    console().print(made)
    say(
        "Left: raw alarms, of as many detectors as the quorum asks for; right: after confirmation. An alarm within "
        f"{report.within:,} labelled events of a drift is for it, and the first one finds it. MTD: mean time to detection of"
        " those found. MTFA: mean time between false alarms. MDR: share missed. MTR: MTFA / MTD x (1 - MDR)."
        " Times in labelled events."
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
        say("Exactly what was measured, in the place of the model's present drift table and its features:")
        say("\n" + as_toml(report.model, best.drift))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def _cells(rates: Rates) -> list[str]:
    def number(value: float | None, digits: int = 0) -> str:
        return "–" if value is None else f"{value:,.{digits}f}"

    found = f"{rates.found}/{rates.drifts}" if rates.drifts else "–"
    mtfa = number(rates.mtfa) if rates.false else f"> {rates.mtfa:,.0f}"
    return [str(rates.alarms), found, str(rates.false), number(rates.mtd), mtfa, number(rates.mdr, 2), number(rates.mtr, 1)]


def as_toml(model: str, drift: DriftSettings) -> str:
    """The model's whole drift table, with all that differs from the defaults, as a configuration holds it."""
    changed = drift.model_dump(exclude_defaults=True)
    features = changed.pop("features", {})
    lines = [*as_table(f"models.{model}.drift", changed)]
    if features:
        lines += as_table(f"models.{model}.drift.features", features)
    return "\n".join(lines)


def as_json(report: Report, budget: float) -> dict[str, Any]:
    """The report for programs."""
    best = recommended(report, budget)
    return {
        "model": report.model,
        "source": report.source.as_json(),
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
