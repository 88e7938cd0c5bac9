"""A recommender as a model: what entries and lessons come to in its own terms, what it is asked, and how it is kept."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from shop_bench import catalogue, shop, visits

from streamlearn.config import ModelSettings
from streamlearn.errors import EventError, ModelError
from streamlearn.events import Limits
from streamlearn.learning import pickling
from streamlearn.learning.digest import digest
from streamlearn.learning.model import Model
from streamlearn.learning.recommending import RecommendModel, make_model, recommender
from streamlearn.learning.summary import known_features, summarize
from streamlearn.learning.waiting import Impression, Slot
from streamlearn.recommend.state import Ask

LIMITS = Limits(max_features=3, max_string=10)


def settings(pipeline: str = "mlp", **recommend: Any) -> ModelSettings:
    return ModelSettings(stream="s", task="recommend", pipeline=pipeline, recommend={"factors": 4, **recommend})


def made(pipeline: str = "mlp", **recommend: Any) -> RecommendModel:
    return recommender(make_model(settings(pipeline, **recommend), LIMITS))


def wanted(item: str, user: str | None = "u", weight: float = 1.0, organic: bool = True, ts: float = 1.0) -> dict[str, Any]:
    return {
        "user": user, "item": item, "action": "click", "weight": weight, "ts": ts, "context": {}, "organic": organic
    }  # fmt: skip


def slate(*items: str, earned: tuple[float, ...] = (), f: bytes | None = None) -> Impression:
    slots = [Slot(item, place, None, None, f) for place, item in enumerate(items, 1)]
    return Impression("i", "u", slots, {}, 2.0, 0, 1, list(earned or [0.0] * len(items)))


def stocked(pipeline: str = "mlp", **recommend: Any) -> RecommendModel:
    """Ten items, "a" the most popular; the user "u" has seen none of them."""
    model = made(pipeline, **recommend)
    for index, item in enumerate("abcdefghij"):
        for user in range(10 - index):
            model.learn(wanted(item, f"u{user}"), 1)
    return model


def test_the_task_chooses_the_model() -> None:
    assert isinstance(make_model(settings(), LIMITS), RecommendModel)
    assert isinstance(make_model(ModelSettings(stream="s", task="binary", pipeline="logistic"), LIMITS), Model)
    with pytest.raises(ModelError):
        make_model(settings("nothing:here"), LIMITS)


def test_it_ranks_what_was_wanted_and_so_do_the_baselines() -> None:
    model = stocked()
    before = digest(model.estimator.state.tables)
    rank, ranks = model.predict(wanted("a"))
    assert rank is not None
    assert 1 <= rank <= 10
    assert ranks[1] == 1  # the most popular one
    assert model.predict(wanted("j"))[1][1] == 10
    assert model.predict(wanted("never met")) == (0, (0, 0))
    assert digest(model.estimator.state.tables) == before


def test_what_is_not_shown_again_is_not_ranked() -> None:
    model = stocked()
    assert model.predict(wanted("a", "u0")) == (None, None)
    assert stocked(seen=False).predict(wanted("a", "u0"))[0] is not None


def test_each_so_manieth_is_ranked() -> None:
    model = stocked(rank_every=3)
    ranked = [model.predict(wanted("a"))[0] is not None for _ in range(6)]
    assert ranked == [False, False, True] * 2
    kept = pickle.loads(pickling.dumps(model))
    kept.bound(LIMITS, settings(rank_every=3))
    assert [kept.predict(wanted("a"))[0] is not None for _ in range(3)] == [False, False, True]


def test_a_slate_teaches_the_ranking_when_it_is_over() -> None:
    model = stocked()
    ranker = digest(model.estimator.ranker)
    one = slate("a", "b")
    model.teach("opened", one)
    assert digest(model.estimator.ranker) == ranker
    assert all(slot.f is not None and len(slot.f) == 4 * len(model.estimator.feature_names) for slot in one.slots)
    one.earned = [0.0, 5.0]
    model.teach("shown", one)
    assert digest(model.estimator.ranker) != ranker


def test_at_once_a_slate_teaches_when_it_is_shown_and_clicked_and_never_again() -> None:
    model = stocked(labels="at_once")
    digests = [digest(model.estimator)]
    one = slate("a", "b")
    for kind, given in (("opened", one), ("clicked", (one, 1, 5.0)), ("shown", one)):
        model.teach(kind, given)
        digests.append(digest(model.estimator))
    assert digests[0] != digests[1] != digests[2]
    assert digests[2] == digests[3]


@pytest.mark.parametrize("pipeline", ["mlp", "logistic"])
def test_what_was_served_is_what_is_learned(pipeline: str) -> None:
    model, other = stocked(pipeline), stocked(pipeline)
    for one in (model, other):
        for user in range(5):
            one.learn(wanted("c", f"v{user}"), 1)
    size = len(model.estimator.feature_names)
    for one, served in ((model, b"\0\0\0\0" * size), (other, b"\0\0\x80?" * size)):
        for earned in (5.0, 0.0):
            one.teach("shown", slate("a", earned=(earned,), f=served))
    assert digest(model.estimator.ranker) != digest(other.estimator.ranker)


def test_records_are_facts() -> None:
    model = stocked()

    def answered() -> set[str]:
        return {one.item for one in model.estimator.recommend(Ask("u", 2.0, {}, 10), random.Random(1)).items}

    assert answered() == set("abcdefghij")
    model.teach("item", {"name": "a", "action": "$delete", "x": {}, "ts": 2.0})
    model.teach("item", {"name": "b", "action": "$set", "x": {"available": False}, "ts": 2.0})
    model.teach("item", {"name": "new", "action": "$set", "x": {"genre": "x"}, "ts": 2.0})
    assert answered() == {*"cdefghij", "new"}
    model.teach("user", {"name": "u", "action": "$set", "x": {"plan": "free"}, "ts": 2.0})
    users = model.counts()["users"]
    model.teach("user", {"name": "u", "action": "$delete", "x": {}, "ts": 2.0})
    assert model.counts()["users"] == users - 1


def test_a_new_version_adopts_the_facts_of_the_former() -> None:
    former, fresh = stocked(), stocked()
    former.teach("item", {"name": "a", "action": "$set", "x": {"available": False, "genre": "x"}, "ts": 2.0})
    fresh.adopt(former)
    assert fresh.estimator.state.fields_of("a")["genre"] == "x"
    assert "a" not in {one.item for one in fresh.estimator.recommend(Ask("u", 2.0, {}, 10), random.Random(1)).items}


def test_what_it_is_asked_by_may_change_and_what_it_has_learned_by_may_not() -> None:
    model = stocked()
    model.bound(LIMITS, settings(factors=32, seen=False, explore="none", half_life_s=1.0))
    ours = model.estimator.settings
    assert (ours.factors, ours.seen, ours.explore, ours.half_life_s) == (4, False, "none", settings().recommend.half_life_s)
    assert "a" in {one.item for one in model.estimator.recommend(Ask("u0", 2.0, {}, 10), random.Random(1)).items}


def test_a_context_is_held_to_the_limits() -> None:
    model = made()
    x = {"page": "home", "n": None, "b": True}
    assert model.check(x) == (x, {})
    for wrong, reason in (
        ({f"f{n}": 1 for n in range(4)}, "too_many_features"), ({"page": "x" * 11}, "too_long"), ({"x" * 11: 1}, "too_long"),
        ({"n": float("nan")}, "not_finite"), ({"n": 2**63}, "out_of_range"),
    ):  # fmt: skip
        with pytest.raises(EventError) as caught:
            model.check(wrong)
        assert caught.value.reason == reason


def test_it_answers_no_features() -> None:
    with pytest.raises(EventError, match="/v1/recommend"):
        made().answer({"a": 1})


def test_a_kept_one_goes_on_the_same() -> None:
    stage = shop()
    catalogue(stage)
    visits(stage, 40)
    model = stage.learn().champion
    kept = pickle.loads(pickling.dumps(model))
    kept.bound(LIMITS, stage.settings.models["m"])
    assert digest(kept.estimator) == digest(model.estimator)
    for one in (model, kept):
        one.learn(wanted("i1", ts=1.7e9 + 500.0), 1)
    assert digest(kept.estimator) == digest(model.estimator)


@pytest.mark.parametrize("pipeline", ["mlp", "logistic"])
def test_people_may_look_at_it(pipeline: str) -> None:
    """A network's weights belong to no single feature, so none are told."""
    model = stocked(pipeline)
    told = summarize(model)
    assert told["estimator"] == "Recommender"
    assert known_features(model) == {"features": 0, "types": {}}
    assert {"items", "users"} <= set(told)
    assert bool(told.get("weights")) == (pipeline == "logistic")
