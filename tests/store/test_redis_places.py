"""Every kind of address against real servers: TLS, a Unix socket, Sentinel with a fail-over, Cluster."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import redis

from streamlearn.cli.dev_redis import Redis, RedisServer
from streamlearn.errors import Fenced, StoreError, StoreUnavailable
from streamlearn.store import Retention
from streamlearn.store.redis import RedisStore

pytestmark = pytest.mark.redis

KEEP = Retention(last=3, hourly=0, daily=0)
WAIT = 60.0


def works(store: RedisStore) -> None:
    store.claim("m", 0, 2)
    id = store.put_checkpoint("m", 0, 2, b"c" * 100, KEEP)
    tag = store.put_publication("m", 0, 2, b"p" * 100)
    store.put_views({("model", "m"): b"doc"}, 9)
    assert (store.checkpoint(id), store.publication("m", 0)) == (b"c" * 100, (tag, b"p" * 100))
    assert (store.views("model"), store.view_offset()) == ({"m": b"doc"}, 9)
    with pytest.raises(Fenced):
        store.claim("m", 0, 1)
    assert store.memory()["m"] > 200


def test_tls(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis(tls=True)
    store = RedisStore(server.url)
    works(store)
    woken = threading.Event()
    store.listen(woken.set)
    assert woken.wait(WAIT)
    store.close()
    for url, told in (
        (f"rediss://{server.address}", "CERTIFICATE_VERIFY_FAILED"),
        (f"redis://{server.address}", "cannot be used now|did not answer"),
    ):
        wrong = RedisStore(url, timeout_s=1)
        with pytest.raises(StoreUnavailable, match=told):
            wrong.claim("m", 0, 3)
        wrong.close()
    unchecked = RedisStore(f"rediss://{server.address}?ssl_cert_reqs=none&ssl_check_hostname=false")
    unchecked.claim("m", 0, 3)
    unchecked.close()


def test_a_socket(own_redis: Callable[..., RedisServer]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket must be short
        path = f"{folder}/redis.sock"
        own_redis("--unixsocket", path, "--requirepass", "hunter2")
        store = RedisStore(f"unix://{path}?db=3", password="hunter2")
        works(store)
        store.close()
        gone = RedisStore(f"unix://{folder}/other.sock")
        with pytest.raises(StoreUnavailable, match=r"other\.sock"):
            gone.statuses()
        gone.close()


def test_another_database_is_another_store(redis_server: RedisServer) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    one, two = (RedisStore(f"redis://{redis_server.address}/{db}", prefix=prefix) for db in (1, 2))
    one.put_status("m", 0, 1, b"s")
    assert (one.statuses(), two.statuses()) == ({("m", 0): b"s"}, {})
    one.close()
    two.close()


# -- Sentinel


class SentinelServer(RedisServer):
    """A Sentinel that watches one master, and alone decides that it is gone."""

    master: RedisServer

    def prepare(self) -> Sequence[str]:
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        return [super().prepare()[0], str(config), "--sentinel"]


@pytest.fixture
def sentinel(own_redis: Callable[..., RedisServer], redis_program: Redis, tmp_path: Path) -> Iterator[SentinelServer]:
    server = SentinelServer(tmp_path / "sentinel", redis_program)
    server.master = own_redis()
    with server:
        yield server


def test_sentinel(sentinel: SentinelServer) -> None:
    store = RedisStore(f"redis+sentinel://127.0.0.1:1,{sentinel.address}/main")
    works(store)
    store.close()
    other = RedisStore(f"redis+sentinel://{sentinel.address}/other")
    with pytest.raises(StoreUnavailable, match="No master found for 'other'"):
        other.statuses()
    other.close()


@pytest.mark.slow
def test_a_fail_over_is_followed(sentinel: SentinelServer, own_redis: Callable[..., RedisServer]) -> None:
    replica = own_redis("--replicaof", "127.0.0.1", str(sentinel.master.port))
    store = RedisStore(f"redis+sentinel://{sentinel.address}/main", timeout_s=1)
    works(store)
    woken = threading.Event()
    store.listen(woken.set)
    deadline = time.monotonic() + WAIT
    with redis.Redis(port=sentinel.port) as asked, redis.Redis(port=replica.port) as copy:
        while not (asked.sentinel_slaves("main") and copy.info("replication")["master_link_status"] == "up"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        while copy.info("replication")["slave_repl_offset"] < 1 or not copy.keys("*shard"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert woken.wait(WAIT)
    woken.clear()
    sentinel.master.kill()
    failures = 0
    while True:
        try:
            store.claim("m", 0, 2)
            break
        except StoreUnavailable:
            failures += 1
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert failures
    assert store.publication("m", 0).blob == b"p" * 100  # type: ignore[union-attr]  # it is there
    with pytest.raises(Fenced):
        store.claim("m", 0, 1)
    assert woken.wait(WAIT)  # it listens to the new master
    store.close()


# -- Cluster


def test_a_cluster_told_as_one_server_and_the_reverse(redis_cluster: str, redis_server: RedisServer) -> None:
    first = redis_cluster.removeprefix("redis+cluster://").split(",")[0]
    store = RedisStore(f"redis://{first}")
    with pytest.raises(StoreError, match=r"is part of a Cluster: write redis\+cluster://"):
        [store.claim("m", shard, 1) for shard in range(50)]  # some shard is on the other node
    store.close()
    store = RedisStore(f"redis+cluster://{redis_server.address}")
    with pytest.raises(StoreError, match="is no Cluster: write redis://"):
        store.claim("m", 0, 1)
    store.close()


def test_a_cluster_is_found_by_any_of_its_nodes(redis_cluster: str) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    for node in redis_cluster.removeprefix("redis+cluster://").split(","):
        store = RedisStore(f"redis+cluster://127.0.0.1:1,{node}", prefix=prefix)
        for shard in range(20):
            store.put_status("m", shard, 1, b"%d" % shard)
        assert store.statuses() == {("m", shard): b"%d" % shard for shard in range(20)}
        assert len(store.memory()) == 2
        store.close()


def test_shards_lie_on_both_nodes(redis_cluster: str) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    store = RedisStore(redis_cluster, prefix=prefix)
    for shard in range(20):
        store.put_checkpoint("m", shard, 1, b"c" * 10_000, KEEP)
        store.put_publication("m", shard, 1, b"p" * 10_000)
    held = []
    for node in redis_cluster.removeprefix("redis+cluster://").split(","):
        with redis.Redis(port=int(node.rpartition(":")[2])) as asked:
            held.append(len(asked.keys(f"*{prefix}*:shard")))
    assert sum(held) == 20
    assert min(held) > 2
    store.close()


def test_no_cluster_there(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    server.kill()
    store = RedisStore(f"redis+cluster://{server.address}", connect_timeout_s=0.5)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.claim("m", 0, 1)
    assert time.monotonic() - began < 10
    store.close()
