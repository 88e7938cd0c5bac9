"""A request to import: a number of its own, positions that this log has, or a refusal that says why."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamlearn.control.fold import apply
from streamlearn.log import CONTROL


def offer(stage: Any, **changes: Any) -> dict[str, Any]:
    settings = stage.settings.models["m"].model_dump(mode="json") | changes.pop("settings", {})
    base = {
        "settings": settings, "made_with": {"river": "0.1"}, "trained_to": {}, "origin": {"model": "m", "version": 9},
        "shards": {"0": {"bytes": 12, "sha256": "ab", "learned": 70, "skipped": 1}},
    }  # fmt: skip
    return base | changes


def test_an_import_gets_the_next_number_and_begins_at_the_head(stage: Any) -> None:
    got = stage.ask("import", data=offer(stage), reason="from the lab")
    assert (got.kind, got.version, got.by) == ("imported", 2, "ann")
    assert "from the lab" in got.why
    assert (got.numbers["trained_to"], got.numbers["rebased"]) == ({"0": 1000}, True)
    stage.turn()
    doc = stage.view("version", "m@2")
    assert (doc["fate"], doc["reason"], doc["parent"], doc["learned"]) == ("imported", "import", None, 70)
    assert (doc["origin"], doc["made_with"]) == ({"model": "m", "version": 9, "rebased": True}, {"river": "0.1"})
    assert (doc["window"], stage.state().fitted) == (None, {2: {0: 1000}})
    assert doc["blobs"]["0"]["bytes"] == 12
    assert doc["trained_to"] == {"0": 1000}
    assert len(stage.view("history")["items"]) == 1


@pytest.mark.parametrize(("how", "kind"), [("search", "imported"), ("full", "request_refused")])
def test_where_recipes_are_searched_for_a_version_of_another_recipe_may_come(make_stage: Any, how: str, kind: str) -> None:
    stage = make_stage(retrain={"strategy": {"how": how}})
    other = {"pipeline": "naive_bayes", "params": {"alpha": 2.0}}
    assert stage.ask("import", data=offer(stage, settings=other)).kind == kind
    assert stage.ask("import", data=offer(stage, settings={**other, "labels": ["a", "b"]})).kind == "request_refused"


def test_the_next_retrain_makes_another_version(stage: Any) -> None:
    stage.ask("import", data=offer(stage))
    stage.learner.drift()
    assert stage.until("promoted").version == 3
    assert stage.view("version", "m@2")["fate"] == "imported"


def test_an_import_in_the_middle_of_a_case_disturbs_nothing(stage: Any) -> None:
    stage.learner.drift()
    stage.until("retrain_started")
    assert stage.ask("import", data=offer(stage)).version == 3
    assert stage.until("promoted").version == 2
    stage.until("recovered")


def test_two_controls_never_give_one_number_to_two_versions(stage: Any) -> None:
    """A decision made upon an older state: the number was given to an import meanwhile."""
    stage.learner.drift()
    started = stage.until("retrain_started")
    offset = stage.log.bounds(CONTROL, 0)[1]
    imported = stage.ask("import", data=offer(stage))
    assert (started.version, imported.version) == (2, 3)
    late = msgspec.structs.replace(started, version=imported.version, numbers={**started.numbers, "run": 2})
    assert not apply(stage.state(), offset + 9, late)
    assert stage.state().case.version == 2


@pytest.mark.parametrize(("at", "rebased"), [(0, False), (700, False), (1000, False), (5000, True), (-1, True)])
def test_positions_of_this_log_are_kept_while_it_has_them(stage: Any, at: int, rebased: bool) -> None:
    got = stage.ask("import", data=offer(stage, trained_to={"0": at}))
    assert (got.numbers["trained_to"]["0"], got.numbers["rebased"]) == (1000 if rebased else at, rebased)


def test_a_window_of_this_log_is_shown(stage: Any) -> None:
    window = {"starts": {"0": 5}, "until": {"0": 90}}
    stage.ask("import", data=offer(stage, trained_to={"0": 99}, origin={"window": window}))
    stage.turn()
    assert stage.view("version", "m@2")["window"] == window


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"shards": {"0": {}, "1": {}}}, "the version has 2 shards, the model 1"),
        ({"settings": {"task": "regression"}}, "task: 'regression' there, 'binary' here"),
        ({"settings": {"pipeline": "alma"}}, "pipeline: 'alma' there, 'logistic' here"),
        ({"settings": {"params": {"l2": 1}}}, "params: {'l2': 1} there, {} here"),
        ({"settings": {"stream": "views"}}, "stream: 'views' there, 'clicks' here"),
        ({"settings": {"labels": ["a", "b"]}}, "labels: ['a', 'b'] there"),
        ({"trained_to": {"0": "far"}}, "does not say what"),
    ],
)
def test_what_is_no_version_of_this_model_is_refused(stage: Any, changes: dict[str, Any], why: str) -> None:
    got = stage.ask("import", data=offer(stage, **changes))
    assert got.kind == "request_refused"
    assert why in got.why
    assert stage.state().last_version == 1


def test_a_repeat_imports_nothing_twice(stage: Any) -> None:
    stage.ask("import", data=offer(stage), id="once")
    stage.request("import", data=offer(stage), id="once")
    stage.settle()
    assert stage.kinds().count("imported") == 1


def test_an_import_is_replayed_to_the_same_state_and_views(stage: Any) -> None:
    stage.ask("import", data=offer(stage))
    stage.learner.drift()
    stage.until("recovered")
    stage.settle()
    before, last = stage.views(), stage.state().last_version
    stage.store.empty()
    stage.kill()
    stage.settle()
    assert stage.views() == before
    assert stage.state().last_version == last == 3
