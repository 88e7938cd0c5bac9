"""The settings of drift: what watches, what an alarm is tested on, and what a detector may watch, see `wrong_detector`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from .config_fields import FROZEN, Count, Margin, Positive, Share, Task, Whole

# The metrics that a detector may watch, by task; and what a detector takes, where that is not any number.
METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "binary": ("accuracy", "kappa", "roc_auc", "log_loss", "brier"),
    "multiclass": ("accuracy", "kappa", "log_loss"),
    "regression": ("mae", "rmse", "r2"),
    "recommend": ("hit_rate", "ndcg", "mrr"),
}
SHARES: Final = frozenset({"accuracy", "roc_auc", "brier", "hit_rate", "ndcg", "mrr"})  # metrics that lie in [0, 1]
TAKES: Final[Mapping[str, str]] = {"ddm": "01", "eddm": "01", "fhddm": "share", "hddm_a": "share", "hddm_w": "share"}


class DetectorSettings(BaseModel):
    model_config = FROZEN

    name: Literal["adwin", "page_hinkley", "kswin", "ddm", "eddm", "fhddm", "hddm_a", "hddm_w", "dummy"]
    on: Literal[
        "loss", "score", "label_rate", "accuracy", "kappa", "roc_auc", "log_loss", "brier", "mae", "rmse", "r2",
        "hit_rate", "ndcg", "mrr",
    ] = "loss"
    every: Count | None = None
    params: dict[str, StrictBool | StrictInt | StrictFloat | StrictStr] = {}


class FeatureSettings(BaseModel):
    model_config = FROZEN

    enabled: StrictBool = True
    window: Annotated[int, Field(ge=50, strict=True)] = 500
    reference: Annotated[int, Field(ge=100, strict=True)] = 2000
    every_s: Positive = 2
    q: Share = 0.05
    null_jump: Share = 0.2
    hold: StrictBool = True
    heal_looks: Count = 3
    heal_mode: Literal["skip", "learn", "repair"] = "skip"
    contract: Literal["hold", "follow"] = "hold"


class DriftSettings(BaseModel):
    model_config = FROZEN

    detectors: tuple[DetectorSettings, ...] = (
        DetectorSettings(name="adwin", params={"delta": 0.002}),
        DetectorSettings(name="page_hinkley", params={"threshold": 20.0, "delta": 0.005}),
    )
    quorum: Literal["any", "majority", "all"] | Annotated[int, Field(ge=1, strict=True)] = "any"
    within: Count = 500
    window: Annotated[int, Field(ge=30, strict=True)] = 500
    gap: Whole = 200
    min_reference: Annotated[int, Field(ge=30, strict=True)] = 500
    max_reference: Annotated[int, Field(ge=100, strict=True)] = 20_000
    alpha: Share = 0.05
    harm: Margin = 0.0
    features: FeatureSettings = FeatureSettings()

    @model_validator(mode="after")
    def _reference_can_fill(self) -> DriftSettings:
        if self.max_reference < self.min_reference:
            raise ValueError(
                f"max_reference: {self.max_reference} is below min_reference, {self.min_reference}; write at least as many"
            )
        if not self.detectors:
            raise ValueError("detectors: there is none; name at least one, for instance {name = \"adwin\"}")
        if isinstance(self.quorum, int) and self.quorum > len(self.detectors):
            raise ValueError(f"quorum: {self.quorum} can never agree, there are {len(self.detectors)} detectors; write fewer")
        return self


# Of a model that recommends. The loss of a rank lies near 1 and is noisy: a fifth of a gain (NDCG) of .1 is a tenth of its
# standard deviation, which takes a larger window to see, and a detector that waits for more.
RECOMMEND: Final[Mapping[str, Any]] = {
    "detectors": (
        DetectorSettings(name="adwin", params={"delta": 0.002}),
        DetectorSettings(name="page_hinkley", params={"threshold": 30.0, "delta": 0.005}),
    ),
    "window": 1000,
    "min_reference": 1000,
}


def wrong_detector(task: Task, drift: DriftSettings) -> str | None:
    """What is wrong with what the detectors watch in a model of this task, None if nothing is."""
    for detector in drift.detectors:
        what = f"drift.detectors: {detector.name} on {detector.on}"
        if detector.on == "loss" or (detector.on in ("score", "label_rate") and task != "recommend"):
            classes = task in ("binary", "multiclass")
            fits = {"01": classes and detector.on != "score", "share": classes or detector.on == "loss", "any": True}
        elif detector.on in METRICS[task]:
            fits = {"01": False, "share": detector.on in SHARES, "any": True}
        else:
            return f"{what}: a {task} model has no such metric; write one of {list(METRICS[task])}"
        takes = TAKES.get(detector.name, "any")
        if not fits[takes] or (takes == "01" and (detector.every or 1) > 1):
            wanted = "0 and 1 alone, one by one" if takes == "01" else "numbers from 0 to 1"
            return f"{what}: it takes {wanted}; use adwin or page_hinkley, or let it watch the loss of classes"
    return None
