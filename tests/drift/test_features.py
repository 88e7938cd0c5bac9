"""The feature watch: an unchanged stream stays unflagged, a moved feature is flagged soon, and broken input is seen at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from streamlearn.config import FeatureSettings
from streamlearn.drift.features import CALM, CODES, Column, FeatureWatch, Finding, Look, broken, column, healed

SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=2) | st.integers()
TYPES = ["number", "string", "boolean"]
SMALL = FeatureSettings(window=100, reference=400)


def rows(seed: int, count: int, **changes: Any) -> list[dict[str, Any]]:
    """Two numbers, a string and a boolean; a change is a value, or a function of the row's number."""
    rng = np.random.default_rng(seed)
    made = [
        {"a": float(rng.normal()), "n": int(rng.integers(0, 9)), "s": "xyz"[rng.integers(0, 3)], "b": bool(rng.random() < 0.3)}
        for _ in range(count)
    ]
    return [{**x, **{k: value(i) if callable(value) else value for k, value in changes.items()}} for i, x in enumerate(made)]


class Stream:
    """A watch that is shown block after block."""

    def __init__(self, settings: FeatureSettings = SMALL, in_episode: bool = False) -> None:
        self.settings, self.count = settings, 0
        self.watch = FeatureWatch(settings, 1, rows(0, settings.reference), in_episode)

    def look(self, times: int = 1, **changes: Any) -> Look:
        for _ in range(times):
            self.count += 1
            events = rows(self.count, self.settings.window, **changes)
            seen = self.watch.look(events, self.count - 0.5, float(self.count))
        return seen


def shift(look: Look, name: str) -> Any:
    return next(one for one in look.shifts if one.name == name)


def test_types_are_those_of_the_reference() -> None:
    look = Stream().look()
    assert {one.name: (one.type, one.test) for one in look.shifts} == {
        "a": ("number", "ks"), "n": ("number", "ks"), "s": ("string", "chi-squared"), "b": ("boolean", "chi-squared")
    }  # fmt: skip


def test_an_unchanged_stream_is_left_alone() -> None:
    look = Stream().look(30)
    assert (look.looks, look.flagged, look.findings, look.appeared, look.calm_at) == (30, {}, (), (), None)
    assert all(one.psi < 0.4 and one.e < 20 for one in look.shifts)


@pytest.mark.parametrize(
    ("name", "value"), [("a", lambda i: 2.0 + i % 7 / 7), ("n", lambda i: i % 3), ("s", "x"), ("b", lambda i: i % 5 > 0)]
)
def test_a_feature_that_moves_is_flagged_by_itself(name: str, value: Any) -> None:
    stream = Stream()
    stream.look(10)
    look = stream.look(5, **{name: value})
    assert set(look.flagged) == {name}
    assert 10 < look.flagged[name] <= 15
    moved = shift(look, name)
    assert (moved.differs, moved.since) == (True, 11.0)
    assert moved.psi > 0.25
    assert look.findings == ()
    picture = look.histograms[name]
    assert sum(picture["reference"]) == SMALL.reference
    assert sum(picture["recent"]) == SMALL.window


def test_a_late_change_is_not_starved_by_a_long_past() -> None:
    early, late = Stream(), Stream()
    early.look(2)
    late.look(80)
    for stream in (early, late):
        start = stream.count
        while not stream.look(s="x").flagged:
            assert stream.count - start < 6


def test_an_episode_ends_when_nothing_differs_any_more_and_another_may_follow() -> None:
    stream = Stream()
    stream.look(5)
    stream.look(6, s="x")
    look = stream.look(CALM)
    assert set(look.flagged) == {"s"}
    look = stream.look(2)
    assert (dict(look.flagged), look.calm_at) == ({}, 14.0)
    assert set(stream.look(6, s="y").flagged) == {"s"}


def test_an_episode_from_before_ends_too() -> None:
    stream = Stream(in_episode=True)
    assert stream.look(CALM).calm_at is None  # told from the next look on
    assert stream.look().calm_at == float(CALM)
    assert Stream().look(CALM + 2).calm_at is None


def test_what_is_flagged_is_settled_when_nothing_else_was_at_that_look() -> None:
    stream = Stream()
    stream.look(5)
    looks = [stream.look(s="x") for _ in range(4)]
    first = next(look for look in looks if look.flagged)
    assert not first.settled
    assert looks[-1].settled


def test_shares_that_are_shown() -> None:
    look = Stream().look(1, a=lambda i: None if i < 10 else 1e6, s=lambda i: "new" if i < 20 else "x", extra=1)
    assert shift(look, "a").missing == (0.0, 0.1)
    assert shift(look, "a").outside == 1.0
    assert shift(look, "s").unseen == pytest.approx(0.2)
    assert look.appeared == ("extra",)
    msgspec.json.encode([one.doc() for one in look.shifts])


@pytest.mark.parametrize(
    ("changes", "what", "text"),
    [
        ({"a": None}, "null_jump", "'a' is missing in 0% of the events before, 100% now"),
        ({"a": lambda i: None if i % 4 == 0 else 0.5}, "null_jump", "'a' is missing in 0% of the events before, 25% now"),
        ({"a": "1.5"}, "type_change", "'a' is no number in 0% of the events before, 100% now"),
        ({"s": 7}, "type_change", "'s' is no string in 0% of the events before, 100% now"),
        ({"b": "true"}, "type_change", "'b' is no boolean in 0% of the events before, 100% now"),
    ],
)
def test_broken_input_is_seen_at_once_and_heals(changes: dict[str, Any], what: str, text: str) -> None:
    stream = Stream()
    stream.look(3)
    look = stream.look(1, **changes)
    [finding] = look.findings
    assert (finding.what, finding.text()) == (what, text)
    assert look.flagged == {}
    assert not healed(finding, rows(9, 100, **changes), 0.2)
    assert healed(finding, rows(9, 100), 0.2)
    assert stream.watch.findings(rows(9, 30, **changes))[0].what == what
    stream.look(4, **changes)
    assert stream.look(4).flagged == {}  # broken input is no past to compare with


def test_a_feature_that_no_longer_comes() -> None:
    stream = Stream()
    [finding] = stream.watch.findings([{k: v for k, v in x.items() if k != "s"} for x in rows(5, 100)])
    assert (finding.feature, finding.what) == ("s", "vanished")
    assert healed(finding, rows(6, 100), 0.2)
    assert not healed(finding, [{"a": 1.0}] * 100, 0.2)


def test_what_is_missing_more_but_not_by_a_jump_is_drift_and_not_broken() -> None:
    stream = Stream()
    stream.look(5)
    look = stream.look(8, a=lambda i: None if i % 8 == 0 else float(np.random.default_rng(i).normal()))
    assert look.findings == ()
    assert set(look.flagged) == {"a"}


def test_ints_booleans_and_floats_are_all_numbers() -> None:
    stream = Stream()
    assert stream.look(1, a=3).findings == ()
    assert stream.look(1, a=True).findings == ()
    assert stream.look(1, b=1).findings == ()
    assert stream.look(1, a=10**400).findings[0].what == "type_change"


def test_a_glance_takes_nothing_in() -> None:
    one, other = Stream(), Stream()
    for _ in range(3):
        one.watch.glance(rows(77, 100, s="x"), 0.0, 1.0)
    assert one.look(3) == other.look(3)


def test_categories_without_end_are_bounded() -> None:
    codes: dict[str, int] = {}
    seen = column([{"s": f"v{i}"} for i in range(CODES + 50)], "s", "string", codes)
    assert len(codes) == CODES
    assert (seen.values == 0).sum() == 50


def test_the_watch_is_a_function_of_its_seed_and_its_events() -> None:
    assert Stream().look(8, n=2) == Stream().look(8, n=2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), SCALARS), max_size=20), st.sampled_from(TYPES))
def test_a_column_accounts_for_every_event(events: list[Any], type_: str) -> None:
    one = column(events, "a", type_, {})
    assert int(np.isnan(one.values).sum()) == one.nulls + one.absent + one.others
    assert len(one.values) == len(events)
    assert one.absent == sum("a" not in x for x in events)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 400), st.integers(0, 100))
def test_a_null_jump_is_what_its_thresholds_say(before: int, now: int) -> None:
    def made(missing: int, n: int) -> Column:
        return Column(np.array([np.nan] * missing + [1.0] * (n - missing)), missing, 0, 0)

    found = broken("f", "number", made(before, 400), made(now, 100), 0.2)
    if now / 100 - before / 400 < 0.2:
        assert found is None
    elif now / 100 - before / 400 > 0.35:
        assert found == Finding("f", "null_jump", before / 400, now / 100, "number")


def columns(rng: np.random.Generator, names: list[str], moved: Mapping[str, float]) -> dict[str, Column]:
    return {name: Column(rng.normal(moved.get(name, 0.0), 1.0, 500), 0, 0, 0) for name in names}


@pytest.mark.slow
def test_false_flags_stay_within_q_and_small_drifts_are_found_soon() -> None:
    """A part of the simulation whose whole stands in the module's docstring."""
    names, chosen = [f"f{i}" for i in range(50)], FeatureSettings()
    moved, false, delays, beside = dict.fromkeys(names[:5], 0.35), 0, [], 0
    for seed in range(5):
        rng = np.random.default_rng([7, seed])
        reference = [dict(zip(names, row, strict=True)) for row in rng.normal(size=(2000, 50)).tolist()]
        watch = FeatureWatch(chosen, seed, reference)
        fresh = [watch.advance(columns(rng, names, {}), 500, 0.0) for _ in range(40)]
        false += any(fresh)
        if not any(fresh):
            when = {name: look for look in range(1, 7) for name in watch.advance(columns(rng, names, moved), 500, 0.0)}
            delays += [when.pop(name, 99) for name in names[:5]]
            beside += len(when)
    assert false <= 1  # of 5 at q = 0.05: more has a chance of 0.02
    assert np.median(delays) <= 2
    assert max(delays) <= 4
    assert beside <= 1
