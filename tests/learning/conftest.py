"""Puts `support/` on the path: its module is named as an import path by the pipelines of these tests, also in subprocesses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent / "support"
sys.path.insert(0, str(SUPPORT))

from learning_bench import Stage  # noqa: E402  # it is there from the line above on


@pytest.fixture
def stage() -> Callable[..., Stage]:
    """Makes a stage: a log and settings of one model, to be filled and learned."""
    return Stage
