"""Signals and dead letters reach the log once each, in order, and none is lost when the log refuses."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import msgspec
import pytest
from learning_bench import NOW, Stage

from streamlearn.errors import LogFull, LogUnavailable, Overloaded
from streamlearn.learning import carrier as module
from streamlearn.learning.carrier import Carrier
from streamlearn.learning.learner import Learner
from streamlearn.log import DEAD, SIGNALS
from streamlearn.records import DeadLetter, Signal
from streamlearn.testing import FakeClock, Faults


class Bench:
    def __init__(self) -> None:
        self.stage, self.faults, self.clock = Stage(), Faults(), FakeClock(0.0)
        self.learner: Learner = self.stage.new()
        self.carrier = Carrier(self.faults.over(self.stage.log), self.learner, self.clock)
        self.letters = 0

    def words(self, signals: int = 0, letters: int = 0) -> None:
        for _ in range(signals):
            self.learner.tell("held", {"reason": "why"})
        for _ in range(letters):
            self.learner.dead.append(DeadLetter("m", "s", 0, self.letters, NOW, "late", "", "k", b"raw"))
            self.letters += 1

    @property
    def signals(self) -> list[int]:
        values = self.stage.log.read(SIGNALS, 0, 0, 10**6)
        return [msgspec.json.decode(record.value, type=Signal).seq for record in values]

    @property
    def dead(self) -> list[int]:
        values = self.stage.log.read(DEAD, 0, 0, 10**6)
        return [msgspec.json.decode(record.value, type=DeadLetter).offset for record in values]


def test_all_is_carried_in_order_and_then_nothing_waits() -> None:
    bench = Bench()
    bench.words(signals=3, letters=1200)
    bench.carrier.carry_all()
    assert bench.signals == [0, 1, 2]
    assert bench.dead == list(range(1200))
    assert (bench.learner.signals, bench.learner.dead) == ([], [])
    assert bench.faults.calls["append"] == 4  # dead letters in bounded pieces


def test_it_is_carried_bit_by_bit_without_ever_waiting() -> None:
    bench = Bench()
    for _ in range(5):
        bench.words(signals=1, letters=1)
        bench.carrier.carry()
    for _ in range(3):
        bench.carrier.carry()
    assert bench.signals == bench.dead == list(range(5))


def test_one_append_at_a_time_so_that_order_is_kept() -> None:
    bench = Bench()
    sent: list[tuple[Future[Any], list[Any]]] = []

    class Slow:
        def append(self, stream: str, entries: list[Any]) -> Future[Any]:
            sent.append((Future(), entries))
            return sent[-1][0]

    carrier = Carrier(Slow(), bench.learner, bench.clock)  # type: ignore[arg-type]
    bench.words(signals=2)
    carrier.carry()
    bench.words(signals=1)
    carrier.carry()
    assert [len(entries) for _, entries in sent] == [2]
    assert len(bench.learner.signals) == 3  # kept until they are durable
    sent[0][0].set_result([])
    carrier.carry()
    assert [len(entries) for _, entries in sent] == [2, 1]
    assert [signal.seq for signal in bench.learner.signals] == [2]


@pytest.mark.parametrize("error", [LogUnavailable("down"), LogFull("no space"), Overloaded("busy", 1.0)])
def test_what_the_log_refuses_is_sent_again_after_a_pause(error: Exception) -> None:
    bench = Bench()
    bench.faults.fail("append", error, times=3)
    bench.words(signals=2, letters=2)
    for _ in range(50):
        bench.carrier.carry()
    assert bench.faults.calls["append"] == 1  # no storm of appends
    for _ in range(100):
        bench.clock.advance(0.25)
        bench.carrier.carry()
    assert bench.signals == bench.dead == [0, 1]
    assert bench.faults.calls["append"] == 5


@pytest.mark.parametrize("error", [LogUnavailable("down"), LogFull("no space"), Overloaded("busy", 1.0)])
def test_who_waits_for_all_is_told_when_the_log_refuses(error: Exception) -> None:
    bench = Bench()
    bench.faults.fail("append", error)
    bench.words(signals=2, letters=2)
    with pytest.raises(type(error)):
        bench.carrier.carry_all()
    assert (len(bench.learner.signals), len(bench.learner.dead)) == (2, 2)
    bench.carrier.carry_all()
    assert bench.signals == bench.dead == [0, 1]


def test_an_append_that_was_made_but_not_told_is_repeated_not_lost() -> None:
    bench = Bench()
    bench.faults.fail("append", LogUnavailable("lost the answer"), when="after")
    bench.words(signals=2)
    with pytest.raises(LogUnavailable):
        bench.carrier.carry_all()
    bench.carrier.carry_all()
    assert bench.signals == [0, 1, 0, 1]  # readers drop what they have seen


def test_too_much_that_waits_is_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CROWD", 10)
    bench = Bench()
    bench.words(signals=5, letters=5)
    assert not bench.carrier.crowded
    bench.words(letters=1)
    assert bench.carrier.crowded
    bench.carrier.carry_all()
    assert not bench.carrier.crowded
