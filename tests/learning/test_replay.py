"""A log that holds a whole story, replayed in one process, ends where the live shard ended; cut anywhere, too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_bench import KEYS, Stage, scene

from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import ConfigError, LogUnavailable, StoreUnavailable
from streamlearn.events import Kind
from streamlearn.learning import checkpoint
from streamlearn.learning.replay import advance, limits_of, replay
from streamlearn.log import Record
from streamlearn.records import Command
from streamlearn.store.links import Kept


def story() -> Stage:
    """Two concepts: an alarm, its window, a confirmed case, a retrain, a trial, a promotion, a recovery, a rollback."""
    drift = {"window": 60, "gap": 10, "min_reference": 60, "max_reference": 1000}
    stage = Stage(
        "binary", "naive_bayes", label_wait_s=40, drift=drift, trial={"min_block": 10}, dedupe_ids=100, max_pending=30
    )
    ids = iter(range(10**6))

    def events(count: int, flipped: bool) -> None:
        for _ in range(count):
            n = next(ids)
            up = (n * 7919) % 100 < 50
            stage.clock.advance(1)
            stage.event(f"e{n}", n, x={"a": 1.0 if up else -1.0, "b": (n * 31) % 17})
            if n >= 5 and n % 11:
                stage.y(f"e{n - 5}", ((n - 5) * 7919 % 100 < 50) != flipped, n)
            if n % 50 == 0:
                stage.put(b"junk")

    events(500, False)
    events(260, True)
    change = next(signal for signal in told(stage) if signal.kind == "alarm").data["change_offset"]
    stage.command("reset", confirmed=True)
    trained = stage.fit(2, start=change)
    events(20, True)
    stage.command("try", version=2, trained_to={"0": trained})
    events(150, True)
    stage.command("promote", version=2)
    stage.command("promote", version=2, seq=stage.seq)
    events(120, True)
    stage.command("rollback")
    stage.command("hold", reason="asked")
    events(20, True)
    stage.command("resume")
    events(30, True)
    return stage


def told(stage: Stage) -> list[Any]:
    stage.signals.clear()
    stage.learn()
    return list(stage.signals)


@pytest.fixture(scope="module")
def whole() -> Stage:
    return story()


def test_the_story_is_all_there(whole: Stage) -> None:
    kinds = [signal.kind for signal in told(whole)]
    first = [kind for n, kind in enumerate(kinds) if kind not in kinds[:n]]
    assert first == ["alarm", "batch", "window", "applied", "rehearsal", "block", "held"]
    assert "refused" not in kinds
    tags = [signal.data["tag"] for signal in whole.signals if signal.kind == "window"]
    assert tags[:2] == ["fresh", "recovery"]
    assert [signal.seq for signal in whole.signals] == list(range(len(kinds)))
    blocks = [signal.data for signal in whole.signals if signal.kind == "block"]
    first_trial = [block for block in blocks if block["trial"] == blocks[0]["trial"]]
    assert sum(b["champion"] - b["challenger"] for b in first_trial) > 30  # the retrained one is plainly better


def test_a_replay_ends_in_the_live_learners_state(whole: Stage) -> None:
    live = whole.learn(batch=7)
    assert checkpoint.digest(whole.replay()) == checkpoint.digest(live)
    assert (live.version, live.parked_version, live.held) == (1, 2, None)
    assert len(live.held_ranges) == 1


def test_a_replay_can_end_anywhere(whole: Stage) -> None:
    for until in (0, 1, 333, whole.end):
        assert whole.replay(until).position == until


class Holes:
    """A log of which some offsets are a broker's own marks, which no reader is given."""

    def __init__(self, log: Any, marks: set[int]) -> None:
        self._log, self._marks = log, marks

    def read(self, stream: str, partition: int, offset: int, limit: int) -> list[Record]:
        records = self._log.read(stream, partition, offset, 10**6)
        return [record for record in records if stream != "s" or record.offset not in self._marks][:limit]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def test_where_offsets_have_holes_nothing_is_read_too_far_and_nothing_waited_for() -> None:
    """Neither by a replay nor by the version that is brought up to its command: as many records reach beyond it."""
    stage = story()
    commands = [record.offset for record in stage.log.read("s", 0, 0, 10**6) if record.kind == Kind.COMMAND]
    trial = commands[1]
    marks = {offset for offset in range(stage.end) if offset % 9 == 4 and offset not in commands} | {trial - 1, trial - 2}
    stage.log = Holes(stage.log, marks)  # type: ignore[assignment]
    everything = stage.log.read("s", 0, 0, 10**6)
    for until in (trial - 1, trial, trial + 1, trial + 40, stage.end):
        live, below = stage.new(), [record for record in everything if record.offset < until]
        advance(live, below, stage.settings, stage.log, KEYS, stage.resolve)
        assert live.position <= until
        assert checkpoint.digest(stage.replay(until)) == checkpoint.digest(live)
    assert stage.learn().parked_version == 2, "the trial took place"


def test_a_cut_anywhere_also_in_the_middle_of_the_trial_changes_nothing(whole: Stage) -> None:
    words = [(signal.seq, signal) for signal in told(whole)]
    want = checkpoint.digest(whole.replay())
    commands = [record.offset for record in whole.log.read("s", 0, 0, 10**6) if record.kind == Kind.COMMAND]
    near = [offset + more for offset in commands for more in (0, 1, 40)]

    @settings(max_examples=12, database=None, derandomize=True)
    @given(st.one_of(st.sampled_from(near), st.integers(0, whole.end)))
    def cut(at: int) -> None:
        whole.signals.clear()
        first = whole.learn(until=min(at, whole.end))
        whole.learn(whole.again(first), batch=13)
        assert [(signal.seq, signal) for signal in whole.signals] == words
        assert checkpoint.digest(whole.learn(whole.again(first))) == want

    cut()


@pytest.mark.parametrize("error", [LogUnavailable("down"), StoreUnavailable("down")])
def test_while_a_version_cannot_be_fetched_the_command_waits_to_be_met_again(error: Exception) -> None:
    stage = Stage()
    stage.xy("a")
    stage.fit(2)
    at = stage.command("try", version=2, trained_to={"0": 1})
    stage.xy("b")
    learner, resolve = stage.new(), stage.resolve

    def down(command: Command, shard: int) -> Kept:
        raise error

    for _ in range(2):
        records = stage.log.read("s", 0, learner.position, 10)
        with pytest.raises(type(error)):
            advance(learner, records, stage.settings, stage.log, KEYS, down)
        assert learner.position == at
        assert learner.n == 1
    stage.resolve = resolve  # type: ignore[method-assign]
    stage.learn(learner)
    assert learner.shadow_version == 2
    assert checkpoint.digest(learner) == checkpoint.digest(stage.replay())


@pytest.mark.parametrize("error", [RuntimeError("odd"), KeyError("spec"), MemoryError()])
def test_whatever_else_the_resolver_raises_refuses_the_command(error: Exception) -> None:
    stage = Stage()
    stage.command("try", version=2)

    def broken(command: Command, shard: int) -> Kept:
        raise error

    stage.resolve = broken  # type: ignore[method-assign]
    stage.learn()
    assert stage.signals[-1].data["reason"] == "unknown_version"


def test_a_version_that_runs_out_of_memory_on_its_way_to_the_command_is_refused_and_ends_no_learner() -> None:
    stage = Stage()
    stage.xy("a")
    stage.fit(2)
    stage.xy("b", huge=True)
    stage.command("try", version=2, trained_to={"0": 1})
    stage.xy("c")
    learner = stage.learn()
    refused = [signal.data for signal in stage.signals if signal.kind == "refused"]
    assert [data["reason"] for data in refused] == ["unknown_version"]
    assert "ran out of memory at 2" in refused[0]["detail"]
    assert (learner.n, learner.shadow_version, learner.position) == (3, None, 4)


def test_a_repeated_try_fetches_nothing() -> None:
    stage = Stage()
    stage.xy("a")
    stage.command("try", version=2, trained_to={"0": stage.fit(2)})
    stage.command("try", version=2, seq=stage.seq, trained_to={"0": 1})
    stage.command("try", model="another", version=2)
    asked: list[int] = []
    resolve = stage.resolve

    def counting(command: Command, shard: int) -> Kept:
        asked.append(command.seq)
        return resolve(command, shard)

    stage.resolve = counting  # type: ignore[method-assign]
    stage.learn()
    assert asked == [101]


def test_a_model_that_is_not_there_is_named() -> None:
    stage = Stage()
    with pytest.raises(ConfigError, match=r"models\.other"):
        replay(stage.settings, "other", 0, stage.log, KEYS, DriftWatch, stage.resolve, 0)


def test_a_replay_of_a_trimmed_log_begins_at_the_first_retained_record() -> None:
    stage = Stage()
    for n in range(10):
        stage.xy(f"e{n}")
    stage.log.trim("s", 0, 4)
    assert stage.replay().n == 6


def test_the_limits_of_the_configuration_are_those_of_an_event() -> None:
    stage = Stage()
    limits = limits_of(stage.settings)
    given = stage.settings.limits
    assert limits._asdict() == {name: getattr(given, name) for name in limits._fields}


def test_a_scene_of_everything_replays() -> None:
    stage = Stage("multiclass", "softmax", label_wait_s=30)
    scene(stage, 120, "str")
    assert checkpoint.digest(stage.replay()) == checkpoint.digest(stage.learn(batch=3))
