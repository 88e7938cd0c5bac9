"""The fleet: each model's state and why, worst first, its figures beside the baselines; it is cheap and never fails."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streamlearn.errors import StoreUnavailable
from streamlearn.history import Recorder
from streamlearn.lineage import Backfill
from streamlearn.serving import pasts
from streamlearn.serving.fleet import SEVERITY, STATES

NOW = 1_767_225_600.0
SCORES = {
    "n": 4000, "window": {"accuracy": 0.9, "kappa": None},
    "baselines": {"majority": {"accuracy": 0.5, "window_accuracy": 0.8}, "no_change": {"window_accuracy": None}},
}


def fleet(world: Any) -> Any:
    found: list[Any] = []
    world.registry = CollectorRegistry()

    async def story(http: Any) -> None:
        world.poll()
        answer = await http.get("/v1/fleet")
        assert answer.status_code == 200
        found.append(answer.json())

    world.run(story)
    return found[0]


def row(world: Any, name: str = "delay") -> Any:
    [one] = [model for model in fleet(world)["models"] if model["name"] == name]
    return one


def test_before_anything_was_learned_every_model_is_starting(world: Any) -> None:
    found = fleet(world)
    assert (found["at"], found["control"], found["store"], found["keys_required"]) == (
        NOW, {"silent_s": None}, {"down_s": None}, False,
    )  # fmt: skip
    assert [(one["name"], one["state"]) for one in found["models"]] == [("ctr", "starting"), ("delay", "starting")]
    one = found["models"][0]
    assert one["reasons"] == ["nothing is published yet by the shards [0, 1, 2, 3]"]
    assert (one["value"], one["lag"], one["n"], one["version"], one["rate"], one["spark"]["value"]) == (
        None, None, None, None, None, [None] * 60,
    )  # fmt: skip


def test_a_model_in_a_row(world: Any) -> None:
    world.publish(version=3)
    counters = {"events": 9, "labelled": 5}
    world.report(
        n=4000, position=7, end=12, rate=31.5, pending=6, scores=SCORES, counters=counters,
        freshness_ms={"p50": 40.0, "p99": 250.0},
    )  # fmt: skip
    world.view("model", "delay", {"state": "steady", "case": "", "since": NOW - 900, "silenced_until": NOW + 60})
    served = [{"version": 2, "since": {"at": 5.0}}, {"version": 3, "since": {"at": NOW - 800}}]
    world.view("history", "delay", {"items": served})
    recorder = Recorder(world.memory_store, world.settings().history)
    for at in (NOW - 120, NOW - 60, NOW - 30):
        others = {"baseline:majority:accuracy": 0.8, "baseline:x:kappa": 1.0, "lag": 1.0}
        recorder.sample("delay", at, {"metric:accuracy": 0.5 + (at - NOW) / 1000, **others})
    one = row(world)
    assert one == {
        "name": "delay", "stream": "flights", "task": "binary", "state": "healthy", "reasons": [], "metric": "accuracy",
        "higher_is_better": True, "value": 0.9, "baselines": {"majority": 0.8}, "rate": 31.5, "lag": 5, "freshness_s": 0.25,
        "version": 3, "version_since": NOW - 800, "n": 4000, "pending": 6, "case": None, "silenced_until": NOW + 60,
        "since": NOW - 900, "spark": one["spark"], "baseline_spark": {"majority": [None] * 58 + [0.8, 0.8]},
    }  # fmt: skip
    assert one["spark"]["at"] == [NOW - 3600 + 60 * place for place in range(60)]
    assert one["spark"]["value"] == [None] * 58 + [0.38, 0.455]


def test_a_regression_is_better_when_its_error_is_smaller(world: Any) -> None:
    world.tree["models"]["delay"]["task"] = "regression"
    world.report(scores={"n": 50, "window": {"mae": 2.5}, "baselines": {"majority": {"window_mae": 3.5}}})
    one = row(world)
    assert (one["metric"], one["higher_is_better"], one["value"], one["baselines"]) == ("mae", False, 2.5, {"majority": 3.5})


@pytest.mark.parametrize("said", sorted(STATES))
def test_control_says_what_a_healthy_model_is_at(world: Any, said: str) -> None:
    world.publish()
    world.report()
    held = "asked by ann" if said == "held" else None
    world.view("model", "delay", {"state": said, "case": "delay-4" if said == "trial" else "", "held": held})
    one = row(world)
    assert one["state"] == STATES[said]
    assert one["case"] == ("delay-4" if said == "trial" else None)
    assert one["reasons"] == (["learning is held: asked by ann"] if held else [])


def test_every_phase_that_control_shows_has_its_state() -> None:
    shown = {
        "steady", "case", "confirmed", "retraining", "trial", "canary", "watch", "closing", "rolling_back", "held",
    }
    from streamlearn.control.views import SHOWN

    assert set(SHOWN.values()) | {"held"} == shown == set(STATES) - {""}
    assert set(STATES.values()) <= set(SEVERITY)


def test_what_is_amiss_goes_before_what_control_says(world: Any) -> None:
    world.publish()
    world.report(held="its pipeline raised")
    world.view("model", "delay", {"state": "case", "case": "delay-4"})
    one = row(world)
    assert (one["state"], one["reasons"]) == ("held", ["learning is held: its pipeline raised"])
    world.view("model", "delay", {"state": "case", "case": "delay-4", "degraded": "the drift of delay-4 has not recovered"})
    one = row(world)
    assert one["state"] == "held"
    assert one["reasons"] == ["the drift of delay-4 has not recovered", "learning is held: its pipeline raised"]


def test_a_confirmed_drift_is_degraded_only_when_nothing_is_done_about_it(world: Any) -> None:
    world.publish()
    world.report()
    drift = "the drift of delay-4 has not recovered"
    for said, state in {"retraining": "retraining", "trial": "trial", "canary": "canary", "steady": "degraded"}.items():
        world.view("model", "delay", {"state": said, "case": "delay-4", "degraded": drift})
        one = row(world)
        assert (one["state"], one["reasons"]) == (state, [drift])


def test_a_drift_that_the_policies_keep_says_so(world: Any) -> None:
    world.publish()
    world.report()
    world.view("model", "delay", {"state": "confirmed", "case": "delay-4", "kept": "cara: not worth it yet"})
    one = row(world)
    assert (one["state"], one["reasons"]) == ("case", ["a confirmed drift is not retrained: cara: not worth it yet"])


def test_one_that_catches_up_before_its_first_publication_is_starting(world: Any) -> None:
    world.report(backfill=Backfill(0, 20_000, 500))
    one = row(world)
    assert one["state"] == "starting"
    assert one["reasons"][0] == "nothing is published yet"
    assert len(one["reasons"]) == 2


def test_a_learner_that_is_gone_before_it_published_is_not_starting(world: Any) -> None:
    world.report()
    found: list[Any] = []

    async def story(http: Any) -> None:
        world.poll()
        world.clock.advance(60)
        world.poll()
        found.extend((await http.get("/v1/fleet")).json()["models"])

    world.run(story)
    assert [(one["name"], one["state"]) for one in found] == [("delay", "degraded"), ("ctr", "starting")]


def test_the_worst_first(world: Any) -> None:
    names = [f"m{place}" for place in range(len(SEVERITY))]
    world.tree["models"] = {name: {"stream": "flights", "task": "binary", "pipeline": "logistic"} for name in names}
    by_state = dict(zip(names, reversed(SEVERITY), strict=True))
    for name, state in by_state.items():
        if state != "starting":
            world.publish(name)
        world.report(name)
        said = {"healthy": "steady", "starting": "steady", "degraded": "steady"}.get(state, state)
        world.view("model", name, {"state": said, "degraded": "it is" if state == "degraded" else None})
    found = fleet(world)["models"]
    assert [one["state"] for one in found] == list(SEVERITY)
    assert [by_state[one["name"]] for one in found] == list(SEVERITY)


def test_a_store_that_is_away_does_not_take_the_fleet_along(world: Any) -> None:
    world.publish()
    world.report(scores=SCORES)
    Recorder(world.memory_store, world.settings().history).sample("delay", NOW - 30, {"metric:accuracy": 0.7})
    answers: list[Any] = []

    async def story(http: Any) -> None:
        world.poll()
        answers.append((await http.get("/v1/fleet")).json())
        for method in ("publication", "statuses", "views", "history"):
            world.store_faults.fail(method, StoreUnavailable("away"), times=1000)
        world.clock.advance(8)
        world.poll()
        world.clock.advance(2)
        answers.append((await http.get("/v1/fleet")).json())
        await asyncio.sleep(0.05)
        world.store_faults.heal()
        world.clock.advance(6)
        world.poll()
        answers.append((await http.get("/v1/fleet")).json())

    world.run(story)
    before, away, after = answers
    assert away["store"] == {"down_s": 2.0}
    assert [one["state"] for one in away["models"]] == ["degraded", "degraded"]
    [delay] = [one for one in away["models"] if one["name"] == "delay"]
    assert delay["spark"]["value"][-1] == 0.7
    assert delay["value"] == 0.9
    assert before["store"] == after["store"] == {"down_s": None}


def test_a_control_that_is_silent_is_told(world: Any) -> None:
    found: list[Any] = []

    async def story(http: Any) -> None:
        world.clock.advance(40)
        world.poll()
        found.append((await http.get("/v1/fleet")).json())

    world.run(story)
    assert found[0]["control"] == {"silent_s": 40.0}


def test_the_store_is_asked_only_so_often_and_only_the_first_request_waits(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    reading, may_go = pasts.read_series, threading.Event()
    may_go.set()

    def read(store: Any, settings: Any, model: str, *args: Any) -> Any:
        may_go.wait(20)
        asked.append(model)
        return reading(store, settings, model, *args)

    monkeypatch.setattr(pasts, "read_series", read)

    async def story(http: Any) -> None:
        for _ in range(5):
            await http.get("/v1/fleet")
        assert sorted(asked) == ["ctr", "delay"]
        may_go.clear()
        for _ in range(3):
            world.clock.advance(pasts.FRESH_S)
            answer = (await http.get("/v1/fleet")).json()  # what is known, while it is being read
            assert [one["spark"]["at"][-1] for one in answer["models"]] == [NOW - 60] * 2
        assert len(asked) == 2
        may_go.set()
        while len(asked) < 4:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert len(asked) == 4

    world.run(story)


def test_a_store_that_hangs_from_the_start_is_not_waited_for_long(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pasts, "PATIENCE_S", 0.05)
    may_go = threading.Event()
    monkeypatch.setattr(pasts, "read_series", lambda *_: may_go.wait(20))

    async def story(http: Any) -> None:
        answer = (await http.get("/v1/fleet")).json()
        assert [one["spark"] for one in answer["models"]] == [{"at": [], "value": []}] * 2
        monkeypatch.undo()
        may_go.set()

    world.run(story)
