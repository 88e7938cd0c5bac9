"""Cases with their story, marks, the audit's search, features, labels and differences, over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamlearn import wire
from streamlearn.errors import LogUnavailable
from streamlearn.history import Recorder
from streamlearn.log import DEAD, Entry
from streamlearn.records import DeadLetter, audit_id
from streamlearn.serving import routes_cases
from streamlearn.serving.examples import CASE
from streamlearn.serving.story import story


def got(world: Any, *paths: str) -> list[tuple[int, Any]]:
    answers: list[tuple[int, Any]] = []

    async def told(http: Any) -> None:
        for path in paths:
            found = await http.get(path)
            answers.append((found.status_code, found.json()))

    world.run(told)
    return answers


def test_a_case_comes_with_its_story(world: Any) -> None:
    world.view("case", "delay-17", CASE)
    [(status, doc)] = got(world, "/v1/cases/delay-17")
    assert status == 200
    assert doc == CASE | {"story": msgspec.to_builtins(story(CASE))}
    assert doc["story"]["test"]["p"] == 0.0004


def opened(number: int, at: float, closed_at: float | None) -> dict[str, Any]:
    step = {"kind": "case_opened", "at": at, "version": None, "why": "w", "numbers": {}, "control": number}
    return {"model": "delay", "kind": "manual", "closed_at": closed_at, "outcome": "recovered", "steps": [step]}


@pytest.mark.parametrize("told", [True, False])
def test_marks_of_the_time_that_is_asked_for(world: Any, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    monkeypatch.setattr(routes_cases, "CASES", 2)
    for number in range(1, 8):
        closed = None if number == 7 else 100.0 * number + 50
        world.view("case", f"delay-{number}", opened(number, 100.0 * number, closed))
    world.view("case", "ctr-1", opened(1, 500.0, 550.0) | {"model": "ctr"})
    held = {"kind": "held", "at": 20.0, "control": 9, "why": "odd", "by": "ann", "until": None}
    world.view("marks", "delay", {"items": [held]})
    if told:  # else control is of an older build
        world.view("model", "delay", {"cases": 7})
    all_of_it, some, early = got(
        world, "/v1/models/delay/marks", "/v1/models/delay/marks?since=430&until=620",
        "/v1/models/delay/marks?until=1970-01-01T00:02:00Z",
    )  # fmt: skip
    assert all_of_it[0] == 200
    assert [mark["id"] for mark in all_of_it[1]["marks"]] == ["held:9", *(f"case:delay-{number}" for number in range(1, 8))]
    assert [mark["id"] for mark in some[1]["marks"]] == ["held:9", "case:delay-4", "case:delay-5", "case:delay-6"]
    assert [mark["id"] for mark in early[1]["marks"]] == ["held:9", "case:delay-1"]
    assert msgspec.convert(some[1], wire.Marks).model == "delay"


def test_the_audit_is_searched_in_either_order(world: Any) -> None:
    for n in range(6):
        doc = {"type": "decision", "model": "delay", "kind": ("held", "resumed")[n % 2], "at": 100.0 + n}
        world.view("audit", audit_id(n), doc | {"by": "ann", "why": f"no {n}"})
    newest, found, further, since = got(
        world, "/v1/audit?order=desc&limit=2", "/v1/audit?kind=held&order=desc&limit=2&by=ANN",
        f"/v1/audit?kind=held&order=desc&after={audit_id(2)}", "/v1/audit?since=104&q=no",
    )  # fmt: skip
    assert newest[1]["next"] == audit_id(4)
    assert newest[1]["total"] is None
    assert [doc["why"] for doc in found[1]["items"]] == ["no 4", "no 2"]
    assert (found[1]["next"], found[1]["total"]) == (audit_id(2), 3)
    assert ([doc["why"] for doc in further[1]["items"]], further[1]["next"]) == (["no 0"], None)
    assert [doc["why"] for doc in since[1]["items"]] == ["no 4", "no 5"]


def test_features_with_their_heat(world: Any) -> None:
    recorder = Recorder(world.memory_store, world.settings().history)
    for minute in range(40):
        recorder.sample("delay", world.clock() - 2400 + 60 * minute, {"feature:distance": minute / 100, "loss": 0.5})
    world.view("features", "delay", {"looks": 4, "at": 5.0, "features": [{"name": "distance", "histogram": None}]})
    whole, part, never, wrong = got(
        world, "/v1/models/delay/features", f"/v1/models/delay/features?since={world.clock() - 1200}",
        "/v1/models/ctr/features", "/v1/models/delay/features?since=2030-01-01T00:00:00Z",
    )  # fmt: skip
    assert whole[0] == 200
    assert whole[1]["heat"]["names"] == ["distance"]
    assert 0 < len(whole[1]["heat"]["at"]) <= 60
    assert whole[1]["features"] == [{"name": "distance", "histogram": None}]
    assert min(value for [value] in part[1]["heat"]["psi"] if value is not None) > 0.15
    assert (never[1]["looks"], never[1]["enabled"], never[1]["heat"]["psi"]) == (0, True, [])
    assert (wrong[0], wrong[1]["field"]) == (422, "since")


def test_labels_and_the_newest_dead_letters(world: Any) -> None:
    world.report(counters={"late": 2}, n=9, pending=3, delay={"p50": 2.0, "p95": 7.0})
    dead = DeadLetter("delay", "flights", 0, 4, 5.0, "late", "y: too late", "k", b'{"id": "<img>"}')
    world.memory_log.create({"flights": 1, "clicks": 4})
    world.memory_log.append(DEAD, [Entry(b"k", msgspec.json.encode(dead), partition=0)]).result()
    [(status, doc), (_, other)] = got(world, "/v1/models/delay/labels", "/v1/models/ctr/labels")
    assert status == 200
    assert (doc["waiting"], doc["dead"]) == (3, {"total": 2, "reasons": {"late": 2}})
    assert doc["delay"]["events"] == {"p50": 2.0, "p95": 7.0}
    assert [(one["id"], one["reason"]) for one in doc["newest"]] == [("<img>", "late")]
    assert other["newest"] == []


def test_labels_go_on_without_the_log(world: Any) -> None:
    world.report(counters={"late": 2})

    async def told(http: Any) -> None:
        world.log_faults.fail("bounds", LogUnavailable("gone"), times=1000)
        found = await http.get("/v1/models/delay/labels")
        assert (found.status_code, found.json()["newest"], found.json()["dead"]["total"]) == (200, None, 2)
        world.log_faults.heal()

    world.run(told)


def test_two_versions_are_compared(world: Any) -> None:
    for version, learned in ((1, 5), (2, 9)):
        world.view("version", f"delay@{version}", {"model": "delay", "version": version, "learned": learned})
    same, differs, missing, bare = got(
        world, "/v1/models/delay/versions/1/diff?with=1", "/v1/models/delay/versions/1/diff?with=2",
        "/v1/models/delay/versions/1/diff?with=3", "/v1/models/delay/versions/1/diff",
    )  # fmt: skip
    assert same == (200, {"model": "delay", "a": 1, "b": 1, "differences": []})
    assert differs[1]["differences"] == [{"part": "data", "what": "learned", "a": 5, "b": 9}]
    assert missing[0] == 404
    assert (bare[0], bare[1]["field"]) == (422, "with")


@pytest.mark.parametrize("page", ["marks", "features", "labels", "versions/1/diff?with=2"])
def test_another_model_is_not_there(world: Any, page: str) -> None:
    [(status, doc)] = got(world, f"/v1/models/nope/{page}")
    assert (status, doc["type"]) == (404, "/problems/not-found")
