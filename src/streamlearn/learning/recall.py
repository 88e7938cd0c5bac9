"""A forest that remembers what each of its trees just answered.

river's adaptive random forests ask every tree for its prediction once to predict and once more to learn, for the tree's weight
and its drift detector: a sixth of the whole cost. When the event to be learned is the one that was predicted last, and nothing
was learned in between, the second answer is the first. The trees, their order and every number stay river's own.
"""

from __future__ import annotations

import copy
from typing import Any

from river import base, forest


class _Asked:
    """One tree, asked about one event: it answers once, and the same again."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.answer: Any = None

    def learn_one(self, x: dict[Any, Any], y: Any, **kwargs: Any) -> None:
        self.tree.learn_one(x=x, y=y, **kwargs)


class _Classifier(_Asked, base.Classifier):
    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> Any:
        if self.answer is None:
            self.answer = self.tree.predict_proba_one(x)
        return self.answer


class _Regressor(_Asked, base.Regressor):
    def predict_one(self, x: dict[Any, Any], **kwargs: Any) -> Any:
        if self.answer is None:
            self.answer = self.tree.predict_one(x)
        return self.answer


class Recalling:
    """The short way through `forest`, which stays the owner of its trees and of all else; nothing here is worth a pickle."""

    __slots__ = ("_asked", "_forest", "_kind", "_last")

    def __init__(self, forest: Any) -> None:
        self._forest = forest
        self._kind = _Classifier if isinstance(forest, base.Classifier) else _Regressor
        # Predictions run on a copy whose list of trees is our own: the forest itself is changed by learning alone.
        self._asked = copy.copy(forest)
        self._last: tuple[Any, list[Any]] | None = None

    def _ask(self, x: Any) -> Any:
        trees = self._forest.data
        if not trees:
            return self._forest
        kind = self._kind
        self._asked.data = asked = [kind(tree) for tree in trees]
        self._last = x, asked
        return self._asked

    def predict_one(self, x: Any) -> Any:
        return self._ask(x).predict_one(x)

    def predict_proba_one(self, x: Any) -> Any:
        return self._ask(x).predict_proba_one(x)

    def learn_one(self, x: Any, y: Any) -> None:
        forest, last, self._last = self._forest, self._last, None
        if last is None or (last[0] is not x and last[0] != x):
            forest.learn_one(x=x, y=y)
            return
        kind = self._kind
        forest.data = last[1]
        try:
            forest.learn_one(x=x, y=y)
        finally:  # a tree that river has replaced meanwhile is a tree again
            forest.data = [tree.tree if type(tree) is kind else tree for tree in forest.data]


def recall(estimator: Any) -> Any:
    """A forest of river's own with its memory; anything else as it is."""
    return Recalling(estimator) if type(estimator) in (forest.ARFClassifier, forest.ARFRegressor) else estimator
