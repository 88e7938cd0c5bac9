"""Heartbeats for idle partitions, and nothing forgotten that might still be read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamlearn.config import parse
from streamlearn.control.sight import Statuses, offset_at
from streamlearn.control.state import Alarm, Case, Phase, State
from streamlearn.control.upkeep import Heartbeats, Restarts, Trimmer
from streamlearn.events import Kind, Position
from streamlearn.log import Entry
from streamlearn.records import Signal, Status
from streamlearn.store import Retention
from streamlearn.store.codec import encode
from streamlearn.testing import FakeClock, MemoryLog, MemoryStore

HOUR = 3600.0


def settings(**control: Any) -> Any:
    tree = {
        "log": {"retention_hours": 1},
        "control": {"heartbeat_s": 10.0, **control},
        "streams": {"clicks": {"partitions": 2}, "idle": {"partitions": 1}},
        "models": {"m": {"stream": "clicks", "task": "binary", "pipeline": "logistic", "label_wait_s": 60.0}},
    }
    return parse(tree, {})


def opened(clock: FakeClock) -> MemoryLog:
    log = MemoryLog(clock=clock)
    log.create({"clicks": 2, "idle": 1})
    return log


def post(log: MemoryLog, partition: int = 0, kind: int = Kind.EVENT, count: int = 1) -> None:
    log.append("clicks", [Entry(b"k", b"{}", kind, partition)] * count).result()


def beats(log: MemoryLog, partition: int) -> int:
    return sum(record.kind == Kind.HEARTBEAT for record in log.read("clicks", partition, 0, 1000))


def test_an_idle_partition_beats_at_its_cadence() -> None:
    clock = FakeClock()
    log = opened(clock)
    heartbeats = Heartbeats(log, settings())
    post(log)
    for _ in range(95):
        clock.advance(1.0)
        heartbeats.beat(clock())
    assert beats(log, 0) == 9
    record = log.read("clicks", 0, 1, 1)[0]
    assert (record.kind, record.value) == (Kind.HEARTBEAT, b"{}")


def test_a_busy_partition_does_not_beat() -> None:
    clock = FakeClock()
    log = opened(clock)
    heartbeats = Heartbeats(log, settings())
    for _ in range(30):
        clock.advance(9.0)
        post(log)
        assert heartbeats.beat(clock()) == 0


def test_a_partition_that_never_had_an_event_does_not_beat() -> None:
    clock = FakeClock()
    log = opened(clock)
    heartbeats = Heartbeats(log, settings())
    post(log, 1, Kind.COMMAND, 600)
    clock.advance(1000.0)
    assert heartbeats.beat(clock()) == 0
    post(log, 1, Kind.PREDICTION)
    assert heartbeats.beat(clock()) == 0
    clock.advance(10.0)
    assert heartbeats.beat(clock()) == 1
    assert beats(log, 1) == 1
    assert log.bounds("idle", 0) == (0, 0)


def test_a_trimmed_partition_had_events() -> None:
    clock = FakeClock()
    log = opened(clock)
    post(log, count=5)
    log.trim("clicks", 0, 5)
    assert log.bounds("clicks", 0) == (5, 5)
    heartbeats = Heartbeats(log, settings())
    clock.advance(20.0)
    assert heartbeats.beat(clock()) == 1


def test_a_restarted_control_keeps_the_cadence() -> None:
    clock = FakeClock()
    log = opened(clock)
    post(log)
    for _ in range(45):
        clock.advance(1.0)
        Heartbeats(log, settings()).beat(clock())
    assert beats(log, 0) == 4


def test_no_heartbeats_when_they_are_switched_off() -> None:
    clock = FakeClock()
    log = opened(clock)
    post(log)
    clock.advance(1e6)
    assert Heartbeats(log, settings(heartbeat_s=0.0)).beat(clock()) == 0


def test_offset_at_finds_the_first_record_of_a_time() -> None:
    clock = FakeClock(0.0)
    log = opened(clock)
    for _ in range(10):
        post(log, count=3)
        clock.advance(10.0)
    assert [offset_at(log, "clicks", 0, time) for time in (-5.0, 0.0, 0.5, 50.0, 90.0, 90.5)] == [0, 0, 3, 15, 27, 30]
    log.trim("clicks", 0, 7)
    assert offset_at(log, "clicks", 0, 0.0) == 7


class Yard:
    """A log of one record a minute for four hours in each partition, a learner that has read it all, one checkpoint."""

    def __init__(self, keys: Any) -> None:
        self.keys = keys
        self.clock = FakeClock()
        self.log, self.store = opened(self.clock), MemoryStore(clock=self.clock)
        self.settings = settings()
        for _ in range(240):
            post(self.log, 0)
            post(self.log, 1)
            self.clock.advance(60.0)
        self.state = State("m", self.settings.models["m"], 2, registered=True)
        for shard in (0, 1):
            self.status(shard, 240)
            self.checkpoint(shard, 240)

    def status(self, shard: int, position: int, log: str = "") -> None:
        log = log or self.log.identity("clicks")
        status = Status("m", shard, 0, 1, None, position, 240, log, 0.0, 9, None, None, {}, 0, 0, {})
        self.store.put_status("m", shard, 0, msgspec.json.encode(status))

    def checkpoint(self, shard: int, offset: int, log: str = "") -> int:
        blob = encode(
            kind="checkpoint", model="m", version=1, shard=shard, generation=0, created=0.0, parts={}, keys=self.keys,
            positions=[Position(log or self.log.identity("clicks"), "clicks", shard, offset)],
        )  # fmt: skip
        return self.store.put_checkpoint("m", shard, 0, blob, Retention())

    def trim(self) -> dict[tuple[str, int], int]:
        statuses = Statuses(self.store, 0.0)
        statuses.refresh(self.clock())
        trimmer = Trimmer(self.log, self.settings, Restarts(self.log, self.store, self.keys, statuses))
        return trimmer.trim(self.clock(), [self.state])


@pytest.fixture
def yard(keys: Any) -> Yard:
    return Yard(keys)


def test_what_is_older_than_the_retention_goes(yard: Yard) -> None:
    assert yard.trim() == {("clicks", 0): 180, ("clicks", 1): 180}
    assert yard.log.bounds("clicks", 0) == (180, 240)
    assert yard.trim() == {}


def test_without_a_retention_nothing_goes(yard: Yard) -> None:
    yard.settings = parse({"streams": {"clicks": {"partitions": 2}, "idle": {}}}, {})
    assert yard.trim() == {}


def test_a_learner_that_lags_keeps_what_it_has_to_read_and_a_label_wait_before_it(yard: Yard) -> None:
    yard.status(0, 100)
    yard.checkpoint(0, 100)
    assert yard.trim() == {("clicks", 0): 99, ("clicks", 1): 180}


def test_the_oldest_kept_checkpoint_can_always_be_gone_back_to(yard: Yard) -> None:
    yard.store.empty()
    for shard in (0, 1):
        yard.status(shard, 240)
        yard.checkpoint(shard, 50)
        yard.checkpoint(shard, 240)
    assert yard.trim() == {("clicks", 0): 49, ("clicks", 1): 49}


def test_a_shard_that_was_started_over_keeps_what_its_newest_checkpoint_needs(yard: Yard) -> None:
    yard.status(0, 120)
    yard.checkpoint(0, 70)
    assert yard.trim()["clicks", 0] == 69


def test_a_checkpoint_set_aside_keeps_nothing(yard: Yard) -> None:
    yard.store.set_aside(yard.checkpoint(0, 50), "corrupt")
    assert yard.trim()["clicks", 0] == 180


@pytest.mark.parametrize("what", ["no status", "foreign status", "no checkpoint", "foreign checkpoint", "damaged checkpoint"])
def test_what_is_not_known_is_kept(yard: Yard, what: str) -> None:
    if what in ("no status", "no checkpoint"):
        yard.store.empty()
        for shard in (0, 1):
            yard.status(shard, 240) if what == "no checkpoint" else yard.checkpoint(shard, 240)
    elif what == "foreign status":
        yard.status(0, 240, "another-log")
        yard.status(1, 240, "another-log")
    else:
        yard.store.empty()
        for shard in (0, 1):
            yard.status(shard, 240)
            if what == "foreign checkpoint":
                yard.checkpoint(shard, 240, "another-log")
            else:
                yard.store.put_checkpoint("m", shard, 0, b"garbage", Retention())
    assert yard.trim() == {}


def test_nothing_goes_while_a_case_is_open_or_an_alarm_waits(yard: Yard) -> None:
    yard.state.phase = Phase.CONFIRM
    assert yard.trim() == {}
    yard.state.phase = Phase.STEADY
    yard.state.alarms[0] = Alarm(0, Signal("m", 0, 0, "alarm", 1, 0, 0, 0.0))
    assert yard.trim() == {}


@pytest.mark.parametrize(("change", "first"), [(230, 180), (100, 99)])  # and a label wait before it
def test_a_drift_that_is_kept_holds_what_its_fit_would_learn(yard: Yard, change: int, first: int) -> None:
    yard.state.phase = Phase.CONFIRMED
    yard.state.case = Case("m-1", "drift", 0.0, shard=0, change_offset=change)
    yard.state.alarms[0] = Alarm(0, Signal("m", 0, 0, "alarm", 1, 0, 0, 0.0))
    assert yard.trim() == {}
    yard.state.case.kept = True
    assert yard.trim() == {("clicks", 0): first, ("clicks", 1): 180}


def test_a_damaged_status_is_passed_over(yard: Yard) -> None:
    yard.store.put_status("m", 0, 0, b"not json")
    assert yard.trim() == {("clicks", 1): 180}


def test_a_stream_without_models_keeps_only_to_its_age(yard: Yard) -> None:
    yard.state.settings = None
    assert yard.trim() == {("clicks", 0): 180, ("clicks", 1): 180}


def test_a_header_is_read_once_and_forgotten_with_its_checkpoint(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    checkpoint = yard.store.checkpoint
    monkeypatch.setattr(yard.store, "checkpoint", lambda id: (read.append(id), checkpoint(id))[1])
    statuses = Statuses(yard.store, 0.0)
    statuses.refresh(0.0)
    restarts = Restarts(yard.log, yard.store, yard.keys, statuses)
    assert [restarts.lowest(yard.state, 0) for _ in range(3)] == [240] * 3
    assert len(read) == 1
    older = yard.checkpoint(0, 50)
    assert [restarts.lowest(yard.state, 0) for _ in range(3)] == [50] * 3
    assert read[1:] == [older]
    yard.store.set_aside(older, "corrupt")
    assert restarts.lowest(yard.state, 0) == 240
    assert list(restarts._read["m", 0]) == [info for info in yard.store.checkpoints("m", 0) if info.set_aside is None]


def test_a_log_that_was_made_again_is_noticed_though_the_header_was_read(yard: Yard) -> None:
    statuses = Statuses(yard.store, 0.0)
    statuses.refresh(0.0)
    restarts = Restarts(yard.log, yard.store, yard.keys, statuses)
    assert restarts.lowest(yard.state, 0) == 240
    restarts._log = opened(yard.clock)  # another one
    yard.status(0, 3, restarts._log.identity("clicks"))
    statuses.refresh(1.0)
    assert restarts.lowest(yard.state, 0) is None
