"""What lies behind a rise of the loss, or beside it: diagnose before you spend. A pure function of the evidence.

In this order, since what comes first explains what follows it:

    schema_break   a feature changed its type or vanished, or records that cannot be learned became frequent
    null_jump      a feature is missing much more often than it was
    label_rate     labels come for another share of the questions: the loss is now taken over other ones
    label_delay    labels come after another time, likewise
    feature_drift  features moved: what the model is asked about is not what it learned from
    concept_drift  the loss rose, and none of that: the same features mean something else now

The first two are *broken input*: an upstream failed, and that must not be learned. Thresholds are constants here, or settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from .features import Finding

BROKEN: Final = frozenset({"schema_break", "null_jump"})
UNREADABLE: Final = frozenset(
    {"malformed", "shape", "too_deep", "too_many_features", "too_long", "not_finite", "out_of_range", "time", "future",
     "too_large", "feature_type", "unknown_label"}
)  # fmt: skip
DEAD_SHARE: Final = 0.1  # dead letters for one of those reasons, of all records, that are a break
DEAD_FACTOR: Final = 5.0  # and how many times as frequent as before
RATE_FACTOR: Final = 2.0  # labels for twice, or half, as many of the questions
RATE_LEAST: Final = 0.1  # and at least so much more or less of them
DELAY_FACTOR: Final = 2.0  # labels after twice, or half, as many questions, at the median
DELAY_LEAST: Final = 50.0  # and at least so many more or fewer
MOVED: Final = 0.2  # PSI from which a feature that differs may account for a loss: by custom, a significant change

Pair = tuple[float, float]  # before the change, and now


class Evidence(NamedTuple):
    """What is known. A pair is (before the change, now), None when one of the two is not known.

    `drifted`: the features that began to differ with the change, and by `MOVED` or more, the surest first. `labels`: labels
    for each question; `delay`: the median delay of a label, in questions.
    """

    loss_rose: bool
    findings: Sequence[Finding] = ()
    drifted: Sequence[str] = ()
    labels: Pair | None = None
    delay: Pair | None = None


class Diagnosis(NamedTuple):
    """The kind, in words, and the features that it names, at most ten."""

    kind: str
    why: str
    features: list[str]

    @property
    def broken(self) -> bool:
        """Whether the input is broken, and so must not be learned."""
        return self.kind in BROKEN


def diagnose(evidence: Evidence) -> Diagnosis | None:
    """The first that the evidence speaks for; None when nothing is amiss."""
    breaks = [one for one in evidence.findings if one.what != "null_jump"]
    for kind, found in (("schema_break", breaks), ("null_jump", evidence.findings)):
        if found:
            return Diagnosis(kind, _listed([one.text() for one in found]), [one.feature for one in found[:10]])
    if evidence.loss_rose and changed(evidence.labels, RATE_FACTOR, RATE_LEAST):
        before, now = evidence.labels or (0.0, 0.0)
        return Diagnosis("label_rate", f"labels came for {before:.0%} of the questions, and come for {now:.0%} now", [])
    if evidence.loss_rose and changed(evidence.delay, DELAY_FACTOR, DELAY_LEAST):
        before, now = evidence.delay or (0.0, 0.0)
        return Diagnosis("label_delay", f"labels came after {before:.0f} questions, and come after {now:.0f} now", [])
    if evidence.drifted:
        names = list(evidence.drifted[:10])
        return Diagnosis("feature_drift", f"{_listed([repr(name) for name in evidence.drifted])} changed", names)
    if evidence.loss_rose:
        return Diagnosis("concept_drift", "the loss rose, and no feature moved far with it", [])
    return None


def changed(pair: Pair | None, factor: float, least: float) -> bool:
    """Whether the two differ by the factor, either way, and by at least so much."""
    if pair is None:
        return False
    low, high = sorted(pair)
    return high >= factor * low and high - low >= least


def dead_letters(shares: Mapping[str, Pair]) -> tuple[Finding, ...]:
    """The reasons for which records became unreadable. `shares`: dead letters of all records, by reason."""
    return tuple(
        Finding(reason, "dead_letters", before, now)
        for reason, (before, now) in sorted(shares.items())
        if reason in UNREADABLE and now >= DEAD_SHARE and now >= DEAD_FACTOR * before
    )


def readable(finding: Finding, shares: Mapping[str, Pair]) -> bool:
    """Whether the reason of a `dead_letters` finding is rare again: less than half of what makes a break above what it was."""
    return shares.get(finding.feature, (0.0, 0.0))[1] < finding.before + DEAD_SHARE / 2


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")
