"""When a retrain is worth its price: every policy's cost over that of the best retrains in hindsight, κ over three decades.

Models made at the end of each batch are taken over all that follows (`retrain.ledger`): *frozen*, as an estimator that cannot
learn online serves, or going on learning as the service's champions do, with a recipe that unlearns (logistic) and one that
does not (a Hoeffding tree). Every new model serves: no trial stands between, as one does in service. Parameters are found on
the first quarter of a stream, and costs are of the rest.

Generated, 20 seeds of each: a linear boundary that turns steadily, and circles whose centre and radius jump; six of a circle
that stays, which show what of the distance is the oracle's hindsight alone: of models that are equal but for chance it serves
those that will have been lucky. With `STREAMLEARN_DATA`: electricity whole, and of hflights the first 60,000 rows, by what is
known before departure (CC0).

κ is the cost of a retrain in lost events. The *rise* of a stream says what its drift does to a model that learns nothing: by
how much more the frozen model made at the end of the first quarter lost on the rest than the frozen ones made just before
each batch.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from streamlearn.cli.policy_replay import ORACLE, Gate, compare, stretch
from streamlearn.config import Settings, parse
from streamlearn.events import Features
from streamlearn.learning.model import Model
from streamlearn.learning.replay import limits_of
from streamlearn.retrain.ledger import Ledger, Pair, keep
from streamlearn.retrain.policy import Past

from .harness import Rows, main, quiet

KAPPAS: Final = (2.0, 6.3, 20.0, 63.0, 200.0, 630.0, 2000.0)
DEFAULT_KAPPA: Final = 20.0
SHARE: Final = 0.25
NOISE: Final = 0.05  # labels that are wrong
EVENTS: Final = 12_000
BATCH: Final = 200
WINDOW: Final = 2  # batches that a retrain learns
TURN: Final = math.pi / 2  # by which the boundary turns in EVENTS
JUMP: Final = 2500  # events between two jumps of the circle
STILL: Final = 6  # seeds of the circle that stays
BEFORE_DEPARTURE: Final = ("Month", "DayofMonth", "DayOfWeek", "UniqueCarrier", "Origin", "Dest", "Distance")
NUMBERS: Final = ("Distance",)
ROWS: Final = 60_000
TREES: Final = 5  # seeds on which the tree, which is slow, is measured too
FELT: Final = 500  # κ from so many times the rise on must not cost more than never or always retraining
DEBT, NO_GATE, PAIR = "debt", "debt without the gate", "debt, or twice unconfirmed"
TITLES: Final = {DEBT: "default (debt)"}
RECIPES: Final = {"frozen": ("logistic", False), "logistic": ("logistic", True), "tree": ("hoeffding_tree", True)}


class Stream(NamedTuple):
    """A stream to be made where it is learned. `seeded`: drift is what it was made for."""

    kind: str
    seed: int
    make: Callable[[], Iterator[tuple[Features, Any]]]
    batch: int
    window: int
    seeded: bool
    models: tuple[str, ...]


class Cost(NamedTuple):
    """A policy at one κ: its cost over the oracle's, over the better of never and always, and its retrains."""

    over: float
    plain: float
    retrains: int


class Seen(NamedTuple):
    """What one stream gave with one kind of model: by (κ, policy) its cost."""

    kind: str
    seed: int
    model: str
    seeded: bool
    rise: float
    costs: dict[tuple[float, str], Cost]


def rotating(seed: int, events: int) -> Iterator[tuple[Features, Any]]:
    """Points of the plane on both sides of a line through the origin that turns steadily."""
    rng = np.random.default_rng(seed)
    angle, way = rng.uniform(0, 2 * math.pi), rng.choice([-1.0, 1.0])
    for n, (a, b) in enumerate(rng.normal(size=(events, 2))):
        at = angle + way * TURN * n / EVENTS
        yield {"a": float(a), "b": float(b)}, bool((a * math.cos(at) + b * math.sin(at) > 0) ^ (rng.random() < NOISE))


def circles(seed: int, events: int, jump: int = JUMP) -> Iterator[tuple[Features, Any]]:
    """Points of a square, in or out of a circle that jumps; their squares are features too, so that a line can tell.

    From one jump to the next are `jump` events, give or take a fifth.
    """
    rng = np.random.default_rng(seed)
    left = 0
    for a, b in rng.uniform(-1, 1, size=(events, 2)):
        if left == 0:
            x, y = rng.uniform(-0.6, 0.6, 2)
            radius, left = rng.uniform(0.5, 0.9), round(jump * rng.uniform(0.8, 1.2))
        left -= 1
        inside = (a - x) ** 2 + (b - y) ** 2 < radius**2
        yield {"a": float(a), "b": float(b), "aa": float(a * a), "bb": float(b * b)}, bool(inside ^ (rng.random() < NOISE))


def of_file(path: Path, label: str, features: Sequence[str] | None, rows: int | None) -> Iterator[tuple[Features, Any]]:
    """A file's rows; `features` None: all numbers but the label and the date."""
    with gzip.open(path, "rt") as file:
        for row in itertools.islice(csv.DictReader(file), rows):
            y = row.pop(label)
            if features is None:
                yield {name: float(value) for name, value in row.items() if name != "date"}, y == "UP"
            elif y in ("0", "1"):
                yield {name: float(row[name]) if name in NUMBERS else row[name] for name in features}, y == "1"


def streams(quick: bool) -> list[Stream]:
    """Everything that is measured."""
    seeds, events = (1, 4800) if quick else (20, EVENTS)
    found = []
    for kind, make in (("rotating", rotating), ("circles", circles)):
        for seed in range(seeds):
            models = tuple(RECIPES) if seed < TREES else ("frozen", "logistic")
            found.append(Stream(kind, seed, partial(make, seed, events), BATCH, WINDOW, True, models))
    for seed in range(min(seeds, STILL)):
        make = partial(circles, seed, events, 2 * events)
        found.append(Stream("static", seed, make, BATCH, WINDOW, False, ("frozen", "logistic")))
    folder = os.environ.get("STREAMLEARN_DATA")
    if folder is None or quick:
        why = "a quick run" if quick else "set STREAMLEARN_DATA"
        print(f"  electricity and hflights are left out ({why})", file=sys.stderr)
        return found
    for kind, path, label, features, rows, batch in (
        ("electricity", "electricity/elecNormNew.csv.gz", "class", None, None, 500),
        ("hflights", "hflights_2011/hflights.csv.gz", "delayed", BEFORE_DEPARTURE, ROWS, 1000),
    ):
        if Path(folder, path).exists():
            make = partial(of_file, Path(folder, path), label, features, rows)
            found.append(Stream(kind, 0, make, batch, 4, False, ("frozen", "logistic")))
        else:
            print(f"  {kind} is left out: there is no {path} in STREAMLEARN_DATA", file=sys.stderr)
    return found


def settings_of(pipeline: str) -> Settings:
    model = {"stream": "s", "task": "binary", "pipeline": pipeline}
    return parse({"streams": {"s": {}}, "models": {"m": model}}, {})


def pairs_of(stream: Stream, settings: Settings) -> list[Pair]:
    """The stream's events as its models take them, a second apart."""
    model = Model(settings.models["m"], limits_of(settings))
    found = []
    for n, (x, y) in enumerate(stream.make()):
        x, fresh = model.check(x)
        model.accept(fresh)
        found.append(Pair(x, model.label(y), 1e9 + n))
    return found


def look(stream: Stream) -> list[Seen]:
    """Every kind of model on one stream, and every policy at every κ."""
    found = []
    rise = math.nan
    with quiet():
        for name in stream.models:
            pipeline, learns = RECIPES[name]
            settings = settings_of(pipeline)
            model, pairs = settings.models["m"], pairs_of(stream, settings)
            ledger = keep(
                pairs, model, limits_of(settings), batch=stream.batch, window=stream.window, learns=learns, seed=stream.seed
            )
            first = stretch(ledger.batches, SHARE)
            rise = rise_of(ledger.past, first - 1) if name == "frozen" else rise
            costs = costs_of(ledger, first, Gate(ledger, model.drift, stream.seed), stream.seed)
            found.append(Seen(stream.kind, stream.seed, name, stream.seeded, rise, costs))
    return found


def rise_of(past: Past, old: int) -> float:
    """By how much more the model made after batch `old` lost on the later batches, in the mean, than those made just before."""
    later = range(old + 2, len(past.n))
    return float(np.mean([past.loss[old, j] - past.loss[j - 1, j] for j in later]))


def costs_of(ledger: Ledger, first: int, gate: Gate, seed: int) -> dict[tuple[float, str], Cost]:
    """By (κ, policy)."""
    found = {}
    for kappa in KAPPAS:
        compared = compare(ledger, gate, {}, kappa, first, seed)
        plain = min(one.cost for one in compared.results if one.name in ("never", "always"))
        for one in compared.results:
            found[kappa, one.name] = Cost(compared.over(one), one.cost / plain, len(one.retrains))
    return found


def measure(rows: Rows, quick: bool) -> None:
    """Every stream, two at a time."""
    todo, seen = streams(quick), []
    with ProcessPoolExecutor(2) as pool:
        for number, several in enumerate(pool.map(look, todo), 1):
            seen += several
            print(f"  {number} of {len(todo)}: {several[0].kind} {several[0].seed}", file=sys.stderr, flush=True)
    for kind, model in dict.fromkeys((one.kind, one.model) for one in seen):
        _show(rows, [one for one in seen if (one.kind, one.model) == (kind, model)])


def _mean(seen: Sequence[Seen], kappa: float, policy: str, what: str) -> float | None:
    """The mean over the streams on which the policy could run; None where there is none."""
    values = [getattr(one.costs[kappa, policy], what) for one in seen if (kappa, policy) in one.costs]
    return float(np.mean(values)) if values else None


def _show(rows: Rows, seen: Sequence[Seen]) -> None:
    """The table of one kind of stream and model, and what the goals ask of it."""
    kind, model, rise = seen[0].kind, seen[0].model, float(np.mean([one.rise for one in seen]))
    count = f"{len(seen)} streams" if len(seen) > 1 else "one stream"
    title = f"{kind}, {model}: cost over the oracle's (retrains), mean of {count}; rise {rise:.3f}"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("policy")
    for kappa in KAPPAS:
        table.add_column(f"κ {kappa:g}", justify="right")
    policies = {policy for one in seen for _, policy in one.costs}

    def order(policy: str) -> tuple[bool, float, str]:
        return policy != ORACLE, _mean(seen, DEFAULT_KAPPA, policy, "over") or math.inf, policy

    for policy in sorted(policies, key=order):
        cells = []
        for kappa in KAPPAS:
            over, retrains = (_mean(seen, kappa, policy, what) for what in ("over", "retrains"))
            cells.append("–" if over is None else f"{over:.3f} ({retrains:.1f})")
            if over is not None:
                rows.note(f"{kind}, {model}, κ {kappa:g}: {policy}", over, "x oracle", f"{retrains:.1f} retrains")
        table.add_row(policy, *cells)
    Console(width=150).print(table)
    if kind == "static":
        for policy in (DEBT, PAIR):
            needless, named = _mean(seen, DEFAULT_KAPPA, policy, "retrains") or 0.0, TITLES.get(policy, policy)
            rows.add(f"{kind}, {model}: {named}, needless retrains", needless, "a stream", "<= 0.2", f"at κ 20, {count}")
    large = [kappa for kappa in KAPPAS if kappa >= FELT * rise]
    for policy in (DEBT, NO_GATE, PAIR):
        named = TITLES.get(policy, policy)
        if seen[0].seeded:
            over, kappa = max((_mean(seen, kappa, policy, "over") or math.inf, kappa) for kappa in KAPPAS)
            usual = _mean(seen, DEFAULT_KAPPA, policy, "over")
            told = f"at κ {kappa:g}, {count}; at κ {DEFAULT_KAPPA:g} {usual:.3f}"
            rows.add(f"{kind}, {model}: {named}, worst", over, "x oracle", "<= 1.3", told)
        if large:
            plain, kappa = max((_mean(seen, kappa, policy, "plain") or math.inf, kappa) for kappa in large)
            told = f"at κ {kappa:g}, worst from κ {FELT * rise:.0f} on ({FELT} x rise), {count}"
            rows.add(f"{kind}, {model}: {named} / never or always", plain, "ratio", "<= 1.1", told)


if __name__ == "__main__":
    main("Retrain policies against the best retrains in hindsight", measure)
