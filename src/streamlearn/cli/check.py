"""`streamlearn check CONFIG`: everything that is wrong with a configuration at once, each with its key and the fix.

Beyond what loading finds, it builds each pipeline and tries it twice, and looks at the folder, the port, the keys and the log
as they are. An error: the service would not start or not work. A warning: it would not do what was meant.
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ..config import ModelSettings, Settings
from ..config_errors import ConfigErrors
from ..errors import ConfigError, LogError, ModelError, RetrainError, StreamlearnError
from ..log import INTERNAL
from .check_notify import targets
from .console import console, counted, say, table, warn
from .roles import Config

HOUR_S: Final = 3600.0
SPARE_H: Final = 24.0


class Finding(NamedTuple):
    """`level` is "error", "warning" or "note"."""

    level: str
    key: str
    text: str


def check(config: Config) -> None:
    """Explain everything that is wrong with CONFIG, and try its pipelines. Exits 1 on an error."""
    import typer

    from . import wiring

    try:
        settings = wiring.read_settings(config, os.environ)
    except ConfigErrors as error:
        for one in error.errors:
            warn(f"error: {one}")
        warn(f"{config}: {counted(len(error.errors), 'error')}; pipelines, folder, port and log are tried once it loads")
        raise typer.Exit(1) from None
    found = list(findings(config, settings, os.environ))
    for finding in found:
        (say if finding.level == "note" else warn)(f"{finding.level}: {finding.key}: {finding.text}")
    errors = sum(finding.level == "error" for finding in found)
    if errors:
        warn(f"{config}: {counted(errors, 'error')}")
        raise typer.Exit(1)
    made = table("model", "stream", ">partitions", "task", "pipeline", ">label wait")
    for name, model in settings.models.items():
        stream = settings.streams[model.stream]
        made.add_row(
            name, model.stream, str(stream.partitions), model.task, model.pipeline, f"{model.label_wait_s / HOUR_S:g} h"
        )
    if settings.models:
        console().print(made)
    say(f"{config}: ok")


def findings(config: Path, settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that is worth saying about a configuration that loads."""
    yield from models(config, settings, environ)
    yield from _folder(settings)
    yield from _keys(settings, environ)
    yield from _address(settings, environ)
    yield from _log(settings)
    yield from _store(settings)
    yield from _executor(settings)
    yield from _tracing(settings, environ)
    yield from _contradictions(settings)
    for found in targets(settings, environ):
        yield Finding(*found)


def models(config: Path, settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """What is to be said of the models alone: detectors, policies, and their pipelines, tried in processes of their own."""
    from ..drift.detectors import build
    from .rehearsal import rehearse_twice

    if not settings.models:
        yield Finding("warning", "models", "there is none: events will be kept, and nothing learned")
        return
    for name, model in settings.models.items():
        for detector in model.drift.detectors:
            try:
                build(detector)
            except ConfigError as error:
                yield Finding("error", f"models.{name}.{error.key}", f"{error.problem}. {error.fix}")
        yield from _policies(f"models.{name}.retrain", model)
        yield from _candidates(name, model)
    try:
        first, second = rehearse_twice(config, environ)
    except ModelError as error:
        yield Finding("error", "models", str(error))
        return
    for name, one in first.items():
        key, other = f"models.{name}.pipeline", second[name]
        if not one.built:
            yield Finding("error", key, one.problem)
        elif one.problem:
            own = ":" in settings.models[name].pipeline
            hint = "; send some events and check again" if one.source == "made-up" else ""
            level = "warning" if own and one.source == "made-up" else "error"
            yield Finding(level, key, f"{one.problem}, on {one.source} events{hint}")
        elif one.digest != other.digest:
            yield Finding(
                "error", key,
                "two runs over the same events differ, so no replay could bring a lost state back. Give all that is random "
                "in it a fixed seed (a function that takes `seed` is given the model's), and depend on no set's order",
            )  # fmt: skip


def _candidates(name: str, model: ModelSettings) -> Iterator[Finding]:
    """What a search would stumble over: candidates that cannot be built, and winners that nothing would ever refresh."""
    from ..learning.recipes import build

    search = model.retrain.search
    if model.retrain.strategy.how != "search":
        return
    for number, one in enumerate(() if search.candidates == "auto" else search.candidates):
        try:
            build(one.pipeline, model.task, one.params, model.seed)
        except ModelError as error:
            yield Finding("error", f"models.{name}.retrain.search.candidates[{number}]", str(error))
    if search.batch_only == "refresh" and all(policy.name != "cron" for policy in model.retrain.policies):
        yield Finding(
            "warning", f"models.{name}.retrain.search.batch_only",
            'is "refresh", and a winner that cannot learn online then serves as it is until a retrain: add a schedule to '
            'retrain.policies, such as {name = "cron", ...}, or write "auto" or "residual"',
        )  # fmt: skip


def _policies(key: str, model: ModelSettings) -> Iterator[Finding]:
    from ..retrain.cron import Cron
    from ..retrain.policies import policies_of

    try:
        policies = policies_of(model.retrain, key)
    except ConfigErrors as found:
        for error in found.errors:
            yield Finding("error", error.key, f"{error.problem}. {error.fix}")
        return
    for place, policy in enumerate(policies):
        if isinstance(policy, Cron):
            coming = policy.local(policy.next(time.time()))
            yield Finding("note", f"{key}.policies[{place}]", f"the next moment of {policy.schedule} is {coming}")


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        what = "written to" if nearest == folder else f"made in {nearest}"
        yield Finding("error", "data_dir", f"{folder} cannot be {what} ({error.strerror}). Name a folder that can")


def _keys(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    from ..keys import load_keys
    from . import wiring

    path = settings.data_dir / wiring.KEY_FILE
    if not {"STREAMLEARN_KEYS", "STREAMLEARN_KEYS_FILE"} & environ.keys() and not path.exists():
        return  # made on first use
    try:
        load_keys(environ, path)
    except ConfigError as error:
        yield Finding("error", error.key, f"{error.problem}. {error.fix}")
    except OSError as error:
        yield Finding("error", str(path), f"cannot be read ({error.strerror}). Mend its owner or its mode")


def _address(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    from ..serving.access import check_bind
    from .keys import known_keys
    from .ports import free_port

    try:
        check_bind(settings.serve.host, known_keys(settings, environ))
    except ConfigError as error:
        yield Finding("error", error.key, f"{error.problem}. {error.fix}")
    except LogError as error:
        yield Finding("warning", "serve.host", f"whether there is an API key, which it needs, cannot be told: {error}")
    try:
        free_port(settings.serve.host, settings.serve.port)
    except ConfigError as error:
        level = "error" if error.key == "serve.host" else "warning"
        yield Finding(level, error.key, f"{error.problem}. {error.fix}, unless it is this very service that runs")


def _log(settings: Settings) -> Iterator[Finding]:
    from . import wiring

    if not wiring.has_log(settings):
        return
    place = "data_dir" if settings.log.backend == "sqlite" else "log.kafka"
    try:
        log = wiring.existing_log(settings)
    except StreamlearnError as error:
        yield Finding("error", place, str(error))
        return
    try:
        there = log.streams()
        wanted = {name: stream.partitions for name, stream in settings.streams.items()}
        for problem in log.describe(wanted, _least_retention_ms(settings)) if there else ():
            yield Finding("warning", place, problem)
    except StreamlearnError as error:
        yield Finding("error", place, str(error))
        return
    finally:
        log.close()
    for name, stream in settings.streams.items():
        partitions = there.get(name, stream.partitions)
        if partitions != stream.partitions:
            yield Finding(
                "error", f"streams.{name}.partitions",
                f"is {stream.partitions}, but the log has this stream with {partitions}. "
                f"Write {partitions}, or take another stream or data_dir",
            )  # fmt: skip
    for name in sorted(set(there) - set(settings.streams) - set(INTERNAL)):
        yield Finding("note", f"streams.{name}", "is in the log but not in the configuration: it is kept, and not read")


def _least_retention_ms(settings: Settings) -> dict[str, int]:
    """What each stream that is read must keep: what the most demanding of its models needs."""
    return {
        name: int(max(_least_hours(model) for model in settings.models.values() if model.stream == name) * HOUR_S * 1000)
        for name in {model.stream for model in settings.models.values()}
    }


def _least_hours(model: ModelSettings) -> float:
    """How far back the log must reach for a model: labels are waited for, retrains read it again, and a day is to spare."""
    return (model.label_wait_s + model.retrain.window_s) / HOUR_S + SPARE_H


def _store(settings: Settings) -> Iterator[Finding]:
    from . import wiring

    if settings.store.backend == "sqlite":
        return  # `_folder` has seen to it
    try:
        store = wiring.open_store(settings)
        try:
            store.statuses()
            for problem in store.describe():
                yield Finding("warning", "store.redis", problem)
        finally:
            store.close()
    except StreamlearnError as error:
        yield Finding("error", "store.redis", str(error))


def _tracing(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    from ..serving.tracing import open_tracing

    try:
        tracing = open_tracing(settings.serve.otlp_endpoint, environ)
    except ConfigError as error:
        yield Finding("error", error.key, f"{error.problem}. {error.fix}")
        return
    if tracing is not None:
        tracing.close()


def _executor(settings: Settings) -> Iterator[Finding]:
    from . import wiring

    if settings.executor.backend != "dask":
        return
    address = settings.executor.dask.scheduler
    try:
        from ..retrain.cluster import ask
    except ImportError as error:
        problem = wiring.without_dask(error)
        yield Finding("error", problem.key, f"{problem.problem}. {problem.fix}")
        return
    try:
        if not ask(address):
            yield Finding("warning", "executor.dask", f"the scheduler at {address} has no worker, so none retrains. Start one")
    except RetrainError as error:
        yield Finding("error", "executor.dask.scheduler", f"{error.detail}. Start it, or write where it is")
    if not _loopback(address):
        if "sqlite" in (settings.log.backend, settings.store.backend):
            yield Finding(
                "warning", "executor.dask.scheduler",
                f"{address} is not of this machine alone, but workers read log and store in {settings.data_dir}: run all of "
                'them on this machine, or take log.backend = "kafka" and store.backend = "redis"',
            )  # fmt: skip
        if not address.startswith("tls://"):
            yield Finding(
                "warning", "executor.dask.scheduler",
                f"the keys that sign models go to {address} in the clear, and whoever reaches it runs code there. "
                "Write tls://, and give Dask its certificates (distributed.comm.tls)",
            )  # fmt: skip


def _loopback(address: str) -> bool:
    """Whether only this machine can reach it: by its number, or as localhost."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _contradictions(settings: Settings) -> Iterator[Finding]:
    hours = settings.log.retention_hours
    read = {model.stream for model in settings.models.values()}
    for name, stream in settings.streams.items():
        if name not in read and settings.models:
            yield Finding("note", f"streams.{name}", "no model reads it: its events are kept, and nothing learned")
        if stream.allowed_lateness_s > 7 * 24 * HOUR_S:
            key = f"streams.{name}.allowed_lateness_s"
            yield Finding("warning", key, "is more than a week, and label waits end that much later. It is in seconds")
    for name, model in settings.models.items():
        if 0 < hours < _least_hours(model):
            yield Finding(
                "warning", "log.retention_hours",
                f"is {hours:g}, but models.{name}.label_wait_s keeps events waiting for {model.label_wait_s / HOUR_S:g} h, and "
                f"a retrain may read {model.retrain.window_s / HOUR_S:g} h before that again (retrain.window_s). "
                f"Write at least {_least_hours(model):g}, or 0 to keep everything",
            )  # fmt: skip
        strategy, window_s = model.retrain.strategy, model.retrain.window_s
        if strategy.window == "days" and strategy.days * 24 * HOUR_S > window_s:
            yield Finding(
                "warning", f"models.{name}.retrain.strategy.days",
                f"is {strategy.days:g}, but the log is only sure to keep what retrains read for {window_s / HOUR_S:g} h "
                "(retrain.window_s): of older records a fit learns those that are left. "
                f"Write window_s = {strategy.days * 24 * HOUR_S:.0f}",
            )  # fmt: skip
        if model.retrain.catch_up_records > model.retrain.max_gap_records:
            yield Finding(
                "error", f"models.{name}.retrain.catch_up_records",
                f"is above max_gap_records, {model.retrain.max_gap_records}, so no version could be tried. Write a smaller one",
            )  # fmt: skip
        if settings.streams[model.stream].partitions > 1:
            yield Finding(
                "note", f"models.{name}",
                f"its stream has {settings.streams[model.stream].partitions} partitions: each learns its share of the keys and "
                "answers for them. Events, labels and questions of one thing need the same key",
            )  # fmt: skip
