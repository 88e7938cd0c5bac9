"""The learner of a recommender: an ordinary one, which is also taught by slates and records, and whose trials are by user.

What is scored before it is learned are wanted items, so drift is watched on their ranks as on any loss. What slates earned is
scored and attributed to the version that made them; a challenger is judged by nothing else.
"""

from __future__ import annotations

from typing import Any

from ..events import Event, Kind, encode
from ..log import Record
from .interactions import FACTS, Interactions
from .learner import Learner
from .recommending import recommender
from .waiting import Entry, Impression


class RecommendLearner(Learner):
    """A shard's whole state, of a model with task = "recommend"."""

    def teach(self, kind: str, given: Any) -> None:
        """Take what is no question: facts always, the rest unless held. A slate that is over is judged either way."""
        if kind == "shown":
            self._judge(given)
        if self.held is not None and kind not in FACTS:
            return
        self.taught += 1
        try:
            recommender(self.champion).teach(kind, given)
        except MemoryError:
            raise
        except Exception as error:
            self.refuse(self._record, "unlearnable", f"learning ({kind}) raised {error!r}")
        if self.shadow is not None:
            try:
                recommender(self.shadow).teach(kind, given)
            except Exception as error:
                self.drop_shadow(f"learning ({kind}) raised {error!r}")

    def _judge(self, impression: Impression) -> None:
        reward = self.settings.recommend.reward(sum(impression.earned))
        pairs = zip(impression.slots, impression.earned, strict=True)
        shown = [(slot.score, earned > 0) for slot, earned in pairs if slot.score is not None]
        self.scores.slate(reward, impression.delay is not None, shown)
        version = impression.version
        if version is None:
            return
        row = self.outcomes.setdefault(version, [0.0, 0.0])
        row[0] += 1
        row[1] += 1.0 - reward
        if self.arms is not None and impression.user is not None:
            clock = self.join.clock or impression.ts
            for data in self.arms.take(impression.user, version, reward, impression.offset, clock):
                self.tell("block", data)

    def view(self) -> dict[str, Any]:
        """Its scores; what the join says of delays and misses; how many users and items it knows, and has let go."""
        assert isinstance(self.join, Interactions)
        return {**self.scores.view(), **self.join.view(), "state": recommender(self.champion).counts()}

    def refuse_entry(self, entry: Entry, y: Any, detail: str) -> None:
        """An interaction that was held, as a person can mend and send it."""
        record, x = self._record, entry.x
        if entry.offset != record.offset:
            event = Event(
                self.join.stream, entry.id, entry.ts, entry.key, x["context"] or None, None, x["user"], x["item"], x["action"]
            )
            record = Record(entry.offset, record.ts, Kind.EVENT, (entry.key or x["user"] or entry.id).encode(), encode(event))
        self.refuse(record, "unlearnable", detail)
