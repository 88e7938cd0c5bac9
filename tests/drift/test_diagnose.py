"""A diagnosis takes the first cause that the evidence speaks for, by thresholds that are stated."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from streamlearn.drift.diagnose import BROKEN, UNREADABLE, Evidence, changed, dead_letters, diagnose, readable
from streamlearn.drift.features import Finding
from streamlearn.events import REASONS

JUMP = Finding("fare", "null_jump", 0.01, 0.8, "number")
GONE = Finding("seat", "vanished", 0.0, 1.0, "string")
TYPE = Finding("age", "type_change", 0.0, 1.0, "number")


@pytest.mark.parametrize(
    ("evidence", "kind", "features"),
    [
        (Evidence(True, (JUMP, TYPE, GONE), ["x"], (1.0, 0.1), (1, 900)), "schema_break", ["age", "seat"]),
        (Evidence(False, (JUMP,), ["x"]), "null_jump", ["fare"]),
        (Evidence(True, (), ["x"], (0.8, 0.3), (1, 900)), "label_rate", []),
        (Evidence(True, (), ["x"], (0.8, 0.7), (10, 900)), "label_delay", []),
        (Evidence(True, (), ["x", "y"], (0.8, 0.7), (10, 11)), "feature_drift", ["x", "y"]),
        (Evidence(False, (), ["x"], (0.8, 0.1), (10, 900)), "feature_drift", ["x"]),
        (Evidence(True), "concept_drift", []),
    ],
)
def test_what_comes_first_explains_the_rest(evidence: Evidence, kind: str, features: list[str]) -> None:
    found = diagnose(evidence)
    assert found is not None
    assert (found.kind, found.features) == (kind, features)
    assert found.broken == (kind in BROKEN)
    assert found.why


def test_where_nothing_is_amiss_nothing_is_said() -> None:
    assert diagnose(Evidence(False)) is None
    assert diagnose(Evidence(False, labels=(0.9, 0.1), delay=(1.0, 500.0))) is None


def test_the_sentence_names_features_and_numbers() -> None:
    found = diagnose(Evidence(True, [JUMP]))
    assert found is not None
    assert found.why == "'fare' is missing in 1% of the events before, 80% now"
    many = diagnose(Evidence(True, [], [f"f{i}" for i in range(12)]))
    assert many is not None
    assert many.why == "'f0', 'f1', 'f2', 'f3', 'f4' and 7 more changed"
    assert len(many.features) == 10
    assert "'seat' no longer comes" in GONE.text()
    assert "'age' is no number" in TYPE.text()


@pytest.mark.parametrize(
    ("pair", "factor", "least", "told"),
    [((0.8, 0.4), 2, 0.1, True), ((0.4, 0.8), 2, 0.1, True), ((0.8, 0.41), 2, 0.1, False), ((0.1, 0.04), 2, 0.1, False),
     ((0.0, 0.2), 2, 0.1, True), (None, 2, 0.1, False), ((20.0, 60.0), 2, 50, False), ((40.0, 90.0), 2, 50, True)],
)  # fmt: skip
def test_a_change_needs_the_factor_and_the_size(pair: Any, factor: float, least: float, told: bool) -> None:
    assert changed(pair, factor, least) is told


def test_dead_letters_break_the_schema_when_they_are_many_and_new() -> None:
    shares = {"malformed": (0.0, 0.1), "feature_type": (0.15, 0.5), "late": (0.0, 0.9), "shape": (0.01, 0.09)}
    [found] = dead_letters(shares)
    assert (found.feature, found.what) == ("malformed", "dead_letters")
    told = diagnose(Evidence(False, (found,)))
    assert told is not None
    assert told.kind == "schema_break"
    assert not readable(found, {"malformed": (0.0, 0.05)})
    assert readable(found, {"malformed": (0.0, 0.04)})
    assert readable(found, {})


def test_every_reason_is_one_that_learners_know() -> None:
    assert set(REASONS) >= UNREADABLE


@settings(max_examples=50, deadline=None)
@given(
    st.booleans(),
    st.lists(st.sampled_from([JUMP, GONE, TYPE]), max_size=3),
    st.lists(st.sampled_from("abc"), max_size=3),
    st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.none() | st.tuples(st.floats(0, 1000), st.floats(0, 1000)),
)
def test_only_broken_input_is_broken(rose: bool, findings: Any, drifted: Any, labels: Any, delay: Any) -> None:
    found = diagnose(Evidence(rose, findings, drifted, labels, delay))
    assert (found is not None and found.broken) == bool(findings)
    assert (found is None) == (not rose and not findings and not drifted)
