"""Which features came, went or changed their type, block by block."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.drift.contract import MOST, Agreed, Change, agreeing, answered, appeared, begins, change_of, changes, thinning
from streamlearn.drift.features import Finding

KNOWN = frozenset({"a", "b"})
CAME = Change("c", "appeared", "", "number")
WENT = Change("a", "vanished", "number", "")
TURNED = Change("a", "type", "number", "string")


def x(**features: Any) -> dict[str, Any]:
    return {"b": "u", **features}


@pytest.mark.parametrize(
    ("finding", "change"),
    [
        (Finding("a", "type_change", 0.0, 1.0, "number"), TURNED),
        (Finding("a", "type_change", 0.0, 1.0, "boolean"), TURNED),
        (Finding("a", "type_change", 0.0, 1.0, "string"), Change("a", "type", "string", "number")),
        (Finding("a", "vanished", 0.0, 1.0, "number"), WENT),
        (Finding("a", "vanished", 0.0, 1.0, "string"), Change("a", "vanished", "string", "")),
        (Finding("a", "null_jump", 0.0, 1.0, "number"), None),
        (Finding("malformed", "dead_letters", 0.0, 1.0), None),
    ],
)
def test_which_findings_tell_of_a_change(finding: Finding, change: Change | None) -> None:
    assert change_of(finding) == change
    told = changes([finding], [x(a=1.0)] * 4, KNOWN)
    assert told == (() if change is None else (change,))
    contract = [] if change is None else [(change.feature, change.what, change.now)]
    assert ((finding.feature, finding.what) in answered(contract)) == (change is not None)


def test_a_change_as_a_document() -> None:
    assert TURNED.doc() == {"feature": "a", "what": "type", "was": "number", "is": "string"}


@given(st.lists(st.sampled_from([None, 1, 2.5, True, "u", "missing"]), min_size=1, max_size=40))
def test_a_feature_appears_in_half_of_the_events_with_what_most_of_them_are(values: list[Any]) -> None:
    events = [x() if value == "missing" else x(c=value) for value in values]
    there = [value for value in values if value is not None and value != "missing"]
    texts = sum(isinstance(value, str) for value in there)
    found = appeared(events, KNOWN)
    if 2 * len(there) >= len(values):
        assert found == [Change("c", "appeared", "", "string" if 2 * texts > len(there) else "number")]
    else:
        assert found == []
    assert appeared(events, KNOWN | {"c"}) == []


def test_no_more_than_some_hundred_names_are_told() -> None:
    events = [{f"f{n:04}": 1.0 for n in range(MOST + 50)}] * 3
    assert [one.feature for one in appeared(events, KNOWN)] == [f"f{n:04}" for n in range(MOST)]


@given(st.integers(0, 30), st.integers(1, 30))
def test_where_a_change_begins(before: int, after: int) -> None:
    for change, old, new in ((CAME, x(a=1.0), x(a=1.0, c=2)), (WENT, x(a=1.0), x()), (TURNED, x(a=1.0), x(a="u"))):
        assert begins(change, [old] * before + [new] * after) == before
    assert begins(WENT, [x(a=1.0)] * after) == 0, "where none shows it, it is the whole block's"
    assert begins(TURNED, [x(a=None)] * after) == 0


def test_blocks_in_a_row_must_agree() -> None:
    events, times = [x(a=1.0), x(a="u")], [1.0, 2.0]
    seen = agreeing({}, [TURNED], events, times, 7)
    assert seen == {TURNED: Agreed(TURNED, 2.0, 7, 1)}
    seen = agreeing(seen, [TURNED, CAME], events, [3.0, 4.0], 9)
    assert seen == {TURNED: Agreed(TURNED, 2.0, 7, 2), CAME: Agreed(CAME, 3.0, 9, 1)}
    assert agreeing(seen, [CAME], events, [5.0, 6.0], 11) == {CAME: Agreed(CAME, 3.0, 9, 2)}
    assert agreeing(seen, [], events, [5.0, 6.0], 11) == {}


def test_what_is_absent_may_be_about_to_vanish_and_what_is_null_is_not() -> None:
    jump = Finding("a", "null_jump", 0.0, 0.5, "number")
    absent, null, there = x(), x(a=None), x(a=1.0)
    assert thinning([jump], [absent, there]) == {"a"}
    assert thinning([jump], [null, there]) == frozenset()
    assert thinning([jump], [absent, absent, null, there]) == {"a"}
    assert thinning([jump], [absent, null, there]) == frozenset()
    assert thinning([Finding("a", "vanished", 0.0, 1.0, "number")], [absent]) == frozenset()
