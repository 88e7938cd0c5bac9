"""`streamlearn policy-bench CONFIG MODEL [FILE]`: which retrain policy suits one's own data, and what a retrain may cost.

A model made at the end of every batch of a file, or of some of the log, is taken over all that follows; so any policy can be
replayed, and costed in the units of the configuration, beside the least that any retrains would have cost. It reads only, so
the service may be up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import typer

from ..config import ModelSettings, Settings
from ..config_retrain import PolicySettings
from ..errors import ConfigError
from . import benches, columns
from .benches import Records, Source, progress
from .console import counted, say, warn
from .policy_report import Report, as_json, draw, show
from .roles import Config

KAPPAS: Final = 7  # over three decades around the configured one
PRESENT_WINDOW: Final = 4  # batches, where the configuration does not say how many
FROM_NOTHING: Final = 20.0  # the middle where the configured retrain costs nothing


def policy_bench(
    config: Config,
    model: benches.Model,
    file: benches.File = None,
    id: columns.Id = None,
    ts: columns.Ts = None,
    label: columns.Label = None,
    text: columns.Text = None,
    drop: columns.Drop = None,
    shard: benches.Shard = 0,
    start: benches.Start = None,
    end: benches.End = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", show_default=False,
            help="Labelled events in a batch. Default: retrain.batch, if that makes 40 to 100 of them.",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="BATCHES", show_default=False,
            help="How many batches a retrain learns. Default: as the strategy's window says, else 4.",
        ),
    ] = None,
    frozen: Annotated[bool, typer.Option("--frozen", help="A model that serves does not learn, as a batch estimator.")] = False,
    kappa: Annotated[
        list[float] | None,
        typer.Option(
            min=0, metavar="K", show_default=False,
            help="Cost of a retrain in lost events. Repeatable. Default: seven, over three decades around the configured.",
        ),
    ] = None,
    tune: Annotated[float, typer.Option(min=0.05, max=0.9, help="The first share of the stream, on which is tuned.")] = 0.25,
    json: benches.Json = None,
    plot: benches.Plot = None,
) -> None:  # fmt: skip
    """Replay every retrain policy on a file or on the log, at several costs of a retrain, and recommend one.

    The work grows with the labelled events times half the batches: of a long stream take a part, or larger batches.
    """
    from . import rows

    settings = benches.read_settings(config, model, plot)
    chosen = settings.models[model]
    configured = named(chosen.retrain.policies)
    mapped = rows.Mapped(id, ts, None, label, frozenset(text or ()), frozenset(drop or ()))
    with benches.reading(settings, chosen.stream, file, mapped, shard, start, end) as (source, records):
        report = measure(settings, model, configured, source, records, batch, window, not frozen, kappa or (), tune)
    show(report)
    if json is not None:
        benches.write_json(json, as_json(report))
    if plot is not None:
        draw(report, plot)
        say(f"wrote {plot}")


def named(settings: Sequence[PolicySettings]) -> dict[str, PolicySettings]:
    """The configured policies, by titles that tell them apart. Raises ConfigError for one that cannot be built."""
    from ..retrain import policies

    found: dict[str, PolicySettings] = {}
    for one in settings:
        policies.build(one)
        params = ", ".join(f"{key} {value}" for key, value in one.params.items())
        found[f"{one.name} {params}".strip()] = one
    return found


def kappas(configured: float, given: Sequence[float]) -> list[float]:
    """The costs to try, in order: those given and the configured one; without any, seven over three decades around that."""
    if given:
        return sorted({configured, *given})
    middle = configured or FROM_NOTHING
    spread = [middle * 10 ** (3 * step / (KAPPAS - 1) - 1.5) for step in range(KAPPAS)]
    return sorted({configured, *(float(f"{value:.2g}") for value in spread if not math.isclose(value, configured))})


def windows(model: ModelSettings, batch: int, batches: int) -> int:
    """How many batches a retrain learns: as the strategy's "records" or "all" say; the other windows depend on the drift."""
    strategy = model.retrain.strategy
    if strategy.window == "all":
        return batches
    if strategy.window == "records":
        return max(1, min(batches, round(strategy.records / batch)))
    return PRESENT_WINDOW


def measure(
    settings: Settings,
    name: str,
    configured: Mapping[str, PolicySettings],
    source: Source,
    records: Records,
    batch: int | None,
    window: int | None,
    learns: bool,
    given: Sequence[float],
    tune: float,
) -> Report:
    """Make the ledger, and replay every policy at every cost. Raises ConfigError."""
    from ..learning.replay import limits_of
    from ..retrain import ledger
    from . import policy_replay

    model = settings.models[name]
    costs = kappas(model.retrain.cost.kappa, given)
    with progress() as bar:
        task = bar.add_task("reading", total=None)
        collected = ledger.collect(settings, name, records())
        pairs = collected.found
        if not pairs:
            raise ConfigError(name, "nothing here has a label", "Name its column with --label, or another file")
        size = batch or ledger.batch_size(len(pairs), model.retrain.batch)
        stretch = policy_replay.stretch(len(pairs) // size, tune)
        learned = window or windows(model, size, len(pairs) // size)
        bar.update(task, description="learning", total=1)
        made = ledger.keep(
            pairs, model, limits_of(settings), batch=size, window=learned, learns=learns, seed=model.seed,
            told=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
        replaying = bar.add_task("replaying", total=len(costs))
        gate = policy_replay.Gate(made, model.drift, model.seed)
        compared = []
        for cost in costs:
            compared.append(policy_replay.compare(made, gate, configured, cost, stretch, model.seed))
            bar.advance(replaying)
    if policy_replay.on_loss(model.drift) is not model.drift:
        warn("Of the model's detectors only those on the loss were played, or the default ones where there are none")
    if collected.refused:
        count, (offset, reason, detail) = counted(len(collected.refused), "record"), collected.refused[0]
        warn(f"{count} could not be learned; the first, at {offset}: {reason}, {detail}")
    return Report(name, source, model.retrain.cost, made, stretch, list(configured), compared)
