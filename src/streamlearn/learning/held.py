"""What a resume does with the range in which a model was held: learn it after all, or make room for its repair.

Both read the range again from the log, up to the resume's own record, so that a replay meets the very same records. Nothing
of the learner changes before all of it was read: a log that is away in the middle leaves the command to be met again.

    learn     the join as it stood when the hold began is fed the range, and the champion (and a shadow) is taught what comes
              of it, in order: it ends as it would have, had it never been held
    repair    every id that the range names is forgotten, so that the mended events, sent again whole (features and label),
              are new ones; the range itself stays unlearned
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any, Final

from ..config import Settings
from ..errors import EventError, PositionExpired
from ..events import Kind, Limits, decode_event, decode_prediction
from ..log import Log, Record, pages_below
from ..records import Command
from . import pickling
from .learner import Learner
from .recommending import AnyModel, recommender
from .refusal import Refusal
from .trainer import Trainer
from .waiting import Entry

BATCH: Final = 1000


class Lesson(Trainer):
    """A copy of the champion, and of the shadow beside it, taught what came while they were held."""

    shadow: AnyModel | None
    shadow_error: str
    refused: list[tuple[Entry, Any, str]]

    @classmethod
    def begin(cls, learner: Learner, settings: Settings, limits: Limits, accepts: bool = False) -> Lesson:
        """The lesson that begins where the hold began; the copy `accepts` what has changed its type meanwhile.

        Raises whatever copying a pipeline raises.
        """
        assert learner.held_join is not None
        model = learner.settings
        place = model.stream, learner.join.partition
        champion, parts = pickle.loads(pickling.dumps(learner.champion)), {"join": learner.held_join}
        lesson = cls.restore(learner.name, model, settings.streams[model.stream], limits, *place, champion, parts)
        lesson.refused, lesson.shadow, lesson.shadow_error = [], None, ""
        lesson.model.accepted |= accepts
        if learner.shadow is not None:
            lesson.shadow = shadow = pickle.loads(pickling.dumps(learner.shadow))
            shadow.bound(limits, model)
        return lesson

    def answer(self, entry: Entry, y: Any) -> bool:
        """Learn, as `Learner.answer` does."""
        taught = True
        try:
            self.model.learn(self._own(entry.x), y)
        except Exception as error:
            taught = False
            self.refused.append((entry, y, f"learning raised {error!r}"))
        else:
            self.learned += 1
        if self.shadow is not None:
            try:
                self.shadow.learn(self.shadow.own(entry.x) if self._mixed else entry.x, y)
            except Exception as error:
                self.shadow, self.shadow_error = None, f"learning raised {error!r}"
        return taught

    def teach(self, kind: str, given: Any) -> None:
        """As `RecommendLearner.teach` does. Facts that were taken while the model was held are taken again, to no other end."""
        super().teach(kind, given)
        if self.shadow is not None:
            try:
                recommender(self.shadow).teach(kind, given)
            except Exception as error:
                self.shadow, self.shadow_error = None, f"learning ({kind}) raised {error!r}"

    @property
    def _mixed(self) -> bool:
        return self.model.lenient or (self.shadow is not None and self.shadow.lenient)

    def finish(self, learner: Learner) -> None:
        """Put what was taught in the learner's place, and let it learn again."""
        learner.champion = self.model
        if learner.shadow is not None:
            if self.shadow is None:
                learner.drop_shadow(self.shadow_error)
            else:
                learner.shadow = self.shadow
        for entry, y, detail in self.refused:
            learner.join.forget(entry.id)
            learner.refuse_entry(entry, y, detail)
        learner.resume(skipped=False)


@dataclass(frozen=True, slots=True)
class Repair:
    """The ids that the held range names."""

    ids: frozenset[str]

    def finish(self, learner: Learner) -> None:
        """Forget them, and let the model learn again."""
        for id in sorted(self.ids):
            learner.join.forget(id)
        learner.resume()


def reread(
    learner: Learner, command: Command, offset: int, settings: Settings, limits: Limits, log: Log
) -> Lesson | Repair | Refusal | None:
    """What the "resume" at `offset` needs of the held range; None when it needs nothing. Raises LogUnavailable."""
    start = learner.held_from
    if start is None or command.mode not in ("learn", "repair"):
        return None
    if offset - start > learner.settings.max_held_records:
        return Refusal(
            "gap",
            f"the model was held for {offset - start} records, more than max_held_records "
            f"({learner.settings.max_held_records}); raise it, or resume with mode skip",
        )
    pages = pages_below(log, learner.join.stream, learner.join.partition, start, offset, BATCH)
    try:
        if command.mode == "repair":
            found = (_id(record) for records in pages for record in records)
            return Repair(frozenset(id for id in found if id is not None))
        if learner.held_join is None:
            return Refusal("gap", "what waited when the hold began was not kept; resume with mode skip")
        try:
            lesson = Lesson.begin(learner, settings, limits, command.accepts)
        except Exception as error:  # pickling may raise anything, and the command must have an answer
            return Refusal("unlearnable", f"the model cannot be copied: {error!r}")
        for records in pages:
            lesson.feed(records)
    except PositionExpired as error:
        return Refusal("gap", f"the held range is no longer in the log, so resume with mode skip: {error}")
    return lesson


def _id(record: Record) -> str | None:
    try:
        if record.kind == Kind.EVENT:
            return decode_event(record.value).id
        if record.kind == Kind.PREDICTION:
            return decode_prediction(record.value).id
    except EventError:
        pass
    return None
