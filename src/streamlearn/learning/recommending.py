"""A recommender dressed as a model of the learner: what the join's entries and lessons say, in the recommender's own terms.

It plays the part of `Model` for task = "recommend". One `RecommendModel` is one version's lineage, and what a publication
carries; `estimator` is the `recommend.Recommender` that serving asks. It must never learn while it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, cast

import numpy as np

from ..config import ModelSettings
from ..errors import EventError
from ..events import Features, Limits, ShownItem, check_scalar
from ..items import DELETE
from ..recommend import hearing
from ..recommend.recommender import Recommender
from ..recommend.state import Interaction
from .model import Model
from .waiting import Impression, Slot

_KEPT: Final = ("estimator", "accepted", "_asked")


class RecommendModel:
    """A recommender as the learner asks and teaches it. Raises ModelError when its ranking pipeline cannot be built."""

    task: Final = "recommend"
    proba: Final = False
    lenient: Final = False
    label_type: Final = None
    labels: Final[tuple[Any, ...]] = ()

    follows: Final = False

    def __init__(self, settings: ModelSettings, limits: Limits) -> None:
        self.estimator = Recommender(settings.recommend, settings.seed, settings.pipeline, settings.params)
        self.accepted = False
        self._asked = 0
        self.bound(limits, settings)

    @property
    def types(self) -> dict[str, str]:
        """It has no features of its own."""
        return {}

    def bound(self, limits: Limits, settings: ModelSettings) -> None:
        """Go by these limits from now on, and these settings where nothing that was learned depends on them."""
        self.limits = limits
        self.estimator.configure(settings.recommend)
        self._every = settings.recommend.rank_every
        self._teach: dict[str, Callable[[Any], None]] = {
            "interaction": self._interaction,
            "shown": self._shown,
            "opened": self._opened,
            "clicked": self._clicked,
            "item": self._item,
            "user": self._user,
            "heard": self._heard,
        }
        self._waits = self.estimator.settings.labels == "wait"

    def check(self, x: Features) -> tuple[Features, dict[str, str]]:
        """The context `x` without nulls. Raises EventError; changes nothing."""
        if len(x) > self.limits.max_features:
            raise EventError("too_many_features", "x", f"has {len(x)} features, more than {self.limits.max_features}")
        for name, value in x.items():
            if len(name) > self.limits.max_string:
                raise EventError("too_long", "x", f"a feature's name has {len(name)} characters")
            check_scalar(f"x.{name}", value, self.limits)
        return x, {}

    def accept(self, types: Mapping[str, str]) -> None:
        """Nothing: a context's names and types are free."""

    def own(self, x: Features) -> Features:
        """All of it."""
        return x

    def meet(self, x: Features) -> Features:
        """All of it."""
        return x

    def adopt(self, former: Any) -> None:
        """Take over what is known of items and users, which is no less true for another version."""
        self.estimator.adopt(former.estimator)

    def label(self, y: Any) -> Any:
        """Of an entry, that the item was wanted."""
        return y

    def unlabel(self, y: Any) -> Any:
        """As `label`."""
        return y

    def predict(self, x: Any) -> tuple[int | None, Any]:
        """(rank of the entry's item before it is learned, (rank by popularity, rank by what is recent)); ranks count from 1, 0
        is not among the candidates. (None, None) when `rank_every` passes it over, and of an item that is not to be shown again
        to its user, so that no recommender could have named it."""
        wanted = _interaction(x)
        if self.estimator.left_out(wanted):
            return None, None
        self._asked += 1
        if self._asked % self._every:
            return None, None
        return self.estimator.rank(wanted), self.estimator.baseline_ranks()

    def learn(self, x: Any, y: Any) -> None:
        """Teach the recommender an interaction of weight above 0."""
        self.estimator.learn(_interaction(x), organic=x["organic"])

    def counts(self) -> dict[str, int]:
        """How many users and items it knows, and has let go."""
        return self.estimator.counts()

    def teach(self, kind: str, given: Any) -> None:
        """Teach what is no question: see `interactions`. Raises what the recommender raises."""
        self._teach[kind](given)

    def _interaction(self, x: dict[str, Any]) -> None:
        self.estimator.learn(_interaction(x), organic=x["organic"])

    def _shown(self, impression: Impression) -> None:
        if self._waits:  # else it was learned when it was shown, and at each action since
            of, shown = (impression.user, impression.context, impression.ts), [_shown(slot) for slot in impression.slots]
            self.estimator.learn_shown(*of, shown, impression.earned)

    def _opened(self, impression: Impression) -> None:
        """What was shown without its ranking features has those of this moment, before anything comes of it."""
        of = impression.user, impression.context, impression.ts
        lacking = [slot for slot in impression.slots if slot.f is None]
        if lacking:
            for slot, f in zip(lacking, self.estimator.features_of(*of, [slot.item for slot in lacking]), strict=True):
                slot.f = None if f is None else np.array(f, "<f4").tobytes()
        if not self._waits:
            self.estimator.learn_emitted(*of, list(map(_shown, impression.slots)))

    def _clicked(self, given: tuple[Impression, int, float]) -> None:
        impression, slot, weight = given
        of = impression.user, impression.context, impression.ts
        self.estimator.learn_clicked(*of, _shown(impression.slots[slot]), weight)

    def _item(self, record: dict[str, Any]) -> None:
        if record["action"] == DELETE:
            self.estimator.delete_item(record["name"])
        else:
            self.estimator.set_item(record["name"], record["x"], record["ts"])

    def _user(self, record: dict[str, Any]) -> None:
        if record["action"] == DELETE:
            self.estimator.delete_user(record["name"])
        else:
            self.estimator.set_user(record["name"], record["x"], record["ts"])

    def told(self, x: dict[str, Any]) -> hearing.Heard | None:
        """What other shards are told of an entry's interaction, before it is learned."""
        return hearing.told(self.estimator.state, _interaction(x))

    def _heard(self, all: list[hearing.Heard]) -> None:
        for one in all:
            hearing.hear(self.estimator.state, one)

    def changed(self) -> None:
        """Nothing is remembered beside the recommender."""

    def answer(self, x: Features) -> NoReturn:
        """Raises EventError: features alone ask for nothing here."""
        raise EventError("shape", "x", "this model recommends; ask POST /v1/recommend for items, or /v1/rank for your own ones")

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _KEPT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


AnyModel = Model | RecommendModel


def make_model(settings: ModelSettings, limits: Limits, live: bool = True) -> AnyModel:
    """The model of a task, as `Model` takes its arguments: a `RecommendModel` where it recommends. Raises ModelError."""
    if settings.task == "recommend":
        return RecommendModel(settings, limits)
    return Model(settings, limits, live)


def recommender(model: AnyModel) -> RecommendModel:
    """The model of a learner or trainer whose task is "recommend"."""
    assert isinstance(model, RecommendModel)
    return model


def _interaction(x: dict[str, Any]) -> Interaction:
    return Interaction(x["user"], x["item"], x["action"], x["weight"], x["ts"], x["context"])


def _shown(slot: Slot) -> ShownItem:
    f = None if slot.f is None else cast("list[float]", np.frombuffer(slot.f, "<f4").tolist())
    return ShownItem(slot.item, slot.position, slot.propensity, slot.score, None, f)
