"""What people see of control: documents folded from the control log, plus what is going on right now. Never a source of truth.

    model    by model           state, version, previous, shadow, case, degraded, held, since
    case     by case id         its steps with times, numbers and reasons; progress of the fit; the trial so far; how it ended
    version  by model@version   parent, reason, window of the log it was fitted from, fate
    role     "control"          when it was last there: put by the loop, not folded from anything
    audit    by padded offset   every record of the control log, as it is, and whether it took effect
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..records import Claim, ControlRecord, Decision, Request
from .state import Phase, State

Key = tuple[str, str]
Doc = dict[str, Any]

ENDINGS: Final = frozenset(
    {"rejected", "expired", "retrain_failed", "trial_lost", "recovered", "not_recovered", "rollback_started"}
)
SHOWN: Final = {
    Phase.STEADY: "steady", Phase.CONFIRM: "case", Phase.CONFIRMED: "confirmed", Phase.RETRAINING: "retraining",
    Phase.FITTED: "retraining", Phase.TRIAL: "trial", Phase.PROMOTING: "trial", Phase.RECOVERING: "watch",
    Phase.CLOSING: "closing", Phase.ROLLING_BACK: "rolling_back",
}  # fmt: skip
FATES: Final = {
    "retrain_started": "fitting", "retrained": "fitted", "retrain_failed": "failed", "trial_started": "challenger",
    "trial_lost": "lost",
}  # fmt: skip


def audit_id(offset: int) -> str:
    """The id of the audit document of a control-log offset; ids sort as offsets do."""
    return f"{offset:020d}"


class Book:
    """The documents, and which of them have changed since `taken`. Audit documents leave with it and are not kept."""

    def __init__(self) -> None:
        self._docs: dict[Key, Doc] = {}
        self._changed: dict[Key, None] = {}

    def add(self, offset: int, record: ControlRecord, took_effect: bool, state: State | None) -> None:
        """Enter the record at `offset`; `state` is its model's after it."""
        self._put(("audit", audit_id(offset)), audit_doc(offset, record, took_effect))
        if isinstance(record, Decision) and took_effect and state is not None:
            self._enter(offset, record, state)

    def see(self, state: State, progress: tuple[int, int] | None) -> None:
        """Bring the model's document, and those of its open case, up to the present."""
        if state.settings is not None:
            self._put(("model", state.name), model_doc(state))
        case = state.case
        if case is None or ("case", case.id) not in self._docs:
            return
        live: Doc = {
            "progress": None if progress is None else {"done": progress[0], "total": progress[1]},
            "trial": state.trial_numbers or None,
        }
        key = ("case", case.id)
        self._put(key, {**self._docs[key], **live})

    def changed(self) -> dict[Key, bytes]:
        """The documents to be put, as JSON."""
        return {key: msgspec.json.encode(self._docs[key]) for key in self._changed}

    def taken(self) -> None:
        """What `changed` gave is in the store."""
        for kind, name in self._changed:
            if kind == "audit":
                del self._docs[kind, name]
        self._changed.clear()

    def skip_audit(self, below: int) -> None:
        """The store has the audit documents of the offsets below."""
        for key in [key for key in self._changed if key[0] == "audit" and key[1] < audit_id(below)]:
            del self._changed[key], self._docs[key]

    def _put(self, key: Key, doc: Doc) -> None:
        if self._docs.get(key) != doc:
            self._docs[key] = doc
            self._changed[key] = None

    def _enter(self, offset: int, decision: Decision, state: State) -> None:
        if decision.case:
            self._enter_case(offset, decision, state)
        if decision.kind == "registered":
            self._version(state.name, decision, parent=None, reason="registered", fate="champion", window=None)
        elif decision.kind == "retrain_started":
            window = {name: decision.numbers[name] for name in ("starts", "until")}
            self._version(state.name, decision, parent=state.version, reason=decision.case, fate="fitting", window=window)
        elif decision.kind in FATES:
            self._fate(state.name, decision.version, FATES[decision.kind], decision)
        elif decision.kind == "promoted":
            self._fate(state.name, state.previous, "previous", decision)
            self._fate(state.name, state.version, "champion", decision)
        elif decision.kind == "rolled_back":
            self._fate(state.name, decision.numbers["from"], "rolled_back", decision)
            self._fate(state.name, state.version, "champion", decision)

    def _enter_case(self, offset: int, decision: Decision, state: State) -> None:
        key = ("case", decision.case)
        empty: Doc = {
            "id": decision.case, "model": state.name, "kind": decision.numbers.get("kind", ""), "open": True,
            "outcome": None, "opened_at": decision.at, "closed_at": None, "version": None, "progress": None, "trial": None,
            "steps": [],
        }  # fmt: skip
        doc = dict(self._docs.get(key, empty))
        doc["steps"] = [*doc["steps"], step_doc(offset, decision)]
        doc["version"] = decision.version if decision.kind == "retrain_started" else doc["version"]
        if decision.kind in ENDINGS or decision.kind == "rolled_back":
            doc["outcome"] = "rolled_back" if decision.kind == "rollback_started" else decision.kind
        still_open = state.case is not None and state.case.id == decision.case
        if doc["open"] and not still_open:
            doc |= {"open": False, "closed_at": decision.at, "progress": None}
        if decision.kind == "retrain_failed" and still_open and not decision.numbers["final"]:
            doc["outcome"] = None
        if still_open:
            doc["trial"] = state.trial_numbers or None
        self._put(key, doc)

    def _version(
        self, model: str, decision: Decision, *, parent: int | None, reason: str, fate: str, window: Doc | None
    ) -> None:
        doc = {
            "model": model, "version": decision.version, "parent": parent, "reason": reason, "fate": fate, "window": window,
            "created": decision.at, "fitted_at": None, "trained_to": None,
        }  # fmt: skip
        self._put(("version", f"{model}@{decision.version}"), doc)

    def _fate(self, model: str, version: int | None, fate: str, decision: Decision) -> None:
        key = ("version", f"{model}@{version}")
        if key not in self._docs:
            return
        doc = {**self._docs[key], "fate": fate}
        if decision.kind == "retrained":
            doc |= {"fitted_at": decision.at, "trained_to": decision.numbers["trained_to"]}
        self._put(key, doc)


def model_doc(state: State) -> Doc:
    """A model as control has it; `state` is one of `SHOWN`, or held."""
    shown = SHOWN[state.phase]
    if state.phase == Phase.CONFIRMED and state.case is not None and state.case.attempt:
        shown = "retraining"
    if state.phase == Phase.STEADY and state.shadow is not None:
        shown = "watch"
    settings = state.settings
    return {
        "name": state.name,
        "stream": "" if settings is None else settings.stream,
        "task": "" if settings is None else settings.task,
        "state": "held" if state.held is not None else shown,
        "version": state.version or None,
        "previous": state.previous,
        "shadow": state.shadow,
        "case": "" if state.case is None else state.case.id,
        "degraded": state.degraded,
        "held": state.held,
        "since": state.since,
    }


def step_doc(offset: int, decision: Decision) -> Doc:
    """One step of a case. `control` is its offset in the control log; the whole numbers are in the audit document."""
    numbers = {name: value for name, value in decision.numbers.items() if name not in ("fit", "reference", "command", "then")}
    command = decision.numbers.get("command")
    if command is not None:
        numbers["command"] = command["verb"]
    return {
        "kind": decision.kind, "at": decision.at, "n": decision.n, "offset": decision.offset, "version": decision.version,
        "by": decision.by, "why": decision.why, "numbers": numbers, "control": offset,
    }  # fmt: skip


def audit_doc(offset: int, record: ControlRecord, took_effect: bool) -> Doc:
    """A record of the control log as it is, with its type, its place there (`control`), and whether it changed anything.

    `id` is the document's; a request's own is `request`.
    """
    kind = {Claim: "claim", Request: "request", Decision: "decision"}[type(record)]
    fields = msgspec.structs.asdict(record)
    if isinstance(record, Request):
        fields["request"] = fields.pop("id")
    return {"id": audit_id(offset), "control": offset, "type": kind, "took_effect": took_effect, **fields}
