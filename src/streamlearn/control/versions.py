"""The registry: what each version is, and what served when; documents folded from the decisions that took effect, and no more.

    version  by model@version  what it was made from and with, the features it knows, how it was tried, who decided, its fate
    history  by model          which version served from when to when, by control's log, the clock and the learners' positions

Never a source of truth: a store that lost them gets the same ones again. Facts that older decisions lack are null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..records import Decision
from .state import State

Key = tuple[str, str]
Doc = dict[str, Any]

FATES: Final = {
    "retrain_started": "fitting", "retrained": "fitted", "retrain_failed": "failed", "trial_started": "challenger",
    "canary_started": "canary", "trial_lost": "lost", "broken_input": "failed",
}  # fmt: skip
SWAPS: Final = ("promote", "rollback")  # the commands by which another version begins to serve
BY_HAND: Final = frozenset({"rewind", "restore"})  # kinds of cases whose version is promoted without a trial
TOLD: Final = frozenset(
    {*FATES, "registered", "trial_won", "promoted", "rollback_started", "rolled_back", "imported", "version_dropped"}
)


def version_id(model: str, version: int | None) -> str:
    """The id of a version's document."""
    return f"{model}@{version}"


def enter(docs: Mapping[Key, Doc], offset: int, decision: Decision, state: State) -> Iterator[tuple[Key, Doc]]:
    """The documents that the decision at `offset` changes, as they are after it; `state` is its model's after it."""
    for version in dict.fromkeys(_about(decision, state)):
        key = ("version", version_id(state.name, version))
        doc = docs.get(key) or _made(decision, state, docs.get(("case", decision.case), {}).get("kind", ""))
        if doc is not None:
            yield key, _changed(doc, version, offset, decision, _decided(docs, version_id(state.name, version), decision))
    key = ("history", state.name)
    if decision.kind in ("registered", "promoted", "rolled_back"):
        version = decision.version if decision.version is not None else state.version
        by, why = _decided(docs, version_id(state.name, version), decision)
        yield key, _served(docs.get(key), version, offset, decision, by, why)


def _about(decision: Decision, state: State) -> Iterator[int]:
    """The versions that a decision says something of."""
    if decision.kind in TOLD and decision.version is not None:
        yield decision.version
    if decision.kind == "promoted" and state.previous is not None:
        yield state.previous
    if decision.kind == "rolled_back":
        yield decision.numbers["from"]


def _made(decision: Decision, state: State, kind: str) -> Doc | None:
    """The document of a version that this decision makes, None when it makes none; `kind` is that of its case."""
    case = kind if kind in BY_HAND else decision.case
    reason = {"registered": "registered", "retrain_started": case, "imported": "import"}.get(decision.kind)
    if reason is None:
        return None
    numbers = decision.numbers
    bases = numbers.get("bases", {})
    grown = [base["id"] for base in bases.values() if base["kind"] == "version"]
    parent = grown[0] if grown else state.version
    return {
        "model": state.name, "version": decision.version, "parent": parent if decision.kind == "retrain_started" else None,
        "reason": reason, "case": decision.case, "by": decision.by, "why": decision.why, "fate": "", "created": decision.at,
        "fitted_at": None, "fit_s": None, "window": None, "bases": bases, "skip": numbers.get("skip", {}), "trained_to": None,
        "times": None, "learned": None, "skipped": None, "settings": _settings(numbers), "made_with": numbers.get("made_with"),
        "features": None, "features_in_all": None, "blobs": {}, "trial": None, "promoted": None,
        "origin": numbers.get("origin"), "search": None, "dropped": None, "decisions": [],
    }  # fmt: skip


def _changed(doc: Doc, version: int, offset: int, decision: Decision, decided: tuple[str, str]) -> Doc:
    numbers, kind = decision.numbers, decision.kind
    command = numbers.get("command", {}).get("verb")
    told = {"kind": kind, "at": decision.at, "by": decision.by, "why": decision.why, "case": decision.case, "control": offset}
    doc = {**doc, "decisions": [*doc["decisions"], told | ({"command": command} if command else {})]}
    if kind in FATES:
        doc["fate"] = FATES[kind]
    match kind:
        case "registered":
            doc["fate"] = "champion"
        case "retrain_started":  # again to catch up, or after a failure: the last one stands
            doc |= {"window": {name: numbers[name] for name in ("starts", "until")}, "times": numbers.get("times")}
            doc |= {"made_with": numbers.get("made_with"), "settings": _settings(numbers)}
            doc |= {name: numbers.get(name, {}) for name in ("bases", "skip")}
        case "retrained":
            doc |= {"fitted_at": decision.at, "fit_s": numbers.get("took_s")}
            doc |= _fitted(numbers, doc["times"])
            if "search" in numbers:
                found = numbers["search"]
                doc |= {"search": found["report"], "settings": {**(doc["settings"] or {}), **found["recipe"]}}
        case "imported":
            rebased = numbers["rebased"]  # then its window lies in another log, and stays with its origin
            doc |= {"fate": "imported", "origin": {**numbers["origin"], "rebased": rebased}}
            doc |= {"window": None if rebased else numbers["origin"].get("window")} | _fitted(numbers, None)
        case "trial_started":
            doc["trial"] = {"began_at": decision.at, "k": numbers.get("k"), "ended": None}
        case "trial_won" | "trial_lost":
            what = {name: value for name, value in numbers.items() if name not in ("command", "then", "request")}
            doc["trial"] = {**(doc["trial"] or {}), **what, "ended": kind, "ended_at": decision.at}
        case "promoted" if version == decision.version:
            doc |= {"fate": "champion", "promoted": _promoted(decision, *decided)}
        case "promoted":
            doc |= {"fate": "previous"} | _knows(numbers)
        case "rolled_back" if version == decision.version:
            doc["fate"] = "champion"
        case "rolled_back":
            doc |= {"fate": "rolled_back"} | _knows(numbers)
        case "version_dropped":
            doc["dropped"] = decision.at
    return doc


def _settings(numbers: Mapping[str, Any]) -> Doc | None:
    """The model's whole table, as it was."""
    found: Doc | None = numbers.get("settings") or numbers.get("fit", {}).get("settings")
    return found


def _fitted(numbers: Mapping[str, Any], times: Doc | None) -> Doc:
    """What is known of a version whose blobs are in the store."""
    blobs = numbers.get("shards", {})
    sums = {name: _sum(blob.get(name) for blob in blobs.values()) for name in ("learned", "skipped")}
    read_to = {shard: blob.get("read_to") for shard, blob in blobs.items()}
    return {
        "trained_to": numbers["trained_to"], "blobs": blobs, **sums, **_knows(numbers),
        "times": {**times, "trained_to": read_to} if times and blobs else times,
    }  # fmt: skip


def _knows(numbers: Mapping[str, Any]) -> Doc:
    """What a version that was made, or that no longer serves, knows of features."""
    knows = numbers.get("knows")
    return {} if knows is None else {"features": knows["types"], "features_in_all": knows["features"]}


def _sum(values: Iterator[int | None]) -> int | None:
    found = [value for value in values if value is not None]
    return sum(found) if found else None


def _promoted(decision: Decision, by: str, why: str) -> Doc:
    numbers = decision.numbers
    return {
        "at": decision.at, "n": decision.n, "by": by, "why": why, "instead_of": numbers.get("previous"),
        "positions": numbers.get("at", {}), "scores": numbers.get("scores", {}),
    }  # fmt: skip


def _decided(docs: Mapping[Key, Doc], id: str, decision: Decision) -> tuple[str, str]:
    """Who had the shards swap, and why: the swap itself is only seen to by control.

    That is who opened a case that ends without a trial, else whose decision commanded it.
    """
    case = docs.get(("case", decision.case))
    if case is not None and case["kind"] in BY_HAND and decision.kind == "promoted":
        return case["steps"][0]["by"], case["steps"][0]["why"]
    for told in reversed(docs.get(("version", id), {}).get("decisions", [])):
        if told.get("command") in SWAPS and decision.kind != "registered":
            return told["by"], told["why"]
    return decision.by, decision.why


def _served(known: Doc | None, version: int, offset: int, decision: Decision, by: str, why: str) -> Doc:
    """The history with a new last stretch; the one before it ends where it begins."""
    begin = {"control": offset, "at": decision.at, "positions": decision.numbers.get("at", {})}
    items = [] if known is None else [dict(item) for item in known["items"]]
    if items:
        items[-1]["until"] = begin
    items.append({"version": version, "since": begin, "until": None, "by": by, "why": why, "case": decision.case})
    return {"model": decision.model, "items": items}
