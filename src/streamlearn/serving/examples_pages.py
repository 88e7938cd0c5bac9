"""Example documents for the OpenAPI contract, of what the dashboard's pages show, as the service writes them."""

from __future__ import annotations

from typing import Any, Final

MARKS: Final[dict[str, Any]] = {
    "model": "delay",
    "marks": [
        {
            "id": "alarm:40", "kind": "alarm", "at": 1767225600.0, "until": None, "open": False, "label": "adwin",
            "detail": "adwin on shard 0 sees the loss rise since offset 40210", "case": "delay-17", "version": None,
            "control": 40,
        },
        {
            "id": "trial:46", "kind": "trial", "at": 1767225612.0, "until": None, "open": True, "label": "trial of version 2",
            "detail": "version 2 against version 1 on the same events, challenger 1 since the last promotion",
            "case": "delay-17", "version": 2, "control": 46,
        },
    ],
}  # fmt: skip
_BARS: Final = {"edges": [0.0, 500.0, 1000.0], "before": [1300, 700], "after": [180, 320]}
FEATURES: Final[dict[str, Any]] = {
    "model": "delay", "enabled": True, "reference": {"since": 1767225000.0, "n": 2000}, "at": 1767225600.0, "looks": 12,
    "settled": True, "in_all": 1, "findings": [], "appeared": [],
    "features": [
        {
            "name": "distance", "type": "number", "test": "ks", "p": 1e-9, "e": 41000.0, "psi": 0.31, "missing": [0.0, 0.01],
            "other_type": [0.0, 0.0], "unseen": 0.0, "outside": 0.02, "differs": True, "since": 1767225500.0,
            "flagged_since": 1767225500.0, "histogram": _BARS,
        }
    ],
    "heat": {"at": [1767225480, 1767225540], "step_s": 60, "names": ["distance"], "psi": [[0.01], [0.31]]},
}  # fmt: skip
_DELAY: Final = {"events": {"p50": 40.0, "p95": 210.0}, "seconds": {"p50": 12.0, "p90": 55.0, "p99": 90.5}}
LABELS: Final[dict[str, Any]] = {
    "model": "delay", "waiting": 37, "early": 0,
    "limits": {"label_wait_s": 3600.0, "max_pending": 100000, "default_label": None}, "delay": _DELAY,
    "outcomes": {
        "joined": 20412, "early": 3, "defaulted": 0, "missed": 12, "late": 1, "orphan": 0, "correction": 0, "duplicate": 4,
        "skipped": 0,
    },
    "dead": {"total": 1, "reasons": {"late": 1}}, "explain": {"late": "a label that came after its wait had run out"},
    "shards": [{"shard": 0, "waiting": 37, "early": 0, "delay": _DELAY, "n": 20412}],
    "newest": [
        {
            "number": 0, "at": 1767225600.0, "reason": "late", "detail": "y: the wait for it was over (3600 s of event time)",
            "id": "f8", "key": "WN-239", "shard": 0, "offset": 41007, "stream": "flights",
        }
    ],
}  # fmt: skip
DIFF: Final[dict[str, Any]] = {
    "model": "delay", "a": 1, "b": 2, "differences": [{"part": "data", "what": "learned", "a": None, "b": 10040}],
}  # fmt: skip
