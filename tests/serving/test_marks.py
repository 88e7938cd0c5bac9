"""Marks on a model's time axis, from its cases and what happened beside them."""

from __future__ import annotations

from typing import Any

import pytest

from streamlearn.serving import marks as module
from streamlearn.serving.marks import marks


def step(kind: str, at: float, version: int | None = None, /, **numbers: Any) -> dict[str, Any]:
    return {
        "kind": kind, "at": at, "n": 0, "offset": 0, "version": version, "by": "control", "why": f"{kind} at {at:g}",
        "numbers": numbers, "control": int(at),
    }  # fmt: skip


def case(*steps: dict[str, Any], closed_at: float | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "id": "m-1", "model": "m", "kind": "drift", "open": closed_at is None, "outcome": None, "opened_at": steps[0]["at"],
        "closed_at": closed_at, "version": 2, "alarms": None, "steps": list(steps),
    } | fields  # fmt: skip


WHOLE = case(
    step("case_opened", 10, kind="drift", detector="adwin+kswin on score"), step("confirmed", 20),
    step("retrain_started", 21, 2, attempt=1), step("retrain_failed", 30, 2), step("retrain_started", 35, 2, attempt=2),
    step("retrained", 40, 2), step("trial_started", 41, 2), step("canary_started", 50, 2, step=1, shares=[0.1, 0.5]),
    step("canary_started", 60, 2, step=2, shares=[0.1, 0.5]), step("trial_won", 70, 2), step("promoted", 71, 2),
    step("recovered", 90, 2), closed_at=90.0, outcome="recovered",
)  # fmt: skip


def shown(*cases: dict[str, Any], aside: Any = (), **bounds: float) -> list[tuple[str, float, float | None]]:
    return [(mark.kind, mark.at, mark.until) for mark in marks(cases, {"items": list(aside)}, **bounds)]


def test_a_whole_case_in_order() -> None:
    assert shown(WHOLE) == [
        ("alarm", 10, None), ("case", 10, 90), ("retrain", 21, 30), ("retrain", 35, 40), ("trial", 41, 50), ("canary", 50, 60),
        ("canary", 60, 70), ("promoted", 71, None), ("recovered", 90, None),
    ]  # fmt: skip
    found = {mark.id: mark for mark in marks([WHOLE], {})}
    assert len(found) == 9
    assert found["alarm:10"].label == "adwin, kswin on score"
    assert found["case:m-1"].detail == "case_opened at 10; recovered"
    assert found["canary:60"].label == "canary of version 2 at 0.5 of the keys"
    assert found["retrain:35"].label == "retrain of version 2, attempt 2"
    assert found["promoted:71"].label == "version 2 promoted"
    assert not any(mark.open for mark in found.values())


def test_what_lasts_is_open_and_shown_whenever_it_began() -> None:
    going = case(step("case_opened", 10, kind="manual"), step("retrain_started", 20, 2), kind="manual")
    assert [(mark.kind, mark.open) for mark in marks([going], {}, since=1000.0)] == [("case", True), ("retrain", True)]


def test_the_end_of_a_case_ends_what_was_under_way() -> None:
    cut = case(step("case_opened", 10, kind="drift"), step("retrain_started", 20, 2), closed_at=25.0)
    assert ("retrain", 20, 25.0) in shown(cut)


@pytest.mark.parametrize(
    ("bounds", "kinds"),
    [
        ({"since": 70.0, "until": 71.0}, ["case", "canary"]),
        ({"since": 72.0}, ["case", "recovered"]),
        ({"until": 10.0}, []),
        ({"since": 95.0}, []),
    ],
)
def test_those_with_a_part_in_the_time_that_is_asked_for(bounds: dict[str, float], kinds: list[str]) -> None:
    assert [kind for kind, _, _ in shown(WHOLE, **bounds)] == kinds


def test_further_alarms_are_marks_of_their_own() -> None:
    alarms = {"items": [{"detector": "ddm", "shard": 1, "at": 12.0, "n": 5, "change_offset": 9}], "in_all": 7}
    found = [mark for mark in marks([WHOLE | {"alarms": alarms}], {}) if mark.kind == "alarm"]
    assert [(mark.id, mark.label, mark.at) for mark in found] == [
        ("alarm:10", "adwin, kswin on score", 10), ("alarm:m-1:0", "ddm", 12.0),
    ]  # fmt: skip


def test_holds_and_features_that_drift() -> None:
    aside = [
        {"kind": "feature_drift", "at": 5.0, "control": 2, "why": "'<b>' changed", "features": ["<b>", "c"]},
        {"kind": "broken_input", "at": 6.0, "control": 3, "why": "nulls", "by": "diagnosis", "until": 8.0},
        {"kind": "held", "at": 9.0, "control": 4, "why": "odd", "by": "ann", "until": None},
    ]
    found = marks([], {"items": aside})
    assert [(mark.kind, mark.label, mark.until, mark.open) for mark in found] == [
        ("feature_drift", "features drift: <b>, c", None, False), ("broken_input", "held for broken input", 8.0, False),
        ("held", "held by ann", None, True),
    ]  # fmt: skip


def test_of_too_many_the_newest_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    assert [kind for kind, _, _ in shown(WHOLE)] == ["canary", "promoted", "recovered"]


def test_a_case_without_steps_leaves_no_mark() -> None:
    assert marks([{"id": "m-1", "steps": []}], {}) == []
