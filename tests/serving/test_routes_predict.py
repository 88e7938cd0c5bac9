"""Predictions over HTTP: what an answer says, how a shard is chosen, what is refused, and how a prediction reaches the log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamlearn.config import parse
from streamlearn.errors import LogUnavailable
from streamlearn.events import Kind, decode_prediction, partition_of
from streamlearn.learning.model import Model
from streamlearn.learning.replay import limits_of

X = {"carrier": "WN", "distance": 239}


def test_an_answer_says_what_stands_behind_it(world: Any) -> None:
    world.publish(version=3, offset=41)

    async def story(http: Any) -> None:
        world.clock.advance(2.5)
        got = await http.post("/v1/predict/delay", json={"id": "f1", "x": X})
        assert got.status_code == 200
        assert got.json() == {
            "id": "f1", "model": "delay", "prediction": False, "probabilities": {"false": 0.75, "true": 0.25}, "version": 3,
            "position": {"log": world.memory_log.identity("flights"), "stream": "flights", "partition": 0, "offset": 41},
            "age_s": 2.5, "degraded": None, "logged": "off",
        }

    world.run(story)


def test_a_question_without_an_id_is_answered(world: Any) -> None:
    world.publish()

    async def story(http: Any) -> None:
        got = await http.post("/v1/predict/delay", json={"x": X})
        assert got.status_code == 200
        assert got.json()["id"] is None

    world.run(story)


def test_before_anything_is_learned_the_answer_is_503_with_a_time_to_come_back(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/predict/delay", json={"x": X})
        assert got.status_code == 503
        assert got.headers["retry-after"] == "1"
        assert got.headers["content-type"] == "application/problem+json"
        assert "has not learned yet" in got.json()["detail"]
        world.publish()
        world.poll()
        assert (await http.post("/v1/predict/delay", json={"x": X})).status_code == 200

    world.run(story)


def test_an_unknown_model_is_404_and_names_the_known(world: Any) -> None:
    async def story(http: Any) -> None:
        for path in ("/v1/predict/nope", "/v1/predict/nope/batch"):
            got = await http.post(path, json={"x": X, "instances": []})
            assert got.status_code == 404
            assert "['ctr', 'delay']" in got.json()["detail"]

    world.run(story)


def test_the_key_chooses_the_shard_as_the_log_does(world: Any) -> None:
    for shard in range(4):
        world.publish("ctr", shard, version=shard + 1)

    async def story(http: Any) -> None:
        for key in ("ada", "bob", "cyd", "dan", "eve"):
            got = await http.post("/v1/predict/ctr", json={"id": "i1", "key": key, "x": {}})
            assert got.json()["version"] == partition_of(key.encode(), 4) + 1
            assert got.json()["position"]["partition"] == partition_of(key.encode(), 4)
        by_id = await http.post("/v1/predict/ctr", json={"id": "i1", "x": {}})
        assert by_id.json()["position"]["partition"] == partition_of(b"i1", 4)

    world.run(story)


def test_several_shards_and_no_key_is_422_with_the_fix(world: Any) -> None:
    world.publish_all()

    async def story(http: Any) -> None:
        got = await http.post("/v1/predict/ctr", json={"x": {}})
        assert got.status_code == 422
        assert got.json()["field"] == "key"
        assert "send the key" in got.json()["detail"]

    world.run(story)


@pytest.mark.parametrize(
    ("body", "status", "field", "reason"),
    [
        (b'{"x": {"distance": "far"}}', 422, "x.distance", "feature_type"),
        (b'{"x": {"distance": [1]}}', 422, "x.distance", "shape"),
        (b'{"features": {}}', 422, "x", "shape"),
        (b'{"x": {"distance": NaN}}', 422, "x.distance", "not_finite"),
        (b'{"x": {"distance": 1e999}}', 422, "x.distance", "not_finite"),
        (b'{"x": {}, "log": true}', 422, "id", "shape"),
        (b'{"x": {}, "log": true, "id": ""}', 422, "id", "shape"),
        (b'{"x": {}, "log": true, "id": "a", "key": ""}', 422, "key", "shape"),
        (b'{"x": {}, "log": true, "id": "a", "ts": 1767225600000}', 422, "ts", "future"),
        (b'{"x": {}, "log": true, "id": "a", "ts": "soon"}', 422, "ts", "time"),
        (b'{"x": {}, "log": true, "id": "' + b"a" * 1025 + b'"}', 422, "id", "too_long"),
        (b'{"x": {}, "deep": ' + b"[" * 5000 + b"]" * 5000 + b"}", 422, "$", "too_deep"),
        (b'{"x": {"a": "\xff"}}', 400, "$", "malformed"),
        (b"", 400, "$", "malformed"),
        (b"hello", 400, "$", "malformed"),
        (b"[]", 422, "$", "shape"),
    ],
)
def test_a_bad_question_is_named_by_field_and_reason(world: Any, body: bytes, status: int, field: str, reason: str) -> None:
    world.publish()

    async def story(http: Any) -> None:
        got = await http.post("/v1/predict/delay", content=body, headers={"content-type": "application/json"})
        assert (got.status_code, got.json()["field"], got.json()["reason"]) == (status, field, reason)
        assert got.json()["type"] == ("/problems/malformed" if status == 400 else "/problems/rejected")

    world.run(story)


def test_another_type_of_body_is_415(world: Any) -> None:
    world.publish()

    async def story(http: Any) -> None:
        for kind in ("text/xml", "application/x-ndjson", "application/x-www-form-urlencoded"):
            got = await http.post("/v1/predict/delay", content=b'{"x":{}}', headers={"content-type": kind})
            assert got.status_code == 415

    world.run(story)


def test_too_large_a_question_is_413(world: Any) -> None:
    world.tree["limits"] = {"max_event_bytes": 100}
    world.publish()

    async def story(http: Any) -> None:
        assert (await http.post("/v1/predict/delay", json={"x": {"a": "b" * 100}})).status_code == 413

    world.run(story)


@pytest.mark.parametrize("fails", ["nan", "division"])
def test_a_model_that_fails_is_a_500_of_its_own_kind_and_the_next_is_asked(world: Any, doubled: Any, fails: str) -> None:
    world.publish(content=doubled(fails=fails))

    async def story(http: Any) -> None:
        got = await http.post("/v1/predict/delay", json={"x": X})
        assert got.status_code == 500
        assert got.json()["type"] == "/problems/model"
        world.publish(content=doubled())
        world.poll()
        assert (await http.post("/v1/predict/delay", json={"x": X})).status_code == 200

    world.run(story)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_logged_prediction_reaches_the_log_with_what_was_shown(world: Any) -> None:
    world.publish(version=7)

    async def story(http: Any) -> None:
        question = {"id": "f1", "key": "N1", "ts": "1970-01-01T00:00:05.5Z", "x": X, "log": True}
        got = await http.post("/v1/predict/delay", json=question)
        assert got.json()["logged"] == "queued"
        await until(lambda: world.records("flights"))
        [record] = world.records("flights")
        assert (record.kind, record.key) == (Kind.PREDICTION, b"N1")
        found = decode_prediction(record.value)
        assert (found.stream, found.id, found.model, found.version) == ("flights", "f1", "delay", 7)
        assert (found.key, found.ts) == ("N1", 5.5)
        assert (found.y, found.p, found.x) == (False, {"false": 0.75, "true": 0.25}, X)

    world.run(story)


def test_a_logged_prediction_goes_to_the_partition_of_its_key(world: Any) -> None:
    world.publish_all()

    async def story(http: Any) -> None:
        for id in ("a", "b", "c", "d", "e", "f"):
            await http.post("/v1/predict/ctr", json={"id": id, "x": {}, "log": True})

    world.run(story)
    for shard in range(4):
        for record in world.records("clicks", shard):
            assert partition_of(record.key, 4) == shard
    assert sum(len(world.records("clicks", shard)) for shard in range(4)) == 6  # drained at the end


def test_a_lost_log_does_not_delay_predictions_and_what_does_not_fit_is_said_and_counted(world: Any) -> None:
    world.tree["serve"] = {"prediction_buffer": 3}
    world.publish()
    world.log_faults.fail("append", LogUnavailable("down"), times=10_000)

    async def story(http: Any) -> None:
        questions = [{"id": f"f{n}", "x": X, "log": True} for n in range(6)]
        said = [(await http.post("/v1/predict/delay", json=question)).json()["logged"] for question in questions]
        assert said[:3] == ["queued"] * 3
        assert said[-1] == "dropped"
        world.log_faults.heal()
        await until(lambda: len(world.records("flights")) == said.count("queued"))
        again = await http.post("/v1/predict/delay", json={"id": "g", "x": X, "log": True})
        assert again.json()["logged"] == "queued"
        assert world.metric("streamlearn_predictions_lost_total", why="dropped") == said.count("dropped")
        assert world.metric("streamlearn_predictions_total", model="delay", logged="dropped") == said.count("dropped")

    world.run(story)


def test_a_batch_is_answered_in_order(world: Any) -> None:
    world.publish()

    async def story(http: Any) -> None:
        instances = [{"id": f"f{n}", "x": X, "log": n % 2 == 0} for n in range(120)]
        got = await http.post("/v1/predict/delay/batch", json={"instances": instances})
        found = got.json()["predictions"]
        assert [item["id"] for item in found] == [f"f{n}" for n in range(120)]
        assert [item["logged"] for item in found] == ["queued", "off"] * 60
        empty = await http.post("/v1/predict/delay/batch", json={"instances": []})
        assert empty.json() == {"predictions": []}

    world.run(story)
    assert len(world.records("flights")) == 60


def test_a_batch_with_one_bad_question_names_it_and_logs_none(world: Any) -> None:
    world.publish()

    async def story(http: Any) -> None:
        instances = [{"id": "a", "x": X, "log": True}, {"id": "b", "x": {"distance": "far"}}]
        got = await http.post("/v1/predict/delay/batch", json={"instances": instances})
        assert got.status_code == 422
        assert (got.json()["index"], got.json()["field"]) == (1, "x.distance")

    world.run(story)
    assert world.records("flights") == []


def test_a_batch_names_the_question_whose_shard_has_learned_nothing(world: Any) -> None:
    world.publish("ctr", partition_of(b"a", 4))

    async def story(http: Any) -> None:
        other = next(key for key in "bcdefghij" if partition_of(key.encode(), 4) != partition_of(b"a", 4))
        got = await http.post("/v1/predict/ctr/batch", json={"instances": [{"id": "a", "x": {}}, {"id": other, "x": {}}]})
        assert (got.status_code, got.json()["index"]) == (503, 1)

    world.run(story)


def test_too_many_instances_are_413(world: Any) -> None:
    world.tree["serve"] = {"max_instances": 2}
    world.publish()

    async def story(http: Any) -> None:
        got = await http.post("/v1/predict/delay/batch", json={"instances": [{"x": {}}] * 3})
        assert got.status_code == 413
        assert (await http.post("/v1/predict/delay/batch", json={"instances": [{"x": {}}] * 2})).status_code == 200

    world.run(story)


def test_degraded_reasons_are_in_every_answer(world: Any) -> None:
    world.publish()
    world.view("model", "delay", {"state": "retraining", "case": "delay-1", "degraded": "drift confirmed in case delay-1"})

    async def story(http: Any) -> None:
        got = await http.post("/v1/predict/delay", json={"x": X})
        assert got.json()["degraded"] == ["drift confirmed in case delay-1"]
        world.view("model", "delay", {"state": "steady", "case": "", "degraded": ""})
        world.poll()
        assert (await http.post("/v1/predict/delay", json={"x": X})).json()["degraded"] is None

    world.run(story)


@pytest.mark.parametrize("contract", ["hold", "follow"])
def test_a_feature_of_another_type_is_left_out_where_the_model_follows_its_features(world: Any, contract: str) -> None:
    """What is published says so itself: serving asks no settings for it."""
    world.tree["models"]["delay"]["drift"] = {"features": {"contract": contract}}
    settings = parse(world.tree, {})
    model = Model(settings.models["delay"], limits_of(settings))
    for n in range(60):
        x, types = model.check({"distance": float(n), "carrier": "WN"})
        model.accept(types)
        model.learn(x, n > 30)
    world.tree["models"]["delay"].pop("drift")
    world.memory_log.create({"flights": 1})
    world.publish(content=model)
    answers: list[Any] = []

    async def story(http: Any) -> None:
        for features in ({"distance": "far", "carrier": "WN"}, {"carrier": "WN"}, {"distance": 55.0, "carrier": "WN"}):
            found = await http.post("/v1/predict/delay", json={"x": features})
            answers.append((found.status_code, found.json().get("probabilities")))

    world.run(story)
    odd, without, usual = answers
    assert without[0] == usual[0] == 200
    assert odd == without != usual if contract == "follow" else odd[0] == 422
