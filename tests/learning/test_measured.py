"""What a shard measures of its own work."""

from __future__ import annotations

import pytest
from learning_bench import NOW, Stage

from streamlearn.events import Kind
from streamlearn.learning.measured import Measured
from streamlearn.log import Record


def record(ts: float) -> Record:
    return Record(0, ts, Kind.EVENT, b"", b"")


def test_a_batch_is_counted_by_its_records() -> None:
    measured = Measured(Stage().new())
    measured.batch([record(NOW - 4), record(NOW - 0.03)], 0.004, NOW, past=False)
    learned, fresh = measured.learn_s, measured.fresh_s
    assert (sum(learned.counts), learned.sum) == (2, pytest.approx(0.004))
    assert learned.counts[learned.bounds.index(0.005)] == 2  # of 2 ms each
    assert fresh.counts[fresh.bounds.index(5.0)] == 1
    assert fresh.counts[fresh.bounds.index(0.05)] == 1
    assert measured.lag_s == pytest.approx(0.03)


def test_what_was_there_when_a_model_began_is_not_stale() -> None:
    measured = Measured(Stage().new())
    measured.batch([record(NOW - 1e6)], 0.001, NOW, past=True)
    assert sum(measured.fresh_s.counts) == 0
    assert sum(measured.learn_s.counts) == 1


def test_counts_begin_at_none_and_only_grow() -> None:
    stage = Stage()
    stage.xy("a")
    stage.put(b"junk")
    learner = stage.learn()
    assert learner.counters == {"malformed": 1}
    measured = Measured(learner)
    assert measured.counted() == {"learned": 0, "alarms": 0, "malformed": 0}
    learner.n += 5
    learner.counters["malformed"] += 2
    assert measured.counted() == {"learned": 5, "alarms": 0, "malformed": 2}
    learner.counters["malformed"] = 0  # a repair went back to what was before a hold
    assert measured.counted()["malformed"] == 2
    learner.counters["malformed"] = 1
    assert measured.counted()["malformed"] == 3
