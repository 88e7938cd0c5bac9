"""Verify tells a checkpoint that is what the log says from one that is not, and says when it cannot tell."""

from __future__ import annotations

import pickle
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli import wiring
from streamlearn.cli.main import app
from streamlearn.cli.wiring import World, opened
from streamlearn.events import Position, encode
from streamlearn.log import Entry
from streamlearn.store import Retention
from streamlearn.store.codec import encode as seal
from streamlearn.store.codec import open_blob

CONFIG = """
data_dir = "data"
[streams.s]
partitions = 2
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
[models.other]
stream = "s"
task = "regression"
pipeline = "linear"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "s.toml").write_text(CONFIG)
    return tmp_path / "s.toml"


@pytest.fixture
def world(config: Path) -> Iterator[World]:
    """A service that learned some and has ended; the log and the store stand open beside it."""
    settings = wiring.read_settings(config, {})
    with opened(settings, {}) as made:
        events = [
            {"stream": "s", "id": str(n), "key": str(n % 5), "ts": float(n), "x": {"v": n % 7}, "y": n % 7 > 3}
            for n in range(400)
        ]
        made.log.append("s", [Entry(str(event["key"]).encode(), encode(event)) for event in events]).result()
        stop = threading.Event()
        thread = threading.Thread(target=wiring.run_learner, args=(settings, {}, stop, ()))
        thread.start()
        ends = [made.log.bounds("s", n)[1] for n in range(2)]
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and any(_position(made, shard) != end for shard, end in enumerate(ends)):
            time.sleep(0.02)
        stop.set()
        thread.join(30)
        yield made


def _position(world: World, shard: int) -> int | None:
    found = world.store.publication("m", shard)
    if found is None:
        return None
    return open_blob(found.blob, world.keys, kind="publication", model="m", shard=shard).header.positions[0].offset


def run(config: Path, *options: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["verify", str(config), *options])
    assert result.exit_code == code, result.output
    return result


def rows(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()[1:-1]]


def forge(world: World, change: dict[str, object]) -> None:
    """A newer checkpoint of m/0, well signed, whose parts or position are not what the log gives."""
    newest = world.store.checkpoints("m", 0)[0]
    sealed = open_blob(world.store.checkpoint(newest.id), world.keys, kind="checkpoint", model="m", shard=0)
    parts = sealed.all_parts()
    model = pickle.loads(parts["champion"])
    if "weights" in change:
        model.estimator.learn_one({"v": 1.0}, True)
    parts["champion"] = pickle.dumps(model)
    position = sealed.header.positions[0]
    if "log" in change:
        position = Position("another", position.stream, position.partition, position.offset)
    blob = seal(
        kind="checkpoint", model="m", version=1, shard=0, generation=newest.generation, positions=[position],
        created=0.0, parts=parts, keys=world.keys, extra=sealed.header.extra,
    )  # fmt: skip
    world.store.put_checkpoint("m", 0, newest.generation, blob, Retention())


def test_what_the_learner_kept_is_what_the_log_gives(config: Path, world: World) -> None:
    result = run(config)
    assert [(row[0], row[1], row[4]) for row in rows(result)] == [
        ("m", "0", "same"), ("m", "1", "same"), ("other", "0", "same"), ("other", "1", "same"),
    ]  # fmt: skip
    assert sum(int(row[2]) for row in rows(result)[:2]) == 400
    assert result.stdout.splitlines()[-1] == "4 of 4 shards verified, none differs"


def test_one_model_alone(config: Path, world: World) -> None:
    assert [row[0] for row in rows(run(config, "--model", "other"))] == ["other", "other"]
    assert "there is no model 'x'. Write one of ['m', 'other']" in run(config, "--model", "x", code=78).stderr


def test_one_more_event_learned_is_seen(config: Path, world: World) -> None:
    forge(world, {"weights": True})
    result = run(config, code=1)
    assert [row[4] for row in rows(result)] == ["differs", "same", "same", "same"]
    assert "1 of 4 shards differ" in result.stdout


def test_a_new_pickle_of_the_same_state_is_the_same(config: Path, world: World) -> None:
    forge(world, {})
    assert [row[4] for row in rows(run(config))] == ["same"] * 4


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(config: Path, world: World) -> None:
    newest = world.store.checkpoints("m", 0)[0]
    blob = world.store.checkpoint(newest.id)
    world.store.put_checkpoint("m", 0, newest.generation, blob[:-1] + bytes([blob[-1] ^ 1]), Retention())
    assert [row[4] for row in rows(run(config))] == ["same"] * 4


def test_what_cannot_be_compared_is_said(config: Path, world: World) -> None:
    forge(world, {"log": True})
    world.log.trim("s", 1, 3)
    result = run(config)
    assert "taken on another log" in result.stdout
    assert "the log begins at 3, its past was trimmed" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 of 4 shards verified, none differs"


def test_before_anything_was_learned(config: Path) -> None:
    assert run(config).stdout.count("no checkpoint yet") == 4
