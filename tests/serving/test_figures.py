"""The figures for Prometheus: bounded, named by its conventions, the same from every process, and right when things fail."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

import streamlearn
from streamlearn.buckets import FRESH_S, LEARN_S, PAUSE_S, RETRAIN_S, Buckets
from streamlearn.control.views import SHOWN
from streamlearn.errors import StoreUnavailable
from streamlearn.events import REASONS
from streamlearn.learning.recommend_tally import RecommendTally
from streamlearn.learning.scores import Scores
from streamlearn.records import LEFT_OUT
from streamlearn.serving.figures import KINDS, PER_PROCESS, STATES, figures
from streamlearn.serving.holder import CAUSES
from streamlearn.serving.labels import TAKEN
from streamlearn.telemetry import exposition

MOST_PER_MODEL = 200  # series of one model with one shard, everything counted that can be, and a trial on
MOST_PER_RECOMMENDER = 240
MOST_BESIDE = 60
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
LEARNING = Path(streamlearn.__file__).parent / "learning"
RULES = sorted({*re.findall(r'_count\("(\w+)"\)', (LEARNING / "pending.py").read_text()), LEFT_OUT})


def samples(world: Any) -> Iterator[Any]:
    for family in text_string_to_metric_families(exposition(world.registry).decode()):
        yield from family.samples


def scores() -> dict[str, Any]:
    made = Scores("binary", 100, 0.99)
    for n in range(50):
        made.add(n % 2 == 0, n % 3 == 0, 0.6, True, False)
    return made.view()


def busy(world: Any, name: str) -> None:
    """A model of which everything is known that can be."""
    counted = dict.fromkeys([*REASONS, *RULES, "learned", "alarms"], 1)
    detectors = {"adwin": 0.1, "page_hinkley": 0.2}
    fits = msgspec.to_builtins(Buckets.of(RETRAIN_S))
    world.publish(name)
    world.report(
        name, counted=counted, drift=detectors, lag_s=1.0, checkpoint_at=world.clock(), checkpoint_bytes=9, scores=scores(),
        learn_s=Buckets.of(LEARN_S), fresh_s=Buckets.of(FRESH_S), failures={"log": 1, "store": 1},
        delay={"p50": 1.0, "p95": 2.0}, pauses_s=dict.fromkeys(("publication", "checkpoint"), Buckets.of(PAUSE_S)),
    )  # fmt: skip
    trial = {"e": 1.0, "peak": 1.0, "threshold": 20.0, "events": 5}
    decisions = dict.fromkeys(KINDS, 3)
    control = {"state": "trial", "case": "c", "case_opened_at": 1.0, "decisions": decisions, "fits_s": fits, "trial": trial}
    world.view("model", name, control)


def test_the_series_of_fifty_models_are_bounded(world: Any) -> None:
    names = [f"m{n:02d}" for n in range(50)]
    recipe = {"stream": "flights", "task": "binary", "pipeline": "logistic"}
    world.tree = {"streams": {"flights": {}}, "models": dict.fromkeys(names, recipe)}

    async def story(http: Any) -> None:
        for name in names:
            busy(world, name)
            world.poll()
            assert (await http.post(f"/v1/predict/{name}", json={"x": {}})).status_code == 200
        for name in names:  # whatever is asked for, it makes no series of its own
            await http.get(f"/nowhere/{name}")
            await http.get(f"/v1/models/{name}-no")
            await http.post(f"/v1/predict/{name}-no", json={"x": {}})
            await http.post("/v1/events", json={"stream": name, "id": name, "x": {}})
        found = list(samples(world))
        by_model = Counter(sample.labels.get("model") for sample in found)
        beside = by_model.pop(None) + by_model.pop("_views")  # what the store takes for all views
        assert set(by_model) == set(names)
        assert max(by_model.values()) <= MOST_PER_MODEL
        assert min(by_model.values()) > MOST_PER_MODEL - 30, "a number that is far too large bounds nothing"
        http_series = sum(sample.name.startswith("streamlearn_http_request_seconds") for sample in found)
        assert beside - http_series <= MOST_BESIDE
        assert http_series <= 6 * 16  # five routes met, and what has none
        assert len(found) < 50 * MOST_PER_MODEL + 200

    world.run(story)


def test_names_and_units_are_those_of_prometheus(world: Any) -> None:
    async def story(http: Any) -> None:
        busy(world, "delay")
        world.poll()
        families = list(text_string_to_metric_families(exposition(world.registry).decode()))
        for family in families:
            assert family.name.startswith("streamlearn_")
            assert family.documentation
            assert not re.search(r"_(ms|millis|minutes|percent|kb|mb)(_|$)", family.name)
            if family.type == "counter":
                assert all(sample.name.endswith("_total") for sample in family.samples)
            else:
                assert not family.name.endswith("_total")
            if family.type == "histogram":
                assert family.name.endswith("_seconds")
        assert {family.type for family in families} == {"gauge", "counter", "histogram"}

    world.run(story)


def test_states_and_causes_are_those_there_are() -> None:
    assert set(SHOWN.values()) | {"held"} == set(STATES)
    source = (LEARNING.parent / "serving" / "holder.py").read_text()
    assert set(re.findall(r'yield "(\w+)"', source)) | {"drift"} == set(CAUSES)


def test_kinds_are_decisions_that_control_makes() -> None:
    doc = streamlearn.records.Decision.__doc__
    assert doc is not None
    assert set(KINDS) <= set(re.findall(r"\w+", doc))


def test_the_reference_has_every_metric_as_it_is(world: Any) -> None:
    rows = re.findall(r"(?m)^\| `(streamlearn_\w+)` \| (\w+) \| ([^|]*) \| (yes|) *\| (.+) \|$", OPERATIONS.read_text())
    written = {name: (kind, re.findall(r"`(\w+)`", labels), mine == "yes", text) for name, kind, labels, mine, text in rows}
    assert len(written) == len(rows)

    async def story(http: Any) -> None:
        told = {
            f.name: (f.kind, list(f.labels), f.name.removeprefix("streamlearn_") in PER_PROCESS, f.text)
            for f in figures(world.hub.holder, 0.0, 0.0)
        }
        for metric in vars(world.hub.metrics).values():
            if isinstance(metric, MetricWrapperBase):
                name = metric._name + ("_total" if metric._type == "counter" else "")
                told[name] = (metric._type, list(metric._labelnames), True, metric._documentation)
        assert written == told

    world.run(story)


def test_a_store_that_is_down_is_seen_by_reason_and_counted(world: Any) -> None:
    async def story(http: Any) -> None:
        busy(world, "delay")
        world.poll()
        labels = {"model": "delay", "shard": "0", "reason": "store"}
        assert world.metric("streamlearn_degraded", **labels) == 0
        before = world.metric("streamlearn_store_errors_total")
        world.store_faults.fail("publication", StoreUnavailable("gone"), times=10**6)
        world.poll()
        world.clock.advance(7)
        world.poll()
        assert world.metric("streamlearn_degraded", **labels) == 1
        assert world.metric("streamlearn_store_down_seconds") >= 7
        assert world.metric("streamlearn_store_errors_total") >= before + 2
        world.store_faults.heal()
        world.poll()
        assert world.metric("streamlearn_degraded", **labels) == 0
        assert world.metric("streamlearn_store_down_seconds") == 0

    world.run(story)


@pytest.mark.parametrize(
    ("cause", "fields"),
    [("held", {"held": "by hand"}), ("log", {"log_lost_s": 2.0})],
)
def test_each_cause_has_a_series_of_its_own(world: Any, cause: str, fields: dict[str, Any]) -> None:
    async def story(http: Any) -> None:
        world.publish("delay")
        world.report(**fields)
        world.poll()
        found = {one: world.metric("streamlearn_degraded", model="delay", shard="0", reason=one) for one in CAUSES}
        assert found == {one: float(one == cause) for one in CAUSES}
        world.view("model", "delay", {"degraded": "drift goes on"})
        world.poll()
        assert world.metric("streamlearn_degraded", model="delay", shard="0", reason="drift") == 1
        assert world.hub.holder.slots["delay"][0].degraded[0] == "drift goes on"

    world.run(story)


def test_a_status_of_a_learner_of_before_is_read(world: Any) -> None:
    """While the roles are upgraded one by one."""

    async def story(http: Any) -> None:
        world.publish("delay")
        world.report()
        world.poll()
        one = {"model": "delay", "shard": "0"}
        assert world.metric("streamlearn_learner_events_total", outcome="learned", **one) == 0
        assert world.metric("streamlearn_freshness_seconds_count", **one) is None
        assert world.metric("streamlearn_lag_seconds", **one) is None
        assert world.metric("streamlearn_trial_e_value", model="delay") is None

    world.run(story)


def slates() -> dict[str, Any]:
    """What a recommender's learner tells of its scores, once two slates of three were acted on."""
    tally = RecommendTally(100, 0.99)
    for reward in (1.0, 0.5, 0.0):
        tally.slate(reward, reward > 0, [(0.4, reward > 0)])
    known = {"users": 5, "items": 9, "available": 7, "segments": 2, "tokens": 3, "clipped": 0, "odd": 0}
    gone = {"users_evicted_lru": 1, "users_evicted_ttl": 2, "items_evicted_lru": 3, "items_evicted_ttl": 4}
    return {**tally.view(), "delay": {}, "join_miss_rate": None, "state": known | gone}


def test_a_recommender_tells_what_its_slates_earn_and_whom_it_knows(shop: Any) -> None:
    async def story(http: Any) -> None:
        shop.publish_all()
        shop.report(
            "shop", scores=slates(), version=3, shadow=4, outcomes={"2": [10.0, 10.0], "3": [4.0, 1.0], "4": [2.0, 1.5]},
            delay={"p50": 0.0, "p50_s": 12.5, "p99_s": 300.0}, counted={"joined": 6},
        )  # fmt: skip
        shop.poll()
        here = {"model": "shop", "shard": "0"}
        earned = [shop.metric("streamlearn_slate_reward_ratio", of=of, **here) for of in ("window", "champion", "challenger")]
        assert earned == [0.5, 0.75, 0.25]
        assert shop.metric("streamlearn_slate_clicked_ratio", **here) == pytest.approx(2 / 3)
        assert shop.metric("streamlearn_label_delay_seconds", level="p50", **here) == 12.5
        assert shop.metric("streamlearn_label_delay_seconds", level="p99", **here) == 300.0
        assert shop.metric("streamlearn_label_delay_events", level="p50_s", **here) is None
        known = [shop.metric("streamlearn_recommender_known", what=what, **here) for what in ("users", "items", "available")]
        assert known == [5, 9, 7]
        gone = [
            shop.metric("streamlearn_recommender_evicted_total", what=what, why=why, **here)
            for what in ("users", "items") for why in ("lru", "ttl")
        ]  # fmt: skip
        assert gone == [1, 2, 3, 4]
        taken = "streamlearn_learner_events_total"
        assert shop.metric(taken, outcome="joined", **here) == 6
        assert shop.metric(taken, outcome="late_clicks", **here) == 0, "an alarm would miss the first"
        assert shop.metric("streamlearn_slate_reward_ratio", of="window", model="delay", shard="0") is None
        assert shop.metric(taken, outcome="late_clicks", model="delay", shard="0") is None

    shop.run(story)


def test_before_any_slate_has_ended_no_reward_is_told(shop: Any) -> None:
    async def story(http: Any) -> None:
        shop.publish_all()
        shop.report("shop", scores={**slates(), **RecommendTally(100, 0.99).view()})
        shop.poll()
        text = exposition(shop.registry).decode()
        assert "streamlearn_slate_reward_ratio{" not in text
        assert "streamlearn_slate_clicked_ratio{" not in text
        assert shop.metric("streamlearn_recommender_known", model="shop", shard="0", what="users") == 5

    shop.run(story)


def test_the_series_of_a_recommender_are_bounded(shop: Any, stock: Any) -> None:
    async def story(http: Any) -> None:
        busy(shop, "shop")
        shop.publish("shop", content=stock("shoe-7", "hat-1"))
        counted = dict.fromkeys([*REASONS, *TAKEN, LEFT_OUT, "learned", "alarms"], 1)
        baselines = {name: {"window_ndcg": 0.1} for name in ("majority", "no_change")}
        scores = {**slates(), "window": dict.fromkeys(("hit_rate", "ndcg", "mrr"), 0.2), "baselines": baselines}
        shop.report(
            "shop", scores=scores, shadow=2, outcomes={"1": [1.0, 0.5], "2": [1.0, 0.5]}, counted=counted,
            learn_s=Buckets.of(LEARN_S), fresh_s=Buckets.of(FRESH_S), failures={"log": 1, "store": 1}, lag_s=1.0,
            checkpoint_at=shop.clock(), checkpoint_bytes=9, drift={"adwin": 0.1, "page_hinkley": 0.2},
            delay=dict.fromkeys(("p50", "p95", "p50_s", "p90_s", "p99_s"), 1.0),
            pauses_s=dict.fromkeys(("publication", "checkpoint"), Buckets.of(PAUSE_S)),
        )  # fmt: skip
        shop.poll()
        for user in range(30):
            await http.post("/v1/recommend/shop", json={"user": f"u{user}", "id": f"i{user}"})
        found = [sample for sample in samples(shop) if sample.labels.get("model") == "shop"]
        assert MOST_PER_RECOMMENDER - 40 < len(found) <= MOST_PER_RECOMMENDER, len(found)

    shop.run(story)
