"""Indexes of item factors: made for large models alone, kept up with what changes, exchanged with the tables."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from streamlearn.config import parse
from streamlearn.config_recommend import RecommendSettings
from streamlearn.events import Limits
from streamlearn.learning.recommending import RecommendModel
from streamlearn.recommend.recommender import Recommender
from streamlearn.recommend.state import Interaction
from streamlearn.serving import indexes
from streamlearn.serving.holder import Challenger, Served, Slot
from streamlearn.serving.indexes import Indexes
from streamlearn.serving.served import Indexed

pytest.importorskip("faiss")
SHOP = {"stream": "visits", "task": "recommend", "pipeline": "mlp", "recommend": {"exact_items": 50, "factors": 8}}
TREE: dict[str, Any] = {
    "streams": {"visits": {}},
    "models": {
        "shop": SHOP,
        "delay": {"stream": "visits", "task": "binary", "pipeline": "logistic"},
    },
}
SETTINGS = parse(TREE, {})


class Published:
    """A model as serving has it: all that is asked of it is its estimator."""

    def __init__(self, items: int) -> None:
        self.estimator = Recommender(RecommendSettings(exact_items=50, factors=8), 42)
        for n in range(items):
            self.touch(n)

    def touch(self, n: int, user: str = "ann") -> None:
        self.estimator.learn(Interaction(user, f"item-{n}", "click", 1.0, 1e9, {}), organic=False)

    @property
    def table(self) -> Any:
        return self.estimator.state.items


class Held:
    """What the holder holds of the one shard."""

    def __init__(self, model: Any) -> None:
        slot = Slot("shop", 0, "visits")
        self.slots = {"shop": [slot], "delay": [Slot("delay", 0, "visits")]}
        self.lock = threading.Lock()
        self.publish(model)

    def publish(self, model: Any, challenger: Any = None) -> None:
        slot = self.slots["shop"][0]
        tag = 1 if slot.served is None else slot.served.tag + 1
        other = None if challenger is None else Challenger(None, 2, 0.5, "s", challenger, threading.Lock())  # type: ignore[arg-type]
        slot.served = Served(None, 1, None, 0, 0.0, 0.0, tag, 0, other, model, self.lock)  # type: ignore[arg-type]  # not asked


def nearest(model: Published, vector: Any, k: int) -> list[int]:
    """The rows with the largest products, by brute force."""
    scores = model.table["factors"] @ vector
    scores[model.table["hash"] == 0] = -np.inf
    return np.argsort(-scores, kind="stable")[:k].tolist()


def test_a_large_model_gets_an_index_and_a_small_one_none() -> None:
    held = Held(Published(50))
    made = Indexes(SETTINGS, held, lambda: 7.0)  # type: ignore[arg-type]  # a holder as far as it is needed
    made.look()
    assert made.search_of(held.slots["shop"][0].served.model) is None
    model = Published(400)
    assert made.search_of(model) is None
    held.publish(model)
    made.look()
    search = made.search_of(model)
    assert search is not None
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(20):
        vector = rng.normal(size=8).astype(np.float32)
        rows, scores = search(vector, 10)
        assert rows.dtype == np.int32
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        hits += len(set(rows.tolist()) & set(nearest(model, vector, 10)))
    assert hits >= 180, "it finds nine in ten of the nearest"


def test_it_follows_what_is_added_changed_and_deleted() -> None:
    model = Published(200)
    held = Held(model)
    made = Indexes(SETTINGS, held, lambda: 7.0)  # type: ignore[arg-type]
    made.look()
    search = made.search_of(model)
    vector = np.ones(8, np.float32)
    best = int(nearest(model, vector, 1)[0])
    assert search is not None
    assert search(vector, 5)[0].tolist()[0] == best
    model.estimator.delete_item(f"item-{best}")
    model.touch(500)
    row = model.estimator.state.item_ids.row_of("item-500")
    model.table.raw["factors"][row] = 5.0
    model.table.touch(row)
    made.look()
    assert made.search_of(model) is search, "nothing new was published"
    held.publish(model)
    made.look()
    found = made.search_of(model)
    assert found is not None
    assert found(vector, 5)[0].tolist()[0] == row == nearest(model, vector, 1)[0]


def test_lists_that_are_worn_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Published(100)
    held = Held(model)
    made = Indexes(SETTINGS, held, lambda: 7.0)  # type: ignore[arg-type]
    made.look()
    for n in range(100, 300):
        model.touch(n)
    held.publish(model)
    made.look()
    [kept] = made._kept.values()
    assert (kept.lists.changed, len(kept.lists)) == (0, 300)


def test_another_model_has_an_index_of_its_own_and_the_former_goes() -> None:
    first, second, tried = Published(100), Published(120), Published(80)
    held = Held(first)
    made = Indexes(SETTINGS, held, lambda: 7.0)  # type: ignore[arg-type]
    made.look()
    held.publish(second, tried)
    assert made.search_of(second) is None, "a request does not wait: the model searches without"
    made.look()
    assert made.search_of(first) is None
    for model in (second, tried):
        search = made.search_of(model)
        assert search is not None
        assert set(search(np.ones(8, np.float32), 500)[0].tolist()) <= set(range(len(model.table)))
    held.publish(second)
    made.look()
    assert made.search_of(tried) is None


def test_items_that_are_not_offered_take_no_place_in_it() -> None:
    model = Published(200)
    for n in range(150):
        model.estimator.set_item(f"item-{n}", {"available": False}, 1e9)
    held = Held(model)
    made = Indexes(SETTINGS, held, lambda: 7.0)  # type: ignore[arg-type]
    made.look()
    search = made.search_of(model)
    assert search is not None
    assert sorted(search(np.ones(8, np.float32), 500)[0].tolist()) == list(range(150, 200))
    model.estimator.set_item("item-3", {"available": True}, 1e9)
    model.estimator.set_item("item-160", {"available": False}, 1e9)
    held.publish(model)
    made.look()
    assert sorted(search(np.ones(8, np.float32), 500)[0].tolist()) == sorted({3, *range(150, 200)} - {160})


def test_it_tells_how_many_it_holds_how_fresh_they_are_and_what_it_finds() -> None:
    model, now = Published(100), iter([1.0, 3.0, 5.0, 8.0])
    for n in range(40):
        model.touch(n, f"user-{n}")
    held = Held(model)
    slot = held.slots["shop"][0]
    made = Indexes(SETTINGS, held, lambda: next(now))  # type: ignore[arg-type]
    made.look()
    assert slot.index is not None
    assert (slot.index.items, slot.index.fresh_at) == (100, 5.0)
    assert 0.9 <= slot.index.recall <= 1.0
    model.touch(100)
    held.publish(model)
    made.look()
    assert (slot.index.items, slot.index.fresh_at) == (101, 8.0)
    assert held.slots["delay"][0].index is None
    held.publish(Published(10))
    made.look()
    assert slot.index is None


def test_the_metrics_tell_of_it(world: Any) -> None:
    async def story(http: Any) -> None:
        world.publish("delay")
        world.poll()
        here = {"model": "delay", "shard": "0"}
        assert world.metric("streamlearn_index_items", **here) is None
        now = world.hub.deps.timer()
        world.hub.holder.slots["delay"][0].index = Indexed(70_000, now, 0.97)
        assert world.metric("streamlearn_index_items", **here) == 70_000
        assert world.metric("streamlearn_index_recall_ratio", **here) == 0.97
        assert world.metric("streamlearn_index_age_seconds", **here) == pytest.approx(world.hub.deps.timer() - now, abs=0.1)

    world.run(story)


def test_without_faiss_it_says_so_once(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr("streamlearn.recommend.index.available", lambda: False)
    held = Held(Published(100))
    made = Indexes(SETTINGS, held, lambda: 7.0)  # type: ignore[arg-type]
    for _ in range(2):
        made.look()
    assert made.search_of(held.slots["shop"][0].served.model) is None
    [record] = caplog.records
    assert "pip install 'streamlearn[recommend]'" in record.getMessage()


def test_the_app_makes_one_in_the_background_and_answers_by_it(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "LOOK_S", 0.01)
    world.tree["streams"]["visits"], world.tree["models"]["shop"] = {}, SHOP
    model = RecommendModel(world.settings().models["shop"], Limits())
    for n in range(300):
        model.estimator.learn(Interaction("ann" if n % 9 else "bob", f"item-{n}", "click", 1.0, 1e9, {}), organic=False)
    world.publish("shop", content=model)

    async def story(http: Any) -> None:
        app = world.app
        served = world.hub.holder.slots["shop"][0].served.model
        made = app.state.indexes
        for _ in range(1000):
            if made.search_of(served) is not None:
                break
            await asyncio.sleep(0.01)
        asked = []
        search = made.search_of(served)
        monkeypatch.setattr(made, "search_of", lambda one: lambda vector, n: asked.append(n) or search(vector, n))
        got = await http.post("/v1/recommend/shop", json={"user": "bob", "ts": 1e9})
        assert got.status_code == 200
        assert len(got.json()["items"]) == 10
        assert len(asked) == 1

    world.run(story)
