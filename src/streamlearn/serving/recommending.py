"""What to show next: which shard and which version answer, what they are asked, and how the slate goes to the log.

Like a prediction, an answer is made of what the holder holds and never waits for the log or the store. The draws of the
exploration depend on the model's salt and the impression's id alone, so that an answer can be made again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from .. import wire
from ..errors import EventError
from ..events import Features, Limits, Prediction, ShownItem, check_scalar, encode, new_id
from ..items import MAX_SHOWN
from ..telemetry import Counter, Histogram
from .deps import Shared
from .holder import Served, Slot
from .indexes import Indexes
from .problems import ProblemError
from .questions import asked_at, check_name, served_by

if TYPE_CHECKING:
    from ..recommend.slates import Slate
    from ..recommend.state import Ask

SURELY_FITS: Final = 1000  # ranking features in a slate that is logged without a look at its size
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Desk(NamedTuple):
    """What answering for one model needs, looked up once."""

    stream: str
    lateness_s: float
    k: int
    salt: str
    champion: Counter
    challenger: Counter
    fallback: Counter
    seconds: Histogram


class Recommending:
    """Answers from what the holder holds. All methods belong to the event loop's thread."""

    def __init__(self, shared: Shared, indexes: Indexes) -> None:
        settings, metrics = shared.deps.settings, shared.metrics
        limits = settings.limits
        self.max_body = limits.max_event_bytes
        self._limits = Limits(limits.max_features, limits.max_string, limits.max_event_bytes, limits.max_ahead_s)
        self._indexes = indexes
        self._holder, self._buffer, self._metrics = shared.holder, shared.buffer, metrics
        self._clock, self._timer = shared.deps.clock, shared.deps.timer
        self._tasks = {name: model.task for name, model in settings.models.items()}
        self._largest: dict[str, tuple[tuple[int | None, ...], Slot]] = {}  # by model, as of its publications' tags
        self._desks: dict[str, Desk] = {}
        for name, model in settings.models.items():
            if model.task == "recommend":
                late, role = settings.streams[model.stream].allowed_lateness_s, metrics.answers.labels
                self._desks[name] = Desk(
                    model.stream, late, model.recommend.k, f"{name}:{model.seed}", role(name, "champion"),
                    role(name, "challenger"), role(name, "fallback"), metrics.recommending.labels(name),
                )  # fmt: skip

    def recommend(self, model: str, question: wire.RecommendAsk) -> wire.RecommendAnswer:
        """What to show, of the model's own candidates or of the items in the question; logged unless that is declined.

        Raises ProblemError, and EventError for a question that is against the rules.
        """
        desk = self._desk(model)
        return self._answer(model, desk, question, desk.k, own=False)

    def rank(self, model: str, question: wire.RecommendAsk) -> wire.RecommendAnswer:
        """The items in the question in the order in which to show them: by default all, also those that were seen.

        Else as `recommend`.
        """
        desk = self._desk(model)
        if not question.items:
            raise EventError("shape", "items", "is missing: send the items to rank")
        if question.seen is None:
            question.seen = False
        return self._answer(model, desk, question, min(len(question.items), MAX_SHOWN), own=True)

    def similar(self, model: str, item: str, k: int | None) -> wire.SimilarAnswer:
        """The items most like `item`, by the shard that knows the most items. Raises ProblemError, EventError."""
        desk = self._desk(model)
        check_name("item", item, self._limits)
        count = _count(k, desk.k)
        slot = self._slot(model, None)
        served = served_by(slot)
        found = _tried(lambda: served.model.estimator.similar(item, count), served, slot)
        items = [wire.SimilarItem(name, float(score)) for name, score in found]
        return wire.SimilarAnswer(model, item, served.version, served.position, self._age(served), slot.degraded, items)

    def widest(self, model: str) -> Served:
        """What the shard that knows the most items has published. Raises ProblemError."""
        return served_by(self._slot(model, None))

    def _desk(self, model: str) -> Desk:
        desk = self._desks.get(model)
        if desk is None:
            self._holder.shards(model)  # raises where there is none of that name
            detail = f"model {model!r} does not recommend, its task is {self._tasks[model]}: ask POST /v1/predict/{model}"
            raise ProblemError("rejected", detail, {"field": "model"})
        return desk

    def _slot(self, model: str, user: str | None) -> Slot:
        """The user's shard; for nobody the one that knows the most items."""
        if user is not None:
            return self._holder.slot(model, user)
        slots = self._holder.shards(model)
        tags = tuple(slot.tag for slot in slots)
        known = self._largest.get(model)
        if known is None or known[0] != tags:
            known = self._largest[model] = tags, max(slots, key=_items_of)
        return known[1]

    def _answer(
        self, model: str, desk: Desk, question: wire.RecommendAsk, k: int, own: bool
    ) -> wire.RecommendAnswer:
        self._check(question)
        user = question.session if question.user is None else question.user
        at = asked_at(question.ts, self._limits, self._clock())
        slot = self._slot(model, user)
        served = served_by(slot)
        id = question.id or new_id()
        ask = _ask(question, user, self._now(desk, slot) if at is None else at, _count(question.k, k))

        def slate_of(one: Any) -> tuple[Slate, list[Features | None]]:
            draw, asked = random.Random(f"{desk.salt}\0{id}"), one.estimator
            found: Slate = asked.rank_own(ask, draw) if own else asked.recommend(ask, draw, self._indexes.search_of(one))
            return found, [asked.state.fields_of(item.item) if question.fields else None for item in found.items]

        began = perf_counter()
        (slate, fields), version, degraded = self._answered(desk, slot, served, user, slate_of)
        desk.seconds.observe(perf_counter() - began)
        answer = wire.RecommendAnswer(
            id, model, version, served.position, self._age(served), degraded,
            [
                wire.RecommendedItem(
                    one.item, one.position, one.score, one.source, one.propensity,
                    None if one.why is None else [wire.Reason(name, value) for name, value in one.why],
                    known,
                )
                for one, known in zip(slate.items, fields, strict=True)
            ],
            slate.fallback, list(slate.unknown), "off",
        )  # fmt: skip
        if question.log and slate.items:
            self._hand_over(desk, question, answer, user, at, slate)
        self._count(answer)
        return answer

    def _answered(
        self, desk: Desk, slot: Slot, served: Served, user: str | None, slate_of: Callable[[Any], T]
    ) -> tuple[T, int, list[str] | None]:
        """The answer, the version that gave it, and why it may be worse: by the challenger where it answers for the user."""
        challenger = served.challenger
        if challenger is None or not challenger.answers_for(user):
            found = _tried(lambda: slate_of(served.model), served, slot)
            desk.champion.inc()
            return found, served.version, slot.degraded
        try:
            with challenger.lock:
                found = slate_of(challenger.model)
        except Exception as error:
            found = _tried(lambda: slate_of(served.model), served, slot)
            desk.fallback.inc()
            why = f"version {challenger.version}, which is tried for this user, could not answer ({type(error).__name__})"
            _log.warning("%s; version %d did", why, served.version, extra=slot.who)
            return found, served.version, [*(slot.degraded or ()), why]
        desk.challenger.inc()
        return found, challenger.version, slot.degraded

    def _hand_over(
        self, desk: Desk, question: wire.RecommendAsk, answer: wire.RecommendAnswer, user: str | None, at: float | None,
        slate: Slate,
    ) -> None:
        """Give the slate to the log; `answer.logged` then says what became of it.

        The ranking features go along, unless they would make the record larger than an event may be.
        """
        items = [
            ShownItem(one.item, one.position, one.propensity, one.score, one.source, [float(f"{value:.9g}") for value in one.f])
            for one in slate.items
        ]  # nine digits tell any float32 exactly, and are two thirds of the record
        record = Prediction(
            desk.stream, answer.id, answer.model, answer.version, x=question.context or None, ts=at, key=user or answer.id,
            user=user, items=items,
        )  # fmt: skip
        if sum(len(one.f) for one in slate.items) > SURELY_FITS and len(encode(record)) > self._limits.max_event_bytes:
            for item in items:
                item.f = None
        answer.logged = self._buffer.offer(record)

    def _now(self, desk: Desk, slot: Slot) -> float:
        """Event time now: that of the newest event that the learner met, and the time since it said so; else the clock's."""
        status = slot.status
        if status is None or status.clock is None:
            return self._clock()
        return status.clock + desk.lateness_s + max(0.0, self._timer() - slot.heard)

    def _age(self, served: Served) -> float:
        return max(0.0, self._timer() - served.current_at)

    def _count(self, answer: wire.RecommendAnswer) -> None:
        self._metrics.recommendations.labels(answer.model, answer.logged, answer.fallback or "none").inc()
        for item in answer.items:
            self._metrics.recommended.labels(answer.model, item.source).inc()

    def _check(self, question: wire.RecommendAsk) -> None:
        for field in ("user", "session", "id"):
            check_name(field, getattr(question, field), self._limits)
        for table, values in (("context", question.context), ("where", question.where)):
            if len(values) > self._limits.max_features:
                raise EventError("too_many_features", table, f"has {len(values)} names, more than {self._limits.max_features}")
            for name, value in values.items():
                for one in value if isinstance(value, list) else (value,):
                    check_scalar(f"{table}.{name}", one, self._limits)


def _ask(question: wire.RecommendAsk, user: str | None, ts: float, k: int) -> Ask:
    """The question as a model takes it."""
    from ..recommend.state import Ask  # numpy comes with it: the service starts without

    return Ask(
        user=user, ts=ts, context=question.context, k=k,
        items=None if question.items is None else tuple(dict.fromkeys(question.items)),
        allow=None if question.allow is None else frozenset(question.allow), deny=frozenset(question.deny),
        where=question.where, seen=question.seen, explain=question.explain,
    )  # fmt: skip


def _count(given: int | None, default: int) -> int:
    """How many items are asked for. Raises EventError."""
    if given is None:
        return default
    if not 1 <= given <= MAX_SHOWN:
        raise EventError("shape", "k", f"is {given}; ask for 1 to {MAX_SHOWN} items")
    return given


def _items_of(slot: Slot) -> int:
    """How many items the shard knows, -1 before it has published."""
    served = slot.served
    if served is None:
        return -1
    with served.lock:
        return int(served.model.estimator.counts()["items"])


def _tried(give: Callable[[], T], served: Served, slot: Slot) -> T:
    """What `give` gives, asked under the lock of what is served. Raises ProblemError for whatever a model may raise."""
    try:
        with served.lock:
            return give()
    except EventError:
        raise
    except Exception as error:
        _log.exception("the model could not answer", extra=slot.who)
        raise ProblemError("model", f"model {slot.model!r}: it raised {type(error).__name__}") from error
