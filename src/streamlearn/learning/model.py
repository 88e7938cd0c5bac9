"""A river estimator dressed for one task: features checked and cleaned, labels translated, answers in the user's terms.

One `Model` is one version's lineage. It is what a publication carries, so it holds all that serving needs: the estimator,
the types of its features and its labels. It must never learn while it answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ..config import ModelSettings
from ..errors import EventError, ModelError
from ..events import INT64, Features, Limits, Scalar
from .batch import Batch
from .recipes import build
from .straight import straighten

NUMBER: Final = "number"
STRING: Final = "string"
MAX_TYPES: Final = 100_000
_KINDS: Final[Mapping[type, str]] = {float: NUMBER, int: NUMBER, bool: NUMBER, str: STRING}


_KEPT: Final = (
    "task", "estimator", "types", "max_features", "max_string", "labels", "label_type", "proba", "_codes", "follows",
    "accepted",
)  # fmt: skip


class BatchOnly(ModelError):
    """The pipeline is one that only a fit can make."""


class Answer(NamedTuple):
    """A prediction in the user's terms: the label or number, and for classes the probability of each label."""

    y: Scalar
    p: dict[str, float] | None


class Model:
    """An estimator with its features' types and its labels. Raises ModelError when the pipeline cannot be built.

    A feature of another type than the model's makes an event that it refuses. A lenient one goes on without that feature:
    where the settings have it follow the features (`follows`), or since a person accepted such a change (`accepted`).

    `live`: it is to learn event by event from its first one; of a batch estimator (see `batch`) that raises `BatchOnly`.
    """

    follows = accepted = False

    def __init__(self, settings: ModelSettings, limits: Limits, live: bool = True) -> None:
        self.task = settings.task
        self.estimator: Any = build(settings.pipeline, settings.task, settings.params, settings.seed)
        if live and isinstance(self.estimator, Batch):
            raise BatchOnly(
                f"{settings.pipeline} learns a window at once, not event by event, so a model cannot begin with it; name it "
                'among the candidates of a search (retrain.strategy.how = "search", retrain.search.candidates), and take a '
                f"recipe such as {'linear' if settings.task == 'regression' else 'logistic'} as the pipeline"
            )
        self._short = straighten(self.estimator)
        self.types: dict[str, str] = {}
        self.bound(limits, settings)
        self.labels: tuple[Any, ...] = settings.labels or ((False, True) if settings.task == "binary" else ())
        self.label_type: str | None = None
        self.proba = settings.task != "regression" and _has_probabilities(self.estimator)
        # What each declared label is taught as: true or false, or itself (so that 1.0 and true are taught as the label 1).
        binary = settings.task == "binary"
        self._codes: dict[Any, Any] = {label: index == 1 if binary else label for index, label in enumerate(self.labels)}

    def bound(self, limits: Limits, settings: ModelSettings) -> None:
        """Go by these limits and settings from now on; a model that was kept may have been made under others."""
        self.max_features, self.max_string = limits.max_features, limits.max_string
        self.follows = settings.drift.features.contract == "follow"
        self._names: list[str] = []
        self._floats: list[type] = []

    @property
    def lenient(self) -> bool:
        """Whether it goes on without a feature that has another type than it learned."""
        return self.follows or self.accepted

    def check(self, x: Features) -> tuple[Features, dict[str, str]]:
        """`x` without nulls, and the types of the features never seen before. Raises EventError; changes nothing.

        What a lenient model is to be without is still there: another model may take it. See `own`.
        """
        # The commonest event is made as the last one was, of floats alone: then all below was seen to already.
        if list(map(type, x.values())) == self._floats and list(x) == self._names:
            return x, {}
        if len(x) > self.max_features:
            raise EventError("too_many_features", "x", f"has {len(x)} features, more than {self.max_features}")
        types, nulls, floats = self.types, False, True
        try:
            for name, value in x.items():
                kind = type(value)
                if kind is float:
                    if types[name] is not NUMBER:
                        break
                    continue
                floats = False
                if kind is str:
                    if types[name] is not STRING or len(value) > self.max_string:  # type: ignore[arg-type]  # a str, as above
                        break
                elif kind is int:
                    if types[name] is not NUMBER or not -INT64 <= value < INT64:  # type: ignore[operator]  # an int, as above
                        break
                elif value is None:
                    nulls = True
                elif types[name] is not NUMBER:
                    break
            else:
                if floats:
                    self._names, self._floats = list(x), [float] * len(x)
                return ({k: v for k, v in x.items() if v is not None} if nulls else x), {}
        except KeyError:
            pass
        fresh: dict[str, str] = {}
        for name, value in x.items():
            if value is not None:
                self._check_one(name, value, fresh)
        return {k: v for k, v in x.items() if v is not None}, fresh

    def _check_one(self, name: str, value: Scalar, fresh: dict[str, str]) -> None:
        if len(name) > self.max_string:
            raise EventError("too_long", "x", f"a feature's name has {len(name)} characters, more than {self.max_string}")
        if isinstance(value, str) and len(value) > self.max_string:
            raise EventError("too_long", f"x.{name}", f"has {len(value)} characters, more than {self.max_string}")
        if type(value) is int and not -INT64 <= value < INT64:
            raise EventError("out_of_range", f"x.{name}", "does not fit 64 bits; send it as a string or a float")
        kind, known = _KINDS[type(value)], self.types.get(name)
        if known is None:
            fresh[name] = kind
        elif known != kind and not self.lenient:
            raise EventError(
                "feature_type", f"x.{name}", f"was a {known} and is now the {kind} {value!r}; send a {known}, or rename it"
            )

    def accept(self, types: Mapping[str, str]) -> None:
        """Remember the types of new features, once they were accepted; beyond MAX_TYPES names they go unchecked."""
        for name, kind in types.items():
            if len(self.types) < MAX_TYPES or name in self.types:
                # The constants, not equal strings, so that the `is` tests above hold after a pickle too.
                self.types[name] = NUMBER if kind == NUMBER else STRING

    def own(self, x: Features) -> Features:
        """Of a checked `x` what this model takes: `x` itself, or without the features of another type than it knows."""
        if list(map(type, x.values())) == self._floats and list(x) == self._names:  # as in `check`
            return x
        types = self.types
        for name, value in x.items():
            known = types.get(name)
            if known is not None and (known is STRING) != (type(value) is str):
                return {k: v for k, v in x.items() if types.get(k, _KINDS[type(v)]) is _KINDS[type(v)]}
        return x

    def meet(self, x: Features) -> Features:
        """`own(x)`, and features never seen before are known by their type from now on: for a model that checks no events."""
        types = self.types
        fresh = {name: _KINDS[type(value)] for name, value in x.items() if name not in types}
        if fresh:
            self.accept(fresh)
        return self.own(x)

    def adopt(self, former: Any) -> None:
        """Take over the stream's types from the model that watched it until now: they rule over those of a shorter past.

        Where one of the two is lenient they may differ with good reason, and each keeps its own.
        """
        if not (self.lenient or former.lenient):
            self.accept(former.types)
            self._names, self._floats = [], []
        self.label_type = former.label_type or self.label_type

    def label(self, y: Scalar) -> Any:
        """`y` as the estimator takes it: bool, the class, or float. Raises EventError for a label that cannot be one."""
        if self._codes:
            try:
                return self._codes[y]
            except KeyError:
                detail = f"is {_brief(y)}; this model's labels are {list(self.labels)}"
                raise EventError("unknown_label", "y", detail) from None
        if type(y) is int and not -INT64 <= y < INT64:
            raise EventError("out_of_range", "y", "does not fit 64 bits; send it as a string or a float")
        if self.task == "regression":
            if isinstance(y, (bool, str)) or y is None:
                raise EventError("unknown_label", "y", f"is {_brief(y)}; a regression model's label is a number")
            return float(y)
        if y is None or isinstance(y, float):
            raise EventError("unknown_label", "y", f"is {y!r}; a class is a string, an integer or a boolean")
        if isinstance(y, str) and len(y) > self.max_string:
            raise EventError("too_long", "y", f"has {len(y)} characters, more than {self.max_string}")
        kind = type(y).__name__
        if kind != self.label_type and self.label_type is not None:
            raise EventError("unknown_label", "y", f"is the {kind} {_brief(y)}; labels were of type {self.label_type}")
        return y

    def unlabel(self, y: Any) -> Scalar:
        """The user's label for what `label` gave."""
        label: Scalar = self.labels[1 if y else 0] if self.task == "binary" else y
        return label

    def predict(self, x: Features) -> tuple[Any, Any]:
        """(prediction, probabilities) for a cleaned `x`: binary (bool, P(positive)), multiclass (class or None, dict),
        regression (float, None). Raises EventError for a prediction that is not finite."""
        if self.task == "binary":
            if self.proba:
                shares = self._short.predict_proba_one(x)
                p = float(shares.get(True, 0.0)) if shares else 0.5
            else:
                p = 1.0 if self._short.predict_one(x) else 0.0
            if not 0.0 <= p <= 1.0:
                if not math.isfinite(p):
                    raise _not_finite(p)
                p = 1.0 if p > 0.5 else 0.0  # sums of shares are rounded
            return p > 0.5, p
        if self.task == "regression":
            value = float(self._short.predict_one(x) or 0.0)
            if not math.isfinite(value):
                raise _not_finite(value)
            return value, None
        if not self.proba:
            return _plain(self._short.predict_one(x)), None
        probabilities = self._short.predict_proba_one(x)
        if not probabilities:
            return None, None
        total = sum(probabilities.values())
        if not math.isfinite(total):
            raise _not_finite(probabilities)
        if type(total) is not float:
            probabilities = {_plain(label): float(share) for label, share in probabilities.items()}
        return max(probabilities, key=probabilities.__getitem__), dict(probabilities)

    def learn(self, x: Features, y: Any) -> None:
        """Teach the estimator one cleaned `x` with its translated label."""
        self._short.learn_one(x, y)
        if self.label_type is None:
            self.label_type = type(y).__name__

    def changed(self) -> None:
        """The estimator was changed in place other than by learning: remember nothing that it answered before."""
        self._short = straighten(self.estimator)

    def answer(self, x: Features) -> Answer:
        """Predict for `x` as it came. Raises EventError; never learns, and changes nothing."""
        x, _ = self.check(x)
        y, p = self.predict(self.own(x) if self.lenient else x)
        if self.task == "binary":
            negative, positive = self.labels
            shares = {_text(negative): 1.0 - p, _text(positive): p} if self.proba else None
            return Answer(positive if y else negative, shares)
        if p is None:
            return Answer(y, None)
        return Answer(y, {_text(label): share for label, share in p.items()})

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _KEPT}  # never by __dict__: see `pickling`

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._short = straighten(self.estimator)
        self._names, self._floats = [], []
        self.types = {name: NUMBER if kind == NUMBER else STRING for name, kind in state["types"].items()}


def _text(label: Any) -> str:
    """A label as a JSON key: true and false as JSON writes them."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def _brief(y: object) -> str:
    text = repr(y)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _plain(label: Any) -> Any:
    """A label as JSON and MessagePack know it: numpy's scalars as Python's."""
    return label.item() if hasattr(label, "item") else label


def _not_finite(value: object) -> EventError:
    return EventError("not_finite_prediction", "$", f"the model predicted {value!r}")


def _has_probabilities(estimator: Any) -> bool:
    if not hasattr(estimator, "predict_one"):
        raise ModelError(f"{type(estimator).__name__} has no predict_one: the pipeline does not end in a model")
    try:
        estimator.clone().predict_proba_one({})
    except NotImplementedError:
        return False
    except Exception:  # an estimator that cannot answer before it has learned still has probabilities
        return True
    return True
