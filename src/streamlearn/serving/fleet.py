"""Every model in a row: its state, its windowed metric with the last hour of it beside the baselines, rate, lag, freshness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .. import wire
from ..gauges import figures, main_metric
from .deps import Shared
from .holder import HELD, Slot, catching_up, degraded
from .pasts import NOTHING, Past

# Worst first. held: it learns nothing; case: a drift is suspected or confirmed, or a version is rolled back; watch: what was
# promoted is compared with what it replaced; starting: it cannot answer for every key yet.
SEVERITY: Final = ("degraded", "held", "case", "retraining", "trial", "canary", "watch", "starting", "healthy")
STATES: Final[Mapping[str, str]] = {
    "": "healthy", "steady": "healthy", "case": "case", "confirmed": "case", "rolling_back": "case", "retraining": "retraining",
    "trial": "trial", "canary": "canary", "watch": "watch", "closing": "watch", "held": "held",
}  # fmt: skip


async def fleet(hub: Shared) -> wire.Fleet:
    """The document of GET /v1/fleet."""
    deps, holder = hub.deps, hub.holder
    now, timer = deps.clock(), deps.timer()
    pasts = await hub.pasts.get(now, timer)
    down = holder.store_down_since
    models = [_row(hub, name, pasts.get(name, NOTHING)) for name in holder.slots]
    models.sort(key=lambda row: (SEVERITY.index(row.state), row.name))
    return wire.Fleet(
        at=now,
        control=wire.FleetControl(holder.control_silent(timer)),
        store=wire.FleetStore(None if down is None else max(0.0, timer - down)),
        keys_required=hub.keys.required,
        models=models,
    )


def _row(hub: Shared, name: str, past: Past) -> wire.FleetModel:
    model, slots, control = hub.deps.settings.models[name], hub.holder.slots[name], hub.holder.control[name]
    statuses = [slot.status for slot in slots if slot.status is not None]
    told = figures(statuses, model.score_window)
    metric, higher = main_metric(model.task)
    state, reasons = state_of(slots, control)
    ours = [key for key in told if key.startswith("baseline:") and key.endswith(f":{metric}")]
    versions = [slot.served.version for slot in slots if slot.served is not None]
    known = past.series.items()
    return wire.FleetModel(
        name=name,
        stream=model.stream,
        task=model.task,
        state=state,
        reasons=reasons,
        metric=metric,
        higher_is_better=higher,
        value=told.get(f"metric:{metric}"),
        baselines={key.split(":")[1]: told[key] for key in ours},
        spark=wire.Spark(past.at, past.series.get(f"metric:{metric}", [None] * len(past.at))),
        baseline_spark={key.split(":")[1]: values for key, values in known if key.startswith("baseline:")},
        rate=told.get("rate"),
        lag=_whole(told.get("lag")),
        freshness_s=told.get("freshness_p99_s"),
        version=max(versions, default=control.get("version")),
        version_since=past.version_since,
        n=_whole(told.get("n")),
        pending=_whole(told.get("pending")),
        case=str(control.get("case") or "") or None,
        silenced_until=control.get("silenced_until"),
        since=control.get("since"),
    )


def state_of(slots: Sequence[Slot], control: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The one of SEVERITY that a model is in, by what the holder and control say of it, and why, one reason each.

    A model that cannot answer for every key yet is starting, unless something keeps it from that. A confirmed drift is a
    reason, but while something is done about it, that is its state.
    """
    reasons = degraded(list(slots)) or []
    judged = STATES.get(str(control.get("state", "")), "case")
    held = judged == "held" or any(one.startswith(HELD) for one in reasons)
    behind = {one for slot in slots for one in catching_up(slot)}
    drift = str(control.get("degraded") or "")
    handled = {drift} if judged != "healthy" else set()
    amiss = [one for one in reasons if not one.startswith(HELD) and one not in behind | handled]
    missing = [slot.shard for slot in slots if slot.served is None]
    if missing:
        words = "nothing is published yet" if len(slots) == 1 else f"nothing is published yet by the shards {missing}"
        reasons = [words, *reasons]
    if held and control.get("held") and not any(one.startswith(HELD) for one in reasons):
        reasons = [*reasons, f"{HELD}{control['held']}"]
    if control.get("kept"):
        reasons = [*reasons, f"a confirmed drift is not retrained: {control['kept']}"]
    if amiss:
        return "degraded", reasons
    if held:
        return "held", reasons
    return ("starting" if missing and judged == "healthy" else judged), reasons


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
