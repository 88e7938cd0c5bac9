"""Models, versions, cases, the audit trail, and what people ask of control."""

from __future__ import annotations

from typing import Any

import pytest

from streamlearn.errors import LogFull, LogUnavailable, StoreUnavailable
from streamlearn.log import CONTROL
from streamlearn.records import Request, audit_id, decode_control

SCORES = {"n": 5, "window": {"accuracy": 0.8}, "baselines": {"majority": {"accuracy": 0.6}}}


def test_a_model_shows_everything_that_is_known_of_it(world: Any) -> None:
    world.publish(version=2, offset=90, n=40)
    world.report(
        version=2, position=90, end=100, n=40, pending=7, scores=SCORES, rate=123.0,
        counters={"events": 90, "orphan": 2, "feature_type": 1, "duplicate_features": 4},
    )  # fmt: skip
    world.view("model", "delay", {"state": "trial", "case": "delay-3", "degraded": "drift confirmed", "previous": 1})

    async def story(http: Any) -> None:
        world.clock.advance(2)
        got = (await http.get("/v1/models/delay")).json()
        assert {name: got[name] for name in ("name", "stream", "task", "pipeline", "ready", "version", "state", "case")} == {
            "name": "delay", "stream": "flights", "task": "binary", "pipeline": "logistic", "ready": True, "version": 2,
            "state": "trial", "case": "delay-3",
        }  # fmt: skip
        assert (got["n"], got["lag"], got["pending"], got["dead"], got["rate"]) == (40, 10, 7, 3, 123.0)
        assert got["scores"] == SCORES
        assert got["degraded"] == ["drift confirmed"]
        assert got["control"]["previous"] == 1
        [shard] = got["shards"]
        assert (shard["version"], shard["n"], shard["age_s"], shard["reported_s"]) == (2, 40, 2.0, 2.0)
        assert shard["position"]["offset"] == 90
        assert shard["status"]["counters"]["orphan"] == 2

    world.run(story)


def test_a_sharded_model_is_summed_but_its_scores_are_not(world: Any) -> None:
    world.publish("ctr", 0)
    for shard in range(4):
        world.report("ctr", shard, n=10 * shard, position=5, end=6, scores=SCORES, counters={"events": 5})

    async def story(http: Any) -> None:
        got = (await http.get("/v1/models/ctr")).json()
        assert (got["n"], got["lag"], got["counters"]) == (60, 4, {"events": 20})
        assert (got["scores"], got["ready"]) == (None, False)
        assert [shard["version"] for shard in got["shards"]] == [1, None, None, None]
        assert got["shards"][1]["age_s"] is None

    world.run(story)


def test_a_model_that_nobody_has_heard_of_yet_is_shown_as_such(world: Any) -> None:
    async def story(http: Any) -> None:
        got = (await http.get("/v1/models")).json()["models"]
        assert [model["name"] for model in got] == ["delay", "ctr"]
        first = got[0]
        assert (first["ready"], first["version"], first["scores"], first["shards"][0]["status"]) == (False, None, None, None)

    world.run(story)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/nope"),
        ("GET", "/v1/models/nope/versions"),
        ("POST", "/v1/models/nope/retrain"),
        ("GET", "/v1/cases/nope-1"),
        ("POST", "/v1/models/delay/explode"),
        ("GET", "/problems/nope"),
        ("GET", "/v2"),
    ],
)
def test_what_is_not_there_is_404(world: Any, method: str, path: str) -> None:
    async def story(http: Any) -> None:
        got = await http.request(method, path)
        assert got.status_code == 404
        assert got.json()["type"] == "/problems/not-found"
        assert got.json()["instance"] == path

    world.run(story)


def test_versions_of_one_model(world: Any) -> None:
    world.view("version", "delay@1", {"reason": "registered", "parent": None})
    world.view("version", "delay@2", {"reason": "case delay-1", "parent": 1})
    world.view("version", "ctr@1", {"reason": "registered"})

    async def story(http: Any) -> None:
        got = (await http.get("/v1/models/delay/versions")).json()
        assert [item["id"] for item in got["items"]] == ["delay@1", "delay@2"]
        assert got["items"][1]["parent"] == 1

    world.run(story)


def test_cases_all_of_one_model_and_one(world: Any) -> None:
    world.view("case", "delay-1", {"model": "delay", "state": "recovered"})
    world.view("case", "ctr-1", {"model": "ctr", "state": "trial"})

    async def story(http: Any) -> None:
        assert [item["id"] for item in (await http.get("/v1/cases")).json()["items"]] == ["delay-1", "ctr-1"]
        assert [item["id"] for item in (await http.get("/v1/cases?model=ctr")).json()["items"]] == ["ctr-1"]
        case = (await http.get("/v1/cases/delay-1")).json()
        assert case.pop("story")["opened"] is None
        assert case == {"id": "delay-1", "model": "delay", "state": "recovered"}

    world.run(story)


def test_the_audit_trail_is_read_page_by_page(world: Any) -> None:
    for offset in range(5):
        world.view("audit", audit_id(offset), {"kind": "registered", "n": offset})

    async def story(http: Any) -> None:
        seen: list[int] = []
        after = ""
        while True:
            page = (await http.get("/v1/audit?limit=2" + after)).json()
            seen += [item["n"] for item in page["items"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert seen == [0, 1, 2, 3, 4]
        assert len((await http.get("/v1/audit")).json()["items"]) == 5
        assert (await http.get(f"/v1/audit?after={audit_id(4)}")).json() == {"items": [], "next": None, "total": None}

    world.run(story)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=-1", "limit=all", "after=nope", "after=4", "limit=%C2%B2", "order=up", "since=then",
     "q=" + "x" * 201],
)  # fmt: skip
def test_a_wrong_page_is_422(world: Any, query: str) -> None:
    async def story(http: Any) -> None:
        got = await http.get("/v1/audit?" + query)
        assert got.status_code == 422
        assert got.json()["field"] == query.partition("=")[0]

    world.run(story)


def test_a_lost_store_is_503_for_documents_while_models_and_predictions_go_on(world: Any) -> None:
    world.publish()
    world.view("audit", audit_id(0), {"kind": "registered"})

    async def story(http: Any) -> None:
        for path in ("/v1/cases", "/v1/cases/a", "/v1/audit", "/v1/models/delay/versions"):
            world.store_faults.fail("views", StoreUnavailable("locked"), times=1000)
            got = await http.get(path)
            assert got.status_code == 503
            assert got.headers["retry-after"] == "2"
            world.store_faults.heal()
        assert (await http.get("/v1/models")).status_code == 200
        assert (await http.post("/v1/predict/delay", json={"x": {}})).status_code == 200
        assert (await http.get("/v1/cases")).status_code == 200

    world.run(story)


@pytest.mark.parametrize("action", ["retrain", "rollback", "cancel", "promote", "hold", "resume"])
def test_a_request_is_a_record_that_control_will_see(world: Any, action: str) -> None:
    async def story(http: Any) -> None:
        body = {"reason": "because", "version": 4}
        got = await http.post(f"/v1/models/delay/{action}", json=body, headers={"x-streamlearn-user": "ada\x07"})
        assert got.status_code == 202
        [record] = world.records(CONTROL)
        request = decode_control(record.value)
        assert request == Request(got.json()["request"], "delay", action, "ada", world.clock(), "because", 4)
        assert got.json()["offset"] == record.offset
        assert (got.json()["model"], got.json()["action"]) == ("delay", action)

    world.run(story)


def test_a_request_needs_no_body(world: Any) -> None:
    async def story(http: Any) -> None:
        first, second = [(await http.post("/v1/models/delay/retrain")).json() for _ in range(2)]
        assert first["request"] != second["request"]
        assert second["offset"] == first["offset"] + 1

    world.run(story)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"hello", "application/json", 400),
        (b'{"version": "two"}', "application/json", 422),
        (b'{"reason": "' + b"a" * 1001 + b'"}', "application/json", 422),
        (b'{"reason": "' + b"a" * 20_000 + b'"}', "application/json", 413),
        (b"reason=x", "application/x-www-form-urlencoded", 415),
        (b"{}", "application/x-ndjson", 415),
    ],
)
def test_a_bad_request_is_refused_and_leaves_no_record(world: Any, body: bytes, kind: str, status: int) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/models/delay/retrain", content=body, headers={"content-type": kind})
        assert got.status_code == status

    world.run(story)
    assert world.records(CONTROL) == []


@pytest.mark.parametrize(("error", "status"), [(LogUnavailable("locked"), 503), (LogFull("full"), 507)])
def test_a_request_that_cannot_be_written_is_said(world: Any, error: Exception, status: int) -> None:
    world.log_faults.fail("append", error)

    async def story(http: Any) -> None:
        got = await http.post("/v1/models/delay/retrain")
        assert got.status_code == status
        assert "retry-after" in got.headers
        assert (await http.post("/v1/models/delay/retrain")).status_code == 202

    world.run(story)


def test_a_silence_says_for_how_long(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/models/delay/silence", json={"for_s": 7200, "reason": "a rebuild"})
        assert got.status_code == 202
        for wrong in ({}, {"for_s": -1}, {"for_s": 1e9}, {"for_s": "2h"}):
            refused = await http.post("/v1/models/delay/silence", json=wrong)
            assert (refused.status_code, refused.json()["field"]) == (422, "for_s")

    world.run(story)
    [record] = world.records(CONTROL)
    request = decode_control(record.value)
    assert isinstance(request, Request)
    assert (request.action, request.for_s, request.reason) == ("silence", 7200.0, "a rebuild")


def test_a_silence_is_a_figure_that_alert_rules_can_honour(world: Any) -> None:
    world.view("model", "delay", {"silenced_until": 1_700_000_000.0})

    async def story(http: Any) -> None:
        text = (await http.get("/metrics")).text
        assert 'streamlearn_silenced_until_timestamp_seconds{model="delay"} 1.7e+09' in text
        assert 'streamlearn_silenced_until_timestamp_seconds{model="ctr"} 0.0' in text

    world.run(story)
