"""`streamlearn status`: one line a model, from the API, or straight from the store when the API is down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import typer

from ..config import Settings
from ..events import REASONS
from ..lineage import told
from ..records import LEFT_OUT, Status
from ..wire import ModelView
from .console import console, say, table
from .remote import URL, ApiKey, Url, connected

MAIN: Final[Mapping[str, str]] = {"binary": "accuracy", "multiclass": "accuracy", "regression": "mae", "recommend": "ndcg"}
BASELINES: Final = ("no_change", "majority")
NONE: Final = "–"


class Line(NamedTuple):
    """A model in a line. `scores` are those of its only shard; `age_s` is how old what it says is.

    `canary`: the version that answers for a share of the keys, None when none does.
    """

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
    canary: Mapping[str, Any] | None = None
    inputs: Sequence[str] = ()  # what control says of its features and of a drift that waits, in words
    differs: str | None = None  # how the file differs from the version that serves
    silenced_until: float | None = None  # nobody is notified of it before then, Unix seconds


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
        view.case, view.degraded or (), view.scores or {}, view.control.get("canary"), inputs(view.control, view.counters),
        _differs(view.control, view.version), view.control.get("silenced_until"),
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
        past = told(one.backfill for one in shards if one.backfill is not None)
        withheld = [f"not published yet: {one.withheld}" for one in shards if one.withheld]
        away = max((one.log_lost_s for one in shards if one.log_lost_s is not None), default=None)
        lost = [] if away is None else [f"the log could not be read for {away:.0f} s"]
        reasons = [*([view["degraded"]] if view.get("degraded") else []), *held, *lost, *([past] if past else []), *withheld]
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
                view.get("canary"),
                inputs(view, {LEFT_OUT: sum(one.counters.get(LEFT_OUT, 0) for one in shards)}),
                _differs(view, max((one.version for one in shards), default=None)),
                view.get("silenced_until"),
            )
        )
    return lines


def show(lines: Iterable[Line], clock: Callable[[], float] = time.time) -> None:
    """The table, why each degraded model is so, what is the matter with its features, and which ones are silenced."""
    made = table(
        "model", ">version", "state", ">learned", "score", ">window", ">no change", ">majority", ">lag", ">events/s",
        ">fresh p99", ">seen", ">dead", "case",
    )  # fmt: skip
    degraded = []
    for line in lines:
        made.add_row(*cells(line))
        if line.differs:
            degraded.append(f"{line.name} serves another model than it is meant to: {line.differs}")
        degraded += [f"{line.name} is degraded: {reason}" for reason in line.degraded]
        degraded += [f"{line.name}: {text}" for text in line.inputs]
        if (line.silenced_until or 0.0) > clock():
            until = datetime.fromtimestamp(line.silenced_until or 0.0, UTC)
            degraded.append(f"{line.name} is silenced: nobody is notified before {until:%Y-%m-%d %H:%M:%SZ}")
    console().print(made)
    for text in degraded:
        say(text)
    if not made.row_count:
        say("The configuration has no models")


def inputs(control: Mapping[str, Any], counters: Mapping[str, int]) -> list[str]:
    """What a model's document and its learners' counters say of its features and of a drift that waits, in words."""
    features, told = control.get("features") or {}, []
    if control.get("held") and features.get("broken"):
        told.append("held by a diagnosis; it learns again by itself once its input is as it was, or when a person resumes it")
    if features.get("drifted"):
        names = ", ".join(map(repr, sorted(features["drifted"])))
        told.append(f"features have drifted, for which alone it is not retrained: {names}")
    if control.get("kept"):
        told.append(f"a confirmed drift waits, for a retrain is not worth its price yet: {control['kept']}")
    changed = control.get("contract")
    if changed:
        names = ", ".join(repr(one["feature"]) for one in changed["changes"])
        told.append(f"features came, went or changed their type; case {changed['case']} brings in a version for that: {names}")
    if counters.get(LEFT_OUT):
        told.append(f"{counters[LEFT_OUT]:,} events were taken without a feature, which had another type than the model knows")
    return told


def cells(line: Line) -> list[str]:
    """What a line shows, column by column."""
    metric = MAIN[line.task]
    baselines = line.scores.get("baselines", {})
    window = line.scores.get("window", {}).get(metric)
    others = [_of_baseline(baselines.get(name, {}), metric) for name in BASELINES]
    return [
        line.name, _or_none(line.version, "d") + _canary(line.canary), line.state or NONE, f"{line.n:,}", metric,
        _or_none(window, ".3f"),
        *(_or_none(value, ".3f") for value in others), f"{line.lag:,}", f"{line.rate:,.0f}",
        _or_none(line.freshness_ms, ".0f", " ms"), _or_none(line.age_s, ".1f", " s ago"), f"{line.dead:,}", line.case or NONE,
    ]  # fmt: skip


def _canary(canary: Mapping[str, Any] | None) -> str:
    return "" if canary is None else f", {canary['version']} at {100 * canary['share']:.3g} %"


def _differs(control: Mapping[str, Any], version: int | None) -> str | None:
    """How what serves is not what is meant to: by its recipe, or, while nothing is going on, by its version."""
    told, known = control.get("differs"), control.get("version")
    if told is None and control.get("state") == "steady" and None not in (version, known) and version != known:
        return f"version {version}, where control has version {known}: a rebuild could not make it again; see the audit"
    return told


def _of_baseline(scores: Mapping[str, Any], metric: str) -> float | None:
    """The baseline over the same window where it has one, else over everything."""
    windowed = scores.get(f"window_{metric}")
    return windowed if windowed is not None else scores.get(metric)


def _worst(freshness: Iterable[Mapping[str, float]]) -> float | None:
    return max((one["p99"] for one in freshness if one.get("p99") is not None), default=None)


def _or_none(value: float | None, form: str, unit: str = "") -> str:
    return NONE if value is None else f"{value:{form}}{unit}"
