"""A canary in serving: who is answered by whom, what a failing challenger costs, and what is said and logged of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from streamlearn.errors import EventError
from streamlearn.events import decode_prediction, unit_of

X = {"carrier": "WN", "distance": 239}
KEYS = [f"user-{n}" for n in range(200)]


def expected(share: float) -> list[int]:
    return [2 if unit_of("s", key) < share else 1 for key in KEYS]


async def asked(http: Any, model: str = "delay", **more: Any) -> list[dict[str, Any]]:
    """What each key is answered, asked in batches."""
    instances = [{"id": f"i-{key}", "key": key, "x": X, **more} for key in KEYS]
    got = await http.post(f"/v1/predict/{model}/batch", json={"instances": instances})
    assert got.status_code == 200, got.text
    found: list[dict[str, Any]] = got.json()["predictions"]
    return found


def test_the_challenger_answers_for_its_share_of_the_keys_and_who_has_it_keeps_it(world: Any, doubled: Any) -> None:
    world.publish()

    async def story(http: Any) -> None:
        before: set[str] = set()
        for share in (0.05, 0.25, 0.6):
            world.publish_canary(challenger=doubled(p=0.9), share=share)
            world.poll()
            found = await asked(http)
            assert [one["version"] for one in found] == expected(share)
            assert all(one["prediction"] is (one["version"] == 2) for one in found), "each version's own answer"
            now = {one["id"] for one in found if one["version"] == 2}
            assert before <= now
            before = now
        world.publish(version=2, content=doubled(p=0.9))
        world.poll()
        assert {one["version"] for one in await asked(http)} == {2}

    world.run(story)


def test_the_id_stands_in_for_the_key_and_without_both_the_champion_answers(world: Any, doubled: Any) -> None:
    world.publish_canary(challenger=doubled(p=0.9), share=0.5)

    async def story(http: Any) -> None:
        for key, version in zip(KEYS[:20], expected(0.5), strict=False):
            by_id = await http.post("/v1/predict/delay", json={"id": key, "x": X})
            by_key = await http.post("/v1/predict/delay", json={"id": "another", "key": key, "x": X})
            assert by_id.json()["version"] == by_key.json()["version"] == version
        assert {(await http.post("/v1/predict/delay", json={"x": X})).json()["version"] for _ in range(20)} == {1}

    world.run(story)


def test_a_logged_prediction_tells_which_version_answered(world: Any, doubled: Any) -> None:
    world.publish_canary(challenger=doubled(p=0.9), share=0.5)

    async def story(http: Any) -> None:
        await asked(http, log=True)
        async with asyncio.timeout(5):
            while len(world.records("flights")) < len(KEYS):
                await asyncio.sleep(0.005)

    world.run(story)
    logged = [decode_prediction(record.value) for record in world.records("flights")]
    assert [one.version for one in logged] == expected(0.5)
    assert all(one.y is (one.version == 2) for one in logged)


@pytest.mark.parametrize("fails", ["nan", "division"])
def test_a_challenger_that_cannot_answer_is_stood_in_for_counted_and_said(
    world: Any, doubled: Any, fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.publish_canary(challenger=doubled(fails=fails), share=0.5)

    async def story(http: Any) -> None:
        with caplog.at_level(logging.WARNING):
            found = await asked(http)
        assert {one["version"] for one in found} == {1}
        for one, version in zip(found, expected(0.5), strict=True):
            assert bool(one["degraded"]) == (version == 2)
        said = next(one["degraded"] for one in found if one["degraded"])
        assert said[0].startswith("version 2, which is tried for this key, could not answer")
        assert "version 1 did" in caplog.text

    world.run(story)
    tried = expected(0.5).count(2)
    assert world.metric("streamlearn_answers_total", model="delay", role="fallback") == tried
    assert world.metric("streamlearn_answers_total", model="delay", role="champion") == len(KEYS) - tried
    assert world.metric("streamlearn_answers_total", model="delay", role="challenger") == 0


def test_what_is_wrong_with_the_question_is_refused_by_either(world: Any, doubled: Any) -> None:
    world.publish_canary(challenger=doubled(p=0.9), share=0.5)

    async def story(http: Any) -> None:
        for key in KEYS[:20]:
            got = await http.post("/v1/predict/delay", json={"key": key, "x": {"distance": "far"}})
            assert (got.status_code, got.json()["field"]) == (422, "x.distance")

    world.run(story)
    assert world.metric("streamlearn_answers_total", model="delay", role="fallback") == 0


def test_answers_are_counted_by_role_and_the_share_is_shown(world: Any, doubled: Any) -> None:
    world.publish_canary(challenger=doubled(p=0.9), share=0.25)
    canary = {"version": 2, "share": 0.25, "salt": "s"}
    world.view("model", "delay", {"state": "canary", "case": "delay-1", "degraded": None, "canary": canary})

    async def story(http: Any) -> None:
        await asked(http)
        model = (await http.get("/v1/models/delay")).json()
        assert model["state"] == "canary"
        assert model["control"]["canary"] == canary
        assert model["shards"][0]["canary"] == {"version": 2, "share": 0.25}
        assert (await http.get("/v1/models/ctr")).json()["shards"][0]["canary"] is None
        scraped = (await http.get("/metrics")).text
        assert 'streamlearn_canary_ratio{model="delay",shard="0"} 0.25' in scraped

    world.run(story)
    assert world.metric("streamlearn_answers_total", model="delay", role="challenger") == expected(0.25).count(2)
    assert world.metric("streamlearn_answers_total", model="delay", role="champion") == expected(0.25).count(1)


def test_each_shard_has_its_own_canary(world: Any, doubled: Any) -> None:
    for shard in range(4):
        world.publish("ctr", shard)
    world.publish_canary("ctr", 2, challenger=doubled(p=0.9), share=0.5)

    async def story(http: Any) -> None:
        found = await asked(http, "ctr")
        assert {one["position"]["partition"] for one in found if one["version"] == 2} == {2}

    world.run(story)


class Unloadable:
    """Its pickle cannot be opened."""

    def __reduce__(self) -> Any:
        return (_gone, ())


def _gone() -> None:
    raise ImportError("no such class in this version")


def test_a_challenger_that_does_not_load_leaves_everything_to_the_champion(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world.publish_canary(challenger=Unloadable(), share=0.5)

    async def story(http: Any) -> None:
        found = await asked(http)
        assert {(one["version"], one["degraded"] is None) for one in found} == {(1, True)}

    world.run(story)
    assert "the challenger of the canary does not load" in caplog.text
    assert world.metric("streamlearn_publications_total", model="delay", fate="no challenger") == 1


def test_a_canary_that_misses_a_part_is_no_publication(world: Any) -> None:
    world.publish(version=1)
    world.make()
    world.poll()
    world.publish(version=2, extra={"canary": {"version": 3, "share": 0.5, "salt": "s"}})
    world.poll()
    slot = world.hub.holder.slot("delay", None)
    assert slot.served.version == 1
    assert "was refused" in slot.refused


def test_a_challenger_that_refuses_what_the_champion_takes_is_stood_in_for(world: Any, doubled: Any) -> None:
    world.publish_canary(challenger=Fussy(), share=0.5)

    async def story(http: Any) -> None:
        assert {one["version"] for one in await asked(http)} == {1}

    world.run(story)


class Fussy:
    def answer(self, x: Any) -> Any:
        raise EventError("feature_type", "x.carrier", "is not for me")
