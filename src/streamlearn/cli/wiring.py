"""The composition root: the only place that knows which log and which store are behind the protocols, and puts roles together.

Heavy libraries are imported when a role needs them, so that a command that only asks the API starts at once.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..config import KafkaSettings, Settings, load
from ..errors import CodecError, ConfigError
from ..keys import KeyRing, load_keys, read_secret
from ..log import CONTROL, Log
from ..store import Store

if TYPE_CHECKING:
    from ..control.notifier import Notifier
    from ..learning.protocols import ResolveVersion
    from ..records import Command
    from ..retrain.executor import Executor

LOG_FILE = "log.sqlite"
STORE_FILE = "store.sqlite"
KEY_FILE = "secret.key"
MIB = 1 << 20
HOUR_MS = 3_600_000
FOR_EVER = -1
SILENCE_S = 300.0  # a learner that replays a gap into a challenger does not poll meanwhile
GRACE_S = 10


class World(NamedTuple):
    """What every role works with."""

    settings: Settings
    log: Log
    store: Store
    keys: KeyRing


def read_settings(path: Path, environ: Mapping[str, str], text: Path | None = None) -> Settings:
    """The settings at `path` (or of the `text` that stands in for it); pipelines named by an import path are also looked for in
    its folder. Raises ConfigErrors."""
    settings = load(path, environ, text)
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    return settings


def log_opener(settings: Settings) -> Callable[[], Log]:
    """Opens the log, here or, since it can be pickled, in another process."""
    most = int(settings.log.max_waiting_mb * MIB)
    if settings.log.backend == "kafka":
        from ..log.kafka import KafkaLog

        kafka = settings.log.kafka
        return functools.partial(
            KafkaLog,
            bootstrap=kafka.bootstrap,
            prefix=kafka.prefix,
            replication=kafka.replication,
            min_insync=kafka.min_insync,
            compression=None if kafka.compression == "none" else kafka.compression,
            default_retention_ms=int(settings.log.retention_hours * HOUR_MS) or FOR_EVER,
            timeout_s=kafka.request_timeout_s,
            delivery_s=2 * kafka.request_timeout_s,
            session_s=kafka.session_timeout_s,
            silence_s=SILENCE_S,
            security=security(kafka),
            max_waiting_bytes=most,
            max_record_bytes=max(MIB, 2 * settings.limits.max_event_bytes),
        )
    from ..log.sqlite import SqliteLog

    return functools.partial(SqliteLog, _file(settings, LOG_FILE), max_waiting_bytes=most)


def security(kafka: KafkaSettings) -> dict[str, object]:
    """TLS and SASL, as kafka-python takes them. Raises ConfigError for a password that cannot be read."""
    found: dict[str, object] = {"security_protocol": kafka.security_protocol}
    if kafka.security_protocol.endswith("SSL"):
        files = {name: getattr(kafka, name) for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")}
        found |= {name: path for name, path in files.items() if path}
        found["ssl_check_hostname"] = kafka.ssl_check_hostname
    if kafka.security_protocol.startswith("SASL"):
        found["sasl_mechanism"] = kafka.sasl_mechanism
        found["sasl_plain_username"] = kafka.sasl_username
        found["sasl_plain_password"] = _password("log.kafka.sasl_password_file", kafka.sasl_password_file)
    return found


def _password(key: str, path: str) -> str:
    """The password that a file holds. Raises ConfigError."""
    secret = read_secret(key, path).strip()
    if not secret:
        raise ConfigError(key, f"{path} is empty", "Write the password into it, or take the setting away")
    return secret


def secret_digests(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of every secret that a role reads from a file when it starts, by what names the file.

    Raises ConfigError when one cannot be read, or is not what it should be.
    """
    kafka, redis = settings.log.kafka, settings.store.redis
    files = {name: environ[name] for name in ("STREAMLEARN_KEYS_FILE", "STREAMLEARN_API_KEYS_FILE") if name in environ}
    if not {"STREAMLEARN_KEYS", "STREAMLEARN_KEYS_FILE"} & environ.keys():
        files["data_dir"] = str(_file(settings, KEY_FILE))
    if settings.log.backend == "kafka":
        names = ("sasl_password_file", "ssl_cafile", "ssl_certfile", "ssl_keyfile")
        files |= {f"log.kafka.{name}": path for name in names if (path := getattr(kafka, name))}
        security(kafka)
    if settings.store.backend == "redis" and redis.password_file:
        files["store.redis.password_file"] = redis.password_file
        _password("store.redis.password_file", redis.password_file)
    return {name: hashlib.sha256(read_secret(name, str(path)).encode()).hexdigest() for name, path in files.items()}


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
    if not has_log(settings):
        problem = f"there is no log in {settings.data_dir} yet"
        raise ConfigError("data_dir", problem, "Name the configuration of a service that ran")
    return log_opener(settings)()


def open_store(settings: Settings) -> Store:
    """The store, made if it is missing. Raises ConfigError, StoreError."""
    if settings.store.backend == "redis":
        from ..store.redis import RedisStore

        redis = settings.store.redis
        password: Callable[[], str] | None = None
        if redis.password_file:
            password = functools.partial(_password, "store.redis.password_file", redis.password_file)
            password()  # one that cannot be read is said now; each connection asks again, so that it can be changed
        return RedisStore(redis.url, prefix=redis.prefix, password=password)
    from ..store.sqlite import SqliteStore

    _make_folder(settings.data_dir)
    return SqliteStore(_file(settings, STORE_FILE))


def has_log(settings: Settings) -> bool:
    """Whether there is a log to look into; one on Kafka always is, if the brokers can be reached."""
    return settings.log.backend != "sqlite" or _file(settings, LOG_FILE).exists()


def has_store(settings: Settings) -> bool:
    """Whether there is a store to look into; Redis always is, if it can be reached."""
    return settings.store.backend != "sqlite" or _file(settings, STORE_FILE).exists()


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
    """A version from the store or, when it or a piece of it is lost there, fitted again from the spec in its command."""
    from ..retrain import job
    from ..store.codec import open_blob
    from ..store.links import Kept, kept_version, lacking

    def resolve(command: Command, shard: int) -> Kept:
        model, version = command.model, command.version or 0
        kept, why = kept_version(world.store, model, version, shard), "it is not in the store"
        if kept is not None:
            try:
                sealed = open_blob(kept.blob, world.keys, kind="version", model=model, shard=shard, version=version)
                sealed.all_parts()
                why = lacking(world.store, model, version, shard, sealed.header.extra)
            except CodecError as error:
                why = str(error)
            if not why:
                return kept
        about = {"model": model, "shard": shard, "version": version, "why": why}
        logging.getLogger("streamlearn.learn").warning("a version is fitted again", extra=about)
        spec = job.FitSpec.from_bytes(msgspec.json.encode(command.spec))
        spec = msgspec.structs.replace(spec, stop=command.trained_to.get(str(shard)))
        fetch, pieces = functools.partial(job.base_blob, world.store), dict[str, bytes]()
        blob = job.fit(
            spec, log_opener(world.settings), world.keys, lambda done, total: None, fetch, pieces.__setitem__
        )
        return Kept(blob, pieces.get)

    return resolve


def run_learner(settings: Settings, environ: Mapping[str, str], stop: threading.Event, reset: Collection[str]) -> None:
    """The learn role until `stop` is set; the models in `reset` start over from the first retained record."""
    from ..drift.watch import DriftWatch
    from ..learning.worker import Worker, calm_collector

    with opened(settings, environ) as world:
        streams = sorted({model.stream for model in settings.models.values()})
        worker = Worker(
            settings, world.log, world.store, world.keys, watches=DriftWatch, resolve=resolver(world), reset=reset,
            membership=world.log.join("learn", streams),
        )  # fmt: skip
        calm_collector()
        worker.run(stop)


def run_control(settings: Settings, environ: Mapping[str, str], stop: threading.Event) -> None:
    """The control role until `stop` is set; its retrains run where the settings say."""
    from ..control.loop import Control
    from ..retrain.job import Jobs

    with opened(settings, environ) as world:
        store_opener = functools.partial(open_store, settings)
        jobs = Jobs(log_opener(settings), world.keys, store_opener, open_executor(settings))
        try:
            leadership = world.log.join("control", [CONTROL])
            notifier = open_notifier(world, environ) if settings.notify.targets else None
            Control(settings, world.log, world.store, world.keys, jobs, membership=leadership, notifier=notifier).run(stop)
        finally:
            jobs.close()


def open_notifier(world: World, environ: Mapping[str, str]) -> Notifier:
    """What tells people."""
    from ..control.notifier import Notifier

    return Notifier(world.settings.notify, world.log, environ)


def open_executor(settings: Settings) -> Executor:
    """Where retrains run. A cluster is connected to later, by itself. Raises ConfigError when Dask is not installed."""
    from ..retrain.job import WARM

    executor = settings.executor
    if executor.backend == "processes":
        from ..retrain.pool import Pool

        return Pool(executor.workers, WARM)
    try:
        from ..retrain.cluster import Cluster
    except ImportError as error:
        raise without_dask(error) from None
    for name in ("distributed", "distributed.client"):  # Dask would write to stderr as it likes: it speaks as we do
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    return Cluster(executor.dask.scheduler, executor.workers, WARM)


def without_dask(error: ImportError) -> ConfigError:
    """What to tell when Dask is asked for and is not there."""
    return ConfigError("executor.backend", f'"dask" needs Dask ({error})', "Install it with: pip install 'streamlearn[dask]'")


def run_api(
    world: World,
    environ: Mapping[str, str],
    stop: threading.Event,
    listen: Callable[[], socket.socket],
    ready_fd: int | None = None,
    may_lack: frozenset[str] | None = None,
) -> int:
    """The HTTP API on the socket that `listen` makes, until `stop` is set or a signal comes, then whatever is in flight.

    Which models it cannot answer for is told to `ready_fd`, see `readiness`. With `may_lack` another process answers on that
    socket: none is accepted before this one can answer for every model, or, after a while, for all but these. The exit code: 1
    when it could not start.
    """
    import uvicorn

    from ..serving.access import load_api_keys
    from ..serving.app import Deps, create_app
    from ..serving.tracing import open_tracing
    from ..telemetry import ended
    from .gentle import Gentle
    from .readiness import hold_back, tell

    opener = log_opener(world.settings)

    def renewed(stream: str) -> str:
        log = opener()  # one that was opened before never takes a stream that was made again for the old one
        try:
            return log.identity(stream)
        finally:
            log.close()

    api_keys = load_api_keys(environ)
    tracing = open_tracing(world.settings.serve.otlp_endpoint, environ)
    shares = environ.get("PROMETHEUS_MULTIPROC_DIR")
    app = create_app(
        Deps(
            world.settings, world.log, world.store, world.keys, api_keys, renewed=renewed, tracing=tracing,
            shared_metrics=shares,
        )
    )  # fmt: skip
    server = Gentle(
        uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, date_header=False, lifespan="on",
            timeout_graceful_shutdown=GRACE_S,
        ),
        app.state.live.close,
    )  # fmt: skip

    def end() -> None:
        stop.wait()
        server.should_exit = True

    threading.Thread(target=end, name="end-of-serving", daemon=True).start()
    if may_lack is not None:
        hold_back(app.router, app.state.shared.holder.missing, may_lack, stop)
    if ready_fd is not None:
        tell(ready_fd, lambda: server.started, app.state.shared.holder.missing, stop)
    with listen() as listening:
        server.run(sockets=[listening])
    if tracing is not None:
        tracing.close()
    if shares is not None:
        ended(shares)
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

