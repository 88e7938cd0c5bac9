"""What people see of control: documents folded from the control log, plus what is going on right now. Never a source of truth.

    model    by model           state, version, previous, shadow, canary (version, share, salt), case, cases (how many there
                                were: their ids are model-1, model-2 …), degraded, held, features, silenced_until, since,
                                contract (the open case of features that are other ones), and how the file differs from what
                                serves; what metrics are made of, see `tally`
    case     by case id         its steps with times, numbers and reasons; progress of the fit; the trial so far, how it
                                grew; alarms that came meanwhile; how it ended
    features by model           the newest look at each watched feature, with histograms: put when there was one
    marks    by model           what happened beside its cases: holds, features that drift
    version  by model@version   what it was made from and with, how it was tried, who decided, fate: see `versions`
    history  by model           which version served from when to when: see `versions`
    role     "control"          when it was last there, who leads, how often it had to wait: put by the loop, not folded
    audit    by padded offset   every record of the control log, as it is, and whether it took effect
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..config import ModelSettings
from ..drift.features import Look
from ..records import Claim, ControlRecord, Decision, KeyMade, KeyRevoked, Notified, Refused, Request, audit_id
from ..retrain.rewind import as_json
from . import marks, versions
from .changes import differs
from .seen import Inputs
from .state import Phase, State
from .tally import Tally
from .world import Said, words

Key = tuple[str, str]
Doc = dict[str, Any]

ENDINGS: Final = frozenset(
    {"rejected", "expired", "broken_input", "retrain_failed", "retrain_kept", "trial_lost", "recovered", "not_recovered",
     "rollback_started"}
)
TYPES: Final[dict[type, str]] = {
    Claim: "claim", Request: "request", Decision: "decision", KeyMade: "key_made", KeyRevoked: "key_revoked",
    Refused: "refused", Notified: "notified",
}  # fmt: skip
HIDDEN: Final = frozenset({"knows", "fit", "reference", "command", "then", "settings", "search"})  # of a step's numbers
SHOWN: Final = {
    Phase.STEADY: "steady", Phase.CONFIRM: "case", Phase.CONFIRMED: "confirmed", Phase.RETRAINING: "retraining",
    Phase.FITTED: "retraining", Phase.TRIAL: "trial", Phase.CANARY: "canary", Phase.PROMOTING: "trial",
    Phase.RECOVERING: "watch",
    Phase.CLOSING: "closing", Phase.ROLLING_BACK: "rolling_back",
}  # fmt: skip


class Book:
    """The documents, and which of them have changed since `taken`. Audit documents leave with it and are not kept."""

    def __init__(self) -> None:
        self._looked: dict[str, tuple[Look | None, dict[str, float]]] = {}  # what the features' documents were made of
        self._docs: dict[Key, Doc] = {}
        self._changed: dict[Key, None] = {}
        self._tally = Tally()

    def add(self, offset: int, record: ControlRecord, took_effect: bool, state: State | None) -> None:
        """Enter the record at `offset`; `state` is its model's after it."""
        self._put(("audit", audit_id(offset)), audit_doc(offset, record, took_effect))
        if isinstance(record, Decision) and took_effect and state is not None:
            self._tally.add(record)
            self._enter(offset, record, state)

    def see(
        self, state: State, progress: tuple[int, int] | None, seen: Inputs | None = None, said: Sequence[Said] = ()
    ) -> None:
        """Bring the documents of the model, its features and its open case up to the present.

        `seen`: the newest look at its features; `said`: what its policies say.
        """
        if state.settings is not None:
            doc = model_doc(state, None if seen is None else seen.doc(), said)
            self._put(("model", state.name), doc | self._tally.doc(state))
            if seen is not None:
                self._see_features(state, state.settings, seen)
        case = state.case
        if case is None or ("case", case.id) not in self._docs:
            return
        live: Doc = {
            "progress": None if progress is None else {"done": progress[0], "total": progress[1]},
            **_live(state),
        }
        key = ("case", case.id)
        self._put(key, {**self._docs[key], **live})

    def _see_features(self, state: State, settings: ModelSettings, seen: Inputs) -> None:
        """Every feature's newest numbers, made only when there was a new look at them."""
        known, told = self._looked.get(state.name), dict(state.drifted)
        if known is not None and known[0] is seen.look and known[1] == told:
            return
        self._looked[state.name] = seen.look, told
        doc = seen.features_doc(state.input_since, settings.drift.features.reference, told)
        if doc is not None:
            self._put(("features", state.name), doc)

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
        for key, doc in list(versions.enter(self._docs, offset, decision, state)):
            self._put(key, doc)
        aside = marks.enter(self._docs.get(("marks", state.name)), offset, decision, state)
        if aside is not None:
            self._put(("marks", state.name), aside)
        replaced = ("case", decision.numbers.get("instead_of", ""))
        if replaced in self._docs:
            ended = {"open": False, "outcome": "replaced", "closed_at": decision.at, "progress": None}
            self._put(replaced, self._docs[replaced] | ended)
            version = ("version", versions.version_id(state.name, self._docs[replaced]["version"]))
            if self._docs.get(version, {}).get("fate") in ("fitting", "fitted"):
                self._put(version, self._docs[version] | {"fate": "failed"})

    def _enter_case(self, offset: int, decision: Decision, state: State) -> None:
        key = ("case", decision.case)
        empty: Doc = {
            "id": decision.case, "model": state.name, "kind": decision.numbers.get("kind", ""), "open": True,
            "outcome": None, "opened_at": decision.at, "closed_at": None, "version": None, "progress": None, "trial": None,
            "growth": None, "alarms": None, "search": None, "steps": [],
        }  # fmt: skip
        doc = dict(self._docs.get(key, empty))
        doc["steps"] = [*doc["steps"], step_doc(offset, decision)]
        doc["version"] = decision.version if decision.kind == "retrain_started" else doc["version"]
        if "search" in decision.numbers:
            doc["search"] = decision.numbers["search"]["report"]
        if decision.numbers.get("survived"):
            doc["outcome"] = "survived"
        if decision.kind in ENDINGS or decision.kind == "rolled_back":
            doc["outcome"] = "rolled_back" if decision.kind == "rollback_started" else decision.kind
        still_open = state.case is not None and state.case.id == decision.case
        if doc["open"] and not still_open:
            doc |= {"open": False, "closed_at": decision.at, "progress": None}
        if decision.kind in ("retrain_failed", "retrain_kept") and still_open and not decision.numbers["final"]:
            doc["outcome"] = None
        if still_open:
            doc |= _live(state)
        self._put(key, doc)


def _live(state: State) -> Doc:
    """What signals, and not decisions, change of the open case's document."""
    case = state.case
    assert case is not None
    alarms = {"items": list(case.alarms), "in_all": case.alarms_in_all} if case.alarms else None
    return {"trial": state.trial_numbers or None, "growth": case.growth.doc(), "alarms": alarms}


def model_doc(state: State, seen: Doc | None = None, said: Sequence[Said] = ()) -> Doc:
    """A model as control has it; `state` is one of `SHOWN`, or held. `seen`: the newest look at its features."""
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
        "canary": state.split,
        "case": "" if state.case is None else state.case.id,
        "cases": state.cases,
        "degraded": state.degraded,
        "held": state.held,
        "silenced_until": state.silenced_until,
        "skipped": as_json(state.skipped),
        "fitted": sorted(state.fitted),
        "features": {"drifted": state.drifted, "broken": state.broken, "seen": seen},
        "contract": _contract(state),
        "differs": differs(state),
        "policies": [one.doc() for one in said],
        "kept": _kept(state, said),
        "since": state.since,
    }


def _contract(state: State) -> Doc | None:
    """The case that is open since the features are other ones."""
    case = state.case
    return None if case is None or not case.changes else {"case": case.id, "changes": case.changes}


def _kept(state: State, said: Sequence[Said]) -> str:
    """While a confirmed drift waits since the policies keep the model: what those that answer it say; else nothing."""
    waits = state.phase == Phase.CONFIRMED and state.case is not None and state.case.kept and not state.case.attempt
    return words(one for one in said if one.policy.gated) if waits else ""


def step_doc(offset: int, decision: Decision) -> Doc:
    """One step of a case. `control` is its offset in the control log; the whole numbers are in the audit document."""
    numbers = {name: value for name, value in decision.numbers.items() if name not in HIDDEN}
    command = decision.numbers.get("command")
    if command is not None:
        numbers["command"] = command["verb"]
    return {
        "kind": decision.kind, "at": decision.at, "n": decision.n, "offset": decision.offset, "version": decision.version,
        "by": decision.by, "why": decision.why, "numbers": numbers, "control": offset,
    }  # fmt: skip


def audit_doc(offset: int, record: ControlRecord, took_effect: bool) -> Doc:
    """A record of the control log as it is, with its type, its place there (`control`), and whether it changed anything.

    `id` is the document's; a request's own is `request`. `model` is empty for what concerns none, or several.
    """
    kind = TYPES[type(record)]
    fields = msgspec.structs.asdict(record)
    if isinstance(record, Request):
        fields["request"] = fields.pop("id")
    elif isinstance(record, KeyMade):  # whoever reads the trail needs no digests
        del fields["salt"], fields["digest"]
    elif isinstance(record, Refused) and len(record.models) == 1:
        fields["model"] = record.models[0]
    return {"id": audit_id(offset), "control": offset, "type": kind, "took_effect": took_effect, "model": "", **fields}
