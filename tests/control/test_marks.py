"""What happens beside a model's cases: holds with their ends, drifting features; bounded."""

from __future__ import annotations

from typing import Any

from streamlearn.control.marks import MOST, enter
from streamlearn.control.state import State
from streamlearn.records import Decision


def told(*decisions: tuple[str, float, str | None, dict[str, Any]]) -> list[dict[str, Any]]:
    """The items after decisions (kind, at, what holds the model after it, numbers)."""
    doc, state = None, State("m", None)
    for offset, (kind, at, held, numbers) in enumerate(decisions):
        state.held = held
        doc = enter(doc, offset, Decision("m", kind, at, by="ann", why=f"why {offset}", numbers=numbers), state)
    return [] if doc is None else doc["items"]


def test_a_hold_lasts_until_it_is_resumed() -> None:
    items = told(
        ("registered", 1.0, None, {}), ("held", 2.0, "odd", {}), ("case_opened", 3.0, "odd", {}), ("resumed", 4.0, None, {})
    )
    assert items == [{"kind": "held", "at": 2.0, "control": 1, "why": "why 1", "by": "ann", "until": 4.0}]


def test_a_hold_may_be_taken_over_and_a_swap_of_versions_ends_it() -> None:
    broken = {"diagnosis": {"kind": "null_jump"}}
    items = told(("held", 1.0, "nulls", broken), ("held", 2.0, "odd", {}), ("promoted", 3.0, None, {}))
    assert [(one["kind"], one["at"], one["until"]) for one in items] == [("broken_input", 1.0, 2.0), ("held", 2.0, 3.0)]


def test_what_lasts_has_no_end() -> None:
    [item] = told(("held", 1.0, "odd", {}), ("request_refused", 2.0, "odd", {}))
    assert item["until"] is None


def test_features_that_drift_are_named() -> None:
    [item] = told(("feature_drift", 1.0, None, {"features": [{"name": "a"}, {"name": "b"}]}))
    assert (item["kind"], item["features"]) == ("feature_drift", ["a", "b"])


def test_the_newest_are_kept() -> None:
    items = told(*(("feature_drift", float(n), None, {"features": [{"name": "a"}]}) for n in range(MOST + 5)))
    assert [items[0]["at"], items[-1]["at"], len(items)] == [5.0, MOST + 4.0, MOST]


def test_nothing_happened() -> None:
    assert told(("registered", 1.0, None, {})) == []


def test_control_puts_them(stage: Any) -> None:
    stage.request("hold")
    stage.until("held")
    stage.request("resume")
    stage.until("resumed")
    stage.settle()
    [item] = stage.view("marks")["items"]
    assert (item["kind"], item["by"]) == ("held", "ann")
    assert item["at"] < item["until"]
    before = stage.store.views("marks")
    stage.store.empty()
    stage.kill()
    stage.settle()
    assert stage.store.views("marks") == before
