"""Small river estimators around river's own: what the recipes need between `Prepare` and a model, where river has none.

They hold no rule of learning: each only changes what its inner model is shown, or puts two answers together.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import exp, log, sqrt, tau
from typing import Any, Final, cast

from river import base, naive_bayes

from .prepare import OneHot

_UNLIKELY: Final = -20.0  # e^-20, about 2e-9


class ClassNumbers(base.Classifier):
    """Shows the inner classifier its classes as 0, 1, 2 … in the order of their first appearance.

    Several river classifiers keep their classes in a set and walk it. A set of small dense integers is walked in their
    order, under any PYTHONHASHSEED and after a pickle; a set of strings is not.
    """

    def __init__(self, classifier: base.Classifier) -> None:
        self.classifier = classifier
        self.numbers: dict[Any, int] = {}
        self.labels: list[Any] = []

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        number = self.numbers.get(y)
        if number is None:
            number = self.numbers[y] = len(self.labels)
            self.labels.append(y)
        self.classifier.learn_one(x, number)

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[Any, float]:
        labels = self.labels
        if not labels:
            return {}
        shares: dict[Any, float] = self.classifier.predict_proba_one(x, **kwargs)
        return {labels[number]: shares[number] for number in sorted(shares)}


class ScaledTarget(base.Regressor):
    """Shows the inner regressor its target in deviations from its running mean, within ±`clip`, and scales back.

    river's linear models have a fixed learning rate, and overflow on a target of some thousands; one odd label would do
    the same to any of them.
    """

    def __init__(self, regressor: base.Regressor, clip: float = 8.0) -> None:
        self.regressor = regressor
        self.clip = clip
        self.scale = OneHot(clip=clip)

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        target: dict[Hashable, Any] = {"y": y}
        self.scale.learn_one(target)
        self.regressor.learn_one(x, self.scale.transform_one(target)["y"])

    def predict_one(self, x: dict[Any, Any], **kwargs: Any) -> float:
        moments = self.scale.numbers.get("y")
        if moments is None:
            return 0.0
        n, mean, squares = moments[:3]
        return mean + float(self.regressor.predict_one(x, **kwargs)) * sqrt(squares / n)


class BoundedNorm(base.Transformer):
    """Shrinks an event whose squared length exceeds `limit` to that length.

    Stochastic gradient descent on squared loss overshoots when learning rate × squared length exceeds 1 (Bottou, Curtis &
    Nocedal 2018, §4): with some hundred features it diverges on every event.
    """

    def __init__(self, limit: float = 50.0) -> None:
        self.limit = limit

    def transform_one(self, x: dict[Any, Any]) -> dict[Any, Any]:
        length = sum([value * value for value in x.values()])
        if length <= self.limit:
            return x
        factor = sqrt(self.limit / length)
        return {name: value * factor for name, value in x.items()}


class MixedNaiveBayes(base.Classifier):
    """Naive Bayes on scaled numbers (river's GaussianNB) and strings (river's MultinomialNB) at once.

    Features are independent given the class, so log-likelihoods add up. A class's variance counts as at least `least`
    (numbers are scaled to about 1): else one odd value in a feature that was constant decides every answer after it. No
    number speaks against a class by more than `_UNLIKELY`. `alpha` smooths the strings' counts.
    """

    def __init__(self, alpha: float = 1.0, least: float = 0.1) -> None:
        self.alpha = alpha
        self.least = least
        gaussian, multinomial = cast("Any", naive_bayes.GaussianNB), cast("Any", naive_bayes.MultinomialNB)  # untyped
        self.gaussian = gaussian()
        self.multinomial = multinomial(alpha=alpha)

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        numbers, words = _split(x)
        self.gaussian.learn_one(numbers, y)
        self.multinomial.learn_one(words, y)

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[Any, float]:
        numbers, words = _split(x)
        counts = self.multinomial.class_counts
        if not counts:
            return {}
        words = {word: 1 for word in words if word in self.multinomial.feature_counts}
        if words:
            likelihood: dict[Any, float] = self.multinomial.joint_log_likelihood(words)
        else:
            whole = sum(counts.values())
            likelihood = {label: log(count / whole) for label, count in counts.items()}
        self._add_numbers(likelihood, numbers)
        highest = max(likelihood.values())
        weights = {label: exp(value - highest) for label, value in likelihood.items()}
        total = sum(weights.values())
        return {label: weight / total for label, weight in weights.items()}

    def _add_numbers(self, likelihood: dict[Any, float], numbers: dict[Any, float]) -> None:
        for label in likelihood:
            gaussians = self.gaussian.gaussians.get(label, {})
            for name, value in numbers.items():
                gaussian = gaussians.get(name)
                if gaussian is None:
                    likelihood[label] += _UNLIKELY
                    continue
                variance = max(gaussian._var.get(), self.least)
                away = value - gaussian.mu
                likelihood[label] += max(_UNLIKELY, -0.5 * (log(tau * variance) + away * away / variance))


def _split(x: dict[Any, Any]) -> tuple[dict[Any, float], dict[str, int]]:
    numbers: dict[Any, float] = {}
    words: dict[str, int] = {}
    for name, value in x.items():
        if type(value) is str:
            words[f"{name}={value}"] = 1
        else:
            numbers[name] = value
    return numbers, words
