"""Running sums for each task's scores: rows in, whole arrays at a time; cumulative, over a window, and fading.

A tally is a few arrays of fixed size and no more, so that keeping, copying and restoring it is exact. It never looks at how
its rows were batched, nor at a clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from . import score_math as of
from .score_math import Array

Row = tuple[Any, Any, Any, Any, Any]  # truth, answer, probability, no-change's answer, majority's answer
BASELINES: Final = ("no_change", "majority")
MAX_CLASSES: Final = 1000
_NO_CLASS: Final = 0  # the index of "no answer"; the last index is shared by all classes beyond MAX_CLASSES


class Tally(ABC):
    """What the three have in common: a ring of the last `window` rows, and weights that fade by `fading` a row.

    Prequential scores with fading factors: Gama, Sebastião & Rodrigues 2013, §3.
    """

    width = 5

    def __init__(self, window: int, fading: float) -> None:
        self.window = window
        self.fading = fading
        self.n = 0
        self.arrays: dict[str, Array] = {"ring": np.zeros((self.width, window))}
        self.classes: list[Any] = []

    def fold(self, rows: Sequence[Row]) -> None:
        """Take in `rows`, at least one, in the order in which they came."""
        m = len(rows)
        fading = self.fading ** np.arange(m - 1, -1, -1.0)
        # Sums of labels near the largest float may overflow; what is shown of them is None then.
        with np.errstate(all="ignore"):
            columns = self.count(rows, fading, self.fading**m)
        kept = columns[:, -self.window :]
        places = np.arange(self.n + m - kept.shape[1], self.n + m) % self.window
        self.arrays["ring"][:, places] = kept
        self.n += m

    @abstractmethod
    def count(self, rows: Sequence[Row], fading: Array, decay: float) -> Array:
        """Add `rows` to the sums; returns them as (width, rows) for the ring."""

    @abstractmethod
    def view(self) -> dict[str, Any]:
        """The scores as they are now."""

    def copy(self) -> Tally:
        """One that can be added to without changing this one."""
        twin = type(self)(self.window, self.fading)
        twin.n = self.n
        twin.load({name: array.tobytes() for name, array in self.arrays.items()}, list(self.classes))
        return twin

    def load(self, arrays: dict[str, bytes], classes: list[Any]) -> None:
        """Become the tally whose arrays' bytes and classes these are."""
        for name, array in self.arrays.items():
            array[...] = np.frombuffer(arrays[name], array.dtype).reshape(array.shape)
        self.classes = classes

    def last(self) -> Array:
        """The rows in the window, (width, at most `window`), in no particular order."""
        return self.arrays["ring"][:, : min(self.n, self.window)]


class BinaryTally(Tally):
    """Truth and answers are bool, the probability is P(positive) or None."""

    def __init__(self, window: int, fading: float) -> None:
        super().__init__(window, fading)
        self.arrays |= {
            "confusion": np.zeros((3, 4), np.int64),  # of the model, no-change, majority
            "losses": np.zeros(3),  # rows with a probability, log loss, squared error
            "bins": np.zeros((2, of.BINS), np.int64),
            "calibration": np.zeros((3, of.CALIBRATION_BINS)),
            "faded_confusion": np.zeros(4),
            "faded_losses": np.zeros(3),
            "faded_bins": np.zeros((2, of.BINS)),
        }

    def count(self, rows: Sequence[Row], fading: Array, decay: float) -> Array:
        a = self.arrays
        columns = _floats(zip(*rows, strict=True))
        y, answer, p = columns[:3]
        cell = (2 * y + answer).astype(np.int64)
        a["confusion"][0] += np.bincount(cell, minlength=4)
        a["faded_confusion"] *= decay
        a["faded_confusion"] += np.bincount(cell, fading, 4)
        for index in (1, 2):
            a["confusion"][index] += _confusion(y, columns[2 + index])
        known = ~np.isnan(p)
        if not known.all():
            y, p, fading = y[known], p[known], fading[known]
        losses = _losses(y, p)
        a["losses"] += losses.sum(axis=1)
        a["faded_losses"] *= decay
        a["faded_losses"] += (losses * fading).sum(axis=1)
        cell = of.bins_of(p, of.BINS) + of.BINS * y.astype(np.int64)
        a["bins"] += np.bincount(cell, minlength=2 * of.BINS).reshape(2, -1)
        a["faded_bins"] *= decay
        a["faded_bins"] += np.bincount(cell, fading, 2 * of.BINS).reshape(2, -1)
        _calibrate(a["calibration"], p, y)
        return columns

    def view(self) -> dict[str, Any]:
        a = self.arrays
        y, answer, p, *baselines = self.last()
        known = ~np.isnan(p)
        return {
            "n": self.n,
            "cumulative": {
                **of.of_confusion(a["confusion"][0]),
                "roc_auc": of.auc_of_bins(*a["bins"]),
                **_of_losses(a["losses"]),
                "calibration_error": of.calibration_error(*a["calibration"]),
            },
            "window": {
                **of.of_confusion(_confusion(y, answer)),
                "roc_auc": of.auc_by_ranks(y[known] == 1, p[known]),
                **_of_losses(_losses(y[known], p[known]).sum(axis=1)),
            },
            "fading": {
                **of.of_confusion(a["faded_confusion"]),
                "roc_auc": of.auc_of_bins(*a["faded_bins"]),
                **_of_losses(a["faded_losses"]),
            },
            "baselines": {
                name: {
                    **of.of_confusion(a["confusion"][1 + index]),
                    "roc_auc": of.auc_of_confusion(a["confusion"][1 + index]),
                    "window_accuracy": of.of_confusion(_confusion(y, baselines[index]))["accuracy"],
                }
                for index, name in enumerate(BASELINES)
            },
            "calibration": of.calibration(*a["calibration"]),
        }


class MulticlassTally(Tally):
    """Truth and answers are classes (an answer may be None); the probability is a dict by class, the pair that `shares`
    makes of it, or None. Calibration is of the answer's own probability."""

    width = 6  # truth and answer by index, hit, P(truth), and whether each baseline hit

    def __init__(self, window: int, fading: float) -> None:
        super().__init__(window, fading)
        size = MAX_CLASSES + 2
        self.arrays |= {
            "hits": np.zeros((3, 2), np.int64),  # of the model, no-change, majority: rows, hits
            "margins": np.zeros((3, 2, size), np.int64),  # and how often each class was the truth, the answer
            "losses": np.zeros(2),  # rows with a probability, log loss
            "calibration": np.zeros((3, of.CALIBRATION_BINS)),
            "faded_hits": np.zeros(2),
            "faded_margins": np.zeros((2, size)),
            "faded_losses": np.zeros(2),
        }
        self.indices: dict[Any, int] = {None: _NO_CLASS}

    def load(self, arrays: dict[str, bytes], classes: list[Any]) -> None:
        super().load(arrays, classes)
        self.indices = {label: index for index, label in enumerate([None, *classes])}

    def count(self, rows: Sequence[Row], fading: Array, decay: float) -> Array:
        a = self.arrays
        ys, answers, ps, *baselines = zip(*rows, strict=True)
        truth, answer = self._index(ys), self._index(answers)
        hit = _hits(truth, answer, ys, answers)
        self._add(0, truth, answer, hit)
        size = a["faded_margins"].shape[1]
        a["faded_hits"] *= decay
        a["faded_hits"] += fading.sum(), (fading * hit).sum()
        a["faded_margins"] *= decay
        a["faded_margins"] += np.bincount(truth, fading, size), np.bincount(answer, fading, size)
        try:
            p, confidence = _floats([q.get(y, 0.0) for q, y in zip(ps, of_whom, strict=True)] for of_whom in (ys, answers))
        except AttributeError:  # not all are dicts
            p, confidence = _floats(zip(*map(shares, ys, answers, ps), strict=True))
        known = ~np.isnan(p)
        losses = np.stack([np.ones(int(known.sum())), of.log_losses(p[known])])
        a["losses"] += losses.sum(axis=1)
        a["faded_losses"] *= decay
        a["faded_losses"] += (losses * fading[known]).sum(axis=1)
        _calibrate(a["calibration"], confidence[known], hit[known])
        columns = [truth, answer, hit, p]
        for whose, given in enumerate(baselines, 1):
            index = self._index(given)
            right = _hits(truth, index, ys, given)
            there = index != _NO_CLASS
            self._add(whose, truth[there], index[there], right[there])
            columns.append(np.where(there, right, np.nan))
        return np.array(columns, dtype=np.float64)

    def _index(self, labels: Sequence[Any]) -> Array:
        indices = self.indices
        try:
            return np.array([indices[label] for label in labels])
        except KeyError:
            for label in labels:
                if label not in indices and len(self.classes) < MAX_CLASSES:
                    self.classes.append(label)
                    indices[label] = len(self.classes)
        return np.array([indices.get(label, MAX_CLASSES + 1) for label in labels])

    def _add(self, whose: int, truth: Array, answer: Array, hit: Array) -> None:
        a = self.arrays
        size = a["margins"].shape[2]
        a["hits"][whose] += len(hit), int(hit.sum())
        a["margins"][whose] += np.bincount(truth, minlength=size), np.bincount(answer, minlength=size)

    def view(self) -> dict[str, Any]:
        a = self.arrays
        truth, answer, hit, p, *baselines = self.last()
        margins = [np.bincount(column.astype(np.int64), minlength=MAX_CLASSES + 2) for column in (truth, answer)]
        known = ~np.isnan(p)
        return {
            "n": self.n,
            "cumulative": {
                **_of_hits(a["hits"][0], a["margins"][0]),
                "log_loss": of.share(a["losses"][1], a["losses"][0]),
                "calibration_error": of.calibration_error(*a["calibration"]),
            },
            "window": {
                **_of_hits(np.array([len(hit), hit.sum()]), margins),
                "log_loss": of.share(of.log_losses(p[known]).sum(), known.sum()),
            },
            "fading": {
                **_of_hits(a["faded_hits"], a["faded_margins"]),
                "log_loss": of.share(a["faded_losses"][1], a["faded_losses"][0]),
            },
            "baselines": {
                name: {
                    **_of_hits(a["hits"][1 + index], a["margins"][1 + index]),
                    "window_accuracy": of.share(np.nansum(baselines[index]), (~np.isnan(baselines[index])).sum()),
                }
                for index, name in enumerate(BASELINES)
            },
            "calibration": of.calibration(*a["calibration"]),
        }


class RegressionTally(Tally):
    """Truth and answers are floats. Errors and labels beyond 1e150 count as 1e150, so that their squares stay finite."""

    def __init__(self, window: int, fading: float) -> None:
        super().__init__(window, fading)
        self.arrays |= {
            "errors": np.zeros((3, 3)),  # of the model, no-change, majority: rows, absolute and squared errors
            "moments": np.zeros(3),  # of the truth: weight, mean, squared deviations
            "faded_errors": np.zeros(3),
            "faded_moments": np.zeros(3),
        }

    def count(self, rows: Sequence[Row], fading: Array, decay: float) -> Array:
        a = self.arrays
        columns = np.clip(_floats(zip(*rows, strict=True)), -of.LARGEST, of.LARGEST)
        y = columns[0]
        errors = _errors(y, columns[1])
        a["errors"][0] += errors.sum(axis=1)
        a["faded_errors"] *= decay
        a["faded_errors"] += (errors * fading).sum(axis=1)
        for index in (1, 2):
            a["errors"][index] += _errors(y, columns[2 + index]).sum(axis=1)
        of.merge_moments(a["moments"], y, np.ones(len(y)), 1.0)
        of.merge_moments(a["faded_moments"], y, fading, decay)
        return columns

    def view(self) -> dict[str, Any]:
        a = self.arrays
        with np.errstate(all="ignore"):
            y, answer, _, *baselines = self.last()
            spread = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
            window = _errors(y, answer).sum(axis=1)
            recent = [_errors(y, given).sum(axis=1) for given in baselines]
        return {
            "n": self.n,
            "cumulative": {**of.of_errors(a["errors"][0]), "r2": of.r_squared(a["errors"][0][2], a["moments"][2])},
            "window": {**of.of_errors(window), "r2": of.r_squared(window[2], spread)},
            "fading": {**of.of_errors(a["faded_errors"]), "r2": of.r_squared(a["faded_errors"][2], a["faded_moments"][2])},
            "baselines": {
                name: {**of.of_errors(a["errors"][1 + index]), "window_mae": of.of_errors(recent[index])["mae"]}
                for index, name in enumerate(BASELINES)
            },
            "calibration": [],
        }


def shares(y: Any, answer: Any, p: Any) -> tuple[float | None, float | None]:
    """(P(truth), P(answer)) out of a dict of probabilities by class; a pair is one already; None where there is none."""
    if type(p) is dict:
        return p.get(y, 0.0), p.get(answer, 0.0)
    return (None, None) if p is None else (p[0], p[1])


def _floats(columns: Iterable[Any]) -> Array:
    return np.array([np.array(column, dtype=np.float64) for column in columns])  # None becomes NaN


def _hits(truth: Array, answer: Array, truths: Sequence[Any], answers: Sequence[Any]) -> Array:
    hits: Array = truth == answer
    if truth.max() > MAX_CLASSES:  # some share an index
        hits = np.array([one == other for one, other in zip(truths, answers, strict=True)])
    return hits


def _confusion(y: Array, answer: Array) -> Array:
    known = ~np.isnan(answer)
    return np.bincount((2 * y[known] + answer[known]).astype(np.int64), minlength=4)


def _losses(y: Array, p: Array) -> Array:
    return np.stack([np.ones(len(p)), of.log_losses(np.where(y == 1, p, 1 - p)), (p - y) ** 2])


def _of_losses(sums: Array) -> dict[str, float | None]:
    return {"log_loss": of.share(sums[1], sums[0]), "brier": of.share(sums[2], sums[0])}


def _of_hits(hits: Array, margins: Any) -> dict[str, float | None]:
    return {"accuracy": of.share(hits[1], hits[0]), "kappa": of.kappa(hits[1], margins[0], margins[1])}


def _errors(y: Array, answer: Array) -> Array:
    errors = np.minimum(np.abs(y - answer), of.LARGEST)
    known = ~np.isnan(errors)
    return np.where(known, np.stack([np.ones(len(y)), errors, errors * errors]), 0.0)


def _calibrate(sums: Array, p: Array, came_true: Array) -> None:
    cell = of.bins_of(p, of.CALIBRATION_BINS)
    for row, weights in enumerate((None, p, came_true)):
        sums[row] += np.bincount(cell, weights, of.CALIBRATION_BINS)
