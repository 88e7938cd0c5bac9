"""One TOML file and `STREAMLEARN_…` environment overrides → frozen, validated settings. Every error names its key and the fix.

`STREAMLEARN_SERVE__PORT=9000` overrides `serve.port`: two underscores step into a table, and the value is read as TOML
(or as text when it is not TOML). Variables that are not settings (`RESERVED`) are left alone. Nothing here opens a log,
a store or a model.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError

RESERVED: Final = frozenset({"STREAMLEARN_KEYS", "STREAMLEARN_API_KEYS", "STREAMLEARN_DATA", "STREAMLEARN_LOG_LEVEL"})
PREFIX: Final = "STREAMLEARN_"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

Task = Literal["binary", "multiclass", "regression"]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Label = bool | int | str


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, str_strip_whitespace=True)


class LogSettings(Table):
    backend: Literal["sqlite"] = "sqlite"
    retention_hours: NotNegative = 0
    max_waiting_mb: Positive = 64


class StoreSettings(Table):
    backend: Literal["sqlite"] = "sqlite"


class ServeSettings(Table):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8321
    max_in_flight: Count = 64
    poll_ms: Positive = 50
    prediction_buffer: Count = 10_000
    max_instances: Count = 1000
    stale_after_s: Positive = 15


class LimitSettings(Table):
    max_body_bytes: Count = 8_388_608
    max_batch: Count = 10_000
    max_event_bytes: Count = 262_144
    max_features: Count = 1000
    max_string: Count = 1024
    max_ahead_s: NotNegative = 3600


class LearnSettings(Table):
    batch: Count = 500
    poll_ms: Positive = 10


class ControlSettings(Table):
    poll_ms: Positive = 100
    heartbeat_s: NotNegative = 10


class StreamSettings(Table):
    partitions: Annotated[int, Field(ge=1, le=1024)] = 1
    allowed_lateness_s: NotNegative = 60


class DetectorSettings(Table):
    name: Literal["adwin", "page_hinkley"]
    params: dict[str, bool | int | float | str] = {}


class DriftSettings(Table):
    detectors: tuple[DetectorSettings, ...] = (
        DetectorSettings(name="adwin", params={"delta": 0.002}),
        DetectorSettings(name="page_hinkley", params={"threshold": 20.0, "delta": 0.005}),
    )
    window: Annotated[int, Field(ge=30)] = 500
    gap: Annotated[int, Field(ge=0)] = 200
    min_reference: Annotated[int, Field(ge=30)] = 500
    max_reference: Annotated[int, Field(ge=100)] = 20_000
    alpha: Share = 0.05
    harm: NotNegative = 0.0


class TrialSettings(Table):
    alpha: Share = 0.05
    tolerance: NotNegative = 0.01
    min_block: Count = 10
    min_events: Count = 1000
    horizon_events: Count = 50_000
    watch_events: Annotated[int, Field(ge=0)] = 5000


class RetrainSettings(Table):
    epochs: Count = 1
    min_events: Count = 200
    time_limit_s: Positive = 3600
    memory_limit_mb: Positive = 2048
    catch_up_records: Count = 500
    max_gap_records: Count = 20_000
    attempts: Count = 3
    backoff_s: NotNegative = 5


class PublishSettings(Table):
    min_interval_s: Positive = 0.2
    budget: Share = 0.02


class CheckpointSettings(Table):
    interval_s: Positive = 10
    budget: Share = 0.05
    keep_last: Count = 3
    keep_hourly: Annotated[int, Field(ge=0)] = 24
    keep_daily: Annotated[int, Field(ge=0)] = 7


class ModelSettings(Table):
    stream: str
    task: Task
    pipeline: str
    params: dict[str, Any] = {}
    seed: int = 42
    labels: tuple[Label, ...] = ()
    default_label: Label | float | None = None
    label_wait_s: Positive = 86_400
    max_pending: Count = 100_000
    dedupe_ids: Count = 200_000
    loss_scale: Positive | None = None
    score_window: Annotated[int, Field(ge=10)] = 1000
    score_fading: Share = 0.999
    drift: DriftSettings = DriftSettings()
    trial: TrialSettings = TrialSettings()
    retrain: RetrainSettings = RetrainSettings()
    publish: PublishSettings = PublishSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()

    @model_validator(mode="after")
    def _labels_fit_the_task(self) -> ModelSettings:
        if self.task == "binary" and self.labels and len(self.labels) != 2:
            raise ValueError(f"labels: a binary model has two labels, not {len(self.labels)}; write [negative, positive]")
        if self.task == "regression" and self.labels:
            raise ValueError("labels: a regression model has none; remove the key")
        if len(set(map(repr, self.labels))) != len(self.labels):
            raise ValueError("labels: one is given twice; list each once")
        return self


class Settings(Table):
    data_dir: Path = Path("streamlearn-data")
    log: LogSettings = LogSettings()
    store: StoreSettings = StoreSettings()
    serve: ServeSettings = ServeSettings()
    limits: LimitSettings = LimitSettings()
    learn: LearnSettings = LearnSettings()
    control: ControlSettings = ControlSettings()
    streams: dict[str, StreamSettings] = {}
    models: dict[str, ModelSettings] = {}


class ConfigErrors(ConfigError):
    """All that is wrong with a configuration, in `errors`, at least one."""

    def __init__(self, errors: list[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.key, first.problem, first.fix)
        self.errors = errors
        self.args = ("\n".join(map(str, errors)),)


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings in the TOML file at `path` under the overrides in `environ`. Raises ConfigErrors."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigErrors([ConfigError(str(path), "no such file", "Name an existing TOML file")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigErrors([ConfigError(str(path), f"not TOML: {error}", "Mend the line that it names")]) from None
    except OSError as error:
        raise ConfigErrors([ConfigError(str(path), f"cannot be read: {error}", "Name a readable file")]) from None
    settings = parse(tree, environ)
    if settings.data_dir.is_absolute():
        return settings
    return settings.model_copy(update={"data_dir": (path.parent / settings.data_dir).resolve()})


def parse(tree: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings in a parsed TOML `tree` under the overrides in `environ`. Raises ConfigErrors."""
    merged = _override(tree, environ)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigErrors([_explain(item) for item in error.errors()]) from None
    errors = _cross_check(settings)
    if errors:
        raise ConfigErrors(errors)
    return settings


def _override(tree: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    merged: dict[str, Any] = _copy(tree)
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in RESERVED:
            continue
        path = variable.removeprefix(PREFIX).lower().split("__")
        table = merged
        for name in path[:-1]:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigErrors([ConfigError(variable, f"{name!r} is not a table", "Name a setting inside a table")])
            table = inner
        try:
            table[path[-1]] = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            table[path[-1]] = text
    return merged


def _copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}


_FIXES: Final = {
    "extra_forbidden": "Remove it, or mend its spelling",
    "missing": "Add it",
}


def _explain(item: Any) -> ConfigError:
    key = ".".join(str(part) for part in item["loc"]) or "(file)"
    kind, context = item["type"], item.get("ctx", {})
    if kind == "value_error":
        inner, _, rest = str(context["error"]).partition(": ")
        problem, _, fix = rest.partition("; ")
        return ConfigError(f"{key}.{inner}", problem, fix[:1].upper() + fix[1:])
    if kind == "extra_forbidden":
        return ConfigError(key, "there is no such setting", _FIXES[kind])
    if kind == "missing":
        return ConfigError(key, "is missing", _FIXES[kind])
    problem = item["msg"][:1].lower() + item["msg"][1:]
    return ConfigError(key, f"{problem}, but it is {item['input']!r}", _fix_for(kind, context))


def _fix_for(kind: str, context: Mapping[str, Any]) -> str:
    if kind == "literal_error":
        return f"Write one of {context['expected']}"
    for bound, word in (("gt", "above"), ("ge", "of at least"), ("lt", "below"), ("le", "of at most")):
        if bound in context:
            return f"Write a number {word} {context[bound]}"
    return "Write a value of the type it names"


def _cross_check(settings: Settings) -> list[ConfigError]:
    errors = []
    for table, names in (("streams", settings.streams), ("models", settings.models)):
        for name in names:
            if not NAME.fullmatch(name):
                errors.append(
                    ConfigError(f"{table}.{name}", "is not a usable name", "Use a–z, 0–9, - and _, 63 characters at most")
                )
    if not settings.streams:
        errors.append(ConfigError("streams", "there is none", "Add one, for instance [streams.clicks]"))
    for name, model in settings.models.items():
        if model.stream not in settings.streams:
            errors.append(
                ConfigError(
                    f"models.{name}.stream",
                    f"there is no stream {model.stream!r}",
                    f"Write one of {sorted(settings.streams)}, or add [streams.{model.stream}]",
                )
            )
    return errors
