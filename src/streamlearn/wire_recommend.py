"""What the HTTP API takes and gives about recommendations, see `wire`, and how a question's values are written as text."""

from __future__ import annotations

import msgspec

from .events import Features, Position, Scalar


def scalar_of(text: str) -> Scalar:
    """A number, a boolean or null as JSON writes it, else the text; in quotes, also a text that would be one of these."""
    try:
        value: Scalar = msgspec.json.decode(text, type=Scalar)
    except msgspec.DecodeError:
        return text
    return value


class RecommendAsk(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What next for this `user`, or for this `session`, a user of its own where none is known, or for nobody?

    `k`: how many items, by default the model's. `context`: what is known of the moment, as an interaction's `x`. `items`:
    choose among these alone. `where`: only items whose fields have this value, or one of these. `allow`: only these; `deny`:
    none of these. `seen`: whether to leave out what the user has acted on, by default as the model is set. `explain`: tell why;
    `fields`: tell what is known of each item. `id` names the impression, by default with a new id; with `log` it is logged.
    `ts`: the event time of the question, by default that of the stream's newest event and the time since.
    """

    user: str | None = None
    session: str | None = None
    k: int | None = None
    context: Features = {}
    items: list[str] | None = None
    where: dict[str, Scalar | list[Scalar]] = {}
    allow: list[str] | None = None
    deny: list[str] = []
    seen: bool | None = None
    explain: bool = False
    fields: bool = False
    id: str | None = None
    ts: float | str | None = None
    log: bool = True


class Reason(msgspec.Struct):
    """A ranking feature, and what it added to the item's score before that was made a probability."""

    feature: str
    contribution: float


class RecommendedItem(msgspec.Struct, omit_defaults=True):
    """An item at its 1-based `position`. `score`: what the model expects of it. `source`: which source of candidates named it.

    `propensity`: the probability with which it was put there, over the draws of the exploration. `why`: what moved its score,
    the most first. `fields`: of the item's records.
    """

    item: str
    position: int
    score: float
    source: str
    propensity: float
    why: list[Reason] | None = None
    fields: Features | None = None


class RecommendAnswer(msgspec.Struct):
    """What to show, and what stands behind it: `id` of the impression, to which clicks are joined.

    `fallback`: what helped out where the candidates were too few ("popular", "recent", any "available" items, or "seen": those
    acted on before), else null. `unknown`: of the items that were asked about, those that the model does not know. `logged`:
    "queued", "dropped" (the buffer was full) or "off". For the rest see `wire.PredictAnswer`.
    """

    id: str
    model: str
    version: int
    position: Position
    age_s: float
    degraded: list[str] | None
    items: list[RecommendedItem]
    fallback: str | None
    unknown: list[str]
    logged: str


class SimilarItem(msgspec.Struct):
    item: str
    score: float


class SimilarAnswer(msgspec.Struct):
    """The items most like `item`, the most alike first; none where the model does not know it."""

    model: str
    item: str
    version: int
    position: Position
    age_s: float
    degraded: list[str] | None
    items: list[SimilarItem]
