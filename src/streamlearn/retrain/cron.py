"""Retrain by the clock: a cron expression in a time zone and, if wished, only within certain hours of the day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import StrictStr, field_validator

from .builtin import Builtin, choice
from .policy import Choice, Seen

_WINDOW: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Cron(Builtin):
    """Retrain at the moments of `schedule`: minute, hour, day of the month, month, day of the week, in `timezone` (IANA).

    As with Debian's cron (library `cronsim`), a daily moment that the clocks pass over in spring comes when the gap ends, and
    one that comes twice in autumn counts once. With a `window` ("HH:MM-HH:MM", local; it may cross midnight) a retrain begins
    only within it: a moment outside waits for it to open, and one whose window has closed is missed. Of several moments since
    the last retrain only the newest one counts.

    `total` is the seconds from the last retrain to the moment that is due, 0 when none is; `threshold` is 0.
    """

    name: ClassVar[str] = "cron"

    schedule: StrictStr
    timezone: StrictStr = "UTC"
    window: StrictStr | None = None

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (LookupError, OSError, ValueError):
            raise ValueError(
                f"timezone: there is no time zone {name!r}; write one of the IANA names, such as \"Europe/Vienna\" or \"UTC\""
            ) from None  # fmt: skip
        return name

    @field_validator("window")
    @classmethod
    def _window_is_one(cls, window: str | None) -> str | None:
        if window is None:
            return None
        if not _WINDOW.fullmatch(window):
            raise ValueError(f'window: {window!r} is not HH:MM-HH:MM; write such as "22:00-06:00"')
        if window[:5] == window[6:]:
            raise ValueError(f"window: {window!r} is empty; write two different times, or leave it out for the whole day")
        return window

    @field_validator("schedule")
    @classmethod
    def _schedule_comes(cls, schedule: str) -> str:
        fix = 'write minute, hour, day of the month, month, day of the week, such as "30 3 * * *" for 3:30 every day'
        if len(schedule.split()) != 5:
            raise ValueError(f"schedule: {schedule!r} is not five fields; {fix}")
        try:
            next(CronSim(schedule, _SOME_DAY))
        except CronSimError as error:
            raise ValueError(f"schedule: {schedule!r} is no cron expression ({error}); {fix}") from None
        except StopIteration:
            raise ValueError(f"schedule: {schedule!r} never comes; {fix}") from None
        return schedule

    def decide(self, seen: Seen) -> Choice:
        """Retrain when a moment has come since the last retrain, and its window is open."""
        moment, following = self.last(seen.now), self.next(seen.now)
        more: dict[str, Any] = {"moment": moment, "next": following, "timezone": self.timezone, "window": self.window}
        if moment <= seen.since:
            return choice(
                seen, False, 0.0, 0.0, f"nothing was due since the last retrain; next {self.local(following)}", **more
            )
        what, waited = f"due since {self.local(moment)}", moment - seen.since
        if self.window is None:
            return choice(seen, True, waited, 0.0, what, **more)
        opens, closes = next(window for window in self._windows(moment) if window[1] > moment)
        more |= {"opens": opens, "closes": closes}
        if seen.now < opens:
            return choice(seen, False, 0.0, 0.0, f"{what}, waits for {self.local(opens)}", **more)
        if seen.now < closes:
            return choice(seen, True, waited, 0.0, f"{what}, until {self.local(closes)}", **more)
        missed = f"the one of {self.local(moment)} was missed, its window closed at {self.local(closes)}"
        return choice(seen, False, 0.0, 0.0, f"{missed}; next {self.local(following)}", **more)

    def next(self, now: float) -> float:
        """The first scheduled moment after `now`; both Unix seconds."""
        moments = (one.timestamp() for one in CronSim(self.schedule, self._at(now)))
        return next(moment for moment in moments if moment > now)  # an hour that comes twice is taken for its first time

    def last(self, now: float) -> float:
        """The last scheduled moment up to `now`; both Unix seconds."""
        moment = next(CronSim(self.schedule, self._at(now).replace(microsecond=1), reverse=True)).timestamp()
        while (following := self.next(moment)) <= now and following > moment:
            moment = following  # going back, an hour that comes twice is taken for its first time
        return moment

    def local(self, moment: float) -> str:
        """A moment as people of the zone read it."""
        return self._at(moment).strftime("%Y-%m-%d %H:%M %Z")

    def _at(self, moment: float) -> datetime:
        return datetime.fromtimestamp(moment, ZoneInfo(self.timezone))

    def _windows(self, moment: float) -> Iterator[tuple[float, float]]:
        """The windows around a moment, as (opens, closes), in order: the one that it lies in or waits for is among them."""
        assert self.window is not None
        opens, closes = (time.fromisoformat(part) for part in self.window.split("-"))
        days = [self._at(moment).date() + timedelta(days=day) for day in range(-1, 4)]
        for day, morrow in pairwise(days):
            first, end = self._instant(day, opens), self._instant(day if opens < closes else morrow, closes)
            if first < end:  # it is empty where the clocks pass over all of it
                yield first, end

    def _instant(self, day: date, at: time) -> float:
        """A local time as Unix seconds: the first one of two; the end of the gap, of one that the clocks pass over."""
        zone = ZoneInfo(self.timezone)
        moment = datetime.combine(day, at, zone)
        while moment.astimezone(UTC).astimezone(zone) != moment:
            moment += timedelta(minutes=1)
        return moment.timestamp()
