"""What people are told: which decisions make a notice, how severe each is, and how several are said in one message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ..config_notify import SEVERITIES
from ..records import Decision

MOST_SHOWN: Final = 20  # notices that a message tells one by one; the others are counted
WORDS: Final = {
    "case_opened": "case opened", "confirmed": "drift confirmed", "case_closed": "case closed", "promoted": "promoted",
    "rolled_back": "rolled back", "held": "held", "resumed": "resumed", "retrain_failed": "retrain failed", "test": "test",
}  # fmt: skip
_CLOSING: Final = {
    "rejected": "info", "expired": "info", "recovered": "info", "trial_lost": "warning", "broken_input": "warning",
    "not_recovered": "critical",
}  # fmt: skip


class Notice(msgspec.Struct, frozen=True):
    """One decision that is told. `id` is that of the decision: the model, the control log's name, and the offset there.

    `event` is the decision's kind; `at` in Unix seconds.
    """

    id: str
    model: str
    kind: str
    event: str
    severity: str
    at: float
    control: int
    case: str = ""
    version: int | None = None
    by: str = ""
    why: str = ""


class Message(msgspec.Struct, frozen=True):
    """Notices of one model for one target: how many of each kind, the newest of them one by one.

    `upto`: the control-log offset of the newest. Times are Unix seconds.
    """

    id: str
    target: str
    model: str
    severity: str
    counts: dict[str, int]
    since: float
    until: float
    upto: int
    notices: tuple[Notice, ...]


def notice_of(decision: Decision, offset: int, log: str) -> Notice | None:
    """The notice of the decision at `offset` of the control log named `log`; None for one that nobody is told of."""
    found = _severity(decision)
    if found is None:
        return None
    kind, severity = found
    id = f"{decision.model}:{log[:12]}:{offset}"
    return Notice(
        id, decision.model, kind, decision.kind, severity, decision.at, offset, decision.case, decision.version, decision.by,
        decision.why,
    )  # fmt: skip


def _severity(decision: Decision) -> tuple[str, str] | None:
    """(kind, severity)."""
    numbers: Mapping[str, Any] = decision.numbers
    asked = "request" in numbers  # by a person, who knows
    match decision.kind:
        case "case_opened":
            return "case_opened", "warning" if numbers.get("kind") in ("drift", "contract") else "info"
        case "confirmed":
            return ("case_closed", "info") if numbers.get("survived") else ("confirmed", "warning")
        case "retrain_kept":
            return ("case_closed", "info") if numbers.get("final") else None
        case "retrain_failed":
            severity = "info" if numbers.get("reason") == "cancelled" else "critical" if numbers.get("final") else "warning"
            return "retrain_failed", severity
        case "promoted":
            return "promoted", "info"
        case "rolled_back" | "rollback_failed":
            return "rolled_back", "critical"
        case "held":
            return "held", "warning" if asked else "critical"
        case "resumed":
            return "resumed", "info"
    closing = _CLOSING.get(decision.kind)
    return None if closing is None else ("case_closed", closing)


def worst(severities: Iterable[str]) -> str:
    """The most severe of them, "info" of none."""
    return max(severities, key=SEVERITIES.index, default="info")


def headline(message: Message) -> str:
    """A message in a line."""
    newest = message.notices[-1]
    if sum(message.counts.values()) == 1:
        case = f" (case {newest.case})" if newest.case else ""
        version = f", version {newest.version}" if newest.version is not None else ""
        if newest.why.startswith(WORDS[newest.kind]):  # as what people ask for does
            return f"{message.model}: {newest.why}{case}"
        return f"{message.model}: {WORDS[newest.kind]}{version}{case}: {newest.why or 'no reason given'}"
    counted = ", ".join(f"{count} × {WORDS[kind]}" for kind, count in message.counts.items())
    return f"{message.model}: {counted} in {_span(message.until - message.since)}; the newest: {newest.why or newest.event}"


def _span(seconds: float) -> str:
    for size, unit in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
