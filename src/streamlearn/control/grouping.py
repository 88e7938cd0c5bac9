"""When a target is told what: one courier a target gathers notices by model, and says which message is due now.

    a notice comes ─▶ gathered ─due─▶ tried ─taken─▶ delivered
                                       ▲ │ refused, silent
                                       └─┘ backoff ─▶ after `attempts` tries or `give_up_s`: undelivered

A message is due `group_wait_s` after the first notice of a kind that was not told within `repeat_s`, else when those have gone
by; it says everything that was gathered of its model by then. So a model that flaps is told of once, then at most once in
`repeat_s`, with how often. A message that is tried keeps its content, and the next of its model waits for it: the order of each
model is kept. Nothing here reads a clock or sends anything; what was told is recorded in the control log by the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from ..config_notify import SEVERITIES, NotifySettings, QuietSettings, TargetSettings
from ..records import Notified
from .notices import MOST_SHOWN, Message, Notice, worst

LONGEST_WISH_S: Final = 3600.0  # a receiver that asks for more patience is asked again after this


def is_quiet(quiet: QuietSettings, now: float) -> bool:
    """Whether `now` (Unix seconds) lies in the quiet time, by the clocks of its zone."""
    if quiet.hours is None:
        return False
    starts, ends = quiet.hours
    at = datetime.fromtimestamp(now, ZoneInfo(quiet.zone)).time()
    return starts <= at < ends if starts < ends else at >= starts or at < ends


@dataclass
class _Gathered:
    """What is to be told of a model."""

    first: dict[str, float] = field(default_factory=dict)  # by kind, when the first one came
    counts: dict[str, int] = field(default_factory=dict)
    severity: str = "info"
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=MOST_SHOWN))

    def add(self, notice: Notice) -> None:
        self.first.setdefault(notice.kind, notice.at)
        self.counts[notice.kind] = self.counts.get(notice.kind, 0) + 1
        self.severity = worst((self.severity, notice.severity))
        self.notices.append(notice)


@dataclass
class _Tried:
    """A message on its way."""

    message: Message
    began: float
    attempts: int = 0
    again_at: float = 0.0


class Courier:
    """Of the target `name`. `jitter` gives numbers in [0, 1)."""

    def __init__(self, name: str, settings: NotifySettings, jitter: Callable[[], float]) -> None:
        self.name, self.target = name, settings.targets[name]
        self.started: int | None = None  # what the control log holds up to there is not told
        self.failing_since: float | None = None
        self.error = ""
        self.delivered = 0
        self.undelivered: dict[int, Notified] = {}  # by the offset of their record: nobody has dealt with them yet
        self._settings, self._jitter = settings, jitter
        self._cursors: dict[str, int] = {}
        self._gathered: dict[str, _Gathered] = {}
        self._tried: dict[str, _Tried] = {}
        self._told: dict[tuple[str, str], float] = {}  # by model and kind, when last
        self._patience = 0.0  # the receiver does not want to be asked before then

    @property
    def waiting(self) -> int:
        """Notices that are still to be told."""
        tried = sum(sum(one.message.counts.values()) for one in self._tried.values())
        return tried + sum(sum(one.counts.values()) for one in self._gathered.values())

    def take(self, notice: Notice) -> None:
        """A notice, in the order of the control log. One that was told, or is not for this target, is passed over."""
        if wants(self.target, notice) and notice.control > self._cursor(notice.model):
            self._gathered.setdefault(notice.model, _Gathered()).add(notice)

    def mute(self, model: str) -> None:
        """The model was silenced: what is still to be told of it is not told."""
        self._gathered.pop(model, None)
        self._tried.pop(model, None)

    def note(self, offset: int, record: Notified) -> None:
        """A record of the control log at `offset` that says what this target was told."""
        if record.outcome == "started":
            self.started = record.upto
            self._drop_told(list(self._gathered))
        elif record.of in self.undelivered:
            del self.undelivered[record.of]
        elif record.outcome in ("delivered", "undelivered"):
            self._cursors[record.model] = max(record.upto, self._cursors.get(record.model, -1))
            self._told |= {(record.model, kind): record.at for kind in record.counts}
            self._drop_told([record.model])
            if record.outcome == "undelivered":
                self.undelivered[offset] = record
            else:
                self.delivered += 1

    def next(self, now: float) -> Message | None:
        """The message to be tried now, None when none is due."""
        if self.started is None or now < self._patience:
            return None
        for model, gathered in list(self._gathered.items()):
            due = self._due(model, gathered)
            if model not in self._tried and due <= now and self._may(gathered.severity, now):
                self._tried[model] = _Tried(self._message(model, gathered), now, again_at=due)
                del self._gathered[model]
        ready = [one for one in self._tried.values() if one.again_at <= now and self._may(one.message.severity, now)]
        return min(ready, key=lambda one: one.again_at).message if ready else None

    def answered(self, message: Message, error: str, wish_s: float | None, now: float) -> Notified | None:
        """How trying ended, `error` empty when it was taken; `wish_s`: for how long the receiver wants to be left alone.

        The record to be written, when the message is told or given up.
        """
        if wish_s is not None:
            self._patience = now + min(max(wish_s, 0.0), LONGEST_WISH_S)
        tried = self._tried.get(message.model)
        self.error = error
        self.failing_since = None if not error else self.failing_since if self.failing_since is not None else now
        if tried is None or tried.message.id != message.id:  # it was muted meanwhile, which takes back nothing that was sent
            return None if error else self._record(message, "delivered", 1, "", now)
        tried.attempts += 1
        spent = tried.attempts >= self._settings.attempts or now - tried.began >= self._settings.give_up_s
        if error and not spent:
            tried.again_at = now + self._backoff(tried.attempts)
            return None
        del self._tried[message.model]
        return self._record(message, "undelivered" if error else "delivered", tried.attempts, error, now)

    def doc(self) -> dict[str, Any]:
        """How it stands, for the control role's document."""
        return {
            "delivered": self.delivered, "undelivered": len(self.undelivered), "waiting": self.waiting,
            "failing_since": self.failing_since, "error": self.error,
        }  # fmt: skip

    def _record(self, message: Message, outcome: str, attempts: int, error: str, now: float) -> Notified:
        """What is to be written; it counts here at once."""
        self._cursors[message.model] = max(message.upto, self._cursors.get(message.model, -1))
        self._told |= {(message.model, kind): now for kind in message.counts}
        offsets = [notice.control for notice in message.notices]
        return Notified(
            message.model, self.name, outcome, now, message.upto, dict(message.counts), offsets, attempts, error
        )  # fmt: skip

    def _cursor(self, model: str) -> int:
        return max(self._cursors.get(model, -1), -1 if self.started is None else self.started)

    def _drop_told(self, models: list[str]) -> None:
        for model in models:
            gathered = self._gathered.pop(model, None)
            if gathered is not None and gathered.notices[-1].control > self._cursor(model):
                left = _Gathered()
                for notice in gathered.notices:
                    if notice.control > self._cursor(model):
                        left.add(notice)
                self._gathered[model] = left

    def _due(self, model: str, gathered: _Gathered) -> float:
        wait, repeat = self._settings.group_wait_s, self._settings.repeat_s
        due = []
        for kind, first in gathered.first.items():
            told = self._told.get((model, kind))
            due.append(first + wait if told is None else max(first + wait, told + repeat))
        return min(due)

    def _may(self, severity: str, now: float) -> bool:
        quiet = self._settings.quiet
        urgent = SEVERITIES.index(severity) >= SEVERITIES.index(quiet.urgent)
        return urgent or not self.target.quiet or not is_quiet(quiet, now)

    def _message(self, model: str, gathered: _Gathered) -> Message:
        notices = tuple(gathered.notices)
        since = min(gathered.first.values())
        return Message(
            notices[-1].id, self.name, model, gathered.severity, dict(gathered.counts), since, notices[-1].at,
            notices[-1].control, notices,
        )  # fmt: skip

    def _backoff(self, attempts: int) -> float:
        """Seconds before the next try: twice as long each time, half of it at random."""
        longest = min(self._settings.max_backoff_s, self._settings.backoff_s * 2.0 ** min(attempts - 1, 60))
        return longest * (0.5 + 0.5 * self._jitter())


def wants(target: TargetSettings, notice: Notice) -> bool:
    """Whether the target's filters let the notice through."""
    severe = SEVERITIES.index(notice.severity) >= SEVERITIES.index(target.severity)
    return severe and (not target.kinds or notice.kind in target.kinds) and (not target.models or notice.model in target.models)
