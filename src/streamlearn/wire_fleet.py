"""What the HTTP API gives of how models do: the fleet, and a series over time. Part of `wire`; nothing here does anything."""

from __future__ import annotations

import msgspec


class Values(msgspec.Struct):
    """A series: the mean, the least and the greatest value of each step, null where nothing was recorded."""

    mean: list[float | None]
    min: list[float | None]
    max: list[float | None]


class Spark(msgspec.Struct):
    """The means of a series in each step of the last hour, which begin `at`; null where nothing was recorded."""

    at: list[float]
    value: list[float | None]


class FleetModel(msgspec.Struct):
    """A model in a row; what is not known is null.

    `state`: degraded, held, case, retraining, trial, canary, watch, starting or healthy, and the `reasons` for it. `value`: its
    windowed `metric`, with that of the `baselines`; `spark` and `baseline_spark` their last hour. Sums over the shards: `rate`
    labelled events a second, `lag` records not yet read, `n` labelled events, `pending` labels; `freshness_s` is the slowest
    shard's 99 % quantile, from posted to learned. `version_since`: when the version began to serve; `since`: when control's
    phase began.
    """

    name: str
    stream: str
    task: str
    state: str
    reasons: list[str]
    metric: str
    higher_is_better: bool
    value: float | None
    baselines: dict[str, float]
    spark: Spark
    baseline_spark: dict[str, list[float | None]]
    rate: float | None
    lag: int | None
    freshness_s: float | None
    version: int | None
    version_since: float | None
    n: int | None
    pending: int | None
    case: str | None
    silenced_until: float | None
    since: float | None


class FleetControl(msgspec.Struct):
    """`silent_s`: how long control has said nothing, once it should have; null while all is well."""

    silent_s: float | None


class FleetStore(msgspec.Struct):
    """`down_s`: how long the store has been out of reach; null while it is not."""

    down_s: float | None


class Fleet(msgspec.Struct):
    """Every model, the worst first. `keys_required`: whether who asks needs an API key."""

    at: float
    control: FleetControl
    store: FleetStore
    keys_required: bool
    models: list[FleetModel]
