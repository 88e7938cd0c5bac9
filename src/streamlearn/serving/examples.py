"""Example documents for the OpenAPI contract: a model, a version, a case, a decision, a request, as the service writes them."""

from __future__ import annotations

from typing import Any, Final

POSITION: Final = {"log": "3f0c", "stream": "flights", "partition": 0, "offset": 41230}
_SCORES: Final = {
    "n": 20412,
    "cumulative": {"accuracy": 0.842, "kappa": 0.31, "roc_auc": 0.74, "log_loss": 0.37, "brier": 0.116},
    "window": {"accuracy": 0.851, "kappa": 0.33, "roc_auc": 0.75, "log_loss": 0.36, "brier": 0.112},
    "baselines": {"majority": {"accuracy": 0.82, "kappa": 0.0}, "no_change": {"accuracy": 0.71, "kappa": 0.04}},
}
_STATUS: Final = {
    "model": "delay", "shard": 0, "generation": 3, "version": 1, "shadow": None, "position": 41230, "end": 41230, "log": "3f0c",
    "at": 1767225600.0, "n": 20412, "clock": 1304517600.0, "held": None, "counters": {"events": 41230, "labelled": 20412},
    "pending": 37, "early": 0, "scores": _SCORES, "rate": 0.0, "freshness_ms": {"p50": 41.0, "p99": 230.0},
}
MODEL: Final[dict[str, Any]] = {
    "name": "delay", "stream": "flights", "task": "binary", "pipeline": "logistic", "ready": True, "version": 1,
    "state": "steady", "case": "", "degraded": None, "n": 20412, "lag": 0, "pending": 37, "dead": 0, "rate": 0.0,
    "counters": {"events": 41230, "labelled": 20412}, "scores": _SCORES,
    "control": {
        "name": "delay", "stream": "flights", "task": "binary", "state": "steady", "version": 1, "previous": None,
        "shadow": None, "case": "", "degraded": "", "held": None, "since": 1767225600.0,
    },
    "shards": [
        {
            "shard": 0, "version": 1, "position": POSITION, "n": 20412, "age_s": 0.31, "reported_s": 0.31, "degraded": None,
            "status": _STATUS,
        }
    ],
}
VERSION: Final[dict[str, Any]] = {
    "id": "delay@2", "model": "delay", "version": 2, "parent": 1, "reason": "case delay-17", "fate": "challenger",
    "window": {"0": [21100, 41230]}, "created": 1767225602.0, "fitted_at": 1767225611.0, "trained_to": {"0": 41230},
}
CASE: Final[dict[str, Any]] = {
    "id": "delay-17", "model": "delay", "kind": "drift", "open": True, "outcome": None, "opened_at": 1767225600.0,
    "closed_at": None, "version": 2, "progress": None, "trial": {"events": 640, "e": 3.1, "mean_difference": 0.021},
    "steps": [
        {
            "kind": "case_opened", "at": 1767225600.0, "n": 20900, "offset": 40210, "version": 1, "by": "control",
            "why": "adwin raised an alarm", "numbers": {"kind": "drift"}, "control": 40,
        },
        {
            "kind": "confirmed", "at": 1767225601.5, "n": 21412, "offset": 41230, "version": 1, "by": "control",
            "why": "the loss is higher than before", "numbers": {"p": 0.0004, "level": 0.03}, "control": 42,
        },
    ],
}
AUDIT_ID: Final = "00000000000000000042"
DECISION: Final[dict[str, Any]] = {
    "id": AUDIT_ID, "control": 42, "type": "decision", "took_effect": True, "model": "delay", "kind": "confirmed",
    "at": 1767225601.5,
    "case": "delay-17", "version": 1, "n": 21412, "offset": 41230, "signal": 311, "by": "control",
    "why": "the loss is higher than before", "numbers": {"p": 0.0004, "level": 0.03},
}
ASKED: Final[dict[str, Any]] = {
    "request": "5b0e3c1f4d6a47f0a5f3c0f7f1f7a9d2", "model": "delay", "action": "retrain", "by": "key ops", "at": 1767225600.0,
    "offset": 43,
}
