"""The question to a model as it was: its losses from a checkpoint and the log, here and in a worker, and what stops it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamlearn.config import ModelSettings, Settings, parse
from streamlearn.drift.offline import Recorder
from streamlearn.errors import RetrainError
from streamlearn.events import Position
from streamlearn.keys import KeyRing
from streamlearn.learning import checkpoint
from streamlearn.learning.replay import new_learner
from streamlearn.log import Entry, Log
from streamlearn.log.sqlite import SqliteLog
from streamlearn.retrain.frozen import FrozenSpec, Losses, ask
from streamlearn.retrain.job import Jobs
from streamlearn.store import Retention, Store
from streamlearn.store.codec import encode
from streamlearn.store.sqlite import SqliteStore
from streamlearn.testing import FakeClock, MemoryLog, MemoryStore

KEYS = KeyRing({"k1": b"0123456789abcdef"})
CLOCK = FakeClock()


def settings(task: str = "binary", pipeline: str = "logistic") -> Settings:
    return parse({"streams": {"s": {}}, "models": {"m": {"stream": "s", "task": task, "pipeline": pipeline}}}, {})


def fill(log: Log, count: int, flipped: bool = False, first: int = 0, numbers: bool = False) -> None:
    entries = []
    for n in range(first, first + count):
        v = 1.0 if n % 2 else -1.0
        y: Any = v * (-3.0 if flipped else 3.0) if numbers else (v > 0) ^ flipped
        event = {"stream": "s", "id": f"e{n}", "x": {"v": v}, "y": y}
        entries.append(Entry(str(n).encode(), msgspec.json.encode(event), partition=0))
    log.append("s", entries).result()


def keep(log: Log, store: Store, given: Settings, until: int) -> int:
    """A checkpoint of a learner that has read to there."""
    learner = new_learner(given, "m", 0, 0, Recorder())
    for record in log.read("s", 0, 0, until):
        learner.step(record)
    place = Position(log.identity("s"), "s", 0, learner.position)
    parts = checkpoint.parts(learner)
    blob = encode(
        kind="checkpoint", model="m", version=1, shard=0, generation=0, positions=[place], created=0.0, parts=parts, keys=KEYS
    )
    return store.put_checkpoint("m", 0, 0, blob, Retention())


def spec(given: Settings, checkpoint: int, **changes: Any) -> FrozenSpec:
    fields: dict[str, Any] = {
        "model": "m", "shard": 0, "stream": "s", "checkpoint": checkpoint, "start": 400, "after": 450, "until": 600, "block": 1,
        "settings": given.models["m"].model_dump(mode="json"), "stream_settings": {}, "limits": {},
    }  # fmt: skip
    return FrozenSpec(**fields | changes)


def asked(log: Log, store: Store, spec: FrozenSpec) -> Losses:
    seen: list[tuple[int, int]] = []
    answer = ask(spec, log.reopen, KEYS, store.reopen, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (spec.until - spec.start, spec.until - spec.start)
    return msgspec.msgpack.decode(answer, type=Losses)


@pytest.fixture
def place() -> tuple[MemoryLog, MemoryStore]:
    log, store = MemoryLog(clock=CLOCK), MemoryStore(clock=CLOCK)
    log.create({"s": 1})
    return log, store


def test_a_model_as_it_was_loses_what_the_live_one_has_unlearned(place: tuple[MemoryLog, MemoryStore]) -> None:
    log, store = place
    fill(log, 400)
    fill(log, 200, flipped=True, first=400)
    given = settings()
    assert asked(log, store, spec(given, keep(log, store, given, 400))) == Losses(150, 150.0, [1.0] * 150)


def test_losses_of_numbers_are_on_the_learners_scale_and_come_in_blocks(place: tuple[MemoryLog, MemoryStore]) -> None:
    log, store = place
    fill(log, 400, numbers=True)
    fill(log, 200, flipped=True, first=400, numbers=True)
    given = settings("regression", "linear")
    losses = asked(log, store, spec(given, keep(log, store, given, 400), after=403, block=50))
    assert losses.n == 197
    assert len(losses.blocks) == 3
    assert losses.blocks == pytest.approx([losses.sum / 197] * 3, rel=0.05)
    assert 0.2 < losses.blocks[0] < 1.0


def test_blocks_end_with_the_newest_loss() -> None:
    assert Losses.of([1.0, 0.0, 0.0, 0.5, 0.5], 2) == Losses(5, 2.0, [0.0, 0.5])
    assert Losses.of([], 3) == Losses(0, 0.0, [])


def test_what_is_gone_or_cannot_be_used_is_said(place: tuple[MemoryLog, MemoryStore]) -> None:
    log, store = place
    fill(log, 600)
    given = settings()
    with pytest.raises(RetrainError, match="checkpoint 99 of m cannot be used"):
        asked(log, store, spec(given, 99))
    damaged = store.put_checkpoint("m", 0, 0, b"garbage", Retention())
    with pytest.raises(RetrainError, match="cannot be used"):
        asked(log, store, spec(given, damaged))
    sound = keep(log, store, given, 400)
    log.trim("s", 0, 500)
    with pytest.raises(RetrainError):
        asked(log, store, spec(given, sound))


@pytest.mark.slow
def test_it_runs_in_a_worker(tmp_path: Path) -> None:
    open_log = functools.partial(SqliteLog, tmp_path / "log")
    open_store = functools.partial(SqliteStore, tmp_path / "store")
    given = settings()
    log, store = open_log(), open_store()
    try:
        log.create({"s": 1})
        fill(log, 400)
        fill(log, 200, flipped=True, first=400)
        kept = keep(log, store, given, 400)
        jobs = Jobs(open_log, KEYS, open_store=open_store)
        try:
            job = jobs.ask(spec(given, kept), 60.0, 1024.0)
            assert msgspec.msgpack.decode(job.result(), type=Losses) == Losses(150, 150.0, [1.0] * 150)
            assert job.progress() == (200, 200)
        finally:
            jobs.close()
    finally:
        log.close()
        store.close()


def test_without_a_store_nobody_can_be_asked() -> None:
    jobs = Jobs(lambda: MemoryLog(clock=CLOCK), KEYS)
    try:
        with pytest.raises(RetrainError, match="no store"):
            jobs.ask(spec(settings(), 1), 1.0, 1.0)
    finally:
        jobs.close()


def test_settings_come_whole() -> None:
    assert ModelSettings.model_validate(spec(settings(), 1).settings) == settings().models["m"]
