"""`streamlearn evaluate FILE...`: how good a model's recommendations would have been on one's own interactions.

The files are replayed in the order of time: each interaction is ranked before it is learned, by the very model that a service
with this configuration would run. Beside it stand what is popular and what is recent, over the same candidates. Nothing is sent
and nothing is kept. The interactions are held in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from ..config import ModelSettings, Settings, parse
from ..errors import ConfigError, EventError
from ..events import parse_time
from . import benches
from .console import counted, say, warn
from .recommend_report import as_json, draw, show

if TYPE_CHECKING:
    from ..learning.recommending import RecommendModel
    from ..recommend.measures import Measures

EVERY: Final = 256  # events between two looks at the progress
WORST: Final = 10  # bad lines that are shown
BASELINES: Final = ("recent", "popular")  # as `Recommender.baseline_ranks` has them
USUAL: Final[dict[str, tuple[str, ...]]] = {
    "--user": ("user", "user_id"),
    "--item": ("item", "item_id"),
    "--ts": ("ts", "timestamp"),
    "--action-column": ("action",),
    "--rating": ("rating",),
}

Records = dict[str, list[tuple[str, dict[str, Any]]]]  # by kind, "item" or "user": id and fields


class Columns(NamedTuple):
    """Which columns hold what; None for one that is not there. `context`: those that tell of the moment."""

    user: str
    item: str
    ts: str
    action: str | None
    rating: str | None
    context: tuple[str, ...]


class Acted(NamedTuple):
    """One interaction as the file has it."""

    ts: float
    user: str
    item: str
    action: str
    context: dict[str, Any]


class Read:
    """What the files hold: `acted` in their order, and what was left out: bad lines as (place, why), and ratings that were low.

    `highest` is the highest rating.
    """

    def __init__(self) -> None:
        self.acted: list[Acted] = []
        self.rows = self.low = 0
        self.bad: list[tuple[str, str]] = []
        self.highest: float | None = None
        self.sorted = True


class Result(NamedTuple):
    """The measures by contender; how many interactions were learned, how many were of actions that the settings do not name,
    and how many were not ranked: with items that are not shown to their users again, and passed over by `rank_every`."""

    measures: dict[str, Measures]
    learned: int
    unnamed: int
    repeated: int
    passed: int


def evaluate(
    files: Annotated[list[Path], typer.Argument(help="CSV, NDJSON (both also .gz) or Parquet.", show_default=False)],
    config: Annotated[
        Path | None, typer.Option(help="The configuration; without one, the defaults are tried.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which of its models, where several recommend.", show_default=False)] = None,
    user: Annotated[str | None, typer.Option(metavar="COLUMN", help="By default user or user_id.", show_default=False)] = None,
    item: Annotated[str | None, typer.Option(metavar="COLUMN", help="By default item or item_id.", show_default=False)] = None,
    ts: Annotated[str | None, typer.Option(metavar="COLUMN", help="By default ts or timestamp.", show_default=False)] = None,
    action: Annotated[
        str | None, typer.Option(metavar="NAME", help="What was done where no column says so; else like.", show_default=False)
    ] = None,
    action_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="By default action, if it is there.", show_default=False)
    ] = None,
    rating: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="By default rating, if it is there.", show_default=False)
    ] = None,
    min_rating: Annotated[float, typer.Option(help="Lower ratings are left out.")] = 7.0,
    context: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Tells of the moment. Repeatable.", show_default=False)
    ] = None,
    items: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What items are: the item's column and fields.", show_default=False)
    ] = None,
    users: Annotated[Path | None, typer.Option(metavar="FILE", help="The same of users.", show_default=False)] = None,
    json: benches.Json = None,
    plot: benches.Plot = None,
) -> None:
    """Replay interactions, each ranked before it is learned: hit rate, NDCG, MRR, coverage, novelty, diversity, cold starts."""
    options = {"--user": user, "--item": item, "--ts": ts, "--action-column": action_column, "--rating": rating}
    if plot is not None:
        benches.check_plot(plot)
    found = Read()
    with benches.progress() as bar:
        for file in files:
            task = bar.add_task(f"reading {file.name}", total=file.stat().st_size if file.is_file() else None)
            for done in read(found, file, options, action or "like", min_rating, tuple(context or ())):
                bar.update(task, completed=done)
    name, settings = settings_for(config, model, found.acted)
    tell(found, files)
    records = {
        "item": [] if items is None else list(of_records(items, "--item", item)),
        "user": [] if users is None else list(of_records(users, "--user", user)),
    }
    found.acted.sort(key=lambda one: one.ts)
    result = measure(name, settings, found.acted, records)
    views = {who: one.view() for who, one in result.measures.items()}
    show(views)
    for count, why in (
        (result.unnamed, "of actions that the settings do not name"),
        (result.repeated, "with items that are not shown to their users again"),
        (result.passed, "passed over by rank_every"),
    ):
        if count:
            say(f"Not ranked: {counted(count, 'interaction')} {why}.")
    if json is not None:
        about = {"files": [str(file) for file in files], "rows": found.rows, "bad": len(found.bad), "low": found.low}
        counts = {"learned": result.learned, "repeated": result.repeated, "unnamed": result.unnamed, "passed": result.passed}
        benches.write_json(json, {**about, **counts, **as_json(views)})
    if plot is not None:
        draw(views, plot, title=f"{name}: NDCG@{settings.models[name].recommend.k} by day, ranked before it was learned")
        say(f"wrote {plot}")


def settings_for(config: Path | None, model: str | None, acted: Sequence[Acted]) -> tuple[str, Settings]:
    """The model's name, and settings that have it: without a configuration the defaults, where a single action is worth 1.

    Raises ConfigError."""
    if config is None:
        if model is not None:
            raise ConfigError("--model", "is given without a configuration", "Name that with --config, or leave both out")
        from ..recommend.ranker import DEFAULT

        tree: dict[str, Any] = {"stream": "evaluated", "task": "recommend", "pipeline": DEFAULT, "recommend": {}}
        named = {one.action for one in acted}
        if len(named) == 1:
            tree["recommend"]["actions"] = dict.fromkeys(named, 1.0)
        return "streamlearn", parse({"streams": {"evaluated": {}}, "models": {"streamlearn": tree}}, {})
    from . import wiring

    settings = wiring.read_settings(config, os.environ)
    those = sorted(name for name, one in settings.models.items() if one.task == "recommend")
    if model is None and len(those) == 1:
        model = those[0]
    if model not in those:
        what = "which model is meant?" if model is None else f"{model!r} is no model that recommends"
        raise ConfigError("--model", what, f"Write one of {those}" if those else 'None has task = "recommend"')
    return model, settings


def read(
    found: Read, file: Path, options: dict[str, str | None], acting: str, least: float, context: tuple[str, ...]
) -> Iterator[int]:
    """Take a file in; how far it was read is given now and then. Raises ConfigError for columns that are not there."""
    from . import rows

    columns = columns_of(file, options, context)
    kept = frozenset({columns.user, columns.item})
    drop = frozenset({"x"} if rows.kind_of(file) == "ndjson" else ())  # of events as the API takes them
    source = rows.Source(file, rows.Mapped(ts=columns.ts, text=kept, drop=drop), "evaluated")
    for number, row in source:
        found.rows += 1
        try:
            if isinstance(row, EventError):
                raise row
            one = _acted(row, columns, acting)
            worth = _rating(row, columns)
        except EventError as error:
            place = f"line {source.line}" if source.line else f"row {number}"
            found.bad.append((f"{file.name}, {place}", f"{error.field}: {error.detail}"))
            continue
        if worth is not None:
            found.highest = worth if found.highest is None else max(found.highest, worth)
            if worth < least:
                found.low += 1
                continue
        found.sorted = found.sorted and (not found.acted or found.acted[-1].ts <= one.ts)
        found.acted.append(one)
        if number % EVERY == 0:
            yield source.done
    yield source.total


def columns_of(file: Path, options: dict[str, str | None], context: tuple[str, ...]) -> Columns:
    """What the columns of the file are: as the options say, else by their usual names. Raises ConfigError."""
    there = _header(file)
    named = {}
    for option, usual in USUAL.items():
        wanted = options[option]
        if wanted is not None and wanted not in there:
            raise ConfigError(option, f"{file.name} has no column {wanted!r}", f"It has {', '.join(there)}")
        named[option] = wanted or next((name for name in usual if name in there), None)
    for name in context:
        if name not in there:
            raise ConfigError("--context", f"{file.name} has no column {name!r}", f"It has {', '.join(there)}")
    needed = [_needed(named, option, file, there) for option in ("--user", "--item", "--ts")]
    return Columns(needed[0], needed[1], needed[2], named["--action-column"], named["--rating"], context)


def _needed(named: dict[str, str | None], option: str, file: Path, there: Sequence[str]) -> str:
    column = named[option]
    if column is None:
        raise ConfigError(option, f"{file.name} has no column {' or '.join(USUAL[option])}", f"It has {', '.join(there)}")
    return column


def _header(file: Path) -> list[str]:
    """The columns of the first row that is one."""
    from . import rows

    for _, row in rows.Source(file, rows.Mapped(), "evaluated"):
        if not isinstance(row, EventError):
            return list(row if rows.kind_of(file) == "ndjson" else row["x"])
    raise ConfigError(str(file), "has no row that can be read", "Name another file")


def _acted(row: dict[str, Any], columns: Columns, acting: str) -> Acted:
    """The interaction of a row. Raises EventError for a row that is none."""
    cells = row.get("x", {})
    for option, column in (("user", columns.user), ("item", columns.item)):
        if cells.get(column) is None:
            raise EventError("shape", column, f"is missing; it is the {option}")
    if row.get("ts") is None:
        raise EventError("shape", columns.ts, "is missing; it is the time")
    action = acting if columns.action is None else cells.get(columns.action)
    if not isinstance(action, str):
        raise EventError("shape", columns.action or "action", "is missing" if action is None else f"{action!r} is no text")
    told = {name: cells[name] for name in columns.context if cells.get(name) is not None}
    return Acted(parse_time(row["ts"]), cells[columns.user], cells[columns.item], action, told)


def _rating(row: dict[str, Any], columns: Columns) -> float | None:
    """The rating of a row, None where there are none. Raises EventError for what is no number."""
    if columns.rating is None:
        return None
    value = row["x"].get(columns.rating)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EventError("shape", columns.rating, "is missing" if value is None else f"{value!r} is no number")
    return float(value)


def of_records(file: Path, option: str, named: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """What items or users are: (id, fields) of each row. Raises ConfigError, with the line, for one that cannot be used."""
    from . import rows

    there = _header(file)
    column = named if named in there else next((name for name in (*USUAL[option], "id") if name in there), None)
    if column is None:
        usual = named or " or ".join(USUAL[option])
        raise ConfigError(option, f"{file.name} has no column {usual}", f"It has {', '.join(there)}")
    source = rows.Source(file, rows.Mapped(text=frozenset({column})), "evaluated")
    for number, row in source:
        place = f"{file}, line {source.line}" if source.line else f"{file}, row {number}"
        if isinstance(row, EventError):
            raise ConfigError(place, f"{row.field}: {row.detail}", "Mend the row, or leave it out")
        fields = dict(row["x"])
        name = fields.pop(column)
        if name is None:
            raise ConfigError(place, f"{column}: is missing", "Mend the row, or leave it out")
        yield name, fields


def tell(found: Read, files: Sequence[Path]) -> None:
    """What was read, and what was not. Raises ConfigError when nothing is left."""
    for place, why in found.bad[:WORST]:
        warn(f"left out: {place}: {why}")
    if len(found.bad) > WORST:
        warn(f"left out: {counted(len(found.bad) - WORST, 'more bad line')}")
    names = ", ".join(file.name for file in files)
    if not found.acted:
        if found.low:
            problem = f"no rating in {names} is so high; the highest is {found.highest:g}"
            raise ConfigError("--min-rating", problem, "Write a lower one")
        raise ConfigError(names, "holds no interaction", "Name another file")
    low = f", {found.low:,} low ratings left out" if found.low else ""
    say(f"Read: {names}, {counted(len(found.acted), 'interaction')}{low}")
    if not found.sorted:
        say("They were not in the order of time, and have been put into it.")


def measure(name: str, settings: Settings, acted: Sequence[Acted], records: Records) -> Result:
    """Rank, measure, learn. Raises ConfigError for interactions of which the model's settings name no action, ModelError."""
    from ..learning.recommending import RecommendModel
    from ..learning.replay import limits_of
    from ..recommend.measures import Measures

    chosen = settings.models[name]
    weights = chosen.recommend.actions
    if not any(weights.get(one.action, 0.0) > 0 for one in acted):
        told = sorted({one.action for one in acted})[:WORST]
        known = ", ".join(f"{action} = {weight:g}" for action, weight in weights.items())
        raise ConfigError("--action", f"{name} learns nothing from {', '.join(told)}", f"Its actions are {known}")
    model = RecommendModel(chosen, limits_of(settings))
    own = name if name not in BASELINES else f"model {name}"
    measures = {who: Measures(chosen.recommend.k) for who in (own, *BASELINES)}
    replay = _Replay(model, chosen, measures)
    for kind, some in records.items():
        for id, fields in some:
            replay.fact(kind, id, fields, acted[0].ts)
    with benches.progress() as bar:
        task = bar.add_task("ranking, then learning", total=len(acted))
        for number, one in enumerate(acted, 1):
            replay.take(one, weights.get(one.action))
            if number % EVERY == 0:
                bar.update(task, completed=number)
        bar.update(task, completed=len(acted))
    return Result(measures, replay.learned, replay.unnamed, replay.repeated, replay.passed)


class _Replay:
    """One pass of a model over interactions."""

    def __init__(self, model: RecommendModel, settings: ModelSettings, measures: dict[str, Measures]) -> None:
        self._model, self._measures, self._k = model, list(measures.values()), settings.recommend.k
        self._tokens: dict[str, frozenset[str]] = {}
        self.learned = self.unnamed = self.repeated = self.passed = 0

    def fact(self, kind: str, id: str, fields: dict[str, Any], ts: float) -> None:
        """What an item or a user is."""
        self._model.teach(kind, {"name": id, "action": "$set", "x": fields, "ts": ts})
        if kind == "item":
            state = self._model.estimator.state
            self._tokens[id] = frozenset(state.content.tokens_of(state.fields_of(id)))

    def take(self, one: Acted, weight: float | None) -> None:
        """Rank and measure it where it was wanted, and learn it."""
        from ..recommend.state import Interaction

        if weight is None:
            self.unnamed += 1
            return
        x = {
            "user": one.user, "item": one.item, "action": one.action, "weight": weight, "ts": one.ts, "context": one.context,
            "organic": True,
        }  # fmt: skip
        if weight <= 0:
            self.learned += 1
            self._model.teach("interaction", x)
            return
        state = self._model.estimator.state
        places = (state.users, state.user_row(one.user)), (state.items, state.item_ids.row_of(one.item))
        cold = [row < 0 or not table.cells["n"][row] for table, row in places]
        rank, others = self._model.predict(x)
        if rank is not None:
            self._measure(one, (rank, *others), cold)
        elif self._model.estimator.left_out(Interaction(one.user, one.item, one.action, weight, one.ts)):
            self.repeated += 1
        else:
            self.passed += 1
        self._model.learn(x, 1)
        self.learned += 1

    def _measure(self, one: Acted, ranks: Sequence[int], cold: Sequence[bool]) -> None:
        estimator = self._model.estimator
        state = estimator.state
        touched = state.items.raw["n"]
        available = state.counts()["available"]
        for measures, rank, source in zip(self._measures, ranks, (None, *BASELINES), strict=True):
            rows = estimator.listed(self._k, source)
            shown = [state.item_ids.id_of(row) for row in rows]
            shares = [touched[row] / max(1, self.learned) for row in rows]
            tokens = [self._tokens.get(item, frozenset()) for item in shown]
            measures.add(rank or None, shown, shares, tokens, cold[0], cold[1], one.ts, available=available or None)
