"""Crosses against a naive recomputation; that little says little; and that they bring the context into the order of items."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend.crosses import PRIOR, Crosses
from streamlearn.recommend.features import Features
from streamlearn.recommend.recommender import Recommender
from streamlearn.recommend.state import Ask, Interaction, State

HALF_LIFE = 1000.0
DEVICES = {"phone": ("drama", "war", "art"), "tv": ("sport", "news", "music")}


def state_of(genres: dict[str, str], **changed: Any) -> State:
    settings: dict[str, Any] = {"factors": 4, "half_life_s": HALF_LIFE, "segments": ("device",), "item_fields": ("genre",)}
    state = State(RecommendSettings(**{**settings, **changed}), 1)
    for item, genre in genres.items():
        state.set_item(item, {"genre": genre}, 0.0)
    return state


def lifts(state: State, *segments: str) -> dict[str, float]:
    names = [state.item_ids.id_of(row) for row in range(len(state.items))]
    found = state.crosses.lifts(segments, np.arange(len(names), dtype=np.int32))
    return dict(zip(names, found.tolist(), strict=True))


@pytest.mark.parametrize("order", [1, -1], ids=["in time", "backwards"])
def test_a_lift_is_that_of_what_was_seen_against_what_was_to_be_expected(order: int) -> None:
    genres = {"a": "drama|war", "b": "drama", "c": "news", "d": "opera", "e": ""}
    state, draw = state_of(genres), random.Random(2)
    given = [
        (draw.choice("abce"), draw.choice(["device=phone", "device=tv"]), draw.choice([0.5, 1.0]), 40.0 * at)
        for at in range(60)
    ]  # fmt: skip
    for item, segment, weight, ts in given[::order]:
        state.crosses.add([segment], state.item_ids.row_of(item), weight, ts)
    newest = given[-1][3]

    def weight_of(segment: str, token: str) -> float:
        """Of what was liked with the token ("": with any), faded to the newest, since that is where a row stands."""
        where = [one for one in given if segment in ("", one[1])]
        stands = max(ts for item, _, _, ts in where if item != "e")
        own = [one for one in where if (token in genres[one[0]].split("|") if token else genres[one[0]])]
        return sum(weight * 2.0 ** (-(stands - ts) / (Crosses.LIFE * HALF_LIFE)) for _, _, weight, ts in own)

    def lift(segment: str, token: str) -> float:
        expected = weight_of(segment, "") * weight_of("", token) / weight_of("", "")
        return math.log((weight_of(segment, token) + PRIOR) / (expected + PRIOR))

    assert newest > 0
    for segment in ("device=phone", "device=tv"):
        found = lifts(state, segment)
        assert found["a"] == pytest.approx((lift(segment, "drama") + lift(segment, "war")) / 2, rel=1e-4)
        assert found["b"] == pytest.approx(lift(segment, "drama"), rel=1e-4)
        assert found["c"] == pytest.approx(lift(segment, "news"), rel=1e-4)
        assert found["d"] == found["e"] == 0.0
    both = lifts(state, "device=phone", "device=tv", "device=nobody has it")
    assert both["b"] == pytest.approx((lift("device=phone", "drama") + lift("device=tv", "drama")) / 2, rel=1e-4)
    assert set(lifts(state, "device=nobody has it").values()) == {0.0}


def test_little_says_little_and_much_says_more() -> None:
    found = []
    for events in (1, 10, 1000):
        state = state_of({"a": "drama", "b": "news"})
        for _ in range(events):
            state.crosses.add(["device=phone"], state.item_ids.row_of("a"), 1.0, 0.0)
            state.crosses.add(["device=tv"], state.item_ids.row_of("b"), 1.0, 0.0)
        phone = lifts(state, "device=phone")
        assert phone["b"] < 0 < phone["a"]
        found.append(phone["a"])
    assert found[0] < 0.06 < found[1] < found[2] < math.log(2)


def test_without_room_the_lightest_token_makes_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crosses, "SIZE", 2)
    state = state_of({"a": "drama", "b": "news", "c": "war"})
    for item, weight in (("a", 9.0), ("b", 1.0), ("c", 5.0)):
        state.crosses.add(["device=phone"], state.item_ids.row_of(item), weight, 0.0)
    row = next(row for row in range(2) if state.crosses.table["total"][row])
    assert sorted(state.crosses.table["weight"][row].tolist()) == [5.0, 9.0]
    assert state.crosses.table["total"][row] == 15.0


def test_without_declared_segments_nothing_is_kept_and_no_feature_is_there() -> None:
    state = state_of({"a": "drama"}, segments=())
    state.observe(Interaction("u", "a", "click", 1.0, 1.0, {"device": "phone"}))
    assert len(state.crosses.table) == 0
    assert state.candidates("u", {"device": "phone"}, 2.0, seen=False).lifts is None
    without, declared = (Features(RecommendSettings(segments=segments)).names for segments in ((), ("device",)))
    assert [name for name in declared if name not in without] == ["item.lift", "item.lift*user.count"]
    assert [name for name in declared if name in without] == list(without)


NOW = 60.0 * 400


def learned(segments: tuple[str, ...]) -> tuple[Recommender, tuple[str, ...]]:
    """On either device others of six genres are liked, by users who have both; and items that nobody has touched."""
    settings = RecommendSettings(actions={"click": 1.0}, factors=8, segments=segments, explore="none")
    recommender, draw = Recommender(settings, 7), random.Random(3)
    genres = [genre for own in DEVICES.values() for genre in own]
    by_genre = {genre: [f"{genre}{at}" for at in range(80)] for genre in genres}
    for at in range(80):
        for genre in genres:
            recommender.set_item(by_genre[genre][at], {"genre": genre}, 0.0)
    for at in range(400):
        device = draw.choice(list(DEVICES))
        item = draw.choice(by_genre[draw.choice(DEVICES[device])][:-5])
        i = Interaction(f"u{draw.randrange(40)}", item, "click", 1.0, 60.0 * at, {"device": device})
        recommender.rank(i)
        recommender.learn(i)
    return recommender, tuple(item for own in by_genre.values() for item in own[-5:])


def suited(recommender: Recommender, device: str, items: tuple[str, ...] | None) -> float:
    """The share of the first ten that are of the device's genres."""
    slates = [
        recommender.recommend(Ask(f"u{user}", NOW, {"device": device}, items=items), random.Random(1)).items
        for user in range(8)
    ]  # fmt: skip
    genres = [one.item.rstrip("0123456789") for slate in slates for one in slate]
    return sum(genre in DEVICES[device] for genre in genres) / len(genres)


def test_the_order_follows_the_device_once_it_is_declared_and_only_then() -> None:
    (without, new), (declared, _) = learned(()), learned(("device",))
    for items in (None, new):
        blind = [suited(without, device, items) for device in DEVICES]
        assert sum(blind) == pytest.approx(1.0), "without it, both devices are shown the same"
        assert min(suited(declared, device, items) for device in DEVICES) > max(0.8, *blind)
    why = declared.recommend(Ask("u1", NOW, {"device": "tv"}, explain=True), random.Random(1)).items[0].why
    assert why is not None
    assert "item.lift" in [name for name, _ in why]
