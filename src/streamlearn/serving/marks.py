"""What happened to a model, as marks on a time axis: points and spans, made of control's documents. Pure.

    alarm            when a case was opened for it, or when it came while one was open
    case             from its opening to its end
    retrain, trial   from their beginning to their end, each attempt by itself
    canary           each step of it
    promoted, rolled_back, recovered, not_recovered    moments
    held             by a person or the learner; by a diagnosis it is broken_input
    feature_drift    when it was told
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ..wire import Mark
from .story import detectors

MOST: Final = 2000
MOMENTS: Final = {
    "promoted": "version {version} promoted", "rolled_back": "rolled back to version {version}", "recovered": "recovered",
    "not_recovered": "not recovered",
}  # fmt: skip
SPANS: Final = {"retrain_started": "retrain", "trial_started": "trial", "canary_started": "canary"}
ENDS: Final = {
    "retrain": frozenset({"retrained", "retrain_failed", "retrain_started"}),
    "trial": frozenset({"canary_started", "trial_won", "trial_lost", "retrain_failed"}),
    "canary": frozenset({"canary_started", "trial_won", "trial_lost"}),
}


def marks(
    cases: Iterable[Mapping[str, Any]], aside: Mapping[str, Any], since: float | None = None, until: float | None = None
) -> list[Mark]:
    """The marks with a part in [since, until), by when they began; of more than `MOST` the newest.

    `cases`: the model's cases; `aside`: its document of the kind "marks", {} for none.
    """
    found = [mark for case in cases for mark in _of_case(case)]
    found += [_aside(item) for item in aside.get("items", ())]
    shown = [mark for mark in found if _within(mark, since, until)]
    return sorted(shown, key=lambda mark: (mark.at, mark.id))[-MOST:]


def _within(mark: Mark, since: float | None, until: float | None) -> bool:
    end = mark.at if mark.until is None else mark.until
    return (until is None or mark.at < until) and (since is None or mark.open or end >= since)


def _of_case(case: Mapping[str, Any]) -> Iterator[Mark]:
    steps, id = case.get("steps") or [], str(case["id"])
    if not steps:
        return
    first, closed = steps[0], case.get("closed_at")
    outcome = str(case.get("outcome") or "open").replace("_", " ")
    detail = f"{first['why']}; {outcome}"
    at, control = first["at"], first["control"]
    yield Mark(f"case:{id}", "case", at, closed, closed is None, f"case {id}", detail, id, case.get("version"), control)
    if case.get("kind") == "drift":
        label = ", ".join(detectors(first["numbers"].get("detector"))) or "a detector"
        yield Mark(f"alarm:{control}", "alarm", at, None, False, label, first["why"], id, None, control)
    for place, alarm in enumerate((case.get("alarms") or {}).get("items", ())):
        label = ", ".join(detectors(alarm["detector"])) or "a detector"
        detail = f"{label} on shard {alarm['shard']} sees the loss rise, while case {id} is open"
        yield Mark(f"alarm:{id}:{place}", "alarm", alarm["at"], None, False, label, detail, id)
    for place, step in enumerate(steps):
        kind, at, about = step["kind"], step["at"], (id, step["version"], step["control"])
        if kind in MOMENTS:
            label = MOMENTS[kind].format(version=step["version"])
            yield Mark(f"{kind}:{step['control']}", kind, at, None, False, label, step["why"], *about)
        elif kind in SPANS:
            what = SPANS[kind]
            ended = next((later["at"] for later in steps[place + 1 :] if later["kind"] in ENDS[what]), closed)
            mark = f"{what}:{step['control']}"
            yield Mark(mark, what, at, ended, ended is None, _label(what, step), step["why"], *about)


def _label(what: str, step: Mapping[str, Any]) -> str:
    numbers, version = step["numbers"], step["version"]
    if what == "canary":
        return f"canary of version {version} at {numbers['shares'][numbers['step'] - 1]:.3g} of the keys"
    if what == "retrain":
        return f"retrain of version {version}, attempt {numbers.get('attempt', 1)}"
    return f"trial of version {version}"


def _aside(item: Mapping[str, Any]) -> Mark:
    kind, at, control, why = item["kind"], item["at"], item["control"], item["why"]
    if kind == "feature_drift":
        label = f"features drift: {', '.join(item['features'])}"
        return Mark(f"{kind}:{control}", kind, at, None, False, label, why, control=control)
    until = item.get("until")
    label = "held for broken input" if kind == "broken_input" else f"held by {item['by']}"
    return Mark(f"{kind}:{control}", kind, at, until, until is None, label, why, control=control)
