"""One TOML file and `STREAMLEARN_…` environment overrides → frozen, validated settings. Every error names its key and the fix.

`STREAMLEARN_SERVE__PORT=9000` overrides `serve.port`: two underscores step into a table, and the value is read as TOML
(or as text when it is not TOML). Variables that are not settings (`RESERVED`) are left alone. All that is wrong is told
at once. Nothing here opens a log, a store or a model.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from .config_errors import ConfigErrors as ConfigErrors
from .config_errors import explain
from .errors import ConfigError

RESERVED: Final = frozenset(
    f"STREAMLEARN_{name}" for name in ("KEYS", "API_KEYS", "API_KEY", "URL", "CONFIG", "DATA", "LOG_LEVEL")
)
PREFIX: Final = "STREAMLEARN_"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

Task = Literal["binary", "multiclass", "regression"]
Positive = Annotated[float, Field(gt=0, strict=True)]
NotNegative = Annotated[float, Field(ge=0, strict=True)]
Whole = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]
Margin = Annotated[float, Field(ge=0, lt=1, strict=True)]  # of a loss in [0, 1]
Label = StrictBool | StrictInt | StrictStr


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)


class LogSettings(Table):
    backend: Literal["sqlite"] = "sqlite"
    retention_hours: NotNegative = 0
    max_waiting_mb: Positive = 64


class StoreSettings(Table):
    backend: Literal["sqlite"] = "sqlite"


class ServeSettings(Table):
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, strict=True)] = 8321
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
    partitions: Annotated[int, Field(ge=1, le=1024, strict=True)] = 1
    allowed_lateness_s: NotNegative = 60


class DetectorSettings(Table):
    name: Literal["adwin", "page_hinkley"]
    params: dict[str, StrictBool | StrictInt | StrictFloat | StrictStr] = {}


class DriftSettings(Table):
    detectors: tuple[DetectorSettings, ...] = (
        DetectorSettings(name="adwin", params={"delta": 0.002}),
        DetectorSettings(name="page_hinkley", params={"threshold": 20.0, "delta": 0.005}),
    )
    window: Annotated[int, Field(ge=30, strict=True)] = 500
    gap: Whole = 200
    min_reference: Annotated[int, Field(ge=30, strict=True)] = 500
    max_reference: Annotated[int, Field(ge=100, strict=True)] = 20_000
    alpha: Share = 0.05
    harm: Margin = 0.0

    @model_validator(mode="after")
    def _reference_can_fill(self) -> DriftSettings:
        if self.max_reference < self.min_reference:
            raise ValueError(
                f"max_reference: {self.max_reference} is below min_reference, {self.min_reference}; write at least as many"
            )
        if not self.detectors:
            raise ValueError("detectors: there is none; name at least one, for instance {name = \"adwin\"}")
        return self


class TrialSettings(Table):
    alpha: Share = 0.05
    tolerance: Margin = 0.01
    min_block: Count = 10
    min_events: Count = 1000
    horizon_events: Count = 50_000
    watch_events: Whole = 5000

    @model_validator(mode="after")
    def _trial_can_end(self) -> TrialSettings:
        if self.horizon_events < self.min_events:
            raise ValueError(
                f"horizon_events: {self.horizon_events} is below min_events, {self.min_events}, "
                "so no trial could be won; write a larger one"
            )
        return self


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
    budget: Share = 0.01


class CheckpointSettings(Table):
    interval_s: Positive = 10
    budget: Share = 0.05
    keep_last: Count = 3
    keep_hourly: Whole = 24
    keep_daily: Whole = 7


class ModelSettings(Table):
    stream: str
    task: Task
    pipeline: Annotated[str, Field(min_length=1)]
    params: dict[str, Any] = {}
    seed: Whole = 42
    labels: tuple[Label, ...] = ()
    default_label: Label | StrictFloat | None = None
    label_wait_s: Positive = 86_400
    max_pending: Count = 100_000
    dedupe_ids: Count = 200_000
    loss_scale: Positive | None = None
    score_window: Annotated[int, Field(ge=10, strict=True)] = 1000
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
        if self.loss_scale is not None and self.task != "regression":
            raise ValueError(f"loss_scale: a {self.task} model has none; remove the key")
        problem = self._wrong_default()
        if problem:
            raise ValueError(f"default_label: {self.default_label!r} {problem}")
        return self

    def _wrong_default(self) -> str | None:
        value = self.default_label
        if value is None:
            return None
        if self.task == "regression":
            wrong = isinstance(value, bool | str)
            return "is not a number; write the number that a missing label stands for" if wrong else None
        if isinstance(value, float):
            return "is not a label; write a whole number, a text or a boolean"
        if self.labels:
            known = any(type(value) is type(label) and value == label for label in self.labels)
            return None if known else f"is not one of labels; write one of {list(self.labels)}"
        if self.task == "binary" and value not in (0, 1):
            return "is not a binary label; write true or false, or declare labels"
        return None


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


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings in the TOML file at `path` under the overrides in `environ`; `data_dir` is taken from the file's folder.

    Raises ConfigErrors.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigErrors([ConfigError(str(path), "no such file", "Name an existing TOML file")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigErrors([ConfigError(str(path), f"not TOML: {error}", "Mend the line that it names")]) from None
    except OSError as error:
        raise ConfigErrors([ConfigError(str(path), f"cannot be read: {error}", "Name a readable file")]) from None
    settings = parse(tree, environ)
    return settings.model_copy(update={"data_dir": (path.parent / settings.data_dir.expanduser()).resolve()})


def parse(tree: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings in a parsed TOML `tree` under the overrides in `environ`. Raises ConfigErrors."""
    merged, sources = _override(tree, environ)
    errors = list(_wrong_names(merged))
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        errors = [*explain(error, merged, Settings), *errors]
    if errors:
        raise ConfigErrors([_with_source(error, sources) for error in errors])
    return settings


def _override(tree: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    merged, sources = _copy(tree), {}
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
        sources[".".join(path)] = variable
    return merged, sources


def _copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}


def _with_source(error: ConfigError, sources: Mapping[str, str]) -> ConfigError:
    """Say where a wrong value comes from when it is not in the file."""
    for key, variable in sources.items():
        if error.key == key or error.key.startswith(f"{key}."):
            return ConfigError(error.key, f"{error.problem} (set by {variable})", error.fix)
    return error


def _wrong_names(tree: Mapping[str, Any]) -> Iterator[ConfigError]:
    """What no single value shows: names that cannot be used, and models that read a stream that is not there."""
    tables = {name: tree.get(name, {}) for name in ("streams", "models")}
    streams, models = ({} if not isinstance(table, dict) else table for table in tables.values())
    for kind, names in (("streams", streams), ("models", models)):
        for name in names:
            if not NAME.fullmatch(name):
                yield ConfigError(f"{kind}.{name}", "is not a usable name", "Use a–z, 0–9, - and _, 63 characters at most")
    if tables["streams"] == {}:
        yield ConfigError("streams", "there is none", "Add one, for instance [streams.clicks]")
        return
    for name, model in models.items():
        stream = model.get("stream") if isinstance(model, dict) else None
        if isinstance(stream, str) and stream not in streams:
            near = difflib.get_close_matches(stream, streams, n=1) or sorted(streams)[:1]
            yield ConfigError(
                f"models.{name}.stream", f"there is no stream {stream!r}", f"Write {near[0]!r}, or add [streams.{stream}]"
            )
