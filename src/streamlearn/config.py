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
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from .config_drift import RECOMMEND, wrong_detector
from .config_drift import TAKES as TAKES
from .config_drift import DetectorSettings as DetectorSettings
from .config_drift import DriftSettings as DriftSettings
from .config_drift import FeatureSettings as FeatureSettings
from .config_errors import ConfigErrors as ConfigErrors
from .config_errors import explain
from .config_fields import FROZEN, Count, NotNegative, Positive, Share, Task, Whole
from .config_history import HistorySettings as HistorySettings
from .config_notify import NotifySettings as NotifySettings
from .config_notify import TargetSettings as TargetSettings
from .config_recommend import RecommendSettings as RecommendSettings
from .config_retrain import ExecutorSettings as ExecutorSettings
from .config_retrain import RetrainSettings as RetrainSettings
from .config_serve import LimitSettings as LimitSettings
from .config_serve import ServeSettings as ServeSettings
from .config_serve import wrong_shop
from .config_trial import TrialSettings as TrialSettings
from .config_trial import wrong_metric
from .errors import ConfigError
from .events import start_text

SECRETS: Final = ("KEYS", "API_KEYS")
OTHERS: Final = ("API_KEY", "URL", "CONFIG", "DATA", "LOG_LEVEL", "LOG_FORMAT", "TEST_SERVERS")
RESERVED: Final = frozenset(f"STREAMLEARN_{name}" for name in (*SECRETS, *(f"{each}_FILE" for each in SECRETS), *OTHERS))
PREFIX: Final = "STREAMLEARN_"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s/]+):\d{1,5}$")]
Label = StrictBool | StrictInt | StrictStr


class Table(BaseModel):
    model_config = FROZEN


class KafkaSettings(Table):
    bootstrap: tuple[Address, ...] = ("127.0.0.1:9092",)
    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{0,100}$")] = ""
    replication: Count = 3
    min_insync: Count = 2
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    session_timeout_s: Positive = 10
    request_timeout_s: Positive = 5
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    ssl_check_hostname: StrictBool = True
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str = ""
    sasl_password_file: str = ""

    @field_validator("bootstrap", mode="before")
    @classmethod
    def _as_one_text(cls, value: object) -> object:
        """Kafka's own way to write several brokers, which is also how the environment can say one."""
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _acknowledgements_can_come(self) -> KafkaSettings:
        if self.min_insync > self.replication:
            raise ValueError(f"min_insync: {self.min_insync} is above replication, {self.replication}; write at most as many")
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password_file):
            raise ValueError("security_protocol: SASL needs sasl_username and sasl_password_file; write both")
        return self


class LogSettings(Table):
    backend: Literal["sqlite", "kafka"] = "sqlite"
    retention_hours: NotNegative = 0
    max_waiting_mb: Positive = 64
    kafka: KafkaSettings = KafkaSettings()


class RedisSettings(Table):
    url: Annotated[str, Field(min_length=1)] = "redis://127.0.0.1:6379/0"
    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,100}$")] = "streamlearn"
    password_file: str = ""


class StoreSettings(Table):
    backend: Literal["sqlite", "redis"] = "sqlite"
    redis: RedisSettings = RedisSettings()


class LearnSettings(Table):
    batch: Count = 500
    poll_ms: Positive = 10


class ControlSettings(Table):
    poll_ms: Positive = 100
    heartbeat_s: NotNegative = 10


class StreamSettings(Table):
    partitions: Annotated[int, Field(ge=1, le=1024, strict=True)] = 1
    allowed_lateness_s: NotNegative = 60


class PublishSettings(Table):
    min_interval_s: Positive = 0.2
    budget: Share = 0.01


class CheckpointSettings(Table):
    interval_s: Positive = 10
    budget: Share = 0.05
    keep_last: Count = 3
    keep_hourly: Whole = 24
    keep_daily: Whole = 7


# Of a model that recommends: what it publishes is what changed, which costs little, and is wanted before the next click.
DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {"publish": {"budget": 0.1}, "drift": RECOMMEND}


class ModelSettings(Table):
    stream: str
    task: Task
    pipeline: Annotated[str, Field(min_length=1)]
    params: dict[str, Any] = {}
    seed: Whole = 42
    start: Annotated[StrictStr, BeforeValidator(start_text)] = "earliest"
    labels: tuple[Label, ...] = ()
    default_label: Label | StrictFloat | None = None
    label_wait_s: Positive = 86_400
    max_pending: Count = 100_000
    dedupe_ids: Count = 200_000
    max_held_records: Count = 50_000
    loss_scale: Positive | None = None
    score_window: Annotated[int, Field(ge=10, strict=True)] = 1000
    score_fading: Share = 0.999
    drift: DriftSettings = DriftSettings()
    trial: TrialSettings = TrialSettings()
    retrain: RetrainSettings = RetrainSettings()
    recommend: RecommendSettings = RecommendSettings()
    publish: PublishSettings = PublishSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_its_task(cls, data: Any) -> Any:
        """What is not written has the value that its task needs, see `DEFAULTS`."""
        if not isinstance(data, dict) or data.get("task") != "recommend":
            return data
        given = {name: data.get(name, {}) for name in DEFAULTS}
        return {**data, **{name: {**DEFAULTS[name], **table} for name, table in given.items() if isinstance(table, dict)}}

    @model_validator(mode="after")
    def _labels_fit_the_task(self) -> ModelSettings:
        if self.task == "binary" and self.labels and len(self.labels) != 2:
            raise ValueError(f"labels: a binary model has two labels, not {len(self.labels)}; write [negative, positive]")
        if self.task in ("regression", "recommend") and self.labels:
            raise ValueError(f"labels: a {self.task} model has none; remove the key")
        if self.task != "recommend" and self.recommend != RecommendSettings():
            raise ValueError(f"recommend: a {self.task} model has no such table; remove it, or write task = \"recommend\"")
        if len(set(map(repr, self.labels))) != len(self.labels):
            raise ValueError("labels: one is given twice; list each once")
        if self.loss_scale is not None and self.task != "regression":
            raise ValueError(f"loss_scale: a {self.task} model has none; remove the key")
        problem = self._wrong_default()
        if problem:
            raise ValueError(f"default_label: {self.default_label!r} {problem}")
        return self

    @model_validator(mode="after")
    def _detectors_and_guardrails_fit_the_task(self) -> ModelSettings:
        problem = wrong_detector(self.task, self.drift) or wrong_metric(self.task, self.trial)
        if problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _retrains_fit_the_task(self) -> ModelSettings:
        if self.task == "recommend":
            if self.retrain.epochs > 1:
                raise ValueError("retrain.epochs: a recommend model counts what it learns, so it learns a window once; write 1")
            if self.retrain.strategy.how != "full":
                how = self.retrain.strategy.how
                raise ValueError(f"retrain.strategy.how: a recommend model is fitted in full, not by {how!r}; write \"full\"")
        return self

    def _wrong_default(self) -> str | None:
        value = self.default_label
        if value is None:
            return None
        if self.task == "recommend":
            return "stands for a missing label, and a recommend model has none; remove the key"
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
    history: HistorySettings = HistorySettings()
    executor: ExecutorSettings = ExecutorSettings()
    notify: NotifySettings = NotifySettings()
    streams: dict[str, StreamSettings] = {}
    models: dict[str, ModelSettings] = {}


def load(path: Path, environ: Mapping[str, str], text: Path | None = None) -> Settings:
    """The settings in the TOML file at `path` under the overrides in `environ`; `data_dir` is taken from the file's folder.

    With `text`, that file is read in the place of the one at `path`. Raises ConfigErrors.
    """
    try:
        tree = tomllib.loads((text or path).read_text(encoding="utf-8"))
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
    errors = [*_wrong_names(merged), *wrong_shop(merged)]
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
