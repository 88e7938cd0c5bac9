"""Alive, ready, metrics, problem types, the index page, wrong methods and faults of our own."""

from __future__ import annotations

import platform
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from streamlearn import __version__
from streamlearn.buckets import FRESH_S, LEARN_S, PAUSE_S, RETRAIN_S, Buckets
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
    fresh, learned, pauses, fits = (Buckets.of(bounds) for bounds in (FRESH_S, LEARN_S, PAUSE_S, RETRAIN_S))
    fresh.add(0.03, 3)
    learned.add(0.0001, 3)
    pauses.add(0.003)
    fits.add(12.0)
    control = {
        "state": "trial", "case": "delay-1", "case_opened_at": world.clock() - 10, "decisions": {"promoted": 2},
        "fits_s": msgspec.to_builtins(fits), "trial": {"e": 7.5, "peak": 8.0, "threshold": 20.0, "events": 100},
    }  # fmt: skip
    world.view("model", "delay", control)
    world.view("role", "control", {"at": world.clock(), "holder": "here:1", "failures": 6})
    world.report(
        version=3, end=30, n=5, pending=4, early=1, rate=50.0, shadow=4, checkpoint_at=world.clock() - 8,
        counters={"orphan": 2}, counted={"learned": 5, "alarms": 1, "orphan": 2, "duplicate_labels": 1}, lag_s=3.5,
        fresh_s=fresh, learn_s=learned, pauses_s={"checkpoint": pauses}, checkpoint_bytes=4000, drift={"adwin": 0.25},
        failures={"log": 0, "store": 4},
        scores={
            "n": 5, "window": {"accuracy": 0.75}, "cumulative": {"kappa": None},
            "baselines": {"majority": {"accuracy": 0.4, "window_accuracy": 0.5}},
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
        assert value("lag_records", **one) == 20
        assert value("lag_seconds", **one) == 3.5
        assert value("learned_events", **one) == 5
        assert value("pending_labels", **one) == 4
        assert value("early_labels", **one) == 1
        assert value("dead_letters_total", reason="orphan", **one) == 2
        assert value("served_version", **one) == 3
        assert value("publication_age_seconds", **one) == 5
        assert value("learner_silent_seconds", **one) == 5
        assert value("checkpoint_age_seconds", **one) == 13
        assert value("checkpoint_size_bytes", **one) == 4000
        assert value("degraded", reason="learner_silent", **one) == 0
        assert value("publication_size_bytes", **one) > 100
        assert value("model_state", model="delay", state="trial") == 1
        assert value("model_state", model="delay", state="steady") == 0
        assert value("case_age_seconds", model="delay") == 15
        assert value("decisions_total", model="delay", kind="promoted") == 2
        assert value("decisions_total", model="delay", kind="rolled_back") == 0
        assert value("retrain_seconds_count", model="delay") == 1
        assert value("trial_e_value", model="delay") == 7.5
        assert value("trial_threshold", model="delay") == 20
        assert value("case_open", model="delay") == 1
        assert value("case_open", model="ctr") == 0
        assert value("learner_events_total", outcome="learned", **one) == 5
        assert value("learner_events_total", outcome="dead", **one) == 2
        assert value("learner_events_total", outcome="duplicate_labels", **one) == 1
        assert value("window_metric", metric="accuracy", **one) == 0.75
        assert value("window_baseline", baseline="majority", metric="accuracy", **one) == 0.5
        assert value("freshness_seconds_bucket", le="0.05", **one) == 3
        assert value("freshness_seconds_bucket", le="0.025", **one) == 0
        assert value("freshness_seconds_count", **one) == 3
        assert value("learn_seconds_sum", **one) == pytest.approx(0.0003)
        assert value("pause_seconds_sum", what="checkpoint", **one) == pytest.approx(0.003)
        assert value("drift_statistic", detector="adwin", **one) == 0.25
        assert value("drift_alarms_total", **one) == 1
        assert value("learner_errors_total", dependency="store", **one) == 4
        assert value("predict_seconds_count", model="delay") == 1
        assert value("build_info", version=__version__, python=platform.python_version()) == 1
        assert value("control_leader_info", holder="here:1") == 1
        assert value("control_errors_total") == 6
        assert not [name for name, _ in found if name.endswith("_created")]
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
        got = await http.get("/api")
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
        taken = world.metric("streamlearn_store_size_bytes", model="delay")
        assert taken >= 5000
        world.store.put_version("delay", 8, 0, b"x" * 5000)
        world.poll()
        assert world.metric("streamlearn_store_size_bytes", model="delay") == taken  # it is weighed now and then
        world.clock.advance(60.0)
        world.poll()
        assert world.metric("streamlearn_store_size_bytes", model="delay") == taken + 5000

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
