"""What the HTTP API takes and gives, as types that the service and the client share. Nothing here does anything.

Times are Unix seconds, durations seconds unless a name says otherwise. `degraded` is null, or the reasons why an answer
may be worse than usual.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .events import Features, Position, Scalar
from .wire_fleet import Fleet as Fleet
from .wire_fleet import FleetControl as FleetControl
from .wire_fleet import FleetModel as FleetModel
from .wire_fleet import FleetStore as FleetStore
from .wire_fleet import Spark as Spark
from .wire_fleet import Values as Values
from .wire_recommend import Reason as Reason
from .wire_recommend import RecommendAnswer as RecommendAnswer
from .wire_recommend import RecommendAsk as RecommendAsk
from .wire_recommend import RecommendedItem as RecommendedItem
from .wire_recommend import SimilarAnswer as SimilarAnswer
from .wire_recommend import SimilarItem as SimilarItem

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
    """One shard: what is served, and its learner's newest status (`records.Status` as an object; null before the first).

    `canary`: the version that answers for a share of the keys, {version, share}, null when none does.
    """

    shard: int
    version: int | None
    position: Position | None
    n: int | None
    age_s: float | None
    reported_s: float | None
    degraded: list[str] | None
    status: dict[str, Any] | None
    canary: dict[str, Any] | None = None


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


class AuditPage(Page):
    """A page of the audit trail. `total`: how many entries a search found, null without one."""

    total: int | None = None


class Mark(msgspec.Struct):
    """Something that happened to a model at the time `at`, for a moment or `until` then; `open` while it goes on.

    `kind`: alarm, case, retrain, trial, canary, promoted, rolled_back, recovered, not_recovered, held, broken_input or
    feature_drift. `label` is short, `detail` says why. `control`: its place in the control log, null for what is none there.
    `id` stays the same as long as the mark is there.
    """

    id: str
    kind: str
    at: float
    until: float | None
    open: bool
    label: str
    detail: str
    case: str = ""
    version: int | None = None
    control: int | None = None


class Marks(msgspec.Struct):
    """Marks on a model's time axis, by when they began."""

    model: str
    marks: list[Mark]


class VersionView(msgspec.Struct):
    """A version of a model; what is not known is null or empty. Offsets, times and blobs are by shard.

    `reason`: "registered", "import", "rewind", "restore", or the case in which it was made. `bases`: what its fit went on
    from or, with a warm start, whose champion learned the window; `skip`: the ranges ([from, to)) that it passed over.
    `window`: the offsets it was fitted from (`starts`) and at least to (`until`); `trained_to`: the next one to be read at
    the fit's end; `times`: their append times. `features`: "number" or "string" by name, the first 300 of `features_in_all`,
    as they were known when it was fitted, when it was let go, or now, while it serves. `learned` and `skipped` count labelled
    events, `fit_s` seconds. `made_with`: libraries, and the digest of the `settings`. `blobs`: bytes, SHA-256 and more.
    `trial` and `promoted`: how it was tried and promoted, with the numbers and who decided. `decisions`: every one about it,
    in order. `search`: the candidates that were compared for it, each with how it did, and why this one. `kept`: whether the
    store has it; `dropped`: when it was decided that its bytes go, being old (`retrain.keep_versions`); `unusable`: why a kept
    blob cannot be used. `fitted` and `serving`: what its models say of themselves, as
    fitted and as they serve now.
    """

    id: str
    model: str
    version: int
    parent: int | None = None
    reason: str = ""
    case: str = ""
    by: str = ""
    why: str = ""
    fate: str = ""
    created: float | None = None
    fitted_at: float | None = None
    fit_s: float | None = None
    window: dict[str, Any] | None = None
    bases: dict[str, dict[str, Any]] = {}
    skip: dict[str, list[Any]] = {}
    trained_to: dict[str, int] | None = None
    times: dict[str, Any] | None = None
    learned: int | None = None
    skipped: int | None = None
    settings: dict[str, Any] | None = None
    made_with: dict[str, Any] | None = None
    features: dict[str, str] | None = None
    features_in_all: int | None = None
    search: dict[str, Any] | None = None
    blobs: dict[str, dict[str, Any]] = {}
    trial: dict[str, Any] | None = None
    promoted: dict[str, Any] | None = None
    origin: dict[str, Any] | None = None
    decisions: list[dict[str, Any]] = []
    dropped: float | None = None
    kept: bool = False
    unusable: dict[str, str] = {}
    fitted: dict[str, dict[str, Any]] = {}
    serving: dict[str, dict[str, Any]] = {}


class Difference(msgspec.Struct):
    """A thing that differs: `what` of which `part`, in the one version and in the other; null where it is not there."""

    part: str
    what: str
    a: Any
    b: Any


class VersionDiff(msgspec.Struct):
    """All that is known to differ between the versions `a` and `b`; of weights, the largest differences of each shard."""

    model: str
    a: int
    b: int
    differences: list[Difference]


class Moment(msgspec.Struct):
    """When another version began to serve: the offset in the control log, the time, the learners' positions by shard."""

    control: int
    at: float
    positions: dict[str, int]


class Stretch(msgspec.Struct):
    """A time in which one version served; `until` is null while it does. `by` and `why`: whose decision it was."""

    version: int
    since: Moment
    until: Moment | None
    by: str
    why: str
    case: str


class History(msgspec.Struct):
    """What served when, oldest first, and how the model did in [since, until): steps of `step_s` seconds that begin `at`.

    Series: metric:<name> (of the last labelled events), baseline:<baseline>:<metric>, loss (mean loss of the events labelled
    meanwhile), detector:<name>, rate (labelled events a second), lag (records), freshness_p50_s, freshness_p99_s, pending,
    early, dead (so far), delay_p50, delay_p95 (of labels, in events), n (labelled events so far), canary_share, held, degraded
    (0 or 1), trial_e, trial_peak, trial_threshold, trial_mean, trial_low, trial_high, progress (of a fit, 0 to 1),
    debt:<policy>, feature:<feature> (PSI against the reference).
    """

    model: str
    items: list[Stretch]
    since: float | None = None
    until: float | None = None
    step_s: int | None = None
    at: list[float] = []
    series: dict[str, Values] = {}


class Ask(msgspec.Struct, omit_defaults=True):
    """What a person tells control along with a request.

    `version`: which to promote. `mode`: how to resume (skip, learn, repair). `to` and `skip`: of a rewind, places in the log
    and ranges of it, each OFFSET, PARTITION/OFFSET or an RFC 3339 time, a range FROM:TO. `for_s`: for how long to be silent.
    """

    reason: str = ""
    version: int | None = None
    mode: str = "skip"
    to: list[str] = []
    skip: list[str] = []
    for_s: float | None = None


class RewindShard(msgspec.Struct):
    """What a rewind would do to one shard.

    Back to offset `to` at the latest, from the `checkpoint` that was taken `at` of that `version` and has read to `start`
    (null: from nothing), to the log's `end`: `records` are learned again, all but those in the ranges `skip` ([from, to)).
    """

    shard: int
    to: int
    checkpoint: int | None
    at: float | None
    version: int | None
    start: int
    end: int
    records: int
    skip: list[tuple[int, int]]


class RewindPlan(msgspec.Struct):
    """What a rewind of the model would do if it were asked for now."""

    model: str
    shards: list[RewindShard]


class Asked(msgspec.Struct):
    """A request that control will see: its id, and its offset in the control log."""

    request: str
    model: str
    action: str
    by: str
    at: float
    offset: int


class SignIn(msgspec.Struct):
    """An API key to sign in with, as `streamlearn keys make` showed it."""

    key: str


class SessionView(msgspec.Struct):
    """Who is signed in, with which scopes, until when (Unix seconds), and the `csrf` that actions send as X-CSRF-Token.

    Where no key is needed (`keys_required`), everybody on the machine is, as "anonymous".
    """

    signed_in: bool
    name: str | None
    scopes: list[str]
    csrf: str | None
    keys_required: bool
    expires: float | None


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
    scope: str | None = None
