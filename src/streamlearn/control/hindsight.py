"""What the model as it was before a change says of the losses after it, for cases whose fresh window alone confirms nothing.

The question runs among the fits, in a worker. Its answer lives in this process only, like theirs: after a restart it is asked
again. That there is no answer is one too: no checkpoint is as old as the change, too much lies between, or it failed; and of a
recommender none is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from ..errors import RetrainError
from ..retrain.frozen import FrozenSpec, Losses
from .arms import by_users
from .confirming import undecided
from .state import Alarm, Case, Phase, State
from .world import Hindsight, World

logger = logging.getLogger("streamlearn.control")
MOST_RECORDS: Final = 200_000  # from the change to the window's end, that are read again
LIMIT_S: Final = 120.0  # by which an answer must be there: an alarm is not left open for the sake of it


class Question(Protocol):
    """A question under way, whose result is `Losses` as MessagePack."""

    def cancel(self) -> None:
        """Let it end without a result. Cancelling one that is done changes nothing."""

    def done(self) -> bool:
        """Whether `result` would not wait."""

    def result(self) -> bytes:
        """What came of it. Raises RetrainError."""


class Asking(Protocol):
    """Where questions run: `retrain.job.Jobs`, or what a test puts in its place."""

    def ask(self, spec: FrozenSpec, time_limit_s: float, memory_limit_mb: float) -> Question:
        """Begin. Raises RetrainError."""


@dataclass(slots=True)
class _Asked:
    model: str
    case: str
    checkpoint: int
    asked_at: float
    job: Question | None
    answer: Hindsight | None = None


class Questions:
    """At most one open question a model. `timer`: seconds."""

    def __init__(self, jobs: Asking, timer: Callable[[], float]) -> None:
        self._jobs, self._timer = jobs, timer
        self._open: dict[str, _Asked] = {}

    def answer(self, model: str) -> Hindsight | None:
        """What is known of the model's open case, None before."""
        question = self._open.get(model)
        return None if question is None else question.answer

    def tend(self, state: State, see: Callable[[], World]) -> None:
        """Ask, follow or give up, as the state wants; `see` is called to ask. Raises LogError, StoreError."""
        case, question = state.case, self._open.get(state.name)
        alarm = undecided(state) if state.phase == Phase.CONFIRM else None
        if question is not None and (alarm is None or case is None or question.case != case.id):
            self._end(state.name)
            question = None
        if alarm is None or case is None:
            return
        if question is None:
            question = self._open[state.name] = self._ask(state, case, alarm, see())
        if question.answer is None:
            self._follow(question)

    def close(self) -> None:
        """Cancel everything."""
        for model in list(self._open):
            self._end(model)

    def _end(self, model: str) -> None:
        question = self._open.pop(model)
        if question.job is not None:
            question.job.cancel()

    def _ask(self, state: State, case: Case, alarm: Alarm, world: World) -> _Asked:
        question = _Asked(state.name, case.id, -1, self._timer(), None)
        assert state.settings is not None
        if by_users(state.settings):
            why = "a recommender that does not learn what is new and popular does worse without any drift"
            question.answer = Hindsight(case.id, None, -1, why)
            return question
        found = world.sound(case.shard, case.change_offset)
        if found is None or world.bounds(case.shard)[0] > case.change_offset:
            question.answer = Hindsight(case.id, None, -1, "no checkpoint and log are kept from before the change")
            return question
        question.checkpoint = found.checkpoint
        spec = _spec(state, case, alarm, found.checkpoint, world)
        if spec.until - spec.start > MOST_RECORDS:
            why = f"{spec.until - spec.start} records lie between the change and now, more than are read again"
            question.answer = Hindsight(case.id, None, found.checkpoint, why)
            return question
        try:
            question.job = self._jobs.ask(spec, LIMIT_S, state.settings.retrain.memory_limit_mb)
        except RetrainError as error:
            question.answer = Hindsight(case.id, None, found.checkpoint, str(error))
        return question

    def _follow(self, question: _Asked) -> None:
        job = question.job
        assert job is not None
        losses: dict[str, Any] | None = None
        if job.done():
            try:
                found = msgspec.msgpack.decode(job.result(), type=Losses)
                losses, why = msgspec.to_builtins(found), ""
                if not found.n or (found.n > 1 and not found.blocks):
                    losses, why = None, "none of the fresh events has both halves after the change"
            except RetrainError as error:
                why = str(error)
        elif self._timer() - question.asked_at > LIMIT_S:
            job.cancel()
            why = f"no answer came in {LIMIT_S:.0f} s"
        else:
            return
        question.answer = Hindsight(question.case, losses, question.checkpoint, why)
        if why:
            about = {"model": question.model, "case": question.case, "error": why}
            logger.warning("the model as it was cannot be asked", extra=about)


def _spec(state: State, case: Case, alarm: Alarm, checkpoint: int, world: World) -> FrozenSpec:
    settings, fresh = state.settings, alarm.windows[-1]["fresh"]
    assert settings is not None
    return FrozenSpec(
        model=state.name,
        shard=case.shard,
        stream=settings.stream,
        checkpoint=checkpoint,
        start=case.change_offset,
        after=alarm.signal.offset,
        until=alarm.until,
        block=max(1, fresh["n"] // max(1, len(fresh.get("blocks", ())) or fresh["n"])),
        settings=settings.model_dump(mode="json"),
        stream_settings=dict(world.stream_settings),
        limits=dict(world.limits),
    )
