"""What trials ask for beside the losses: each side's metrics and its losses by slice, in blocks, through the learner."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning_bench import Stage

from streamlearn.learning import checkpoint
from streamlearn.learning.breakdown import MAX_VALUES, Breakdown, slice_of
from streamlearn.learning.waiting import Entry


def entry(x: dict[str, Any] | None = None, **fields: Any) -> Entry:
    return Entry("a", x or {}, 0, 0.0, 0.0, **fields)


def summed(metric: str, truth: Any, sides: dict[str, Any]) -> Any:
    rows: dict[str, list[float]] = {}
    Breakdown([metric], []).add(rows, entry(**sides), truth)
    return rows.get(metric)


@pytest.mark.parametrize(
    ("metric", "y", "sides", "row"),
    [
        ("log_loss", True, {"p": 0.8, "shadow_p": 0.5}, [1, -math.log(0.8), -math.log(0.5)]),
        ("log_loss", False, {"p": 0.8, "shadow_p": 0.5}, [1, -math.log(0.2), -math.log(0.5)]),
        ("log_loss", True, {"p": 0.0, "shadow_p": 1.0}, [1, -math.log(1e-15), 0.0]),
        ("log_loss", "b", {"p": {"a": 0.75, "b": 0.25}, "shadow_p": {"a": 1.0}}, [1, -math.log(0.25), -math.log(1e-15)]),
        ("log_loss", "b", {"p": None, "shadow_p": {"a": 1.0}}, None),
        ("brier", True, {"p": 0.8, "shadow_p": 0.5}, [1, 0.04, 0.25]),
        ("positive_rate", False, {"y": True, "shadow_y": False}, [1, 1.0, 0.0]),
        ("mae", 3.0, {"y": 1.0, "shadow_y": 3.5}, [1, 2.0, 0.5]),
        ("rmse", 3.0, {"y": 1.0, "shadow_y": 3.5}, [1, 4.0, 0.25]),
        ("rmse", 1e300, {"y": -1e300, "shadow_y": 1e300}, [1, 1e300, 0.0]),
    ],
)
def test_what_is_summed(metric: str, y: Any, sides: dict[str, Any], row: list[float] | None) -> None:
    assert summed(metric, y, sides) == (None if row is None else pytest.approx(row))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "missing"), (True, "true"), (False, "false"), ("UA", "UA"), ("x" * 100, "x" * 64), (7, "7"), (-7, "-7"),
        (7.0, "7"), (99, "99"), (100, "100 to 200"), (1400, "1000 to 2000"), (2000, "2000 to 5000"), (0.3, "0.2 to 0.5"),
        (99.5, "50 to 100"),
        (-0.3, "-0.2 to -0.5"), (0.1, "0.1 to 0.2"), (1e300, "1e+300 to 2e+300"), (0.0, "0"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_the_slice_that_a_value_lies_in(value: Any, name: str) -> None:
    assert slice_of(value) == name


@given(st.floats(allow_nan=True))
def test_every_number_lies_in_a_slice(value: float) -> None:
    name = slice_of(value)
    low, _, high = name.partition(" to ")
    if high and abs(value) > 1e-300:
        assert abs(float(low)) * (1 - 1e-5) <= abs(value) <= abs(float(high)) * (1 + 1e-5)


def test_values_that_come_when_a_feature_has_very_many_are_one_slice() -> None:
    breakdown, slices = Breakdown([], ["id"]), {}
    for number in range(MAX_VALUES + 5):
        breakdown.add_slices(slices, entry({"id": f"v{number}"}), 1.0, 0.0)
    breakdown.add_slices(slices, entry({"id": "v3"}), 1.0, 1.0)
    assert len(slices["id"]) == MAX_VALUES + 1
    assert slices["id"]["other"] == [5, 5.0, 0.0]
    assert slices["id"]["v3"] == [2, 2.0, 1.0]


TRIAL = {
    "min_block": 4,
    "guardrails": [{"metric": "brier", "absolute": 0.1}, {"metric": "positive_rate", "relative": 0.5}],
    "slices": ["carrier", "gone"],
}


def on_trial(**trial: Any) -> Stage:
    """The champion says 0.9 to everything, the challenger 0.1."""
    stage = Stage(trial=trial, pipeline="learning_bench:always", params={"p": 0.9})
    stage.xy("a")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    learner = stage.learn()
    assert learner.shadow is not None
    learner.shadow.estimator.p = 0.1
    for n, y in enumerate([True, True, False, True, False, False, True]):
        stage.x(f"e{n}", carrier="UA" if n % 2 else "DL", gone=None)
        if n:
            stage.y(f"e{n - 1}", y)
    learner = stage.again(stage.learn(learner, until=stage.end - 3))
    stage.learn(learner)
    return stage


def test_blocks_carry_what_the_trial_asks_for_also_over_a_restart() -> None:
    [block] = [signal.data for signal in on_trial(**TRIAL).signals if signal.kind == "block"]
    assert (block["n"], block["champion"], block["challenger"]) == (4, 2.0, 2.0)
    assert block["metrics"]["brier"] == pytest.approx([4, 2 * 0.01 + 2 * 0.81, 2 * 0.81 + 2 * 0.01])
    assert block["metrics"]["positive_rate"] == [4, 4.0, 0.0]
    assert set(block["slices"]) == {"carrier", "gone"}
    assert block["slices"]["carrier"] == {"DL": [2, 0.0, 2.0], "UA": [2, 2.0, 0.0]}
    assert block["slices"]["gone"] == {"missing": [4, 2.0, 2.0]}


def test_a_trial_that_asks_for_nothing_carries_nothing_and_calls_nothing() -> None:
    stage = on_trial(min_block=4)
    [block] = [signal.data for signal in stage.signals if signal.kind == "block"]
    assert set(block) == {"trial", "block", "n", "champion", "challenger"}
    learner = stage.learn()
    assert learner.blocks is not None
    assert learner.blocks.breakdown is None
    assert learner._detail is None


def test_what_was_settled_in_a_trial_that_is_over_is_not_broken_down() -> None:
    stage = Stage(trial=TRIAL)
    stage.xy("a")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    stage.x("late", carrier="UA")
    stage.command("detach")
    stage.y("late")
    learner = stage.learn()
    assert learner.blocks is None
    assert learner._detail is None
    assert learner.n == 2


def test_a_replay_sums_the_same() -> None:
    stage = Stage(trial=TRIAL)
    for n in range(6):
        stage.xy(f"a{n}", n % 2 == 0)
    stage.command("try", version=2, trained_to={"0": stage.fit(2, start=3)})
    for n in range(10):
        stage.xy(f"b{n}", n % 3 == 0, carrier=f"c{n % 4}")
    assert checkpoint.digest(stage.replay()) == checkpoint.digest(stage.learn())


def test_sums_of_regression_are_in_the_labels_own_units() -> None:
    guardrails = [{"metric": "mae", "absolute": 1.0}, {"metric": "rmse", "absolute": 1.0}]
    stage = Stage("regression", "linear", loss_scale=10.0, trial={"min_block": 2, "guardrails": guardrails})
    stage.xy("a", 1.0)
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    learner = stage.learn()
    for n in range(2):
        stage.x(f"e{n}", number=1.0)
    stage.learn(learner)
    predicted = [learner.join.pending[f"e{n}"].y for n in range(2)]
    for n in range(2):
        stage.y(f"e{n}", 50.0)
    stage.learn(learner)
    [block] = [signal.data for signal in stage.signals if signal.kind == "block"]
    assert block["champion"] == 2.0  # the loss is cut at 1, the error is not
    assert block["metrics"]["mae"][1] == pytest.approx(sum(50.0 - y for y in predicted))
    assert block["metrics"]["rmse"][1] == pytest.approx(sum((50.0 - y) ** 2 for y in predicted))
