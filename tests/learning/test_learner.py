"""The learner: every rule of the events with its counter and dead letter, the order of its steps, its manners with faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_bench import KEYS, NOW, Stage

from streamlearn.errors import EventError
from streamlearn.events import REASONS, Event, Kind, encode, partition_of
from streamlearn.keys import KeyRing
from streamlearn.learning import checkpoint
from streamlearn.learning.learner import METRICS_EVERY, ODD_IN_A_ROW, Learner
from streamlearn.log import Entry
from streamlearn.records import Command, sign_command

Put = Callable[[Stage], int]
RAW = b'{"stream":"s","id":"new",'


def calls(learner: Learner) -> list[tuple[str, str]]:
    return learner.champion.estimator.calls  # type: ignore[no-any-return]  # the spy's


def raw(text: bytes) -> Put:
    return lambda stage: stage.put(text)


# What each record that cannot be learned is refused for, after {"n": number, "w": string} was learned and "waits" waits.
BAD: dict[str, tuple[str, Put]] = {
    "bad UTF-8": ("malformed", raw(RAW + b'"x":{"w":"\xff"}}')),
    "not JSON": ("malformed", raw(b"hello")),
    "NaN": ("not_finite", raw(RAW + b'"x":{"n":NaN}}')),
    "infinity": ("not_finite", raw(RAW + b'"x":{"n":Infinity}}')),
    "1e999": ("not_finite", raw(RAW + b'"x":{"n":1e999}}')),
    "1e999 as a label": ("not_finite", raw(RAW + b'"x":{"n":1},"y":1e999}')),
    "2**64": ("out_of_range", raw(RAW + b'"x":{"n":18446744073709551616}}')),
    "2**64 as a label": ("unknown_label", raw(RAW + b'"x":{"n":1},"y":18446744073709551616}')),
    "deep nesting": ("too_deep", raw(RAW + b'"items":' + b"[" * 9999 + b"]" * 9999 + b"}")),
    "an object as a feature": ("shape", raw(RAW + b'"x":{"n":{}}}')),
    "a string where a number was": ("feature_type", lambda stage: stage.x("new", n="1")),
    "a number where a string was": ("feature_type", lambda stage: stage.x("new", w=1)),
    "a logged string where a number was": ("feature_type", lambda stage: stage.served("new", True, x={"n": "1"})),
    "too many features": ("too_many_features", lambda stage: stage.x("new", **{f"f{n}": 1 for n in range(1001)})),
    "a long string": ("too_long", lambda stage: stage.x("new", w="w" * 1025)),
    "a long name": ("too_long", lambda stage: stage.x("new", **{"w" * 1025: 1})),
    "a long id": ("too_long", lambda stage: stage.x("i" * 1025)),
    "a large event": ("too_large", raw(RAW + b'"x":{"n":1}' + b" " * 262_144 + b"}")),
    "the year 2099": ("future", raw(RAW + b'"ts":"2099-01-01T00:00:00Z","x":{"n":1}}')),
    "milliseconds": ("future", lambda stage: stage.x("new", at=NOW * 999)),
    "no time at all": ("time", raw(RAW + b'"ts":"soon","x":{"n":1}}')),
    "an unknown stream": ("unknown_stream", lambda stage: stage.put(encode(Event("other", "new", x={"n": 1})))),
    "nothing in it": ("empty", lambda stage: stage.event("new")),
    "a label that is none": ("unknown_label", lambda stage: stage.y("waits", "maybe")),
    "a label without an id": ("shape", lambda stage: stage.event(None, y=True)),
    "a second, other label": ("correction", lambda stage: stage.y("learned", False)),
    "a late label": ("late", lambda stage: stage.y("expired", True)),
    "a pipeline that raises when asked": ("unlearnable", lambda stage: stage.x("new", boom=True)),
    "a prediction that is no number": ("not_finite_prediction", lambda stage: stage.x("new", nan=True)),
    "an unsigned command": ("bad_signature", lambda stage: stage.put(b'{"verb":"hold"}', Kind.COMMAND)),
    "a command under another key": (
        "bad_signature",
        lambda stage: stage.command("hold", keys=KeyRing({"test": b"another-key-of-16"})),
    ),
    "a command that was tampered with": (
        "bad_signature",
        lambda stage: stage.put(sign_command(Command(5, "m", "hold"), KEYS).replace(b"hold", b"hulk"), Kind.COMMAND),
    ),
    "an unknown kind of record": ("shape", lambda stage: stage.put(b"{}", 9)),
}


def begun() -> Stage:
    """One id learned, one expired, one that waits; the clock at 20."""
    stage = Stage(label_wait_s=10)
    stage.xy("learned", True, n=1, w="u")
    stage.x("expired", n=1)
    stage.x("waits", 20, n=2)
    return stage


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_learned_is_counted_and_dead_lettered_and_changes_nothing(name: str) -> None:
    reason, put = BAD[name]
    stage = begun()
    learner = stage.learn()
    before = stage.essence(learner)
    offset = put(stage)
    stage.learn(learner)
    assert learner.counters[reason] == 1
    [letter] = stage.dead
    [record] = stage.log.read("s", 0, offset, 1)
    assert (letter.model, letter.stream, letter.shard, letter.offset, letter.reason) == ("m", "s", 0, offset, reason)
    assert letter.raw == record.value
    assert letter.ts == record.ts
    assert letter.detail
    assert reason in REASONS
    learner.odd_in_a_row = 0  # counted, so that a ruined model is noticed
    assert stage.essence(learner) == before
    stage.y("waits", True, 20)
    stage.learn(learner)
    assert learner.n == 2


def test_every_reason_is_met_somewhere_in_these_tests() -> None:
    elsewhere = {"misrouted", "orphan", "too_many_items"}
    assert {reason for reason, _ in BAD.values()} | elsewhere == set(REASONS)


def test_nothing_of_a_huge_dead_letters_detail_is_kept_but_its_beginning() -> None:
    stage = begun()
    stage.put(RAW + b'"x":{"n":1},"y":"' + b"y" * 200_000 + b'"}')
    stage.learn()
    assert len(stage.dead[0].detail) <= 1000


def test_a_label_with_another_key_is_an_orphan_on_its_partition() -> None:
    stage = Stage(stream={"partitions": 2}, label_wait_s=10)
    keys = {partition_of(f"k{n}".encode(), 2): f"k{n}".encode() for n in range(20)}
    stage.event("a", key=keys[0], x={"n": 1})
    there = stage.log.append("s", [Entry(keys[1], encode(Event("s", "a", NOW, y=True)))]).result()[0]
    stage.log.append("s", [Entry(keys[1], encode(Event("s", "later", NOW + 11, x={"n": 1})))]).result()
    learner = stage.learn(stage.new(shard=1), until=2)
    assert there == (1, 0)
    assert learner.counters == {"orphan": 1}
    assert [(letter.offset, letter.shard, letter.reason) for letter in stage.dead] == [(0, 1, "orphan")]
    assert "another key" in stage.dead[0].detail
    assert learner.n == 0


def test_predict_score_detect_learn_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, told = Stage(), []
    learner = stage.new()
    for name in ("_predict", "_score", "_update", "_learn"):
        real = getattr(learner, name)

        def spied(*args: Any, real: Callable[..., Any] = real, name: str = name) -> Any:
            told.append(name)
            return real(*args)

        monkeypatch.setattr(learner, name, spied)
    stage.x("a")
    stage.learn(learner)
    assert told == ["_predict"]
    stage.y("a")
    stage.learn(learner)
    assert told == ["_predict", "_score", "_update", "_learn"]
    stage.xy("b")
    stage.learn(learner)
    assert told[4:] == ["_predict", "_score", "_update", "_learn"]


def test_what_was_predicted_at_question_time_is_what_is_scored() -> None:
    stage = Stage()
    learner = stage.new()
    scored: list[tuple[Any, ...]] = []
    learner._score = lambda *row: scored.append(row)  # type: ignore[assignment]
    stage.x("slow")
    stage.xy("quick", True)
    stage.xy("next", True)
    stage.y("slow", True)
    stage.learn(learner)
    # (label, answer, P(True), last, majority) in the order of the labels; "slow" was asked when nothing was known.
    assert scored == [(True, False, 0.5, None, None), (True, True, 1.0, True, True), (True, False, 0.5, None, None)]


def test_nothing_is_predicted_twice_and_nothing_learned_twice() -> None:
    stage = Stage(label_wait_s=10)
    for n in range(30):
        stage.x(f"e{n}", n)
        stage.x(f"e{n}", n)
        if n % 3:
            stage.y(f"e{n}", True, n)
            stage.y(f"e{n}", True, n)
    learner = stage.learn()
    names = [f"e{n}" for n in range(30)]
    assert [id for what, id in calls(learner) if what == "predict"] == names
    assert [id for what, id in calls(learner) if what == "learn"] == [f"e{n}" for n in range(30) if n % 3]
    assert learner.n == 20
    assert learner.counters["duplicate_features"] == 30
    assert learner.counters["duplicate_labels"] == 20


def test_a_shadow_too_is_asked_once_and_taught_once() -> None:
    stage = Stage()
    stage.xy("before")
    trained = stage.fit(2)
    stage.command("try", version=2, trained_to={"0": trained})
    for n in range(5):
        stage.x(f"e{n}")
    for n in range(5):
        stage.y(f"e{n}")
    learner = stage.learn()
    assert learner.shadow is not None
    asked = [("predict", f"e{n}") for n in range(5)]
    taught = [("learn", f"e{n}") for n in range(5)]
    assert learner.shadow.estimator.calls == [("learn", "before"), *asked, *taught]


def test_a_pipeline_that_raises_when_taught_makes_a_dead_letter_of_the_whole_event() -> None:
    stage = Stage()
    together = stage.xy("a", True, n=1, bang=1)
    apart = stage.event("b", key=b"user", x={"n": 2, "bang": 1}, y=None)
    stage.event("c", x={"n": 3, "bang": 1})
    label = stage.y("b", False)
    learner = stage.learn()
    assert learner.counters == {"unlearnable": 2}
    first, second = stage.dead
    assert (first.offset, first.raw) == (together, stage.log.read("s", 0, together, 1)[0].value)
    assert second.offset == apart
    assert label > apart
    event = msgspec.json.decode(second.raw)
    assert event == {"stream": "s", "id": "b", "ts": NOW, "x": {"n": 2, "bang": 1}, "y": False}
    assert ("learn", "1") not in calls(learner)


def test_what_could_not_be_taught_can_be_sent_again_once_it_is_mended() -> None:
    stage = Stage(labels=["no", "yes"])
    stage.event("a", key=b"user", x={"n": 1, "bang": 1})
    stage.y("a", "yes")
    learner = stage.learn()
    [letter] = stage.dead
    event = msgspec.json.decode(letter.raw)
    assert event["y"] == "yes"
    event["x"]["bang"] = 0
    stage.put(encode(event))
    stage.learn(learner)
    assert ("learn", "1") in calls(learner)
    assert learner.counters == {"unlearnable": 1}


def test_a_reconstructed_event_carries_its_own_key() -> None:
    stage = Stage()
    stage.put(encode(Event("s", "a", NOW, key="user", x={"bang": 1})))
    stage.y("a", True)
    stage.learn()
    [letter] = stage.dead
    assert letter.key == "user"
    assert msgspec.json.decode(letter.raw)["key"] == "user"


def test_a_shadow_that_raises_is_let_go_and_control_is_told() -> None:
    for fault in ("asked", "taught"):
        stage = Stage()
        stage.xy("before")
        stage.command("try", version=2, trained_to={"0": stage.fit(2)})
        learner = stage.learn()
        assert learner.shadow is not None
        name = "predict" if fault == "asked" else "learn"
        setattr(learner.shadow, name, raising)
        stage.xy("a")
        stage.learn(learner)
        assert learner.shadow is None
        assert learner.shadow_version is None
        assert learner.blocks is None
        assert stage.signals[-1].kind == "shadow_failed"
        assert stage.signals[-1].data["version"] == 2
        assert learner.n == 2
        assert learner.counters == {}


def raising(*args: Any) -> Any:
    raise ZeroDivisionError("no")


def test_a_shadow_that_answers_nan_is_let_go() -> None:
    stage = Stage()
    stage.xy("before")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    learner = stage.learn()
    assert learner.shadow is not None
    learner.shadow.predict = not_finite  # type: ignore[method-assign]
    stage.xy("a")
    stage.learn(learner)
    assert learner.shadow is None
    assert learner.held is None


def not_finite(x: Any) -> Any:
    raise EventError("not_finite_prediction", "$", "nan")


def test_one_odd_event_does_not_hold_a_model_but_many_in_a_row_do() -> None:
    stage = Stage()
    for n in range(ODD_IN_A_ROW - 1):
        stage.x(f"odd{n}", nan=1)
    stage.xy("good")
    learner = stage.learn()
    assert learner.held is None
    for n in range(ODD_IN_A_ROW):
        stage.x(f"again{n}", nan=1)
    stage.learn(learner)
    assert learner.held is not None
    assert stage.kinds() == ["held"]
    assert "not finite" in stage.signals[0].data["reason"]
    assert learner.counters["not_finite_prediction"] == 2 * ODD_IN_A_ROW - 1
    stage.xy("while held")
    stage.learn(learner)
    assert learner.n == 2
    assert ("learn", "while held") not in calls(learner)
    assert learner.champion.estimator.taught == 1


def test_the_default_label_is_learned_when_the_wait_is_over() -> None:
    stage = Stage(label_wait_s=10, default_label=False)
    stage.x("a")
    stage.x("b")
    stage.y("b", True, 5)
    stage.x("c", 20)
    learner = stage.learn()
    assert learner.n == 2
    assert learner.counters == {"expired": 1, "defaulted": 1}
    assert [id for what, id in calls(learner) if what == "learn"] == ["b", "a"]


def test_with_a_default_label_the_watch_takes_losses_in_the_order_of_the_questions() -> None:
    stage = Stage(label_wait_s=10, default_label=False)
    learner, seen = stage.new(), []
    learner._update = lambda loss, offset, n: seen.append(offset)  # type: ignore[assignment,func-returns-value]
    offsets = [stage.x(f"e{n}", n) for n in range(4)]
    stage.y("e3", True, 4)
    stage.y("e1", True, 5)
    stage.learn(learner)
    assert seen == []
    stage.y("e0", True, 6)
    stage.learn(learner)
    assert seen == offsets[:2]
    stage.x("end", 30)
    stage.learn(learner)
    assert seen == offsets


def test_heartbeats_advance_an_idle_clock_and_end_waits() -> None:
    stage = Stage(label_wait_s=10)
    stage.x("a")
    stage.beat(10)
    learner = stage.learn()
    assert learner.join.clock == NOW + 10
    assert len(learner.join.pending) == 1
    stage.beat(1)
    stage.learn(learner)
    assert learner.counters == {"expired": 1}


def test_the_wait_is_bounded_in_number() -> None:
    stage = Stage(max_pending=5)
    for n in range(12):
        stage.x(f"e{n}")
    learner = stage.learn()
    assert len(learner.join.pending) == 5
    assert learner.counters == {"pushed_out": 7}


def test_outcomes_are_attributed_to_the_version_that_was_shown() -> None:
    stage = Stage(labels=["no", "yes"])
    for n, (shown, version) in enumerate([("yes", 1), ("no", 2), ("no", 2), ("yes", 2)]):
        stage.x(f"e{n}")
        stage.served(f"e{n}", shown, version)
        stage.y(f"e{n}", "yes")
    stage.served("f", "no", 3, x={"n": "f"})
    stage.y("f", "no")
    stage.x("other")
    stage.served("other", "no", 9, model="another")
    stage.y("other", "yes")
    stage.x("strange")
    stage.served("strange", "purple", 4)
    stage.y("strange", "yes")
    learner = stage.learn()
    assert learner.outcomes == {1: [1.0, 0.0], 2: [3.0, 2.0], 3: [1.0, 0.0]}
    assert learner.counters == {"other_predictions": 1}
    assert learner.n == 7


def test_features_that_came_with_a_prediction_are_learned_from() -> None:
    stage = Stage()
    stage.served("a", True, x={"n": "from the prediction"})
    stage.x("a", n="from the event")
    stage.y("a")
    learner = stage.learn()
    assert calls(learner) == [("predict", "from the prediction"), ("learn", "from the prediction")]


def test_delays_are_measured_in_questions() -> None:
    stage = Stage()
    for n in range(10):
        stage.x(f"e{n}")
    stage.y("e0")
    stage.xy("now")
    stage.y("e9")
    assert list(stage.learn().delays) == [9, 0, 1]


def test_alarms_and_windows_become_signals_numbered_and_dated_by_the_log() -> None:
    drift = {"detectors": [{"name": "page_hinkley", "params": {"threshold": 5.0, "min_instances": 30}}]}
    drift |= {"window": 30, "gap": 0, "min_reference": 30, "max_reference": 1000}  # type: ignore[dict-item]
    stage = Stage(pipeline="learning_bench:always", drift=drift)
    for n in range(300):
        stage.clock.advance(1)
        stage.xy(f"e{n}", n < 200, n=n)
    learner = stage.learn()
    assert stage.kinds() == ["alarm", "window"]
    alarm, window = stage.signals
    assert (alarm.model, alarm.shard, alarm.seq, window.seq) == ("m", 0, 0, 1)
    assert alarm.offset == alarm.n  # every record was an event with its label
    assert alarm.ts == NOW + alarm.n
    assert abs(alarm.data["change_offset"] - 200) < 20
    assert window.data["tag"] == "fresh"
    assert learner.signal_seq == 2


def test_the_loss_of_a_former_champions_prediction_is_not_the_watchs_business() -> None:
    stage = Stage()
    stage.xy("before")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    stage.x("asked by the first")
    stage.command("promote", version=2)
    learner = stage.learn()
    seen: list[int] = []
    learner._update = lambda loss, offset, n: seen.append(n)  # type: ignore[assignment,func-returns-value]
    stage.y("asked by the first")
    stage.xy("asked by the second")
    stage.learn(learner)
    assert learner.n == 3
    assert seen == [3]


def test_a_regression_has_no_loss_until_its_scale_is_known_and_is_scored_all_the_same() -> None:
    stage = Stage("regression", "linear")
    learner, seen = stage.new(), []
    update = learner._update
    learner._update = lambda *row: (seen.append(row), update(*row))[1]  # type: ignore[assignment,func-returns-value]
    for n in range(205):
        stage.xy(f"e{n}", float(n % 13), n=float(n % 7))
    stage.learn(learner)
    assert learner.n == 205
    assert len(seen) == 5
    assert all(0 <= loss <= 1 for loss, _, _ in seen)
    assert learner.scores.view()["n"] == 205


def test_an_early_label_teaches_a_model_nothing_of_its_labels_type() -> None:
    stage = Stage("multiclass", "softmax", label_wait_s=10)
    stage.y("never comes", 7)
    stage.xy("a", "red", n=1.0)
    stage.x("never comes", n=1.0)
    learner = stage.learn()
    assert learner.n == 1
    assert learner.counters == {"unknown_label": 1}


def test_types_of_refused_features_are_not_remembered() -> None:
    stage = Stage()
    stage.xy("bad label", "maybe", fresh="text")
    stage.x("bad features", fresh="text", other=2**70)
    stage.x("cannot be asked", fresh="text", boom=True)
    stage.xy("good", True, fresh=1.0)
    learner = stage.learn()
    assert learner.champion.types["fresh"] == "number"
    assert learner.n == 1


SCRIPT = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", "xy", "bang", "boom", "nan", "served", "beat", "junk"]),
        st.sampled_from("abcdefgh"),
        st.booleans(),
        st.integers(0, 30),
    ),
    max_size=50,
)


def play(stage: Stage, script: list[tuple[str, str, bool, int]]) -> dict[str, int]:
    """Write the script; how many records with features, and with a label, went in."""
    sent = {"features": 0, "labels": 0}
    for what, id, y, at in script:
        if what == "beat":
            stage.beat(at)
        elif what == "junk":
            stage.put(b"{")
        elif what == "served":
            stage.served(id, y)
        elif what == "y":
            stage.y(id, y, at)
        else:
            more = {} if what in ("x", "xy") else {what: 1}
            stage.event(id, at, x={"n": id, **more}, y=y if what in ("xy", "bang") else None)
        sent["features"] += what in ("x", "xy", "bang", "boom", "nan")
        sent["labels"] += what in ("y", "xy", "bang")
    return sent


@settings(max_examples=120)
@given(SCRIPT, st.sampled_from([None, False]), st.sampled_from([2, 100]))
def test_every_event_has_one_fate_and_the_counters_add_up(script: Any, default: bool | None, most: int) -> None:
    stage = Stage(label_wait_s=10, max_pending=most, default_label=default)
    sent = play(stage, script)
    learner = stage.learn()
    counted = learner.counters.get
    asked = [id for what, id in calls(learner) if what == "predict"]
    taught = [id for what, id in calls(learner) if what == "learn"]
    untaught = [letter for letter in stage.dead if "learning raised" in letter.detail]
    unasked = [letter for letter in stage.dead if "predicting raised" in letter.detail or "not_finite" in letter.reason]
    labels_refused = [letter for letter in stage.dead if letter.reason in ("orphan", "late", "correction")]
    ended = counted("expired", 0) + counted("pushed_out", 0)
    # Features: a duplicate, could not be asked, or asked; then learned, could not be learned, let go, or waiting.
    assert sent["features"] == counted("duplicate_features", 0) + len(unasked) + len(asked)
    assert len(asked) == learner.n + (ended - counted("defaulted", 0)) + len(learner.join.pending)
    assert len(taught) + len(untaught) == learner.n or learner.held is not None
    # Labels: a duplicate, refused, waiting for features, lost with features that could not be asked, or an answer.
    lost = sum("y" in msgspec.json.decode(letter.raw) for letter in unasked)
    by_label = learner.n - counted("defaulted", 0)
    waiting = len(learner.join.early)
    assert sent["labels"] == by_label + counted("duplicate_labels", 0) + len(labels_refused) + waiting + lost
    # Dead letters: each has a counter, and each record or part of one is there at most once.
    reasons = [letter.reason for letter in stage.dead]
    assert all(counted(reason, 0) == reasons.count(reason) for reason in reasons)
    named = [(letter.offset, letter.reason) for letter in stage.dead]
    assert len(set(named)) == len(named)


@settings(max_examples=60)
@given(SCRIPT, st.integers(1, 7), st.integers(0, 50))
def test_neither_batches_nor_a_restart_change_anything(script: Any, batch: int, cut: int) -> None:
    stage = Stage(label_wait_s=10, max_pending=3, dedupe_ids=4, default_label=False)
    play(stage, script)
    whole = stage.learn()
    words = (list(stage.signals), list(stage.dead))
    stage.signals.clear()
    stage.dead.clear()
    pieces = stage.learn(until=min(cut, stage.end), batch=batch)
    pieces = stage.learn(stage.again(pieces), batch=batch)
    assert checkpoint.digest(pieces) == checkpoint.digest(whole)
    assert (stage.signals, stage.dead) == words


def test_a_learner_that_starts_over_on_a_trimmed_log_numbers_its_signals_above_the_old_ones() -> None:
    stage = Stage()
    before, after = stage.new(), stage.new(start=1000)
    before.tell("held", {})
    after.tell("held", {})
    assert [signal.seq for signal in before.signals] == [0]
    assert after.signals[0].seq > 1000


def watched(*detectors: dict[str, Any], task: str = "binary", **more: Any) -> tuple[Stage, Learner, list[tuple[str, float]]]:
    """A learner whose watch tells what it was shown beside the loss."""
    stage = Stage(task, drift={"detectors": list(detectors)}, **more)
    learner, seen = stage.new(), []
    observe = learner.watch.observe

    def tell(what: str, value: float) -> None:
        seen.append((what, value))
        observe(what, value)

    learner.watch.observe = tell  # type: ignore[method-assign]
    return stage, learner, seen


def test_a_score_is_watched_when_it_is_asked_for_and_a_label_when_it_comes() -> None:
    stage, learner, seen = watched({"name": "adwin", "on": "score"}, {"name": "adwin", "on": "label_rate"})
    for n in range(3):
        stage.x(f"e{n}")
    stage.learn(learner)
    assert seen == [("score", 0.5)] * 3, "no label has come yet"
    seen.clear()
    stage.y("e0", True)
    stage.y("e1", False)
    stage.x("e3")
    stage.learn(learner)
    assert seen == [("label_rate", 1.0), ("label_rate", 0.0), ("score", 0.5)]


@pytest.mark.parametrize(
    ("task", "labels", "values"),
    [("regression", [2.5, -1.0, 4.0], [2.5, -1.0, 4.0]), ("multiclass", ["a", "a", "b", "a"], [1.0, 0.0, 1.0, 0.0])],
)
def test_labels_that_are_no_yes_or_no_are_watched_too(task: str, labels: list[Any], values: list[float]) -> None:
    pipeline = "linear" if task == "regression" else "naive_bayes"
    stage, learner, seen = watched({"name": "adwin", "on": "label_rate"}, task=task, pipeline=pipeline)
    for n, y in enumerate(labels):
        stage.xy(f"e{n}", y, a=1.0)
    stage.learn(learner)
    assert seen == [("label_rate", value) for value in values]


def test_metrics_of_the_window_are_watched_every_so_often_and_more_is_worse() -> None:
    stage, learner, seen = watched(
        {"name": "adwin", "on": "accuracy"}, {"name": "page_hinkley", "on": "log_loss"}, {"name": "adwin"}, score_window=300
    )
    for n in range(2 * METRICS_EVERY + 10):
        stage.xy(f"e{n}", n % 3 == 0)
    stage.learn(learner, until=METRICS_EVERY)
    window = learner.scores.view()["window"]
    assert seen == [("accuracy", 1 - window["accuracy"]), ("log_loss", window["log_loss"])]
    stage.learn(learner)
    assert len(seen) == 4


def test_nothing_beside_the_loss_is_looked_at_by_default() -> None:
    stage, learner, seen = watched({"name": "adwin"}, {"name": "page_hinkley"})
    for n in range(300):
        stage.xy(f"e{n}", n % 3 == 0)
    stage.learn(learner)
    assert not seen


def test_a_change_of_the_labels_alone_opens_a_case() -> None:
    """Nothing watches the loss here; the confirmation will."""
    stage = Stage(
        pipeline="learning_bench:always",
        drift={"detectors": [{"name": "page_hinkley", "on": "score"}, {"name": "adwin", "on": "label_rate"}]},
    )
    for n in range(1500):
        stage.xy(f"e{n}", n % 10 < 9)
    for n in range(1500, 3000):
        stage.xy(f"e{n}", n % 10 < 5)
    stage.learn()
    alarm = next(signal for signal in stage.signals if signal.kind == "alarm")
    assert alarm.data["detector"] == "adwin on label_rate"
    assert 1500 < alarm.n < 1800
