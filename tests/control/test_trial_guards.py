"""Guardrails and slices through control: decided, recorded, merged over shards, kept over restarts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.control import fold
from streamlearn.control.state import Blocks, Phase

TRIAL = {"min_events": 100, "horizon_events": 2000, "watch_events": 400, "tolerance": 0.01}
BRIER = {"guardrails": [{"metric": "brier", "absolute": 0.05}]}
ROW = {"metric": "brier", "direction": "lower", "absolute": 0.05, "relative": 0.0}


def carry(learner: Any, worse: float) -> None:
    """The challenger's Brier score is 0.2 + `worse`, the champion's 0.2."""
    learner.sums = {"metrics": {"brier": [10, 2.0, 2.0 + 10 * worse]}}


def test_the_table_is_part_of_the_decision_and_of_what_people_see(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(trial={**TRIAL, **BRIER, "slices": ["carrier"]})
    carry(stage.learner, 0.0)
    stage.learner.drift()
    started = stage.until("trial_started")
    assert started.numbers["guardrails"] == [ROW]
    assert started.numbers["slices"] == ["carrier"]
    won = stage.until("trial_won")
    [row] = won.numbers["guardrails"]
    assert row["all"] == pytest.approx([0.2, 0.2])
    assert row["broken"] is False
    assert won.numbers["slices"] == {"count": 0, "worse": 0, "rows": []}


def test_a_guardrail_broken_to_the_horizon_loses_the_trial_with_its_numbers(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(trial={**TRIAL, **BRIER})
    carry(stage.learner, 0.1)
    stage.learner.drift()
    lost = stage.until("trial_lost")
    assert "guardrail brier 0.2 → 0.3, 0.1 worse where 0.05 is allowed" in lost.why
    assert lost.numbers["peak"] >= lost.numbers["threshold"]
    assert lost.numbers["events"] >= 2000
    assert stage.kinds().count("promoted") == 0


def test_a_guardrail_that_holds_again_lets_the_promotion_pass(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(trial={**TRIAL, **BRIER, "horizon_events": 20_000})
    carry(stage.learner, 0.1)
    stage.learner.drift()
    stage.until("trial_started")
    for _ in range(50):
        stage.turn()
    assert "trial_won" not in stage.kinds()
    assert stage.view("case", "m-1")["trial"]["guardrails"][0]["broken"] is True
    stage.kill()
    carry(stage.learner, -0.1)
    won = stage.until("trial_won")
    assert won.numbers["guardrails"][0]["recent"] == pytest.approx([0.2, 0.1])


def test_a_trial_without_guardrails_in_an_older_log_is_taken_as_it_was(stage: Any) -> None:
    stage.learner.drift()
    started = stage.until("trial_started")
    before = stage.state()
    assert before.case.trial.guardrails == []
    assert before.case.trial.slices is None
    del started.numbers["guardrails"], started.numbers["slices"]
    before.phase = Phase.FITTED
    assert fold.apply(before, before.case.trial_seq, started)
    assert before.case.trial.guardrails == []


@pytest.mark.parametrize("shards", [1, 3])
def test_a_slice_that_is_worse_holds_a_promotion_up_over_all_shards(make_stage: Callable[..., Any], shards: int) -> None:
    stage = make_stage(shards=shards, trial={**TRIAL, "slices": ["carrier"], "horizon_events": 6000})
    for learner in stage.learners:
        learner.sums = {"slices": {"carrier": {"UA": [7, 4.0, 0.0], "DL": [3, 0.5, 2.0]}}}
    stage.learners[0].drift()
    lost = stage.until("trial_lost", turns=400)
    assert "it is worse in 1 of 2 slices: carrier = DL by 0.5000" in lost.why
    rows = json.loads(json.dumps(lost.numbers["slices"]["rows"]))
    assert [(row["value"], row["worse"]) for row in rows] == [("DL", True), ("UA", False)]
    assert rows[0]["n"] % (3 * shards) == 0


def test_a_guardrail_that_breaks_on_the_canary_ends_it(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(trial={**TRIAL, **BRIER})
    carry(stage.learner, 0.0)
    stage.learner.drift()
    stage.until("canary_started")
    carry(stage.learner, 0.3)
    lost = stage.until("trial_lost")
    assert "at step 1 of the canary, guardrail brier 0.2 → " in lost.why
    assert lost.numbers["guardrails"][0]["recent"] == pytest.approx([0.2, 0.5])


REPORTS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=60)


@settings(max_examples=60)
@given(REPORTS)
def test_blocks_of_shards_at_unequal_speeds_merge_by_number(reports: list[tuple[int, int]]) -> None:
    """Each shard tells its blocks in order, at its own pace; whatever the pace, block by block the sums of all shards come."""
    blocks, told, merged = Blocks(3), {0: [], 1: [], 2: []}, []  # type: ignore[var-annotated]
    for shard, n in reports:
        sums = {("slice", "hour", str(n % 2)): (n, 1.0, 0.0), ("metric", "brier"): (n, n / 2, n / 4)}
        merged += blocks.add(len(told[shard]), shard, n, 1.0, 0.5, sums)
        told[shard].append((n, sums))
    assert len(merged) == min(map(len, told.values()))
    for number, (n, champion, challenger, sums) in enumerate(merged):
        parts = [told[shard][number] for shard in range(3)]
        assert (n, champion, challenger) == (sum(part[0] for part in parts), 3.0, 1.5)
        for key in {key for _, part in parts for key in part}:
            rows = [part[key] for _, part in parts if key in part]
            assert sums[key] == tuple(sum(column) for column in zip(*rows, strict=True))
