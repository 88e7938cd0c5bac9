"""What an event may say of items, whatever comes: slates with a position for each, or an error that names the place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.errors import EventError
from streamlearn.events import REASONS
from streamlearn.items import MAX_SHOWN, ShownItem, check_action, shown_items

names = st.sampled_from(["item", "position", "propensity", "f"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner),
    max_leaves=8,
)


def tried(call: Callable[[], Any]) -> tuple[EventError | None, Any]:
    """How the call was refused, if it was, and what it gave."""
    try:
        return None, call()
    except EventError as error:
        return error, None


@given(st.lists(anything, max_size=5))
def test_a_slate_is_taken_whole_or_refused_with_its_place(items: list[Any]) -> None:
    refused, shown = tried(lambda: shown_items(items, 3))
    if refused is not None:
        assert refused.reason in REASONS
        assert refused.field.startswith("items")
        return
    assert [one.item for one in shown] == [one if isinstance(one, str) else one["item"] for one in items]
    assert all(one.position >= 1 and one.item for one in shown)
    assert all(one.propensity is None or 0 < one.propensity <= 1 for one in shown)


def test_positions_are_those_given_or_the_order() -> None:
    shown = shown_items(["a", {"item": "b", "position": 7, "propensity": 0.5}, {"item": "c"}], 10)
    assert shown == [ShownItem("a", 1), ShownItem("b", 7, 0.5), ShownItem("c", 3)]
    assert len(shown_items(["a"] * MAX_SHOWN, 1)) == MAX_SHOWN


@pytest.mark.parametrize("action", ["click", "$set", "$delete", "$other"])
@given(
    item=st.none() | st.just("i"),
    user=st.none() | st.just("u"),
    x=st.none() | st.dictionaries(st.just("available"), anything),
)
def test_an_action_is_taken_or_refused_in_our_own_words(
    action: str, item: str | None, user: str | None, x: dict[str, Any] | None
) -> None:
    refused, _ = tried(lambda: check_action(action, item, user, x))
    if refused is not None:
        assert refused.reason == "shape"
        assert refused.field.split(".")[0] in ("item", "action", "x")
        return
    assert action != "$other"
    assert item is not None or (action != "click" and user is not None)
    assert action != "$set" or x is not None
