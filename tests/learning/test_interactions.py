"""The join of interactions, slates and records: its table, line by line; nothing is lost or counted twice in any order."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.config import Settings, parse
from streamlearn.errors import EventError
from streamlearn.events import Event, Kind, Limits, Prediction, ShownItem, encode, partition_of
from streamlearn.learning.interactions import LOOK_BACK, Interactions, make_join
from streamlearn.learning.pending import Join
from streamlearn.learning.waiting import Entry, Impression
from streamlearn.log import Record

LIMITS = Limits(max_features=5, max_string=20)


class Heard:
    """A handler that keeps what it was told, in order; it refuses to ask of the item `bad` and to learn `worse`."""

    name = "m"

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.learned: list[dict[str, Any]] = []
        self.taught: list[tuple[str, Any]] = []
        self.refused: list[tuple[int, str]] = []

    def check(self, x: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        return x, {}

    def label(self, y: Any) -> Any:
        return y

    def accept(self, types: dict[str, str]) -> None: ...

    def unanswered(self, entry: Entry) -> None: ...

    def question(self, entry: Entry) -> None:
        if entry.x["item"] == "bad":
            raise EventError("unlearnable", "x", "asked")
        self.asked.append(entry.x)

    def answer(self, entry: Entry, y: Any) -> bool:
        if entry.x["item"] == "worse":
            return False
        assert y == 1
        self.learned.append(entry.x)
        return True

    def teach(self, kind: str, given: Any) -> None:
        self.taught.append((kind, given))

    def refuse(self, record: Record, reason: str, detail: str) -> None:
        self.refused.append((record.offset, reason))

    def of(self, kind: str) -> list[Any]:
        return [given for name, given in self.taught if name == kind]

    @property
    def rewards(self) -> dict[str, list[float]]:
        return {one.id: one.earned for one in self.of("shown")}


class Bench:
    """One join; each record is appended a second after the one before. Event times are given."""

    def __init__(self, partitions: int = 1, partition: int = 0, lateness: float = 10.0, **model: Any) -> None:
        recommend = {"window_s": 100.0, **model.pop("recommend", {})}
        tree = {
            "streams": {"s": {"allowed_lateness_s": lateness, "partitions": partitions}},
            "models": {"m": {"stream": "s", "task": "recommend", "pipeline": "logistic", "recommend": recommend, **model}},
        }
        self.settings: Settings = parse(tree, {})
        self.place = ("s", partition)
        self.heard = Heard()
        self.join = self.new()
        self.offset = 0

    def new(self) -> Interactions:
        made = make_join(self.heard, self.settings.models["m"], self.settings.streams["s"], LIMITS, self.place, 0)
        assert isinstance(made, Interactions)
        return made

    def push(self, value: bytes, kind: int = Kind.EVENT, key: str = "k") -> None:
        self.join.push(Record(self.offset, 1000.0 + self.offset, kind, key.encode(), value))
        self.offset += 1

    def event(self, at: float | None, id: str | None = None, key: str = "k", **fields: Any) -> None:
        self.push(encode(Event("s", id, at, **fields)), key=key)

    def act(
        self, at: float, item: str, action: str = "click", user: str | None = "u", id: str | None = None, **more: Any
    ) -> None:
        self.event(at, id, user=user, item=item, action=action, **more)

    def show(self, at: float | None, id: str | None, *items: Any, user: str | None = "u", **more: Any) -> None:
        self.event(at, id, user=user, items=list(items), **more)

    def served(self, id: str, *items: ShownItem, at: float | None = None, model: str = "m", user: str | None = "u") -> None:
        slate = Prediction("s", id, model, 3, None, None, {"page": "home"}, at, None, user, list(items))
        self.push(encode(slate), Kind.PREDICTION)

    def restart(self) -> None:
        state, self.join = self.join.state(), self.new()
        self.join.load(state)
        assert self.join.state() == state


def test_the_task_chooses_the_join() -> None:
    bench = Bench()
    model = bench.settings.models["m"].model_copy(update={"task": "binary"})
    assert type(make_join(bench.heard, model, bench.settings.streams["s"], LIMITS, bench.place, 0)) is Join


def test_a_wanted_item_is_asked_and_answered_at_once() -> None:
    bench = Bench()
    bench.act(5.0, "a", "buy", id="e", x={"page": "home"})
    expected = {
        "user": "u", "item": "a", "action": "buy", "weight": 5.0, "ts": 5.0, "context": {"page": "home"}, "organic": True
    }  # fmt: skip
    assert bench.heard.asked == bench.heard.learned == [expected]
    assert (bench.join.seq, bench.join.newest, bench.join.counters) == (1, 5.0, {"organic": 1})


def test_an_unwanted_item_teaches_and_an_unknown_action_is_counted() -> None:
    bench = Bench()
    bench.act(1.0, "a", "dislike")
    bench.act(2.0, "a", "hover")
    assert [x["weight"] for x in bench.heard.of("interaction")] == [-1.0]
    assert not bench.heard.asked
    assert bench.join.counters == {"organic": 1, "other_actions": 1}


def test_a_click_joins_the_slate_it_names() -> None:
    bench = Bench()
    bench.show(0.0, "i1", "a", "b", x={"page": "home"})
    bench.show(1.0, "i2", "a", "b")
    bench.act(2.0, "b", id="i1")
    bench.act(3.0, "b", "buy", id="i1")
    assert [x["organic"] for x in bench.heard.learned] == [False, False]
    bench.act(111.5, "z", user="other")
    [first, second] = bench.heard.of("shown")
    assert (first.id, first.user, first.context, first.ts, first.earned, first.delay) == (
        "i1", "u", {"page": "home"}, 0.0, [0.0, 6.0], 2.0
    )  # fmt: skip
    assert (second.id, second.earned, second.delay) == ("i2", [0.0, 0.0], None)
    assert bench.join.counters == {"impressions": 2, "joined": 2, "organic": 1, "expired": 2}


def test_a_click_without_its_id_joins_the_newest_slate_of_the_user_that_showed_the_item() -> None:
    bench = Bench()
    bench.show(0.0, "i1", "a", "b")
    bench.show(1.0, "i2", "b", "c")
    bench.show(1.0, "i3", "b", user="other")
    bench.act(2.0, "b", id="e1")
    bench.act(3.0, "a")
    bench.act(4.0, "z")
    bench.act(4.0, "b", user=None)
    bench.act(112.0, "z", user="nobody")
    assert bench.heard.rewards == {"i1": [1.0, 0.0], "i2": [1.0, 0.0], "i3": [0.0]}
    assert bench.join.counters["organic"] == 3


def test_a_user_with_very_many_slates_is_looked_for_in_the_newest() -> None:
    bench = Bench()
    bench.show(0.0, "i1", "a")
    for index in range(LOOK_BACK):
        bench.show(0.0, f"more{index}", "b")
    bench.act(1.0, "a")
    assert bench.join.counters["organic"] == 1
    bench.act(1.0, "a", id="i1")
    assert bench.join.open["i1"].earned == [1.0]


def test_what_comes_too_late_or_was_not_shown_is_counted_and_learned_as_found_otherwise() -> None:
    bench = Bench()
    bench.show(0.0, "i1", "a", "b")
    bench.act(1.0, "z", id="i1")
    bench.act(100.5, "a", id="i1")  # still waiting, since events may come out of order
    bench.act(120.0, "b", id="i1")
    assert [x["organic"] for x in bench.heard.learned] == [True, True, True]
    assert bench.heard.rewards == {"i1": [0.0, 0.0]}
    expected = {"impressions": 1, "unshown_clicks": 1, "late_clicks": 2, "organic": 3, "expired": 1}
    assert bench.join.counters == expected
    assert bench.join.view()["join_miss_rate"] == 1.0


def test_a_click_may_come_before_its_slate() -> None:
    bench = Bench()
    bench.act(5.0, "a", id="i1")
    bench.act(5.0, "z", id="i1")
    bench.act(5.0, "a", id="gone")
    bench.restart()
    bench.show(4.0, "i1", "a", "b")
    bench.act(120.0, "q", user="other")
    bench.show(4.0, "gone", "a")
    bench.act(240.0, "q2", user="other")
    assert bench.heard.rewards == {"i1": [1.0, 0.0], "gone": [0.0]}
    assert bench.heard.of("shown")[0].delay == 1.0
    assert (bench.join.counters["early_clicks"], bench.join.counters["unshown_clicks"]) == (1, 1)
    assert bench.join.view()["join_miss_rate"] == 0.5


def test_repeats_are_dropped_by_id_item_and_action() -> None:
    bench = Bench()
    for _ in range(2):
        bench.show(0.0, "i1", "a", "b")
        bench.act(1.0, "a", id="i1")
        bench.act(1.0, "a", "buy", id="i1")
        bench.act(1.0, "b", id="i1")
        bench.restart()
    assert bench.join.counters == {"impressions": 1, "joined": 3, "duplicate_impressions": 1, "duplicate_interactions": 3}
    bench.act(1.0, "a")
    bench.act(1.0, "a")  # without an id it is another one
    assert bench.join.counters["joined"] == 5


def test_what_was_refused_can_be_sent_again() -> None:
    bench = Bench()
    bench.show(0.0, "i1", "bad", "worse")
    for item in ("bad", "worse"):
        for _ in range(2):
            bench.act(1.0, item, id="i1")
    assert bench.heard.refused == [(1, "unlearnable"), (2, "unlearnable")]
    assert bench.join.counters == {"impressions": 1}
    assert bench.join.seq == 2  # what was asked was asked
    bench.act(120.0, "q", user="other")
    assert bench.heard.rewards == {"i1": [0.0, 0.0]}


def test_a_served_slate_keeps_what_was_served() -> None:
    bench = Bench()
    bench.act(50.0, "q", user="other")
    slots = [ShownItem("a", 1, 0.9, 0.25, "popular", [0.5, -1.0]), ShownItem("b", 3, 0.1)]
    bench.served("i1", *slots)
    bench.served("i2", ShownItem("a", f=[0.5]), model="another")
    bench.served("i3", model="m")
    [own, other] = bench.heard.of("opened")
    assert (own.version, own.ts, own.context) == (3, 51.0, {"page": "home"})  # a second after the newest event
    kept = [(one.item, one.position, one.propensity, one.score) for one in own.slots]
    assert kept == [("a", 1, 0.9, 0.25), ("b", 3, 0.1, None)]
    assert own.slots[0].f == b"\0\0\0?\0\0\x80\xbf"
    assert (other.version, other.slots[0].f, other.slots[0].position) == (None, None, 1)
    assert bench.join.counters == {"organic": 1, "impressions": 2, "other_predictions": 1, "ignored": 1}
    assert bench.join.newest == 50.0  # it says nothing of the clock
    bench.served("i4", *slots, at=70.0)
    assert bench.join.newest == 70.0


def test_at_once_each_action_teaches() -> None:
    bench = Bench(recommend={"labels": "at_once"})
    bench.show(0.0, "i1", "a", "b")
    bench.act(1.0, "b", id="i1")
    assert [kind for kind, _ in bench.heard.taught] == ["opened", "clicked"]
    [(impression, slot, weight)] = bench.heard.of("clicked")
    assert (impression.id, slot, weight) == ("i1", 1, 1.0)


def test_too_many_waiting_push_the_oldest_out() -> None:
    bench = Bench(max_pending=2)
    for index in range(4):
        bench.show(float(index), f"i{index}", "a")
    assert [one.id for one in bench.heard.of("shown")] == ["i0", "i1"]
    assert bench.join.counters == {"impressions": 4, "pushed_out": 2}
    assert len(bench.join.pending) == 2
    bench.act(4.0, "a", user="u")
    assert bench.join.open["i3"].earned == [1.0]


def test_records_are_facts_of_every_partition_and_do_not_move_the_clock() -> None:
    away = next(f"i{n}" for n in range(9) if partition_of(f"i{n}".encode(), 2) == 1)
    bench = Bench(partitions=2)
    here = next(f"u{n}" for n in range(9) if partition_of(f"u{n}".encode(), 2) == 0)
    bench.event(10.0, None, key=here, user=here, item="a", action="click")
    bench.event(None, None, key=away, item="a", action="$set", x={"genre": "b", "price": None})
    bench.event(500.0, None, key=away, item="a", action="$delete")
    bench.event(None, None, key=here, user=here, action="$set", x={"plan": "free"})
    bench.event(11.0, None, key=away, user=away, item="a", action="click")
    assert bench.heard.of("item") == [
        {"name": "a", "action": "$set", "x": {"genre": "b", "price": None}, "ts": 10.0},
        {"name": "a", "action": "$delete", "x": {}, "ts": 500.0},
    ]
    assert bench.heard.of("user") == [{"name": here, "action": "$set", "x": {"plan": "free"}, "ts": 10.0}]
    assert bench.heard.refused == [(4, "misrouted")]
    assert bench.join.newest == 10.0


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("shape", {"action": "click"}),
        ("shape", {"action": "$rename", "item": "a"}),
        ("shape", {"action": "$set", "item": "a"}),
        ("shape", {"action": "click", "item": ""}),
        ("shape", {"items": [{"propensity": 1.0}]}),
        ("shape", {"items": []}),
        ("too_many_items", {"items": ["a"] * 1001}),
        ("too_long", {"action": "click", "item": "a" * 21}),
        ("too_long", {"items": ["a" * 21]}),
        ("future", {"action": "click", "item": "a", "ts": 1e9}),
    ],
)
def test_what_is_no_interaction_is_refused(reason: str, fields: dict[str, Any]) -> None:
    bench = Bench()
    bench.push(encode(Event("s", "e", **fields)))
    assert bench.heard.refused == [(0, reason)]
    assert not bench.heard.asked
    assert not bench.heard.taught


def test_features_and_labels_are_for_other_models() -> None:
    bench = Bench()
    bench.event(1.0, "e", x={"a": 1.0}, y=True)
    bench.event(1.0, "e", y=True)
    bench.push(encode(Prediction("s", "e", "another", 1, True)), Kind.PREDICTION)
    assert bench.join.counters == {"ignored": 3}


def test_an_idle_partition_s_slates_end_by_heartbeats() -> None:
    bench = Bench()
    bench.show(0.0, "i1", "a")
    bench.offset += 200
    bench.push(b"", Kind.HEARTBEAT)
    assert bench.join.counters == {"impressions": 1, "expired": 1}


def test_a_range_that_is_passed_over_teaches_facts_alone() -> None:
    bench = Bench()
    bench.show(0.0, "i1", "a")
    bench.show(0.0, "i2", "b")

    def pass_over(kind: int = Kind.EVENT, **fields: Any) -> None:
        bench.join.pass_over(Record(bench.offset, 1000.0, kind, b"k", encode(Event("s", ts=1.0, **fields))))
        bench.offset += 1

    pass_over(id="i1", user="u", item="a", action="click")
    pass_over(item="c", action="$set", x={"genre": "d"})
    pass_over(user="u", items=["b"])
    pass_over(item="c", action="$rename")
    assert list(bench.join.open) == ["i2"]  # of the other one it is not known what came of it
    assert [kind for kind, _ in bench.heard.taught] == ["opened", "opened", "item"]
    assert not bench.heard.learned
    assert bench.join.position == bench.offset


def test_slates_of_a_skipped_range_are_let_go() -> None:
    bench = Bench()
    bench.show(0.0, "i1", "a")
    bench.show(0.0, "i2", "a")
    bench.join.skip_waiting(1)
    assert list(bench.join.open) == ["i1"]
    bench.act(1.0, "a", id="i2")
    assert bench.join.counters == {"impressions": 2, "skipped_impressions": 1, "late_clicks": 1, "organic": 1}


def test_what_is_forgotten_is_new_again() -> None:
    bench = Bench()
    for _ in range(2):
        bench.show(0.0, "i1", "a")
        bench.act(1.0, "a", id="i1")
        bench.join.forget("i1")
    assert bench.join.counters == {"impressions": 2, "joined": 2}
    assert not bench.join.open


story = st.lists(
    st.tuples(
        st.sampled_from(["show", "click", "buy", "dislike", "anonymous", "restart", "beat"]),
        st.integers(0, 5),  # the slate
        st.integers(0, 3),  # the item
        st.floats(0, 60),  # how late
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(story, st.integers(1, 50), st.sampled_from([0.0, 10.0, 1000.0]), st.randoms(use_true_random=False))
def test_in_any_order_nothing_is_lost_and_nothing_counts_twice(
    steps: list[tuple[str, int, int, float]], most: int, lateness: float, draw: random.Random
) -> None:
    bench = Bench(lateness=lateness, max_pending=most)
    items = ["a", "b", "c", "z"]
    sent: Counter[str] = Counter()
    once: set[tuple[str, ...]] = set()
    for index, (what, slate, item, late) in enumerate(steps):
        at, id = 20.0 * index - late, f"i{slate}"
        user = f"u{slate % 2}"
        if what == "restart":
            bench.restart()
        elif what == "beat":
            bench.push(b"", Kind.HEARTBEAT)
        elif what == "show":
            bench.show(at, id, *items[:3], user=user)
            sent["slates"] += 1
            once.add((id,))
        elif what == "anonymous":
            bench.act(at, items[item], "click", user)
            sent["actions"] += 1
            once.add(("", str(index)))
        else:
            bench.act(at, items[item], what, user, id)
            sent["actions"] += 1
            once.add((id, items[item], what))
    bench.act(20.0 * len(steps) + 3000.0, "end", user="last")
    counters = Counter(bench.join.counters)
    assert not bench.heard.refused
    assert not bench.join.open
    # Every slate is shown once or was a repeat; every action is learned once or was a repeat.
    assert counters["impressions"] + counters["duplicate_impressions"] == sent["slates"]
    assert [one.id for one in bench.heard.of("opened")] == list(dict.fromkeys(one.id for one in bench.heard.of("opened")))
    assert sorted(one.id for one in bench.heard.of("shown")) == sorted(one[0] for one in once if len(one) == 1)
    learned = bench.heard.learned + bench.heard.of("interaction")
    assert len(learned) + counters["duplicate_interactions"] == sent["actions"] + 1
    assert len(learned) == len([one for one in once if len(one) > 1]) + 1
    # What slates earned is the weight of all that joined, each once: as it came, or before its slate.
    assert counters["joined"] == sum(not x["organic"] for x in learned)
    assert counters["organic"] == sum(x["organic"] for x in learned)
    early = counters["early_clicks"]
    earned = sum(sum(one.earned) for one in bench.heard.of("shown"))
    joined = sum(x["weight"] for x in learned if not x["organic"])
    if not early:
        assert earned == pytest.approx(joined)
    assert early <= counters["organic"]
    delays = bench.join.view()["delay"]
    assert delays["impressions"] == counters["impressions"]


def test_an_impression_survives_messagepack() -> None:
    bench = Bench()
    bench.served("i1", ShownItem("a", 1, 0.5, 0.1, None, [1.5]))
    bench.restart()
    [kept] = bench.join.open.values()
    [opened] = bench.heard.of("opened")
    assert isinstance(kept, Impression)
    assert kept == opened
