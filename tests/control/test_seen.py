"""What was seen, as a diagnosis: only what moved far, and with the change, may have caused it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamlearn.control.seen import SHOWN, Block, Inputs
from streamlearn.drift.features import Finding, Look, Shift

SHIFT = Shift("a", "number", "ks", 1e-9, 5.0, 0.5, (0.0, 0.0), (0.0, 0.0), 0.0, 0.0, True, 100.0)


def seen(*shifts: Any, findings: tuple[Finding, ...] = (), history: tuple[Block, ...] = ()) -> Inputs:
    look = Look(110.0, 105.0, 9, shifts, {}, True, None, findings, ())
    return Inputs(look, findings, 105.0, 0, history)


def replaced(**changes: Any) -> Shift:
    return Shift(**{**SHIFT.doc(), **changes})


@pytest.mark.parametrize(
    ("shift", "told", "kind"),
    [
        (SHIFT, {}, "feature_drift"),
        (SHIFT, {"a": 100.0}, "feature_drift"),
        (SHIFT, {"a": 50.0}, "concept_drift"),  # it had moved before, as was told
        (replaced(since=89.0), {}, "concept_drift"),
        (replaced(since=None, differs=False), {}, "concept_drift"),
        (replaced(psi=0.19), {}, "concept_drift"),  # it differs for sure, and by too little
    ],
)
def test_only_what_moved_far_and_with_the_change_is_named(shift: Shift, told: dict[str, float], kind: str) -> None:
    found = seen(shift).diagnosis(90.0, told)
    assert found is not None
    assert found.kind == kind


def test_labels_are_compared_with_the_median_before() -> None:
    before = tuple(Block(float(at), 0.8, 10.0, {}) for at in range(5))
    for now, kind in ((Block(95.0, 0.3, 10.0, {}), "label_rate"), (Block(95.0, 0.8, 90.0, {}), "label_delay")):
        found = seen(history=(*before, now)).diagnosis(90.0, {})
        assert found is not None
        assert found.kind == kind
        alone = seen(history=(now,)).diagnosis(90.0, {})
        assert alone is not None
        assert alone.kind == "concept_drift"
    unknown = seen(history=(*before, Block(95.0, 0.8, None, {}))).diagnosis(90.0, {})
    assert unknown is not None
    assert unknown.kind == "concept_drift"


def test_without_a_look_only_what_is_broken_can_be_told() -> None:
    assert Inputs(None, (), 0.0, 0, ()).diagnosis(0.0, {}) is None
    flood = Finding("malformed", "dead_letters", 0.0, 0.5)
    found = Inputs(None, (flood,), 0.0, 0, ()).diagnosis(0.0, {})
    assert found is not None
    assert found.broken


def test_the_document_is_json_and_bounded() -> None:
    doc = seen(*[replaced(name=f"f{i}") for i in range(100)]).doc()
    assert len(doc["features"]) == SHOWN
    assert msgspec.json.decode(msgspec.json.encode(doc))["features"][0]["missing"] == [0.0, 0.0]
    assert Inputs(None, (), 0.0, 2, ()).doc() == {"broken": [], "sound": 2, "changes": []}
