"""What is due when, and what a store that cannot be reached makes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from streamlearn.errors import Fenced, Overloaded, StoreFull, StoreUnavailable
from streamlearn.learning.chores import FIRST_PAUSE, LONGEST_PAUSE, Chore, Patience


class Later(Executor):
    """Runs nothing until it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, fn))
        return future

    def run(self) -> None:
        for future, call in self.waiting:
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
        self.waiting.clear()


def failing(error: BaseException) -> Callable[[], object]:
    def write() -> object:
        raise error

    return write


def test_it_is_due_at_first_and_then_every_interval() -> None:
    chore = Chore("what", 10.0, 0.5, first=5.0)
    assert [chore.due(now) for now in (4.9, 5.0)] == [False, True]
    chore.done(5.0, 5.5)
    assert chore.pause == 0.5
    assert [chore.due(now) for now in (15.4, 15.5)] == [False, True]


def test_a_long_pause_makes_it_rarer_so_that_it_keeps_to_its_budget() -> None:
    chore = Chore("what", 10.0, 0.02, first=0.0)
    chore.done(0.0, 1.0)
    assert not chore.due(50.9)
    assert chore.due(51.0)


def test_it_is_not_due_while_its_last_write_runs() -> None:
    later, chore = Later(), Chore("what", 1.0, 0.5, first=0.0)
    chore.done(0.0, 0.0)
    chore.write(later, lambda: None)
    assert not chore.due(100.0)
    later.run()
    assert chore.due(100.0)


@pytest.mark.parametrize("error", [StoreUnavailable("locked"), StoreFull("no space")])
def test_a_store_that_cannot_be_reached_is_tried_again_with_growing_pauses(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    later, chore = Later(), Chore("the store", 1000.0, 0.5, first=0.0)
    now, pauses = 0.0, []
    with caplog.at_level(logging.WARNING, "streamlearn.learn"):
        for _ in range(9):
            assert chore.due(now)
            chore.done(now, now)
            chore.write(later, failing(error))
            later.run()
            assert not chore.due(now)
            assert chore.failing
            asked = now
            while not chore.due(now):
                now += FIRST_PAUSE / 2
            pauses.append(now - asked)
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=FIRST_PAUSE / 2)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE, abs=FIRST_PAUSE)
    assert {record.__dict__["what"] for record in caplog.records} == {"the store"}
    assert {record.__dict__["error"] for record in caplog.records} == {str(error)}
    chore.done(now, now)
    chore.write(later, lambda: None)
    later.run()
    assert not chore.due(now)
    assert not chore.failing
    chore.write(later, failing(error))
    later.run()
    assert not chore.due(now)
    assert chore.due(now + FIRST_PAUSE)


@pytest.mark.parametrize("error", [Fenced("m", 0, 1, 2), RuntimeError("unforeseen")])
def test_whatever_else_a_write_raised_is_raised(error: Exception) -> None:
    later = Later()
    for ask in ("due", "settle"):
        chore = Chore("what", 1.0, 0.5, first=0.0)
        chore.write(later, failing(error))
        later.run()
        with pytest.raises(type(error)):
            getattr(chore, ask)(0.0)
        assert chore.due(5.0)


def test_settling_without_a_write_is_allowed() -> None:
    chore = Chore("what", 1.0, 0.5, first=0.0)
    chore.settle(0.0)
    assert chore.due(0.0)


def test_patience_begins_anew_after_a_success_and_heeds_what_it_is_asked_for() -> None:
    patience = Patience("the log")
    patience.failed(StoreUnavailable("x"), 100.0)
    patience.failed(StoreUnavailable("x"), 100.0)
    assert patience.until == 100.0 + 2 * FIRST_PAUSE
    patience.worked()
    patience.failed(StoreUnavailable("x"), 200.0)
    assert patience.until == 200.0 + FIRST_PAUSE
    patience.worked()
    patience.failed(Overloaded("busy", 2.0), 300.0)
    assert patience.until == 302.0
    patience.worked()
    patience.failed(Overloaded("busy", 1000.0), 400.0)
    assert patience.until == 400.0 + LONGEST_PAUSE


def test_what_it_paused_for_and_how_often_it_failed_is_counted() -> None:
    writer, chore = Later(), Chore("a store", 1.0, 0.5, 0.0)
    chore.done(0.0, 0.004)
    chore.done(1.0, 1.03)
    assert (sum(chore.pauses.counts), chore.pauses.sum) == (2, pytest.approx(0.034))
    for count in (1, 2):
        chore.write(writer, failing(StoreUnavailable("locked")))  # type: ignore[arg-type]  # it gives nothing
        writer.run()
        chore.settle(2.0)
        assert chore.failures == count
    chore.write(writer, lambda: None)
    writer.run()
    chore.settle(3.0)
    assert chore.failures == 2  # a success takes nothing back
