"""What several recommenders made of one stream: a table of their measures side by side, and their days as a picture.

Each is given by its name and the view of its `recommend.measures.Measures`, as it is or read from JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from .console import console, say, table

SMOOTH: Final = 7  # days
COLORS: Final = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C8", "C9")  # C7 is grey
STYLES: Final = ("-", (0, (5, 2)), (0, (1, 1.2)))  # where the colours are used up

View = Mapping[str, Any]


def ordered(views: Mapping[str, View]) -> list[str]:
    """The contenders by NDCG, the best first; those without events last. Raises ConfigError for none, or for different k."""
    if not views:
        raise ConfigError("contenders", "there are none", "Name one at least")
    depths = {name: view["k"] for name, view in views.items()}
    if len(set(depths.values())) > 1:
        told = ", ".join(f"{name} {k}" for name, k in depths.items())
        raise ConfigError("k", f"the contenders were measured at different depths: {told}", "Measure all at the same one")
    return sorted(views, key=lambda name: -1.0 if views[name]["ndcg"] is None else views[name]["ndcg"], reverse=True)


def show(views: Mapping[str, View]) -> None:
    """All measures in two tables, the best contender first. Raises ConfigError as `ordered` does."""
    names = ordered(views)
    first = views[names[0]]
    k, window = first["k"], first["coverage"]["window_days"]
    made = table(
        "contender", ">events", f">HR@{k}", f">NDCG@{k}", ">of the best", f">MRR@{k}", ">MRR", ">coverage",
        f">of {window} days", ">novelty", ">diversity",
    )  # fmt: skip
    for name in names:
        view = views[name]
        coverage = view["coverage"]
        best = _over(view["ndcg"], first["ndcg"])
        made.add_row(
            name, f"{view['events']:,}", _share(view["hr"]), _share(view["ndcg"]), _number(best, 2),
            _share(view["mrr"]), _share(view["mrr_full"]), _covered(coverage, ""), _covered(coverage, "window_"),
            _number(view["novelty"], 2), _number(view["diversity"], 3),
        )  # fmt: skip
    console().print(made)
    cold = table(
        "contender", ">cold events", ">new users", ">new items", f">NDCG@{k}: warm", ">cold", ">new user", ">new item",
        ">never touched",
    )  # fmt: skip
    for name in names:
        view = views[name]
        start, split = view["cold_start"], view["split"]
        cold.add_row(
            name, _percent(start["cold"]), _percent(start["new_user"]), _percent(start["new_item"]),
            *(_share(split[part]["ndcg"]) for part in ("warm", "cold", "new_user", "new_item")), _percent(view["untouched"]),
        )  # fmt: skip
    console().print(cold)
    say(
        "Each event was ranked before it was learned; an item that was not ranked is a miss. Coverage: distinct items shown of"
        f" those available, ever and in the last {window} days. Novelty: bits, the mean of −log2 of the shown items' share of"
        " all interactions. Diversity: 1 − likeness of two items of a list. Never touched: shown items nobody had touched."
    )


def as_json(views: Mapping[str, View]) -> dict[str, Any]:
    """The contenders for programs, the best first. Raises ConfigError as `ordered` does."""
    names = ordered(views)
    return {"k": views[names[0]]["k"], "contenders": {name: views[name] for name in names}}


def rolling(days: Sequence[Mapping[str, Any]], measure: str, width: int) -> tuple[list[date], list[float]]:
    """The measure's mean over the events of the `width` days up to each day that has events: (days, means).

    Days without events add nothing, and break the curve: a day after more than `width` empty ones is preceded by a nan.
    """
    dates, means = [], []
    window: list[tuple[date, int, float]] = []
    for one in days:
        day, events = date.fromisoformat(one["day"]), one["events"]
        if window and (day - window[-1][0]).days > width:
            dates.append(window[-1][0] + timedelta(days=1))
            means.append(math.nan)
        window = [entry for entry in window if (day - entry[0]).days < width]
        window.append((day, events, one[measure]))
        dates.append(day)
        means.append(sum(count * value for _, count, value in window) / sum(count for _, count, _ in window))
    return dates, means


def draw(
    views: Mapping[str, View],
    path: Path,
    *,
    width: int = SMOOTH,
    title: str | None = None,
    marks: Mapping[str, str] | None = None,
) -> None:
    """NDCG by day: each contender's mean over the last `width` days, and in the background each day for itself.

    `marks` are days (ISO) with what happened then, drawn as dashed lines. Raises ConfigError as `ordered` does.
    """
    import matplotlib
    import matplotlib.figure

    names = ordered(views)
    k = views[names[0]]["k"]
    with matplotlib.rc_context({"date.converter": "concise"}):
        figure = matplotlib.figure.Figure(figsize=(11, 5), layout="constrained")
        axes = figure.subplots()
        most = 0.0
        for place, name in enumerate(names):
            days = views[name]["days"]
            color, style = COLORS[place % len(COLORS)], STYLES[place // len(COLORS) % len(STYLES)]
            if len(names) <= len(COLORS):  # more would hide the curves
                alone = [one["ndcg"] for one in days]
                axes.plot(_times(one["day"] for one in days), alone, ".", color=color, alpha=0.25, markersize=4, zorder=2)
            dates, means = rolling(days, "ndcg", width)
            axes.plot(
                _times(dates), means, color=color, linestyle=style, linewidth=2, marker="o" if len(dates) == 1 else "",
                label=f"{name}  {_share(views[name]['ndcg'])}", zorder=3 + len(names) - place,
            )  # fmt: skip
            most = max([most, *(mean for mean in means if not math.isnan(mean))])
        for day, what in (marks or {}).items():
            [at] = _times([day])
            axes.axvline(at, color="0.3", linestyle="--", linewidth=1)
            axes.annotate(
                what, (at, 1), xycoords=("data", "axes fraction"), xytext=(4, -4), textcoords="offset points",
                va="top", fontsize=9, color="0.3",
            )  # fmt: skip
        axes.set_ylim(0, 1.25 * most if most else 1)
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_ylabel(f"NDCG@{k}, mean of the last {width} days  (dots: one day)")
        axes.set_title(title or f"NDCG@{k} by day, each event ranked before it was learned")
        figure.legend(loc="outside right upper", frameon=False, title=f"NDCG@{k} over all")
        figure.savefig(path)


def _times(days: Iterable[date | str]) -> Any:
    """Days as matplotlib takes them."""
    import numpy as np

    return np.array(list(days), dtype="datetime64[D]")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _over(value: float | None, best: float | None) -> float | None:
    return None if value is None or not best else value / best


def _covered(coverage: Mapping[str, Any], which: str) -> str:
    """The share, or how many where it is not known of how many."""
    share = coverage[f"{which}share"]
    return f"{coverage[f'{which}shown']:,}" if share is None else _percent(share)
