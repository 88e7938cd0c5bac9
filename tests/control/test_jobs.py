"""Fits of several shards after one search: on which shard it looks, what each shard is fitted with, cancels and restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from streamlearn.errors import RetrainError
from streamlearn.retrain.scoring import Scored, ScoreSpec

SEARCH = {
    "strategy": {"how": "search"}, "attempts": 2, "backoff_s": 5.0, "max_gap_records": 2000,
    "search": {"candidates": [{"pipeline": "naive_bayes", "params": {"alpha": 2.0}}], "rungs": 1},
}  # fmt: skip


class Score:
    """A candidate that is scored after two looks: naive Bayes loses less."""

    def __init__(self, spec: ScoreSpec) -> None:
        self.spec, self.looks, self.cancelled = spec, 2, False

    def done(self) -> bool:
        self.looks -= 1
        return self.looks <= 0

    def cancel(self) -> None:
        self.cancelled = True

    def result(self) -> bytes:
        losses = np.full(200, 0.1 if self.spec.settings["pipeline"] == "naive_bayes" else 0.4).tobytes()
        return msgspec.msgpack.encode(Scored(losses, b"", 1.0, 100, 800, 800, 1000, 1000))


@pytest.fixture
def searching(make_stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stage with two shards whose candidates are scored at once; `stage.scores` are those asked for."""
    stage, scores = make_stage(shards=2, retrain=SEARCH), []

    def score(jobs: Any, spec: ScoreSpec, time_limit_s: float, memory_limit_mb: float) -> Score:
        scores.append(Score(spec))
        return scores[-1]

    monkeypatch.setattr(type(stage.jobs), "score", score, raising=False)
    stage.scores = scores
    return stage


def drift(stage: Any, shard: int) -> None:
    stage.learners[shard].drift()
    stage.until("retrain_started")


def test_a_drift_is_searched_on_its_shard_and_every_shard_is_fitted_with_what_was_found(searching: Any) -> None:
    drift(searching, 1)
    started = searching.decisions()[-1].numbers
    began = started["fit"]["settings"]["pipeline"]
    assert started["strategy"] == {"how": "search", "window": "change"}
    retrained = searching.until("retrained")
    assert began == "logistic"
    assert {score.spec.partition for score in searching.scores} == {1}
    assert [score.spec.settings["pipeline"] for score in searching.scores] == ["logistic", "naive_bayes"]
    made = [(job.spec.shard, job.spec.settings["pipeline"], job.spec.settings["params"]) for job in searching.jobs.all]
    assert made == [(0, "naive_bayes", {"alpha": 2.0}), (1, "naive_bayes", {"alpha": 2.0})]
    assert retrained.numbers["search"]["report"]["shard"] == 1
    specs = searching.until("trial_started").numbers["command"]["specs"]
    assert {spec["settings"]["pipeline"] for spec in specs.values()} == {"naive_bayes"}
    assert searching.view("case", "m-1")["search"]["winner"] == "naive_bayes(alpha=2.0)"


def test_asked_by_hand_it_looks_at_the_longest_window(searching: Any) -> None:
    searching.learners[1].post(500)
    searching.request("retrain")
    searching.until("retrained")
    assert {score.spec.partition for score in searching.scores} == {1}


def test_while_it_searches_the_progress_is_that_of_the_search(searching: Any) -> None:
    drift(searching, 0)
    searching.turn(2.0)
    window = searching.scores[0].spec.until - searching.scores[0].spec.start
    assert searching.view("case", "m-1")["progress"]["total"] == 2 * window


def test_a_cancelled_case_cancels_its_search(searching: Any) -> None:
    drift(searching, 0)
    searching.control.tick()
    for score in searching.scores:
        score.looks = 10**6
    searching.request("cancel")
    for _ in range(3):
        searching.turn()
    assert searching.state().case is None
    assert searching.scores
    assert all(score.cancelled for score in searching.scores)
    assert searching.jobs.all == []


def test_after_a_restart_the_search_begins_again(searching: Any) -> None:
    drift(searching, 0)
    searching.control.tick()
    before = len(searching.scores)
    searching.kill()
    searching.until("retrained")
    assert len(searching.scores) == before + 2
    recipe = {"pipeline": "naive_bayes", "params": {"alpha": 2.0}, "seed": 42}
    asked = {"pipeline": "logistic", "params": {}, "seed": 42}
    for _ in range(2):
        assert searching.state().recipes[2] == {**recipe, "asked": asked}
        searching.kill()
        searching.control.tick()


def test_a_fit_that_fails_after_the_search_fails_the_attempt(searching: Any) -> None:
    searching.jobs.errors.append(RetrainError("memory", "too large"))
    drift(searching, 0)
    assert searching.until("retrain_failed").numbers["reason"] == "memory"
    assert searching.until("retrained").numbers["search"]["recipe"]["pipeline"] == "naive_bayes"
