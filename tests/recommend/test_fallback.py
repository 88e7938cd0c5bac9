from __future__ import annotations

import numpy as np
import pytest

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend import fallback
from streamlearn.recommend.fallback import fill
from streamlearn.recommend.state import Interaction, State


@pytest.fixture
def state() -> State:
    made = State(RecommendSettings(actions={"click": 1.0}), 1)
    for item in ("new1", "new2"):
        made.set_item(item, {}, 0.0)
    for at, item in enumerate(["warm", "hot", "hot", "cold", "hot", "warm"]):
        made.observe(Interaction(None, item, "click", 1.0, 1.0 + at))
    return made


def filled(state: State, wanted: int, hide: tuple[str, ...] = (), fit: str = "", empty: bool = False) -> list[tuple[str, str]]:
    hidden = np.zeros(len(state.items), dtype=bool)
    hidden[[state.item_ids.row_of(item) for item in hide]] = True
    found = fill(state, hidden, lambda row: fit in state.item_ids.id_of(row), wanted, empty)
    return [(state.item_ids.id_of(row), kind) for row, kind in found]


def test_the_popular_come_first_and_the_untouched_last(state: State) -> None:
    found = filled(state, 9)
    assert found[:3] == [("hot", "popular"), ("warm", "popular"), ("cold", "popular")]
    assert dict(found[3:]) == {"new1": "available", "new2": "available"}


def test_what_is_hidden_or_does_not_fit_is_left_out(state: State) -> None:
    assert [item for item, _ in filled(state, 2, hide=("hot",))] == ["warm", "cold"]
    assert {item for item, _ in filled(state, 9, fit="new")} == {"new1", "new2"}
    assert filled(state, 9, fit="nothing") == []


def test_the_search_ends_early_unless_there_would_be_nothing(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "FEW", 1)
    last = filled(state, 9)[-1][0]
    assert last.startswith("new")
    other = ({"new1", "new2"} - {last}).pop()
    assert filled(state, 9, fit=other) == []
    assert filled(state, 9, fit=other, empty=True) == [(other, "available")]


def test_an_item_that_popularity_has_forgotten_is_recent(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "FEW", 1)
    assert filled(state, 3, hide=("new1", "new2"))[:2] == [("hot", "popular"), ("warm", "recent")]
