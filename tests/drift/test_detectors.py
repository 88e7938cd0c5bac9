"""The detectors that a configuration describes: what they are, what they notice, what is refused."""

from __future__ import annotations

import pickle
import random
from typing import get_args

import pytest
from river import drift

from streamlearn.config import DetectorSettings
from streamlearn.drift.detectors import Detector, build, recent
from streamlearn.errors import ConfigError


def first_alarm(detector: Detector, losses: list[float]) -> int | None:
    for index, loss in enumerate(losses):
        detector.update(loss)
        if detector.drift_detected:
            return index
    return None


def flips(seed: int, *stretches: tuple[int, float]) -> list[float]:
    rng = random.Random(seed)
    return [float(rng.random() < share) for count, share in stretches for _ in range(count)]


def test_parameters_reach_river() -> None:
    adwin = build(DetectorSettings(name="adwin", params={"delta": 0.01, "clock": 8}))
    assert isinstance(adwin, drift.ADWIN)
    assert (adwin.delta, adwin.clock) == (0.01, 8)
    page_hinkley = build(DetectorSettings(name="page_hinkley", params={"threshold": 12.0}))
    assert isinstance(page_hinkley, drift.PageHinkley)
    assert page_hinkley.threshold == 12.0


def test_page_hinkley_looks_upwards_only() -> None:
    settings = DetectorSettings(name="page_hinkley", params={"threshold": 20.0, "delta": 0.005})
    assert first_alarm(build(settings), flips(1, (1000, 0.6), (2000, 0.1))) is None
    alarm = first_alarm(build(settings), flips(1, (1000, 0.1), (2000, 0.6)))
    assert alarm is not None
    assert 1000 < alarm < 1200


@pytest.mark.parametrize("before_after", [(0.1, 0.6), (0.6, 0.1)])
def test_adwin_notices_both_ways_and_says_how_much_is_new(before_after: tuple[float, float]) -> None:
    before, after = before_after
    detector = build(DetectorSettings(name="adwin"))
    alarm = first_alarm(detector, flips(2, (1000, before), (1000, after)))
    assert alarm is not None
    assert 1000 < alarm < 1300
    assert 0 < recent(detector) < alarm
    assert alarm - recent(detector) < 1100


def test_page_hinkley_cannot_tell_how_much_is_new() -> None:
    assert recent(build(DetectorSettings(name="page_hinkley"))) == 0


SENSITIVE = {"page_hinkley": {"threshold": 20.0}, "kswin": {"alpha": 0.005}, "fhddm": {"confidence_level": 0.0001}}
NAMES = [name for name in get_args(DetectorSettings.model_fields["name"].annotation) if name != "dummy"]
EVERY_ONE = [DetectorSettings(name=name, params=SENSITIVE.get(name, {})) for name in NAMES]


NERVOUS = {"ddm": 5, "eddm": 20}  # they alarm after thirty values already; the others hardly ever in stable stretches


@pytest.mark.parametrize("settings", EVERY_ONE, ids=lambda settings: settings.name)
def test_every_detector_notices_a_rise_of_the_errors_and_is_mostly_quiet_before(settings: DetectorSettings) -> None:
    before = 8 * 600 if settings.name == "kswin" else 600  # its window is of 100 means of 32
    early = 0
    for seed in range(10):
        detector, found = build(settings), []
        for index, loss in enumerate(flips(seed, (before, 0.15), (before, 0.6))):
            detector.update(loss)
            if detector.drift_detected:
                found.append(index)
        assert found, "none is missed"
        assert found[-1] >= before
        early += sum(index < before for index in found)
    assert early <= NERVOUS.get(settings.name, 2)


def test_fhddm_is_told_errors_and_not_right_answers() -> None:
    """River's own watches the rate of right answers fall, and would never see errors rise."""
    rise, fall = flips(5, (1000, 0.1), (1000, 0.6)), flips(5, (1000, 0.3), (1000, 0.05))
    assert first_alarm(build(DetectorSettings(name="fhddm")), rise) is not None
    assert first_alarm(build(DetectorSettings(name="fhddm")), fall) is None
    assert first_alarm(drift.binary.FHDDM(), rise) is None  # type: ignore[arg-type]  # river's own


def test_the_dummy_fires_by_the_clock_alone() -> None:
    detector = build(DetectorSettings(name="dummy", params={"t_0": 50}))
    assert first_alarm(detector, [0.0] * 200) == 49


def test_kswin_draws_the_same_in_every_replay() -> None:
    losses = flips(6, (3000, 0.2), (3000, 0.4))
    runs = []
    for _ in range(2):
        detector = build(DetectorSettings(name="kswin", every=8))
        alarms = []
        for index, loss in enumerate(losses):
            detector.update(loss)
            if detector.drift_detected:
                alarms.append(index)
        runs.append(alarms)
    assert runs[0] == runs[1]


def test_means_of_several_values_are_watched_and_an_alarm_lasts_one_value() -> None:
    alone, averaged = build(DetectorSettings(name="adwin")), build(DetectorSettings(name="adwin", every=4))
    losses = flips(7, (2000, 0.1), (2000, 0.6))
    alarms, expected = [], []
    for index in range(0, len(losses), 4):
        alone.update(sum(losses[index : index + 4]) / 4)
        if alone.drift_detected:
            expected.append((index + 3, 4 * recent(alone)))
    for index, loss in enumerate(losses):
        averaged.update(loss)
        if averaged.drift_detected:
            alarms.append((index, recent(averaged)))
    assert alarms == expected != []


@pytest.mark.parametrize("settings", EVERY_ONE, ids=lambda settings: settings.name)
def test_a_pickle_in_between_changes_nothing(settings: DetectorSettings) -> None:
    losses = flips(3, (700, 0.2), (2600, 0.6), (600, 0.2))
    whole, halved = build(settings), build(settings)
    alarms: list[list[int]] = [[], []]
    for index, loss in enumerate(losses):
        for which, detector in enumerate((whole, halved)):
            detector.update(loss)
            if detector.drift_detected:
                alarms[which].append(index)
        if index % 97 == 0:
            halved = pickle.loads(pickle.dumps(halved))
    assert alarms[0] == alarms[1]
    assert alarms[0]


def test_an_unknown_parameter_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"page_hinkley\.params\.treshold: there is no such parameter.*threshold") as caught:
        build(DetectorSettings(name="page_hinkley", params={"treshold": 3}))
    assert caught.value.key == "drift.detectors.page_hinkley.params.treshold"


def test_the_direction_is_not_for_the_configuration() -> None:
    with pytest.raises(ConfigError, match="there is no such parameter"):
        build(DetectorSettings(name="page_hinkley", params={"mode": "both"}))


@pytest.mark.parametrize("value", ["0.1", True])
def test_a_parameter_that_is_no_number_is_refused(value: bool | str) -> None:
    with pytest.raises(ConfigError, match="is not a number"):
        build(DetectorSettings(name="adwin", params={"delta": value}))


def test_a_switch_is_true_or_false() -> None:
    assert build(DetectorSettings(name="hddm_a", params={"two_sided_test": True})).two_sided_test
    with pytest.raises(ConfigError, match="1 is not true or false"):
        build(DetectorSettings(name="hddm_a", params={"two_sided_test": 1}))


@pytest.mark.parametrize("seed", range(6))
def test_page_hinkley_has_river_s_own_numbers(seed: int) -> None:
    rng = random.Random(seed)
    theirs = drift.PageHinkley(mode="up", threshold=5)
    ours = build(DetectorSettings(name="page_hinkley", params={"threshold": 5}))
    alarms = 0
    for index in range(4000):
        level = 0.2 if index < 2000 else 0.5
        loss = float(rng.random() < level) if seed % 2 else rng.random() * level
        theirs.update(loss)
        ours.update(loss)
        alarms += ours.drift_detected
        assert ours.drift_detected == theirs.drift_detected
        for name in ("_sum_increase", "_min_increase"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert (ours._x_mean.n, ours._x_mean.get()) == (theirs._x_mean.n, theirs._x_mean.get())
    assert alarms or seed % 2 == 0
