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


def filled(state: State, wanted: int, hide: tuple[str, ...] = (), fit: str = "") -> list[tuple[str, str]]:
    hidden = np.zeros(len(state.items), dtype=bool)
    hidden[[state.item_ids.row_of(item) for item in hide]] = True
    found = fill(state, hidden, lambda row: fit in state.item_ids.id_of(row), wanted)
    return [(state.item_ids.id_of(row), kind) for row, kind in found]


def test_the_popular_come_first_and_the_untouched_last(state: State) -> None:
    found = filled(state, 9)
    assert found[:3] == [("hot", "popular"), ("warm", "popular"), ("cold", "popular")]
    assert dict(found[3:]) == {"new1": "available", "new2": "available"}


def test_what_is_hidden_or_does_not_fit_is_left_out(state: State) -> None:
    assert [item for item, _ in filled(state, 2, hide=("hot",))] == ["warm", "cold"]
    assert {item for item, _ in filled(state, 9, fit="new")} == {"new1", "new2"}
    assert filled(state, 9, fit="nothing") == []


@pytest.mark.parametrize("few", [1, 2, 3, 1000])
def test_whatever_fits_is_found_the_newest_first(state: State, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(fallback, "FEW", few)
    for at in range(9):
        state.set_item(f"later{at}", {}, 100.0 + at % 4)
    found = [item for item, _ in filled(state, 99, fit="later")]
    last = {item: state.items["last"][state.item_ids.row_of(item)] for item in found}
    assert len(found) == 9
    if few in (1, 1000):
        assert [last[item] for item in found] == sorted(last.values(), reverse=True)
    assert {item for item, _ in filled(state, 99)} == {"hot", "warm", "cold", "new1", "new2", *found}
    assert filled(state, 1, fit="new1") == [("new1", "available")]


def test_an_item_that_popularity_has_forgotten_is_recent(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "FEW", 1)
    assert filled(state, 3, hide=("new1", "new2"))[:2] == [("hot", "popular"), ("warm", "recent")]
