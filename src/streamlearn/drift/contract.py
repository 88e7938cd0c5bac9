"""Which features a stream holds, against those that it held in the reference: what appeared, vanished, or changed its type.

A change counts once `heal_looks` blocks in a row show it. A new feature must be in half of a block's events, so that names
which are values, as the words of a text are, are no news. What vanishes in the midst of a block looks like a jump of nulls at
first, see `thinning`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ..events import Features
from .features import Finding

COMMON: Final = 0.5  # share of a block's events that have a feature which is new
MOST: Final = 100  # changes of a kind in one block; beyond it the names are values
NUMBER: Final = "number"
STRING: Final = "string"
APPEARED: Final = "appeared"
SCHEMA: Final = frozenset({"vanished", "type_change"})  # findings that are a change of which features there are


class Change(NamedTuple):
    """What became of a feature: "appeared", "vanished" or "type". `was` and `now`: "number", "string", or "" for none."""

    feature: str
    what: str
    was: str
    now: str

    def doc(self) -> dict[str, str]:
        """As a decision has it."""
        return {"feature": self.feature, "what": self.what, "was": self.was, "is": self.now}


class Agreed(NamedTuple):
    """A change that `looks` blocks in a row have shown. `since`: the append time of the first event that did; `n`: labelled
    events that the learners had told of by the first block's end."""

    change: Change
    since: float
    n: int
    looks: int


def change_of(finding: Finding) -> Change | None:
    """The change that a finding tells of, None where it tells of none."""
    if finding.what not in SCHEMA:
        return None
    was = STRING if finding.type == STRING else NUMBER
    if finding.what == "vanished":
        return Change(finding.feature, "vanished", was, "")
    return Change(finding.feature, "type", was, NUMBER if was == STRING else STRING)


def answered(contract: Iterable[tuple[str, str, str]]) -> frozenset[tuple[str, str]]:
    """The findings (feature, kind) that tell of changes (feature, what, is) which have had their case."""
    return frozenset((feature, "type_change" if what == "type" else what) for feature, what, _ in contract)


def changes(findings: Iterable[Finding], events: Sequence[Features], known: frozenset[str]) -> tuple[Change, ...]:
    """What a block of events shows; `findings` are those in it, `known` the features that the reference has."""
    told = [change for finding in findings if (change := change_of(finding)) is not None]
    return (*told[:MOST], *appeared(events, known))


def appeared(events: Sequence[Features], known: frozenset[str]) -> list[Change]:
    """The features with a value in at least half of the events that the reference does not have, by name; MOST at most."""
    counts: dict[str, list[int]] = {}
    for x in events:
        if x.keys() <= known:
            continue
        for name, value in x.items():
            if name not in known and value is not None:
                counts.setdefault(name, [0, 0])[type(value) is str] += 1
    often = sorted(name for name, each in counts.items() if sum(each) >= COMMON * len(events))
    return [Change(name, APPEARED, "", STRING if counts[name][1] > counts[name][0] else NUMBER) for name in often[:MOST]]


def begins(change: Change, events: Sequence[Features]) -> int:
    """The place of the first of a block's events that show the change."""
    name, first = change.feature, 0
    for i, x in enumerate(events):
        value = x.get(name)
        if change.what == "vanished":
            first = i + 1 if name in x else first
        elif value is not None and (change.what == APPEARED or (type(value) is str) == (change.now == STRING)):
            return i
    return first if change.what == "vanished" and first < len(events) else 0


def agreeing(
    before: Mapping[Change, Agreed], found: Iterable[Change], events: Sequence[Features], times: Sequence[float], n: int
) -> dict[Change, Agreed]:
    """The changes that the newest block shows, each with how many blocks in a row have; a block without one ends its row."""
    return {
        change: before[change]._replace(looks=before[change].looks + 1)
        if change in before
        else Agreed(change, times[begins(change, events)], n, 1)
        for change in found
    }


def thinning(findings: Iterable[Finding], events: Sequence[Features]) -> frozenset[str]:
    """The features that are missing more often since they no longer come, rather than come as nulls.

    They may be about to vanish: a block in whose midst that happened shows no more than this.
    """
    jumps = [finding for finding in findings if finding.what == "null_jump"]
    missing = {one.feature: [x[one.feature] is None for x in events if one.feature in x] for one in jumps}
    return frozenset(name for name, nulls in missing.items() if len(events) - len(nulls) > sum(nulls))
