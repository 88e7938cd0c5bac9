"""A shard's commit, cut at every step; its recovery, whatever it finds; and its patience with a log or store that is away."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_bench import KEYS, NOW, Stage, scene
from shop_bench import catalogue, shop, visits

from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import (
    Fenced,
    ForeignLog,
    LogFull,
    LogUnavailable,
    Overloaded,
    StoreFull,
    StoreUnavailable,
    Unexpected,
    UnknownStream,
)
from streamlearn.events import Position
from streamlearn.keys import KeyRing
from streamlearn.learning import carrier, checkpoint
from streamlearn.learning import shard as shard_module
from streamlearn.learning.chain import links_of, load
from streamlearn.learning.digest import digest
from streamlearn.learning.learner import Learner
from streamlearn.learning.shard import Deps, Shard
from streamlearn.log import CONTROL, DEAD, SIGNALS
from streamlearn.records import Claim, Command, DeadLetter, Signal, Status, decode_control
from streamlearn.store import Retention, codec
from streamlearn.store.links import Kept
from streamlearn.testing import Abort, AtOnce, FakeClock, Faults, MemoryStore, When


class House:
    """A stage with a store, and shards that work on them one after the other, as a process and its successors would."""

    def __init__(self, stage: Stage | None = None, batch: int = 20, **model: Any) -> None:
        self.stage = stage or Stage(**model)
        learn = self.stage.settings.learn.model_copy(update={"batch": batch})
        self.settings = self.stage.settings.model_copy(update={"learn": learn})
        self.log, self.log_faults = self.stage.log, Faults()
        self.store, self.store_faults = MemoryStore(clock=self.stage.clock), Faults()
        self.timer = FakeClock(0.0)
        self.start()

    def start(self) -> Shard:
        """Another process: nothing is left but log and store."""
        deps = Deps(
            self.settings,
            self.log_faults.over(self.log.reopen()),
            self.store_faults.over(self.store.reopen()),
            KEYS,
            DriftWatch,
            self.stage.resolve,
            self.stage.clock,
            self.timer,
            AtOnce(),
            "test",
        )
        self.shard = Shard(deps, "m", 0)
        return self.shard

    def work(self, seconds: float = 0.0) -> Shard:
        """Turn until there is nothing to read; the timer moves by `seconds` with each turn."""
        while self.shard.turn():
            self.timer.advance(seconds)
        return self.shard

    def turns(self, count: int, seconds: float = 0.1) -> None:
        for _ in range(count):
            self.shard.turn()
            self.timer.advance(seconds)

    def finish(self) -> None:
        self.work(1.0)
        self.shard.close()

    @property
    def digest(self) -> str:
        return checkpoint.digest(self.shard.learner)

    def signals(self) -> list[Signal]:
        return [msgspec.json.decode(r.value, type=Signal) for r in self.log.read(SIGNALS, 0, 0, 10**6)]

    def dead(self) -> list[DeadLetter]:
        return [msgspec.json.decode(r.value, type=DeadLetter) for r in self.log.read(DEAD, 0, 0, 10**6)]

    def status(self) -> Status:
        return msgspec.json.decode(self.store.statuses()["m", 0], type=Status)

    def sealed(self, **changes: Any) -> bytes:
        """A checkpoint of the shard as it is now, but for `changes` of its header or keys."""
        learner = self.shard.learner
        header: dict[str, Any] = {
            "kind": "checkpoint",
            "model": "m",
            "version": 1,
            "shard": 0,
            "generation": self.shard.generation,
            "positions": [Position(self.log.identity("s"), "s", 0, learner.position)],
            "created": NOW,
            "parts": checkpoint.parts(learner),
            "keys": KEYS,
        }
        return codec.encode(**{**header, **changes})

    def keep(self, blob: bytes) -> int:
        """Put a blob as the newest checkpoint."""
        return self.store.put_checkpoint("m", 0, self.shard.generation, blob, Retention(9))


def saga() -> Stage:
    """A scene with a trial and a promotion in it, junk, and labels that are late."""
    drift = {"window": 30, "gap": 5, "min_reference": 30, "max_reference": 500}
    stage = Stage("binary", "naive_bayes", label_wait_s=42, drift=drift, trial={"min_block": 5}, checkpoint={"interval_s": 3})
    scene(stage, 80, "binary", 1)
    stage.fit(2, start=30)
    stage.command("try", version=2, trained_to={"0": stage.end})
    scene(stage, 120, "binary", 2, first=70)
    stage.command("promote", version=2)
    scene(stage, 60, "binary", 3, first=180)
    return stage


class Truth(NamedTuple):
    """What a single-process replay of the saga makes of it."""

    digest: str
    signals: list[Signal]
    letters: list[tuple[int, str, bytes]]
    records: list[bytes]


@cache
def truth() -> Truth:
    stage = saga()
    learner = stage.learn()
    assert {"applied", "block"} <= set(stage.kinds())
    assert len(stage.dead) > 5
    letters = sorted((letter.offset, letter.reason, letter.raw) for letter in stage.dead)
    return Truth(checkpoint.digest(learner), stage.signals, letters, [r.value for r in stage.log.read("s", 0, 0, 10**6)])


def fresh() -> House:
    """A house on a log of its own that holds the saga."""
    house = House(saga())
    assert [record.value for record in house.log.read("s", 0, 0, 10**6)] == truth().records
    return house


def check(house: House) -> None:
    """Nothing is lost, nothing learned twice, and each word is there once when repeats are dropped."""
    assert house.digest == truth().digest
    signals: dict[int, Signal] = {}
    for signal in house.signals():
        assert signals.setdefault(signal.seq, signal) == signal  # a repeat is the very same
    assert [signals[seq] for seq in sorted(signals)] == truth().signals
    letters: dict[tuple[str, int, int, str], DeadLetter] = {}
    for letter in house.dead():
        assert letters.setdefault((letter.model, letter.shard, letter.offset, letter.reason), letter) == letter
    assert sorted((letter.offset, letter.reason, letter.raw) for letter in letters.values()) == truth().letters
    again = house.start().learner
    assert checkpoint.digest(again) == truth().digest
    assert again.position == house.stage.end


def test_an_undisturbed_shard_ends_like_a_replay() -> None:
    house = fresh()
    house.finish()
    check(house)
    assert len(house.signals()) == len(truth().signals)
    assert len(house.store.checkpoints("m", 0)) == 3


ABORTS = [
    ("log", "append", "before"),
    ("log", "append", "after"),
    ("store", "put_checkpoint", "before"),
    ("store", "put_checkpoint", "after"),
    ("store", "put_publication", "before"),
    ("store", "put_publication", "after"),
    ("store", "put_status", "before"),
    ("log", "read", "after"),
    ("store", "claim", "before"),
    ("store", "checkpoint", "after"),
]


def struck(house: House, abort: tuple[str, str, When], after: int, pace: float) -> bool:
    """A process that dies at that call, if it comes to it; whether it did."""
    backend, method, when = abort
    faults = house.log_faults if backend == "log" else house.store_faults
    faults.fail(method, Abort(), after=after, when=when)
    try:
        house.start()
        house.work(pace)
        house.shard.close()
    except Abort:
        return True
    finally:
        faults.heal()
    return False


@pytest.mark.parametrize("abort", ABORTS, ids="-".join)
def test_a_death_at_any_step_of_the_commit_loses_nothing_and_learns_nothing_twice(abort: tuple[str, str, When]) -> None:
    house = fresh()
    deaths = [struck(house, abort, after, 1.0) for after in (0, 0, 1, 2, 4)]
    assert any(deaths)
    house.start()
    house.finish()
    check(house)


@settings(max_examples=15, database=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(ABORTS), st.integers(0, 9), st.floats(0.3, 6)), min_size=2, max_size=5))
def test_deaths_anywhere_in_any_order(deaths: list[tuple[tuple[str, str, When], int, float]]) -> None:
    house = fresh()
    for abort, after, pace in deaths:
        struck(house, abort, after, pace)
    house.start()
    house.finish()
    check(house)


@pytest.mark.parametrize("left", [1, 8, 150, 333])
def test_a_death_in_the_middle_of_a_batch(left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    house = fresh()
    step, steps = house.shard.learner.step, iter(range(left))

    def dying(record: Any) -> None:
        if next(steps, None) is None:
            raise Abort
        step(record)

    monkeypatch.setattr(house.shard.learner, "step", dying)
    with pytest.raises(Abort):
        house.work(1.0)
    house.start()
    house.finish()
    check(house)


def test_what_a_checkpoint_no_longer_holds_is_durable_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    house, kept = fresh(), []
    put = MemoryStore.put_checkpoint

    def checked(self: MemoryStore, model: str, shard: int, generation: int, blob: bytes, *rest: Any) -> int:
        sealed = codec.open_blob(blob, KEYS, kind="checkpoint", model="m", shard=0)
        told = msgspec.msgpack.decode(sealed.part("rest"))["signal_seq"]
        read = sealed.header.positions[0].offset
        assert [signal.seq for signal in house.signals()] == list(range(told))
        assert {(d.offset, d.reason, d.raw) for d in house.dead()} >= {one for one in truth().letters if one[0] < read - 60}
        kept.append((read, told))
        return put(self, model, shard, generation, blob, *rest)

    monkeypatch.setattr(MemoryStore, "put_checkpoint", checked)
    house.finish()
    assert len(kept) > 3
    assert kept[-1] == (house.stage.end, len(truth().signals))


def test_nothing_is_kept_while_the_log_does_not_take_the_words_before_it() -> None:
    house = fresh()
    house.log_faults.fail("append", LogFull("no space"), times=10**6)
    house.turns(300)
    assert house.shard.learner.position == house.stage.end
    assert house.store.checkpoints("m", 0) == []
    house.log_faults.heal()
    house.turns(100)
    house.shard.close()
    check(house)


def test_while_too_many_words_wait_nothing_more_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier, "CROWD", 3)
    house = House(batch=5)
    for _ in range(50):
        house.stage.put(b"junk")
    house.log_faults.fail("append", LogUnavailable("down"), times=10**6)
    house.turns(100)
    assert house.shard.learner.position == 5
    assert len(house.shard.learner.dead) == 5
    house.log_faults.heal()
    house.turns(200)
    assert [letter.offset for letter in house.dead()] == list(range(50))


# Recovery.


def recovered(house: House, caplog: pytest.LogCaptureFixture) -> tuple[Shard, list[str]]:
    """A successor, and what it said."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "streamlearn.learn"):
        shard = house.start()
    return shard, [record.message for record in caplog.records]


def partly() -> House:
    """A house whose shard was closed with 10 events learned, and then with 20."""
    house = House()
    for n in range(10):
        house.stage.xy(f"e{n}")
    house.finish()
    for n in range(10, 20):
        house.stage.xy(f"e{n}")
    house.finish()
    assert len(house.store.checkpoints("m", 0)) == 2
    return house


def test_a_successor_goes_on_where_the_last_checkpoint_ends(caplog: pytest.LogCaptureFixture) -> None:
    house = partly()
    shard, said = recovered(house, caplog)
    assert said == ["recovered"]
    assert (shard.learner.n, shard.learner.position) == (20, 20)
    assert shard.checkpoint_at == NOW


def test_a_beginner_says_that_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    _, said = recovered(House(), caplog)
    assert said == ["starts from the log"]
    assert caplog.records[0].levelno == logging.INFO


SPOILT: dict[str, Callable[[House], bytes]] = {
    "cut short": lambda house: house.sealed()[:-1],
    "altered": lambda house: house.sealed()[:-1] + b"?",
    "empty": lambda house: b"",
    "another key": lambda house: house.sealed(keys=KeyRing({"other": b"0123456789abcdef"})),
    "a forged key": lambda house: house.sealed(keys=KeyRing({"test": b"fedcba9876543210"})),
    "another model": lambda house: house.sealed(model="another"),
    "another shard": lambda house: house.sealed(shard=3),
    "another kind": lambda house: house.sealed(kind="publication"),
    "a part is missing": lambda house: house.sealed(parts={"rest": checkpoint.parts(house.shard.learner)["rest"]}),
    "no pickle": lambda house: house.sealed(parts={**checkpoint.parts(house.shard.learner), "champion": b"?"}),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_checkpoint_is_set_aside_aloud_and_the_one_before_it_is_used(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = partly()
    house.stage.xy("after")
    spoilt = house.keep(SPOILT[how](house))
    shard, said = recovered(house, caplog)
    assert said == ["checkpoint set aside", "recovered"]
    assert caplog.records[0].levelno == logging.ERROR
    assert caplog.records[0].__dict__["error"]
    assert (shard.learner.n, shard.learner.position) == (20, 20)
    infos = {info.id: info.set_aside for info in house.store.checkpoints("m", 0)}
    assert infos.pop(spoilt)
    assert set(infos.values()) == {None}
    house.work()
    assert shard.learner.n == 21
    assert recovered(house, caplog)[1] == ["recovered"]  # what was set aside is not met again


def test_when_every_checkpoint_is_spoilt_it_starts_from_the_first_record(caplog: pytest.LogCaptureFixture) -> None:
    house = partly()
    digest = house.digest
    for info in house.store.checkpoints("m", 0):
        stored = house.store._data.checkpoints[info.id]
        house.store._data.checkpoints[info.id] = stored._replace(blob=stored.blob[:-1])
    shard, said = recovered(house, caplog)
    assert said == ["checkpoint set aside"] * 2 + ["starts from the log"]
    assert caplog.records[-1].levelno == logging.WARNING
    assert shard.learner.position == 0
    house.work()
    assert house.digest == digest


def test_a_checkpoint_of_another_log_is_for_the_operator_to_judge() -> None:
    house = partly()
    house.keep(house.sealed(positions=[Position("another log", "s", 0, 20)]))
    before, published = house.store.checkpoints("m", 0), house.store.publication("m", 0)
    shard = house.start()
    assert shard.stopped is not None
    assert "was taken on log another log" in shard.stopped
    assert "--reset m" in shard.stopped
    for _ in range(3):
        assert not shard.turn()
        house.timer.advance(60.0)
    assert house.status().held == shard.stopped
    shard.close()
    assert house.store.checkpoints("m", 0) == before
    assert house.store.publication("m", 0) == published


def test_a_checkpoint_of_another_task_is_for_the_operator_to_judge() -> None:
    house = partly()
    changed = Stage(labels=["no", "yes"])
    house.settings = changed.settings
    with pytest.raises(Unexpected, match="new name"):
        house.start()
    assert all(info.set_aside is None for info in house.store.checkpoints("m", 0))


class Marked:
    """A log with a broker's own mark after the last record of every partition."""

    def __init__(self, log: Any) -> None:
        self.log = log

    def bounds(self, stream: str, partition: int) -> tuple[int, int]:
        first, end = self.log.bounds(stream, partition)
        return first, end + 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


def test_a_brokers_marks_at_the_end_of_a_partition_are_no_lag() -> None:
    house = partly()
    shard = house.start()
    shard.deps = replace(shard.deps, log=Marked(house.log))
    house.turns(30)
    assert (house.status().position, house.status().end) == (20, 20)
    for n in range(20, 25):
        house.stage.xy(f"e{n}")
    house.log_faults.fail("read", LogUnavailable("away"), times=10**6)
    shard.deps = replace(shard.deps, log=Marked(house.log_faults.over(house.log)))
    shard._report()
    assert (house.status().position, house.status().end) == (20, 26), "what comes after it is lag"


@pytest.mark.parametrize("how", ["trimmed", "shortened", "shortened and grown again", "shortened by one"])
def test_a_position_that_the_log_no_longer_holds_stops_the_shard_with_a_choice(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = partly()
    if how == "trimmed":
        for n in range(20, 40):
            house.stage.xy(f"e{n}")
        house.log.trim("s", 0, 30)
    else:
        del house.log._data.streams["s"][0].records[19 if how == "shortened by one" else 15 :]
    if how == "shortened and grown again":
        for n in range(100, 120):
            house.stage.xy(f"e{n}")
    shard, _ = recovered(house, caplog)
    before = house.digest
    with caplog.at_level(logging.ERROR, "streamlearn.learn"):
        house.turns(30)
    assert shard.stopped is not None
    assert "--reset m" in shard.stopped
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == ["shard stopped"]
    assert house.status().held == shard.stopped
    assert house.digest == before
    kept = len(house.store.checkpoints("m", 0))
    house.stage.clock.advance(5)
    house.turns(30)
    assert house.status().at == NOW + 5  # it goes on to say so
    shard.close()
    assert len(house.store.checkpoints("m", 0)) == kept


@pytest.mark.parametrize("error", [UnknownStream("no stream 's'"), ForeignLog("stream 's' was deleted and made again")])
@pytest.mark.parametrize("while_it", ["reads", "reads for a command", "begins", "begins, and nobody knows the log"])
def test_a_stream_that_is_gone_stops_the_shard_with_a_choice_and_not_the_process(error: Exception, while_it: str) -> None:
    house = partly()
    if while_it.startswith("begins"):
        for method in ("bounds", "read", *(["identity"] if "nobody" in while_it else [])):
            house.log_faults.fail(method, error, times=10**6)
        if "nobody" not in while_it:
            house.keep(house.sealed(positions=[Position("another log", "s", 0, 20)]))
        house.start()
    elif while_it == "reads":
        house.start()
        house.log_faults.fail("read", error, times=10**6)
    else:
        house.stage.xy("one more")
        house.stage.command("try", version=2, trained_to={"0": 1})
        house.stage.fit(2, stop=5)
        house.start()
        house.log_faults.fail("read", error, after=1, times=10**6)
    kept, published = house.store.checkpoints("m", 0), house.store.publication("m", 0)
    house.turns(30)
    assert house.shard.stopped is not None
    assert str(error) in house.shard.stopped or "another log" in house.shard.stopped
    assert "--reset m" in house.shard.stopped
    assert house.status().held == house.shard.stopped
    house.shard.close()
    assert house.store.checkpoints("m", 0) == kept
    assert house.store.publication("m", 0) == published


def test_a_newer_writer_stops_the_older_one() -> None:
    house = partly()
    old = house.shard
    new = house.start()
    assert new.generation > old.generation
    house.stage.xy("more")
    house.shard = old
    with pytest.raises(Fenced):
        house.turns(50, 1.0)
    house.shard = new
    assert house.work().learner.n == 21
    house.finish()


def test_a_zombie_cannot_checkpoint_publish_or_report() -> None:
    house = partly()
    zombie = house.shard
    house.start()
    kept = [info.id for info in house.store.checkpoints("m", 0)]
    tag = house.store.publication("m", 0).tag  # type: ignore[union-attr]  # there is one since `partly`
    house.stage.xy("more")
    zombie.turn()
    with pytest.raises(Fenced):
        zombie.close()
    assert [info.id for info in house.store.checkpoints("m", 0)] == kept
    assert house.store.publication("m", 0, after=tag) is None


def test_a_generation_is_the_offset_of_its_claim() -> None:
    house = House()
    record = house.log.read(CONTROL, 0, house.shard.generation, 1)[0]
    claim = decode_control(record.value)
    assert claim == Claim("m", 0, "test", NOW, {"pipeline": "learning_bench:spy", "params": {}, "seed": 42})


# Cadence, and patience.


def test_publications_checkpoints_and_reports_keep_their_own_cadence() -> None:
    house = House(publish={"min_interval_s": 0.5}, checkpoint={"interval_s": 4})
    faults = house.store_faults
    for n in range(200):
        house.stage.xy(f"e{n}")
        house.turns(1, 0.1)
    # In 20 s, looked at every 0.1 s: a turn may come a little early and then has to wait for the next.
    assert 33 <= faults.calls["put_publication"] <= 40
    assert faults.calls["put_checkpoint"] == 4
    assert 18 <= faults.calls["put_status"] <= 20


def test_an_idle_shard_publishes_and_checkpoints_nothing_new_but_reports() -> None:
    house = partly()
    house.start()
    house.turns(20)
    calls = dict(house.store_faults.calls)
    house.turns(1000)
    assert house.store_faults.calls["put_checkpoint"] == calls["put_checkpoint"]
    assert house.store_faults.calls["put_publication"] == calls["put_publication"]
    assert 90 <= house.store_faults.calls["put_status"] - calls["put_status"] <= 100


def test_an_idle_shard_puts_again_what_an_emptied_store_has_lost(caplog: pytest.LogCaptureFixture) -> None:
    house = partly()
    house.start()
    house.finish()
    house.start()
    house.turns(20)
    position = house.shard.learner.position
    for _ in range(2):
        house.store.empty()
        caplog.clear()
        house.turns(150)
        publication = house.store.publication("m", 0)
        assert publication is not None
        [kept] = house.store.checkpoints("m", 0)
        for blob, kind in ((publication.blob, "publication"), (house.store.checkpoint(kept.id), "checkpoint")):
            sealed = codec.open_blob(blob, KEYS, kind=kind, model="m", shard=0)
            assert sealed.header.positions[0].offset == position
        assert caplog.text.count("the store has lost what was put into it") == 1


def test_an_idle_shard_replaces_what_a_zombie_put_into_an_emptied_store() -> None:
    house = partly()
    house.start()
    house.turns(20)
    mine = house.store.publication("m", 0)
    assert mine is not None
    house.store.empty()
    house.store.put_publication("m", 0, 0, b"of a zombie")
    house.turns(30)
    found = house.store.publication("m", 0)
    assert found is not None
    assert len(found.blob) == len(mine.blob)


def test_a_shard_that_has_just_begun_publishes_so_that_it_can_be_served() -> None:
    house = House()
    house.turns(1)
    publication = house.store.publication("m", 0)
    assert publication is not None
    sealed = codec.open_blob(publication.blob, KEYS, kind="publication", model="m", shard=0)
    assert (sealed.header.version, sealed.header.extra, sealed.header.positions[0].offset) == (1, {"n": 0}, 0)


def test_a_publication_carries_the_champion_its_version_and_position() -> None:
    house = House()
    house.stage.xy("a")
    house.stage.command("try", version=2, trained_to={"0": house.stage.fit(2)})
    house.stage.xy("b")
    house.stage.command("promote", version=2)
    house.finish()
    publication = house.store.publication("m", 0)
    assert publication is not None
    sealed = codec.open_blob(publication.blob, KEYS, kind="publication", model="m", shard=0)
    assert sealed.header.version == 2
    assert sealed.header.extra == {"n": 2}
    assert sealed.header.positions == [Position(house.log.identity("s"), "s", 0, 4)]
    model = pickle.loads(sealed.part("model"))
    assert digest(model) == digest(house.shard.learner.champion)


def test_a_held_model_is_not_published_so_that_the_last_good_one_is_served() -> None:
    house = House()
    house.stage.xy("a")
    house.turns(10)
    before = house.store_faults.calls["put_publication"]
    house.stage.command("hold")
    for n in range(5):
        house.stage.xy(f"e{n}")
    house.turns(10)
    assert house.store_faults.calls["put_publication"] == before
    house.stage.command("resume")
    house.stage.xy("z")
    house.turns(10)
    assert house.store_faults.calls["put_publication"] > before


def test_a_canary_is_published_at_once_and_leaves_with_the_promotion() -> None:
    house = House()
    for id in ("a", "b", "c"):
        house.stage.xy(id)
    house.stage.command("try", version=2, trained_to={"0": house.stage.fit(2)})
    house.turns(10)

    def published() -> Any:
        publication = house.store.publication("m", 0)
        assert publication is not None
        return codec.open_blob(publication.blob, KEYS, kind="publication", model="m", shard=0)

    house.stage.command("canary", version=2, share=0.25, salt="m@2")  # and no event comes after it
    house.turns(10)
    sealed = published()
    assert sealed.header.version == 1
    assert sealed.header.extra == {"n": 3, "canary": {"version": 2, "share": 0.25, "salt": "m@2"}}
    assert digest(pickle.loads(sealed.part("challenger"))) == digest(house.shard.learner.shadow)
    house.stage.command("promote", version=2)
    house.turns(10)
    sealed = published()
    assert (sealed.header.version, sealed.header.extra) == (2, {"n": 3})
    assert set(sealed.header.parts) == {"model"}


def test_a_recommender_s_arms_are_published_with_its_trial_and_survive_a_restart() -> None:
    stage = shop()
    catalogue(stage)
    visits(stage, 60)
    house = House(stage)
    read_to = stage.fit(2)
    house.stage.command("try", version=2, trained_to={"0": read_to}, share=0.5, salt="m@2")
    house.work(1.0)
    visits(stage, 60, first=60, share=0.5, salt="m@2")
    house.work(1.0)
    house.finish()

    def published() -> Any:
        publication = house.store.publication("m", 0)
        assert publication is not None
        return codec.open_blob(publication.blob, KEYS, kind="publication", model="m", shard=0)

    sealed = published()
    assert sealed.header.extra["canary"] == {"version": 2, "share": 0.5, "salt": "m@2"}
    shadow = house.shard.learner.shadow
    assert shadow is not None
    links = links_of(sealed.header.extra)["challenger"]
    challenger = load(sealed.part("challenger"), links, lambda name: house.store.piece("m", 0, name))
    assert digest(challenger.estimator) == digest(shadow.estimator)
    told = house.status()
    assert told.shadow == 2
    assert told.scores["state"]["items"] == 40
    before = house.digest
    assert checkpoint.digest(stage.replay()) == before
    house.start()
    assert house.digest == before
    stage.event(None, 200.0, item="i1", action="$set", x={"available": False})
    house.work(1.0)
    house.turns(5)
    assert published().header.positions[0].offset == stage.end  # though nothing was asked since


@pytest.mark.parametrize("error", [StoreUnavailable("locked"), StoreFull("no space")])
def test_without_a_store_it_goes_on_learning_and_writes_later(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    house = fresh()
    house.turns(2)
    for method in ("put_checkpoint", "put_publication", "put_status"):
        house.store_faults.fail(method, error, times=10**6)
    with caplog.at_level(logging.WARNING, "streamlearn.learn"):
        house.turns(100)
    assert house.shard.learner.position == house.stage.end
    assert house.store.checkpoints("m", 0) == []
    assert 3 < len(caplog.records) < 60  # it says what it waits for, with growing pauses
    published = house.store.publication("m", 0)
    house.store_faults.heal()
    house.turns(120)
    assert len(house.store.checkpoints("m", 0)) == 1
    assert published is not None
    assert house.store.publication("m", 0, after=published.tag) is not None  # though nothing was learned since
    assert house.status().position == house.stage.end
    house.shard.close()
    check(house)


def test_a_log_that_cannot_be_read_is_waited_for() -> None:
    house = fresh()
    house.turns(3)
    at = house.shard.learner.position
    house.log_faults.fail("read", LogUnavailable("down"), times=10**6)
    house.log_faults.fail("bounds", LogUnavailable("down"), times=10**6)
    reads = house.log_faults.calls["read"]
    house.turns(600)
    assert house.shard.learner.position == at
    assert house.log_faults.calls["read"] - reads < 40  # with growing pauses
    assert house.status().position == at
    house.log_faults.heal()
    house.turns(100)
    assert house.status().log_lost_s is None
    house.finish()
    check(house)


@pytest.mark.parametrize("error", [LogUnavailable("down"), LogFull("no space"), Overloaded("busy", 1.0)])
def test_a_log_that_takes_nothing_for_a_while_loses_nothing(error: Exception) -> None:
    house = fresh()
    house.turns(2)
    house.log_faults.fail("append", error, times=25)
    house.turns(1500)
    house.finish()
    check(house)
    assert house.log_faults.calls["append"] > 25


def test_a_log_that_is_slow_to_fail_makes_reports_and_checkpoints_no_rarer_once_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wait for an answer is not what a report or a checkpoint costs."""
    house = fresh()
    log = house.shard.deps.log

    def silent(*args: object) -> object:
        house.timer.advance(10.0)
        raise LogUnavailable("no answer in time")

    for method in ("read", "bounds", "append"):
        monkeypatch.setattr(log, method, silent, raising=False)
    house.turns(100)
    monkeypatch.undo()
    reports, checkpoints = (house.store_faults.calls.get(name, 0) for name in ("put_status", "put_checkpoint"))
    house.turns(150)
    assert house.store_faults.calls["put_status"] - reports >= 12
    assert house.store_faults.calls["put_checkpoint"] > checkpoints
    house.finish()
    check(house)


@pytest.mark.parametrize(("calls", "crowded"), [(["read"], False), (["read", "bounds"], False), (["bounds"], True)])
def test_a_log_that_is_lost_is_said_with_for_how_long_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch, calls: list[str], crowded: bool
) -> None:
    """Also while so many words wait for it that nothing is read."""
    house = fresh()
    house.work(1.0)
    monkeypatch.setattr(carrier, "CROWD", -1 if crowded else carrier.CROWD)
    assert house.status().log_lost_s is None
    lost = house.timer()
    for call in calls:
        house.log_faults.fail(call, LogUnavailable("down"), times=10**6)
    house.turns(200)
    said = house.status()
    assert said.position == said.end, "as it was known last"
    assert said.log_lost_s is not None
    assert house.timer() - lost - said.log_lost_s < 3
    house.log_faults.heal()
    house.turns(100)
    assert house.status().log_lost_s is None


def test_a_log_that_is_back_with_nothing_new_is_asked_where_it_ends() -> None:
    house = fresh()
    house.work(1.0)
    house.log_faults.fail("read", LogUnavailable("down"), times=3)
    house.turns(30)
    asked = house.log_faults.calls["bounds"]
    house.turns(30)
    assert house.log_faults.calls["bounds"] > asked


def test_a_version_that_cannot_be_fetched_yet_is_waited_for() -> None:
    house = fresh()
    resolve, left = house.shard.deps.resolve, iter(range(3))

    def away(command: Command, shard: int) -> Kept:
        if next(left, None) is not None:
            raise StoreUnavailable("down")
        return resolve(command, shard)

    house.stage.resolve = away  # type: ignore[method-assign]
    house.start()
    house.turns(200)
    house.finish()
    check(house)


def test_closing_without_a_store_or_log_is_said_aloud_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    house = fresh()
    house.work(0.5)
    for method in ("put_checkpoint", "put_publication", "put_status"):
        house.store_faults.fail(method, StoreUnavailable("locked"), times=10**6)
    house.log_faults.fail("append", LogFull("no space"), times=10**6)
    with caplog.at_level(logging.WARNING, "streamlearn.learn"):
        house.shard.close()
    assert caplog.records
    house.store_faults.heal()
    house.log_faults.heal()
    house.start()
    house.finish()
    check(house)


def test_the_pause_of_a_checkpoint_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    house.stage.xy("a")
    house.work()

    def slow(learner: Learner, **how: bool) -> dict[str, bytes]:
        house.timer.advance(0.25)
        return checkpoint.parts(learner, **how)

    monkeypatch.setattr(shard_module, "parts", slow)
    house.shard.checkpoint()
    assert house.shard.status(house.timer()).pause_ms["checkpoint"] == 250.0


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_clock_that_is_set_anew_stops_nothing_and_the_newest_checkpoint_is_recovered(step: float) -> None:
    """Whatever is done every so often goes by the timer; the clock only dates it."""
    house = House(checkpoint={"interval_s": 1, "keep_last": 2, "keep_hourly": 0, "keep_daily": 0})
    for round in range(4):
        calls = dict(house.store_faults.calls)
        for n in range(20):
            house.stage.xy(f"e{round}-{n}", at=round * 100 + n)
            house.turns(5, 0.1)
        took = {name: house.store_faults.calls[name] - calls.get(name, 0) for name in ("put_publication", "put_checkpoint")}
        assert took["put_publication"] >= 15
        assert took["put_checkpoint"] >= 8
        assert house.store_faults.calls["put_status"] - calls.get("put_status", 0) >= 9
        assert house.status().at == pytest.approx(house.stage.clock())
        assert house.status().freshness_ms["p50"] >= 0
        house.stage.clock.advance(step)
    house.shard.close()
    position = house.shard.learner.position
    assert house.start().learner.position == position == house.stage.end
    assert house.digest == checkpoint.digest(house.stage.replay())


def test_freshness_is_from_append_to_learned() -> None:
    house = House()
    house.stage.xy("a")
    house.stage.clock.advance(0.5)
    house.work()
    assert house.shard.status(0.0).freshness_ms == {"p50": 500.0, "p99": 500.0}


def test_what_the_shard_measured_goes_with_its_status_and_begins_anew_with_the_next() -> None:
    house = House()
    house.stage.xy("a")
    house.stage.xy("b")
    house.stage.put(b"junk")
    house.work(1.0)
    house.store_faults.fail("put_status", StoreUnavailable("locked"), times=1)
    house.turns(40, 1.0)
    told = house.status()
    assert told.counted == {"learned": 2, "alarms": 0, "malformed": 1}
    assert told.learn_s is not None
    assert told.fresh_s is not None
    assert sum(told.learn_s.counts) == sum(told.fresh_s.counts) == house.shard.learner.position
    assert told.failures == {"log": 0, "store": 1}
    assert sum(told.pauses_s["publication"].counts) >= 1
    assert told.checkpoint_bytes == len(house.store.checkpoint(house.store.checkpoints("m", 0)[0].id))
    house.shard.close()
    house.start()
    house.turns(3, 1.0)
    again = house.status()
    assert again.counters == told.counters
    assert again.counted == {"learned": 0, "alarms": 0, "malformed": 0}
