"""What detectors and the confirmation would have made of a stream that is already there, and how good that is.

A *tape* holds what a learner showed its watch, in order; it is played to any settings, with the service's own watch and test.
The model is not retrained in between: after a confirmed change the watch forgets what came before it, as after a retrain.
Everything here is a pure function of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from streamlearn.config import DetectorSettings, DriftSettings
from streamlearn.learning.protocols import Note

from .confirm import case_number, confirm, look_of, to_diagnose
from .detectors import build
from .watch import LOSSES, DriftWatch

LOSS: Final = "loss"
PER: Final = 100_000  # labelled events to which false alarms are counted


class Shown(NamedTuple):
    """One number that a watch was shown: of which labelled count it is, or, beside the loss, after which one it came."""

    what: str
    value: float
    offset: int
    n: int


class Tape(NamedTuple):
    """The kind of the losses, the labelled events (a regression's first have no loss yet), and what was shown, in order."""

    loss: str
    labelled: int
    shown: list[Shown]


class Recorder:
    """A `learning.protocols.Watch` and its maker, which notices nothing and keeps a tape of what it was shown."""

    def __init__(self, wants: Iterable[str] = ()) -> None:
        self.wants = frozenset(wants)
        self.loss = LOSSES[0]
        self.shown: list[Shown] = []
        self.labelled = 0

    def new(self, settings: DriftSettings, loss: str) -> Recorder:
        self.loss = loss
        return self

    def restore(self, settings: DriftSettings, loss: str, state: bytes) -> Recorder:
        return self.new(settings, loss)

    def update(self, loss: float, offset: int, n: int) -> Note | None:
        self.labelled = n
        self.shown.append(Shown(LOSS, loss, offset, n))
        return None

    def observe(self, what: str, value: float) -> None:
        self.shown.append(Shown(what, value, -1, self.labelled))

    def begin_recovery(self, n: int) -> None:
        """Nothing: it has no reference."""

    def reset(self, confirmed: bool) -> None:
        """Nothing: it has no case."""

    def since(self, offset: int) -> dict[int, float]:
        return {one.offset: one.value for one in self.shown if one.what == LOSS and one.offset >= offset}

    def state(self) -> bytes:
        return b""

    @property
    def tape(self) -> Tape:
        return Tape(self.loss, self.labelled, self.shown)


class Case(NamedTuple):
    """One case: the labelled counts at its alarm, at the estimated change and at its verdict (0: the tape ended before).

    `survived`: confirmed on the model as it was before the change alone; the live one has unlearned it.
    """

    alarm_n: int
    change_n: int
    end_n: int
    confirmed: bool
    p: float
    level: float
    survived: bool = False


# What the model as it was before the case's change would have lost on the fresh events up to a labelled count; None: not known.
Hindsight = Callable[[Case, int], Mapping[str, Any] | None]


class Rates(NamedTuple):
    """How well the times of alarms fit the known drifts (Bifet 2013). Times are in labelled events.

    `mtd` is the mean time from a drift to the first alarm for it, over those that were found; `mtfa` the mean time between
    false alarms, all the stable events when there was at most one; `mdr` the share of drifts that were missed;
    `mtr` = mtfa / mtd · (1 − mdr), None when none was found or there are none; `stable` events lie outside of the time that is
    allowed for finding each drift, and `false_rate` is per 100,000 of them.
    """

    alarms: int
    found: int
    drifts: int
    false: int
    mtd: float | None
    mtfa: float
    mdr: float | None
    mtr: float | None
    stable: int
    false_rate: float

    @classmethod
    def of(cls, *, alarms: int, found: int, drifts: int, false: int, delays: float, stable: int) -> Rates:
        """From the counts, and the sum of the `delays` of those that were found."""
        mtd = delays / found if found else None
        mtfa = stable / max(1, false)
        mdr = 1 - found / drifts if drifts else None
        mtr = None if mtd is None or mdr is None else mtfa / mtd * (1 - mdr)
        return cls(alarms, found, drifts, false, mtd, mtfa, mdr, mtr, stable, PER * false / stable if stable > 0 else 0.0)


def alarms(tape: Tape, detectors: Sequence[DetectorSettings]) -> list[int]:
    """The labelled counts at which any of these, alone and never reset but by themselves, sounds."""
    built = [(settings.on, build(settings)) for settings in detectors]
    found: list[int] = []
    for what, value, _, n in tape.shown:
        fired = False
        for on, detector in built:
            if on == what:
                detector.update(value)
                fired = detector.drift_detected or fired
        if fired:
            found.append(n)
    return found


def cases(tape: Tape, settings: DriftSettings, seed: int = 0, hindsight: Hindsight | None = None) -> list[Case]:
    """Every case that the service would have opened, with its verdict. Raises ConfigError for impossible detectors.

    An early confirmation waits for `to_diagnose`, as in service. Without `hindsight` nobody asks the model as it was.
    """
    watch = DriftWatch.new(settings, tape.loss)
    found: list[Case] = []
    opened: list[int] = []
    wants, due = watch.wants, 0
    for what, value, offset, n in tape.shown:
        if what != LOSS:
            if what in wants:
                watch.observe(what, value)
            continue
        note = watch.update(value, offset, n)
        if note is not None and note.kind == "alarm":
            opened.append(n)
            found.append(Case(n, note.data["change_n"], 0, False, 1.0, 0.0))
        elif note is not None and not due:
            k = case_number(opened, n)
            judged = _judged(found[-1], tape.loss, note.data, note.data["fresh"], settings, k, seed + len(found))
            if judged.confirmed:
                found[-1] = judged
                due = n if look_of(note.data).last else max(n, judged.change_n + to_diagnose(settings))
            elif look_of(note.data).last:
                found[-1] = _asked(judged, tape.loss, note.data, settings, k, seed + len(found), hindsight)
                due = n
        if due and n >= due:
            found[-1] = found[-1]._replace(end_n=n)
            if found[-1].confirmed:
                opened.clear()
            watch.reset(found[-1].confirmed)
            due = 0
    return [case if case.end_n else case._replace(confirmed=False, p=1.0, level=0.0) for case in found]


def _judged(
    case: Case, loss: str, window: Mapping[str, Any], fresh: Mapping[str, Any], settings: DriftSettings, k: int, seed: int
) -> Case:
    alpha, harm, look = settings.alpha, settings.harm, look_of(window)
    verdict = confirm(loss, window["ref"], fresh, alpha=alpha, harm=harm, k=k, seed=seed, look=look)
    return case._replace(confirmed=verdict.confirmed, p=verdict.p, level=verdict.level)


def _asked(
    case: Case, loss: str, window: dict[str, Any], settings: DriftSettings, k: int, seed: int, hindsight: Hindsight | None
) -> Case:
    """The case as its live losses left it, or as the model as it was does."""
    fresh = None if hindsight is None else hindsight(case, window["to_n"])
    if fresh is None:
        return case
    asked = _judged(case, loss, window, fresh, settings, k, seed)
    return asked._replace(survived=True) if asked.confirmed else case


def rates(times: Sequence[int], drifts: Sequence[int], labelled: int, within: int) -> Rates:
    """How well `times` fit the `drifts`, both labelled counts in order.

    A time belongs to the latest drift before it if it comes within `within` events, and the first such finds it; the others of
    these neither find anything nor are false. Every other time is false. Raises ValueError for drifts out of order.
    """
    if list(drifts) != sorted(set(drifts)):
        raise ValueError(f"drifts must come in order, each once: {list(drifts)}")
    delays: dict[int, int] = {}
    false = 0
    for time in times:
        before = [drift for drift in drifts if drift < time]
        if before and time - before[-1] <= within:
            delays.setdefault(before[-1], time - before[-1])
        else:
            false += 1
    ends = [*drifts[1:], labelled]
    stable = labelled - sum(min(within, end - drift) for drift, end in zip(drifts, ends, strict=False))
    found, spent = len(delays), sum(delays.values())
    return Rates.of(alarms=len(times), found=found, drifts=len(drifts), false=false, delays=spent, stable=stable)
