"""The holder: loading, swapping, refusing, age, silence of the store and of learners, and its background thread."""

from __future__ import annotations

import time
from typing import Any

import pytest

from streamlearn.errors import LogUnavailable, StoreUnavailable
from streamlearn.keys import KeyRing
from streamlearn.lineage import Backfill
from streamlearn.serving.problems import ProblemError
from streamlearn.store import codec


@pytest.fixture
def holder(world: Any) -> Any:
    """A holder that only polls when it is told."""
    world.make()
    world.poll()
    return world.hub.holder


def test_nothing_is_served_before_a_publication(world: Any, holder: Any) -> None:
    slot = holder.slot("delay", None)
    assert slot.served is None
    assert holder.ready() == [
        "model 'delay', shard 0: nothing published yet",
        *(f"model 'ctr', shard {shard}: nothing published yet" for shard in range(4)),
    ]


def test_a_publication_is_loaded_and_the_next_replaces_it(world: Any, holder: Any, doubled: Any) -> None:
    world.publish(version=1, offset=10, n=4)
    holder.poll(0.0)
    first = holder.slot("delay", None).served
    assert (first.version, first.position.offset, first.n, first.created) == (1, 10, 4, world.clock())
    assert first.answer({}) == (False, {"false": 0.75, "true": 0.25})
    world.publish(version=2, offset=20, content=doubled(p=0.9))
    holder.poll(0.0)
    second = holder.slot("delay", None).served
    assert (second.version, second.position.offset) == (2, 20)
    assert second.answer({})[0] is True
    assert world.metric("streamlearn_publications_total", model="delay", fate="loaded") == 2


def test_what_has_not_changed_is_not_loaded_again(world: Any, holder: Any) -> None:
    world.publish()
    holder.poll(0.0)
    served = holder.slot("delay", None).served
    holder.poll(0.0)
    assert holder.slot("delay", None).served is served
    assert world.metric("streamlearn_publications_total", model="delay", fate="loaded") == 1


def corrupt(blob: bytes) -> bytes:
    return blob[:-3] + bytes([blob[-3] ^ 1]) + blob[-2:]


@pytest.mark.parametrize(
    "what", ["flipped", "cut", "empty", "foreign key", "other model", "other shard", "other log", "not a model"]
)
def test_a_bad_publication_is_refused_aloud_and_the_last_good_one_stays(
    world: Any, holder: Any, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    world.publish(version=1)
    holder.poll(0.0)
    good = world.blob(version=2)
    bad = {
        "flipped": lambda: corrupt(good),
        "cut": lambda: good[:-10],
        "empty": lambda: b"",
        "foreign key": lambda: world.blob(keys=KeyRing({"k1": b"f" * 32})),
        "other model": lambda: world.blob("ctr"),
        "other shard": lambda: world.blob("delay", 1),
        "other log": lambda: world.blob(log="another"),
        "not a model": lambda: world.blob(content={"weights": 1}),
    }[what]()
    world.memory_store.put_publication("delay", 0, 1, bad)
    holder.poll(0.0)
    slot = holder.slot("delay", None)
    assert slot.served.version == 1
    assert "was refused" in slot.degraded[0]
    assert "the last good one stays" in caplog.text
    holder.poll(0.0)
    assert world.metric("streamlearn_publications_total", model="delay", fate="refused") == 1  # not looked at twice
    world.publish(version=3)
    holder.poll(0.0)
    assert (slot.served.version, slot.degraded) == (3, None)


def test_a_stream_that_was_made_again_is_followed_when_its_model_was_started_over(
    world: Any, holder: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def renewed(stream: str) -> str:
        asked.append(stream)
        return "made again"

    world.publish(version=1)
    holder.poll(0.0)
    monkeypatch.setattr(holder, "_renewed", renewed)
    world.publish(version=2, log="some other log")
    holder.poll(0.0)
    slot = holder.slot("delay", None)
    assert slot.served.version == 1, "neither the old log nor the new one"
    world.publish(version=3, log="made again")
    holder.poll(0.0)
    assert (slot.served.version, slot.refused) == (3, None)
    world.publish(version=4, log="made again")
    holder.poll(0.0)
    assert slot.served.version == 4
    assert asked == ["flights"], "it is asked once for each foreign one, and is known then"
    assert "was made again" in caplog.text
    world.publish(version=5)
    monkeypatch.setattr(holder, "_renewed", lambda stream: "made again")
    holder.poll(0.0)
    assert slot.served.version == 4, "what a learner of the old log still publishes is refused"


def test_a_log_that_cannot_be_asked_afresh_is_asked_again(
    world: Any, holder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(stream: str) -> str:
        raise LogUnavailable("gone")

    monkeypatch.setattr(holder, "_renewed", lost)
    world.publish(log="made again")
    holder.poll(0.0)
    slot = holder.slot("delay", None)
    assert (slot.served, slot.refused) == (None, None)
    monkeypatch.setattr(holder, "_renewed", lambda stream: "made again")
    holder.poll(0.0)
    assert slot.served.version == 1


def test_bytes_that_no_key_signed_are_never_unpickled(world: Any, holder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(data: bytes, tables: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr("streamlearn.learning.pickling.loads_apart", never)
    world.memory_store.put_publication("delay", 0, 1, world.blob(keys=KeyRing({"evil": b"e" * 32})))
    world.memory_store.put_publication("ctr", 0, 1, corrupt(world.blob("ctr")))
    holder.poll(0.0)
    assert holder.slot("delay", None).refused
    assert holder.slots["ctr"][0].refused


def test_a_first_publication_that_is_bad_is_why_the_model_is_not_ready(world: Any, holder: Any) -> None:
    world.publish_all()
    world.memory_store.put_publication("delay", 0, 1, b"rubbish")
    holder.poll(0.0)
    [reason] = holder.ready()
    assert "delay" in reason
    assert "refused" in reason


def test_the_store_is_lost_and_found(world: Any, holder: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world.publish()
    world.report()
    holder.poll(0.0)
    world.store_faults.fail("publication", StoreUnavailable("gone"), times=2)
    holder.poll(0.0)
    world.clock.advance(7)
    holder.poll(0.0)
    slot = holder.slot("delay", None)
    assert slot.served.version == 1
    assert slot.degraded == ["the store has been unreachable for 7 s"]
    assert caplog.text.count("the store cannot be reached") == 1
    holder.poll(0.0)
    assert slot.degraded is None
    assert holder.store_down_since is None
    assert "the store is back after 7.0 s" in caplog.text


def test_a_lost_log_does_not_set_a_publication_aside(world: Any, holder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(stream: str) -> str:
        raise LogUnavailable("gone")

    world.publish()
    monkeypatch.setattr(holder, "_identity", lost)
    holder.poll(0.0)
    assert holder.slot("delay", None).served is None
    monkeypatch.undo()
    holder.poll(0.0)
    assert holder.slot("delay", None).served.version == 1


def test_a_silent_learner_is_said_with_for_how_long(world: Any, holder: Any) -> None:
    world.publish()
    world.report()
    holder.poll(0.0)
    world.clock.advance(15)
    holder.poll(0.0)
    assert holder.slot("delay", None).degraded is None
    world.clock.advance(5)
    holder.poll(0.0)
    assert holder.slot("delay", None).degraded == ["the learner has not reported for 20 s"]
    world.report()
    holder.poll(0.0)
    assert holder.slot("delay", None).degraded is None


def test_a_publication_without_any_status_is_degraded_once_it_is_old(world: Any, holder: Any) -> None:
    world.publish()
    holder.poll(0.0)
    assert holder.slot("delay", None).degraded is None
    world.clock.advance(16)
    holder.poll(0.0)
    assert holder.slot("delay", None).degraded == ["the learner has not reported"]


def test_a_learner_without_the_log_is_said_with_for_how_long(world: Any, holder: Any) -> None:
    world.publish()
    world.report()
    holder.poll(0.0)
    slot = holder.slot("delay", None)
    for lost in (0.0, 2.0, 4.0):
        world.report(log_lost_s=lost)
        holder.poll(0.0)
        assert slot.degraded == [f"the learner has not been able to read the log for {lost:.0f} s"]
        assert world.timer() - slot.served.current_at == lost, "its age grows, though nothing is known to wait"
        world.clock.advance(2)
    holder.poll(0.0)
    assert slot.degraded == ["the learner has not been able to read the log for 6 s"]
    world.report()
    holder.poll(0.0)
    assert (slot.degraded, world.timer() - slot.served.current_at) == (None, 0)


def test_a_held_learner_and_a_confirmed_drift_are_both_said(world: Any, holder: Any) -> None:
    world.publish()
    world.report(held="broken input")
    world.view("model", "delay", {"state": "retraining", "case": "delay-1", "degraded": "drift confirmed"})
    holder.poll(0.0)
    assert holder.slot("delay", None).degraded == ["drift confirmed", "learning is held: broken input"]


@pytest.mark.parametrize(
    ("status", "current"),
    [
        ({"position": 10, "end": 10}, True),  # nothing new
        ({"position": 14, "end": 14, "n": 5}, True),  # it read on, and there was nothing to learn
        ({"position": 14, "end": 14, "n": 6}, False),  # it learned since
        ({"position": 14, "end": 14, "n": 5, "version": 2}, False),  # another champion since
        ({"position": 10, "end": 12}, False),  # it is behind
        ({"position": 10, "end": 10, "log": "another"}, False),
        ({"position": 10, "end": 10, "log_lost_s": 0.0}, False),  # nobody knows what waits
    ],
)
def test_the_age_counts_from_when_the_learner_last_stood_at_what_is_served(
    world: Any, holder: Any, status: dict[str, Any], current: bool
) -> None:
    world.publish(offset=10, n=5)
    holder.poll(0.0)
    made = world.timer()
    world.clock.advance(3)
    world.report(**status)
    holder.poll(0.0)
    assert holder.slot("delay", None).served.current_at == (world.timer() if current else made)


def test_what_was_there_before_it_began_is_as_old_as_the_clock_says(world: Any, holder: Any) -> None:
    world.clock.advance(100)
    world.publish(created=world.clock() - 40)
    world.report(at=world.clock() - 30)
    holder.poll(0.0)
    slot = holder.slot("delay", None)
    assert slot.degraded == ["the learner has not reported for 30 s"]
    assert world.timer() - slot.served.current_at == 30
    world.report(at=world.clock() - 25)  # from a machine whose clock is late: it was put just now
    holder.poll(0.0)
    assert slot.degraded is None
    assert world.timer() == slot.served.current_at


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_clock_that_is_set_anew_makes_nobody_silent_and_hides_nobodys_silence(world: Any, holder: Any, step: float) -> None:
    def alive() -> None:
        world.report()
        world.view("role", "control", {"at": world.clock()})

    slot = holder.slot("delay", None)
    world.publish()
    alive()
    due = holder.poll(0.0)
    world.step(step)
    world.clock.advance(1)
    assert holder.poll(due) > due, "statuses are looked at as often as before"
    assert (slot.degraded, holder.control_silent(world.timer())) == (None, None)
    assert world.timer() - slot.served.current_at == 1
    alive()
    holder.poll(0.0)
    assert (slot.degraded, world.timer() - slot.served.current_at) == (None, 0)
    world.clock.advance(20)
    holder.poll(0.0)
    assert slot.degraded == ["the learner has not reported for 20 s"]
    assert holder.control_silent(world.timer()) == 20
    world.step(-step)
    holder.poll(0.0)
    assert slot.degraded == ["the learner has not reported for 20 s"]
    alive()
    holder.poll(0.0)
    assert (slot.degraded, holder.control_silent(world.timer())) == (None, None)


def test_statuses_and_views_are_looked_at_less_often_than_publications(world: Any, holder: Any) -> None:
    due = holder.poll(0.0)
    assert due == pytest.approx(world.timer() + 0.2)
    world.publish()
    world.report()
    assert holder.poll(due) == due
    slot = holder.slot("delay", None)
    assert slot.served is not None
    assert slot.status is None
    world.clock.advance(0.3)
    holder.poll(due)
    assert slot.status is not None


def test_statuses_of_models_and_shards_that_are_not_configured_and_rubbish_are_let_be(
    world: Any, holder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world.report("gone")
    world.report("delay", 5)
    world.memory_store.put_status("ctr", 0, 1, b"{}")
    world.report("ctr", 1)
    world.view("model", "gone", {"state": "steady"})
    holder.poll(0.0)
    assert "its status cannot be read" in caplog.text
    assert holder.slots["ctr"][1].status is not None
    assert set(holder.control) == {"delay", "ctr"}


def test_a_key_is_needed_only_where_there_are_several_shards(world: Any, holder: Any) -> None:
    assert holder.slot("delay", None) is holder.slot("delay", "any")
    with pytest.raises(ProblemError, match="4 shards"):
        holder.slot("ctr", None)
    with pytest.raises(ProblemError, match="there is no model 'nope'"):
        holder.slot("nope", "a")


def test_the_thread_picks_up_what_is_published_and_outlives_a_fault(
    world: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlearn.serving.holder.MAX_BACKOFF_S", 0.01)
    world.make()
    holder = world.hub.holder
    holder.start()
    try:
        world.store_faults.fail("publication", ValueError("a bug"), times=1)
        world.publish(version=9)
        give_up = time.monotonic() + 10
        while holder.slot("delay", None).served is None:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        assert holder.slot("delay", None).served.version == 9
    finally:
        holder.close()
    assert "polling the store failed" in caplog.text
    assert not holder._thread.is_alive()
    holder.close()


def test_a_store_that_tells_of_a_publication_is_looked_at_before_the_next_poll(world: Any) -> None:
    world.tree["serve"] = {"poll_ms": 60_000}
    world.make()
    holder = world.hub.holder
    holder.start()
    try:
        for version in (4, 5):
            world.publish(version=version)
            give_up = time.monotonic() + 10
            while (served := holder.slot("delay", None).served) is None or served.version != version:
                assert time.monotonic() < give_up
                time.sleep(0.01)
    finally:
        began = time.monotonic()
        holder.close()
    assert time.monotonic() - began < 10
    world.publish(version=6)
    assert holder.slot("delay", None).served.version == 5


def test_a_publication_of_another_build_is_refused_and_says_which(world: Any, holder: Any) -> None:
    world.publish(version=1)
    holder.poll(0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "PYTHON", "3.99")
        newer = world.blob(version=2)
    world.memory_store.put_publication("delay", 0, 1, newer)
    holder.poll(0.0)
    slot = holder.slot("delay", None)
    assert slot.served.version == 1
    assert "from another build: its python is '3.99'" in slot.degraded[0]
    assert "delay" not in holder.missing()


def test_a_model_that_is_behind_with_its_past_says_how_far_it_is(world: Any, holder: Any) -> None:
    past = Backfill(0, 200, 50, rate=1.0)
    world.report(position=50, end=200, backfill=past)
    holder.poll(0.0)
    words = "backfill 25 % (50 of 200 records, about 2 min)"
    assert holder.ready()[0] == f"model 'delay', shard 0: nothing published yet; {words}"
    assert "delay" in holder.missing()
    world.publish(version=1)
    holder.poll(0.0)
    assert holder.slot("delay", None).degraded == [words]
    world.report(position=200, end=200)
    holder.poll(0.0)
    assert holder.slot("delay", None).degraded is None
