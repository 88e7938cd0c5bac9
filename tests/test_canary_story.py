"""A canary end to end in one process: learner, control and the HTTP app over one log and one store, asked by keyed users.

What each user is answered, what is logged of it, which version its outcome is attributed to, and what control makes of that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from streamlearn.config import parse
from streamlearn.control.loop import Control
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import Features, unit_of
from streamlearn.keys import KeyRing
from streamlearn.learning import pickling, publication
from streamlearn.learning.learner import Learner
from streamlearn.learning.model import Answer, Model
from streamlearn.learning.shard import Deps as ShardDeps
from streamlearn.learning.shard import Shard
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Command, Decision, decode_control
from streamlearn.retrain.job import FitSpec, fit
from streamlearn.serving.app import Deps, create_app
from streamlearn.store.links import Kept, kept_version
from streamlearn.testing import AtOnce, DoneJob, FakeClock, MemoryLog, MemoryStore

pytestmark = pytest.mark.slow

KEYS = KeyRing({"k1": b"0123456789abcdef0123456789abcdef"})
TREE: dict[str, Any] = {
    "control": {"heartbeat_s": 0.0},
    "streams": {"clicks": {}},
    "models": {
        "m": {
            "stream": "clicks", "task": "binary", "pipeline": "naive_bayes",
            "drift": {"window": 200, "gap": 50, "min_reference": 200},
            "trial": {"min_events": 300, "watch_events": 1000, "canary": [0.2, 0.5], "canary_events": 400},
            "retrain": {"min_events": 100, "catch_up_records": 50},
        }
    },
}  # fmt: skip
USERS = [f"user-{n}" for n in range(60)]


class Contrary:
    """A model that answers the opposite: what a mistake between training and serving may look like."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def answer(self, x: Features) -> Answer:
        y, p = self.model.answer(x)
        return Answer(not y, p)


class World:
    """All three roles, turned by hand. A turn is one question of each user, answered over HTTP, and then their labels."""

    def __init__(self) -> None:
        self.settings, self.clock = parse(TREE, {}), FakeClock()
        self.log, self.store = MemoryLog(clock=self.clock), MemoryStore(clock=self.clock)
        self.control = Control(self.settings, self.log, self.store, KEYS, self, self.clock, timer=self.clock)
        deps = ShardDeps(
            self.settings, self.log, self.store, KEYS, DriftWatch, self.resolve, self.clock, self.clock, AtOnce(), "here"
        )
        self.shard = Shard(deps, "m", 0)
        self.app = create_app(Deps(self.settings, self.log, self.store, KEYS, {}, CollectorRegistry(), self.clock, self.clock))
        self.random, self.asked, self.flipped = random.Random(5), 0, False
        self.answers: list[tuple[str, str, int]] = []  # (state, user, version)

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
        return DoneJob(fit(spec, self.log.reopen, KEYS, lambda done, total: None))

    def resolve(self, command: Command, shard: int) -> Kept:
        kept = kept_version(self.store, "m", command.version or 0, shard)
        assert kept is not None
        return kept

    async def turn(self, http: httpx.AsyncClient) -> None:
        before = self.log.bounds("clicks", 0)[1]
        questions, labels = [], []
        for user in USERS:
            self.asked += 1
            a = self.random.uniform(-1, 1)
            x = {"a": a, "b": self.random.uniform(-1, 1)}
            questions.append({"id": f"q{self.asked}", "key": user, "x": x, "log": True})
            label = {"stream": "clicks", "id": f"q{self.asked}", "key": user, "y": bool((a > 0) ^ self.flipped)}
            labels.append(Entry(user.encode(), msgspec.json.encode(label)))
        got = await http.post("/v1/predict/m/batch", json={"instances": questions})
        assert got.status_code == 200, got.text
        state = self.control.states()["m"].phase.value
        self.answers += [(state, user, one["version"]) for user, one in zip(USERS, got.json()["predictions"], strict=True)]
        async with asyncio.timeout(10):
            while self.log.bounds("clicks", 0)[1] - before < len(USERS):
                await asyncio.sleep(0.002)
        self.log.append("clicks", labels).result()
        self.roles()

    def roles(self) -> None:
        for _ in range(2):
            self.clock.advance(1.0)
            while self.shard.turn():
                pass
            self.control.tick()
        self.clock.advance(1.0)
        while self.shard.turn():
            pass
        self.app.state.shared.holder.poll(0.0)

    def decisions(self, kind: str) -> list[Decision]:
        records = [decode_control(record.value) for record in self.log.read(CONTROL, 0, 0, 10_000)]
        return [record for record in records if isinstance(record, Decision) and record.kind == kind]

    async def until(self, http: httpx.AsyncClient, kind: str, turns: int = 150) -> Decision:
        for _ in range(turns):
            if found := self.decisions(kind):
                return found[-1]
            await self.turn(http)
        raise AssertionError(f"no {kind}, the phase is {self.control.states()['m'].phase}")

    def play(self, story: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        async def told() -> None:
            transport = httpx.ASGITransport(self.app)
            client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
            async with self.app.router.lifespan_context(self.app), client as http:
                self.log.append("clicks", [Entry(b"u", b'{"stream":"clicks","id":"0","x":{"a":0,"b":0},"y":true}')]).result()
                self.roles()
                for _ in range(20):
                    await self.turn(http)
                self.flipped = True
                await story(http)

        asyncio.run(told())


def expected(user: str, share: float) -> int:
    return 2 if unit_of("m@2", user) < share else 1


def test_from_the_trial_over_the_canary_to_all_each_user_meets_the_new_version_once_and_keeps_it() -> None:
    world = World()

    async def story(http: httpx.AsyncClient) -> None:
        await world.until(http, "promoted")
        await world.turn(http)

    world.play(story)
    first, second = world.decisions("canary_started")
    [won] = world.decisions("trial_won")
    for step, numbers in ((first, second.numbers["canary"]), (second, won.numbers["canary"])):
        served, users = numbers["served"], sum(expected(user, step.numbers["command"]["share"]) == 2 for user in USERS)
        assert served["challenger"] / sum(served.values()) == pytest.approx(users / len(USERS), abs=0.02)
        assert numbers["p"] > numbers["level"]
        assert numbers["outcome"]["challenger"] < numbers["outcome"]["champion"] + 0.01
    for user in USERS:
        versions = [version for _, asked, version in world.answers if asked == user]
        assert versions == sorted(versions), "never back to the old one"
        in_canary = {version for state, asked, version in world.answers if asked == user and state == "canary"}
        assert in_canary == ({2} if expected(user, 0.2) == 2 else {1, 2} if expected(user, 0.5) == 2 else {1})
    assert {version for _, _, version in world.answers[-len(USERS) :]} == {2}
    outcomes = world.shard.learner.outcomes
    shown = [version for _, _, version in world.answers]
    assert {version: row[0] for version, row in outcomes.items()} == {1: shown.count(1), 2: shown.count(2)}


def test_a_challenger_whose_served_answers_are_worse_is_let_go_though_it_wins_in_the_shadow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = publication.parts

    def skewed(learner: Learner) -> dict[str, bytes]:
        parts = whole(learner)
        if "challenger" in parts:
            assert learner.shadow is not None
            parts["challenger"] = pickling.dumps(Contrary(learner.shadow))
        return parts

    monkeypatch.setattr(publication, "parts", skewed)
    world = World()

    async def story(http: httpx.AsyncClient) -> None:
        await world.until(http, "trial_lost")
        await world.turn(http)
        await world.turn(http)

    world.play(story)
    [lost] = world.decisions("trial_lost")
    assert "served answers did worse" in lost.why, lost.why
    assert {version for _, _, version in world.answers[-len(USERS) :]} == {1}, "the canary is over"
    assert world.shard.learner.canary is None
