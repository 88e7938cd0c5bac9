from __future__ import annotations

import numpy as np
import pytest

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend.features import Features
from streamlearn.recommend.state import Interaction, State

SETTINGS = RecommendSettings(actions={"click": 1.0}, half_life_s=345_600.0)
DAY = 86_400.0


@pytest.fixture
def state() -> State:
    made = State(SETTINGS, 1)
    for at, (user, item) in enumerate([("a", "x"), ("b", "x"), ("a", "y"), ("b", "z"), ("c", "x")]):
        made.set_item(item, {"genre": "drama"}, 0.0)
        made.observe(Interaction(user, item, "click", 1.0, at * 3600.0))
    made.set_item("new", {"genre": "drama"}, 5 * 3600.0)
    return made


def row(state: State, item: str, user: str | None = "c", ts: float = 6 * 3600.0, shown: bool = False) -> dict[str, float]:
    features = Features(SETTINGS)
    f = features.matrix(state, state.candidates_of(["x", "y", "z", "new"], user, {}, ts), user, ts, 0.1, shown)
    at = state.candidates_of(["x", "y", "z", "new"], user, {}, ts).rows.tolist().index(state.item_ids.row_of(item))
    return dict(zip(features.names, f[at].tolist(), strict=True))


def test_names_are_unique_and_say_the_half_lives() -> None:
    names = Features(SETTINGS).names
    assert len(set(names)) == len(names)
    assert {"item.heat_6h", "item.heat_1d", "item.heat_64d", "popular_1d.log", "covisit.log*user.count"} <= set(names)


def test_a_row_says_what_is_known(state: State) -> None:
    x, new = row(state, "x"), row(state, "new")
    assert x["popular.share"] == pytest.approx(1.0)
    assert x["popular.log"] == pytest.approx(np.log(1.001), abs=1e-6)
    assert x["item.count"] == pytest.approx(np.log(4))
    assert x["item.age"] == pytest.approx(np.log1p(0.25))
    assert x["item.idle"] == pytest.approx(np.log1p(2.0))
    assert x["item.unseen"] == 0.0
    assert new["item.unseen"] == 1.0
    assert new["popular.log"] == pytest.approx(np.log(1e-3), abs=1e-5)
    assert new["content.log"] > -7
    assert x["user.count"] == pytest.approx(np.log(2) / 3 - 0.5)
    assert x["popular.log*user.count"] == pytest.approx(x["popular.log"] * x["user.count"])
    assert x["shown"] == 0.0


def test_of_nobody_the_history_says_nothing(state: State) -> None:
    x = row(state, "x", user=None)
    assert x["user.count"] == -0.5
    assert x["covisit.share"] == x["covisit.log"] == x["factors.log"] == 0.0


def test_click_rates_are_smoothed_towards_the_mean(state: State) -> None:
    state.shown(["x"] * 80, [0.5] * 80)
    state.shown(["y"], [1.0])
    x, y, z = (row(state, item)["item.click_rate"] for item in "xyz")
    assert x == pytest.approx(np.log(((40 + 20 * 0.1) / 100 + 1e-3) / 0.101), abs=1e-5)
    assert x > y > z == pytest.approx(0.0, abs=1e-6)


def test_every_value_is_of_the_order_of_one_whatever_the_times(state: State) -> None:
    for ts in (-1e9, 0.0, 1e12):
        for user in ("a", None):
            values = np.array(list(row(state, "x", user, ts).values()))
            assert np.isfinite(values).all()
            assert np.abs(values).max() < 50


def test_what_is_constant_for_a_question_is_said_to_be(state: State) -> None:
    features = Features(SETTINGS)
    candidates = state.candidates_of(["x", "y", "z", "new"], "c", {}, 6 * 3600.0)
    f = features.matrix(state, candidates, "c", 6 * 3600.0, 0.1)
    for name in features.constant:
        assert np.ptp(f[:, features.names.index(name)]) == 0.0


def test_a_shown_row_is_that_of_its_position(state: State) -> None:
    features = Features(SETTINGS)
    head = row(state, "x", shown=True)
    assert (head["shown"], head["shown.position"]) == (1.0, 1.0)
    organic = np.array(list(row(state, "x").values()), np.float32)
    assert features.placed(organic, 1).tolist() == list(head.values())
    third = dict(zip(features.names, features.placed(organic, 3).tolist(), strict=True))
    assert (third["shown"], third["shown.position"]) == (1.0, 0.5)


def test_the_hour_and_the_weekend_are_of_utc(state: State) -> None:
    noon = row(state, "x", ts=1_700_308_800.0)  # Saturday 18 November 2023, 12:00
    assert noon["context.weekend"] == 1.0
    assert noon["context.hour_cos"] == pytest.approx(-1.0)
    assert row(state, "x", ts=1_700_308_800.0 + 2 * DAY)["context.weekend"] == 0.0
