"""The pool holds the hottest items and their factors as they are now, whatever happened since it was chosen."""

from __future__ import annotations

import pickle
import random

import numpy as np

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend.pool import RENEWED
from streamlearn.recommend.state import Interaction, State

SIZE = 40


def learned(n: int, seed: int = 0, **more: object) -> State:
    settings = RecommendSettings(exact_items=SIZE, factors=4, history=20, **more)  # type: ignore[arg-type]
    state, draw = State(settings, 0), random.Random(seed)
    for at in range(n):
        item = f"i{min(draw.randrange(100), draw.randrange(100))}"
        state.observe(Interaction(f"u{draw.randrange(9)}", item, "click", 1.0, 1e9 + at))
        if at % 7 == 0 and len(state.items) > SIZE:
            state.candidates(f"u{draw.randrange(9)}", {}, 1e9 + at)
    return state


def test_the_pool_follows_the_factors() -> None:
    state = learned(600)
    vector = state.factors.vector(0)
    scores = state.pool.scores(vector)
    assert len(state.pool.rows) == SIZE
    np.testing.assert_array_equal(scores, state.items["factors"][state.pool.rows] @ vector)


def test_the_pool_follows_an_item_that_was_let_go() -> None:
    state = learned(600, max_items=60)
    assert state.item_ids.evicted_lru > 100
    vector = np.ones(4, np.float32)
    np.testing.assert_array_equal(state.pool.scores(vector), state.items["factors"][state.pool.rows] @ vector)


def test_it_is_chosen_anew_now_and_then() -> None:
    state = learned(600)
    before = state.pool.rows
    assert before.tolist() != list(range(SIZE))
    chosen = 0
    for at in range(4 * SIZE):
        state.observe(Interaction("u", f"new{at % 5}", "click", 1.0, 2e9 + at))
        chosen += state.pool.rows is not before
        before = state.pool.rows
    assert chosen == 4 * RENEWED
    assert set(state.pool.rows.tolist()) >= {state.item_ids.row_of(f"new{at}") for at in range(5)}


def test_a_pickled_one_answers_the_same() -> None:
    state = learned(611)
    again = pickle.loads(pickle.dumps(state))
    for at in range(30):
        for one in (state, again):
            one.observe(Interaction("u1", f"i{at}", "click", 1.0, 1e9 + 700 + at))
        mine, its = (one.candidates("u1", {}, 1e9 + 800) for one in (state, again))
        assert mine.rows.tolist() == its.rows.tolist()
        assert mine.scores.tolist() == its.scores.tolist()


def test_few_items_need_none() -> None:
    state = State(RecommendSettings(exact_items=SIZE, factors=4), 0)
    for at in range(SIZE):
        state.observe(Interaction("u", f"i{at}", "click", 1.0, 1e9 + at))
    assert not state.pool.used
    assert len(state.pool.rows) == 0
    state.observe(Interaction("u", "one more", "click", 1.0, 1e9 + SIZE))
    assert state.pool.used
    found = state.candidates("u", {}, 1e9 + SIZE, seen=False)
    assert found.named[:, found.sources.index("factors")].any()
