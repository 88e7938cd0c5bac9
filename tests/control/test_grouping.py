"""When a target is told what: grouped, in order, not at night, not once a minute; and what becomes of what is not taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamlearn.config_notify import NotifySettings, QuietSettings
from streamlearn.control.grouping import Courier, is_quiet
from streamlearn.control.notices import MOST_SHOWN, Message, Notice, headline
from streamlearn.records import Notified

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
SEVERE = {"case_opened": "warning", "case_closed": "info", "confirmed": "warning", "held": "critical", "promoted": "info"}


def settings(target: dict[str, Any] | None = None, **changes: Any) -> NotifySettings:
    tree = {"group_wait_s": 30.0, "repeat_s": 900.0, "targets": {"ops": {"url": "http://127.0.0.1:1/", **(target or {})}}}
    return NotifySettings.model_validate({**tree, **changes})


def courier(target: dict[str, Any] | None = None, **changes: Any) -> Courier:
    made = Courier("ops", settings(target, **changes), lambda: 1.0)
    made.note(0, Notified("", "ops", "started", NOON, 0))
    return made


def notice(control: int, kind: str = "case_opened", at: float = NOON, model: str = "m", why: str = "") -> Notice:
    return Notice(f"{model}:log:{control}", model, kind, kind, SEVERE[kind], at, control, "m-1", 2, "control", why)


def tell(made: Courier, message: Message, now: float) -> Notified:
    record = made.answered(message, "", None, now)
    assert record is not None
    made.note(record.upto + 1000, record)
    return record


def test_what_comes_together_is_told_together_after_a_wait() -> None:
    made = courier()
    made.take(notice(1, "case_opened", NOON))
    made.take(notice(2, "confirmed", NOON + 10))
    made.take(notice(3, "held", NOON, model="other"))
    assert made.next(NOON + 29.9) is None
    message = made.next(NOON + 30)
    assert message is not None
    assert (message.model, message.severity, message.upto) == ("m", "warning", 2)
    assert message.counts == {"case_opened": 1, "confirmed": 1}
    record = tell(made, message, NOON + 31)
    assert (record.outcome, record.notices, record.attempts, record.upto) == ("delivered", [1, 2], 1, 2)
    other = made.next(NOON + 31)
    assert other is not None
    assert (other.model, other.severity) == ("other", "critical")


def test_another_kind_is_told_soon_and_the_same_one_only_so_often() -> None:
    made = courier()
    made.take(notice(1))
    tell(made, made.next(NOON + 30), NOON + 30)  # type: ignore[arg-type]
    made.take(notice(2, "case_opened", NOON + 60))
    assert made.next(NOON + 929) is None
    made.take(notice(3, "promoted", NOON + 100))
    message = made.next(NOON + 130)  # which tells of both
    assert message is not None
    assert message.counts == {"case_opened": 1, "promoted": 1}
    tell(made, message, NOON + 130)
    made.take(notice(4, "case_opened", NOON + 140))
    assert made.next(NOON + 1029) is None
    assert made.next(NOON + 1030) is not None


def test_a_flapping_detector_gives_a_few_messages_that_say_how_often() -> None:
    """100 cases in an hour, each opened and closed again."""
    made, control, sent = courier(), 0, []
    for second in range(0, 3600 + 900):
        now = NOON + second
        if second < 3600 and second % 36 == 0:
            control += 1
            made.take(notice(control, "case_opened", now))
        if second < 3600 and second % 36 == 18:
            control += 1
            made.take(notice(control, "case_closed", now, why="the change was not confirmed"))
        message = made.next(now)
        if message is not None:
            sent.append(message)
            tell(made, message, now)
    assert len(sent) <= 6
    assert sum(sum(message.counts.values()) for message in sent) == 200
    biggest = max(sent, key=lambda message: sum(message.counts.values()))
    assert len(biggest.notices) == MOST_SHOWN
    text = headline(biggest)
    assert "25 × case opened" in text
    assert "in 15 min; the newest: the change was not confirmed" in text


def test_a_refused_message_is_tried_again_later_and_later_and_then_given_up() -> None:
    made = courier(attempts=4, backoff_s=1.0, max_backoff_s=3.0)
    made.take(notice(1))
    now, tried = NOON + 30, []
    while True:
        message = made.next(now)
        if message is None:
            now += 0.25
            continue
        tried.append(now - NOON - 30)
        record = made.answered(message, "HTTP 500", None, now)
        if record is not None:
            break
    assert tried == [0.0, 1.0, 3.0, 6.0]
    assert (record.outcome, record.attempts, record.error) == ("undelivered", 4, "HTTP 500")
    made.note(77, record)
    assert made.doc() == {"delivered": 0, "undelivered": 1, "waiting": 0, "failing_since": NOON + 30, "error": "HTTP 500"}
    assert made.next(now + 1e6) is None
    made.note(78, Notified("m", "ops", "dismissed", now, 1, of=77, by="ann"))
    assert made.doc()["undelivered"] == 0


def test_it_is_given_up_after_a_time_too() -> None:
    made = courier(give_up_s=100.0, max_backoff_s=60.0, backoff_s=60.0)
    made.take(notice(1))
    assert made.answered(made.next(NOON + 30), "no answer", None, NOON + 40) is None  # type: ignore[arg-type]
    record = made.answered(made.next(NOON + 140), "no answer", None, NOON + 140)  # type: ignore[arg-type]
    assert record is not None
    assert (record.outcome, record.attempts) == ("undelivered", 2)


def test_the_next_message_of_a_model_waits_for_the_one_before_and_other_models_do_not() -> None:
    made = courier(backoff_s=100.0)
    made.take(notice(1))
    first = made.next(NOON + 30)
    assert first is not None
    made.answered(first, "HTTP 503", None, NOON + 30)
    made.take(notice(2, "promoted", NOON + 31))
    made.take(notice(3, "promoted", NOON + 31, model="other"))
    message = made.next(NOON + 70)
    assert message is not None
    assert message.model == "other"
    tell(made, message, NOON + 70)
    assert made.next(NOON + 71) is None
    again = made.next(NOON + 130)
    assert again == first  # the very same content, by which a receiver knows it
    tell(made, first, NOON + 130)
    follows = made.next(NOON + 130)
    assert follows is not None
    assert follows.upto == 2


def test_a_receiver_that_asks_for_patience_gets_it_for_everything() -> None:
    made = courier()
    made.take(notice(1))
    made.take(notice(2, model="other"))
    message = made.next(NOON + 30)
    assert message is not None
    assert made.answered(message, "HTTP 429", 50.0, NOON + 30) is None
    assert made.next(NOON + 79.9) is None
    assert made.next(NOON + 80) is not None
    made.answered(message, "HTTP 429", 1e9, NOON + 80)
    assert made.next(NOON + 80 + 3600) is not None  # but not for ever


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ({"models": ["m"]}, [1, 2, 3]),
        ({"models": ["x"]}, []),
        ({"kinds": ["promoted"]}, [2]),
        ({"severity": "warning"}, [1, 3]),
        ({"severity": "critical"}, [3]),
    ],
)
def test_a_target_is_told_what_it_asks_for(target: dict[str, Any], told: list[int]) -> None:
    made = courier(target)
    for number, kind in enumerate(("case_opened", "promoted", "held"), 1):
        made.take(notice(number, kind))
    message = made.next(NOON + 30)
    assert [one.control for one in message.notices] if message else told == []


def test_a_silenced_model_is_not_told_of_even_what_waits() -> None:
    made = courier()
    made.take(notice(1))
    made.take(notice(2, model="other"))
    made.mute("m")
    message = made.next(NOON + 30)
    assert message is not None
    assert message.model == "other"
    made.mute("other")  # while it is on its way
    record = made.answered(message, "", None, NOON + 31)
    assert record is not None
    assert record.outcome == "delivered"
    assert made.answered(message, "HTTP 500", None, NOON + 31) is None
    assert made.next(NOON + 1e6) is None


def test_a_new_target_is_told_nothing_of_what_was() -> None:
    made = Courier("ops", settings(), lambda: 0.0)
    made.take(notice(1))
    assert made.next(NOON + 1e6) is None  # not before it is known since when
    made.note(2, Notified("", "ops", "started", NOON, 1))
    assert (made.waiting, made.next(NOON + 1e6)) == (0, None)


def test_after_a_restart_only_what_was_not_told_is_and_in_one_message() -> None:
    made = courier()
    for number in range(1, 10):
        made.take(notice(number, "case_opened" if number % 2 else "case_closed", NOON + number))
    made.note(10, Notified("m", "ops", "delivered", NOON + 60, 4, {"case_opened": 2, "case_closed": 2}))
    assert made.next(NOON + 959) is None
    message = made.next(NOON + 86_400)  # it was down for a day
    assert message is not None
    assert [one.control for one in message.notices] == [5, 6, 7, 8, 9]
    tell(made, message, NOON + 86_400)
    assert made.next(NOON + 2 * 86_400) is None


def at(text: str, zone: str = "Europe/Berlin") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


NIGHT = QuietSettings(starts="22:00", ends="07:00", zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("quiet", "when", "expected"),
    [
        (NIGHT, "2026-06-01T21:59:59", False), (NIGHT, "2026-06-01T22:00:00", True), (NIGHT, "2026-06-02T00:00:00", True),
        (NIGHT, "2026-06-02T06:59:59", True), (NIGHT, "2026-06-02T07:00:00", False),
        (QuietSettings(starts="12:00", ends="13:00", zone="Europe/Berlin"), "2026-06-02T12:30:00", True),
        (QuietSettings(starts="12:00", ends="13:00", zone="Europe/Berlin"), "2026-06-02T13:00:00", False),
        (QuietSettings(), "2026-06-02T03:00:00", False),
    ],
)  # fmt: skip
def test_the_quiet_time_is_by_the_clocks_of_its_zone(quiet: QuietSettings, when: str, expected: bool) -> None:
    assert is_quiet(quiet, at(when)) is expected


@pytest.mark.parametrize(("day", "hours"), [("2026-03-28", 8), ("2026-10-24", 10), ("2026-06-01", 9)])
def test_a_night_in_which_the_clocks_change_is_an_hour_shorter_or_longer(day: str, hours: int) -> None:
    begin = at(f"{day}T20:00:00")
    assert sum(is_quiet(NIGHT, begin + 60 * minute) for minute in range(16 * 60)) == hours * 60


def test_at_night_only_what_is_urgent_is_told_and_the_rest_in_the_morning() -> None:
    made = courier(quiet={"starts": "22:00", "ends": "07:00", "zone": "Europe/Berlin"})
    evening = at("2026-06-01T23:00:00")
    made.take(notice(1, "confirmed", evening))
    made.take(notice(2, "promoted", evening + 60))
    made.take(notice(3, "held", evening + 120, model="other"))
    urgent = made.next(evening + 200)
    assert urgent is not None
    assert urgent.model == "other"
    tell(made, urgent, evening + 200)
    assert made.next(at("2026-06-02T06:59:59")) is None
    morning = made.next(at("2026-06-02T07:00:00"))
    assert morning is not None
    assert morning.counts == {"confirmed": 1, "promoted": 1}


def test_a_target_may_have_no_night_and_a_message_on_its_way_waits_for_the_morning() -> None:
    quiet = {"starts": "22:00", "ends": "07:00", "zone": "Europe/Berlin"}
    awake = courier({"quiet": False}, quiet=quiet)
    evening = at("2026-06-01T21:59:00")
    awake.take(notice(1, "promoted", evening))
    assert awake.next(evening + 3600) is not None
    asleep = courier(quiet=quiet)
    asleep.take(notice(1, "promoted", evening))
    message = asleep.next(evening + 30)
    assert message is not None
    asleep.answered(message, "HTTP 500", None, evening + 59)
    assert asleep.next(evening + 3600) is None
    assert asleep.next(at("2026-06-02T07:00:00")) == message


SECONDS = st.sampled_from([1.0, 10.0, 31.0, 400.0, 1000.0])


class Telling(RuleBasedStateMachine):
    """Notices come, receivers fail, processes die: each is told, at least once, in order, or given up; none too often."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.end = NOON, 1
        self.log: list[tuple[int, Notice | Notified]] = [(0, Notified("", "ops", "started", NOON, 0))]
        self.notices: dict[int, Notice] = {}
        self.told: dict[str, list[int]] = {"a": [], "b": []}
        self.given_up: set[int] = set()
        self.only_counted: set[int] = set()
        self.times: dict[tuple[str, str], list[float]] = {}
        self.courier: Courier
        self.restart()

    def make(self) -> Courier:
        return Courier("ops", settings(attempts=3, backoff_s=5.0, max_backoff_s=20.0), lambda: 0.5)

    @rule()
    def restart(self) -> None:
        self.courier = self.make()
        for offset, entry in self.log:
            self.give(offset, entry)

    def give(self, offset: int, entry: Notice | Notified) -> None:
        if isinstance(entry, Notice):
            self.courier.take(entry)
        else:
            self.courier.note(offset, entry)

    def append(self, make: Callable[[int], Notice | Notified]) -> None:
        entry = make(self.end)
        self.log.append((self.end, entry))
        self.give(self.end, entry)
        self.end += 1

    @rule(seconds=SECONDS, model=st.sampled_from("ab"), kind=st.sampled_from(["case_opened", "held"]))
    def happen(self, seconds: float, model: str, kind: str) -> None:
        self.now += seconds
        self.append(lambda end: notice(end, kind, self.now, model))
        [*_, (offset, entry)] = self.log
        assert isinstance(entry, Notice)
        self.notices[offset] = entry

    @rule(seconds=SECONDS, fails=st.booleans(), dies=st.sampled_from([False, False, False, True]))
    def send(self, seconds: float, fails: bool, dies: bool) -> None:
        self.now += seconds
        message = self.courier.next(self.now)
        if message is None:
            return
        self.count(message)
        shown = [one.control for one in message.notices]
        assert shown == sorted(shown)
        if not fails:
            fresh = [offset for offset in shown if offset not in self.told[message.model]]
            assert fresh == [offset for offset in fresh if offset > max(self.told[message.model], default=-1)]
            self.told[message.model] += fresh
        if dies:  # after the receiver had it, before it was written down
            self.restart()
            return
        record = self.courier.answered(message, "HTTP 500" if fails else "", None, self.now)
        if record is not None:
            if record.outcome == "undelivered":
                self.given_up |= {offset for offset in self.notices if self.notices[offset].model == message.model
                                  and offset <= message.upto}  # fmt: skip
            else:
                for kind in message.counts:
                    self.times.setdefault((message.model, kind), []).append(self.now)
            self.append(lambda end: record)

    def count(self, message: Message) -> None:
        """What a message does not tell one by one, it counts."""
        shown = [one.control for one in message.notices]
        rest = sum(message.counts.values()) - len(shown)
        older = sorted(offset for offset, one in self.notices.items() if one.model == message.model and offset < shown[0])
        assert rest == 0 or len(shown) == MOST_SHOWN
        self.only_counted |= set(older[len(older) - rest :])

    def teardown(self) -> None:
        """In the end everything is told."""
        for _ in range(200):
            self.now += 1000.0
            while (message := self.courier.next(self.now)) is not None:
                self.count(message)
                self.told[message.model] += [one.control for one in message.notices]
                record = self.courier.answered(message, "", None, self.now)
                assert record is not None
                self.append(lambda end, record=record: record)  # type: ignore[misc]
            if not self.courier.waiting:
                break
        assert self.courier.waiting == 0
        for offset, one in self.notices.items():
            assert offset in self.told[one.model] or offset in self.given_up or offset in self.only_counted

    @invariant()
    def no_kind_is_told_of_in_a_rush(self) -> None:
        """Messages of one kind alone are `repeat_s` apart; another kind of the model may bring it along sooner."""
        for (model, kind), times in self.times.items():
            alone = len({other for m, other in self.times if m == model}) == 1
            if alone:
                assert all(later - sooner >= 900.0 for sooner, later in itertools.pairwise(times)), kind


TestTelling = Telling.TestCase
TestTelling.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
