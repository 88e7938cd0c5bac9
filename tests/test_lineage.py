"""Recipes compared, and a backfill in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config import Settings, parse
from streamlearn.config_errors import ConfigErrors
from streamlearn.lineage import (
    MAX_LETTERS,
    MAX_NAMES,
    Backfill,
    asked,
    changes,
    known,
    recipe_of,
    recipe_of_fit,
    recipe_of_search,
    told,
    with_recipe,
)


def settings(**model: object) -> Settings:
    whole = {"stream": "s", "task": "binary", "pipeline": "logistic", **model}
    return parse({"streams": {"s": {}}, "models": {"m": whole}}, {})


def test_a_recipe_is_what_makes_the_estimator() -> None:
    model = settings(params={"l2": 0.1}).models["m"]
    assert recipe_of(model) == {"pipeline": "logistic", "params": {"l2": 0.1}, "seed": 42}
    assert recipe_of(model.model_dump(mode="json")) == recipe_of(model)
    assert recipe_of(settings(params={"l2": 0.1}, trial={"alpha": 0.1}, start="latest").models["m"]) == recipe_of(model)


def test_of_a_recommender_what_its_state_depends_on_makes_it_too() -> None:
    model = settings(task="recommend", recommend={"factors": 8}).models["m"]
    recipe = recipe_of(model)
    assert recipe["recommend.factors"] == 8
    assert "recommend.epsilon" not in recipe
    assert recipe_of(model.model_dump(mode="json")) == recipe_of(recipe) == recipe
    other = settings(task="recommend", seed=7, recommend={"actions": {"play": 1.0}, "epsilon": 0.5}).models["m"]
    assert changes(recipe, recipe_of(other)) == ["seed", "recommend.actions", "recommend.factors"]
    made = with_recipe(other, recipe)
    assert (made.recommend.factors, made.recommend.actions, made.recommend.epsilon) == (8, model.recommend.actions, 0.5)
    assert changes(recipe, recipe_of(made)) == []


def test_a_fit_that_goes_on_from_a_version_is_made_of_what_that_one_was() -> None:
    known = {1: {"pipeline": "a"}, 2: {"pipeline": "b"}}
    fit = {"settings": {"pipeline": "c", "params": {}, "seed": 1, "task": "binary"}}
    assert recipe_of_fit({"fit": fit}, known) == {"pipeline": "c", "params": {}, "seed": 1}
    assert recipe_of_fit({"fit": fit, "bases": {"0": {"kind": "version", "id": 2}}}, known) == known[2]
    assert recipe_of_fit({"fit": fit, "bases": {"0": {"kind": "checkpoint", "id": 2, "version": 1}}}, known) == known[1]
    assert recipe_of_fit({"fit": fit, "bases": {"0": {"kind": "version", "id": 9}}}, known) == {}


def test_a_searched_version_is_made_of_what_was_found_and_answers_what_the_file_said() -> None:
    wanted, found = recipe_of(settings().models["m"]), {"pipeline": "naive_bayes", "params": {}, "seed": 42}
    made = recipe_of_search({"search": {"recipe": found, "report": {}}}, wanted)
    assert made == {**found, "asked": wanted}
    assert (asked(made), asked(wanted)) == (wanted, wanted)
    assert recipe_of_search({}, made) == made
    assert recipe_of(made) == found
    assert recipe_of_fit({"fit": {"settings": found}, "asked": wanted}, {}) == made
    assert recipe_of_search({"search": {"recipe": wanted}}, made)["asked"] == wanted
    assert recipe_of_fit({"fit": {}, "bases": {"0": {"kind": "version", "id": 2}}}, {2: made}) == made


def test_what_differs_is_named_and_what_is_not_told_is_the_same() -> None:
    one = recipe_of(settings().models["m"])
    assert changes(one, one) == []
    assert changes(one, {**one, "seed": 1, "pipeline": "softmax"}) == ["pipeline", "seed"]
    assert changes({"pipeline": "logistic"}, {**one, "seed": 1}) == []


@pytest.mark.parametrize(
    ("past", "text"),
    [
        (Backfill(0, 285_000, 120_000, rate=900.0), "backfill 42 % (120,000 of 285,000 records, about 3 min)"),
        (Backfill(100, 300, 200), "backfill 50 % (100 of 200 records)"),
        (Backfill(0, 100, 99, "rebuild", 10.0), "rebuild by replay 99 % (99 of 100 records, less than a minute)"),
        (Backfill(0, 10**8, 0, rate=1000.0), "backfill 0 % (0 of 100,000,000 records, about 28 h)"),
        (Backfill(0, 100, 100), None),
    ],
)
def test_a_backfill_in_words(past: Backfill, text: str | None) -> None:
    assert told([past]) == text


def test_several_shards_are_added_up() -> None:
    shards = [Backfill(0, 100, 100), Backfill(0, 100, 50, rate=1.0), Backfill(0, 300, 50, rate=1.0)]
    assert told(shards) == "backfill 25 % (100 of 400 records, about 4 min)"
    assert told([]) is None


@pytest.mark.parametrize("text", ["earliest", "latest", "2026-01-31T12:00:00Z", "2026-01-31"])
def test_a_start_is_a_word_or_a_time(text: str) -> None:
    assert settings(start=text).models["m"].start == text


@pytest.mark.parametrize(
    ("written", "kept"), [("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"), ("2026-01-31", "2026-01-31")]
)
def test_a_start_may_be_a_time_of_toml(written: str, kept: str) -> None:
    environ = {"STREAMLEARN_MODELS__M__START": written}
    tree = {"streams": {"s": {}}, "models": {"m": {"stream": "s", "task": "binary", "pipeline": "logistic"}}}
    assert parse(tree, environ).models["m"].start == kept


@pytest.mark.parametrize(("start", "problem"), [("soon", "'soon' is no place to begin"), (5, "5 is not a text")])
def test_another_start_is_refused_with_its_fix(start: object, problem: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        settings(start=start)
    [error] = caught.value.errors
    assert error.key == "models.m.start"
    assert problem in str(error)


@given(st.dictionaries(st.text(max_size=9), st.sampled_from(["number", "string"])), st.integers(0, 50))
def test_of_features_names_and_number_are_kept(types: dict[str, str], in_all: int) -> None:
    told = known(types, in_all)
    assert list(told["types"].items()) == sorted(types.items())
    assert told["features"] == max(len(types), in_all)


@pytest.mark.parametrize(("letters", "kept"), [(4, MAX_NAMES), (1000, MAX_LETTERS // 1000), (30_000, 0)])
def test_of_many_features_or_long_names_the_first_are_kept(letters: int, kept: int) -> None:
    names = [f"{n:04}".ljust(letters, "x") for n in range(1000)]
    told = known(dict.fromkeys(reversed(names), "number"))
    assert list(told["types"]) == names[:kept]
    assert told["features"] == 1000
