"""A recommender on a real Kafka and a real Redis: two shards that hear of each other, a click that changes what comes next, a
learner that is killed in the middle."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from service_bench import Site, eventually

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.cli.dev_redis import RedisServer
from streamlearn.cli.verify import check_shard
from streamlearn.client import Client
from streamlearn.events import partition_of

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]

SHARDS = 2
ITEMS = 40
TABLES = f"""
[streams.visits]
partitions = {SHARDS}
allowed_lateness_s = 1

[models.shop]
stream = "visits"
task = "recommend"
pipeline = "logistic"

[models.shop.recommend]
factors = 8
share_every = 5
actions = {{ click = 1.0, dislike = -1.0 }}
"""


def visits(count: int, seed: int) -> list[dict[str, Any]]:
    """Users who like even or odd items, whichever is their kind."""
    draw = random.Random(seed)
    found = []
    for n in range(count):
        user = draw.randrange(30)
        item = 2 * draw.randrange(ITEMS // 2) + user % 2
        found.append({"stream": "visits", "id": f"{seed}-{n}", "user": f"u{user}", "item": f"i{item}", "action": "click"})
    return found


@pytest.fixture
def clients() -> Iterator[Callable[[str], Client]]:
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(Client(url))


def test_a_recommender_on_kafka_and_redis(
    sites: Callable[..., Site],
    clients: Callable[[str], Client],
    tmp_path: Path,
    kafka_server: KafkaServer,
    redis_server: RedisServer,
) -> None:
    site = sites(tmp_path, kafka_server.address, redis_server.url, more=TABLES)
    service = site.serve()
    client = clients(site.url)

    def shards() -> list[dict[str, Any]]:
        return [shard.status or {} for shard in client.model("shop").shards]

    def learned(count: int) -> Callable[[], bool]:
        return lambda: sum(status.get("n", 0) for status in shards()) >= count

    records = [
        {"stream": "visits", "item": f"i{item}", "action": "$set", "x": {"kind": "even" if item % 2 == 0 else "odd"}}
        for item in range(ITEMS)
    ]
    site.post([{**record, "id": f"r{n}"} for n, record in enumerate(records)])
    site.post(visits(400, 1))
    eventually(learned(200), "what was posted is learned")

    # Every item is known to both shards, and each has heard of the other's users.
    eventually(lambda: all(status["scores"]["state"]["items"] == ITEMS for status in shards()), "all items on both shards")
    eventually(lambda: all(status["counters"].get("heard", 0) > 20 for status in shards()), "both have heard")

    # Somebody new, on either shard, clicks: what is recommended next is of that kind.
    for shard in range(SHARDS):
        new = next(name for name in (f"new{n}" for n in range(100)) if partition_of(name.encode(), SHARDS) == shard)
        slate = client.recommend("shop", new, k=10)
        assert len(slate.items) == 10
        clicked = next(one.item for one in slate.items if int(one.item[1:]) % 2)
        for item in (clicked, *(f"i{item}" for item in (1, 3, 5) if f"i{item}" != clicked)):
            client.interact("visits", new, item, "click", impression=slate.id if item == clicked else None)

        def follows(new: str = new, clicked: str = clicked) -> bool:
            items = [one.item for one in client.recommend("shop", new, k=10, log=False).items]
            return clicked not in items and sum(int(item[1:]) % 2 for item in items) >= 7

        eventually(follows, "what comes next follows the clicks")

    def joined() -> bool:
        """A click may be in the log before the slate that showed it: then it waits for that."""
        told = [status["counters"] for status in shards()]
        return sum(one.get("joined", 0) + one.get("early_clicks", 0) for one in told) >= SHARDS

    eventually(joined, "clicks joined their slates")

    # A learner that is killed goes on where its checkpoint and its pieces are.
    def kept() -> bool:
        return all(site.world.store.checkpoints("shop", shard) for shard in range(SHARDS))

    eventually(kept, "both shards have a checkpoint")
    before = sum(status["n"] for status in shards())
    learner = service.role("learn")
    assert learner is not None
    os.kill(learner, signal.SIGKILL)
    site.post(visits(200, 2))
    eventually(learned(before + 50), "it goes on")
    site.await_ready()
    assert not any(status["counters"].get("malformed") for status in shards())
    assert service.stop() == 0
    for shard in range(SHARDS):
        assert check_shard(site.world, "shop", shard).verdict == "same", "what it learned, and heard, is what a replay gives"
