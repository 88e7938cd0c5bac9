"""The learner of a recommender: an ordinary one, which is also taught by slates and records, and whose trials are by user.

What is scored before it is learned are wanted items, so drift is watched on their ranks as on any loss. What slates earned is
scored and attributed to the version that made them; a challenger is judged by nothing else.
"""

from __future__ import annotations

from typing import Any

from ..config import ModelSettings, StreamSettings
from ..events import Event, Kind, Limits, encode
from ..log import Record
from .interactions import FACTS, Interactions
from .learner import Learner
from .protocols import WatchMaker
from .recommending import recommender
from .sharing import Shared
from .sharing import encode as encode_shared
from .waiting import Entry, Impression


class RecommendLearner(Learner):
    """A shard's whole state, of a model with task = "recommend"."""

    def __init__(
        self, name: str, model: ModelSettings, stream: StreamSettings, limits: Limits, watches: WatchMaker,
        place: tuple[str, int], start: int,
    ) -> None:  # fmt: skip
        super().__init__(name, model, stream, limits, watches, place, start)
        self._tells = stream.partitions > 1 and model.recommend.share_every > 0

    def step(self, record: Record) -> None:
        """Take one record that is not a command; a heartbeat is also a time to tell what waits."""
        super().step(record)
        if self.telling and record.kind == Kind.HEARTBEAT:
            self._share()

    def answer(self, entry: Entry, y: Any) -> bool:
        """As an ordinary one does; what it means for items is then told to the other shards, unless it was not learned."""
        heard = recommender(self.champion).told(entry.x) if self._tells and self.held is None else None
        if not super().answer(entry, y):
            return False
        if heard is not None:
            self.telling.append(heard)
            settings, newest = self.settings.recommend, self.join.newest or heard.ts
            if len(self.telling) >= settings.share_every or newest - self.telling[0].ts >= settings.share_s:
                self._share()
        return True

    def _share(self) -> None:
        self.shares.append(encode_shared(Shared(self.name, self.join.partition, self.position, self.telling)))
        self.telling = []

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
