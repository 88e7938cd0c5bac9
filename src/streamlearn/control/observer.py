"""What control sees of the input itself: it reads windows of a model's stream from the log, and keeps the feature watches.

Each model has an eye on its stream: the first `reference` events since the serving version began to serve (or since a person
accepted the input as it is) are the reference, and then, every `every_s`, the newest blocks are looked at. Of more than
`BEHIND` windows since the last look only the newest `KEEP` are read, so that a look costs the same at any rate; and a look that
took long puts the next one off, so that looking takes a twentieth of the time at most. Partitions are merged by append time.

Only events count, not logged predictions. Labels for each question are counted in the log; delays and dead letters are what
the learners' statuses say, and belong to where those have read to.

After a restart the reference is read again from the log, at the same place while that is retained, and the e-processes begin
afresh; what had been told of is in the folded state, and is not told again. Input that is broken meanwhile is never taken for
a reference, and heals by what the decision to hold has recorded.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from ..config import ModelSettings
from ..drift.confirm import PART
from ..drift.contract import SCHEMA, Agreed, Change, agreeing, answered, changes, thinning
from ..drift.diagnose import UNREADABLE, dead_letters, readable
from ..drift.features import FeatureWatch, Finding, Look, healed
from ..errors import EventError, PositionExpired
from ..events import Event, Features, Kind, decode_event
from ..log import Log, Record
from .arms import by_users
from .seen import Block, Inputs
from .sight import Statuses, offset_at
from .state import State

logger = logging.getLogger("streamlearn.control")

PAGE: Final = 1000
BEHIND: Final = 8  # windows of records
KEEP: Final = 4
MEMORY: Final = 200  # blocks whose labels and delays are remembered
SHARE: Final = 20  # a look may take a twentieth of the time
LEAST: Final = 100  # records between two counts of dead letters


@dataclass(slots=True)
class _Eye:
    """One model's stream as it is read. `reference` fills first; then `events` are the block to come, with their times."""

    since: float
    positions: dict[int, int]
    reference: list[Features] = field(default_factory=list)
    watch: FeatureWatch | None = None
    past_break: bool = False  # there is no reference, and what comes is broken: nothing is to be missed by skipping
    events: list[Features] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    labels: int = 0
    counted: tuple[int, dict[str, int]] | None = None
    dead: dict[str, float] = field(default_factory=dict)
    changes: dict[Change, Agreed] = field(default_factory=dict)
    thin: frozenset[str] = frozenset()  # features that the last block lacked more often than the reference, see `thinning`
    history: deque[Block] = field(default_factory=lambda: deque(maxlen=MEMORY))
    look: Look | None = None
    inputs: Inputs | None = None
    sound: int = 0
    next_at: float = 0.0


class Observer:
    """The eyes of control. `timer` gives seconds that nobody sets."""

    def __init__(self, log: Log, statuses: Statuses, timer: Callable[[], float]) -> None:
        self._log, self._statuses, self._timer = log, statuses, timer
        self._eyes: dict[str, _Eye] = {}

    def inputs(self, state: State) -> Inputs | None:
        """What was seen last of the model's stream; None before the first look, and where the reference is another now."""
        eye = self._eyes.get(state.name)
        return None if eye is None or eye.since != state.input_since else eye.inputs

    def tend(self, state: State, now: float, at_once: bool = False) -> bool:
        """Look when it is time to, or at once; `now` is Unix seconds. True when something was looked at. Raises LogError."""
        settings = _watched(state)
        if settings is None:
            return False
        eye, began = self._eye(state, settings), self._timer()
        if began < eye.next_at and not at_once:
            return False
        first = eye.look is None
        try:
            looked = self._read_on(eye, state, settings, now)
        except PositionExpired:  # trimmed while it was read: begin with what is left
            del self._eyes[state.name]
            return False
        took = 0.0 if first else self._timer() - began  # the first one imports scipy
        eye.next_at = began + max(settings.drift.features.every_s, SHARE * took)
        return looked

    def look_now(self, state: State, now: float) -> Inputs | None:
        """What is to be seen up to the log's end, also of less than a block. Raises LogError."""
        settings = _watched(state)
        if settings is None:
            return None
        self.tend(state, now, at_once=True)
        eye = self._eye(state, settings)
        if eye.watch is not None and len(eye.events) * PART >= settings.drift.features.window:
            eye.look = eye.watch.glance(eye.events, eye.times[0], eye.times[-1])
            history = [*eye.history, _beside(self._delay(state), eye)]
            self._see(eye, eye.look.findings + self._unreadable(eye), eye.times[0], history, settings)
        return eye.inputs

    def _eye(self, state: State, settings: ModelSettings) -> _Eye:
        eye = self._eyes.get(state.name)
        if eye is None or eye.since != state.input_since:
            starts = {p: offset_at(self._log, settings.stream, p, state.input_since) for p in state.shards}
            eye = self._eyes[state.name] = _Eye(state.input_since, starts)
        return eye

    def _read_on(self, eye: _Eye, state: State, settings: ModelSettings, now: float) -> bool:
        features, broken, looked = settings.drift.features, state.broken, False
        broken_since = math.inf if broken is None else float(broken["since"])
        self._count_dead(eye, state)
        if eye.watch is not None or eye.past_break:
            self._skip(eye, settings)
        for record in self._records(eye, settings.stream, BEHIND * features.window):
            event = _event(record)
            if event is None:
                continue
            if eye.watch is None and record.ts < broken_since:
                eye.reference += [] if event.x is None else [event.x]
                if len(eye.reference) >= features.reference:
                    eye.watch = self._new_watch(eye.reference, state, settings)
                    eye.reference = []
                continue
            eye.past_break = eye.watch is None
            eye.labels += event.y is not None
            if event.x is None:
                continue
            eye.events.append(event.x)
            eye.times.append(record.ts)
            if len(eye.events) >= features.window:
                self._look(eye, state, settings)
                looked = True
        unreadable = self._unreadable(eye)
        if not looked and eye.watch is not None and len(eye.events) * PART >= features.window:
            found = eye.watch.findings(eye.events) + unreadable
            if found:
                self._see(eye, found, eye.times[0], eye.history, settings)
        elif not looked and unreadable:
            self._see(eye, unreadable, now, eye.history, settings)
        return looked

    def _look(self, eye: _Eye, state: State, settings: ModelSettings) -> None:
        """The block is full."""
        events, began, at = eye.events, eye.times[0], eye.times[-1]
        findings = self._unreadable(eye)
        if eye.watch is not None:
            follows = settings.drift.features.contract == "follow"
            eye.look = eye.watch.look(events, began, at, answered(state.contract) if follows else ())
            findings = eye.look.findings + findings
            found = changes(findings, events, eye.watch.names)
            eye.changes = agreeing(eye.changes, found, events, eye.times, self._labelled(state))
        eye.history.append(_beside(self._delay(state), eye))
        self._see(eye, findings, began, eye.history, settings)
        assert eye.inputs is not None
        well = not eye.inputs.broken and self._healed(eye, state, settings)
        eye.sound = eye.sound + 1 if well else 0
        eye.inputs = replace(eye.inputs, sound=eye.sound)
        eye.thin = thinning(findings, events)
        eye.events, eye.times, eye.labels = [], [], 0

    def _healed(self, eye: _Eye, state: State, settings: ModelSettings) -> bool:
        """Whether the newest block is free of what the model is held for."""
        if state.broken is None:
            return True
        if eye.times[0] <= state.broken["since"]:  # read again after a restart: it is older than the break
            return False
        found = [Finding(**finding) for finding in state.broken["findings"]]
        shares = self._shares(eye)
        return all(
            readable(one, shares) if one.what == "dead_letters" else healed(one, eye.events, settings.drift.features.null_jump)
            for one in found
        )

    def _see(
        self, eye: _Eye, findings: tuple[Finding, ...], began: float, history: Iterable[Block], settings: ModelSettings
    ) -> None:
        """What the events tell, be they less than a block: that something is broken, never that it has healed."""
        followed: tuple[Finding, ...] = ()
        if settings.drift.features.contract == "follow":
            news = thinning(findings, eye.events) - eye.thin
            followed = tuple(one for one in findings if one.what in SCHEMA or (one.what == "null_jump" and one.feature in news))
        seen = Inputs(eye.look, findings, began, eye.sound, tuple(history), followed, tuple(eye.changes.values()))
        eye.sound = 0 if seen.broken else eye.sound
        eye.inputs = replace(seen, sound=eye.sound)

    def _new_watch(self, reference: list[Features], state: State, settings: ModelSettings) -> FeatureWatch:
        features = settings.drift.features
        logger.info("the features have a reference", extra={"model": state.name, "events": len(reference)})
        return FeatureWatch(features, settings.seed, reference[: features.reference], in_episode=bool(state.drifted))

    # Reading.

    def _skip(self, eye: _Eye, settings: ModelSettings) -> None:
        """Leave out what more came than can be looked at."""
        window, stream = settings.drift.features.window, settings.stream
        ends = {partition: self._log.bounds(stream, partition)[1] for partition in eye.positions}
        if sum(end - eye.positions[partition] for partition, end in ends.items()) > BEHIND * window:
            newest = KEEP * window // len(ends)
            eye.positions = {partition: max(eye.positions[partition], end - newest) for partition, end in ends.items()}
            eye.events, eye.times, eye.labels = [], [], 0

    def _records(self, eye: _Eye, stream: str, limit: int) -> Iterator[Record]:
        """At most `limit` records from where the eye stands, merged by append time; it moves with each."""
        bounds = {partition: self._log.bounds(stream, partition) for partition in eye.positions}
        for partition, (first, end) in bounds.items():
            eye.positions[partition] = min(max(eye.positions[partition], first), end)
        pages: dict[int, deque[Record]] = {partition: deque() for partition in bounds}
        while limit > 0:
            for partition, page in pages.items():
                position, end = eye.positions[partition], bounds[partition][1]
                if not page and position < end:
                    page.extend(self._log.read(stream, partition, position, min(PAGE, end - position)))
                    if not page:
                        eye.positions[partition] = end  # a broker's marks fill the rest
            waiting = [(page[0].ts, partition) for partition, page in pages.items() if page]
            if not waiting:
                return
            partition = min(waiting)[1]
            record = pages[partition].popleft()
            eye.positions[partition] = record.offset + 1
            limit -= 1
            yield record

    # What the learners say.

    def _labelled(self, state: State) -> int:
        """Labelled events, by statuses or by signals, whichever know of more."""
        said = {shard: self._statuses.get(state.name, shard) for shard in state.shards}
        return sum(max(0 if status is None else status.n, state.n.get(shard, 0)) for shard, status in said.items())

    def _delay(self, state: State) -> float | None:
        """The median delay of a label, in questions: the longest of the shards'."""
        said = [self._statuses.get(state.name, shard) for shard in state.shards]
        return max((status.delay["p50"] for status in said if status is not None and status.n and status.delay), default=None)

    def _count_dead(self, eye: _Eye, state: State) -> None:
        """Dead letters of the records that the learners have read since the last count, once those are enough."""
        said = [status for shard in state.shards if (status := self._statuses.get(state.name, shard)) is not None]
        records = sum(status.position for status in said)
        counts = {reason: sum(status.counters.get(reason, 0) for status in said) for reason in UNREADABLE}
        if len(said) < state.partitions or (eye.counted is not None and 0 <= records - eye.counted[0] < LEAST):
            return
        before, eye.counted = eye.counted, (records, counts)
        if before is None or records < before[0] or any(counts[reason] < before[1][reason] for reason in counts):
            eye.dead = {}  # the first count, or a learner that began anew
            return
        eye.dead = {reason: (counts[reason] - before[1][reason]) / (records - before[0]) for reason in counts}

    def _shares(self, eye: _Eye) -> dict[str, tuple[float, float]]:
        before = {reason: [block.dead.get(reason, 0.0) for block in eye.history] for reason in eye.dead}
        return {reason: (statistics.median(before[reason] or [0.0]), now) for reason, now in eye.dead.items()}

    def _unreadable(self, eye: _Eye) -> tuple[Finding, ...]:
        if not any(eye.dead.values()):
            return ()
        return dead_letters(self._shares(eye)) if eye.history or eye.watch is not None else ()


def _watched(state: State) -> ModelSettings | None:
    settings = state.settings
    if settings is None or not state.registered or by_users(settings):
        return None  # a recommender has no features of its own: it makes them of what users do
    return settings if settings.drift.features.enabled else None


def _event(record: Record) -> Event | None:
    """The event in a record, None for another kind and for what cannot be read: that is counted as a dead letter."""
    if record.kind != Kind.EVENT:
        return None
    try:
        return decode_event(record.value)
    except EventError:
        return None


def _beside(delay: float | None, eye: _Eye) -> Block:
    return Block(eye.times[-1], eye.labels / len(eye.events), delay, dict(eye.dead))
