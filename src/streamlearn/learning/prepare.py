"""What stands before every recipe's estimator: mixed features in, scaled numbers out, and one odd value never ruins a model.

Numbers are clipped at a multiple of their running deviation around their running mean, and only then learned and scaled;
strings become one-hot names, codes, or stay strings, with a bound on how many values of one feature are told apart.
Transforming never changes what was learned: a published model answers several requests at once.
"""

from __future__ import annotations

import statistics
from abc import abstractmethod
from collections.abc import Hashable
from math import inf, sqrt
from typing import Any, Final

from river import base

OTHER: Final = "…"  # stands for every string of a feature beyond `max_categories`
EARLY: Final = 20  # first values of a feature that are weighed together, so that an odd one among them shows
DIFFERENT: Final = 5  # values that must differ from a constant before it counts as one no longer
LARGEST: Final = 1e150  # its square is finite
_TO_DEVIATION: Final = 1.4826  # median absolute deviation → standard deviation, for normal data

Raw = dict[Hashable, Any]  # feature name → number, bool or string
Prepared = dict[Hashable, Any]
# count, mean, sum of squared deviations, bound on the next value's distance from the mean, deviation (inf when it is 0)
Moments = tuple[int, float, float, float, float]

_KEPT: Final = ("clip", "max_categories", "max_features", "numbers", "strings", "early", "clipped", "ignored")


class Prepare(base.Transformer):
    """Learns each feature's mean, deviation and distinct strings in one pass; a subclass says what becomes of strings.

    `clip`: the multiple of the deviation at which a number is cut back. `max_categories`: distinct strings of one feature;
    the rest share one. `max_features`: distinct feature names; the rest are passed over. `clipped` and `ignored` count the
    learned values that were cut back or passed over.

    Numbers come out as (value - mean) / deviation within ±`clip`, and 0 while the deviation is 0 or unknown. Welford's update
    (Knuth, TAOCP 2, 4.2.2), population form, as in river's StandardScaler: where nothing is clipped the two agree to rounding.
    A constant stays one until it was contradicted a few times. Clipped values still widen the deviation, so a feature whose
    scale has really changed is followed within some n/30 events.
    """

    def __init__(self, clip: float = 8.0, max_categories: int = 1000, max_features: int = 10_000) -> None:
        self.clip = clip
        self.max_categories = max_categories
        self.max_features = max_features
        self.numbers: dict[Hashable, Moments] = {}
        self.strings: dict[Hashable, dict[str, int]] = {}
        self.early: dict[Hashable, list[float]] = {}
        self.clipped = 0
        self.ignored = 0
        self._ready: tuple[Raw, Prepared] | None = None

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {**{name: getattr(self, name) for name in _KEPT}, "_ready": None}  # never by __dict__: see `pickling`

    def learn_one(self, x: Raw) -> None:
        """Take in one event's features: numbers and strings, finite, without nulls."""
        numbers, clip = self.numbers, self.clip
        low = -clip
        # A pipeline transforms an event right after it was learned from, so what it will ask for is made on the way.
        out: Prepared = {}
        for name, value in x.items():
            if type(value) is str:
                self._learn_string(name, value)
                self._put_string(out, name, value)
                continue
            moments = numbers.get(name)
            if moments is None or moments[0] < EARLY:
                self._learn_early(name, float(value))
                self._put_number(out, name, value)
                continue
            n, mean, squares, bound, deviation = moments
            delta = value - mean
            if delta > bound or delta < -bound:
                self.clipped += 1
                if not bound:
                    self._learn_different(name, float(value))
                    self._put_number(out, name, value)
                    continue
                delta = bound if delta > bound else -bound
            n += 1
            step = delta / n
            squares += delta * (delta - step)
            mean += step
            deviation = sqrt(squares / n)
            if deviation:
                numbers[name] = (n, mean, squares, clip * deviation, deviation)
                scaled = (value - mean) / deviation
                out[name] = scaled if low <= scaled <= clip else clip if scaled > 0 else low
            else:
                numbers[name] = (n, mean, squares, bound, inf)
                out[name] = 0.0
        self._ready = (x, out)

    def transform_one(self, x: Raw) -> Prepared:
        """The prepared features. A string that was never learned is left out, or is code 0."""
        ready = self._ready
        if ready is not None:
            self._ready = None
            if ready[0] is x:
                return ready[1]
        out: Prepared = {}
        if not self.strings:
            numbers, clip = self.numbers, self.clip
            low = -clip
            try:
                for name, value in x.items():
                    _, mean, _, _, deviation = numbers[name]
                    scaled = (value - mean) / deviation
                    out[name] = scaled if low <= scaled <= clip else clip if scaled > 0 else low
                return out
            except (KeyError, TypeError):
                out.clear()  # a feature or a string that was never learned: take the longer way
        for name, value in x.items():
            if type(value) is str:
                self._put_string(out, name, value)
            else:
                self._put_number(out, name, value)
        return out

    def _put_number(self, out: Prepared, name: Hashable, value: float) -> None:
        moments = self.numbers.get(name)
        scaled = (value - moments[1]) / moments[4] if moments else 0.0
        out[name] = scaled if -self.clip <= scaled <= self.clip else self.clip if scaled > 0 else -self.clip

    @abstractmethod
    def _put_string(self, out: Prepared, name: Hashable, value: str) -> None:
        """Enter a string as the kind of model behind it wants it."""

    def _learn_early(self, name: Hashable, value: float) -> None:
        """The first values are kept and weighed together: among them an odd one shows only by the others' median."""
        kept = self.early.get(name)
        if kept is None:
            if name not in self.numbers and self._is_full():
                self.ignored += 1
                return
            kept = self.early[name] = []
        kept.append(min(max(value, -LARGEST), LARGEST))
        centre = statistics.median_low(kept)
        spread = _TO_DEVIATION * statistics.median_high([abs(v - centre) for v in kept])
        others = [v for v in kept if v != centre]
        if not spread and len(others) >= DIFFERENT:
            spread = statistics.median_low([abs(v - centre) for v in others])
        moments = self.numbers[name] = self._moments((0, centre, 0.0, 0.0, inf), kept, self.clip * spread)
        if moments[0] == EARLY:
            del self.early[name]
            self.clipped += sum(abs(v - centre) > self.clip * spread for v in kept)
            if not spread and others:
                self.early[name] = others

    def _learn_different(self, name: Hashable, value: float) -> None:
        """A value that contradicts a constant waits for others that do: one alone has nothing to be measured against."""
        kept = self.early.setdefault(name, [])
        kept.append(min(max(value, -LARGEST), LARGEST))
        if len(kept) >= DIFFERENT:
            moments = self.numbers[name]
            spread = statistics.median_low([abs(v - moments[1]) for v in kept])
            self.numbers[name] = self._moments(moments, kept, self.clip * spread)
            del self.early[name]

    def _moments(self, moments: Moments, values: list[float], bound: float) -> Moments:
        """`moments` after `values`, each within `bound` of the mean as it was."""
        n, mean, squares, _, _ = moments
        centre = mean
        for value in values:
            n += 1
            delta = min(max(value, centre - bound), centre + bound) - mean
            step = delta / n
            squares += delta * (delta - step)
            mean += step
        deviation = sqrt(squares / n)
        return n, mean, squares, self.clip * deviation, deviation or inf

    def _learn_string(self, name: Hashable, value: str) -> None:
        known = self.strings.get(name)
        if known is None:
            if self._is_full():
                self.ignored += 1
                return
            known = self.strings[name] = {}
        if value not in known and len(known) < self.max_categories:
            known[value] = len(known) + 1

    def _is_full(self) -> bool:
        return len(self.numbers) + len(self.strings) >= self.max_features


class OneHot(Prepare):
    """For linear models and distances: a string becomes `name=value`: 1."""

    def _put_string(self, out: Prepared, name: Hashable, value: str) -> None:
        known = self.strings.get(name)
        if known is None:
            return
        if value in known:
            out[f"{name}={value}"] = 1.0
        elif len(known) >= self.max_categories:
            out[f"{name}={OTHER}"] = 1.0


class Codes(Prepare):
    """For trees: a string becomes a number, one step up for each that is new in its feature; 0 is unknown, `clip` the last.

    river's nominal splitter walks a set of strings, so its ties depend on PYTHONHASHSEED; codes do not.
    """

    def _put_string(self, out: Prepared, name: Hashable, value: str) -> None:
        known = self.strings.get(name)
        out[name] = known.get(value, 0) * self.clip / self.max_categories if known else 0.0


class Strings(Prepare):
    """For models that take strings as they are: only their number is bounded."""

    def _put_string(self, out: Prepared, name: Hashable, value: str) -> None:
        known = self.strings.get(name)
        if known is None:
            return
        if value in known:
            out[name] = value
        elif len(known) >= self.max_categories:
            out[name] = OTHER
