"""The canary's two tests: the served answers at the end of a step, and the swapped trial all the while."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.retrain.canary import ENOUGH, Arm, Canary, p_worse


def arm(values: list[float]) -> Arm:
    made = Arm()
    made.add([len(values), sum(values), sum(value * value for value in values)])
    return made


@given(st.lists(st.lists(st.floats(-1, 1), max_size=20), max_size=8))
def test_an_arm_told_in_pieces_is_the_arm_told_at_once(pieces: list[list[float]]) -> None:
    whole, parts = arm([value for piece in pieces for value in piece]), Arm()
    for piece in pieces:
        parts.add([len(piece), sum(piece), sum(value * value for value in piece)])
    assert parts.n == whole.n
    assert parts.mean == pytest.approx(whole.mean, abs=1e-9)
    assert parts.variance == pytest.approx(whole.variance, abs=1e-6)


@pytest.mark.parametrize("row", [[-1, 0.0, 0.0], [2, 2.5, 1.0], [2, 0.0, 2.5], [2, 0.0, -0.5], [2, 0.0], [2, math.nan, 1.0]])
def test_what_no_outcomes_can_be_is_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match=r"outcomes cannot have|not enough values"):
        Arm().add(row)


def test_too_few_outcomes_say_nothing() -> None:
    many, few = arm([0.0] * 500), arm([1.0] * (ENOUGH - 1))
    assert p_worse(many, few, 0.0) is None
    assert p_worse(few, many, 0.0) is None
    few.add([1, 1.0, 1.0])
    p = p_worse(many, few, 0.0)
    assert p is not None
    assert p < 1e-6


def test_the_statistic_is_welchs() -> None:
    """Against the numbers of a direct computation, but for the outcome that is added to each arm."""
    random.seed(3)
    one = [random.choice((-1.0, 0.0, 0.0, 1.0)) for _ in range(300)]
    two = [random.choice((-1.0, 0.0, 1.0, 1.0)) for _ in range(80)]

    def spread(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return (sum((value - mean) ** 2 for value in values) + 1) / len(values) ** 2

    z = (sum(two) / 80 - sum(one) / 300 - 0.01) / math.sqrt(spread(one) + spread(two))
    assert p_worse(arm(one), arm(two), 0.01) == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)), abs=1e-12)


def test_a_tolerance_makes_the_same_difference_weigh_less() -> None:
    champion, challenger = arm([0.0] * 300), arm([0.0] * 90 + [1.0] * 10)
    assert (p_worse(champion, challenger, 0.0) or 1) < (p_worse(champion, challenger, 0.05) or 1)


@pytest.mark.parametrize(("lift", "low", "high"), [(0.0, 0.0, 0.045), (0.25, 0.9, 1.0)])
def test_equal_versions_are_refused_within_the_level_and_bad_ones_nearly_always(lift: float, low: float, high: float) -> None:
    """1,000 steps of 375 against 125 served answers, a tenth of which differ from what the champion would have said."""
    rng = random.Random(11)
    refused = 0
    for _ in range(1000):
        champion = arm([rng.choice((-1.0, 1.0)) if rng.random() < 0.1 else 0.0 for _ in range(375)])
        challenger = arm(
            [1.0 if rng.random() < lift else rng.choice((-1.0, 1.0)) if rng.random() < 0.1 else 0.0 for _ in range(125)]
        )
        refused += (p_worse(champion, challenger, 0.0) or 1.0) <= 0.025
    assert low <= refused / 1000 <= high


def told(step: int, n: int, champion: list[float], challenger: list[float]) -> dict[str, object]:
    arms = {"champion": champion, "challenger": challenger}
    return {"step": step, **{name: [len(v), sum(v), sum(x * x for x in v)] for name, v in arms.items()}}


def test_steps_follow_each_other_and_each_begins_with_nothing() -> None:
    canary = Canary([0.05, 0.25], "m@2", 0.05, 0.01, 700)
    canary.next(40)
    assert (canary.step, canary.share, canary.last, canary.level) == (1, 0.05, False, 0.025)
    canary.add(0, 10, told(39, 10, [0.0], [1.0]))
    assert canary.events == canary.challenger.n == 0
    canary.add(0, 10, told(40, 10, [0.0], [1.0]))
    assert (canary.events, canary.champion.n, canary.challenger.n) == (10, 1, 1)
    canary.next(50)
    assert (canary.step, canary.share, canary.last) == (2, 0.25, True)
    assert canary.events == canary.challenger.n == 0
    assert canary.numbers()["guard"]["e"] == 1.0


def test_no_shard_is_passed_over() -> None:
    canary = Canary([0.05], "m@2", 0.05, 0.01, 0, shards=2)
    canary.next(1)
    canary.add(1, 500, told(1, 500, [0.0], [0.0]))
    assert canary.events == 0, "one shard says nothing of the other"
    canary.add(0, 40, told(1, 40, [0.0], [0.0]))
    canary.add(0, 10, told(1, 10, [0.0], [0.0]))
    assert canary.events == 100


def test_the_problem_names_what_is_wrong() -> None:
    canary = Canary([0.5], "m@2", 0.05, 0.01, 0)
    canary.next(1)
    assert canary.problem(-0.01) == ""
    assert "higher by 0.0200 on the same events" in canary.problem(-0.02)
    canary.add(0, 200, told(1, 200, [0.0] * 100, [1.0] * 30 + [0.0] * 70))
    assert "its served answers did worse by 0.3000 than the champion's" in canary.problem(0.0)


@settings(max_examples=30)
@given(st.integers(1, 5))
def test_the_budget_is_shared_over_the_steps(steps: int) -> None:
    canary = Canary([(i + 1) / 10 for i in range(steps)], "s", 0.05, 0.0, 0)
    assert canary.level * steps == pytest.approx(0.05)
