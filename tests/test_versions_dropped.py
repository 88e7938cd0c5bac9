"""Many retrains with control, a learner, real fits, and a log and a store in files: old versions go, and nobody misses them."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamlearn.cli import carry, wiring
from streamlearn.cli.verify import check_shard
from streamlearn.config import parse
from streamlearn.control.loop import Control
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import ConfigError, RetrainError
from streamlearn.events import encode
from streamlearn.learning.shard import Deps, Shard
from streamlearn.log import CONTROL, SIGNALS, Entry
from streamlearn.records import Decision, Request, Signal, Status, decode_control
from streamlearn.retrain.job import FitSpec, _fit_here
from streamlearn.store import backup, bundle
from streamlearn.testing import AtOnce, DoneJob, FakeClock

MODEL: dict[str, Any] = {
    "stream": "s", "task": "binary", "pipeline": "naive_bayes", "drift": {"window": 100, "gap": 50, "min_reference": 100},
    "trial": {"min_events": 300, "watch_events": 200},
    "retrain": {"min_events": 100, "catch_up_records": 50, "keep_versions": 2},
    "checkpoint": {"interval_s": 1.0, "keep_last": 2, "keep_hourly": 0, "keep_daily": 0},
}  # fmt: skip


class World:
    """Events come by the hundred; everything that lasts is in files. `timer` alone is set by hand."""

    def __init__(self, folder: Path, how: str) -> None:
        retrain = {**MODEL["retrain"], "strategy": {"how": how}}
        tree = {
            "data_dir": str(folder), "control": {"heartbeat_s": 0.0}, "streams": {"s": {"allowed_lateness_s": 0}},
            "models": {"m": {**MODEL, "retrain": retrain}},
        }  # fmt: skip
        self.settings = parse(tree, {})
        self.keys = wiring.ring(self.settings, {})
        self.log, self.store = wiring.open_log(self.settings), wiring.open_store(self.settings)
        self.wired = wiring.World(self.settings, self.log, self.store, self.keys)
        self.timer, self.draw, self.count = FakeClock(0.0), random.Random(5), 0
        self.start()

    def start(self) -> None:
        """Other processes of control and of the learner."""
        self.control = Control(self.settings, self.log, self.store, self.keys, self, time.time, timer=self.timer)
        about = DriftWatch, wiring.resolver(self.wired), time.time, self.timer, AtOnce(), "here"
        self.shard = Shard(Deps(self.settings, self.log, self.store, self.keys, *about), "m", 0)

    def close(self) -> None:
        self.store.close()
        self.log.close()

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
        try:
            open_store = lambda: wiring.open_store(self.settings)  # noqa: E731
            return DoneJob(_fit_here(spec.to_bytes(), wiring.log_opener(self.settings), self.keys, open_store))
        except RetrainError as error:
            return DoneJob(error)

    def turn(self, seconds: float = 2.0) -> None:
        entries = []
        for _ in range(100):
            a, self.count = self.draw.uniform(-1, 1), self.count + 1
            event = {"stream": "s", "id": f"e{self.count}", "x": {"a": a, "b": self.draw.uniform(-1, 1)}, "y": a > 0}
            entries.append(Entry(b"k", encode(event)))
        self.log.append("s", entries).result()
        self.work(seconds)

    def work(self, seconds: float = 2.0) -> None:
        for _ in range(3):
            self.timer.advance(seconds)
            while self.shard.turn():
                pass
            self.control.tick()

    def ask(self, action: str, **about: Any) -> Decision:
        request = Request(uuid.uuid4().hex, "m", action, "ann", time.time(), **about)
        [(_, offset)] = self.log.append(CONTROL, [Entry(b"m", msgspec.json.encode(request), partition=0)]).result()
        self.work()
        [settled] = [one for one in self.decisions() if one.numbers.get("request") == offset]
        return settled

    def decisions(self) -> list[Decision]:
        records = [decode_control(record.value) for record in self.log.read(CONTROL, 0, 0, 10_000)]
        return [record for record in records if isinstance(record, Decision)]

    def until(self, kind: str, since: int, turns: int = 60) -> Decision:
        """The first decision of that kind among those after the first `since`."""
        for _ in range(turns):
            for decision in self.decisions()[since:]:
                if decision.kind == kind:
                    return decision
            self.turn()
        raise AssertionError(f"no {kind} after {[(one.kind, one.why) for one in self.decisions()[since:]]}")

    def retrained(self) -> None:
        """Another version is made, and promoted by hand."""
        since = len(self.decisions())
        assert self.ask("retrain").kind == "case_opened"
        self.until("trial_started", since)
        self.work()
        assert self.ask("promote").kind == "trial_won"
        self.until("recovered", since)

    def kept(self) -> list[int]:
        return sorted(version for _, version, _ in self.store.versions())

    def doc(self, version: int) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.store.views("version", [f"m@{version}"])[f"m@{version}"])
        return found

    def signals(self) -> list[Signal]:
        return [msgspec.json.decode(record.value, type=Signal) for record in self.log.read(SIGNALS, 0, 0, 10**6)]


def made(folder: Path, how: str) -> World:
    """Six retrains, after which control has looked which versions go."""
    world = World(folder, how)
    for _ in range(3):
        world.turn()
    for _ in range(6):
        world.retrained()
    world.turn()
    world.work(seconds=70.0)
    return world


@pytest.fixture(params=["full", "warm"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = made(tmp_path, request.param)
    yield world
    world.close()


def test_old_bytes_are_gone_and_the_previous_champion_can_be_had_back(world: World) -> None:
    assert world.shard.learner.version == 7
    assert world.kept() == [6, 7]
    assert [one.version for one in world.decisions() if one.kind == "version_dropped"] == [2, 3, 4, 5]
    for version in range(2, 6):
        doc = world.doc(version)
        assert (doc["fate"], doc["learned"] > 0, doc["dropped"] > doc["created"]) == ("previous", True, True)
    world.shard.close()
    world.start()
    assert world.shard.learner.version == 7
    since = len(world.decisions())
    assert world.ask("rollback").kind == "rollback_started"
    world.until("rolled_back", since)
    assert world.shard.learner.version == 6
    n = world.shard.learner.n
    world.turn()
    assert world.shard.learner.n == n + 100
    world.retrained()
    assert world.shard.learner.version == 8


def test_a_dropped_version_is_refused_and_says_why(world: World, tmp_path: Path) -> None:
    for action in ("promote", "rollback"):
        refused = world.ask(action, version=3)
        assert refused.kind == "request_refused"
        assert "its bytes were dropped at 2" in refused.why
        assert "models.m.retrain.keep_versions = 2; a higher number keeps more from now on" in refused.why
    with pytest.raises(ConfigError, match=r"version 3 of m was dropped at 2.*Z, and shard 0 serves version 7") as told:
        carry.pack(world.settings, world.store, world.keys, "m", 3, live=False, now=7.0)
    assert "models.m.retrain.keep_versions = 2 says how many are kept" in str(told.value)
    assert world.ask("promote", version=6).kind == "case_opened", "a kept one still can be"
    world.until("promoted", len(world.decisions()) - 1)
    assert world.shard.learner.version == 8


def test_a_replay_takes_what_is_gone_as_ordinary(world: World) -> None:
    """A fit from the log is made again from its command; one that went on from a checkpoint is not, and that is said."""
    for _ in range(3):
        world.turn()
    world.shard.close()
    checked = check_shard(world.wired, "m", 0)
    if world.settings.models["m"].retrain.strategy.how == "full":
        assert checked.verdict == "same"
    else:
        assert "version 2, which was tried, is gone and cannot be made again" in checked.verdict
        assert "is no longer in the store" in checked.verdict
    vault = backup.Vault(str(Path(world.settings.data_dir) / "backups"))
    about: dict[str, Any] = {"check": lambda *given: None, "checkpoints": 1, "progress": lambda done, total: None}
    manifest = backup.backup(world.store, vault, "one", 1e9, **about)
    assert sorted(item.version for item in manifest.objects if item.kind == "version") == [6, 7]
    assert manifest.notes == []
    assert backup.verify(vault, manifest, about["progress"]) == []


def test_a_learner_without_any_checkpoint_comes_to_the_champion_and_is_heard(world: World) -> None:
    """Of a trial that it cannot have again it tells less than the first time: its later words must not pass for repeats."""
    world.shard.close()
    for info in world.store.checkpoints("m", 0):
        world.store.set_aside(info.id, "corrupt")
    world.start()
    for _ in range(3):
        world.turn()
    learner = world.shard.learner
    assert learner.version == 7
    assert [one.numbers["shard"] for one in world.decisions() if one.kind == "rebuilt"] == [0]
    status = msgspec.json.decode(world.store.statuses()["m", 0], type=Status)
    assert status.backfill is None
    heard = world.control.states()["m"].seen[0]
    world.retrained()
    assert world.shard.learner.version == 8
    assert world.control.states()["m"].seen[0] > heard


def test_what_was_imported_and_dropped_is_imported_anew(world: World, tmp_path: Path) -> None:
    file = tmp_path / "m6.zip"
    about, blobs, pieces = carry.pack(world.settings, world.store, world.keys, "m", 6, live=False, now=7.0)
    bundle.write(file, about, blobs, world.keys, pieces)
    read = bundle.read(file, world.keys)

    def bring() -> carry.Brought:
        return carry.bring(world.wired, read, "m", "", lambda seconds: world.work(), time.time)

    assert bring().version == 8
    since = len(world.decisions())
    assert world.ask("promote", version=8).kind == "case_opened"
    world.until("recovered", since)
    assert bring()[1::3] == (8, False), "it is there"
    world.retrained()
    world.retrained()
    world.turn()
    world.work(seconds=70.0)
    assert world.kept() == [10, 11]
    assert bring()[1::3] == (12, True)
    world.turn()
    world.work(seconds=70.0)
    assert world.kept() == [10, 11, 12]
