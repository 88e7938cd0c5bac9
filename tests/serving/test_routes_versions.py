"""The registry over HTTP: versions with whether they are kept, one in full."""

from __future__ import annotations

from typing import Any

import pytest

from streamlearn.config import parse
from streamlearn.learning.model import Model
from streamlearn.learning.replay import limits_of
from streamlearn.learning.summary import summarize


def fitted(world: Any) -> Model:
    settings = parse(world.tree, {})
    model = Model(settings.models["delay"], limits_of(settings))
    for n in range(50):
        x, types = model.check({"distance": float(n), "carrier": "WN"})
        model.accept(types)
        model.learn(x, n > 25)
    return model


def keep(world: Any, version: int = 2, shard: int = 0, model: str = "delay", **extra: Any) -> bytes:
    """Put a version's blob, as a fit does."""
    world.memory_log.create({"flights": 1, "clicks": 4})
    blob = world.blob(model, shard, version=version, offset=40, kind="version", extra=extra)
    world.memory_store.put_version(model, version, shard, blob)
    return bytes(blob)


def got(world: Any, path: str) -> Any:
    answer: list[Any] = []

    async def story(http: Any) -> None:
        found = await http.get(path)
        answer.extend([found.status_code, found.json()])

    world.run(story)
    return answer


def test_the_list_says_which_versions_are_kept(world: Any) -> None:
    for version in (1, 2, 3):
        world.view("version", f"ctr@{version}", {"model": "ctr", "version": version})
    for shard in range(4):
        keep(world, 2, shard, "ctr")
    keep(world, 3, 1, "ctr")
    status, page = got(world, "/v1/models/ctr/versions")
    assert status == 200
    assert [(doc["version"], doc["kept"]) for doc in page["items"]] == [(1, False), (2, True), (3, False)]


def test_a_dropped_version_says_when_and_is_known_all_the_same(world: Any) -> None:
    world.view("version", "delay@2", {"model": "delay", "version": 2, "fate": "lost", "learned": 7, "dropped": 1767225700.0})
    seen: list[Any] = []

    async def story(http: Any) -> None:
        seen.append((await http.get("/v1/models/delay/versions/2")).json())
        seen.extend((await http.get("/v1/models/delay/versions")).json()["items"])

    world.run(story)
    told = [(doc["fate"], doc["learned"], doc["kept"], doc["dropped"]) for doc in seen]
    assert told == [("lost", 7, False, 1767225700.0)] * 2


def test_a_version_tells_what_its_model_is_without_opening_it(world: Any) -> None:
    world.view("version", "delay@2", {"model": "delay", "version": 2})
    summary = summarize(fitted(world))
    keep(world, summary=summary)
    status, doc = got(world, "/v1/models/delay/versions/2")
    assert status == 200
    assert doc["fitted"] == {"0": {"position": 40, **summary}}
    assert summary["weights"]["distance"] > 0
    assert (doc["kept"], doc["unusable"], doc["serving"]) == (True, {}, {})


def test_the_version_that_serves_tells_what_it_is_by_now(world: Any) -> None:
    world.view("version", "delay@1", {"model": "delay", "version": 1})
    model = fitted(world)
    world.memory_log.create({"flights": 1})
    world.publish(version=1, offset=90, n=50, content=model)
    status, doc = got(world, "/v1/models/delay/versions/1")
    assert status == 200
    assert doc["serving"] == {"0": {"position": 90, "n": 50, **summarize(model)}}
    assert (doc["kept"], doc["fitted"]) == (False, {})


def test_a_blob_that_cannot_be_used_is_said_to_be_so(world: Any) -> None:
    world.view("version", "delay@2", {"model": "delay", "version": 2})
    blob = keep(world, learned=7)
    world.memory_store.put_version("delay", 2, 0, blob.replace(b'"learned":7', b'"learned":9'))
    _, doc = got(world, "/v1/models/delay/versions/2")
    assert "does not match" in doc["unusable"]["0"]
    assert doc["fitted"] == {}


@pytest.mark.parametrize("path", ["versions/7", "versions/two", "versions/%C2%B2"])
def test_a_version_that_is_not_there(world: Any, path: str) -> None:
    world.view("version", "delay@2", {"model": "delay"})
    status, problem = got(world, f"/v1/models/delay/{path}")
    assert status == 404
    assert "versions lists them" in problem["detail"]


def test_a_model_that_is_not_there(world: Any) -> None:
    assert got(world, "/v1/models/nope/versions/1")[0] == 404


def test_the_version_that_serves_says_which_features_it_knows_by_now(world: Any) -> None:
    """Others as control has them."""
    old = {"model": "delay", "version": 1, "features": {"x": "number"}, "features_in_all": 1}
    world.view("version", "delay@1", old)
    world.view("version", "delay@2", {**old, "version": 2})
    world.memory_log.create({"flights": 1})
    world.publish(version=2, offset=90, n=50, content=fitted(world))
    now = {"carrier": "string", "distance": "number"}
    seen: list[Any] = []

    async def story(http: Any) -> None:
        for path in ("", "/1", "/2"):
            seen.append((await http.get(f"/v1/models/delay/versions{path}")).json())

    world.run(story)
    for docs in (seen[0]["items"], seen[1:]):
        assert [(doc["features"], doc["features_in_all"]) for doc in docs] == [({"x": "number"}, 1), (now, 2)]
