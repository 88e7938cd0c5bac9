"""The composition root: what is opened, what is made, what is left alone; and lost versions made again."""

from __future__ import annotations

import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from streamlearn.cli import wiring
from streamlearn.cli.serve import only_one
from streamlearn.cli.wiring import World, opened, resolver, run_api, run_learner
from streamlearn.config import Settings
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import ConfigError, RetrainError
from streamlearn.events import encode
from streamlearn.learning.digest import digest
from streamlearn.learning.replay import limits_of
from streamlearn.log import INTERNAL, Entry
from streamlearn.log.sqlite import SqliteLog
from streamlearn.records import Command
from streamlearn.retrain.job import Base, FitSpec, fit
from streamlearn.retrain.pool import Pool
from streamlearn.store.codec import open_blob

CONFIG = """
data_dir = "data"
[streams.s]
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
retrain = {min_events = 30}
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "s.toml").write_text(CONFIG)
    return wiring.read_settings(tmp_path / "s.toml", {})


def test_the_configurations_folder_is_where_pipelines_are_found_too(settings: Settings, tmp_path: Path) -> None:
    assert sys.path[-1] == str(tmp_path)
    wiring.read_settings(tmp_path / "s.toml", {})
    assert sys.path.count(str(tmp_path)) == 1


def test_where_retrains_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many at once as is written; and Dask is asked for by whoever wants it alone."""

    def of(**changes: Any) -> Settings:
        return settings.model_copy(update={"executor": settings.executor.model_copy(update=changes)})

    executor = wiring.open_executor(of(workers=3))
    try:
        assert isinstance(executor, Pool)
        assert executor._workers == 3
    finally:
        executor.close()
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "streamlearn.retrain.cluster", raising=False)
    with pytest.raises(ConfigError, match=r"executor.backend: \"dask\" needs Dask .* pip install 'streamlearn\[dask\]'"):
        wiring.open_executor(of(backend="dask"))


def test_opening_makes_what_is_missing_and_closes_it_again(settings: Settings) -> None:
    with opened(settings, {}) as world:
        assert world.log.streams() == {**INTERNAL, "s": 1}
        assert world.store.statuses() == {}
        world.log.append("s", [Entry(b"k", b"{}")]).result()
    assert sorted(path.name for path in settings.data_dir.iterdir()) == ["log.sqlite", "secret.key", "store.sqlite"]
    assert (settings.data_dir / "secret.key").stat().st_mode & 0o777 == 0o600
    with opened(settings, {}) as again:
        assert again.log.identity("_control") == world.log.identity("_control")
        assert again.log.bounds("s", 0) == (0, 1)


def test_the_opener_works_in_another_process(settings: Settings) -> None:
    wiring.open_log(settings).close()
    opener = pickle.loads(pickle.dumps(wiring.log_opener(settings)))
    log = opener()
    assert isinstance(log, SqliteLog)
    assert "s" in log.streams()
    log.close()


def test_other_partitions_than_the_logs_are_refused_and_the_log_is_let_go(settings: Settings) -> None:
    wiring.open_log(settings).close()
    other = settings.model_copy(update={"streams": {"s": settings.streams["s"].model_copy(update={"partitions": 2})}})
    with pytest.raises(ConfigError, match="partitions"):
        wiring.open_log(other)


def test_looking_makes_nothing(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="there is no log in"):
        wiring.existing_log(settings)
    assert not wiring.has_store(settings)
    assert not settings.data_dir.exists()


def test_a_data_dir_that_is_a_file(settings: Settings) -> None:
    settings.data_dir.write_text("")
    with pytest.raises(ConfigError, match=r"data_dir: .* cannot be made \(File exists\). Name a folder"):
        wiring.open_log(settings)


@pytest.mark.parametrize("inside", ["secret.key", "serve.lock"])
def test_a_file_of_the_data_dir_that_cannot_be_used_is_told_without_a_traceback(settings: Settings, inside: str) -> None:
    path = settings.data_dir / inside
    path.mkdir(parents=True)  # stands for a disk that cannot be written, which a test that root runs could not make
    with pytest.raises(ConfigError, match=f"data_dir: {path} cannot be used .Is a directory.. Name a folder"):
        wiring.ring(settings, {}) if inside == "secret.key" else only_one(settings.data_dir).__enter__()


def test_keys_of_the_environment_win(settings: Settings) -> None:
    wiring.ring(settings, {"STREAMLEARN_KEYS": f"k:{'ab' * 16}"})
    assert not (settings.data_dir / "secret.key").exists()


# Versions.


def fill(world: World, count: int = 60) -> None:
    events = [{"stream": "s", "id": str(n), "ts": float(n), "x": {"v": n % 7}, "y": n % 7 > 3} for n in range(count)]
    world.log.append("s", [Entry(b"k", encode(event)) for event in events]).result()


def spec_of(settings: Settings, until: int) -> FitSpec:
    model = settings.models["m"]
    return FitSpec(
        "m", 2, 0, "s", 0, 0, until, 1, model.seed, 10, model.model_dump(mode="json"),
        settings.streams["s"].model_dump(mode="json"), limits_of(settings)._asdict(),
    )  # fmt: skip


def command(spec: FitSpec, trained_to: int) -> Command:
    return Command(7, "m", "try", 2, {"0": trained_to}, {name: getattr(spec, name) for name in spec.__struct_fields__})


@pytest.mark.parametrize("kept", ["sound", "damaged", "missing"])
def test_a_version_comes_from_the_store_or_is_made_again_to_the_very_same_place(settings: Settings, kept: str) -> None:
    with opened(settings, {}) as world:
        fill(world)
        spec = spec_of(settings, until=40)
        blob = fit(spec, wiring.log_opener(settings), world.keys, lambda done, total: None)
        made = open_blob(blob, world.keys, kind="version", model="m", shard=0)
        trained_to = made.header.positions[0].offset
        fill(world, 30)  # the log goes on
        if kept != "missing":
            world.store.put_version("m", 2, 0, blob if kept == "sound" else blob[:-10] + b"0123456789")
        found = resolver(world)(command(spec, trained_to), 0)
        if kept == "sound":
            assert found.blob == blob
        again = open_blob(found.blob, world.keys, kind="version", model="m", shard=0, version=2)
        assert again.header.positions == made.header.positions
        models = [pickle.loads(sealed.part("model")).estimator for sealed in (again, made)]
        assert digest(models[0]) == digest(models[1])
        assert again.part("join") == made.part("join")


def test_a_version_with_a_base_is_made_again_from_it_while_the_store_has_it(settings: Settings) -> None:
    with opened(settings, {}) as world:
        fill(world)
        base = fit(replace(spec_of(settings, 30), version=1, stop=30), wiring.log_opener(settings), world.keys, lambda *_: None)
        world.store.put_version("m", 1, 0, base)
        spec = replace(spec_of(settings, until=40), start=30, base=Base("version", 1), skip=[(35, 37)])
        asked = Command(7, "m", "try", 2, {"0": 60}, msgspec.to_builtins(spec))
        sealed = open_blob(resolver(world)(asked, 0).blob, world.keys, kind="version", model="m", shard=0, version=2)
        assert sealed.header.extra["base"] == ["version", 1]
        assert sealed.header.extra["passed_over"] == [[35, 37]]
        world.store.drop_version("m", 1)
        with pytest.raises(RetrainError, match=r"version 1 of m, shard 0, which version 2 goes on from, is no longer"):
            resolver(world)(asked, 0)


def test_a_version_that_nothing_describes_cannot_be_made(settings: Settings) -> None:
    with opened(settings, {}) as world, pytest.raises(RetrainError, match="not the description of a fit"):
        resolver(world)(Command(7, "m", "try", 2), 0)


# Roles, in this process.


def test_the_learner_learns_until_it_is_told_to_stop(settings: Settings) -> None:
    with opened(settings, {}) as world:
        fill(world)
        stop = threading.Event()
        thread = threading.Thread(target=run_learner, args=(settings, {}, stop, ()))
        thread.start()
        try:
            for _ in range(2000):
                if world.store.publication("m", 0) is not None:
                    break
                stop.wait(0.01)
        finally:
            stop.set()
            thread.join(30)
        assert not thread.is_alive()
        [info] = world.store.checkpoints("m", 0)
        sealed = open_blob(world.store.checkpoint(info.id), world.keys, kind="checkpoint", model="m", shard=0)
        assert sealed.header.positions[0].offset == 60
        assert sealed.header.extra["n"] == 60


def test_the_watches_are_those_of_the_drift_room(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    class Worker:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            given.update(options)

        def run(self, stop: threading.Event) -> None:
            given["stop"] = stop

    import streamlearn.learning.worker

    monkeypatch.setattr(streamlearn.learning.worker, "Worker", Worker)
    stop = threading.Event()
    run_learner(settings, {}, stop, ["m"])
    assert (given["watches"], given["reset"], given["stop"]) == (DriftWatch, ["m"], stop)


def test_an_api_that_others_reach_needs_a_key_before_it_listens(settings: Settings) -> None:
    open_to_all = settings.model_copy(update={"serve": settings.serve.model_copy(update={"host": "0.0.0.0"})})

    def listen() -> Any:
        raise AssertionError("it must not listen")

    with opened(open_to_all, {}) as world, pytest.raises(ConfigError, match="STREAMLEARN_API_KEYS"):
        run_api(world, {}, threading.Event(), listen)
