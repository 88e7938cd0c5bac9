"""`streamlearn off-policy FILE`: what another policy would have earned, from a log that holds the propensities of its choices.

The target policy is given by a column with its propensity of each logged action, or by rows of its own in the same file, where
it was tried beside the log's: then its propensities are how often it chose each action there (by position and campaign, where
these are named), and its own mean reward is the truth that the estimates are held against.
"""

from __future__ import annotations

from array import array
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from ..errors import ConfigError, EventError
from . import benches
from .console import say
from .off_policy_report import Group, Report, as_json, draw, show

if TYPE_CHECKING:
    from ..recommend.offpolicy import Floats, Interval
    from .rows import Source

EVERY: Final = 4096  # rows between two looks at the progress
WHOLE: Final = "together"


class Kind(StrEnum):
    """How the intervals are made; see `recommend.offpolicy`."""

    hall = "hall"
    normal = "normal"
    bootstrap = "bootstrap"
    bernstein = "bernstein"


class Columns(NamedTuple):
    """Which columns are read, and which policies they are of; None for one that was not named."""

    reward: str
    propensity: str
    policy: str | None
    logged: str | None
    target: str | None
    action: str | None
    position: str | None
    campaign: str | None
    target_propensity: str | None

    def named(self) -> dict[str, str]:
        """Column by the option that names it."""
        options = {
            "--reward": self.reward, "--propensity": self.propensity, "--policy-column": self.policy, "--action": self.action,
            "--position": self.position, "--campaign": self.campaign, "--target-propensity": self.target_propensity,
        }  # fmt: skip
        return {option: column for option, column in options.items() if column is not None}


class Side:
    """The rows of one policy: reward, propensities and codes of context, action and campaign, each (n,)."""

    def __init__(self) -> None:
        self.reward, self.propensity, self.target = array("d"), array("d"), array("d")
        self.context, self.action, self.campaign = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self.reward)


class Read(NamedTuple):
    """A file as numbers: the rows of the log and of the target, and what the codes stand for."""

    log: Side
    own: Side
    contexts: dict[tuple[str, str], int]
    actions: dict[str, int]
    campaigns: dict[str, int]


def off_policy(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON (both also .gz) or Parquet.", show_default=False)],
    reward: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the reward, such as a click.", show_default=False)],
    propensity: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column with the log's probability of what was chosen.", show_default=False)
    ],
    policy_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column that says which policy chose.", show_default=False)
    ] = None,
    logged: Annotated[
        str | None, typer.Option(metavar="NAME", help="The policy in it whose rows are the log.", show_default=False)
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="The policy in it that is to be estimated.", show_default=False)
    ] = None,
    target_propensity: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", show_default=False,
            help="Column with the target's probability of the logged action, instead of rows of its own.",
        ),
    ] = None,
    action: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column with the action, such as an item.", show_default=False)
    ] = None,
    position: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column with the position: policies choose differently by it.", show_default=False),
    ] = None,
    campaign: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column by which estimates are made apart as well.", show_default=False),
    ] = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.9999, help="The level of the intervals.")] = 0.95,
    interval: Annotated[
        Kind,
        typer.Option(help="How they are made: hall allows for skewness; bernstein holds at any size, and is wide."),
    ] = Kind.hall,
    clip: Annotated[
        float | None,
        typer.Option(metavar="WEIGHT", help="Take no weight for larger: less spread, some bias.", show_default=False),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the doubly robust estimate's reward model.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds and the bootstrap.")] = 0,
    json: benches.Json = None,
    plot: benches.Plot = None,
) -> None:  # fmt: skip
    """Estimate a policy's mean reward from the log of another, with intervals: IPS, self-normalised and doubly robust."""
    from ..recommend.offpolicy import Interval

    columns = Columns(reward, propensity, policy_column, logged, target, action, position, campaign, target_propensity)
    check(columns)
    if clip is not None and not 0 < clip < float("inf"):
        raise ConfigError("--clip", f"{clip} is not above 0", "Weights are 1 on average; write 20, say, or leave it out")
    if plot is not None:
        benches.check_plot(plot)
    found = read(file, columns)
    report = measure(str(file), found, columns, Interval(interval.value, level, clip, seed=seed), folds)
    show(report)
    if json is not None:
        benches.write_json(json, as_json(report))
    if plot is not None:
        draw(report, plot)
        say(f"wrote {plot}")


def check(columns: Columns) -> None:
    """Raises ConfigError for options that do not say which rows are the log, or what the target would do."""
    if (columns.policy is None) != (columns.logged is None):
        missing, given = ("--policy-column", "--logged") if columns.policy is None else ("--logged", "--policy-column")
        raise ConfigError(missing, f"is missing, and {given} is given", "Give both, or neither: then every row is the log")
    if columns.target is not None and columns.policy is None:
        raise ConfigError("--policy-column", "is missing, and --target is given", "Name the column that says who chose")
    if columns.target is not None and columns.target == columns.logged:
        raise ConfigError("--target", f"{columns.target!r} is the log's own policy", "Name another one")
    if columns.target_propensity is None:
        if columns.target is None:
            raise ConfigError("--target", "is missing", "Name the policy to estimate, or a column with --target-propensity")
        if columns.action is None:
            raise ConfigError("--action", "is missing", "Name the column of what was chosen, to count the target's choices")


def read(file: Path, columns: Columns) -> Read:
    """The file as numbers. Raises ConfigError, with the line, for a row that cannot be used."""
    from . import rows

    source = rows.Source(file, rows.Mapped(), "off-policy")
    found = Read(Side(), Side(), {}, {}, {})
    with benches.progress() as bar:
        task = bar.add_task("reading", total=source.total)
        for number, row in source:
            if isinstance(row, EventError):
                raise _wrong(source, number, f"{row.field}: {row.detail}")
            cells = row.get("x", row)
            if number == 1:
                for option, column in columns.named().items():
                    if column not in cells:
                        raise ConfigError(option, f"{file.name} has no column {column!r}", f"It has {', '.join(cells)}")
            try:
                _take(found, cells, columns)
            except ValueError as error:
                raise _wrong(source, number, str(error)) from None
            if number % EVERY == 0:
                bar.update(task, completed=source.done)
        bar.update(task, completed=source.total)
    for option, name, side in (("--logged", columns.logged, found.log), ("--target", columns.target, found.own)):
        if not len(side) and (name is not None or side is found.log):
            what = "has no rows" if name is None else f"no row of {file.name} is of policy {name!r}"
            raise ConfigError(option if name is not None else str(file), what, "Name another policy, or another file")
    return found


def _take(found: Read, cells: dict[str, Any], columns: Columns) -> None:
    """Keep the row. Raises ValueError for one that cannot be used."""
    name = None if columns.policy is None else str(cells.get(columns.policy))
    if name == columns.logged:
        side = found.log
    elif columns.target is not None and name == columns.target:
        side = found.own
    else:
        return
    campaign, position = _text(cells, columns.campaign), _text(cells, columns.position)
    reward = _number(cells, columns.reward)
    propensity = target = 0.0
    if side is found.log:
        propensity = _number(cells, columns.propensity)
        if not 0 < propensity <= 1:
            raise ValueError(f"{columns.propensity}: {propensity:g} lies outside (0, 1]")
        if columns.target_propensity is not None:
            target = _number(cells, columns.target_propensity)
            if not 0 <= target <= 1:
                raise ValueError(f"{columns.target_propensity}: {target:g} lies outside [0, 1]")
    action = _text(cells, columns.action)
    side.reward.append(reward)
    side.propensity.append(propensity)
    side.target.append(target)
    side.context.append(found.contexts.setdefault((campaign, position), len(found.contexts)))
    side.action.append(found.actions.setdefault(action, len(found.actions)))
    side.campaign.append(found.campaigns.setdefault(campaign, len(found.campaigns)))


def _number(cells: dict[str, Any], column: str) -> float:
    value = cells.get(column)
    if value is None:
        raise ValueError(f"{column}: is missing")
    if not isinstance(value, int | float) or abs(value) == float("inf"):
        raise ValueError(f"{column}: {value!r} is no finite number")
    return float(value)


def _text(cells: dict[str, Any], column: str | None) -> str:
    if column is None:
        return ""
    value = cells.get(column)
    if value is None:
        raise ValueError(f"{column}: is missing")
    return str(value)


def _wrong(source: Source, number: int, problem: str) -> ConfigError:
    place = f"line {source.line}" if source.line else f"row {number}"
    return ConfigError(f"{source.path}, {place}", problem, "Mend the row, or leave it out")


def measure(source: str, found: Read, columns: Columns, how: Interval, folds: int) -> Report:
    """The estimates of every campaign, and of all of them. Raises ConfigError."""
    import numpy as np

    from ..recommend import offpolicy

    log, own = found.log, found.own
    table, chosen = None, None
    if columns.target is not None and columns.action is not None:
        context, action = np.array(own.context), np.array(own.action)
        table = offpolicy.shares(context, action, len(found.contexts), len(found.actions))
        chosen = np.bincount(context, minlength=len(found.contexts))
        needed = np.bincount(np.array(log.context), minlength=len(found.contexts)) > 0
        if columns.target_propensity is None and (needed & (chosen == 0)).any():
            (campaign, position) = list(found.contexts)[int(np.argmax(needed & (chosen == 0)))]
            where = [f"{name} {value}" for name, value in ((columns.campaign, campaign), (columns.position, position)) if name]
            raise ConfigError(
                "--target", f"no row of {columns.target!r} is of {', '.join(where)}", "Its choices there are not known"
            )
    groups: list[str | None] = [None] if len(found.campaigns) == 1 else [*sorted(found.campaigns), None]
    seen = set(log.campaign)
    lacking = [name for name, code in found.campaigns.items() if code not in seen]
    if lacking:
        raise ConfigError("--logged", f"no row of {columns.logged!r} is of {columns.campaign} {lacking[0]}", "Leave it out")
    made = []
    with benches.progress() as bar:
        task = bar.add_task("estimating", total=len(groups))
        for name in groups:
            here, there = (
                np.ones(len(side), dtype=bool) if name is None else np.array(side.campaign) == found.campaigns[name]
                for side in (log, own)
            )  # fmt: skip
            label = WHOLE if name is None else name
            made.append(_group(label, _arrays(log, here), _arrays(own, there), table, chosen, columns, how, folds))
            bar.advance(task)
    return Report(source, columns.logged, columns.target, columns.reward, how, made, table is not None)


def _arrays(side: Side, which: Any) -> dict[str, Any]:
    import numpy as np

    return {name: np.array(values)[which] for name, values in vars(side).items()}


def _group(
    name: str,
    log: dict[str, Any],
    own: dict[str, Any],
    table: Floats | None,
    chosen: Any,
    columns: Columns,
    how: Interval,
    folds: int,
) -> Group:
    """One campaign, or all. `table` holds the target's shares, where it has rows. Raises ConfigError."""
    import numpy as np

    from ..recommend import offpolicy

    reward, propensity, context, action = log["reward"], log["propensity"], log["context"], log["action"]
    unsupported = mix = None
    if table is not None:
        contexts = table.shape[0]
        logged = np.bincount(context * table.shape[1] + action, minlength=table.size).reshape(table.shape) > 0
        rows, ours = np.bincount(context, minlength=contexts), np.bincount(own["context"], minlength=contexts)
        unsupported = float((rows / rows.sum()) @ (table * ~logged).sum(axis=1))
        mix = float(np.abs(rows / max(1, rows.sum()) - ours / max(1, ours.sum())).sum() / 2) if ours.sum() else None
    if columns.target_propensity is not None:
        target = log["target"]
    else:
        assert table is not None
        target = table[context, action]
        how = how._replace(more=offpolicy.share_variance(reward, propensity, context, action, table, chosen))
    try:
        found = [offpolicy.ips(reward, propensity, target, how), offpolicy.snips(reward, propensity, target, how)]
        if table is not None:
            model = offpolicy.cross_fitted(reward, context, action, table, folds, how.seed)
            found.append(offpolicy.doubly_robust(reward, propensity, target, *model, how))
    except ValueError as error:
        raise ConfigError(name, str(error), "Name another campaign, or another file") from None
    return Group(
        name=name,
        logged=offpolicy.own(reward, columns.logged or "the log", how.level),
        truth=offpolicy.own(own["reward"], columns.target or "", how.level) if len(own["reward"]) else None,
        estimates=found,
        health=offpolicy.health(propensity, target, how.clip),
        unsupported=unsupported,
        mix=mix,
    )
