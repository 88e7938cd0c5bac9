"""What stands beside the learner and notices: every labelled loss goes in, an alarm or a full window comes out as a note.

Detectors may also watch other numbers (`observe`). An alarm is noted when as many detectors as the quorum asks for have fired
within `drift.within` labelled events; whatever raised it, it is tested on the loss.

    watching ──alarm──▶ collecting `window` fresh losses ──window──▶ dormant ──reset──▶ watching
                          └ early looks at a part of them: window ┘
    any state ──begin_recovery──▶ recovering ──window──▶ watching

The losses that raised an alarm are never part of the fresh window: a test that used them twice would be no test. So a window
ends with the size that it began with, whatever the settings have come to say. It must stay cheap (it runs for every label)
and bounded, and two replays of the same losses must give the same notes, also when the state was saved and restored in
between.
"""

from __future__ import annotations

import pickle
from array import array
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from streamlearn.config import DetectorSettings, DriftSettings
from streamlearn.learning import pickling
from streamlearn.learning.protocols import Note

from .changepoint import autocorrelation_time, change_point
from .confirm import look_sizes
from .detectors import Detector, build, recent
from .statistics import statistic

LOSSES: Final = ("binary", "bounded")
Floats = npt.NDArray[np.float64]

WATCHING: Final = 0
COLLECTING: Final = 1
DORMANT: Final = 2
RECOVERING: Final = 3

SLACK: Final = 1024  # the memory is cut back in strides: cutting it at every loss would cost more than the loss
MAX_BLOCKS: Final = 2000
MIN_BLOCKS: Final = 20
EACH: Final = ("score", "label_rate")  # shown once for an event, so that a detector's width is one in events
RECENT: Final = 100
BINS: Final = 20  # of a histogram of losses that are not 0 or 1, over [0, 1]; for people, no test uses it
NEIGHBOURS: Final = 15


class _State(msgspec.Struct):
    loss: str
    n: int
    phase: int
    left: int
    change_n: int
    block: int
    losses: bytes
    offsets: bytes
    reference: dict[str, Any]
    built_from: list[Any]
    detectors: bytes
    counters: tuple[int, int, int]
    fired: dict[int, tuple[int, int]] = {}
    window: int | None = None  # what the window under way began with


class DriftWatch:
    """The watch over one shard of one model: a `learning.protocols.Watch`, and the class itself is a `WatchMaker`.

    `early_alarms` counts alarms dropped because the reference was too short, or a case was open; `improvements` those of a loss
    that fell: the reference then begins where the detector saw the better level begin. `alarms` counts those that were noted.
    """

    def __init__(self, settings: DriftSettings, loss: str) -> None:
        if loss not in LOSSES:
            raise ValueError(f"the loss is one of {', '.join(LOSSES)}, not {loss!r}")
        self._settings = settings
        self._loss = loss
        self._needed = needed(settings)
        self._detectors: list[Detector] = []
        self._fired: dict[int, tuple[int, int]] = {}  # by detector: the labelled count then, and how much of the loss was new
        self._forget_detectors()
        self._size(settings.window)
        self._losses = array("d")
        self._offsets = array("q")
        self._n = 0
        self._phase = WATCHING
        self._left = 0
        self._change_n = 0
        self._block = 1
        self._reference: dict[str, Any] = {}
        self.early_alarms = 0
        self.improvements = 0
        self.alarms = 0

    def update(self, loss: float, offset: int, n: int) -> Note | None:
        """Take the loss in [0, 1] of one labelled event, the log offset of its features, and the labelled count after it."""
        losses = self._losses
        losses.append(loss)
        self._offsets.append(offset)
        self._n = n
        if len(losses) > self._capacity + SLACK:
            del losses[:SLACK]
            del self._offsets[:SLACK]
        phase = self._phase
        if phase == WATCHING:
            for index, detector in self._on_loss:
                detector.update(loss)
                if detector.drift_detected:
                    self._fired[index] = n, recent(detector)
            return self._judge(n) if self._fired else None
        if phase == DORMANT:
            self._accustom(loss)
            return None
        self._left -= 1
        if phase == RECOVERING:
            self._accustom(loss)
            return None if self._left else self._recovery()
        look = self._due.get(self._left)
        return None if look is None else self._fresh(look)

    def _accustom(self, loss: float) -> None:
        """Let the detectors on the loss see what is usual now; one that fires makes all begin anew."""
        for _, detector in self._on_loss:
            detector.update(loss)
        if any(detector.drift_detected for _, detector in self._on_loss):
            self._forget_detectors()
            self.early_alarms += 1

    @property
    def wants(self) -> frozenset[str]:
        """What is to be observed beside the loss."""
        return frozenset(self._beside)

    def observe(self, what: str, value: float) -> None:
        """Take a number that some detectors watch beside the loss; when they fire, the next loss says so."""
        if self._phase != WATCHING:
            return
        for index, detector in self._beside[what]:
            detector.update(value)
            if detector.drift_detected:
                self._fired[index] = self._n, recent(detector) if what in EACH else 0

    def _judge(self, n: int) -> Note | None:
        self._fired = {index: one for index, one in self._fired.items() if n - one[0] < self._settings.within}
        return self._alarm() if len(self._fired) >= self._needed else None

    def begin_recovery(self, n: int) -> None:
        """After a promotion at the labelled count `n`: collect a recovery window, then watch against what came since."""
        self._n = n
        self._keep_last(0)
        self._forget_detectors()
        self._reference = {}
        self._change_n = 0
        self._size(self._settings.window)
        self._phase, self._left = RECOVERING, self._settings.window

    def reset(self, confirmed: bool) -> None:
        """Watch again; after a confirmed change without the losses before it, and with detectors that have seen what came while
        the case was open (a trial may be long), else with fresh ones.

        Where that change began is what the last alarm said; when there was none, every loss so far is forgotten.
        """
        if confirmed:
            self._keep_last(self._n - self._change_n + 1 if self._change_n else 0)
        if not confirmed or self._phase != DORMANT:
            self._forget_detectors()
        self._reference = {}
        self._change_n = 0
        self._size(self._settings.window)
        self._phase, self._left = WATCHING, 0

    def since(self, offset: int) -> dict[int, float]:
        """The losses that it remembers of features at this log offset and later, by theirs."""
        return {at: loss for at, loss in zip(self._offsets, self._losses, strict=True) if at >= offset}

    def statistics(self) -> dict[str, float]:
        """By detector, how near it is to an alarm, which 1 is: see `statistics`. None while a case is judged: they rest."""
        if self._phase not in (WATCHING, RECOVERING):
            return {}
        losses, found = np.array(self._losses), {}
        for name, settings, detector in zip(labels(self._settings), self._settings.detectors, self._detectors, strict=True):
            value = statistic(detector, losses if settings.on == "loss" else None)
            if value is not None:
                found[name] = value
        return found

    def state(self) -> bytes:
        """Everything, exactly. Holds a pickle of the detectors: restore it only from a verified checkpoint."""
        counters = (self.early_alarms, self.improvements, self.alarms)
        state = _State(
            self._loss, self._n, self._phase, self._left, self._change_n, self._block, self._losses.tobytes(),
            self._offsets.tobytes(), self._reference, self._built_from(), pickling.dumps(self._detectors), counters,
            self._fired, self._window,
        )  # fmt: skip
        return msgspec.msgpack.encode(state)

    @classmethod
    def new(cls, settings: DriftSettings, loss: str) -> DriftWatch:
        """A watch that has seen nothing. Raises ConfigError for detector parameters that do not exist."""
        return cls(settings, loss)

    @classmethod
    def restore(cls, settings: DriftSettings, loss: str, state: bytes) -> DriftWatch:
        """The watch whose `state` this is, under `settings`: with other detectors in them, those start afresh.

        A window under way keeps its size: as a larger one it would hold losses from before the alarm. A state of the other
        kind of loss is worth nothing, and gives a watch that has seen nothing.
        """
        watch = cls(settings, loss)
        saved = msgspec.msgpack.decode(state, type=_State)
        if saved.loss != loss:
            return watch
        watch._losses.frombytes(saved.losses)
        watch._offsets.frombytes(saved.offsets)
        watch._n, watch._phase, watch._left = saved.n, saved.phase, saved.left
        watch._change_n, watch._block, watch._reference = saved.change_n, saved.block, saved.reference
        watch.early_alarms, watch.improvements, watch.alarms = saved.counters
        if saved.window is not None and saved.phase in (COLLECTING, RECOVERING):
            watch._size(saved.window)
        if len(watch._losses) > watch._capacity + SLACK:
            watch._keep_last(watch._capacity)
        if saved.built_from == watch._built_from():
            watch._detectors, watch._fired = pickle.loads(saved.detectors), saved.fired
            watch._bind()
        return watch

    def _built_from(self) -> list[Any]:
        return [
            [detector.name, detector.on, detector.every, dict(sorted(detector.params.items()))]
            for detector in self._settings.detectors
        ]

    def _alarm(self) -> Note | None:
        settings = self._settings
        losses = np.array(self._losses)
        fired = dict(sorted(self._fired.items()))
        ages = {index: new and new + self._n - at for index, (at, new) in fired.items()}
        after = max((age for index, age in ages.items() if settings.detectors[index].on == "loss"), default=None)
        if after is None:  # the loss need not have risen: the change is where they saw it
            return self._open(losses, max(0, len(losses) - 1 - max(ages.values())), list(fired))
        if 0 < after < len(losses) and losses[-after:].mean() < losses[:-after].mean():
            self._forget_detectors()
            self._keep_last(after)
            self.improvements += 1
            return None
        return self._open(losses, change_point(losses) if len(losses) > 1 else 0, list(fired))

    def _open(self, losses: Floats, change: int, fired: list[int]) -> Note | None:
        """The alarm of these detectors, with the reference before the index `change`; None where that is too short."""
        settings = self._settings
        end = change - settings.gap
        reference = losses[max(0, end - settings.max_reference) : max(0, end)]
        if len(reference) < settings.min_reference:
            self._forget_detectors()
            self.early_alarms += 1
            return None
        self.alarms += 1
        self._fired = {}
        self._block = self._block_length(reference)
        self._reference = self._summary(reference)
        self._change_n = self._n - len(losses) + change + 1
        self._phase, self._left = COLLECTING, settings.window
        return Note(
            "alarm",
            {
                "detector": "+".join(label(settings.detectors[index]) for index in fired),
                "change_offset": self._offset_at(change),
                "change_n": self._change_n,
                "ref_n": len(reference),
                "ref_mean": float(reference.mean()),
                "recent_mean": float(losses[-RECENT:].mean()),
            },
        )

    def _fresh(self, look: int) -> Note:
        """The fresh losses so far; after the last look nothing is awaited but what control makes of them."""
        size, before = self._looks[look], self._looks[look - 1] if look else 0
        if size == self._window:
            self._phase = DORMANT
            self._forget_detectors()
        fresh = self._summary(np.array(self._losses[-size:]))
        told = {"tag": "fresh", "look": [before, size, self._window], "ref": self._reference, "fresh": fresh}
        return Note("window", self._span(size) | told)

    def _recovery(self) -> Note:
        size = self._window
        fresh = np.array(self._losses[-size:])
        self._phase = WATCHING
        self._block = self._block_length(fresh)
        self._size(self._settings.window)
        return Note("window", self._span(size) | {"tag": "recovery", "fresh": self._summary(fresh)})

    def _span(self, size: int) -> dict[str, Any]:
        return {"loss": self._loss, "from_n": self._n - size + 1, "to_n": self._n}

    def _summary(self, losses: Floats) -> dict[str, Any]:
        summary: dict[str, Any] = {"n": len(losses), "sum": float(losses.sum())}
        if self._loss == "bounded":
            length = self._block
            blocks = min(len(losses) // length, MAX_BLOCKS)
            summary["bins"] = np.histogram(losses, BINS, (0.0, 1.0))[0].tolist()
            summary["blocks"] = losses[len(losses) - blocks * length :].reshape(blocks, length).mean(axis=1).tolist()
        return summary

    def _block_length(self, losses: Floats) -> int:
        """Four autocorrelation times less three: neighbouring means are then nearly independent, and white noise gives 1.

        Enough for the reference to fit in MAX_BLOCKS, but never so many that a window has fewer than MIN_BLOCKS.
        """
        wanted = max(round(4 * autocorrelation_time(losses)) - 3, -(-len(losses) // MAX_BLOCKS))
        return max(1, min(wanted, self._window // MIN_BLOCKS))

    def _offset_at(self, index: int) -> int:
        """The log offset where events of the losses around `index` lie: their median, since one label may be very late."""
        reach = min(NEIGHBOURS, index, len(self._offsets) - 1 - index)
        around = sorted(self._offsets[index - reach : index + reach + 1])
        return around[reach]

    def _size(self, window: int) -> None:
        """The window under way, or the next one, has this size."""
        self._window = window
        self._looks = look_sizes(window)
        self._due = {window - size: index for index, size in enumerate(self._looks)}  # by how many are to come
        self._capacity = self._settings.max_reference + self._settings.gap + window

    def _keep_last(self, count: int) -> None:
        surplus = max(0, len(self._losses) - count)
        del self._losses[:surplus]
        del self._offsets[:surplus]

    def _forget_detectors(self) -> None:
        self._detectors = [build(detector) for detector in self._settings.detectors]
        self._fired = {}
        self._bind()

    def _bind(self) -> None:
        self._on_loss: list[tuple[int, Detector]] = []
        self._beside: dict[str, list[tuple[int, Detector]]] = {}
        for index, (settings, detector) in enumerate(zip(self._settings.detectors, self._detectors, strict=True)):
            watched = self._on_loss if settings.on == "loss" else self._beside.setdefault(settings.on, [])
            watched.append((index, detector))


def label(detector: DetectorSettings) -> str:
    """A detector as people read it."""
    return detector.name if detector.on == "loss" else f"{detector.name} on {detector.on}"


def labels(settings: DriftSettings) -> list[str]:
    """The name of each detector: its label, numbered from the second that has the same."""
    names = [label(detector) for detector in settings.detectors]
    before = [names[:index].count(name) for index, name in enumerate(names)]
    return [f"{name} {count + 1}" if count else name for name, count in zip(names, before, strict=True)]


def needed(settings: DriftSettings) -> int:
    """How many of the detectors must agree."""
    count = len(settings.detectors)
    words = {"any": 1, "majority": count // 2 + 1, "all": count}
    return settings.quorum if isinstance(settings.quorum, int) else words[settings.quorum]
