"""The rules of the join, by a handler that only writes down what it is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.config import ModelSettings, StreamSettings
from streamlearn.errors import EventError
from streamlearn.events import Event, Kind, Limits, Prediction, encode, partition_of
from streamlearn.learning.pending import Join
from streamlearn.learning.waiting import Entry, JoinState
from streamlearn.log import Record

NOW = 1_700_000_000.0


class Recorder:
    """A handler that takes everything but x with `bad`, y == "bad", questions on `odd` and answers on `sick`."""

    name = "m"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answered: list[tuple[str, Any]] = []
        self.gone: list[str] = []
        self.refused: list[tuple[int, str]] = []
        self.letters: list[tuple[Record, str, str]] = []
        self.types: dict[str, str] = {}
        self.served: dict[str, Any] = {}
        self.told: list[tuple[str, str]] = []

    def check(self, x: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        if x.get("bad"):
            raise EventError("feature_type", "x.bad", "is bad")
        return {k: v for k, v in x.items() if v is not None}, {k: "number" for k in x if k not in self.types}

    def label(self, y: Any) -> Any:
        if y == "bad":
            raise EventError("unknown_label", "y", "is bad")
        return y

    def accept(self, types: dict[str, str]) -> None:
        self.types.update(types)

    def question(self, entry: Entry) -> None:
        if entry.x.get("odd"):
            raise EventError("unlearnable", "x", "predicting raised")
        if entry.x.get("bug"):
            raise KeyError("a bug")
        self.asked.append(entry.id)
        self.told.append(("ask", entry.id))

    def answer(self, entry: Entry, y: Any) -> bool:
        if entry.x.get("sick"):
            return False
        self.answered.append((entry.id, y))
        self.told.append(("answer", entry.id))
        self.served[entry.id] = entry.served
        return True

    def unanswered(self, entry: Entry) -> None:
        self.gone.append(entry.id)
        self.told.append(("gone", entry.id))

    def refuse(self, record: Record, reason: str, detail: str) -> None:
        self.refused.append((record.offset, reason))
        self.letters.append((record, reason, detail))


class Bench:
    """A join and its recorder; records get consecutive offsets, and the append time stands still at NOW."""

    def __init__(self, partitions: int = 1, lateness: float = 0.0, **model: Any) -> None:
        self.handler = Recorder()
        self.made = (
            ModelSettings.model_validate({"stream": "s", "task": "multiclass", "pipeline": "logistic", **model}),
            StreamSettings(partitions=partitions, allowed_lateness_s=lateness),
            Limits(),
            ("s", 0),
        )
        self.join = Join(self.handler, *self.made, 0)
        self.appended = NOW

    def push(self, value: bytes, kind: int = Kind.EVENT, key: bytes = b"k") -> int:
        offset = self.join.position
        self.join.push(Record(offset, self.appended, int(kind), key, value))
        assert self.join.position == offset + 1
        return offset

    def event(self, id: str | None = "a", at: float | None = 0.0, key: bytes = b"k", **fields: Any) -> int:
        ts = None if at is None else NOW + at
        return self.push(encode(Event("s", id, ts, **fields)), key=key)

    def x(self, id: str = "a", at: float | None = 0.0, **x: Any) -> int:
        return self.event(id, at, x=x)

    def y(self, id: str = "a", y: Any = "p", at: float | None = 0.0) -> int:
        return self.event(id, at, y=y)

    def served(self, id: str, model: str = "m", version: int = 3, **more: Any) -> int:
        return self.push(encode(Prediction("s", id, model, version, "q", **more)), Kind.PREDICTION)

    def restart(self) -> None:
        """Go on in another join, from the state of this one."""
        state = self.join.state()
        self.join = Join(self.handler, *self.made, 0)
        self.join.load(state)
        assert self.join.state() == state

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason in self.handler.refused]


def test_features_wait_for_their_label() -> None:
    bench = Bench()
    bench.x("a")
    assert bench.handler.asked == ["a"]
    assert list(bench.join.pending) == ["a"]
    bench.y("a", "p")
    assert bench.handler.answered == [("a", "p")]
    assert not bench.join.pending
    assert bench.join.counters == {}


def test_features_with_their_label_are_asked_and_answered_at_once() -> None:
    bench = Bench()
    bench.event("a", x={"f": 1}, y="p")
    assert bench.handler.told == [("ask", "a"), ("answer", "a")]


def test_features_that_wait_may_be_answered_by_an_event_that_repeats_them() -> None:
    bench = Bench()
    bench.x("a")
    bench.event("a", x={"f": 2}, y="p")
    assert bench.handler.told == [("ask", "a"), ("answer", "a")]
    assert bench.join.counters == {"duplicate_features": 1}


@pytest.mark.parametrize("answered", [False, True])
def test_the_first_features_win(answered: bool) -> None:
    bench = Bench()
    bench.x("a", f=1)
    if answered:
        bench.y("a")
    bench.x("a", f=2)
    assert bench.handler.asked == ["a"]
    assert bench.join.counters == {"duplicate_features": 1}
    assert answered or bench.join.pending["a"].x == {"f": 1}


def test_the_same_label_again_is_dropped_and_another_one_is_refused() -> None:
    bench = Bench()
    bench.event("a", x={}, y="p")
    bench.y("a", "p")
    again = bench.y("a", "q")
    assert bench.handler.answered == [("a", "p")]
    assert bench.join.counters == {"duplicate_labels": 1}
    assert bench.handler.refused == [(again, "correction")]


def test_a_label_of_another_type_is_another_label() -> None:
    bench = Bench()
    bench.event("a", x={}, y=1)
    bench.y("a", True)
    assert bench.reasons == ["correction"]


def test_a_label_that_comes_first_waits_for_its_features() -> None:
    bench = Bench()
    bench.y("a", "p")
    bench.y("a", "p")
    assert list(bench.join.early) == ["a"]
    bench.x("a")
    assert bench.handler.answered == [("a", "p")]
    assert not bench.join.early
    assert bench.join.counters == {"duplicate_labels": 1, "early_labels": 1}


def test_two_early_labels_that_differ_are_a_contradiction() -> None:
    bench = Bench()
    bench.y("a", "p")
    second = bench.y("a", "q")
    bench.x("a")
    assert bench.handler.answered == [("a", "p")]
    assert bench.handler.refused == [(second, "correction")]


@pytest.mark.parametrize(("own", "counted", "refused"), [("p", {"duplicate_labels": 1}, []), ("q", {}, ["correction"])])
def test_features_that_bring_a_label_rule_over_one_that_came_first(own: str, counted: Any, refused: list[str]) -> None:
    bench = Bench()
    first = bench.y("a", "p")
    bench.event("a", x={}, y=own)
    assert bench.handler.answered == [("a", own)]
    assert bench.join.counters == counted
    assert bench.reasons == refused
    if refused:
        assert bench.handler.letters[0][0].offset == first  # the early label's own record, its bytes as they came
        assert msgspec.json.decode(bench.handler.letters[0][0].value)["y"] == "p"


def test_an_early_label_that_has_become_unusable_is_refused_and_its_features_wait() -> None:
    bench = Bench()
    first = bench.y("a", "p")
    bench.handler.label = lambda y: (_ for _ in ()).throw(EventError("unknown_label", "y", "no"))  # type: ignore[method-assign]
    bench.x("a")
    assert bench.handler.refused == [(first, "unknown_label")]
    assert list(bench.join.pending) == ["a"]


def test_a_wait_that_is_over_lets_the_features_go_and_their_label_is_late() -> None:
    bench = Bench(label_wait_s=10)
    bench.x("a", at=0)
    bench.x("b", at=10)
    assert list(bench.join.pending) == ["a", "b"]  # the wait is over after 10 s, not at them
    bench.x("c", at=10.1)
    assert bench.handler.gone == ["a"]
    late = bench.y("a", at=11)
    bench.x("a", at=11)
    assert bench.handler.refused == [(late, "late")]
    assert bench.join.counters == {"expired": 1, "duplicate_features": 1}


def test_a_label_that_itself_ends_the_wait_is_late() -> None:
    bench = Bench(label_wait_s=10)
    bench.x("a", at=0)
    bench.y("a", at=11)
    assert bench.handler.gone == ["a"]
    assert bench.reasons == ["late"]


def test_allowed_lateness_holds_the_clock_back() -> None:
    bench = Bench(label_wait_s=10, lateness=5)
    bench.x("a", at=0)
    bench.x("b", at=15)
    assert bench.join.clock == NOW + 10
    assert not bench.handler.gone
    bench.x("c", at=16)
    assert bench.handler.gone == ["a"]


def test_a_late_event_is_learned_counted_and_waits_as_long_as_any() -> None:
    bench = Bench(label_wait_s=10)
    bench.x("a", at=100)
    bench.x("b", at=0)
    bench.x("c", at=105)
    assert bench.handler.asked == ["a", "b", "c"]
    assert bench.join.counters == {"late_events": 1}
    assert bench.join.clock == NOW + 105
    assert not bench.handler.gone


def test_the_default_label_answers_when_the_wait_is_over_and_a_later_label_contradicts_it() -> None:
    bench = Bench(label_wait_s=10, default_label="none")
    bench.x("a", at=0)
    bench.x("b", at=11)
    assert bench.handler.answered == [("a", "none")]
    bench.y("a", "none", at=11)
    bench.y("a", "p", at=11)
    assert bench.reasons == ["correction"]
    assert bench.join.counters == {"expired": 1, "defaulted": 1, "duplicate_labels": 1}


def test_a_default_that_has_become_unusable_lets_the_features_go() -> None:
    bench = Bench(label_wait_s=10, default_label="bad")
    bench.x("a", at=0)
    bench.x("b", at=11)
    assert bench.handler.asked == ["a", "b"]
    assert bench.handler.gone == ["a"]
    assert bench.join.counters == {"expired": 1, "default_unusable": 1}
    assert bench.reasons == []


def test_no_more_than_max_pending_wait() -> None:
    bench = Bench(max_pending=3)
    for n in range(5):
        bench.x(f"e{n}")
    assert list(bench.join.pending) == ["e2", "e3", "e4"]
    assert bench.handler.gone == ["e0", "e1"]
    assert bench.join.counters == {"pushed_out": 2}
    bench.y("e0")
    assert bench.reasons == ["late"]


def test_no_more_than_max_pending_labels_wait_for_features() -> None:
    bench = Bench(max_pending=2)
    offsets = [bench.y(f"e{n}") for n in range(3)]
    assert list(bench.join.early) == ["e1", "e2"]
    assert bench.handler.refused == [(offsets[0], "orphan")]


def test_an_early_label_whose_features_never_come_is_an_orphan_with_its_own_bytes() -> None:
    bench = Bench(label_wait_s=10)
    raw = encode(Event("s", "a", NOW, y="p"))
    offset = bench.push(raw, key=b"\xffother")
    bench.x("b", at=11)
    [(record, reason, detail)] = bench.handler.letters
    assert (record.offset, record.value, record.key, reason) == (offset, raw, b"\xffother", "orphan")
    assert "another key" in detail
    assert not bench.join.early


def test_one_question_that_waits_does_not_keep_the_answered_ones_in_memory() -> None:
    bench = Bench(dedupe_ids=10)
    bench.x("first")
    small = len(bench.join.state())
    for n in range(2000):
        bench.x(f"e{n}")
        bench.y(f"e{n}")
        bench.y(f"early{n}")
        bench.x(f"early{n}")
    assert list(bench.join.pending) == ["first"]
    assert len(bench.join.state()) < small + 1000


def test_a_repeat_is_known_for_at_least_dedupe_ids() -> None:
    bench = Bench(dedupe_ids=50)
    for n in range(500):
        bench.event(f"e{n}", x={}, y="p")
    for n in range(450, 500):
        bench.event(f"e{n}", x={}, y="p")
    assert bench.join.counters == {"duplicate_features": 50, "duplicate_labels": 50}
    assert len(msgspec.msgpack.decode(bench.join.state(), type=JoinState).old[0]) <= 51


def test_what_waits_is_known_however_many_ids_came_since() -> None:
    bench = Bench(dedupe_ids=5)
    bench.x("a", f=1)
    for n in range(100):
        bench.event(f"e{n}", x={}, y="p")
    bench.x("a", f=2)
    assert bench.handler.asked.count("a") == 1
    assert bench.join.pending["a"].x == {"f": 1}
    bench.y("a")
    assert bench.handler.answered[-1] == ("a", "p")
    bench.x("b")  # nothing is left behind that could end twice
    assert list(bench.join.pending) == ["b"]


def test_an_event_without_an_id_can_never_be_taken_for_another() -> None:
    bench = Bench()
    bench.event(None, x={"f": 1}, y="p")
    bench.event(None, x={"f": 1}, y="p")
    assert len(set(bench.handler.asked)) == 2


def test_without_a_ts_the_append_time_counts() -> None:
    bench = Bench()
    bench.x("a", at=None)
    assert bench.join.clock == NOW
    assert bench.join.pending["a"].ts == NOW


def test_text_times_count_as_well() -> None:
    bench = Bench()
    bench.push(encode({"stream": "s", "id": "a", "ts": "2023-11-14T22:13:20Z", "x": {}}))
    assert bench.join.clock == NOW


def test_a_heartbeat_advances_an_idle_clock_by_append_time() -> None:
    bench = Bench(label_wait_s=10)
    bench.push(b"", Kind.HEARTBEAT)
    assert bench.join.clock is None
    bench.x("a", at=-1000)
    bench.appended += 10
    bench.push(b"", Kind.HEARTBEAT)
    assert bench.join.clock == NOW - 990
    assert not bench.handler.gone
    bench.appended += 1
    bench.push(b"", Kind.HEARTBEAT)
    bench.push(b"", Kind.HEARTBEAT)
    assert bench.join.clock == NOW - 989
    assert bench.handler.gone == ["a"]


def test_an_event_from_too_far_ahead_is_refused_and_moves_no_clock() -> None:
    bench = Bench(label_wait_s=10)
    bench.x("a")
    bench.x("b", at=3600)
    assert bench.join.clock == NOW + 3600
    for at in (3601, 2.4e9, 1.7e12):
        bench.x("c", at=at)
    bench.served("c", ts=NOW + 1e10, x={})
    assert bench.reasons == ["future"] * 4
    assert bench.join.clock == NOW + 3600
    assert bench.handler.asked == ["a", "b"]


@pytest.mark.parametrize("fields", [{"x": {"bad": 1}, "y": "p"}, {"x": {"f": 1}, "y": "bad"}, {"y": "bad"}])
def test_what_a_model_refuses_moves_no_clock_and_teaches_no_types(fields: dict[str, Any]) -> None:
    bench = Bench(label_wait_s=10)
    bench.x("a", at=0)
    types, state = dict(bench.handler.types), bench.join.state()
    bench.event("b", at=100, **fields)
    bench.join.position -= 1
    assert bench.join.state() == state
    assert bench.handler.types == types
    assert len(bench.reasons) == 1


def test_what_cannot_be_asked_is_not_remembered() -> None:
    bench = Bench()
    bench.x("a", odd=1)
    assert bench.reasons == ["unlearnable"]
    assert bench.handler.types == {}
    assert bench.join.seq == 0
    bench.x("a", f=1)
    assert bench.handler.asked == ["a"]


def test_what_cannot_be_learned_is_forgotten_so_that_it_can_be_sent_again() -> None:
    bench = Bench()
    bench.x("a", sick=1)
    bench.y("a")
    assert not bench.join.pending
    bench.event("a", x={"f": 1}, y="p")
    assert bench.handler.answered == [("a", "p")]
    assert bench.join.counters == {}


def test_whatever_else_goes_wrong_with_a_record_is_a_dead_letter_and_no_crash() -> None:
    bench = Bench()
    bench.x("a", bug=1)
    assert bench.reasons == ["unlearnable"]
    assert "a bug" in bench.handler.letters[0][2]


def test_records_of_an_unknown_kind_are_refused() -> None:
    bench = Bench()
    bench.push(b"", 7)
    assert bench.reasons == ["shape"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"stream":"s","id":"\xff","x":{}}', "malformed"),
        (b"[1]", "shape"),
        (b"null", "shape"),
        (b'{"id":"a","x":{}}', "shape"),
        (b'{"stream":"s","id":7,"x":{}}', "shape"),
        (b'{"stream":"s","id":"","x":{}}', "shape"),
        (b'{"stream":"s","id":"a","key":"","x":{}}', "shape"),
        (b'{"stream":"s","id":"a","x":[1]}', "shape"),
        (b'{"stream":"s","id":"a","x":{"f":{"g":1}}}', "shape"),
        (b'{"stream":"s","y":"p"}', "shape"),
        (b'{"stream":"s","id":"a"}', "empty"),
        (b'{"stream":"t","id":"a","x":{}}', "unknown_stream"),
        (b'{"stream":"s","id":"a","x":{"f":NaN}}', "not_finite"),
        (b'{"stream":"s","id":"a","x":{"f":-Infinity}}', "not_finite"),
        (b'{"stream":"s","id":"a","x":{"f":1e999}}', "not_finite"),
        (b'{"stream":"s","id":"a","ts":1e999,"x":{}}', "not_finite"),
        (b'{"stream":"s","id":"a","ts":"yesterday","x":{}}', "time"),
        (b'{"stream":"s","id":"a","ts":4070908800,"x":{}}', "future"),
        (b'{"stream":"s","id":"a","ts":"2099-01-01T00:00:00Z","x":{}}', "future"),
        (b'{"stream":"s","id":"a","ts":true,"x":{}}', "shape"),
        (b'{"stream":"s","id":"' + b"i" * 1025 + b'","x":{}}', "too_long"),
        (b'{"stream":"s","id":"a","key":"' + b"i" * 1025 + b'","x":{}}', "too_long"),
        (b'{"stream":"s","id":"a","items":' + b"[" * 5000 + b"]" * 5000 + b"}", "too_deep"),
        (b'{"stream":"s","id":"a","other":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, "too_deep"),
        (b'{"stream":"s","id":"a","other":"' + b"o" * 300_000 + b'"}', "too_large"),
    ],
)
def test_what_is_no_sound_event_is_refused_and_changes_nothing(raw: bytes, reason: str) -> None:
    bench = Bench()
    bench.x("first", at=-5)
    state = bench.join.state()
    offset = bench.push(raw)
    assert bench.handler.refused == [(offset, reason)]
    assert bench.handler.letters[0][0].value == raw
    bench.join.position -= 1
    assert bench.join.state() == state


def test_an_interaction_alone_is_nothing_to_learn_from() -> None:
    bench = Bench()
    for fields in ({"item": "i"}, {"action": "click"}, {"items": ["i", "j"]}):
        bench.event("a", **fields)
    assert bench.join.counters == {"ignored": 3}
    assert bench.reasons == []
    assert bench.join.clock is None


def test_a_record_on_the_wrong_partition_is_refused() -> None:
    bench = Bench(partitions=4)
    right = next(key for key in (f"k{n}".encode() for n in range(99)) if partition_of(key, 4) == 0)
    wrong = next(key for key in (f"k{n}".encode() for n in range(99)) if partition_of(key, 4) == 2)
    bench.event("a", x={}, key=right)
    bench.event("b", x={}, key=wrong)
    bench.push(encode(Prediction("s", "c", "m", 1, "q", x={})), Kind.PREDICTION, wrong)
    assert bench.handler.asked == ["a"]
    assert bench.reasons == ["misrouted", "misrouted"]


def test_a_logged_prediction_is_kept_for_the_outcome() -> None:
    bench = Bench()
    bench.x("a")
    bench.served("a", version=3)
    bench.served("a", version=4)
    bench.y("a")
    assert bench.handler.served == {"a": [3, "q"]}
    bench.served("a")
    assert bench.join.counters == {"repeated_predictions": 1, "unattributed_predictions": 1}


def test_a_logged_prediction_brings_features_when_none_came_before() -> None:
    bench = Bench()
    bench.served("a", x={"f": 1, "g": None}, key="k9")
    assert bench.join.pending["a"].x == {"f": 1}
    assert bench.join.pending["a"].key == "k9"
    bench.x("a", f=2)
    bench.y("a")
    assert bench.handler.told == [("ask", "a"), ("answer", "a")]
    assert bench.handler.served == {"a": [3, "q"]}
    assert bench.join.counters == {"duplicate_features": 1}


def test_a_logged_prediction_whose_label_came_first_is_attributed() -> None:
    bench = Bench()
    bench.y("a")
    bench.served("a", x={"f": 1})
    assert bench.handler.served == {"a": [3, "q"]}
    assert bench.join.counters == {"early_labels": 1}


def test_the_prediction_of_another_model_brings_features_but_is_not_ours() -> None:
    bench = Bench()
    bench.served("a", model="other", x={"f": 1})
    bench.served("a", version=5)
    bench.y("a")
    assert bench.handler.served == {"a": [5, "q"]}
    assert bench.join.counters == {"other_predictions": 1}


def test_a_logged_prediction_without_a_time_leaves_the_clock_alone() -> None:
    bench = Bench(label_wait_s=10)
    bench.x("a", at=-5000)
    bench.served("b", x={})
    assert bench.join.clock == NOW - 5000
    assert bench.join.pending["b"].deadline == NOW - 4990
    bench.served("c", x={}, ts=NOW - 4980)
    assert bench.handler.gone == ["a", "b"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "malformed"),
        (b'{"stream":"s","id":"a"}', "shape"),
        (b'{"stream":"t","id":"a","model":"m","version":1,"y":1,"x":{}}', "unknown_stream"),
        (b'{"stream":"s","id":"","model":"m","version":1,"y":1,"x":{}}', "shape"),
        (b'{"stream":"s","id":"a","model":"m","version":1,"y":1,"x":{"bad":1}}', "feature_type"),
        (b'{"stream":"s","id":"a","model":"m","version":1,"y":1,"ts":1e999,"x":{}}', "not_finite"),
        (b'{"stream":"s","id":"a","model":"' + b"o" * 300_000 + b'","version":1,"y":1,"x":{}}', "too_large"),
    ],
)
def test_what_is_no_sound_prediction_is_refused_and_changes_nothing(raw: bytes, reason: str) -> None:
    bench = Bench()
    state = bench.join.state()
    bench.push(raw, Kind.PREDICTION)
    assert bench.reasons == [reason]
    bench.join.position -= 1
    assert bench.join.state() == state


def test_labels_of_a_kept_state() -> None:
    bench = Bench(label_wait_s=10, dedupe_ids=2)
    bench.event("a", at=0, x={}, y=False)
    bench.x("b", at=0)
    bench.x("c", at=11)
    bench.event("d", at=11, x={}, y="p")
    state = msgspec.msgpack.decode(bench.join.state(), type=JoinState)
    assert Join.labels_of(state) == {"a": False, "b": None, "c": None, "d": "p"}


def test_a_state_that_is_none_is_said_to_be_so() -> None:
    with pytest.raises(msgspec.DecodeError):
        Bench().join.load(b"\x00")


IDS = st.sampled_from(["a", "b", "c", "d", "e", "f"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", "y", "xy", "served", "beat", "restart"]),
        IDS,
        st.sampled_from(["p", "q", 1, True]),
        st.integers(-3, 25),
    ),
    max_size=60,
)


def act(bench: Bench, steps: list[tuple[str, str, Any, int]]) -> dict[str, int]:
    """Do the steps; how many features and labels went in."""
    sent = {"features": 0, "labels": 0}
    for what, id, y, at in steps:
        if what == "restart":
            bench.restart()
        elif what == "beat":
            bench.appended += at if at > 0 else 0
            bench.push(b"", Kind.HEARTBEAT)
        elif what == "served":
            bench.served(id)
        else:
            sent["features"] += "x" in what
            sent["labels"] += "y" in what
            bench.event(id, at, x={"f": 1} if "x" in what else None, y=y if "y" in what else None)
    return sent


@settings(max_examples=150)
@given(STEPS, st.sampled_from([None, "p"]), st.sampled_from([1, 2, 50]), st.sampled_from([0.0, 5.0]))
def test_every_event_has_exactly_one_fate_and_the_counters_add_up(
    steps: list[tuple[str, str, Any, int]], default: str | None, most: int, lateness: float
) -> None:
    bench = Bench(label_wait_s=10, max_pending=most, default_label=default, lateness=lateness)
    sent = act(bench, steps)
    told, join, counters = bench.handler, bench.join, bench.join.counters
    answered, asked = [id for id, _ in told.answered], told.asked
    assert len(set(asked)) == len(asked)
    # Features: each id is learned, defaulted, let go, or waits; a repeat of it is a duplicate.
    assert sorted([*answered, *told.gone, *join.pending]) == sorted(asked)
    assert sent["features"] == len(asked) + counters.get("duplicate_features", 0)
    ended = counters.get("expired", 0) + counters.get("pushed_out", 0)
    assert ended == len(told.gone) + counters.get("defaulted", 0)
    # Labels: each is learned, a repeat, refused, or waits for its features.
    by_label = len(answered) - counters.get("defaulted", 0)
    assert sent["labels"] == by_label + counters.get("duplicate_labels", 0) + len(bench.reasons) + len(join.early)
    assert set(bench.reasons) <= {"correction", "late", "orphan"}
    assert not set(join.early) & set(asked)
    assert len(join.pending) <= most
    assert len(join.early) <= most


@settings(max_examples=100)
@given(STEPS, st.sampled_from([None, "p"]))
def test_a_restart_at_any_record_changes_nothing(steps: list[tuple[str, str, Any, int]], default: str | None) -> None:
    one, other = (Bench(label_wait_s=10, max_pending=3, dedupe_ids=3, default_label=default) for _ in range(2))
    act(one, [step for step in steps if step[0] != "restart"])
    act(other, steps)
    assert one.handler.told == other.handler.told
    assert one.handler.refused == other.handler.refused
    assert one.join.state() == other.join.state()
