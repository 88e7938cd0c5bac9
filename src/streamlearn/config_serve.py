"""The settings of the HTTP side: where it listens, and what it takes at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictStr, field_validator

from .config_fields import FROZEN, Count, NotNegative, Positive
from .errors import ConfigError


class RateSettings(BaseModel):
    """Requests a second of one API key, by the scope that they need; 0 does not limit them."""

    model_config = FROZEN
    write: NotNegative = 0
    predict: NotNegative = 0
    read: NotNegative = 100
    operate: NotNegative = 2
    burst_s: Positive = 10


class ServeSettings(BaseModel):
    model_config = FROZEN
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, strict=True)] = 8321
    workers: Count = 1
    max_in_flight: Count = 64
    poll_ms: Positive = 50
    prediction_buffer: Count = 10_000
    max_instances: Count = 1000
    stale_after_s: Positive = 15
    session_hours: Positive = 12
    rates: RateSettings = RateSettings()
    otlp_endpoint: StrictStr = ""
    shop: StrictStr = ""

    @field_validator("otlp_endpoint")
    @classmethod
    def _an_address(cls, text: str) -> str:
        if text and not text.lower().startswith(("http://", "https://")):
            raise ValueError(f"otlp_endpoint: {text!r} is no web address; write one such as http://127.0.0.1:4318")
        return text


class LimitSettings(BaseModel):
    model_config = FROZEN
    max_body_bytes: Count = 8_388_608
    max_batch: Count = 10_000
    max_event_bytes: Count = 262_144
    max_features: Count = 1000
    max_string: Count = 1024
    max_ahead_s: NotNegative = 3600


def wrong_shop(tree: Mapping[str, Any]) -> Iterator[ConfigError]:
    """A shop over what is no model that recommends."""
    serve, models = ({} if not isinstance(table := tree.get(kind), Mapping) else table for kind in ("serve", "models"))
    name = serve.get("shop")
    if not isinstance(name, str) or not name:
        return
    tasks = {one: model.get("task") for one, model in models.items() if isinstance(model, Mapping)}
    if tasks.get(name) == "recommend":
        return
    what = f"the task of model {name!r} is {tasks[name]!r}" if name in tasks else f"there is no model {name!r}"
    fitting = sorted(one for one, task in tasks.items() if task == "recommend")
    fix = f"Write {fitting[0]!r}" if fitting else "Name a model with task = \"recommend\", or remove the key"
    yield ConfigError("serve.shop", what, fix)
