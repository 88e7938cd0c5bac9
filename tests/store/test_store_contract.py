"""What every store must do, run over every backend that conftest names."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from streamlearn.errors import Fenced, StoreError, StoreUnavailable
from streamlearn.store import CheckpointInfo, Publication, Retention, Store

KEEP = Retention(last=3, hourly=0, daily=0)
WAIT = 20.0


# -- fencing


def test_an_older_generation_is_fenced(backend: Any, store: Store) -> None:
    store.claim("m", 0, 5)
    other = backend.open()
    other.claim("m", 0, 9)
    for write in (
        lambda: store.claim("m", 0, 5),
        lambda: store.put_checkpoint("m", 0, 5, b"c", KEEP),
        lambda: store.put_publication("m", 0, 5, b"p"),
        lambda: store.put_status("m", 0, 8, b"{}"),
    ):
        with pytest.raises(Fenced) as caught:
            write()
        assert (caught.value.model, caught.value.shard, caught.value.current) == ("m", 0, 9)
    assert store.checkpoints("m", 0) == []
    assert store.publication("m", 0) is None
    assert store.statuses() == {}


def test_the_newest_generation_writes_on(store: Store) -> None:
    store.claim("m", 0, 9)
    store.claim("m", 0, 9)
    store.put_checkpoint("m", 0, 9, b"c", KEEP)
    store.put_publication("m", 0, 9, b"p")
    store.put_status("m", 0, 9, b"{}")
    assert len(store.checkpoints("m", 0)) == 1


@pytest.mark.parametrize("how", ["checkpoint", "publication", "status"])
def test_a_write_fences_as_a_claim_does(store: Store, how: str) -> None:
    """The store may have been emptied since the claim: then the successor's first write fences the zombie."""
    if how == "checkpoint":
        store.put_checkpoint("m", 0, 7, b"c", KEEP)
    elif how == "publication":
        store.put_publication("m", 0, 7, b"p")
    else:
        store.put_status("m", 0, 7, b"{}")
    with pytest.raises(Fenced):
        store.put_checkpoint("m", 0, 6, b"zombie", KEEP)


def test_shards_and_models_are_fenced_apart(store: Store) -> None:
    store.claim("m", 0, 9)
    store.put_status("m", 1, 1, b"1")
    store.put_status("n", 0, 2, b"2")
    assert store.statuses() == {("m", 1): b"1", ("n", 0): b"2"}


# -- pieces


def test_pieces_are_kept_by_name_and_shard_until_they_are_dropped(backend: Any, store: Store) -> None:
    large = random.Random(1).randbytes(200_000)
    store.put_piece("m", 0, 1, "base-1", large)
    store.put_piece("m", 0, 1, "delta-2", b"")
    store.put_piece("m", 1, 1, "base-1", b"of another shard")
    assert store.piece("m", 0, "base-1") == large
    assert store.piece("m", 0, "delta-2") == b""
    assert store.piece("m", 1, "base-1") == b"of another shard"
    assert store.piece("m", 0, "delta-3") is None
    assert backend.open().pieces("m", 0) == {"base-1": 200_000, "delta-2": 0}
    assert store.memory()["m"] >= 200_000
    store.drop_pieces("m", 0, 1, ["base-1", "never-there"])
    assert store.pieces("m", 0) == {"delta-2": 0}
    assert store.piece("m", 0, "base-1") is None
    assert store.pieces("m", 1) == {"base-1": 16}
    assert store.pieces("n", 0) == {}


def test_the_same_piece_again_is_the_same_piece(store: Store) -> None:
    for _ in range(2):
        store.put_piece("m", 0, 1, "base-1", b"bytes")
    assert store.pieces("m", 0) == {"base-1": 5}
    assert store.piece("m", 0, "base-1") == b"bytes"


def test_pieces_are_fenced(store: Store) -> None:
    store.put_piece("m", 0, 7, "base-1", b"mine")
    with pytest.raises(Fenced):
        store.put_piece("m", 0, 6, "base-1", b"a zombie's")
    with pytest.raises(Fenced):
        store.drop_pieces("m", 0, 6, ["base-1"])
    assert store.piece("m", 0, "base-1") == b"mine"
    with pytest.raises(Fenced):
        store.put_checkpoint("m", 0, 6, b"zombie", KEEP)


# -- checkpoints


def test_checkpoints_newest_first(backend: Any, store: Store) -> None:
    assert store.checkpoints("m", 0) == []
    first = store.put_checkpoint("m", 0, 1, b"one", KEEP)
    backend.clock.advance(10)
    second = store.put_checkpoint("m", 0, 2, b"three", KEEP)
    other = store.put_checkpoint("m", 1, 1, b"other shard", KEEP)
    assert store.checkpoints("m", 0) == [
        CheckpointInfo(second, 2, 1_000_010.0, 5, None),
        CheckpointInfo(first, 1, 1_000_000.0, 3, None),
    ]
    assert [info.id for info in backend.open().checkpoints("m", 1)] == [other]
    assert len({first, second, other}) == 3
    assert (store.checkpoint(first), store.checkpoint(second), store.checkpoint(other)) == (b"one", b"three", b"other shard")


def test_retention_drops_what_it_does_not_cover(store: Store) -> None:
    ids = [store.put_checkpoint("m", 0, 1, b"%d" % n, KEEP) for n in range(6)]
    store.put_checkpoint("m", 1, 1, b"x", KEEP)
    assert [info.id for info in store.checkpoints("m", 0)] == ids[:2:-1]
    with pytest.raises(StoreError, match=f"no checkpoint {ids[0]}"):
        store.checkpoint(ids[0])
    assert len(store.checkpoints("m", 1)) == 1


def test_retention_by_hour(backend: Any, store: Store) -> None:
    for _ in range(40):
        store.put_checkpoint("m", 0, 1, b"x", Retention(last=1, hourly=3, daily=0))
        backend.clock.advance(600)
    hours = [info.created // 3600 for info in store.checkpoints("m", 0)]
    assert hours == [hours[0], hours[0] - 1, hours[0] - 2]


def test_ids_are_never_used_again(store: Store) -> None:
    keep_one = Retention(last=1, hourly=0, daily=0)
    ids = [store.put_checkpoint("m", 0, 1, b"x", keep_one) for _ in range(5)]
    assert ids == sorted(set(ids))


def test_checkpoints_are_kept_for_each_build_by_itself(backend: Any, store: Store) -> None:
    old = [store.put_checkpoint("m", 0, 1, b"old", KEEP, "one") for _ in range(5)]
    new = [store.put_checkpoint("m", 0, 2, b"new", KEEP, "two") for _ in range(5)]
    there = [(info.id, info.build) for info in backend.open().checkpoints("m", 0)]
    assert there == [(id, "two") for id in new[:-4:-1]] + [(id, "one") for id in old[:-4:-1]]
    again = [store.put_checkpoint("m", 0, 3, b"back", KEEP, "one") for _ in range(2)]
    assert [info.id for info in store.checkpoints("m", 0) if info.build == "one"] == [*again[::-1], old[-1]]
    assert [info.id for info in store.checkpoints("m", 0) if info.build == "two"] == new[:-4:-1]
    backend.clock.advance(40 * 86_400)
    last = store.put_checkpoint("m", 0, 3, b"later", KEEP, "one")
    assert {info.build for info in store.checkpoints("m", 0)} == {"one"}, "nobody goes back to what is so old"
    assert store.checkpoints("m", 0)[0].id == last


def test_a_checkpoint_put_back_keeps_its_build(backend: Any, store: Store) -> None:
    store.restore_checkpoint("m", 0, CheckpointInfo(7, 4, 900_000.0, 3, None, "one"), b"old")
    assert [info.build for info in backend.open().checkpoints("m", 0)] == ["one"]


def test_a_set_aside_checkpoint_is_kept_and_says_why(backend: Any, store: Store) -> None:
    bad = store.put_checkpoint("m", 0, 1, b"bad", KEEP)
    store.set_aside(bad, "its SHA-256 does not match")
    ids = [store.put_checkpoint("m", 0, 1, b"good", KEEP) for _ in range(5)]
    infos = backend.open().checkpoints("m", 0)
    assert [(info.id, info.set_aside) for info in infos] == [
        (ids[4], None),
        (ids[3], None),
        (ids[2], None),
        (bad, "its SHA-256 does not match"),
    ]
    assert store.checkpoint(bad) == b"bad"


def test_what_is_not_there(store: Store) -> None:
    with pytest.raises(StoreError, match="no checkpoint 77"):
        store.checkpoint(77)
    with pytest.raises(StoreError, match="no checkpoint 77"):
        store.set_aside(77, "why")


def test_a_checkpoint_is_put_back_as_it_was(backend: Any, store: Store) -> None:
    was = CheckpointInfo(77, 4, 900_000.5, 3, None)
    id = store.restore_checkpoint("m", 0, was, b"old")
    bad = store.restore_checkpoint("m", 0, CheckpointInfo(78, 4, 900_001.0, 3, "altered"), b"bad")
    assert backend.open().checkpoints("m", 0) == [
        CheckpointInfo(bad, 4, 900_001.0, 3, "altered"),
        CheckpointInfo(id, 4, 900_000.5, 3, None),
    ]
    assert store.checkpoint(id) == b"old"
    with pytest.raises(Fenced):
        store.claim("m", 0, 3)
    store.claim("m", 0, 4)


def test_what_is_put_back_disturbs_no_newer_writer_and_does_not_go_before_it(store: Store) -> None:
    mine = store.put_checkpoint("m", 0, 9, b"mine", KEEP)
    old = store.restore_checkpoint("m", 0, CheckpointInfo(1, 4, 1.0, 3, None), b"old")
    assert old > mine
    assert [info.id for info in store.checkpoints("m", 0)] == [mine, old]
    next_one = store.put_checkpoint("m", 0, 9, b"next", Retention(last=2, hourly=0, daily=0))
    assert [info.id for info in store.checkpoints("m", 0)] == [next_one, mine]
    with pytest.raises(Fenced):
        store.put_status("m", 0, 8, b"{}")


def test_an_empty_blob_is_a_blob(store: Store) -> None:
    id = store.put_checkpoint("m", 0, 1, b"", KEEP)
    tag = store.put_publication("m", 0, 1, b"")
    store.put_version("m", 1, 0, b"")
    assert (store.checkpoint(id), store.publication("m", 0), store.version("m", 1, 0)) == (b"", (tag, b""), b"")


def test_checkpoints_may_be_large(store: Store) -> None:
    blob = bytes(range(256)) * 20_000
    ids = [store.put_checkpoint("m", 0, 1, blob + bytes([n]), KEEP) for n in range(5)]
    assert [store.checkpoint(info.id) == blob + bytes([ids.index(info.id)]) for info in store.checkpoints("m", 0)] == [True] * 3


# -- publications


def test_publication_is_replaced_and_polled_by_tag(backend: Any, store: Store) -> None:
    reader = backend.open()
    assert reader.publication("m", 0) is None
    assert reader.publication("m", 0, after=3) is None
    tag = store.put_publication("m", 0, 1, b"one")
    assert reader.publication("m", 0) == Publication(tag, b"one")
    assert reader.publication("m", 0, after=tag) is None
    newer = store.put_publication("m", 0, 1, b"two")
    assert newer != tag
    assert reader.publication("m", 0, after=tag) == Publication(newer, b"two")
    assert reader.publication("m", 1) is None
    assert type(reader.publication("m", 0)) is Publication


def test_publications_may_be_large(store: Store) -> None:
    blob = bytes(range(256)) * 20_000
    tag = store.put_publication("m", 0, 1, blob)
    assert store.publication("m", 0) == (tag, blob)


def test_tags_of_one_shard_never_repeat(store: Store) -> None:
    tags = [store.put_publication("m", 0, 1, b"x") for _ in range(50)]
    assert len(set(tags)) == 50


# -- versions


def test_versions_are_kept_replaced_and_dropped(backend: Any, store: Store) -> None:
    assert store.version("m", 1, 0) is None
    store.put_version("m", 1, 0, b"a")
    store.put_version("m", 1, 1, b"b")
    store.put_version("m", 2, 0, b"c")
    store.put_version("n", 1, 0, b"d")
    store.put_version("m", 1, 0, b"a, fitted further")
    other = backend.open()
    assert other.version("m", 1, 0) == b"a, fitted further"
    assert other.version("m", 1, 1) == b"b"
    other.drop_version("m", 1)
    other.drop_version("m", 99)
    assert [store.version(*key) for key in (("m", 1, 0), ("m", 1, 1), ("m", 2, 0), ("n", 1, 0))] == [None, None, b"c", b"d"]


def test_versions_are_listed(backend: Any, store: Store) -> None:
    assert store.versions() == []
    for key in (("m", 2, 0), ("m", 10, 0), ("n", 1, 0), ("m", 2, 1)):
        store.put_version(*key, b"v")
    assert backend.open().versions() == [("m", 2, 0), ("m", 2, 1), ("m", 10, 0), ("n", 1, 0)]
    store.drop_version("m", 2)
    assert store.versions() == [("m", 10, 0), ("n", 1, 0)]


def test_pieces_of_a_version_come_before_it_and_go_with_it(backend: Any, store: Store) -> None:
    large = bytes(range(256)) * 10_000
    assert store.version_pieces("m", 2, 0) == {}
    for key, name, data in [(2, "a", large), (2, "b", b""), (12, "a", b"of another version")]:
        store.put_version_piece("m", key, 0, name, data)
    store.put_version_piece("m", 2, 1, "a", b"of another shard")
    other = backend.open()
    assert other.version_pieces("m", 2, 0) == {"a": len(large), "b": 0}
    assert other.versions() == []
    store.put_version("m", 2, 0, b"v", ["a", "b"])
    assert [other.version_piece("m", 2, 0, name) for name in "abc"] == [large, b"", None]
    assert other.version_piece("m", 2, 1, "a") == b"of another shard"
    assert other.version_piece("m", 12, 0, "a") == b"of another version"

    store.drop_version("m", 2)
    assert [store.version_pieces("m", 2, shard) for shard in (0, 1)] == [{}, {}]
    assert store.version_piece("m", 2, 0, "a") is None
    assert store.version_pieces("m", 12, 0) == {"a": 18}


def test_of_a_version_that_is_put_again_only_the_pieces_that_it_names_stay(store: Store) -> None:
    for name in "abc":
        store.put_version_piece("m", 2, 0, name, name.encode())
        store.put_version_piece("m", 2, 1, name, name.encode())
    store.put_version("m", 2, 0, b"first", ["a", "b"])
    assert store.version_pieces("m", 2, 0) == {"a": 1, "b": 1}
    store.put_version("m", 2, 0, b"whole")
    assert store.version_pieces("m", 2, 0) == {}
    assert store.version_pieces("m", 2, 1) == {"a": 1, "b": 1, "c": 1}


def test_the_same_piece_of_a_version_again_is_the_same_piece(store: Store) -> None:
    for _ in range(2):
        store.put_version_piece("m", 2, 0, "a", b"bytes")
    assert store.version_pieces("m", 2, 0) == {"a": 5}
    assert store.version_piece("m", 2, 0, "a") == b"bytes"


def test_pieces_of_versions_count_as_memory(store: Store) -> None:
    store.put_version("m", 2, 0, b"v")
    before = store.memory()["m"]
    store.put_version_piece("m", 2, 0, "a", bytes(100_000))
    assert store.memory()["m"] >= before + 100_000


# -- statuses


def test_a_status_tells_which_publication_is_there(backend: Any, store: Store) -> None:
    assert store.put_status("m", 0, 1, b"s") is None
    tag = store.put_publication("m", 0, 1, b"p")
    other = backend.open()
    assert other.put_status("m", 0, 1, b"s") == tag
    assert other.put_status("m", 1, 1, b"s") is None
    assert store.put_publication("m", 0, 2, b"p") == other.put_status("m", 0, 2, b"s") != tag


def test_statuses_hold_the_newest_of_each_shard(backend: Any, store: Store) -> None:
    assert store.statuses() == {}
    store.put_status("m", 0, 1, b"old")
    store.put_status("m", 0, 1, b"new")
    store.put_status("m", 1, 4, b"other")
    assert backend.open().statuses() == {("m", 0): b"new", ("m", 1): b"other"}


# -- views


def test_views_keep_the_order_in_which_they_first_came(backend: Any, store: Store) -> None:
    assert store.view_offset() == 0
    assert store.views("case") == {}
    store.put_views({("case", "z"): b"1", ("model", "m"): b"m", ("case", "a"): b"2"}, 7)
    store.put_views({("case", "k"): b"3", ("case", "z"): b"1 again"}, 9)
    other = backend.open()
    assert list(other.views("case").items()) == [("z", b"1 again"), ("a", b"2"), ("k", b"3")]
    assert other.views("model") == {"m": b"m"}
    assert other.views("nothing") == {}
    assert other.view_offset() == 9


def test_kinds_of_views_are_listed(backend: Any, store: Store) -> None:
    assert store.view_kinds() == []
    store.put_views({("model", "m"): b"m", ("case", "a"): b"2", ("case", "b"): b"3"}, 7)
    assert backend.open().view_kinds() == ["case", "model"]
    store.clear_views()
    assert store.view_kinds() == []


def test_views_by_id(store: Store) -> None:
    docs = {("audit", f"{n:04d}"): b"%d" % n for n in range(1500)}
    store.put_views(docs, 1)
    ids = [f"{n:04d}" for n in range(1499, -1, -2)]
    assert list(store.views("audit", [*ids, "missing"]).items()) == [(id, docs["audit", id]) for id in reversed(ids)]
    assert store.views("audit", []) == {}
    assert store.views("other", ids) == {}
    assert store.views("audit", ["0003", "0003"]) == {"0003": b"3"}


def test_put_no_views_moves_the_offset(store: Store) -> None:
    store.put_views({}, 12)
    assert store.view_offset() == 12


def test_cleared_views_can_be_put_again(backend: Any, store: Store) -> None:
    store.put_views({("case", "a"): b"1", ("case", "b"): b"2"}, 5)
    store.put_status("m", 0, 1, b"kept")
    store.clear_views()
    other = backend.open()
    assert (other.views("case"), other.view_offset()) == ({}, 0)
    assert other.statuses() == {("m", 0): b"kept"}
    store.put_views({("case", "b"): b"2", ("case", "a"): b"1"}, 5)
    assert list(other.views("case")) == ["b", "a"]


# -- what is behind it


def test_a_server_as_it_must_be_has_nothing_to_mend(store: Store) -> None:
    assert store.describe() == []


# -- how much it takes


def test_what_each_model_takes_is_told(store: Store) -> None:
    blob = random.Random(1).randbytes(100_000)
    store.put_checkpoint("big", 0, 1, blob, Retention())
    store.put_publication("big", 0, 1, blob)
    store.put_version("big", 2, 0, blob)
    store.put_publication("small", 0, 1, b"p")
    store.put_views({("case", "a"): blob}, 5)
    taken = store.memory()
    assert {"big", "small", "_views"} <= set(taken)
    assert 300_000 <= taken["big"] < 700_000
    assert taken["small"] < 10_000
    assert 100_000 <= taken["_views"] < 300_000


# -- telling of publications

TELLS = ("memory", "redis", "cluster")


def test_who_listens_is_woken(backend: Any, store: Store, request: pytest.FixtureRequest) -> None:
    woken = threading.Event()
    stop = backend.open().listen(woken.set)
    tells = any(f"[{name}]" in request.node.name for name in TELLS)
    deadline = time.monotonic() + WAIT
    while tells and time.monotonic() < deadline:  # who only just began to listen may miss one
        store.put_publication("m", 0, 1, b"p")
        if woken.wait(0.2):
            break
    assert woken.is_set() or not tells
    stop()
    stop()
    woken.clear()
    store.put_publication("m", 0, 1, b"p")
    assert not woken.wait(0.1)


def test_who_listens_may_close_the_store(store: Store) -> None:
    stop = store.listen(lambda: None)
    store.close()
    stop()


# -- all together


def test_shards_are_listed(backend: Any, store: Store) -> None:
    assert store.shards() == []
    store.claim("n", 0, 3)
    store.put_checkpoint("m", 10, 1, b"c", KEEP)
    store.put_status("m", 2, 1, b"s")
    store.put_publication("m", 0, 1, b"p")
    store.restore_checkpoint("r", 0, CheckpointInfo(1, 4, 1.0, 3, None), b"old")
    store.put_version("v", 1, 7, b"v")
    assert backend.open().shards() == [("m", 0), ("m", 2), ("m", 10), ("n", 0), ("r", 0), ("v", 7)]


def test_everything_is_there_for_the_next_process(backend: Any, store: Store) -> None:
    id = store.put_checkpoint("m", 0, 3, b"c", KEEP)
    tag = store.put_publication("m", 0, 3, b"p")
    store.put_version("m", 1, 0, b"v")
    store.put_status("m", 0, 3, b"s")
    store.put_views({("model", "m"): b"doc"}, 4)
    store.close()
    again = backend.open()
    assert again.checkpoint(id) == b"c"
    assert again.publication("m", 0) == (tag, b"p")
    assert again.version("m", 1, 0) == b"v"
    assert again.statuses() == {("m", 0): b"s"}
    assert (again.views("model"), again.view_offset()) == ({"m": b"doc"}, 4)
    with pytest.raises(Fenced):
        again.claim("m", 0, 2)


def test_a_closed_store_refuses(store: Store) -> None:
    store.close()
    store.close()
    for call in (
        lambda: store.claim("m", 0, 1),
        lambda: store.publication("m", 0),
        lambda: store.put_views({}, 1),
        store.statuses,
        store.view_offset,
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()


def test_threads_of_two_generations(backend: Any, store: Store) -> None:
    """However their writes fall, once the newer generation was seen, nothing of the older one appears."""
    seen_new = threading.Event()
    failures: list[BaseException] = []

    def zombie() -> None:
        mine = backend.open()
        try:
            while True:
                late = seen_new.is_set()
                mine.put_publication("m", 0, 1, b"old")
                if late:
                    raise AssertionError("the zombie wrote after its successor")
        except Fenced:
            pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=zombie)
    thread.start()
    while store.publication("m", 0) is None:
        pass
    store.put_publication("m", 0, 2, b"new")
    seen_new.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert not failures
    found = store.publication("m", 0)
    assert found is not None
    assert found.blob == b"new"


def test_threads_put_and_poll_at_once(backend: Any, store: Store) -> None:
    """Every publication that a poller gets is whole, and the newest one arrives."""
    last = b"%04d" % 99 * 5000
    failures: list[BaseException] = []

    def poll() -> None:
        mine, tag = backend.open(), None
        try:
            while True:
                found = mine.publication("m", 0, after=tag)
                if found is None:
                    continue
                assert found.blob == found.blob[:4] * 5000
                assert found.tag != tag
                tag = found.tag
                if found.blob == last:
                    return
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=poll) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(100):
        store.put_publication("m", 0, 1, b"%04d" % n * 5000)
        store.put_status("m", 0, 1, b"%d" % n)
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert not failures
