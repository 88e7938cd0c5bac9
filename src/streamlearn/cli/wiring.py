"""The composition root: the only place that knows which log and which store are behind the protocols, and puts roles together.

Heavy libraries are imported when a role needs them, so that a command that only asks the API starts at once.
"""

from __future__ import annotations

import functools
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..config import Settings, load
from ..errors import CodecError, ConfigError
from ..keys import KeyRing, load_keys
from ..log import Log
from ..store import Store

if TYPE_CHECKING:
    from ..learning.protocols import ResolveVersion
    from ..records import Command

LOG_FILE = "log.sqlite"
STORE_FILE = "store.sqlite"
KEY_FILE = "secret.key"
MIB = 1 << 20
GRACE_S = 10


class World(NamedTuple):
    """What every role works with."""

    settings: Settings
    log: Log
    store: Store
    keys: KeyRing


def read_settings(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings at `path`; pipelines named by an import path are also looked for in its folder. Raises ConfigErrors."""
    settings = load(path, environ)
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    return settings


def log_opener(settings: Settings) -> Callable[[], Log]:
    """Opens the log, here or, since it can be pickled, in another process."""
    from ..log.sqlite import SqliteLog

    return functools.partial(SqliteLog, _file(settings, LOG_FILE), max_waiting_bytes=int(settings.log.max_waiting_mb * MIB))


def open_log(settings: Settings) -> Log:
    """The log with every stream of the settings in it. Raises ConfigError, LogError."""
    _make_folder(settings.data_dir)
    log = log_opener(settings)()
    try:
        log.create({name: stream.partitions for name, stream in settings.streams.items()})
    except BaseException:
        log.close()
        raise
    return log


def existing_log(settings: Settings) -> Log:
    """The log as it is, nothing made. Raises ConfigError when there is none, LogError."""
    if not _file(settings, LOG_FILE).exists():
        problem = f"there is no log in {settings.data_dir} yet"
        raise ConfigError("data_dir", problem, "Name the configuration of a service that ran")
    return log_opener(settings)()


def open_store(settings: Settings) -> Store:
    """The store, made if it is missing. Raises ConfigError, StoreError."""
    from ..store.sqlite import SqliteStore

    _make_folder(settings.data_dir)
    return SqliteStore(_file(settings, STORE_FILE))


def has_store(settings: Settings) -> bool:
    """Whether there is a store to look into."""
    return _file(settings, STORE_FILE).exists()


def ring(settings: Settings, environ: Mapping[str, str]) -> KeyRing:
    """The signing keys, made on first use unless the environment has them. Raises ConfigError."""
    _make_folder(settings.data_dir)
    path = _file(settings, KEY_FILE)
    try:
        return load_keys(environ, path)
    except OSError as error:
        raise unusable(path, error) from None


@contextmanager
def opened(settings: Settings, environ: Mapping[str, str]) -> Iterator[World]:
    """Log, store and keys, closed again at the end."""
    keys = ring(settings, environ)
    log = open_log(settings)
    try:
        store = open_store(settings)
        try:
            yield World(settings, log, store, keys)
        finally:
            store.close()
    finally:
        log.close()


def resolver(world: World) -> ResolveVersion:
    """A version's blob from the store or, when it is lost or damaged there, fitted again from the spec in its command."""
    from ..retrain import job
    from ..store.codec import open_blob

    def resolve(command: Command, shard: int) -> bytes:
        version = command.version or 0
        blob = world.store.version(command.model, version, shard)
        if blob is not None:
            try:
                sealed = open_blob(blob, world.keys, kind="version", model=command.model, shard=shard, version=version)
                for name in sealed.header.parts:
                    sealed.part(name)
                return blob
            except CodecError:
                pass
        spec = job.FitSpec.from_bytes(msgspec.json.encode(command.spec))
        spec = msgspec.structs.replace(spec, stop=command.trained_to.get(str(shard)))
        return job.fit(spec, log_opener(world.settings), world.keys, lambda done, total: None)

    return resolve


def run_learner(settings: Settings, environ: Mapping[str, str], stop: threading.Event, reset: Collection[str]) -> None:
    """The learn role until `stop` is set; the models in `reset` start over from the first retained record."""
    from ..drift.watch import DriftWatch
    from ..learning.worker import Worker, calm_collector

    with opened(settings, environ) as world:
        worker = Worker(
            settings, world.log, world.store, world.keys, watches=DriftWatch, resolve=resolver(world), reset=reset
        )
        calm_collector()
        worker.run(stop)


def run_control(settings: Settings, environ: Mapping[str, str], stop: threading.Event) -> None:
    """The control role until `stop` is set; its retrains run in a pool of one process."""
    from ..control.loop import Control
    from ..retrain.job import Jobs

    with opened(settings, environ) as world:
        jobs = Jobs(log_opener(settings), world.keys)
        try:
            Control(settings, world.log, world.store, world.keys, jobs).run(stop)
        finally:
            jobs.close()


def run_api(world: World, environ: Mapping[str, str], stop: threading.Event, listen: Callable[[], socket.socket]) -> int:
    """The HTTP API on the socket that `listen` makes, until `stop` is set or a signal comes, then whatever is in flight.

    The exit code: 1 when it could not start.
    """
    import uvicorn

    from ..serving.access import load_api_keys
    from ..serving.app import Deps, create_app

    app = create_app(Deps(world.settings, world.log, world.store, world.keys, load_api_keys(environ)))
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, date_header=False, lifespan="on",
            timeout_graceful_shutdown=GRACE_S,
        )
    )  # fmt: skip

    def end() -> None:
        stop.wait()
        server.should_exit = True

    threading.Thread(target=end, name="end-of-serving", daemon=True).start()
    with listen() as listening:
        server.run(sockets=[listening])
    return 0 if server.started else 1


def unusable(path: Path, error: OSError) -> ConfigError:
    """What to tell when a file of the service's own, in its data_dir, can be neither read nor made."""
    fix = "Name a folder that can be written, or mend its mode"
    return ConfigError("data_dir", f"{path} cannot be used ({error.strerror})", fix)


def _file(settings: Settings, name: str) -> Path:
    return settings.data_dir / name


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"{folder} cannot be made ({error.strerror})"
        raise ConfigError("data_dir", problem, "Name a folder that can be written") from None

