"""What control writes into the history: when, of what; it goes on after a restart and never keeps control from judging."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from streamlearn.config import parse
from streamlearn.control.chronicle import BUDGET_S, SILENT_S, TRIM_S, Chronicle
from streamlearn.control.course import Course
from streamlearn.control.sight import Statuses
from streamlearn.control.state import State
from streamlearn.errors import StoreFull, StoreUnavailable
from streamlearn.history import Series, read
from streamlearn.records import Status
from streamlearn.testing import FakeClock, Faults, MemoryStore

T0 = 1_767_225_600.0
SCORES = {"n": 400, "window": {"accuracy": 0.9}, "baselines": {"majority": {"window_accuracy": 0.8}}}


class Desk:
    """A chronicle over fakes; what policies, fits and the observer say may be set."""

    def __init__(self, shards: int = 1, names: Sequence[str] = ("m",), **history: Any) -> None:
        model = {"stream": "s", "task": "binary", "pipeline": "logistic"}
        tree = {"streams": {"s": {"partitions": shards}}, "models": dict.fromkeys(names, model), "history": history}
        self.settings = parse(tree, {})
        self.clock, self.timer, self.store, self.faults = FakeClock(T0), FakeClock(0.0), MemoryStore(), Faults()
        self.states = [State(name, self.settings.models[name], shards) for name in names]
        self.inputs: Any = None
        self.said: list[Any] = []
        self.progress: tuple[int, int] | None = None
        self.start()

    @property
    def state(self) -> State:
        return self.states[0]

    def start(self) -> None:
        store = self.faults.over(self.store.reopen())
        self.statuses = Statuses(store, 0.0)
        self.chronicle = Chronicle(store, self.settings, self.statuses, self.timer)

    def report(self, shard: int = 0, name: str = "m", **fields: Any) -> None:
        base: dict[str, Any] = {
            "model": name, "shard": shard, "generation": 1, "version": 1, "shadow": None, "position": 10, "end": 12, "log": "l",
            "at": self.clock(), "n": 400, "clock": None, "held": None, "counters": {}, "pending": 3, "early": 0,
            "scores": SCORES,
        }  # fmt: skip
        self.store.put_status(name, shard, 1, msgspec.json.encode(Status(**(base | fields))))

    def turn(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.timer.advance(seconds)
        self.statuses.refresh(self.timer())
        said: Callable[[State], Any] = lambda state: self.said  # noqa: E731
        self.chronicle.tend(self.states, self.clock(), lambda state: self.inputs, said, lambda name: self.progress)

    def read(self, name: str = "m", seconds: float = 3600, series: Sequence[str] | None = ("*",)) -> Series:
        return read(self.store, self.settings.history, name, T0, T0 + seconds, 2000, series, T0 + seconds)

    def last(self, name: str = "m") -> dict[str, float]:
        """The newest value of each series."""
        values = {one: [value for value in told["max"] if value is not None] for one, told in self.read(name).series.items()}
        return {one: float(found[-1]) for one, found in values.items() if found}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_once_in_each_span_of_the_clock_however_often_control_turns(desk: Desk) -> None:
    for _ in range(600):
        desk.report(n=int(desk.clock() - T0))
        desk.turn(0.1)
    told = desk.read(seconds=60).series["n"]
    assert told["mean"] == told["min"] == told["max"] == [0, 9, 19, 29, 39, 49], "one sample in each step"


@pytest.mark.parametrize("every_s", [1.0, 2.5, 10.0])
def test_no_step_is_missed_by_a_control_that_turns_unevenly(every_s: float) -> None:
    desk = Desk(every_s=every_s)
    for turn in range(400):
        desk.report()
        desk.turn((0.3, 0.9, 0.1, 1.4)[turn % 4])
    steps = int((desk.clock() - T0) // 10)
    assert None not in desk.read(seconds=steps * 10).series["n"]["mean"]


def test_what_the_shards_say(desk: Desk) -> None:
    desk.report(rate=12.0, freshness_ms={"p50": 20.0, "p99": 90.0}, delay={"p50": 1.0, "p95": 4.0}, drift={"adwin": 0.25})
    desk.turn()
    assert desk.last() == {
        "metric:accuracy": 0.9, "baseline:majority:accuracy": 0.8, "rate": 12, "lag": 2, "pending": 3, "early": 0, "dead": 0,
        "n": 400, "freshness_p50_s": 0.02, "freshness_p99_s": 0.09, "delay_p50": 1, "delay_p95": 4, "detector:adwin": 0.25,
        "held": 0, "degraded": 0, "canary_share": 0,
    }  # fmt: skip


def test_what_control_knows(desk: Desk) -> None:
    desk.state.held, desk.state.degraded = "by ann", "a drift has not recovered"
    desk.said = [SimpleNamespace(policy=SimpleNamespace(name="cara"), choice=SimpleNamespace(total=3.5))]
    desk.progress = (30, 120)
    desk.turn()
    assert desk.last() == {"held": 1, "degraded": 1, "canary_share": 0, "debt:cara": 3.5, "progress": 0.25}


def test_features_that_have_moved_furthest() -> None:
    desk = Desk(max_features=2)
    shifts = [SimpleNamespace(name=name, psi=psi) for name, psi in (("a", 0.1), ("b", 0.5), ("c", 0.3))]
    desk.inputs = SimpleNamespace(look=SimpleNamespace(shifts=shifts))
    desk.turn()
    assert {name: value for name, value in desk.last().items() if name.startswith("feature:")} == {
        "feature:b": 0.5, "feature:c": 0.3,
    }  # fmt: skip
    desk.inputs = SimpleNamespace(look=None)
    desk.turn(10)
    assert desk.read().series["feature:b"]["mean"][:2] == [0.5, None]


def test_the_mean_loss_of_what_was_labelled_since_the_last_sample(desk: Desk) -> None:
    def batch(n: int, loss: float) -> None:
        desk.state.course.take({"n": n, "loss": loss}, desk.clock())

    batch(100, 0.9)  # before the first sample: it may be days old, since control reads signals again
    desk.turn()
    assert "loss" not in desk.last()
    batch(100, 0.2)
    batch(300, 0.4)
    desk.turn(10)
    desk.turn(10)
    batch(100, 0.1)
    desk.turn(10)
    assert desk.read(seconds=40).series["loss"]["mean"] == [None, 0.35, None, 0.1]
    desk.state.course = Course()  # control has forgotten all, and read it again
    batch(100, 0.7)
    desk.turn(10)
    assert desk.read(seconds=50).series["loss"]["mean"][-1] is None


def test_a_sum_over_some_of_the_shards_is_none() -> None:
    desk = Desk(shards=2)
    desk.report(0)
    desk.turn()
    assert set(desk.last()) == {"held", "degraded", "canary_share"}
    desk.report(1)
    desk.turn(10)
    assert desk.last()["n"] == 800


def test_a_learner_that_is_silent_leaves_a_gap(desk: Desk) -> None:
    desk.report()
    for _ in range(10):
        desk.turn(10)
    lag = desk.read(seconds=110).series["lag"]["mean"]
    assert lag[1:3] == [2, 2]
    assert lag[1 + int(SILENT_S // 10) + 1 :] == [None] * (len(lag) - 2 - int(SILENT_S // 10))
    desk.report()
    desk.turn(10)
    assert desk.read(seconds=120).series["lag"]["mean"][-1] == 2


def test_a_store_that_is_away_keeps_nobody_from_judging_and_is_told_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.report()
    desk.turn()
    for error in (StoreUnavailable("away"), StoreFull("full")):
        desk.faults.fail("put_history", error, times=5)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            desk.report()
            desk.turn(10)
    assert len(caplog.records) == 1
    desk.faults.heal()
    desk.report()
    desk.turn(10)
    assert None not in desk.read(seconds=120).series["lag"]["mean"]


def test_a_restart_goes_on_where_the_last_process_stopped(desk: Desk) -> None:
    for _ in range(6):
        desk.report()
        desk.turn(5)
        desk.start()
    assert None not in desk.read(seconds=30).series["lag"]["mean"]
    assert len(desk.store.history("m", 10, 0, 1 << 40)) == 1


def test_models_take_their_turns_when_one_turn_is_not_enough() -> None:
    names = [f"m{place}" for place in range(5)]
    desk = Desk(names=names)

    def slow(state: State) -> Any:
        desk.timer.advance(0.6 * BUDGET_S)
        return []

    for turn in range(3):
        desk.chronicle.tend(desk.states, desk.clock(), lambda state: None, slow, lambda name: None)
        assert len({model for model, _ in desk.store.histories()}) == min(5, 2 * (turn + 1))


def test_what_is_too_old_is_forgotten_once_in_an_hour() -> None:
    desk = Desk(fine_hours=1)
    for _ in range(3):
        desk.turn(TRIM_S)
    oldest = desk.store.history("m", 10, 0, 1 << 40)[0][0]
    assert desk.clock() - 2 * TRIM_S < oldest
    desk.store.put_history("gone", 10, 0, b"row", None)
    desk.turn(TRIM_S)
    assert ("gone", 10) not in desk.store.histories()


def test_a_model_that_the_file_no_longer_knows_is_not_sampled(desk: Desk) -> None:
    desk.states.append(State("old", None))
    desk.turn()
    assert {model for model, _ in desk.store.histories()} == {"m"}


def test_a_whole_story_is_in_the_history(make_stage: Any) -> None:
    """A drift from alarm to promotion, as control writes it, with a restart in the middle of the trial."""
    stage = make_stage()
    stage.turn()
    stage.learner.drift()
    stage.until("trial_started")
    for _ in range(12):
        stage.turn()
    stage.kill()
    stage.until("promoted")
    stage.settle()
    now = stage.clock()
    got = read(stage.store, stage.settings.history, "m", now - 3600, now + 10, 2000, None, now)
    trial = [e for e in got.series["trial_e"]["max"] if e is not None]
    assert len(trial) >= 2
    assert trial[-1] > trial[0]
    low, mean = got.series["trial_low"]["mean"], got.series["trial_mean"]["mean"]
    assert all(one <= other for one, other in zip(low, mean, strict=True) if one is not None and other is not None)
    assert {"trial_threshold", "trial_peak", "trial_high", "n", "lag", "held"} <= set(got.series)
