"""A recommender's retrain with tables in pieces, through control, the learner and every store: tried, promoted, dropped."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamlearn.cli import carry
from streamlearn.cli.wiring import World as Wired
from streamlearn.cli.wiring import resolver
from streamlearn.config import parse
from streamlearn.control.loop import Control
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import CodecError, Corrupt, RetrainError, StoreUnavailable
from streamlearn.events import Kind, Prediction, ShownItem, encode, unit_of
from streamlearn.keys import KeyRing
from streamlearn.learning import chain, checkpoint
from streamlearn.learning.replay import replay
from streamlearn.learning.shard import Deps, Shard
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Command, Decision, Request, decode_control, open_command
from streamlearn.retrain.job import Base, FitSpec, _fit_here, base_blob
from streamlearn.serving.following import Follower
from streamlearn.store import Store, backup, bundle
from streamlearn.store.codec import open_blob
from streamlearn.store.links import Kept, kept_version, lacking, links_of, names_of
from streamlearn.store.redis import RedisStore
from streamlearn.store.sqlite import SqliteStore
from streamlearn.testing import Abort, AtOnce, DoneJob, FakeClock, Faults, MemoryLog, MemoryStore

KEYS = KeyRing({"one": b"0123456789abcdef"})
TREE: dict[str, Any] = {
    "control": {"heartbeat_s": 0.0},
    "streams": {"s": {"allowed_lateness_s": 0}},
    "models": {
        "m": {
            "stream": "s", "task": "recommend", "pipeline": "mlp",
            "recommend": {
                "factors": 8, "window_s": 20.0, "unit_impressions": 1, "actions": {"click": 1.0}, "arm_share": 0.5,
                "negatives": 1, "quotas": {"popular": 5, "recent": 5, "covisit": 5, "factors": 5, "content": 5, "segment": 0},
            },
            "trial": {"min_block": 3, "min_events": 60, "watch_events": 0},
            "drift": {"window": 200},
            "retrain": {"min_events": 50, "catch_up_records": 50},
            "checkpoint": {"interval_s": 2.0, "keep_last": 2, "keep_hourly": 0, "keep_daily": 0},
        }
    },
}  # fmt: skip
ITEMS = 40


class World:
    """Control and a learner, turned by hand; fits run where a worker's would, with log and store opened anew."""

    def __init__(self, open_store: Callable[[], Store], tmp_path: Path) -> None:
        self.settings = parse({**TREE, "data_dir": str(tmp_path)}, {})
        self.clock, self.draw, self.turns, self.open_store = FakeClock(1e9), random.Random(3), 0, open_store
        self.log, self.store = MemoryLog(clock=self.clock), open_store()
        self.faults = Faults()
        self.control = Control(self.settings, self.log, self.store, KEYS, self, self.clock, timer=self.clock)
        items = [encode({"stream": "s", "item": f"i{n}", "action": "$set", "x": {"genre": "ab"[n % 2]}}) for n in range(ITEMS)]
        self.log.append("s", [Entry(b"k", item) for item in items]).result()
        self.start()

    def start(self) -> None:
        """Another process of the learner."""
        about = DriftWatch, self.resolve, self.clock, self.clock, AtOnce(), "here"
        self.shard = Shard(Deps(self.settings, self.log, self.store, KEYS, *about), "m", 0)

    def resolve(self, command: Command, shard: int) -> Kept:
        return resolver(Wired(self.settings, self.log, self.store, KEYS))(command, shard)

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
        try:
            return DoneJob(_fit_here(spec.to_bytes(), self.log.reopen, KEYS, lambda: self.faults.over(self.open_store())))
        except RetrainError as error:
            return DoneJob(error)
        except Exception as error:  # as the pool tells what a worker raised
            return DoneJob(RetrainError("failed", repr(error)))

    def turn(self) -> None:
        """Some new users are shown items: whoever the challenger answers for likes what they see."""
        self.turns += 1
        canary = self.shard.learner.canary
        for n in range(30):
            user, id = f"u{self.turns}.{n}", f"p{self.turns}.{n}"
            challenged = canary is not None and unit_of(canary.salt, user) < canary.share
            version = canary.version if canary is not None and challenged else self.shard.learner.version
            item, at = f"i{self.draw.randrange(ITEMS)}", self.clock()
            served = Prediction("s", id, "m", version, x={}, user=user, items=[ShownItem(item, 1, 0.5, 0.2)], ts=at)
            entries = [Entry(user.encode(), encode(served), Kind.PREDICTION)]
            if self.draw.random() < (0.95 if challenged else 0.4):
                click = {"stream": "s", "id": id, "user": user, "item": item, "action": "click", "ts": at + 1.0}
                entries.append(Entry(user.encode(), encode(click)))
            self.log.append("s", entries).result()
        self.work()

    def work(self) -> None:
        for _ in range(2):
            self.clock.advance(12.0)
            while self.shard.turn():
                pass
            self.control.tick()

    def ask(self, action: str, **about: Any) -> None:
        request = Request(uuid.uuid4().hex, "m", action, "ann", self.clock(), **about)
        self.log.append(CONTROL, [Entry(b"m", msgspec.json.encode(request), partition=0)]).result()

    def decisions(self) -> list[Decision]:
        records = [decode_control(record.value) for record in self.log.read(CONTROL, 0, 0, 10_000)]
        return [record for record in records if isinstance(record, Decision)]

    def until(self, kind: str, turns: int = 80) -> Decision:
        for _ in range(turns):
            found = [decision for decision in self.decisions() if decision.kind == kind]
            if found:
                return found[-1]
            self.turn()
        raise AssertionError(f"no {kind} after {[(decision.kind, decision.why) for decision in self.decisions()]}")

    def retrained(self) -> Decision:
        for _ in range(8):
            self.turn()
        self.ask("retrain")
        return self.until("retrained")

    def names(self, version: int) -> frozenset[str]:
        """The pieces that a kept version has links to."""
        blob = self.store.version("m", version, 0)
        assert blob is not None
        return names_of(open_blob(blob, KEYS, kind="version", model="m", shard=0, version=version).header.extra)

    def estimator(self, version: int) -> Any:
        kept = kept_version(self.store, "m", version, 0)
        assert kept is not None
        sealed = open_blob(kept.blob, KEYS, kind="version", model="m", shard=0, version=version)
        return chain.opened(sealed, "model", kept.fetch).estimator


def memory(request: pytest.FixtureRequest) -> Callable[[], Store]:
    return MemoryStore().reopen


def sqlite(request: pytest.FixtureRequest) -> Callable[[], Store]:
    path = request.getfixturevalue("tmp_path") / "store.sqlite"
    return lambda: SqliteStore(path)


def redis(request: pytest.FixtureRequest) -> Callable[[], Store]:
    url, prefix = request.getfixturevalue("redis_server").url, f"test-{uuid.uuid4().hex}"
    return lambda: RedisStore(url, prefix=prefix)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "WHOLE_BYTES", 1)
    monkeypatch.setattr(chain, "PIECE_BYTES", 3000)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(MemoryStore().reopen, tmp_path)


@pytest.mark.parametrize(
    "backend", [
        memory, pytest.param(sqlite, marks=pytest.mark.slow), pytest.param(redis, marks=[pytest.mark.slow, pytest.mark.redis])
    ],
)  # fmt: skip
def test_a_retrain_is_tried_promoted_and_taken_back(
    backend: Callable[[pytest.FixtureRequest], Callable[[], Store]], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    world = World(backend(request), tmp_path)
    fitted = world.retrained()
    names = world.names(2)
    assert len(names) > 5, "several pieces"
    sizes = world.store.version_pieces("m", 2, 0)
    assert sizes.keys() == names
    blob = world.store.version("m", 2, 0)
    assert blob is not None
    assert fitted.numbers["shards"]["0"]["bytes"] == len(blob) + sum(sizes.values())
    world.until("trial_won")
    world.until("promoted")
    world.work()
    assert world.shard.learner.version == 2
    world.start()
    assert world.shard.learner.version == 2
    world.until("recovered")
    world.ask("rollback")
    world.until("rolled_back")
    world.work()
    learner = world.shard.learner
    assert learner.version == 1
    assert world.store.version_pieces("m", 2, 0).keys() == names, "sweeping what a learner has put leaves a version's alone"
    again = replay(world.settings, "m", 0, world.log, KEYS, DriftWatch, world.resolve, learner.position)
    assert checkpoint.digest(again) == checkpoint.digest(learner)
    world.store.drop_version("m", 2)
    assert world.store.version_pieces("m", 2, 0) == {}


def test_what_is_served_of_a_challenger_is_what_is_on_trial(world: World) -> None:
    world.retrained()
    world.until("trial_started")
    world.turn()
    found = world.store.publication("m", 0)
    assert found is not None
    sealed = open_blob(found.blob, KEYS, kind="publication", model="m", shard=0)
    links = links_of(sealed.header.extra)["challenger"]
    served = Follower().load(sealed.part("challenger"), links, lambda name: world.store.piece("m", 0, name))
    shadow = world.shard.learner.shadow
    assert shadow is not None
    assert served.estimator.__fingerprint__() == shadow.estimator.__fingerprint__()


def test_a_version_in_pieces_is_the_version_in_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.retrained()
    apart = world.estimator(2)
    monkeypatch.setattr(chain, "WHOLE_BYTES", 1 << 30)
    world.until("trial_started")
    commands = [record for record in world.log.read("s", 0, 0, 10**6) if record.kind == Kind.COMMAND]
    command = open_command(commands[0].value, KEYS)
    wanted = FitSpec.from_bytes(msgspec.json.encode(command.spec))
    wanted = msgspec.structs.replace(wanted, stop=command.trained_to["0"])
    blob = _fit_here(wanted.to_bytes(), world.log.reopen, KEYS, world.open_store)
    sealed = open_blob(blob, KEYS, kind="version", model="m", shard=0, version=2)
    assert "chains" not in sealed.header.extra
    assert chain.opened(sealed, "model", lambda name: None).estimator.__fingerprint__() == apart.__fingerprint__()


def test_a_version_that_lost_a_piece_is_fitted_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.retrained()
    blob, names = world.store.version("m", 2, 0), sorted(world.names(2))
    assert blob is not None
    expected = world.estimator(2).__fingerprint__()
    world.store.put_version("m", 2, 0, blob, names[1:])
    extra = open_blob(blob, KEYS, kind="version", model="m", shard=0).header.extra
    assert lacking(world.store, "m", 2, 0, extra) == f"1 of the {len(names)} pieces of its tables are not in the store"
    with pytest.raises(Corrupt, match="is not in the store"):
        world.estimator(2)
    tried: list[Any] = []
    trainer_of = chain.opened

    def opened(*args: Any) -> Any:
        tried.append(model := trainer_of(*args))
        assert model.estimator.__fingerprint__() == expected
        return model

    caplog.set_level("WARNING", "streamlearn.learn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamlearn.learning.replay.opened", opened)
        patch.setattr("streamlearn.cli.wiring.log_opener", lambda settings: world.log.reopen)
        world.until("trial_started")
        world.work()
    assert len(tried) == 1
    assert world.shard.learner.shadow_version == 2
    assert "a version is fitted again" in caplog.messages


def test_a_damaged_piece_refuses_the_try_and_leaves_the_champion(world: World) -> None:
    world.retrained()
    name = max(world.names(2))
    world.store.put_version_piece("m", 2, 0, name, b"\x93damaged")
    refused = world.until("retrain_failed")
    assert f"unknown_version: version 2 cannot be had: the piece {name[:12]}… of its tables is damaged" in refused.why
    assert (world.shard.learner.version, world.shard.learner.shadow) == (1, None)
    n = world.shard.learner.n
    world.turn()
    assert world.shard.learner.n > n
    world.until("trial_won")  # control has had it fitted again


def test_a_crash_between_the_pieces_and_the_blob_leaves_nothing_once_it_is_fitted_again(world: World) -> None:
    for _ in range(8):
        world.turn()
    world.store.put_version_piece("m", 2, 0, "0" * 64, b"of a fit that died")
    faults = Faults()
    faults.fail("put_version", Abort())
    world.control = Control(world.settings, world.log, faults.over(world.store), KEYS, world, world.clock, timer=world.clock)
    world.ask("retrain")
    with pytest.raises(Abort):
        world.until("retrained")
    assert world.store.version("m", 2, 0) is None
    assert len(world.store.version_pieces("m", 2, 0)) > 5
    world.control = Control(world.settings, world.log, world.store, KEYS, world, world.clock, timer=world.clock)
    world.until("retrained")
    assert world.store.version_pieces("m", 2, 0).keys() == world.names(2)
    world.until("trial_started")


@pytest.mark.parametrize("after", [0, 3])
def test_a_fit_that_cannot_put_its_pieces_fails_and_leaves_none(world: World, after: int) -> None:
    for _ in range(8):
        world.turn()
    world.faults.fail("put_version_piece", StoreUnavailable("down"), after=after)
    world.ask("retrain")
    failed = world.until("retrain_failed")
    assert "down" in failed.why
    assert world.store.version("m", 2, 0) is None
    assert world.store.version_pieces("m", 2, 0) == {}


def test_pieces_in_another_store_are_told_of(world: World, tmp_path: Path) -> None:
    for _ in range(8):
        world.turn()
    elsewhere = SqliteStore(tmp_path / "elsewhere.sqlite")
    world.open_store = lambda: elsewhere
    world.ask("retrain")
    failed = world.until("retrain_failed")
    assert "the worker that fitted it must write into the same store" in failed.why


def test_a_backup_brings_a_version_back_with_its_pieces(world: World, tmp_path: Path) -> None:
    world.retrained()
    expected, names = world.estimator(2).__fingerprint__(), world.names(2)
    vault = backup.Vault(str(tmp_path / "backups"))
    about: dict[str, Any] = {"check": lambda *given: None, "checkpoints": 1, "progress": lambda done, total: None}
    manifest = backup.backup(world.store, vault, "one", 1e9, **about)
    assert sum(item.kind == "table" for item in manifest.objects) == len(names)
    assert backup.verify(vault, manifest, about["progress"]) == []
    other = MemoryStore()
    restored = backup.restore(other, vault, manifest, about["progress"])
    assert restored.put["table"] == len(names)
    world.store = other
    assert other.version_pieces("m", 2, 0).keys() == names
    assert world.estimator(2).__fingerprint__() == expected
    again = backup.restore(other, vault, manifest, about["progress"])
    assert again.put.get("table", 0) == again.put.get("version", 0) == 0


def test_a_version_travels_with_its_pieces(world: World, tmp_path: Path) -> None:
    world.retrained()
    names, fingerprint = world.names(2), world.estimator(2).__fingerprint__()
    file = tmp_path / "m2.zip"
    made, blobs, pieces = carry.pack(world.settings, world.store, KEYS, "m", 2, live=False, now=7.0)
    assert pieces.keys() == names
    bundle.write(file, made, blobs, KEYS, pieces)
    read = bundle.read(file, KEYS)
    assert carry._opened(read.sealed[0], read.piece).estimator.__fingerprint__() == fingerprint
    wired = Wired(world.settings, world.log, world.store, KEYS)
    found = carry.bring(wired, read, "m", "", lambda seconds: world.turn(), world.clock)
    assert world.estimator(found.version).__fingerprint__() == fingerprint
    assert world.store.version_pieces("m", found.version, 0).keys() == names
    damaged = tmp_path / "damaged.zip"
    data = file.read_bytes()
    one = world.store.version_piece("m", 2, 0, max(names))
    assert one is not None
    damaged.write_bytes(data.replace(one, one[:-1] + bytes([one[-1] ^ 1])))
    with pytest.raises(CodecError, match=r"damaged|CRC"):
        bundle.read(damaged, KEYS)


def test_a_recommender_travels_as_it_serves(world: World, tmp_path: Path) -> None:
    for _ in range(8):
        world.turn()
    file = tmp_path / "m1.zip"
    made, blobs, pieces = carry.pack(world.settings, world.store, KEYS, "m", 1, live=True, now=7.0)
    assert pieces
    bundle.write(file, made, blobs, KEYS, pieces)
    read = bundle.read(file, KEYS)
    served = world.shard.learner.champion.estimator
    assert carry._opened(read.sealed[0], read.piece).estimator.__fingerprint__() == served.__fingerprint__()


def test_a_fit_goes_on_from_a_recommender_s_checkpoint(world: World) -> None:
    """Its tables are pieces of the shard, and those of what comes out pieces of the version."""
    for _ in range(8):
        world.turn()
    world.shard.close()
    learner, [newest, *_] = world.shard.learner, world.store.checkpoints("m", 0)
    end = world.log.bounds("s", 0)[1]
    model, stream = world.settings.models["m"], world.settings.streams["s"]
    spec = FitSpec(
        "m", 5, 0, "s", 0, end, end, 1, 7, 1, model.model_dump(mode="json"), stream.model_dump(mode="json"),
        {"max_features": 9, "max_string": 99, "max_event_bytes": 9999, "max_ahead_s": 9.0}, stop=end,
        base=Base("checkpoint", newest.id),
    )  # fmt: skip
    blob = _fit_here(spec.to_bytes(), world.log.reopen, KEYS, world.open_store)
    sealed = open_blob(blob, KEYS, kind="version", model="m", shard=0, version=5)
    world.store.put_version("m", 5, 0, blob, names_of(sealed.header.extra))
    assert world.estimator(5).__fingerprint__() == learner.champion.estimator.__fingerprint__()
    again = msgspec.structs.replace(spec, version=6, base=Base("version", 5))
    onward = _fit_here(again.to_bytes(), world.log.reopen, KEYS, world.open_store)
    assert names_of(open_blob(onward, KEYS, kind="version", model="m", shard=0).header.extra) == world.names(5)
    world.store.drop_version("m", 5)
    with pytest.raises(RetrainError, match="is no longer in the store"):
        base_blob(world.store, again)
