"""A case's document as a story: which steps, when, with which numbers, and which of them a summary is held to."""

from __future__ import annotations

from typing import Any

import pytest

from streamlearn.cli.demo_story import MILESTONES, Step, Story, milestones, stories

ORIGIN = 1_000_000.0
GATE = {"p": 1e-200, "level": 0.03, "ref_mean": 0.2, "fresh_mean": 0.61, "lcb_fresh": 0.58, "ucb_ref": 0.21, "fresh_n": 1000}
NUMBERS: dict[str, dict[str, Any]] = {
    "case_opened": {"detector": "page_hinkley", "ref_mean": 0.2, "recent_mean": 0.6, "change_offset": 36_239, "alarm_n": 90},
    "confirmed": GATE,
    "rejected": GATE | {"fresh_mean": 0.27, "p": 0.2},
    "retrain_started": {"starts": {"0": 1000}, "until": {"0": 4000}},
    "retrained": {"took_s": 2.25, "trained_to": {"0": 41_334}},
    "trial_started": {"k": 1},
    "canary_started": {"step": 1, "shares": [0.05, 0.25], "e": 35.9, "threshold": 32.9, "events": 4617},
    "trial_won": {"e": 35.9, "threshold": 32.9, "events": 4617, "blocks": 32, "mean_difference": 0.5},
    "promoted": {"previous": 1},
    "recovered": {"fresh_mean": 0.11, "fresh_n": 1000, "ref_mean": 0.2},
    "detached": {},
    "retrain_failed": {},
}
WHOLE = (
    "case_opened", "confirmed", "retrain_started", "retrained", "trial_started", "canary_started", "trial_won", "promoted",
    "recovered",
)  # fmt: skip


def case(*kinds: str, start: float = 10.0, id: str = "delay-1", **more: Any) -> dict[str, Any]:
    steps = [
        {
            "kind": kind, "at": ORIGIN + start + index, "n": 100 * (index + 1), "offset": 1, "version": 2, "by": "control",
            "why": f"{kind}, because", "numbers": NUMBERS[kind], "control": index,
        }
        for index, kind in enumerate(kinds)
    ]  # fmt: skip
    return {"id": id, "open": True, "progress": None, "trial": None, "steps": steps} | more


def told(*kinds: str, **more: Any) -> Story:
    [story] = stories([case(*kinds, **more)], ORIGIN)
    return story


def test_steps_are_dated_from_the_start() -> None:
    steps = told(*WHOLE).steps
    assert [step.name for step in steps] == list(WHOLE)
    assert [step.second for step in steps] == [10.0 + index for index in range(9)]


def test_an_alarm_is_dated_by_its_own_label_not_by_when_control_heard_of_it() -> None:
    assert [step.events for step in told("case_opened", "confirmed").steps] == [90, 200]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("case_opened", ["page_hinkley", "0.20 before", "0.60 of late", "36,239"]),
        ("confirmed", ["0.20 → 0.61", "1,000 fresh labels", "at least 0.58", "p < 1e-99"]),
        ("rejected", ["0.20 → 0.27", "no lasting harm"]),
        ("retrain_started", ["version 2", "from the change point", "3,000 records"]),
        ("retrained", ["version 2", "2.2 s", "41,334"]),
        ("trial_started", ["version 2", "the same flights"]),
        ("canary_started", ["version 2 answers for 5 %", "36 of 33", "4,617 labels"]),
        ("trial_won", ["36 of 33", "4,617 labels", "32 blocks", "0.50"]),
        ("promoted", ["version 2 serves", "version 1"]),
        ("recovered", ["0.11 on 1,000", "0.20 before the drift"]),
        ("retrain_failed", ["retrain_failed, because"]),
    ],
)
def test_each_step_tells_its_numbers(kind: str, words: list[str]) -> None:
    [step] = told(kind).steps
    assert [word for word in words if word not in step.text] == []


def test_a_p_value_that_can_be_written_is_written() -> None:
    document = case("confirmed")
    document["steps"][0]["numbers"] = GATE | {"p": 0.00042}
    assert stories([document], ORIGIN)[0].steps[0].text.endswith("p = 0.0004")


def test_a_canary_tells_what_came_of_the_step_before() -> None:
    document = case("canary_started", "trial_won")
    canary = {"events": 632, "share": 0.05, "served": {"challenger": 12}}
    document["steps"][0]["numbers"] |= {"step": 2, "canary": canary}
    document["steps"][1]["numbers"] |= {"canary": canary | {"share": 0.25, "served": {"challenger": 0}}}
    second, won = (step.text for step in stories([document], ORIGIN)[0].steps)
    assert second == "version 2 answers for 25 % of the flights: 632 labels at 5 %, 12 of its own answers"
    assert won == "not worse in the canary: 632 labels at 25 %; loss lower by 0.50"


def test_recovery_without_a_reference_is_told_too() -> None:
    document = case("recovered")
    document["steps"][0]["numbers"] = {"fresh_n": 1000, "fresh_mean": 0.11}
    assert stories([document], ORIGIN)[0].steps[0].text == "loss 0.11 on 1,000 labels"


def test_housekeeping_is_no_part_of_the_story() -> None:
    assert [step.name for step in told("promoted", "recovered", "detached").steps] == ["promoted", "recovered"]


def test_what_goes_on_right_now() -> None:
    progress, trial = {"done": 5, "total": 9}, {"e": 1.0}
    fitting = told("confirmed", "retrain_started", progress=progress)
    assert (fitting.progress, fitting.trial) == ((5, 9), None)
    assert told("retrain_started", "retrained", progress=progress).progress is None
    assert told("retrain_started").progress is None
    assert told("retrained", "trial_started", trial=trial).trial == trial
    assert told("trial_started", "canary_started", trial=trial).trial == trial
    assert told("trial_started", "trial_won", trial=trial).trial is None


def test_a_dismissed_case_is_one_that_no_test_confirmed() -> None:
    assert told("case_opened", "rejected").dismissed
    assert not told("case_opened").dismissed
    assert not told("case_opened", "confirmed").dismissed


INJECTED = Step("INJECTED", 80, 20.0, "rule")


def test_the_milestones_are_those_of_the_confirmed_case() -> None:
    cases = [case("case_opened", "rejected", start=5.0), case(*WHOLE, start=21.0, id="delay-2")]
    found = milestones(stories(cases, ORIGIN), INJECTED)
    assert list(found) == ["injected", *MILESTONES]
    assert found["injected"] == INJECTED
    assert {name: step and (step.name, step.events, step.second) for name, step in found.items() if name != "injected"} == {
        "alarm": ("alarm", 90, 21.0),
        "confirmed": ("confirmed", 200, 22.0),
        "retrained": ("retrained", 400, 24.0),
        "promoted": ("promoted", 800, 28.0),
        "recovered": ("recovered", 900, 29.0),
    }


def test_a_case_that_is_rejected_after_the_injection_does_not_hide_the_confirmed_one() -> None:
    cases = [case("case_opened", "rejected", start=21.0), case("case_opened", "confirmed", start=30.0)]
    found = milestones(stories(cases, ORIGIN), INJECTED)
    assert found["alarm"] is not None
    assert found["alarm"].second == 30.0
    assert found["retrained"] is None


def test_a_drift_confirmed_before_the_injection_is_not_the_injected_one() -> None:
    found = milestones(stories([case(*WHOLE, start=1.0)], ORIGIN), INJECTED)
    assert all(step is None for name, step in found.items() if name != "injected")


def test_without_a_confirmed_case_the_last_alarm_since_counts() -> None:
    cases = [case("case_opened", "rejected", start=5.0), case("case_opened", start=22.0)]
    found = milestones(stories(cases, ORIGIN), INJECTED)
    assert found["alarm"] is not None
    assert found["alarm"].second == 22.0
    assert found["confirmed"] is None


def test_nothing_was_reached_before_the_injection() -> None:
    found = milestones(stories([case(*WHOLE)], ORIGIN), None)
    assert set(found.values()) == {None}
