"""Another pipeline in the file, and a learner of another build: both are noticed, shown, and dealt with once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from streamlearn.lineage import Backfill
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Claim

LOGISTIC = {"pipeline": "logistic", "params": {}, "seed": 42}


def claim(stage: Any, recipe: dict[str, Any] | None = LOGISTIC, shard: int = 0) -> None:
    entry = Entry(b"m", msgspec.json.encode(Claim("m", shard, "here", stage.clock(), recipe or {})), partition=0)
    stage.log.append(CONTROL, [entry]).result()


def configure(stage: Any, **model: Any) -> None:
    """Other settings, and a control that was started with them."""
    changed = stage.settings.models["m"].model_copy(update=model)
    stage.settings = stage.settings.model_copy(update={"models": {"m": changed}})
    stage.start()


def test_a_changed_pipeline_becomes_a_challenger_and_then_the_champion(stage: Any) -> None:
    claim(stage)
    stage.turn()
    assert stage.view("model")["differs"] is None
    configure(stage, pipeline="naive_bayes", params={"clip": 4})
    opened = stage.until("case_opened")
    assert opened.numbers["kind"] == "changed"
    assert opened.numbers["changed"] == ["pipeline", "params"]
    assert "another pipeline, params than version 1" in opened.why
    fit = stage.until("retrain_started").numbers["fit"]
    assert fit["settings"]["pipeline"] == "naive_bayes"
    shown = stage.view("model")["differs"]
    assert "pipeline is 'naive_bayes' in the file and 'logistic' in version 1" in shown
    assert "case m-1 brings it in as version 2" in shown
    assert stage.until("trial_started").numbers["tolerance"] == 0.01
    stage.until("promoted")
    stage.settle()
    assert stage.state().version == 2
    assert stage.view("model")["differs"] is None
    assert stage.kinds().count("case_opened") == 1
    configure(stage, pipeline="logistic", params={})
    assert stage.until("case_opened").numbers["was"]["pipeline"] == "naive_bayes", "and back again, as another change"


def test_a_change_that_lost_its_trial_is_not_tried_again_by_itself_and_stays_visible(stage: Any) -> None:
    claim(stage)
    stage.turn()
    stage.learner.gain = -0.3
    configure(stage, pipeline="naive_bayes")
    stage.until("trial_lost", 400)
    stage.settle()
    configure(stage, pipeline="naive_bayes")
    stage.settle()
    assert stage.kinds().count("case_opened") == 1
    shown = stage.view("model")["differs"]
    assert "version 2 was made with it and does not serve: `streamlearn retrain m` tries again" in shown
    configure(stage, pipeline="logistic")
    stage.settle()
    assert stage.view("model")["differs"] is None
    assert stage.kinds().count("case_opened") == 1


def test_a_rollback_from_a_changed_version_is_not_undone(stage: Any) -> None:
    claim(stage)
    stage.turn()
    configure(stage, pipeline="naive_bayes")
    stage.until("recovered")
    assert stage.ask("rollback").kind == "rollback_started"
    stage.until("rolled_back")
    stage.settle()
    assert stage.state().version == 1
    assert stage.kinds().count("case_opened") == 1
    assert "does not serve" in stage.view("model")["differs"]


def test_it_waits_for_enough_labelled_events_and_says_so(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(retrain={"min_events": 1500})
    claim(stage)
    stage.turn()
    configure(stage, seed=7)
    stage.settle()
    assert "seed is 7 in the file and 42 in version 1, which serves; a version with it is made once 1500" in (
        stage.view("model")["differs"]
    )
    assert stage.kinds() == ["registered"]
    stage.learner.post(600)
    stage.until("case_opened")


@pytest.mark.parametrize("recipe", [None, {"pipeline": "logistic"}])
def test_what_nobody_can_tell_counts_as_the_same(stage: Any, recipe: dict[str, Any] | None) -> None:
    claim(stage, recipe)  # by a learner that did not say, or not everything
    configure(stage, params={"clip": 4})
    stage.settle()
    assert stage.kinds() == ["registered"]
    assert stage.view("model")["differs"] is None


def test_the_first_claim_says_what_version_1_is(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    claim(stage)
    claim(stage, {**LOGISTIC, "pipeline": "naive_bayes"}, 1)
    configure(stage, pipeline="naive_bayes")
    assert stage.until("case_opened").numbers["was"] == LOGISTIC


def test_a_retrain_that_knows_no_change_begins_where_the_model_does(stage: Any) -> None:
    stage.turn()
    stage.advance(100)
    start = datetime.fromtimestamp(stage.clock(), UTC).isoformat()
    stage.advance(1)
    begin = stage.log.bounds("clicks", 0)[1]
    stage.learner.post(10)
    configure(stage, start=start)
    stage.request("retrain")
    assert stage.until("retrain_started").numbers["starts"] == {"0": begin}


def test_the_latest_is_when_the_model_was_first_claimed(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(start="latest")
    stage.advance(10)
    claim(stage)
    stage.advance(10)
    claim(stage)
    stage.learner.post(10)
    stage.request("retrain")
    assert stage.until("retrain_started").numbers["starts"] == {"0": 1000}


def test_a_learner_that_was_rebuilt_is_answered_once(stage: Any) -> None:
    stage.settle()
    past = Backfill(0, 500, 400, "rebuild")
    stage.advance(1)
    stage.status(stage.learner, generation=0, backfill=past)
    stage.advance(1)
    stage.control.tick()
    assert stage.kinds() == ["registered"], "it still reads"
    through = msgspec.structs.replace(past, position=500)
    for _ in range(3):
        stage.status(stage.learner, generation=0, backfill=through)
        stage.advance(1)
        stage.control.tick()
    [told] = [decision for decision in stage.decisions() if decision.kind == "rebuilt"]
    assert told.numbers["command"] == {"verb": "reset", "confirmed": False, "reason": "rebuilt", "shards": [0]}
    stage.kill()
    stage.status(stage.learner, generation=0, backfill=through)
    stage.advance(1)
    stage.control.tick()
    assert stage.kinds().count("rebuilt") == 1, "a restart knows it from the log"
    stage.settle()
    assert stage.learner.answered.count(("reset", "applied")) == 1


def test_a_rebuild_in_the_midst_of_a_trial_does_not_disturb_what_it_waits_for(stage: Any) -> None:
    stage.learner.drift()
    stage.until("trial_started")
    for _ in range(3):
        stage.turn()
    order = stage.state().order
    stage.status(stage.learner, generation=0, backfill=Backfill(0, 500, 500, "rebuild"))
    stage.until("rebuilt")
    assert stage.state().order == order
    stage.until("promoted")
