"""Old versions' bytes go, once nothing and nobody needs them; what is known of them stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.control.dropping import needed, surplus
from streamlearn.control.state import Case, Order, State
from streamlearn.errors import StoreUnavailable
from streamlearn.events import Kind, Position
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Decision, Request, audit_id
from streamlearn.store import Retention
from streamlearn.store.codec import encode
from streamlearn.testing import Abort

from .conftest import KEYS, checkpoint

A_WHILE = 61.0  # seconds after which control looks again
RETRAIN = {"attempts": 3, "backoff_s": 5.0, "max_gap_records": 2000}
VERSIONS = st.integers(1, 12)


@st.composite
def states(draw: st.DrawFn) -> State:
    """A state with versions fitted, and some of them in use in every way that there is."""
    maybe = st.none() | VERSIONS
    state = State("m", None, partitions=2, registered=True, version=draw(VERSIONS), previous=draw(maybe), shadow=draw(maybe))
    state.fitted = {version: {0: 7, 1: 8} for version in draw(st.sets(VERSIONS))}
    state.untried = draw(st.sets(VERSIONS, max_size=2))
    for seq, version in enumerate(draw(st.lists(VERSIONS, max_size=3))):
        answers = dict.fromkeys(draw(st.sets(st.integers(0, 1))), "")
        state.orders[seq] = Order(seq, {"verb": "try", "version": version}, (0, 1), answers)
    state.orders[9] = Order(9, {"verb": "detach"}, (0, 1))
    for offset, version in enumerate(draw(st.lists(maybe, max_size=2))):
        state.asked[offset] = Request(f"r{offset}", "m", "promote", "ann", 0.0, version=version)
    if draw(st.booleans()):
        case = state.case = Case("m-1", "restore", 0.0, version=draw(maybe), base=draw(st.just(0) | VERSIONS))
        kind = draw(st.sampled_from(("version", "checkpoint")))
        case.bases = {0: {"kind": kind, "id": draw(VERSIONS), "position": 3}}
    return state


@given(state=states(), keep=st.integers(1, 12))
def test_only_old_versions_that_nothing_needs_are_surplus(state: State, keep: int) -> None:
    gone = surplus(state, keep)
    left = state.fitted.keys() - set(gone)
    newest = set(sorted(state.fitted)[-keep:])
    assert gone == sorted(set(gone))
    assert newest <= left
    in_use = {state.version, state.previous, state.shadow} | state.untried
    in_use |= {order.arguments.get("version") for order in state.orders.values() if len(order.answers) < 2}
    in_use |= {request.version for request in state.asked.values()}
    if state.case is not None:
        in_use |= {state.case.version, state.case.base}
        in_use |= {base["id"] for base in state.case.bases.values() if base["kind"] == "version"}
    assert left == newest | (state.fitted.keys() & in_use), "and nothing else is left"
    assert needed(state) == {version for version in in_use if version}


def kept(stage: Any) -> list[int]:
    return sorted({version for model, version, _ in stage.store.versions() if model == "m"})


def settled(stage: Any) -> None:
    """A checkpoint of each shard at where it is, the only one; then control looks."""
    for learner in stage.learners:
        for info in stage.store.checkpoints("m", learner.shard):
            stage.store.set_aside(info.id, "old")
        checkpoint(stage, learner.position, learner.shard)
        stage.status(learner)
    stage.turn(A_WHILE)
    stage.turn()


def promoted(stage: Any, times: int = 1) -> None:
    for _ in range(times):
        stage.learner.drift()
        stage.until("recovered")
        stage.settle()


def imported(stage: Any) -> int:
    """A version comes from a file, as `carry` brings it."""
    shards = {str(shard): {"learned": 9} for shard in stage.state().shards}
    settings = stage.settings.models["m"].model_dump(mode="json")
    data = {"settings": settings, "made_with": {}, "shards": shards, "trained_to": {}, "origin": {"model": "m", "version": 1}}
    decision = stage.ask("import", data=data)
    assert decision.kind == "imported", decision.why
    for shard in stage.state().shards:
        at = Position(stage.log.identity("clicks"), "clicks", shard, decision.numbers["trained_to"][str(shard)])
        blob = encode(
            kind="version", model="m", version=decision.version, shard=shard, generation=0, positions=[at], created=0.0,
            parts={"model": b"m", "join": b"j"}, keys=KEYS,
        )  # fmt: skip
        stage.store.put_version("m", decision.version, shard, blob)
    return int(decision.version or 0)


@pytest.fixture
def stage(make_stage: Callable[..., Any]) -> Any:
    return make_stage(retrain={**RETRAIN, "keep_versions": 2})


def test_beyond_the_newest_the_bytes_go_and_what_is_known_stays(stage: Any) -> None:
    promoted(stage, 4)
    assert kept(stage) == [2, 3, 4, 5]
    settled(stage)
    assert kept(stage) == [4, 5]
    gone = [decision for decision in stage.decisions() if decision.kind == "version_dropped"]
    assert [(one.version, one.case, one.by) for one in gone] == [(2, "", "control"), (3, "", "control")]
    assert "not among the 2 newest versions" in gone[0].why
    before = stage.view("version", "m@2")
    assert (before["fate"], before["dropped"]) == ("previous", gone[0].at)
    told = before["decisions"][-1]
    assert (told["kind"], told["at"], told["why"]) == ("version_dropped", gone[0].at, gone[0].why)
    assert stage.view("audit", audit_id(told["control"]))["version"] == 2
    assert stage.view("version", "m@4")["dropped"] is None
    assert stage.view("model")["fitted"] == [4, 5]
    assert stage.view("model")["decisions"]["version_dropped"] == 2
    settled(stage)
    assert stage.kinds().count("version_dropped") == 2, "each once"


def test_the_champion_and_the_one_before_it_stay_however_old(stage: Any) -> None:
    promoted(stage, 2)
    stage.learner.gain = -0.3
    for number in range(3):
        stage.ask("retrain")
        lost = stage.until("trial_lost")
        assert lost.version == 4 + number
        stage.settle()
    settled(stage)
    assert (stage.state().version, stage.state().previous) == (3, 2)
    assert kept(stage) == [2, 3, 5, 6], "version 4 lost its trial and is not among the newest two"
    stage.ask("rollback")
    stage.until("rolled_back")
    stage.settle()
    settled(stage)
    assert stage.learner.version == 2
    assert kept(stage) == [2, 5, 6], "nobody can go back to version 3 any more"


@pytest.mark.parametrize("what", ["no checkpoint", "no status", "foreign status", "damaged"])
def test_while_it_is_not_known_where_a_shard_would_restart_all_stay(stage: Any, what: str) -> None:
    promoted(stage, 4)
    if what in ("no status", "foreign status"):
        checkpoint(stage, stage.learner.position)
        stage.store.put_status("m", 0, 0, b"{}")
        if what == "foreign status":
            stage.status(stage.learner, log="another")
        status, stage.status = stage.status, lambda learner: None
        stage.turn(A_WHILE)
        stage.status = status
    elif what == "damaged":
        stage.store.put_checkpoint("m", 0, 0, b"garbage", Retention())
        stage.turn(A_WHILE)
    else:
        stage.turn(A_WHILE)
    assert kept(stage) == [2, 3, 4, 5]
    settled(stage)
    assert kept(stage) == [4, 5]


def test_what_was_tried_since_the_oldest_checkpoint_stays(stage: Any) -> None:
    """Whoever restarts there meets the command, and needs the version."""
    promoted(stage)
    early = checkpoint(stage, stage.learner.position)
    promoted(stage, 3)
    checkpoint(stage, stage.learner.position)
    stage.turn(A_WHILE)
    assert kept(stage) == [3, 4, 5], "version 2 had been tried before"
    stage.store.set_aside(early, "corrupt")
    stage.turn(A_WHILE)
    assert kept(stage) == [4, 5]


def test_a_checkpoint_right_before_the_try_needs_the_version(stage: Any) -> None:
    promoted(stage, 4)
    tried = stage.state().tried[2][0]
    record = stage.log.read("clicks", 0, tried - 1, 1)[0]
    assert record.kind == Kind.COMMAND, "the position after the command"
    at = checkpoint(stage, tried - 1)
    stage.turn(A_WHILE)
    assert kept(stage) == [2, 3, 4, 5]
    stage.store.set_aside(at, "corrupt")
    checkpoint(stage, tried)
    stage.turn(A_WHILE)
    assert kept(stage) == [3, 4, 5]


def test_a_learner_that_lags_behind_the_newest_checkpoint_keeps_what_it_will_meet(stage: Any) -> None:
    promoted(stage, 4)
    checkpoint(stage, stage.learner.position)
    stage.status(stage.learner, position=stage.state().tried[3][0] - 1)
    stage.control._statuses._read_at = None
    stage.timer.advance(A_WHILE)
    stage.control.tick()
    assert kept(stage) == [3, 4, 5]


def test_a_shard_that_lags_does_not_lose_the_version_it_is_to_try(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2, retrain={**RETRAIN, "keep_versions": 1})
    slow = stage.learners[1]
    slow.stop_before = "try"
    stage.ask("retrain")
    stage.until("trial_started")
    for _ in range(3):
        stage.turn()
    stage.ask("cancel")
    first, second = imported(stage), imported(stage)
    settled(stage)
    assert [learner.answered for learner in stage.learners] == [[("try", "applied"), ("detach", "applied")], []]
    assert kept(stage) == [2, first, second]
    slow.stop_before = ""
    stage.settle()
    assert slow.answered[:2] == [("try", "applied"), ("detach", "applied")]
    settled(stage)
    assert kept(stage) == [first, second]


def test_what_was_imported_stays_until_something_came_of_it(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(retrain={**RETRAIN, "keep_versions": 1})
    stage.settle()
    version = imported(stage)
    promoted(stage, 3)
    settled(stage)
    assert (version, kept(stage)) == (2, [2, 4, 5])
    stage.jobs.polls = 100
    stage.ask("promote", version=2)
    stage.until("retrain_started")
    settled(stage)
    assert 2 in kept(stage), "it is the base of the open case"
    stage.jobs.all[-1].polls = 0
    stage.until("promoted")
    settled(stage)
    assert 2 in kept(stage), "the case is still open"
    stage.until("recovered")
    stage.settle()
    settled(stage)
    assert kept(stage) == [5, 6]


def test_the_base_of_a_case_stays_until_it_is_over(stage: Any) -> None:
    promoted(stage, 4)
    stage.jobs.polls = 100
    stage.ask("promote", version=2)
    started = stage.until("retrain_started")
    assert started.numbers["bases"]["0"]["id"] == 2
    settled(stage)
    assert kept(stage) == [2, 4, 5], "version 3 went, though it is newer"
    stage.kill()
    settled(stage)
    assert kept(stage) == [2, 4, 5]
    stage.ask("cancel")
    stage.settle()
    settled(stage)
    assert kept(stage) == [4, 5]


def test_what_is_asked_for_when_it_is_gone_is_refused_with_what_to_do(stage: Any) -> None:
    promoted(stage, 4)
    settled(stage)
    why = stage.ask("promote", version=2).why
    assert "version 2 cannot be promoted: its bytes were dropped at 2" in why
    assert "models.m.retrain.keep_versions = 2; a higher number keeps more" in why
    assert "Import it from a file that it was exported to, rewind, or retrain; those kept are 4" in why
    why = stage.ask("rollback", version=3).why
    assert "only the champion before the last promotion can be brought back, version 4; of version 3, its bytes were" in why
    assert stage.ask("rollback", version=4).kind == "rollback_started"
    stage.until("rolled_back")
    assert stage.learner.version == 4


def test_a_decision_that_had_not_seen_what_came_before_it_changes_nothing(stage: Any) -> None:
    """Two control processes may lead for a moment."""
    promoted(stage, 2)
    opened = stage.ask("promote", version=2)
    assert opened.kind == "case_opened"
    late = Decision("m", "version_dropped", stage.clock(), version=2, signal=-1, why="it had read less")
    [(_, offset)] = stage.log.append(CONTROL, [Entry(b"m", msgspec.json.encode(late), partition=0)]).result()
    stage.turn()
    assert not stage.view("audit", audit_id(offset))["took_effect"]
    assert 2 in stage.state().fitted
    stage.until("promoted")
    assert kept(stage) == [2, 3, 4]


@pytest.mark.parametrize("method", ["append", "drop_version", "versions"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("deadly", [True, False])
def test_a_death_between_the_decision_and_the_bytes(stage: Any, method: str, when: Any, deadly: bool) -> None:
    promoted(stage, 4)
    checkpoint(stage, stage.learner.position)
    stage.settle()
    stage.timer.advance(A_WHILE)
    stage.faults.fail(method, Abort() if deadly else StoreUnavailable("down"), when=when)
    with pytest.raises(Abort if deadly else StoreUnavailable):
        stage.control.tick()
    stage.faults.heal()
    if deadly:
        stage.kill()
    stage.turn(A_WHILE)
    stage.turn(A_WHILE)
    assert kept(stage) == [4, 5]
    assert stage.kinds().count("version_dropped") == 2
    audit = [doc for (kind, _), doc in stage.views().items() if kind == "audit" and doc["type"] == "decision"]
    assert all(doc["took_effect"] for doc in audit)


def test_the_state_after_a_restart_and_the_views_of_an_emptied_store_are_the_same(stage: Any) -> None:
    promoted(stage, 4)
    settled(stage)
    before, documents = stage.state(), {key: doc for key, doc in stage.views().items() if key[0] in ("version", "history")}
    stage.kill()
    stage.turn()
    after = stage.state()
    for name in ("fitted", "tried", "dropped", "untried"):
        assert getattr(after, name) == getattr(before, name)
    assert sorted(after.dropped) == [2, 3]
    assert sorted(after.tried) == [4, 5]
    stage.store.clear_views()
    stage.turn()
    stage.kill()
    stage.turn()
    assert {key: stage.views()[key] for key in documents} == documents


def test_what_a_restored_backup_brings_back_goes_again(stage: Any) -> None:
    promoted(stage, 4)
    blob = stage.store.version("m", 2, 0)
    settled(stage)
    stage.store.put_version("m", 2, 0, blob)
    assert 2 in kept(stage)
    assert "its bytes were dropped" in stage.ask("promote", version=2).why
    stage.turn(A_WHILE)
    assert kept(stage) == [4, 5]
    assert stage.kinds().count("version_dropped") == 2


def test_a_higher_setting_keeps_more_from_then_on(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(retrain={**RETRAIN, "keep_versions": 10})
    promoted(stage, 4)
    settled(stage)
    assert kept(stage) == [2, 3, 4, 5]
    assert "version_dropped" not in stage.kinds()


def test_each_model_keeps_its_own(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(models=("m", "other"), retrain={**RETRAIN, "keep_versions": 1})
    stage.store.put_version("other", 2, 0, b"not of this model")
    promoted(stage, 3)
    settled(stage)
    assert kept(stage) == [3, 4]
    assert ("other", 2, 0) in stage.store.versions()
