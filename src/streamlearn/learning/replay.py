"""Feed records to a learner, commands among them: the one way in which a live shard and a replay advance.

A "try" needs its version brought up to the command's own position, which reads the log; everything else is the learner's.
A replay of the same log ends in the same state (`checkpoint.digest`), which is how recovery is proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ..config import Settings
from ..errors import BadSignature, CodecError, ConfigError, LogUnavailable, PositionExpired, StoreUnavailable
from ..events import Kind, Limits
from ..keys import KeyRing
from ..lineage import changes, recipe_of, with_recipe
from ..log import Log, Record, pages_below
from ..records import Command, open_command
from ..store.codec import open_blob
from .chain import opened
from .commands import Prepared, apply
from .genesis import Genesis, genesis
from .held import reread
from .learner import Learner
from .model import BatchOnly
from .protocols import ResolveVersion, WatchMaker
from .recommend_learner import RecommendLearner
from .recommending import make_model
from .refusal import Refusal
from .trainer import REHEARSED_RECORDS, Trainer

BATCH: Final = 1000
_COMMAND: Final = int(Kind.COMMAND)


def limits_of(settings: Settings) -> Limits:
    """The bounds on one event."""
    given = settings.limits
    return Limits(given.max_features, given.max_string, given.max_event_bytes, given.max_ahead_s)


def new_learner(
    settings: Settings, name: str, shard: int, start: int, watches: WatchMaker, origin: Genesis | None = None
) -> Learner:
    """A learner of model `name` that has seen nothing, with the version and the estimator of its `origin`, if one is given.

    Raises ConfigError for an unknown name, ModelError.
    """
    model = settings.models.get(name)
    if model is None:
        raise ConfigError(f"models.{name}", "there is no such model", f"Write one of {sorted(settings.models)}")
    stream = settings.streams[model.stream]
    kind = RecommendLearner if model.task == "recommend" else Learner
    learner = kind(name, model, stream, limits_of(settings), watches, (model.stream, shard), start)
    if origin is not None:
        learner.version = origin.version
        made_of = recipe_of(origin.recipe)
        if changes(made_of, recipe_of(model)):
            with suppress(BatchOnly):  # only a fit makes it, and the log has lost that: the file's recipe stands in for it
                learner.champion = make_model(with_recipe(model, made_of), learner.limits)
                learner.bind()
    return learner


def advance(
    learner: Learner, records: Sequence[Record], settings: Settings, log: Log, keys: KeyRing, resolve: ResolveVersion
) -> None:
    """Take `records` in order. Raises LogUnavailable or StoreUnavailable while a version is fetched: `learner.position` is
    then still that of the command, which is met again."""
    step = learner.step
    for record in records:
        if record.kind != _COMMAND:
            step(record)
            continue
        try:
            command = open_command(record.value, keys)
        except BadSignature as error:
            learner.skip(record)
            learner.refuse(record, "bad_signature", str(error))
            continue
        prepared: Prepared | Refusal = None
        if command.model == learner.name and command.seq > learner.last_command:
            if command.verb == "try":
                prepared = _bring_up(learner, command, record.offset, settings, log, keys, resolve)
            elif command.verb == "resume":
                prepared = reread(learner, command, record.offset, settings, limits_of(settings), log)
        learner.skip(record)
        if command.model == learner.name:
            apply(learner, command, prepared)


def _bring_up(
    learner: Learner, command: Command, offset: int, settings: Settings, log: Log, keys: KeyRing, resolve: ResolveVersion
) -> Trainer | Refusal:
    """The trainer of the command's version, having read all before `offset`, or why there is none."""
    shard, model = learner.join.partition, learner.settings
    gap = offset - command.trained_to.get(str(shard), 0)
    if gap > model.retrain.max_gap_records:
        return Refusal("gap", f"{gap} records lie between the version and the command, more than retrain.max_gap_records")
    try:
        kept = resolve(command, shard)
        sealed = open_blob(kept.blob, keys, kind="version", model=learner.name, shard=shard, version=command.version)
        parts = sealed.all_parts()
    except (LogUnavailable, StoreUnavailable):
        raise
    except Exception as error:  # whatever it is, the next try would meet it again, and the command must have an answer
        return Refusal("unknown_version", f"version {command.version} cannot be had: {error}")
    stream = settings.streams[model.stream]
    try:
        fitted = opened(sealed, "model", kept.fetch)
        trainer = Trainer.restore(learner.name, model, stream, limits_of(settings), model.stream, shard, fitted, parts)
    except StoreUnavailable:
        raise
    except CodecError as error:
        return Refusal("unknown_version", f"version {command.version} cannot be had: {error}")
    except Exception as error:  # unpickling may raise anything: the class of a pipeline's step may be gone
        return Refusal("unknown_version", f"version {command.version} cannot be brought back: {error!r}")
    if trainer.position > offset:
        return Refusal("unknown_version", f"the version has read to {trainer.position}, beyond the command at {offset}")
    if offset - trainer.position > model.retrain.max_gap_records:
        return Refusal("gap", f"the version has read to {trainer.position} only, and the command is at {offset}")
    still_held = [] if learner.held_from is None else [(learner.held_from, offset)]
    trainer.rehearse_from = offset - REHEARSED_RECORDS
    trainer.pass_over([*command.spec.get("skip", []), *learner.held_ranges, *still_held])
    try:
        for records in pages_below(log, model.stream, shard, trainer.position, offset, BATCH):
            trainer.feed(records)
    except PositionExpired as error:
        return Refusal("gap", str(error))
    except MemoryError:
        return Refusal("unknown_version", f"the version ran out of memory at {trainer.position}, on its way to the command")
    return trainer


def replay(
    settings: Settings,
    name: str,
    shard: int,
    log: Log,
    keys: KeyRing,
    watches: WatchMaker,
    resolve: ResolveVersion,
    until: int,
) -> Learner:
    """The learner that has read its partition from where the model begins up to `until`, in this process, alone."""
    stream = settings.models[name].stream if name in settings.models else ""
    origin = genesis(settings, name, shard, log) if stream else None
    learner = new_learner(settings, name, shard, origin.start if origin else 0, watches, origin)
    for records in pages_below(log, stream, shard, learner.position, until, BATCH):
        advance(learner, records, settings, log, keys, resolve)
        learner.signals.clear()
        learner.dead.clear()
    return learner
