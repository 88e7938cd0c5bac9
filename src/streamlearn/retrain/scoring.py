"""Score one candidate of a search on a window of the log: fit it to a part, then predict the end of the window event by event.

A worker process runs it. Each reads the window from the log itself, by the learner's own rules, and keeps the one that it read
last for a minute, since the next candidate needs the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from pydantic import ValidationError

from streamlearn.config import ModelSettings, StreamSettings
from streamlearn.errors import ModelError, PositionExpired, RetrainError
from streamlearn.events import Limits
from streamlearn.lineage import RECIPE
from streamlearn.log import Log, pages_below

if TYPE_CHECKING:
    from streamlearn.learning.model import Model

BATCH: Final = 1000
KEEP_S: Final = 60.0

Pairs = list[tuple[Any, Any]]
Progress = Callable[[int, int], None]


class ScoreSpec(msgspec.Struct):
    """What to score. Records are those of one partition in [start, until), without the ranges `skip`. `settings` hold the
    candidate's pipeline, params and seed; `part` is the share of the training part, its newest end, that it is fitted to.
    `types` are those of a `FitSpec`."""

    model: str
    stream: str
    partition: int
    start: int
    until: int
    skip: list[tuple[int, int]]
    settings: dict[str, Any]
    stream_settings: dict[str, Any]
    limits: dict[str, Any]
    part: float
    types: dict[str, str] = {}


class Scored(msgspec.Struct):
    """How it went. `losses`: float64 in [0, 1], one for each scored event in order, as bytes; of a batch estimator those of the
    frozen one, and `residual` those of the one under an online model, else empty. `seconds` of CPU without reading; `size` of
    the pickled model, in bytes. It was fitted to `fitted` of `training` events; `kept` of the window's `labelled` events were
    in memory."""

    losses: bytes
    residual: bytes
    seconds: float
    size: int
    fitted: int
    training: int
    kept: int
    labelled: int


def part_of(training: int, part: float, least: int) -> int:
    """How many of the `training` events a part is: no fewer than `least`, where there are so many."""
    return min(training, max(least, ceil(part * training)))


def score(spec: ScoreSpec, open_log: Callable[[], Log], progress: Progress) -> bytes:
    """`Scored`, as MessagePack. An event that the candidate cannot predict counts as lost; one that it cannot learn is skipped.

    Raises RetrainError: "empty" for fewer labelled events than `retrain.min_events`, "failed" for a candidate that cannot be
    built or fitted, and for records that are gone; any other LogError passes through.
    """
    from streamlearn.learning.batch import Batch  # here, since these bring river: control must start without it
    from streamlearn.learning.loss import Scaled, make_loss
    from streamlearn.learning.model import Model

    try:
        settings = ModelSettings.model_validate(spec.settings)
        model = Model(settings, Limits(**spec.limits), live=False)
        pairs, labelled = _window(spec, settings, open_log)
    except (ValidationError, TypeError, ModelError, PositionExpired) as error:
        raise RetrainError("failed", str(error)) from error
    least = settings.retrain.min_events
    if labelled < least or len(pairs) < 2:
        raise RetrainError(
            "empty",
            f"{labelled} labelled events in offsets {spec.start} to {spec.until} of {spec.stream}/{spec.partition}; "
            f"retrain.min_events asks for {least}",
        )
    cut = min(len(pairs) - 1, max(1, round((1.0 - settings.retrain.search.holdout) * len(pairs))))
    training, scored = pairs[:cut], pairs[cut:]
    fitted = part_of(len(training), spec.part, least)
    loss = make_loss(settings)
    if isinstance(loss, Scaled):
        for _, y in training:
            loss.learn(y)
    began, total, residual = time.process_time(), fitted + len(scored), b""
    taught = training[-fitted:]
    if isinstance(model.estimator, Batch):
        model.estimator.gather_at_most(fitted)
        _teach(model, taught, progress, total)
        try:
            model.estimator.fit_gathered()
        except ModelError as error:
            raise RetrainError("failed", str(error)) from error
        losses, residual = _both(model, scored, loss)
    else:
        _teach(model, taught, progress, total)
        losses = _prequential(model, scored, loss, None)
    seconds = time.process_time() - began
    progress(total, total)
    return msgspec.msgpack.encode(
        Scored(losses, residual, seconds, _size(model), fitted, len(training), len(pairs), labelled)
    )


def _teach(model: Model, pairs: Pairs, progress: Progress, total: int) -> None:
    for done, (x, y) in enumerate(pairs):
        if done % BATCH == 0:
            progress(done, total)
        try:
            model.learn(x, y)
        except MemoryError:
            raise
        except Exception:
            continue  # as the trainer does; of what it cannot learn its losses tell


def _both(model: Model, scored: Pairs, loss: Any) -> tuple[bytes, bytes]:
    """The losses of the frozen estimator, and of one like it under an online model."""
    import pickle

    from streamlearn.learning import pickling

    answers = model.estimator.answers([x for x, _ in scored]).tolist()
    twin = pickle.loads(pickling.dumps(model))
    twin.estimator.residual = True
    return _prequential(model, scored, loss, answers), _prequential(twin, scored, loss, answers)


def _prequential(model: Model, scored: Pairs, loss: Any, answers: list[list[float]] | None) -> bytes:
    """Predict, then learn, event by event (Dawid 1984)."""
    losses = np.ones(len(scored))
    for index, (x, y) in enumerate(scored):
        if answers is not None:
            model.estimator.remember(x, answers[index])
        try:
            predicted, _ = model.predict(x)
            found = loss(y, predicted)
            losses[index] = float(predicted != y) if found is None else found  # None: labels that never differed have no scale
        except MemoryError:
            raise
        except Exception:
            losses[index] = 1.0
        try:
            model.learn(x, y)
        except MemoryError:
            raise
        except Exception:
            continue
    return losses.tobytes()


def _size(model: Model) -> int:
    from streamlearn.learning import pickling

    return len(pickling.dumps(model))


class _Last:
    """The window that this process read last, by what tells it from every other; let go when it was not asked for a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[bytes, Pairs, int] | None = None
        self._timer: threading.Timer | None = None

    def get(self, key: bytes) -> tuple[Pairs, int] | None:
        with self._lock:
            if self._found is None or self._found[0] != key:
                self._found = None
                return None
            return self._found[1:]

    def put(self, key: bytes, pairs: Pairs, labelled: int) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._found = key, pairs, labelled
            self._timer = threading.Timer(KEEP_S, self._let_go)
            self._timer.daemon = True
            self._timer.start()

    def _let_go(self) -> None:
        with self._lock:
            self._found = self._timer = None


_last = _Last()


def _window(spec: ScoreSpec, settings: ModelSettings, open_log: Callable[[], Log]) -> tuple[Pairs, int]:
    """The labelled events of the window in the order in which a learner would learn them, and how many there were."""
    log = open_log()
    try:
        key = _key(spec, log.identity(spec.stream))
        found = _last.get(key)
        if found is None:
            found = _read(spec, settings, log)
        _last.put(key, *found)
        return found
    finally:
        log.close()


def _key(spec: ScoreSpec, identity: str) -> bytes:
    settings = {name: value for name, value in spec.settings.items() if name not in RECIPE}
    place = (identity, spec.stream, spec.partition, spec.start, spec.until, spec.skip, spec.types)
    return msgspec.json.encode((place, settings, spec.stream_settings, spec.limits), order="sorted")


def _read(spec: ScoreSpec, settings: ModelSettings, log: Log) -> tuple[Pairs, int]:
    from streamlearn.learning.sampler import Sampler

    stream, limits = StreamSettings.model_validate(spec.stream_settings), Limits(**spec.limits)
    sampler = Sampler.new(spec.model, settings, stream, limits, spec.stream, spec.partition, spec.start)
    sampler.accept(spec.types)
    sampler.pass_over(spec.skip)
    for records in pages_below(log, spec.stream, spec.partition, spec.start, spec.until, BATCH):
        sampler.feed(records)
    return sampler.sample.kept, sampler.sample.seen
