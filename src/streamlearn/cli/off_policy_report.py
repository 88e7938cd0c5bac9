"""What `off-policy` tells: the estimates beside the truth where it is known, what the weights are like, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .console import console, say, table, warn

if TYPE_CHECKING:
    from ..recommend.offpolicy import Estimate, Health, Interval

COLORS: Final = {"IPS": "C0", "SNIPS": "C1", "DR": "C2"}
FAR: Final = 3.0  # standard errors of the mean weight from 1, from which the propensities are doubted,
LITTLE: Final = 0.01  # if it is more than this
FEW: Final = 0.02  # share of the target's choices without a logged row, or of contexts that differ, from which it is said
THIN: Final = 0.01  # share of the rows that the effective ones are, under which it is said


class Group(NamedTuple):
    """A campaign, or all of them: the log's own mean reward, the target's where it is known, the estimates of it.

    `unsupported` is the share of the target's choices that no logged row shows; `mix` how far the contexts of the target's rows
    are from the log's (total variation); both None where the target has no rows.
    """

    name: str
    logged: Estimate
    truth: Estimate | None
    estimates: Sequence[Estimate]
    health: Health
    unsupported: float | None
    mix: float | None


class Report(NamedTuple):
    """What was measured, and how; `counted` says that the target's choices are known from rows of its own."""

    source: str
    logged: str | None
    target: str | None
    reward: str
    how: Interval
    groups: Sequence[Group]
    counted: bool


def covers(estimate: Estimate, truth: Estimate | None) -> bool | None:
    """Whether the interval holds the target's own mean reward; None where that is not known."""
    return None if truth is None else estimate.low <= truth.value <= estimate.high


def show(report: Report) -> None:
    """The tables, and what is to be doubted."""
    percent, known = f"{100 * report.how.level:g} %", any(group.truth for group in report.groups)
    say(f"Read: {report.source}")
    made = table(
        "campaign", "mean reward of", "by", ">rows", f">{report.reward}", f">{percent} interval", ">s.e.", "holds the truth"
    )  # fmt: skip
    for group in report.groups:
        for place, (what, how, rows, one, held) in enumerate(_lines(report, group)):
            made.add_row(
                group.name if place == 0 else "", what, how, "" if rows is None else f"{rows:,}", _figure(one.value),
                f"{_figure(one.low)} to {_figure(one.high)}", _figure(one.error), held,
            )  # fmt: skip
    console().print(made)
    weights = table("campaign", ">effective rows", ">mean weight", ">largest", ">clipped", ">never logged")
    for group in report.groups:
        health = group.health
        weights.add_row(
            group.name, f"{health.ess:,.0f} of {health.rows:,}", f"{health.mean:.3f} ± {health.mean_error:.3f}",
            f"{health.largest:,.2f}", f"{health.clipped:,}" if report.how.clip is not None else "–",
            "–" if group.unsupported is None else f"{group.unsupported:.2%}",
        )  # fmt: skip
    console().print(weights)
    say(
        "Weight: the target's propensity of what was logged over the log's. Its mean is 1 where both are true and the log holds"
        " all that the target does. Effective rows: so many of the target's own would tell as much. Never logged: the share of"
        " the target's choices that no row of the log shows."
    )
    if report.counted:
        say("The target's propensities are the shares of its choices, by campaign and position as far as they are named")
    if known:
        say("The truth is the mean of the target's own rows, a sample too: its interval is Wilson's, or the normal one")
    if not any(one.name == "DR" for group in report.groups for one in group.estimates):
        say("Without the doubly robust estimate: its reward model needs --action, and rows of the target with --target")
    for told in doubts(report):
        warn(told)


def _lines(report: Report, group: Group) -> list[tuple[str, str, int | None, Estimate, str]]:
    target = report.target or "the target"
    held = {True: "yes", False: "no", None: ""}
    lines: list[tuple[str, str, int | None, Estimate, str]] = [
        (report.logged or "the log", "its own rows", group.health.rows, group.logged, "")
    ]
    lines += [(target, f"{one.name} ({one.interval})", None, one, held[covers(one, group.truth)]) for one in group.estimates]
    if group.truth is not None:
        lines.append((target, "its own rows: the truth", None, group.truth, ""))
    return lines


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1 else f"{value:.5f}"


def doubts(report: Report) -> list[str]:
    """What speaks against the estimates, in words."""
    found = []
    for group in report.groups:
        health, name = group.health, group.name
        if report.how.clip is not None and health.clipped:
            clipped = f"{health.clipped:,} weights ({health.clipped / health.rows:.2%})"
            found.append(f"{name}: {clipped} were clipped at {report.how.clip:g}: a bias, in IPS towards 0")
        elif report.how.clip is None and abs(health.mean - 1) > max(LITTLE, FAR * health.mean_error):
            found.append(
                f"{name}: the mean weight {health.mean:.3f} is over {FAR:g} standard errors from 1: one of the propensities is"
                " wrong, or the log lacks what the target does"
            )  # fmt: skip
        if group.unsupported is not None and group.unsupported > FEW:
            found.append(f"{name}: of {group.unsupported:.1%} of the target's choices the log shows no row")
        if group.mix is not None and group.mix > FEW:
            found.append(f"{name}: {group.mix:.1%} of the target's contexts are not the log's, so the truth may differ")
        if health.ess < THIN * health.rows:
            found.append(f"{name}: the effective rows are under {THIN:.0%} of the log's: normal intervals are too narrow then")
    return found


def as_json(report: Report) -> dict[str, Any]:
    """The report for programs."""
    return {
        "source": report.source,
        "logged": report.logged,
        "target": report.target,
        "reward": report.reward,
        "level": report.how.level,
        "interval": report.how.method,
        "clip": report.how.clip,
        "seed": report.how.seed,
        "doubts": doubts(report),
        "groups": [
            {
                "name": group.name,
                "logged": group.logged._asdict(),
                "truth": None if group.truth is None else group.truth._asdict(),
                "estimates": [one._asdict() | {"covers": covers(one, group.truth)} for one in group.estimates],
                "weights": group.health._asdict(),
                "never_logged": group.unsupported,
                "contexts_differ": group.mix,
            }
            for group in report.groups
        ],
    }


def draw(report: Report, path: Path) -> None:
    """The estimates with their intervals, a panel a campaign; the band is the interval of the target's own mean."""
    import matplotlib.figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    count = len(report.groups)
    figure = matplotlib.figure.Figure(figsize=(9, 1.2 + 1.6 * count), layout="constrained")
    panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    target, logged = report.target or "the target", report.logged or "the log"
    for axes, group in zip(panels, report.groups, strict=True):
        shown = [(one, COLORS[one.name], one.name) for one in group.estimates]
        if group.truth is not None:
            axes.axvspan(group.truth.low, group.truth.high, color="0.9", linewidth=0)
            axes.axvline(group.truth.value, color="black", linestyle="--", linewidth=1)
            shown.append((group.truth, "black", f"{target}, own rows"))
        shown.append((group.logged, "0.5", f"{logged}, own rows"))
        for row, (one, color, _) in enumerate(shown):
            axes.plot([one.low, one.high], [row, row], color=color, linewidth=2, solid_capstyle="butt")
            axes.plot([one.value], [row], "o", color=color, markersize=6)
        axes.set_yticks(range(len(shown)), [name for _, _, name in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_ylabel(group.name)
        axes.grid(axis="x", color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
    panels[-1].xaxis.set_major_locator(MaxNLocator(8))
    panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:.4g}"))
    truth = "; dashed: the mean of its own rows" if any(group.truth for group in report.groups) else ""
    panels[-1].set_xlabel(f"mean {report.reward}, with {100 * report.how.level:g} % intervals{truth}")
    panels[0].set_title(f"What {target} earns, estimated from {f'the log of {logged}' if report.logged else logged}")
    figure.savefig(path)
