"""The short way through a river pipeline: plain transformers, one after the other, before one model, and nothing else.

river's `Pipeline` looks at the kind of each step and at extra arguments on every call; for scaled logistic regression that is a
sixth of the whole cost. The steps are the pipeline's own, called in its own order with its own arguments, so that the numbers
are the very same. Whatever is not that plain goes through the pipeline itself.
"""

from __future__ import annotations

from typing import Any

from river import base, compose

from .recall import recall


class Straight:
    """The steps of `pipeline`, which stays the owner of their state. Pickled beside it, they are still its steps."""

    __slots__ = ("_last", "_transformers")

    def __init__(self, pipeline: compose.Pipeline) -> None:
        *self._transformers, last = pipeline.steps.values()
        self._last = recall(last)

    def predict_one(self, x: Any) -> Any:
        for transformer in self._transformers:
            x = transformer.transform_one(x)
        return self._last.predict_one(x)

    def predict_proba_one(self, x: Any) -> Any:
        for transformer in self._transformers:
            x = transformer.transform_one(x)
        return self._last.predict_proba_one(x)

    def learn_one(self, x: Any, y: Any) -> None:
        for transformer in self._transformers:
            transformer.learn_one(x)
            x = transformer.transform_one(x)
        self._last.learn_one(x=x, y=y)


class Pair:
    """The same for one transformer before the model, the commonest pipeline: what it calls is looked up once."""

    __slots__ = ("_learn", "_predict", "_predict_proba", "_teach", "_transform")

    def __init__(self, pipeline: compose.Pipeline) -> None:
        transformer, last = pipeline.steps.values()
        last = recall(last)
        self._transform, self._teach = transformer.transform_one, transformer.learn_one
        self._predict, self._learn = last.predict_one, last.learn_one
        self._predict_proba = getattr(last, "predict_proba_one", None)

    def predict_one(self, x: Any) -> Any:
        return self._predict(self._transform(x))

    def predict_proba_one(self, x: Any) -> Any:
        return self._predict_proba(self._transform(x))  # type: ignore[misc]  # asked of classifiers only

    def learn_one(self, x: Any, y: Any) -> None:
        self._teach(x)
        self._learn(x=self._transform(x), y=y)


def straighten(estimator: Any) -> Any:
    """The short way through `estimator`, or the estimator itself where there is none."""
    if type(estimator) is not compose.Pipeline or not estimator.steps:
        return recall(estimator)
    *before, last = estimator.steps.values()
    plain = all(
        isinstance(step, base.Transformer)
        and not isinstance(step, (compose.TransformerUnion, base.AnomalyFilter))
        and not step._supervised
        for step in before
    )
    model = not isinstance(last, (base.Transformer, base.AnomalyFilter)) and last._supervised
    if not (plain and model):
        return estimator
    return Pair(estimator) if len(before) == 1 else Straight(estimator)
