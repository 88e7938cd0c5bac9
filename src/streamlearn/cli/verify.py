"""`streamlearn verify CONFIG`: replay the log alone, in one process, and see that the learner's newest checkpoint is the same.

Nothing lost, nothing learned twice, nothing that depends on when or how often a process died: equal digests of named values
prove it. It reads only, so the service may be up.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ..errors import CodecError, ConfigError, RetrainError, StoreError
from .console import console, counted, say, table
from .roles import Config
from .wiring import World, opened, read_settings, resolver

if TYPE_CHECKING:
    from ..learning.protocols import ResolveVersion
    from ..records import Command
    from ..store.links import Kept


class Checked(NamedTuple):
    """One shard: the checkpoint's position and labelled count, and what the comparison showed."""

    model: str
    shard: int
    position: int | None
    learned: int | None
    verdict: str
    digest: str
    seconds: float


def verify(
    config: Config,
    model: Annotated[str | None, typer.Option(help="Only this model.", show_default=False)] = None,
) -> None:
    """Compare every shard's newest checkpoint with a replay of the log. Exits 1 when one differs."""
    settings = read_settings(Path(config), os.environ)
    if model is not None and model not in settings.models:
        raise ConfigError("--model", f"there is no model {model!r}", f"Write one of {sorted(settings.models)}")
    results = []
    with opened(settings, os.environ) as world:
        for name, one in settings.models.items():
            for shard in range(settings.streams[one.stream].partitions):
                if model in (None, name):
                    with console(stderr=True).status(f"replaying {name}/{shard}"):
                        results.append(check_shard(world, name, shard))
    made = table("model", ">shard", ">position", ">learned", "verdict", "state digest", ">seconds")
    for result in results:
        made.add_row(
            result.model, str(result.shard), _or_none(result.position), _or_none(result.learned), result.verdict,
            result.digest[:16], f"{result.seconds:.1f}",
        )  # fmt: skip
    console().print(made)
    bad = [result for result in results if result.verdict == "differs"]
    if bad:
        say(f"{len(bad)} of {counted(len(results), 'shard')} differ: their state is not what a replay of the log gives")
        raise typer.Exit(1)
    say(f"{sum(result.verdict == 'same' for result in results)} of {counted(len(results), 'shard')} verified, none differs")


def check_shard(world: World, model: str, shard: int) -> Checked:
    """Compare one shard. The verdict is "same", "differs", or why it cannot be told. Raises LogError, StoreError."""
    from ..drift.watch import DriftWatch
    from ..learning import checkpoint
    from ..learning.replay import new_learner, replay
    from ..store.codec import open_blob
    from ..store.links import links_of

    started = time.monotonic()

    def result(verdict: str, position: int | None = None, learned: int | None = None, digest: str = "") -> Checked:
        return Checked(model, shard, position, learned, verdict, digest, time.monotonic() - started)

    stream = world.settings.models[model].stream
    for info in world.store.checkpoints(model, shard):
        if info.set_aside is not None:
            continue
        try:
            sealed = open_blob(world.store.checkpoint(info.id), world.keys, kind="checkpoint", model=model, shard=shard)
            parts = sealed.all_parts()
        except (CodecError, StoreError):  # altered, or gone since it was listed: the one before it stands
            continue
        position = sealed.header.positions[0]
        if position.log != world.log.identity(position.stream):
            return result("taken on another log", position.offset)
        first = world.log.bounds(stream, shard)[0]
        if first > 0:
            return result(f"the log begins at {first}, its past was trimmed", position.offset)
        kept = new_learner(world.settings, model, shard, first, DriftWatch)
        links = links_of(sealed.header.extra)
        checkpoint.load(kept, parts, DriftWatch, links, lambda name: world.store.piece(model, shard, name))
        lost: list[str] = []
        resolve = _noting(resolver(world), lost)
        again = replay(world.settings, model, shard, world.log, world.keys, DriftWatch, resolve, position.offset)
        digest = checkpoint.digest(kept)
        verdict = "same" if digest == checkpoint.digest(again) else lost[0] if lost else "differs"
        return result(verdict, position.offset, kept.n, digest)
    return result("no checkpoint yet")


def _noting(resolve: ResolveVersion, lost: list[str]) -> ResolveVersion:
    """The same, but for a line in `lost` for each version that is gone and cannot be made again: its trial is not replayed."""

    def noted(command: Command, shard: int) -> Kept:
        try:
            return resolve(command, shard)
        except RetrainError as error:
            lost.append(f"version {command.version}, which was tried, is gone and cannot be made again: {error.detail}")
            raise

    return noted


def _or_none(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
