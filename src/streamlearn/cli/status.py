"""`streamlearn status`: one line a model, from the API, or straight from the store when the API is down."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import typer

from ..config import Settings
from ..events import REASONS
from ..records import Status
from ..wire import ModelView
from .console import console, say, table
from .remote import URL, ApiKey, Url, connected

MAIN: Final[Mapping[str, str]] = {"binary": "accuracy", "multiclass": "accuracy", "regression": "mae"}
BASELINES: Final = ("no_change", "majority")
NONE: Final = "–"


class Line(NamedTuple):
    """A model in a line. `scores` are those of its only shard; `age_s` is how old what it says is."""

    name: str
    task: str
    version: int | None
    state: str
    n: int
    lag: int
    rate: float
    dead: int
    freshness_ms: float | None
    age_s: float | None
    case: str
    degraded: Sequence[str]
    scores: Mapping[str, Any]


def status(
    url: Url = URL,
    api_key: ApiKey = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Read the store of this configuration instead of asking the API.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that is known, as JSON.")] = False,
) -> None:
    """Show every model: version, state, events learned, scores beside the baselines, lag, freshness, case, degraded."""
    if config is not None:
        from . import wiring

        lines = from_store(wiring.read_settings(config, os.environ), time.time())
        documents: Any = [line._asdict() for line in lines]
    else:
        with connected(url, api_key) as client:
            models = client.models()
        lines, documents = [from_api(model) for model in models], models
    if as_json:
        say(msgspec.json.format(msgspec.json.encode(documents)).decode())
    else:
        show(lines)


def from_api(view: ModelView) -> Line:
    """The line of a model as the API sees it."""
    statuses = [shard.status for shard in view.shards if shard.status is not None]
    reported = [shard.reported_s for shard in view.shards if shard.reported_s is not None]
    return Line(
        view.name, view.task, view.version, view.state, view.n, view.lag, view.rate, view.dead,
        _worst(status.get("freshness_ms", {}) for status in statuses), max(reported, default=None),
        view.case, view.degraded or (), view.scores or {},
    )  # fmt: skip


def from_store(settings: Settings, now: float) -> list[Line]:
    """The lines of the models in `settings`, as the learners and control last left them. Raises ConfigError, StoreError."""
    from . import wiring

    if not wiring.has_store(settings):
        return [
            Line(name, model.task, None, "not started", 0, 0, 0.0, 0, None, None, "", (), {})
            for name, model in settings.models.items()
        ]
    store = wiring.open_store(settings)
    try:
        found = [msgspec.json.decode(doc, type=Status) for doc in store.statuses().values()]
        control = {name: msgspec.json.decode(doc) for name, doc in store.views("model").items()}
    finally:
        store.close()
    lines = []
    for name, model in settings.models.items():
        shards, view = [one for one in found if one.model == name], control.get(name, {})
        held = [one.held for one in shards if one.held]
        reasons = [*([view["degraded"]] if view.get("degraded") else []), *held]
        lines.append(
            Line(
                name,
                model.task,
                max((one.version for one in shards), default=None),
                str(view.get("state", "")),
                sum(one.n for one in shards),
                sum(one.end - one.position for one in shards),
                sum(one.rate for one in shards),
                sum(one.counters.get(reason, 0) for one in shards for reason in REASONS),
                _worst(one.freshness_ms for one in shards),
                max((now - one.at for one in shards), default=None),
                str(view.get("case") or ""),
                reasons,
                shards[0].scores if len(shards) == 1 else {},
            )
        )
    return lines


def show(lines: Iterable[Line]) -> None:
    """The table, and why each degraded model is so."""
    made = table(
        "model", ">version", "state", ">learned", "score", ">window", ">no change", ">majority", ">lag", ">events/s",
        ">fresh p99", ">seen", ">dead", "case",
    )  # fmt: skip
    degraded = []
    for line in lines:
        made.add_row(*cells(line))
        degraded += [f"{line.name} is degraded: {reason}" for reason in line.degraded]
    console().print(made)
    for text in degraded:
        say(text)
    if not made.row_count:
        say("The configuration has no models")


def cells(line: Line) -> list[str]:
    """What a line shows, column by column."""
    metric = MAIN[line.task]
    baselines = line.scores.get("baselines", {})
    window = line.scores.get("window", {}).get(metric)
    others = [_of_baseline(baselines.get(name, {}), metric) for name in BASELINES]
    return [
        line.name, _or_none(line.version, "d"), line.state or NONE, f"{line.n:,}", metric, _or_none(window, ".3f"),
        *(_or_none(value, ".3f") for value in others), f"{line.lag:,}", f"{line.rate:,.0f}",
        _or_none(line.freshness_ms, ".0f", " ms"), _or_none(line.age_s, ".1f", " s ago"), f"{line.dead:,}", line.case or NONE,
    ]  # fmt: skip


def _of_baseline(scores: Mapping[str, Any], metric: str) -> float | None:
    """The baseline over the same window where it has one, else over everything."""
    windowed = scores.get(f"window_{metric}")
    return windowed if windowed is not None else scores.get(metric)


def _worst(freshness: Iterable[Mapping[str, float]]) -> float | None:
    return max((one["p99"] for one in freshness if one.get("p99") is not None), default=None)


def _or_none(value: float | None, form: str, unit: str = "") -> str:
    return NONE if value is None else f"{value:{form}}{unit}"
