"""A rolling deploy at the learner: another build replays, leaves what the old one needs, and the old one can come back.

And where a model begins (`start`), as which version, made from what.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from learning_bench import KEYS, NOW, Stage, scene

from streamlearn.config import Settings
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import OtherBuild
from streamlearn.events import Kind, encode
from streamlearn.keys import KeyRing
from streamlearn.learning import checkpoint
from streamlearn.learning.genesis import genesis
from streamlearn.learning.recovery import begin
from streamlearn.learning.replay import replay
from streamlearn.learning.worker import Worker
from streamlearn.lineage import REBUILT
from streamlearn.log import CONTROL, SIGNALS, Entry
from streamlearn.records import Claim, Command, Decision, KeyRevoked, Signal, Status, sign_command
from streamlearn.store import Retention, Store, codec
from streamlearn.store.sqlite import SqliteStore
from streamlearn.testing import FakeClock, MemoryStore


@contextmanager
def build(river: str = "99.1.0") -> Iterator[None]:
    """Everything inside runs under this river."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "river_version", lambda: river)
        yield


class Yard:
    """A stage, a store, and one learner after the other over them."""

    def __init__(self, store: Store, **model: Any) -> None:
        drift = {"window": 30, "gap": 5, "min_reference": 30, "max_reference": 500}
        options = {"drift": drift, "checkpoint": {"interval_s": 1}}
        model = {"retrain": {"catch_up_records": 10}, "task": "binary", "pipeline": "naive_bayes", **options, **model}
        self.stage = Stage(**model)
        self.settings: Settings = self.stage.settings
        self.log, self.store, self.timer = self.stage.log, store, FakeClock(0.0)
        self.trained_to = 0

    def learner(self, reset: tuple[str, ...] = ()) -> Worker:
        return Worker(
            self.settings, self.log.reopen(), self.store, KEYS, watches=DriftWatch, resolve=self.stage.resolve,
            clock=self.stage.clock, timer=self.timer, reset=reset,
        )  # fmt: skip

    def turn(self, worker: Worker) -> bool:
        """One turn, and what it has the store write."""
        busy = worker.turn()
        worker._writer.submit(int).result()
        return busy

    def work(self, worker: Worker, turns: int = 400) -> Worker:
        for _ in range(turns):
            self.timer.advance(0.25)
            if not self.turn(worker) and worker.shards[0].learner.position == self.stage.end:
                break
        for _ in range(8):
            self.timer.advance(1.5)
            self.turn(worker)
        return worker

    def run(self) -> Worker:
        worker = self.work(self.learner())
        worker.close()
        return worker

    def published(self) -> codec.Header:
        found = self.store.publication("m", 0)
        assert found is not None
        return codec.header_of(found.blob, KEYS)

    def status(self) -> Status:
        return msgspec.json.decode(self.store.statuses()["m", 0], type=Status)

    def signals(self) -> list[Signal]:
        return [msgspec.json.decode(record.value, type=Signal) for record in self.log.read(SIGNALS, 0, 0, 10**6)]

    def rebuilt(self) -> None:
        """What control answers to a learner that has read everything again."""
        claim = Claim("m", 9, "control", NOW)
        [(_, seq)] = self.log.append(CONTROL, [Entry(b"m", encode(claim))]).result()
        seq = max(seq, self.stage.seq + 1)
        self.stage.seq = seq
        command = Command(seq, "m", "reset", reason=REBUILT)
        self.stage.put(sign_command(command, KEYS), Kind.COMMAND)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "store.sqlite")
    yield made
    made.close()


def promoted(store: Store) -> Yard:
    """Version 2 serves, and was checkpointed and published."""
    yard = Yard(store)
    scene(yard.stage, 120, "binary", 1)
    yard.trained_to = yard.stage.fit(2, start=30)
    yard.stage.command("try", version=2, trained_to={"0": yard.trained_to})
    scene(yard.stage, 120, "binary", 2, first=120)
    yard.stage.command("promote", version=2)
    scene(yard.stage, 120, "binary", 3, first=240)
    yard.run()
    assert yard.published().version == 2
    return yard


def test_another_build_replays_and_leaves_what_the_old_one_needs_until_it_has_caught_up(store: Store) -> None:
    yard = promoted(store)
    old, kept = yard.published(), store.checkpoints("m", 0)
    told = len(yard.signals())
    with build():
        yard.stage.fit(2, start=30, stop=yard.trained_to)  # what the resolver does for a version of another build
        worker = yard.learner()
        shard = worker.shards[0]
        assert shard.learner.position == 0
        yard.timer.advance(2)
        yard.turn(worker)
        said = yard.status()
        assert said.backfill is not None
        assert (said.backfill.why, said.backfill.until) == ("rebuild", yard.stage.end)
        yard.work(worker)
        new = yard.published()
        assert (new.river, new.version) == ("99.1.0", 2), "the promoted version was made again from its spec"
        assert new.positions[0].offset == yard.stage.end
        assert shard.learner.version == 2
        worker.close()
    assert [info.set_aside for info in store.checkpoints("m", 0)] == [None] * len(store.checkpoints("m", 0))
    assert {info.id for info in kept} <= {info.id for info in store.checkpoints("m", 0)}
    assert old.river != new.river
    again = yard.signals()[told:]
    assert not {signal.kind for signal in again} & {"alarm", "window"}, "what was alarming then was judged then"


def test_the_old_publication_stays_while_the_new_learner_is_behind(store: Store) -> None:
    yard = promoted(store)
    before = store.publication("m", 0)
    settings = yard.settings.model_copy(update={"learn": yard.settings.learn.model_copy(update={"batch": 5})})
    yard.settings = settings
    with build():
        worker = yard.learner()
        while worker.shards[0].learner.position < yard.stage.end - 10:
            yard.timer.advance(1.5)
            yard.turn(worker)
            assert store.publication("m", 0) == before
            assert yard.status().withheld
            with pytest.raises(OtherBuild, match="its river is"):
                codec.open_blob(store.publication("m", 0).blob, KEYS, kind="publication", model="m", shard=0)  # type: ignore[union-attr]  # it is there
        worker.close()  # a drain in the midst of it must not give it away either
        assert store.publication("m", 0) == before
        went_on = yard.learner()  # its own checkpoint holds how far it was
        assert went_on.shards[0].learner.position >= yard.stage.end - 10
        assert went_on.shards[0]._catch_up.rebuilding
        yard.work(went_on)
        assert yard.published().river == "99.1.0"
        assert yard.status().withheld == ""
        went_on.close()


def test_the_old_build_finds_its_own_checkpoints_when_the_deploy_is_rolled_back(store: Store) -> None:
    yard = promoted(store)
    end = yard.stage.end
    with build():
        scene(yard.stage, 60, "binary", 4, first=360)
        for first in range(420, 480, 10):  # many checkpoints of the new build
            scene(yard.stage, 10, "binary", first, first=first)
            yard.run()
    old = yard.learner()
    assert old.shards[0].learner.position == end
    assert old.shards[0].learner.version == 2
    yard.work(old)
    old.close()
    truth = replay(yard.settings, "m", 0, yard.log, KEYS, DriftWatch, yard.stage.resolve, yard.stage.end)
    assert checkpoint.digest(old.shards[0].learner) == checkpoint.digest(truth)
    with build():
        again = yard.learner()
        assert again.shards[0].learner.position > end, "and so does the new one, when it comes again"
        again.close()


def test_a_rebuild_ends_by_a_reset_that_numbers_signals_above_all_before(store: Store) -> None:
    yard = promoted(store)
    with build():
        worker = yard.work(yard.learner())
        shard = worker.shards[0]
        found = shard._catch_up
        assert found.rebuilding, "until control has answered"
        assert yard.status().backfill is not None
        yard.rebuilt()
        yard.work(worker)
        assert not found.rebuilding
        assert yard.status().backfill is None
        assert shard.learner.signal_seq >= 2 * (yard.stage.end - 1)
        worker.close()
        truth = replay(yard.settings, "m", 0, yard.log, KEYS, DriftWatch, yard.stage.resolve, yard.stage.end)
        assert checkpoint.digest(shard.learner) == checkpoint.digest(truth), "a replay meets the reset at the same place"


def test_a_damaged_checkpoint_is_still_set_aside_beside_those_of_another_build(store: Store) -> None:
    yard = promoted(store)
    with build():
        sealed = codec.encode(
            kind="checkpoint", model="m", version=1, shard=0, generation=10**6, positions=[], created=0, parts={}, keys=KEYS
        )
        bad = store.put_checkpoint("m", 0, 10**6, sealed[:-1] + b"?", Retention(), codec.build())
        forged = store.put_checkpoint("m", 0, 10**6, codec.encode(
            kind="checkpoint", model="m", version=1, shard=0, generation=10**6, positions=[], created=0, parts={},
            keys=KeyRing({"other": b"0123456789abcdef"}),
        ), Retention(), codec.build())  # fmt: skip
        begun = begin(yard.settings, "m", 0, yard.log, store, KEYS, DriftWatch)
        assert begun.past is not None
        assert begun.past.why == "rebuild"
    fates = {info.id: info.set_aside for info in store.checkpoints("m", 0)}
    assert fates[bad] is not None
    assert fates[forged] is not None
    assert sum(fate is not None for fate in fates.values()) == 2


# -- where a model begins


def posts(yard: Yard, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        yard.stage.xy(f"e{n}", y=n % 2 == 0, at=float(n), v=float(n))


def test_a_model_begins_at_the_earliest_at_the_latest_or_at_a_time() -> None:
    yard = Yard(MemoryStore())
    posts(yard, 20)
    yard.stage.clock.advance(100)
    posts(yard, 20, 20)

    def start(text: str) -> int:
        model = yard.settings.models["m"].model_copy(update={"start": text})
        settings = yard.settings.model_copy(update={"models": {"m": model}})
        return genesis(settings, "m", 0, yard.log).start

    assert start("earliest") == 0
    assert start("latest") == 40
    assert start("2023-11-14T22:13:21Z") == 20
    assert start("2023-11-14T22:13:20Z") == 0
    assert start("2999-01-01T00:00:00Z") == 40


def test_the_latest_is_when_the_model_was_first_there_however_often_it_begins() -> None:
    yard = Yard(MemoryStore(), start="latest")
    posts(yard, 20)
    yard.stage.clock.advance(10)
    worker = yard.learner()
    assert worker.shards[0].learner.position == 20
    yard.stage.clock.advance(10)
    posts(yard, 20, 20)  # it dies before it has read them, and no checkpoint was taken
    again = yard.run()
    assert (again.shards[0].learner.position, again.shards[0].learner.n) == (40, 20)
    yard.store = MemoryStore()  # and the store was lost as well
    posts(yard, 5, 40)
    third = yard.run()
    assert third.shards[0].learner.n == 25
    truth = replay(yard.settings, "m", 0, yard.log, KEYS, DriftWatch, yard.stage.resolve, yard.stage.end)
    assert checkpoint.digest(third.shards[0].learner) == checkpoint.digest(truth)


def test_a_backfill_is_told_kept_and_ends() -> None:
    yard = Yard(MemoryStore())
    posts(yard, 200)
    yard.settings = yard.settings.model_copy(update={"learn": yard.settings.learn.model_copy(update={"batch": 10})})
    worker = yard.learner()
    for _ in range(5):
        yard.turn(worker)
        yard.timer.advance(1.5)
    said = yard.status().backfill
    assert said is not None
    assert (said.start, said.until, said.why) == (0, 200, "start")
    assert 0 < said.position < 200
    assert said.rate > 0
    assert yard.store.publication("m", 0) is not None, "a new model serves while it learns the past"
    worker.close()
    worker = yard.learner()
    assert worker.shards[0]._catch_up.past is not None
    assert worker.shards[0]._catch_up.past.start == 0, "counted from where it began, not from the restart"
    yard.work(worker)
    assert yard.status().backfill is None
    worker.close()
    assert yard.learner().shards[0]._catch_up.past is None


# -- version 1 is what it was first made of


def with_pipeline(yard: Yard, pipeline: str) -> None:
    model = yard.settings.models["m"].model_copy(update={"pipeline": pipeline})
    yard.settings = yard.settings.model_copy(update={"models": {"m": model}})


def steps(worker: Worker) -> list[str]:
    return list(worker.shards[0].learner.champion.estimator.steps)


@pytest.mark.parametrize("lost", [False, True])
def test_a_pipeline_changed_in_the_file_is_not_version_1(lost: bool) -> None:
    yard = Yard(MemoryStore())
    posts(yard, 30)
    before = steps(yard.run())
    with_pipeline(yard, "logistic")
    assert steps(Yard(MemoryStore(), pipeline="logistic").run()) != before
    if lost:
        yard.store = MemoryStore()
    worker = yard.run()
    assert steps(worker) == before, "what serves as version 1 is what version 1 was made of"
    truth = replay(yard.settings, "m", 0, yard.log, KEYS, DriftWatch, yard.stage.resolve, yard.stage.end)
    assert checkpoint.digest(worker.shards[0].learner) == checkpoint.digest(truth)


def test_a_log_trimmed_since_is_learned_by_the_version_that_serves() -> None:
    yard = Yard(MemoryStore())
    posts(yard, 100)
    yard.run()
    fit = {"settings": {"pipeline": "logistic", "params": {}, "seed": 7}}
    for decision in (
        Decision("m", "retrain_started", NOW, version=2, numbers={"fit": fit}), Decision("m", "promoted", NOW, version=2),
        Decision("other", "promoted", NOW, version=5), KeyRevoked("0a1b2c3d4e5f", "m", "ada", NOW),
    ):  # fmt: skip
        yard.log.append(CONTROL, [Entry(b"m", msgspec.json.encode(decision))]).result()
    untouched = genesis(yard.settings, "m", 0, yard.log)
    assert (untouched.version, untouched.recipe["pipeline"], untouched.trimmed) == (1, "naive_bayes", False)
    yard.log.trim("s", 0, 60)
    yard.store = MemoryStore()
    worker = yard.run()
    learner = worker.shards[0].learner
    assert (learner.version, learner.n) == (2, 40)
    assert steps(worker) == steps(Yard(MemoryStore(), pipeline="logistic").run())
    assert yard.published().version == 2


def test_a_model_that_came_to_a_trimmed_log_is_its_first_version() -> None:
    yard = Yard(MemoryStore())
    posts(yard, 100)
    yard.log.trim("s", 0, 60)
    worker = yard.run()
    assert (worker.shards[0].learner.version, worker.shards[0].learner.n) == (1, 40)
    assert not genesis(yard.settings, "m", 0, yard.log).trimmed


@pytest.mark.parametrize(("model", "why"), [("m", "rebuild"), ("other", "start")])
def test_without_a_checkpoint_a_model_whose_versions_were_dropped_is_made_again(model: str, why: str) -> None:
    """Control is to answer with a reset, by which it is heard again although it told less than the first time."""
    yard = Yard(MemoryStore())
    posts(yard, 100)
    yard.run()
    dropped = Decision(model, "version_dropped", NOW, version=2)
    yard.log.append(CONTROL, [Entry(b"m", msgspec.json.encode(dropped))]).result()
    assert genesis(yard.settings, "m", 0, yard.log).dropped == (why == "rebuild")
    begun = begin(yard.settings, "m", 0, yard.log, MemoryStore(), KEYS, DriftWatch)
    assert begun.past is not None
    assert (begun.past.why, begun.past.until) == (why, 100)
    kept = begin(yard.settings, "m", 0, yard.log, yard.store, KEYS, DriftWatch)
    assert (kept.past, kept.learner.position) == (None, 100), "with a checkpoint nothing is made again"
