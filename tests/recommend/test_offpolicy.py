"""Off-policy estimates: the numbers by hand, and on simulated logs their bias, their variance, what their intervals cover."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from streamlearn.recommend import offpolicy
from streamlearn.recommend.offpolicy import Codes, Estimate, Floats, Interval, doubly_robust, ips, snips

LOGS = 200
REWARD, PROPENSITY, TARGET = [1.0, 0.0, 1.0, 1.0], [0.5, 0.25, 0.25, 1.0], [0.25, 0.5, 0.5, 0.5]  # weights .5, 2, 2, .5


class World(NamedTuple):
    """Contexts of equal chance, a logging and a target policy, and the chance of a reward: each (contexts, actions)."""

    logging: Floats
    target: Floats
    chance: Floats

    @property
    def truth(self) -> float:
        return float((self.target * self.chance).sum(axis=1).mean())

    def draw(self, seed: int, rows: int) -> tuple[Codes, Codes, Floats, Floats, Floats]:
        """Context, action, reward, the logged propensity, the target's."""
        rng = np.random.default_rng(seed)
        context = rng.integers(len(self.logging), size=rows)
        action = (rng.random(rows)[:, None] > np.cumsum(self.logging[context], axis=1)[:, :-1]).sum(axis=1)
        reward = (rng.random(rows) < self.chance[context, action]).astype(float)
        return context, action, reward, self.logging[context, action], self.target[context, action]


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(5)
    chance = rng.beta(4, 2, size=(3, 8))
    return World(rng.dirichlet(np.full(8, 4.0), size=3), rng.dirichlet(np.full(8, 2.0), size=3), chance)


def many(world: World, of: Callable[..., Estimate], rows: int = 600) -> list[Estimate]:
    return [of(*world.draw(seed, rows)) for seed in range(LOGS)]


def plain(kind: Callable[..., Estimate], how: Interval) -> Callable[..., Estimate]:
    return lambda context, action, reward, propensity, target: kind(reward, propensity, target, how)


def modelled(model: Floats, target: Floats, how: Interval) -> Callable[..., Estimate]:
    """DR with a fixed reward model."""
    means = (target * model).sum(axis=1)
    return lambda c, a, r, p, t: doubly_robust(r, p, t, model[c, a], means[c], how)


def fitted(world: World, how: Interval) -> Callable[..., Estimate]:
    """DR with the model that the log itself gives, cross-fitted."""
    return lambda c, a, r, p, t: doubly_robust(r, p, t, *offpolicy.cross_fitted(r, c, a, world.target), how)


def test_the_estimates_by_hand() -> None:
    assert ips(REWARD, PROPENSITY, TARGET).value == pytest.approx((0.5 + 2 + 0.5) / 4)
    assert snips(REWARD, PROPENSITY, TARGET).value == pytest.approx(3 / 5)
    found = doubly_robust(REWARD, PROPENSITY, TARGET, [0.5, 0.5, 1.0, 0.0], [0.1, 0.2, 0.3, 0.4])
    assert found.value == pytest.approx((0.1 + 0.25 + 0.2 - 1 + 0.3 + 0 + 0.4 + 0.5) / 4)
    terms = np.array([0.5, 0, 2, 0.5])
    assert ips(REWARD, PROPENSITY, TARGET).error == pytest.approx(terms.std(ddof=1) / 2)
    delta = math.sqrt((0.5 * 0.4) ** 2 + (2 * 0.6) ** 2 + (2 * 0.4) ** 2 + (0.5 * 0.4) ** 2) / 5
    assert snips(REWARD, PROPENSITY, TARGET).error == pytest.approx(delta)
    how = Interval("normal", level=0.9)
    for found, named in ((ips(REWARD, PROPENSITY, TARGET, how), "normal"), (snips(REWARD, PROPENSITY, TARGET, how), "delta")):
        half = 1.6448536 * found.error
        assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))
        assert found.interval == named


def test_hall_s_ends_are_where_the_transformed_mean_is_a_normal_s_quantile() -> None:
    rng = np.random.default_rng(2)
    reward, propensity = rng.exponential(size=50), np.full(50, 0.5)
    for kind in (ips, snips):
        found = kind(reward, propensity, propensity)
        s = found.error * math.sqrt(50)
        skew = float(np.mean((reward - reward.mean()) ** 3)) / s**3
        assert skew > 1
        for end, quantile in ((found.low, 1.959964), (found.high, -1.959964)):
            t = (found.value - end) / s
            moved = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / (6 * 50)
            assert moved * math.sqrt(50) == pytest.approx(quantile, rel=1e-5)
        assert found.high - found.value > found.value - found.low
    even = ips([1.0, 2.0, 3.0], [0.5] * 3, [0.5] * 3)
    normal = ips([1.0, 2.0, 3.0], [0.5] * 3, [0.5] * 3, Interval("normal"))
    assert (even.low, even.high) == pytest.approx((normal.low, normal.high)), "nothing is skew here"
    alone = ips([1.0], [0.5], [0.5])
    assert (alone.low, alone.high) == (1.0, 1.0)


def test_where_rewards_are_rare_hall_s_intervals_cover_and_normal_ones_do_not() -> None:
    rng = np.random.default_rng(3)
    chance, target, logs = rng.gamma(2.0, 0.005, size=20), rng.dirichlet(np.full(20, 0.5)), 500
    truth = float(target @ chance)
    covered = dict.fromkeys(("hall", "normal"), 0)
    for _ in range(logs):
        action = rng.integers(20, size=2000)
        reward = (rng.random(2000) < chance[action]).astype(float)
        for method in ("hall", "normal"):
            found = snips(reward, np.full(2000, 0.05), target[action], Interval(cast(Any, method)))
            covered[method] += found.low <= truth <= found.high
    low, high = stats.binom.ppf([0.0005, 0.9995], logs, 0.95)
    assert low <= covered["hall"] <= high
    assert covered["normal"] < low


def test_bernstein_is_the_formula() -> None:
    log, terms = math.log(4 / 0.1), np.array([0.5, 0, 2, 0.5])
    half = math.sqrt(2 * terms.var(ddof=1) * log / 4) + 7 * 2.0 * log / (3 * 3)  # a term lies in [0, 2 · 1]
    found = ips(REWARD, PROPENSITY, TARGET, Interval("bernstein", level=0.9))
    assert (found.low, found.high) == pytest.approx((0.75 - half, 0.75 + half))
    assert snips(REWARD, PROPENSITY, TARGET, Interval("bernstein")).interval == "delta"


def test_weights_and_what_they_are_like() -> None:
    assert offpolicy.weights(PROPENSITY, TARGET).tolist() == [0.5, 2, 2, 0.5]
    found = offpolicy.health(PROPENSITY, TARGET)
    assert (found.rows, found.mean, found.largest, found.clipped) == (4, 1.25, 2.0, 0)
    assert found.ess == pytest.approx(25 / 8.5)
    clipped = offpolicy.health(PROPENSITY, TARGET, clip=1.0)
    assert (clipped.clipped, clipped.largest, clipped.mean) == (2, 1.0, 0.75)
    assert ips(REWARD, PROPENSITY, TARGET, Interval(clip=1.0)).value == pytest.approx(0.5)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=30), st.sampled_from(offpolicy.METHODS))
def test_a_policy_that_is_its_own_target_has_its_own_mean(rows: list[tuple[float, float]], method: Any) -> None:
    reward, propensity = [one for one, _ in rows], [one for _, one in rows]
    how = Interval(method)
    mean = pytest.approx(sum(reward) / len(reward), abs=1e-9)
    assert ips(reward, propensity, propensity, how).value == mean
    assert snips(reward, propensity, propensity, how).value == mean
    assert doubly_robust(reward, propensity, propensity, [0.3] * len(rows), [0.3] * len(rows), how).value == mean
    assert offpolicy.health(propensity, propensity).ess == pytest.approx(len(rows))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (([1.0, 1.0], [0.5, 0.0], [0.5, 0.5]), r"propensity\[1\]: 0 lies outside \(0, 1\]"),
        (([1.0, 1.0], [0.5, 1.5], [0.5, 0.5]), r"propensity\[1\]: 1.5 lies outside"),
        (([1.0, 1.0], [0.5, -0.5], [0.5, 0.5]), r"propensity\[1\]: -0.5 lies outside"),
        (([1.0, 1.0], [math.nan, 0.5], [0.5, 0.5]), r"propensity\[0\]: nan is missing or not finite"),
        (([1.0, 1.0], [None, 0.5], [0.5, 0.5]), r"propensity\[0\]: nan is missing"),
        (([1.0, math.inf], [0.5, 0.5], [0.5, 0.5]), r"reward\[1\]: inf is missing or not finite"),
        (([1.0, 1.0], [0.5, 0.5], [0.5, 1.01]), r"target\[1\]: 1.01 lies outside \[0, 1\]"),
        (([1.0], [0.5, 0.5], [0.5, 0.5]), "differ in length: reward 1, propensity 2"),
        (([1.0, 1.0], [0.5, 0.5], [0.5]), "differ in length: propensity 2, target 1"),
        (([], [], []), r"reward: has the shape \(0,\)"),
        (([[1.0]], [0.5], [0.5]), r"reward: has the shape \(1, 1\)"),
        ((["x"], [0.5], [0.5]), "reward: holds what is no number"),
    ],
)
def test_what_is_no_log_is_refused_with_its_place(arrays: tuple[Any, Any, Any], told: str) -> None:
    for kind in (ips, snips):
        with pytest.raises(ValueError, match=told):
            kind(*arrays)


def test_other_refusals() -> None:
    with pytest.raises(ValueError, match="nothing that was logged"):
        snips([1.0], [0.5], [0.0])
    assert ips([1.0], [0.5], [0.0]).value == 0
    for how, told in (
        (Interval(clip=0.0), "clip: 0.0 is not above 0"), (Interval(level=1.0), r"level: 1.0 lies outside \(0, 1\)"),
        (Interval(cast(Any, "wild")), "'wild' is none of hall"), (Interval(more=-1.0), "more: -1.0 is no variance"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            ips(REWARD, PROPENSITY, TARGET, how)
    with pytest.raises(ValueError, match=r"predicted\[0\]: nan"):
        doubly_robust([1.0], [0.5], [0.5], [math.nan], [0.0])
    with pytest.raises(ValueError, match="reward 4, predicted 1, expected 4"):
        doubly_robust(REWARD, PROPENSITY, TARGET, [0.0], REWARD)
    codes = np.array([0, 1])
    with pytest.raises(ValueError, match="action: a code lies outside 0 to 0"):
        offpolicy.shares(codes, codes, 2, 1)
    with pytest.raises(ValueError, match="folds: 3 of 2 rows"):
        offpolicy.cross_fitted([1.0, 0.0], codes, codes, np.eye(2), folds=3)


@pytest.mark.parametrize("method", ["hall", "normal", pytest.param("bootstrap", marks=pytest.mark.slow)])
def test_the_intervals_cover_what_they_promise(world: World, method: Any) -> None:
    how = Interval(method)
    low, high = stats.binom.ppf([0.0005, 0.9995], LOGS, 0.95)
    for of in (plain(ips, how), plain(snips, how), fitted(world, how)):
        found = many(world, of)
        covered = sum(one.low <= world.truth <= one.high for one in found)
        assert low <= covered <= high, f"{found[0].name}: {covered} of {LOGS}"


def test_bernstein_covers_at_least_that_and_is_wider(world: World) -> None:
    wide, narrow = many(world, plain(ips, Interval("bernstein"))), many(world, plain(ips, Interval()))
    assert sum(one.low <= world.truth <= one.high for one in wide) >= stats.binom.ppf(0.0005, LOGS, 0.95)
    assert all(a.high - a.low > b.high - b.low for a, b in zip(wide, narrow, strict=True))


def test_bias_and_variance_of_the_three(world: World) -> None:
    how = Interval()
    wrong = -2 * world.chance
    kinds = {
        "ips": plain(ips, how), "snips": plain(snips, how), "wrong": modelled(wrong, world.target, how),
        "good": modelled(world.chance, world.target, how), "fitted": fitted(world, how),
    }  # fmt: skip
    found = {name: [one.value for one in many(world, of)] for name, of in kinds.items()}
    spread = {name: float(np.std(values, ddof=1)) for name, values in found.items()}
    for name in ("ips", "wrong", "good", "fitted"):
        assert abs(np.mean(found[name]) - world.truth) < 4 * spread[name] / math.sqrt(LOGS), name
    assert abs(np.mean(found["snips"]) - world.truth) < 0.1 * spread["snips"] + 4 * spread["snips"] / math.sqrt(LOGS)
    assert spread["snips"] < 0.8 * spread["ips"]
    assert spread["good"] == min(spread.values())
    assert spread["good"] < spread["fitted"] < spread["ips"] < spread["wrong"]


def test_the_standard_error_is_the_spread_over_logs(world: World) -> None:
    for of in (plain(ips, Interval()), plain(snips, Interval()), fitted(world, Interval())):
        found = many(world, of)
        assert np.mean([one.error for one in found]) == pytest.approx(np.std([one.value for one in found], ddof=1), rel=0.15)


def test_clipping_lowers_the_spread_and_biases_downwards(world: World) -> None:
    whole, clipped = many(world, plain(ips, Interval())), many(world, plain(ips, Interval(clip=1.5)))
    assert np.std([one.value for one in clipped]) < np.std([one.value for one in whole])
    assert all(a.value <= b.value for a, b in zip(clipped, whole, strict=True))
    assert np.mean([one.value for one in clipped]) < world.truth - 0.02


def test_the_bootstrap_is_the_seed_s_and_near_the_normal(world: World) -> None:
    _, _, reward, propensity, target = world.draw(1, 3000)
    for kind in (ips, snips):
        once, again, other = (kind(reward, propensity, target, Interval("bootstrap", seed=seed)) for seed in (1, 1, 2))
        assert once == again != other
        usual = kind(reward, propensity, target)
        assert (once.low, once.high) == pytest.approx((usual.low, usual.high), abs=0.1 * (usual.high - usual.low))


def test_own_rewards() -> None:
    reward = [1.0] * 7 + [0.0] * 93
    found = offpolicy.own(reward, "bts", level=0.9)
    expected = stats.binomtest(7, 100).proportion_ci(0.9, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.value, found.interval) == (0.07, "wilson")
    other = offpolicy.own([1.0, 2.0, 3.0], "bts")
    assert (other.value, other.interval) == (2.0, "normal")
    assert other.high - 2.0 == pytest.approx(1.959964 / math.sqrt(3))


def test_shares_are_frequencies_by_context() -> None:
    found = offpolicy.shares(np.array([0, 0, 0, 1]), np.array([0, 2, 2, 1]), 3, 3)
    assert found.tolist() == [[pytest.approx(1 / 3), 0, pytest.approx(2 / 3)], [0, 1, 0], [0, 0, 0]]


def test_shares_of_few_choices_widen_the_interval_as_they_should(world: World) -> None:
    """Estimates with the target's shares of 40 choices a context spread as `share_variance` says."""
    values, said, errors = [], [], []
    for seed in range(LOGS):
        context, action, reward, propensity, _ = world.draw(seed, 4000)
        rng = np.random.default_rng(10_000 + seed)
        chosen = np.repeat(np.arange(3), 40)
        table = offpolicy.shares(chosen, np.concatenate([rng.choice(8, 40, p=row) for row in world.target]), 3, 8)
        more = offpolicy.share_variance(reward, propensity, context, action, table, np.full(3, 40))
        found = ips(reward, propensity, table[context, action], Interval(more=more))
        values.append(found.value)
        said.append(math.sqrt(more))
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.15)
    assert np.mean(said) > 0.3 * np.mean(errors)


def test_thompson_s_chances_are_the_integral() -> None:
    alpha, beta = [3.0, 5.0], [9.0, 10.0]
    first, _ = integrate.quad(lambda x: stats.beta.pdf(x, 3, 9) * stats.beta.cdf(x, 5, 10), 0, 1)
    found = offpolicy.bernoulli_thompson(alpha, beta, positions=2, draws=200_000)
    assert found[0, 0] == pytest.approx(first, abs=4 / (2 * math.sqrt(200_000)))
    assert found.sum(axis=1).tolist() == pytest.approx([1, 1])
    assert found.sum(axis=0).tolist() == pytest.approx([1, 1]), "two positions hold both items"
    with pytest.raises(ValueError, match="positions: 3 of 2 items"):
        offpolicy.bernoulli_thompson(alpha, beta, positions=3)
    with pytest.raises(ValueError, match=r"beta\[1\]: 0 is not above 0"):
        offpolicy.bernoulli_thompson(alpha, [1.0, 0.0])


def test_a_row_has_no_part_in_what_is_predicted_for_it(world: World) -> None:
    context, action, reward, _, _ = world.draw(3, 60)
    predicted, expected = offpolicy.cross_fitted(reward, context, action, world.target)
    for row in range(60):
        other = reward.copy()
        other[row] = 5.0
        there, means = offpolicy.cross_fitted(other, context, action, world.target)
        assert (there[row], means[row]) == (predicted[row], expected[row])
        assert not np.array_equal(there, predicted)


def test_with_much_data_the_model_is_the_truth(world: World) -> None:
    context, action, reward, _, _ = world.draw(3, 200_000)
    predicted, expected = offpolicy.cross_fitted(reward, context, action, world.target)
    assert np.abs(predicted - world.chance[context, action]).max() < 0.06
    assert np.abs(expected - (world.target * world.chance).sum(axis=1)[context]).max() < 0.02
