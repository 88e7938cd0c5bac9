"""What detectors and the confirmation would have made of a tape: the same as in service, and measured by the book."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config import DetectorSettings, DriftSettings
from streamlearn.drift.confirm import Look, confirm, look_of, look_sizes, to_diagnose
from streamlearn.drift.detectors import build
from streamlearn.drift.offline import Case, Recorder, Shown, Tape, alarms, cases, rates
from streamlearn.drift.watch import DriftWatch

SETTINGS = DriftSettings(detectors=(DetectorSettings(name="page_hinkley", params={"threshold": 20.0}),))


def taped(*stretches: tuple[int, float], seed: int = 1) -> Tape:
    rng = random.Random(seed)
    losses = [float(rng.random() < share) for count, share in stretches for _ in range(count)]
    return Tape("binary", len(losses), [Shown("loss", loss, n - 1, n) for n, loss in enumerate(losses, 1)])


def test_alarms_are_those_of_the_detectors_alone() -> None:
    tape = taped((2000, 0.1), (2000, 0.4), (2000, 0.1))
    detector, expected = build(SETTINGS.detectors[0]), []
    for n, one in enumerate(tape.shown, 1):
        detector.update(one.value)
        if detector.drift_detected:
            expected.append(n)
    assert alarms(tape, SETTINGS.detectors) == expected != []
    both = alarms(tape, (*SETTINGS.detectors, DetectorSettings(name="dummy", params={"t_0": 500})))
    assert both == sorted({*expected, *range(500, 6001, 500)})


def test_what_is_watched_beside_the_loss_is_taken_from_the_tape() -> None:
    shown: list[Shown] = []
    for n in range(1, 3001):
        shown += [Shown("score", 0.1 if n <= 2000 else 0.9, -1, n - 1), Shown("loss", float(n % 10 == 0), n, n)]
    settings = SETTINGS.model_copy(update={"detectors": (DetectorSettings(name="adwin", on="score"),)})
    tape = Tape("binary", 3000, shown)
    [first, *_] = alarms(tape, settings.detectors)
    assert 2000 <= first < 2100
    [case, *_] = cases(tape, settings)
    assert case.alarm_n == first + 1, "said with the next loss"
    assert abs(case.change_n - 2000) <= 200, "about where the score changed, by ADWIN's buckets; the loss tells nothing"
    assert not case.confirmed, "the loss did not change"


def test_a_known_drift_is_confirmed_with_the_numbers_of_the_test() -> None:
    tape = taped((3000, 0.1), (3000, 0.4), seed=2)
    [case, *_] = [case for case in cases(tape, SETTINGS) if case.alarm_n > 3000]
    assert case.confirmed
    assert 3000 < case.alarm_n < 3200
    assert abs(case.change_n - 3000) < 100
    size = look_sizes(SETTINGS.window)[0]
    assert case.end_n == max(case.alarm_n + size, case.change_n + to_diagnose(SETTINGS)), "so large a change is soon sure"
    losses = [one.value for one in tape.shown]
    ref = losses[: case.change_n - 1 - SETTINGS.gap]
    fresh = losses[case.alarm_n : case.alarm_n + size]
    look = Look(0.0, size / SETTINGS.window)
    verdict = confirm(
        "binary", {"n": len(ref), "sum": sum(ref)}, {"n": len(fresh), "sum": sum(fresh)}, alpha=0.05, harm=0.0, k=1, seed=0,
        look=look,
    )  # fmt: skip
    assert (case.p, case.level) == (verdict.p, verdict.level)


def test_each_case_since_the_last_confirmed_change_makes_the_next_one_harder() -> None:
    settings = SETTINGS.model_copy(update={"detectors": (DetectorSettings(name="dummy", params={"t_0": 800}),)})
    found = cases(taped((6000, 0.2), (3000, 0.6)), settings)
    levels = [case.level for case in found]
    confirmed = [n for n, case in enumerate(found) if case.confirmed]
    assert confirmed
    assert confirmed[0] > 2
    assert all(a > b for a, b in pairwise(levels[: confirmed[0] + 1]))
    assert levels[confirmed[0] + 1] == levels[0]


def test_a_tape_that_ends_within_a_case_leaves_it_open() -> None:
    found = cases(taped((3000, 0.05), (100, 0.9)), SETTINGS)
    assert found[-1][2:] == (0, False, 1.0, 0.0, False)


def test_the_model_as_it_was_is_asked_where_the_live_losses_confirm_nothing() -> None:
    """A loss that rises for 120 events and is then lower than ever: unlearned at once, and yet a change."""
    tape, asked = taped((3000, 0.3), (120, 0.7), (3000, 0.1), seed=10), []

    def hindsight(case: Case, until: int) -> dict[str, float]:
        asked.append((case.alarm_n, case.change_n, until))
        return {"n": 500, "sum": 280.0}

    alone = [case for case in cases(tape, SETTINGS) if 3000 < case.alarm_n < 3200]
    assert [case.confirmed for case in alone] == [False]
    [case] = [case for case in cases(tape, SETTINGS, hindsight=hindsight) if 3000 < case.alarm_n < 3200]
    assert (case.confirmed, case.survived) == (True, True)
    assert asked[-1] == (case.alarm_n, case.change_n, case.end_n)
    assert case.end_n == case.alarm_n + SETTINGS.window
    calm = [case for case in cases(tape, SETTINGS, hindsight=lambda case, until: {"n": 500, "sum": 150.0}) if case.confirmed]
    assert calm == []


def test_numbers_that_are_no_losses_of_classes_are_tested_by_blocks() -> None:
    rng = random.Random(3)
    shown = [Shown("loss", min(1.0, rng.random() * (0.3 if n <= 3000 else 0.9)), n, n) for n in range(1, 6001)]
    assert any(case.confirmed and case.alarm_n > 3000 for case in cases(Tape("bounded", 6000, shown), SETTINGS))


def test_a_recorder_keeps_what_a_watch_is_shown() -> None:
    recorder = Recorder(["score"])
    assert recorder.new(SETTINGS, "bounded") is recorder.restore(SETTINGS, "bounded", recorder.state())
    assert recorder.wants == {"score"}
    recorder.observe("score", 0.5)
    assert recorder.update(0.25, 7, 201) is None
    recorder.reset(True)
    recorder.begin_recovery(3)
    assert recorder.tape == Tape("bounded", 201, [Shown("score", 0.5, -1, 0), Shown("loss", 0.25, 7, 201)])


def test_rates_by_hand() -> None:
    found = rates([100, 1050, 1100, 2990, 3010], [1000, 2000, 3000], 10_000, 500)
    assert (found.alarms, found.found, found.drifts, found.false) == (5, 2, 3, 2)
    assert found.mtd == (50 + 10) / 2
    assert found.stable == 10_000 - 3 * 500
    assert found.mtfa == 8500 / 2
    assert found.mdr == pytest.approx(1 / 3)
    assert found.mtr == pytest.approx(8500 / 2 / 30 * 2 / 3)
    assert found.false_rate == pytest.approx(100_000 * 2 / 8500)


def test_rates_of_nothing() -> None:
    assert rates([], [], 1000, 100)[:8] == (0, 0, 0, 0, None, 1000.0, None, None)
    nothing = rates([], [500], 1000, 100)
    assert (nothing.mdr, nothing.mtr, nothing.false_rate) == (1.0, None, 0.0)
    with pytest.raises(ValueError, match="in order"):
        rates([], [500, 400], 1000, 100)


times = st.lists(st.integers(1, 5000), unique=True, max_size=40).map(sorted)


@given(times=times, drifts=st.lists(st.integers(1, 4999), unique=True, max_size=6).map(sorted), within=st.integers(1, 3000))
def test_every_alarm_is_for_a_drift_or_false_and_no_drift_is_found_twice(times: Any, drifts: Any, within: int) -> None:
    found = rates(times, drifts, 5000, within)
    assert found.found <= min(len(drifts), len(times) - found.false)
    assert 0 <= found.false <= len(times)
    assert found.stable >= 0
    if found.mtd is not None:
        assert 0 < found.mtd <= within
    if found.mdr is not None:
        assert found.mdr == pytest.approx(1 - found.found / len(drifts))


def test_it_is_the_watch_of_the_service() -> None:
    """Every case, as a watch gives it that is reset by the verdicts."""
    tape = taped((3000, 0.15), (2500, 0.45), (2500, 0.2), (2500, 0.5), seed=9)
    watch, told = DriftWatch.new(SETTINGS, "binary"), []
    ends = {case.end_n for case in cases(tape, SETTINGS) if case.confirmed}
    for _, loss, offset, n in tape.shown:
        note = watch.update(loss, offset, n)
        if note is not None and note.kind == "alarm":
            told.append((n, note.data["change_n"]))
        elif note is not None and (look_of(note.data).last or n in ends):
            watch.reset(n in ends)
    assert told == [(case.alarm_n, case.change_n) for case in cases(tape, SETTINGS)]
    assert sum(isinstance(case, Case) and case.confirmed for case in cases(tape, SETTINGS)) >= 2
