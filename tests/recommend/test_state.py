"""The state as a whole: what it learns, names, forgets and takes over; the same records give the same state."""

from __future__ import annotations

import hashlib
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from streamlearn.config_recommend import SOURCES, RecommendSettings
from streamlearn.recommend.adoption import adopt
from streamlearn.recommend.candidates import MORE, Candidates
from streamlearn.recommend.state import Interaction, State

USERS = st.sampled_from([None, "u1", "u2", "u3", "u4", "u5"])
ITEMS = st.sampled_from([f"i{n}" for n in range(12)])
FIELDS = st.fixed_dictionaries(
    {}, optional={"genre": st.sampled_from(["a", "b", "a|b", None]), "available": st.sampled_from([True, False, None])}
)
STEP = st.one_of(
    st.tuples(st.just("act"), USERS, ITEMS, st.sampled_from([1.0, 0.1, 5.0, -1.0, 0.0, math.nan]), st.floats(0, 1000)),
    st.tuples(st.just("set"), ITEMS, FIELDS, st.floats(0, 1000)),
    st.tuples(st.just("delete"), ITEMS),
    st.tuples(st.just("user"), USERS, st.floats(0, 1000)),
    st.tuples(st.just("ask"), USERS, st.floats(0, 1000)),
    st.tuples(st.just("pickle")),
)
STEPS = st.lists(STEP, max_size=60)
SMALL: dict[str, Any] = {
    "factors": 4, "neighbours": 4, "history": 5, "last_items": 3, "max_users": 3, "max_items": 6, "ttl_s": 400.0,
    "quotas": dict.fromkeys(SOURCES, 2), "segments": ("plan",),
}  # fmt: skip


def made(seed: int = 1, **given_: Any) -> State:
    return State(RecommendSettings(**{**SMALL, **given_}), seed)


def roomy(**given_: Any) -> State:
    return made(**{"max_users": 100, "max_items": 100, "ttl_s": 0.0, **given_})


def act(state: State, user: str | None, *items: str, weight: float = 1.0, ts: float = 0.0) -> None:
    for item in items:
        state.observe(Interaction(user, item, "click", weight, ts))


def names(state: State, found: Candidates) -> set[str]:
    return {state.item_ids.id_of(row) for row in found.rows.tolist()}


def fingerprint(state: State) -> str:
    digest = hashlib.sha256()
    for name, table in sorted(state.tables.items()):
        for column, array in sorted(table.arrays().items()):
            digest.update(f"{name}.{column}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def take(state: State, step: tuple[Any, ...]) -> State:
    kind, *rest = step
    if kind == "act":
        user, item, weight, ts = rest
        state.observe(Interaction(user, item, "click", weight, ts, {"plan": "pro"}))
    elif kind == "set":
        state.set_item(*rest)
    elif kind == "delete":
        state.delete_item(*rest)
    elif kind == "user" and rest[0]:
        state.set_user(rest[0], {"plan": "free"}, rest[1])
    elif kind == "ask":
        state.candidates(rest[0], {}, rest[1])
    elif kind == "pickle":
        return pickle.loads(pickle.dumps(state))  # type: ignore[no-any-return]
    return state


@given(STEPS)
@given_settings(max_examples=60, deadline=None)
def test_the_same_records_give_the_same_state_whatever_was_asked_or_restored_between(steps: list[tuple[Any, ...]]) -> None:
    first, second = made(), made()
    for step in steps:
        first = take(first, step)
        if step[0] not in ("ask", "pickle"):
            second = take(second, step)
    assert fingerprint(first) == fingerprint(second)
    assert first.counts() == second.counts()
    left, right = first.candidates("u1", {}, 1000.0), second.candidates("u1", {}, 1000.0)
    np.testing.assert_array_equal(left.rows, right.rows)
    np.testing.assert_array_equal(left.scores, right.scores)


@given(STEPS)
@given_settings(max_examples=60, deadline=None)
def test_candidates_are_known_available_and_new_to_the_user_and_scored_by_numbers(steps: list[tuple[Any, ...]]) -> None:
    state = made()
    told: dict[str, bool] = {}
    for step in steps:
        state = take(state, step)
        if step[0] == "set":
            available = step[2].get("available", told.get(step[1], True))
            told[step[1]] = True if available is None else available
        elif step[0] == "delete" and step[1] in told:
            told[step[1]] = True
        told = {name: value for name, value in told.items() if state.item_ids.row_of(name) >= 0}
    offered = state._offered()
    assert len(state.user_ids) <= 3
    assert len(state.item_ids) <= 6
    for user in (None, "u1", "u2", "unknown"):
        found = state.candidates(user, {}, 1000.0)
        assert found.sources == SOURCES
        assert found.scores.shape == found.named.shape == (len(found), len(SOURCES))
        assert found.more.shape == (len(found), len(MORE))
        assert np.isfinite(found.scores).all()
        assert np.isfinite(found.more).all()
        assert (np.diff(found.rows) > 0).all()
        assert offered[found.rows].all()
        assert all(told.get(name, True) for name in names(state, found))
        assert len(found) > 0 or not offered.any()
        hidden = set(state.item_ids.rows(state.seen(user)).tolist())
        left = set(np.flatnonzero(offered).tolist()) - hidden
        assert set(found.rows.tolist()) <= left or not left
    rows = state.items.cells
    for row in range(len(state.items)):  # what was let go leaves an empty row
        if not rows["hash"][row]:
            assert not state.items["factors"][row].any()
            assert (rows["n"][row], rows["near_at"][row], state.items.get("id", row)) == (0.0, -1, b"")


@given(STEPS)
@given_settings(max_examples=40, deadline=None)
def test_the_changed_rows_of_all_tables_on_a_base_are_the_whole(steps: list[tuple[Any, ...]]) -> None:
    state = made()
    base = made()
    for number, step in enumerate(steps):
        if step[0] != "pickle":
            state = take(state, step)
        if number % 7 == 6:
            for name, table in state.tables.items():
                rows = table.changed("chain")
                base.tables[name].patch(len(table), rows, table.part(rows))
            assert fingerprint(base) == fingerprint(state)


def test_an_unknown_user_and_nobody_get_what_is_popular() -> None:
    state = roomy()
    act(state, "u1", "a", "b", "b")
    for user in (None, "who"):
        found = state.candidates(user, {}, 0.0)
        assert names(state, found) == {"a", "b"}
        np.testing.assert_allclose(found.scores[:, SOURCES.index("popular")], [1.0, 2.0])
        assert found.named[:, [SOURCES.index("popular"), SOURCES.index("recent")]].all()


def test_what_was_seen_is_left_out_unless_asked_for_and_what_was_disliked_always() -> None:
    state = roomy()
    act(state, "u2", "a", "b", "c")
    act(state, "u1", "a")
    act(state, "u1", "b", weight=-1.0)
    assert names(state, state.candidates("u1", {}, 0.0)) == {"c"}
    assert names(state, state.candidates("u1", {}, 0.0, seen=False)) == {"a", "c"}
    assert state.item_ids.rows(state.seen("u1")).tolist() == [state.item_ids.row_of("a")]


def test_co_visits_the_next_item_and_factors_speak_of_the_user() -> None:
    state = roomy(quotas=dict.fromkeys(SOURCES, 5))
    for number in range(30):
        act(state, f"x{number}", *(("a", "b") if number % 2 else ("c", "d")))
    act(state, "u1", "a")
    found = state.candidates("u1", {}, 0.0)
    at = [state.item_ids.id_of(row) for row in found.rows.tolist()].index("b")
    assert found.scores[:, SOURCES.index("covisit")].argmax() == at
    assert found.more[:, MORE.index("cosine")].argmax() == at
    assert found.more[:, MORE.index("next")].argmax() == at
    assert found.scores[at, SOURCES.index("factors")] != 0


def test_an_item_that_nobody_touched_is_named_by_its_content() -> None:
    state = roomy()
    for name, genre in (("a", "war"), ("new", "war"), ("other", "love")):
        state.set_item(name, {"genre": genre}, 0.0)
    act(state, "u2", "x", "y", "z")
    act(state, "u1", "a")
    found = state.candidates("u1", {}, 0.0)
    row = found.rows.tolist().index(state.item_ids.row_of("new"))
    assert found.named[row].tolist() == [source == "content" for source in SOURCES]
    assert found.scores[row, SOURCES.index("content")] > 0
    assert found.more[row, MORE.index("taste")] > 0
    assert "other" not in names(state, found)


def test_records_merge_and_availability_comes_and_goes() -> None:
    state = roomy()
    state.set_item("a", {"genre": "war", "price": 3}, 0.0)
    state.set_item("a", {"genre": None, "available": False}, 1.0)
    assert state.fields_of("a") == {"price": 3}
    assert names(state, state.candidates(None, {}, 1.0)) == set()
    act(state, "u1", "a")
    assert names(state, state.candidates(None, {}, 1.0)) == set()
    state.set_item("a", {"price": 4}, 2.0)
    assert names(state, state.candidates(None, {}, 1.0)) == set()
    state.set_item("a", {"available": True}, 3.0)
    assert names(state, state.candidates(None, {}, 1.0)) == {"a"}
    assert state.fields_of("a") == {"price": 4}
    state.set_user("u1", {"plan": "pro"}, 0.0)
    state.set_user("u1", {"city": "Y"}, 0.0)
    assert state.user_fields("u1") == {"plan": "pro", "city": "Y"}
    assert state.user_fields("who") == state.user_fields(None) == state.fields_of("who") == {}


def test_a_deleted_item_stays_away_until_a_record_brings_it_back() -> None:
    state = roomy()
    act(state, "u1", "a", "b")
    state.set_item("a", {"genre": "war"}, 0.0)
    state.delete_item("a")
    state.delete_item("never")
    act(state, "u2", "a")
    assert names(state, state.candidates(None, {}, 0.0)) == {"b"}
    assert state.fields_of("a") == {}
    state.set_item("a", {}, 0.0)
    assert names(state, state.candidates(None, {}, 0.0)) == {"a", "b"}


def test_the_callers_own_candidates_are_scored_and_unknown_ones_told() -> None:
    state = roomy()
    act(state, "u1", "a", "b", "c")
    state.set_item("c", {"available": False}, 0.0)
    found = state.candidates_of(["b", "who", "c", "b", "a"], "u1", {}, 0.0)
    assert names(state, found) == {"a", "b"}
    assert found.unknown == ("who",)
    assert not found.named.any()
    assert (found.scores[:, SOURCES.index("popular")] > 0).all()


def test_a_search_takes_the_place_of_scoring_every_item() -> None:
    state = roomy(quotas={**dict.fromkeys(SOURCES, 0), "factors": 2})
    act(state, "u2", *(f"i{n}" for n in range(9)))
    act(state, "u1", "i0")
    asked = []

    def search(vector: Any, limit: int) -> tuple[Any, Any]:
        asked.append((vector.shape, limit))
        return np.array([0, 5, 3, 7, -1], np.int32), np.zeros(5, np.float32)

    found = state.candidates("u1", {}, 0.0, search)
    assert asked == [((4,), 3)]
    assert names(state, found) == {"i5", "i3"}


def test_of_many_items_only_those_that_lead_are_scored_by_factors() -> None:
    quotas = {**dict.fromkeys(SOURCES, 0), "factors": 20}
    few, many = roomy(quotas=quotas, exact_items=5), roomy(quotas=quotas, exact_items=1000)
    for state in (few, many):
        for n in range(40):
            for m in range(1 + n // 4):
                act(state, f"x{m}", f"i{n}", ts=float(n))
        act(state, "u1", "i39", ts=40.0)
    leaders = {few.item_ids.id_of(row) for row in few.popular.every_leader().tolist()}
    assert len(leaders) == few.settings.history + 20
    assert set() < names(few, few.candidates("u1", {}, 40.0)) <= leaders
    assert names(many, many.candidates("u1", {}, 40.0)) - leaders


def test_similar_items_by_co_visits_and_by_content_while_little_is_known() -> None:
    state = roomy()
    for name, genre in (("a", "war"), ("b", "war"), ("c", "love"), ("d", "love")):
        state.set_item(name, {"genre": genre}, 0.0)
    assert state.similar("a", 5) == [("b", pytest.approx(1.0))]
    for number in range(30):
        act(state, f"x{number}", "a", "c")
    found = dict(state.similar("a", 5))
    assert list(found) == ["c", "b"]
    assert found["b"] == pytest.approx(10 / 40)
    assert 0.5 < found["c"] <= 30 / 40
    state.set_item("c", {"available": False}, 0.0)
    assert [name for name, _ in state.similar("a", 5)] == ["b"]
    assert state.similar("a", 0) == state.similar("who", 3) == []


def test_an_odd_event_ruins_nothing() -> None:
    state = roomy()
    for _ in range(5):
        act(state, "u2", "a", "b", "c", ts=1.7e9)
    before = fingerprint(state)
    act(state, "u1", "a", weight=math.nan, ts=1.7e9)
    act(state, "u1", "a", weight=math.inf, ts=1.7e9)
    assert fingerprint(state) == before
    act(state, "u1", "a", weight=1e6, ts=1.7e12)  # milliseconds
    act(state, "u1", "b", ts=math.nan)
    assert state.counts()["odd"] == 4
    heats = state.popular.heats(np.arange(3, dtype=np.int32), 1.7e9)
    assert heats[1, 2] == pytest.approx(6.0)
    for table in state.tables.values():
        assert all(np.isfinite(array).all() for array in table.arrays().values() if array.dtype.kind == "f")


def test_what_is_not_used_is_let_go_and_counted_but_items_with_a_record_stay() -> None:
    state = made(max_users=2, max_items=2)
    act(state, "u1", "a")
    act(state, "u2", "b")
    act(state, "u3", "c")
    assert state.counts() | {"users": 2, "items": 2, "users_evicted_lru": 1, "items_evicted_lru": 1} == state.counts()
    state.set_item("c", {"genre": "war"}, 0.0)
    act(state, "u3", "d", ts=401.0)  # takes the place of b; u2 is stale
    assert state.counts() | {"users": 1, "items": 2, "users_evicted_ttl": 1, "items_evicted_lru": 2} == state.counts()
    state.evict(401.0 + 401.0)
    assert state.counts() | {"users": 0, "items": 1, "users_evicted_ttl": 2, "items_evicted_ttl": 1} == state.counts()
    assert state.fields_of("c") == {"genre": "war"}


def test_shown_items_are_counted_with_what_they_earned() -> None:
    state = roomy()
    act(state, "u1", "a", "b")
    state.shown(["a", "b", "who"], [0.5, 0.0, 1.0], "u1")
    state.shown(["a"], [1.0])
    assert state.items["shown"].tolist() == [2.0, 1.0]
    assert state.items["reward"].tolist() == [1.5, 0.0]
    assert (state.users["shown"].tolist(), state.users["reward"].tolist()) == ([3.0], [1.5])


def test_a_successor_takes_over_facts_and_not_what_was_learned() -> None:
    former, state = roomy(), roomy(seed=2)
    act(former, "u1", "a", "b", ts=5.0)
    former.set_item("a", {"genre": "war"}, 5.0)
    former.set_item("off", {"available": False}, 5.0)
    former.set_item("gone", {"genre": "love"}, 5.0)
    former.delete_item("gone")
    former.set_user("u1", {"plan": "pro"}, 5.0)
    act(state, "u9", "a", "off", "gone")
    adopt(state, former)
    assert state.fields_of("a") == {"genre": "war"}
    assert state.user_fields("u1") == {"plan": "pro"}
    assert state.seen("u1").tolist() == former.seen("u1").tolist()
    assert names(state, state.candidates(None, {}, 5.0)) == {"a"}
    assert state.users.cells["n"][state.user_row("u1")] == 0
