"""What the HTTP API takes and gives, as types that the service and the client share. Nothing here does anything.

Times are Unix seconds, durations seconds unless a name says otherwise. `degraded` is null, or the reasons why an answer
may be worse than usual.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .events import Features, Position, Scalar

DEFAULT_URL: Final = "http://127.0.0.1:8321"


class Rejection(msgspec.Struct):
    """Why the event at `index` of the request did not go in; `reason` is a code of `events.REASONS`."""

    index: int
    field: str
    reason: str
    detail: str


class EventsAnswer(msgspec.Struct):
    """What became of the events of one request.

    `duplicate`: repeats of an (id, part) within the request. `ids`: by index, the ids given to events that had none.
    `positions`: by stream and partition, the offset after the last accepted event.
    """

    accepted: int
    duplicate: int
    rejected: list[Rejection]
    warnings: list[str]
    ids: dict[str, str]
    positions: dict[str, dict[str, int]]


class Instance(msgspec.Struct, omit_defaults=True):
    """A question to a model. `key` (default: `id`) finds the shard; `log` needs `id` and writes the prediction to the log.

    `ts` is the event time that a logged prediction carries, as an event's `ts`; without one, it does not move the clock.
    """

    x: Features
    id: str | None = None
    key: str | None = None
    ts: float | str | None = None
    log: bool = False


class Batch(msgspec.Struct):
    """Several questions to one model, answered in order, all or none."""

    instances: list[Instance]


class PredictAnswer(msgspec.Struct):
    """A prediction and what stands behind it.

    `position`: the log position that the model had learned to. `age_s`: see `serving.holder.Served`. `logged`: "queued",
    "dropped" (the buffer was full) or "off". `probabilities` is null for a regression.
    """

    id: str | None
    model: str
    prediction: Scalar
    probabilities: dict[str, float] | None
    version: int
    position: Position
    age_s: float
    degraded: list[str] | None
    logged: str


class BatchAnswer(msgspec.Struct):
    predictions: list[PredictAnswer]


class ShardView(msgspec.Struct):
    """One shard: what is served, and its learner's newest status (`records.Status` as an object; null before the first)."""

    shard: int
    version: int | None
    position: Position | None
    n: int | None
    age_s: float | None
    reported_s: float | None
    degraded: list[str] | None
    status: dict[str, Any] | None


class ModelView(msgspec.Struct):
    """A model as a whole. Sums over its shards: `n` labelled events learned, `lag` records not yet read, `pending` labels.

    `state` and `case` are control's ("" without an open case); `control` is its whole document. `scores` are those of the
    shard when there is only one, else null: they do not add up.
    """

    name: str
    stream: str
    task: str
    pipeline: str
    ready: bool
    version: int | None
    state: str
    case: str
    degraded: list[str] | None
    n: int
    lag: int
    pending: int
    dead: int
    rate: float
    counters: dict[str, int]
    scores: dict[str, Any] | None
    control: dict[str, Any]
    shards: list[ShardView]


class Models(msgspec.Struct):
    models: list[ModelView]


class Page(msgspec.Struct):
    """Documents in the order in which they came to be. `next`: what to send as `after` for those that follow, or null."""

    items: list[dict[str, Any]]
    next: str | None = None


class Ask(msgspec.Struct, omit_defaults=True):
    """What a person tells control along with a request."""

    reason: str = ""
    version: int | None = None


class Asked(msgspec.Struct):
    """A request that control will see: its id, and its offset in the control log."""

    request: str
    model: str
    action: str
    by: str
    at: float
    offset: int


class Alive(msgspec.Struct):
    status: str
    version: str


class Ready(msgspec.Struct):
    """Every model can answer. `degraded`: what is amiss all the same."""

    ready: bool
    degraded: list[str]
    models: dict[str, int]


class Problem(msgspec.Struct, omit_defaults=True):
    """An error, RFC 9457. `index`, `field` and `reason` name what was wrong in the request, where that is one thing."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    index: int | None = None
    field: str | None = None
    reason: str | None = None
    retry_after: float | None = None
