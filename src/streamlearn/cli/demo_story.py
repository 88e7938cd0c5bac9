"""A drift case as a story: its steps as control recorded them, each with its time, its count of labels and its numbers.

It only puts into words what the case's document says; nothing is worked out, and nothing here knows how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

Doc = Mapping[str, Any]

# What a summary is held to, and the kind of decision that says that it happened.
MILESTONES: Final[Mapping[str, str]] = {
    "alarm": "case_opened",
    "confirmed": "confirmed",
    "retrained": "retrained",
    "promoted": "promoted",
    "recovered": "recovered",
}
_HIDDEN: Final = frozenset({"detached"})  # housekeeping after the story's end


class Step(NamedTuple):
    """Something that happened `second` seconds after the start, when `events` labels had been learned."""

    name: str
    events: int
    second: float
    text: str


class Story(NamedTuple):
    """One case: its steps so far, `open` while more may come, and what goes on right now, None when nothing does.

    `progress`: records (done, total) of the fit. `trial`: the numbers of the trial.
    """

    case: str
    steps: list[Step]
    open: bool
    progress: tuple[int, int] | None
    trial: Doc | None

    @property
    def dismissed(self) -> bool:
        """An alarm that no test confirmed."""
        return any(step.name in ("rejected", "expired", "survived") for step in self.steps)

    def second_of(self, name: str, otherwise: float) -> float:
        """When the step of that name happened first."""
        return next((step.second for step in self.steps if step.name == name), otherwise)


def stories(cases: Iterable[Doc], origin: float) -> list[Story]:
    """The cases in order; `origin` is Unix seconds."""
    return [_story(case, origin) for case in cases]


def milestones(told: Sequence[Story], injected: Step | None) -> dict[str, Step | None]:
    """When each milestone was reached, in the first case confirmed after the injection; without one, in the last case since.

    None for what was not reached, which is everything before the injection.
    """
    found: dict[str, Step | None] = {"injected": injected} | dict.fromkeys(MILESTONES)
    if injected is None:
        return found
    since = [story for story in told if story.steps[-1].second >= injected.second]
    confirmed = [story for story in since if story.second_of("confirmed", -1.0) >= injected.second]
    for story in confirmed[:1] or since[-1:]:
        for name, kind in MILESTONES.items():
            found[name] = next((step._replace(name=name) for step in story.steps if step.name == kind), None)
    return found


def _story(case: Doc, origin: float) -> Story:
    steps = [
        Step(
            "survived" if step["numbers"].get("survived") else step["kind"],
            int(step["numbers"].get("alarm_n", step["n"])),
            step["at"] - origin,
            _TEXTS.get(step["kind"], _plain)(step, step["numbers"]),
        )
        for step in case["steps"]
        if step["kind"] not in _HIDDEN
    ]
    progress: Doc | None = case.get("progress") if steps[-1].name == "retrain_started" else None
    return Story(
        case["id"],
        steps,
        bool(case["open"]),
        None if progress is None else (progress["done"], progress["total"]),
        case.get("trial") if steps[-1].name in ("trial_started", "canary_started") else None,
    )


def _plain(step: Doc, numbers: Doc) -> str:
    return str(step["why"])


def _alarm(step: Doc, numbers: Doc) -> str:
    return (
        f"{numbers['detector']}: loss {numbers['ref_mean']:.2f} before, {numbers['recent_mean']:.2f} of late, "
        f"since about record {numbers['change_offset']:,}"
    )


def _confirmed(step: Doc, numbers: Doc) -> str:
    p = numbers["p"]
    return f"{_losses(numbers)} (at least {numbers['lcb_fresh']:.2f}), p {'< 1e-99' if p < 1e-99 else f'= {p:.1g}'}"


def _rejected(step: Doc, numbers: Doc) -> str:
    return f"{_losses(numbers)}: no lasting harm"


def _losses(numbers: Doc) -> str:
    return f"loss {numbers['ref_mean']:.2f} → {numbers['fresh_mean']:.2f} on {numbers['fresh_n']:,} fresh labels"


def _retraining(step: Doc, numbers: Doc) -> str:
    starts, until = min(numbers["starts"].values()), max(numbers["until"].values())
    return f"version {step['version']} from the change point on: {until - starts:,} records and what comes meanwhile"


def _retrained(step: Doc, numbers: Doc) -> str:
    reached = max(numbers["trained_to"].values())
    return f"version {step['version']} fitted in {numbers['took_s']:.1f} s, up to record {reached:,}"


def _trial(step: Doc, numbers: Doc) -> str:
    return f"version {step['version']} and the one in service predict the same flights"


def _canary(step: Doc, numbers: Doc) -> str:
    share, first = numbers["shares"][numbers["step"] - 1], numbers["step"] == 1
    told = _evidence(numbers) if first else _outcomes(numbers["canary"])
    return f"version {step['version']} answers for {100 * share:.3g} % of the flights: {told}"


def _outcomes(canary: Doc) -> str:
    served = canary["served"]["challenger"]
    own = f", {served:,} of its own answers" if served else ""
    return f"{canary['events']:,} labels at {100 * canary['share']:.3g} %{own}"


def _won(step: Doc, numbers: Doc) -> str:
    if numbers.get("canary"):
        return f"not worse in the canary: {_outcomes(numbers['canary'])}; loss lower by {numbers['mean_difference']:.2f}"
    return f"{_evidence(numbers)} in {numbers['blocks']} blocks; loss lower by {numbers['mean_difference']:.2f}"


def _evidence(numbers: Doc) -> str:
    return f"evidence {numbers['e']:.0f} of {numbers['threshold']:.0f} after {numbers['events']:,} labels"


def _promoted(step: Doc, numbers: Doc) -> str:
    return f"version {step['version']} serves, version {numbers['previous']} is kept beside it"


def _recovered(step: Doc, numbers: Doc) -> str:
    before = numbers.get("ref_mean")
    return f"loss {numbers['fresh_mean']:.2f} on {numbers['fresh_n']:,} labels" + (
        "" if before is None else f", {before:.2f} before the drift"
    )


_TEXTS: Final = {
    "case_opened": _alarm,
    "confirmed": _confirmed,
    "rejected": _rejected,
    "retrain_started": _retraining,
    "retrained": _retrained,
    "trial_started": _trial,
    "canary_started": _canary,
    "trial_won": _won,
    "promoted": _promoted,
    "recovered": _recovered,
}
