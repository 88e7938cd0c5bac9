"""Whether the loop pays: a recipe alone, the same under watch, confirmation, retrain and trial, and river's adaptive models.

Every stream is learned test-then-train, with labels at once. Two recipes are compared with themselves: logistic regression
(softmax for several classes), which unlearns by itself what no longer holds, and a Hoeffding tree, which forgets nothing. The
loop is the service's own code (`closed_loop`) at its defaults; river's adaptive tree and forest are river's own, bare.

Real streams and files with known drifts come from `STREAMLEARN_DATA`; generated ones turn from one concept to another
abruptly in the middle: 20 seeds of each of five kinds, the trees on fewer of them. A difference to the recipe alone has a 95 %
interval: over blocks of one stream's events (a bootstrap), or over the seeds of a kind (Student's t).
"""

from __future__ import annotations

import csv
import gzip
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from river import forest, tree
from scipy import stats

from streamlearn.config import Settings, parse
from streamlearn.records import Decision

from .closed_loop import MODEL, PAGE, STREAM, Alone, Kept, Loop, Pair
from .drift import CONCEPTS, generated
from .harness import Rows, main, quiet

REAL: Final = "real"
KNOWN: Final = "known drifts"
ALONE, LOOP, TREE, TREE_LOOP, HAT, ARF = "linear", "linear + loop", "tree", "tree + loop", "HAT", "ARF"
ORACLE: Final = "linear restarted at the change"
PAIRS: Final = ((ALONE, LOOP), (TREE, TREE_LOOP))
EPSILON: Final = 0.005  # of accuracy, by which the loop may be worse than its recipe alone
BLOCK: Final = 250  # events that the bootstrap keeps together
RESAMPLES: Final = 2000
SEED: Final = 42
FLIGHTS: Final = 60_000
KNOWN_BEFORE: Final = ("Month", "DayofMonth", "DayOfWeek", "UniqueCarrier", "Origin", "Dest", "Distance")


class Stream(NamedTuple):
    """What is learned: its group, its name, how to make it, its labels (binary: negative and positive), and by whom."""

    group: str
    name: str
    make: Callable[[], Iterator[Pair]]
    labels: tuple[Any, ...]
    by: tuple[str, ...] = (ALONE, LOOP, TREE, TREE_LOOP, HAT, ARF)
    turn: int = 0  # where the one drift is, for the oracle

    @property
    def task(self) -> str:
        """Two labels make it binary."""
        return "binary" if len(self.labels) == 2 else "multiclass"


class Ran(NamedTuple):
    """What one contender made of one stream. CPU seconds: `seconds` for predicting and learning, `fit_s` for retrains."""

    accuracy: float
    kappa: float
    log_loss: float
    right: list[bool]
    seconds: float
    fit_s: float = 0.0
    opened: int = 0
    confirmed: int = 0
    promoted: int = 0

    @property
    def speed(self) -> float:
        """Events a second of one core."""
        return len(self.right) / self.seconds


def of_csv(path: Path, label: str, known: Sequence[str], limit: int | None) -> Iterator[Pair]:
    """A file's first labelled rows: `known` columns (all but the label when empty), as numbers where they are."""
    with gzip.open(path, "rt") as file:
        labelled = (row for row in csv.DictReader(file) if row[label])
        for row in islice(labelled, limit):
            y = row.pop(label)
            yield {name: _value(row[name]) for name in known or row}, y


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def streams(quick: bool) -> list[Stream]:
    """Everything that is measured: of a quick run one seed of each kind, and a short real stream."""
    seeds, trees, forests, half = (1, 1, 0, 3000) if quick else (20, 5, 1, 8000)
    found = list(_of_folder(os.environ.get("STREAMLEARN_DATA"), quick))
    for kind in CONCEPTS:
        for seed in range(seeds):
            by = (ALONE, LOOP) + (ORACLE, TREE, TREE_LOOP, HAT) * (seed < trees) + (ARF,) * (seed < forests)
            turn = [seed % 2, 1 - seed % 2]  # also from the harder concept to the easier
            found.append(Stream(kind, f"{kind} {seed}", partial(generated, kind, turn, seed, half), (False, True), by, half))
    return found


def _of_folder(folder: str | None, quick: bool) -> Iterator[Stream]:
    power = ("day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
    real: list[tuple[str, str, str, tuple[str, ...], tuple[Any, ...], int | None]] = [
        ("electricity", "elecNormNew", "class", power, ("DOWN", "UP"), None),
        ("weather_noaa", "weather", "rain", (), ("0", "1"), None),
        ("insects_gradual_balanced", "insects_gradual_balanced", "class", (), (), None),
        ("hflights_2011", "hflights", "delayed", KNOWN_BEFORE, ("0", "1"), FLIGHTS),
        ("usenet1", "usenet1", "interesting", (), ("0", "1"), None),
        ("keystroke", "keystroke", "class", (), (), None),
    ]
    if folder is None:
        return
    for name, file, label, known, labels, limit in real[-1:] if quick else real:
        path = Path(folder, name, f"{file}.csv.gz")
        if path.exists():
            yield Stream(REAL, name, partial(of_csv, path, label, known, limit), labels)
    for path in () if quick else sorted(Path(folder, "synthetic_known_drift").glob("*.csv.gz")):
        with gzip.open(path, "rt") as rows:
            label = next(rows).strip().split(",")[-1]
        labels = tuple(sorted({y for _, y in of_csv(path, label, (), None)}))
        by = (ALONE, LOOP, TREE, TREE_LOOP, HAT)
        yield Stream(KNOWN, path.name.removesuffix(".csv.gz"), partial(of_csv, path, label, (), None), labels, by)


def settings_of(stream: Stream, contender: str) -> Settings:
    """The service's defaults, with the recipe."""
    linear = "logistic" if stream.task == "binary" else "softmax"
    pipeline = linear if contender in (ALONE, LOOP) else "hoeffding_tree"
    model: dict[str, Any] = {"stream": STREAM, "task": stream.task, "pipeline": pipeline}
    if stream.labels and stream.task == "binary" and not isinstance(stream.labels[0], bool):
        model["labels"] = list(stream.labels)
    return parse({"streams": {STREAM: {}}, "models": {MODEL: model}}, {})


def run(stream: Stream, contender: str, pairs: Sequence[Pair], tell: Callable[[int], None] = lambda events: None) -> Ran:
    """One contender over one stream; `tell` hears of the events that are done."""
    if contender in (HAT, ARF):
        return _bare(stream, contender, pairs, tell)
    if contender == ORACLE:
        return _restarted(stream, pairs, tell)
    side = (Loop if contender in (LOOP, TREE_LOOP) else Alone)(settings_of(stream, contender))
    for first in range(0, len(pairs), PAGE):
        side.feed(pairs[first : first + PAGE])
        tell(min(PAGE, len(pairs) - first))
    if not isinstance(side, Loop):
        return _ran(side.kept, side.learn_s)
    told = side.decisions()
    kinds = [decision.kind for decision in told if _of_a_drift(decision, told)]
    counts = [kinds.count(kind) for kind in ("case_opened", "confirmed", "promoted")]
    return _ran(side.kept, side.learn_s, side.fit_s, *counts)


def _restarted(stream: Stream, pairs: Sequence[Pair], tell: Callable[[int], None]) -> Ran:
    """The linear recipe, made anew by whoever knows where the drift is: what there is to be won, at no cost in time."""
    parts = [run(stream, ALONE, some, tell) for some in (pairs[: stream.turn], pairs[stream.turn :])]
    weights = [len(part.right) / len(pairs) for part in parts]
    means = [sum(w * part[i] for w, part in zip(weights, parts, strict=True)) for i in range(3)]
    return Ran(means[0], means[1], means[2], parts[0].right + parts[1].right, sum(part.seconds for part in parts))


def _of_a_drift(decision: Decision, told: Sequence[Decision]) -> bool:
    return any(one.case == decision.case and one.numbers.get("kind") == "drift" for one in told if one.kind == "case_opened")


def _bare(stream: Stream, contender: str, pairs: Sequence[Pair], tell: Callable[[int], None]) -> Ran:
    """River's own model, test-then-train."""
    model: Any = tree.HoeffdingAdaptiveTreeClassifier(seed=SEED) if contender == HAT else forest.ARFClassifier(10, seed=SEED)
    binary = stream.task == "binary"
    kept = Kept(stream.task, 1000, 0.999)
    spent = 0.0
    for first in range(0, len(pairs), PAGE):
        page = pairs[first : first + PAGE]
        started, answers = time.process_time(), []
        for x, y in page:
            answers.append(model.predict_proba_one(x))
            model.learn_one(x, y)
        spent += time.process_time() - started
        for (_, y), shares in zip(page, answers, strict=True):
            if binary:
                p = float(shares.get(stream.labels[1], 0.0)) if shares else 0.5
                kept.add(y == stream.labels[1], p > 0.5, min(p, 1.0), None, None)
            else:
                kept.add(y, max(shares, key=shares.__getitem__) if shares else None, dict(shares) or None, None, None)
        tell(len(page))
    return _ran(kept, spent)


def _ran(kept: Kept, seconds: float, fit_s: float = 0.0, opened: int = 0, confirmed: int = 0, promoted: int = 0) -> Ran:
    scores = kept.view()["cumulative"]
    accuracy, kappa, log_loss = scores["accuracy"], scores["kappa"] or 0.0, scores["log_loss"]
    return Ran(accuracy, kappa, log_loss, kept.right, seconds, fit_s, opened, confirmed, promoted)


def over_blocks(loop: Sequence[bool], alone: Sequence[bool], seed: int = SEED) -> tuple[float, float]:
    """A 95 % interval for the difference of two accuracies on the same events: a bootstrap of blocks of them.

    Percentiles of the mean over resampled neighbouring blocks (Künsch, Annals of Statistics 17, 1989, of blocks that do not
    overlap); what is left over at the end is passed over. Of fewer than two blocks the interval is everything, (−1, 1).
    """
    gains = np.asarray(loop, float) - np.asarray(alone, float)
    blocks = len(gains) // BLOCK
    if blocks < 2:
        return -1.0, 1.0
    means = gains[: blocks * BLOCK].reshape(blocks, BLOCK).mean(axis=1)
    drawn = np.random.default_rng(seed).choice(means, size=(RESAMPLES, blocks)).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def over_seeds(gains: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval for the mean of independent gains: Student's t. Of a single one it is everything, (−1, 1)."""
    if len(gains) < 2:
        return -1.0, 1.0
    mean, error = statistics.mean(gains), statistics.stdev(gains) / len(gains) ** 0.5
    reach = float(stats.t.ppf(0.975, len(gains) - 1)) * error
    return mean - reach, mean + reach


Results = dict[Stream, dict[str, Ran]]


def measure(rows: Rows, quick: bool) -> None:
    """Every stream by each of its contenders, in one process."""
    todo = streams(quick)
    results: Results = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} events"), TimeElapsedColumn())
    with quiet(), Progress(*columns, console=Console(stderr=True)) as bar:
        all_of_it = bar.add_task("streams", total=len(todo))
        for stream in todo:
            pairs = list(stream.make())
            now = bar.add_task(stream.name, total=len(pairs) * len(stream.by))
            results[stream] = {name: run(stream, name, pairs, partial(bar.advance, now)) for name in stream.by}
            bar.remove_task(now)
            bar.advance(all_of_it)
    report(rows, results)


def report(rows: Rows, results: Results) -> None:
    """What came of it: the rows with goals, and the table of all streams."""
    for alone, loop in PAIRS:
        _compare(rows, results, alone, loop)
    gains = [ran[ORACLE].accuracy - ran[ALONE].accuracy for ran in results.values() if ORACLE in ran]
    told = "a restart at the change itself, which nobody knows: 95 % {:+.4f} to {:+.4f}".format(*over_seeds(gains))
    rows.add("linear: what there is to be won on generated streams", statistics.mean(gains), "accuracy", None, told)
    _show(rows, results)


def _compare(rows: Rows, results: Results, alone: str, loop: str) -> None:
    """The rows with goals: never much worse, and better where the world turned over."""
    both = {stream: ran for stream, ran in results.items() if loop in ran}
    gains = {stream: ran[loop].accuracy - ran[alone].accuracy for stream, ran in both.items()}
    worst = min(gains, key=gains.__getitem__)
    rows.add(f"{loop}: worst difference to the recipe alone", gains[worst], "accuracy", f">= -{EPSILON}", worst.name)
    abrupt = [gain for stream, gain in gains.items() if stream.group in CONCEPTS]
    low, high = over_seeds(abrupt)
    told = f"{len(abrupt)} abrupt streams, 95 % {low:+.4f} to {high:+.4f}"
    rows.add(f"{loop}: mean difference on generated streams", statistics.mean(abrupt), "accuracy", None, told)
    rows.add(f"{loop}: its lower bound", low, "accuracy", "> 0", told)
    speed = statistics.median(ran[loop].speed / ran[alone].speed for ran in both.values())
    rows.add(f"{loop}: events/s", speed, "ratio", None, "the recipe alone, median over the streams")
    fits = [ran[loop] for ran in both.values() if ran[loop].confirmed]
    if fits:
        spent = sum(ran.fit_s for ran in fits) / sum(ran.confirmed for ran in fits)
        rows.add(f"{loop}: a retrain", spent, "s", None, f"{sum(ran.confirmed for ran in fits)} of them")


def _show(rows: Rows, results: Results) -> None:
    """A table of all streams, the generated ones by kind; every figure of it also in the file."""
    table = Table(title="accuracy (kappa, log loss) events/s over the linear recipe alone", title_justify="left", box=None)
    for column in ("stream", ALONE, LOOP, "difference", TREE, TREE_LOOP, "difference", HAT, ARF):
        table.add_column(column, no_wrap=column == "stream")
    for name, some in _lines(results):
        cells = [f"{name} ({len(some)})" if len(some) > 1 else name]
        for contender in (ALONE, LOOP, TREE, TREE_LOOP, HAT, ARF):
            cells.append(_contender(rows, name, contender, some))
            if contender in (LOOP, TREE_LOOP):
                cells.append(_difference(rows, name, ALONE if contender == LOOP else TREE, contender, some))
        table.add_row(*cells)
    Console(width=220).print(table)
    print("difference: to the recipe alone, 95 % interval; cases opened > confirmed > promoted; seconds in retrains\n")


def _lines(results: Results) -> Iterator[tuple[str, list[dict[str, Ran]]]]:
    for stream, ran in results.items():
        if stream.group not in CONCEPTS:
            yield stream.name, [ran]
    for kind in CONCEPTS:
        yield kind, [ran for stream, ran in results.items() if stream.group == kind]


def _contender(rows: Rows, name: str, contender: str, several: Sequence[dict[str, Ran]]) -> str:
    some = [(ran[contender], ran[ALONE]) for ran in several if contender in ran]
    if not some:
        return "–"
    means = [statistics.mean(getattr(one, what) for one, _ in some) for what in ("accuracy", "kappa", "log_loss")]
    speed = statistics.median(one.speed / alone.speed for one, alone in some)
    told = "" if len(some) == len(several) else f" [{len(some)}]"
    for what, value in zip(("accuracy", "kappa", "log loss"), means, strict=True):
        rows.note(f"{name}: {contender}, {what}", value, what, f"{len(some)} of {len(several)} streams")
    rows.note(f"{name}: {contender}, events/s", speed, "ratio", "the linear recipe alone")
    return f"{means[0]:.4f} ({means[1]:.3f}, {means[2]:.3f}) {speed:.2f}{told}"


def _difference(rows: Rows, name: str, alone: str, loop: str, several: Sequence[dict[str, Ran]]) -> str:
    some = [(ran[loop], ran[alone]) for ran in several if loop in ran]
    if not some:
        return "–"
    gains = [one.accuracy - other.accuracy for one, other in some]
    low, high = over_seeds(gains) if len(gains) > 1 else over_blocks(some[0][0].right, some[0][1].right)
    counts = [sum(getattr(one, what) for one, _ in some) for what in ("opened", "confirmed", "promoted")]
    fit_s = sum(one.fit_s for one, _ in some)
    gain, story = statistics.mean(gains), "{} > {} > {}".format(*counts)
    told = f"95 % {low:+.4f} to {high:+.4f}; {story}; retrains {fit_s:.2f} s"
    rows.note(f"{name}: {loop}, difference", gain, "accuracy", told)
    return f"{gain:+.4f} [{low:+.4f}, {high:+.4f}] {story}; {fit_s:.1f} s"


if __name__ == "__main__":
    main("Does the loop pay", measure)
