"""Tells people: a thread that posts what the leading control process decided, so that no receiver ever delays a decision.

Control gives it every record that it folds; the couriers say which message is due; what became of it is written into the
control log, which so knows for each target and model up to where it was told. A process that dies after a message was taken and
before that was written sends it again: at least once, and each notice has an id by which a receiver drops the repeat. Because
the log and not the store keeps this, an emptied store brings back no old news; a target that the log knows nothing of is told
of what comes from now on, which is said.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ..config_notify import NotifySettings
from ..errors import ConfigError, LogError, Overloaded
from ..log import CONTROL, Entry, Log
from ..records import ControlRecord, Decision, Notified
from .grouping import Courier
from .notices import Message, Notice, notice_of
from .sending import Answer, Client, client, parcel, post
from .state import State

logger = logging.getLogger("streamlearn.control")

LOOK_S: Final = 0.1
END_S: Final = 2.0
PAUSE_S: Final = 5.0  # before a record is written again that the log would not take


class _Muted(NamedTuple):
    model: str


class _CaughtUp(NamedTuple):
    """All that the log held below `end` was given, in the `term` of leading."""

    end: int
    term: int


class Notifier:
    """For the targets in `settings`. `clock` gives Unix seconds, as that of control; `jitter` numbers in [0, 1).

    `take`, `caught_up`, `pause` and `close` are for control's thread.
    """

    def __init__(
        self,
        settings: NotifySettings,
        log: Log,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings, self._log, self._environ, self._clock = settings, log, environ, clock
        self._couriers = [Courier(name, settings, jitter) for name in settings.targets]
        self._given: deque[tuple[int, Notice | Notified | _Muted | _CaughtUp]] = deque()
        self._seen = -1  # the newest offset that was given: what is folded again is passed over
        self._log_name = ""
        self._term = 0
        self._waits_for_term = True
        self._end: int | None = None  # of the control log, when the couriers know all of it and this process leads
        self._docs = self._stand()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)

    def take(self, offset: int, record: ControlRecord, took_effect: bool, state: State | None) -> None:
        """A record at `offset` of the control log, in order; `state` is its model's after it."""
        if offset <= self._seen:
            return
        self._seen = offset
        self._begin()
        if isinstance(record, Notified):
            self._given.append((offset, record))
        elif isinstance(record, Decision) and took_effect and state is not None:
            until = state.silenced_until or 0.0
            if record.kind == "silenced" and until > record.at:
                self._given.append((offset, _Muted(record.model)))
            if record.at < until:
                return
            self._log_name = self._log_name or self._log.identity(CONTROL)
            notice = notice_of(record, offset, self._log_name)
            if notice is not None:
                self._given.append((offset, notice))

    def caught_up(self, end: int) -> None:
        """This process leads, and gave all that the control log held below `end`."""
        if self._waits_for_term:
            self._waits_for_term = False
            self._given.append((end, _CaughtUp(end, self._term)))
            self._begin()

    def pause(self) -> None:
        """Another process leads now: send nothing more."""
        self._term += 1
        self._waits_for_term = True
        self._end = None

    def close(self) -> None:
        """Send nothing more, and end the thread; what is on its way is broken off, and sent again by the next process."""
        self.pause()
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(END_S)

    def docs(self) -> dict[str, dict[str, Any]]:
        """How each target stood a moment ago."""
        return self._docs

    def _begin(self) -> None:
        """The thread takes what is given from the first record on, so that a long log is not held in memory."""
        if self._thread.ident is None and not self._stop.is_set():
            self._thread.start()

    def _stand(self) -> dict[str, dict[str, Any]]:
        return {courier.name: courier.doc() for courier in self._couriers}

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        async with client(self._settings.timeout_s) as http:
            tasks = [asyncio.create_task(self._serve(courier, http)) for courier in self._couriers]
            while not self._stop.is_set():
                self._hand_out()
                self._docs = self._stand()
                await asyncio.sleep(LOOK_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _hand_out(self) -> None:
        while self._given:
            offset, item = self._given.popleft()
            if isinstance(item, _CaughtUp):
                self._end = item.end if item.term == self._term else None
                continue
            for courier in self._couriers:
                match item:
                    case Notice():
                        courier.take(item)
                    case _Muted():
                        courier.mute(item.model)
                    case Notified() if item.target == courier.name:
                        courier.note(offset, item)

    async def _serve(self, courier: Courier, http: Client) -> None:
        while True:
            try:
                busy = await self._turn(courier, http)
            except Exception:  # the others, and what comes later, are to be told all the same
                logger.exception("a notification failed", extra={"target": courier.name})
                busy = False
            if not busy:
                await asyncio.sleep(LOOK_S)

    async def _turn(self, courier: Courier, http: Client) -> bool:
        end = self._end
        if end is None:
            return False
        if courier.started is None:
            record = Notified("", courier.name, "started", self._clock(), end - 1)
            await self._write(record)
            courier.note(-1, record)
            logger.info("a target is told of what happens from now on", extra={"target": courier.name, "control_offset": end})
            return True
        message = courier.next(self._clock())
        if message is None:
            return False
        answer = await self._post(courier, message, http)
        told = courier.answered(message, answer.error, answer.wish_s, self._clock())
        about = {"model": message.model, "target": courier.name, "control_offset": message.upto, "counts": message.counts}
        if answer.error:
            say = logger.warning if told is None else logger.error
            say("not notified" if told is None else "gave up notifying", extra=about | {"error": answer.error})
        else:
            logger.info("notified", extra=about)
        if told is not None:
            await self._write(told)
        return True

    async def _post(self, courier: Courier, message: Message, http: Client) -> Answer:
        settings, now = self._settings, self._clock()
        key = f"notify.targets.{courier.name}"
        try:
            what = await asyncio.to_thread(
                parcel, key, courier.target, message, self._environ, settings.dashboard_url, now
            )  # fmt: skip
        except ConfigError as error:
            return Answer(None, str(error))
        return await post(http, what, settings.timeout_s, now)

    async def _write(self, record: Notified) -> None:
        """Write it into the control log, however long that takes."""
        while True:
            try:
                entry = Entry(record.model.encode(), msgspec.json.encode(record), partition=0)
                await asyncio.wrap_future(self._log.append(CONTROL, [entry]))
                return
            except (LogError, Overloaded) as error:
                logger.warning("what was notified cannot be recorded", extra={"target": record.target, "error": str(error)})
                await asyncio.sleep(PAUSE_S)
