"""The control process: read the log, let the machines judge, record what they decide, and see to it that it is done.

    1  fold what is new in `_control`; a decision first has the signals observed that it was made upon
    2  observe what is new in `_signals`, one at a time, asking the machine of that model after each
    3  follow the fits; look at the features; ask every machine
    4  send the commands that no shard has answered, each once in the life of this process
    5  heartbeats, retention of records and versions, history, views

A decision takes effect only by being read back from the log, so a restart, which begins at 1 with nothing in memory, goes
on where the last process stopped, whatever it was doing. Nothing here decides; nothing is done that no decision asked for.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from ..config import Settings
from ..errors import LogFull, LogUnavailable, Overloaded, StoreFull, StoreUnavailable
from ..events import Kind
from ..keys import KeyRing
from ..log import CONTROL, SIGNALS, Entry, Log, Membership, Record
from ..records import (
    AccessRecord,
    Claim,
    ControlRecord,
    Decision,
    Notified,
    Request,
    Signal,
    decode_control,
    sign_command,
)  # fmt: skip
from ..store import Store
from .choosing import Panel
from .chronicle import Chronicle
from .dropping import judge_versions, let_go
from .fold import apply, ask
from .hindsight import Questions
from .jobs import Fits, Jobs
from .machine import decide
from .observe import observe
from .observer import Observer
from .recipes import claimed
from .sight import Sight, Statuses, limits_of
from .state import State
from .upkeep import Heartbeats, Restarts, Trimmer
from .views import Book

if TYPE_CHECKING:
    from .notifier import Notifier  # which brings an HTTP client along

logger = logging.getLogger("streamlearn.control")

PAGE: Final = 1000
APPEND_S: Final = 60.0
STATUS_S: Final = 0.5
ALIVE_S: Final = 2.0  # control says that it is there this often
LIVE_S: Final = 0.5  # progress is shown this often; a decision at once
TRIM_S: Final = 60.0
BACKOFF_S: Final = (0.1, 5.0)
UNAVAILABLE: Final = (LogUnavailable, LogFull, StoreUnavailable, StoreFull, Overloaded)


class Control:
    """The judge of every model in `settings`, while `membership` gives it the control log; without one, always.

    `clock` gives Unix seconds, and dates what is decided; by `timer`, which nobody sets, it does what it does every so often.
    The `notifier` is told what was decided, and tells people in a thread of its own.
    Of several processes one leads, the others wait. Should two lead for a moment, no harm is done: of two decisions about the
    same state the first in the log takes effect.
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        store: Store,
        keys: KeyRing,
        jobs: Jobs,
        clock: Callable[[], float] = time.time,
        membership: Membership | None = None,
        timer: Callable[[], float] = time.monotonic,
        notifier: Notifier | None = None,
    ) -> None:
        self._notifier = notifier
        self._membership, self.leads = membership, membership is None
        self._settings, self._log, self._store, self._keys = settings, log, store, keys
        self._clock, self._timer = clock, timer
        log.create({name: stream.partitions for name, stream in settings.streams.items()})
        self._statuses = Statuses(store, STATUS_S)
        self._fits = Fits(jobs, store, keys, log.identity)
        self._questions = Questions(jobs, timer)
        self._heartbeats = Heartbeats(log, settings)
        self._restarts = Restarts(log, store, keys, self._statuses)
        self._trimmer = Trimmer(log, settings, self._restarts)
        self._observer = Observer(log, self._statuses, timer)
        self._panel = Panel(settings)
        self._chronicle = Chronicle(store, settings, self._statuses, timer)
        self._limits = limits_of(settings)
        self._waiting_told = False
        self._holder, self._failures = f"{socket.gethostname()}:{os.getpid()}", 0
        self._sent: set[tuple[int, int, str]] = set()  # (seq, shard, model) sent by this process
        self._beat_at = self._trimmed_at = self._shown_at = self._checked_at = timer()
        self._alive_at = timer() - ALIVE_S
        self._forget()

    def _forget(self) -> None:
        """Know nothing, as at the start."""
        self._states = {name: self._new(name) for name in self._settings.models}
        self._control_at = 0
        self._signal_at: int | None = None
        self._book = Book()
        self._views_at: int | None = None
        self._chronicle.forget()

    def _new(self, name: str) -> State:
        model = self._settings.models.get(name)
        return State(name, model, 1 if model is None else self._settings.streams[model.stream].partitions)

    def run(self, stop: threading.Event) -> None:
        """Turn until `stop`; while the log or the store is not to be had, wait and try again."""
        pause = 0.0
        while not stop.is_set():
            try:
                busy = self._lead() and self.tick()
            except UNAVAILABLE as error:
                self._failures += 1
                pause = min(max(2 * pause, BACKOFF_S[0]), BACKOFF_S[1])
                logger.warning("control has to wait", extra={"error": str(error), "again_in_s": pause})
                stop.wait(pause)
                continue
            pause = 0.0
            if not busy:
                stop.wait(self._settings.control.poll_ms / 1000.0)
        self.close()

    def close(self) -> None:
        """Cancel the fits, which begin again with the next process, and let another one lead."""
        self._fits.close()
        self._questions.close()
        if self._notifier is not None:
            self._notifier.close()
        if self._membership is not None:
            self._membership.close()

    def _lead(self) -> bool:
        """Whether this process leads now. A new leader knows nothing, as at the start; a former one cancels its fits."""
        if self._membership is None:
            return True
        leads = bool(self._membership.poll(lambda places: self._resign()))
        if leads and not self.leads:
            logger.info("leads", extra={"log": self._log.identity(CONTROL)})
            self.leads = True
            self._sent.clear()
            self._forget()
        elif self.leads and not leads:
            self._resign()
        elif not leads and not self._waiting_told:
            self._waiting_told = True
            logger.info("waits for its turn to lead")
        return self.leads

    def _resign(self) -> None:
        logger.warning("another control process leads now")
        self.leads = False
        if self._notifier is not None:
            self._notifier.pause()
        self._fits.close()
        self._questions.close()

    def tick(self) -> bool:
        """One turn; whether anything was read, decided or sent. Raises LogError, StoreError, Overloaded."""
        before = self._control_at, self._signal_at
        self._statuses.refresh(self._timer())
        self._fold()
        self._observe(None)
        for state in self._models():
            self._fits.tend(state)
            self._questions.tend(state, partial(self._sight, state, up_to_date=True))
            self._observer.tend(state, self._clock())
            self._judge(state, up_to_date=True)
        sent = self._send()
        self._keep_up()
        self._show()
        if self._notifier is not None:
            self._notifier.caught_up(self._control_at)
        return sent or before != (self._control_at, self._signal_at)

    def states(self) -> dict[str, State]:
        """What is known of each model; to be read only."""
        return dict(self._states)

    def _models(self) -> Iterable[State]:
        return list(self._states.values())

    # Reading.

    def _fold(self) -> dict[int, bool]:
        """Fold what is new in the control log: by offset, whether it took effect."""
        effects = {}
        while records := self._log.read(CONTROL, 0, self._control_at, PAGE):
            for record in records:
                effects[record.offset] = self._fold_one(record)
                self._control_at = record.offset + 1
        return effects

    def _fold_one(self, record: Record) -> bool:
        try:
            entry = decode_control(record.value)
        except msgspec.DecodeError as error:
            logger.error("a control record cannot be read", extra={"control_offset": record.offset, "error": str(error)})
            return False
        if isinstance(entry, AccessRecord | Notified):  # no model's business; here it is shown, and told to whom it concerns
            self._enter(record.offset, entry, True, None)
            return True
        state = self._states.get(entry.model)
        if state is None:
            state = self._states[entry.model] = self._new(entry.model)
        if isinstance(entry, Claim):
            claimed(state, record.ts, entry)
            self._book.add(record.offset, entry, True, None)
            return True
        if isinstance(entry, Request):
            took = ask(state, record.offset, entry)
        else:
            self._observe(entry.signal)
            took = apply(state, record.offset, entry)
        self._enter(record.offset, entry, took, state)
        return took

    def _enter(self, offset: int, entry: ControlRecord, took: bool, state: State | None) -> None:
        self._book.add(offset, entry, took, state)
        if self._notifier is not None:
            self._notifier.take(offset, entry, took, state)

    def _observe(self, until: int | None) -> None:
        """Observe signals: up to `until`, judging nothing (a decision that came of them is at hand), or all, judging each."""
        if self._signal_at is None:
            self._signal_at = self._log.bounds(SIGNALS, 0)[0]
        while until is None or self._signal_at <= until:
            limit = PAGE if until is None else min(PAGE, until + 1 - self._signal_at)
            records = self._log.read(SIGNALS, 0, self._signal_at, limit)
            if not records:
                return
            for record in records:
                state = self._observe_one(record)
                self._signal_at = record.offset + 1
                if until is None and state is not None:
                    self._judge(state, up_to_date=False)

    def _observe_one(self, record: Record) -> State | None:
        try:
            signal = msgspec.json.decode(record.value, type=Signal)
            state = self._states.get(signal.model)
            if state is None or state.settings is None or not observe(state, record.offset, signal):
                return None
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            where = {"stream": SIGNALS, "partition": 0, "offset": record.offset}
            logger.error("a signal cannot be read", extra={**where, "error": repr(error)})
            return None
        return state

    # Deciding.

    def _judge(self, state: State, up_to_date: bool) -> None:
        """Record the model's decisions, each once, until there is none to make."""
        while True:
            decision = decide(state, self._sight(state, up_to_date))
            if decision is None:
                return
            self._record(decision)

    def _record(self, decision: Decision) -> None:
        entry = Entry(decision.model.encode(), msgspec.json.encode(decision), partition=0)
        [(_, offset)] = self._log.append(CONTROL, [entry]).result(timeout=APPEND_S)
        effects = self._fold()
        if not effects[offset] and len(effects) == 1:
            raise RuntimeError(f"{decision.model}: decision {decision.kind!r} at {offset} does not fit its state")
        self._tell(decision, offset)

    def _sight(self, state: State, up_to_date: bool) -> Sight:
        stream = "" if state.settings is None else state.settings.stream
        return Sight(
            self._log, self._statuses, state.name, stream, self._clock(), (self._signal_at or 0) - 1, up_to_date, self._limits,
            self._settings.streams[stream].model_dump(mode="json") if stream else {}, self._fits.outcome(state.name),
            self._questions.answer(state.name),
            self._store, self._keys, state.partitions,
            self._observer.inputs(state), lambda: self._observer.look_now(state, self._clock()),
            lambda: self._panel.ask(state, self._clock()),
        )  # fmt: skip

    def _tell(self, decision: Decision, offset: int) -> None:
        about = {"model": decision.model, "version": decision.version, "case": decision.case, "offset": decision.offset}
        settings, shard = self._settings.models.get(decision.model), decision.numbers.get("shard")
        about |= {} if settings is None else {"stream": settings.stream}
        about |= {} if shard is None else {"shard": shard, "partition": shard}
        about |= {"control_offset": offset, "n": decision.n, "by": decision.by, "why": decision.why}
        logger.info(decision.kind, extra=about)

    # Doing.

    def _send(self) -> bool:
        """Send what no shard has answered and this process has not sent, in the order of their seq."""
        sent = False
        for state in self._models():
            if state.settings is None:
                continue
            fresh = [
                (shard, command)
                for _, order in sorted(state.orders.items())
                for shard, command in state.commands(order)
                if (command.seq, shard, state.name) not in self._sent
            ]
            if fresh:
                key = state.name.encode()
                entries = [Entry(key, sign_command(command, self._keys), Kind.COMMAND, shard) for shard, command in fresh]
                self._log.append(state.settings.stream, entries).result(timeout=APPEND_S)
                self._sent.update((command.seq, shard, state.name) for shard, command in fresh)
                sent = True
        return sent

    def _keep_up(self) -> None:
        now = self._timer()
        beat_s = min(1.0, self._settings.control.heartbeat_s / 4)
        if now - self._beat_at >= beat_s:
            self._heartbeats.beat(self._clock())
            self._beat_at = now
        if now - self._trimmed_at >= TRIM_S:
            self._trimmer.trim(self._clock(), self._states.values())
            self._drop_versions()
            self._trimmed_at = now
        ask = partial(self._panel.ask, now=self._clock())
        self._chronicle.tend(self._models(), self._clock(), self._observer.inputs, ask, self._fits.progress)

    def _drop_versions(self) -> None:
        """Decide which versions' bytes go, and see to it."""
        for state in self._models():
            if state.settings is None or not state.registered:
                continue
            while (found := judge_versions(state, self._sight(state, True), state.settings, self._restarts.lowest)) is not None:
                self._record(found)
        let_go(self._models(), self._store)

    def _show(self) -> None:
        """Put what has changed; everything, when the store has lost it or knows of more than the log holds."""
        now = self._timer()
        if self._views_at is None or now - self._checked_at >= LIVE_S:
            found, self._checked_at = self._store.view_offset(), now
            if found > self._control_at and self._log.bounds(CONTROL, 0)[1] > self._control_at:
                return  # another one has led meanwhile: what it decided is to be read first
            if found > self._control_at or (self._views_at is None and found == 0):
                self._store.clear_views()
                found = 0
            elif self._views_at is None:
                self._book.skip_audit(found)
            if self._views_at is not None and found < self._views_at:
                logger.warning("the store has lost its views; they are rebuilt from the control log")
                self._forget()
                self._fold()
                self._observe(None)
        if self._views_at == self._control_at and now - self._shown_at < LIVE_S:
            return
        for state in self._models():
            said = self._panel.ask(state, self._clock())
            self._book.see(state, self._fits.progress(state.name), self._observer.inputs(state), said)
        docs = self._book.changed()
        if now - self._alive_at >= ALIVE_S:
            alive = {"at": self._clock(), "holder": self._holder, "failures": self._failures}
            notify = {} if self._notifier is None else {"notify": self._notifier.docs()}
            docs["role", "control"] = msgspec.json.encode(alive | notify)
            self._alive_at = now
        if docs or self._views_at != self._control_at:
            self._store.put_views(docs, self._control_at)
            self._book.taken()
        self._views_at, self._shown_at = self._control_at, now
