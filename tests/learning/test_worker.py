"""The learn role as a whole: every shard of every model, real threads, and a real store and log on disk."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from learning_bench import KEYS, NOW, Stage, scene

from streamlearn.config import Settings, parse
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import Fenced, LogUnavailable, StoreUnavailable
from streamlearn.events import Event, encode, partition_of
from streamlearn.learning import checkpoint
from streamlearn.learning.replay import replay
from streamlearn.learning.worker import Worker
from streamlearn.log import Entry, Log, Membership
from streamlearn.log.sqlite import SqliteLog
from streamlearn.store import Store
from streamlearn.store.links import Kept
from streamlearn.store.sqlite import SqliteStore
from streamlearn.testing import Abort, FakeClock, Faults, MemoryLog, MemoryStore
from streamlearn.testing_group import MemoryMembership

TREE: dict[str, Any] = {
    "learn": {"batch": 50, "poll_ms": 1},
    "streams": {"s": {"partitions": 3}, "t": {}},
    "models": {
        "one": {"stream": "s", "task": "binary", "pipeline": "logistic"},
        "two": {"stream": "s", "task": "binary", "pipeline": "naive_bayes"},
        "three": {"stream": "t", "task": "regression", "pipeline": "linear"},
    },
}


def no_version(*args: Any) -> Kept:
    raise AssertionError("nothing is tried here")


def filled(settings: Settings, log: Log, count: int = 300) -> None:
    log.create({name: stream.partitions for name, stream in settings.streams.items()})
    for stream, y in (("s", lambda n: n % 3 == 0), ("t", lambda n: float(n % 5))):
        events = [Event(stream, f"e{n}", NOW + n / 10, x={"a": float(n % 7), "b": "uv"[n % 2]}, y=y(n)) for n in range(count)]
        log.append(stream, [Entry((event.id or "").encode(), encode(event)) for event in events]).result()


class House:
    def __init__(self, tree: dict[str, Any] | None = None) -> None:
        self.settings = parse(tree or TREE, {})
        self.clock, self.timer = FakeClock(NOW), FakeClock(0.0)
        self.log, self.store = MemoryLog(clock=self.clock), MemoryStore(clock=self.clock)
        self.log_faults, self.store_faults = Faults(), Faults()
        filled(self.settings, self.log)

    def worker(self, reset: tuple[str, ...] = (), member: Membership | None = None) -> Worker:
        return Worker(
            self.settings,
            self.log_faults.over(self.log.reopen()),
            self.store_faults.over(self.store.reopen()),
            KEYS,
            watches=DriftWatch,
            resolve=no_version,
            membership=member,
            clock=self.clock,
            timer=self.timer,
            reset=reset,
        )

    def check(self, worker: Worker) -> None:
        """Every shard of it is where a replay of its partition ends."""
        for shard in worker.shards:
            end = self.log.bounds(shard.stream, shard.shard)[1]
            truth = replay(self.settings, shard.model, shard.shard, self.log, KEYS, DriftWatch, no_version, end)
            assert checkpoint.digest(shard.learner) == checkpoint.digest(truth)
            assert shard.learner.position == end


def drained(worker: Worker) -> Worker:
    while worker.turn():
        pass
    worker.close()
    return worker


def turn_for_ever(house: House, worker: Worker) -> None:
    """A turn a second, each with the writes that it began."""
    while True:
        worker.turn()
        house.timer.advance(1.0)
        worker._writer.submit(lambda: None).result()
        house.log.append("t", [Entry(b"k", encode(Event("t", x={"a": 1.0}, y=2.0)))]).result()


def test_every_model_learns_every_partition_of_its_stream_and_nothing_else() -> None:
    house = House()
    worker = drained(house.worker())
    assert [(shard.model, shard.shard) for shard in worker.shards] == [
        ("one", 0), ("one", 1), ("one", 2), ("two", 0), ("two", 1), ("two", 2), ("three", 0)
    ]  # fmt: skip
    for name in ("one", "two", "three"):
        assert sum(shard.learner.n for shard in worker.shards if shard.model == name) == 300
    share = [sum(partition_of(f"e{n}".encode(), 3) == shard for n in range(300)) for shard in range(3)]
    assert [shard.learner.n for shard in worker.shards[:3]] == share
    assert all(not shard.learner.counters for shard in worker.shards)
    house.check(worker)


def test_a_drained_worker_leaves_all_that_it_learned_and_its_successor_goes_on_there() -> None:
    house = House()
    drained(house.worker())
    assert set(house.store.statuses()) == {(name, n) for name in ("one", "two") for n in range(3)} | {("three", 0)}
    for model, shard in house.store.statuses():
        assert house.store.publication(model, shard) is not None
    successor = house.worker()
    house.check(successor)
    assert not successor.turn()


def test_a_worker_runs_until_it_is_told_to_stop_and_then_drains() -> None:
    house, stop = House(), threading.Event()
    worker = house.worker()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    while any(shard.learner.position < house.log.bounds(shard.stream, shard.shard)[1] for shard in worker.shards):
        stop.wait(0.005)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    house.check(house.worker())


def test_one_shard_that_waits_or_has_stopped_keeps_no_other_from_learning() -> None:
    house = House()
    drained(house.worker())
    stage = house.log._data.streams["s"][1]
    del stage.records[20:]  # the log was put back to an older state of one partition
    for n in range(300, 400):
        event = Event("t", f"e{n}", NOW, x={"a": 1.0}, y=1.0)
        house.log.append("t", [Entry(b"k", encode(event))]).result()
    worker = drained(house.worker())
    stopped = [(shard.model, shard.shard) for shard in worker.shards if shard.stopped]
    assert stopped == [("one", 1), ("two", 1)]
    assert worker.shards[-1].learner.n == 400


def test_a_log_that_is_down_is_waited_for_and_loses_nothing() -> None:
    house, stop = House(), threading.Event()
    worker = house.worker()
    worker.turn()
    house.log_faults.fail("read", LogUnavailable("down"), times=30)
    house.store_faults.fail("put_status", StoreUnavailable("down"), times=5)
    for _ in range(200):
        worker.turn()
        house.timer.advance(0.5)
    worker.close()
    assert not stop.is_set()
    house.check(worker)


def test_a_newer_worker_ends_the_older_one_loudly() -> None:
    house = House()
    older = house.worker()
    older.turn()
    newer = house.worker()
    with pytest.raises(Fenced):
        turn_for_ever(house, older)
    house.check(drained(newer))


def test_every_shard_is_drained_though_one_cannot_be(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    worker = house.worker()
    while worker.turn():
        pass
    house.store.claim("one", 0, 10**9)
    with caplog.at_level(logging.ERROR, "streamlearn.learn"), pytest.raises(Fenced):
        worker.close()
    assert [record.__dict__["model"] for record in caplog.records if record.message == "not drained"] == ["one"]
    for shard in worker.shards[1:]:
        assert len(house.store.checkpoints(shard.model, shard.shard)) == 1


def test_a_reset_starts_the_named_models_over_and_no_others() -> None:
    house = House()
    before = drained(house.worker())
    worker = house.worker(reset=("one",))
    assert [shard.learner.position for shard in worker.shards[:3]] == [0, 0, 0]
    assert all(shard.learner.position > 0 for shard in worker.shards[3:])
    assert {info.set_aside for info in house.store.checkpoints("one", 0)} == {"reset by hand"}
    house.check(drained(worker))
    assert [checkpoint.digest(shard.learner) for shard in worker.shards] == [
        checkpoint.digest(shard.learner) for shard in before.shards
    ]


def test_another_log_is_refused_until_the_models_are_reset() -> None:
    house = House()
    drained(house.worker())
    house.log = MemoryLog(clock=house.clock)
    filled(house.settings, house.log, 30)
    refused = drained(house.worker())
    assert all("--reset" in (shard.stopped or "") and shard.learner.n == 0 for shard in refused.shards)
    house.check(drained(house.worker(reset=("one", "two", "three"))))


def test_a_death_while_another_thread_writes() -> None:
    house = House()
    for method, after in (("put_checkpoint", 1), ("put_publication", 3), ("put_status", 2)):
        house.store_faults.fail(method, Abort(), after=after, when="after")
        worker = house.worker()
        with pytest.raises(Abort):
            turn_for_ever(house, worker)
        worker._writer.shutdown()  # or a write of the dead worker's would take the next one's fault
    house.check(drained(house.worker()))


def member(house: House) -> MemoryMembership:
    return house.log.join("learn", ["s", "t"])


def places(worker: Worker) -> set[tuple[str, int]]:
    return {(shard.stream, shard.shard) for shard in worker.shards}


EVERYWHERE = {("s", 0), ("s", 1), ("s", 2), ("t", 0)}


def test_a_second_worker_takes_its_share_where_the_first_one_left_it() -> None:
    house = House()
    one = house.worker(member=member(house))
    one.turn()
    assert places(one) == EVERYWHERE
    other = house.worker(member=member(house))
    for _ in range(20):
        one.turn()
        other.turn()
    assert places(one) | places(other) == EVERYWHERE
    assert not places(one) & places(other)
    assert len(places(one)) == len(places(other)) == 2
    began = {(s.model, s.shard): s.generation for s in other.shards}
    assert all(generation > max(s.generation for s in one.shards) for generation in began.values())
    house.check(one)
    house.check(other)
    one.close()
    other.turn()  # all is the other's now
    house.check(drained(other))
    assert places(other) == EVERYWHERE


def test_what_was_read_is_checkpointed_before_another_has_it() -> None:
    house = House()
    one = house.worker(member=member(house))
    one.turn()
    before = {(s.model, s.shard): s.learner.position for s in one.shards}
    assert all(position > 0 for position in before.values())
    other = house.worker(member=member(house))
    other.turn()
    one.turn()  # lets go
    other.turn()
    taken = {(s.model, s.shard): s for s in other.shards}
    assert taken
    assert all(shard.checkpoint_at is not None for shard in taken.values())


def test_lost_partitions_are_dropped_without_a_word_to_the_store() -> None:
    house = House()
    first = member(house)
    one = house.worker(member=first)
    one.turn()
    house.timer.advance(60.0)
    first.lose()
    other = house.worker(member=member(house))
    other.turn()
    kept = {name: len(house.store.checkpoints(name, 0)) for name in ("one", "two", "three")}
    one.turn()
    assert places(one) == set()
    assert {name: len(house.store.checkpoints(name, 0)) for name in kept} == kept
    for _ in range(20):
        other.turn()
        one.turn()
    house.check(one)
    house.check(other)
    assert places(one) | places(other) == EVERYWHERE


def test_a_place_that_was_lost_half_opened_leaves_nothing_behind() -> None:
    house = House()
    first = member(house)
    one = house.worker(member=first)
    house.store_faults.fail("checkpoints", StoreUnavailable("away"), after=1, times=1)
    one.turn()
    assert len(one.shards) == 1
    first.lose()
    other = house.worker(member=member(house))
    other.turn()
    for _ in range(20):
        house.timer.advance(1.0)
        one.turn()
        other.turn()
    assert places(one) | places(other) == EVERYWHERE
    assert not places(one) & places(other)
    house.check(one)
    house.check(other)


def test_a_store_or_log_that_is_away_at_the_start_is_waited_for() -> None:
    house = House()
    house.store_faults.fail("checkpoints", StoreUnavailable("away"), times=2)
    house.log_faults.fail("append", LogUnavailable("away"), times=1)
    worker = house.worker(member=member(house))
    for _ in range(30):
        worker.turn()
        house.timer.advance(1.0)
    assert places(worker) == EVERYWHERE
    house.check(drained(worker))


def test_a_partition_whose_store_is_away_is_let_go_all_the_same() -> None:
    house = House()
    one = house.worker(member=member(house))
    one.turn()
    house.store_faults.fail("put_checkpoint", StoreUnavailable("away"), times=1000)
    other = house.worker(member=member(house))
    other.turn()
    one.turn()
    assert len(places(one)) == 2
    house.store_faults.fail("put_checkpoint", StoreUnavailable("away"), times=0)


def test_the_broker_hears_how_far_checkpoints_have_read() -> None:
    house = House()
    worker = house.worker(member=member(house))
    worker.turn()
    assert house.log._data.groups["learn"].committed == {}
    drained(worker)
    ends = {place: house.log.bounds(*place)[1] for place in EVERYWHERE}
    assert house.log._data.groups["learn"].committed == ends


def test_a_model_starts_over_once_and_not_again_when_its_partition_comes_back() -> None:
    house = House()
    drained(house.worker())
    first = member(house)
    one = house.worker(reset=("one",), member=first)
    drained_positions = [one.turn() for _ in range(20)]
    assert any(drained_positions)
    for shard in one.shards:
        shard.checkpoint()
    one._writer.submit(lambda: None).result()
    first.lose()
    one.turn()
    one.turn()
    good = [info for info in house.store.checkpoints("one", 0) if info.set_aside is None]
    assert len(good) == 1
    house.check(one)


def test_a_reset_does_not_touch_what_another_learner_wrote_since(caplog: pytest.LogCaptureFixture) -> None:
    """It comes to this one much later, when that learner ends."""
    house = House()
    drained(house.worker())
    other = house.worker(reset=("one",), member=member(house))
    other.turn()
    one = house.worker(reset=("one",), member=member(house))
    for _ in range(20):
        one.turn()
        other.turn()
    theirs = places(other) - places(one)
    assert theirs
    filled(house.settings, house.log, 30)
    for _ in range(20):
        other.turn()
    other.close()
    caplog.clear()
    with caplog.at_level(logging.INFO, "streamlearn.learn"):
        drained(one)
    begun = {(record.model, record.shard): record.message for record in caplog.records if hasattr(record, "shard")}  # type: ignore[attr-defined]
    assert {begun["one", shard] for stream, shard in theirs if stream == "s"} <= {"recovered"}
    house.check(one)


class Roof:
    """A log and a store on disk."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.log: Log = SqliteLog(folder / "log.sqlite")
        self.store: Store = SqliteStore(folder / "store.sqlite")

    def worker(self) -> Worker:
        return Worker(self.settings, self.log, self.store, KEYS, watches=DriftWatch, resolve=no_version)

    def close(self) -> None:
        self.store.close()
        self.log.close()


def test_over_the_embedded_log_and_store_it_ends_where_a_replay_ends(tmp_path: Path) -> None:
    settings = parse({**TREE, "learn": {"batch": 37, "poll_ms": 1}}, {})
    roof = Roof(tmp_path, settings)
    filled(settings, roof.log)
    drained(roof.worker())
    roof.close()
    roof = Roof(tmp_path, settings)
    try:
        worker = roof.worker()
        for shard in worker.shards:
            end = roof.log.bounds(shard.stream, shard.shard)[1]
            truth = replay(settings, shard.model, shard.shard, roof.log, KEYS, DriftWatch, no_version, end)
            assert checkpoint.digest(shard.learner) == checkpoint.digest(truth)
            info = roof.store.checkpoints(shard.model, shard.shard)[0]
            ledger = checkpoint.ledger(roof.store.checkpoint(info.id), KEYS, shard.model, shard.shard)
            assert ledger.learned == shard.learner.n == len(ledger.labels)
        worker.close()
    finally:
        roof.close()


@pytest.mark.slow
def test_over_the_embedded_log_and_store_a_scene_of_everything_ends_where_a_replay_ends(tmp_path: Path) -> None:
    stage = Stage("multiclass", "softmax", label_wait_s=30, checkpoint={"interval_s": 0.05})
    scene(stage, 2000, "str")
    roof = Roof(tmp_path, stage.settings)
    try:
        roof.log.create({"s": 1})
        records = stage.log.read("s", 0, 0, 10**6)
        worker = roof.worker()
        for start in range(0, len(records), 100):
            entries = [Entry(r.key, r.value, r.kind, 0) for r in records[start : start + 100]]
            roof.log.append("s", entries).result()
            worker.turn()
            if start % 1000 == 0:  # the process dies, and another one takes over
                worker = roof.worker()
        drained(worker)
        truth = replay(stage.settings, "m", 0, roof.log, KEYS, DriftWatch, no_version, len(records))
        assert checkpoint.digest(worker.shards[0].learner) == checkpoint.digest(truth)
    finally:
        roof.close()


def test_no_line_is_logged_per_event_and_each_line_names_its_shard_alike(caplog: pytest.LogCaptureFixture) -> None:
    tree = {**TREE, "learn": {"batch": 100, "poll_ms": 1}}
    house = House({**tree, "streams": {"s": {}, "t": {}}, "models": {"one": TREE["models"]["one"]}})
    filled(house.settings, house.log, 1_700)  # and 300 of them again, which are dropped as repeats
    with caplog.at_level(logging.DEBUG):
        worker = drained(house.worker())
    assert sum(shard.learner.position for shard in worker.shards) == 2_000
    ours = [record for record in caplog.records if record.name.startswith("streamlearn")]
    assert 0 < len(ours) < 20
    for record in ours:
        fields = record.__dict__
        assert (fields["model"], fields["shard"], fields["stream"], fields["partition"]) == ("one", 0, "s", 0)
    assert any("offset" in record.__dict__ and "version" in record.__dict__ for record in ours)
