"""A full window that confirms nothing: the model as it was before the change is asked, and what comes of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamlearn.control import hindsight
from streamlearn.errors import RetrainError
from streamlearn.keys import KeyRing
from streamlearn.retrain.frozen import Losses
from streamlearn.testing import DoneJob

from .conftest import WINDOW, checkpoint

KEYS = KeyRing({"test": b"0123456789abcdef"})


def losses(mean: float, n: int = WINDOW) -> DoneJob:
    return DoneJob(msgspec.msgpack.encode(Losses(n, mean * n, [mean] * n)))


class Slow:
    """A question that has no answer yet."""

    def __init__(self) -> None:
        self.cancelled = False

    def done(self) -> bool:
        return False

    def cancel(self) -> None:
        self.cancelled = True

    def result(self) -> bytes:
        raise AssertionError("it is not done")


@pytest.fixture
def asked(stage: Any) -> Any:
    """A stage with a checkpoint from before the change at offset 1005, and an alarm about it."""
    return alarmed(stage)


def alarmed(stage: Any) -> Any:
    checkpoint(stage, 1000)
    stage.learner.post(20)
    stage.learner.alarm(change_offset=1005)
    stage.until("case_opened")
    stage.learner.post(200)
    stage.turn()
    return stage


def test_a_change_that_was_unlearned_is_confirmed_and_nothing_is_retrained(asked: Any) -> None:
    asked.jobs.answer = losses(0.5)
    asked.learner.window(mean=0.05)
    confirmed = asked.until("confirmed")
    assert confirmed.numbers["survived"]
    assert "the live model has unlearned it (0.1000 → 0.0500), so nothing is retrained" in confirmed.why
    told = confirmed.numbers["hindsight"]
    assert (told["fresh_n"], told["fresh_mean"], told["ref_mean"]) == (WINDOW, 0.5, 0.1)
    asked.settle()
    assert asked.kinds() == ["registered", "case_opened", "confirmed"]
    [command] = asked.learner.commands
    assert (command.verb, command.confirmed) == ("reset", True)
    assert asked.state().degraded is None
    assert asked.state().drift_cases == [], "the next case has the whole level again"
    case = asked.view("case", "m-1")
    assert (case["open"], case["outcome"]) == (False, "survived")


def test_the_question_is_about_what_came_since_the_change(asked: Any) -> None:
    asked.jobs.answer = losses(0.1)
    alarm, end = asked.state().alarms[0].signal, asked.learner.position
    asked.learner.window(mean=0.05)
    asked.until("rejected")
    [spec] = asked.jobs.asked
    assert (spec.model, spec.shard, spec.stream, spec.checkpoint, spec.block) == ("m", 0, "clicks", 1, 1)
    assert (spec.start, spec.after, spec.until) == (1005, alarm.offset, end)


def test_what_the_past_does_not_mind_either_is_rejected_by_the_live_losses(asked: Any) -> None:
    asked.jobs.answer = losses(0.1)
    asked.learner.window(mean=0.05)
    rejected = asked.until("rejected")
    assert rejected.why.startswith("mean loss 0.1000 → 0.0500 may be chance")
    assert rejected.numbers["hindsight"]["fresh_mean"] == pytest.approx(0.1)
    asked.settle()
    assert not asked.learner.commands[-1].confirmed


def test_nobody_is_asked_about_what_the_live_losses_confirm(asked: Any) -> None:
    asked.learner.window(mean=0.5)
    asked.until("confirmed")
    assert asked.jobs.asked == []


def test_a_recommender_as_it_was_is_not_asked(make_stage: Callable[..., Any]) -> None:
    """It would not know what is popular now, and do worse whether or not tastes have turned."""
    asked = alarmed(make_stage(task="recommend"))
    asked.jobs.answer = losses(0.5)
    asked.learner.window(mean=0.05)
    rejected = asked.until("rejected")
    assert "does worse without any drift" in rejected.numbers["hindsight"]
    assert asked.jobs.asked == []


def test_nobody_is_asked_while_the_window_fills(asked: Any) -> None:
    asked.learner.window(mean=0.1, look=(0, WINDOW // 5))
    for _ in range(5):
        asked.turn()
    assert asked.jobs.asked == []
    assert asked.kinds()[-1] == "case_opened"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "nobody answers here"),
        (DoneJob(RetrainError("memory", "too much")), "too much"),
        (losses(0.5, 0), "none of the fresh events"),
    ],
)
def test_without_an_answer_the_live_losses_decide(asked: Any, answer: Any, why: str) -> None:
    asked.jobs.answer = answer
    asked.learner.window(mean=0.05)
    assert why in asked.until("rejected").numbers["hindsight"]


def test_without_a_checkpoint_as_old_nobody_is_asked(stage: Any) -> None:
    stage.learner.post(20)
    checkpoint(stage, 1010)
    stage.learner.alarm(change_offset=1005)
    stage.learner.window(mean=0.05)
    assert stage.until("rejected").numbers["hindsight"] == "no checkpoint and log are kept from before the change"
    assert stage.jobs.asked == []


def test_too_much_is_not_read_again(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hindsight, "MOST_RECORDS", 100)
    asked.learner.window(mean=0.05)
    assert "more than are read again" in asked.until("rejected").numbers["hindsight"]
    assert asked.jobs.asked == []


def test_an_answer_that_does_not_come_is_not_waited_for_long(asked: Any) -> None:
    slow = asked.jobs.answer = Slow()
    asked.learner.window(mean=0.05)
    for _ in range(3):
        asked.turn()
    assert asked.kinds()[-1] == "case_opened"
    asked.turn(hindsight.LIMIT_S)
    assert "no answer came in 120 s" in asked.until("rejected").numbers["hindsight"]
    assert slow.cancelled


def test_a_new_control_process_asks_again(asked: Any) -> None:
    slow = asked.jobs.answer = Slow()
    asked.learner.window(mean=0.05)
    for _ in range(3):
        asked.turn()
    asked.control.close()
    assert slow.cancelled
    asked.kill()
    asked.jobs.answer = losses(0.5)
    assert asked.until("confirmed").numbers["survived"]
    assert len(asked.jobs.asked) == 1


def test_a_case_that_ends_otherwise_takes_its_question_back(asked: Any) -> None:
    slow = asked.jobs.answer = Slow()
    asked.learner.window(mean=0.05)
    for _ in range(3):
        asked.turn()
    asked.learner.window(mean=0.5)
    asked.until("confirmed")
    asked.turn()
    assert slow.cancelled
