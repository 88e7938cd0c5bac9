"""What a policy would have cost on a past, and the least that any could have."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrain_pasts import BEGAN, HOUR, past_of, pasts, simulated

from streamlearn.retrain.cara import CaraCT
from streamlearn.retrain.debt import Debt
from streamlearn.retrain.plain import Always, Labels, Never, Periodic
from streamlearn.retrain.policy import Choice, Confirmed, Past, Seen
from streamlearn.retrain.simulate import cheapest, oracle, replay

KAPPA = st.sampled_from([0.0, 1.0, 20.0, 200.0])


class Told:
    """Retrains after the batches that it was told, by the clock; and remembers what it was shown."""

    name, gated, evidence, sample = "told", False, False, 0

    def __init__(self, *batches: int, gated: bool = False) -> None:
        self.batches, self.gated = batches, gated
        self.shown: list[Seen] = []

    def decide(self, seen: Seen) -> Choice:
        self.shown.append(seen)
        return Choice(round((seen.now - BEGAN) / HOUR) in self.batches, 0.0, 0.0, "as told")

    def params(self) -> dict[str, Any]:
        return {}


def cost(past: Past, kappa: float, start: int, retrains: tuple[int, ...]) -> float:
    """The definition: each batch under the last model made before it."""
    total = kappa * len(retrains)
    for j in range(start + 1, len(past.n)):
        model = max([start, *(t for t in retrains if t < j)])
        total += float(past.n[j] * past.loss[model, j])
    return total


def test_a_model_serves_from_the_batch_after_its_retrain() -> None:
    loss = np.array([[0, 0.1, 0.2, 0.4, 0.5], [0, 0, 0.3, 0.3, 0.3], [0, 0, 0, 0.1, 0.2], [0, 0, 0, 0, 0.9], [0] * 5])
    done = replay(Told(2), past_of(loss, n=10), kappa=7)
    assert done.retrains == [2]
    assert done.losses.tolist() == pytest.approx([1.0, 2.0, 1.0, 2.0])
    assert done.cost == pytest.approx(13.0)
    assert [choice.retrain for choice in done.choices] == [False, True, False]  # after the last batch nobody is asked


def test_what_a_policy_is_shown() -> None:
    past = simulated(7, lambda _, __: 0.3)
    past.reference[3] = np.nan
    policy = Told(3)
    replay(policy, past, 20.0, start=1, seed=10)
    assert [len(seen.batches) for seen in policy.shown] == [1, 2, 1, 2]
    assert [seen.batches[-1] for seen in policy.shown] == [past.batch(i, j) for i, j in ((1, 2), (1, 3), (3, 4), (3, 5))]
    assert [seen.reference for seen in policy.shown] == [0.2, 0.2, None, None]
    assert [(seen.now - BEGAN) / HOUR for seen in policy.shown] == [2, 3, 4, 5]
    assert [(seen.since - BEGAN) / HOUR for seen in policy.shown] == [1, 1, 3, 3]
    assert [seen.seed for seen in policy.shown] == [12, 13, 14, 15]
    assert [seen.first for seen in policy.shown] == [True, True, False, False]
    assert {seen.kappa for seen in policy.shown} == {20.0}
    assert {seen.confirmed for seen in policy.shown} == {None}


def test_of_several_policies_any_one_retrains() -> None:
    """Each sees the batches since the last retrain, whoever wanted that; while a drift waits, the gated ones are asked."""
    past, drift = simulated(9, lambda _, __: 0.3), Confirmed(0.2, 0.3, 300)
    free, gated, last = Told(2), Told(5, gated=True), Told(2, 7)
    done = replay((free, gated, last), past, 20.0, gate=lambda i, j: drift if j >= 4 else None)
    assert done.retrains == [2, 5]
    assert [choice.retrain for choice in done.choices] == [False, True, False, False, True, False, False]
    assert [len(seen.batches) for seen in free.shown] == [1, 2, 1]
    assert {seen.confirmed for seen in (*free.shown, *last.shown)} == {None}
    assert [seen.confirmed for seen in gated.shown] == [None, None, drift, drift, drift, drift]
    assert [len(seen.batches) for seen in gated.shown] == [1, 1, 0, 1, 0, 1], "not asked where the first had decided"
    assert len(last.shown) == 2
    assert replay([free], past, 20.0).cost == replay(free, past, 20.0).cost


def test_a_drift_is_settled_when_all_that_answer_it_say_so() -> None:
    class Settles(Told):
        def decide(self, seen: Seen) -> Choice:
            over = seen.confirmed is not None and len(seen.batches) >= self.batches[0]
            return super().decide(seen)._replace(retrain=False, settled=over)

    past, drift = simulated(9, lambda _, __: 0.3), Confirmed(0.2, 0.3, 300)
    soon, late = Settles(1, gated=True), Settles(3, gated=True)
    replay((soon, late), past, 20.0, gate=lambda i, j: drift if j >= 2 else None)
    assert [seen.confirmed for seen in late.shown] == [None, drift, drift, drift, drift, None, None]
    assert [len(seen.batches) for seen in late.shown] == [1, 0, 1, 2, 3, 6, 7]


def test_a_gated_policy_is_shown_the_drift_and_what_came_after_it() -> None:
    past, drift, asked = simulated(9, lambda _, __: 0.3), Confirmed(0.2, 0.3, 300), []

    def gate(i: int, j: int) -> Confirmed | None:
        asked.append((i, j))
        return drift if i == 0 and j >= 3 else None

    policy = Told(5, gated=True)
    replay(policy, past, 20.0, gate=gate)
    assert asked == [(0, 1), (0, 2), (0, 3), (5, 6), (5, 7)]
    assert [seen.confirmed for seen in policy.shown] == [None, None, drift, drift, drift, None, None]
    assert [len(seen.batches) for seen in policy.shown] == [1, 2, 0, 1, 2, 1, 2]


def test_a_drift_that_is_settled_is_not_shown_again_but_the_next_one_is() -> None:
    small, large = Confirmed(0.2, 0.23, 500), Confirmed(0.2, 0.4, 500)
    past = simulated(9, lambda _, j: 0.1 if j < 6 else 0.4)
    done = replay(Debt(), past, 50.0, gate=lambda i, j: None if i else small if j < 6 else large)
    assert done.choices[0].total == pytest.approx(10.0)
    assert done.choices[1].settled
    assert [choice.why for choice in done.choices[2:5]] == ["no drift is confirmed"] * 3
    assert done.retrains == [6]


def test_without_a_gate_a_gated_policy_never_retrains() -> None:
    past = simulated(9, lambda _, __: 0.9)
    assert replay(Debt(), past, 1.0).retrains == []
    assert replay(Always(), past, 1.0, gate=lambda _, __: pytest.fail("not asked")).retrains == [1, 2, 3, 4, 5, 6, 7]


@given(pasts(), KAPPA, st.integers(0, 6))
def test_the_oracle_is_the_best_of_all_subsets(past: Past, kappa: float, start: int) -> None:
    start = min(start, len(past.n) - 1)
    times = range(start + 1, len(past.n) - 1)
    subsets = [subset for size in range(len(times) + 1) for subset in combinations(times, size)]
    best = oracle(past, kappa, start)
    assert best.cost == pytest.approx(min(cost(past, kappa, start, subset) for subset in subsets))
    assert cost(past, kappa, start, tuple(best.retrains)) == pytest.approx(best.cost)
    assert set(best.retrains) <= set(times)


POLICIES = st.sampled_from(
    [Never(), Always(), Periodic(every=2), Periodic(every=3, after=1), Debt(gate=False), CaraCT(), Labels(events=300), Debt()]
)


@given(pasts(most=10), KAPPA, POLICIES, st.integers(0, 9), st.integers(0, 3))
def test_no_policy_costs_less_than_the_oracle(past: Past, kappa: float, policy: Any, start: int, seed: int) -> None:
    start = min(start, len(past.n) - 1)
    done, again = (
        replay(policy, past, kappa, start, seed, gate=lambda i, _: Confirmed(float(past.reference[i]), 0.9, 200)) for _ in "ab"
    )
    assert done.cost >= oracle(past, kappa, start).cost - 1e-6
    assert done.cost == pytest.approx(cost(past, kappa, start, tuple(done.retrains)))
    assert (done.retrains, done.choices) == (again.retrains, again.choices)
    assert len(done.choices) == max(0, len(past.n) - start - 2)


def test_the_oracle_retrains_at_the_changes() -> None:
    past = past_of(np.array([[0.2 if i // 5 == (j - 1) // 5 else 0.5 for j in range(20)] for i in range(20)]))
    assert oracle(past, 20.0).retrains == [5, 10, 15]
    assert oracle(past, 1e9) == (pytest.approx(500 * (5 * 0.2 + 14 * 0.5)), [])


def test_a_past_of_one_batch_holds_nothing_to_decide() -> None:
    past = past_of(np.zeros((1, 1)))
    assert oracle(past, 20.0) == (0.0, [])
    done = replay(Always(), past, 20.0)
    assert (done.retrains, done.cost, len(done.losses), done.choices) == ([], 0.0, 0, [])


def test_the_cheapest_is_the_first_of_equals() -> None:
    past = past_of(np.full((6, 6), 0.2))
    rare = Periodic(every=50)
    assert cheapest([Always(), rare, Never()], past, 10.0) is rare
