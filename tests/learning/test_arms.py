"""Arms of a trial: who counts, once, by what; blocks of as many users of either arm; and a test that can tell them apart."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.config import ModelSettings
from streamlearn.events import unit_of
from streamlearn.learning.arms import Arms
from streamlearn.learning.refusal import Refusal
from streamlearn.records import Command
from streamlearn.retrain.trial import Trial

SALT = "m@2"


def arms(size: int = 1, share: float = 0.5, impressions: int = 1, patience: float = 100.0) -> Arms:
    return Arms(7, size, share, SALT, (1, 2), 10, impressions, patience)


def users(challenger: bool, share: float = 0.5, count: int = 100) -> list[str]:
    found = [user for user in (f"u{i}" for i in range(20 * count)) if (unit_of(SALT, user) < share) == challenger]
    return found[:count]


def test_a_block_is_of_as_many_users_of_either_arm() -> None:
    one = arms(size=2)
    [a, b, c], [d, e] = users(False, count=3), users(True, count=2)
    assert one.take(a, 1, 0.5, 10, 0.0) == []
    assert one.take(b, 1, 0.1, 11, 0.0) == []
    assert one.take(c, 1, 0.0, 12, 0.0) == []
    assert one.take(d, 2, 1.0, 13, 0.0) == []
    [block] = one.take(e, 2, 0.5, 14, 0.0)
    assert block == {
        "trial": 7, "block": 0, "n": 2, "champion": pytest.approx(2 * 0.8), "challenger": pytest.approx(2 * 0.25)
    }  # fmt: skip
    assert (one.n, one.champion, one.challenger) == (2, pytest.approx(1.6), pytest.approx(0.5))


def test_only_what_the_arm_s_own_version_showed_since_the_trial_began_counts() -> None:
    one = arms()
    [user], [other] = users(False, count=1), users(True, count=1)
    one.take(user, 2, 1.0, 10, 0.0)  # the other arm's version
    one.take(user, 3, 1.0, 10, 0.0)
    one.take(user, 1, 1.0, 9, 0.0)  # shown before the trial
    assert not one.open
    assert not one.done
    one.take(user, 1, 0.25, 10, 0.0)
    [block] = one.take(other, 2, 0.75, 10, 0.0)
    assert (block["champion"], block["challenger"]) == (0.75, 0.25)


def test_a_user_counts_once_by_the_mean_of_the_first_slates() -> None:
    one = arms(impressions=2)
    [user], [other] = users(False, count=1), users(True, count=1)
    for reward in (1.0, 0.0, 0.0, 0.0):
        one.take(user, 1, reward, 10, 0.0)
    one.take(other, 2, 0.0, 10, 0.0)
    [block] = one.take(other, 2, 0.2, 10, 0.0)
    assert (block["n"], block["champion"], block["challenger"]) == (1, pytest.approx(0.5), pytest.approx(0.9))


def test_a_user_who_does_not_come_back_counts_by_what_there_was() -> None:
    one = arms(impressions=5, patience=50.0)
    [user], [other] = users(False, count=1), users(True, count=1)
    one.take(user, 1, 1.0, 10, 0.0)
    one.take(other, 2, 0.0, 10, 10.0)
    assert one.take("nobody", 9, 0.0, 10, 60.0) == []  # at its time it is not yet over
    [block] = one.take("nobody", 9, 0.0, 10, 60.1)
    assert (block["champion"], block["challenger"]) == (0.0, 1.0)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([1, 2]), st.floats(0, 1), st.floats(0, 5)), max_size=200),
    st.integers(1, 4),
    st.floats(0.1, 0.9),
    st.integers(0, 200),
)
def test_every_user_is_counted_once_and_a_restart_changes_nothing(
    slates: list[tuple[int, int, float, float]], size: int, share: float, cut: int
) -> None:
    whole, restarted = arms(size, share, 3, 20.0), arms(size, share, 3, 20.0)
    blocks: list[list[dict[str, Any]]] = [[], []]
    clock = 0.0
    for index, (user, version, reward, step) in enumerate(slates):
        clock += step
        if index == cut:
            restarted = msgspec.msgpack.decode(msgspec.msgpack.encode(restarted), type=Arms)
        for which, one in enumerate((whole, restarted)):
            blocks[which] += one.take(f"u{user}", version, reward, 10, clock)
    assert blocks[0] == blocks[1]
    assert msgspec.msgpack.encode(whole) == msgspec.msgpack.encode(restarted)
    assert not set(whole.open) & set(whole.done)
    assert whole.n == sum(block["n"] for block in blocks[0])
    assert all(size <= block["n"] and 0 <= block["champion"] <= block["n"] + 1e-9 for block in blocks[0])
    assert 2 * whole.n + sum(side.n for side in whole.sides) <= len(whole.done)


def outcome(champion: float, challenger: float, share: float, seed: int) -> Trial:
    """A trial of 3,000 users who click with these chances on each of five slates."""
    draw, one = random.Random(seed), arms(10, share, 5)
    trial = Trial(0.05, 0.0, 1)
    for index in range(3000):
        user = f"{seed}-{index}"
        shown = 2 if unit_of(SALT, user) < share else 1
        for _ in range(5):
            reward = float(draw.random() < (challenger if shown == 2 else champion))
            for block in one.take(user, shown, reward, 10, float(index)):
                trial.add_block(block["n"], block["champion"], block["challenger"])
    return trial


def test_a_trial_by_arms_finds_the_better_version() -> None:
    assert sum(outcome(0.2, 0.35, 0.5, seed).crossed for seed in range(10)) == 10
    assert outcome(0.2, 0.4, 0.3, 1).crossed


def test_a_trial_by_arms_is_rarely_won_by_chance() -> None:
    assert sum(outcome(0.2, 0.2, share, seed).crossed for share in (0.1, 0.5) for seed in range(20)) <= 3


def test_a_share_that_is_none_is_refused() -> None:
    model = ModelSettings(stream="s", task="recommend", pipeline="logistic")
    assert Arms.of(Command(1, "m", "promote", 2), model, (2, 1), 10, 0) is None
    with pytest.raises(Refusal, match="share of 1"):
        Arms.of(Command(1, "m", "try", 2, share=1.0, salt=SALT), model, (1, 2), 10, 0)
    made = Arms.of(Command(5, "m", "try", 2, share=0.25, salt=SALT), model, (1, 2), 10, 3)
    assert made is not None
    assert (made[0].trial, made[0].impressions, made[0].patience, made[0].since) == (5, 5, 3600.0, 3)
    assert made[1].extra == {"version": 2, "share": 0.25, "salt": SALT}
