"""A service with fifty models and thirty days behind it: real learners and a real control, driven by a clock that leaps.

Nothing of it is made up but the events: each model's drift was found, confirmed, retrained, tried and promoted by the code that
does so in production, over an embedded log and store. Only the series of the thirty days are drawn, since nothing sampled them;
they dip where the decisions say that something was wrong. The same `now` gives the same world.
"""

from __future__ import annotations

import fcntl
import functools
import random
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from streamlearn.apikeys import ApiKey
from streamlearn.config import Settings, parse
from streamlearn.control.loop import Control
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import RetrainError
from streamlearn.keys import KeyRing
from streamlearn.learning.worker import Worker
from streamlearn.log import CONTROL, Entry
from streamlearn.log.sqlite import SqliteLog
from streamlearn.records import Command, Decision, Request, decode_control
from streamlearn.retrain.job import FitSpec, base_blob, fit
from streamlearn.serving.app import Deps, create_app
from streamlearn.store.links import Kept, kept_version
from streamlearn.store.sqlite import SqliteStore
from streamlearn.testing import DoneJob, FakeClock

from dashboard_history import Tap, draw  # isort: skip  # beside this file, see conftest.py

KEYS: Final = KeyRing({"k1": b"0123456789abcdef0123456789abcdef"})
DAY: Final = 86_400.0
DAYS: Final = 30
MODELS: Final = 50
EVENTS: Final = 100  # of a stream, a turn
FRESH_S: Final = 0.2  # from posted to learned
CLOSE_S: Final = 12.0  # between two turns of a drift
SETTLED: Final = 20  # turns until a model knows its world

# What people send is shown as text, whatever it is.
HOSTILE: Final = (
    "<img src=x onerror=\"document.title='owned'\">",
    "\"><script>document.title='owned'</script>",
    "</td></tr></table><h1>owned</h1>",
    "javascript:alert(1)//'onmouseover=alert(1) x='",
    "\u202egnirts sdrawkcab\u202c",
    "{{7*7}} ${7*7} <%= 7*7 %>",
    "a" * 300,
    "\U0001f4a5 \u0000\u0007 \u2066mixed\u2069 \u05e9\u05dc\u05d5\u05dd",
)
MODEL: Final[dict[str, Any]] = {
    "task": "binary", "pipeline": "naive_bayes",
    "drift": {"window": 200, "gap": 50, "min_reference": 200, "features": {"window": 200, "reference": 600, "every_s": 1.0}},
    "trial": {"min_events": 300, "watch_events": 1000},
    "retrain": {"min_events": 100, "catch_up_records": 50},
}  # fmt: skip
STORIES: Final[dict[str, dict[str, Any]]] = {  # each on a stream of its own name
    "flight-delays": {}, "checkout-fraud": {}, "parcel-late": {}, "ad-clicks-eu": {}, "search-clicks": {}, "loan-default": {},
    "churn": {}, "demand": {"task": "regression", "pipeline": "linear"},
    "support-topic": {"task": "multiclass", "pipeline": "naive_bayes", "label_wait_s": 20 * DAY}, "guest-book": {},
}  # fmt: skip
CITIES: Final = (
    "vienna", "graz", "linz", "berlin", "bern", "paris", "lyon", "rome", "milan", "madrid", "porto", "lisbon", "dublin", "cork",
    "london", "leeds", "oslo", "bergen", "malmo", "turku", "riga", "vilnius", "tallinn", "warsaw", "gdansk", "prague", "brno",
    "zagreb", "split", "athens", "sofia", "varna", "iasi", "cluj", "budapest", "szeged", "ghent", "delft", "utrecht", "aarhus",
)  # fmt: skip
PLAIN: Final = tuple(f"eta-{city}" for city in CITIES)
SHARED: Final = 4  # streams that the plain models share


@dataclass
class Feed:
    """A stream's events: the label follows the distance, or, once `flipped`, the weight."""

    stream: str
    task: str = "binary"
    flipped: bool = False
    mangle: Callable[[dict[str, Any]], dict[str, Any]] = lambda x: x
    count: int = 0
    random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.random.seed(self.stream)

    def x(self) -> dict[str, Any]:
        draw = self.random
        return {
            "distance": round(draw.gauss(0.0, 1.0), 3), "weight": round(draw.gauss(5.0, 2.0), 2), "hour": draw.randrange(24),
            "carrier": draw.choice(("WN", "UA", "DL", "AA", "B6")), "weekend": draw.random() < 2 / 7,
        }  # fmt: skip

    def y(self, x: dict[str, Any]) -> Any:
        cause = (x["weight"] - 5.0) / 2.0 if self.flipped else x["distance"]
        if self.task == "regression":
            return round(3.0 * cause + self.random.gauss(0.0, 0.3), 3)
        if self.task == "multiclass":
            return "bill" if cause > 0.4 else "login" if x["hour"] < 12 else "other"
        return (cause > 0) ^ (self.random.random() < 0.05)

    def events(self, n: int) -> Iterator[dict[str, Any]]:
        for _ in range(n):
            x = self.x()
            y = self.y(x)
            self.count += 1
            yield {"stream": self.stream, "id": f"{self.stream}-{self.count}", "x": self.mangle(x), "y": y}


class EndlessFit:
    """A fit that is at 62 % and stays there."""

    def progress(self) -> tuple[int, int]:
        return (6200, 10_000)

    def cancel(self) -> None:
        pass

    def done(self) -> bool:
        return False

    def result(self) -> bytes:
        raise AssertionError("it never ends")


def settings_of(folder: Path, models: int = MODELS) -> Settings:
    """A world's settings. Nothing that stands still is told to be stale: it is as it was at `now`."""
    streams = [*STORIES, *(f"orders-{number}" for number in range(SHARED))]
    tree: dict[str, Any] = {
        "data_dir": str(folder), "control": {"heartbeat_s": 0.0}, "serve": {"stale_after_s": 1e9, "port": 0},
        "streams": {name: {} for name in streams},
        "models": {name: {**MODEL, "stream": name, **given} for name, given in STORIES.items()},
    }  # fmt: skip
    for number, name in enumerate(PLAIN[: models - len(STORIES)]):
        features = {"enabled": number < SHARED}
        drift = {**MODEL["drift"], "features": {**MODEL["drift"]["features"], **features}}
        tree["models"][name] = {**MODEL, "stream": f"orders-{number % SHARED}", "pipeline": "logistic", "drift": drift}
    return parse(tree, {})


class World:
    """The service's files in `folder` as they are at `now`, and what makes them. Close it at the end.

    `models`: how many of them, the stories first.
    """

    def __init__(self, folder: Path, now: float, models: int = MODELS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.now = folder, now
        self.clock, self.timer = FakeClock(now - DAYS * DAY), FakeClock(0.0)
        self.settings = settings_of(folder, models)
        self.log, self.store = SqliteLog(folder / "log.sqlite", clock=self.clock), SqliteStore(folder / "store.sqlite")
        self.log.create({name: stream.partitions for name, stream in self.settings.streams.items()})
        self.feeds = {name: Feed(name) for name in self.settings.streams}
        for name in STORIES:
            self.feeds[name].task = self.settings.models[name].task
        self.endless = False
        self.tap = Tap(self.store)
        self.control = Control(self.settings, self.log, self.tap, KEYS, self, self.clock, timer=self.timer)  # type: ignore[arg-type]
        self.worker = Worker(
            self.settings, self.log, self.store, KEYS, watches=DriftWatch, resolve=self.resolve, clock=self.clock,
            timer=self.timer,
        )  # fmt: skip

    def close(self) -> None:
        stop = threading.Event()
        stop.set()
        self.worker.run(stop)  # drains
        self.control.close()
        self.log.close()
        self.store.close()

    # What control asks of the place where fits are made.

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob | EndlessFit:
        if self.endless:
            return EndlessFit()
        try:
            return DoneJob(self.fitted(spec))
        except RetrainError as error:
            return DoneJob(error)

    def ask(self, spec: Any, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
        return DoneJob(RetrainError("failed", "nobody answers here"))

    def fitted(self, spec: FitSpec) -> bytes:
        open_log = functools.partial(SqliteLog, self.folder / "log.sqlite", clock=self.clock)
        return fit(spec, open_log, KEYS, lambda done, total: None, functools.partial(base_blob, self.store))

    def resolve(self, command: Command, shard: int) -> Kept:
        kept = kept_version(self.store, command.model, command.version or 0, shard)
        assert kept is not None
        return kept

    # Time.

    def turn(self, *models: str, events: int = EVENTS, seconds: float = 60.0) -> None:
        """So many events come on the streams of `models`, or of all; they are learned and judged."""
        names = models or tuple(self.settings.models)
        self.clock.advance(seconds - FRESH_S)
        for stream in sorted({self.settings.models[name].stream for name in names}):
            made = [Entry(str(event["id"]).encode(), msgspec.json.encode(event)) for event in self.feeds[stream].events(events)]
            if made:
                self.log.append(stream, made).result()
        self.clock.advance(FRESH_S)
        self.timer.advance(1.0)
        shards = [shard for shard in self.worker.shards if shard.model in names]
        for _ in range(2):
            for shard in shards:
                while shard.turn():
                    pass
            self.control.tick()

    def post(self, stream: str, *events: dict[str, Any]) -> None:
        """Append these, as they are."""
        made = [Entry(str(event.get("id", "")).encode(), msgspec.json.encode({"stream": stream, **event})) for event in events]
        self.log.append(stream, made).result()

    def decisions(self, model: str) -> list[Decision]:
        records = [decode_control(record.value) for record in self.log.read(CONTROL, 0, 0, 100_000)]
        return [record for record in records if isinstance(record, Decision) and record.model == model]

    def until(self, model: str, kind: str, *, events: int = EVENTS, seconds: float = 60.0, turns: int = 120) -> Decision:
        """Turn one model until it has one more decision of this kind."""
        had = sum(decision.kind == kind for decision in self.decisions(model))
        for _ in range(turns):
            found = [decision for decision in self.decisions(model) if decision.kind == kind]
            if len(found) > had:
                return found[-1]
            self.turn(model, events=events, seconds=seconds)
        raise AssertionError(f"{model}: no {kind} after {[decision.kind for decision in self.decisions(model)]}")

    def request(self, action: str, model: str, by: str = "key ops", reason: str = "", **fields: Any) -> None:
        end = self.log.bounds(CONTROL, 0)[1]
        asked = Request(f"r{end}", model, action, by, self.clock(), reason, **fields)
        self.log.append(CONTROL, [Entry(b"", msgspec.json.encode(asked), partition=0)]).result()

    def at(self, days_ago: float) -> None:
        """It is so many days before `now`."""
        assert self.clock.now <= self.now - days_ago * DAY, (self.clock.now, days_ago)
        self.clock.now = self.now - days_ago * DAY

    # The story of the thirty days.

    def tell(self) -> World:
        """Everything happens; at the end the models stand as their names in `_ends` say."""
        for number in range(SETTLED):
            self.turn(*(() if number % 4 == 0 else STORIES), seconds=8 * 3600.0)
        self.at(21)
        self._drift("flight-delays", "recovered")
        self._drift("churn", "recovered")
        self.request("rollback", "churn", reason="the campaign is over")
        self.until("churn", "rolled_back")
        self.at(9)
        self.request("hold", "demand", by="key night-shift", reason="the warehouse moves")
        self.until("demand", "held")
        self.at(8)
        self.request("resume", "demand", by="key ops", reason="it has moved")
        self.until("demand", "resumed")
        for number in range(6):
            self.turn(*(() if number == 5 else STORIES), seconds=DAY)
        self._labels("support-topic")
        self._guests("guest-book")
        self.at(40.0 / 1440)
        self._ends()
        self.at(60.0 / DAY)
        self.timer.advance(30.0)
        self.turn(*(name for name in self.settings.models if name not in STORIES), seconds=60.0 - 1.0)
        self._drain()
        self._draw()
        return self

    def _ends(self) -> None:
        self.endless = True
        self._drift("ad-clicks-eu", "retrain_started", then=2)
        self.endless = False
        self._drift("search-clicks", "promoted")
        self.feeds["loan-default"].mangle = lambda x: {**x, "weight": None}
        self.until("loan-default", "held", seconds=CLOSE_S)
        self._drift("parcel-late", "case_opened")
        self._drift("checkout-fraud", "trial_started", then=8)
        self._drift("flight-delays", "canary_started", then=1)

    def _drift(self, model: str, kind: str, then: int = 0) -> None:
        """The model's world turns over, until the decision, and some small turns more."""
        feed = self.feeds[model]
        feed.flipped = not feed.flipped
        self.until(model, kind, events=50, seconds=CLOSE_S)
        for _ in range(then):
            self.turn(model, events=30, seconds=CLOSE_S)

    def _labels(self, model: str) -> None:
        """Labels that come late, twice, for nothing, or for nobody; features that are not what they were."""
        feed = self.feeds[model]
        for round_ in range(4):
            waiting = list(feed.events(60))
            self.post(model, *({name: event[name] for name in ("id", "x")} for event in waiting))
            self.turn(model, events=0, seconds=3600.0 * (1 + 3 * round_))
            told = waiting[: 60 - 9 * round_]
            self.post(model, *({name: event[name] for name in ("id", "y")} for event in told))
            self.turn(model, events=0, seconds=600.0)
        again = [{"id": event["id"], "y": event["y"]} for event in told[:5]]
        other = [{"id": event["id"], "y": "other"} for event in told[5:9]]
        nobody = [{"id": f"lost-{number}", "y": "bill"} for number in range(7)]
        odd = [{"id": f"odd-{number}", "x": {**feed.x(), "distance": "far"}, "y": "bill"} for number in range(4)]
        self.post(model, *again, *other, *nobody, *odd, {"id": "no-label", "x": feed.x(), "y": [1, 2]})
        self.turn(model, events=10)

    def _guests(self, model: str) -> None:
        """Everything that a person or an application may name is hostile."""
        feed = self.feeds[model]

        def hostile(x: dict[str, Any]) -> dict[str, Any]:
            more: dict[str, Any] = {name[:200]: feed.random.gauss(0.0, 1.0) for name in HOSTILE}
            return {**x, **more, "carrier": feed.random.choice(HOSTILE)}

        feed.mangle = hostile
        for _ in range(8):
            self.turn(model)
        for place, name in enumerate(HOSTILE):
            self.post(model, {"id": f"{name}{place}", "x": {**hostile(feed.x()), "distance": name}, "y": True})
            self.post(model, {"id": f"orphan {name}", "y": True})
        self.turn(model, events=10)
        feed.mangle = lambda x: {**hostile(x), HOSTILE[0]: 4.0 + feed.random.gauss(0.0, 1.0)}
        self.until(model, "feature_drift")
        for name in HOSTILE:
            self.request("rollback", model, by=f"key {name[:100]}", reason=name)
        for _ in range(60):
            state = self.control.states()[model]
            if state.case is None and state.shadow is None:
                break
            self.turn(model, events=200)
        self.request("retrain", model, by=f"key {HOSTILE[1]}", reason=HOSTILE[0])
        self.until(model, "retrained")

    def _drain(self) -> None:
        """What is on its way arrives; then some events come, so that the last statuses, at the end, tell of a rate."""
        for _ in range(2):
            self.timer.advance(1.0)
            for shard in self.worker.shards:
                shard.turn()
        self.control.tick()
        self.clock.now = max(self.clock.now, self.now)
        for name, feed in self.feeds.items():
            self.post(name, *feed.events(feed.random.randrange(20, 60)))
        self.timer.advance(0.9)  # sooner than a status is due
        for shard in self.worker.shards:
            shard.turn()

    def _draw(self) -> None:
        """The series of the thirty days; models that share a stream are alike."""
        samples, drawn = self.tap.samples(), {}
        for name, model in self.settings.models.items():
            if model.stream not in drawn:
                drawn[model.stream] = draw(samples[name], self.settings.history, self.now, model.stream)
            for (step, start), row in drawn[model.stream].items():
                assert self.store.put_history(name, step, start, row, None)


def build(folder: Path) -> None:
    """Have a world of now in `folder`; of several processes that want it one makes it, and the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "told").exists():
            world = World(folder, time.time())
            try:
                world.tell()
            finally:
                world.close()
            (folder / "told").touch()


@contextmanager
def opened(folder: Path, settings: Settings, api_keys: Collection[ApiKey] = ()) -> Iterator[FastAPI]:
    """The service over the files in `folder`."""
    log, store = SqliteLog(folder / "log.sqlite"), SqliteStore(folder / "store.sqlite")
    try:
        log.create({name: stream.partitions for name, stream in settings.streams.items()})
        yield create_app(Deps(settings, log, store, KEYS, api_keys, CollectorRegistry()))
    finally:
        store.close()
        log.close()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app's URL while it is served on a free port of the loopback by a thread of this process."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="served")
    thread.start()
    try:
        end = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the service ended while it started"
            assert time.monotonic() < end, "the service did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive()
