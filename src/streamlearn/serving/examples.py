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
        "shadow": None, "canary": None, "case": "", "degraded": "", "held": None,
        "silenced_until": None,
        "features": {"drifted": {}, "broken": None, "seen": None}, "contract": None, "policies": [], "kept": "",
        "since": 1767225600.0,
    },
    "shards": [
        {
            "shard": 0, "version": 1, "position": POSITION, "n": 20412, "age_s": 0.31, "reported_s": 0.31, "degraded": None,
            "status": _STATUS, "canary": None,
        }
    ],
}
VERSION: Final[dict[str, Any]] = {
    "id": "delay@2", "model": "delay", "version": 2, "parent": 1, "reason": "delay-17", "case": "delay-17", "by": "control",
    "why": "attempt 1 of 3: fit version 2 from the change point", "fate": "champion", "created": 1767225602.0,
    "fitted_at": 1767225611.0, "fit_s": 9.0, "window": {"starts": {"0": 21100}, "until": {"0": 41210}},
    "bases": {}, "skip": {}, "trained_to": {"0": 41230}, "learned": 10040, "skipped": 0,
    "times": {"starts": {"0": 1767221000.0}, "until": {"0": 1767225601.0}, "trained_to": {"0": 1767225610.0}},
    "settings": {"stream": "flights", "task": "binary", "pipeline": "logistic", "params": {}},
    "made_with": {"streamlearn": "0.1.0", "river": "0.26.1", "python": "3.11.9", "settings_sha256": "9c41…"},
    "features": {"carrier": "string", "distance": "number"}, "features_in_all": 2,
    "blobs": {
        "0": {
            "bytes": 48210, "sha256": "5e0a…", "learned": 10040, "skipped": 0, "read_to": 1767225610.0, "features": 2,
        }
    },
    "trial": {
        "began_at": 1767225612.0, "k": 1, "e": 34.1, "events": 4534, "champion_loss": 0.31, "challenger_loss": 0.19,
        "mean_difference": 0.12, "interval": [0.04, 0.2], "ended": "trial_won", "ended_at": 1767225700.0,
    },
    "promoted": {
        "at": 1767225701.0, "n": 25100, "by": "control", "why": "evidence 34.1 of 33 after 4534 events", "instead_of": 1,
        "positions": {"0": 50210}, "scores": {},
    },
    "origin": None, "search": None,
    "decisions": [
        {
            "kind": "promoted", "at": 1767225701.0, "by": "control", "why": "every shard serves it", "case": "delay-17",
            "control": 51,
        }
    ],
    "dropped": None, "kept": True,
}  # fmt: skip
VERSION_IN_FULL: Final[dict[str, Any]] = VERSION | {
    "unusable": {},
    "fitted": {
        "0": {
            "position": 41230, "estimator": "LogisticRegression", "features": 2, "numbers": 1, "strings": 1,
            "types": {"carrier": "string", "distance": "number"},
            "weights": {"(intercept)": -1.2, "distance": 0.4}, "weights_in_all": 2,
        }
    },
    "serving": {},
}
HISTORY: Final[dict[str, Any]] = {
    "model": "delay",
    "items": [
        {
            "version": 1, "since": {"control": 3, "at": 1767225000.0, "positions": {}},
            "until": {"control": 51, "at": 1767225701.0, "positions": {"0": 50210}}, "by": "control",
            "why": "the model was first seen in the configuration", "case": "",
        },
        {
            "version": 2, "since": {"control": 51, "at": 1767225701.0, "positions": {"0": 50210}}, "until": None,
            "by": "control", "why": "evidence 34.1 of 33 after 4534 events", "case": "delay-17",
        },
    ],
    "since": 1767225540.0, "until": 1767225720.0, "step_s": 60, "at": [1767225540, 1767225600, 1767225660],
    "series": {
        "metric:accuracy": {"mean": [0.851, None, 0.874], "min": [0.848, None, 0.869], "max": [0.853, None, 0.88]},
        "lag": {"mean": [12.5, None, 0.0], "min": [0.0, None, 0.0], "max": [40.0, None, 0.0]},
    },
}  # fmt: skip
FLEET: Final[dict[str, Any]] = {
    "at": 1767225720.0, "control": {"silent_s": None}, "store": {"down_s": None}, "keys_required": False,
    "models": [
        {
            "name": "delay", "stream": "flights", "task": "binary", "state": "healthy", "reasons": [], "metric": "accuracy",
            "higher_is_better": True, "value": 0.874, "baselines": {"majority": 0.82, "no_change": 0.71},
            "spark": {"at": [1767225600.0, 1767225660.0], "value": [0.851, 0.874]},
            "baseline_spark": {"majority": [0.82, 0.82], "no_change": [0.7, 0.71]}, "rate": 310.5, "lag": 0,
            "freshness_s": 0.23, "version": 2, "version_since": 1767225701.0, "n": 20412, "pending": 37, "case": None,
            "silenced_until": None, "since": 1767225701.0,
        }
    ],
}  # fmt: skip
REWIND: Final[dict[str, Any]] = {
    "model": "delay",
    "shards": [
        {
            "shard": 0, "to": 41000, "checkpoint": 311, "at": 1767225000.0, "version": 2, "start": 39870, "end": 52310,
            "records": 11640, "skip": [[41000, 41800]],
        }
    ],
}  # fmt: skip
CASE: Final[dict[str, Any]] = {
    "id": "delay-17", "model": "delay", "kind": "drift", "open": True, "outcome": None, "opened_at": 1767225600.0,
    "closed_at": None, "version": 2, "progress": None, "trial": {"events": 640, "e": 3.1, "mean_difference": 0.021},
    "search": None,
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
