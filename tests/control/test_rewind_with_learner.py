"""Rewind, hold and kept versions with the real learner, checkpoints, fit and trial, over one log."""

from __future__ import annotations

import functools
import random
from typing import Any

import msgspec

from streamlearn.config import parse
from streamlearn.control.loop import Control
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import RetrainError
from streamlearn.events import Position
from streamlearn.learning import checkpoint
from streamlearn.learning.digest import digest
from streamlearn.learning.replay import advance, limits_of, new_learner, replay
from streamlearn.learning.trainer import Trainer
from streamlearn.log import CONTROL, SIGNALS, Entry
from streamlearn.records import Command, Decision, Request, decode_control
from streamlearn.retrain.job import FitSpec, base_blob, fit
from streamlearn.store import Retention
from streamlearn.store.codec import encode
from streamlearn.store.links import kept_version
from streamlearn.testing import DoneJob, FakeClock, MemoryLog, MemoryStore

TREE: dict[str, Any] = {
    "control": {"heartbeat_s": 0.0},
    "streams": {"clicks": {}},
    "models": {
        "m": {
            "stream": "clicks", "task": "binary", "pipeline": "logistic", "drift": {"window": 200},
            "trial": {"min_events": 300, "watch_events": 1000}, "retrain": {"min_events": 100, "catch_up_records": 50},
        }
    },
}  # fmt: skip


class Kept:
    """A log, a real learner over it that leaves checkpoints, and control; events come by the hundred."""

    def __init__(self, keys: Any) -> None:
        self.keys, self.settings, self.clock = keys, parse(TREE, {}), FakeClock()
        self.log, self.store = MemoryLog(clock=self.clock), MemoryStore(clock=self.clock)
        self.control = self.restarted()
        self.learner = new_learner(self.settings, "m", 0, 0, DriftWatch)
        self.random = random.Random(7)
        self.count = 0
        self.garbage = False
        self.right: list[bool] = []

    def restarted(self) -> Control:
        return Control(self.settings, self.log.reopen(), self.store.reopen(), self.keys, self, self.clock, timer=self.clock)

    def resolve(self, command: Command, shard: int) -> Kept:
        kept = kept_version(self.store, "m", command.version or 0, shard)
        assert kept is not None
        return kept

    def read(self) -> None:
        learner = self.learner
        records = self.log.read("clicks", 0, learner.position, 10_000)
        advance(learner, records, self.settings, self.log, self.keys, self.resolve)
        told = [Entry(b"m", msgspec.json.encode(signal), partition=0) for signal in learner.signals]
        learner.signals.clear()
        if told:
            self.log.append(SIGNALS, told).result()

    def decisions(self) -> list[Decision]:
        records = [decode_control(record.value) for record in self.log.read(CONTROL, 0, 0, 10_000)]
        return [record for record in records if isinstance(record, Decision)]

    def until(self, kind: str, turns: int = 60) -> Decision:
        for _ in range(turns):
            if kind in [decision.kind for decision in self.decisions()]:
                return self.last(kind)
            self.turn()
        raise AssertionError(f"no {kind} after {[decision.kind for decision in self.decisions()]}")

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
        try:
            fetch = functools.partial(base_blob, self.store)
            return DoneJob(fit(spec, self.log.reopen, self.keys, lambda done, total: None, fetch))
        except RetrainError as error:
            return DoneJob(error)

    def checkpoint(self) -> int:
        place = Position(self.log.identity("clicks"), "clicks", 0, self.learner.position)
        blob = encode(
            kind="checkpoint", model="m", version=self.learner.version, shard=0, generation=1, positions=[place],
            created=self.clock(), parts=checkpoint.parts(self.learner), keys=self.keys,
        )  # fmt: skip
        return self.store.put_checkpoint("m", 0, 1, blob, Retention())

    def turn(self) -> None:
        """A hundred events, or garbage: features of another scale, labels that say the contrary."""
        entries = []
        for _ in range(100):
            a, b = self.random.uniform(-1, 1), self.random.uniform(-1, 1)
            y, scale = a > 0, 20 if self.garbage else 1
            self.count += 1
            x = {"a": a * scale, "b": b * scale}
            if not self.garbage:
                self.right.append(self.learner.champion.answer(x).y == y)
            event = {"stream": "clicks", "id": f"e{self.count}", "x": x, "y": bool(y ^ self.garbage)}
            entries.append(Entry(f"e{self.count}".encode(), msgspec.json.encode(event)))
        self.log.append("clicks", entries).result()
        self.clock.advance(1.0)
        self.read()
        self.control.tick()
        self.read()

    def ask(self, action: str, **fields: Any) -> None:
        request = Request(f"r{self.clock()}", "m", action, "ann", self.clock(), **fields)
        self.log.append(CONTROL, [Entry(b"", msgspec.json.encode(request), partition=0)]).result()

    def accuracy(self, last: int = 100) -> float:
        return sum(self.right[-last:]) / last

    def last(self, kind: str) -> Decision:
        return next(decision for decision in reversed(self.decisions()) if decision.kind == kind)

    def weights(self) -> str:
        return digest(self.learner.champion.estimator)


def test_garbage_that_was_learned_is_taken_back(keys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(DriftWatch, "update", lambda self, loss, offset, n: None)  # nobody notices by the loss
    world = Kept(keys)
    for _ in range(10):
        world.turn()
    world.checkpoint()
    before, start = world.accuracy(), world.learner.position
    world.garbage = True
    for _ in range(4):
        world.turn()
    end = world.learner.position
    world.garbage = False
    world.turn()
    spoilt = world.accuracy()
    assert before > 0.9
    assert spoilt < before - 0.3
    world.checkpoint()  # the newest one has learned the garbage: it must not be the base
    world.ask("rewind", to=[str(start)], skip=[f"{start}:{end}"], reason="a sensor")
    versions = []
    for _ in range(4):
        world.turn()
        versions.append(world.learner.version)
        world.control = world.restarted()
    assert set(versions) <= {1, 2}
    assert versions[-1] == 2
    assert world.last("retrain_started").numbers["bases"]["0"]["position"] == start
    assert world.accuracy() > 0.9
    again = replay(world.settings, "m", 0, world.log, keys, DriftWatch, world.resolve, world.learner.position)
    assert checkpoint.digest(again) == checkpoint.digest(world.learner)
    world.ask("retrain")
    world.until("trial_started")
    skipped = [tuple(one) for one in world.last("retrain_started").numbers["skip"]["0"]]
    assert skipped == [(start, end)], "no later fit learns the garbage either"


def test_the_new_version_is_one_that_never_saw_the_garbage(keys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(DriftWatch, "update", lambda self, loss, offset, n: None)
    world = Kept(keys)
    for _ in range(5):
        world.turn()
    world.checkpoint()
    start = world.learner.position
    world.garbage = True
    world.turn()
    world.garbage = False
    world.ask("rewind", to=[str(start)], skip=[f"{start}:{world.learner.position}"])
    while world.learner.version == 1:
        world.turn()
    settings = world.settings
    trainer = Trainer.new("m", settings.models["m"], settings.streams["clicks"], limits_of(settings), "clicks", 0, 0)
    trainer.pass_over([(start, start + 100)])
    trainer.feed(world.log.read("clicks", 0, 0, world.learner.position))
    assert digest(trainer.model.estimator) == world.weights()


def test_a_version_that_was_replaced_serves_again(keys: Any) -> None:
    world = Kept(keys)
    for _ in range(5):
        world.turn()
    for version in (2, 3):
        world.ask("retrain")
        while world.learner.version < version:
            world.turn()
            if world.learner.shadow_version == version:
                world.ask("promote")
        while world.control.states()["m"].phase.value != "steady":
            world.turn()
    trained_to = world.control.states()["m"].fitted[2][0]
    world.ask("promote", version=2)
    while world.learner.version == 3:
        world.turn()
        assert world.count < 20_000, world.decisions()[-1]
    assert world.learner.version == 4
    assert world.last("retrain_started").numbers["bases"]["0"] == {"kind": "version", "id": 2, "position": trained_to}


def test_a_held_range_that_was_learned_after_all(keys: Any) -> None:
    world, never = Kept(keys), Kept(keys)
    for turn in range(12):
        if turn == 4:
            world.ask("hold")
        if turn == 8:
            assert world.weights() != never.weights()
            world.ask("resume", mode="learn")
        world.turn()
        never.turn()
    assert world.learner.held is None
    assert world.weights() == never.weights()
    assert world.control.states()["m"].skipped == {}
    again = replay(world.settings, "m", 0, world.log, keys, DriftWatch, world.resolve, world.learner.position)
    assert checkpoint.digest(again) == checkpoint.digest(world.learner)
