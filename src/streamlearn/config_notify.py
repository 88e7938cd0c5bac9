"""The settings of notifications: whom control tells of what it decided, how soon, how often, and when not to disturb."""

from __future__ import annotations

import re
from datetime import time
from typing import Final, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, StrictBool, StrictStr, ValidationInfo, field_validator, model_validator

from .config_fields import FROZEN, Count, NotNegative, Positive

KINDS: Final = (
    "case_opened", "confirmed", "case_closed", "promoted", "rolled_back", "held", "resumed", "retrain_failed",
)  # fmt: skip
SEVERITIES: Final = ("info", "warning", "critical")
Kind = Literal["case_opened", "confirmed", "case_closed", "promoted", "rolled_back", "held", "resumed", "retrain_failed"]
Severity = Literal["info", "warning", "critical"]
HOUR: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class TargetSettings(BaseModel):
    """One receiver: `url`, or what holds it where it is a secret; what signs (webhook); what it is told of."""

    model_config = FROZEN
    form: Literal["webhook", "slack"] = "webhook"
    url: StrictStr = ""
    url_file: StrictStr = ""
    secret_file: StrictStr = ""
    secret_env: StrictStr = ""
    models: tuple[StrictStr, ...] = ()
    kinds: tuple[Kind, ...] = ()
    severity: Severity = "info"
    quiet: StrictBool = True

    @model_validator(mode="after")
    def _can_be_reached(self) -> TargetSettings:
        if bool(self.url) == bool(self.url_file):
            raise ValueError("url: a target has either url or url_file; write one of them")
        if self.url and not re.match(r"(?i)^https?://[^\s/]", self.url):
            raise ValueError("url: it is no web address; write one that begins with https:// or http://")
        if self.secret_env.startswith("STREAMLEARN_"):
            raise ValueError("secret_env: variables that begin with STREAMLEARN_ are settings; write another name")
        if self.secret_file and self.secret_env:
            raise ValueError("secret_env: it is set beside secret_file; write one of the two")
        if self.form == "slack" and (self.secret_file or self.secret_env):
            raise ValueError("secret_file: Slack checks no signature, its URL is the secret; remove it, and use url_file")
        return self


class QuietSettings(BaseModel):
    """Hours of the day, by the clocks of a zone, in which only what is urgent is told."""

    model_config = FROZEN
    starts: StrictStr = ""
    ends: StrictStr = ""
    zone: StrictStr = "UTC"
    urgent: Severity = "critical"

    @field_validator("starts", "ends")
    @classmethod
    def _an_hour(cls, text: str, info: ValidationInfo) -> str:
        if text and not HOUR.fullmatch(text):
            raise ValueError(f"{info.field_name}: {text!r} is no time of day; write one such as 07:00")
        return text

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, OSError, ValueError):  # what there is not is a KeyError
            raise ValueError(f"zone: there is no time zone {zone!r}; write an IANA name such as Europe/Berlin") from None
        return zone

    @model_validator(mode="after")
    def _both(self) -> QuietSettings:
        if bool(self.starts) != bool(self.ends) or (self.starts and self.starts == self.ends):
            raise ValueError("starts: a quiet time has two different ends; write both, such as 22:00 and 07:00, or neither")
        return self

    @property
    def hours(self) -> tuple[time, time] | None:
        """When it starts and ends; None when there is no quiet time."""
        return (time.fromisoformat(self.starts), time.fromisoformat(self.ends)) if self.starts else None


class NotifySettings(BaseModel):
    model_config = FROZEN
    group_wait_s: NotNegative = 30
    repeat_s: NotNegative = 900
    attempts: Count = 10
    give_up_s: Positive = 21_600
    backoff_s: Positive = 1
    max_backoff_s: Positive = 600
    timeout_s: Positive = 10
    dashboard_url: StrictStr = ""
    quiet: QuietSettings = QuietSettings()
    targets: dict[str, TargetSettings] = {}

    @model_validator(mode="after")
    def _names(self) -> NotifySettings:
        for name in self.targets:
            if not NAME.fullmatch(name):
                raise ValueError(f"targets: {name!r} is not a usable name; use a–z, 0–9, - and _, 63 characters at most")
        return self
