"""The confirmation: levels, tests and gates against their definitions, and their error rates by seeded simulation."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import signal, stats

from streamlearn.drift.confirm import (
    WHOLE,
    Look,
    clopper_pearson,
    confirm,
    fisher,
    gate,
    level,
    look_of,
    look_sizes,
    permutation,
    recovered,
    spent,
)

ALPHA = 0.05


def counts(errors: float, n: int) -> dict[str, Any]:
    return {"n": n, "sum": float(errors)}


def blocks(losses: np.ndarray, length: int) -> dict[str, Any]:
    whole = len(losses) // length * length
    means = losses[len(losses) - whole :].reshape(-1, length).mean(axis=1)
    return {"n": len(losses), "sum": float(losses.sum()), "blocks": means.tolist()}


def correlated(rng: np.random.Generator, n: int, mean: float, rho: float = 0.7) -> np.ndarray:
    """Losses in [0, 1] with this mean; the normal process behind them has first-order correlation `rho`."""
    values = signal.lfilter([math.sqrt(1 - rho * rho)], [1, -rho], rng.normal(size=n + 100))[100:]
    return stats.beta.ppf(stats.norm.cdf(values), 2, 2 / mean - 2)


def test_levels_sum_to_the_budget() -> None:
    assert level(ALPHA, 1) == pytest.approx(0.0303964, rel=1e-5)
    assert sum(level(ALPHA, k) for k in range(1, 100_000)) == pytest.approx(ALPHA, rel=1e-4)
    with pytest.raises(ValueError, match="counted from 1"):
        level(ALPHA, 0)


def test_looks_are_parts_of_the_window_that_hold_enough_and_all_of_it() -> None:
    assert look_sizes(500) == (100, 200, 500)
    assert look_sizes(100) == (40, 100)
    assert look_sizes(30) == (30,)
    assert look_of({"look": [100, 200, 500]}) == Look(0.2, 0.4)
    assert look_of({}) == WHOLE, "as windows were told before there were early looks"
    assert [look_of({"look": look}).last for look in ([100, 200, 500], [200, 500, 500])] == [False, True]


@pytest.mark.parametrize("budget", [0.05, level(ALPHA, 1), level(ALPHA, 20)])
def test_what_is_spent_is_as_published_and_is_the_budget_at_the_end(budget: float) -> None:
    for share in (0.2, 0.4, 0.9):
        z = stats.norm.isf(budget / 2)
        assert spent(budget, share) == pytest.approx(2 * stats.norm.sf(z / math.sqrt(share)), rel=1e-6)
    assert spent(budget, 1.0) == budget
    assert spent(0.05, 0.5) == pytest.approx(0.00557, abs=1e-5)  # Lan & DeMets 1983, for two looks at 0.05, two-sided 0.0056
    with pytest.raises(ValueError, match="share"):
        spent(budget, 0.0)


def test_the_levels_of_all_looks_sum_to_that_of_the_case() -> None:
    ref, fresh = counts(200, 1000), counts(60, 100)
    looks = [Look(0.0, 0.2), Look(0.2, 0.4), Look(0.4, 1.0)]
    levels = [confirm("binary", ref, fresh, alpha=ALPHA, harm=0.0, k=3, seed=1, look=look).level for look in looks]
    assert sum(levels) == pytest.approx(level(ALPHA, 3))
    assert levels[0] < levels[1] < levels[2]


def test_an_early_look_confirms_what_is_beyond_doubt_and_nothing_less() -> None:
    ref, early = counts(200, 1000), Look(0.0, 0.2)
    sure = confirm("binary", ref, counts(60, 100), alpha=ALPHA, harm=0.0, k=1, seed=1, look=early)
    assert sure.confirmed
    likely = counts(35, 100)
    assert confirm("binary", ref, likely, alpha=ALPHA, harm=0.0, k=1, seed=1).confirmed
    unsure = confirm("binary", ref, likely, alpha=ALPHA, harm=0.0, k=1, seed=1, look=early)
    assert not unsure.confirmed
    assert unsure.p > unsure.level


def test_no_permutation_can_be_as_rare_as_an_early_look_asks_for() -> None:
    rng = np.random.default_rng(3)
    ref, fresh = blocks(rng.random(1000) * 0.2, 1), blocks(0.5 + rng.random(200) * 0.5, 1)
    assert confirm("bounded", ref, fresh, alpha=ALPHA, harm=0.0, k=1, seed=1, look=Look(0.2, 0.4)).confirmed
    early = confirm("bounded", ref, fresh, alpha=ALPHA, harm=0.0, k=1, seed=1, look=Look(0.0, 0.2))
    assert (early.confirmed, early.p) == (False, 1.0)


def test_looking_early_costs_no_error_budget_and_finds_large_changes_soon() -> None:
    """20 % → 20 % over 2,000 cases: falsely confirmed at most as often as the level says; → 50 %: mostly at the first look."""
    rng, looks = np.random.default_rng(21), look_sizes(500)
    ends: dict[float, list[int]] = {0.2: [], 0.5: []}
    for after, found in ends.items():
        for _ in range(2000 if after == 0.2 else 100):
            ref, losses, before = counts(rng.binomial(5000, 0.2), 5000), rng.random(500) < after, 0
            for size in looks:
                look, before = Look(before / 500, size / 500), size
                fresh = counts(losses[:size].sum(), size)
                if confirm("binary", ref, fresh, alpha=ALPHA, harm=0.0, k=1, seed=1, look=look).confirmed:
                    found.append(size)
                    break
    assert len(ends[0.2]) <= 2000 * level(ALPHA, 1) + 2 * math.sqrt(2000 * level(ALPHA, 1))
    assert np.mean(np.array(ends[0.5]) == looks[0]) > 0.8
    assert max(ends[0.5]) <= looks[1]


@pytest.mark.slow
def test_looking_early_at_bounded_losses_costs_no_error_budget_either() -> None:
    """The test alone, on means of 20: 0.2 → 0.2 over 200 cases, and 0.2 → 0.4: found at the second look, the first that can."""
    rng, looks = np.random.default_rng(22), look_sizes(500)
    ends: dict[float, list[int]] = {0.2: [], 0.4: []}
    for after, found in ends.items():
        for _ in range(200 if after == 0.2 else 20):
            ref, losses, before = blocks(rng.beta(2, 8, 1000), 20), rng.beta(2, 2 / after - 2, 500), 0
            for size in looks:
                look, before = Look(before / 500, size / 500), size
                verdict = confirm("bounded", ref, blocks(losses[:size], 20), alpha=ALPHA, harm=0.0, k=1, seed=1, look=look)
                if verdict.p <= verdict.level:
                    found.append(size)
                    break
    assert 0 < len(ends[0.2]) <= 200 * level(ALPHA, 1) + 2 * math.sqrt(200 * level(ALPHA, 1))
    assert ends[0.4] == [looks[1]] * 20


def test_fisher_is_the_hypergeometric_tail() -> None:
    ref, fresh = counts(20, 100), counts(16, 50)
    assert fisher(ref, fresh) == pytest.approx(stats.hypergeom.sf(15, 150, 36, 50))
    assert fisher(counts(0, 100), counts(0, 50)) == 1.0


def test_clopper_pearson_inverts_the_binomial_tails() -> None:
    lower, upper = clopper_pearson(30, 100, ALPHA)
    assert stats.binom.sf(29, 100, lower) == pytest.approx(ALPHA)
    assert stats.binom.cdf(30, 100, upper) == pytest.approx(ALPHA)
    assert clopper_pearson(0, 10, ALPHA)[0] == 0.0
    assert clopper_pearson(10, 10, ALPHA)[1] == 1.0


def test_permutation_agrees_with_every_permutation() -> None:
    ref, fresh = [0.1, 0.2, 0.2, 0.4, 0.3, 0.1], [0.5, 0.2, 0.4]
    pooled = fresh + ref
    subsets = list(itertools.combinations(range(9), 3))
    exact = sum(sum(pooled[i] for i in subset) >= sum(fresh) - 1e-9 for subset in subsets) / len(subsets)
    assert permutation(ref, fresh, 0.0005, 3) == pytest.approx(exact, abs=0.01)


def test_permutation_has_its_smallest_value_and_is_seeded() -> None:
    ref, fresh = [0.1, 0.11, 0.12, 0.13] * 30, [0.8] * 25
    assert permutation(ref, fresh, 0.03, 1) == 1 / 1000
    near = [0.12] * 20
    assert permutation(ref, near, 0.03, 1) == permutation(ref, near, 0.03, 1)
    assert permutation(ref, near, 0.03, 1) != permutation(ref, near, 0.03, 2)


@pytest.mark.parametrize("k", [6, 20])
def test_a_small_budget_gets_enough_permutations_to_be_met(k: int) -> None:
    ref, fresh = [0.1, 0.11, 0.12, 0.13] * 30, [0.8] * 25
    assert permutation(ref, fresh, level(ALPHA, k), 1) <= level(ALPHA, k)


def test_equal_blocks_are_no_evidence() -> None:
    assert permutation([0.3] * 40, [0.3] * 20, 0.03, 1) == 1.0


def test_a_confirmed_drift_says_its_numbers() -> None:
    verdict = confirm("binary", counts(1000, 5000), counts(150, 500), alpha=ALPHA, harm=0.0, k=1, seed=1)
    assert verdict.confirmed
    assert (verdict.ref_mean, verdict.fresh_mean) == (0.2, 0.3)
    assert verdict.p < verdict.level == level(ALPHA, 1)
    assert verdict.ucb_ref < verdict.lcb_fresh < 0.3
    assert "0.2000 → 0.3000" in verdict.reason
    assert json.loads(json.dumps(verdict._asdict()))["confirmed"] is True


def test_chance_is_rejected_by_the_test() -> None:
    verdict = confirm("binary", counts(1000, 5000), counts(104, 500), alpha=ALPHA, harm=0.0, k=1, seed=1)
    assert not verdict.confirmed
    assert "may be chance" in verdict.reason


def test_a_significant_rise_below_the_margin_is_rejected_by_the_gate() -> None:
    verdict = confirm("binary", counts(1000, 5000), counts(150, 500), alpha=ALPHA, harm=0.08, k=1, seed=1)
    assert verdict.p < verdict.level
    assert not verdict.confirmed
    assert "harm is not sure" in verdict.reason


def test_a_loss_that_fell_is_never_a_drift() -> None:
    assert not confirm("binary", counts(1500, 5000), counts(50, 500), alpha=ALPHA, harm=0.0, k=1, seed=1).confirmed


def test_later_cases_need_more() -> None:
    ref, fresh = counts(1000, 5000), counts(125, 500)
    assert confirm("binary", ref, fresh, alpha=ALPHA, harm=0.0, k=1, seed=1).confirmed
    assert not confirm("binary", ref, fresh, alpha=ALPHA, harm=0.0, k=30, seed=1).confirmed


def test_recovered_when_the_harm_is_gone() -> None:
    ref = counts(1000, 5000)
    assert recovered("binary", ref, counts(105, 500), alpha=ALPHA, harm=0.0, seed=1)
    assert not recovered("binary", ref, counts(150, 500), alpha=ALPHA, harm=0.0, seed=1)
    assert recovered("binary", ref, counts(150, 500), alpha=ALPHA, harm=0.1, seed=1)


def test_recovered_on_bounded_losses() -> None:
    rng = np.random.default_rng(5)
    ref, bad, good = (blocks(rng.beta(2, 2 / mean - 2, n), 1) for mean, n in ((0.2, 2000), (0.3, 500), (0.2, 500)))
    assert not recovered("bounded", ref, bad, alpha=ALPHA, harm=0.0, seed=1)
    assert recovered("bounded", ref, good, alpha=ALPHA, harm=0.0, seed=1)


@pytest.mark.parametrize(
    ("loss", "ref", "fresh", "message"),
    [
        ("binary", counts(0, 0), counts(1, 5), "no losses"),
        ("bounded", counts(1, 5), counts(1, 5), "no losses"),
        ("squared", counts(1, 5), counts(1, 5), "binary or bounded"),
    ],
)
def test_nothing_to_compare_is_refused(loss: str, ref: dict[str, Any], fresh: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confirm(loss, ref, fresh, alpha=ALPHA, harm=0.0, k=1, seed=1)


def test_binary_error_rates() -> None:
    """20 % → 20 % and 20 % → 30 % at W = 500, 400 runs each: at most the level, and nearly always."""
    rng = np.random.default_rng(11)
    rates = {}
    for after in (0.2, 0.3):
        verdicts = [
            confirm(
                "binary", counts(rng.binomial(5000, 0.2), 5000), counts(rng.binomial(500, after), 500),
                alpha=ALPHA, harm=0.0, k=1, seed=1,
            )
            for _ in range(400)
        ]  # fmt: skip
        rates[after] = np.mean([[verdict.p <= verdict.level, verdict.confirmed] for verdict in verdicts], axis=0)
    noise = 2 * math.sqrt(level(ALPHA, 1) / 400)
    assert rates[0.2][0] <= level(ALPHA, 1) + noise
    assert rates[0.2][1] <= rates[0.2][0]
    assert rates[0.3][1] >= 0.95


@pytest.mark.slow
def test_correlated_losses_need_blocks() -> None:
    """Neighbours correlated by .7 (time 5.7): single losses alarm falsely at several times the level, blocks of 20 do not."""
    rng = np.random.default_rng(12)
    false = {1: 0, 20: 0}
    for _ in range(150):
        ref, fresh = correlated(rng, 500, 0.2), correlated(rng, 500, 0.2)
        for length in false:
            p = permutation(blocks(ref, length)["blocks"], blocks(fresh, length)["blocks"], ALPHA, 1)
            false[length] += p <= ALPHA
    assert false[1] / 150 > 2 * ALPHA
    assert false[20] / 150 <= ALPHA + 2 * math.sqrt(ALPHA / 150)


def test_bounded_power() -> None:
    rng = np.random.default_rng(13)
    cases = [(blocks(correlated(rng, 2400, 0.2), 20), blocks(correlated(rng, 500, 0.3), 20)) for _ in range(30)]
    confirmed = [confirm("bounded", ref, fresh, alpha=ALPHA, harm=0.0, k=1, seed=1).confirmed for ref, fresh in cases]
    assert np.mean(confirmed) >= 0.9


@pytest.mark.slow
def test_the_gate_has_its_coverage() -> None:
    """Each one-sided bound fails in about α of the runs, and the gate, which needs both to fail, far less often."""
    rng = np.random.default_rng(14)
    missed = harmful = 0
    for _ in range(200):
        bounds = gate("bounded", blocks(rng.random(1000), 1), blocks(rng.random(500), 1), alpha=ALPHA, harm=0.0, seed=1)
        missed += bounds.lcb_fresh > 0.5
        harmful += bounds.harmful
    assert 0.01 <= missed / 200 <= 0.09
    assert harmful / 200 <= ALPHA
