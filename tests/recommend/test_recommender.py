"""The recommender as a whole: what it learns, what it answers, and that it never has nothing to say."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.config_recommend import SOURCES, RecommendSettings
from streamlearn.errors import ModelError
from streamlearn.recommend.recommender import Recommender
from streamlearn.recommend.rules import matches
from streamlearn.recommend.state import Ask, Interaction

ACTIONS = {"click": 1.0, "buy": 5.0, "dislike": -1.0}
T0 = 1_700_000_000.0


@dataclass
class Shown:
    item: str
    position: int = 0
    f: list[float] | None = None


def make(pipeline: str = "mlp", **changed: Any) -> Recommender:
    return Recommender(RecommendSettings(**{"actions": ACTIONS, "explore": "none", **changed}), 7, pipeline)


def click(user: str | None, item: str, ts: float, action: str = "click") -> Interaction:
    return Interaction(user, item, action, ACTIONS[action], T0 + ts)


def two_tastes(recommender: Recommender, events: int = 600, seed: int = 1) -> list[int]:
    """Users of two kinds, each clicking what its kind likes; the ranks at which it was expected."""
    draw, ranks = random.Random(seed), []
    for item in range(40):
        recommender.set_item(f"i{item}", {"kind": "even" if item % 2 == 0 else "odd", "price": item}, T0)
    for at in range(events):
        user = draw.randrange(30)
        i = click(f"u{user}", f"i{2 * draw.randrange(20) + user % 2}", float(60 * at))
        ranks.append(recommender.rank(i))
        recommender.learn(i)
    return ranks


def make_learned(**changed: Any) -> Recommender:
    recommender = make(history=10, last_items=10, **changed)
    two_tastes(recommender, 300)
    return recommender


@pytest.fixture(scope="module")
def learned() -> Recommender:
    recommender = make(history=10, last_items=10)
    two_tastes(recommender)
    return recommender


def asked(recommender: Recommender, user: str | None = "u1", **changed: Any) -> list[str]:
    return [one.item for one in recommender.recommend(Ask(user, T0 + 1e5, **changed), random.Random(1)).items]


def test_it_learns_the_two_tastes(learned: Recommender) -> None:
    for user, kind in (("u0", 0), ("u1", 1)):
        slate = asked(learned, user)
        assert len(slate) == len(set(slate)) == 10
        assert sum(int(item[1:]) % 2 == kind for item in slate) >= 8


def test_a_rank_is_the_place_on_the_slate_without_chance() -> None:
    recommender = make(history=10, last_items=10)
    two_tastes(recommender, 200)
    answer = recommender.recommend(Ask("u3", T0 + 1e5, k=40), random.Random(0)).items
    for chosen in answer:
        if chosen.source in SOURCES:
            assert recommender.rank(Interaction("u3", chosen.item, "click", 1.0, T0 + 1e5)) == chosen.position


def test_a_rank_looks_at_nothing_that_is_to_be_learned(learned: Recommender) -> None:
    before = learned.__fingerprint__()
    i = click("u2", "i4", 1e5)
    assert learned.rank(i) == learned.rank(i._replace(action="buy", weight=5.0)) > 0
    assert learned.rank(click("u2", "nobody knows this", 1e5)) == 0
    assert learned.__fingerprint__() == before


def test_what_was_seen_is_not_among_the_ranked_unless_it_may_come_again() -> None:
    for seen in (True, False):
        recommender = make(seen=seen)
        for at, user in enumerate("abc"):
            for item in ("x", "y", "z"):
                recommender.learn(click(user, item, float(at)))
        recommender.learn(click("d", "x", 9.0))
        assert (recommender.rank(click("d", "x", 10.0)) > 0) is not seen


def test_equal_records_make_equal_recommenders_and_a_pickle_goes_on_alike() -> None:
    one, other = make(), make()
    assert two_tastes(one, 150) == two_tastes(other, 150)
    assert one.__fingerprint__() == other.__fingerprint__()
    third = pickle.loads(pickle.dumps(one))
    assert third.__fingerprint__() == one.__fingerprint__()
    for recommender in (one, third):
        recommender.learn(click("u1", "i9", 1e5))
    assert third.__fingerprint__() == one.__fingerprint__() != other.__fingerprint__()
    assert asked(third) == asked(one)


def test_learning_without_ranking_first_is_the_same() -> None:
    ranked, not_ranked = make(), make()
    two_tastes(ranked, 100)
    draw = random.Random(1)
    for item in range(40):
        not_ranked.set_item(f"i{item}", {"kind": "even" if item % 2 == 0 else "odd", "price": item}, T0)
    for at in range(100):
        user = draw.randrange(30)
        not_ranked.learn(click(f"u{user}", f"i{2 * draw.randrange(20) + user % 2}", float(60 * at)))
    assert not_ranked.__fingerprint__() == ranked.__fingerprint__()


@pytest.mark.parametrize("pipeline", ["mlp", "logistic"])
def test_the_outcome_of_a_slate_teaches_the_sources_and_a_listwise_ranker_alone(pipeline: str) -> None:
    """The others learn it when the slate is over."""
    recommender = make(pipeline)
    two_tastes(recommender, 300)
    ranker, all_ = recommender.ranker.__fingerprint__(), recommender.__fingerprint__()
    recommender.learn(click("u1", "i3", 1e5), organic=False)
    assert (recommender.ranker.__fingerprint__() != ranker) == (pipeline == "mlp")
    assert recommender.__fingerprint__() != all_
    ranker = recommender.ranker.__fingerprint__()
    recommender.learn(click("u1", "i5", 1e5, "dislike"))
    assert recommender.ranker.__fingerprint__() != ranker


def test_what_a_slate_earned_moves_the_scores_and_not_the_order() -> None:
    recommender = make()
    two_tastes(recommender, 300)

    def answered() -> tuple[list[str], float]:
        items = recommender.recommend(Ask("u1", T0 + 1e5, k=20), random.Random(1)).items
        return [one.item for one in items], items[0].score

    order, score = answered()
    items = recommender.recommend(Ask("u2", T0 + 1e5, k=5), random.Random(1)).items
    shown = [Shown(one.item, one.position, one.f) for one in items]
    state = pickle.dumps(recommender.state)
    for _ in range(50):
        recommender.learn_shown("u2", {}, T0 + 1e5, shown, [0.0] * 5)
    recommender.state = pickle.loads(state)  # but for what was counted of the items, by which they are ranked
    after, less = answered()
    assert after == order
    assert less < score


@pytest.mark.parametrize("pipeline", ["mlp", "logistic"])
def test_what_is_clicked_when_it_is_shown_comes_first(pipeline: str) -> None:
    recommender = make(pipeline, explore="none", seen=False)
    draw = random.Random(2)
    for item in range(12):
        recommender.set_item(f"i{item}", {"kind": "good" if item < 3 else "bad"}, T0)
        recommender.learn(click("first", f"i{item}", 0.0))
    for at in range(150):
        slate = recommender.recommend(Ask(None, T0 + 60 * at, k=12), draw).items
        shown = [Shown(one.item, one.position, one.f) for one in slate]
        draw.shuffle(shown)
        for one in slate:
            if int(one.item[1:]) < 3:
                recommender.learn(click(None, one.item, 60 * at), organic=False)
        recommender.learn_shown(None, {}, T0 + 60 * at, shown, [1.0 if int(one.item[1:]) < 3 else 0.0 for one in shown])
    assert set(asked(recommender, None, k=3)) == {"i0", "i1", "i2"}
    scores = {one.item: one.score for one in recommender.recommend(Ask(None, T0 + 1e4, k=12), draw).items}
    assert scores["i0"] > 0.1 > scores["i11"]  # a click is worth a fifth of the largest reward
    rates = recommender.state.items
    assert rates["shown"][recommender.state.item_ids.row_of("i0")] == 150


def test_an_impression_of_others_is_learned_by_the_features_of_its_time() -> None:
    recommender = make()
    two_tastes(recommender, 50)
    rows = recommender.features_of("u1", {}, T0 + 4000, ["i1", "nobody knows this", "i2"])
    assert rows[1] is None
    assert [len(row or ()) for row in rows] == [len(recommender.feature_names), 0, len(recommender.feature_names)]
    other = pickle.loads(pickle.dumps(recommender))
    recommender.learn_shown("u1", {}, T0 + 4000, [Shown("i1"), Shown("i2")], [1.0, 0.0])
    other.learn_shown("u1", {}, T0 + 4000, [Shown("i1", 1, rows[0]), Shown("i2", 2, rows[2])], [1.0, 0.0])
    assert recommender.__fingerprint__() == other.__fingerprint__()


def test_labels_at_once_are_mended_by_the_click() -> None:
    recommender = make(labels="at_once", actions={"click": 1.0})
    recommender.set_item("x", {}, T0)
    before = recommender.recommend(Ask(None, T0), random.Random(1)).items[0].score
    scores = []
    for at in range(600):
        slate = recommender.recommend(Ask(None, T0 + at, k=1), random.Random(1)).items
        scores.append(slate[0].score)
        shown = [Shown(one.item, one.position, one.f) for one in slate]
        recommender.learn_emitted(None, {}, T0 + at, shown)
        if at % 4 == 0:
            recommender.learn_clicked(None, {}, T0 + at, shown[0], 1.0)
    assert before == pytest.approx(0.5)
    assert sum(scores[400:]) / 200 == pytest.approx(0.25, abs=0.05)
    row = recommender.state.item_ids.row_of("x")
    assert (recommender.state.items["shown"][row], recommender.state.items["reward"][row]) == (600, 150)


# What is answered


def test_filters_lists_and_candidates_of_one_s_own(learned: Recommender) -> None:
    assert set(asked(learned, where={"kind": "even"})) <= {f"i{item}" for item in range(0, 40, 2)}
    assert set(asked(learned, where={"price": [3, 4]}, seen=False)) == {"i3", "i4"}
    first = asked(learned)[0]
    assert first not in asked(learned, deny=frozenset({first}))
    assert set(asked(learned, allow=frozenset({"i1", "i2", "no such"}), seen=False)) == {"i1", "i2"}
    own = learned.rank_own(Ask("u1", T0 + 1e5, items=("i2", "no such", "i1"), seen=False), random.Random(1))
    assert {one.item for one in own.items} == {"i1", "i2"}
    assert own.unknown == ("no such",)


def test_nothing_that_is_seen_unavailable_or_deleted_is_shown() -> None:
    recommender = make()
    two_tastes(recommender, 200)
    everything = set(asked(recommender, k=100, seen=False))
    assert len(everything) == 40
    assert set(asked(recommender, k=100)) == everything - set(seen_by(recommender, "u1"))
    recommender.set_item("i1", {"available": False}, T0 + 1e5)
    recommender.delete_item("i3")
    assert everything - set(asked(recommender, k=100, seen=False)) == {"i1", "i3"}
    recommender.set_item("i1", {"available": True}, T0 + 1e5)
    assert "i1" in asked(recommender, k=100, seen=False)


def test_caps_and_diversity_hold_on_every_slate() -> None:
    recommender = make(cap_field="kind", cap=3, explore="epsilon", epsilon=0.5)
    two_tastes(recommender, 200)
    for seed in range(10):
        slate = recommender.recommend(Ask("u1", T0 + 1e5), random.Random(seed)).items
        kinds = [int(one.item[1:]) % 2 for one in slate]
        assert kinds.count(0) == kinds.count(1) == 3
    diverse = make_learned(diversity=0.7)
    alike, mixed = (asked(one, k=8) for one in (make_learned(diversity=0.0), diverse))
    assert [int(item[1:]) % 2 for item in mixed[:2]] == [1, 0]
    assert [int(item[1:]) % 2 for item in alike[:2]] == [1, 1]


def test_explain_names_the_parts_of_the_score(learned: Recommender) -> None:
    answer = learned.recommend(Ask("u1", T0 + 1e5, explain=True), random.Random(1)).items
    for one in answer:
        assert one.why
        assert [abs(part) for _, part in one.why] == sorted((abs(part) for _, part in one.why), reverse=True)
        assert not {name for name, _ in one.why} & {"shown", "user.count", "context.hour_sin"}
        assert one.source in SOURCES
    assert learned.recommend(Ask("u1", T0 + 1e5), random.Random(1)).items[0].why is None


@pytest.mark.parametrize("explore", ["epsilon", "thompson"])
def test_propensities_are_how_often_an_item_stands_there(learned: Recommender, explore: str) -> None:
    recommender = pickle.loads(pickle.dumps(learned))
    recommender.settings = recommender.settings.model_copy(update={"explore": explore, "epsilon": 0.3})
    draw, draws = random.Random(11), 400
    ask = Ask("u1", T0 + 1e5, k=3)
    told: dict[tuple[str, int], float] = {}
    times: dict[tuple[str, int], int] = {}
    for _ in range(draws):
        for one in recommender.recommend(ask, draw).items:
            told[one.item, one.position] = one.propensity
            times[one.item, one.position] = times.get((one.item, one.position), 0) + 1
    for place, chance in told.items():
        error = np.sqrt(chance * (1 - chance) / draws)
        assert abs(times[place] / draws - chance) < 5 * error + 2 / draws, place


def test_an_unknown_user_and_nobody_are_answered_alike(learned: Recommender) -> None:
    assert asked(learned, "nobody knows them") == asked(learned, None) != []


def test_a_slate_is_filled_up_from_what_is_popular_then_recent_then_there_at_all() -> None:
    recommender = make(quotas=dict.fromkeys(SOURCES, 0) | {"recent": 1})
    for item in ("new1", "new2", "out"):
        recommender.set_item(item, {"available": item != "out"}, T0)
    for at, item in enumerate(["hot", "hot", "warm", "hot", "warm", "last"]):
        recommender.learn(click(f"u{at}", item, float(at)))
    slate = recommender.recommend(Ask(None, T0 + 10), random.Random(1))
    assert {one.item for one in slate.items} == {"hot", "warm", "last", "new1", "new2"}
    assert slate.items[0].source == "recent"
    assert [one.source for one in slate.items[-2:]] == ["available", "available"]
    assert slate.fallback == "popular"


def test_what_was_seen_comes_again_when_nothing_else_is_left() -> None:
    recommender = make()
    for at, item in enumerate("abc"):
        recommender.learn(click("u", item, float(at)))
    slate = recommender.recommend(Ask("u", T0 + 10), random.Random(1))
    assert {one.item for one in slate.items} == {"a", "b", "c"}
    assert slate.fallback == "seen"
    assert recommender.recommend(Ask("u", T0 + 10, deny=frozenset("abc")), random.Random(1)).items == []
    assert make().recommend(Ask("u", T0), random.Random(1)).items == []


def test_similar_items_and_factors_are_the_state_s(learned: Recommender) -> None:
    assert all(int(item[1:]) % 2 == 1 for item, _ in learned.similar("i1", 5))
    rows, vectors = learned.factors()
    assert vectors.shape == (len(rows), learned.settings.factors) == (40, 64)
    assert learned.counts()["items"] == 40


def test_a_successor_adopts_facts_and_histories(learned: Recommender) -> None:
    fresh = make(history=10, last_items=10)
    fresh.adopt(learned)
    assert fresh.state.fields_of("i4") == {"kind": "even", "price": 4}
    assert not set(asked(fresh, "u1")) & set(seen_by(learned, "u1"))
    assert fresh.ranker.__fingerprint__() == make().ranker.__fingerprint__()


def seen_by(recommender: Recommender, user: str) -> list[str]:
    rows = recommender.state.item_ids.rows(recommender.state.seen(user))
    return [recommender.state.item_ids.id_of(int(row)) for row in rows if row >= 0]


def test_a_pipeline_that_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match="write mlp or logistic"):
        Recommender(RecommendSettings(), 1, "forest")


steps = st.lists(
    st.tuples(
        st.sampled_from(["click", "buy", "dislike", "set", "hide", "delete"]),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from(["w", "x", "y", "z"]),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(
    steps,
    st.sampled_from([None, "a", "c"]),
    st.sampled_from([{}, {"kind": "w"}, {"kind": ["x", "y"]}, {"kind": "none"}]),
    st.sets(st.sampled_from(["w", "x"])),
    st.one_of(st.none(), st.sets(st.sampled_from(["w", "y", "gone"]))),
    st.sampled_from(["none", "epsilon", "thompson"]),
    st.booleans(),
    st.integers(1, 5),
)
def test_a_slate_is_never_empty_while_an_item_that_may_be_shown_exists(
    taken: list[tuple[str, str | None, str]],
    user: str | None,
    where: dict[str, Any],
    deny: set[str],
    allow: set[str] | None,
    explore: str,
    ruled: bool,
    k: int,
) -> None:
    rules = {"cap_field": "kind", "cap": 1, "diversity": 0.5} if ruled else {}
    recommender = make(explore=explore, epsilon=0.5, **rules)
    may: dict[str, bool] = {}
    for at, (action, who, item) in enumerate(taken):
        if action == "set":
            recommender.set_item(item, {"kind": item, "available": True}, T0 + at)
            may[item] = True
        elif action == "hide":
            recommender.set_item(item, {"available": False}, T0 + at)
            may[item] = False
        elif action == "delete":
            recommender.delete_item(item)
            if item in may:
                may[item] = False
        else:
            recommender.learn(click(who, item, float(at), action))
            may.setdefault(item, True)
    ask = Ask(user, T0 + 100, k=k, where=where, deny=frozenset(deny), allow=None if allow is None else frozenset(allow))
    slate = recommender.recommend(ask, random.Random(1)).items

    def fits(item: str) -> bool:
        wanted = where.get("kind")
        kind = recommender.state.fields_of(item).get("kind")
        by_field = wanted is None or kind in (wanted if isinstance(wanted, list) else [wanted])
        return may[item] and item not in deny and (allow is None or item in allow) and by_field

    shown = [one.item for one in slate]
    assert len(set(shown)) == len(shown) <= k
    assert all(fits(item) for item in shown)
    assert bool(shown) == any(fits(item) for item in may)
    assert all(0 < one.propensity <= 1 + 1e-9 for one in slate)


values = st.sampled_from(["x", "y", "x|y", 1, 2, True])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.dictionaries(st.sampled_from(["kind", "size"]), values, max_size=2), st.booleans()), max_size=30),
    st.dictionaries(st.sampled_from(["kind", "size"]), st.one_of(values, st.lists(values, max_size=2)), min_size=1, max_size=2),
    st.integers(1, 12),
)
def test_a_filtered_slate_is_as_full_as_a_plain_walk_over_all_items_makes_it(
    items: list[tuple[dict[str, Any], bool]], where: dict[str, Any], k: int
) -> None:
    recommender = make(quotas=dict.fromkeys(SOURCES, 1), history=1, last_items=1)
    for at, (fields, liked) in enumerate(items):
        recommender.set_item(f"i{at}", fields, T0 + at)
        if liked:
            recommender.learn(click(f"u{at}", f"i{at}", float(at)))
    walked = {f"i{at}" for at, (fields, _) in enumerate(items) if matches(fields, where, "|")}
    slate = asked(recommender, None, where=where, k=k)
    assert set(slate) <= walked
    assert len(slate) == min(k, len(walked))


def test_the_list_of_a_ranking_has_the_item_where_its_rank_says() -> None:
    """By the ranker, and by what is recent and popular among the same candidates."""
    recommender = make_learned(seen=False)
    state = recommender.state
    assert recommender.listed(5) == [], "nothing was ranked since it learned"
    found = 0
    for at in range(40):
        i = click(f"u{at % 30}", f"i{at}", 90_000.0 + at)
        rank = recommender.rank(i)
        ranks = (rank, *recommender.baseline_ranks())
        for source, place in zip((None, "recent", "popular"), ranks, strict=True):
            rows = recommender.listed(40, source)
            assert len(set(rows)) == len(rows) <= 40
            assert recommender.listed(3, source) == rows[:3]
            row = state.item_ids.row_of(i.item)
            assert (row in rows) is (place > 0)
            if source is None and place:
                assert rows[place - 1] == row
                found += 1
            elif place:
                assert rows.index(row) >= place - 1, "equal ones share the best place"
    assert found > 20
