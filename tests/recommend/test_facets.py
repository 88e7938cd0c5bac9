from __future__ import annotations

import random
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend import rules
from streamlearn.recommend.adoption import adopt
from streamlearn.recommend.facets import facets_of, may_match
from streamlearn.recommend.state import State
from streamlearn.recommend.tables import Column, Table

names = st.sampled_from(["kind", "price", "new", "size"])
values = st.one_of(
    st.sampled_from(["a", "b", "a|b", " b |c", "|", "", "\ud800", "1", "True"]), st.integers(-2, 2), st.booleans(),
    st.sampled_from([1.0, 0.0, -0.0, 2.5, float("nan"), float("inf"), 2**60, float(2**60)]),
)  # fmt: skip
fields = st.dictionaries(names, st.one_of(st.none(), values, st.lists(values, max_size=3)), max_size=4)
filters = st.dictionaries(names, st.one_of(values, st.lists(values, max_size=3)), max_size=3)


def table_of(items: list[dict[str, Any]]) -> Table:
    table = Table({"facets": Column("u8", 4)})
    for own in items:
        row = table.append()
        table.raw["facets"][row] = facets_of(own, "|")
    return table


@settings(max_examples=300)
@given(st.lists(fields, max_size=8), filters)
@example([{"price": 1}], {"price": 1.0})
@example([{"price": 2**60}], {"price": float(2**60)})
@example([{"price": 0.0}], {"price": [-0.0]})
@example([{"kind": [["a"], 3]}], {"kind": [["a"]]})
@example([{"kind": "a"}], {"kind": []})
def test_what_a_filter_lets_by_is_never_passed_over(items: list[dict[str, Any]], where: dict[str, Any]) -> None:
    table = table_of(items)
    may = may_match(table, None, where)
    for own, possible in zip(items, may.tolist(), strict=True):
        assert possible or not rules.matches(own, where, "|")
    rows = np.arange(len(items), dtype=np.int32)[::-1]
    assert may_match(table, rows, where).tolist() == may.tolist()[::-1]


def test_little_else_is_looked_at() -> None:
    """Of items of five values as good as nothing, of items of twenty one in a hundred (see the module)."""
    draw = random.Random(5)
    for count, most in ((5, 0.002), (20, 0.02)):
        table = table_of([{f"f{at}": draw.randrange(10**6) for at in range(count)} for _ in range(3000)])
        absent = [may_match(table, None, {f"f{at % count}": "absent"}).mean() for at in range(40)]
        assert np.mean(absent) < most


def test_they_follow_the_records_of_an_item() -> None:
    state = State(RecommendSettings(), 1)
    state.set_item("i", {"kind": "a", "price": 3}, 0.0)

    def may(**where: Any) -> bool:
        return bool(may_match(state.items, None, where)[state.item_ids.row_of("i")])

    assert may(kind="a", price=[2, 3])
    state.set_item("i", {"kind": "b"}, 1.0)
    assert may(kind="b", price=3)
    assert not may(kind="a")
    state.set_item("i", {"price": None}, 2.0)
    assert not may(price=3)
    state.delete_item("i")
    assert not may(kind="b")
    heir = State(RecommendSettings(), 1)
    state.set_item("i", {"kind": "c"}, 3.0)
    adopt(heir, state)
    assert may_match(heir.items, None, {"kind": "c"}).tolist() == [True]
