"""Do the features still come as they did? A watch over windows of events, off the hot path: it is fed by control alone.

A reference, fixed for the serving version, is compared with each block of later events, in three ways that do not mix:

    broken   a type that changed, a feature that vanished, a jump of the share of nulls: counts against fixed thresholds
    differs  each feature's block against the reference, Benjamini-Hochberg across features at this one look: for show, and to
             tell what came with a rise of the loss. Looked at again and again it errs again and again
    flagged  across time. Each block is compared with everything before it (a reservoir of it): under exchangeability the ranks
             of a block among the past say nothing of those of the blocks before, so that the p-values are independent, also
             with a reservoir, which is drawn without looking at values. Each p becomes an e (`compare.calibrate`), and
             M_t = e_t (M_{t−1} + w_t), w_t = 1/(t(t+1)), is a mixture over the times at which a change may begin, so that a
             late one is not starved by a long quiet past; M_t + 1/(t+1) is an e-process. e-BH across features at each look

`q` bounds the chance that a stream whose features do not change ever has one flagged, within an episode. Measured with the
defaults (50 normal features, reference 2,000, blocks of 500, q = 0.05): of 190 streams of 200 looks without a change, one had
a false flag; with 5 of 50 features moved by 0.35 deviations after 20 quiet looks, 77 % of those were flagged by the first
block after the change, all within three, and no other feature beside them.
Real streams are not exchangeable: hours, weekdays and slow trends are true changes of the features, and are flagged as such,
which is one reason why this alone never retrains. Positively correlated neighbours make it flag sooner than `q` says.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from ..config import FeatureSettings
from ..events import Features
from .compare import (
    Floats,
    bars,
    benjamini_hochberg,
    calibrate,
    chi_squared,
    e_benjamini_hochberg,
    histogram,
    ks,
    psi,
    rates,
)

POOL: Final = 5000  # events that stand for all before the newest block
CELLS: Final = 1_000_000  # values in that pool at most, over all features
MOST: Final = 1000  # features that are watched, the most frequent ones
PICTURED: Final = 200  # of those, with histograms, those first that are flagged, and then the surest
CODES: Final = 500  # categories of one feature that are told apart
CALM: Final = 3  # blocks in a row without a difference, after which an episode of drift is over
TYPE_CHANGE: Final = 0.1  # rise of the share of values of another type that is a break of the schema
VANISHED: Final = 0.99  # share of a block's events without a feature that most events had
ENOUGH: Final = 1e30  # more evidence than this is not counted
SURE: Final = 1e-6  # and, for both and for nulls, the p-value that it must stay under
_ABSENT: Final = object()


class Finding(NamedTuple):
    """One way in which the input is broken. `before` and `now` are shares; `type` is what the feature's values were."""

    feature: str
    what: str  # null_jump, type_change, vanished; or dead_letters, with their reason as `feature`
    before: float
    now: float
    type: str = ""

    def text(self) -> str:
        """In words."""
        shares = f"in {self.before:.0%} of the events before, {self.now:.0%} now"
        match self.what:
            case "null_jump":
                return f"{self.feature!r} is missing {shares}"
            case "vanished":
                return f"{self.feature!r} no longer comes: absent {shares}"
            case "type_change":
                return f"{self.feature!r} is no {self.type} {shares}"
        return f"dead letters for the reason {self.feature} {shares}"


class Column(NamedTuple):
    """A feature of some events. `values`: floats or codes, NaN where there is none; the counts say why."""

    values: Floats
    nulls: int
    absent: int
    others: int  # of another type

    @property
    def missing(self) -> float:
        """Share of the events in which it is null or absent."""
        return (self.nulls + self.absent) / len(self.values)

    @property
    def changed(self) -> float:
        """Share of the events in which it has another type."""
        return self.others / len(self.values)


@dataclass(frozen=True, slots=True)
class Shift:
    """How a feature stands against the reference. Shares are (reference, now); `since` when it began to differ at each look."""

    name: str
    type: str
    test: str
    p: float
    e: float
    psi: float
    missing: tuple[float, float]
    other_type: tuple[float, float]
    unseen: float  # share of values that are categories the reference has not
    outside: float  # share of numbers beyond the reference's range
    differs: bool
    since: float | None

    def doc(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Look:
    """What one block told. `at` and `began`: append times of its newest and its first event; `flagged` by when it was flagged.

    `settled`: no further feature was flagged at this look. `calm_at`: when the last episode of drift ended.
    """

    at: float
    began: float
    looks: int
    shifts: tuple[Shift, ...]
    flagged: Mapping[str, float]
    settled: bool
    calm_at: float | None
    findings: tuple[Finding, ...]
    appeared: tuple[str, ...]  # features that the reference does not have
    histograms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def column(events: Sequence[Features], name: str, type_: str, codes: dict[str, int]) -> Column:
    """The feature `name` of type "number", "string" or "boolean"; unknown categories get the next of `codes`, or 0."""
    raw: list[Any] = [x.get(name, _ABSENT) for x in events]
    kinds = set(map(type, raw))
    if type_ == "number" and kinds == {float}:  # the commonest, at once
        return Column(np.array(raw, dtype=np.float64), 0, 0, 0)
    values: list[float] = []
    others = 0
    number, text = type_ == "number", type_ == "string"
    for value in raw:
        kind = type(value)
        if value is _ABSENT or value is None:
            values.append(math.nan)
        elif (kind is str) != text or (kind is int and not -(2**63) <= value < 2**63):
            others += 1
            values.append(math.nan)
        elif number:
            values.append(float(value))
        else:
            values.append(_code(codes, value if text else str(value).lower()))
    nulls, absent = raw.count(None), sum(value is _ABSENT for value in raw)
    return Column(np.array(values, dtype=np.float64), nulls, absent, others)


def _code(codes: dict[str, int], label: str) -> int:
    code = codes.get(label)
    if code is None:
        if len(codes) >= CODES:
            return 0
        code = codes[label] = len(codes) + 1
    return code


def broken(name: str, type_: str, reference: Column, recent: Column, null_jump: float) -> Finding | None:
    """What is broken about a feature, None when nothing is."""
    n, m = len(reference.values), len(recent.values)
    if recent.absent >= VANISHED * m and reference.absent <= n / 2:
        return Finding(name, "vanished", reference.absent / n, recent.absent / m, type_)
    if recent.changed - reference.changed >= TYPE_CHANGE and rates(reference.others, n, recent.others, m) <= SURE:
        return Finding(name, "type_change", reference.changed, recent.changed, type_)
    gone = reference.nulls + reference.absent, recent.nulls + recent.absent
    if recent.missing - reference.missing >= null_jump and rates(gone[0], n, gone[1], m) <= SURE:
        return Finding(name, "null_jump", reference.missing, recent.missing, type_)
    return None


def healed(finding: Finding, events: Sequence[Features], null_jump: float) -> bool:
    """Whether `events` are in this respect as before: back by more than half of what makes a break."""
    recent = column(events, finding.feature, finding.type, {})
    match finding.what:
        case "vanished":
            return recent.absent / len(events) <= (1 + finding.before) / 2
        case "type_change":
            return recent.changed - finding.before < TYPE_CHANGE / 2
    return recent.missing - finding.before < null_jump / 2


class FeatureWatch:
    """Over one model's stream: the first `reference` events make the reference, then each `look` takes a block.

    `in_episode`: features are known to have drifted before this watch was made, so that it can say when that is over.
    `names`: the features with a value in the reference.
    """

    def __init__(self, settings: FeatureSettings, seed: int, reference: Sequence[Features], in_episode: bool = False) -> None:
        self._settings, self._seed = settings, seed
        self._types = _types(reference)
        self.names = frozenset(name for x in reference for name, value in x.items() if value is not None)
        self._codes: dict[str, dict[str, int]] = {name: {} for name in self._types}
        self._reference = self._columns(reference)
        self._known = {name: set(codes.values()) for name, codes in self._codes.items()}
        self._sorted = {name: _sorted(one) for name, one in self._reference.items()}
        self._looks = 0
        self._since: dict[str, float] = {}
        self._calm_at: float | None = None
        self._begin(in_episode)

    def _begin(self, in_episode: bool) -> None:
        """An episode: nothing is flagged, and all that came before is the reference."""
        self._rng = np.random.default_rng(self._seed)
        size = max(self._settings.reference, min(POOL, CELLS // max(1, len(self._types))))
        self._pool = {name: np.full(size, np.nan) for name in self._types}
        self._size, self._seen, self._t, self._quiet = size, 0, 0, 0
        self._m = dict.fromkeys(self._types, 0.0)
        self._flagged: dict[str, float] = {}
        self._in_episode = in_episode
        self._remember(self._reference, self._settings.reference)

    def look(
        self, events: Sequence[Features], began: float, at: float, answered: Collection[tuple[str, str]] = ()
    ) -> Look:
        """Take the next block, whose events were appended from `began` to `at`.

        Broken input, for which the model is held, is no part of the past: what comes after it must be like what was before.
        Neither is a change that is followed, until it was `answered` (feature, kind of finding).
        """
        columns = self._columns(events)
        self._looks += 1
        spoilt = self._settings.hold and any((one.feature, one.what) not in answered for one in self._findings(columns))
        fresh = [] if spoilt else self.advance(columns, len(events), at)
        made = self._made(columns, events, began, at, not fresh)
        self._since = {shift.name: shift.since for shift in made.shifts if shift.since is not None}
        return self._rest(made)

    def advance(self, columns: Mapping[str, Column], count: int, at: float) -> list[str]:
        """The test across time alone: take a block as columns, and give the features that are flagged from now on."""
        self._t += 1
        for name, one in columns.items():
            e = calibrate(self._against_past(name, one))
            self._m[name] = min(ENOUGH, e * (self._m[name] + 1.0 / (self._t * (self._t + 1))))
        self._remember(columns, count)
        names = list(self._types)
        chosen = e_benjamini_hochberg([self._e(name) for name in names], self._settings.q)
        fresh = [name for name, yes in zip(names, chosen, strict=True) if yes and name not in self._flagged]
        self._flagged.update(dict.fromkeys(fresh, at))
        return fresh

    def glance(self, events: Sequence[Features], began: float, at: float) -> Look:
        """What these events tell, without taking them in: they will come again as part of a block."""
        return self._made(self._columns(events), events, began, at, False)

    def findings(self, events: Sequence[Features]) -> tuple[Finding, ...]:
        """What is broken in these events, and nothing else: cheap."""
        return self._findings(self._columns(events))

    def _rest(self, look: Look) -> Look:
        """End the episode when nothing that drifted has differed for `CALM` looks."""
        off = [shift.name for shift in look.shifts if shift.differs and (shift.name in self._flagged or not self._flagged)]
        self._quiet = 0 if off else self._quiet + 1
        if self._quiet >= CALM and (self._flagged or self._in_episode):
            self._calm_at = look.at
            self._begin(False)
        return look

    def _made(self, columns: Mapping[str, Column], events: Sequence[Features], began: float, at: float, settled: bool) -> Look:
        names = list(columns)
        tested = {name: self._against_reference(name, one) for name, one in columns.items()}
        differs = benjamini_hochberg([tested[name] for name in names], self._settings.q)
        shifts = [
            self._shift(name, columns[name], tested[name], yes, self._since.get(name, at) if yes else None)
            for name, yes in zip(names, differs, strict=True)
        ]
        shifts.sort(key=lambda shift: (-shift.e, shift.p))
        appeared = sorted(set().union(*events) - self._types.keys())[:20]
        shown = dict.fromkeys([*self._flagged, *(shift.name for shift in shifts)])
        pictures = {name: self._picture(name, columns[name]) for name in list(shown)[:PICTURED] if name in columns}
        return Look(
            at, began, self._looks, tuple(shifts), dict(self._flagged), settled, self._calm_at, self._findings(columns),
            tuple(appeared), pictures,
        )  # fmt: skip

    def _columns(self, events: Sequence[Features]) -> dict[str, Column]:
        return {name: column(events, name, type_, self._codes[name]) for name, type_ in self._types.items()}

    def _remember(self, columns: Mapping[str, Column], count: int) -> None:
        """Algorithm R (Vitter 1985): each event so far is in the pool with the same chance."""
        places = np.arange(self._seen, self._seen + count)
        slots = np.where(places < self._size, places, self._rng.integers(0, places + 1))
        kept = slots < self._size
        for name, one in columns.items():
            self._pool[name][slots[kept]] = one.values[kept]
        self._seen += count

    def _against_past(self, name: str, recent: Column) -> float:
        pool = self._pool[name][: self._seen]
        return self._p(name, pool, _present(pool), recent)

    def _against_reference(self, name: str, recent: Column) -> float:
        return self._p(name, self._reference[name].values, self._sorted[name], recent)

    def _p(self, name: str, past: Floats, past_sorted: Floats, recent: Column) -> float:
        """The values by the test of their type, what is missing by Fisher's; twice the smaller p-value (Bonferroni)."""
        values = _sorted(recent)
        test = ks if self._types[name] == "number" else chi_squared
        n, m = len(past), len(recent.values)
        return min(1.0, 2.0 * min(test(past_sorted, values), rates(n - len(past_sorted), n, m - len(values), m)))

    def _e(self, name: str) -> float:
        return self._m[name] + 1.0 / (self._t + 1)

    def _shift(self, name: str, recent: Column, p: float, differs: bool, since: float | None) -> Shift:
        before, values, number = self._reference[name], _sorted(recent), self._types[name] == "number"
        known, past = self._known[name], self._sorted[name]
        unseen = outside = 0.0
        if number and len(values) and len(past):
            outside = float(((values < past[0]) | (values > past[-1])).mean())
        elif not number and len(values):
            unseen = float(np.isin(values, list(known), invert=True).mean())
        return Shift(
            name, self._types[name], "ks" if number else "chi-squared", p, self._e(name), psi(past, values, not number),
            (before.missing, recent.missing), (before.changed, recent.changed), unseen, outside, differs, since,
        )  # fmt: skip

    def _picture(self, name: str, recent: Column) -> dict[str, Any]:
        if self._types[name] == "number":
            return histogram(self._sorted[name], _sorted(recent))
        names = {code: label for label, code in self._codes[name].items()}
        return bars(self._sorted[name], _sorted(recent), names)

    def _findings(self, columns: Mapping[str, Column]) -> tuple[Finding, ...]:
        jump = self._settings.null_jump
        found = (broken(name, self._types[name], self._reference[name], one, jump) for name, one in columns.items())
        return tuple(finding for finding in found if finding is not None)


def _sorted(one: Column) -> Floats:
    return _present(one.values)


def _present(values: Floats) -> Floats:
    """Sorted, without NaN, which sorts last."""
    ordered = np.sort(values)
    return ordered[: len(ordered) - int(np.isnan(ordered).sum())]


def _types(events: Sequence[Features]) -> dict[str, str]:
    """The features, the most frequent ones, and what most values of each are: a bool is a number unless all are bools."""
    counts: dict[str, dict[type, int]] = {}
    for x in events:
        for name, value in x.items():
            each = counts.setdefault(name, {})
            kind = type(value)
            each[kind] = each.get(kind, 0) + 1
    often = sorted(counts, key=lambda name: -sum(counts[name].values()))[:MOST]
    types = {}
    for name in sorted(often):
        each = counts[name]
        numbers, bools, texts = each.get(float, 0) + each.get(int, 0), each.get(bool, 0), each.get(str, 0)
        types[name] = "string" if texts > numbers + bools else "boolean" if bools and not numbers else "number"
    return types
