"""What the Redis store does beyond the contract: faults of a real server, zombies, broken-off writes, memory, messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from redis import exceptions

from streamlearn.cli.dev_redis import FORGET, RedisServer
from streamlearn.errors import Corrupt, Fenced, StoreError, StoreFull, StoreUnavailable
from streamlearn.store import Retention
from streamlearn.store.redis import RedisStore
from streamlearn.store.redis_parts import UNPUBLISHED_S

pytestmark = pytest.mark.redis

KEEP = Retention(last=3, hourly=0, daily=0)
WAIT = 30.0
MIB = 1 << 20
Open = Callable[..., RedisStore]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens handles on one store, whichever server it is on."""
    prefix, made = f"test-{uuid.uuid4().hex}", []

    def open_one(server: RedisServer, **options: Any) -> RedisStore:
        made.append(RedisStore(server.url, **{"prefix": prefix, **options}))
        return made[-1]

    yield open_one
    for store in made:
        store.close()


@pytest.fixture
def store(redis_server: RedisServer, opened: Open) -> RedisStore:
    return opened(redis_server)


def client(server: RedisServer) -> Any:
    return redis.Redis(port=server.port)


def keys(store: RedisStore, pattern: str = "*") -> set[str]:
    found = store._link.command("KEYS", f"{{{store._prefix}*{pattern}")
    return {key.decode() for key in found}


# -- killed, frozen, emptied


def test_killed_and_restarted_with_its_data(own_redis: Callable[..., RedisServer], opened: Open) -> None:
    server = own_redis()
    store = opened(server)
    id = store.put_checkpoint("m", 0, 5, b"c" * 3000, KEEP)
    tag = store.put_publication("m", 0, 5, b"p")
    server.kill()
    for call in (lambda: store.publication("m", 0), lambda: store.put_status("m", 0, 5, b"s"), store.statuses):
        with pytest.raises(StoreUnavailable, match=rf"the Redis store at redis://127.0.0.1:{server.port} cannot be used now"):
            call()
    server.start()
    assert store.checkpoint(id) == b"c" * 3000
    assert store.publication("m", 0) == (tag, b"p")
    with pytest.raises(Fenced):
        store.claim("m", 0, 4)
    assert store.put_publication("m", 0, 5, b"next") != tag


def test_restarted_empty(own_redis: Callable[..., RedisServer], opened: Open) -> None:
    server = own_redis(*FORGET)
    store = opened(server)
    id = store.put_checkpoint("m", 0, 5, b"c", KEEP)
    tag = store.put_publication("m", 0, 5, b"p")
    store.put_views({("model", "m"): b"doc"}, 9)
    server.kill()
    server.start()
    assert (store.checkpoints("m", 0), store.statuses(), store.view_offset()) == ([], {}, 0)
    assert store.publication("m", 0, after=tag) is None
    newer = store.put_publication("m", 0, 5, b"again")
    assert newer != tag
    assert store.publication("m", 0, after=tag) == (newer, b"again")
    assert store.put_checkpoint("m", 0, 5, b"c", KEEP) > id
    assert store.shards() == [("m", 0)]


def test_frozen_and_resumed(own_redis: Callable[..., RedisServer], opened: Open) -> None:
    server = own_redis()
    store = opened(server, timeout_s=0.3, connect_timeout_s=0.3)
    tag = store.put_publication("m", 0, 1, b"p")
    server.freeze()
    try:
        for call in (lambda: store.publication("m", 0, tag), lambda: store.put_checkpoint("m", 0, 1, b"c", KEEP)):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"did not answer in 0\.3 s"):
                call()
            assert time.monotonic() - began < 5
        fresh = opened(server, timeout_s=0.3, connect_timeout_s=0.3)
        with pytest.raises(StoreUnavailable):
            fresh.claim("m", 0, 2)
    finally:
        server.resume()
    assert store.publication("m", 0) == (tag, b"p")
    store.put_checkpoint("m", 0, 1, b"c", KEEP)


def test_gone_at_start_and_there_later(own_redis: Callable[..., RedisServer], opened: Open) -> None:
    server = own_redis()
    server.kill()
    store = opened(server)
    woken = threading.Event()
    stop = store.listen(woken.set)
    with pytest.raises(StoreUnavailable):
        store.claim("m", 0, 1)
    assert not woken.is_set()
    server.start()
    store.claim("m", 0, 1)
    assert woken.wait(WAIT)  # it may have missed something, so it says so once it hears again
    stop()


def test_who_listens_hears_again_after_a_restart(own_redis: Callable[..., RedisServer], opened: Open) -> None:
    server = own_redis()
    store = opened(server)
    woken = threading.Event()
    store.listen(woken.set)
    assert woken.wait(WAIT)
    woken.clear()  # before: it may hear again while `restart` still waits
    server.restart()
    assert woken.wait(WAIT)
    deadline = time.monotonic() + WAIT
    woken.clear()
    while not woken.is_set() and time.monotonic() < deadline:
        opened(server).put_publication("m", 0, 1, b"p")
        woken.wait(0.2)
    assert woken.is_set()


def test_a_server_that_forgot_the_scripts_learns_them_again(store: RedisStore) -> None:
    store.claim("m", 0, 1)
    store._link.command("SCRIPT", "FLUSH")
    store.put_publication("m", 0, 1, b"p")
    assert store.publication("m", 0).blob == b"p"  # type: ignore[union-attr]  # it is there


# -- full, read-only


def test_out_of_memory_then_space_again(own_redis: Callable[..., RedisServer], opened: Open) -> None:
    server = own_redis()
    store = opened(server, part_bytes=MIB)
    kept = store.put_checkpoint("m", 0, 1, b"kept", KEEP)
    tag = store.put_publication("m", 0, 1, b"kept")
    store.put_version("m", 1, 0, b"v")
    with client(server) as admin:
        admin.config_set("maxmemory", admin.info("memory")["used_memory"] + 4 * MIB)
        blob = os.urandom(16 * MIB)
        for write in (
            lambda: store.put_checkpoint("m", 0, 2, blob, KEEP),
            lambda: store.put_publication("m", 0, 2, blob),
            lambda: store.put_version("m", 1, 0, blob),
        ):
            with pytest.raises(StoreFull, match=r"is full, nothing was written: give it more memory \(maxmemory\)"):
                write()
        assert [info.id for info in store.checkpoints("m", 0)] == [kept]
        assert store.publication("m", 0) == (tag, b"kept")
        assert store.version("m", 1, 0) == b"v"
        store.put_status("m", 0, 1, b"still mine")  # what failed has fenced nobody, and its parts were freed at once
        admin.config_set("maxmemory", 1)
        for refused in (
            lambda: store.put_status("m", 0, 3, b"s"),
            lambda: store.claim("m", 0, 3),
            lambda: store.put_views({("a", "b"): b"c"}, 3),
        ):
            with pytest.raises(StoreFull):
                refused()
        assert (store.statuses(), store.view_offset()) == ({("m", 0): b"still mine"}, 0)
        store.drop_version("m", 1)
        assert store.version("m", 1, 0) is None
        admin.config_set("maxmemory", 0)
        store.put_checkpoint("m", 0, 1, blob, KEEP)
    assert len(keys(store, "part*")) == 1 + 1 + 16


def test_read_only_then_writable_again(own_redis: Callable[..., RedisServer], opened: Open) -> None:
    server, store_of = own_redis(), opened
    store = store_of(server)
    tag = store.put_publication("m", 0, 1, b"p")
    with client(server) as admin:
        admin.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailable, match="read only"):
            store.put_publication("m", 0, 1, b"next")
        with pytest.raises(StoreUnavailable, match="read only"):
            store.claim("m", 0, 9)
        assert store.publication("m", 0) == (tag, b"p")
        admin.config_set("replica-serve-stale-data", "no")
        with pytest.raises(StoreUnavailable):
            store.publication("m", 0)
        admin.replicaof("NO", "ONE")
        store.claim("m", 0, 1)
        admin.config_set("min-replicas-to-write", 1)
        with pytest.raises(StoreUnavailable, match="Not enough good replicas"):
            store.put_publication("m", 0, 1, b"next")
        assert store.publication("m", 0) == (tag, b"p")
        admin.config_set("min-replicas-to-write", 0)
        store.put_publication("m", 0, 1, b"next")


# -- who may ask


def test_a_wrong_password_is_no_outage_and_is_not_told(own_redis: Callable[..., RedisServer], opened: Open) -> None:
    server = own_redis("--requirepass", "hunter2")
    for password in ("wrong-one", None):
        with pytest.raises(StoreError, match=r"refuses the user, the password or what they may do: mend") as caught:
            opened(server, password=password).claim("m", 0, 1)
        assert not isinstance(caught.value, StoreUnavailable)
        assert "wrong-one" not in str(caught.value)
        assert "hunter2" not in str(caught.value)
    opened(server, password="hunter2").claim("m", 0, 1)


def test_a_user_that_may_do_no_more_than_it_needs(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    with client(server) as admin:
        may = "+@read +@write +@scripting +publish +subscribe +unsubscribe +ping +memory|usage -@dangerous"
        admin.execute_command("ACL", "SETUSER", "app", *f"on >s3cret ~{{mine* &{{mine* {may}".split())
    url = f"redis://app:s3cret@{server.address}"
    store = RedisStore(url, prefix="mine")
    woken = threading.Event()
    store.listen(woken.set)
    store.put_checkpoint("m", 0, 1, b"c", KEEP)
    store.put_publication("m", 0, 1, b"p")
    store.put_version("m", 1, 0, b"v")
    store.drop_version("m", 1)
    store.put_views({("model", "m"): b"doc"}, 9)
    store.clear_views()
    assert store.memory()["m"] > 0
    assert woken.wait(WAIT)
    store.close()
    other = RedisStore(url, prefix="theirs")
    with pytest.raises(StoreError, match="refuse"):
        other.claim("m", 0, 1)
    other.close()


# -- broken-off writes and lost parts

WRITER = """
import sys
from streamlearn.store import Retention
from streamlearn.store.redis import RedisStore

store = RedisStore(sys.argv[1], prefix=sys.argv[2], part_bytes=2000)
getattr(store, sys.argv[3])("m", 0, 1, b"x" * 20_000_000, *([Retention()] if sys.argv[3] == "put_checkpoint" else []))
"""


@pytest.mark.parametrize("method", ["put_checkpoint", "put_publication"])
def test_a_write_that_is_broken_off_leaves_nothing_that_is_seen_or_stays(
    store: RedisStore, redis_server: RedisServer, method: str
) -> None:
    id = store.put_checkpoint("m", 0, 1, b"whole", KEEP)
    tag = store.put_publication("m", 0, 1, b"whole")
    whole = keys(store, "part*")
    process = subprocess.Popen([sys.executable, "-c", WRITER, redis_server.url, store._prefix, method])
    deadline = time.monotonic() + WAIT
    while len(keys(store, "part*")) < 20 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait(WAIT)
    orphans = keys(store, "part*") - whole
    assert len(orphans) in range(10, 10_000)
    lives = store._link.commands([("TTL", key) for key in orphans])
    assert min(lives) > 0
    assert max(lives) <= UNPUBLISHED_S
    assert [info.id for info in store.checkpoints("m", 0)] == [id]
    assert store.publication("m", 0) == (tag, b"whole")
    assert store._link.commands([("TTL", key) for key in sorted(whole)]) == [-1, -1]


def test_parts_that_expired_before_they_were_published_are_not_published(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the writer had slept for longer than unpublished parts live: once it writes them again, always it gives up."""
    from streamlearn.store import redis as module

    real, lost = module.upload, []

    def forgetful(*args: Any) -> tuple[str, ...]:
        names = real(*args)
        if len(lost) < most:
            lost.append(names)
            store._link.command("DEL", names[0])
        return names

    monkeypatch.setattr(module, "upload", forgetful)
    for most, write in (
        (1, lambda: store.put_publication("m", 0, 1, b"p" * 100)),
        (2, lambda: store.put_checkpoint("m", 0, 1, b"c" * 100, KEEP)),
        (3, lambda: store.put_version("m", 1, 0, b"v" * 100)),
    ):
        write()
        assert len(lost) == most
    most = 1000
    for write in (
        lambda: store.put_publication("m", 0, 1, b"q" * 100),
        lambda: store.put_checkpoint("m", 0, 1, b"d" * 100, KEEP),
        lambda: store.put_version("m", 1, 0, b"w" * 100),
    ):
        with pytest.raises(StoreUnavailable, match="its parts were lost"):
            write()
    assert store.publication("m", 0).blob == b"p" * 100  # type: ignore[union-attr]  # it is there
    assert [store.checkpoint(info.id) for info in store.checkpoints("m", 0)] == [b"c" * 100]
    assert store.version("m", 1, 0) == b"v" * 100


def test_a_blob_that_lost_a_part_is_told_as_what_it_is(redis_server: RedisServer, opened: Open) -> None:
    """A server that evicts may take any part."""
    store = opened(redis_server, part_bytes=1000)
    store.put_publication("m", 0, 1, b"p" * 5000)
    id = store.put_checkpoint("m", 0, 1, b"c" * 5000, KEEP)
    store.put_version("m", 1, 0, b"v" * 5000)
    assert len(keys(store, "part*")) == 15
    for key in keys(store, "part*:3"):
        store._link.command("DEL", key)
    with pytest.raises(Corrupt, match=rf"checkpoint {id} of m/0 has lost a part .*noeviction"):
        store.checkpoint(id)
    with pytest.raises(StoreError, match=r"the publication of m/0 has lost a part .*noeviction"):
        store.publication("m", 0)
    assert store.version("m", 1, 0) is None
    store.put_publication("m", 0, 1, b"new")
    assert store.publication("m", 0).blob == b"new"  # type: ignore[union-attr]  # it is there


def test_who_began_to_read_a_publication_can_finish_when_it_is_replaced(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamlearn.store import redis as module

    store.put_publication("m", 0, 1, b"one")
    real, replaced = module.fetch, []

    def slow(*args: Any) -> bytes | None:
        if len(replaced) < most:
            for _ in range(each):
                replaced.append(store.put_publication("m", 0, 1, b"next"))
        return real(*args)

    monkeypatch.setattr(module, "fetch", slow)
    most, each = 1, 1
    assert store.publication("m", 0).blob == b"one"  # type: ignore[union-attr]  # it is there
    most, each = 3, 2  # it is replaced twice while it is read: the newest is read instead
    found = store.publication("m", 0)
    assert found == (replaced[-1], b"next")


# -- zombies

ZOMBIE = """
import sys
from streamlearn.errors import Fenced, StoreUnavailable
from streamlearn.store import Retention
from streamlearn.store.redis import RedisStore

store = RedisStore(sys.argv[1], prefix=sys.argv[2], timeout_s=60)
store.claim("m", 0, 1)
n = 0
try:
    while True:
        n += 1
        store.put_checkpoint("m", 0, 1, b"old" * 1000, Retention(2, 0, 0))
        store.put_publication("m", 0, 1, b"old" * 1000)
        store.put_status("m", 0, 1, b"old")
        if n == 5:
            print("going", flush=True)
except Fenced as error:
    print("fenced", error.current, flush=True)
"""


@pytest.fixture
def zombie(store: RedisStore, own_redis: Callable[..., RedisServer]) -> Iterator[tuple[subprocess.Popen[str], RedisServer]]:
    """A process that writes as generation 1 as fast as it can, held in the middle of it; and the server, of its own."""
    server = own_redis()
    command = [sys.executable, "-c", ZOMBIE, server.url, store._prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "going\n"
            process.send_signal(signal.SIGSTOP)
            yield process, server
        finally:
            process.kill()


def last_word(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=WAIT)
    return out


def test_a_zombie_that_was_held_through_its_replacement(zombie: Any, opened: Open) -> None:
    process, server = zombie
    store = opened(server)
    store.claim("m", 0, 2)
    assert store.publication("m", 0).blob == b"old" * 1000  # type: ignore[union-attr]  # served until there is a newer one
    mine = store.put_checkpoint("m", 0, 2, b"new", KEEP)
    tag = store.put_publication("m", 0, 2, b"new")
    store.put_status("m", 0, 2, b"new")
    assert last_word(process) == "fenced 2\n"
    assert store.checkpoints("m", 0)[0].id == mine
    assert store.publication("m", 0) == (tag, b"new")
    assert store.statuses() == {("m", 0): b"new"}


def test_a_zombie_that_was_held_while_redis_was_emptied(zombie: Any, opened: Open) -> None:
    process, server = zombie
    store = opened(server)
    store.claim("m", 0, 2)
    store._link.command("FLUSHALL")
    store.put_status("m", 0, 2, b"new")  # the first write of any kind re-establishes the fence
    assert last_word(process) == "fenced 2\n"
    assert (store.checkpoints("m", 0), store.publication("m", 0)) == ([], None)
    assert store.statuses() == {("m", 0): b"new"}


def test_a_zombie_that_writes_into_an_emptied_redis_before_its_successor_does(zombie: Any, opened: Open) -> None:
    """It is not refused, for nobody remembers the claim; but nothing of it wins over what the successor writes next."""
    process, server = zombie
    store = opened(server)
    store.claim("m", 0, 2)
    store._link.command("FLUSHALL")
    process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + WAIT
    while not (store.checkpoints("m", 0) and store.publication("m", 0) and store.statuses()):
        assert time.monotonic() < deadline
    mine = store.put_checkpoint("m", 0, 2, b"new", KEEP)
    assert last_word(process) == "fenced 2\n"
    tag = store.put_publication("m", 0, 2, b"new")
    store.put_status("m", 0, 2, b"new")
    assert store.checkpoints("m", 0)[0][:2] == (mine, 2)
    assert store.publication("m", 0) == (tag, b"new")
    assert store.statuses() == {("m", 0): b"new"}


def test_a_zombies_checkpoint_that_came_later_does_not_go_first(store: RedisStore) -> None:
    """As after a fail-over to a replica that had lost the claim, but not the checkpoints."""
    mine = store.put_checkpoint("m", 0, 9, b"mine", KEEP)
    store._link.command("HDEL", store._shard(("m", 0)), "generation")
    late = store.put_checkpoint("m", 0, 5, b"zombie", KEEP)
    assert [info.id for info in store.checkpoints("m", 0)] == [mine, late]
    again = store.put_checkpoint("m", 0, 9, b"again", Retention(last=2, hourly=0, daily=0))
    assert [info.id for info in store.checkpoints("m", 0)] == [again, mine]


@pytest.mark.slow
def test_processes_of_two_generations_write_at_once(zombie: Any, opened: Open) -> None:
    """The newer one gets through however fast the older one writes, and is the last."""
    process, server = zombie
    store = opened(server)
    process.send_signal(signal.SIGCONT)
    for n in range(30):
        store.put_publication("m", 0, 2, b"new %d" % n)
        store.put_checkpoint("m", 0, 2, b"new %d" % n, KEEP)
    assert last_word(process) == "fenced 2\n"
    assert store.publication("m", 0).blob == b"new 29"  # type: ignore[union-attr]  # it is there
    assert [store.checkpoint(info.id) for info in store.checkpoints("m", 0)] == [b"new 29", b"new 28", b"new 27"]


# -- memory


def test_memory_is_reported_by_model_and_bounded_by_retention(store: RedisStore) -> None:
    assert store.memory() == {"_views": 0}
    for shard in range(2):
        for _ in range(6):
            store.put_checkpoint("big", shard, 1, os.urandom(MIB), KEEP)
    store.put_publication("small", 0, 1, b"p" * 1000)
    before = store.memory()
    assert 6 * MIB < before["big"] < 8 * MIB
    assert 1000 < before["small"] < 4000
    for n in range(20):
        store.put_publication("big", 0, 1, os.urandom(MIB))
        store.put_version("big", n % 2, 0, os.urandom(MIB))
    assert 10 * MIB < store.memory()["big"] < 14 * MIB
    store.drop_version("big", 0)
    store.drop_version("big", 1)
    store.put_views({("audit", str(n)): b"x" * 1000 for n in range(100)}, 1)
    after = store.memory()
    assert 8 * MIB < after["big"] < 11 * MIB
    assert after["_views"] > 100_000


def test_only_what_is_needed_stays(redis_server: RedisServer, opened: Open) -> None:
    store = opened(redis_server, part_bytes=1000)
    for _ in range(10):
        store.put_publication("m", 0, 1, b"p" * 2500)
        store.put_checkpoint("m", 0, 1, b"c" * 2500, KEEP)
    lasting = [key for key in keys(store, "part*") if store._link.command("TTL", key) == -1]
    assert len(lasting) == 3 + 3 * 3
    assert len(keys(store, "part*")) == 3 + 3 * 3 + 3  # and the publication before, for readers that have begun
    store.put_version("m", 1, 0, b"v" * 2500)
    store.drop_version("m", 1)
    assert len(keys(store, "part*")) == 3 + 3 * 3 + 3


def test_a_version_whose_drop_was_cut_off_is_listed_until_it_is_gone(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in (0, 1):
        for name in ("a", "b"):
            store.put_version_piece("m", 1, shard, name, b"of its tables")
        store.put_version("m", 1, shard, b"v", ["a", "b"])
    drop, done = store._drop_free, 0

    def cut_off(*given: Any) -> None:
        nonlocal done
        done += 1
        if done % 3 == 2:  # each time at another place
            raise StoreUnavailable("down")
        drop(*given)

    monkeypatch.setattr(store, "_drop_free", cut_off)
    tries = 0
    while store.versions():
        tries += 1
        with suppress(StoreUnavailable):
            store.drop_version("m", 1)
    assert tries > 2
    assert [store.version_pieces("m", 1, shard) for shard in (0, 1)] == [{}, {}]


# -- what its errors become


@pytest.mark.parametrize(
    ("error", "becomes", "told"),
    [
        (exceptions.ConnectionError("Error 111 connecting"), StoreUnavailable, "cannot be used now"),
        (exceptions.BusyLoadingError("Redis is loading", status_code="LOADING"), StoreUnavailable, "loading"),
        (exceptions.ReadOnlyError("You can't write", status_code="READONLY"), StoreUnavailable, "You can't write"),
        (exceptions.MasterDownError("Link with MASTER is down"), StoreUnavailable, "MASTER is down"),
        (exceptions.ClusterDownError("Hash slot not served", status_code="CLUSTERDOWN"), StoreUnavailable, "not served"),
        (exceptions.RedisClusterException("cannot be connected"), StoreUnavailable, "cannot be connected"),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas"), StoreUnavailable, "NOREPLICAS"),
        (exceptions.ResponseError("BUSY Redis is busy running a script"), StoreUnavailable, "busy"),
        (exceptions.TryAgainError("Multiple keys request", status_code="TRYAGAIN"), StoreUnavailable, "Multiple keys"),
        (exceptions.TimeoutError("Timeout reading from socket"), StoreUnavailable, "did not answer in 3 s"),
        (OSError("broken"), StoreUnavailable, "broken"),
        (exceptions.OutOfMemoryError("command not allowed", status_code="OOM"), StoreFull, "maxmemory"),
        (
            exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's unable to"),
            StoreFull,
            "free space on its disk",
        ),
        (
            exceptions.ResponseError("ERR Error running script (call to f_1): @user_script:3: @user_script: 3: -OOM command"),
            StoreFull,
            "maxmemory",
        ),
        (
            exceptions.ResponseError("ERR Error running script (call to f_12): @user_script:3: -READONLY You can't write"),
            StoreUnavailable,
            "You can't write",
        ),
        (exceptions.MovedError("1234 127.0.0.1:7001"), StoreError, "write redis\\+cluster://"),
        (exceptions.AuthenticationError("invalid username-password pair"), StoreError, "mend store.redis"),
        (exceptions.NoPermissionError("this user has no permissions"), StoreError, "what they may do"),
        (exceptions.RedisClusterException("Cluster mode is not enabled on this node"), StoreError, "write redis://"),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), StoreError, "refused: WRONGTYPE"),
        (exceptions.DataError("Invalid input of type"), StoreError, "Invalid input"),
    ],
)
def test_errors_become_ours(store: RedisStore, error: Exception, becomes: type[StoreError], told: str) -> None:
    found = store._link.explain(error)
    assert type(found) is becomes
    with pytest.raises(becomes, match=told):
        raise found
    assert "the Redis store at redis://" in str(found)


def test_a_document_that_cannot_be_put_keeps_the_others_out(store: RedisStore) -> None:
    store.put_views({("case", "a"): b"1"}, 5)
    with pytest.raises(StoreError):
        store.put_views({("case", "b"): b"2", ("case", "c"): object()}, 9)  # type: ignore[dict-item]  # as a mistake would
    assert list(store.views("case")) == ["a"]
    assert store.view_offset() == 5
