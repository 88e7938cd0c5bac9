"""What is known of models, from the holder: the documents that the API shows and the figures that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .. import wire
from ..config import Settings
from ..events import REASONS
from ..telemetry import Family
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
    """Events that the shard's learner could not learn: its counters named by a reason."""
    return sum(count for name, count in slot.status.counters.items() if name in REASONS) if slot.status else 0


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


def figures(holder: Holder, now: float) -> list[Family]:
    """Learners' and models' figures, for Prometheus; `now` by the timer."""
    both = ("model", "shard")
    gauges = {name: Family("gauge", f"streamlearn_{name}", text, both, []) for name, text in _GAUGES.items()}
    totals = Family("counter", "streamlearn_learner_events", "Learner's counters", (*both, "what"), [])
    scores = Family("gauge", "streamlearn_score", "Prequential scores", (*both, "kind", "metric"), [])
    fresh = Family("gauge", "streamlearn_freshness_ms", "From posted to published, milliseconds", (*both, "quantile"), [])
    pauses = Family("gauge", "streamlearn_pause_ms", "The learner's last pause, milliseconds", (*both, "what"), [])
    cases = Family("gauge", "streamlearn_case_open", "1 while a drift case is open", ("model",), [])
    what = "Before when nobody is notified of the model, Unix seconds; 0 without a silence"
    silences = Family("gauge", "streamlearn_silenced_until_timestamp_seconds", what, ("model",), [])
    for name, slots in holder.slots.items():
        cases.rows.append(((name,), 1.0 if holder.control[name].get("case") else 0.0))
        silences.rows.append(((name,), holder.control[name].get("silenced_until") or 0.0))
        for slot in slots:
            labels = (name, str(slot.shard))
            for gauge, value in _figures(slot, now).items():
                gauges[gauge].rows.append((labels, value))
            if slot.status is None:
                continue
            totals.rows.extend(((*labels, what), count) for what, count in slot.status.counters.items())
            scores.rows.extend(((*labels, kind, metric), value) for kind, metric, value in _scores(slot.status.scores))
            fresh.rows.extend(((*labels, quantile), value) for quantile, value in slot.status.freshness_ms.items())
            pauses.rows.extend(((*labels, what), value) for what, value in slot.status.pause_ms.items())
    down = 0.0 if holder.store_down_since is None else max(0.0, now - holder.store_down_since)
    store = Family("gauge", "streamlearn_store_down_seconds", "How long the store has been out of reach", (), [((), down)])
    silent = max(0.0, now - holder.control_heard)
    control = Family("gauge", "streamlearn_control_silent_seconds", "Time since control was last there", (), [((), silent)])
    taken: list[tuple[tuple[str, ...], float]] = [((model,), size) for model, size in holder.memory.items()]
    memory = Family("gauge", "streamlearn_store_bytes", "Bytes of each model and of the views in the store", ("model",), taken)
    return [*gauges.values(), totals, scores, fresh, pauses, cases, silences, store, memory, control, *_notifications(holder)]


def _notifications(holder: Holder) -> list[Family]:
    """How each target of notifications stands."""
    told = Family("counter", "streamlearn_notify_delivered", "Messages that the target took", ("target",), [])
    gauges = {
        "undelivered": "Messages that were given up and nobody has dealt with",
        "waiting": "Notices that are still to be told",
    }
    found = {name: Family("gauge", f"streamlearn_notify_{name}", text, ("target",), []) for name, text in gauges.items()}
    for target, doc in holder.notify.items():
        told.rows.append(((target,), doc["delivered"]))
        for name, family in found.items():
            family.rows.append(((target,), doc[name]))
    return [told, *found.values()]


_GAUGES = {
    "publication_age_seconds": "Time since the learner last stood at what is served",
    "publication_bytes": "Size of the served publication",
    "served_version": "Version that is served",
    "canary_share": "Share of the keys that the version in a canary answers for",
    "degraded": "1 while answers are degraded",
    "learned": "Labelled events learned",
    "events_per_second": "Records taken a second by the learner",
    "lag": "Records that the learner has still to read",
    "pending_labels": "Features that wait for their label",
    "early_labels": "Labels that wait for their features",
    "dead_letters": "Events that could not be learned",
    "learner_silent_seconds": "Time since the learner's last status",
    "checkpoint_age_seconds": "Time since the last checkpoint",
    "trial_open": "1 while a challenger is on trial",
}


def _figures(slot: Slot, now: float) -> dict[str, float]:
    figures = {"degraded": 1.0 if slot.degraded else 0.0}
    if slot.served is not None:
        figures |= {
            "publication_age_seconds": max(0.0, now - slot.served.current_at),
            "publication_bytes": slot.served.size,
            "served_version": slot.served.version,
            "canary_share": 0.0 if slot.served.challenger is None else slot.served.challenger.share,
        }
    status = slot.status
    if status is not None:
        figures |= {
            "learned": status.n,
            "events_per_second": status.rate,
            "lag": lag([slot]),
            "pending_labels": status.pending,
            "early_labels": status.early,
            "dead_letters": dead_letters(slot),
            "learner_silent_seconds": max(0.0, now - slot.heard),
            "trial_open": 0.0 if status.shadow is None else 1.0,
        }
        if status.checkpoint_at is not None:
            figures["checkpoint_age_seconds"] = max(0.0, status.at - status.checkpoint_at) + max(0.0, now - slot.heard)
    return figures


def _scores(scores: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """(kind, metric, value) for the model's own scores and each baseline's."""
    kinds = {kind: scores.get(kind) for kind in ("cumulative", "window", "fading")}
    baselines = scores.get("baselines")
    if isinstance(baselines, dict):
        kinds |= {f"baseline_{name}": found for name, found in baselines.items()}
    for kind, found in kinds.items():
        if isinstance(found, dict):
            for metric, value in found.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    yield kind, metric, float(value)
