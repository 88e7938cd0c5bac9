"""The trial: its formulas against an independent vectorised copy, its error and power by seeded simulation, its verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from streamlearn.learning.paired import PairedBlocks
from streamlearn.retrain.betting import BettingProcess
from streamlearn.retrain.correlation import Span
from streamlearn.retrain.guardrails import Guardrail
from streamlearn.retrain.trial import SETTLING, STITCH, ZETA, Trial

ALPHA = 0.05
LEVEL = 6 * ALPHA / math.pi**2


def capitals(x: np.ndarray, m: float, settling: int = 0) -> np.ndarray:
    """The capital after each bet, for many sequences at once: x and the result have the shape (sequences, bets).

    The first `settling` of x are experience alone.
    """
    total, squares, capital = np.zeros(len(x)), np.full(len(x), 0.25), np.ones(len(x))
    result = np.empty_like(x)
    for t in range(x.shape[1]):
        gain = total / (t + 1) - m
        stake = np.clip(gain / (squares / (t + 1) + gain**2), 0, 0.9 / (1 + m)) * (t >= settling)
        capital = capital * (1 + stake * (x[:, t] - m))
        total = total + x[:, t]
        squares = squares + (x[:, t] - total / (t + 2)) ** 2
        result[:, t] = capital
    return result


def evidence(x: np.ndarray, m: float, settling: int = 0) -> np.ndarray:
    """The average of the odd and the even blocks' capitals after each block; (sequences, an even number of blocks)."""
    odd, even = capitals(x[:, 0::2], m, (settling + 1) // 2), capitals(x[:, 1::2], m, settling // 2)
    before = np.concatenate([np.ones((len(x), 1)), even[:, :-1]], axis=1)
    result = np.empty_like(x)
    result[:, 0::2], result[:, 1::2] = (odd + before) / 2, (odd + even) / 2
    return result


def differences(rng: np.random.Generator, runs: int, events: int, disagreement: float, gain: float) -> np.ndarray:
    """0/1 losses of two models: they disagree this often, and the challenger's error is lower by `gain`."""
    u = rng.random((runs, events))
    return np.where(u < (disagreement + gain) / 2, 1.0, np.where(u < disagreement, -1.0, 0.0))


def shared_shocks(rng: np.random.Generator, runs: int, events: int, size: int) -> np.ndarray:
    """Equal models, but `size` consecutive events share one shock: it favours one of them in 4 of 10 disagreements more."""
    lean = np.repeat(rng.choice([-0.4, 0.4], (runs, events // size + 1)), size, axis=1)
    shift = rng.integers(size)
    lean = lean[:, shift : shift + events]
    disagree = rng.random((runs, events)) < 0.3
    return np.where(disagree, np.where(rng.random((runs, events)) < 0.5 + lean / 2, 1.0, -1.0), 0.0)


def in_blocks(x: np.ndarray, size: int) -> np.ndarray:
    blocks = x.shape[1] // size // 2 * 2
    return x[:, : blocks * size].reshape(len(x), blocks, size).mean(axis=2)


def promoted(x: np.ndarray, m: float, level: float = LEVEL) -> float:
    return float((evidence(x, m) >= 1 / level).any(axis=1).mean())


def median_events(x: np.ndarray, size: int, level: float) -> float:
    crossed = evidence(in_blocks(x, size), 0.0) >= 1 / level
    first = np.where(crossed.any(axis=1), (crossed.argmax(axis=1) + 1.0) * size, np.inf)
    return float(np.median(first))


def noise(runs: int) -> float:
    return 2 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def feed(trial: Trial, x: np.ndarray, n: int = 10) -> None:
    for difference in x:
        trial.add_block(n, n * max(difference, 0.0), n * max(-difference, 0.0))


@pytest.fixture
def span(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Fixes the span over which losses are found to correlate."""
    return lambda blocks: monkeypatch.setattr(Span, "blocks", lambda self: blocks)


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
@pytest.mark.parametrize("length", [1, 3])
def test_the_evidence_is_that_of_the_formulas(tolerance: float, length: int, span: Callable[[int], None]) -> None:
    """Blocks of `length` taken ones; the SETTLING taken first are experience, what is left of them over is not used."""
    span(length)
    x = in_blocks(differences(np.random.default_rng(1), 6, 6020, 0.2, 0.05), 10)
    experience = x[:, : SETTLING // length * length]
    means = in_blocks(np.concatenate([experience, x[:, SETTLING:]], axis=1), length)
    expected = evidence(means, -tolerance, SETTLING // length)
    for run, blocks in enumerate(x):
        trial, path = Trial(ALPHA, tolerance, 1), []
        for number, difference in enumerate(blocks):
            trial.add_block(10, 10 * max(difference, 0.0), 10 * max(-difference, 0.0))
            if number >= SETTLING and (number - SETTLING + 1) % length == 0:
                path.append(trial.e)
        assert path[: means.shape[1] - SETTLING // length] == pytest.approx(expected[run, SETTLING // length :], rel=1e-9)
        assert trial.peak >= max(1.0, *path)


def in_lists(low: float = -1.0, high: float = 1.0, **size: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(low, high), **size)


@settings(max_examples=30)
@given(in_lists(min_size=SETTLING, max_size=80), st.data())
def test_a_bet_and_its_block_are_fixed_by_what_was_over_before_the_block_before_it(past: list[float], data: Any) -> None:
    """Two histories that differ in nothing but the block just before: the same length, and the same share of the capital."""
    one, other = Trial(ALPHA, 0.0, 1), Trial(ALPHA, 0.0, 1)
    for x in past:
        feed(one, np.array([x]))
        feed(other, np.array([x]))
    while one._open:  # to the beginning of a block
        feed(one, np.array([0.2]))
        feed(other, np.array([0.2]))
    length, following = one._lengths
    for trial in (one, other):
        feed(trial, np.array(data.draw(in_lists(min_size=length, max_size=length))))
    assert one._lengths[0] == other._lengths[0] == following
    block = np.array(data.draw(in_lists(min_size=following, max_size=following)))
    ratios = []
    for trial in (one, other):
        process = trial._evidence._both[trial.blocks % 2]
        before = process.capital
        feed(trial, block)
        ratios.append(process.capital / before)
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-12)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), min_size=60, max_size=120), st.data())
def test_no_loss_counts_before_it_was_known(questions: list[tuple[int, bool, bool]], data: Any) -> None:
    """Labels come late; at a moment of our choice the losses that are not known then are turned round: nothing changes."""
    now = data.draw(st.integers(0, len(questions)))
    found = []
    for turned in (False, True):
        blocks, trial = PairedBlocks(0, 1), Trial(ALPHA, 0.0, 1)
        numbers = [blocks.ask() for _ in questions[:now]]
        known = sorted((n + delay, n) for n, (delay, _, _) in enumerate(questions[:now]) if n + delay < now)
        losses = [
            (float(one), float(two)) if n + delay < now or not turned else (1.0 - one, 1.0 - two)
            for n, (delay, one, two) in enumerate(questions)
        ]
        for _, n in known:
            if blocks.answer(numbers[n], *losses[n]):
                for block in blocks.take_closed():
                    trial.add_block(block["n"], block["champion"], block["challenger"])
        found.append((trial.e, trial.events, trial.numbers(10)))
    assert found[0] == found[1]


def test_the_first_bets_by_hand() -> None:
    process = BettingProcess(0.0)
    process.bet(1.0)
    assert process.capital == 1.0
    # g = 1/2, v = (1/4 + (1 − 1/2)²)/2 = 1/4; g/(v + g²) = 1, clipped to 0.9
    process.bet(0.5)
    assert process.capital == pytest.approx(1.45)
    tolerant = BettingProcess(-0.1)
    # g = 0.1, v = 1/4; λ = 0.1/0.26, and x − m = 0.3
    tolerant.bet(0.2)
    assert tolerant.capital == pytest.approx(1 + 0.1 / 0.26 * 0.3)


@given(st.lists(st.floats(-1, 1), max_size=60), st.floats(0, 0.5))
def test_a_capital_is_never_lost_altogether(outcomes: list[float], tolerance: float) -> None:
    process = BettingProcess(-tolerance)
    for x in outcomes:
        process.bet(x)
    assert process.capital > 0


@given(st.floats(-0.5, 0.5), st.lists(st.floats(-1, 1), max_size=20))
def test_the_next_bet_is_fair_at_the_edge_of_the_null(m: float, past: list[float]) -> None:
    """Whatever was seen, outcomes of mean m leave the expected capital where it is."""
    values = []
    for x in (-1.0, 1.0):
        process = BettingProcess(m)
        for earlier in past:
            process.bet(earlier)
        before = process.capital
        process.bet(x)
        values.append(process.capital / before)
    up = (1 + m) / 2
    assert (1 - up) * values[0] + up * values[1] == pytest.approx(1.0)


def test_what_a_gain_hardly_exceeds_is_asked_once_for_each_least_number_of_events() -> None:
    trial, told = Trial(ALPHA, 0.01, 1), []
    x = np.random.default_rng(5).choice([-0.1, 0.0, 0.1], 1000)
    for number, difference in enumerate(x, 1):
        feed(trial, np.array([difference]))
        bound = trial.gain_at_most(1000)
        if bound is not None:
            told.append(10 * number)
            half = x[: number][-(number // 2) :] if number % 2 == 0 else x[: number][-(number // 2 + 1) :]
            error = half.std(ddof=1) / math.sqrt(len(half)) * math.sqrt(trial.length)
            assert bound == pytest.approx(half.mean() + 1.645 * error, abs=1e-9)
    assert told == list(range(2000, 10_001, 1000))


def test_a_better_challenger_is_rarely_taken_for_an_equal_one() -> None:
    """2 points better at 10 % disagreement: what its gain hardly exceeds seldom falls below 1 point before the trial is won."""
    rng, dropped = np.random.default_rng(6), 0
    for _ in range(60):
        trial = Trial(ALPHA, 0.01, 1)
        for _ in range(800):
            won, lost = rng.binomial(10, 0.06), rng.binomial(10, 0.04)
            trial.add_block(10, min(won, 10), min(lost, 10))
            bound = trial.gain_at_most(1000)
            if trial.crossed or (bound is not None and bound <= 0.01):
                dropped += not trial.crossed
                break
    assert dropped <= 9


def test_the_first_blocks_are_experience_alone() -> None:
    """Nothing is staked on what the length of the blocks was measured on, however good the news."""
    trial = Trial(ALPHA, 0.0, 1)
    feed(trial, np.ones(SETTLING))
    assert (trial.e, trial.blocks) == (1.0, SETTLING)
    feed(trial, np.ones(1))
    assert trial.e == pytest.approx((1.0 + 1.9) / 2)


def test_what_was_rehearsed_is_experience_and_no_event_of_the_trial() -> None:
    trial = Trial(ALPHA, 0.0, 1)
    trial.rehearse([(10, 10.0, 0.0)] * SETTLING)
    assert (trial.e, trial.blocks, trial.events, trial.mean_difference, trial.interval()) == (1.0, 0, 0, 0.0, (-1.0, 1.0))
    feed(trial, np.ones(1))
    assert trial.e == pytest.approx((1.0 + 1.9) / 2), "the first bet is made with all its experience"
    assert (trial.numbers()["rehearsed"], trial.numbers()["events"]) == (10 * SETTLING, 10)
    trial.rehearse([(10, 0.0, 10.0)] * SETTLING)
    assert trial.e == pytest.approx((1.0 + 1.9) / 2), "too late"


def test_a_short_rehearsal_shortens_the_settling() -> None:
    trial = Trial(ALPHA, 0.0, 1)
    trial.rehearse([(10, 10.0, 0.0)] * (SETTLING - 4))
    feed(trial, np.ones(4))
    assert trial.e == 1.0
    feed(trial, np.ones(1))
    assert trial.e > 1.0


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 30, 100])
def test_a_flattering_rehearsal_does_not_make_equal_models_pass(size: int) -> None:
    """The worst that it can do is to make the first stakes too bold; the bets are fair all the same."""
    rng, crossed = np.random.default_rng(700 + size), 0
    for run in in_blocks(shared_shocks(rng, 400, 6000, size), 10):
        trial = Trial(ALPHA, 0.0, 1)
        trial.rehearse([(10, 6.0, 2.0), (10, 4.0, 3.0)] * 25)
        feed(trial, run)
        crossed += trial.crossed
    assert crossed / 400 <= ALPHA + noise(400)


def test_large_blocks_settle_by_events() -> None:
    trial = Trial(ALPHA, 0.0, 1)
    feed(trial, np.ones(3), n=100)
    assert (trial.e, trial.blocks) == (1.0, 3)
    feed(trial, np.ones(1), n=100)
    assert trial.e > 1.0


def closed(x: np.ndarray, delay: float, rng: np.random.Generator) -> Iterator[tuple[int, float, float]]:
    """(events, each side's losses) of blocks of 10 questions, as they close when labels come `delay` events late (mean)."""
    known = np.arange(len(x)) + rng.exponential(delay, len(x)).astype(int)
    order, blocks, at = np.argsort(known, kind="stable").tolist(), PairedBlocks(0, 10), 0
    numbers, times = [], known.tolist()
    losses = np.stack([np.maximum(x, 0.0), np.maximum(-x, 0.0)], axis=1).tolist()
    for n in range(len(x)):
        numbers.append(blocks.ask())
        while at < len(x) and times[order[at]] <= n:
            question, at = order[at], at + 1
            if blocks.answer(numbers[question], *losses[question]):
                yield from ((data["n"], data["champion"], data["challenger"]) for data in blocks.take_closed())


def trials(x: np.ndarray, delay: float = 0.0) -> tuple[float, float]:
    """(share that ever had enough evidence, mean events in a block) of trials on single losses, in blocks of 10."""
    rng = np.random.default_rng(17)
    crossed, lengths = 0, []
    for run in x:
        trial = Trial(ALPHA, 0.0, 1)
        if delay:
            for block in closed(run, delay, rng):
                trial.add_block(*block)
        else:
            feed(trial, in_blocks(run[None], 10)[0])
        crossed += trial.crossed
        lengths.append(trial.events / trial.blocks)
    return crossed / len(x), float(np.mean(lengths))


def test_blocks_grow_with_the_shocks_that_losses_share(span: Callable[[int], None]) -> None:
    x = shared_shocks(np.random.default_rng(11), 16, 8000, 100)
    share, length = trials(x)
    assert share <= 0.125
    assert 40 <= length <= 250
    span(1)
    assert trials(x)[0] > share


def test_blocks_stay_short_where_losses_are_independent() -> None:
    _, length = trials(differences(np.random.default_rng(12), 10, 9000, 0.1, 0.0))
    assert 10 <= length <= 13


def test_late_labels_change_when_a_block_is_told_and_nothing_else() -> None:
    rng = np.random.default_rng(13)
    [x] = shared_shocks(rng, 1, 3000, 30)
    told = np.array(list(closed(x, 100.0, rng)))
    assert 200 < len(told) < 300
    assert (told[:, 1] - told[:, 2]) / told[:, 0] == pytest.approx(in_blocks(x[None], 10)[0][: len(told)])


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 100.0])
@pytest.mark.parametrize("size", [30, 100])
def test_equal_models_under_shocks_are_rarely_promoted(size: int, delay: float) -> None:
    """However little of the shocks shows in the few blocks that are experience: the blocks grow while the bets are small."""
    runs = 100 if delay else 200
    share, _ = trials(shared_shocks(np.random.default_rng(size), runs, 9000 if delay else 18_000, size), delay)
    assert share <= ALPHA + noise(runs)


@pytest.mark.parametrize("size", [30, 100])
def test_the_first_bets_under_shocks_rarely_promote(size: int) -> None:
    """Right after the experience, when blocks are still too short, enough evidence is at its rarest."""
    share, _ = trials(shared_shocks(np.random.default_rng(1000 + size), 600, 900, size))
    assert share <= ALPHA / 2


@pytest.mark.parametrize("size", [1, 10, 30])
def test_equal_models_are_rarely_promoted(size: int) -> None:
    """Independent losses, 10 % disagreement, 20,000 events, m = 0."""
    events = 6000 if size == 1 else 20_000
    x = differences(np.random.default_rng(size), 300, events, 0.1, 0.0)
    assert promoted(in_blocks(x, size), 0.0, ALPHA) <= ALPHA


def test_a_shared_shock_needs_blocks() -> None:
    """30 events a shock: bets on single events promote falsely at several times the level, blocks of 30 and more do not."""
    x = shared_shocks(np.random.default_rng(5), 300, 9000, 30)
    assert promoted(x, 0.0, ALPHA) > 2 * ALPHA
    for size in (30, 45, 60):
        assert promoted(in_blocks(x, size), 0.0, ALPHA) <= ALPHA + noise(300)


def test_with_a_tolerance_the_null_is_worse_by_it() -> None:
    """H0 is then "worse by at least 1 point": at its edge hardly ever promoted, while equal models are meant to pass."""
    rng = np.random.default_rng(7)
    at_the_edge = in_blocks(differences(rng, 300, 20_000, 0.1, -0.01), 10)
    equal = in_blocks(differences(rng, 300, 30_000, 0.1, 0.0), 10)
    assert promoted(at_the_edge, -0.01, ALPHA) <= ALPHA + noise(300)
    assert promoted(equal, -0.01, ALPHA) >= 0.8


@pytest.mark.parametrize(
    ("gain", "disagreement", "size", "published"),
    [(0.02, 0.1, 1, 1752), (0.05, 0.2, 1, 571), (0.1, 0.3, 1, 179), (0.02, 0.1, 10, 3405), (0.02, 0.1, 30, 9840)],
)
def test_the_power_is_of_the_published_order(gain: float, disagreement: float, size: int, published: int) -> None:
    """The published medians are those of one process; two, each on every other block, take about twice the events."""
    x = differences(np.random.default_rng(9), 80, 6 * published // 60 * 60, disagreement, gain)
    assert published <= median_events(x, size, ALPHA) <= 2.5 * published


@pytest.mark.slow
def test_equal_models_at_full_length() -> None:
    for size in (1, 10, 30):
        x = in_blocks(differences(np.random.default_rng(20 + size), 1000, 20_000, 0.1, 0.0), size)
        assert promoted(x, 0.0, ALPHA) <= ALPHA + noise(1000)


def test_later_challengers_need_more() -> None:
    first, third = Trial(ALPHA, 0.0, 1), Trial(ALPHA, 0.0, 3)
    assert first.threshold == pytest.approx(1 / LEVEL)
    assert third.threshold == pytest.approx(9 / LEVEL)


def test_crossing_once_is_enough() -> None:
    trial = Trial(ALPHA, 0.0, 1)
    feed(trial, np.full(110, 0.3))
    assert trial.crossed
    feed(trial, np.full(400, -0.3))
    assert trial.e < 1 < trial.threshold <= trial.peak
    assert trial.crossed


def test_counts_and_means() -> None:
    trial = Trial(ALPHA, 0.0, 1)
    assert (trial.blocks, trial.events, trial.mean_difference, trial.recent(10)) == (0, 0, 0.0, 0.0)
    for n, champion, challenger in ((10, 5.0, 2.0), (30, 6.0, 9.0), (20, 8.0, 4.0)):
        trial.add_block(n, champion, challenger)
    assert (trial.blocks, trial.events) == (0, 60)
    assert trial.mean_difference == pytest.approx(4 / 60)


@pytest.mark.parametrize(("n", "expected"), [(1, 0.2), (20, 0.2), (21, 0.02), (50, 0.02), (51, 4 / 60), (500, 4 / 60)])
def test_recent_takes_whole_blocks(n: int, expected: float) -> None:
    trial = Trial(ALPHA, 0.0, 1)
    for events, champion, challenger in ((10, 5.0, 2.0), (30, 6.0, 9.0), (20, 8.0, 4.0)):
        trial.add_block(events, champion, challenger)
    assert trial.recent(n) == pytest.approx(expected)


def test_promote_when_all_agrees() -> None:
    trial = Trial(ALPHA, 0.01, 1)
    feed(trial, np.full(99, 0.2))
    assert trial.crossed
    assert trial.verdict(1000, 50_000) is None
    assert "1000 events are the least" in trial.why(1000, 50_000)
    feed(trial, np.array([0.2]))
    assert trial.verdict(1000, 50_000) == "promote"
    assert "lower by 0.2000" in trial.why(1000, 50_000)


def test_undecided_is_neither_before_the_horizon_and_rejected_at_it() -> None:
    trial = Trial(ALPHA, 0.0, 1)
    feed(trial, np.tile([0.1, -0.1, -0.1, 0.1], 499))
    assert trial.verdict(1000, 20_000) is None
    assert trial.why(1000, 20_000).endswith("undecided")
    feed(trial, np.tile([0.1, -0.1], 2))
    assert trial.events == 20_000
    assert trial.verdict(1000, 20_000) == "reject"
    assert trial.why(1000, 20_000).endswith("undecided at the horizon")


def test_a_challenger_that_has_become_worse_waits_and_may_come_back() -> None:
    trial = Trial(ALPHA, 0.01, 1)
    feed(trial, np.full(100, 0.2))
    feed(trial, np.full(100, -0.05))
    assert trial.crossed
    assert trial.verdict(1000, 50_000) is None
    assert "worse by more than the tolerance" in trial.why(1000, 50_000)
    feed(trial, np.full(100, -0.005))
    assert trial.verdict(1000, 50_000) == "promote"


def test_at_the_horizon_a_win_is_still_a_win_and_a_guard_still_holds() -> None:
    winner, loser = Trial(ALPHA, 0.01, 1), Trial(ALPHA, 0.01, 1)
    feed(winner, np.full(200, 0.2))
    feed(loser, np.concatenate([np.full(100, 0.2), np.full(100, -0.2)]))
    assert winner.verdict(1000, 2000) == "promote"
    assert loser.crossed
    assert loser.verdict(1000, 2000) == "reject"


def test_swapped_roles_guard_a_promotion() -> None:
    """After a promotion the old champion is the challenger: once it is better again, its trial says so."""
    trial = Trial(ALPHA, 0.0, 1)
    feed(trial, -np.full(100, 0.1))
    assert trial.peak == pytest.approx(1.0)
    back = Trial(ALPHA, 0.0, 1)
    feed(back, np.full(300, 0.1))
    assert back.crossed


def stitched(x: np.ndarray, alpha: float) -> tuple[float, float]:
    """The interval by the formulas of the paper, written out anew."""
    running = np.concatenate([[0.0], np.cumsum(x)[:-1] / np.arange(1, len(x))])
    v = max(1.0, float(((x - running) ** 2).sum()))
    ell = 1.4 * math.log(math.log(2 * v)) + math.log(3.105472 / (alpha / 2 * math.log(2) ** 1.4))
    k1, k2 = (2**0.25 + 2**-0.25) / math.sqrt(2), (math.sqrt(2) + 1) / 2
    half = (math.sqrt(k1 * k1 * v * ell + k2 * k2 * 4 * ell * ell) + 2 * k2 * ell) / len(x)
    return x.mean() - half, x.mean() + half


def test_the_constant_is_riemanns_zeta() -> None:
    assert float(special.zeta(STITCH)) == ZETA


def test_the_interval_is_that_of_the_paper() -> None:
    x = np.random.default_rng(3).uniform(-0.4, 0.6, 4000)
    trial = Trial(ALPHA, 0.0, 1)
    assert trial.interval() == (-1.0, 1.0)
    for difference in x:
        trial._open = [(10, 10 * difference, {})]
        trial._close(1, stake=True)
    assert trial.interval() == pytest.approx(stitched(x, ALPHA), rel=1e-5)


def test_the_interval_covers_at_every_time() -> None:
    missed = 0
    for seed in range(8):
        x = np.random.default_rng(seed).uniform(-0.5, 0.7, 1500)
        trial = Trial(ALPHA, 0.0, 1)
        for start in range(0, 1500, 50):
            feed(trial, x[start : start + 50])
            lower, upper = trial.interval()
            missed += not lower <= 0.1 <= upper
    assert missed == 0
    assert upper - lower < 0.25


def test_numbers_are_json() -> None:
    trial = Trial(ALPHA, 0.01, 2)
    feed(trial, np.full(120, 0.1))
    numbers = json.loads(json.dumps(trial.numbers()))
    assert numbers["events"] == 1200
    assert numbers["blocks"] == 120
    assert numbers["recent"] == pytest.approx(0.1)
    assert numbers["peak"] == trial.peak
    assert numbers["threshold"] == trial.threshold
    assert numbers["interval"] == list(trial.interval())
    assert set(numbers) >= {"e", "alpha_k", "mean_difference", "tolerance", "k"}


@pytest.mark.parametrize(
    ("n", "champion", "challenger"), [(0, 0.0, 0.0), (10, 11.0, 3.0), (10, -1.0, 3.0), (10, 1.0, math.nan), (5, 2.0, 5.1)]
)
def test_an_impossible_block_is_refused_and_changes_nothing(n: int, champion: float, challenger: float) -> None:
    trial = Trial(ALPHA, 0.0, 1)
    with pytest.raises(ValueError, match="cannot have loss sums"):
        trial.add_block(n, champion, challenger)
    assert trial.blocks == trial.events == 0


LOG_LOSS = Guardrail("log_loss", "lower", 0.02, 0.05)


def with_log_losses(trial: Trial, count: int, champion: float, challenger: float) -> None:
    """Blocks of 10 in which the challenger's loss is lower by 0.2, and mean log losses as given."""
    for _ in range(count):
        trial.add_block(10, 3.0, 1.0, {("metric", "log_loss"): (10, 10 * champion, 10 * challenger)})


def test_a_broken_guardrail_holds_a_promotion_up_and_lets_it_pass_once_it_holds_again() -> None:
    trial = Trial(ALPHA, 0.01, 1, [LOG_LOSS])
    with_log_losses(trial, 200, 0.5, 0.6)
    assert trial.crossed
    assert trial.verdict(1000, 20_000) is None
    assert "; but guardrail log_loss 0.5 → 0.6, 0.1 worse where 0.025 is allowed" in trial.why(1000, 20_000)
    assert trial.numbers(1000)["guardrails"][0]["broken"] is True
    with_log_losses(trial, 600, 0.5, 0.5)
    assert trial.verdict(1000, 20_000) == "promote"
    assert trial.numbers(1000)["guardrails"][0]["broken"] is False


def test_a_guardrail_must_hold_of_late_too() -> None:
    trial = Trial(ALPHA, 0.01, 1, [LOG_LOSS])
    with_log_losses(trial, 900, 0.5, 0.5)
    with_log_losses(trial, 100, 0.5, 0.6)
    assert trial.guardrails[0].broken() == ""
    assert trial.verdict(1000, 20_000) is None
    assert "0.025 is allowed over the last 1000 events" in trial.why(1000, 20_000)


def test_at_the_horizon_a_broken_guardrail_rejects_with_its_numbers() -> None:
    trial = Trial(ALPHA, 0.01, 1, [LOG_LOSS])
    with_log_losses(trial, 200, 0.5, 0.6)
    assert trial.verdict(1000, 2000) == "reject"
    assert "log_loss 0.5 → 0.6" in trial.why(1000, 2000)


def test_accuracy_is_guarded_by_the_losses_themselves() -> None:
    """A tolerance lets the evidence pass a challenger that is worse by less; the guardrail does not."""
    trial = Trial(ALPHA, 0.3, 1, [Guardrail("accuracy", "higher", 0.05, 0.0)])
    feed(trial, np.full(200, -0.1))
    assert trial.crossed
    assert trial.verdict(1000, 20_000) is None
    assert "guardrail accuracy 1 → 0.9, 0.1 worse where 0.05 is allowed" in trial.why(1000, 20_000)


def test_a_guardrail_that_nobody_measured_does_not_pass() -> None:
    trial = Trial(ALPHA, 0.01, 1, [LOG_LOSS])
    feed(trial, np.full(200, 0.2))
    assert trial.verdict(1000, 20_000) is None
    assert "log_loss was not measured" in trial.why(1000, 20_000)


def in_slices(trial: Trial, rng: np.random.Generator, count: int, harmed: float) -> None:
    """Blocks of 10 events, 2 of them of carrier "b"; the challenger errs in a tenth, there in `harmed`, its rival in half."""
    for _ in range(count):
        champion = rng.random(10) < 0.5
        challenger = rng.random(10) < np.where(np.arange(10) < 2, harmed, 0.1)
        rows = {
            ("slice", "carrier", name): (int(n), float(champion[part].sum()), float(challenger[part].sum()))
            for name, part, n in (("b", slice(2), 2), ("a", slice(2, 10), 8))
        }
        trial.add_block(10, float(champion.sum()), float(challenger.sum()), rows)


def test_a_slice_that_is_worse_beyond_doubt_holds_a_promotion_up() -> None:
    rng = np.random.default_rng(3)
    trial = Trial(ALPHA, 0.01, 1, slices=True)
    in_slices(trial, rng, 600, harmed=0.9)
    assert trial.crossed
    assert trial.verdict(1000, 20_000) is None
    assert "it is worse in 1 of 2 slices: carrier = b by 0." in trial.why(1000, 20_000)
    assert trial.verdict(1000, 6000) == "reject"
    numbers = json.loads(json.dumps(trial.numbers(1000)))["slices"]
    assert (numbers["count"], numbers["worse"]) == (2, 1)
    assert numbers["rows"][0]["value"] == "b"
    assert numbers["rows"][0]["worse"] is True


def test_slices_that_are_no_worse_hold_nothing_up() -> None:
    trial = Trial(ALPHA, 0.01, 1, slices=True)
    in_slices(trial, np.random.default_rng(4), 600, harmed=0.5)
    assert trial.verdict(1000, 20_000) == "promote"


@pytest.mark.parametrize(
    ("alpha", "tolerance", "k"), [(0.0, 0.01, 1), (1.0, 0.01, 1), (0.05, -0.1, 1), (0.05, 1.0, 1), (0.05, 0.0, 0)]
)
def test_impossible_settings_are_refused(alpha: float, tolerance: float, k: int) -> None:
    with pytest.raises(ValueError, match="they lie in"):
        Trial(alpha, tolerance, k)
