"""The models' figures over time: what control writes into the history, once in every `history.every_s` seconds of the clock.

Of the shards' statuses what `gauges` makes of them; of control's own state the trial, the fit, the policies' sums, the mean
loss of the labelled events since the last sample; of the newest look at the features their PSI. It decides nothing, and nothing
waits for it: what cannot be written now is written later, see `history.Recorder`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ..config import Settings
from ..errors import StoreError
from ..gauges import figures
from ..history import Recorder
from ..records import Status
from ..store import Store
from .course import Course
from .seen import Inputs
from .sight import Statuses
from .state import State
from .world import Said

logger = logging.getLogger("streamlearn.control")

BUDGET_S: Final = 0.05  # of a turn of control; the models that are left have the next one
SILENT_S: Final = 15.0  # a status that stays the same for longer says nothing of now
TRIM_S: Final = 3600.0

Progress = tuple[int, int] | None
TRIAL: Final = {"trial_e": "e", "trial_peak": "peak", "trial_threshold": "threshold", "trial_mean": "mean_difference"}


class Chronicle:
    """Not for several threads. `timer` gives seconds that nobody sets."""

    def __init__(self, store: Store, settings: Settings, statuses: Statuses, timer: Callable[[], float]) -> None:
        self._statuses, self._settings, self._timer = statuses, settings.history, timer
        self._recorder = Recorder(store, settings.history)
        self._slots: dict[str, int] = {}  # by model, the span of `every_s` that was sampled last
        self._heard: dict[tuple[str, int], tuple[float, float]] = {}  # a status' time, and when it was first seen
        self._courses: dict[str, tuple[Course, int]] = {}
        self._trimmed_at = -math.inf
        self._failing = False

    def forget(self) -> None:
        """Know nothing, as at the start: another process may have led meanwhile."""
        self._recorder.forget()
        self._courses.clear()

    def tend(
        self, states: Iterable[State], now: float, inputs: Callable[[State], Inputs | None],
        said: Callable[[State], Sequence[Said]], progress: Callable[[str], Progress],
    ) -> None:  # fmt: skip
        """Sample the models whose time it is, as far as this turn's share goes; `now` is Unix seconds."""
        slot, began = int(now // self._settings.every_s), self._timer()
        due = [state for state in states if state.settings is not None and self._slots.get(state.name) != slot]
        try:
            for state in due:
                sample = self._sample(state, inputs(state), said(state), progress(state.name))
                self._slots[state.name] = slot
                self._recorder.sample(state.name, now, sample)
                if self._timer() - began > BUDGET_S:
                    break
            if began - self._trimmed_at >= TRIM_S:
                self._recorder.trim(now)
                self._trimmed_at = began
        except StoreError as error:
            if not self._failing:
                logger.warning("the history cannot be written now, and is kept for later", extra={"error": str(error)})
            self._failing = True
        else:
            self._failing = self._failing and not due

    def _sample(
        self, state: State, seen: Inputs | None, said: Sequence[Said], progress: Progress
    ) -> dict[str, float]:
        """A value of each series that has one now; the names are those of GET /v1/models/{model}/history."""
        assert state.settings is not None
        sample = figures(self._fresh(state), state.settings.score_window)
        sample |= {
            "held": float(state.held is not None), "degraded": float(bool(state.degraded)),
            "canary_share": 0.0 if state.split is None else state.split["share"],
            **{f"debt:{one.policy.name}": one.choice.total for one in said}, **_trial(state.trial_numbers),
        }  # fmt: skip
        if progress is not None and progress[1]:
            sample["progress"] = progress[0] / progress[1]
        loss = self._loss(state)
        return sample | _moved(seen, self._settings.max_features) | ({} if loss is None else {"loss": loss})

    def _fresh(self, state: State) -> list[Status]:
        """The statuses of all shards; none while one of them is not there or silent, since the others' sum would mislead."""
        now, found = self._timer(), []
        for shard in state.shards:
            status, place = self._statuses.get(state.name, shard), (state.name, shard)
            if status is None:
                return []
            at, seen_at = self._heard.get(place, (math.nan, now))
            if status.at != at:
                self._heard[place] = status.at, now
            elif now - seen_at > SILENT_S:
                return []
            found.append(status)
        return found

    def _loss(self, state: State) -> float | None:
        """The mean loss of the serving version's labelled events since the last sample, None when no batch came."""
        course, before = state.course, self._courses.get(state.name)
        self._courses[state.name] = course, course.taken
        fresh = course.taken - before[1] if before is not None and before[0] is course else 0
        batches = course.batches[-fresh:] if fresh else []
        events = sum(batch.n for batch in batches)
        return sum(batch.n * batch.loss for batch in batches) / events if events else None


def _trial(numbers: Mapping[str, Any]) -> dict[str, float]:
    if not numbers:
        return {}
    told = {name: numbers[of] for name, of in TRIAL.items()}
    told |= {"trial_low": numbers["interval"][0], "trial_high": numbers["interval"][1]}
    return {name: float(value) for name, value in told.items() if value is not None}


def _moved(seen: Inputs | None, most: int) -> dict[str, float]:
    """The PSI of the features that have moved furthest."""
    shifts = () if seen is None or seen.look is None else seen.look.shifts
    furthest = sorted(shifts, key=lambda shift: (-shift.psi, shift.name))[:most]
    return {f"feature:{shift.name}": shift.psi for shift in furthest}
