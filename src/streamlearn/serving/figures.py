"""What learners and control report, as metrics for Prometheus, worked out from the holder when somebody scrapes.

Every serve process tells the same of these, but for what it sees with its own eyes (`PER_PROCESS`): over several of them, take
the maximum. Labels are bounded: shards and models are those of the configuration, all else is one of a fixed set.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any, Final

from .. import __version__
from ..buckets import Buckets
from ..events import REASONS
from ..gauges import windowed
from ..records import Status
from ..telemetry import Family
from .holder import CAUSES, Holder, Slot, lag

# Of these an alarm or a chart may miss the first, were they not there with 0 before it.
KINDS: Final = (
    "case_opened", "confirmed", "rejected", "broken_input", "retrain_started", "retrain_kept", "retrained", "retrain_failed",
    "trial_started", "trial_lost", "canary_started", "promoted", "recovered", "not_recovered", "rolled_back", "held", "resumed",
    "request_refused",
)  # fmt: skip
STATES: Final = (
    "steady", "case", "confirmed", "retraining", "trial", "canary", "watch", "closing", "rolling_back", "held"
)
ALWAYS: Final = ("learned", "dead")
RECOMMENDS: Final = ("impressions", "expired", "joined", "late_clicks", "unshown_clicks")  # always told of a recommender
PER_PROCESS: Final = frozenset(
    {"build_info", "store_down_seconds", "control_silent_seconds", "index_items", "index_age_seconds", "index_recall_ratio"}
)

_SHARD: Final = ("model", "shard")
_TEXTS: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    "build_info": ("gauge", ("version", "python"), "1; the build of this process"),
    "store_down_seconds": ("gauge", (), "How long the store has been out of this process's reach"),
    "control_silent_seconds": ("gauge", (), "Time since this process last heard of control"),
    "control_leader_info": ("gauge", ("holder",), "1; the control process that leads, by host and process id"),
    "control_errors_total": ("counter", (), "How often the leading control process had to wait for the log or the store"),
    "store_size_bytes": ("gauge", ("model",), "Bytes of each model and of the views in the store"),
    "notify_delivered_total": ("counter", ("target",), "Messages that the target of notifications took"),
    "notify_undelivered": ("gauge", ("target",), "Messages that were given up and nobody has dealt with"),
    "notify_waiting": ("gauge", ("target",), "Notices that are still to be told"),
    "silenced_until_timestamp_seconds": ("gauge", ("model",), "Before when nobody is notified of it; 0 without a silence"),
    "model_state": ("gauge", ("model", "state"), "1 for the state that control has the model in"),
    "case_open": ("gauge", ("model",), "1 while a case is open"),
    "case_age_seconds": ("gauge", ("model",), "How long the open case has been open, 0 without one"),
    "decisions_total": ("counter", ("model", "kind"), "Control's decisions"),
    "retrain_seconds": ("histogram", ("model",), "How long fits took that came to an end"),
    "trial_e_value": ("gauge", ("model",), "Evidence of the trial under way for the challenger"),
    "trial_threshold": ("gauge", ("model",), "The evidence at which the challenger is promoted"),
    "learner_events_total": ("counter", (*_SHARD, "outcome"), "What the learner made of events and labels"),
    "dead_letters_total": ("counter", (*_SHARD, "reason"), "Events that could not be learned"),
    "learn_seconds": ("histogram", _SHARD, "Time to take one record, as the mean of its batch"),
    "freshness_seconds": ("histogram", _SHARD, "From a record's append to its being learned; a backfill's are left out"),
    "pause_seconds": ("histogram", (*_SHARD, "what"), "How long a publication or a checkpoint kept the learner from learning"),
    "lag_records": ("gauge", _SHARD, "Records that the learner has still to read"),
    "lag_seconds": ("gauge", _SHARD, "How old the newest record was when it was read, while there are more; else 0"),
    "learned_events": ("gauge", _SHARD, "Labelled events in the learner's state"),
    "pending_labels": ("gauge", _SHARD, "Features that wait for their label"),
    "early_labels": ("gauge", _SHARD, "Labels that wait for their features"),
    "label_delay_events": ("gauge", (*_SHARD, "level"), "Records between features and label, of the newest labels"),
    "label_delay_seconds": ("gauge", (*_SHARD, "level"), "Event time between features and label, of the newest labels; of a "
                            "recommender, between a slate and the first action on it"),
    "slate_reward_ratio": ("gauge", (*_SHARD, "of"), "Mean reward of slates whose time is over, as a share of the largest: of "
                           "the newest (window), of all that champion and challenger showed"),
    "slate_clicked_ratio": ("gauge", _SHARD, "Share of the newest slates that were acted on while they were waited for"),
    "recommender_known": ("gauge", (*_SHARD, "what"), "Users and items that a recommender knows; and items that are available"),
    "recommender_evicted_total": ("counter", (*_SHARD, "what", "why"), "Users and items that a recommender has let go, since "
                                  "there were too many (lru) or nothing was heard of them (ttl)"),
    "window_metric": ("gauge", (*_SHARD, "metric"), "Prequential metrics over the score window"),
    "window_baseline": ("gauge", (*_SHARD, "baseline", "metric"), "The baselines' over the same window"),
    "drift_statistic": ("gauge", (*_SHARD, "detector"), "How near a detector is to its alarm, which 1 is; none during a case"),
    "drift_alarms_total": ("counter", _SHARD, "Alarms of the drift detectors"),
    "degraded": ("gauge", (*_SHARD, "reason"), "1 while answers are degraded for this reason"),
    "learner_errors_total": ("counter", (*_SHARD, "dependency"), "How often the log or the store did not do what it was asked"),
    "learner_silent_seconds": ("gauge", _SHARD, "Time since the learner's last status"),
    "served_version": ("gauge", _SHARD, "Version that is served"),
    "canary_ratio": ("gauge", _SHARD, "Share of the keys that the version in a canary answers for"),
    "publication_age_seconds": ("gauge", _SHARD, "Time since the learner last stood at what is served"),
    "publication_size_bytes": ("gauge", _SHARD, "Size of the served publication"),
    "index_items": ("gauge", _SHARD, "Items in the index by which a large recommender is searched"),
    "index_age_seconds": ("gauge", _SHARD, "Time since the index took in what was published last"),
    "index_recall_ratio": ("gauge", _SHARD, "Of the exact 100 best, the share that the index found when it was made"),
    "checkpoint_age_seconds": ("gauge", _SHARD, "Time since the last checkpoint"),
    "checkpoint_size_bytes": ("gauge", _SHARD, "Size of the last checkpoint that the learner wrote"),
}  # fmt: skip
Row = tuple[str, tuple[str, ...], float | Buckets]


def figures(holder: Holder, now: float, at: float) -> list[Family]:
    """Everything, by metric; `now` by the timer, `at` by the clock."""
    rows: dict[str, list[tuple[tuple[str, ...], float | Buckets]]] = {name: [] for name in _TEXTS}
    for name, labels, value in _rows(holder, now, at):
        rows[name].append((labels, value))
    return [
        Family(kind, f"streamlearn_{name}", text, labels, rows[name])  # type: ignore[arg-type]  # they are those of Family
        for name, (kind, labels, text) in _TEXTS.items()
    ]


def _rows(holder: Holder, now: float, at: float) -> Iterator[Row]:
    yield "build_info", (__version__, platform.python_version()), 1.0
    yield "store_down_seconds", (), 0.0 if holder.store_down_since is None else max(0.0, now - holder.store_down_since)
    yield "control_silent_seconds", (), max(0.0, now - holder.control_heard)
    if "holder" in holder.alive:
        yield "control_leader_info", (str(holder.alive["holder"]),), 1.0
        yield "control_errors_total", (), float(holder.alive.get("failures", 0))
    for target, stands in holder.alive.get("notify", {}).items():
        yield "notify_delivered_total", (target,), stands["delivered"]
        yield "notify_undelivered", (target,), stands["undelivered"]
        yield "notify_waiting", (target,), stands["waiting"]
    for model, size in holder.memory.items():
        yield "store_size_bytes", (model,), size
    for model, slots in holder.slots.items():
        yield from _control(model, holder.control[model], at)
        for slot in slots:
            yield from _shard(slot, now)


def _control(model: str, document: dict[str, Any], at: float) -> Iterator[Row]:
    opened, trial, fits = document.get("case_opened_at"), document.get("trial"), document.get("fits_s")
    yield "silenced_until_timestamp_seconds", (model,), document.get("silenced_until") or 0.0
    yield "case_open", (model,), 1.0 if document.get("case") else 0.0
    yield "case_age_seconds", (model,), 0.0 if opened is None else max(0.0, at - opened)
    for state in STATES:
        yield "model_state", (model, state), float(document.get("state") == state)
    made = document.get("decisions", {})
    for kind in KINDS:
        yield "decisions_total", (model, kind), made.get(kind, 0)
    if fits is not None:
        yield "retrain_seconds", (model,), Buckets(tuple(fits["bounds"]), fits["counts"], fits["sum"])
    if trial is not None:
        yield "trial_e_value", (model,), trial["e"]
        yield "trial_threshold", (model,), trial["threshold"]


def _shard(slot: Slot, now: float) -> Iterator[Row]:
    here, served, status = (slot.model, str(slot.shard)), slot.served, slot.status
    for cause in CAUSES:
        yield "degraded", (*here, cause), float(cause in slot.causes)
    if served is not None:
        yield "served_version", here, served.version
        yield "canary_ratio", here, 0.0 if served.challenger is None else served.challenger.share
        yield "publication_age_seconds", here, max(0.0, now - served.current_at)
        yield "publication_size_bytes", here, served.size
    if slot.index is not None:
        yield "index_items", here, slot.index.items
        yield "index_age_seconds", here, max(0.0, now - slot.index.fresh_at)
        yield "index_recall_ratio", here, slot.index.recall
    if status is None:
        return
    silent = max(0.0, now - slot.heard)
    yield "learner_silent_seconds", here, silent
    yield "lag_records", here, lag([slot])
    yield "learned_events", here, status.n
    yield "pending_labels", here, status.pending
    yield "early_labels", here, status.early
    if status.lag_s is not None:
        yield "lag_seconds", here, status.lag_s
    if status.checkpoint_at is not None:
        yield "checkpoint_age_seconds", here, max(0.0, status.at - status.checkpoint_at) + silent
    if status.checkpoint_bytes is not None:
        yield "checkpoint_size_bytes", here, status.checkpoint_bytes
    for name, value in status.delay.items():
        unit = "seconds" if name.endswith("_s") else "events"
        yield f"label_delay_{unit}", (*here, name.removesuffix("_s")), value
    yield from _counted(here, status)
    for name, histogram in (("learn_seconds", status.learn_s), ("freshness_seconds", status.fresh_s)):
        if histogram is not None:
            yield name, here, histogram
    for what, pauses in status.pauses_s.items():
        yield "pause_seconds", (*here, what), pauses
    for dependency, count in status.failures.items():
        yield "learner_errors_total", (*here, dependency), count
    for detector, value in status.drift.items():
        yield "drift_statistic", (*here, detector), value
    yield from _scores(here, status.scores)
    if _recommends(status):
        yield from _recommender(here, status)


def _counted(here: tuple[str, str], status: Status) -> Iterator[Row]:
    counted = dict(status.counted)
    yield "drift_alarms_total", here, counted.pop("alarms", 0)
    dead = {name: counted.pop(name) for name in REASONS if name in counted}
    always = (*ALWAYS, *RECOMMENDS) if _recommends(status) else ALWAYS
    for outcome, count in {**dict.fromkeys(always, 0), **counted, "dead": sum(dead.values())}.items():
        yield "learner_events_total", (*here, outcome), count
    for reason, count in dead.items():
        yield "dead_letters_total", (*here, reason), count


def _scores(here: tuple[str, str], scores: dict[str, Any]) -> Iterator[Row]:
    for baseline, metric, value in windowed(scores):
        yield ("window_baseline", (*here, baseline, metric), value) if baseline else ("window_metric", (*here, metric), value)


def _recommends(status: Status) -> bool:
    return "impressions" in status.scores


def _recommender(here: tuple[str, str], status: Status) -> Iterator[Row]:
    slates, known = status.scores["impressions"], status.scores.get("state") or {}
    if slates["window_reward"] is not None:
        yield "slate_reward_ratio", (*here, "window"), slates["window_reward"]
        yield "slate_clicked_ratio", here, slates["window_click_rate"]
    for role, version in (("champion", status.version), ("challenger", status.shadow)):
        n, loss = status.outcomes.get(str(version), (0.0, 0.0))
        if n:
            yield "slate_reward_ratio", (*here, role), 1.0 - loss / n
    for what in ("users", "items", "available"):
        if what in known:
            yield "recommender_known", (*here, what), known[what]
    for what in ("users", "items"):
        for why in ("lru", "ttl"):
            if (name := f"{what}_evicted_{why}") in known:
                yield "recommender_evicted_total", (*here, what, why), known[name]
