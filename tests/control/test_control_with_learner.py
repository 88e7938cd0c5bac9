"""Control with the real learner, watch, fit and trial: a world that turns over is noticed, learned anew, and won back."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from streamlearn.config import parse
from streamlearn.control.loop import Control
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import RetrainError
from streamlearn.learning.replay import advance, new_learner, replay
from streamlearn.log import CONTROL, SIGNALS, Entry
from streamlearn.records import Command, Decision, Request, Status, decode_control
from streamlearn.retrain.job import FitSpec, fit
from streamlearn.testing import FakeClock, MemoryLog, MemoryStore

TREE: dict[str, Any] = {
    "control": {"heartbeat_s": 0.0},
    "streams": {"clicks": {}},
    "models": {
        "m": {
            "stream": "clicks",
            "task": "binary",
            "pipeline": "logistic",
            "drift": {"window": 200, "gap": 50, "min_reference": 200},
            "trial": {"min_events": 300, "watch_events": 1000},
            "retrain": {"min_events": 100, "catch_up_records": 50},
        }
    },
}


class InlineJob:
    """A fit that is made when it is asked for."""

    def __init__(self, blob: bytes | RetrainError) -> None:
        self._blob = blob

    def progress(self) -> tuple[int, int]:
        return (1, 1)

    def cancel(self) -> None:
        pass

    def done(self) -> bool:
        return True

    def result(self) -> bytes:
        if isinstance(self._blob, RetrainError):
            raise self._blob
        return self._blob


class World:
    """A log, a real learner over it, and control; events come by the hundred."""

    def __init__(self, keys: Any) -> None:
        self.keys, self.settings, self.clock = keys, parse(TREE, {}), FakeClock()
        self.log, self.store = MemoryLog(clock=self.clock), MemoryStore(clock=self.clock)
        self.control = self.restarted()
        self.learner = new_learner(self.settings, "m", 0, 0, DriftWatch)
        self.random = random.Random(7)
        self.flipped = False
        self.count = 0

    def restarted(self) -> Control:
        return Control(self.settings, self.log.reopen(), self.store.reopen(), self.keys, self, self.clock)

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> InlineJob:
        try:
            return InlineJob(fit(spec, self.log.reopen, self.keys, lambda done, total: None))
        except RetrainError as error:
            return InlineJob(error)

    def resolve(self, command: Command, shard: int) -> bytes:
        blob = self.store.version("m", command.version or 0, shard)
        assert blob is not None
        return blob

    def turn(self) -> None:
        entries = []
        for _ in range(100):
            a, b = self.random.uniform(-1, 1), self.random.uniform(-1, 1)
            y = (a > 0) ^ self.flipped ^ (self.random.random() < 0.05)
            self.count += 1
            event = {"stream": "clicks", "id": f"e{self.count}", "x": {"a": a, "b": b}, "y": bool(y)}
            entries.append(Entry(f"e{self.count}".encode(), msgspec.json.encode(event)))
        self.log.append("clicks", entries).result()
        self.clock.advance(1.0)
        self.read()
        self.control.tick()
        self.read()

    def read(self) -> None:
        learner = self.learner
        records = self.log.read("clicks", 0, learner.position, 10_000)
        advance(learner, records, self.settings, self.log, self.keys, self.resolve)
        told = [Entry(b"m", msgspec.json.encode(signal), partition=0) for signal in learner.signals]
        learner.signals.clear()
        if told:
            self.log.append(SIGNALS, told).result()
        end = learner.position
        status = Status("m", 0, 0, learner.version, None, end, end, self.log.identity, 0.0, learner.n, None, None, {}, 0, 0, {})
        self.store.put_status("m", 0, 0, msgspec.json.encode(status))

    def decisions(self) -> list[Decision]:
        records = [decode_control(record.value) for record in self.log.read(CONTROL, 0, 0, 10_000)]
        return [record for record in records if isinstance(record, Decision)]

    def until(self, kind: str, turns: int = 150) -> Decision:
        for _ in range(turns):
            found = [decision for decision in self.decisions() if decision.kind == kind]
            if found:
                return found[-1]
            self.turn()
        raise AssertionError(f"no {kind} after {[decision.kind for decision in self.decisions()]}")


def test_the_whole_story_with_the_real_parts(keys: Any) -> None:
    world = World(keys)
    for _ in range(20):
        world.turn()
    assert [decision.kind for decision in world.decisions()] == ["registered"]
    world.flipped = True
    start = world.until("retrain_started").numbers["starts"]["0"]
    assert 1900 <= start <= 2100
    world.control = world.restarted()
    world.until("promoted")
    world.until("recovered")
    world.control = world.restarted()
    world.until("detached")
    assert [decision.kind for decision in world.decisions()] == [
        "registered", "case_opened", "confirmed", "retrain_started", "retrained", "trial_started", "trial_won", "promoted",
        "recovered", "detached",
    ]  # fmt: skip
    assert (world.learner.version, world.learner.parked_version, world.learner.shadow_version) == (2, 1, None)
    request = Request("r1", "m", "rollback", "ann", world.clock())
    world.log.append(CONTROL, [Entry(b"", msgspec.json.encode(request), partition=0)]).result()
    world.until("rolled_back")
    world.turn()
    assert world.learner.version == 1
    again = replay(world.settings, "m", 0, world.log, keys, DriftWatch, world.resolve, world.learner.position)
    assert (again.version, again.n, again.signal_seq) == (1, world.learner.n, world.learner.signal_seq)
