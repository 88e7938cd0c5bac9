"""One running app over fakes, its HTTP client, and a fast model that stands for any: what every test here starts from."""

from __future__ import annotations

import asyncio
import pickle
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
                self.publish(name, shard)

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
def doubled() -> type[Doubled]:
    return Doubled
