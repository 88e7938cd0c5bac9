"""A shard that recommends: its tables go to the store in pieces, come back after any crash, and are followed by who serves."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest
from learning_bench import KEYS, Stage

from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import Corrupt
from streamlearn.learning import checkpoint
from streamlearn.learning.chain import links_of
from streamlearn.learning.shard import Deps, Shard
from streamlearn.recommend.state import Ask
from streamlearn.serving.following import Follower
from streamlearn.store.codec import open_blob
from streamlearn.testing import Abort, AtOnce, FakeClock, Faults, MemoryStore, When


class Shop:
    """Log, store and a shard that recommends, as one process and its successors have them."""

    def __init__(self) -> None:
        settings = {"factors": 4, "window_s": 60.0, "actions": {"click": 1.0, "dislike": -1.0}, "item_fields": ["genre"]}
        self.stage = Stage(
            "recommend", "mlp", recommend=settings, checkpoint={"interval_s": 2, "keep_last": 2, "keep_hourly": 0,
            "keep_daily": 0}, publish={"min_interval_s": 0.1},
        )  # fmt: skip
        self.store, self.faults, self.timer = MemoryStore(clock=self.stage.clock), Faults(), FakeClock(0.0)
        self.n = 0
        for item in range(30):
            self.stage.event(None, 0.0, item=f"i{item}", action="$set", x={"genre": "ab"[item % 2]})
        self.start()

    def start(self) -> Shard:
        log, store = self.stage.log.reopen(), self.faults.over(self.store.reopen())
        about = KEYS, DriftWatch, self.stage.resolve, self.stage.clock, self.timer, AtOnce(), "test"
        self.shard = Shard(Deps(self.stage.settings, log, store, *about), "m", 0)
        return self.shard

    def click(self, count: int) -> None:
        draw = random.Random(self.n)
        for _ in range(count):
            self.n += 1
            user, item = f"u{draw.randrange(20)}", f"i{draw.randrange(30)}"
            self.stage.event(f"e{self.n}", float(self.n), user=user, item=item, action="click")

    def work(self, turns: int = 8) -> None:
        for _ in range(turns):
            self.shard.turn()
            self.timer.advance(1.0)

    @property
    def digest(self) -> str:
        return checkpoint.digest(self.shard.learner)

    def publication(self) -> Any:
        found = self.store.publication("m", 0)
        assert found is not None
        return open_blob(found.blob, KEYS, kind="publication", model="m", shard=0)


def slate(model: Any, user: str = "u1") -> Any:
    ask = Ask(user, 1.8e9, {}, 10)
    return [(one.item, one.score) for one in model.estimator.recommend(ask, random.Random(1)).items]


def test_what_is_served_is_what_was_learned_and_only_what_changed_is_put() -> None:
    shop, follower, fetched = Shop(), Follower(), []

    def fetch(name: str) -> bytes | None:
        fetched.append(name)
        return shop.store.piece("m", 0, name)

    for turn in range(6):
        shop.click(40)
        shop.work()
        sealed = shop.publication()
        model = follower.load(sealed.part("model"), links_of(sealed.header.extra)["model"], fetch)
        assert slate(model) == slate(shop.shard.learner.champion)
        assert model.estimator.__fingerprint__() == shop.shard.learner.champion.estimator.__fingerprint__()
        if turn:
            assert 1 <= len(fetched) <= 4, "a delta or a few, not all of it again"
        fetched.clear()


def test_a_restart_goes_on_where_it_was() -> None:
    shop = Shop()
    shop.click(100)
    shop.work()
    shop.shard.close()
    before = shop.digest
    shop.start()
    assert shop.shard.kept_position == shop.stage.end
    assert shop.digest == before
    shop.click(50)
    shop.work()
    shop.shard.close()
    assert shop.digest == checkpoint.digest(shop.stage.replay())


@pytest.mark.parametrize(
    ("operation", "nth"),
    [*product(("put_piece", "put_publication", "put_checkpoint"), (0, 1, 4)), ("drop_pieces", 0)],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_write_loses_nothing(operation: str, nth: int, when: When) -> None:
    shop, died = Shop(), 0
    shop.click(10)
    shop.work()
    shop.shard.close()
    shop.start()  # from here on there are pieces of a former chain to drop
    shop.faults.fail(operation, Abort(), after=nth, when=when)
    for _ in range(6):
        shop.click(10)
        try:
            shop.work()
        except Abort:
            died += 1
            shop.start()
    assert died == 1
    shop.work()
    shop.shard.close()
    assert shop.digest == checkpoint.digest(shop.stage.replay())


def test_a_store_that_was_emptied_gets_everything_again() -> None:
    shop = Shop()
    shop.click(60)
    shop.work()
    shop.store.empty()
    shop.work()
    sealed = shop.publication()
    model = Follower().load(sealed.part("model"), links_of(sealed.header.extra)["model"], lambda n: shop.store.piece("m", 0, n))
    assert slate(model) == slate(shop.shard.learner.champion)
    shop.shard.close()
    before = shop.digest
    assert shop.start().kept_position == shop.stage.end
    assert shop.digest == before


def test_pieces_that_nothing_refers_to_are_dropped() -> None:
    shop, most = Shop(), 0
    for _ in range(30):
        shop.click(8)
        shop.work(4)
        most = max(most, len(shop.store.pieces("m", 0)))
        for info in shop.store.checkpoints("m", 0):
            sealed = open_blob(shop.store.checkpoint(info.id), KEYS, kind="checkpoint", model="m", shard=0)
            for links in links_of(sealed.header.extra).values():
                assert links.names <= set(shop.store.pieces("m", 0)), "a checkpoint can always be used"
    shop.shard.close()
    shop.start()  # a chain of its own begins
    for _ in range(3):
        shop.click(20)
        shop.work(40)
    assert len(shop.store.pieces("m", 0)) < most


def test_a_checkpoint_whose_piece_is_damaged_is_set_aside() -> None:
    shop = Shop()
    shop.click(60)
    shop.work()
    shop.shard.close()
    before = shop.digest
    for name in shop.store.pieces("m", 0):
        shop.store.put_piece("m", 0, shop.shard.generation, name, b"rot")
    shop.start()
    assert [info.set_aside is not None for info in shop.store.checkpoints("m", 0)] == [True] * len(
        shop.store.checkpoints("m", 0)
    )
    shop.work()
    assert shop.digest == before, "all of it was learned again from the log"


def test_a_publication_whose_piece_is_gone_is_refused_and_the_next_one_is_loaded() -> None:
    shop, follower = Shop(), Follower()
    shop.click(60)
    shop.work()
    sealed = shop.publication()
    links = links_of(sealed.header.extra)["model"]
    with pytest.raises(Corrupt, match="not in the store"):
        follower.load(sealed.part("model"), links, lambda name: None)
    model = follower.load(sealed.part("model"), links, lambda name: shop.store.piece("m", 0, name))
    assert slate(model) == slate(shop.shard.learner.champion)
