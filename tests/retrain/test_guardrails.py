"""The tolerance table: what each direction calls worse, and how much of it is allowed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.retrain.guardrails import Guardrail, Watched


def watched(metric: str, direction: str, absolute: float, relative: float, *blocks: tuple[int, float, float]) -> Watched:
    found = Watched(Guardrail(metric, direction, absolute, relative))
    for block in blocks:
        found.add((block[0], 0.0, 0.0), {("metric", metric): block})
    return found


@pytest.mark.parametrize(
    ("direction", "challenger", "broken"),
    [
        ("lower", 0.45, False), ("lower", 0.5, False), ("lower", 0.52, True), ("higher", 0.29, True), ("higher", 0.52, False),
        ("both", 0.52, True), ("both", 0.36, False), ("both", 0.29, True),
    ],
)  # fmt: skip
def test_what_is_worse_depends_on_the_direction(direction: str, challenger: float, broken: bool) -> None:
    assert bool(watched("positive_rate", direction, 0.1, 0.0, (100, 40.0, 100 * challenger)).broken()) is broken


def test_the_larger_of_absolute_and_relative_is_allowed() -> None:
    assert watched("mae", "lower", 1.0, 0.1, (10, 500.0, 549.0)).broken() == ""  # 10 % of 50 is 5
    assert watched("mae", "lower", 1.0, 0.1, (10, 500.0, 551.0)).broken() != ""
    assert watched("mae", "lower", 1.0, 0.1, (10, 5.0, 14.9)).broken() == ""
    assert watched("mae", "lower", 1.0, 0.1, (10, 5.0, 15.1)).broken() == "mae 0.5 → 1.51, 1.01 worse where 1 is allowed"


def test_the_root_is_taken_of_the_mean_square() -> None:
    assert watched("rmse", "lower", 0.1, 0.0, (2, 8.0, 18.0)).values() == (2.0, 3.0)


def test_accuracy_comes_from_the_losses() -> None:
    found = Watched(Guardrail("accuracy", "higher", 0.1, 0.0))
    found.add((10, 2.0, 4.0), {})
    assert found.values() == pytest.approx((0.8, 0.6))
    assert found.broken() == "accuracy 0.8 → 0.6, 0.2 worse where 0.1 is allowed"


def test_a_stretch_begins_where_it_is_asked_to() -> None:
    found = watched("brier", "lower", 0.01, 0.0, (10, 1.0, 1.0), (10, 1.0, 4.0))
    assert found.values() == pytest.approx((0.1, 0.25))
    assert found.values(1) == pytest.approx((0.1, 0.4))
    assert found.values(2) is None
    assert found.broken(2) == "brier was not measured"
    numbers = json.loads(json.dumps(found.numbers(1)))
    assert numbers["all"] == pytest.approx([0.1, 0.25])
    assert numbers["recent"] == pytest.approx([0.1, 0.4])
    assert (numbers["metric"], numbers["direction"], numbers["broken"]) == ("brier", "lower", True)


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_blocks_may_be_put_together_as_one_likes(blocks: list[tuple[int, float, float]]) -> None:
    sums = [(n, n * one, n * other) for n, one, other in blocks]
    whole = tuple(sum(column) for column in zip(*sums, strict=True))
    apart, together = watched("log_loss", "lower", 0.1, 0.0, *sums), watched("log_loss", "lower", 0.1, 0.0, whole)  # type: ignore[arg-type]
    assert apart.values() == pytest.approx(together.values())


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 0.5), st.floats(0, 0.5))
def test_equal_sides_never_break_it_and_one_far_worse_always_does(
    champion: float, worse: float, absolute: float, relative: float
) -> None:
    assert watched("brier", "lower", absolute, relative, (10, 10 * champion, 10 * champion)).broken() == ""
    far = champion + absolute + relative * champion + 0.001 + worse
    assert watched("brier", "lower", absolute, relative, (10, 10 * champion, 10 * far)).broken() != ""
