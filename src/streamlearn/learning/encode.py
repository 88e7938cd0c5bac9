"""From features as they come to the rows of numbers that batch estimators take: fitted once, to the events of a window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf, nan
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CLIP: Final = 8.0  # deviations, as in `prepare`
LARGEST: Final = 1e150  # its square is finite
SINGLE: Final = 1e38  # trees hold numbers in single precision
CODES: Final = 254  # strings of one feature told apart by a code
ONE_HOT: Final = 50  # and by a column each


class Encoder:
    """Columns are the features seen when it was fitted, in the order of their names; others are passed over later.

    With `nan`, for estimators that take missing values (trees): numbers as they are, NaN for what is missing, a string as its
    rank among its feature's strings by frequency; those beyond CODES share one. Without: numbers in deviations from their mean
    within ±CLIP, 0 for what is missing (the mean), a column of 0 and 1 for each of a feature's ONE_HOT commonest strings, and
    one for the rest. A string that was never seen is missing, or one of the rest where there are any. A feature that was a
    string anywhere is one of strings.
    """

    def __init__(self, nan: bool) -> None:
        self.nan = nan
        self.numbers: dict[str, tuple[int, float, float]] = {}  # column, mean, deviation
        self.strings: dict[str, tuple[dict[str, int], int]] = {}  # column or code by string, and that of the rest or -1
        self.columns: dict[str, int] = {}  # of strings that have a code
        self.width = 0

    def fit(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Learn the columns."""
        numbers: dict[str, list[float]] = {}
        strings: dict[str, Counter[str]] = {}
        for x in events:
            for name, value in x.items():
                if type(value) is str:
                    strings.setdefault(name, Counter())[value] += 1
                elif value is not None:
                    numbers.setdefault(name, []).append(value)
        for name in sorted({*numbers, *strings}):
            if name in strings:
                self._fit_strings(name, strings[name])
                continue
            mean, deviation = 0.0, 1.0
            if not self.nan:
                values = np.clip(np.array(numbers[name], dtype=np.float64), -LARGEST, LARGEST)
                mean, deviation = float(values.mean()), float(values.std()) or inf
            self.numbers[name] = (self.width, mean, deviation)
            self.width += 1

    def _fit_strings(self, name: str, counts: Counter[str]) -> None:
        most = CODES if self.nan else ONE_HOT
        kept = sorted(counts, key=lambda value: (-counts[value], value))
        rest = len(kept) > most
        begin = 0 if self.nan else self.width
        codes = {value: begin + code for code, value in enumerate(kept[:most])}
        self.strings[name] = codes, begin + most if rest else -1
        if self.nan:
            self.columns[name] = self.width
        self.width += 1 if self.nan else len(codes) + rest

    def rows(self, events: Sequence[Mapping[str, Any]]) -> Floats:
        """(events, columns)."""
        out = np.full((len(events), self.width), nan if self.nan else 0.0)
        put = self._put
        for row, x in zip(out, events, strict=True):
            for name, value in x.items():
                put(row, name, value)
        limit = SINGLE if self.nan else CLIP
        return np.clip(out, -limit, limit, out=out)

    def _put(self, row: Floats, name: str, value: Any) -> None:
        known = self.numbers.get(name)
        if known is not None:
            if value is not None and type(value) is not str:
                column, mean, deviation = known
                row[column] = (value - mean) / deviation
            return
        found = self.strings.get(name)
        if found is None or type(value) is not str:
            return
        codes, rest = found
        code = codes.get(value, rest)
        if code >= 0:
            if self.nan:
                row[self.columns[name]] = code
            else:
                row[code] = 1.0
