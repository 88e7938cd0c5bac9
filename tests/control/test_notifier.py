"""Control tells people: what was decided reaches real receivers, once or again after a crash, and never delays a decision."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import streamlearn
from streamlearn.config_notify import NotifySettings
from streamlearn.control.notifier import Notifier
from streamlearn.errors import LogUnavailable
from streamlearn.log import CONTROL, Entry
from streamlearn.log.sqlite import SqliteLog
from streamlearn.records import Decision, Notified, Request, decode_control

PATIENCE_S = 20.0


def until(done: Callable[[], Any], doing: Callable[[], Any] = lambda: None) -> None:
    """Wait in real time: the notifier has a thread of its own."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        doing()
        time.sleep(0.01)


class Office:
    """A stage whose control has a notifier; the stage's clock is the notifier's too."""

    def __init__(self, stage: Any, url: str, **changes: Any) -> None:
        tree = {"group_wait_s": 0.0, "repeat_s": 0.0, "timeout_s": 5.0, "targets": {"ops": {"url": url}}, **changes}
        self.settings = NotifySettings.model_validate(tree)
        self.stage, self.made = stage, []
        self.employ()

    def employ(self) -> None:
        """A new control process with a notifier."""
        self.stage.start()
        log = self.stage.faults.over(self.stage.log.reopen())
        notifier = self.stage.control._notifier = Notifier(self.settings, log, {}, self.stage.clock, lambda: 0.0)
        self.made.append(notifier)
        self.stage.control.tick()
        until(lambda: self.records("started"))

    def records(self, *outcomes: str) -> list[Notified]:
        found = [decode_control(record.value) for record in self.stage.log.read(CONTROL, 0, 0, 100_000)]
        return [one for one in found if isinstance(one, Notified) and (not outcomes or one.outcome in outcomes)]

    def wait(self, count: int, *outcomes: str) -> list[Notified]:
        until(lambda: len(self.records(*outcomes)) >= count, self.stage.turn)
        return self.records(*outcomes)

    def close(self) -> None:
        for one in self.made:
            one.close()


@pytest.fixture
def office(make_stage: Any) -> Iterator[Callable[..., Office]]:
    made: list[Office] = []

    def make(url: str, models: tuple[str, ...] = ("m",), **changes: Any) -> Office:
        made.append(Office(make_stage(models=models), url, **changes))
        return made[-1]

    yield make
    for one in made:
        one.close()


def kinds(documents: list[dict[str, Any]]) -> list[str]:
    return [notice["event"] for document in documents for notice in document["notices"]]


def test_a_whole_drift_is_told_in_order(office: Any, receiver: Any) -> None:
    one = office(receiver.url)
    one.stage.settle()
    one.stage.learner.drift()
    one.stage.until("recovered")
    until(lambda: "recovered" in kinds(receiver.documents()), one.stage.turn)
    assert kinds(receiver.documents()) == ["case_opened", "confirmed", "promoted", "recovered"]
    notices = [notice for document in receiver.documents() for notice in document["notices"]]
    decided = {decision.kind: decision for decision in one.stage.decisions()}
    assert [notice["at"] for notice in notices] == [decided[notice["event"]].at for notice in notices]
    assert [notice["why"] for notice in notices] == [decided[notice["event"]].why for notice in notices]
    assert notices[1]["id"] == f"m:{one.stage.log.identity(CONTROL)[:12]}:{notices[1]['control']}"
    one.wait(1, "delivered")
    one.stage.turn(3.0)
    until(lambda: one.stage.view("role", "control")["notify"]["ops"]["delivered"] >= 1, lambda: one.stage.turn(3.0))
    audit = [doc for doc in one.stage.views().values() if doc.get("type") == "notified"]
    assert {doc["outcome"] for doc in audit} == {"started", "delivered"}


def test_a_receiver_that_hangs_delays_no_decision(office: Any, receiver: Any) -> None:
    """The whole story is decided while the receiver still holds the very first message."""
    receiver.hangs.set()
    one = office(receiver.url, timeout_s=25.0)
    one.stage.settle()
    one.stage.learner.alarm()
    one.stage.until("case_opened")
    until(lambda: receiver.got)
    one.stage.learner.window()
    one.stage.until("recovered")
    assert kinds(receiver.documents()) == ["case_opened"]
    assert not one.records("delivered", "undelivered")


def test_trouble_is_tried_again_and_in_the_end_kept_for_a_person(office: Any, receiver: Any) -> None:
    receiver.answers += [(500, {}), (502, {}), (200, {})]
    one = office(receiver.url, attempts=3)
    one.stage.settle()
    one.stage.ask("hold")
    [told] = one.wait(1, "delivered")
    assert told.attempts == 3
    assert len({body for _, _, body in receiver.got}) == 1  # the same message each time
    receiver.answers += [(500, {})] * 3
    one.stage.ask("resume")
    [lost] = one.wait(1, "undelivered")
    assert (lost.attempts, lost.error) == (3, "HTTP 500: try <later>")
    [offset] = lost.notices
    decision = decode_control(one.stage.log.read(CONTROL, 0, offset, 1)[0].value)
    assert isinstance(decision, Decision)
    assert decision.kind == "resumed"
    until(lambda: one.stage.control._notifier.docs()["ops"]["undelivered"] == 1, one.stage.turn)


def test_a_busy_receiver_is_left_alone_for_as_long_as_it_asks(office: Any, receiver: Any) -> None:
    receiver.answers.append((429, {"Retry-After": "1000"}))
    one = office(receiver.url)
    one.stage.settle()
    one.stage.ask("hold")
    until(lambda: len(receiver.got) == 1)
    time.sleep(0.5)
    assert len(receiver.got) == 1
    one.stage.advance(1001)
    one.wait(1, "delivered")
    assert len(receiver.got) == 2


def test_a_dead_receiver_keeps_nobody_else_waiting(office: Any, receiver: Any) -> None:
    targets = {"dead": {"url": "http://127.0.0.1:9/"}, "ops": {"url": receiver.url}}
    one = office(receiver.url, targets=targets, attempts=2)
    one.wait(2, "started")
    one.stage.settle()
    one.stage.ask("hold")
    one.wait(1, "delivered")
    [lost] = one.wait(1, "undelivered")
    assert (lost.target, "ConnectError" in lost.error) == ("dead", True)


def test_what_was_before_the_first_start_is_not_told_and_that_is_said(
    office: Any, receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "streamlearn.control")
    one = office(receiver.url)
    one.stage.settle()
    one.stage.ask("hold")
    one.wait(1, "delivered")
    one.settings = NotifySettings.model_validate({"group_wait_s": 0.0, "targets": {"new": {"url": receiver.url}}})
    before = len(receiver.got)
    one.employ()
    one.wait(2, "started")
    said = "a target is told of what happens from now on"
    until(lambda: sum(record.message == said for record in caplog.records) == 2)
    one.stage.ask("resume")
    until(lambda: len(receiver.got) > before, one.stage.turn)
    assert kinds(receiver.documents()[before:]) == ["resumed"]


def test_an_emptied_store_brings_back_no_old_news(office: Any, receiver: Any) -> None:
    one = office(receiver.url)
    one.stage.settle()
    one.stage.ask("hold")
    one.wait(1, "delivered")
    one.stage.turn()
    one.stage.store.empty()
    one.stage.settle()
    one.close()
    one.employ()  # and a new process, which knows nothing but the log
    one.stage.settle()
    one.stage.ask("resume")
    one.wait(2, "delivered")
    assert kinds(receiver.documents()) == ["held", "resumed"]
    assert len(one.records("started")) == 1


def test_what_happened_while_nobody_could_tell_comes_in_one_message(office: Any, receiver: Any) -> None:
    one = office(receiver.url, group_wait_s=30.0, repeat_s=900.0)
    one.stage.settle()
    one.close()
    one.stage.start()  # a control without a notifier stands for one whose notifier was down
    for _ in range(5):
        one.stage.ask("hold")
        one.stage.turn()
        one.stage.ask("resume")
        one.stage.turn()
    one.stage.advance(3600)
    one.employ()
    one.wait(1, "delivered")
    [document] = receiver.documents()
    assert document["counts"] == {"held": 5, "resumed": 5}


def test_a_silenced_model_is_not_told_of_by_a_new_process_either(office: Any, receiver: Any) -> None:
    one = office(receiver.url, models=("m", "n"))
    one.stage.settle()
    one.stage.ask("silence", for_s=600.0)
    one.stage.ask("hold")
    one.stage.advance(601.0)
    one.close()
    one.employ()
    one.stage.ask("resume")
    one.wait(1, "delivered")
    assert kinds(receiver.documents()) == ["resumed"]


def test_who_does_not_lead_any_more_tells_nothing(office: Any, receiver: Any) -> None:
    one = office(receiver.url)
    one.stage.settle()
    notifier = one.stage.control._notifier
    notifier.pause()
    one.stage.request("hold")
    one.stage.control._fold()
    one.stage.control._judge(one.stage.state(), up_to_date=True)
    time.sleep(0.5)
    assert receiver.got == []
    one.stage.turn()  # it leads again
    one.wait(1, "delivered")


def test_what_cannot_be_recorded_is_recorded_later_and_not_told_twice(
    office: Any, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlearn.control.notifier.PAUSE_S", 0.05)
    one = office(receiver.url)
    one.stage.settle()
    receiver.hangs.set()
    one.stage.ask("hold")
    until(lambda: receiver.got)
    one.stage.faults.fail("append", LogUnavailable("locked"), times=3)
    receiver.free.set()
    until(lambda: one.records("delivered"))
    assert len(receiver.got) == 1


CONFIG = """
data_dir = "data"
[serve]
port = 0
[streams.s]
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
[notify]
group_wait_s = 0
[notify.targets.ops]
url = "{url}"
"""


@pytest.mark.slow
def test_a_killed_control_tells_again_what_it_could_not_write_down(tmp_path: Path, receiver: Any) -> None:
    """kill -9 after the receiver had the message and before it answered."""
    file = tmp_path / "s.toml"
    file.write_text(CONFIG.format(url=receiver.url))
    environ = {**os.environ, "PYTHONPATH": str(Path(streamlearn.__file__).parents[1])}
    argv = [sys.executable, "-m", "streamlearn", "control", str(file)]
    log: SqliteLog | None = None

    def records(kind: type) -> list[Any]:
        assert log is not None
        found = [decode_control(record.value) for record in log.read(CONTROL, 0, 0, 10_000)]
        return [one for one in found if isinstance(one, kind)]

    receiver.hangs.set()
    with (tmp_path / "log.txt").open("wb") as told:
        first = subprocess.Popen(argv, env=environ, stdout=told, stderr=told)
        try:
            until((tmp_path / "data" / "log.sqlite").exists)
            log = SqliteLog(tmp_path / "data" / "log.sqlite")
            log.create({"s": 1})
            until(lambda: [one for one in records(Notified) if one.outcome == "started"])
            request = Request("r1", "m", "hold", "ann", time.time())
            log.append(CONTROL, [Entry(b"m", msgspec.json.encode(request), partition=0)]).result()
            until(lambda: receiver.got)
        finally:
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
        receiver.hangs.clear()
        receiver.free.set()
        second = subprocess.Popen(argv, env=environ, stdout=told, stderr=told)
        try:
            until(lambda: [one for one in records(Notified) if one.outcome == "delivered"])
        finally:
            second.terminate()
            assert second.wait(20) == 0
        log.close()
    ids = [headers["x-streamlearn-id"] for _, headers, _ in receiver.got]
    assert len(ids) == 2
    assert len(set(ids)) == 1
