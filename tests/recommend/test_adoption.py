"""What a version takes over: facts and histories of all whom the former one knows, and nothing where both agree."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from streamlearn.config_recommend import SOURCES, RecommendSettings
from streamlearn.recommend.adoption import adopt
from streamlearn.recommend.content import Content
from streamlearn.recommend.facets import facets_of
from streamlearn.recommend.ids import KEPT
from streamlearn.recommend.state import OFFERED, Interaction, State

USERS, ITEMS = [f"u{n}" for n in range(6)], [f"i{n}" for n in range(12)]
FIELDS = st.fixed_dictionaries(
    {}, optional={
        "genre": st.sampled_from(["a", "b", "a|b", "c", None]), "price": st.integers(0, 2), "available": st.booleans()
    },
)  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("act"), st.sampled_from(USERS), st.sampled_from(ITEMS), st.sampled_from([1.0, -1.0])),
        st.tuples(st.just("item"), st.sampled_from(ITEMS), FIELDS),
        st.tuples(st.just("gone"), st.sampled_from(ITEMS)),
        st.tuples(st.just("user"), st.sampled_from(USERS), st.dictionaries(st.sampled_from("pq"), st.integers(0, 1))),
        st.tuples(st.just("leave"), st.sampled_from(USERS)),
    ),
    max_size=40,
)


def made(seed: int = 1, **given_: Any) -> State:
    small = {"factors": 4, "neighbours": 4, "history": 5, "last_items": 3, "ttl_s": 0.0, "quotas": dict.fromkeys(SOURCES, 5)}
    return State(RecommendSettings(**{"max_users": 20, "max_items": 40, **small, **given_}), seed)


def taught(state: State, steps: list[tuple[Any, ...]]) -> State:
    for at, (kind, name, *rest) in enumerate(steps):
        if kind == "act":
            state.observe(Interaction(name, rest[0], "click", rest[1], float(at)))
        elif kind == "item":
            state.set_item(name, rest[0], float(at))
        elif kind == "gone":
            state.delete_item(name)
        elif kind == "user":
            state.set_user(name, rest[0], float(at))
        else:
            state.delete_user(name)
    return state


def people(state: State) -> dict[str, tuple[bytes, bytes]]:
    """Fields and history by user, those used last first."""
    rows = state.user_ids.newest(100).tolist()
    return {state.user_ids.id_of(row): (state.users.get("fields", row), state.users.get("history", row)) for row in rows}


def facts(state: State) -> dict[str, tuple[bytes, int, bool]]:
    """Fields, availability, and whether it is kept, by item, those used last first."""
    rows, cells = state.item_ids.newest(100).tolist(), state.items.cells
    return {
        state.item_ids.id_of(row): (state.items.get("fields", row), cells["available"][row], bool(cells["used"][row] & KEPT))
        for row in rows
    }


def assert_facets_are_those_of_the_fields(state: State) -> None:
    for row in state.item_ids.newest(100).tolist():
        fields = state.fields_at(row)
        np.testing.assert_array_equal(state.items.raw["facets"][row], facets_of(fields, state.settings.parts))


def assert_tokens_are_counted(content: Content, state: State) -> None:
    rows = state.item_ids.newest(100)
    tokens, lengths = content._joined(rows)
    expected = np.bincount(tokens[tokens >= 0], minlength=len(content.table))
    np.testing.assert_array_equal(content.table["n"], expected)
    assert (content._n, content._described) == (int(lengths.sum()), int(np.count_nonzero(lengths)))
    for row in rows.tolist():
        texts = [content._tokens.id_of(token) for token in content._joined(np.array([row], np.int32))[0].tolist()]
        if state.items.cells["available"][row] == OFFERED:
            assert texts == content.tokens_of(state.fields_at(row))


@given(STEPS, STEPS)
@given_settings(max_examples=100, deadline=None)
def test_facts_are_those_of_the_former_and_what_users_did_is_filled_in(before: list[Any], theirs: list[Any]) -> None:
    state, former = taught(made(), before), taught(made(seed=2), theirs)
    was, knew, users, known = facts(state), facts(former), people(state), people(former)
    adopt(state, former)
    told = {name: fact for name, fact in knew.items() if fact[0] or fact[1] != OFFERED}
    expected = dict(was)
    for name, (fields, available, _) in told.items():
        mine = was.get(name, (b"", 0, False))
        expected[name] = (fields or mine[0], available, bool(fields) or mine[2])
    found = facts(state)
    assert found == expected
    assert list(found) == [*was, *(name for name in told if name not in was)], "whoever is new was used longer ago"
    filled = {name: tuple(mine or given for mine, given in zip(users.get(name, (b"", b"")), known.get(name, (b"", b"")),
              strict=True)) for name in [*users, *(name for name in known if name not in users)]}  # fmt: skip
    assert people(state) == filled
    assert list(people(state)) == list(filled)
    assert_tokens_are_counted(state.content, state)
    assert_facets_are_those_of_the_fields(state)


@given(STEPS, STEPS)
@given_settings(max_examples=60, deadline=None)
def test_once_more_there_is_nothing_to_take(before: list[Any], theirs: list[Any]) -> None:
    state, former = taught(made(), before), taught(made(seed=2), theirs)
    adopt(state, former)
    for table in state.tables.values():
        table.changed("reader")
    adopt(state, former)
    assert {name: len(table.changed("reader")) for name, table in state.tables.items()} == dict.fromkeys(state.tables, 0)
    adopt(former, state)
    assert {name: fact[:2] for name, fact in facts(former).items()}.items() >= {
        name: fact[:2] for name, fact in facts(state).items() if name in facts(former) and fact[0]
    }.items()


@given(STEPS, STEPS, STEPS)
@given_settings(max_examples=60, deadline=None)
def test_it_goes_on_learning_and_comes_back_from_a_pickle(before: list[Any], theirs: list[Any], after: list[Any]) -> None:
    state = taught(made(), before)
    adopt(state, taught(made(seed=2), theirs))
    again = pickle.loads(pickle.dumps(state))
    state, again = taught(state, after), taught(again, after)
    assert (facts(state), people(state)) == (facts(again), people(again))
    left, right = state.candidates("u1", {}, 99.0), again.candidates("u1", {}, 99.0)
    np.testing.assert_array_equal(left.scores, right.scores)
    assert_tokens_are_counted(state.content, state)
    assert_facets_are_those_of_the_fields(state)


def test_there_is_no_room_for_those_used_longest_ago() -> None:
    state, former = made(max_users=3, max_items=3), made(seed=2)
    taught(state, [("act", "mine", "i", 1.0), ("item", "i", {"genre": "z"})])
    taught(former, [step for n in range(5) for step in (("act", f"u{n}", f"i{n}", 1.0), ("item", f"i{n}", {"genre": f"g{n}"}))])
    adopt(state, former)
    assert list(people(state)) == ["mine", "u4", "u3"]
    assert list(facts(state)) == ["i", "i4", "i3"]
    assert state.counts()["users_evicted_lru"] == 0
    adopt(state, former)
    assert list(people(state)) == ["mine", "u4", "u3"]


def test_rows_of_whoever_left_are_used_again() -> None:
    state, former = made(), taught(made(seed=2), [("act", name, "i1", 1.0) for name in USERS])
    taught(state, [step for n in range(4) for step in (("act", f"v{n}", "i1", 1.0), ("leave", f"v{n}"))])
    adopt(state, former)
    assert sorted(people(state)) == USERS
    assert len(state.users) == max(len(USERS), 1)
    assert state.seen("u3").tolist() == former.seen("u3").tolist()


def test_factors_of_whoever_is_new_are_those_of_any_beginning() -> None:
    former, met = taught(made(seed=2), [("act", "u1", "i1", 1.0), ("item", "i1", {"genre": "a"})]), made(seed=5)
    state = made(seed=5)
    adopt(state, former)
    met.set_user("u1", {}, 0.0)
    row = state.user_row("u1")
    np.testing.assert_array_equal(state.users.raw["factors"][row], met.users.raw["factors"][met.user_row("u1")])
    assert np.count_nonzero(state.items.raw["factors"][state.item_ids.row_of("i1")]) == 4


@pytest.mark.parametrize("settings", [{"item_fields": ("price",)}, {"separator": ""}])
def test_a_version_that_reads_fields_otherwise_reads_them_anew(settings: dict[str, Any]) -> None:
    former = taught(made(seed=2), [("item", "i1", {"genre": "a|b", "price": 7}), ("item", "i2", {"genre": "a"})])
    state = made(**settings)
    adopt(state, former)
    assert state.fields_of("i1") == {"genre": "a|b", "price": 7}
    assert_tokens_are_counted(state.content, state)
    assert_facets_are_those_of_the_fields(state)


def test_of_too_many_tokens_those_used_longest_ago_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    former = taught(made(seed=2), [("item", f"i{n}", {"genre": f"g{n}"}) for n in range(6)])
    monkeypatch.setattr(Content, "MOST", 2)
    state = made()
    adopt(state, former)
    tokens = state.content._tokens
    assert sorted(map(tokens.id_of, tokens.newest(10).tolist())) == ["genre=g4", "genre=g5"]
    rows = np.array([state.item_ids.row_of(f"i{n}") for n in range(6)], np.int32)
    assert state.content._joined(rows)[1].tolist() == [0, 0, 0, 0, 1, 1]
    assert state.fields_of("i0") == {"genre": "g0"}
