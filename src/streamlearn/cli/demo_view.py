"""How the demo looks while it runs: a live picture in a terminal, or plain lines into a file or a pipe.

Both are functions of one `Snapshot`; nothing here asks the service, keeps time or decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .console import table
from .demo_data import RULE
from .demo_report import LABELS, SCORES, number
from .demo_story import Step, Story

NAMES: Final[Mapping[str, str]] = {
    "case_opened": "alarm",
    "retrain_started": "retraining",
    "trial_started": "trial",
    "canary_started": "canary",
    "trial_won": "trial won",
    "trial_lost": "trial lost",
    "retrain_kept": "kept",
    "retrain_failed": "retrain failed",
    "not_recovered": "not recovered",
}
GOOD: Final = frozenset({"promoted", "recovered"})
BAD: Final = frozenset({"case_opened", "confirmed", "retrain_failed", "trial_lost", "not_recovered"})
TITLE: Final = "streamlearn demo: will a flight from Houston land 15 minutes late?"


@dataclass(frozen=True)
class Snapshot:
    """All that is shown, at one moment; `second` counts from the start. `injected` is None before the drift."""

    second: float
    phase: str
    departed: int
    total: int
    event_time: float | None = None
    posted: int = 0
    learned: int = 0
    rate: float = 0.0
    lag: int = 0
    asked: int = 0
    dead: int = 0
    freshness_ms: Mapping[str, float | None] = field(default_factory=dict)
    version: int | None = None
    state: str = ""
    degraded: Sequence[str] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)
    injected: Step | None = None
    stories: Sequence[Story] = ()


def picture(now: Snapshot) -> RenderableType:
    """The live picture."""
    return Panel(
        Group(_progress(now), Text(_events(now)), _scores(now.scores), "", *_drift(now)),
        title=Text(TITLE, style="bold"),
        title_align="left",
        subtitle=Text(f"{now.second:.0f} s · {now.phase}"),
        subtitle_align="right",
    )


def _progress(now: Snapshot) -> RenderableType:
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text(_date(now)), ProgressBar(total=max(1, now.total), completed=now.departed, width=30),
        Text(f"{now.departed:,} of {now.total:,} flights"),
    )  # fmt: skip
    return bar


def _date(now: Snapshot) -> str:
    return "2011" if now.event_time is None else f"{datetime.fromtimestamp(now.event_time, UTC):%a %d %b %Y %H:%M}"


def _events(now: Snapshot) -> str:
    fresh = ", ".join(f"{name} {'–' if ms is None else f'{ms:.0f} ms'}" for name, ms in now.freshness_ms.items()) or "–"
    return (
        f"posted {now.posted:,} · learned {now.learned:,} labels · {now.rate:,.0f} events/s · lag {now.lag:,} · "
        f"dead {now.dead}\nposted → served {fresh} · {now.asked:,} predictions"
    )


def _scores(scores: Mapping[str, Any]) -> RenderableType:
    made = table("", ">accuracy", ">last 1,000", ">kappa", ">last 1,000", ">ROC AUC", ">last 1,000")
    for name, label in LABELS.items():
        if name == "model":
            whole, window = scores.get("cumulative", {}), scores.get("window", {})
        else:
            whole = scores.get("baselines", {}).get(name, {})
            window = {score: whole.get(f"window_{score}") for score in SCORES}
        cells = [number(values.get(score)) for score in SCORES for values in (whole, window)]
        made.add_row(label, *cells, style="bold" if name == "model" else "")
    return made


def _drift(now: Snapshot) -> list[RenderableType]:
    degraded = f" · degraded: {now.degraded[0]}" if now.degraded else ""
    lines: list[RenderableType] = [
        _line(Text.assemble(("serving ", ""), (f"version {now.version or '–'}", "bold"), f" · {now.state or '–'}{degraded}"))
    ]
    for story in now.stories:
        if story.dismissed:
            alarm, end = story.steps[0], story.steps[-1]
            lines.append(_step(alarm._replace(text=f"{NAMES.get(end.name, end.name)}: {end.text}"), "dim"))
    if now.injected is not None:
        lines.append(_step(now.injected, "bold magenta"))
    for story in now.stories:
        if not story.dismissed:
            lines += [_step(step, "green" if step.name in GOOD else "red" if step.name in BAD else "") for step in story.steps]
            lines += _going_on(story)
    return lines


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _step(step: Step, style: str) -> RenderableType:
    name = NAMES.get(step.name, step.name)
    return _line(Text.assemble((f"{step.second:5.1f} s {step.events:7,} ", "dim"), (f"{name:<11}", style), f" {step.text}"))


def _going_on(story: Story) -> list[RenderableType]:
    """The bar of a fit or a trial that is under way."""
    if story.progress is not None:
        done, total = story.progress
        return [_bar("fitting", done, max(1, total), f"{done:,} of {total:,} records")]
    canary = None if story.trial is None else story.trial.get("canary")
    if canary is not None:
        told = f"{canary['events']:,} labels at {100 * canary['share']:.3g} %"
        return [_bar("canary", canary["step"] - 1, canary["steps"], told)]
    if story.trial is not None:
        evidence, enough = float(story.trial["e"]), float(story.trial["threshold"])
        told = f"{evidence:.1f} of {enough:.0f}, {story.trial['events']:,} labels"
        return [_bar("evidence", min(evidence, enough), enough, told)]
    return []


def _bar(name: str, done: float, total: float, told: str) -> RenderableType:
    bar = Table.grid(padding=(0, 1))
    bar.add_row(Text(f"{name:>25}"), ProgressBar(total=total, completed=done, width=20), Text(told))
    return bar


class Lines:
    """The same in plain lines: each step of the story once, as it becomes known, and where things stand now and then."""

    def __init__(self, say: Callable[[str], None], every_s: float = 5.0) -> None:
        self._say, self._every_s = say, every_s
        self._due = 0.0
        self._phase = ""
        self._told: set[tuple[str, str, float]] = set()

    def show(self, now: Snapshot) -> None:
        """Say what is new."""
        if now.phase != self._phase:
            self._phase = now.phase
            self._say(f"{now.second:6.1f} s  {now.phase}")
        if now.injected is not None:
            self._once("", now.injected)
        for story in now.stories:
            for step in story.steps:
                self._once(story.case, step)
        if now.second >= self._due and now.departed:
            self._due = now.second + self._every_s
            self._say(f"{now.second:6.1f} s  {line(now)}")

    def _once(self, case: str, step: Step) -> None:
        key = (case, step.name, step.second)
        if key not in self._told:
            self._told.add(key)
            where = f"case {case}, " if case else ""
            self._say(f"{step.second:6.1f} s  {where}{NAMES.get(step.name, step.name)}: {step.text} (label {step.events:,})")


def line(now: Snapshot) -> str:
    """Where things stand."""
    window = now.scores.get("window", {}).get("accuracy")
    others = [now.scores.get("baselines", {}).get(name, {}).get("window_accuracy") for name in ("no_change", "majority")]
    fresh = now.freshness_ms.get("p50")
    return (
        f"{_date(now)}: {now.departed:,} of {now.total:,} flights, {now.learned:,} labels learned, {now.rate:,.0f} events/s, "
        f"last 1,000: accuracy {number(window)} (no change {number(others[0])}, majority {number(others[1])}), "
        f"posted → served {'–' if fresh is None else f'{fresh:.0f} ms'}, version {now.version or '–'}"
    )


def injection(second: float, labels: int) -> Step:
    """The injected drift, as a step."""
    return Step("INJECTED", labels, second, RULE)
