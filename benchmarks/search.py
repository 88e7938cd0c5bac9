"""A batch model search on 20,000 events in two worker processes: what successive halving saves; and what a winner costs to ask.

The same search is made with three rungs and with one, which fits every candidate to all of the window. What a gradient boosting
model that was fitted so takes to answer one event is measured in this process, frozen and under an online model.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from streamlearn.config import ModelSettings
from streamlearn.events import Limits
from streamlearn.keys import KeyRing
from streamlearn.learning.model import Model
from streamlearn.log import Entry, Log
from streamlearn.log.sqlite import SqliteLog
from streamlearn.retrain.job import WARM, FitSpec, Jobs
from streamlearn.retrain.pool import Pool
from streamlearn.retrain.search import Search

from .harness import Rows, electricity, main, quiet

EVENTS, SKIP = 20_000, 20_000
ASKED = 1000
WORKERS = 2
BOOSTING = "sklearn.ensemble:HistGradientBoostingClassifier"

Pairs = list[tuple[dict[str, float], bool]]


def filled(folder: Path, pairs: Pairs) -> Callable[[], Log]:
    """A log of these events."""
    open_log = functools.partial(SqliteLog, folder / "log.sqlite")
    log = open_log()
    log.create({"s": 1})
    events = [{"stream": "s", "id": f"e{number}", "x": x, "y": y} for number, (x, y) in enumerate(pairs)]
    for begin in range(0, len(events), 1000):
        entries = [Entry(b"k", msgspec.json.encode(event), partition=0) for event in events[begin : begin + 1000]]
        log.append("s", entries).result()
    log.close()
    return open_log


def searched(jobs: Jobs, events: int, rungs: int) -> tuple[float, dict[str, Any]]:
    """Seconds of a search from its beginning to its end, and its report."""
    table = {"stream": "s", "task": "binary", "pipeline": "logistic", "retrain": {"search": {"rungs": rungs}}}
    settings = ModelSettings.model_validate(table).model_dump(mode="json")
    began = time.perf_counter()
    found = Search(jobs.score, FitSpec("m", 2, 0, "s", 0, 0, events, 1, 42, 500, settings, {}, {})).result()
    return time.perf_counter() - began, found.report


def answers(pairs: Pairs, residual: bool) -> tuple[float, float]:
    """Microseconds to predict one event, and to predict and learn it: medians."""
    table = {"stream": "s", "task": "binary", "pipeline": BOOSTING, "params": {"max_iter": 50, "residual": residual}}
    model = Model(ModelSettings.model_validate(table), Limits(), live=False)
    for x, y in pairs[:-2 * ASKED]:
        model.learn(x, y)
    model.estimator.fit_gathered()
    alone, both = [], []
    for x, _ in pairs[-2 * ASKED : -ASKED]:
        began = time.perf_counter()
        model.predict(x)
        alone.append(time.perf_counter() - began)
    for x, y in pairs[-ASKED:]:
        began = time.perf_counter()
        model.predict(x)
        model.learn(x, y)
        both.append(time.perf_counter() - began)
    return 1e6 * statistics.median(alone), 1e6 * statistics.median(both)


def measure(rows: Rows, quick: bool) -> None:
    """Halving against all, then one event at a time."""
    events = 3000 if quick else EVENTS
    what, stream = electricity()
    pairs = stream[SKIP : SKIP + events]
    with quiet(), tempfile.TemporaryDirectory() as folder:
        jobs = Jobs(filled(Path(folder), pairs), KeyRing({"k1": b"0123456789abcdef"}), executor=Pool(WORKERS, WARM))
        try:
            searched(jobs, 1000, 1)  # the workers start, and import what they need
            wall, report = searched(jobs, events, 3)
            wall_all, report_all = searched(jobs, events, 1)
        finally:
            jobs.close()
        rows.add(f"{events:,} events of {what}: candidates", len(report["candidates"]), "candidates")
        rows.add("a search in three rungs", wall, "s")
        for number, rung in enumerate(report["rungs"], 1):
            name = f"rung {number}: {rung['candidates']} candidates, fitted to {rung['fitted']:,}"
            rows.add(name, rung["seconds"], "s of CPU")
        rows.add("every candidate fitted to all", wall_all, "s")
        spent, spent_all = (sum(one["seconds"] for one in told["candidates"]) for told in (report, report_all))
        rows.add("CPU of three rungs", spent / spent_all, "ratio", "<= 0.8", "every candidate fitted to all")
        losses = {told["winner"]: min(one["loss"] for one in told["candidates"] if one["name"] == told["winner"])
                  for told in (report_all, report)}  # fmt: skip
        for name, loss in losses.items():
            rows.add(f"loss of the winner {name}", loss, "mean loss")
        for residual in (False, True):
            how = "under an online model" if residual else "frozen"
            alone, both = answers(pairs, residual)
            rows.add(f"boosting of 50 trees, {how}: predict", alone, "µs")
            rows.add(f"boosting of 50 trees, {how}: predict and learn", both, "µs")


if __name__ == "__main__":
    main("Batch model search", measure)
