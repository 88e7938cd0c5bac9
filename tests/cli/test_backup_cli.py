"""The commands `backup` and `restore`, and the drill: store gone, backup restored, log replayed from there, same state."""

from __future__ import annotations

import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner, Result

from streamlearn.cli import wiring
from streamlearn.cli.main import app
from streamlearn.cli.wiring import World, opened
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import encode
from streamlearn.learning import checkpoint
from streamlearn.learning.replay import new_learner, replay
from streamlearn.log import Entry
from streamlearn.store.codec import open_blob

CONFIG = """
data_dir = "data"
[streams.s]
partitions = 2
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
"""
EVENTS = 400


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "s.toml").write_text(CONFIG)
    return tmp_path / "s.toml"


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def post(world: World, first: int, last: int) -> None:
    events = [
        {"stream": "s", "id": str(n), "key": str(n % 5), "ts": float(n), "x": {"v": n % 7}, "y": n % 7 > 3}
        for n in range(first, last)
    ]
    world.log.append("s", [Entry(str(event["key"]).encode(), encode(event)) for event in events]).result()


def learn(config: Path) -> None:
    """A learner until it stands at the end of both partitions; it leaves its last checkpoints."""
    settings, stop = wiring.read_settings(config, {}), threading.Event()
    thread = threading.Thread(target=wiring.run_learner, args=(settings, {}, stop, ()))
    with opened(settings, {}) as world:
        thread.start()
        ends = [world.log.bounds("s", n)[1] for n in range(2)]
        deadline = time.monotonic() + 60
        while any(served(world, shard) != end for shard, end in enumerate(ends)):
            assert time.monotonic() < deadline
            assert thread.is_alive()
            time.sleep(0.02)
        stop.set()
        thread.join(60)


def served(world: World, shard: int) -> int | None:
    found = world.store.publication("m", shard)
    if found is None:
        return None
    return open_blob(found.blob, world.keys, kind="publication", model="m", shard=shard).header.positions[0].offset


def digests(config: Path) -> list[tuple[str, str, int]]:
    """For each shard, the digest of its newest checkpoint, that of an uninterrupted run, and its position."""
    settings = wiring.read_settings(config, {})
    found = []
    with opened(settings, {}) as world:
        for shard in range(2):
            blob = world.store.checkpoint(world.store.checkpoints("m", shard)[0].id)
            sealed = open_blob(blob, world.keys, kind="checkpoint", model="m", shard=shard)
            kept = new_learner(settings, "m", shard, 0, DriftWatch)
            checkpoint.load(kept, sealed.all_parts(), DriftWatch)
            end = world.log.bounds("s", shard)[1]
            alone = replay(settings, "m", shard, world.log, world.keys, DriftWatch, wiring.resolver(world), end)
            found.append((checkpoint.digest(kept), checkpoint.digest(alone), kept.position))
    return found


# -- the drill


def drill(config: Path, place: str, lose: Callable[[], None], caplog: pytest.LogCaptureFixture) -> None:
    settings = wiring.read_settings(config, {})
    with opened(settings, {}) as world:
        post(world, 0, EVENTS // 2)
    learn(config)
    assert "2 wrong" not in run("backup", config, place).stdout
    halfway = [position for _, _, position in digests(config)]

    with opened(settings, {}) as world:
        post(world, EVENTS // 2, EVENTS)
    learn(config)  # what it learns now, and the checkpoints of it, are lost with the store
    lose()
    with opened(settings, {}) as world:
        assert world.store.shards() == []
        assert world.store.checkpoints("m", 0) == []

    run("backup", config, place, "--verify")
    assert "put back from" in run("restore", config, place).stdout
    caplog.clear()
    caplog.set_level("INFO", "streamlearn.learn")
    learn(config)
    recovered = {record.shard: record.offset for record in caplog.records if record.message == "recovered"}  # type: ignore[attr-defined]  # extras
    assert recovered == dict(enumerate(halfway)), "it went on from the backup's positions"
    for kept, alone, position in digests(config):
        assert kept == alone
        assert position > 0
    assert "2 of 2 shards verified, none differs" in run("verify", config).stdout


@pytest.mark.slow
def test_a_file_is_lost(config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def lose() -> None:
        for path in (tmp_path / "data").glob("store.sqlite*"):
            path.unlink()

    drill(config, str(tmp_path / "backups"), lose, caplog)


@pytest.mark.slow
@pytest.mark.redis
def test_redis_is_emptied(config: Path, own_redis: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    server = own_redis()
    config.write_text(f'{CONFIG}\n[store]\nbackend = "redis"\n[store.redis]\nurl = "{server.url}"\nprefix = "drill"\n')

    def lose() -> None:
        with redis.Redis(port=server.port) as admin:
            admin.flushall()

    drill(config, f"memory://{uuid.uuid4().hex}", lose, caplog)


# -- the commands


@pytest.fixture
def ran(config: Path) -> Path:
    """The configuration of a service that learned, and ended."""
    with opened(wiring.read_settings(config, {}), {}) as world:
        post(world, 0, 60)
    learn(config)
    return config


def test_what_is_told(ran: Path, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    out = run("backup", ran, place, "--name", "first").stdout
    assert out.startswith("backup first: 4 objects, ")
    assert out.rstrip().endswith(f"bytes at {place}")
    assert run("backup", ran, place, "--verify").stdout.rstrip().endswith("all of it is as it was written")
    assert run("restore", ran, place).stdout == "put back from first: nothing; there already: 4 objects\n"
    shutil.rmtree(tmp_path / "data")
    out = run("restore", ran, place, "--name", "first").stdout
    assert out == "put back from first: 2 checkpoints, 2 publications; there already: 0 objects\n"
    assert run("backup", ran, place, "--name", "first", code=78).stderr.startswith("error: --name: there is a 'first'")


def test_names_are_the_time_by_default(ran: Path, tmp_path: Path) -> None:
    run("backup", ran, tmp_path / "b", "--checkpoints", "3")
    [folder] = (tmp_path / "b").iterdir()
    assert time.strftime("%Y%m", time.gmtime()) in folder.name
    assert "put back from" in run("restore", ran, tmp_path / "b").stdout


def test_damage_is_told_and_fails(ran: Path, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    run("backup", ran, place, "--name", "first")
    [victim] = (place / "first" / "publication" / "m").glob("1")
    victim.write_bytes(b"altered")
    result = run("backup", ran, place, "--verify", code=1)
    assert "error: publication/m/1 of the backup 'first' is not what its manifest says (7 bytes)" in result.stderr
    assert result.stdout.endswith("1 thing wrong\n")
    shutil.rmtree(tmp_path / "data")
    result = run("restore", ran, place, code=1)
    assert "publication/m/1" in result.stderr
    assert "2 checkpoints, 1 publication;" in result.stdout


def test_blobs_of_another_key_are_not_sound(ran: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "secret.key").unlink()
    result = run("backup", ran, tmp_path / "b", code=1)
    assert "m/0 has no sound checkpoint" in result.stderr
    assert "0 objects" in result.stdout


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_an_address_that_cannot_be_used(ran: Path, command: str) -> None:
    assert "install the package" in run(command, ran, "nope://x", code=78).stderr


def test_nothing_to_back_up_or_restore(config: Path, tmp_path: Path) -> None:
    assert "there is no store in" in run("backup", config, tmp_path / "b", code=78).stderr
    assert "there is no whole backup at" in run("restore", config, tmp_path / "b", code=78).stderr
    assert "there is no whole backup at" in run("backup", config, tmp_path / "b", "--verify", code=78).stderr
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "data").exists()
