"""Recommendations over HTTP: what an answer says, who answers, what is logged, how a query asks, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streamlearn.events import Kind, ShownItem, decode_prediction, partition_of, unit_of

NOW = 1_767_225_600.0
ITEMS = ["shoe-7", "shoe-9", "hat-1", "hat-4"]


def asks(world: Any, model: str = "shop", shard: int = 0) -> list[Any]:
    """The questions that the model of a shard was asked, as it got them."""
    found: list[Any] = world.hub.holder.slots[model][shard].served.model.estimator.asks
    return found


async def logged(world: Any, stream: str = "visits", partition: int = 0) -> list[Any]:
    await asyncio.sleep(0.1)
    records = world.records(stream, partition)
    assert {record.kind for record in records} <= {Kind.PREDICTION}
    return [(record.key, decode_prediction(record.value)) for record in records]


def test_an_answer_says_what_to_show_and_what_stands_behind_it(shop: Any, stock: Any) -> None:
    shop.publish("shop", version=3, offset=41, content=stock("shoe-7", "hat-1"))

    async def story(http: Any) -> None:
        shop.clock.advance(2.5)
        got = await http.post("/v1/recommend/shop", json={"user": "ann", "k": 2, "id": "i-1", "log": False})
        assert got.status_code == 200
        answer = got.json()
        items = answer.pop("items")
        assert answer == {
            "id": "i-1", "model": "shop", "version": 3,
            "position": {"log": shop.memory_log.identity("flights"), "stream": "visits", "partition": 0, "offset": 41},
            "age_s": 2.5, "degraded": None, "fallback": None, "unknown": [], "logged": "off",
        }
        assert sorted(one.pop("item") for one in items) == ["hat-1", "shoe-7"]
        assert items == [
            {"position": 1, "score": 1.0, "source": "popular", "propensity": 0.5},
            {"position": 2, "score": 0.5, "source": "popular", "propensity": 0.5},
        ]

    shop.run(story)


def test_the_question_reaches_the_model_whole(shop: Any, stock: Any) -> None:
    shop.publish("shop", content=stock())

    async def story(http: Any) -> None:
        body = {
            "user": "ann", "session": "s-1", "k": 3, "context": {"device": "phone", "hour": 9},
            "items": ["hat-1", "shoe-7", "hat-1"], "where": {"category": ["hat", "shoe"], "price": 4},
            "allow": ["hat-1"], "deny": ["hat-4"], "seen": False, "explain": True, "ts": "2026-01-01T00:00:07Z", "log": False,
        }
        assert (await http.post("/v1/recommend/shop", json=body)).status_code == 200
        [ask] = asks(shop)
        assert ask._asdict() == {
            "user": "ann", "ts": NOW + 7, "context": {"device": "phone", "hour": 9}, "k": 3, "items": ("hat-1", "shoe-7"),
            "allow": frozenset({"hat-1"}), "deny": frozenset({"hat-4"}), "where": {"category": ["hat", "shoe"], "price": 4},
            "seen": False, "explain": True,
        }

    shop.run(story)


def test_a_session_is_a_user_where_none_is_known_and_nobody_is_nobody(shop: Any, stock: Any) -> None:
    shop.publish("shop", content=stock())

    async def story(http: Any) -> None:
        for body in ({"session": "s-1"}, {"user": "ann", "session": "s-1"}, {}):
            got = await http.post("/v1/recommend/shop", json=body)
            assert got.status_code == 200
            assert len(got.json()["items"]) == 4
        assert [ask.user for ask in asks(shop)] == ["s-1", "ann", None]
        assert [ask.k for ask in asks(shop)] == [10, 10, 10], "the model's own k"
        found = await logged(shop)
        assert [(key, one.user) for key, one in found[:2]] == [(b"s-1", "s-1"), (b"ann", "ann")]
        assert (found[2][0], found[2][1].user) == (found[2][1].id.encode(), None)

    shop.run(story)


def test_the_slate_is_logged_as_it_was_shown(shop: Any, stock: Any) -> None:
    shop.publish("shop", version=3, content=stock("shoe-7", "hat-1"))

    async def story(http: Any) -> None:
        body = {"user": "ann", "k": 2, "context": {"device": "phone"}, "ts": NOW - 5}
        got = (await http.post("/v1/recommend/shop", json=body)).json()
        assert got["logged"] == "queued"
        [(key, record)] = await logged(shop)
        assert (key, record.key, record.user, record.id, record.ts) == (b"ann", "ann", "ann", got["id"], NOW - 5)
        assert (record.model, record.version, record.x, record.y) == ("shop", 3, {"device": "phone"}, None)
        first, second = (one["item"] for one in got["items"])
        assert record.items == [
            ShownItem(first, 1, 0.5, 1.0, "popular", [0.25, 0.25]), ShownItem(second, 2, 0.5, 0.5, "popular", [1.25, 1.25]),
        ]
        assert shop.metric("streamlearn_recommendations_total", model="shop", logged="queued", fallback="none") == 1
        assert shop.metric("streamlearn_recommended_items_total", model="shop", source="popular") == 2
        assert shop.metric("streamlearn_recommend_seconds_count", model="shop") == 1

    shop.run(story)


def test_the_features_in_the_log_are_the_very_float32_that_were_served(shop: Any, stock: Any) -> None:
    values = np.random.default_rng(5).normal(size=200).astype(np.float32).tolist()
    content = stock("shoe-7")
    content.estimator.row = values
    shop.publish("shop", content=content)

    async def story(http: Any) -> None:
        await http.post("/v1/recommend/shop", json={"user": "ann"})
        [(_, record)] = await logged(shop)
        assert np.array(record.items[0].f, np.float32).tolist() == values
        assert max(len(str(value)) for value in record.items[0].f) < 16

    shop.run(story)


def test_a_slate_that_would_be_too_large_for_an_event_goes_without_its_features(shop: Any, stock: Any) -> None:
    shop.tree["limits"] = {"max_event_bytes": 4096}
    shop.publish("shop", content=stock(*ITEMS, features=500))

    async def story(http: Any) -> None:
        await http.post("/v1/recommend/shop", json={"user": "ann"})
        await http.post("/v1/recommend/shop", json={"user": "ann", "k": 1})
        [(_, large), (_, small)] = await logged(shop)
        assert [one.f for one in large.items] == [None] * 4
        assert len(small.items[0].f) == 500
        assert max(len(record.value) for record in shop.records("visits")) <= 4096

    shop.run(story)


def test_an_empty_slate_is_an_answer_and_is_not_logged(shop: Any, stock: Any) -> None:
    shop.publish("shop", content=stock())

    async def story(http: Any) -> None:
        got = (await http.post("/v1/recommend/shop", json={"user": "ann", "items": ["never-heard-of"]})).json()
        assert (got["items"], got["unknown"], got["fallback"], got["logged"]) == ([], ["never-heard-of"], "available", "off")
        assert await logged(shop) == []

    shop.run(story)


def test_a_full_buffer_drops_the_slate_and_says_so(shop: Any, stock: Any) -> None:
    shop.tree["serve"] = {"prediction_buffer": 1}
    shop.publish("shop", content=stock())

    async def story(http: Any) -> None:
        told = [(await http.post("/v1/recommend/shop", json={"user": "ann"})).json()["logged"] for _ in range(2)]
        assert told == ["queued", "dropped"]

    shop.run(story)


def test_the_same_impression_gives_the_same_answer_and_another_one_may_not(shop: Any, stock: Any) -> None:
    shop.publish("shop", content=stock())

    told: list[list[str]] = []

    async def story(http: Any) -> None:
        for _ in range(2):
            firsts = []
            for n in range(30):
                got = await http.post("/v1/recommend/shop", json={"user": "ann", "id": f"i-{n}", "log": False})
                firsts.append(got.json()["items"][0]["item"])
            told.append(firsts)

    for seed in (42, 43):
        shop.tree["models"]["shop"]["seed"], shop.registry = seed, CollectorRegistry()
        shop.run(story)
    assert told[0] == told[1], "an answer can be made again"
    assert told[2] == told[3] != told[0], "but not without the seed"
    assert set(told[0]) == set(ITEMS)


def test_reasons_and_fields_are_told_when_they_are_asked_for(shop: Any, stock: Any) -> None:
    shop.publish("shop", content=stock("shoe-7"))

    async def story(http: Any) -> None:
        got = (await http.post("/v1/recommend/shop", json={"user": "ann", "explain": True, "fields": True})).json()
        [item] = got["items"]
        assert item["why"] == [
            {"feature": "popular", "contribution": 0.5}, {"feature": "price", "contribution": -0.25},
        ]  # fmt: skip
        assert item["fields"] == {"category": "shoe"}

    shop.run(story)


def test_the_time_of_a_question_is_that_of_the_stream(shop: Any, stock: Any) -> None:
    """A stream of old events is replayed: what was popular then is not long forgotten now."""
    shop.publish("shop", content=stock())

    async def story(http: Any) -> None:
        await http.post("/v1/recommend/shop", json={"user": "ann", "log": False})
        shop.report("shop", clock=1_300_000_000.0)
        shop.poll()
        shop.clock.advance(20)
        await http.post("/v1/recommend/shop", json={"user": "ann", "log": False})
        assert [ask.ts for ask in asks(shop)] == [NOW, 1_300_000_000.0 + 60 + 20], "its clock is behind by the lateness"

    shop.run(story)


def sharded(world: Any, stock: Any, *sizes: int) -> None:
    """The model `feed` over the four partitions of `clicks`, each shard with so many items; version = shard + 1."""
    world.tree["models"]["feed"] = {"stream": "clicks", "task": "recommend", "pipeline": "mlp"}
    for shard, size in enumerate(sizes):
        items = [f"item-{n}" for n in range(size)]
        world.publish("feed", shard, version=shard + 1, content=stock(*items))


def test_the_user_chooses_the_shard_and_for_nobody_the_one_with_the_most_items_answers(world: Any, stock: Any) -> None:
    sharded(world, stock, 3, 5, 9, 4)

    async def story(http: Any) -> None:
        for user in ("ann", "bob", "cyd", "dan", "eve"):
            got = (await http.post("/v1/recommend/feed", json={"user": user})).json()
            assert got["version"] == partition_of(user.encode(), 4) + 1
            assert (await http.post("/v1/recommend/feed", json={"session": user})).json()["version"] == got["version"]
            assert len(await logged(world, "clicks", partition_of(user.encode(), 4))) >= 2
        assert (await http.post("/v1/recommend/feed", json={})).json()["version"] == 3
        assert (await http.get("/v1/similar/feed/item-8")).json()["version"] == 3
        world.publish("feed", 1, version=2, content=stock(*(f"item-{n}" for n in range(12))))
        world.poll()
        assert (await http.post("/v1/recommend/feed", json={})).json()["version"] == 2

    world.run(story)


def test_a_shard_that_has_published_nothing_does_not_answer(world: Any, stock: Any) -> None:
    sharded(world, stock, 3)

    async def story(http: Any) -> None:
        user = next(f"u{n}" for n in range(99) if partition_of(f"u{n}".encode(), 4) == 2)
        got = await http.post("/v1/recommend/feed", json={"user": user})
        assert (got.status_code, got.json()["type"]) == (503, "/problems/not-learned")
        assert (await http.post("/v1/recommend/feed", json={})).json()["version"] == 1

    world.run(story)


def test_the_version_on_trial_answers_its_share_of_the_users(shop: Any, stock: Any) -> None:
    shop.publish_canary("shop", challenger=stock("new-1"), share=0.4, content=stock("old-1"))
    users = [f"user-{n}" for n in range(60)]

    async def story(http: Any) -> None:
        for user in users:
            got = (await http.post("/v1/recommend/shop", json={"user": user})).json()
            wanted = (2, "new-1") if unit_of("s", user) < 0.4 else (1, "old-1")
            assert (got["version"], got["items"][0]["item"]) == wanted
        assert (await http.post("/v1/recommend/shop", json={})).json()["version"] == 1
        assert {one.version for _, one in await logged(shop)} == {1, 2}
        tried = sum(unit_of("s", user) < 0.4 for user in users)
        assert shop.metric("streamlearn_answers_total", model="shop", role="challenger") == tried > 0
        assert shop.metric("streamlearn_answers_total", model="shop", role="champion") == len(users) + 1 - tried

    shop.run(story)


def test_the_champion_stands_in_for_a_version_on_trial_that_fails(shop: Any, stock: Any) -> None:
    shop.publish_canary("shop", challenger=stock(fails="broken"), share=0.999, content=stock("old-1"))

    async def story(http: Any) -> None:
        got = (await http.post("/v1/recommend/shop", json={"user": "ann"})).json()
        assert (got["version"], got["items"][0]["item"]) == (1, "old-1")
        assert got["degraded"] == ["version 2, which is tried for this user, could not answer (ZeroDivisionError)"]
        assert shop.metric("streamlearn_answers_total", model="shop", role="fallback") == 1

    shop.run(story)


def test_a_model_that_fails_is_a_problem_without_a_stack_trace(shop: Any, stock: Any) -> None:
    shop.publish("shop", content=stock(fails="broken"))

    async def story(http: Any) -> None:
        got = await http.post("/v1/recommend/shop", json={"user": "ann"})
        assert (got.status_code, got.json()["type"]) == (500, "/problems/model")
        assert got.json()["detail"] == "model 'shop': it raised ZeroDivisionError"

    shop.run(story)


def test_ones_own_candidates_come_back_in_order(shop: Any, stock: Any) -> None:
    shop.publish("shop", content=stock())

    async def story(http: Any) -> None:
        got = (await http.post("/v1/rank/shop", json={"user": "ann", "items": ["hat-1", "unheard-of", "shoe-7"]})).json()
        assert {one["item"] for one in got["items"]} == {"hat-1", "shoe-7"}
        assert (got["unknown"], got["logged"]) == (["unheard-of"], "queued")
        assert (asks(shop)[-1].k, asks(shop)[-1].seen) == (3, False)
        few = (await http.post("/v1/rank/shop", json={"user": "ann", "items": ITEMS, "k": 1})).json()
        assert len(few["items"]) == 1
        for body in ({"user": "ann"}, {"user": "ann", "items": []}):
            none = await http.post("/v1/rank/shop", json=body)
            assert (none.status_code, none.json()["field"]) == (422, "items")

    shop.run(story)


def test_similar_items(shop: Any, stock: Any) -> None:
    shop.publish("shop", content=stock("shoe/7", "hat-1", "hat-4"))

    async def story(http: Any) -> None:
        got = (await http.get("/v1/similar/shop/shoe%2F7?k=1")).json()
        assert (got["item"], got["items"], got["version"]) == ("shoe/7", [{"item": "hat-1", "score": 0.5}], 1)
        unknown = await http.get("/v1/similar/shop/unheard-of")
        assert (unknown.status_code, unknown.json()["items"]) == (200, [])
        for query, field in (("k=0", "k"), ("k=two", "k"), ("k=1001", "k"), ("n=3", "n")):
            wrong = await http.get(f"/v1/similar/shop/hat-1?{query}")
            assert (wrong.status_code, wrong.json()["field"]) == (422, field)

    shop.run(story)


def test_a_query_asks_as_a_body_does(shop: Any, stock: Any) -> None:
    shop.publish("shop", content=stock())

    async def story(http: Any) -> None:
        query = (
            "user=42&k=2&context.hour=9&context.device=phone&context.member=true&where.category=hat&where.category=shoe"
            '&where.size="42"&item=hat-1&item=shoe-7&allow=hat-1&deny=hat-4&seen=false&explain=true&id=i-1&ts=1767225601&log=false'
        )
        got = await http.get(f"/v1/recommend/shop?{query}")
        assert got.status_code == 200, got.text
        assert got.json()["id"] == "i-1"
        assert got.json()["items"][0]["why"]
        [ask] = asks(shop)
        assert ask._asdict() == {
            "user": "42", "ts": NOW + 1, "context": {"hour": 9, "device": "phone", "member": True}, "k": 2,
            "items": ("hat-1", "shoe-7"), "allow": frozenset({"hat-1"}), "deny": frozenset({"hat-4"}),
            "where": {"category": ["hat", "shoe"], "size": ["42"]}, "seen": False, "explain": True,
        }
        assert got.headers["cache-control"] == "no-store"
        assert (await http.get("/v1/recommend/shop")).json()["logged"] == "queued"

    shop.run(story)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("usr=ann", "usr"), ("k=many", "k"), ("k=0", "k"), ("k=2.5", "k"), ("seen=maybe", "seen"), ("context=a", "context"),
        ("context.=a", "context."), ("where.=a", "where."), ("user=", "user"), ("id=", "id"), ("ts=soon", "ts"),
        ("ts=1767325600000", "ts"), ("log=2", "log"), ("why.a=1", "why.a"),
    ],
)  # fmt: skip
def test_a_bad_query_is_named_by_its_parameter(shop: Any, stock: Any, query: str, field: str) -> None:
    shop.publish("shop", content=stock())

    async def story(http: Any) -> None:
        got = await http.get(f"/v1/recommend/shop?{query}")
        assert (got.status_code, got.json()["field"]) == (422, field), got.text

    shop.run(story)


@pytest.mark.parametrize(
    ("body", "status", "field", "reason"),
    [
        (b'{"user": ""}', 422, "user", "shape"),
        (b'{"session": ""}', 422, "session", "shape"),
        (b'{"user": 7}', 422, "user", "shape"),
        (b'{"user": "' + b"a" * 1025 + b'"}', 422, "user", "too_long"),
        (b'{"k": 0}', 422, "k", "shape"),
        (b'{"k": 1001}', 422, "k", "shape"),
        (b'{"context": {"a": [1]}}', 422, "context", "shape"),
        (b'{"context": {"a": 1e999}}', 422, "context.a", "not_finite"),
        (b'{"context": {"a": 99999999999999999999}}', 422, "context.a", "out_of_range"),
        (b'{"where": {"a": [{"b": 1}]}}', 422, "where", "shape"),
        (b'{"items": [7]}', 422, "items", "shape"),
        (b'{"denny": ["hat-1"]}', 422, "$", "shape"),
        (b'{"id": ""}', 422, "id", "shape"),
        (b'{"ts": 1767225600000}', 422, "ts", "future"),
        (b"hello", 400, "$", "malformed"),
        (b"[]", 422, "$", "shape"),
    ],
)
def test_a_bad_question_is_named_by_field_and_reason(
    shop: Any, stock: Any, body: bytes, status: int, field: str, reason: str
) -> None:
    shop.publish("shop", content=stock())

    async def story(http: Any) -> None:
        ranked = body if b"items" in body or body[:1] != b"{" else body[:-1] + b', "items": ["hat-1"]}'
        for path, content in (("/v1/recommend/shop", body), ("/v1/rank/shop", ranked)):
            got = await http.post(path, content=content, headers={"content-type": "application/json"})
            found = (got.status_code, got.json()["field"].split("[")[0], got.json()["reason"])
            assert found == (status, field, reason), got.text

    shop.run(story)


def test_each_kind_of_model_says_where_it_is_asked(shop: Any) -> None:
    shop.publish_all()

    async def story(http: Any) -> None:
        for path, body in (
            ("/v1/predict/shop", {"x": {}}), ("/v1/predict/shop/batch", {"instances": [{"x": {}}]}),
        ):  # fmt: skip
            got = await http.post(path, json=body)
            assert got.status_code == 422
            assert got.json()["detail"] == "model 'shop' recommends: ask POST /v1/recommend/shop"
        for method, path in (
            ("POST", "/v1/recommend/delay"), ("GET", "/v1/recommend/delay"), ("POST", "/v1/rank/delay"),
            ("GET", "/v1/similar/delay/a"),
        ):  # fmt: skip
            got = await http.request(method, path, json={} if method == "POST" else None)
            assert got.status_code == 422
            detail = "model 'delay' does not recommend, its task is binary: ask POST /v1/predict/delay"
            assert got.json()["detail"] == detail
            missing = await http.request(method, path.replace("delay", "nope"), json={} if method == "POST" else None)
            assert missing.status_code == 404
            assert "['ctr', 'delay', 'shop']" in missing.json()["detail"]

    shop.run(story)


def test_before_anything_is_published_it_is_503(shop: Any) -> None:
    async def story(http: Any) -> None:
        for method, path in (("POST", "/v1/recommend/shop"), ("GET", "/v1/similar/shop/a")):
            got = await http.request(method, path, json={} if method == "POST" else None)
            assert (got.status_code, got.headers["retry-after"]) == (503, "1")

    shop.run(story)
