"""Shards of a recommender tell each other of items, over the log: each once, in any order of reading, after any crash."""

from __future__ import annotations

import random
from typing import Any

import pytest
from learning_bench import NOW, Stage

from streamlearn.errors import EventError
from streamlearn.events import Event, Kind, encode, partition_of
from streamlearn.learning import checkpoint
from streamlearn.learning.carrier import Carrier
from streamlearn.learning.recommend_learner import RecommendLearner
from streamlearn.learning.sharing import Shared, read
from streamlearn.learning.sharing import encode as encode_shared
from streamlearn.recommend.hearing import Heard
from streamlearn.testing import FakeClock

SHARDS = 2


class Shop:
    """A recommender on two partitions."""

    def __init__(self, **recommend: Any) -> None:
        settings = {"factors": 4, "actions": {"click": 1.0}, "share_every": 5, **recommend}
        self.stage = Stage("recommend", "logistic", {"partitions": SHARDS}, recommend=settings)
        self.learners = [self.new(shard) for shard in range(SHARDS)]
        self.carriers = [self.carrier(learner) for learner in self.learners]
        self.n = 0

    def new(self, shard: int) -> RecommendLearner:
        learner = self.stage.new(shard=shard)
        assert isinstance(learner, RecommendLearner)
        return learner

    def carrier(self, learner: Any) -> Carrier:
        return Carrier(self.stage.log, learner, FakeClock(0.0))

    def click(self, count: int) -> None:
        draw = random.Random(self.n)
        for _ in range(count):
            self.n += 1
            user, item = f"u{draw.randrange(20)}", f"i{draw.randrange(10)}"
            event = Event("s", f"e{self.n}", NOW + 0.1 * self.n, user=user, item=item, action="click")
            self.stage.put(encode(event), key=user.encode(), partition=partition_of(user.encode(), SHARDS))

    def read(self, shard: int, until: int | None = None) -> None:
        learner = self.learners[shard]
        end = self.stage.log.bounds("s", shard)[1] if until is None else until
        self.stage.learn(learner, end)

    def turn(self) -> None:
        for shard in range(SHARDS):
            self.read(shard)
            self.carriers[shard].carry_all()

    def seen(self, shard: int) -> dict[str, float]:
        state = self.learners[shard].champion.estimator.state
        rows = {f"i{item}": state.item_ids.row_of(f"i{item}") for item in range(10)}
        return {name: state.items.cells["n"][row] for name, row in rows.items() if row >= 0}


def test_every_shard_knows_what_all_users_did_with_items() -> None:
    shop, one = Shop(), {}
    for _ in range(20):
        shop.click(10)
        shop.turn()
    for _ in range(3):
        for shard in range(SHARDS):  # what waits to be told is told at the next heartbeat
            shop.stage.put(b"", Kind.HEARTBEAT, b"", shard)
        shop.turn()
    for record in [r for shard in range(SHARDS) for r in shop.stage.log.read("s", shard, 0, 10_000) if r.kind == Kind.EVENT]:
        item = record.value.split(b'"item":"')[1].split(b'"')[0].decode()
        one[item] = one.get(item, 0.0) + 1.0
    assert shop.seen(0) == shop.seen(1) == one
    assert all(learner.counters["heard"] for learner in shop.learners)
    assert not any(learner.counters.get("repeated_shares") for learner in shop.learners)


def test_what_is_told_is_heard_in_the_order_of_the_partition_whenever_it_is_read() -> None:
    shop = Shop()
    for _ in range(6):
        shop.click(20)
        shop.turn()
    shop.read(0)
    again = shop.stage.replay()
    assert checkpoint.digest(again) == checkpoint.digest(shop.learners[0])
    assert checkpoint.digest(shop.stage.again(shop.learners[0])) == checkpoint.digest(shop.learners[0])


def test_a_shard_that_recovers_tells_it_again_and_it_is_heard_once() -> None:
    shop = Shop()
    shop.click(60)
    kept = shop.stage.again(shop.learners[0])
    shop.turn()
    shop.turn()
    before = shop.seen(1)
    shop.learners[0] = kept
    shop.carriers[0] = shop.carrier(kept)
    shop.turn()
    shop.turn()
    assert shop.seen(1) == before
    assert shop.learners[1].counters["repeated_shares"] > 0


def test_what_waits_is_told_when_it_is_old() -> None:
    shop = Shop(share_every=1000, share_s=1.0)
    shop.click(100)
    shop.turn()
    shop.turn()
    assert shop.learners[0].counters["heard"] > 0
    told = [r for shard in range(SHARDS) for r in shop.stage.log.read("s", shard, 0, 10_000) if r.kind == Kind.SHARED]
    assert 5 <= len(told) <= 30


def test_nothing_is_told_where_that_is_off_or_there_is_one_shard() -> None:
    shop = Shop(share_every=0)
    shop.click(60)
    shop.turn()
    assert not any(r.kind == Kind.SHARED for shard in range(SHARDS) for r in shop.stage.log.read("s", shard, 0, 10_000))
    alone = Stage("recommend", "logistic", recommend={"actions": {"click": 1.0}, "share_every": 1})
    for n in range(10):
        alone.event(f"e{n}", n, user="u", item="i", action="click")
    assert alone.learn().shares == []


def test_another_models_shares_and_broken_ones() -> None:
    shop = Shop()
    heard = [Heard("i1", 1.0, NOW)]
    shop.stage.put(encode_shared(Shared("other", 1, 5, heard)), Kind.SHARED, b"", 0)
    shop.stage.put(b"no share", Kind.SHARED, b"", 0)
    shop.stage.put(encode_shared(Shared("m", 0, 5, heard)), Kind.SHARED, b"", 0)
    shop.read(0)
    assert "heard" not in shop.learners[0].counters
    assert [letter.reason for letter in shop.stage.dead] == ["malformed"]
    binary = Stage()
    binary.put(encode_shared(Shared("m", 1, 5, heard)), Kind.SHARED)
    binary.learn()
    assert binary.dead == []


def test_hashes_that_are_cut_off_are_told() -> None:
    with pytest.raises(EventError, match="cut off"):
        read(encode_shared(Shared("m", 1, 5, [Heard("i", 1.0, 0.0, b"123")])))
