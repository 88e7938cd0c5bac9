"""One candidate scored on a window: prequential losses, both ways of serving a batch estimator, parts, samples, failures."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config import ModelSettings
from streamlearn.errors import RetrainError
from streamlearn.events import Limits
from streamlearn.learning.model import Model
from streamlearn.log import Entry
from streamlearn.retrain import scoring
from streamlearn.retrain.scoring import Scored, ScoreSpec, part_of, score
from streamlearn.testing import FakeClock, MemoryLog

BATCH = "sklearn.tree:DecisionTreeClassifier"


def fill(count: int, turn: int = 10**9, regression: bool = False) -> tuple[MemoryLog, list[tuple[dict[str, Any], Any]]]:
    """Events whose label is the sign of `a`, or its opposite from `turn` on; or 3 a."""
    log, draw, pairs = MemoryLog(clock=FakeClock()), random.Random(5), []
    log.create({"s": 1})
    for number in range(count):
        x = {"a": draw.uniform(-1, 1), "b": draw.uniform(-1, 1)}
        y: Any = 3 * x["a"] if regression else (x["a"] > 0) ^ (number >= turn)
        pairs.append((x, y))
        event = {"stream": "s", "id": f"e{number}", "x": x, "y": y}
        log.append("s", [Entry(b"k", msgspec.json.encode(event), partition=0)]).result()
    return log, pairs


def spec(count: int, pipeline: str = "logistic", part: float = 1.0, **changes: Any) -> ScoreSpec:
    table = {"stream": "s", "task": "binary", "pipeline": pipeline, "retrain": {"min_events": 50}} | changes.pop("model", {})
    settings = ModelSettings.model_validate(table).model_dump(mode="json")
    return msgspec.structs.replace(ScoreSpec("m", "s", 0, 0, count, [], settings, {}, {}, part), **changes)


def scored(log: MemoryLog, one: ScoreSpec) -> tuple[Scored, np.ndarray[Any, Any]]:
    told = msgspec.msgpack.decode(score(one, log.reopen, lambda done, total: None), type=Scored)
    return told, np.frombuffer(told.losses)


def test_it_learns_the_training_part_and_then_predicts_before_it_learns() -> None:
    log, pairs = fill(500)
    told, losses = scored(log, spec(500))
    model = Model(ModelSettings(stream="s", task="binary", pipeline="logistic"), Limits())
    for x, y in pairs[:400]:
        model.learn(x, y)
    expected = []
    for x, y in pairs[400:]:
        expected.append(float(model.predict(x)[0] != y))
        model.learn(x, y)
    assert losses.tolist() == expected
    assert (told.fitted, told.training, told.kept, told.labelled, told.residual) == (400, 400, 500, 500, b"")
    assert told.size > 100


def test_a_smaller_part_is_the_newest_one_and_is_scored_on_the_same_events() -> None:
    log, _ = fill(1000, turn=700)
    (_, whole), (told, newest) = scored(log, spec(1000, "naive_bayes")), scored(log, spec(1000, "naive_bayes", part=0.1))
    assert (told.fitted, len(newest)) == (80, len(whole))
    assert newest.mean() < whole.mean() - 0.2, "the newest events are those after the turn"


def test_a_batch_estimator_is_scored_frozen_and_under_an_online_model() -> None:
    log, _ = fill(1500, turn=1200)
    told, frozen = scored(log, spec(1500, BATCH))
    residual = np.frombuffer(told.residual)
    assert frozen.mean() > 0.9
    assert residual.mean() < frozen.mean() - 0.2
    again, losses = scored(log, spec(1500, BATCH))
    assert (losses.tobytes(), again.residual) == (frozen.tobytes(), told.residual)


def test_a_number_is_scored_on_the_scale_of_the_training_labels() -> None:
    log, _ = fill(600, regression=True)
    model = {"task": "regression", "pipeline": "linear"}
    _, online = scored(log, spec(600, model=model))
    assert 0.0 < online.mean() < 0.1
    told, frozen = scored(log, spec(600, model={**model, "pipeline": "sklearn.linear_model:LinearRegression"}))
    assert frozen.max() < 1e-9
    assert np.frombuffer(told.residual).max() < 1e-9


def test_of_a_large_window_an_even_sample_and_it_says_so() -> None:
    log, _ = fill(600)
    retrain = {"min_events": 50, "strategy": {"max_events": 100}}
    told, losses = scored(log, spec(600, model={"retrain": retrain}))
    assert told.labelled == 600
    assert 50 <= told.kept <= 100
    assert len(losses) == told.kept - told.training


def test_what_a_fit_needs_is_counted_before_the_sample() -> None:
    log, _ = fill(200)
    told, _ = scored(log, spec(200, model={"retrain": {"min_events": 100, "strategy": {"max_events": 60}}}))
    assert told.labelled == 200
    assert told.fitted == told.training < 60


def test_ranges_that_are_passed_over_are_not_read() -> None:
    log, _ = fill(300)
    assert scored(log, spec(300, skip=[(0, 100)]))[0].labelled == 200


def test_the_window_is_read_once_for_candidates_of_the_same_search(monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = fill(300)
    reads, real = [], scoring._read
    monkeypatch.setattr(scoring, "_read", lambda *given: reads.append(1) or real(*given))
    monkeypatch.setattr(scoring, "_last", scoring._Last())
    for one in (spec(300), spec(300, "naive_bayes", part=0.5), spec(300, model={"seed": 3})):
        scored(log, one)
    assert len(reads) == 1
    scored(log, spec(299))
    scored(fill(300)[0], spec(300))
    assert len(reads) == 3
    scoring._last._let_go()
    assert scoring._last.get(b"") is None


@pytest.mark.parametrize(
    ("one", "reason", "words"),
    [
        (spec(30), "empty", "30 labelled events in offsets 0 to 30"),
        (spec(200, "no_such"), "failed", "there is no recipe"),
        (spec(200, limits={"bogus": 1}), "failed", "bogus"),
        (spec(200, BATCH, model={"labels": ["x", "y"]}), "empty", "0 labelled events"),
    ],
)
def test_what_cannot_be_scored_says_why(one: ScoreSpec, reason: str, words: str) -> None:
    log, _ = fill(200)
    with pytest.raises(RetrainError, match=words) as caught:
        score(one, log.reopen, lambda done, total: None)
    assert caught.value.reason == reason


@given(st.integers(1, 10_000), st.floats(0.001, 1.0), st.integers(1, 500))
def test_a_part_holds_at_least_what_a_fit_needs_and_at_most_what_there_is(training: int, part: float, least: int) -> None:
    size = part_of(training, part, least)
    assert min(training, least) <= size <= training
    assert size == min(training, least) or size - 1 < part * training <= size
