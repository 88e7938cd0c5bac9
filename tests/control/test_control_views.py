"""What people see: documents that follow the control log, and are made again when the store has lost them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamlearn.apikeys import make
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Claim, KeyRevoked, Refused, audit_id


def test_the_case_tells_its_story_in_order(stage: Any) -> None:
    stage.learner.drift()
    stage.until("recovered")
    stage.turn()
    case = stage.view("case", "m-1")
    kinds = [step["kind"] for step in case["steps"]]
    assert kinds == stage.kinds()[1:]
    assert [step["control"] for step in case["steps"]] == sorted(step["control"] for step in case["steps"])
    assert all(step["why"] for step in case["steps"])
    confirmed = case["steps"][1]
    assert confirmed["numbers"]["p"] <= confirmed["numbers"]["level"]
    assert (case["outcome"], case["open"], case["version"]) == ("recovered", False, 2)
    assert case["opened_at"] < case["closed_at"]


def test_the_progress_of_a_fit_is_shown_and_not_logged(stage: Any) -> None:
    stage.jobs.polls = 9
    stage.learner.drift()
    stage.until("retrain_started")
    seen = []
    while stage.kinds()[-1] == "retrain_started":
        stage.turn()
        seen.append(stage.view("case", "m-1")["progress"])
    shown = [progress["done"] for progress in seen if progress]
    assert shown == sorted(shown)
    assert len(set(shown)) > 3
    assert all(progress["total"] == 10 for progress in seen if progress)
    stage.until("recovered")
    stage.turn()
    assert stage.view("case", "m-1")["progress"] is None


def test_the_trial_is_shown_while_it_goes_on_and_kept_at_its_end(stage: Any) -> None:
    stage.learner.drift()
    stage.until("trial_started")
    seen = []
    while "trial_won" not in stage.kinds():
        stage.turn()
        seen.append(stage.view("case", "m-1")["trial"]["events"])
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
    won = stage.until("trial_won")
    stage.until("recovered")
    stage.turn()
    assert stage.view("case", "m-1")["trial"]["events"] == won.numbers["events"]


def test_the_model_says_where_it_stands(stage: Any) -> None:
    stage.jobs.polls = 4
    stage.learner.drift()
    seen = []
    for _ in range(70):
        stage.turn()
        seen.append(stage.view("model")["state"])
    order = list(dict.fromkeys(seen))
    assert order == ["retraining", "trial", "watch"]
    assert stage.view("model")["shadow"] == 1
    stage.learner.post(500)
    stage.settle()
    model = stage.view("model")
    assert (model["state"], model["version"], model["previous"], model["shadow"]) == ("steady", 2, 1, None)
    assert (model["stream"], model["task"], model["case"]) == ("clicks", "binary", "")


def test_the_losses_that_were_compared_are_told_in_bars(stage: Any) -> None:
    stage.learner.drift()
    numbers = stage.until("confirmed").numbers
    assert numbers["losses"] == {"loss": "binary", "before": [900, 100], "after": [50, 50]}
    assert (numbers["alpha"], numbers["harm"], numbers["to_n"] - numbers["from_n"]) == (0.05, 0.0, 100)


@pytest.mark.parametrize("bins", [{"ref": [200, 0], "fresh": [100, 100]}, {}])  # a learner of an older build tells none
def test_losses_of_numbers_are_told_as_the_learner_counted_them(stage: Any, bins: dict[str, list[int]]) -> None:
    means = {"ref": 0.2, "fresh": 0.5}
    sides: dict[str, Any] = {side: {"n": 200, "sum": 200 * mean, "blocks": [mean] * 20} for side, mean in means.items()}
    for side, counts in bins.items():
        sides[side]["bins"] = counts
    stage.learner.alarm()
    stage.learner.tell("window", tag="fresh", loss="bounded", look=[0, 200, 200], from_n=1, to_n=200, **sides)
    confirmed = stage.until("confirmed")
    told = {"loss": "bounded", "before": [200, 0], "after": [100, 100]}
    assert confirmed.numbers["losses"] == (told if bins else None)
    assert set(confirmed.numbers["reference"]) == {"loss", "n", "sum", "blocks"}


def test_alarms_that_come_while_a_case_is_open_are_told_with_it(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(shards=2)
    stage.learner.drift()
    stage.until("retrain_started")
    for _ in range(30):
        stage.learners[1].alarm(change_offset=7)
    stage.turn()
    alarms = stage.view("case", "m-1")["alarms"]
    assert alarms["in_all"] == 30
    assert len(alarms["items"]) == 20
    assert alarms["items"][0] == {"detector": "adwin", "shard": 1, "at": 0.0, "n": 1000, "change_offset": 7}
    before = stage.view("case", "m-1")["alarms"]
    stage.kill()
    stage.turn()
    assert stage.view("case", "m-1")["alarms"] == before


def test_versions_have_parents_and_fates(stage: Any) -> None:
    stage.learner.alarm(change_offset=800)
    stage.learner.window()
    stage.until("recovered")
    stage.turn()
    second = stage.view("version", "m@2")
    assert (second["parent"], second["reason"], second["fate"]) == (1, "m-1", "champion")
    assert second["window"]["starts"] == {"0": 800}
    assert second["trained_to"]["0"] >= 1000
    assert second["created"] <= second["fitted_at"]
    assert stage.view("version", "m@1")["fate"] == "previous"


def test_every_control_record_is_in_the_audit_trail(stage: Any) -> None:
    claim = Claim("m", 0, "host-1", 5.0)
    stage.log.append(CONTROL, [Entry(b"", msgspec.json.encode(claim), partition=0)]).result()
    request = stage.request("promote")
    stage.settle()
    audit = {id: doc for (kind, id), doc in stage.views().items() if kind == "audit"}
    assert list(audit) == [audit_id(offset) for offset in range(stage.log.bounds(CONTROL, 0)[1])]
    assert [doc["type"] for doc in audit.values()] == ["claim", "request", "decision", "decision"]
    assert all(doc["id"] == id for id, doc in audit.items())
    assert audit[audit_id(0)]["holder"] == "host-1"
    assert (audit[audit_id(1)]["request"], audit[audit_id(1)]["by"]) == (request.id, "ann")


def test_keys_and_refusals_are_in_the_audit_trail_without_a_digest_and_are_made_again(stage: Any) -> None:
    _, made = make("shop", ["read"], "ada", 5.0, expires=9.0)
    both = Refused("unknown", "hold", "unauthorized", 7.0, 6.0, 3, ["m", "other"], ["10.0.0.1"])
    one = Refused("key shop", "hold", "scope", 8.0, 8.0, 1, ["m"])
    for record in (made, both, one, KeyRevoked(made.key, "shop", "ada", 9.0, "leaked")):
        stage.log.append(CONTROL, [Entry(b"", msgspec.json.encode(record), partition=0)]).result()
    stage.settle()
    audit = [doc for (kind, _), doc in stage.views().items() if kind == "audit"]
    assert [(doc["type"], doc["model"]) for doc in audit[:4]] == [
        ("key_made", ""), ("refused", ""), ("refused", "m"), ("key_revoked", ""),
    ]  # fmt: skip
    assert (audit[0]["name"], audit[0]["scopes"], audit[0]["by"], audit[0]["expires"]) == ("shop", ["read"], "ada", 9.0)
    assert (audit[1]["count"], audit[1]["models"], audit[1]["origins"]) == (3, ["m", "other"], ["10.0.0.1"])
    assert audit[3]["reason"] == "leaked"
    assert made.digest not in str(audit)
    assert made.salt not in str(audit)
    before = stage.views()
    stage.store.empty()
    stage.turn()
    stage.turn()
    assert stage.views() == before


def test_a_record_that_took_no_effect_says_so(stage: Any) -> None:
    stage.settle()
    again = stage.decisions()[0]
    stage.log.append(CONTROL, [Entry(b"", msgspec.json.encode(again), partition=0)]).result()
    stage.settle()
    assert [doc["took_effect"] for (kind, _), doc in stage.views().items() if kind == "audit"] == [True, False]


def test_a_store_emptied_while_control_runs_gets_the_same_views_again(stage: Any) -> None:
    stage.learner.drift()
    stage.until("trial_started")
    stage.learner.trial = -1  # no more blocks: what is shown stands still
    stage.settle()
    before = stage.views()
    assert before
    stage.store.empty()
    stage.turn()
    stage.turn()
    assert stage.views() == before
    assert stage.store.view_offset() == stage.log.bounds(CONTROL, 0)[1]


def test_a_store_emptied_while_control_was_down_gets_the_same_views_again(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(models=("m", "other"))
    for learner in stage.learners:
        learner.drift()
    stage.until("recovered")
    stage.until("recovered", model="other")
    stage.settle()
    before = stage.views()
    stage.store.empty()
    stage.kill()
    stage.settle()
    assert stage.views() == before


def test_views_of_a_longer_log_than_this_one_are_thrown_away(stage: Any) -> None:
    stage.settle()
    before = stage.views()
    stage.store.put_views({("case", "ghost-1"): b"{}", ("audit", audit_id(70)): b"{}"}, 71)
    stage.kill()
    stage.settle()
    assert stage.views() == before


def test_a_restart_writes_again_only_what_the_store_lacks(stage: Any) -> None:
    stage.learner.drift()
    stage.until("recovered")
    stage.settle()
    before = stage.views()
    put: list[str] = []
    stage.kill()
    put_views = stage.store.put_views

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(stage.store, name)

        def put_views(self, docs: Any, offset: int) -> None:
            put.extend(kind for kind, _ in docs)
            put_views(docs, offset)

    stage.control._store = Watched()
    stage.settle()
    assert set(put) == {"model", "case", "version", "history", "role"}  # the role: that control is there again
    assert stage.views() == before
