"""The bet with the roles swapped: it finds a version that turned bad, and leaves a good one alone."""

from __future__ import annotations

import random

import pytest

from streamlearn.retrain.reversal import Reversal


def play(seed: int, lift: float, calm: int, events: int, length: int = 1) -> Reversal:
    """Blocks of 10 of which a tenth is disagreed about; after `calm` events the new version is worse by `lift`."""
    rng, test = random.Random(seed), Reversal(0.05, length)
    while test.events < events and not test.crossed:
        new = old = 0
        for _ in range(10):
            u = rng.random()
            if u < 0.05 + (lift if test.events >= calm else 0.0):
                new += 1
            elif u > 0.95:
                old += 1
        test.add_block(10, float(new), float(old))
    return test


def test_equal_versions_are_left_alone_within_the_level() -> None:
    assert sum(play(seed, 0.0, 0, 5000).crossed for seed in range(200)) <= 12


@pytest.mark.parametrize(("lift", "within"), [(0.3, 900), (0.9, 500)])
def test_a_version_that_turns_bad_at_once_is_found_soon(lift: float, within: int) -> None:
    test = play(1, lift, 1000, 10_000)
    assert test.crossed
    assert test.events - 1000 <= within
    assert test.mean_difference > 0
    assert test.numbers()["peak"] >= test.numbers()["threshold"]


def test_blocks_are_put_together_to_the_length_that_was_measured() -> None:
    test = Reversal(0.05, 4)
    for _ in range(11):
        test.add_block(10, 5.0, 5.0)
    assert (test.blocks, test.events) == (2, 110)


@pytest.mark.parametrize("block", [(0, 0.0, 0.0), (2, 3.0, 0.0), (2, 0.0, -1.0)])
def test_a_block_that_cannot_be_is_refused(block: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="cannot have loss sums"):
        Reversal(0.05, 1).add_block(*block)
