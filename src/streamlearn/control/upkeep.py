"""What the log needs of control: heartbeats for idle partitions, and the end of what is older than its retention.

A heartbeat lets a learner's clock go on when nothing comes. Nothing is trimmed that a learner, a checkpoint in use, a
waiting label or an open case might still read; when that is not known, nothing is trimmed at all.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..config import Settings
from ..errors import CodecError, Unexpected
from ..events import Kind, Position
from ..keys import KeyRing
from ..log import Entry, Log
from ..store import CheckpointInfo, Store
from ..store.codec import header_of
from .sight import Statuses, offset_at, time_at
from .state import Phase, State

logger = logging.getLogger("streamlearn.control")

PAGE: Final = 500
APPEND_S: Final = 60.0
EVENTS: Final = (Kind.EVENT, Kind.PREDICTION)


@dataclass(slots=True)
class _Pulse:
    end: int = -1
    newest: float = 0.0
    scanned: int = 0
    has_events: bool = False


class Heartbeats:
    """Beats in each partition that has events, `every_s` seconds after its last record; 0 beats never."""

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log, self._every_s = log, settings.control.heartbeat_s
        self._pulses = {
            (name, partition): _Pulse() for name, stream in settings.streams.items() for partition in range(stream.partitions)
        }

    def beat(self, now: float) -> int:
        """Append what is due; returns how many. Raises LogError, Overloaded."""
        if not self._every_s:
            return 0
        due: dict[str, list[Entry]] = {}
        for (stream, partition), pulse in self._pulses.items():
            self._feel(stream, partition, pulse)
            if pulse.has_events and now - pulse.newest >= self._every_s:
                due.setdefault(stream, []).append(Entry(b"", b"{}", Kind.HEARTBEAT, partition))
        for stream, entries in due.items():
            self._log.append(stream, entries).result(timeout=APPEND_S)
        return sum(map(len, due.values()))

    def _feel(self, stream: str, partition: int, pulse: _Pulse) -> None:
        first, end = self._log.bounds(stream, partition)
        if end == pulse.end:
            return
        if end > first:
            newest = time_at(self._log, stream, partition, end - 1)
            pulse.newest = newest if newest < math.inf else pulse.newest
        pulse.has_events = pulse.has_events or first > 0
        while not pulse.has_events and pulse.scanned < end:
            page = self._log.read(stream, partition, pulse.scanned, PAGE)
            pulse.has_events = any(record.kind in EVENTS for record in page)
            pulse.scanned = page[-1].offset + 1 if page else end
        pulse.end = end


class Restarts:
    """Where in the log a shard might read on from, should its learner be started again. What headers said is remembered."""

    def __init__(self, log: Log, store: Store, keys: KeyRing, statuses: Statuses) -> None:
        self._log, self._store, self._keys, self._statuses = log, store, keys, statuses
        self._read: dict[tuple[str, int], dict[CheckpointInfo, Sequence[Position]]] = {}

    def lowest(self, state: State, shard: int) -> int | None:
        """The lowest offset that a restart of this shard might read from, None when that is not known. Raises StoreError."""
        assert state.settings is not None
        stream, status = state.settings.stream, self._statuses.get(state.name, shard)
        identity = self._log.identity(stream)
        if status is None or status.log != identity:
            return None
        good = [info for info in self._store.checkpoints(state.name, shard) if info.set_aside is None]
        if not good:
            return None
        ends = {good[0], good[-1]}  # a shard that was started over has its lowest position in the newest one
        place = state.name, shard
        known = self._read.get(place, {})
        try:
            self._read[place] = {info: known[info] if info in known else self._positions(info.id, place) for info in ends}
        except CodecError as error:
            about = {"model": state.name, "shard": shard, "error": str(error)}
            logger.warning("a checkpoint cannot be read, so neither records nor versions are dropped", extra=about)
            return None
        positions = [position for info in ends for position in self._read[place][info]]
        if any(position.log != identity for position in positions):
            about = {"model": state.name, "shard": shard, "log": identity}
            logger.warning("a checkpoint is of another log, so neither records nor versions are dropped", extra=about)
            return None
        return min([status.position, *(position.offset for position in positions)])

    def _positions(self, checkpoint: int, place: tuple[str, int]) -> Sequence[Position]:
        """The positions in a checkpoint's header. Raises CodecError."""
        header = header_of(self._store.checkpoint(checkpoint), self._keys)  # of any build: that one may come back
        if (header.kind, header.model, header.shard) != ("checkpoint", *place):
            model, shard = place
            raise Unexpected(f"a {header.kind} of {header.model}/{header.shard}, not a checkpoint of {model}/{shard}")
        return header.positions


class Trimmer:
    """Forgets records of the user streams that are older than `log.retention_hours` and needed by nobody; 0 keeps all."""

    def __init__(self, log: Log, settings: Settings, restarts: Restarts) -> None:
        self._log, self._settings, self._restarts = log, settings, restarts

    def trim(self, now: float, states: Iterable[State]) -> dict[tuple[str, int], int]:
        """Trim where that is safe; the first retained offset of each partition that was. Raises LogError, StoreError."""
        hours = self._settings.log.retention_hours
        if not hours:
            return {}
        states = list(states)
        trimmed = {}
        for stream, settings in self._settings.streams.items():
            readers = [state for state in states if state.settings is not None and state.settings.stream == stream]
            for partition in range(settings.partitions):
                before = self._before(stream, partition, now - hours * 3600.0, now, readers)
                if before is not None:
                    trimmed[stream, partition] = self._log.trim(stream, partition, before)
                    logger.info("log trimmed", extra={"stream": stream, "partition": partition, "before": before})
        return trimmed

    def _before(self, stream: str, partition: int, oldest: float, now: float, readers: list[State]) -> int | None:
        """The offset below which nothing is needed, None when nothing can or may be trimmed."""
        first, end = self._log.bounds(stream, partition)
        before = offset_at(self._log, stream, partition, oldest)
        if before <= first:
            return None
        for state in readers:
            position = self._needed(state, partition)
            if position is None or position < first:
                return None
            assert state.settings is not None
            time = now if position >= end else time_at(self._log, stream, partition, position)
            waiting = offset_at(self._log, stream, partition, time - state.settings.label_wait_s)
            before = min(before, position, waiting)
        return before if before > first else None

    def _needed(self, state: State, shard: int) -> int | None:
        """The lowest offset that a restart of this shard might read from, None when that is not known or not the time."""
        lowest = self._restarts.lowest(state, shard) if _at_rest(state) else None
        if lowest is not None and state.case is not None and shard == state.case.shard:
            return min(lowest, state.case.change_offset)
        return lowest


def _at_rest(state: State) -> bool:
    """Whether no fit may begin in this moment: the model is steady, or the policies keep it, for days maybe, after a drift."""
    kept = state.phase == Phase.CONFIRMED and state.case is not None and state.case.kept
    return kept or (state.phase == Phase.STEADY and not state.alarms)
