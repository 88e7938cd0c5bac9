"""What is known of models, from the holder: the documents that the API shows."""

from __future__ import annotations

import msgspec

from .. import gauges, wire
from ..config import Settings
from .holder import Holder, Slot, counters, degraded, lag


def model_view(name: str, settings: Settings, holder: Holder, now: float) -> wire.ModelView:
    """Everything about one model that the service knows; `now` by the timer."""
    model, slots, control = settings.models[name], holder.slots[name], holder.control[name]
    statuses = [slot.status for slot in slots if slot.status is not None]
    served = [slot.served for slot in slots if slot.served is not None]
    return wire.ModelView(
        name=name,
        stream=model.stream,
        task=model.task,
        pipeline=model.pipeline,
        ready=len(served) == len(slots),
        version=max((item.version for item in served), default=None),
        state=str(control.get("state", "")),
        case=str(control.get("case", "")),
        degraded=degraded(slots),
        n=sum(status.n for status in statuses),
        lag=lag(slots),
        pending=sum(status.pending for status in statuses),
        dead=sum(map(dead_letters, slots)),
        rate=sum(status.rate for status in statuses),
        counters=dict(counters(slots)),
        scores=statuses[0].scores if len(slots) == 1 and statuses else None,
        control=control,
        shards=[_shard_view(slot, now) for slot in slots],
    )


def dead_letters(slot: Slot) -> int:
    """Events that the shard's learner could not learn."""
    return gauges.dead_letters(slot.status) if slot.status else 0


def _shard_view(slot: Slot, now: float) -> wire.ShardView:
    served, status = slot.served, slot.status
    canary = None if served is None else served.challenger
    return wire.ShardView(
        shard=slot.shard,
        version=served.version if served else None,
        position=served.position if served else None,
        n=served.n if served else None,
        age_s=max(0.0, now - served.current_at) if served else None,
        reported_s=max(0.0, now - slot.heard) if status else None,
        degraded=slot.degraded,
        status=msgspec.to_builtins(status) if status else None,
        canary=None if canary is None else {"version": canary.version, "share": canary.share},
    )
