"""How near a detector is to an alarm, told by its own statistic and its own threshold."""

from __future__ import annotations

import random

import numpy as np
import pytest

from streamlearn.config import DetectorSettings, DriftSettings
from streamlearn.drift.detectors import build
from streamlearn.drift.statistics import MOST, statistic
from streamlearn.drift.watch import DriftWatch, labels

EXACT = ["page_hinkley", "ddm", "eddm", "fhddm", "hddm_a", "hddm_w"]
PARAMS: dict[str, dict[str, float]] = {"page_hinkley": {"threshold": 10.0}}


def losses(seed: int, before: float, after: float, n: int = 2000) -> list[float]:
    draw = random.Random(seed).random
    return [float(draw() < (before if index < n else after)) for index in range(2 * n)]


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_is_at_least_one_exactly_when_the_detector_fires(name: str, seed: int) -> None:
    detector = build(DetectorSettings(name=name, params=PARAMS.get(name, {})))
    fired, told = 0, 0
    near = 0.05 if name == "fhddm" else 1e-9  # it has let go of its oldest value
    for loss in losses(seed, 0.15, 0.6):
        detector.update(loss)
        value = statistic(detector)
        told += value is not None
        fired += detector.drift_detected
        if detector.drift_detected:
            assert value is not None
            assert value >= 1 - near
        elif value is not None:
            assert 0 <= value <= 1 + near
    assert fired
    assert told > 1000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_adwins_rises_before_it_fires_and_stays_low_without_a_change(seed: int) -> None:
    detector = build(DetectorSettings(name="adwin"))
    shown = losses(seed, 0.15, 0.5)
    calm, last = [], 0.0
    for index, loss in enumerate(shown):
        seen = np.array(shown[:index])
        value = statistic(detector, seen) if index % 8 == 0 else None
        last = last if value is None else value
        if index < 2000 and value is not None:
            calm.append(value)
        detector.update(loss)
        if detector.drift_detected:
            break
    assert 2000 < index < 2200
    assert max(calm) < 1.05
    assert last > 0.8


def test_adwin_tells_nothing_without_the_values_it_was_shown_or_with_too_few() -> None:
    detector = build(DetectorSettings(name="adwin"))
    for _ in range(100):
        detector.update(0.0)
    assert statistic(detector) is None
    assert statistic(detector, np.zeros(50)) is None
    assert statistic(detector, np.zeros(100)) == 0.0


def test_kswins_is_the_logarithm_of_p_by_that_of_its_level() -> None:
    detector = build(DetectorSettings(name="kswin", every=1))
    draw = random.Random(5).random
    for _ in range(99):
        detector.update(draw())
    assert statistic(detector) is None
    detector.update(draw())
    value = statistic(detector)
    assert value is not None
    assert 0 <= value < 1
    detector.p_value = 0.0  # type: ignore[attr-defined]
    assert statistic(detector) == MOST


def test_one_that_sees_means_of_several_is_told_as_it_is_and_a_dummy_has_none() -> None:
    averaged = build(DetectorSettings(name="page_hinkley", every=10, params={"threshold": 5.0}))
    for loss in losses(1, 0.1, 0.1, 500):
        averaged.update(loss)
    value = statistic(averaged)
    assert value is not None
    assert 0 <= value < 1
    assert statistic(build(DetectorSettings(name="dummy"))) is None


def test_a_watch_names_its_detectors_and_rests_while_a_case_is_judged() -> None:
    detectors = [{"name": "adwin"}, {"name": "page_hinkley"}, {"name": "page_hinkley", "on": "score"}, {"name": "page_hinkley"}]
    settings = DriftSettings.model_validate({"detectors": detectors, "min_reference": 200, "window": 200})
    assert labels(settings) == ["adwin", "page_hinkley", "page_hinkley on score", "page_hinkley 2"]
    watch = DriftWatch.new(settings, "binary")
    for n, loss in enumerate(losses(1, 0.1, 0.1, 400)):
        assert watch.update(loss, n, n + 1) is None
    before = watch.state()
    assert set(watch.statistics()) == {"adwin", "page_hinkley", "page_hinkley 2"}  # no score was shown
    assert watch.state() == before
    for n in range(800, 2000):
        note = watch.update(1.0, n, n + 1)
        if note is not None:
            break
    assert note is not None
    assert note.kind == "alarm"
    assert watch.alarms == 1
    assert watch.statistics() == {}
