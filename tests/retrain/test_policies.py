"""When a retrain is worth its price: each policy's rule, what all of them keep to, and the table of their names."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from retrain_pasts import BATCHES, BEGAN, CONFIRMED, HOUR, LOSSES, past_of, seen_of, seens, simulated

from streamlearn.config_errors import ConfigErrors
from streamlearn.config_retrain import PolicySettings
from streamlearn.errors import ModelError
from streamlearn.retrain.cron import Cron
from streamlearn.retrain.debt import Debt, reflected
from streamlearn.retrain.plain import NEVER, Always, Floor, Labels, Never, Periodic, grid
from streamlearn.retrain.policies import POLICIES, build, tuned
from streamlearn.retrain.policy import Batch, Choice, Confirmed, Policy, Seen, Tunable
from streamlearn.retrain.simulate import oracle, replay

UPF: dict[str, Any] = {
    "origin": BEGAN, "span": 24 * HOUR, "step": HOUR, "batch": 500.0, "coefficients": [0.0, 0.1, 0.0, 0.02], "intercept": 0.3,
    "means": [0.3, 0.3, 0.6, 0.5], "scales": [0.2, 0.2, 0.2, 0.4], "variance": 0.001, "growth": 0.1,
}  # fmt: skip
PARAMS: dict[str, list[dict[str, Any]]] = {
    "debt": [{}, {"gate": False}, {"epsilon": 0.0}],
    "cron": [{"schedule": "*/20 * * * *"}, {"schedule": "0 * * * *", "timezone": "Asia/Kolkata", "window": "10:00-13:30"}],
    "floor": [{"loss": 0.3, "events": 700}],
    "labels": [{"events": 1500}],
    "never": [{}],
    "always": [{}],
    "periodic": [{"every": 3}, {"every": 4, "after": 2}],
    "cara_t": [{}, {"tau": -5.0}, {"tau": 3, "raw": True}],
    "cara_ct": [{}, {"tau": 10.0}, {"raw": True}],
    "cara_p": [{"phi": 2, "a": 1}],
    "upf": [UPF, UPF | {"ahead": 3, "quantile": 0.5}],
}
ALL = [PolicySettings(name=name, params=params) for name, each in PARAMS.items() for params in each]


def made(name: str, **params: Any) -> Policy:
    return build(PolicySettings(name=name, params=params))


# What all of them keep to.


def test_every_policy_is_tried_here() -> None:
    assert set(PARAMS) == set(POLICIES)


@given(seen=seens())
def test_a_policy_is_pure_and_its_sum_decides(seen: Seen) -> None:
    before = copy.deepcopy(seen)
    for settings in ALL:
        policy = build(settings)
        choice = policy.decide(seen)
        assert policy.decide(before) == choice, settings
        assert seen == before, settings
        assert choice.total >= choice.threshold if choice.retrain else choice.total <= choice.threshold, settings
        assert not (choice.retrain and choice.settled), settings
        assert choice.why, settings
        numbers = json.loads(json.dumps(choice.numbers, allow_nan=False))
        assert {"sum", "threshold", "kappa", "reference", "batches", "labelled"} <= set(numbers), settings
        assert (numbers["sum"], numbers["batches"]) == (choice.total, len(seen.batches)), settings
        json.dumps(choice[:5], allow_nan=False)


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: f"{settings.name} {settings.params}"[:60])
def test_its_params_make_the_same_policy_again(settings: PolicySettings) -> None:
    policy = build(settings)
    assert isinstance(policy, Policy)
    assert policy.name == settings.name
    assert build(PolicySettings(name=policy.name, params=json.loads(json.dumps(policy.params())))) == policy


def test_what_each_is_to_be_shown() -> None:
    policies = [build(settings) for settings in ALL]
    assert {policy.name for policy in policies if policy.gated} == {"debt"}
    assert {policy.name for policy in policies if policy.evidence} == {"debt", "floor", "cara_t", "cara_ct", "upf"}
    assert {policy.name for policy in policies if policy.sample} == {"cara_t", "cara_ct", "upf"}
    assert not made("debt", gate=False).gated


# The debt.


def test_the_debt_answers_a_confirmed_drift_when_it_has_cost_more_than_a_retrain() -> None:
    drift = Confirmed(reference=0.2, fresh=0.25, n=300)  # 300 · (.05 − .01) = 12
    keep = Debt().decide(seen_of([], confirmed=drift, reference=0.9))
    assert keep[:3] == (False, pytest.approx(12.0), 20.0)
    go = Debt().decide(seen_of([0.23], confirmed=drift))
    assert (go.retrain, go.total) == (True, pytest.approx(22.0))
    assert go.numbers | {"sum": 0.0, "start": 0.0} == {
        "sum": 0.0, "start": 0.0, "threshold": 20.0, "kappa": 20.0, "reference": 0.2, "batches": 1, "labelled": 500,
        "epsilon": 0.01,
    }  # fmt: skip
    assert go.why == "22.0 lost events above the reference 0.2000, more than a retrain costs (20)"


def test_a_large_drift_need_not_wait_for_a_batch() -> None:
    assert Debt().decide(seen_of([], confirmed=Confirmed(0.2, 0.5, 200))).retrain


def test_a_drift_that_is_over_before_it_cost_a_retrain_is_settled() -> None:
    drift = Confirmed(reference=0.2, fresh=0.25, n=300)
    assert not Debt().decide(seen_of([], confirmed=drift)).settled
    assert not Debt().decide(seen_of([0.2], confirmed=drift)).settled  # 5 of the 12 are paid back
    over = Debt().decide(seen_of([0.2, 0.18], confirmed=drift))
    assert (over.retrain, over.total, over.settled) == (False, 0.0, True)
    again = Debt().decide(seen_of([0.2, 0.18, 0.22], confirmed=drift))
    assert (again.total, again.settled) == (pytest.approx(5.0), False)


def test_the_debt_says_nothing_without_a_confirmation_unless_told_to() -> None:
    assert Debt().decide(seen_of([0.9, 0.9]))[:3] == (False, 0.0, 20.0)
    free = Debt(gate=False)
    assert free.decide(seen_of([0.9])).retrain
    assert not free.decide(seen_of([0.9], reference=None)).retrain
    assert not free.decide(seen_of([0.0, 0.2, 0.2])).settled  # no drift waits for a decision


def test_the_threshold_may_be_some_times_what_a_retrain_costs() -> None:
    once, twice = Debt(gate=False), Debt(gate=False, times=2)
    assert once.decide(seen_of([0.27])).retrain
    keep = twice.decide(seen_of([0.27]))
    assert (keep.retrain, keep.total, keep.threshold) == (False, pytest.approx(30.0), 40.0)
    assert "not more than 2 times what a retrain costs (40)" in keep.why
    assert twice.decide(seen_of([0.27, 0.27])).retrain
    assert once.params()["times"] == 1


@given(st.floats(0, 100), st.lists(st.floats(-50, 50), max_size=30))
@example(0.0, [])
def test_the_reflected_sum_is_its_recursion(start: float, steps: list[float]) -> None:
    expected = [start]
    for step in steps:
        expected.append(max(0.0, expected[-1] + step))
    assert reflected(start, np.array(steps)) == pytest.approx(np.array(expected), abs=1e-9)


@given(BATCHES, CONFIRMED, st.integers(0, 11), LOSSES)
def test_the_debt_grows_with_the_losses(batches: list[Batch], drift: Confirmed, place: int, more: float) -> None:
    worse = [
        batch._replace(loss=min(1.0, batch.loss + more)) if index == place else batch for index, batch in enumerate(batches)
    ]
    seen = seen_of([], confirmed=drift)
    debts = [Debt().decide(replace(seen, batches=rows)).total for rows in (batches, worse)]
    assert debts[0] <= debts[1] + 1e-9


@given(BATCHES.filter(lambda batches: len(batches) > 1), CONFIRMED, st.integers(0, 10))
def test_joining_batches_can_only_lower_the_debt(batches: list[Batch], drift: Confirmed, place: int) -> None:
    place = min(place, len(batches) - 2)
    one, two = batches[place : place + 2]
    joined = Batch(one.n + two.n, (one.n * one.loss + two.n * two.loss) / (one.n + two.n), two.at, 0.0)
    seen = seen_of([], confirmed=drift)
    debts = [
        Debt().decide(replace(seen, batches=rows)).total
        for rows in (tuple(batches), (*batches[:place], joined, *batches[place + 2 :]))
    ]
    assert debts[1] <= debts[0] + 1e-9


def test_on_a_static_error_the_debt_stays_small_where_a_plain_sum_grows() -> None:
    """ALGORITHMS: error .2, event by event: the plain sum grows by .16 an event, the debt stays near σ²/2ε = 8."""
    errors = np.random.default_rng(7).random(200_000) < 0.2
    debt = reflected(0.0, errors - 0.2 - 0.01)
    assert debt.mean() == pytest.approx(0.2 * 0.8 / (2 * 0.01), rel=0.25)
    assert np.maximum(0.0, errors - 0.2).sum() / len(errors) == pytest.approx(0.16, abs=0.005)


def test_on_a_static_stream_the_debt_does_not_retrain() -> None:
    past = simulated(60, lambda _, __: 0.2, seed=3)
    assert replay(Debt(gate=False), past, 50).retrains == []


@pytest.mark.parametrize("kappa", [5.0, 20.0, 200.0])
@pytest.mark.parametrize("kind", ["abrupt", "rotating"])
def test_the_debt_costs_little_more_than_hindsight(kind: str, kappa: float) -> None:
    """ALGORITHMS: 1.0 to 1.3 times the oracle on abrupt and rotating drift."""

    def rate(i: int, j: int) -> float:
        if kind == "abrupt":
            return 0.2 if i // 15 == (j - 1) // 15 else 0.35
        return 0.2 + 0.3 * math.sin(math.pi * (j - i - 1) / 40) ** 2

    past = simulated(60, rate, seed=6)
    best, debt = oracle(past, kappa).cost, replay(Debt(gate=False), past, kappa).cost
    assert debt < 1.3 * best
    assert debt < replay(Never(), past, kappa).cost


# The clock.


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def clock(now: float, since: float) -> Seen:
    return Seen(batches=(), reference=None, kappa=20.0, now=now, since=since)


def test_a_schedule_is_due_once_after_each_moment() -> None:
    nightly = Cron(schedule="30 3 * * *")
    since = at("2026-05-01 12:00")
    early = nightly.decide(clock(at("2026-05-02 03:29"), since))
    assert (early.retrain, early.total, early.threshold) == (False, 0.0, 0.0)
    assert early.why == "nothing was due since the last retrain; next 2026-05-02 03:30 UTC"
    sharp = nightly.decide(clock(at("2026-05-02 03:30"), since))
    assert (sharp.retrain, sharp.total, sharp.why) == (True, 15.5 * HOUR, "due since 2026-05-02 03:30 UTC")
    assert (sharp.numbers["moment"], sharp.numbers["next"]) == (at("2026-05-02 03:30"), at("2026-05-03 03:30"))
    assert nightly.decide(clock(at("2026-05-03 01:00"), since)).retrain  # late, and better than never
    assert not nightly.decide(clock(at("2026-05-02 03:31"), since=at("2026-05-02 03:30"))).retrain
    assert nightly.decide(clock(at("2026-05-02 03:31"), since=at("2026-05-02 03:30") - 0.5)).retrain


def test_a_schedule_is_read_in_its_zone() -> None:
    vienna = Cron(schedule="30 3 * * *", timezone="Europe/Vienna")
    assert vienna.next(at("2026-07-01 00:00")) == at("2026-07-01 01:30")
    assert vienna.next(at("2026-01-01 00:00")) == at("2026-01-01 02:30")
    assert vienna.local(at("2026-07-01 01:30")) == "2026-07-01 03:30 CEST"


def test_a_moment_that_spring_passes_over_comes_when_the_gap_ends() -> None:
    """Europe/Vienna, 29 March 2026: 02:00 becomes 03:00."""
    vienna = Cron(schedule="30 2 * * *", timezone="Europe/Vienna")
    gap_ends = at("2026-03-29 01:00")  # in UTC
    assert vienna.next(at("2026-03-28 12:00")) == gap_ends
    since = at("2026-03-28 12:00")
    assert not vienna.decide(clock(gap_ends - 1, since)).retrain
    assert vienna.decide(clock(gap_ends, since)).retrain
    assert not vienna.decide(clock(gap_ends + HOUR, gap_ends + 1)).retrain  # once that day
    assert vienna.next(gap_ends) == at("2026-03-30 00:30")


def test_a_moment_that_autumn_brings_twice_counts_once() -> None:
    """America/New_York, 1 November 2026: 01:00 to 02:00 come twice."""
    zone = "America/New_York"
    new_york = Cron(schedule="30 1 * * *", timezone=zone)
    first, second = at("2026-11-01 01:30", zone), at("2026-11-01 01:30", zone, fold=1)
    assert second - first == HOUR
    since = at("2026-10-31 12:00", zone)
    assert not new_york.decide(clock(first - 1, since)).retrain
    for moment in (first, first + HOUR / 2, first + 0.75 * HOUR, second, second + HOUR):
        assert new_york.last(moment) == first
        assert new_york.decide(clock(moment, since)).retrain
        assert not new_york.decide(clock(moment, since=first)).retrain
    assert new_york.next(first) == at("2026-11-02 01:30", zone)


ZONES = ["UTC", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]


@given(
    st.sampled_from(["30 2 * * *", "*/30 * * * *", "15 1,2,3 * * *", "0 0 * * 0", "59 1-3 * * *", "30 2 1 * *"]),
    st.sampled_from(ZONES),
    st.sampled_from([(2026, 3, 28), (2026, 3, 8), (2026, 10, 24), (2026, 10, 31), (2026, 4, 4), (2026, 10, 3), (2026, 6, 1)]),
    st.integers(0, 2 * 86_400),
)
@example("15 1,2,3 * * *", "America/New_York", (2026, 10, 31), 108_000)
def test_the_last_moment_is_the_one_before_the_next(schedule: str, zone: str, day: tuple[int, int, int], ahead: int) -> None:
    cron = Cron(schedule=schedule, timezone=zone)
    now = datetime(*day, tzinfo=UTC).timestamp() + ahead
    last, following = cron.last(now), cron.next(now)
    assert last <= now < following
    assert cron.next(last) == following
    assert cron.last(following) == following
    assert cron.last(following - 0.5) <= now


def test_a_window_lets_retrains_begin_only_within_it() -> None:
    zone = "Europe/Vienna"
    noon = Cron(schedule="0 12 * * *", timezone=zone, window="22:00-06:00")
    since = at("2026-05-01 11:00", zone)
    waits = noon.decide(clock(at("2026-05-01 21:59", zone), since))
    assert (waits.retrain, waits.total) == (False, 0.0)
    assert waits.why == "due since 2026-05-01 12:00 CEST, waits for 2026-05-01 22:00 CEST"
    for moment in ("2026-05-01 22:00", "2026-05-02 05:59"):
        assert noon.decide(clock(at(moment, zone), since)).retrain
    late = noon.decide(clock(at("2026-05-02 06:00", zone), since))
    assert not late.retrain
    assert late.why == (
        "the one of 2026-05-01 12:00 CEST was missed, its window closed at 2026-05-02 06:00 CEST; next 2026-05-02 12:00 CEST"
    )
    assert noon.decide(clock(at("2026-05-02 22:00", zone), since)).retrain


def test_a_moment_within_the_window_is_missed_when_it_closes() -> None:
    nightly = Cron(schedule="0 3 * * *", window="02:00-05:00")
    since = at("2026-05-01 12:00")
    assert nightly.decide(clock(at("2026-05-02 03:00"), since)).retrain
    assert nightly.decide(clock(at("2026-05-02 04:59"), since)).retrain
    assert not nightly.decide(clock(at("2026-05-02 05:00"), since)).retrain
    assert "was missed" in nightly.decide(clock(at("2026-05-03 02:30"), since)).why  # the window is open, its moment to come
    assert nightly.decide(clock(at("2026-05-03 03:00"), since)).retrain


def test_a_window_after_midnight_holds_a_moment_before_it() -> None:
    owl = Cron(schedule="30 23 * * *", window="23:00-01:00")
    assert owl.decide(clock(at("2026-05-02 00:59"), at("2026-05-01 12:00"))).retrain
    assert not owl.decide(clock(at("2026-05-02 01:00"), at("2026-05-01 12:00"))).retrain


def test_a_window_that_begins_in_the_gap_of_spring_opens_when_the_gap_ends() -> None:
    """Europe/Vienna, 29 March 2026: 02:00 becomes 03:00, at 01:00 UTC."""
    cron = Cron(schedule="0 1 * * *", timezone="Europe/Vienna", window="02:30-03:30")
    since, gap_ends = at("2026-03-28 12:00"), at("2026-03-29 01:00")
    assert not cron.decide(clock(gap_ends - 1, since)).retrain
    assert cron.decide(clock(gap_ends, since)).retrain
    assert cron.decide(clock(gap_ends + HOUR / 2 - 1, since)).retrain
    assert not cron.decide(clock(gap_ends + HOUR / 2, since)).retrain
    lost = Cron(schedule="0 1 * * *", timezone="Europe/Vienna", window="02:15-02:45")  # that day it has no such hours
    assert lost.decide(clock(gap_ends, since)).why.endswith("waits for 2026-03-30 02:15 CEST")


def test_a_window_in_the_hour_that_comes_twice_in_autumn_opens_the_first_time() -> None:
    """Europe/Vienna, 25 October 2026: 02:00 to 03:00 come twice, from 00:00 UTC and from 01:00 UTC."""
    cron = Cron(schedule="0 1 * * *", timezone="Europe/Vienna", window="02:15-02:45")
    since, first = at("2026-10-24 12:00"), at("2026-10-25 00:15")
    assert [cron.decide(clock(first + minutes * 60, since)).retrain for minutes in (-1, 0, 29, 30, 60)] == [
        False, True, True, False, False,
    ]  # fmt: skip


# Floors, counts, and what they are compared with.


def test_a_floor_is_under_the_mean_of_the_last_events() -> None:
    floor = Floor(loss=0.3, events=1000)
    few = floor.decide(seen_of([0.9], n=999))
    assert (few.retrain, few.total, few.why[:15]) == (False, 0.0, "only 999 of 100")
    assert floor.decide(seen_of([0.9, 0.29, 0.29]))[:3] == (False, pytest.approx(0.29), 0.3)
    assert floor.decide(seen_of([0.0, 0.31, 0.31]))[:3] == (True, pytest.approx(0.31), 0.3)
    assert floor.decide(seen_of([0.1, 0.4], n=600)).total == pytest.approx(0.6 * 0.4 + 0.4 * 0.1)


def test_labels_are_counted() -> None:
    assert not Labels(events=1001).decide(seen_of([0.1, 0.1])).retrain
    enough = Labels(events=1000).decide(seen_of([0.1, 0.1]))
    assert enough[:3] == (True, 1000.0, 1000.0)


def test_never_and_always_are_what_they_say() -> None:
    assert not Never().decide(seen_of([1.0] * 50)).retrain
    assert Always().decide(seen_of([0.0])).retrain
    assert not Always().decide(seen_of([])).retrain


def test_a_period_is_counted_in_batches_also_when_older_ones_were_joined() -> None:
    periodic = Periodic(every=4, after=2)
    assert [periodic.decide(seen_of([0.1] * k)).retrain for k in range(6)] == [False, False, False, False, True, True]
    assert [periodic.decide(seen_of([0.1] * k, first=True)).retrain for k in range(4)] == [False, False, True, True]
    joined = replace(seen_of([0.1, 0.1]), batches=(Batch(1500, 0.1, BEGAN, 0.1), Batch(500, 0.1, BEGAN, 0.1)))
    assert periodic.decide(joined)[:3] == (True, 4.0, 4.0)


def test_a_period_is_tuned_to_the_rhythm_of_its_past() -> None:
    past = simulated(40, lambda i, j: 0.2 if (i - 2) // 6 == (j - 3) // 6 else 0.4, seed=1)
    found = Periodic(every=1).tuned(past, 20)
    assert found == Periodic(every=6, after=2)
    assert isinstance(found, Tunable)
    assert found.tuned(past, 1e6).every == 40 * NEVER  # no retrain is worth that


@given(st.integers(1, 400))
def test_the_grid_holds_each_period_once_and_its_offsets(length: int) -> None:
    tried = grid(length)
    assert len(tried) == len(set(tried)) <= 17 * 8 + 1
    assert {1, length} <= {every for every, _ in tried}
    assert tried[0] == (NEVER * length, 0)
    assert all(1 <= after <= every <= length for every, after in tried[1:])


# The table of names.


def errors(name: str, **params: Any) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        build(PolicySettings(name=name, params=params), "models.m.retrain.policies[1]")
    keys = [error.key for error in caught.value.errors]
    assert all(key.startswith("models.m.retrain.policies[1].") for key in keys)
    return [f"{error.key.partition('].')[2]}: {error.problem}. {error.fix}" for error in caught.value.errors]


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("dept", {}, "name: there is no policy 'dept'. Did you mean debt?"),
        ("xyzzy", {}, "Write one of debt, cron, floor, labels, never, always, periodic, cara_t, cara_ct, cara_p, upf."),
        ("debt", {"epsilno": 0.1}, "params.epsilno: there is no such setting. Did you mean 'epsilon'?"),
        ("debt", {"foo": 0.1}, "params.foo: there is no such setting. Use some of epsilon, gate"),
        ("never", {"foo": 0.1}, "params.foo: there is no such setting. Remove it: never takes none"),
        ("debt", {"epsilon": 1.0}, "params.epsilon: 1.0 is out of range. Write a number below 1"),
        ("debt", {"gate": "no"}, "params.gate: 'no' is not true or false"),
        ("floor", {}, "params.loss: is missing. Add it"),
        ("floor", {"loss": 0}, "params.loss: 0 is out of range. Write a number above 0"),
        ("labels", {"events": 0}, "params.events: 0 is out of range. Write a number of at least 1"),
        ("periodic", {"every": 1.5}, "params.every: 1.5 is not a whole number"),
        ("cara_t", {"tau": math.inf}, "params.tau: inf is not a finite number"),
        ("cara_p", {"phi": 2, "a": -1}, "params.a: -1 is out of range"),
        ("cron", {}, "params.schedule: is missing"),
        ("cron", {"schedule": "30 3 * *"}, "params.schedule: '30 3 * *' is not five fields. Write minute, hour, day"),
        ("cron", {"schedule": "@daily"}, "'@daily' is not five fields"),
        ("cron", {"schedule": "61 * * * *"}, "is no cron expression (Bad minute). Write minute"),
        ("cron", {"schedule": "0 0 31 2 *"}, "is no cron expression (Bad day-of-month)"),
        ("cron", {"schedule": "0 0 */29 2 1#5"}, "params.schedule: '0 0 */29 2 1#5' never comes"),
        ("cron", {"schedule": "0 0 * 2 1#5", "timezone": "Mars"}, "params.timezone: there is no time zone 'Mars'"),
        ("cron", {"schedule": "* * * * *", "timezone": "../etc"}, "params.timezone: there is no time zone"),
        ("cron", {"schedule": "* * * * *", "window": "1-2"}, "params.window: '1-2' is not HH:MM-HH:MM"),
        ("cron", {"schedule": "* * * * *", "window": "22:00-24:00"}, "params.window: '22:00-24:00' is not HH:MM-HH:MM"),
        ("cron", {"schedule": "* * * * *", "window": "02:00-02:00"}, "is empty. Write two different times, or leave it out"),
        ("upf", {}, "upf needs the forecast that was fitted to a past, and lacks origin, span"),
        ("upf", UPF | {"scales": [1.0, 1.0]}, "params.scales: [1.0, 1.0] is not usable"),
        ("upf", UPF | {"scales": [1.0, 1.0, 0.0, 1.0]}, "params.scales: each must be above 0. Copy the params that"),
        ("own_policies:Eagre", {}, "name: own_policies:Eagre: own_policies has no 'Eagre'. Did you mean 'Eager'?"),
        ("own_policies:Eager", {"often": 1}, "unexpected keyword argument 'often'. It is Eager(after"),
        ("own_policies:Eager", {"after": 0}, "own_policies:Eager raised ValueError: after must be at least 1"),
        ("own_policies:broken", {}, "is a str, not a class. Name the class of a policy"),
        ("own_policies:the_class", {}, "gives the class Eager, which is no policy: it is not an instance"),
        ("not_there:Eager", {}, "there is no module 'not_there'. Install it"),
        (":", {}, "':' is not an import path. Write package.module:class"),
    ],
)
def test_an_error_says_what_is_wrong_and_what_to_write(name: str, params: dict[str, Any], words: str) -> None:
    [error] = errors(name, **params)
    assert words in error


def test_all_that_is_wrong_is_told_at_once() -> None:
    told = errors("cron", schedule="x", timezone=3, window="soon", when="now")
    assert [error.partition(":")[0] for error in told] == [
        "params.schedule", "params.timezone", "params.window", "params.when",
    ]  # fmt: skip


def test_a_policy_of_ones_own_is_called_with_its_params() -> None:
    policy = made("own_policies:Eager", after=2)
    assert policy.params() == {"after": 2}
    assert replay(policy, past_of(np.full((6, 6), 0.2)), 1).retrains == [2, 4]


def test_a_class_that_is_no_policy_is_refused_with_what_it_lacks() -> None:
    [error] = errors("own_policies:Half")
    assert error == (
        "name: own_policies:Half gives a Half, which is no policy: its `gated` is 'no', not a bool, it lacks `evidence` "
        "(bool), its `sample` is True, not an int, it lacks `params()`. See streamlearn.retrain.policy.Policy"
    )


def test_those_with_params_to_be_found_are_tuned_by_name() -> None:
    past = simulated(12, lambda i, j: min(1.0, 0.2 + 0.05 * (j - i)), seed=2)
    found = {name: tuned(name, past, 20) for name in POLICIES}
    assert {name for name, policy in found.items() if policy is not None} == {"periodic", "cara_t", "cara_ct", "cara_p", "upf"}
    assert all(policy.name == name for name, policy in found.items() if policy is not None)
    with pytest.raises(ModelError, match="6 at least"):
        tuned("upf", past_of(np.full((5, 5), 0.2)), 20)


def test_the_table_is_there_without_what_takes_long_to_import() -> None:
    code = "import sys, streamlearn.retrain.policies; print(*sorted({'river', 'scipy', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_choice_has_no_numbers_unless_given() -> None:
    assert Choice(False, 0.0, 1.0, "keep").numbers == {}
