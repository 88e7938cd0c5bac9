"""What was seen of a model's input, as the machine gets it, and what that says of a loss that rose."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..drift.contract import Agreed
from ..drift.diagnose import MOVED, Diagnosis, Evidence, diagnose
from ..drift.features import Finding, Look

SHOWN: Final = 20  # features in the document of a model
LISTED: Final = 200  # in that of its features


@dataclass(frozen=True, slots=True)
class Block:
    """What came beside a block of questions: labels for each, the median delay in questions, dead letters of all records."""

    at: float
    labels: float
    delay: float | None
    dead: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was seen last, for the machine. `look` is None while there is no reference, `findings` say what is broken.

    `began`: the append time of the oldest event that they rest on. `sound`: blocks in a row that were like the reference.
    `followed`: those of the findings that are no reason to hold. `changes`: how the features differ from the reference's.
    """

    look: Look | None
    findings: tuple[Finding, ...]
    began: float
    sound: int
    history: tuple[Block, ...]
    followed: tuple[Finding, ...] = ()
    changes: tuple[Agreed, ...] = ()

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings that are a reason to hold."""
        return tuple(finding for finding in self.findings if finding not in self.followed)

    def diagnosis(
        self, changed_at: float, told: Mapping[str, float], findings: Sequence[Finding] | None = None
    ) -> Diagnosis | None:
        """What came with a rise of the loss at `changed_at` (append time), None where nothing is known of the features.

        `told`: the features that had drifted before, by the time they were told of. `findings`: those that may have to do with
        it; all by default.
        """
        findings = self.findings if findings is None else findings
        if self.look is None and not findings:
            return None
        drifted = [
            shift.name
            for shift in sorted(() if self.look is None else self.look.shifts, key=lambda shift: shift.p)
            if shift.psi >= MOVED
            and shift.since is not None
            and min(shift.since, told.get(shift.name, shift.since)) >= changed_at
        ]
        before = [block for block in self.history if block.at < changed_at]
        labels = delay = None
        if before and self.history[-1].at >= changed_at:
            now = self.history[-1]
            labels = statistics.median(block.labels for block in before), now.labels
            delays = [block.delay for block in before if block.delay is not None]
            delay = (statistics.median(delays), now.delay) if delays and now.delay is not None else None
        return diagnose(Evidence(True, findings, drifted, labels, delay))

    def doc(self) -> dict[str, Any]:
        """For people: the features that stand out, with histograms of those that are flagged."""
        told: dict[str, Any] = {"broken": [finding._asdict() for finding in self.findings], "sound": self.sound}
        told["changes"] = [{**one.change.doc(), "since": one.since, "looks": one.looks} for one in self.changes[:SHOWN]]
        look = self.look
        if look is not None:
            told |= {
                "at": look.at, "looks": look.looks, "flagged": sorted(look.flagged), "appeared": list(look.appeared),
                "features": [shift.doc() for shift in look.shifts[:SHOWN]],
                "histograms": {name: look.histograms[name] for name in list(look.flagged)[:SHOWN] if name in look.histograms},
            }  # fmt: skip
        return told

    def named(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The newest numbers of these features, each with its histogram or null; those of which there are none are left out."""
        if self.look is None:
            return []
        shifts = {shift.name: shift for shift in self.look.shifts}
        return [{**shifts[name].doc(), "histogram": self.look.histograms.get(name)} for name in names if name in shifts]

    def features_doc(self, since: float, reference: int, told: Mapping[str, float]) -> dict[str, Any] | None:
        """Every watched feature of the newest look, the surest first, at most `LISTED`; None before there is a look.

        `since`: from when on the `reference` events are taken. `told`: the features that were told to have drifted, by when.
        """
        look = self.look
        if look is None:
            return None
        features = self.named([shift.name for shift in look.shifts[:LISTED]])
        for one in features:
            one["flagged_since"] = told.get(one["name"], look.flagged.get(one["name"]))
        return {
            "reference": {"since": since, "n": reference}, "at": look.at, "looks": look.looks, "settled": look.settled,
            "in_all": len(look.shifts), "features": features, "findings": [finding._asdict() for finding in self.findings],
            "appeared": list(look.appeared),
        }  # fmt: skip
