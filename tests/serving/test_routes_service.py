"""Alive, ready, metrics, problem types, the index page, wrong methods and faults of our own."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from streamlearn import __version__
from streamlearn.errors import LogUnavailable, StoreUnavailable
from streamlearn.serving.problems import CATALOGUE


def test_alive(world: Any) -> None:
    async def story(http: Any) -> None:
        assert (await http.get("/healthz")).json() == {"status": "alive", "version": __version__}

    world.run(story)


def test_ready_once_every_shard_of_every_model_is_published(world: Any) -> None:
    world.publish()

    async def story(http: Any) -> None:
        got = await http.get("/readyz")
        assert got.status_code == 503
        assert got.headers["retry-after"] == "1"
        assert len(got.json()["reasons"]) == 4
        assert "model 'ctr', shard 2: nothing published yet" in got.json()["detail"]
        world.publish_all()
        world.poll()
        got = await http.get("/readyz")
        assert (got.status_code, got.json()) == (200, {"ready": True, "degraded": [], "models": {"delay": 1, "ctr": 1}})

    world.run(story)


def test_a_lost_log_or_store_is_named_and_it_stays_ready_with_what_it_has(world: Any) -> None:
    world.publish_all()

    async def story(http: Any) -> None:
        world.log_faults.fail("streams", LogUnavailable("locked"))
        got = await http.get("/readyz")
        assert got.status_code == 200
        assert got.json()["degraded"] == ["the log cannot be reached: locked"]
        world.store_faults.fail("publication", StoreUnavailable("gone"), times=100_000)
        world.poll()
        world.clock.advance(3)
        got = await http.get("/readyz")
        assert got.status_code == 200
        assert got.json()["degraded"][0] == "the store has been unreachable for 3 s"
        world.store_faults.heal()
        world.poll()
        assert (await http.get("/readyz")).json()["degraded"] == []

    world.run(story)


def test_a_control_that_has_fallen_silent_is_named_and_measured(world: Any) -> None:
    world.publish_all()

    async def story(http: Any) -> None:
        async def told() -> list[str]:
            got = (await http.get("/readyz")).json()
            assert got["ready"] is True
            return [reason for reason in got["degraded"] if "control" in reason]

        def silent() -> float | None:
            return world.metric("streamlearn_control_silent_seconds")

        world.clock.advance(15)
        world.poll()
        assert await told() == []  # it may still be starting
        world.clock.advance(1)
        assert await told() == ["control has not reported for 16 s: nobody judges drift or answers requests"]
        world.view("role", "control", {"at": world.clock() - 3})
        world.poll()
        assert (await told(), silent()) == ([], 3)
        world.clock.advance(20)
        assert silent() == 23
        assert "control has not reported for 23 s" in (await told())[0]
        world.store_faults.fail("publication", StoreUnavailable("gone"), times=100_000)
        world.poll()
        assert await told() == []  # nobody can know

    world.run(story)


def test_a_log_that_does_not_answer_does_not_hang_the_probe(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlearn.serving.routes_service.PROBE_S", 0.0)
    world.publish_all()

    async def story(http: Any) -> None:
        got = await http.get("/readyz")
        assert got.json()["degraded"] == ["the log did not answer within 0 s"]

    world.run(story)


def test_metrics_tell_of_requests_events_models_and_scores(world: Any) -> None:
    world.publish(version=3, offset=10, n=5)
    world.view("model", "delay", {"state": "trial", "case": "delay-1"})
    world.report(
        version=3, end=30, n=5, pending=4, early=1, rate=50.0, shadow=4, checkpoint_at=world.clock() - 8,
        counters={"events": 10, "orphan": 2}, freshness_ms={"p50": 12.0}, pause_ms={"checkpoint": 3.0},
        scores={
            "n": 5, "window": {"accuracy": 0.75}, "cumulative": {"kappa": None}, "baselines": {"majority": {"accuracy": 0.5}},
        },
    )  # fmt: skip

    async def story(http: Any) -> None:
        await http.post("/v1/predict/delay", json={"x": {}})
        await http.post("/v1/events", json={"stream": "flights", "id": "a", "x": {}})
        await http.get("/nowhere/at/all")
        world.clock.advance(5)
        got = await http.get("/metrics")
        assert got.headers["content-type"].startswith("text/plain; version=0.0.4")
        found = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(got.text)
            for sample in family.samples
        }

        def value(name: str, **labels: str) -> float:
            return found["streamlearn_" + name, tuple(sorted(labels.items()))]

        one = {"model": "delay", "shard": "0"}
        assert value("lag", **one) == 20
        assert value("learned", **one) == 5
        assert value("pending_labels", **one) == 4
        assert value("early_labels", **one) == 1
        assert value("dead_letters", **one) == 2
        assert value("events_per_second", **one) == 50
        assert value("served_version", **one) == 3
        assert value("publication_age_seconds", **one) == 5
        assert value("learner_silent_seconds", **one) == 5
        assert value("checkpoint_age_seconds", **one) == 13
        assert value("trial_open", **one) == 1
        assert value("degraded", **one) == 0
        assert value("publication_bytes", **one) > 100
        assert value("case_open", model="delay") == 1
        assert value("case_open", model="ctr") == 0
        assert value("learner_events_total", what="orphan", **one) == 2
        assert value("score", kind="window", metric="accuracy", **one) == 0.75
        assert value("score", kind="baseline_majority", metric="accuracy", **one) == 0.5
        assert value("freshness_ms", quantile="p50", **one) == 12
        assert value("pause_ms", what="checkpoint", **one) == 3
        assert value("store_down_seconds") == 0
        assert value("events_posted_total", outcome="accepted") == 1
        assert value("predictions_total", model="delay", logged="off") == 1
        assert value("http_request_seconds_count", method="POST", route="/v1/predict/{model}", status="200") == 1
        assert value("http_request_seconds_count", method="other", route="other", status="404") == 1
        assert not [key for key in found if "kappa" in str(key)]

    world.run(story)


def test_every_problem_type_leads_to_its_meaning(world: Any) -> None:
    async def story(http: Any) -> None:
        for kind, entry in CATALOGUE.items():
            got = await http.get(f"/problems/{kind}")
            assert got.json() == {"kind": kind, "status": entry.status, "title": entry.title, "explanation": entry.explanation}
        got = await http.get("/v1/models/nope")
        assert (await http.get(got.json()["type"])).json()["status"] == got.status_code

    world.run(story)


def test_the_wrong_method_is_405_and_names_the_right_one(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.delete("/v1/events")
        assert got.status_code == 405
        assert got.headers["allow"] == "POST"
        assert got.headers["content-type"] == "application/problem+json"
        assert got.json()["detail"].startswith("DELETE /v1/events")

    world.run(story)


def test_a_fault_of_our_own_is_a_500_that_shows_nothing_and_is_counted(world: Any) -> None:
    async def story(http: Any) -> None:
        async def broken(request: Request) -> None:
            raise ZeroDivisionError("the secret is 42")

        world.app.add_route("/broken", broken)
        got = await http.get("/broken")
        assert got.status_code == 500
        assert got.headers["content-type"] == "application/problem+json"
        assert "42" not in got.text
        assert (await http.get("/healthz")).status_code == 200
        assert world.metric("streamlearn_http_request_seconds_count", method="other", route="other", status="500") == 1

    world.run(story)


def test_the_index_page_lists_every_operation_and_loads_nothing_from_elsewhere(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.get("/")
        assert got.headers["content-type"].startswith("text/html")
        document = (await http.get("/openapi.json")).json()
        for path in document["paths"]:
            assert path in got.text
        assert "<script" not in got.text
        assert "https://" not in got.text
        assert "curl -X POST http://127.0.0.1:8321/v1/events" in got.text

    world.run(story)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages_that_would_need_a_network_are_not_there(world: Any, path: str) -> None:
    async def story(http: Any) -> None:
        assert (await http.get(path)).status_code == 404

    world.run(story)


def test_what_the_store_takes_is_a_metric_by_model(world: Any) -> None:
    world.store.put_version("delay", 7, 0, b"x" * 5000)

    async def story(http: Any) -> None:
        world.poll()
        taken = world.metric("streamlearn_store_bytes", model="delay")
        assert taken >= 5000
        world.store.put_version("delay", 8, 0, b"x" * 5000)
        world.poll()
        assert world.metric("streamlearn_store_bytes", model="delay") == taken  # it is weighed now and then
        world.clock.advance(60.0)
        world.poll()
        assert world.metric("streamlearn_store_bytes", model="delay") == taken + 5000

    world.run(story)


def test_messages_that_nobody_took_are_named_and_counted(world: Any) -> None:
    world.publish()
    doc = {"delivered": 7, "undelivered": 2, "waiting": 1, "failing_since": None, "error": ""}
    world.view("role", "control", {"at": world.clock(), "notify": {"ops": doc, "team": {**doc, "undelivered": 0}}})

    async def story(http: Any) -> None:
        ready = (await http.get("/readyz")).json()
        said = [reason for reason in ready.get("degraded", ready.get("reasons", ())) if "notifications" in reason]
        assert said == ["notifications to 'ops': 2 messages could not be delivered (streamlearn notify list)"]
        text = (await http.get("/metrics")).text
        assert 'streamlearn_notify_delivered_total{target="ops"} 7.0' in text
        assert 'streamlearn_notify_undelivered{target="ops"} 2.0' in text
        assert 'streamlearn_notify_waiting{target="team"} 1.0' in text

    world.run(story)
