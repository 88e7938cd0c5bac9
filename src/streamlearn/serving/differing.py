"""What is known to differ between two versions of a model, by their documents. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..wire import Difference

TOP: Final = 15  # weights told of those that differ
NOT_COMPARED: Final = frozenset({"position", "n", "weights", "types"})
UNKNOWN: Final = "?"
TRIAL: Final = ("events", "e", "threshold", "champion_loss", "challenger_loss", "mean_difference", "interval", "ended")


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """All that is known to differ between two versions' documents; of weights, the TOP largest differences of each shard."""
    found: list[Difference] = []
    for part, a, b in (
        ("settings", one.get("settings"), other.get("settings")),
        ("made with", _without(one.get("made_with"), "settings_sha256"), _without(other.get("made_with"), "settings_sha256")),
        ("data", _data(one), _data(other)),
        ("trial", _chosen(one.get("trial")), _chosen(other.get("trial"))),
    ):
        left, right = dict(_flat(a or {})), dict(_flat(b or {}))
        found += [
            Difference(part, name, left.get(name), right.get(name))
            for name in dict.fromkeys([*left, *right])
            if left.get(name) != right.get(name)
        ]
    for name in sorted({*(one.get("features") or ()), *(other.get("features") or ())}):
        a, b = feature_type(one, name), feature_type(other, name)
        if UNKNOWN not in (a, b) and a != b:
            found.append(Difference("features", name, a, b))
    models, others = _models(one), _models(other)
    for shard in sorted({*models, *others}, key=int):
        found += _between(shard, models.get(shard, {}), others.get(shard, {}))
    return found


def feature_type(doc: Mapping[str, Any], name: str) -> str | None:
    """What the feature is to a version: "number" or "string", None where it does not know it, UNKNOWN where nobody can tell."""
    features = doc.get("features")
    if features is None:
        return UNKNOWN
    told = len(features) >= (doc.get("features_in_all") or 0) or name <= max(features, default="")
    found: str | None = features.get(name, None if told else UNKNOWN)
    return found


def _between(shard: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    part = f"model, shard {shard}"
    found = [
        Difference(part, name.replace("_", " "), a.get(name), b.get(name))
        for name in dict.fromkeys([*a, *b])
        if name not in NOT_COMPARED and a.get(name) != b.get(name)
    ]
    left, right = a.get("weights") or {}, b.get("weights") or {}
    if not left or not right:
        return found
    names = {*left, *right}
    # Of a large model only the largest weights are known: one that is not among them is small, not 0.
    whole = [len(side) == summary.get("weights_in_all", len(side)) for side, summary in ((left, a), (right, b))]
    gaps = {name: abs(right.get(name, 0.0) - left.get(name, 0.0)) for name in names}
    most = sorted((name for name in names if gaps[name]), key=lambda name: (-gaps[name], name))[:TOP]
    found += [
        Difference(
            part, f"weight of {name}", left.get(name, 0.0 if whole[0] else None), right.get(name, 0.0 if whole[1] else None)
        )
        for name in most
    ]
    return found


def _models(doc: Mapping[str, Any]) -> dict[str, Any]:
    """What the models say of themselves: as they serve, else as they were fitted."""
    found: dict[str, Any] = doc.get("serving") or doc.get("fitted") or {}
    kind = "as it serves now" if doc.get("serving") else "as it was fitted"
    return {shard: {"taken": kind, **summary} for shard, summary in found.items()}


def _data(doc: Mapping[str, Any]) -> dict[str, Any]:
    names = ("reason", "parent", "bases", "skip", "window", "trained_to", "learned", "skipped", "fit_s")
    return {name: doc.get(name) for name in names}


def _chosen(trial: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: (trial or {}).get(name) for name in TRIAL}


def _without(table: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    return {key: value for key, value in (table or {}).items() if key != name}


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
