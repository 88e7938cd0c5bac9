"""Leanings: how the moving mean follows, what it is kept in, and that serving and learning see the same one."""

from __future__ import annotations

import pickle
import random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend.features import LEANS
from streamlearn.recommend.leanings import Leanings, columns
from streamlearn.recommend.linear import CLIP
from streamlearn.recommend.recommender import Recommender
from streamlearn.recommend.state import COUNTERS, Ask, Interaction
from streamlearn.recommend.tables import Table

T0 = 1_000_000_000.0


class Shown(NamedTuple):
    item: str
    position: int
    f: list[float] | None


def one_user() -> tuple[Table, Leanings]:
    users = Table({**COUNTERS, **columns(3)})
    users.append()
    return users, Leanings(users)


def test_a_leaning_begins_at_nothing_and_follows_what_is_liked_ever_slower_down_to_a_pace() -> None:
    users, leanings = one_user()
    liked = np.array([1.0, -2.0, 0.5])
    expected = np.zeros(3)
    assert not leanings.of(0).any()
    for n in range(1, 12):
        users.cells["liked"][0] = n
        leanings.learn(0, liked * n, 1.0)
        expected += max(0.2, 1 / (n + 1)) * (np.clip(liked * n, -CLIP, CLIP) - expected)
        assert leanings.of(0) == pytest.approx(expected, rel=2e-3, abs=2e-3)
    users.cells["liked"][0] = 1
    before = leanings.of(0)
    leanings.learn(0, np.zeros(3), 0.5)
    assert leanings.of(0) == pytest.approx(0.75 * before, rel=2e-3)
    assert not leanings.of(-1).any()


def test_it_takes_two_bytes_for_each_and_is_told_as_changed() -> None:
    users, leanings = one_user()
    assert users["leans"].nbytes == 6
    assert columns(0) == {}
    users.changed("reader")
    leanings.learn(0, np.ones(3), 1.0)
    assert users.changed("reader").tolist() == [0]


@given(st.lists(st.tuples(st.lists(st.floats(allow_nan=False), min_size=3, max_size=3), st.floats(0, 1)), max_size=20))
def test_it_stays_finite(liked: list[tuple[list[float], float]]) -> None:
    users, leanings = one_user()
    for n, (scaled, weight) in enumerate(liked):
        users.cells["liked"][0] = n
        leanings.learn(0, np.array(scaled), weight)
        assert np.abs(leanings.of(0)).max() <= CLIP


def make(pipeline: str = "mlp", **changed: Any) -> Recommender:
    settings = RecommendSettings(**{"actions": {"click": 1.0, "view": 0.5}, "explore": "none", "factors": 4, **changed})
    recommender = Recommender(settings, 7, pipeline)
    for n in range(60):
        recommender.learn(Interaction(f"u{n % 7}", f"i{n * 7 % 20}", "click", 1.0, T0 + n))
    return recommender


def leaning(recommender: Recommender, user: str) -> np.ndarray:
    return recommender.state.leanings.of(recommender.state.user_row(user))


def served(recommender: Recommender, user: str, ts: float) -> dict[str, float]:
    first = recommender.recommend(Ask(user, ts), random.Random(1)).items[0]
    return dict(zip(recommender.feature_names, first.f, strict=True))


def test_what_is_liked_moves_the_user_s_leaning_and_the_next_answer_has_it() -> None:
    recommender = make()
    event = Interaction("u1", "i2", "click", 1.0, T0 + 100)
    before, other = leaning(recommender, "u1"), leaning(recommender, "u2")
    assert recommender.rank(event) > 0
    recommender.learn(event)
    after = leaning(recommender, "u1")
    assert (after != before).any()
    assert (leaning(recommender, "u2") == other).all()
    names = [name for name in recommender.feature_names if name.startswith(LEANS)]
    assert {"user.leans_covisit", "user.leans_count"} <= set(names)
    f = served(recommender, "u1", T0 + 101)
    assert [f[name] for name in names] == pytest.approx(after.tolist())
    assert not any(served(recommender, "nobody yet", T0 + 101)[name] for name in names)


def test_what_is_not_a_candidate_or_is_disliked_moves_nothing() -> None:
    recommender = make()
    before = leaning(recommender, "u1")
    recommender.learn(Interaction("u1", "never met", "click", 1.0, T0 + 100))
    recommender.learn(Interaction("u1", "i3", "click", -1.0, T0 + 101))
    assert (leaning(recommender, "u1") == before).all()


def test_what_was_taken_from_a_slate_moves_it_once() -> None:
    """When it is taken; not again when the slate is over."""
    recommender = make()
    items = recommender.recommend(Ask("u1", T0 + 100, k=3), random.Random(1)).items
    before = leaning(recommender, "u1")
    recommender.learn(Interaction("u1", items[1].item, "click", 1.0, T0 + 101), organic=False)
    after = leaning(recommender, "u1")
    assert (after != before).any()
    recommender.learn_shown("u1", {}, T0 + 100, [Shown(one.item, one.position, one.f) for one in items], [0.0, 1.0, 0.0])
    assert (leaning(recommender, "u1") == after).all()


def test_it_is_the_same_after_a_pickle_and_is_not_there_for_a_ranking_that_cannot_use_it() -> None:
    recommender = make()
    other = pickle.loads(pickle.dumps(recommender))
    assert served(other, "u1", T0 + 100) == served(recommender, "u1", T0 + 100)
    plain = make("logistic")
    assert "leans" not in plain.state.users.columns
    assert not [name for name in plain.feature_names if name.startswith(LEANS)]


def test_a_user_who_comes_again_after_being_forgotten_leans_to_nothing() -> None:
    recommender = make()
    recommender.learn(Interaction("u1", "i2", "click", 1.0, T0 + 100))
    assert leaning(recommender, "u1").any()
    recommender.delete_user("u1")
    recommender.set_user("u1", {"country": "PT"}, T0 + 101)
    assert not leaning(recommender, "u1").any()


def test_explanations_do_not_name_it() -> None:
    recommender = make()
    items = recommender.recommend(Ask("u1", T0 + 100, explain=True), random.Random(1)).items
    assert items[0].why
    assert not [name for one in items for name, _ in one.why or () if name.startswith(LEANS)]
