"""A trial as it grew: bounded, in order, and the same whoever folds it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.control.growth import MOST, Growth
from streamlearn.retrain.trial import Trial

NAMES = ["events", "e", "mean", "low", "high"]


def grown(blocks: int) -> tuple[Growth, Trial]:
    growth, trial = Growth(), Trial(0.05, 0.0, 1)
    for number in range(blocks):
        trial.add_block(10, 5.0, 4.0 if number % 3 else 5.0)
        growth.take(trial)
    return growth, trial


def test_before_the_first_block_there_is_nothing() -> None:
    assert Growth().doc() is None


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 1200))
def test_it_stays_small_begins_with_the_first_block_and_ends_where_the_trial_stands(blocks: int) -> None:
    growth, trial = grown(blocks)
    doc = growth.doc()
    assert doc is not None
    assert list(doc) == NAMES
    assert len({len(column) for column in doc.values()}) == 1
    assert min(blocks, MOST // 2) <= len(doc["events"]) <= MOST + 1
    assert doc["events"][0] == 10
    assert doc["events"][-1] == trial.events
    steps = {after - before for before, after in pairwise(doc["events"][:-1])}
    assert len(steps) <= 1
    low, high = trial.interval()
    for name, value in {"e": trial.e, "mean": trial.mean_difference, "low": low, "high": high}.items():
        assert abs(doc[name][-1] - value) <= 1e-5 * max(1.0, abs(value)), name


def test_the_curve_is_kept_with_the_case_when_the_trial_is_over(stage: Any) -> None:
    stage.learner.drift()
    stage.until("trial_started")
    lengths = []
    while "trial_won" not in stage.kinds():
        stage.turn()
        growth = stage.view("case", "m-1")["growth"]
        lengths.append(0 if growth is None else len(growth["events"]))
    assert lengths == sorted(lengths)
    assert lengths[-1] > 3
    won = next(one for one in stage.decisions() if one.kind == "trial_won")
    stage.until("recovered")
    stage.settle()
    case = stage.view("case", "m-1")
    assert not case["open"]
    assert case["growth"]["events"][-1] == won.numbers["events"]
    assert abs(case["growth"]["e"][-1] / won.numbers["e"] - 1) < 1e-5
    columns = [case["growth"][name] for name in ("low", "mean", "high")]
    assert all(low <= mean <= high for low, mean, high in zip(*columns, strict=True))


def test_control_that_dies_in_the_middle_of_a_trial_goes_on_with_the_same_curve(make_stage: Callable[..., Any]) -> None:
    def told(deaths: bool) -> list[Any]:
        stage = make_stage()
        stage.learner.drift()
        stage.until("trial_started")
        seen = []
        for turn in range(60):
            stage.turn()
            if deaths and turn in (2, 5):
                before = stage.view("case", "m-1")
                assert before["growth"]
                if turn == 5:
                    stage.store.empty()
                stage.kill()
                stage.control.tick()
                after = stage.view("case", "m-1")
                assert len(after["growth"]["events"]) >= len(before["growth"]["events"])
                shared = slice(0, len(before["growth"]["events"]))
                assert {name: column[shared] for name, column in after["growth"].items()} == before["growth"]
            seen.append(stage.view("case", "m-1")["growth"])
        return seen

    assert told(deaths=True)[-1] == told(deaths=False)[-1]


def test_a_second_trial_of_a_case_begins_a_curve_of_its_own(stage: Any) -> None:
    stage.learner.refuse["try"] = [("gap", "it is too far behind")]
    stage.learner.drift()
    stage.until("retrain_failed")
    assert stage.view("case", "m-1")["growth"] is None
    stage.until("trial_won")
    assert stage.view("case", "m-1")["growth"]["events"][0] == 10
