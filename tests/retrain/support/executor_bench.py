"""How tests of executors wait, and what they ask of a call that ended."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from streamlearn.errors import RetrainError
from streamlearn.retrain.executor import Call


def wait_for(condition: Callable[[], bool], seconds: float) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "not in time"
        time.sleep(0.02)
    return time.monotonic() - start


def reason_of(job: Call) -> str:
    with pytest.raises(RetrainError) as caught:
        job.result()
    return caught.value.reason
