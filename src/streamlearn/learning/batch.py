"""A scikit-learn estimator as a river one: it gathers the events of a window, is fitted to them once, and then serves.

Frozen, it serves as it was fitted. With `residual`, a small online model stands on top and learns what it leaves: of two
classes logistic regression on the estimator's logit, whose weight begins at 1, and the prepared features, whose weights begin
at 0; of several, softmax regression on its log-probabilities likewise; of numbers, least squares on y − f(x). So both begin as
the same model. It is made by a fit alone: as the live pipeline of a model it could not learn, see `model.Model`.

scikit-learn is an extra; it is imported when an estimator is built, fitted or brought back.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import log
from typing import Any, Final

import numpy as np
from river import base, linear_model, optim, utils

from ..errors import ModelError
from . import pickling
from .catalogue import RECIPES
from .digest import digest
from .encode import Encoder, Floats
from .prepare import OneHot
from .sampling import EvenSample

MAX_EVENTS: Final = 200_000
LEAST: Final = 1e-3  # the least probability that the model on top is shown, as a logarithm
WITNESSES: Final = 500  # events whose answers tell two fitted estimators apart
ON_TOP: Final = "(batch)"  # what the estimator's answer is called among the features
EXTRA: Final = "scikit-learn is not installed: pip install 'streamlearn[batch]'"
_RATE: Final = 0.01
_KEPT: Final = ("estimator", "task", "residual", "seed", "labels", "encoder", "fitted", "top", "events", "of", "_gathered")
_threads = threading.local()


def is_batch(found: Any) -> bool:
    """Whether this is a scikit-learn classifier or regressor, as a class or an instance."""
    kind = found if isinstance(found, type) else type(found)
    return not issubclass(kind, base.Base) and all(hasattr(kind, name) for name in ("fit", "get_params", "set_params"))


def wrap(path: str, found: Any, task: str, params: Mapping[str, Any], seed: int, residual: bool = False) -> Batch:
    """The estimator at an import path, or what a function there returned, for `task`. A class is called with `params`, and with
    `random_state` = `seed` where it takes one. Raises ModelError."""
    try:
        from sklearn.base import clone, is_classifier, is_regressor
    except ModuleNotFoundError:
        raise ModelError(f"{path}: {EXTRA}") from None
    try:
        estimator = found(**params) if isinstance(found, type) else clone(found).set_params(**params)
        if estimator.get_params().get("random_state", seed) is None:
            estimator.set_params(random_state=seed)
    except Exception as error:
        raise ModelError(f"{path}: {type(error).__name__}: {error}") from None
    if not (is_regressor(estimator) if task == "regression" else is_classifier(estimator)):
        wanted = "regressor" if task == "regression" else "classifier"
        raise ModelError(f"{path} is a {type(estimator).__name__}, but the task {task} needs a {wanted}")
    if task != "regression" and not hasattr(estimator, "predict_proba"):
        raise ModelError(f"{path} gives no probabilities; put sklearn.calibration.CalibratedClassifierCV around it")
    return (BatchRegressor if task == "regression" else BatchClassifier)(estimator, task, residual, seed)


class Fitted:
    """An estimator that was fitted, kept as the bytes that its pickle was made of once, so that a publication only copies them.

    `fingerprint`: a hash of the columns, the labels and what it answered for WITNESSES of its events. Pickles of equal
    estimators differ, and their insides are another library's: it is what `digest` goes by.
    """

    __slots__ = ("_ask", "fingerprint", "pickled")

    def __init__(self, pickled: bytes, fingerprint: str) -> None:
        self.pickled, self.fingerprint = pickled, fingerprint
        estimator = pickle.loads(pickled)
        self._ask = estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.predict

    def __reduce__(self) -> tuple[type[Fitted], tuple[bytes, str]]:
        return Fitted, (self.pickled, self.fingerprint)

    def __fingerprint__(self) -> str:
        return self.fingerprint

    def answers(self, rows: Floats) -> Floats:
        """(events, labels): probabilities; or (events, 1): numbers. On one thread."""
        _one_thread()
        found: Floats = np.asarray(self._ask(rows), dtype=np.float64)
        return found.reshape(len(rows), -1)


class Batch(base.Estimator):
    """What both kinds share. `events` of `of` gathered ones were fitted to; `labels` are the classes in the order of the
    answers' columns."""

    def __init__(self, estimator: Any, task: str, residual: bool = False, seed: int = 0) -> None:
        self.estimator = estimator
        self.task = task
        self.residual = residual
        self.seed = seed
        self.labels: list[Any] = []
        self.encoder: Encoder | None = None
        self.fitted: Fitted | None = None
        self.top: Any = None
        self.events = self.of = 0
        self._gathered: EvenSample[tuple[Any, Any]] | None = EvenSample(MAX_EVENTS)
        self._recent: tuple[Any, list[float]] | None = None

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {**{name: getattr(self, name) for name in _KEPT}, "_recent": None}  # never by __dict__: see `pickling`

    def gather_at_most(self, events: int) -> None:
        """Keep an even sample of so many of the events to come."""
        self._gathered = EvenSample(events)

    @property
    def gathering(self) -> bool:
        """Whether it is still to be fitted."""
        return self._gathered is not None

    def fit_gathered(self) -> None:
        """Fit to what was gathered, and let go of it. Raises ModelError."""
        from sklearn.base import clone

        assert self._gathered is not None
        pairs, self.of = self._gathered.kept, self._gathered.seen
        events: list[dict[Any, Any]] = [x for x, _ in pairs]
        name = type(self.estimator).__name__
        encoder = Encoder(_takes_nan(self.estimator))
        encoder.fit(events)
        rows, targets = encoder.rows(events), self._targets([y for _, y in pairs])
        estimator = clone(self.estimator)
        _one_thread()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it has not converged shows in its losses
                estimator.fit(rows, targets)
        except Exception as error:
            raise ModelError(f"{name} could not be fitted to {len(pairs)} events: {type(error).__name__}: {error}") from error
        pickled = pickling.dumps(estimator)
        witnesses = rows[:: -(-len(rows) // WITNESSES)]
        answers = Fitted(pickled, "").answers(witnesses)
        told = digest((name, encoder, self.labels)).encode() + answers.tobytes()
        self.encoder, self.fitted = encoder, Fitted(pickled, hashlib.sha256(told).hexdigest())
        self.events, self._gathered = len(pairs), None
        self.top = self._on_top(events)

    def answers(self, events: Sequence[Mapping[str, Any]]) -> Floats:
        """What the fitted estimator alone answers, for many events at once. Raises ModelError before it was fitted."""
        if self.fitted is None or self.encoder is None:
            raise ModelError(f"{type(self.estimator).__name__} has not been fitted yet: it learns a window at once")
        return self.fitted.answers(self.encoder.rows(events))

    def remember(self, x: Mapping[str, Any], answer: Sequence[float]) -> None:
        """What `answers` gave for `x`, which is predicted or learned next: it is not asked again for this very object."""
        self._recent = (x, list(answer))

    def _answer(self, x: Mapping[str, Any]) -> list[float]:
        recent = self._recent
        if recent is not None and recent[0] is x:
            return recent[1]
        answer: list[float] = self.answers([x])[0].tolist()
        self._recent = (x, answer)
        return answer

    def _targets(self, ys: list[Any]) -> list[Any]:
        return ys

    def _on_top(self, events: Sequence[Mapping[Any, Any]]) -> Any:
        """The online model as it begins: the scales of the features are known from the window, nothing else."""
        raise NotImplementedError


class BatchClassifier(Batch, base.Classifier):
    """Answers {} for what it has no class for: never, once it was fitted."""

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        if self._gathered is not None:
            self._gathered.add((x, y))
        elif self.residual:
            shown = self._shown(x)
            self.top[0].learn_one(x)
            self.top[1].learn_one(shown, y)

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[Any, float]:
        if self.residual and self.fitted is not None:
            shares: dict[Any, float] = self.top[1].predict_proba_one(self._shown(x))
            return shares
        return dict(zip(self.labels, self._answer(x), strict=True))

    def _targets(self, ys: list[Any]) -> list[Any]:
        self.labels = sorted(set(ys), key=lambda y: (type(y).__name__, str(y)))
        if len(self.labels) < 2:
            found = f"only the label {self.labels[0]!r}" if self.labels else "none"
            raise ModelError(f"{type(self.estimator).__name__} needs labels of two classes in its window, and there is {found}")
        numbers = {label: number for number, label in enumerate(self.labels)}
        return [numbers[y] for y in ys]

    def _shown(self, x: dict[Any, Any]) -> dict[Any, Any]:
        """The prepared features, and the estimator's answer as logarithms."""
        answer = self._answer(x)
        shown = dict(self.top[0].transform_one(x))
        if self.task == "binary":
            p = min(max(answer[1], LEAST), 1.0 - LEAST)
            shown[ON_TOP] = log(p / (1.0 - p))
        else:
            for label, p in zip(self.labels, answer, strict=True):
                shown[f"{ON_TOP} {label}"] = log(max(p, LEAST))
        return shown

    def _on_top(self, events: Sequence[Mapping[Any, Any]]) -> Any:
        prepare = _prepared(events)
        if self.task == "binary":
            logistic = linear_model.LogisticRegression(optim.SGD(_RATE), intercept_lr=_RATE)
            logistic._weights = utils.VectorDict({ON_TOP: 1.0})
            return prepare, logistic
        softmax = linear_model.SoftmaxRegression(optim.SGD(_RATE))
        for label in self.labels:
            softmax.weights[label] = defaultdict(float, {f"{ON_TOP} {label}": 1.0})
        return prepare, softmax


class BatchRegressor(Batch, base.Regressor):
    """Answers numbers."""

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        if self._gathered is not None:
            self._gathered.add((x, y))
        elif self.residual:
            self.top.learn_one(x, y - self._answer(x)[0])

    def predict_one(self, x: dict[Any, Any], **kwargs: Any) -> float:
        found = self._answer(x)[0]
        return found + float(self.top.predict_one(x)) if self.residual else found

    def _on_top(self, events: Sequence[Mapping[Any, Any]]) -> Any:
        return RECIPES["linear"].build("regression", {}, self.seed)


def _prepared(events: Sequence[Mapping[Any, Any]]) -> OneHot:
    prepare = OneHot()
    for x in events:
        prepare.learn_one({**x})
    return prepare


def _takes_nan(estimator: Any) -> bool:
    """Whether scikit-learn says that it takes missing values: its trees do, and need no scales either."""
    try:
        from sklearn.utils import get_tags
    except ImportError:  # before 1.6
        return bool(estimator._get_tags()["allow_nan"])
    return bool(get_tags(estimator).input_tags.allow_nan)


def _one_thread() -> None:
    """Keep this thread's OpenMP and BLAS to itself: the process has other things to do, and sums come out the same."""
    if getattr(_threads, "bounded", False):
        return
    from threadpoolctl import threadpool_limits

    _threads.bounded = threadpool_limits(1) is not None
