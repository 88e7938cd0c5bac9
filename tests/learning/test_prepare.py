"""Preparing features: as river's scaler where nothing is odd, bounded where something is, and repeatable."""

from __future__ import annotations

import copy
import math
import pickle
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import linear_model, preprocessing

from streamlearn.learning.digest import digest
from streamlearn.learning.prepare import DIFFERENT, EARLY, OTHER, Codes, OneHot, Prepare, Strings

KINDS = [OneHot, Codes, Strings]
finite = st.floats(allow_nan=False, allow_infinity=False)
features = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.integers(-(2**63), 2**63 - 1) | finite | st.booleans(),
)


def normal(n: int, seed: int = 0) -> list[dict[Any, Any]]:
    draw = random.Random(seed)
    return [
        {"a": draw.gauss(3, 2), "b": draw.random() * 1e6, "c": draw.randrange(5), "d": draw.random() < 0.3} for _ in range(n)
    ]


def taught(prepare: Prepare, events: list[dict[Any, Any]]) -> Prepare:
    for x in events:
        prepare.learn_one(x)
    return prepare


@pytest.mark.parametrize("kind", KINDS)
def test_without_odd_values_it_is_rivers_standard_scaler(kind: type[Prepare]) -> None:
    ours, rivers = kind(), preprocessing.StandardScaler()
    for index, x in enumerate(normal(500)):
        if index > EARLY:
            assert ours.transform_one(x) == pytest.approx(rivers.transform_one(x), abs=1e-9)
        ours.learn_one(x)
        rivers.learn_one(x)
        if index > EARLY:
            assert ours.transform_one(x) == pytest.approx(rivers.transform_one(x), abs=1e-9)
    assert ours.clipped == 0


@given(st.lists(features, max_size=60), features)
@settings(max_examples=150, deadline=None)
def test_whatever_finite_numbers_come_what_goes_out_is_within_the_clip(events: list[dict[Any, Any]], x: dict[Any, Any]) -> None:
    prepare = OneHot(clip=5.0)
    for event in [*events, x]:
        for value in prepare.transform_one(event).values():
            assert -5.0 <= value <= 5.0
        prepare.learn_one(event)
        for name, value in prepare.transform_one(event).items():
            assert -5.0 <= value <= 5.0, name
    for _, mean, squares, bound, deviation in prepare.numbers.values():
        assert math.isfinite(mean)
        assert squares >= 0
        assert bound >= 0
        assert deviation > 0


@pytest.mark.parametrize("odd", [100.0, -1e6, 1e200, -1.7e308])
@pytest.mark.parametrize("at", [0, 1, 5, EARLY - 1, EARLY, 300])
def test_one_odd_value_hardly_moves_what_is_known_of_a_feature(odd: float, at: int) -> None:
    draw = random.Random(1)
    events: list[dict[Any, Any]] = [{"a": 0.15 + draw.gauss(0, 0.05)} for _ in range(600)]
    plain = taught(OneHot(), events)
    events[at] = {"a": odd}
    spoilt = taught(OneHot(), events)
    assert spoilt.clipped == 1
    assert spoilt.numbers["a"][1] == pytest.approx(plain.numbers["a"][1], abs=0.01)
    assert spoilt.numbers["a"][4] == pytest.approx(plain.numbers["a"][4], rel=0.2)


def test_the_first_odd_values_are_seen_by_the_others() -> None:
    prepare = taught(OneHot(), [{"a": 1e200}, {"a": 0.3}, {"a": 0.2}, {"a": 0.4}])
    assert abs(prepare.numbers["a"][1]) < 10
    taught(prepare, [{"a": 0.3 + 0.01 * (i % 7)} for i in range(EARLY)])
    assert prepare.clipped == 1
    assert "a" not in prepare.early


def test_a_feature_whose_scale_has_changed_is_followed() -> None:
    draw = random.Random(2)
    prepare = taught(OneHot(), [{"a": draw.gauss(0, 1)} for _ in range(3000)])
    new: list[dict[Any, Any]] = [{"a": draw.gauss(500, 100)} for _ in range(3000)]
    assert abs(prepare.transform_one(new[0])["a"]) == 8.0
    taught(prepare, new)
    scaled = [prepare.transform_one(x)["a"] for x in new]
    assert max(scaled) - min(scaled) > 1.0
    assert max(map(abs, scaled)) < 8.0


@pytest.mark.parametrize("constant", [0.0, 0.003, 5.0, -1e9])
def test_a_constant_is_nought_until_it_changes(constant: float) -> None:
    prepare = taught(OneHot(), [{"a": constant}] * 1000)
    assert prepare.transform_one({"a": constant}) == {"a": 0.0}
    assert prepare.transform_one({"a": constant + 1}) == {"a": 0.0}
    draw = random.Random(3)
    changed: list[dict[Any, Any]] = [{"a": constant + draw.random()} for _ in range(1000)]
    taught(prepare, changed)
    scaled = [prepare.transform_one(x)["a"] for x in changed]
    assert max(scaled) - min(scaled) > 1.5
    assert max(map(abs, scaled)) < 8.0


@pytest.mark.parametrize("at", [3, EARLY - 1, EARLY, 500])
def test_a_constant_stays_one_until_it_was_contradicted_a_few_times(at: int) -> None:
    events: list[dict[Any, Any]] = [{"a": 2.0}] * 600
    for index in range(DIFFERENT - 1):
        events[at + 20 * index] = {"a": [1e200, 3.0, -5.0, 2.5][index]}
    prepare = taught(OneHot(), events)
    assert prepare.clipped == DIFFERENT - 1
    assert prepare.transform_one({"a": 3.0}) == {"a": 0.0}
    taught(prepare, [{"a": 3.0}])
    assert 0 < prepare.transform_one({"a": 3.0})["a"] <= 8.0
    assert prepare.numbers["a"][4] < 20


def test_a_number_that_is_rarely_not_nought_is_told_from_nought() -> None:
    prepare = taught(OneHot(), [{"a": 7.0 if i % 100 == 99 else 0.0} for i in range(3000)])
    assert prepare.transform_one({"a": 0.0})["a"] < 0 < 3 < prepare.transform_one({"a": 7.0})["a"]


def test_a_number_never_seen_is_nought_and_is_not_learned_by_asking() -> None:
    prepare = taught(OneHot(), normal(50))
    before = digest(prepare)
    assert prepare.transform_one({"new": 7.0, "a": 3.0, "word": "x"}) == {"new": 0.0, **prepare.transform_one({"a": 3.0})}
    assert digest(prepare) == before


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_another_event_than_was_learned_gives_that_event(kind: type[Prepare]) -> None:
    events = normal(60)
    prepare, plain = taught(kind(), events[:50]), taught(kind(), events[:50])
    plain.transform_one(events[49])
    assert prepare.transform_one(events[55]) == plain.transform_one(events[55])
    prepare.learn_one(events[50])
    plain.learn_one(events[50])
    once, again = prepare.transform_one(events[50]), prepare.transform_one(events[50])
    assert once == again
    assert once is not again
    assert plain.transform_one(dict(events[50])) == once


def test_what_waits_for_the_pipeline_is_no_part_of_the_state() -> None:
    learned, asked = taught(OneHot(), normal(50)), taught(OneHot(), normal(50))
    asked.transform_one({"a": 1.0})
    assert digest(learned) == digest(asked)
    assert pickle.dumps(learned) == pickle.dumps(asked)
    assert copy.deepcopy(learned).transform_one({"a": 1.0}) == asked.transform_one({"a": 1.0})


def test_one_hot_names_each_string() -> None:
    prepare = taught(OneHot(), [{"c": "red", "n": 1.0}, {"c": "green", "n": 2.0}])
    assert prepare.transform_one({"c": "red", "n": 1.5}) == {"c=red": 1.0, "n": 0.0}
    assert prepare.transform_one({"c": "never"}) == {}


def test_codes_count_up_and_stay_within_the_clip() -> None:
    prepare = taught(Codes(clip=8.0, max_categories=4), [{"c": word} for word in ("x", "y", "x", "z")])
    assert [prepare.transform_one({"c": word})["c"] for word in ("x", "y", "z", "never")] == [2.0, 4.0, 6.0, 0.0]
    assert prepare.transform_one({"other": "never"}) == {"other": 0.0}


def test_strings_stay_strings() -> None:
    prepare = taught(Strings(), [{"c": "x"}])
    assert prepare.transform_one({"c": "x"}) == {"c": "x"}
    assert prepare.transform_one({"c": "never", "d": "never"}) == {}


def test_strings_beyond_the_bound_share_one_place() -> None:
    events: list[dict[Any, Any]] = [{"c": f"word {i}"} for i in range(50)]
    hot, words = taught(OneHot(max_categories=10), events), taught(Strings(max_categories=10), events)
    assert len(hot.strings["c"]) == 10
    assert {name for x in events for name in hot.transform_one(x)} == {*(f"c=word {i}" for i in range(10)), f"c={OTHER}"}
    assert words.transform_one({"c": "word 40"}) == {"c": OTHER}


def test_features_beyond_the_bound_are_ignored_and_counted() -> None:
    prepare = taught(OneHot(max_features=3), [{f"n{i}": 1.0 * i, f"s{i}": "x"} for i in range(100)])
    assert len(prepare.numbers) + len(prepare.strings) == 3
    assert prepare.ignored == 197
    assert prepare.transform_one({"n50": 4.0, "s50": "x"}) == {"n50": 0.0}


def test_numbers_and_strings_of_one_name_do_not_break_it() -> None:
    prepare = taught(OneHot(), [{"a": 1.0}, {"a": "x"}, {"a": 2.0}])
    assert prepare.transform_one({"a": "x"}) == {"a=x": 1.0}
    assert set(prepare.transform_one({"a": 2.0})) == {"a"}


def test_a_copy_through_a_pickle_goes_on_alike() -> None:
    events = normal(200)
    one = taught(Codes(), events[:EARLY // 2])
    two = pickle.loads(pickle.dumps(one))
    taught(one, events)
    taught(two, events)
    assert digest(one) == digest(two)


def test_river_clones_it_afresh() -> None:
    one = taught(OneHot(clip=3.0, max_categories=7), normal(50))
    two = one.clone()
    assert (two.clip, two.max_categories, two.numbers) == (3.0, 7, {})


def test_in_a_pipeline_it_learns_as_scaler_and_model_do_apart() -> None:
    pipeline = OneHot() | linear_model.LogisticRegression()
    prepare, model = OneHot(), linear_model.LogisticRegression()
    for index, x in enumerate(normal(300)):
        y = (x["a"] > 3) != (index % 10 == 0)
        assert pipeline.predict_proba_one(x) == model.predict_proba_one(prepare.transform_one(x))
        pipeline.learn_one(x, y)
        prepare.learn_one(x)
        model.learn_one(prepare.transform_one(x), y)
    assert pipeline["LogisticRegression"].weights == model.weights
