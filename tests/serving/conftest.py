"""One running app over fakes, its HTTP client, and a fast model that stands for any: what every test here starts from."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from streamlearn import config
from streamlearn.errors import EventError
from streamlearn.events import Features, Position
from streamlearn.keys import KeyRing
from streamlearn.log import Log, Record
from streamlearn.recommend.slates import Chosen, Slate
from streamlearn.records import Status
from streamlearn.serving.access import load_api_keys
from streamlearn.serving.app import Deps, create_app
from streamlearn.store import Store, codec
from streamlearn.testing import FakeClock, Faults, MemoryLog, MemoryStore

NOW = 1_767_225_600.0
KEYS = KeyRing({"k1": b"0123456789abcdef0123456789abcdef"})
TREE: dict[str, Any] = {
    "streams": {"flights": {}, "clicks": {"partitions": 4}},
    "models": {
        "delay": {"stream": "flights", "task": "binary", "pipeline": "logistic"},
        "ctr": {"stream": "clicks", "task": "binary", "pipeline": "logistic"},
    },
}


@dataclass
class Doubled:
    """Answers p = `p`; takes the features `distance` (a number), `carrier` (a string) and any other; may fail on purpose."""

    p: float = 0.25
    fails: str = ""

    def answer(self, x: Features) -> tuple[Any, dict[str, float]]:
        if isinstance(x.get("distance"), str):
            raise EventError("feature_type", "x.distance", "was a number and is now the string; send a number, or rename it")
        if self.fails == "nan":
            raise EventError("not_finite_prediction", "$", "the model predicted nan")
        if self.fails:
            raise ZeroDivisionError(self.fails)
        return self.p > 0.5, {"false": 1.0 - self.p, "true": self.p}


class Facts:
    """What the fake below knows of its items."""

    def __init__(self, fields: dict[str, dict[str, Any]]) -> None:
        self.fields, self.items = fields, None

    def fields_of(self, item: str) -> dict[str, Any]:
        return self.fields.get(item, {})


class Shelf:
    """Recommends its items in their order but for one drawn at random to the front, by rules as simple; may fail on purpose."""

    def __init__(self, items: dict[str, dict[str, Any]], fails: str = "", features: int = 2) -> None:
        self.items, self.fails, self.features = items, fails, features
        self.state = Facts(items)
        self.asks: list[Any] = []
        self.row: list[float] = []

    def recommend(self, ask: Any, draw: random.Random, search: Any = None) -> Slate:
        if self.fails:
            raise ZeroDivisionError(self.fails)
        self.asks.append(ask)
        known = [item for item in self.items if ask.allow is None or item in ask.allow]
        order = [item for item in (known if ask.items is None else ask.items) if item in self.items and item not in ask.deny]
        if order:
            order.insert(0, order.pop(int(draw.random() * len(order))))
        why = [("popular", 0.5), ("price", -0.25)] if ask.explain else None
        chosen = [
            Chosen(item, 1.0 / (n + 1), "popular", 0.5, n + 1, self.row or [0.25 + n] * self.features, why)
            for n, item in enumerate(order[: ask.k])
        ]
        unknown = tuple(item for item in ask.items or () if item not in self.items)
        return Slate(chosen, None if len(chosen) == ask.k else "available", unknown)

    def rank_own(self, ask: Any, draw: random.Random) -> Slate:
        return self.recommend(ask, draw)

    def similar(self, item: str, k: int) -> list[tuple[str, float]]:
        return [(other, 0.5) for other in self.items if other != item][:k] if item in self.items else []

    def counts(self) -> dict[str, int]:
        return {"items": len(self.items)}


class Shop:
    """A published model that recommends, the estimator being the fake above."""

    def __init__(self, *items: str, fails: str = "", features: int = 2) -> None:
        told = {item: {"category": item.partition("-")[0]} for item in items or ("shoe-7", "shoe-9", "hat-1", "hat-4")}
        self.estimator = Shelf(told, fails, features)

    def answer(self, x: Features) -> Any:
        raise EventError("shape", "$", "the model recommends")


@dataclass
class World:
    """The app and everything around it. Use `run`; `tree` and the others may be changed before. `timer` began at 0."""

    tree: dict[str, Any] = field(default_factory=lambda: msgspec.json.decode(msgspec.json.encode(TREE)))
    api_keys: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    log_faults: Faults = field(default_factory=Faults)
    store_faults: Faults = field(default_factory=Faults)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.memory_log, self.memory_store = MemoryLog(clock=self.clock), MemoryStore(clock=self.clock)
        self.log: Log = self.log_faults.over(self.memory_log)
        self.store: Store = self.store_faults.over(self.memory_store)
        self.app: FastAPI | None = None
        self._stepped = 0.0

    def timer(self) -> float:
        return self.clock() - NOW - self._stepped

    def step(self, seconds: float) -> None:
        """Somebody sets the clock, forward or back; no time passes."""
        self.clock.advance(seconds)
        self._stepped += seconds

    @property
    def hub(self) -> Any:
        assert self.app is not None
        return self.app.state.shared

    def settings(self) -> config.Settings:
        return config.parse(self.tree, {})

    def make(self) -> FastAPI:
        settings = self.settings()
        self.memory_log.create({name: stream.partitions for name, stream in settings.streams.items()})
        keys = load_api_keys({"STREAMLEARN_API_KEYS": ",".join(f"{name}:{secret}" for name, secret in self.api_keys.items())})
        self.app = create_app(Deps(settings, self.log, self.store, KEYS, keys, self.registry, self.clock, self.timer))
        return self.app

    def run(self, story: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        """Tell `story` with the app started; it is stopped at the end."""

        async def told() -> None:
            app = self.make()
            async with app.router.lifespan_context(app), self.http(app) as http:
                await story(http)

        asyncio.run(told())

    def http(self, app: FastAPI) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=dict(self.headers))

    def blob(self, model: str = "delay", shard: int = 0, *, version: int = 1, offset: int = 10, **fields: Any) -> bytes:
        stream = self.tree["models"][model]["stream"]
        log = self.memory_log.identity("flights")
        what = {"content": Doubled(), "n": 5, "created": self.clock(), "keys": KEYS, "log": log, "kind": "publication"} | fields
        return codec.encode(
            kind=what["kind"], model=model, version=version, shard=shard, generation=1,
            positions=[Position(what["log"], stream, shard, offset)], created=what["created"],
            parts={"model": pickle.dumps(what["content"]), **what.get("more", {})}, keys=what["keys"],
            extra={"n": what["n"], **what.get("extra", {})},
        )

    def publish(self, model: str = "delay", shard: int = 0, **fields: Any) -> None:
        self.memory_store.put_publication(model, shard, 1, self.blob(model, shard, **fields))

    def publish_canary(self, model: str = "delay", shard: int = 0, *, challenger: Any, share: float, **fields: Any) -> None:
        """Version 1 with the version 2 beside it for that share of the keys; the salt is "s"."""
        canary = {"version": 2, "share": share, "salt": "s"}
        self.publish(model, shard, more={"challenger": pickle.dumps(challenger)}, extra={"canary": canary}, **fields)

    def publish_all(self) -> None:
        for name, model in self.tree["models"].items():
            for shard in range(self.tree["streams"][model["stream"]].get("partitions", 1)):
                content = Shop() if model["task"] == "recommend" else Doubled()
                self.publish(name, shard, content=content)

    def report(self, model: str = "delay", shard: int = 0, **fields: Any) -> None:
        base: dict[str, Any] = {
            "model": model, "shard": shard, "generation": 1, "version": 1, "shadow": None, "position": 10, "end": 10,
            "log": self.memory_log.identity("flights"), "at": self.clock(), "n": 5, "clock": None, "held": None, "counters": {},
            "pending": 0, "early": 0, "scores": {},
        }
        self.memory_store.put_status(model, shard, 1, msgspec.json.encode(Status(**(base | fields))))

    def view(self, kind: str, id: str, document: dict[str, Any]) -> None:
        end = int(id) + 1 if kind == "audit" else 0  # an entry's id is its place in the control log
        self.memory_store.put_views({(kind, id): msgspec.json.encode(document)}, max(end, self.memory_store.view_offset()))

    def poll(self) -> None:
        """Let the holder look at everything, now."""
        self.hub.holder.poll(0.0)

    def records(self, stream: str, partition: int = 0) -> list[Record]:
        return self.memory_log.read(stream, partition, 0, 100_000)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def shop(world: World) -> World:
    """The world with the model `shop`, which recommends from the stream `visits` of one partition."""
    world.tree["streams"]["visits"] = {}
    world.tree["models"]["shop"] = {"stream": "visits", "task": "recommend", "pipeline": "mlp"}
    return world


@pytest.fixture
def stock() -> type[Shop]:
    return Shop


@pytest.fixture
def doubled() -> type[Doubled]:
    return Doubled
