"""What happens to a model beside its cases, for people: holds, and features that were told to have drifted. Folded, bounded."""

from __future__ import annotations

from typing import Any, Final

from ..records import Decision
from .state import State

MOST: Final = 300  # the newest

Doc = dict[str, Any]


def enter(doc: Doc | None, offset: int, decision: Decision, state: State) -> Doc | None:
    """The document after the decision at `offset`, {items}; `state` is its model's after it. None while there is nothing.

    An item is {kind, at, control, why}; of the kind feature_drift also features [name]; of the kinds held and broken_input
    (held by a diagnosis) also by, and until: null while it lasts. A swap of versions ends a hold, too.
    """
    items = list(doc["items"]) if doc is not None else []
    about: Doc = {"at": decision.at, "control": offset, "why": decision.why}
    if decision.kind == "held" or state.held is None:
        items = [{**one, "until": decision.at} if one.get("until", 0) is None else one for one in items]
    if decision.kind == "held":
        kind = "broken_input" if "diagnosis" in decision.numbers else "held"
        items.append({"kind": kind, **about, "by": decision.by, "until": None})
    elif decision.kind == "feature_drift":
        names = [feature["name"] for feature in decision.numbers["features"]]
        items.append({"kind": "feature_drift", **about, "features": names})
    return {"items": items[-MOST:]} if items else None
