"""The settings of retrains: when one is worth its price (policies, costs), how it is made (strategy, search), where it runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictStr, model_validator

from .config_fields import FROZEN, Count, NotNegative, Positive, Share


class PolicySettings(BaseModel):
    """A policy by its name, or by the import path of a class of one's own, and what it is called with (`retrain.policies`)."""

    model_config = FROZEN
    name: Annotated[StrictStr, Field(min_length=1)]
    params: dict[str, Any] = {}


class CostSettings(BaseModel):
    """What a retrain and a loss cost, both in `unit`."""

    model_config = FROZEN
    retrain: NotNegative = 20
    loss: Positive = 1
    unit: Annotated[StrictStr, Field(min_length=1, max_length=40)] = "lost events"

    @property
    def kappa(self) -> float:
        """The cost of a retrain in units of loss: in events lost whole."""
        return self.retrain / self.loss


class StrategySettings(BaseModel):
    model_config = FROZEN
    how: Literal["full", "warm", "members", "search"] = "full"
    window: Literal["change", "records", "days", "all"] = "change"
    records: Count = 50_000
    days: Positive = 7
    half_life: NotNegative = 0
    share: Share = 0.5
    max_events: Count = 200_000


class CandidateSettings(BaseModel):
    """A candidate of a search: a recipe or an import path, with its params."""

    model_config = FROZEN
    pipeline: Annotated[StrictStr, Field(min_length=1)]
    params: dict[str, Any] = {}


class SearchSettings(BaseModel):
    model_config = FROZEN
    candidates: Literal["auto"] | Annotated[tuple[CandidateSettings, ...], Field(min_length=1, max_length=64)] = "auto"
    holdout: Share = 0.2
    rungs: Annotated[int, Field(ge=1, le=6, strict=True)] = 3
    keep: Share = 0.34
    batch_only: Literal["auto", "residual", "refresh"] = "auto"


class RetrainSettings(BaseModel):
    model_config = FROZEN
    epochs: Count = 1
    min_events: Count = 200
    time_limit_s: Positive = 3600
    memory_limit_mb: Positive = 2048
    catch_up_records: Count = 500
    max_gap_records: Count = 20_000
    window_s: NotNegative = 604_800
    attempts: Count = 3
    backoff_s: NotNegative = 5
    keep_versions: Count = 10
    batch: Annotated[int, Field(ge=10, strict=True)] = 500
    sample: Annotated[int, Field(ge=0, le=200, strict=True)] = 0
    policies: Annotated[tuple[PolicySettings, ...], Field(max_length=8)] = (PolicySettings(name="debt"),)
    cost: CostSettings = CostSettings()
    strategy: StrategySettings = StrategySettings()
    search: SearchSettings = SearchSettings()

    @model_validator(mode="after")
    def _each_policy_once(self) -> RetrainSettings:
        seen: list[PolicySettings] = []
        for policy in self.policies:
            if policy in seen:
                raise ValueError(f"policies: {policy.name} is given twice; list each once")
            seen.append(policy)
        return self


class DaskSettings(BaseModel):
    model_config = FROZEN
    scheduler: StrictStr = "tcp://127.0.0.1:8786"


class ExecutorSettings(BaseModel):
    model_config = FROZEN
    backend: Literal["processes", "dask"] = "processes"
    workers: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    dask: DaskSettings = DaskSettings()
