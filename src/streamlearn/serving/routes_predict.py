"""POST /v1/predict/…: the hot path of serving. It reads what the holder holds and never waits for the log or the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .. import wire
from ..errors import EventError
from ..events import Features, Limits, Prediction, parse_time
from ..telemetry import Counter, Histogram
from . import openapi
from .deps import Shared
from .holder import Served, Slot
from .problems import ProblemError, of_event
from .questions import asked_at, check_name, decode, read_question, served_by

if TYPE_CHECKING:
    from ..learning.model import Answer

BREATH: Final = 50
router: Final = APIRouter(route_class=openapi.PlainRoute, tags=["predictions"])
_log = logging.getLogger(__name__)
_one: Final = msgspec.json.Decoder(wire.Instance)
_many: Final = msgspec.json.Decoder(wire.Batch)
_encode: Final = msgspec.json.Encoder().encode

_X: Final = {"carrier": "WN", "distance": 239, "hour": 9}
_ANSWER: Final = {
    "id": "WN-1203-2011-05-04", "model": "delay", "prediction": False, "probabilities": {"false": 0.81, "true": 0.19},
    "version": 1, "position": {"log": "3f0c", "stream": "flights", "partition": 0, "offset": 41230},
    "age_s": 0.31, "degraded": None, "logged": "queued",
}
_MODEL: Final = openapi.path_parameter("model", "The model's name in the configuration", "delay")
_PROBLEMS: Final = openapi.problems(
    "malformed", "not-found", "timeout", "too-large", "media-type", "rejected", "model", "not-learned"
)


class Desk(NamedTuple):
    """What answering for one model needs, looked up once."""

    stream: str
    queued: Counter
    dropped: Counter
    off: Counter
    champion: Counter
    challenger: Counter
    fallback: Counter
    seconds: Histogram


class Predictor:
    """Answers questions from what the holder holds. All methods belong to the event loop's thread."""

    def __init__(self, shared: Shared) -> None:
        settings, count, role = shared.deps.settings, shared.metrics.predictions.labels, shared.metrics.answers.labels
        limits = settings.limits
        self.max_body, self.max_batch_body = limits.max_event_bytes, limits.max_body_bytes
        self.max_instances = settings.serve.max_instances
        self._limits = Limits(limits.max_features, limits.max_string, limits.max_event_bytes, limits.max_ahead_s)
        self._holder, self._buffer = shared.holder, shared.buffer
        self._clock, self._timer = shared.deps.clock, shared.deps.timer
        self._recommending = frozenset(name for name, model in settings.models.items() if model.task == "recommend")
        self._desks = {
            name: Desk(
                model.stream, count(name, "queued"), count(name, "dropped"), count(name, "off"), role(name, "champion"),
                role(name, "challenger"), role(name, "fallback"), shared.metrics.answering.labels(name),
            )
            for name, model in settings.models.items() if name not in self._recommending
        }

    def require(self, model: str) -> None:
        """Raises ProblemError when there is no such model."""
        self._holder.shards(model)

    def answer(self, model: str, question: wire.Instance) -> wire.PredictAnswer:
        """The answer, not yet logged. Raises ProblemError, and EventError for what the model cannot take."""
        if model in self._recommending:
            raise ProblemError("rejected", f"model {model!r} recommends: ask POST /v1/recommend/{model}", {"field": "model"})
        id, key = question.id, question.key
        slot = self._holder.slot(model, id if key is None else key)
        served = served_by(slot)
        if question.log:
            self._check_log(question)
        began = perf_counter()
        (y, p), version, degraded = self._answered(slot, served, id if key is None else key, question.x)
        self._desks[model].seconds.observe(perf_counter() - began)
        age = self._timer() - served.current_at
        return wire.PredictAnswer(id, model, y, p, version, served.position, age if age > 0.0 else 0.0, degraded, "off")

    def _answered(
        self, slot: Slot, served: Served, key: str | None, x: Features
    ) -> tuple[Answer, int, list[str] | None]:
        """The answer, the version that gave it, and why it may be worse: by the challenger where a canary gives it the key."""
        desk, challenger = self._desks[slot.model], served.challenger
        if challenger is None or not challenger.answers_for(key):
            answer = _ask(served.answer, x, slot)
            desk.champion.inc()
            return answer, served.version, slot.degraded
        try:
            answer = challenger.answer(x)
        except Exception as error:
            answer = _ask(served.answer, x, slot)  # what is wrong with the question itself raises here
            desk.fallback.inc()
            why = f"version {challenger.version}, which is tried for this key, could not answer ({type(error).__name__})"
            _log.warning("%s; version %d did", why, served.version, extra=slot.who)
            return answer, served.version, [*(slot.degraded or ()), why]
        desk.challenger.inc()
        return answer, challenger.version, slot.degraded

    def hand_over(self, question: wire.Instance, answer: wire.PredictAnswer) -> None:
        """Give the answer to the log if that was asked for; `answer.logged` then says what became of it."""
        desk = self._desks[answer.model]
        if not question.log or question.id is None:
            desk.off.inc()
            return
        record = Prediction(
            desk.stream, question.id, answer.model, answer.version, answer.prediction, answer.probabilities, question.x,
            None if question.ts is None else parse_time(question.ts), question.key or question.id,
        )
        answer.logged = self._buffer.offer(record)
        (desk.queued if answer.logged == "queued" else desk.dropped).inc()

    def _check_log(self, question: wire.Instance) -> None:
        if not question.id:
            raise EventError("shape", "id", "is needed to log a prediction: its label is joined by it")
        check_name("id", question.id, self._limits)
        check_name("key", question.key, self._limits)
        asked_at(question.ts, self._limits, self._clock())


def _ask(answer: Callable[[Features], Answer], x: Features, slot: Slot) -> Answer:
    try:
        return answer(x)
    except EventError as error:
        if error.reason == "not_finite_prediction":
            raise ProblemError("model", f"model {slot.model!r}: {error.detail}", {"reason": error.reason}) from None
        raise
    except Exception as error:
        _log.exception("the model could not answer", extra=slot.who)
        raise ProblemError("model", f"model {slot.model!r}: its pipeline raised {type(error).__name__}") from error


@router.post(
    "/v1/predict/{model}",
    summary="Predict for one",
    description="With log: true, the prediction is also handed to the log (never waited for), so that the label that comes "
    "later under the same id is attributed to what was really shown.",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[_MODEL],
        body=openapi.content(
            wire.Instance, ("logged", {"id": "WN-1203-2011-05-04", "x": _X, "log": True}), ("not logged", {"x": _X})
        ),
        responses=[
            openapi.answer(200, "The prediction", openapi.content(wire.PredictAnswer, ("prediction", _ANSWER))), _PROBLEMS,
        ],
    ),
)
async def predict(request: Request) -> Response:
    predictor: Predictor = request.app.state.predictor
    question = decode(await read_question(request, predictor.max_body), _one)
    answer = predictor.answer(request.path_params["model"], question)
    predictor.hand_over(question, answer)
    return Response(_encode(answer), media_type="application/json")


@router.post(
    "/v1/predict/{model}/batch",
    summary="Predict for several",
    description="All are answered, in order, or none; a question that cannot be answered is named by its index.",
    response_class=Response,
    openapi_extra=openapi.operation(
        parameters=[_MODEL],
        body=openapi.content(wire.Batch, ("two", {"instances": [{"x": _X}, {"x": {**_X, "hour": 18}}]})),
        responses=[
            openapi.answer(
                200, "The predictions, in order", openapi.content(wire.BatchAnswer, ("one", {"predictions": [_ANSWER]}))
            ),
            _PROBLEMS,
        ],
    ),
)
async def predict_batch(request: Request) -> Response:
    predictor: Predictor = request.app.state.predictor
    model = request.path_params["model"]
    instances = decode(await read_question(request, predictor.max_batch_body), _many).instances
    if len(instances) > predictor.max_instances:
        raise ProblemError("too-large", f"{len(instances)} instances, more than {predictor.max_instances}; send fewer at once")
    predictor.require(model)
    answers = []
    for index, question in enumerate(instances):
        if index % BREATH == BREATH - 1:
            await asyncio.sleep(0)  # others have questions, too
        try:
            answers.append(predictor.answer(model, question))
        except EventError as error:
            raise of_event(error, index) from None
        except ProblemError as problem:
            problem.extra.setdefault("index", index)
            raise
    for question, answer in zip(instances, answers, strict=True):
        predictor.hand_over(question, answer)
    return Response(_encode(wire.BatchAnswer(answers)), media_type="application/json")
