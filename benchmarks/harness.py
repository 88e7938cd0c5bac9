"""What the benchmarks share: arguments, rows with goals, the table, the JSON file, real or generated streams.

A row is `{name, value, unit, goal, reference}`; a goal such as ">= 0.6" is shown as met or missed, never enforced.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import operator
import os
import random
import signal
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


class Rows:
    """The rows of one program, in order."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.plot: Path | None = None  # where a picture is to go
        self.rows: list[dict[str, Any]] = []
        self.notes: list[dict[str, Any]] = []

    def note(self, name: str, value: float, unit: str, reference: str = "") -> None:
        """A figure for the file alone: the program shows it in a table of its own."""
        self.notes.append({"name": name, "value": _short(value), "unit": unit, "goal": None, "reference": reference})

    def add(self, name: str, value: float, unit: str, goal: str | None = None, reference: str = "") -> None:
        """A measured figure; `goal` like ">= 0.6", `reference` names what a ratio was taken against."""
        self.rows.append({"name": name, "value": _short(value), "unit": unit, "goal": goal, "reference": reference})
        print(f"  {name}: {value:.4g} {unit}", file=sys.stderr, flush=True)

    def show(self) -> None:
        """The table, on standard output."""
        table = Table(title=self.title)
        for column in ("name", "value", "unit", "goal", "", "reference"):
            table.add_column(column, justify="right" if column == "value" else "left")
        for row in self.rows:
            verdict = "" if row["goal"] is None else ("met" if meets(row["value"], row["goal"]) else "missed")
            table.add_row(row["name"], f"{row['value']:,.4g}", row["unit"], row["goal"] or "", verdict, row["reference"])
        Console().print(table)


def meets(value: float, goal: str) -> bool:
    """Whether `value` meets a goal such as ">= 0.6", "> 0" or "<= 1000"."""
    sign, _, bound = goal.partition(" ")
    return {">=": operator.ge, ">": operator.gt, "<=": operator.le}[sign](value, float(bound))


def _short(value: float) -> float:
    """To six digits: a small gain must not be rounded to none."""
    return float(f"{value:.6g}")


def main(title: str, measure: Callable[[Rows, bool], None], plots: bool = False) -> None:
    """Parse `--quick`, `--json FILE` and, of one that `plots`, `--plot FILE`; measure, print the table, write the file.

    A SIGTERM ends it, and what it started."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="a smaller workload, done within 45 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE too")
    if plots:
        parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a picture, as .svg or .png")
    options = parser.parse_args()
    rows = Rows(title)
    rows.plot = options.plot if plots else None
    measure(rows, options.quick)
    rows.show()
    if options.json:
        options.json.write_text(json.dumps(rows.rows + rows.notes, indent=1) + "\n")


def median_ratio(ours: Sequence[float], reference: Sequence[float]) -> float:
    """The median over pairs of runs taken one after the other, so that a machine that slows down slows both."""
    return statistics.median(mine / other for mine, other in zip(ours, reference, strict=True))


def electricity() -> tuple[str, list[tuple[dict[str, float], bool]]]:
    """(what it is, rows): Elec2 without its date when `STREAMLEARN_DATA` holds it, else a generated stream of its shape."""
    folder = os.environ.get("STREAMLEARN_DATA")
    path = Path(folder) / "electricity" / "elecNormNew.csv.gz" if folder else None
    if path is not None and path.exists():
        with gzip.open(path, "rt") as file:
            rows = [
                ({k: float(v) for k, v in row.items() if k not in ("date", "class")}, row["class"] == "UP")
                for row in csv.DictReader(file)
            ]
        return "electricity", rows
    return "generated (set STREAMLEARN_DATA for electricity)", list(_generated(45_312))


def _generated(n: int) -> Iterator[tuple[dict[str, float], bool]]:
    rng = random.Random(42)
    names = ("day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
    for _ in range(n):
        x = {name: rng.random() for name in names}
        yield x, x["nswprice"] + 0.5 * x["nswdemand"] + rng.gauss(0, 0.2) > 0.75


@contextmanager
def quiet() -> Iterator[None]:
    """River and uvicorn say nothing while we measure."""
    import logging

    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
