"""What shards tell each other of items: as if each had seen all users' interactions, but for whose they were."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend.hearing import Heard, hear, told
from streamlearn.recommend.state import Interaction, State

SETTINGS = RecommendSettings(factors=4, segments=("country",))


def interactions(n: int) -> list[Interaction]:
    draw = random.Random(3)
    return [_one(draw, 1e9 + 60.0 * number) for number in range(n)]


def _one(draw: random.Random, ts: float) -> Interaction:
    user, item = f"u{draw.randrange(20)}", f"i{draw.randrange(30)}"
    return Interaction(user, item, "click", 1.0, ts, {"country": draw.choice("AB")})


def beside(state: State, row: int) -> dict[str, float]:
    """An item's neighbours and how near they are."""
    near = state.covisits.near(np.array([row], np.int32), 1e9 + 24_000.0)
    return {state.item_ids.id_of(at): share for at, share in zip(near[0].tolist(), near[1].tolist(), strict=True)}


def test_two_shards_that_tell_each_other_know_of_items_what_one_shard_would() -> None:
    whole, shards = State(SETTINGS, 1), (State(SETTINGS, 1), State(SETTINGS, 1))
    for one in interactions(400):
        own, other = (shards[0], shards[1]) if int(str(one.user)[1:]) % 2 else (shards[1], shards[0])
        heard = told(own, one)
        assert heard is not None
        own.observe(one)
        hear(other, heard)
        whole.observe(one)
    for shard in shards:
        for item in range(30):
            row, mine = whole.item_ids.row_of(f"i{item}"), shard.item_ids.row_of(f"i{item}")
            assert shard.items.cells["n"][mine] == whole.items.cells["n"][row]
            assert shard.items.raw["heat"][mine] == pytest.approx(whole.items.raw["heat"][row])
            assert beside(shard, mine) == pytest.approx(beside(whole, row))
        assert 0 < len(shard.user_ids) < len(whole.user_ids)


def test_what_says_nothing_of_items_is_not_told() -> None:
    state = State(SETTINGS, 1)
    for weight in (-1.0, 0.0, float("nan"), float("inf")):
        assert told(state, Interaction("u", "i", "dislike", weight, 1e9, {})) is None
    nobody = told(state, Interaction(None, "i", "click", 1.0, 1e9, {}))
    assert nobody == Heard("i", 1.0, 1e9, b"", ("#0",))


def test_no_user_is_named() -> None:
    state = State(SETTINGS, 1)
    state.observe(Interaction("somebody", "i", "click", 1.0, 1e9, {}))
    heard = told(state, Interaction("somebody", "j", "click", 1.0, 1e9, {}))
    assert heard is not None
    assert b"somebody" not in msgspec.msgpack.encode(heard)
    assert len(heard.last) == 8


def test_an_item_that_is_withdrawn_stays_so() -> None:
    state = State(SETTINGS, 1)
    state.set_item("i", {"available": False}, 1e9)
    hear(state, Heard("i", 1.0, 1e9))
    assert state.candidates(None, {}, 1e9).rows.tolist() == []
