"""The keys as the log tells of them: soon, while store or log are away, in several processes, over a log made again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from streamlearn.apikeys import SCOPES, make
from streamlearn.errors import ConfigError, LogUnavailable, PositionExpired, StoreUnavailable
from streamlearn.events import encode
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Decision, KeyRevoked
from streamlearn.serving.access import read_keys
from streamlearn.serving.keywatch import KeyWatch
from streamlearn.testing import MemoryLog


def append(log: MemoryLog, *records: Any) -> None:
    log.append(CONTROL, [Entry(b"keys", encode(record), partition=0) for record in records]).result()


def until(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 10, "not in time"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    log.create({})
    return log


def test_a_new_and_a_revoked_key_hold_within_two_seconds_in_every_process(log: MemoryLog) -> None:
    watches = [KeyWatch(log.reopen(), [], "127.0.0.1", time.time) for _ in range(2)]
    for watch in watches:
        watch.poll()
        assert not watch.required
        watch.start()
    token, record = make("app", SCOPES, "ada", time.time())
    append(log, *[Decision("delay", "held", time.time()) for _ in range(50)], record)
    assert until(lambda: all(watch.find(token.encode()) for watch in watches)) < 2.0
    append(log, KeyRevoked(record.key, record.name, "ada", time.time()))
    assert until(lambda: not any(watch.find(token.encode()) for watch in watches)) < 2.0
    assert all(watch.required for watch in watches)
    for watch in watches:
        watch.close()


def test_pages_are_read_to_the_end_and_each_record_once(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlearn.serving.access.PAGE", 7)
    made = [make(f"k{n}", ["read"], "ada", 0.0)[1] for n in range(30)]
    append(log, *made)
    watch = KeyWatch(log, [], "127.0.0.1", time.time)
    assert watch.poll()
    assert [key.name for key in watch.valid()] == [one.name for one in made]
    assert read_keys(log, watch.book, 30) == (30, False)


def test_while_the_log_is_away_what_is_known_holds(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    token, record = make("app", SCOPES, "ada", world.clock())
    world.memory_log.create({})
    append(world.memory_log, record)
    world.publish_all()

    async def story(http: Any) -> None:
        keys = world.hub.keys
        http.headers["x-api-key"] = token
        world.log_faults.fail("read", LogUnavailable("away"), times=1_000)
        world.store_faults.fail("views", StoreUnavailable("away"), times=1_000)
        assert not keys.poll()
        assert not keys.poll()
        assert caplog.text.count("the API keys are those that were known") == 1
        assert (await http.post("/v1/predict/delay", json={"x": {}})).status_code == 200
        append(world.memory_log, KeyRevoked(record.key, record.name, "ada", world.clock()))
        world.log_faults.heal()
        assert keys.poll()
        assert (await http.post("/v1/predict/delay", json={"x": {}})).status_code == 401

    world.run(story)


def test_before_the_log_could_be_read_nobody_is_let_in(world: Any) -> None:
    world.log_faults.fail("read", LogUnavailable("away"), times=1_000)
    world.log_faults.fail("bounds", LogUnavailable("away"), times=1_000)

    async def story(http: Any) -> None:
        got = await http.get("/v1/models")
        assert (got.status_code, got.json()["type"]) == (503, "/problems/log-unavailable")
        assert "API keys" in got.json()["detail"]
        assert (await http.post("/v1/session", json={"key": "x"})).status_code == 503
        assert (await http.get("/healthz")).status_code == 200
        world.log_faults.heal()
        world.hub.keys.poll()
        assert (await http.get("/v1/models")).status_code == 200

    world.run(story)


def test_keys_of_the_environment_open_also_before_the_log_could_be_read(world: Any) -> None:
    world.api_keys = {"app": "0123456789abcdef"}
    world.log_faults.fail("bounds", LogUnavailable("away"), times=1_000)

    async def story(http: Any) -> None:
        assert (await http.get("/v1/models", headers={"x-api-key": "0123456789abcdef"})).status_code == 200

    world.run(story)


def test_a_log_made_again_holds_its_own_keys_alone(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    old, record = make("old", SCOPES, "ada", 0.0)
    append(log, record)
    watch = KeyWatch(log, [], "127.0.0.1", time.time)
    watch.poll()
    fresh = MemoryLog()
    fresh.create({})
    new, record = make("new", SCOPES, "ada", 0.0)
    append(fresh, record)

    def read(stream: str, partition: int, offset: int, limit: int) -> Any:
        if offset == 1 and not seen:
            seen.append(offset)
            raise PositionExpired(stream, partition, offset, 0, 1)
        return fresh.read(stream, partition, offset, limit)

    seen: list[int] = []
    monkeypatch.setattr(log, "read", read)
    assert watch.poll()
    assert watch.find(old.encode()) is None
    assert watch.find(new.encode()) is not None


def test_keys_of_the_log_are_enough_to_bind_elsewhere(world: Any) -> None:
    world.tree["serve"] = {"host": "0.0.0.0"}
    _, record = make("app", SCOPES, "ada", world.clock())
    world.memory_log.create({})
    append(world.memory_log, record)
    world.make()
    append(world.memory_log, KeyRevoked(record.key, record.name, "ada", world.clock()))
    world.registry = type(world.registry)()
    with pytest.raises(ConfigError, match="there is no API key"):
        world.make()


def test_a_fault_does_not_end_the_watch(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streamlearn.serving.keywatch.POLL_S", 0.01)
    monkeypatch.setattr("streamlearn.serving.keywatch.MAX_BACKOFF_S", 0.01)
    watch = KeyWatch(log, [], "127.0.0.1", time.time)
    broken = iter([True, False])
    read = watch._read

    def sometimes() -> None:
        if next(broken, False):
            raise RuntimeError("a fault")
        read()

    monkeypatch.setattr(watch, "_read", sometimes)
    with caplog.at_level(logging.ERROR):
        watch.start()
        until(lambda: watch.known)
    watch.close()
    assert "reading the API keys failed" in caplog.text


def test_requests_do_not_wait_for_the_log(world: Any) -> None:
    """A key is checked against what is known; no request reads the log."""
    token, record = make("app", SCOPES, "ada", world.clock())
    world.memory_log.create({})
    append(world.memory_log, record)
    world.publish_all()

    async def story(http: Any) -> None:
        world.hub.keys.close()
        read = world.memory_log.read
        world.memory_log.read = None
        try:
            for _ in range(3):
                got = await http.post("/v1/predict/delay", json={"x": {}}, headers={"x-api-key": token})
                assert got.status_code == 200
        finally:
            world.memory_log.read = read
        await asyncio.sleep(0)

    world.run(story)
