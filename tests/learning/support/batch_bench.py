"""Estimators that tests name by import path."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.tree import DecisionTreeClassifier

SOLVED = LogisticRegression(C=10.0)


def tree(depth: int, seed: int) -> Any:
    return DecisionTreeClassifier(max_depth=depth, random_state=seed)


def unsure() -> Any:
    return RidgeClassifier()
