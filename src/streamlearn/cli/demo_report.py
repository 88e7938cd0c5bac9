"""What came of the demo: what was posted held against the learner's own final state, and the summary as JSON and as a table.

Nothing is assumed: an event counts as learned only when the last checkpoint says so, and as lost when neither the checkpoint
nor the dead letters know of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from .console import table
from .demo_story import Step

SCORES: Final = ("accuracy", "kappa", "roc_auc")
DRIFT: Final = ("injected", "alarm", "confirmed", "retrained", "promoted", "recovered")
LABELS: Final = {"model": "the model", "no_change": "no change", "majority": "majority"}
NONE: Final = "–"


class Account(NamedTuple):
    """Events, a departure and a landing being one each.

    `posted`: durable, said the service. `learned`: of these, departures that the learner knows and landings whose label it has
    learned. `lost`: neither that nor a dead letter. `duplicated`: learned more often than once, or never posted at all.
    `dead`: dead letters.
    """

    posted: int
    learned: int
    lost: int
    duplicated: int
    dead: int


def account(
    features: Set[str], labels: Mapping[str, Any], known: Mapping[str, Any], taught: int, dead: Set[tuple[str, str]]
) -> Account:
    """Hold what was posted against what is known.

    `features`: ids of departures; `labels`: of landings, with the label. `known`: every id in the learner's state with the
    label it learned, None when it learned none. `taught`: the learner's own count of labels learned. `dead`: (id, part) of dead
    letters, the part being "x" or "y".
    """
    departures = sum(id in known for id in features)
    landings = sum(known.get(id) is not None and known[id] == label for id, label in labels.items())
    lost = sum(id not in known and (id, "x") not in dead for id in features)
    lost += sum((known.get(id) is None or known[id] != label) and (id, "y") not in dead for id, label in labels.items())
    foreign = sum(id not in features and id not in labels for id in known)
    twice = taught - sum(label is not None for label in known.values())
    return Account(len(features) + len(labels), departures + landings, lost, max(0, twice) + foreign, len(dead))


class Report(NamedTuple):
    """All that the summary says. `scores`: see `scores_of`. `drift`: None for what was not reached."""

    events: Account
    seconds: float
    events_per_s: float
    scores: Mapping[str, Mapping[str, float | None]]
    freshness_ms: Mapping[str, float | None]
    drift: Mapping[str, Step | None]
    versions: tuple[int, int]

    @property
    def sound(self) -> bool:
        """Nothing was lost and nothing learned twice."""
        return self.events.lost == 0 and self.events.duplicated == 0

    @property
    def told(self) -> bool:
        """The drift's story came to its end."""
        return all(self.drift[name] is not None for name in DRIFT)

    def document(self) -> dict[str, Any]:
        """What `--json` writes. Of a drift's step, `events` are the labels learned by then, `second` is since the start."""
        return {
            "events": self.events._asdict(),
            "seconds": round(self.seconds, 2),
            "events_per_s": round(self.events_per_s, 1),
            "scores": {name: dict(scores) for name, scores in self.scores.items()},
            "freshness_ms": {name: None if ms is None else round(ms, 1) for name, ms in self.freshness_ms.items()},
            "drift": {name: _moment(self.drift[name]) for name in DRIFT},
            "versions": {"before": self.versions[0], "after": self.versions[1]},
        }


def _moment(step: Step | None) -> dict[str, Any] | None:
    return None if step is None else {"events": step.events, "second": round(step.second, 2)}


def scores_of(view: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """The cumulative prequential scores in a learner's status: of the model, and of both baselines."""
    baselines = view.get("baselines", {})
    found = {"model": view.get("cumulative", {}), **{name: baselines.get(name, {}) for name in ("no_change", "majority")}}
    return {name: {score: scores.get(score) for score in SCORES} for name, scores in found.items()}


def summary(report: Report) -> RenderableType:
    """The tables at the end."""
    events = report.events
    counts = table("events", ">", "", title="What happened")
    rows = (
        ("posted", events.posted, f"departures and landings, {report.events_per_s:,.0f} a second"),
        ("learned", events.learned, "by the learner's own last checkpoint"),
        ("lost", events.lost, "in neither that checkpoint nor the dead letters"),
        ("learned twice", events.duplicated, "or never posted"),
        ("dead letters", events.dead, ""),
    )
    for name, count, note in rows:
        counts.add_row(name, f"{count:,}", Text(note, style="dim"))
    scores = table("prequential, whole run", ">accuracy", ">kappa", ">ROC AUC")
    for name, values in report.scores.items():
        scores.add_row(LABELS[name], *(number(values[score]) for score in SCORES))
    steps = table("drift", ">second", ">labels", "")
    for name in DRIFT:
        step = report.drift[name]
        if step is None:
            steps.add_row(name, NONE, NONE, Text("not reached", style="red"))
        else:
            steps.add_row(name, f"{step.second:.1f}", f"{step.events:,}", Text(step.text, style="dim"))
    fresh = ", ".join(f"{name} {NONE if ms is None else f'{ms:.0f} ms'}" for name, ms in report.freshness_ms.items())
    before, after = report.versions
    last = Text(f"posted → served: {fresh}; version {before} → {after}; {report.seconds:.0f} s in all")
    return Group(counts, "", scores, "", steps, "", last)


def number(value: float | None) -> str:
    """A score, or a dash where there is none."""
    return NONE if value is None else f"{value:.3f}"
